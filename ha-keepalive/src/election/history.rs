//! Why this node is what it is: the last ten transitions, with their reasons and times.

use core::fmt;
use core::time::Duration;
use std::collections::VecDeque;

use serde::Serialize;

use super::table::{Event, State};
use super::track::Condition;
use crate::vocabulary::Epoch;

/// How many transitions `status` shows.
pub const REMEMBERED: usize = 10;

/// One change of state. In JSON it has its sentence too, as `why`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "Shown")]
pub struct Transition {
    /// When, on the boot-time clock.
    pub at: Duration,
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// What happened.
    pub reason: Event,
    /// The condition behind [`Event::Unfit`].
    pub condition: Option<Condition>,
    /// The epoch of the claim in force afterwards.
    pub epoch: Epoch,
    /// How long the last sign of life of an active partner was ago.
    pub silence: Option<Duration>,
    /// For a claim: from the decision to the open gate; `None` until the gate opened.
    pub serving_after: Option<Duration>,
}

/// A transition in JSON.
#[derive(Serialize)]
struct Shown {
    #[serde(rename = "at_ms", serialize_with = "crate::millis::serialize")]
    at: Duration,
    from: State,
    to: State,
    reason: Event,
    condition: Option<Condition>,
    why: String,
    epoch: Epoch,
    #[serde(rename = "silence_ms", serialize_with = "crate::millis::optional")]
    silence: Option<Duration>,
    #[serde(
        rename = "serving_after_ms",
        serialize_with = "crate::millis::optional"
    )]
    serving_after: Option<Duration>,
}

impl From<Transition> for Shown {
    fn from(moved: Transition) -> Self {
        Self {
            at: moved.at,
            from: moved.from,
            to: moved.to,
            reason: moved.reason,
            condition: moved.condition,
            why: moved.reason.to_string(),
            epoch: moved.epoch,
            silence: moved.silence,
            serving_after: moved.serving_after,
        }
    }
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} -> {:?}: {}", self.from, self.to, self.reason)?;
        if let Some(condition) = self.condition {
            write!(f, " ({condition:?})")?;
        }
        Ok(())
    }
}

/// The sentence that `status` and the log show.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PeerLeads => "the partner is active and its claim outranks ours",
            Self::PeerTrails => "the partner is active and our claim outranks its",
            Self::PeerAsks => "the partner lost its lease and asks",
            Self::PeerFollows => "the partner is mute",
            Self::PeerStarts => "the partner has just started",
            Self::PeerResigned => "the active partner resigned",
            Self::PeerSilent => "nothing was heard from an active partner for the whole patience",
            Self::PeerDead => "the partner's daemon died or does not run",
            Self::PeerServed => "the partner may have served while it was not heard",
            Self::LeaseLost => "this process was stopped for longer than its lease",
            Self::AskUnanswered => "nobody answered our question",
            Self::Unfit => "a tracked condition failed here and not at the partner",
            Self::SwitchoverWanted => "a planned switchover was asked for",
            Self::Offered => "the partner offers its role",
            Self::OfferedUnready => "the partner offers its role and we are not ready",
            Self::Accepted => "the partner accepted our offer",
            Self::Drained => "everything is handed over",
            Self::ReleasedToUs => "the partner released its role to us",
            Self::HandoverOff => "the planned switchover is off",
            Self::Stop => "the daemon stops",
        })
    }
}

/// The last [`REMEMBERED`] transitions, newest last.
#[derive(Debug, Default)]
pub struct History(VecDeque<Transition>);

impl History {
    pub(super) fn note(&mut self, transition: Transition) {
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(transition);
    }

    /// The gate opened at `now`: the last claim serves.
    pub(super) fn serving(&mut self, now: Duration) {
        let claim = self
            .0
            .iter_mut()
            .rfind(|transition| transition.to == State::Active);
        if let Some(claim) = claim
            && claim.serving_after.is_none()
        {
            claim.serving_after = Some(now.saturating_sub(claim.at));
        }
    }

    /// Oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Transition> + ExactSizeIterator {
        self.0.iter()
    }

    /// The newest.
    #[must_use]
    pub fn last(&self) -> Option<&Transition> {
        self.0.back()
    }
}
