//! `make ha-report`: every row of the pair's table, many times, beside what people have today.
//!
//! Each row is a thing that happens to a pair whose peer is strongSwan, while a numbered packet
//! a millisecond crosses the tunnel in each direction and both networks are captured. A run
//! that did not work is a failed run, with its reason; none is tried again.
//!
//! `ha_report [--runs N] [--rows WORD] [--out DIRECTORY] [--logs all|failed]`: N runs of every
//! row, only rows whose name contains WORD, files into DIRECTORY (`docs/ha`). The logs of failed
//! runs, or of all with every event told line by line, go to `target/ha-report`.

mod figures;
mod machine;
mod marks;
mod ours;
mod report;
mod rows;
mod story;
mod table;
mod theirs;

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use netns_tests::need::{self, DUMPCAP, PING};
use netns_tests::{Need, Outcome, isolated_for};

use figures::Run;
use machine::Machine;
use report::Report;
use rows::{Row, Subject};

/// The whole table takes some forty minutes on two cores at rest.
const PATIENCE: Duration = Duration::from_secs(12 * 3600);

/// What was asked for.
pub(crate) struct Options {
    runs: Option<usize>,
    rows: String,
    out: PathBuf,
    all_logs: bool,
}

fn main() -> ExitCode {
    let needs = [
        PING,
        DUMPCAP,
        need::KEEPALIVED,
        Need::Tun,
        Need::StrongSwan,
        Need::Vipsec,
    ];
    isolated_for(PATIENCE, &needs, run)
}

fn run() -> Outcome {
    let options = Options::parse()?;
    let mut report = Report::new(Machine::look(), &options.out)?;
    println!("{}\n", report.machine());
    for row in rows::table() {
        if !row.name.contains(&options.rows) {
            continue;
        }
        let count = options.runs.map_or(row.runs, |runs| runs.min(row.runs));
        println!("{}: {} ({count} runs)", row.name, row.event);
        let (runs, picture) = series(&row, count, options.all_logs);
        report.add(&row, runs, picture)?;
        // After every row, so that a long night that is cut short has something to show.
        report.write()?;
    }
    println!("\nwritten to {}", options.out.display());
    Ok(())
}

/// All runs of a row, and the timeline of one of them.
fn series(row: &Row, count: usize, all_logs: bool) -> (Vec<Run>, Option<String>) {
    let mut runs: Vec<Run> = Vec::new();
    let mut picture = None;
    while runs.len() < count {
        let first = runs.len() + 1;
        let several = row.batch.min(count - runs.len());
        let batch = match row.subject {
            Subject::Ours => ours::batch(row, first, several, all_logs),
            Subject::Theirs => theirs::batch(row, first),
        };
        for run in &batch.runs {
            println!("  {run}");
        }
        runs.extend(batch.runs);
        picture = picture.or(batch.picture);
    }
    (runs, picture)
}

impl Options {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            runs: None,
            rows: String::new(),
            out: PathBuf::from("docs/ha"),
            all_logs: false,
        };
        let mut words = env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words
                .next()
                .ok_or_else(|| format!("{word} needs a value"))?;
            match word.as_str() {
                "--runs" => options.runs = Some(value.parse()?),
                "--rows" => options.rows = value,
                "--out" => options.out = value.into(),
                "--logs" => options.all_logs = value == "all",
                _ => return Err(format!("unknown option {word}").into()),
            }
        }
        Ok(options)
    }
}
