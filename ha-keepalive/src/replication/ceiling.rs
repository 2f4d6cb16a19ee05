//! Sequence numbers in acknowledged blocks (invariant I2).
//!
//! The active node sends number N only once the standby has acknowledged a ceiling >= N, so the
//! standby, starting at ceiling + 1, is above everything the peer may have accepted. A forward
//! jump is always acceptable to a receiver (RFC 4303 §3.4.3), and a jump costs a block of 2^32:
//! so blocks are generous, sized to last for many round trips at the measured rate and at a rate
//! that may rise out of nothing. No packet waits for an acknowledgement.
//!
//! ```text
//!          used            ceiling acknowledged      asked
//!   --------|-----------------------|------------------|--------> numbers
//!           |<- at least half a block before it is     |
//!           |   asked for: many round trips ---------->|
//! ```
//! Without a standby in sync the numbers run free, and the next takeover is a cold one.

use core::time::Duration;
use std::collections::BTreeMap;

use ipsec_types::SecretBytes;

use super::record::{Key, Kind, Record};
use crate::wire::{Reader, Writer};

/// The body of a [`Kind::SequenceCeiling`] record; its name is the outbound SA's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ceiling {
    /// The active node sends nothing above this.
    pub ceiling: u64,
    /// The last number sent when this was written. Exact after a planned hand-over.
    pub used: u64,
    /// The last number of the SA's number space.
    pub last: u64,
}

impl Ceiling {
    /// Version of the encoding.
    pub const VERSION: u16 = 1;

    /// The record of one outbound SA.
    ///
    /// # Errors
    /// The name of the SA is too long.
    pub fn record(self, sa: &[u8]) -> Result<Record, super::record::TooLarge> {
        let mut out = Writer::with_capacity(24);
        out.u64(self.ceiling).u64(self.used).u64(self.last);
        let key = Key::new(Kind::SequenceCeiling, sa)?;
        Record::new(key, Self::VERSION, SecretBytes::new(out.finish()))
    }

    /// Neither field below that of `floor`: each of them is where one kind of takeover goes on.
    #[must_use]
    pub fn raised_to(self, floor: Self) -> Self {
        Self {
            ceiling: self.ceiling.max(floor.ceiling),
            used: self.used.max(floor.used),
            last: self.last,
        }
    }

    /// Reads a record of this kind.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        if record.key.kind() != Kind::SequenceCeiling || record.version != Self::VERSION {
            return None;
        }
        let mut reader = Reader::new(record.body.expose());
        let ceiling = reader.u64().ok()?;
        let used = reader.u64().ok()?;
        let last = reader.u64().ok()?;
        reader.is_empty().then_some(Self {
            ceiling,
            used,
            last,
        })
    }
}

/// Packets per second that a tunnel may jump to between two reports: more than one core seals.
const SURGE_RATE: u64 = 200_000;
/// Packets per second that no node can exceed: bounds what a partner may have sent unheard.
const UTMOST_RATE: u64 = 4_000_000;

/// Number of packets at `rate` per second in `time`, at least 1.
fn packets(rate: u64, time: Duration) -> u64 {
    let packets = u128::from(rate) * time.as_micros() / 1_000_000;
    u64::try_from(packets).unwrap_or(u64::MAX).max(1)
}

/// One outbound SA.
#[derive(Debug, Clone, Copy)]
struct Sa {
    /// The last number of its number space.
    last: u64,
    used: u64,
    reported: Duration,
    rate: u64,
    /// What the standby has acknowledged.
    granted: u64,
    /// What it was asked for, and the log position of the question.
    asked: Option<(u64, u64)>,
}

/// A new limit for the data plane: the last number this SA may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Name of the SA.
    pub sa: Vec<u8>,
    /// Inclusive; `u64::MAX` when the numbers run free.
    pub last: u64,
}

/// Whether numbers are bound to ceilings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Running {
    /// No standby counts on any ceiling.
    Free,
    /// Ceilings are asked for; the numbers still run free.
    Binding,
    /// Nothing above a ceiling is sent.
    Bound,
}

/// The active node's ceilings of all its outbound SAs.
#[derive(Debug)]
pub struct Ledger {
    /// What a block must outlast: the time in which the standby may still count on its ceilings
    /// after we have lost it.
    horizon: Duration,
    running: Running,
    sas: BTreeMap<Vec<u8>, Sa>,
    limits: Vec<Limit>,
}

impl Ledger {
    /// A ledger without SAs, running free. `horizon` is how long blocks must last.
    #[must_use]
    pub const fn new(horizon: Duration) -> Self {
        Self {
            horizon,
            running: Running::Free,
            sas: BTreeMap::new(),
            limits: Vec::new(),
        }
    }

    /// Whether numbers are bound.
    #[must_use]
    pub const fn running(&self) -> Running {
        self.running
    }

    /// A new SA: the last number sent so far (0 for none) and the last of its number space.
    /// Returns the ceiling to write. A standby that has never heard of a ceiling does not use
    /// the SA at all, so the first block needs no acknowledgement to be safe.
    pub fn add(&mut self, now: Duration, name: &[u8], used: u64, last: u64) -> Ceiling {
        let sa = Sa {
            last,
            used,
            reported: now,
            rate: 0,
            granted: 0,
            asked: None,
        };
        let ceiling = self.ceiling_for(&sa);
        let granted = ceiling.ceiling;
        self.sas.insert(name.to_vec(), Sa { granted, ..sa });
        self.limit(name, granted);
        ceiling
    }

    /// An SA that comes with the ceiling its former owner left: nothing above it may be sent
    /// while anybody still counts on it.
    pub fn inherit(&mut self, now: Duration, name: &[u8], left: Ceiling) {
        let sa = Sa {
            last: left.last,
            used: left.used,
            reported: now,
            rate: 0,
            granted: left.ceiling,
            asked: None,
        };
        self.sas.insert(name.to_vec(), sa);
    }

    /// The SA goes on above `used`: what lies between is given up.
    pub fn jump(&mut self, name: &[u8], used: u64) {
        if let Some(sa) = self.sas.get_mut(name) {
            sa.used = sa.used.max(used);
            sa.asked = None;
        }
    }

    /// All SAs are gone.
    pub fn clear(&mut self) {
        self.sas.clear();
        self.limits.clear();
        self.running = Running::Free;
    }

    /// The SA is gone.
    pub fn remove(&mut self, name: &[u8]) {
        self.sas.remove(name);
    }

    fn ceiling_for(&self, sa: &Sa) -> Ceiling {
        let rate = sa.rate.saturating_mul(2).max(SURGE_RATE);
        let block = packets(rate, self.horizon).saturating_mul(2);
        Ceiling {
            ceiling: sa.used.saturating_add(block).min(sa.last),
            used: sa.used,
            last: sa.last,
        }
    }

    /// The data plane has sent up to `used`. Returns the ceiling to write, if it is time.
    pub fn report(&mut self, now: Duration, name: &[u8], used: u64) -> Option<Ceiling> {
        let sa = self.sas.get_mut(name)?;
        let elapsed = now.saturating_sub(sa.reported);
        if elapsed >= Duration::from_millis(5) {
            let sent = u128::from(used.saturating_sub(sa.used)) * 1_000_000 / elapsed.as_micros();
            let rate = u64::try_from(sent).unwrap_or(u64::MAX);
            // Falls slowly, rises at once.
            sa.rate = rate.max(sa.rate - sa.rate / 8);
            sa.reported = now;
        }
        sa.used = sa.used.max(used);
        let sa = *sa;
        if self.running == Running::Free || sa.asked.is_some() {
            return None;
        }
        let ceiling = self.ceiling_for(&sa);
        let block = ceiling.ceiling - sa.used;
        let left = sa.granted.saturating_sub(sa.used);
        (left < block / 2 && ceiling.ceiling > sa.granted).then_some(ceiling)
    }

    /// A ceiling of [`Ledger::report`] or [`Ledger::bind`] stands in the journal.
    pub fn asked(&mut self, name: &[u8], ceiling: Ceiling, position: u64) {
        if let Some(sa) = self.sas.get_mut(name) {
            sa.asked = Some((ceiling.ceiling, position));
        }
    }

    /// The standby has acknowledged everything up to `position`.
    pub fn acknowledged(&mut self, position: u64) {
        let mut raised = Vec::new();
        for (name, sa) in &mut self.sas {
            if let Some((ceiling, asked_at)) = sa.asked
                && asked_at <= position
            {
                sa.granted = sa.granted.max(ceiling);
                sa.asked = None;
                raised.push((name.clone(), sa.granted));
            }
        }
        for (name, granted) in raised {
            self.limit(&name, granted);
        }
        self.try_bind();
    }

    fn limit(&mut self, name: &[u8], last: u64) {
        if self.running == Running::Bound {
            self.limits.push(Limit {
                sa: name.to_vec(),
                last,
            });
        }
    }

    /// A standby follows: asks ceilings for all SAs, to be written by the caller. Binding is
    /// complete once all are acknowledged.
    pub fn bind(&mut self) -> Vec<(Vec<u8>, Ceiling)> {
        if self.running != Running::Free {
            return Vec::new();
        }
        self.running = Running::Binding;
        let asked = self
            .sas
            .iter()
            .map(|(name, sa)| (name.clone(), self.ceiling_for(sa)))
            .collect();
        if self.sas.is_empty() {
            self.hold();
        }
        asked
    }

    /// The standby is gone before binding was complete.
    pub fn unbind(&mut self) {
        if self.running == Running::Binding {
            self.free();
        }
    }

    fn try_bind(&mut self) {
        if self.running != Running::Binding {
            return;
        }
        // An SA at the end of its number space must be replaced anyway; it cannot hold this up.
        let all = self
            .sas
            .values()
            .all(|sa| sa.asked.is_none() && (sa.used < sa.granted || sa.granted >= sa.last));
        if all {
            self.hold();
        }
    }

    /// Nothing above the ceilings is sent from now on.
    pub fn hold(&mut self) {
        self.running = Running::Bound;
        let limits = self.sas.iter().map(|(name, sa)| Limit {
            sa: name.clone(),
            last: sa.granted,
        });
        self.limits = limits.collect();
    }

    /// Nobody counts on any ceiling any more.
    pub fn free(&mut self) {
        if self.running == Running::Bound {
            self.limits = self
                .sas
                .keys()
                .map(|name| Limit {
                    sa: name.clone(),
                    last: u64::MAX,
                })
                .collect();
        }
        self.running = Running::Free;
        for sa in self.sas.values_mut() {
            sa.asked = None;
        }
    }

    /// Limits that the data plane must be told.
    pub fn poll_limits(&mut self) -> Vec<Limit> {
        core::mem::take(&mut self.limits)
    }

    /// Where every SA goes on after an absence in which a partner may have taken over, above
    /// whatever ceiling it knew, and sent for all that time.
    ///
    /// An SA asks to be replaced at 7/8 of its number space, and whoever holds it makes the new
    /// one before it breaks the old one. So no partner has sent much above 7/8, however long it
    /// was alone; and an SA that goes on at 15/16 is replaced at once and in peace.
    pub fn far_above(&self, absence: Duration) -> impl Iterator<Item = (&[u8], u64)> {
        let jump = packets(UTMOST_RATE, absence);
        self.sas.iter().map(move |(name, sa)| {
            let asked = sa.asked.map_or(0, |(ceiling, _)| ceiling);
            let highest = sa.used.max(sa.granted).max(asked);
            let above = highest.saturating_add(jump).saturating_add(1);
            let first = match highest < sa.last / 8 * 7 {
                true => above.min(sa.last / 16 * 15),
                false => above,
            };
            (name.as_slice(), first)
        })
    }

    /// The highest ceiling a standby may know of, and the last number reported, of one SA.
    #[must_use]
    pub fn standing(&self, name: &[u8]) -> Option<Ceiling> {
        self.sas.get(name).map(|sa| Ceiling {
            ceiling: sa
                .asked
                .map_or(0, |(asked, _)| asked)
                .max(sa.granted)
                .max(sa.used),
            used: sa.used,
            last: sa.last,
        })
    }
}
