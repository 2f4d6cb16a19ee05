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
    #[serde(rename = "silent_for_ms", serialize_with = "crate::millis::serialize")]
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
    #[serde(rename = "for_ms", serialize_with = "crate::millis::serialize")]
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
    /// What the standby has not acknowledged: as counted here on the active node, as the active
    /// node's last advert says on the standby.
    pub lag: Option<Lag>,
    /// Standby: a takeover now would be hot.
    pub hot: bool,
    /// Active: the next takeover would be hot.
    pub in_sync: bool,
    /// Active: what stands against a switchover without loss.
    pub blockers: Vec<Blocker>,
    /// Either node: what stands against the standby's taking over now without a negotiation.
    pub obstacles: Vec<Obstacle>,
    /// Active: sequence numbers that could be replayed after a takeover now, and the most ever.
    pub replay_exposure: (u64, u64),
    /// The partner, if it has been heard.
    pub peer: Option<PeerStatus>,
    /// Adverts by fate.
    pub adverts: Counters,
    /// Standby: what went wrong in replication.
    pub replica: ReplicaCounters,
    /// Other news and messages that changed nothing, by reason.
    pub ignored: Ignored,
    /// The last transitions, oldest first.
    pub transitions: Vec<Transition>,
}

/// Why a takeover by the standby would be a cold one, or impossible, if it came now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// Neither active nor standby, or on the way from one to the other.
    #[error("this node is between two roles")]
    Changing,
    /// The partner is not heard.
    #[error("the partner is not heard")]
    PeerUnheard,
    /// The standby could not serve.
    #[error("a tracked condition failed at the standby")]
    StandbyUnfit,
    /// No sync connection is open.
    #[error("there is no sync connection")]
    NoSync,
    /// The standby's copy is not complete.
    #[error("the standby's copy is not complete yet")]
    Snapshot,
    /// The standby refused a record.
    #[error("the standby cannot apply a record")]
    Refused,
    /// Something is older than it may be.
    #[error("the standby is behind")]
    Behind,
    /// Nothing is missing but the word, or the ceilings, that make it safe.
    #[error("the standby has everything, and the two have not agreed on that yet")]
    Unconfirmed,
}

/// What changed nothing, and why (invariant I8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Ignored {
    /// "Port unreachable" for a partner whose sync connection is open: a forgery or a moment of
    /// its start.
    pub unreachable_while_connected: u64,
    /// Messages that mean nothing in this role: records for a node that holds a claim, an
    /// acknowledgement or a proposal for one that does not.
    pub out_of_place: u64,
}

impl Ignored {
    /// Every counter with its name.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        [
            (
                "path_unreachable_while_connected",
                self.unreachable_while_connected,
            ),
            ("sync_out_of_place", self.out_of_place),
        ]
        .into_iter()
    }
}

impl PairNode {
    /// Active: sequence numbers that could be replayed after a takeover now, and the most ever
    /// (invariant I3).
    #[must_use]
    pub fn replay_exposure(&self) -> (u64, u64) {
        self.edges.exposure()
    }

    /// Every counter of this node with its name.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let adverts = self.advert_counters().counts();
        let replica = self.replica.counters().counts();
        adverts.chain(replica).chain(self.ignored.counts())
    }

    /// Why a takeover by the standby, be it this node or the partner, would be a cold one now;
    /// empty when it would be hot.
    #[must_use]
    pub fn obstacles(&self, now: Duration) -> Vec<Obstacle> {
        let election = self.election();
        let peer = election.peer();
        let standby_is_fit = match self.journal {
            Some(_) => peer.is_some_and(|peer| peer.fit),
            None => election.is_fit(now),
        };
        let between = match election.state() {
            State::Active | State::HandingOver => self.unfinished.is_some(),
            State::Standby | State::TakingOver => false,
            State::Init | State::Asking | State::Released | State::Stopped => true,
        };
        let simple = [
            (between, Obstacle::Changing),
            (!election.peer_is_heard(now), Obstacle::PeerUnheard),
            (!standby_is_fit, Obstacle::StandbyUnfit),
        ];
        let simple = simple
            .into_iter()
            .filter_map(|(stands, obstacle)| stands.then_some(obstacle));
        simple.chain(self.copy_obstacle(now)).collect()
    }

    fn copy_obstacle(&self, now: Duration) -> Option<Obstacle> {
        let peer_agrees = self.election().peer().is_some_and(|peer| peer.sync.in_sync);
        match self.journal.as_ref().map(|journal| journal.following(now)) {
            Some(Following::Alone) => Some(Obstacle::NoSync),
            Some(Following::Snapshot) => Some(Obstacle::Snapshot),
            Some(Following::Behind) => Some(Obstacle::Behind),
            Some(Following::Refused) => Some(Obstacle::Refused),
            Some(Following::InSync) => {
                (!self.promise.is_in_sync() || !peer_agrees).then_some(Obstacle::Unconfirmed)
            }
            None if self.is_hot(now) => None,
            None if !self.sync_up => Some(Obstacle::NoSync),
            None if self.replica.is_refusing() => Some(Obstacle::Refused),
            None if !self.replica.is_complete() => Some(Obstacle::Snapshot),
            None if !peer_agrees => Some(Obstacle::Behind),
            None => Some(Obstacle::Unconfirmed),
        }
    }

    /// The active node's lag: ours, or as its adverts tell.
    fn lag(&self, now: Duration) -> Option<Lag> {
        if let Some(journal) = &self.journal {
            return Some(journal.lag(now));
        }
        let active = self
            .election()
            .peer()
            .filter(|peer| peer.role == Role::Active)?;
        Some(Lag {
            records: active.sync.lag_records as usize,
            bytes: active.sync.lag_bytes,
            age: Duration::from_millis(active.sync.lag_ms.into()),
        })
    }

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
            lag: self.lag(now),
            hot: self.is_hot(now),
            in_sync: self.promise.is_in_sync(),
            blockers: match journal {
                Some(_) => self.readiness(now),
                None => Vec::new(),
            },
            obstacles: self.obstacles(now),
            replay_exposure: self.edges.exposure(),
            peer: election.peer().map(|peer| PeerStatus {
                said: *peer,
                silent_for: now.saturating_sub(peer.heard_at),
                dead: election.peer_is_dead(),
            }),
            adverts: *self.advert_counters(),
            replica: *self.replica.counters(),
            ignored: self.ignored,
            transitions: election.history().iter().cloned().collect(),
        }
    }
}
