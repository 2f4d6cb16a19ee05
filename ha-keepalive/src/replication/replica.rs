//! The standby's side: a replica, and when it may be trusted.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::message::{Change, Message};
use super::record::{Key, Kind, Record, Supported, Unacceptable};
use super::{Ceiling, Edge};
use crate::vocabulary::Epoch;

/// What the daemon shall do with its own, mute copy of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The record is now this; it was written `age` ago.
    Put {
        /// The new value.
        record: Record,
        /// Time since the active node wrote it.
        age: Duration,
    },
    /// The record is gone.
    Delete(Key),
}

#[derive(Debug, Clone)]
struct Held {
    record: Record,
    /// When the active node wrote it, on our clock.
    written: Duration,
}

/// A replica of the active node's state.
#[derive(Debug)]
pub struct Replica {
    supported: Supported,
    stream: Epoch,
    index: u64,
    applied: u64,
    acked: Option<u64>,
    live: BTreeMap<Key, Held>,
    /// Ceilings and edges that this node wrote itself while it was active: no replica of the
    /// same SA goes below them.
    own: BTreeMap<Key, Record>,
    /// A snapshot that has not ended yet; the replica before it stays until it has.
    staging: Option<(Epoch, BTreeMap<Key, Held>)>,
    complete: bool,
    following: bool,
    changes: VecDeque<Applied>,
    replies: VecDeque<Message>,
    counters: ReplicaCounters,
}

/// What went wrong on the receiving side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct ReplicaCounters {
    /// A message was missing or out of order; a snapshot was asked for.
    pub gaps: u64,
    /// Records in a version that is not known here.
    pub unknown_versions: u64,
    /// Replay edges below the one held (invariant I3); the higher one stays.
    pub edges_back: u64,
    /// Sequence ceilings below the one held (invariant I2); the higher one stays.
    pub ceilings_back: u64,
    /// Records the daemon could not apply.
    pub refused: u64,
}

impl Replica {
    /// An empty replica.
    #[must_use]
    pub fn new(supported: Supported) -> Self {
        Self {
            supported,
            stream: Epoch::NONE,
            index: 0,
            applied: 0,
            acked: None,
            live: BTreeMap::new(),
            own: BTreeMap::new(),
            staging: None,
            complete: false,
            following: false,
            changes: VecDeque::new(),
            replies: VecDeque::new(),
            counters: ReplicaCounters::default(),
        }
    }

    /// A message of the active node. Others than its own are ignored.
    pub fn handle(&mut self, now: Duration, message: Message) {
        match message {
            Message::SnapshotBegin { stream } => {
                self.index = 0;
                self.following = true;
                self.staging = Some((stream, BTreeMap::new()));
            }
            Message::Resume { stream } if stream == self.stream && self.complete => {
                self.index = 0;
                self.acked = None;
                self.following = true;
                self.staging = None;
            }
            Message::Resume { .. } => self.gap(),
            Message::Delta {
                index,
                position,
                change,
            } => {
                if self.in_order(index) {
                    self.change(now, position, change);
                }
            }
            Message::SnapshotEnd { index, position } => {
                if self.in_order(index) {
                    self.snapshot_ended(now, position);
                }
            }
            Message::Hello(_)
            | Message::Ack { .. }
            | Message::Resync
            | Message::Refuse { .. }
            | Message::Propose(_)
            | Message::Word(_) => {}
        }
    }

    fn in_order(&mut self, index: u64) -> bool {
        if !self.following {
            // Left over from before the gap; the snapshot is under way.
            return false;
        }
        if index != self.index + 1 {
            self.gap();
            return false;
        }
        self.index = index;
        true
    }

    fn gap(&mut self) {
        self.counters.gaps += 1;
        self.staging = None;
        self.following = false;
        self.complete = false;
        self.replies.push_back(Message::Resync);
    }

    fn change(&mut self, now: Duration, position: u64, change: Change) {
        let key = match &change {
            Change::Put { record, .. } => record.key.clone(),
            Change::Delete(key) => key.clone(),
        };
        let held = match change {
            Change::Put { record, age } => {
                let (kind, version) = (record.key.kind(), record.version);
                if !self.supported.reads(kind, version) {
                    self.counters.unknown_versions += 1;
                    self.refuse(&key, &Unacceptable::Version { kind, version });
                    return;
                }
                let record = self.never_back(record);
                let written = now.saturating_sub(age);
                Some(Held { record, written })
            }
            Change::Delete(_) => None,
        };
        if let Some((_, staged)) = &mut self.staging {
            if let Some(held) = held {
                staged.insert(key, held);
            }
            return;
        }
        self.applied = self.applied.max(position);
        self.apply(now, key, held);
    }

    fn apply(&mut self, now: Duration, key: Key, held: Option<Held>) {
        let Some(held) = held else {
            if self.live.remove(&key).is_some() {
                self.changes.push_back(Applied::Delete(key));
            }
            return;
        };
        self.changes.push_back(Applied::Put {
            record: held.record.clone(),
            age: now.saturating_sub(held.written),
        });
        self.live.insert(key, held);
    }

    /// Ceilings and replay edges only grow, whatever is sent (invariants I2 and I3).
    fn never_back(&mut self, record: Record) -> Record {
        let held = self.live.get(&record.key).map(|held| &held.record);
        let Some(old) = held.or_else(|| self.own.get(&record.key)) else {
            return record;
        };
        match record.key.kind() {
            Kind::SequenceCeiling => {
                let raised = Ceiling::of(old)
                    .zip(Ceiling::of(&record))
                    .map(|(old, new)| (new.raised_to(old), new))
                    .filter(|(raised, new)| raised != new)
                    .and_then(|(raised, _)| raised.record(record.key.name()).ok());
                self.counters.ceilings_back += u64::from(raised.is_some());
                raised.unwrap_or(record)
            }
            Kind::ReplayEdge if Edge::right_of(old) > Edge::right_of(&record) => {
                self.counters.edges_back += 1;
                old.clone()
            }
            Kind::ReplayEdge
            | Kind::Config
            | Kind::Connection
            | Kind::IkeSa
            | Kind::EspSa
            | Kind::Clock => record,
        }
    }

    /// The snapshot is whole: it replaces what was there, and the daemon hears the difference.
    fn snapshot_ended(&mut self, now: Duration, position: u64) {
        let Some((stream, staged)) = self.staging.take() else {
            self.gap();
            return;
        };
        let gone: Vec<Key> = self
            .live
            .keys()
            .filter(|key| !staged.contains_key(*key))
            .cloned()
            .collect();
        for key in gone {
            self.apply(now, key, None);
        }
        for (key, held) in staged {
            let known = self.live.get(&key);
            if known.is_none_or(|known| known.record != held.record) {
                self.apply(now, key, Some(held));
            }
        }
        // From here on the replica itself is what nothing goes below.
        self.own.clear();
        self.stream = stream;
        self.applied = position;
        self.acked = None;
        self.complete = true;
    }

    /// The daemon cannot apply this record: the active node is told, and the replica counts as
    /// incomplete.
    pub fn refuse(&mut self, key: &Key, reason: &Unacceptable) {
        self.counters.refused += 1;
        self.complete = false;
        self.following = false;
        self.staging = None;
        self.replies.push_back(Message::Refuse {
            key: key.clone(),
            reason: reason.to_string(),
        });
    }

    /// The next change for the daemon. Drain these before [`Replica::poll_message`]: what is
    /// acknowledged has been applied.
    pub fn poll_change(&mut self) -> Option<Applied> {
        self.changes.pop_front()
    }

    /// The next message for the active node.
    pub fn poll_message(&mut self) -> Option<Message> {
        if let Some(reply) = self.replies.pop_front() {
            return Some(reply);
        }
        let told = self.acked == Some(self.applied);
        if !self.following || !self.complete || self.staging.is_some() || told {
            return None;
        }
        self.acked = Some(self.applied);
        Some(Message::Ack {
            stream: self.stream,
            position: self.applied,
        })
    }

    /// The connection is gone: what is here stays, and may be resumed.
    pub fn disconnected(&mut self) {
        self.staging = None;
        self.following = false;
        self.replies.clear();
    }

    /// True when the replica holds everything the active node had sent: a snapshot and every
    /// change since, without a gap.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// The stream it replicates and the position reached; [`Epoch::NONE`] when incomplete.
    #[must_use]
    pub const fn position(&self) -> (Epoch, u64) {
        match self.complete {
            true => (self.stream, self.applied),
            false => (Epoch::NONE, 0),
        }
    }

    /// Every value, with the time since it was written.
    pub fn values(&self, now: Duration) -> impl Iterator<Item = (&Record, Duration)> {
        self.live
            .values()
            .map(move |held| (&held.record, now.saturating_sub(held.written)))
    }

    /// Takes the values out: a standby becomes active. The replica is empty and incomplete
    /// afterwards.
    pub fn take_values(&mut self, now: Duration) -> Vec<(Record, Duration)> {
        self.disconnected();
        self.complete = false;
        self.stream = Epoch::NONE;
        self.applied = 0;
        self.changes.clear();
        core::mem::take(&mut self.live)
            .into_values()
            .map(|held| (held.record, now.saturating_sub(held.written)))
            .collect()
    }

    /// This node was active, and what it wrote is not a replica of anything: forgets all, but
    /// for the ceilings and edges that no replica may go below.
    pub fn begin_anew(&mut self, written: impl IntoIterator<Item = Record>) {
        self.own = written
            .into_iter()
            .filter(|record| matches!(record.key.kind(), Kind::SequenceCeiling | Kind::ReplayEdge))
            .map(|record| (record.key.clone(), record))
            .collect();
        self.disconnected();
        self.complete = false;
        self.stream = Epoch::NONE;
        self.applied = 0;
        self.live.clear();
        self.changes.clear();
    }

    /// The value of one key.
    #[must_use]
    pub fn value(&self, key: &Key) -> Option<&Record> {
        self.live.get(key).map(|held| &held.record)
    }

    /// What went wrong so far.
    #[must_use]
    pub const fn counters(&self) -> &ReplicaCounters {
        &self.counters
    }
}
