//! Replay windows on the way to the standby (invariant I3).
//!
//! The window's right edge is written at most once per replication interval and only if it has
//! moved; the journal sends the newest value only. After a takeover the standby's window starts
//! at the last edge it has, and never lower than one it ever had. What the old active node
//! accepted above that edge can be replayed once: [`Edges::exposure`] counts it. In sync it is at
//! most the packets of one interval and the replication lag.

use core::time::Duration;
use std::collections::BTreeMap;

use ipsec_types::SecretBytes;

use super::record::{Key, Kind, Record, TooLarge};
use crate::wire::{Reader, Writer};

/// The body of a [`Kind::ReplayEdge`] record; its name is the inbound SA's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The highest sequence number accepted.
    pub right: u64,
    /// The data plane's export of the window below it.
    pub window: Vec<u8>,
}

impl Edge {
    /// Version of the encoding.
    pub const VERSION: u16 = 1;

    /// The record of one inbound SA.
    ///
    /// # Errors
    /// The name or the window is too long.
    pub fn record(&self, sa: &[u8]) -> Result<Record, TooLarge> {
        let mut out = Writer::with_capacity(8 + self.window.len());
        out.u64(self.right).bytes(&self.window);
        let key = Key::new(Kind::ReplayEdge, sa)?;
        Record::new(key, Self::VERSION, SecretBytes::new(out.finish()))
    }

    /// Reads a record of this kind.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        let right = Self::right_of(record)?;
        let window = record.body.expose().get(8..)?.to_vec();
        Some(Self { right, window })
    }

    /// Only the edge.
    #[must_use]
    pub fn right_of(record: &Record) -> Option<u64> {
        if record.key.kind() != Kind::ReplayEdge || record.version != Self::VERSION {
            return None;
        }
        Reader::new(record.body.expose()).u64().ok()
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    right: u64,
    at: Option<Duration>,
    /// Edges on their way: position and edge of the newest.
    pending: Option<(u64, u64)>,
    acked: u64,
    current: u64,
}

/// Paces the edges of all inbound SAs.
#[derive(Debug)]
pub struct Edges {
    interval: Duration,
    sas: BTreeMap<Vec<u8>, Sent>,
    max_exposure: u64,
}

impl Edges {
    /// The default replication interval.
    pub const INTERVAL: Duration = Duration::from_millis(20);

    /// Writes each edge at most once per `interval`.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self {
            interval,
            sas: BTreeMap::new(),
            max_exposure: 0,
        }
    }

    /// The window of an SA stands at `right` now. True when that should be written.
    pub fn report(&mut self, now: Duration, name: &[u8], right: u64) -> bool {
        let interval = self.interval;
        let sent = self.sas.entry(name.to_vec()).or_default();
        sent.current = sent.current.max(right);
        self.max_exposure = self
            .max_exposure
            .max(sent.current - sent.acked.min(sent.current));
        let due = sent.at.is_none_or(|at| now.saturating_sub(at) >= interval);
        due && (right > sent.right || sent.at.is_none())
    }

    /// The edge stands in the journal.
    pub fn written(&mut self, now: Duration, name: &[u8], right: u64, position: u64) {
        if let Some(sent) = self.sas.get_mut(name) {
            sent.right = right;
            sent.at = Some(now);
            sent.pending = Some((position, right));
        }
    }

    /// The standby has everything up to `position`.
    pub fn acknowledged(&mut self, position: u64) {
        for sent in self.sas.values_mut() {
            if let Some((at, right)) = sent.pending
                && at <= position
            {
                sent.acked = sent.acked.max(right);
                sent.pending = None;
            }
        }
    }

    /// The SA is gone.
    pub fn remove(&mut self, name: &[u8]) {
        self.sas.remove(name);
    }

    /// All SAs are gone.
    pub fn clear(&mut self) {
        self.sas.clear();
    }

    /// Sequence numbers that could be replayed if the standby took over now, over all SAs; and
    /// the most that any one SA was ever exposed.
    #[must_use]
    pub fn exposure(&self) -> (u64, u64) {
        let now = self
            .sas
            .values()
            .map(|sent| sent.current - sent.acked.min(sent.current))
            .sum();
        (now, self.max_exposure)
    }
}
