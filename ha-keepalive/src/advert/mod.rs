//! Adverts: what each node tells the other, many times a second, over every path.
//!
//! An advert is a fixed-length datagram with an HMAC-SHA-256 over all of it. Three things stand
//! between the network and the election:
//!
//! 1. [`codec`]: length, magic, version, MAC, ranges; everything else is counted and forgotten.
//! 2. [`freshness`]: an advert of a known session must have a higher counter than the last one
//!    on its path; a new session must answer a challenge that was sent after it first appeared.
//!    So a recording of an old session is not believed, not even by a node that has just
//!    restarted and remembers nothing.
//! 3. [`Inbox`]: both together, with a counter for every reason of refusal.

mod codec;
mod freshness;
#[cfg(test)]
mod tests;

use core::time::Duration;

pub use codec::{ADVERT_LEN, Sealer};
pub use freshness::{Heard, Outbox};
use serde::Serialize;

use crate::vocabulary::{
    AdvertInterval, Epoch, Member, PathId, Paths, Priority, Revision, SessionId,
};
use crate::wire::Truncated;
use freshness::{Freshness, Verdict};

/// What a node says it is. The finer states of the election are private to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Just started: listens.
    Init,
    /// Mute.
    Standby,
    /// Holds the lease and speaks for the virtual address.
    Active,
    /// Was active, found its lease expired, is silent and asks whether it may go on.
    Asking,
}

/// What the sender knows about replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct SyncReport {
    /// Active: "you may take over hot". Standby: "I hold a complete, current replica".
    pub in_sync: bool,
    /// The stream: the epoch of the active node that feeds it.
    pub stream: Epoch,
    /// Active: acknowledged log position. Standby: applied log position.
    pub position: u64,
    /// Records written and not yet acknowledged.
    pub lag_records: u32,
    /// Their size in bytes.
    pub lag_bytes: u64,
    /// Age of the oldest of them, in whole milliseconds.
    pub lag_ms: u32,
}

/// One advert, as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advert {
    /// The sender.
    pub member: Member,
    /// The path it was sent on; the copy for the other path differs here and in the MAC only.
    pub path: PathId,
    /// What the sender is.
    pub role: Role,
    /// The sender has left on purpose and will not send again (priority 0 on the wire).
    pub resigned: bool,
    /// The sender wants an advert back at once.
    pub wants_answer: bool,
    /// Links, health and the peers' reachability allow the sender to be active.
    pub fit: bool,
    /// The sender's gate is open: the address is there, and it answers and sends.
    pub serving: bool,
    /// Preference among equals.
    pub priority: Priority,
    /// How often the sender sends.
    pub interval: AdvertInterval,
    /// The sender's run.
    pub session: SessionId,
    /// Strictly increasing within the session, the same on both paths.
    pub counter: u64,
    /// Active and asking: the epoch of the claim. Others: the last one they know of.
    pub epoch: Epoch,
    /// The next claim of anybody must be above this (see [`Epoch::GRANT`]).
    pub floor: Epoch,
    /// The configuration in force.
    pub revision: Revision,
    /// The newest advert heard from the session the sender believes in.
    pub echo: Option<Heard>,
    /// The newest advert heard from a session the sender does not believe in yet: a challenge.
    pub greeting: Option<Heard>,
    /// Replication.
    pub sync: SyncReport,
}

impl Advert {
    /// The counter of the newest of our adverts that the sender had heard, if it names our
    /// session at all.
    #[must_use]
    pub fn has_heard(&self, session: SessionId) -> Option<u64> {
        [self.echo, self.greeting]
            .into_iter()
            .flatten()
            .filter(|heard| heard.session == session)
            .map(|heard| heard.counter)
            .max()
    }
}

/// Why a datagram on an advert port changed nothing (invariants I5 and I8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Not exactly [`ADVERT_LEN`] bytes.
    #[error("wrong length for an advert")]
    Length,
    /// Does not begin like an advert.
    #[error("not an advert")]
    Foreign,
    /// Another protocol version; the MAC is not looked at.
    #[error("advert of another version")]
    Version,
    /// The MAC does not verify: another secret, or a forgery.
    #[error("advert not authenticated by the pair secret")]
    Mac,
    /// Authentic, with a field outside its range.
    #[error("advert with an illegal field")]
    Field,
    /// Our own advert came back, or both nodes are configured as the same member.
    #[error("advert of our own member id")]
    Reflected,
    /// Authentic, and sent on another path.
    #[error("advert for another path")]
    WrongPath,
    /// The counter is not above the last one of this session on this path.
    #[error("replayed advert")]
    Replayed,
    /// A session that has not answered our challenge yet.
    #[error("advert of an unproven session")]
    Unproven,
}

impl From<Truncated> for Refusal {
    fn from(_: Truncated) -> Self {
        Self::Length
    }
}

impl Refusal {
    /// Every reason, in the order of [`Counters`].
    pub const ALL: [Self; 9] = [
        Self::Length,
        Self::Foreign,
        Self::Version,
        Self::Mac,
        Self::Field,
        Self::Reflected,
        Self::WrongPath,
        Self::Replayed,
        Self::Unproven,
    ];
}

/// Datagrams on the advert ports, by fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counters {
    /// Believed.
    pub accepted: u64,
    /// [`Refusal::Length`].
    pub length: u64,
    /// [`Refusal::Foreign`].
    pub foreign: u64,
    /// [`Refusal::Version`].
    pub version: u64,
    /// [`Refusal::Mac`].
    pub mac: u64,
    /// [`Refusal::Field`].
    pub field: u64,
    /// [`Refusal::Reflected`].
    pub reflected: u64,
    /// [`Refusal::WrongPath`].
    pub wrong_path: u64,
    /// [`Refusal::Replayed`].
    pub replayed: u64,
    /// [`Refusal::Unproven`].
    pub unproven: u64,
}

impl Counters {
    /// The counter of one reason.
    #[must_use]
    pub const fn of(&self, refusal: Refusal) -> u64 {
        match refusal {
            Refusal::Length => self.length,
            Refusal::Foreign => self.foreign,
            Refusal::Version => self.version,
            Refusal::Mac => self.mac,
            Refusal::Field => self.field,
            Refusal::Reflected => self.reflected,
            Refusal::WrongPath => self.wrong_path,
            Refusal::Replayed => self.replayed,
            Refusal::Unproven => self.unproven,
        }
    }

    const fn count(&mut self, refusal: Refusal) {
        let counter = match refusal {
            Refusal::Length => &mut self.length,
            Refusal::Foreign => &mut self.foreign,
            Refusal::Version => &mut self.version,
            Refusal::Mac => &mut self.mac,
            Refusal::Field => &mut self.field,
            Refusal::Reflected => &mut self.reflected,
            Refusal::WrongPath => &mut self.wrong_path,
            Refusal::Replayed => &mut self.replayed,
            Refusal::Unproven => &mut self.unproven,
        };
        *counter = counter.saturating_add(1);
    }
}

/// An advert that may be acted upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// What it says.
    pub advert: Advert,
    /// Newer than everything heard before; otherwise it is the second path's copy and only
    /// shows that this path works.
    pub newest: bool,
    /// The first one of a new run of the partner: the run before is over.
    pub restarted: bool,
}

/// Receives the partner's adverts and believes those that are authentic and fresh.
#[derive(Debug)]
pub struct Inbox {
    member: Member,
    paths: Paths,
    sealer: Sealer,
    freshness: Freshness,
    counters: Counters,
}

impl Inbox {
    /// For a node that is `member` and runs as `session`.
    #[must_use]
    pub fn new(member: Member, paths: Paths, session: SessionId, sealer: Sealer) -> Self {
        Self {
            member,
            paths,
            sealer,
            freshness: Freshness::new(session),
            counters: Counters::default(),
        }
    }

    /// Judges one datagram. `sent` is the counter of our own last advert: a new session is
    /// challenged with the next one.
    ///
    /// # Errors
    /// The [`Refusal`], which is also counted; nothing that outlives the call has changed, but
    /// for the bounded table of sessions under challenge.
    pub fn accept(
        &mut self,
        path: PathId,
        datagram: &[u8],
        sent: u64,
    ) -> Result<Accepted, Refusal> {
        let accepted = self.judge(path, datagram, sent);
        match accepted {
            Ok(_) => self.counters.accepted = self.counters.accepted.saturating_add(1),
            Err(refusal) => self.counters.count(refusal),
        }
        accepted
    }

    fn judge(&mut self, path: PathId, datagram: &[u8], sent: u64) -> Result<Accepted, Refusal> {
        let advert = self.sealer.open(datagram)?;
        if advert.member == self.member {
            return Err(Refusal::Reflected);
        }
        if advert.path != path || !self.paths.contains(path) {
            return Err(Refusal::WrongPath);
        }
        match self.freshness.judge(&advert, sent) {
            Verdict::Fresh { newest, restarted } => Ok(Accepted {
                advert,
                newest,
                restarted,
            }),
            Verdict::Replayed => Err(Refusal::Replayed),
            Verdict::Unproven => Err(Refusal::Unproven),
        }
    }

    /// What our next advert echoes: the newest advert of the believed session.
    #[must_use]
    pub const fn echo(&self) -> Option<Heard> {
        self.freshness.echo()
    }

    /// What our next advert challenges: the newest advert of an unproven session.
    #[must_use]
    pub fn greeting(&self) -> Option<Heard> {
        self.freshness.greeting()
    }

    /// Refusals and acceptances so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// RFC 9568 §6.1, Skew_Time: `((256 - priority) * interval) / 256`. The better node waits less.
#[must_use]
pub fn skew(priority: Priority, interval: AdvertInterval) -> Duration {
    interval.get() * (256 - u32::from(priority.get())) / 256
}

/// RFC 9568 §6.1, Active_Down_Interval: three intervals and the skew. `interval` is the slower
/// of the two nodes' intervals.
#[must_use]
pub fn patience(priority: Priority, interval: AdvertInterval) -> Duration {
    interval.get() * 3 + skew(priority, interval)
}

/// How long one advert sent entitles its sender to speak: two and a half of its intervals,
/// counted from the moment of sending. Every patience is more than three, counted from the
/// later moment of receiving, so the lease has always ended before the other node's patience
/// has (invariant I6).
#[must_use]
pub fn lease_length(interval: AdvertInterval) -> Duration {
    interval.get() * 5 / 2
}
