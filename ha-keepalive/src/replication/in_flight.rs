//! What was sent to the standby and is not acknowledged yet.

use core::time::Duration;
use std::collections::VecDeque;

use serde::Serialize;

/// Replication lag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Lag {
    /// Changes not yet acknowledged.
    pub records: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// Age of the oldest.
    #[serde(rename = "ms", serialize_with = "crate::millis::serialize")]
    pub age: Duration,
}

/// Messages under way, in the order in which they left.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    messages: VecDeque<Sent>,
    bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    position: u64,
    bytes: u64,
    written: Duration,
}

impl InFlight {
    /// One more left: what was written at `written` as log position `position`.
    pub(super) fn sent(&mut self, position: u64, bytes: usize, written: Duration) {
        let bytes = bytes as u64;
        self.bytes += bytes;
        self.messages.push_back(Sent {
            position,
            bytes,
            written,
        });
    }

    /// Everything up to `position` has arrived.
    pub(super) fn acknowledged(&mut self, position: u64) {
        while let Some(first) = self
            .messages
            .pop_front_if(|first| first.position <= position)
        {
            self.bytes = self.bytes.saturating_sub(first.bytes);
        }
    }

    /// When the oldest of them was written.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.messages.front().map(|first| first.written)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// True when nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Their size in bytes.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_arrived_weighs_nothing_any_more() {
        const MS: Duration = Duration::from_millis(1);
        let mut in_flight = InFlight::default();
        for (position, bytes) in [(3, 100), (5, 20), (8, 3)] {
            in_flight.sent(position, bytes, position as u32 * MS);
        }
        assert_eq!((in_flight.len(), in_flight.bytes()), (3, 123));
        in_flight.acknowledged(5);
        assert_eq!((in_flight.len(), in_flight.bytes()), (1, 3));
        assert_eq!(in_flight.oldest(), Some(8 * MS));
        in_flight.acknowledged(8);
        assert_eq!((in_flight.is_empty(), in_flight.bytes()), (true, 0));
    }
}
