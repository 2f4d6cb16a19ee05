//! One run of keepalived and strongSwan, in a network of its own.

use std::time::Duration;

use netns_tests::pair::{Baseline, Cost, Event, Evidence, Watch};
use netns_tests::{Lab, LabError};

use crate::figures::{Figures, Run, RunResult};
use crate::ours::Batch;
use crate::report::picture as picture_of;
use crate::rows::Row;

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn batch(row: &Row, number: usize) -> Batch {
    match run(row, number) {
        Ok((cost, picture)) => Batch {
            runs: vec![Run {
                number,
                result: RunResult::Figures(Box::new(Figures::new(&cost, None))),
            }],
            picture: Some(picture),
        },
        Err(error) => Batch {
            runs: vec![Run::failed(number, &error)],
            picture: None,
        },
    }
}

fn run(row: &Row, number: usize) -> Result<(Cost, String), LabError> {
    let lab = Lab::new()?;
    let result = event(row, &lab);
    if result.is_err() {
        lab.keep_logs(&crate::ours::place_for_logs(row, number))?;
    }
    lab.discard()?;
    result
}

fn event(row: &Row, lab: &Lab) -> Result<(Cost, String), LabError> {
    let pair = Baseline::start(lab, row.advert)?;
    let watch = Watch::start(&pair.net, PATIENCE)?;
    let [active, standby] = &pair.net.nodes;
    let event: Event = watch.during(&row.event, || active.vanish())?;
    let evidence: Evidence = watch.finish()?;
    let picture = picture_of(row, &event, &evidence, [active, standby]);
    Ok((evidence.cost(&event), picture))
}
