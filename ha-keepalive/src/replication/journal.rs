//! The active node's side: the state to replicate, and how far the standby has followed.
//!
//! The journal holds the newest value of every key and a queue of keys that changed. A key that
//! changes again before it was sent is sent once: whatever the standby or the connection does,
//! the queue never holds more than one entry per key, and writing never waits for it.
//!
//! ```text
//!   put / delete --> live values, tombstones --> queue (one entry a key) --> in flight --> acked
//!                        |                                                                 |
//!                        '-- snapshot: a cursor over the keys, then the queue        commit points
//! ```

use core::ops::Bound;
use core::time::Duration;
use std::collections::BTreeMap;

use serde::Serialize;

use super::commit::{Commit, CommitPoints};
use super::in_flight::{InFlight, Lag};
use super::message::{Change, Message};
use super::record::{Key, Record};
use crate::vocabulary::Epoch;

/// Bounds of replication; the defaults are meant to be left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a commit point waits for the acknowledgement.
    pub commit_wait: Duration,
    /// How old an unacknowledged record may be before the pair is out of sync.
    pub ack_patience: Duration,
    /// How long a connection may make no progress before it is torn down and dialled again.
    pub stall_limit: Duration,
    /// Deletions remembered for a standby that is behind; more force a new snapshot.
    pub max_tombstones: usize,
    /// Messages sent and not yet acknowledged.
    pub window: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            commit_wait: Duration::from_millis(50),
            ack_patience: Duration::from_millis(500),
            stall_limit: Duration::from_secs(5),
            max_tombstones: 16_384,
            window: 1024,
        }
    }
}

/// How a standby follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Following {
    /// No standby is connected.
    Alone,
    /// A snapshot is under way.
    Snapshot,
    /// Snapshot done; something is older than the ack patience.
    Behind,
    /// Everything older than the ack patience is acknowledged.
    InSync,
    /// The standby refused a record; it is not asked again until a snapshot starts.
    Refused,
}

#[derive(Debug, Clone)]
struct Entry {
    record: Record,
    position: u64,
    written: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Link {
    Down,
    /// `None`: begin not sent yet. `Some(None)`: before the first key.
    Snapshot(Option<Option<Key>>),
    /// Resume not sent yet.
    Resume,
    Deltas,
    Refused,
}

/// See the module.
#[derive(Debug)]
pub struct Journal {
    limits: Limits,
    stream: Epoch,
    position: u64,
    live: BTreeMap<Key, Entry>,
    dead: BTreeMap<Key, u64>,
    queue: BTreeMap<u64, (Key, Duration)>,
    queued: BTreeMap<Key, u64>,
    queued_bytes: u64,
    in_flight: InFlight,
    link: Link,
    index: u64,
    acked: u64,
    /// Deletions before this are forgotten: a replica that ended earlier needs a snapshot.
    resumable_from: u64,
    /// Position of the snapshot's end; in sync not before this is acknowledged.
    snapshot_end: Option<u64>,
    progress: Duration,
    late: bool,
    commits: CommitPoints,
    snapshots: u64,
}

impl Journal {
    /// An empty journal for the claim `stream`.
    #[must_use]
    pub fn new(stream: Epoch, limits: Limits) -> Self {
        Self {
            limits,
            stream,
            position: 0,
            live: BTreeMap::new(),
            dead: BTreeMap::new(),
            queue: BTreeMap::new(),
            queued: BTreeMap::new(),
            queued_bytes: 0,
            in_flight: InFlight::default(),
            link: Link::Down,
            index: 0,
            acked: 0,
            resumable_from: 0,
            snapshot_end: None,
            progress: Duration::ZERO,
            late: false,
            commits: CommitPoints::default(),
            snapshots: 0,
        }
    }

    /// Writes a value and returns its log position. Never waits.
    pub fn put(&mut self, now: Duration, record: Record) -> u64 {
        self.position += 1;
        let key = record.key.clone();
        self.dead.remove(&key);
        self.live.insert(
            key.clone(),
            Entry {
                record,
                position: self.position,
                written: now,
            },
        );
        self.enqueue(now, key);
        self.position
    }

    /// Removes a value and returns the log position of the removal.
    pub fn delete(&mut self, now: Duration, key: &Key) -> u64 {
        if self.live.remove(key).is_none() {
            return self.position;
        }
        self.position += 1;
        if self.link == Link::Snapshot(None) {
            // Nothing has been sent yet that would have to be taken back.
            self.unqueue(key);
            self.resumable_from = self.position;
            return self.position;
        }
        if self.dead.len() >= self.limits.max_tombstones {
            // A standby that far behind gets everything anew; nothing is remembered for it.
            self.forget_deletions();
            if matches!(self.link, Link::Deltas | Link::Resume | Link::Snapshot(_)) {
                self.begin_snapshot(now);
            }
            return self.position;
        }
        self.dead.insert(key.clone(), self.position);
        self.enqueue(now, key.clone());
        self.position
    }

    fn forget_deletions(&mut self) {
        self.dead.clear();
        self.resumable_from = self.position;
    }

    fn enqueue(&mut self, now: Duration, key: Key) {
        self.unqueue(&key);
        if matches!(self.link, Link::Down | Link::Refused) {
            return;
        }
        self.queued_bytes += self.size_of(&key);
        self.queued.insert(key.clone(), self.position);
        self.queue.insert(self.position, (key, now));
    }

    fn unqueue(&mut self, key: &Key) {
        if let Some(position) = self.queued.remove(key) {
            self.queue.remove(&position);
            self.queued_bytes = self.queued_bytes.saturating_sub(self.size_of(key));
        }
    }

    fn size_of(&self, key: &Key) -> u64 {
        let size = self.live.get(key).map_or(32, |entry| entry.record.size());
        size as u64
    }

    /// A standby is connected that holds `stream` up to `position`, or nothing of use.
    pub fn standby_connected(&mut self, now: Duration, stream: Epoch, position: u64) {
        let resumable =
            stream == self.stream && (self.resumable_from..=self.position).contains(&position);
        self.reset_link(now);
        if !resumable || self.stream == Epoch::NONE {
            self.begin_snapshot(now);
            return;
        }
        self.link = Link::Resume;
        self.acked = position;
        let missed: BTreeMap<u64, (Key, Duration)> = self
            .live
            .iter()
            .filter(|(_, entry)| entry.position > position)
            .map(|(key, entry)| (entry.position, (key.clone(), entry.written)))
            .chain(
                self.dead
                    .iter()
                    .filter(|(_, at)| **at > position)
                    .map(|(key, at)| (*at, (key.clone(), now))),
            )
            .collect();
        for (position, (key, _)) in &missed {
            self.queued_bytes += self.size_of(key);
            self.queued.insert(key.clone(), *position);
        }
        self.queue = missed;
    }

    /// The standby asked for a snapshot, or must get one.
    pub fn begin_snapshot(&mut self, now: Duration) {
        // A position of its own: an acknowledgement that is still under way cannot be mistaken
        // for that of the snapshot.
        self.position += 1;
        self.reset_link(now);
        self.forget_deletions();
        self.link = Link::Snapshot(None);
        self.snapshots += 1;
    }

    /// The connection is gone.
    pub fn standby_gone(&mut self, now: Duration) {
        self.reset_link(now);
        self.link = Link::Down;
    }

    /// The standby cannot apply a record.
    pub fn refused(&mut self, now: Duration) {
        self.reset_link(now);
        self.link = Link::Refused;
    }

    fn reset_link(&mut self, now: Duration) {
        self.queue.clear();
        self.queued.clear();
        self.queued_bytes = 0;
        self.in_flight = InFlight::default();
        self.index = 0;
        self.snapshot_end = None;
        self.late = false;
        self.progress = now;
    }

    /// Everything up to `position` of `stream` is applied at the standby.
    pub fn acknowledged(&mut self, now: Duration, stream: Epoch, position: u64) {
        if stream != self.stream || position > self.position || self.link == Link::Down {
            return;
        }
        self.progress = now;
        self.acked = self.acked.max(position);
        self.in_flight.acknowledged(position);
        self.dead.retain(|_, at| *at > position);
        self.resumable_from = self.resumable_from.max(position);
        if self.snapshot_end.is_some_and(|end| end <= position) {
            self.snapshot_end = None;
        }
        if self.late && self.lag(now).age <= self.limits.ack_patience / 2 {
            self.late = false;
        }
    }

    /// The next message for the standby, if there is one and the window is open. The caller
    /// asks only while the connection takes more.
    pub fn poll_message(&mut self, now: Duration) -> Option<Message> {
        if self.in_flight.len() >= self.limits.window {
            return None;
        }
        match &self.link {
            Link::Down | Link::Refused => None,
            Link::Resume => {
                self.link = Link::Deltas;
                let stream = self.stream;
                Some(Message::Resume { stream })
            }
            Link::Snapshot(None) => {
                self.link = Link::Snapshot(Some(None));
                let stream = self.stream;
                Some(Message::SnapshotBegin { stream })
            }
            Link::Snapshot(Some(cursor)) => {
                let cursor = cursor.clone();
                Some(self.next_of_snapshot(now, cursor))
            }
            Link::Deltas => self.next_delta(now),
        }
    }

    fn next_of_snapshot(&mut self, now: Duration, cursor: Option<Key>) -> Message {
        self.progress = now;
        let from = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.live.range((from, Bound::Unbounded)).next();
        let next = next.map(|(key, entry)| (key.clone(), entry.position));
        let Some((key, position)) = next else {
            // What changed meanwhile is in the queue and follows as deltas.
            let position = self
                .queue
                .keys()
                .next()
                .map_or(self.position, |first| first - 1);
            self.link = Link::Deltas;
            self.snapshot_end = Some(position);
            self.index += 1;
            self.fly(now, position, 0, now);
            let index = self.index;
            return Message::SnapshotEnd { index, position };
        };
        self.link = Link::Snapshot(Some(Some(key.clone())));
        self.unqueue(&key);
        self.delta(now, position, &key)
    }

    fn next_delta(&mut self, now: Duration) -> Option<Message> {
        let (position, (key, _)) = self.queue.pop_first()?;
        self.queued.remove(&key);
        self.queued_bytes = self.queued_bytes.saturating_sub(self.size_of(&key));
        Some(self.delta(now, position, &key))
    }

    fn delta(&mut self, now: Duration, position: u64, key: &Key) -> Message {
        self.index += 1;
        let (change, bytes, written) = match self.live.get(key) {
            Some(entry) => {
                let change = Change::Put {
                    record: entry.record.clone(),
                    age: now.saturating_sub(entry.written),
                };
                (change, entry.record.size(), entry.written)
            }
            None => (Change::Delete(key.clone()), 32, now),
        };
        // Within a snapshot, positions are not in order; its end is what is acknowledged.
        if self.link == Link::Deltas {
            self.fly(now, position, bytes, written);
        }
        Message::Delta {
            index: self.index,
            position,
            change,
        }
    }

    fn fly(&mut self, now: Duration, position: u64, bytes: usize, written: Duration) {
        if self.in_flight.is_empty() {
            self.progress = now;
        }
        self.in_flight.sent(position, bytes, written);
    }

    /// True when changes wait to be sent.
    #[must_use]
    pub fn has_queued(&self) -> bool {
        !self.queue.is_empty() || matches!(self.link, Link::Snapshot(_) | Link::Resume)
    }

    /// Waits, bounded, until the standby has everything up to `position`: [`Journal::poll_commit`]
    /// tells the outcome.
    pub fn commit(&mut self, now: Duration, position: u64) {
        self.commits
            .wait_for(position, now + self.limits.commit_wait);
    }

    /// Gives the commit points up that are not decided: their positions.
    pub fn give_commits_up(&mut self) -> impl Iterator<Item = u64> {
        core::mem::take(&mut self.commits).into_positions()
    }

    /// The next commit point that is decided: its position and how it ended.
    pub fn poll_commit(&mut self, now: Duration) -> Option<(u64, Commit)> {
        if !self.commits.has_decided() {
            let in_sync = self.following(now) == Following::InSync;
            self.late |= self.commits.decide(now, self.acked, in_sync);
        }
        self.commits.poll()
    }

    /// How the standby follows as of `now`.
    #[must_use]
    pub fn following(&self, now: Duration) -> Following {
        match self.link {
            Link::Down => Following::Alone,
            Link::Refused => Following::Refused,
            Link::Snapshot(_) => Following::Snapshot,
            Link::Resume | Link::Deltas if self.snapshot_end.is_some() => Following::Snapshot,
            Link::Resume => Following::Behind,
            Link::Deltas if self.late || self.lag(now).age > self.limits.ack_patience => {
                Following::Behind
            }
            Link::Deltas => Following::InSync,
        }
    }

    /// What is not acknowledged yet.
    #[must_use]
    pub fn lag(&self, now: Duration) -> Lag {
        let in_flight = self.in_flight.oldest();
        let queued = self.queue.values().next().map(|(_, written)| *written);
        let oldest = [in_flight, queued].into_iter().flatten().min();
        Lag {
            records: self.in_flight.len() + self.queue.len(),
            bytes: self.in_flight.bytes() + self.queued_bytes,
            age: oldest.map_or(Duration::ZERO, |oldest| now.saturating_sub(oldest)),
        }
    }

    /// True when the connection takes no more although something waits: dial again.
    #[must_use]
    pub fn is_stalled(&self, now: Duration) -> bool {
        let waits = !self.in_flight.is_empty() || matches!(self.link, Link::Snapshot(_));
        waits && now.saturating_sub(self.progress) > self.limits.stall_limit
    }

    /// When [`Journal::poll_commit`] or [`Journal::following`] may change without any input.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let commit = self.commits.deadline();
        let oldest = self.in_flight.oldest();
        let late = oldest
            .filter(|_| !self.late)
            .map(|written| written + self.limits.ack_patience + Duration::from_millis(1));
        [commit, late].into_iter().flatten().min()
    }

    /// The stream, the position written, and the position acknowledged.
    #[must_use]
    pub const fn positions(&self) -> (Epoch, u64, u64) {
        (self.stream, self.position, self.acked)
    }

    /// The newest value of every key, with the time since it was written.
    pub fn values(&self, now: Duration) -> impl Iterator<Item = (&Record, Duration)> {
        self.live
            .values()
            .map(move |entry| (&entry.record, now.saturating_sub(entry.written)))
    }

    /// The newest value of one key.
    #[must_use]
    pub fn value(&self, key: &Key) -> Option<&Record> {
        self.live.get(key).map(|entry| &entry.record)
    }

    /// Everything written so far, leaving the journal empty.
    pub fn into_values(self, now: Duration) -> Vec<(Record, Duration)> {
        self.live
            .into_values()
            .map(|entry| (entry.record, now.saturating_sub(entry.written)))
            .collect()
    }

    /// Takes values over that were written `age` ago: a standby becomes active.
    pub fn adopt(&mut self, now: Duration, values: impl IntoIterator<Item = (Record, Duration)>) {
        for (record, age) in values {
            let written = now.saturating_sub(age);
            self.put(written, record);
        }
    }

    /// How many snapshots were started.
    #[must_use]
    pub const fn snapshots(&self) -> u64 {
        self.snapshots
    }
}
