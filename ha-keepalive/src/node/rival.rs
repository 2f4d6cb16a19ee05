//! Whether the partner may be serving, or have served, without this node knowing.
//!
//! While the two do not hear each other both may be active, and both continue the same outbound
//! SAs. IVs stay apart (invariant I1); sequence numbers do not: the one that stays must go on
//! above everything that the other has sent (invariant I2), or the peer drops its packets as
//! replays. The one that leaves cannot always be asked what it has sent: it may be a new run.
//! So the one that stays keeps in mind since when it may have had a rival, and once the partner
//! is heard mute, or is known to be dead, it goes on far above ([`Event::PeerServed`]).
//!
//! ```text
//!   Impossible --- promises a hot takeover ---> Follower --- heard serving -------.
//!       ^ ^                                       |  |                            v
//!       | '-- says that it did not, unpromised ---'  |    .--- Predecessor <--- took over
//!       '------ went on far above <--- a new run ----'    |                     without a word
//!                          ^------- heard mute, or dead --'
//! ```
//! [`Event::PeerServed`]: crate::election::Event::PeerServed

use core::time::Duration;

use super::PairNode;
use super::promise::Promise;
use crate::advert::{Accepted, Role};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rival {
    /// It knows none of our SAs, or has not served since it learnt of them.
    Impossible,
    /// It was promised a hot takeover and may have made it, not before `from`.
    Follower { from: Duration },
    /// It may have gone on serving after this node took over at `from`.
    Predecessor { from: Duration },
}

/// Nobody's patience is shorter, in intervals.
const SHORTEST_PATIENCE: u32 = 3;

impl PairNode {
    /// Since when the partner may have served, if this advert of it settles the question: it is
    /// mute now, and does not say that it was mute all the time.
    pub(super) fn rival_heard(&mut self, now: Duration, accepted: &Accepted) -> Option<Duration> {
        let advert = &accepted.advert;
        let claim = self.epoch();
        let serves = advert.role == Role::Active && !advert.resigned;
        let since = match self.rival {
            Rival::Impossible => None,
            Rival::Follower { from } if accepted.restarted => (from <= now).then_some(from),
            Rival::Follower { from } => (!serves && advert.epoch > claim).then_some(from.min(now)),
            Rival::Predecessor { from } => (!serves).then_some(from),
        };
        if serves {
            self.rival_serves(now, advert.epoch >= claim);
        } else if since.is_some() || accepted.restarted {
            self.rival = Rival::Impossible;
        }
        since
    }

    /// Since when the partner may have served, if it is dead now.
    pub(super) fn rival_if_dead(&self, now: Duration) -> Option<Duration> {
        match self.rival {
            Rival::Impossible => None,
            Rival::Follower { from } => (from <= now).then_some(from),
            Rival::Predecessor { from } => Some(from),
        }
    }

    /// Both are active. What it released to us it may say for a moment longer, but not with a
    /// claim like ours.
    fn rival_serves(&mut self, now: Duration, claims_as_much: bool) {
        self.rival = match (self.rival, self.continued) {
            (Rival::Follower { from }, _) if claims_as_much => Rival::Predecessor {
                from: from.min(now),
            },
            (Rival::Impossible, Some(from)) => Rival::Predecessor { from },
            (other, _) => other,
        };
    }

    /// The partner follows: it had not taken over when it heard the advert of ours that left at
    /// `sent_at`, and after that it was patient.
    pub(super) fn rival_follows(&mut self, accepted: &Accepted, sent_at: Duration) {
        let Rival::Follower { from } = self.rival else {
            return;
        };
        let advert = &accepted.advert;
        // Who has released the role to us and has not heard us serve is patient in another way.
        let knows_us = sent_at >= self.claimed_at;
        if advert.role == Role::Active || advert.epoch > self.epoch() || !knows_us {
            return;
        }
        self.rival = match self.promise {
            Promise::InSync | Promise::Leaving { .. } => Rival::Follower {
                from: from.max(sent_at + self.shortest_patience()),
            },
            Promise::Free | Promise::Binding => Rival::Impossible,
        };
    }

    /// The promise of a hot takeover is made for the first time.
    pub(super) fn rival_promised(&mut self, now: Duration) {
        if self.rival == Rival::Impossible {
            self.rival = Rival::Follower {
                from: now + self.shortest_patience(),
            };
        }
    }

    /// This node has just taken the role, continuing SAs. Whatever the partner has sent since
    /// is counted from `since`, when it still held the role or we did: if it takes the role
    /// back, it jumps for all the time that it had not.
    pub(super) const fn rival_left_behind(&mut self, now: Duration, since: Duration) {
        self.claimed_at = now;
        self.continued = Some(since);
        self.rival = match self.election.is_rivalled() {
            true => Rival::Predecessor { from: since },
            false => Rival::Impossible,
        };
    }

    /// Nothing that is served here is known to the partner.
    pub(super) const fn forget_rival(&mut self) {
        self.continued = None;
        self.rival = Rival::Impossible;
    }

    fn shortest_patience(&self) -> Duration {
        self.slower_interval() * SHORTEST_PATIENCE
    }
}
