//! Why a message, or a value that should become one, is refused.

use core::fmt;

use super::PayloadType;

/// A refused message: where it broke which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {rule}")]
pub struct ParseError {
    /// The part of the message that broke the rule.
    pub place: Place,
    /// The rule.
    pub rule: Rule,
}

/// A part of an ISAKMP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The fixed header of 28 bytes.
    Header,
    /// The chain of payloads as a whole.
    Chain,
    /// One payload, or a proposal or transform inside an SA payload.
    Payload(PayloadType),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("ISAKMP header"),
            Self::Chain => f.write_str("payload chain"),
            Self::Payload(kind) => write!(f, "{kind} payload"),
        }
    }
}

impl Place {
    /// Pairs the place with the rule that was broken there.
    pub(super) const fn broke(self, rule: Rule) -> ParseError {
        ParseError { place: self, rule }
    }
}

/// A rule of the format. Parsing refuses with it and so do the constructors of payload
/// values, so that what was built can always be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Rule {
    /// Fewer than 28 bytes.
    #[error("{0} bytes are fewer than an ISAKMP header")]
    HeaderTooShort(usize),
    /// RFC 2408 §3.1: the length in the header is the length of the datagram.
    #[error("header says {header} bytes, the datagram has {datagram}")]
    LengthMismatch {
        /// The length field.
        header: u32,
        /// What arrived.
        datagram: usize,
    },
    /// Only version 1.0 exists; IKEv2 is 2.0.
    #[error("version {}.{} is not 1.0", .0 >> 4, .0 & 15)]
    Version(u8),
    /// RFC 2408 §2.5.3: the initiator always has a cookie.
    #[error("the initiator cookie is zero")]
    ZeroInitiatorCookie,
    /// The exchange type is not registered.
    #[error("exchange type {0} is unknown")]
    UnknownExchange(u8),
    /// No payload, or no ciphertext.
    #[error("the message is empty")]
    Empty,
    /// More payloads than [`super::MAX_PAYLOADS`].
    #[error("too many payloads")]
    TooManyPayloads,
    /// Bytes after the last payload of an unencrypted message.
    #[error("{0} bytes follow the last payload")]
    TrailingBytes(usize),
    /// More padding after the last payload than [`super::MAX_PADDING`].
    #[error("{0} bytes of padding follow the last payload")]
    PaddingTooLong(usize),
    /// The ciphertext is not a whole number of cipher blocks.
    #[error("the ciphertext of {0} bytes is not a whole number of blocks")]
    PartialBlock(usize),
    /// The payload, or a part of it, ends before its fixed fields do.
    #[error("{0} bytes are too few for the fixed fields")]
    PayloadTooShort(usize),
    /// A length field points past the end of what contains it.
    #[error("the length {length} runs past the {available} bytes that are there")]
    LengthPastEnd {
        /// The length field.
        length: usize,
        /// Bytes that are left.
        available: usize,
    },
    /// RFC 2408 §5.3: RESERVED in a generic payload header is zero.
    #[error("the reserved byte is {0:#04x}")]
    ReservedNotZero(u8),
    /// A proposal or transform outside an SA payload.
    #[error("belongs inside an SA payload")]
    Misplaced,
    /// A value longer than its 16-bit length field, or than a cap of ours, allows.
    #[error("{0} bytes are too long")]
    TooLong(usize),
    /// A domain of interpretation other than ISAKMP (0) and IPsec (1).
    #[error("domain of interpretation {0} is unknown")]
    Doi(u32),
    /// RFC 2407 §4.2: only SIT_IDENTITY_ONLY is supported.
    #[error("situation {0:#x} is not identity-only")]
    Situation(u32),
    /// A payload inside an SA payload that is not what the chain calls for.
    #[error("next payload {0} cannot stand here")]
    NestedPayload(u8),
    /// The transform count of a proposal differs from the transforms it holds.
    #[error("{announced} transforms are announced, {found} are there")]
    TransformCountMismatch {
        /// The count field.
        announced: u8,
        /// Transforms found.
        found: usize,
    },
    /// An SA payload without proposals.
    #[error("no proposal")]
    NoProposals,
    /// A proposal without transforms.
    #[error("no transform")]
    NoTransforms,
    /// More proposals than [`super::MAX_PROPOSALS`].
    #[error("too many proposals")]
    TooManyProposals,
    /// More transforms than [`super::MAX_TRANSFORMS`] in one SA payload, or than 255 in one proposal.
    #[error("too many transforms")]
    TooManyTransforms,
    /// More attributes than [`super::MAX_ATTRIBUTES`] in one transform.
    #[error("too many attributes")]
    TooManyAttributes,
    /// An attribute type that needs more than 15 bits.
    #[error("attribute type {0} needs more than 15 bits")]
    AttributeType(u16),
    /// A variable-length attribute without a value.
    #[error("attribute {0} has no value")]
    EmptyAttribute(u16),
    /// An SPI longer than 16 bytes, or of a length its protocol does not have.
    #[error("an SPI of {0} bytes cannot be")]
    SpiLength(usize),
    /// An SPI that RFC 4303 reserves.
    #[error("SPI {0} is reserved")]
    ReservedSpi(u32),
    /// RFC 2409 §5: a nonce has 8 to 256 bytes.
    #[error("a nonce has 8 to 256 bytes, not {0}")]
    NonceLength(usize),
    /// An identity whose data has not the length of its type.
    #[error("identity type {kind} cannot have {len} bytes of data")]
    IdLength {
        /// The identification type.
        kind: u8,
        /// Bytes of identification data.
        len: usize,
    },
    /// A mask whose one bits are not all at the left.
    #[error("the subnet mask is not contiguous")]
    IdMask,
    /// A name with characters outside printable ASCII.
    #[error("the name is not printable ASCII")]
    IdName,
    /// An address range whose end lies before its start.
    #[error("the address range ends before it starts")]
    IdRange,
    /// A value that has a type of its own was passed as an opaque one.
    #[error("type {0} is not opaque")]
    NotOpaque(u8),
    /// A delete that names no SA.
    #[error("no SPI")]
    NoSpis,
    /// The SPI count and SPI size of a delete do not fill the payload exactly.
    #[error("{count} SPIs of {size} bytes do not make {len} bytes")]
    SpiCountMismatch {
        /// The count field.
        count: u16,
        /// The size field.
        size: u8,
        /// Bytes that are there.
        len: usize,
    },
    /// A NAT-D hash of a length that no hash function has.
    #[error("a hash of {0} bytes cannot be")]
    HashLength(usize),
    /// RFC 3947 §5.2: NAT-OA carries one address.
    #[error("no address in NAT-OA")]
    NatOaAddress,
    /// Fragment numbers start at 1 and a fragment carries data.
    #[error("fragment number 0 or an empty fragment")]
    FragmentNumber,
}

impl Rule {
    /// A stable name for counters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::HeaderTooShort(_) => "header-too-short",
            Self::LengthMismatch { .. } => "length-mismatch",
            Self::Version(_) => "version",
            Self::ZeroInitiatorCookie => "zero-initiator-cookie",
            Self::UnknownExchange(_) => "unknown-exchange",
            Self::Empty => "empty",
            Self::TooManyPayloads => "too-many-payloads",
            Self::TrailingBytes(_) => "trailing-bytes",
            Self::PaddingTooLong(_) => "padding-too-long",
            Self::PartialBlock(_) => "partial-block",
            Self::PayloadTooShort(_) => "payload-too-short",
            Self::LengthPastEnd { .. } => "length-past-end",
            Self::ReservedNotZero(_) => "reserved-not-zero",
            Self::Misplaced => "misplaced",
            Self::TooLong(_) => "too-long",
            Self::Doi(_) => "doi",
            Self::Situation(_) => "situation",
            Self::NestedPayload(_) => "nested-payload",
            Self::TransformCountMismatch { .. } => "transform-count-mismatch",
            Self::NoProposals => "no-proposals",
            Self::NoTransforms => "no-transforms",
            Self::TooManyProposals => "too-many-proposals",
            Self::TooManyTransforms => "too-many-transforms",
            Self::TooManyAttributes => "too-many-attributes",
            Self::AttributeType(_) => "attribute-type",
            Self::EmptyAttribute(_) => "empty-attribute",
            Self::SpiLength(_) => "spi-length",
            Self::ReservedSpi(_) => "reserved-spi",
            Self::NonceLength(_) => "nonce-length",
            Self::IdLength { .. } => "id-length",
            Self::IdMask => "id-mask",
            Self::IdName => "id-name",
            Self::IdRange => "id-range",
            Self::NotOpaque(_) => "not-opaque",
            Self::NoSpis => "no-spis",
            Self::SpiCountMismatch { .. } => "spi-count-mismatch",
            Self::HashLength(_) => "hash-length",
            Self::NatOaAddress => "nat-oa-address",
            Self::FragmentNumber => "fragment-number",
        }
    }
}
