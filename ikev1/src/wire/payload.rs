//! Payload types, and the sum of all payloads.

use core::fmt;

use super::reader::MAX_BODY_LEN;
use super::{
    Delete, Fragment, HashData, Identification, KeyExchange, NatDialect, NatDiscovery,
    NatOriginalAddress, Nonce, Notification, ParseError, Place, Rule, SecurityAssociation,
    VendorId,
};

/// The number that says what a payload is (RFC 2408 §3.1, RFC 3947 §6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PayloadType(pub u8);

impl PayloadType {
    /// Ends a chain.
    pub const NONE: Self = Self(0);
    /// Security association.
    pub const SA: Self = Self(1);
    /// Proposal, inside an SA payload only.
    pub const PROPOSAL: Self = Self(2);
    /// Transform, inside a proposal only.
    pub const TRANSFORM: Self = Self(3);
    /// Key exchange.
    pub const KEY_EXCHANGE: Self = Self(4);
    /// Identification.
    pub const ID: Self = Self(5);
    /// Certificate.
    pub const CERTIFICATE: Self = Self(6);
    /// Certificate request.
    pub const CERTIFICATE_REQUEST: Self = Self(7);
    /// Hash.
    pub const HASH: Self = Self(8);
    /// Signature.
    pub const SIGNATURE: Self = Self(9);
    /// Nonce.
    pub const NONCE: Self = Self(10);
    /// Notification.
    pub const NOTIFICATION: Self = Self(11);
    /// Delete.
    pub const DELETE: Self = Self(12);
    /// Vendor id.
    pub const VENDOR_ID: Self = Self(13);
    /// NAT discovery (RFC 3947).
    pub const NAT_D: Self = Self(20);
    /// NAT original address (RFC 3947).
    pub const NAT_OA: Self = Self(21);
    /// NAT discovery as the drafts of RFC 3947 number it.
    pub const NAT_D_DRAFT: Self = Self(130);
    /// NAT original address as the drafts of RFC 3947 number it.
    pub const NAT_OA_DRAFT: Self = Self(131);
    /// A piece of an IKE message, as Cisco and Microsoft peers cut it.
    pub const FRAGMENT: Self = Self(132);

    /// True for every type that [`Payload`] has a variant of its own for.
    const fn is_typed(self) -> bool {
        matches!(
            self,
            Self::NONE
                | Self::SA
                | Self::PROPOSAL
                | Self::TRANSFORM
                | Self::KEY_EXCHANGE
                | Self::ID
                | Self::HASH
                | Self::NONCE
                | Self::NOTIFICATION
                | Self::DELETE
                | Self::VENDOR_ID
                | Self::NAT_D
                | Self::NAT_OA
                | Self::NAT_D_DRAFT
                | Self::NAT_OA_DRAFT
                | Self::FRAGMENT
        )
    }
}

impl fmt::Display for PayloadType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::NONE => "none",
            Self::SA => "SA",
            Self::PROPOSAL => "proposal",
            Self::TRANSFORM => "transform",
            Self::KEY_EXCHANGE => "KE",
            Self::ID => "ID",
            Self::CERTIFICATE => "CERT",
            Self::CERTIFICATE_REQUEST => "CERTREQ",
            Self::HASH => "HASH",
            Self::SIGNATURE => "SIG",
            Self::NONCE => "NONCE",
            Self::NOTIFICATION => "notification",
            Self::DELETE => "delete",
            Self::VENDOR_ID => "vendor id",
            Self::NAT_D | Self::NAT_D_DRAFT => "NAT-D",
            Self::NAT_OA | Self::NAT_OA_DRAFT => "NAT-OA",
            Self::FRAGMENT => "fragment",
            Self(other) => return write!(f, "type {other}"),
        })
    }
}

impl fmt::Debug for PayloadType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PayloadType({}, {self})", self.0)
    }
}

/// Domain of interpretation of a notification or delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Doi {
    /// 0: the generic one; some peers use it for phase-1 notifications.
    Isakmp,
    /// 1 (RFC 2407).
    Ipsec,
}

impl Doi {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Isakmp => 0,
            Self::Ipsec => 1,
        }
    }

    pub(super) const fn from_number(number: u32) -> Result<Self, Rule> {
        match number {
            0 => Ok(Self::Isakmp),
            1 => Ok(Self::Ipsec),
            other => Err(Rule::Doi(other)),
        }
    }
}

/// Security protocol of a proposal, notification or delete (RFC 2407 §4.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProtocolId(pub u8);

impl ProtocolId {
    /// Phase 1.
    pub const ISAKMP: Self = Self(1);
    /// Authentication header.
    pub const AH: Self = Self(2);
    /// Encapsulating security payload.
    pub const ESP: Self = Self(3);
    /// IP compression.
    pub const IPCOMP: Self = Self(4);
}

impl fmt::Display for ProtocolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::ISAKMP => "ISAKMP",
            Self::AH => "AH",
            Self::ESP => "ESP",
            Self::IPCOMP => "IPCOMP",
            Self(other) => return write!(f, "protocol {other}"),
        })
    }
}

impl fmt::Debug for ProtocolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProtocolId({self})")
    }
}

/// An SPI field of up to 16 bytes: empty or ignored in phase 1, 4 bytes for ESP, both
/// cookies in notifications about an IKE SA.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SpiBytes {
    len: u8,
    bytes: [u8; Self::MAX_LEN],
}

impl SpiBytes {
    /// The longest SPI: both cookies.
    pub const MAX_LEN: usize = 16;
    /// No SPI at all.
    pub const EMPTY: Self = Self {
        len: 0,
        bytes: [0; Self::MAX_LEN],
    };

    /// Takes over up to 16 bytes.
    ///
    /// # Errors
    /// [`Rule::SpiLength`] when there are more.
    pub fn new(bytes: &[u8]) -> Result<Self, Rule> {
        let mut spi = Self::EMPTY;
        let Some(target) = spi.bytes.get_mut(..bytes.len()) else {
            return Err(Rule::SpiLength(bytes.len()));
        };
        target.copy_from_slice(bytes);
        spi.len = u8::try_from(bytes.len()).map_err(|_| Rule::SpiLength(bytes.len()))?;
        Ok(spi)
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The length field.
    #[must_use]
    pub const fn len(&self) -> u8 {
        self.len
    }

    /// True for no SPI.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl From<ipsec_types::Spi> for SpiBytes {
    fn from(spi: ipsec_types::Spi) -> Self {
        Self::from(spi.to_be_bytes())
    }
}

impl<const N: usize> From<[u8; N]> for SpiBytes {
    fn from(source: [u8; N]) -> Self {
        const { assert!(N <= Self::MAX_LEN) };
        let mut spi = Self {
            len: N as u8,
            bytes: [0; Self::MAX_LEN],
        };
        for (target, byte) in spi.bytes.iter_mut().zip(source) {
            *target = byte;
        }
        spi
    }
}

impl fmt::Debug for SpiBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpiBytes(")?;
        for byte in self.as_slice() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// A payload whose inside is nobody's business here: a type that is not typed, and a body.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Opaque {
    kind: PayloadType,
    body: Vec<u8>,
}

impl Opaque {
    /// A payload of a type that has no variant of its own in [`Payload`]: certificate,
    /// certificate request, signature, or any unknown one.
    ///
    /// # Errors
    /// [`Rule::NotOpaque`] for a typed payload, [`Rule::TooLong`] past 65,531 bytes.
    pub fn new(kind: PayloadType, body: Vec<u8>) -> Result<Self, Rule> {
        if kind.is_typed() {
            return Err(Rule::NotOpaque(kind.0));
        }
        Ok(Self {
            kind,
            body: checked_body(body)?,
        })
    }

    /// The payload type.
    #[must_use]
    pub const fn kind(&self) -> PayloadType {
        self.kind
    }

    /// The bytes after the generic header.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// Refuses what would not fit a generic header.
pub(super) fn checked_body(body: Vec<u8>) -> Result<Vec<u8>, Rule> {
    if body.len() > MAX_BODY_LEN {
        return Err(Rule::TooLong(body.len()));
    }
    Ok(body)
}

/// One payload of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Proposals, or the chosen one.
    Sa(SecurityAssociation),
    /// Diffie-Hellman public value.
    KeyExchange(KeyExchange),
    /// Identity of a peer, or a traffic selector in phase 2.
    Id(Identification),
    /// Authenticates an exchange.
    Hash(HashData),
    /// Freshness.
    Nonce(Nonce),
    /// Status or error.
    Notification(Notification),
    /// The sender dropped SAs.
    Delete(Delete),
    /// Announces an extension.
    VendorId(VendorId),
    /// Hash of an address and port (RFC 3947).
    NatD(NatDiscovery),
    /// Original address, for transport mode (RFC 3947).
    NatOa(NatOriginalAddress),
    /// A piece of a message.
    Fragment(Fragment),
    /// Certificates, signatures and everything unknown.
    Opaque(Opaque),
}

impl Payload {
    /// The number that announces it.
    #[must_use]
    pub const fn kind(&self) -> PayloadType {
        match self {
            Self::Sa(_) => PayloadType::SA,
            Self::KeyExchange(_) => PayloadType::KEY_EXCHANGE,
            Self::Id(_) => PayloadType::ID,
            Self::Hash(_) => PayloadType::HASH,
            Self::Nonce(_) => PayloadType::NONCE,
            Self::Notification(_) => PayloadType::NOTIFICATION,
            Self::Delete(_) => PayloadType::DELETE,
            Self::VendorId(_) => PayloadType::VENDOR_ID,
            Self::NatD(nat_d) => nat_d.dialect.nat_d(),
            Self::NatOa(nat_oa) => nat_oa.dialect.nat_oa(),
            Self::Fragment(_) => PayloadType::FRAGMENT,
            Self::Opaque(opaque) => opaque.kind,
        }
    }

    /// Parses the body that follows a generic header.
    pub(super) fn parse(kind: PayloadType, body: &[u8]) -> Result<Self, ParseError> {
        let refused = |rule| Place::Payload(kind).broke(rule);
        Ok(match kind {
            PayloadType::SA => Self::Sa(SecurityAssociation::parse(body)?),
            PayloadType::NONE | PayloadType::PROPOSAL | PayloadType::TRANSFORM => {
                return Err(refused(Rule::Misplaced));
            }
            PayloadType::KEY_EXCHANGE => {
                Self::KeyExchange(KeyExchange::new(body.to_vec()).map_err(refused)?)
            }
            PayloadType::ID => Self::Id(Identification::parse(body).map_err(refused)?),
            PayloadType::HASH => Self::Hash(HashData::new(body.to_vec()).map_err(refused)?),
            PayloadType::NONCE => Self::Nonce(Nonce::new(body.to_vec()).map_err(refused)?),
            PayloadType::NOTIFICATION => {
                Self::Notification(Notification::parse(body).map_err(refused)?)
            }
            PayloadType::DELETE => Self::Delete(Delete::parse(body).map_err(refused)?),
            PayloadType::VENDOR_ID => {
                Self::VendorId(VendorId::new(body.to_vec()).map_err(refused)?)
            }
            PayloadType::NAT_D | PayloadType::NAT_D_DRAFT => {
                Self::NatD(NatDiscovery::new(NatDialect::of(kind), body.to_vec()).map_err(refused)?)
            }
            PayloadType::NAT_OA | PayloadType::NAT_OA_DRAFT => {
                Self::NatOa(NatOriginalAddress::parse(NatDialect::of(kind), body).map_err(refused)?)
            }
            PayloadType::FRAGMENT => Self::Fragment(Fragment::parse(body).map_err(refused)?),
            other => Self::Opaque(Opaque::new(other, body.to_vec()).map_err(refused)?),
        })
    }

    /// The body that follows the generic header.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        match self {
            Self::Sa(sa) => sa.body(),
            Self::KeyExchange(ke) => ke.as_slice().to_vec(),
            Self::Id(id) => id.body(),
            Self::Hash(hash) => hash.as_slice().to_vec(),
            Self::Nonce(nonce) => nonce.as_slice().to_vec(),
            Self::Notification(notification) => notification.body(),
            Self::Delete(delete) => delete.body(),
            Self::VendorId(vendor) => vendor.as_slice().to_vec(),
            Self::NatD(nat_d) => nat_d.hash().to_vec(),
            Self::NatOa(nat_oa) => nat_oa.body(),
            Self::Fragment(fragment) => fragment.body(),
            Self::Opaque(opaque) => opaque.body.clone(),
        }
    }
}

/// `From` for each payload, so that a message reads as a list of values.
macro_rules! payload_from {
    ($($variant:ident($inner:ty)),+ $(,)?) => {
        $(impl From<$inner> for Payload {
            fn from(value: $inner) -> Self {
                Self::$variant(value)
            }
        })+
    };
}

payload_from! {
    Sa(SecurityAssociation),
    KeyExchange(KeyExchange),
    Id(Identification),
    Hash(HashData),
    Nonce(Nonce),
    Notification(Notification),
    Delete(Delete),
    VendorId(VendorId),
    NatD(NatDiscovery),
    NatOa(NatOriginalAddress),
    Fragment(Fragment),
    Opaque(Opaque),
}
