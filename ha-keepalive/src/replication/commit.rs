//! Commit points: something waits, bounded, until the standby knows.

use core::time::Duration;
use std::collections::VecDeque;

use serde::Serialize;

/// How a commit point ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Commit {
    /// The standby has it.
    Acknowledged,
    /// The bounded wait is over: the pair is out of sync now.
    TimedOut,
    /// There is no standby in sync to wait for.
    OutOfSync,
}

/// The commit points of one journal, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(super) struct CommitPoints {
    /// Log position and deadline.
    waiting: VecDeque<(u64, Duration)>,
    decided: VecDeque<(u64, Commit)>,
}

impl CommitPoints {
    /// One more: the standby should have everything up to `position` before `deadline`.
    pub(super) fn wait_for(&mut self, position: u64, deadline: Duration) {
        self.waiting.push_back((position, deadline));
    }

    /// Decides what can be decided; true when one of them timed out.
    pub(super) fn decide(&mut self, now: Duration, acked: u64, in_sync: bool) -> bool {
        let mut timed_out = false;
        for (position, deadline) in core::mem::take(&mut self.waiting) {
            let outcome = match (in_sync, position <= acked, now >= deadline) {
                (false, ..) => Commit::OutOfSync,
                (true, true, _) => Commit::Acknowledged,
                (true, false, true) => Commit::TimedOut,
                (true, false, false) => {
                    self.waiting.push_back((position, deadline));
                    continue;
                }
            };
            timed_out |= outcome == Commit::TimedOut;
            self.decided.push_back((position, outcome));
        }
        timed_out
    }

    /// True when [`CommitPoints::poll`] has something.
    pub(super) fn has_decided(&self) -> bool {
        !self.decided.is_empty()
    }

    /// The next one that is decided.
    pub(super) fn poll(&mut self) -> Option<(u64, Commit)> {
        self.decided.pop_front()
    }

    /// When the next one times out.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.waiting.iter().map(|(_, deadline)| *deadline).min()
    }

    /// The positions of all, decided or not.
    pub(super) fn into_positions(self) -> impl Iterator<Item = u64> {
        let decided = self.decided.into_iter().map(|(position, _)| position);
        decided.chain(self.waiting.into_iter().map(|(position, _)| position))
    }
}
