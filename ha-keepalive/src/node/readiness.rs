//! What a takeover or a switchover would cost right now.

use core::time::Duration;

use serde::Serialize;

use super::PairNode;
use crate::election::{Abilities, State};

/// What stands against a planned switchover without loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Blocker {
    /// This node is not active, or a change is under way.
    #[error("this node is not active, or a change is under way")]
    NotActive,
    /// The standby is not heard.
    #[error("the standby is not heard")]
    PeerUnheard,
    /// A tracked condition failed at the standby.
    #[error("a tracked condition failed at the standby")]
    PeerUnfit,
    /// The standby does not hold everything.
    #[error("the standby is not in sync")]
    NotInSync,
    /// The two nodes run different configurations.
    #[error("the two nodes run different configuration revisions")]
    Revision,
}

impl PairNode {
    /// True when a takeover now would be hot: the replica is complete, and the active node has
    /// just said that its ceilings may be counted on.
    #[must_use]
    pub fn is_hot(&self, now: Duration) -> bool {
        self.journal.is_none()
            && self.replica.is_complete()
            && self.hot_until.is_some_and(|until| now < until)
    }

    pub(super) fn abilities(&self, now: Duration) -> Abilities {
        Abilities {
            hot: self.is_hot(now),
            handover: self.blockers(now).next().is_none(),
            rival_since: None,
        }
    }

    /// What stands against a planned switchover; empty when it would lose nothing.
    #[must_use]
    pub fn readiness(&self, now: Duration) -> Vec<Blocker> {
        self.blockers(now).collect()
    }

    fn blockers(&self, now: Duration) -> impl Iterator<Item = Blocker> {
        let peer = self.election.peer();
        let stands = [
            (
                self.election.state() != State::Active || self.unfinished.is_some(),
                Blocker::NotActive,
            ),
            (!self.election.peer_is_heard(now), Blocker::PeerUnheard),
            (!peer.is_some_and(|peer| peer.fit), Blocker::PeerUnfit),
            (
                !self.promise.is_in_sync() || !peer.is_some_and(|peer| peer.sync.in_sync),
                Blocker::NotInSync,
            ),
            (
                peer.is_some_and(|peer| peer.revision != self.revision),
                Blocker::Revision,
            ),
        ];
        stands
            .into_iter()
            .filter_map(|(stands, blocker)| stands.then_some(blocker))
    }
}
