//! The files: `report.md`, `report.json`, `gaps.svg` and a timeline for each row.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use netns_tests::pair::{Event, Evidence, Node};
use netns_tests::plot;
use serde_json::json;

use crate::figures::Run;
use crate::machine::Machine;
use crate::rows::{Action, Row, Subject};
use crate::table::{HEAD, Line};

pub(crate) struct Report {
    machine: Machine,
    out: PathBuf,
    rows: Vec<(Row, Vec<Run>)>,
}

const READING: &str = "\
A numbered UDP packet a millisecond crosses the tunnel in each direction, sent by absolute deadlines and
timed by the kernel at arrival; both networks are captured whole. A *gap* is the longest time without a packet in
the worse direction, from 0.2 s before the event until traffic has been steady again for half a second. *Lost* and
*twice* count packets of both directions over all runs. *IKE* are messages between the pair's address and the peer.
*Repeated IVs* are ESP packets whose (SPI, IV) was there before in the same capture; *replay drops* are numbers that
the peer's window of 128 refuses; *contested ARP* are claims of a virtual address by a gateway that had been relieved.
A run that did not work counts as failed and is not tried again.";

impl Report {
    pub(crate) fn new(machine: Machine, out: &Path) -> io::Result<Self> {
        fs::create_dir_all(out)?;
        Ok(Self {
            machine,
            out: out.to_owned(),
            rows: Vec::new(),
        })
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(crate) fn add(
        &mut self,
        row: &Row,
        runs: Vec<Run>,
        picture: Option<String>,
    ) -> io::Result<()> {
        if let Some(picture) = picture {
            fs::write(self.out.join(timeline(row)), picture)?;
        }
        self.rows.push((row.clone(), runs));
        Ok(())
    }

    pub(crate) fn write(&self) -> io::Result<()> {
        let series: Vec<_> = self.lines().map(|line| line.series()).collect();
        let title = "Longest time without a packet, of 1,000 a second in each direction";
        fs::write(self.out.join("gaps.svg"), plot::dots(title, &series))?;
        fs::write(self.out.join("report.json"), self.json())?;
        fs::write(self.out.join("report.md"), self.markdown())
    }

    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.rows.iter().map(|(row, runs)| Line { row, runs })
    }

    fn json(&self) -> String {
        let rows: Vec<_> = self
            .lines()
            .map(|line| {
                let gaps = line.gaps();
                json!({
                    "name": line.row.name,
                    "event": line.row.event,
                    "advert_ms": line.row.advert.as_millis() as u64,
                    "gap_ms": {
                        "median": gaps.quantile(0.5),
                        "p90": gaps.quantile(0.9),
                        "worst": gaps.quantile(1.0),
                    },
                    "shortfalls": line.shortfalls(),
                    "runs": line.runs,
                })
            })
            .collect();
        format!("{:#}\n", json!({ "machine": self.machine, "rows": rows }))
    }

    fn markdown(&self) -> String {
        let mut text = format!(
            "# The pair, measured\n\nWritten by `make ha-report`. {}.\n\n{READING}\n\n{HEAD}\n",
            self.machine
        );
        for line in self.lines() {
            add(&mut text, &line.markdown());
        }
        text.push_str("\n![every run as a dot](gaps.svg)\n");
        self.ratios(&mut text);
        self.failures(&mut text);
        text.push_str("\n## One event of each kind\n");
        for line in self.lines() {
            let file = timeline(line.row);
            if self.out.join(&file).exists() {
                let event = &line.row.event;
                add(&mut text, &format!("\n{event}:\n\n![{event}]({file})"));
            }
        }
        text
    }

    /// The active host gone: how many times longer the others need.
    fn ratios(&self, text: &mut String) {
        let gone = |subject| {
            self.lines().filter(move |line| {
                line.row.subject == subject && line.row.action == Action::HostGone
            })
        };
        let median = |line: &Line<'_>| line.gaps().quantile(0.5);
        let mut table = String::new();
        for theirs in gone(Subject::Theirs) {
            for ours in gone(Subject::Ours) {
                if let (Some(long), Some(brief)) = (median(&theirs), median(&ours)) {
                    let ratio = long / brief;
                    let (a, b) = (&theirs.row.event, &ours.row.event);
                    let line = format!("| {a} | {long:.0} | {b} | {brief:.0} | {ratio:.1} |");
                    add(&mut table, &line);
                }
            }
        }
        if !table.is_empty() {
            text.push_str(
                "\n## Beside keepalived and strongSwan\n\nMedian gaps in ms, same run, same network; \
                 charon runs on both nodes, and the new master initiates.\n\n\
                 | today | gap | vipsec | gap | ratio |\n| --- | --- | --- | --- | --- |\n",
            );
            text.push_str(&table);
        }
    }

    fn failures(&self, text: &mut String) {
        let mut list = String::new();
        for line in self.lines() {
            for run in line.runs {
                if let Some(why) = run.failure() {
                    let why = why.lines().next().unwrap_or_default();
                    let event = &line.row.event;
                    add(&mut list, &format!("- {event}, run {}: {why}", run.number));
                }
            }
        }
        if !list.is_empty() {
            text.push_str("\n## Runs that failed\n\n");
            text.push_str(&list);
        }
    }
}

/// The timeline of an event.
pub(crate) fn picture(row: &Row, event: &Event, evidence: &Evidence, nodes: [&Node; 2]) -> String {
    let marks = [(event.at, "the event".to_owned())];
    plot::timeline(&row.event, &event.window(), &marks, evidence, nodes)
}

fn timeline(row: &Row) -> String {
    format!("timeline-{}.svg", row.name)
}

fn add(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _always_ok = writeln!(text, "{line}");
}
