//! One line of the report: the distribution of a row's gaps, its sums, and whether it met its
//! bar.

use netns_tests::plot::Series;

use crate::figures::{Figures, Run};
use crate::rows::{Row, Subject};

/// The distribution of a figure over the runs.
pub(crate) struct Spread {
    sorted: Vec<f64>,
}

impl Spread {
    fn new(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<_> = values.collect();
        sorted.sort_by(f64::total_cmp);
        Self { sorted }
    }

    /// The value below which `part` of all lie; 1 is the largest.
    pub(crate) fn quantile(&self, part: f64) -> Option<f64> {
        let place = self.sorted.len().checked_sub(1)? as f64 * part;
        let (below, above) = (place.floor() as usize, place.ceil() as usize);
        let (below, above) = (self.sorted.get(below)?, self.sorted.get(above)?);
        Some(below + (above - below) * place.fract())
    }
}

/// A row with its runs.
pub(crate) struct Line<'a> {
    pub(crate) row: &'a Row,
    pub(crate) runs: &'a [Run],
}

impl Line<'_> {
    fn figures(&self) -> impl Iterator<Item = &Figures> {
        self.runs.iter().filter_map(Run::figures)
    }

    pub(crate) fn gaps(&self) -> Spread {
        Spread::new(self.figures().map(|figures| figures.gap_ms))
    }

    pub(crate) fn failed(&self) -> usize {
        self.runs
            .iter()
            .filter(|run| run.failure().is_some())
            .count()
    }

    fn sum(&self, of: impl Fn(&Figures) -> u64) -> u64 {
        self.figures().map(of).sum()
    }

    /// Everything that falls short of the bar, in words; empty when it is met.
    pub(crate) fn shortfalls(&self) -> Vec<String> {
        let mut short = Vec::new();
        if self.row.subject == Subject::Theirs {
            return short;
        }
        let bar = self.row.bar;
        let gaps = self.gaps();
        for (name, part, limit) in [("median", 0.5, bar.median), ("worst", 1.0, bar.worst)] {
            if let (Some(limit), Some(value)) = (limit, gaps.quantile(part))
                && value >= limit
            {
                short.push(format!("{name} gap {value:.0} ms, bar {limit:.0} ms"));
            }
        }
        let mut none = |what: &str, count: u64| {
            if count > 0 {
                short.push(format!("{count} {what}"));
            }
        };
        none("failed runs", self.failed() as u64);
        none("repeated IVs", self.sum(|f| f.repeated_ivs as u64));
        none("negotiation messages", self.sum(|f| f.negotiation as u64));
        none("packets lost during repair", self.sum(|f| f.lost_in_repair));
        if bar.lossless {
            none("lost", self.sum(|f| f.lost));
            none("duplicated", self.sum(|f| f.duplicates));
        }
        if bar.no_ike {
            none("IKE messages", self.sum(|f| f.ike as u64));
        }
        if bar.two_actives {
            self.healing(&mut short);
            return short;
        }
        none(
            "replay drops at the peer",
            self.sum(|f| f.replay_drops as u64),
        );
        none(
            "numbers not above the other's",
            self.sum(|f| f.not_above as u64),
        );
        none("contested ARP claims", self.sum(|f| f.contested as u64));
        let words = |f: &Figures| f.marks.get("words of the relieved").copied().unwrap_or(0.0);
        none("words of a relieved node", self.sum(|f| words(f) as u64));
        short
    }

    /// One active within two adverts after healing.
    fn healing(&self, short: &mut Vec<String>) {
        let limit = 2.0 * self.row.advert.as_secs_f64() * 1000.0;
        let last = |f: &Figures| f.marks.values().copied().fold(0.0, f64::max);
        let worst = self.figures().map(last).fold(0.0, f64::max);
        if worst > limit {
            short.push(format!(
                "the loser spoke {worst:.0} ms after healing, bar {limit:.0} ms"
            ));
        }
    }

    /// A line of a Markdown table.
    pub(crate) fn markdown(&self) -> String {
        let gaps = self.gaps();
        let gap = |part| gaps.quantile(part).map_or("–".to_owned(), short);
        let short = self.shortfalls();
        let verdict = match (self.row.subject, short.is_empty()) {
            (Subject::Theirs, _) => "(compared with)".to_owned(),
            (Subject::Ours, true) => "met".to_owned(),
            (Subject::Ours, false) => format!("**not met**: {}", short.join("; ")),
        };
        format!(
            "| {} | {} | {} / {} / {} | {} | {} | {} ({}) | {} | {} | {} | {} |",
            self.row.event,
            self.runs.len(),
            gap(0.5),
            gap(0.9),
            gap(1.0),
            self.sum(|f| f.lost),
            self.sum(|f| f.duplicates),
            self.sum(|f| f.ike as u64),
            self.sum(|f| f.negotiation as u64),
            self.sum(|f| f.repeated_ivs as u64),
            self.sum(|f| f.replay_drops as u64),
            self.sum(|f| f.contested as u64),
            verdict
        )
    }

    pub(crate) fn series(&self) -> Series {
        Series {
            name: self.row.event.replace('`', ""),
            values: self.figures().map(|figures| figures.gap_ms).collect(),
            bar: self.row.bar.median,
            ours: self.row.subject == Subject::Ours,
        }
    }
}

/// Head of the table that [`Line::markdown`] fills.
pub(crate) const HEAD: &str = "\
| event | runs | gap ms: median / p90 / worst | lost | twice | IKE (negotiating) | repeated IVs | replay drops | contested ARP | bar |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";

fn short(ms: f64) -> String {
    if ms < 10.0 {
        format!("{ms:.1}")
    } else {
        format!("{ms:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_between_its_neighbours() {
        let spread = Spread::new([4.0, 1.0, 2.0, 3.0].into_iter());
        assert_eq!(spread.quantile(0.5), Some(2.5));
        assert_eq!(spread.quantile(1.0), Some(4.0));
        assert_eq!(Spread::new(std::iter::empty()).quantile(0.5), None);
    }
}
