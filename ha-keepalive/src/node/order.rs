//! What a node tells its daemon, and when it wants to be woken.

use serde::Serialize;

use super::Blocker;
use crate::election::{Change, Timer, Transition};
use crate::replication::{Applied, Commit, Following, Key, Limit, Record};
use crate::takeover::{Run, Step, StepId};

/// What the daemon shall do, or should know. In order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Perform one step and report it with [`super::PairNode::step_done`]. One at a time.
    Perform {
        /// For the report.
        id: StepId,
        /// What to do.
        step: Step,
        /// What it is part of.
        change: Change,
    },
    /// Standby: apply a replicated change to the mute copy; [`super::PairNode::refuse`] if impossible.
    Apply(Applied),
    /// Active: the last sequence number an SA may send. Applied before the next poll.
    Limit(Limit),
    /// Active: a commit point is decided.
    Committed {
        /// The log position that was waited for.
        position: u64,
        /// How it ended.
        commit: Commit,
    },
    /// Active: the standby follows differently now.
    Following(Following),
    /// The state of the election changed.
    Moved(Transition),
    /// A change of role is complete, or has failed; every step with its time.
    Finished(Run),
    /// A planned switchover was asked for and cannot be done.
    SwitchoverRefused(Vec<Blocker>),
    /// Active: the standby proposes an edit of the configuration.
    Proposed(Record),
    /// Active: the standby cannot apply a record; it is not in sync until that is mended. Standby:
    /// the active node did not take a proposal.
    PeerRefused {
        /// Which record.
        key: Key,
        /// Why.
        reason: String,
    },
    /// The sync connection is of no use: close it and dial again.
    Redial(Redial),
}

/// Why the sync connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Redial {
    /// It made no progress for the stall limit.
    #[error("the sync connection makes no progress")]
    Stalled,
    /// The run at its other end is over; its kernel had no chance to say so.
    #[error("the partner has restarted")]
    OldRun,
    /// Both ends are configured as the same member.
    #[error("both nodes are configured as the same member")]
    SameMember,
}

/// Which part of the node wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deadline {
    /// The election.
    Election(Timer),
    /// A commit point, or an acknowledgement that is late.
    Replication,
    /// The standby stops counting on our ceilings.
    Promise,
    /// A change of role that failed is tried again.
    Retry,
}
