//! Finds the attribute on which two sets of proposals cannot meet.

use super::listed;

/// One attribute, with the values that each side would take; in order, without repeats.
pub(super) struct Axis {
    name: &'static str,
    theirs: Vec<String>,
    ours: Vec<String>,
}

impl Axis {
    pub(super) fn new(
        name: &'static str,
        theirs: impl Iterator<Item = String>,
        ours: impl Iterator<Item = String>,
    ) -> Self {
        Self {
            name,
            theirs: distinct(theirs),
            ours: distinct(ours),
        }
    }

    fn fails(&self) -> bool {
        !self.theirs.iter().any(|value| self.ours.contains(value))
    }
}

fn distinct(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

/// One line: what failed, what to change, and what each side wanted.
pub(super) fn explain(
    phase: &'static str,
    axes: &[Axis],
    theirs: &[String],
    ours: &[String],
    all_weak: bool,
) -> String {
    let failed: Vec<&Axis> = axes.iter().filter(|axis| axis.fails()).collect();
    let cause = match failed.as_slice() {
        [] => "each attribute matches somewhere, but no whole proposal does".to_owned(),
        failed => failed
            .iter()
            .map(|axis| {
                format!(
                    "peer offers {} {} only, this connection allows {}",
                    axis.name,
                    listed(&axis.theirs),
                    listed(&axis.ours)
                )
            })
            .collect::<Vec<_>>()
            .join("; "),
    };
    format!(
        "no {phase} proposal in common: {cause}; add one of the peer's to [connection.{}] \
         proposals{} or change the peer (peer: {}; here: {})",
        if phase == "phase-1" {
            "phase1"
        } else {
            "phase2"
        },
        if all_weak {
            " with allow_weak = true, because all of them are weak,"
        } else {
            ""
        },
        listed(theirs),
        listed(ours)
    )
}
