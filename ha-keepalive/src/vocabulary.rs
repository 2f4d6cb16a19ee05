//! The words of the pair: who, how often, how strong a claim.

use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// Which of the two gateways this is. It decides the half of the IV space (invariant I1), who
/// dials the sync connection, and the last tie of an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Member {
    /// IVs with the top bit 0; listens for the sync connection.
    A,
    /// IVs with the top bit 1; dials the sync connection.
    B,
}

impl Member {
    /// The partner.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The byte on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }

    /// The inverse of [`Member::to_wire`].
    #[must_use]
    pub const fn from_wire(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::A),
            1 => Some(Self::B),
            _ => None,
        }
    }
}

/// Numbers the activations of the pair: every claim to be active takes one above all that its
/// node has seen, used, or granted to a partner that may have used it (see [`Epoch::GRANT`]).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

impl Epoch {
    /// No activation yet.
    pub const NONE: Self = Self(0);

    /// How far a node advances its floor when it meets a new incarnation of its partner: the
    /// dead one may have activated that often, less one, without anybody hearing of it. A
    /// process that reaches the limit without having met its partner gives its SAs up.
    pub const GRANT: u64 = 16;

    /// The next claim.
    #[must_use]
    pub const fn successor(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The floor after meeting a new incarnation of the partner.
    #[must_use]
    pub const fn granted(self) -> Self {
        Self(self.0.saturating_add(Self::GRANT))
    }

    /// The 15-bit epoch of an IV (invariant I1) for an SA that was negotiated under `birth`;
    /// `None` when it does not fit and the SA must be replaced instead of continued.
    #[must_use]
    pub fn for_iv(self, birth: Self) -> Option<u16> {
        let distance = self.0.checked_sub(birth.0)?;
        u16::try_from(distance).ok().filter(|iv| *iv <= 0x7fff)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Preference among equals, 1 to 254; the higher one leads. On the wire 0 is a resignation
/// (RFC 9568 §5.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Priority(u8);

/// A value outside the documented range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOfRange {
    /// RFC 9568 §5.2.4 keeps 0 and 255 for itself.
    #[error("priority {0} is not within 1 to 254")]
    Priority(u8),
    /// Below 10 ms scheduling noise looks like death; above 10 s nobody would wait.
    #[error("advert interval {0:?} is not within 10 ms to 10 s")]
    AdvertInterval(Duration),
}

impl Priority {
    /// The default of RFC 9568 §5.2.4.
    pub const DEFAULT: Self = Self(100);

    /// Checks the range.
    ///
    /// # Errors
    /// [`OutOfRange::Priority`] for 0 and 255.
    pub const fn new(value: u8) -> Result<Self, OutOfRange> {
        match value {
            1..=254 => Ok(Self(value)),
            0 | 255 => Err(OutOfRange::Priority(value)),
        }
    }

    /// The value, 1 to 254.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Priority {
    type Error = OutOfRange;

    fn try_from(value: u8) -> Result<Self, OutOfRange> {
        Self::new(value)
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

/// Time between two adverts, 10 ms to 10 s, in whole microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Duration", into = "Duration")]
pub struct AdvertInterval(Duration);

impl AdvertInterval {
    /// The shortest.
    pub const MIN: Duration = Duration::from_millis(10);
    /// The longest.
    pub const MAX: Duration = Duration::from_secs(10);

    /// Checks the range.
    ///
    /// # Errors
    /// [`OutOfRange::AdvertInterval`] outside 10 ms to 10 s.
    pub fn new(interval: Duration) -> Result<Self, OutOfRange> {
        if interval < Self::MIN || interval > Self::MAX {
            return Err(OutOfRange::AdvertInterval(interval));
        }
        Ok(Self(interval))
    }

    /// The interval.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Microseconds, as adverts carry it.
    #[must_use]
    pub fn as_micros(self) -> u32 {
        // 10 s are 10^7 µs.
        u32::try_from(self.0.as_micros()).unwrap_or(u32::MAX)
    }
}

impl TryFrom<Duration> for AdvertInterval {
    type Error = OutOfRange;

    fn try_from(interval: Duration) -> Result<Self, OutOfRange> {
        Self::new(interval)
    }
}

impl From<AdvertInterval> for Duration {
    fn from(interval: AdvertInterval) -> Self {
        interval.0
    }
}

/// One of the one or two ways between the nodes: the sync link, the LAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PathId {
    /// The first configured path.
    First,
    /// The second, if there is one.
    Second,
}

impl PathId {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::First, Self::Second];

    /// 0 or 1: an index into two-element tables and the byte on the wire.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::First => 0,
            Self::Second => 1,
        }
    }

    /// The inverse of [`PathId::index`].
    #[must_use]
    pub const fn from_wire(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::First),
            1 => Some(Self::Second),
            _ => None,
        }
    }
}

/// How many paths the pair is configured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Paths {
    /// Only [`PathId::First`]. A cut of this one cable makes two active nodes.
    One,
    /// Both; only a cut of both makes two active nodes.
    Two,
}

impl Paths {
    /// The configured paths.
    #[must_use]
    pub fn ids(self) -> &'static [PathId] {
        match self {
            Self::One => &[PathId::First],
            Self::Two => &PathId::ALL,
        }
    }

    /// True when the path is configured.
    #[must_use]
    pub fn contains(self, path: PathId) -> bool {
        self.ids().contains(&path)
    }
}

/// Names one run of one daemon: random, drawn at start. It tells a restarted partner from the
/// one before, and a replayed advert from a fresh one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId(u64);

impl SessionId {
    /// Draws a session; 0 means "none" on the wire and is never drawn.
    #[must_use]
    pub fn draw(rng: &mut dyn rand_core::CryptoRng) -> Self {
        loop {
            if let Some(session) = Self::from_wire(rng.next_u64()) {
                return session;
            }
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u64 {
        self.0
    }

    /// 0 is no session.
    #[must_use]
    pub const fn from_wire(value: u64) -> Option<Self> {
        match value {
            0 => None,
            session => Some(Self(session)),
        }
    }
}

/// Counts the edits of the replicated configuration.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
pub struct Revision(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        assert!(Priority::new(0).is_err() && Priority::new(255).is_err());
        assert!(AdvertInterval::new(Duration::from_millis(9)).is_err());
        assert!(AdvertInterval::new(Duration::from_millis(10)).is_ok());
        assert!(AdvertInterval::new(Duration::from_millis(10_001)).is_err());
    }

    #[test]
    fn an_iv_epoch_has_fifteen_bits() {
        assert_eq!(Epoch(7).for_iv(Epoch(7)), Some(0));
        assert_eq!(Epoch(0x8006).for_iv(Epoch(7)), Some(0x7fff));
        assert_eq!(Epoch(0x8007).for_iv(Epoch(7)), None);
        assert_eq!(Epoch(6).for_iv(Epoch(7)), None);
    }
}
