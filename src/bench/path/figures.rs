//! The figures of all rounds, their medians and their ratios.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::{Contender, Wan, WorldFigures};
use crate::bench::sample::{Sample, digits};
use crate::bench::table::Table;

/// What `bench path` found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PathFigures {
    /// How often every contender had its turn.
    pub rounds: usize,
    /// Seconds of each TCP figure.
    pub seconds: f64,
    /// Data-plane threads of each of our gateways.
    pub workers: usize,
    /// Congestion control of the hosts' TCP.
    pub congestion_control: String,
    /// Each site had half of the CPUs for itself.
    #[serde(default)]
    pub sites_apart: bool,
    /// Every measurement.
    pub runs: Vec<Run>,
    /// Contenders that did not work, and why.
    pub failed: Vec<String>,
}

/// One contender's turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// The round it belongs to.
    pub round: usize,
    /// The condition.
    pub wan: Wan,
    /// Who carried.
    pub contender: Contender,
    /// What came of it.
    pub figures: WorldFigures,
}

/// Picks one number out of a turn.
pub(in crate::bench) type Pick = fn(&WorldFigures) -> Option<f64>;

impl PathFigures {
    /// One number of a contender under a condition, over all rounds.
    pub(in crate::bench) fn of(&self, wan: Wan, contender: Contender, pick: Pick) -> Sample {
        Sample::of(self.picked(wan, contender, pick).map(|(_, value)| value))
    }

    /// The ratio of two numbers of the same round.
    pub(in crate::bench) fn ratio(
        &self,
        wan: Wan,
        (over, pick): (Contender, Pick),
        (under, pick_under): (Contender, Pick),
    ) -> Sample {
        let under: Vec<(usize, f64)> = self.picked(wan, under, pick_under).collect();
        let ratios = self.picked(wan, over, pick).filter_map(|(round, value)| {
            let (_, other) = under.iter().find(|(other, _)| *other == round)?;
            Some(value / other)
        });
        Sample::of(ratios)
    }

    fn picked(
        &self,
        wan: Wan,
        contender: Contender,
        pick: Pick,
    ) -> impl Iterator<Item = (usize, f64)> {
        self.runs
            .iter()
            .filter(move |run| run.wan == wan && run.contender == contender)
            .filter_map(move |run| Some((run.round, pick(&run.figures)?)))
    }

    /// Who took part under a condition, in the order of the turns.
    pub(in crate::bench) fn contenders(&self, wan: Wan) -> Vec<Contender> {
        let mut all = Vec::new();
        for run in self.runs.iter().filter(|run| run.wan == wan) {
            if !all.contains(&run.contender) {
                all.push(run.contender);
            }
        }
        all
    }
}

/// Picks of the tables, the bars and the chart.
pub(in crate::bench) mod pick {
    use super::WorldFigures;

    pub(in crate::bench) fn tcp(f: &WorldFigures) -> Option<f64> {
        f.tcp.map(|tcp| tcp.gbit_s)
    }
    pub(in crate::bench) fn tcp_cpu(f: &WorldFigures) -> Option<f64> {
        f.tcp.map(|tcp| tcp.cpu_s_per_gb).filter(|cpu| *cpu > 0.0)
    }
    pub(in crate::bench) fn tcp_system(f: &WorldFigures) -> Option<f64> {
        f.tcp.map(|tcp| tcp.system_cpu_s_per_gb)
    }
    pub(in crate::bench) fn tcp4(f: &WorldFigures) -> Option<f64> {
        f.tcp4.map(|tcp| tcp.gbit_s)
    }
    pub(in crate::bench) fn both(f: &WorldFigures) -> Option<f64> {
        f.both.map(|tcp| tcp.gbit_s)
    }
    pub(in crate::bench) fn udp64(f: &WorldFigures) -> Option<f64> {
        f.udp64.map(|udp| udp.kpps)
    }
    pub(in crate::bench) fn udp64_cpu(f: &WorldFigures) -> Option<f64> {
        f.udp64.map(|udp| udp.cpu_us).filter(|cpu| *cpu > 0.0)
    }
    pub(in crate::bench) fn udp1400(f: &WorldFigures) -> Option<f64> {
        f.udp1400.map(|udp| udp.kpps)
    }
    pub(in crate::bench) fn udp1400_cpu(f: &WorldFigures) -> Option<f64> {
        f.udp1400.map(|udp| udp.cpu_us).filter(|cpu| *cpu > 0.0)
    }
    pub(in crate::bench) fn idle_p50(f: &WorldFigures) -> Option<f64> {
        f.idle.map(|rtt| rtt.p50_us)
    }
    pub(in crate::bench) fn idle_p99(f: &WorldFigures) -> Option<f64> {
        f.idle.map(|rtt| rtt.p99_us)
    }
    pub(in crate::bench) fn loaded_p50(f: &WorldFigures) -> Option<f64> {
        f.loaded.map(|rtt| rtt.p50_us)
    }
    pub(in crate::bench) fn loaded_p99(f: &WorldFigures) -> Option<f64> {
        f.loaded.map(|rtt| rtt.p99_us)
    }
}

impl fmt::Display for PathFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sites_apart {
            writeln!(
                f,
                "each site, gateway and host, on half of the CPUs of its own\n"
            )?;
        }
        for wan in Wan::ALL {
            let contenders = self.contenders(wan);
            if contenders.is_empty() {
                continue;
            }
            writeln!(
                f,
                "{wan}, TCP ({}) in Gbit/s; CPU-s/GB of both gateways, and of the whole machine\n",
                self.congestion_control
            )?;
            let mut table = Table::new([
                "",
                "1 stream",
                "CPU-s/GB",
                "machine",
                "4 streams",
                "both ways",
                "of no cipher",
            ]);
            for contender in &contenders {
                let cell = |pick: Pick| shown(self.of(wan, *contender, pick));
                let ceiling = if contender.is_protocol_50() {
                    Contender::NullEsp
                } else {
                    Contender::Null
                };
                let ratio = self.ratio(wan, (*contender, pick::tcp), (ceiling, pick::tcp));
                table.row(vec![
                    contender.to_string(),
                    cell(pick::tcp),
                    cell(pick::tcp_cpu),
                    cell(pick::tcp_system),
                    cell(pick::tcp4),
                    cell(pick::both),
                    shown(ratio),
                ]);
            }
            writeln!(f, "{table}")?;
        }
        self.small_packets(f)?;
        for failure in &self.failed {
            writeln!(f, "failed: {failure}")?;
        }
        Ok(())
    }
}

impl PathFigures {
    /// UDP and round trips, which are measured on the plain WAN only.
    fn small_packets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contenders = self.contenders(Wan::Plain);
        if self.of_any(pick::idle_p50).is_none() {
            return Ok(());
        }
        writeln!(
            f,
            "UDP at less than 0.1 % loss: thousands of packets per second, microseconds of both \
             gateways' CPU per packet; round trips in microseconds\n"
        )?;
        let mut table = Table::new([
            "",
            "64 B kpps",
            "µs",
            "1400 B kpps",
            "µs",
            "idle p50",
            "p99",
            "loaded p50",
            "p99",
        ]);
        for contender in &contenders {
            let cell = |pick: Pick| shown(self.of(Wan::Plain, *contender, pick));
            table.row(vec![
                contender.to_string(),
                cell(pick::udp64),
                cell(pick::udp64_cpu),
                cell(pick::udp1400),
                cell(pick::udp1400_cpu),
                cell(pick::idle_p50),
                cell(pick::idle_p99),
                cell(pick::loaded_p50),
                cell(pick::loaded_p99),
            ]);
        }
        writeln!(f, "{table}")
    }

    fn of_any(&self, pick: Pick) -> Option<f64> {
        self.runs.iter().find_map(|run| pick(&run.figures))
    }
}

fn shown(sample: Sample) -> String {
    match sample.runs {
        0 => "-".to_owned(),
        1 => digits(sample.median),
        _ => sample.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::traffic::Bulk;
    use super::*;

    fn run(round: usize, contender: Contender, gbit_s: f64) -> Run {
        let tcp = Some(Bulk {
            gbit_s,
            cpu_s_per_gb: 1.0,
            system_cpu_s_per_gb: 2.0,
        });
        Run {
            round,
            wan: Wan::Gro,
            contender,
            figures: WorldFigures {
                tcp,
                ..WorldFigures::default()
            },
        }
    }

    #[test]
    fn ratios_are_built_within_a_round() {
        let runs = vec![
            run(0, Contender::Null, 2.0),
            run(0, Contender::Vipsec, 1.0),
            run(1, Contender::Null, 8.0),
            run(1, Contender::Vipsec, 4.0),
            run(2, Contender::Null, 100.0),
        ];
        let figures = PathFigures {
            runs,
            ..PathFigures::default()
        };
        let pair = (
            (Contender::Vipsec, pick::tcp as Pick),
            (Contender::Null, pick::tcp as Pick),
        );
        let ratio = figures.ratio(Wan::Gro, pair.0, pair.1);
        assert_eq!((ratio.median, ratio.runs), (0.5, 2));
        assert_eq!(figures.ratio(Wan::Plain, pair.0, pair.1).runs, 0);
        assert_eq!(
            figures.contenders(Wan::Gro),
            [Contender::Null, Contender::Vipsec]
        );
    }
}
