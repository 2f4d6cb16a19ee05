//! Several runs of a row on one pair: after each event the pair is made whole again.

use std::ops::Range;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use netns_tests::lab::now;
use netns_tests::pair::{Event, Evidence, Ours, Settings, Watch};
use netns_tests::{Lab, LabError};

use crate::figures::{Figures, Run, RunResult, ms};
use crate::marks;
use crate::report::picture as picture_of;
use crate::rows::{Action, Row};
use crate::story::story;

/// An event that is not over by then has failed.
const PATIENCE: Duration = Duration::from_secs(30);

const SUSPENDED: Duration = Duration::from_secs(5);
const SPLIT: Duration = Duration::from_secs(10);
/// How long a woken node is watched for what it must not say.
const WATCHED: Duration = Duration::from_secs(1);

/// What came of several runs.
pub(crate) struct Batch {
    pub(crate) runs: Vec<Run>,
    /// The timeline of one of them.
    pub(crate) picture: Option<String>,
}

/// An event, and how the pair became whole again.
struct Done {
    number: usize,
    event: Event,
    /// When both nodes were ready for the next one.
    whole: Duration,
    /// Who must not speak for the pair, and since when.
    silent: Option<Silence>,
}

#[derive(Clone, Copy)]
struct Silence {
    node: usize,
    since: Duration,
}

pub(crate) fn batch(row: &Row, first: usize, count: usize, all_logs: bool) -> Batch {
    let mut batch = Batch {
        runs: Vec::new(),
        picture: None,
    };
    if let Err(error) = world(row, first, count, all_logs, &mut batch) {
        // The events before the one that failed are told, if the captures could be read.
        let number = first + batch.runs.len();
        batch.runs.push(Run::failed(number, &error));
    }
    batch
}

/// Where logs are kept: beside the build, not among the documents.
pub(crate) fn place_for_logs(row: &Row, number: usize) -> PathBuf {
    PathBuf::from("target/ha-report").join(format!("{}-{number}", row.name))
}

fn world(
    row: &Row,
    first: usize,
    count: usize,
    all_logs: bool,
    batch: &mut Batch,
) -> Result<(), LabError> {
    let lab = Lab::new()?;
    let result = events(row, &lab, first..first + count, batch);
    if result.is_err() || all_logs {
        lab.keep_logs(&place_for_logs(row, first))?;
    }
    lab.discard()?;
    result
}

fn events(row: &Row, lab: &Lab, numbers: Range<usize>, batch: &mut Batch) -> Result<(), LabError> {
    let mut pair = Ours::start(lab, &Settings::default().advert(row.advert))?;
    let watch = Watch::start(&pair.net, PATIENCE)?;
    let mut done = Vec::new();
    let mut failure = None;
    for number in numbers {
        match one(row, number, &mut pair, &watch) {
            Ok(one) => done.push(one),
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    let evidence = watch.finish()?;
    let [a, b] = &pair.net.nodes;
    for one in &done {
        batch.runs.push(Run {
            number: one.number,
            result: RunResult::Figures(Box::new(figures(row, one, &pair, &evidence))),
        });
        let until_whole = Event {
            settled: one.whole,
            ..one.event.clone()
        };
        let story = story(&until_whole, &evidence, [a, b]);
        pair.net
            .lan_host
            .write(&format!("event-{}.log", one.number), &story)?;
    }
    if let Some(median) = median(&done, &evidence) {
        let picture = picture_of(row, &median.event, &evidence, [a, b]);
        batch.picture = Some(picture);
    }
    failure.map_or(Ok(()), Err)
}

/// The one with the median gap: what is drawn is neither the best nor the worst.
fn median<'a>(done: &'a [Done], evidence: &Evidence) -> Option<&'a Done> {
    let mut sorted: Vec<_> = done.iter().collect();
    sorted.sort_by_key(|one| evidence.cost(&one.event).gap());
    sorted.get(sorted.len() / 2).copied()
}

fn figures(row: &Row, done: &Done, pair: &Ours, evidence: &Evidence) -> Figures {
    let cost = evidence.cost(&done.event);
    let repair = evidence.within(&(done.event.settled..done.whole));
    let mut figures = Figures::new(&cost, Some(&repair));
    if let Some(Silence { node, since }) = done.silent {
        let node = pair.node(node);
        let (name, value) = match row.action {
            Action::Split => {
                let last = marks::last_word_after(evidence, node, since, &done.event);
                ("loser's last word after healing, ms", ms(last))
            }
            _ => {
                let words = marks::words_since(evidence, node, since, &done.event);
                ("words of the relieved", words as f64)
            }
        };
        figures.marks.insert(name.to_owned(), value);
    }
    figures
}

/// One event, and the repair.
fn one(row: &Row, number: usize, pair: &mut Ours, watch: &Watch) -> Result<Done, LabError> {
    let active = pair.wait_ready()?;
    let standby = 1 - active;
    let (event, silent) = act(row, active, pair, watch)?;
    match row.action {
        Action::KillActive => pair.revive(active)?,
        Action::HostGone => pair.node(active).reappear()?,
        Action::WanDown => pair.node(active).wan.replug()?,
        Action::LanDown => pair.node(active).lan.replug()?,
        Action::Switchover | Action::Suspend | Action::Split | Action::KillStandby => {}
    }
    let now_active = pair.wait_ready()?;
    let expected = match row.action {
        Action::KillStandby => Some(active),
        Action::Split => None,
        _ => Some(standby),
    };
    if expected.is_some_and(|expected| expected != now_active) {
        let name = pair.node(now_active).host.name();
        return Err(LabError::unreadable(
            "the outcome",
            &format!("{name} is active"),
        ));
    }
    // Who leaves after a split is known in the end only.
    let silent = silent.map(|silent| Silence {
        node: if row.action == Action::Split {
            1 - now_active
        } else {
            silent.node
        },
        ..silent
    });
    Ok(Done {
        number,
        event,
        whole: now(),
        silent,
    })
}

fn act(
    row: &Row,
    active: usize,
    pair: &mut Ours,
    watch: &Watch,
) -> Result<(Event, Option<Silence>), LabError> {
    let mut since = None;
    let event = watch.during(&row.event, || match row.action {
        Action::Switchover => pair.switchover(active),
        Action::KillActive => {
            pair.kill(active)?;
            since = Some(now());
            Ok(())
        }
        Action::HostGone => pair.node(active).vanish(),
        Action::WanDown => pair.node(active).wan.pull(),
        Action::LanDown => pair.node(active).lan.pull(),
        Action::Suspend => {
            since = Some(pair.suspend(active, SUSPENDED)?);
            thread::sleep(WATCHED); // what it must not do takes no defined time
            Ok(())
        }
        Action::Split => {
            pair.net.split()?;
            thread::sleep(SPLIT); // the length of the split is the scenario
            pair.net.heal_split()?;
            since = Some(now());
            thread::sleep(WATCHED); // what it must not do takes no defined time
            Ok(())
        }
        Action::KillStandby => {
            pair.kill(1 - active)?;
            pair.revive(1 - active)?;
            pair.wait_ready().map(|_active| ())
        }
    })?;
    let silent = since.map(|since| Silence {
        node: active,
        since,
    });
    Ok((event, silent))
}
