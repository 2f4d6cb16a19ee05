//! What `vipsec status` shows of the pair.

use core::time::Duration;

use serde::Serialize;

use super::{Blocker, PairNode};
use crate::advert::{Counters, Role};
use crate::election::{Condition, Peer, State, Transition};
use crate::replication::{Following, Lag, ReplicaCounters};
use crate::vocabulary::{Epoch, Revision};

/// The partner as its adverts show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeerStatus {
    /// What it said last.
    #[serde(flatten)]
    pub said: Peer,
    /// How long ago that was.
    pub silent_for: Duration,
    /// Its process is proven dead.
    pub dead: bool,
}

/// One node's view of the pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// What this node is.
    pub role: Role,
    /// The finer state.
    pub state: State,
    /// For how long.
    pub for_time: Duration,
    /// Why: the last transition's sentence.
    pub why: String,
    /// The claim in force.
    pub epoch: Epoch,
    /// The gate is open.
    pub serving: bool,
    /// Conditions that are bad here.
    pub failed: Vec<Condition>,
    /// Fit to be active.
    pub fit: bool,
    /// The configuration in force.
    pub revision: Revision,
    /// Active: how the standby follows.
    pub following: Option<Following>,
    /// Active: what it has not acknowledged.
    pub lag: Option<Lag>,
    /// Standby: a takeover now would be hot.
    pub hot: bool,
    /// Active: the next takeover would be hot.
    pub in_sync: bool,
    /// Active: what stands against a switchover without loss.
    pub blockers: Vec<Blocker>,
    /// Active: sequence numbers that could be replayed after a takeover now, and the most ever.
    pub replay_exposure: (u64, u64),
    /// The partner, if it has been heard.
    pub peer: Option<PeerStatus>,
    /// Adverts by fate.
    pub adverts: Counters,
    /// Standby: what went wrong in replication.
    pub replica: ReplicaCounters,
    /// The last transitions, oldest first.
    pub transitions: Vec<Transition>,
}

impl PairNode {
    /// The view as of `now`.
    #[must_use]
    pub fn status(&self, now: Duration) -> Status {
        let election = self.election();
        let journal = self.journal.as_ref();
        Status {
            role: election.role(),
            state: election.state(),
            for_time: now.saturating_sub(election.since()),
            why: election
                .history()
                .last()
                .map_or_else(|| "just started".to_owned(), |last| last.reason.to_string()),
            epoch: self.epoch(),
            serving: election.is_serving(now),
            failed: election.track().failed().collect(),
            fit: election.is_fit(now),
            revision: self.revision,
            following: journal.map(|journal| journal.following(now)),
            lag: journal.map(|journal| journal.lag(now)),
            hot: self.is_hot(now),
            in_sync: self.promise.is_in_sync(),
            blockers: match journal {
                Some(_) => self.readiness(now),
                None => Vec::new(),
            },
            replay_exposure: self.edges.exposure(),
            peer: election.peer().map(|peer| PeerStatus {
                said: *peer,
                silent_for: now.saturating_sub(peer.heard_at),
                dead: election.peer_is_dead(),
            }),
            adverts: *self.advert_counters(),
            replica: *self.replica.counters(),
            transitions: election.history().iter().cloned().collect(),
        }
    }
}
