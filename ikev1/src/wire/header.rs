//! The ISAKMP header (RFC 2408 §3.1).

use core::fmt;

use serde::{Deserialize, Serialize};

use super::reader::Reader;
use super::{ParseError, PayloadType, Place, Rule};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 28;

/// Version 1.0: major in the high half, minor in the low half.
const VERSION_1_0: u8 = 0x10;

/// One side's half of the name of an IKE SA.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cookie(pub [u8; 8]);

impl Cookie {
    /// The responder's cookie in the first message of phase 1.
    pub const ZERO: Self = Self([0; 8]);

    /// True for the placeholder of a responder that has not spoken yet.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cookie({self})")
    }
}

/// Both cookies: the name of an IKE SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CookiePair {
    /// CKY-I.
    pub initiator: Cookie,
    /// CKY-R; zero until the responder has answered.
    pub responder: Cookie,
}

impl CookiePair {
    /// CKY-I followed by CKY-R, as DPD, deletes and NAT-D write them.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (initiator, responder) = bytes.split_at_mut(8);
        initiator.copy_from_slice(&self.initiator.0);
        responder.copy_from_slice(&self.responder.0);
        bytes
    }

    /// The inverse of [`CookiePair::to_bytes`]; `None` unless there are 16 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (initiator, responder) = bytes.split_first_chunk::<8>()?;
        Some(Self {
            initiator: Cookie(*initiator),
            responder: Cookie(responder.try_into().ok()?),
        })
    }
}

impl fmt::Display for CookiePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.initiator, self.responder)
    }
}

/// Names an exchange under an IKE SA; zero in phase 1 (RFC 2408 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MessageId(pub u32);

impl MessageId {
    /// Phase 1.
    pub const PHASE1: Self = Self(0);

    /// As hashes and IVs take it in.
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

/// The exchange a message belongs to (RFC 2408 §3.1, RFC 2409 Appendix A).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExchangeType {
    /// 1, never used by IKE.
    Base,
    /// 2: main mode.
    IdentityProtection,
    /// 3, never used by IKE.
    AuthenticationOnly,
    /// 4: aggressive mode.
    Aggressive,
    /// 5: delete, notify.
    Informational,
    /// 6: mode config and XAUTH, from drafts.
    Transaction,
    /// 32: quick mode.
    Quick,
    /// 33: new group mode.
    NewGroup,
}

impl ExchangeType {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Base => 1,
            Self::IdentityProtection => 2,
            Self::AuthenticationOnly => 3,
            Self::Aggressive => 4,
            Self::Informational => 5,
            Self::Transaction => 6,
            Self::Quick => 32,
            Self::NewGroup => 33,
        }
    }

    /// The inverse of [`ExchangeType::number`].
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Base,
            2 => Self::IdentityProtection,
            3 => Self::AuthenticationOnly,
            4 => Self::Aggressive,
            5 => Self::Informational,
            6 => Self::Transaction,
            32 => Self::Quick,
            33 => Self::NewGroup,
            _ => return None,
        })
    }
}

impl fmt::Display for ExchangeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "base exchange",
            Self::IdentityProtection => "main mode",
            Self::AuthenticationOnly => "authentication-only exchange",
            Self::Aggressive => "aggressive mode",
            Self::Informational => "informational",
            Self::Transaction => "transaction",
            Self::Quick => "quick mode",
            Self::NewGroup => "new group mode",
        })
    }
}

/// The flag bits. Bits without a meaning are sent as zero and ignored on receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Flags {
    /// E: everything after the header is ciphertext.
    pub encryption: bool,
    /// C: the sender waits, or asks to wait, for CONNECTED.
    pub commit: bool,
    /// A: authenticated but not encrypted, for informational messages only.
    pub authentication_only: bool,
}

impl Flags {
    const fn to_byte(self) -> u8 {
        self.encryption as u8 | (self.commit as u8) << 1 | (self.authentication_only as u8) << 2
    }

    const fn from_byte(byte: u8) -> Self {
        Self {
            encryption: byte & 1 != 0,
            commit: byte & 2 != 0,
            authentication_only: byte & 4 != 0,
        }
    }
}

/// The header without what follows from the rest of the message (next payload, length)
/// and what is always the same (version).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header {
    /// Names the IKE SA.
    pub cookies: CookiePair,
    /// Which exchange.
    pub exchange: ExchangeType,
    /// E, C and A. E is set and cleared by the functions that encode, not by hand.
    pub flags: Flags,
    /// Which run of the exchange.
    pub message_id: MessageId,
}

impl Header {
    /// A header without flags.
    #[must_use]
    pub const fn new(cookies: CookiePair, exchange: ExchangeType, message_id: MessageId) -> Self {
        Self {
            cookies,
            exchange,
            flags: Flags {
                encryption: false,
                commit: false,
                authentication_only: false,
            },
            message_id,
        }
    }

    /// Checks the header of a datagram and splits it off.
    ///
    /// A datagram longer than its header says is refused too, as RFC 2408 §5.1 has it:
    /// nobody pads beyond the length field, because padding is counted in it.
    pub(super) fn split(datagram: &[u8]) -> Result<(Self, PayloadType, &[u8]), ParseError> {
        Self::read(datagram).map_err(|rule| Place::Header.broke(rule))
    }

    fn read(datagram: &[u8]) -> Result<(Self, PayloadType, &[u8]), Rule> {
        if datagram.len() < HEADER_LEN {
            return Err(Rule::HeaderTooShort(datagram.len()));
        }
        let mut reader = Reader::new(datagram);
        let cookies = CookiePair {
            initiator: Cookie(reader.array()?),
            responder: Cookie(reader.array()?),
        };
        let [next, version, exchange, flags] = reader.array()?;
        let message_id = MessageId(reader.u32()?);
        let length = reader.u32()?;
        if version != VERSION_1_0 {
            return Err(Rule::Version(version));
        }
        if usize::try_from(length).ok() != Some(datagram.len()) {
            return Err(Rule::LengthMismatch {
                header: length,
                datagram: datagram.len(),
            });
        }
        if cookies.initiator.is_zero() {
            return Err(Rule::ZeroInitiatorCookie);
        }
        let Some(exchange) = ExchangeType::from_number(exchange) else {
            return Err(Rule::UnknownExchange(exchange));
        };
        let header = Self {
            cookies,
            exchange,
            flags: Flags::from_byte(flags),
            message_id,
        };
        Ok((header, PayloadType(next), reader.rest()))
    }

    /// The 28 bytes in front of a body of `body_len` bytes.
    pub(super) fn encode(&self, next: PayloadType, body_len: usize) -> Vec<u8> {
        let length = u32::try_from(HEADER_LEN + body_len).unwrap_or(u32::MAX);
        let mut out = Vec::with_capacity(HEADER_LEN + body_len);
        out.extend_from_slice(&self.cookies.to_bytes());
        out.extend_from_slice(&[
            next.0,
            VERSION_1_0,
            self.exchange.number(),
            self.flags.to_byte(),
        ]);
        out.extend_from_slice(&self.message_id.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out
    }
}
