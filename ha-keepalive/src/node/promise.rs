//! What the standby is led to believe, and for how long it goes on believing it.
//!
//! "You may take over hot" is a promise: nothing above the replicated ceilings has been sent.
//! The active node makes it in its adverts, and the standby believes each for a bounded time. To
//! break it, the active node stops making it and keeps it until the standby has either answered
//! an advert without it, or can no longer believe the last advert that made it. So at every
//! takeover that calls itself hot, the ceilings hold (invariant I2).
//!
//! ```text
//!     .---> Free --- standby follows ---> Binding --- every ceiling acknowledged ---> InSync
//!     |      ^                               |                                          |
//!     |      '------- lost it again ---------'                       standby does not follow
//!     |                                                                                 |
//!     '---- told and answered, or lifetime over, or the standby's run is over --- Leaving
//! ```

use core::time::Duration;

use super::PairNode;
use crate::replication::{Following, Running};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promise {
    /// Nobody counts on ceilings; numbers run free.
    Free,
    /// Ceilings are asked for.
    Binding,
    /// The promise is made with every advert.
    InSync,
    /// Not made any more, still kept.
    Leaving {
        since: Duration,
        /// The first advert without it.
        told: Option<u64>,
    },
}

impl Promise {
    pub(super) const fn is_in_sync(self) -> bool {
        matches!(self, Self::InSync)
    }
}

/// What adverts may spend on their way there and back without a takeover turning cold.
const NETWORK_DELAY: Duration = Duration::from_millis(100);

/// How long a promise is believed. Its maker counts from the moment when it stops making it; the
/// other one counts from the sending of the last of its own adverts that the maker had heard,
/// which was earlier, however long the promise was under way. So the other one is always the
/// first to stop. A patience is at most four intervals, that own advert may have been sent an
/// interval before, and one advert may have been lost.
pub(super) fn lifetime(interval: Duration) -> Duration {
    interval * 6 + NETWORK_DELAY
}

impl PairNode {
    /// Moves along the picture. `advert` is set when the standby must hear of it at once.
    pub(super) fn keep_promise(&mut self, now: Duration, advert: &mut Option<(bool, bool)>) {
        let Some(journal) = &self.journal else {
            return;
        };
        let follows = journal.following(now) == Following::InSync;
        let before = self.promise;
        match self.promise {
            Promise::Free if follows => {
                self.promise = Promise::Binding;
                self.ask_ceilings(now);
                self.bound(now);
            }
            Promise::Free => {}
            Promise::Binding if follows => self.bound(now),
            Promise::Binding => {
                self.ledger.unbind();
                self.promise = Promise::Free;
            }
            Promise::InSync if follows => {}
            Promise::InSync => {
                self.promise = Promise::Leaving {
                    since: now,
                    told: None,
                };
            }
            Promise::Leaving { .. } if follows => self.promise = Promise::InSync,
            Promise::Leaving { .. } => {
                let over = self.promise_ends().is_some_and(|end| now >= end);
                if over || self.election.peer_is_dead() {
                    self.break_promise();
                }
            }
        }
        if before.is_in_sync() != self.promise.is_in_sync() {
            advert.get_or_insert_default();
        }
    }

    fn bound(&mut self, now: Duration) {
        if self.ledger.running() == Running::Bound {
            self.promise = Promise::InSync;
            self.rival_promised(now);
        }
    }

    pub(super) fn break_promise(&mut self) {
        self.ledger.free();
        self.promise = Promise::Free;
    }

    /// An advert without the promise has left.
    pub(super) const fn promise_told(&mut self, counter: u64) {
        if let Promise::Leaving { told, .. } = &mut self.promise
            && told.is_none()
        {
            *told = Some(counter);
        }
    }

    /// The standby has heard our advert `heard`, or is a new run that was never promised
    /// anything.
    pub(super) fn promise_heard(&mut self, heard: Option<u64>, restarted: bool) {
        if let Promise::Leaving { told, .. } = self.promise {
            let knows = told.is_some_and(|told| heard.is_some_and(|heard| heard >= told));
            if knows || restarted {
                self.break_promise();
            }
        }
    }

    /// When the last advert that made the promise is not believed any more.
    pub(super) fn promise_ends(&self) -> Option<Duration> {
        match self.promise {
            Promise::Leaving { since, .. } => Some(since + lifetime(self.slower_interval())),
            Promise::Free | Promise::Binding | Promise::InSync => None,
        }
    }
}
