//! Which IVs a gateway may use: `member (1 bit) | epoch (15) | counter (48)` (invariant I1).
//!
//! A GCM nonce that occurs twice under one key gives the key's authentication away, so the two
//! gateways of a pair draw from disjoint halves, every activation of a gateway starts a fresh
//! epoch, and the counter never wraps. RFC 4106 §3.1 asks for uniqueness only, so this 64-bit
//! value is the explicit IV of AES-GCM. AES-CBC needs IVs that cannot be predicted (RFC 3602
//! §2): there the value is encrypted first, see `crypto/mod.rs`.

use serde::{Deserialize, Serialize};

use crate::sync::{AtomicU64, Ordering};

/// Bits of the counter.
const COUNTER_BITS: u32 = 48;
/// First value that is not a counter any more.
const COUNTER_END: u64 = 1 << COUNTER_BITS;

/// Which of the two gateways of a pair draws IVs. A gateway without a partner is [`Member::A`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Member {
    /// The half of the IV space whose top bit is 0.
    A,
    /// The half of the IV space whose top bit is 1.
    B,
}

/// Counts the activations of a gateway within the life of one SA; 15 bits.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(try_from = "u16", into = "u16")]
pub struct Epoch(u16);

/// The epoch does not fit into 15 bits, or there is none after the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the IV epoch does not fit into 15 bits; the SA must be replaced")]
pub struct EpochExhausted;

impl Epoch {
    /// Where a freshly negotiated SA starts: its keys were never used before.
    pub const FIRST: Self = Self(0);
    /// The last epoch of an SA.
    pub const LAST: Self = Self(0x7fff);

    /// Checks that the value fits.
    ///
    /// # Errors
    /// [`EpochExhausted`] above 0x7fff.
    pub const fn new(value: u16) -> Result<Self, EpochExhausted> {
        if value > Self::LAST.0 {
            Err(EpochExhausted)
        } else {
            Ok(Self(value))
        }
    }

    /// The epoch after this one.
    ///
    /// # Errors
    /// [`EpochExhausted`] after [`Epoch::LAST`].
    pub const fn successor(self) -> Result<Self, EpochExhausted> {
        Self::new(self.0 + 1)
    }

    /// The value, 0 to 0x7fff.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Epoch {
    type Error = EpochExhausted;

    fn try_from(value: u16) -> Result<Self, EpochExhausted> {
        Self::new(value)
    }
}

impl From<Epoch> for u16 {
    fn from(epoch: Epoch) -> Self {
        epoch.0
    }
}

/// Consecutive IVs that belong to whoever drew them.
#[derive(Debug, PartialEq, Eq)]
pub struct IvRun {
    /// The first IV; the others follow by adding 1, which never leaves the epoch.
    pub first: u64,
    /// How many.
    pub count: u32,
}

/// All counters of the epoch are used: the SA must be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all IVs of this epoch are used")]
pub struct IvExhausted;

/// The IVs that this gateway may use for one SA in one activation.
#[derive(Debug)]
pub struct IvPartition {
    /// `member | epoch` in place, counter bits zero.
    prefix: u64,
    counter: AtomicU64,
}

impl IvPartition {
    /// A partition whose counter starts at 0. The caller vouches that this gateway never had
    /// this epoch for this SA before.
    #[must_use]
    pub fn new(member: Member, epoch: Epoch) -> Self {
        let member_bit = match member {
            Member::A => 0,
            Member::B => 1 << 63,
        };
        Self {
            prefix: member_bit | u64::from(epoch.0) << COUNTER_BITS,
            counter: AtomicU64::new(0),
        }
    }

    /// Draws `count` IVs that nobody else will draw.
    ///
    /// # Errors
    /// [`IvExhausted`] when the epoch has not that many left; it then stays exhausted.
    pub fn draw(&self, count: u32) -> Result<IvRun, IvExhausted> {
        let first = self.counter.fetch_add(u64::from(count), Ordering::Relaxed);
        if first + u64::from(count) > COUNTER_END {
            // Park it where further draws can neither succeed nor overflow 64 bits.
            self.counter.store(COUNTER_END, Ordering::Relaxed);
            return Err(IvExhausted);
        }
        Ok(IvRun {
            first: self.prefix | first,
            count,
        })
    }

    /// The gateway that draws.
    #[must_use]
    pub const fn member(&self) -> Member {
        if self.prefix >> 63 == 0 {
            Member::A
        } else {
            Member::B
        }
    }

    /// The epoch it draws in.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        Epoch((self.prefix >> COUNTER_BITS) as u16 & Epoch::LAST.0)
    }

    /// How many IVs of the epoch are used.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.counter.load(Ordering::Relaxed).min(COUNTER_END)
    }

    /// Skips to a counter value, so that a test reaches the end of an epoch.
    #[doc(hidden)]
    pub fn skip_to(&self, counter: u64) {
        self.counter.fetch_max(counter, Ordering::Relaxed);
    }
}
