//! What is replicated: opaque values under typed keys.

use core::fmt;

use ipsec_types::SecretBytes;
use serde::Serialize;

/// What a record is about. This crate looks into [`Kind::SequenceCeiling`] and
/// [`Kind::ReplayEdge`] only; everything else is the daemon's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Pair-wide configuration.
    Config,
    /// One configured connection.
    Connection,
    /// An IKE SA: cookies, keys, cipher state, DPD sequences, ports, remaining lifetime.
    IkeSa,
    /// A pair of ESP SAs: keys, SPIs, selectors, birth epoch, kilobyte counters.
    EspSa,
    /// [`super::Ceiling`] of one outbound SA.
    SequenceCeiling,
    /// [`super::Edge`] of one inbound SA.
    ReplayEdge,
    /// What changes often and is not worth a whole SA record: DPD and lifetime clocks.
    Clock,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Config,
        Self::Connection,
        Self::IkeSa,
        Self::EspSa,
        Self::SequenceCeiling,
        Self::ReplayEdge,
        Self::Clock,
    ];

    /// The byte on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::Config => 1,
            Self::Connection => 2,
            Self::IkeSa => 3,
            Self::EspSa => 4,
            Self::SequenceCeiling => 5,
            Self::ReplayEdge => 6,
            Self::Clock => 7,
        }
    }

    /// The inverse of [`Kind::to_wire`].
    #[must_use]
    pub fn from_wire(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.to_wire() == byte)
    }
}

/// Names a record: a kind, and within it a connection name, a cookie pair, an SPI, ...
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    kind: Kind,
    name: Vec<u8>,
}

/// The value cannot be replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// Longer than [`Key::MAX_NAME`].
    #[error("the name of a record has {0} bytes; at most {max} fit", max = Key::MAX_NAME)]
    Name(usize),
    /// Longer than [`Record::MAX_BODY`].
    #[error("a record has {0} bytes; at most {max} fit", max = Record::MAX_BODY)]
    Body(usize),
}

impl Key {
    /// Longest name in bytes.
    pub const MAX_NAME: usize = 255;

    /// A key.
    ///
    /// # Errors
    /// [`TooLarge::Name`].
    pub fn new(kind: Kind, name: impl Into<Vec<u8>>) -> Result<Self, TooLarge> {
        let name = name.into();
        if name.len() > Self::MAX_NAME {
            return Err(TooLarge::Name(name.len()));
        }
        Ok(Self { kind, name })
    }

    /// What it is about.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Which one of its kind.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }
}

/// `IkeSa:0a1b…` or `Connection:azure-weu`.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:", self.kind)?;
        if self.name.iter().all(u8::is_ascii_graphic) && !self.name.is_empty() {
            return f.write_str(&String::from_utf8_lossy(&self.name));
        }
        self.name
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A value with the version of its encoding. Its bytes are secret: they hold keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Names it.
    pub key: Key,
    /// Version of the encoding of `body`; a receiver that does not know it refuses the record.
    pub version: u16,
    /// The encoded value.
    pub body: SecretBytes,
}

impl Record {
    /// Longest body in bytes: a record with all its metadata fits into one Noise message.
    pub const MAX_BODY: usize = 60_000;

    /// A record.
    ///
    /// # Errors
    /// [`TooLarge::Body`].
    pub fn new(key: Key, version: u16, body: SecretBytes) -> Result<Self, TooLarge> {
        if body.len() > Self::MAX_BODY {
            return Err(TooLarge::Body(body.len()));
        }
        Ok(Self { key, version, body })
    }

    /// Bytes it takes in a queue, roughly.
    #[must_use]
    pub fn size(&self) -> usize {
        self.key.name.len() + self.body.len() + 32
    }
}

/// The newest encoding of each kind that a node can read.
#[derive(Debug, Clone, Copy)]
pub struct Supported(fn(Kind) -> u16);

impl Supported {
    /// `newest` tells the newest readable version of a kind; older ones down to 1 are readable
    /// too.
    #[must_use]
    pub const fn new(newest: fn(Kind) -> u16) -> Self {
        Self(newest)
    }

    /// True when a record of this kind and version can be read.
    #[must_use]
    pub fn reads(&self, kind: Kind, version: u16) -> bool {
        version >= 1 && version <= (self.0)(kind)
    }
}

/// Why a standby does not take a record. Both nodes say so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unacceptable {
    /// Another release wrote it.
    #[error("version {version} of {kind:?} records is not known here")]
    Version {
        /// The kind.
        kind: Kind,
        /// Its version.
        version: u16,
    },
    /// The daemon cannot apply it, and says why.
    #[error("{0}")]
    Host(String),
}
