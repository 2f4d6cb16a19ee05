//! What is printed: medians, and ratios within rounds.

use std::io;

use crate::load::Outcome;
use crate::packet::BURST;

struct Row {
    round: usize,
    rate: f64,
    loss: f64,
    cost: f64,
    take: f64,
    delay: f64,
}

/// Rows of all ways.
pub(crate) struct Table {
    ways: Vec<Vec<Row>>,
    failures: Vec<Option<String>>,
}

impl Table {
    /// For so many ways.
    pub(crate) fn new(ways: usize) -> Self {
        Self {
            ways: (0..ways).map(|_| Vec::new()).collect(),
            failures: vec![None; ways],
        }
    }

    /// Adds what way `index` came to in a round.
    pub(crate) fn add(&mut self, round: usize, index: usize, outcome: io::Result<Outcome>) {
        let outcome = match outcome {
            Ok(outcome) if outcome.received > 0 => outcome,
            other => {
                let words = other.err().map(|error| error.to_string());
                if let Some(place) = self.failures.get_mut(index) {
                    *place = Some(words.unwrap_or_else(|| "nothing arrived".to_owned()));
                }
                return;
            }
        };
        let received = outcome.received as f64;
        if let Some(way) = self.ways.get_mut(index) {
            way.push(Row {
                round,
                rate: received / outcome.took.as_secs_f64(),
                loss: 1.0 - received / (outcome.sent as f64).max(received),
                cost: outcome.cpu.as_secs_f64() * 1e6 / received,
                take: received / outcome.takes as f64,
                delay: delay(&outcome),
            });
        }
    }

    /// Prints one line a way.
    pub(crate) fn print(&self, names: impl Iterator<Item = &'static str>) {
        println!(
            "| way | packets/s | lost | CPU-µs/packet | CPU, of raw | packets/s, of raw | a take | burst, µs |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
        for ((name, rows), failure) in names.zip(&self.ways).zip(&self.failures) {
            let of = |value: fn(&Row) -> f64| median(rows.iter().map(value).collect());
            if rows.is_empty() {
                let words = failure.as_deref().unwrap_or("not tried");
                println!("| {name} | {words} |");
                continue;
            }
            let delay = of(|row| row.delay);
            let delay = if delay.is_nan() {
                String::new()
            } else {
                format!("{delay:.0}")
            };
            println!(
                "| {name} | {:.0} | {:.2} % | {:.2} | {} | {} | {:.1} | {delay} |",
                of(|row| row.rate),
                100.0 * of(|row| row.loss),
                of(|row| row.cost),
                self.ratios(rows, |row| row.cost),
                self.ratios(rows, |row| row.rate),
                of(|row| row.take),
            );
            if let Some(words) = failure {
                println!("| {name}, some rounds | {words} |");
            }
        }
    }

    /// Median, smallest and largest ratio to the first way in the same round.
    fn ratios(&self, rows: &[Row], value: fn(&Row) -> f64) -> String {
        let first = self.ways.first().map_or(&[][..], Vec::as_slice);
        let mut ratios = Vec::new();
        for row in rows {
            let other = first.iter().find(|other| other.round == row.round);
            ratios.extend(other.map(|other| value(row) / value(other)));
        }
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        format!("{:.2} ({least:.2} to {most:.2})", median(ratios))
    }
}

/// The median time that a burst takes, in microseconds, if most bursts were alone.
fn delay(outcome: &Outcome) -> f64 {
    if (outcome.delays.len() * BURST) as f64 <= 0.9 * outcome.sent as f64 {
        return f64::NAN;
    }
    let microseconds = outcome.delays.iter().map(|delay| delay.as_secs_f64() * 1e6);
    median(microseconds.collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    values.get(middle).copied().unwrap_or(f64::NAN)
}
