//! The figures of one run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use netns_tests::pair::Cost;
use serde::Serialize;

/// One run of a row.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Run {
    /// From 1.
    pub(crate) number: usize,
    /// Its figures, or why there are none.
    #[serde(flatten)]
    pub(crate) result: RunResult,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunResult {
    Figures(Box<Figures>),
    Failed(String),
}

/// What one event cost. Times are milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Figures {
    /// The longest time without a packet, in the worse direction.
    pub(crate) gap_ms: f64,
    pub(crate) gap_out_ms: f64,
    pub(crate) gap_back_ms: f64,
    /// The longest pause of the instrument's own sender.
    pub(crate) sender_pause_ms: f64,
    /// The longest time that a packet took.
    pub(crate) slowest_ms: f64,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    /// Of them, from the pair's LAN to the peer's.
    pub(crate) lost_out: u64,
    pub(crate) duplicates: u64,
    pub(crate) reordered: u64,
    pub(crate) ike: usize,
    pub(crate) negotiation: usize,
    pub(crate) repeated_ivs: usize,
    pub(crate) replay_drops: usize,
    pub(crate) not_above: usize,
    pub(crate) contested: usize,
    pub(crate) new_spis: usize,
    /// Packets lost while the pair became whole again afterwards.
    pub(crate) lost_in_repair: u64,
    /// What only some rows have.
    pub(crate) marks: BTreeMap<String, f64>,
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

impl Figures {
    pub(crate) fn new(cost: &Cost, repair: Option<&Cost>) -> Self {
        Self {
            gap_ms: ms(cost.gap()),
            gap_out_ms: ms(cost.out.longest_gap),
            gap_back_ms: ms(cost.back.longest_gap),
            sender_pause_ms: ms(cost.sender_pause()),
            slowest_ms: ms(cost.out.slowest.max(cost.back.slowest)),
            sent: cost.out.sent + cost.back.sent,
            lost: cost.lost(),
            lost_out: cost.out.lost(),
            duplicates: cost.duplicates(),
            reordered: cost.reordered(),
            ike: cost.ike,
            negotiation: cost.negotiation,
            repeated_ivs: cost.repeated_ivs,
            replay_drops: cost.replay_drops,
            not_above: cost.not_above,
            contested: cost.contested,
            new_spis: cost.new_spis,
            lost_in_repair: repair.map_or(0, Cost::lost),
            marks: BTreeMap::new(),
        }
    }
}

impl Run {
    pub(crate) fn failed(number: usize, why: &impl fmt::Display) -> Self {
        Self {
            number,
            result: RunResult::Failed(why.to_string()),
        }
    }

    pub(crate) fn figures(&self) -> Option<&Figures> {
        match &self.result {
            RunResult::Figures(figures) => Some(figures),
            RunResult::Failed(_) => None,
        }
    }

    pub(crate) fn failure(&self) -> Option<&str> {
        match &self.result {
            RunResult::Figures(_) => None,
            RunResult::Failed(why) => Some(why),
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>3}  ", self.number)?;
        let figures = match &self.result {
            RunResult::Failed(why) => return write!(f, "FAILED: {why}"),
            RunResult::Figures(figures) => figures,
        };
        let Figures {
            gap_ms,
            lost,
            lost_out,
            duplicates,
            ike,
            repeated_ivs,
            replay_drops,
            contested,
            lost_in_repair,
            sender_pause_ms,
            slowest_ms,
            ..
        } = figures.as_ref();
        write!(
            f,
            "gap {gap_ms:7.1} ms, lost {lost:>4} ({lost_out} out), twice {duplicates}, IKE {ike}, IVs {repeated_ivs}, \
             replay {replay_drops}, ARP {contested}, repair {lost_in_repair} \
             (slowest {slowest_ms:.0} ms, sender paused {sender_pause_ms:.1} ms)"
        )?;
        for (name, value) in &figures.marks {
            write!(f, ", {name} {value:.1}")?;
        }
        Ok(())
    }
}
