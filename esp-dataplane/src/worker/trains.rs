//! What counts as a train, and how long it is felt.

use core::time::Duration;
use std::time::Instant;

/// A round, or a queue's turn, that moved so many bytes had a train.
pub(super) const TRAIN: usize = 16 * 1024;

/// So long after a train there may be others.
pub(super) const BESIDE: Duration = Duration::from_millis(1);

/// When the last train passed.
#[derive(Debug, Default)]
pub(super) struct Trains {
    last: Option<Instant>,
}

impl Trains {
    /// So many bytes were moved by `now`.
    pub(super) fn note(&mut self, now: Instant, bytes: usize) {
        if bytes >= TRAIN {
            self.last = Some(now);
        }
    }

    /// Whether one has passed within [`BESIDE`].
    pub(super) fn are_beside(&self, now: Instant) -> bool {
        self.were_within(BESIDE, now)
    }

    /// Whether one has passed within so long before `now`.
    pub(super) fn were_within(&self, span: Duration, now: Instant) -> bool {
        let is_within = |train| now.saturating_duration_since(train) < span;
        self.last.is_some_and(is_within)
    }
}
