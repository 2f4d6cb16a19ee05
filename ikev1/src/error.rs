//! Errors by blame: the peer broke the protocol, the two configurations do not fit, or
//! something failed here.

use crate::counters::DropReason;
use crate::wire::{ParseError, PayloadType};

/// Why a message did not move its exchange forward.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// The message breaks the protocol; nobody's config can make it right.
    #[error("peer misbehaved: {0}")]
    Peer(#[from] PeerMisbehaved),
    /// Both sides follow the protocol and want different things.
    #[error("{0}")]
    Config(#[from] Mismatch),
    /// We cannot go on, and it is not the peer's doing.
    #[error("failed here: {0}")]
    Local(#[from] LocalFailure),
}

/// The ways in which a peer breaks the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerMisbehaved {
    /// Does not parse.
    #[error("{0}")]
    Malformed(#[from] ParseError),
    /// Ciphertext under an IKE SA whose key both sides have, and the plaintext is nonsense.
    #[error("{0} does not decrypt: it was damaged on the way, or is not from the peer")]
    Undecipherable(&'static str),
    /// A payload that the table requires is not there.
    #[error("no {0} payload in {1}")]
    MissingPayload(PayloadType, &'static str),
    /// A payload that may stand once stands twice.
    #[error("more than one {0} payload in {1}")]
    DuplicatePayload(PayloadType, &'static str),
    /// A payload that has no business in this message.
    #[error("unexpected {0} payload in {1}")]
    UnexpectedPayload(PayloadType, &'static str),
    /// The first payload is prescribed (RFC 2409 §5: SA or HASH) and is another one.
    #[error("{1} must begin with a {0} payload")]
    WrongFirstPayload(PayloadType, &'static str),
    /// A payload whose place is prescribed stands elsewhere (RFC 2409 §5.5: SA behind HASH).
    #[error("the {0} payload of {1} is not in its place")]
    MisplacedPayload(PayloadType, &'static str),
    /// In the clear where the exchange is already encrypted.
    #[error("{0} must be encrypted")]
    NotProtected(&'static str),
    /// Encrypted before there is a key.
    #[error("{0} must not be encrypted")]
    UntimelyProtection(&'static str),
    /// Phase 1 with a message id, or phase 2 without (RFC 2408 §3.1).
    #[error("wrong message id in {0}")]
    MessageId(&'static str),
    /// A responder that does not name itself.
    #[error("no responder cookie in {0}")]
    NoResponderCookie(&'static str),
    /// HASH_I, HASH_R or HASH(1..3) is not what the message says.
    #[error("hash of {0} does not fit")]
    BadHash(&'static str),
    /// A Diffie-Hellman public value outside its group.
    #[error("bad Diffie-Hellman public value ({0})")]
    BadPublicValue(String),
    /// The answer to a proposal is not one of the offers.
    #[error("chose something that was not offered: {0}")]
    NotOffered(String),
    /// KE where no group was agreed, or none where one was.
    #[error("KE payload does not go with the agreed group")]
    KeyExchangeMismatch,
    /// A quick mode whose answer changes the selectors.
    #[error("changed the selectors from {ours} to {theirs}")]
    ChangedSelectors {
        /// What was proposed.
        ours: String,
        /// What came back.
        theirs: String,
    },
    /// An SPI that RFC 4303 reserves, or of a wrong length.
    #[error("proposal without a usable SPI")]
    BadSpi,
}

/// The two configurations do not fit each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mismatch {
    /// No phase-1 proposal in common; the text explains.
    #[error("{0}")]
    Phase1Proposal(String),
    /// No phase-2 proposal in common; the text explains.
    #[error("{0}")]
    Phase2Proposal(String),
    /// The peer's identity.
    #[error(
        "peer identifies as {claimed}, but remote_id is {expected}; set remote_id = \"{claimed}\" \
         if this is the right peer"
    )]
    Identity {
        /// What it says.
        claimed: String,
        /// What we want.
        expected: String,
    },
    /// A protected message that decrypts to nonsense.
    #[error(
        "{0} does not decrypt: most likely the pre-shared keys differ; compare psk_file with the peer's key"
    )]
    Undecipherable(&'static str),
    /// The hash of the peer's identity is wrong.
    #[error(
        "{0} does not authenticate: most likely the pre-shared keys differ; compare psk_file with the peer's key"
    )]
    Unauthenticated(&'static str),
    /// Selectors that no connection with this peer has.
    #[error(
        "peer proposes selectors {proposed}, this connection has {configured}; make the two the \
         same, here by [[connection.selector]]"
    )]
    Selectors {
        /// What it proposes, as we would write it.
        proposed: String,
        /// What we have.
        configured: String,
    },
    /// UDP encapsulation is prescribed and the peer cannot do it.
    #[error(
        "encapsulation = \"udp\", but the peer does not announce NAT traversal; enable it there, \
         or set encapsulation = \"auto\""
    )]
    NoNatTraversal,
    /// The peer's exchange is not the configured one.
    #[error(
        "peer begins {theirs} mode, this connection has mode = \"{ours}\"; set the same mode at \
         both ends"
    )]
    Mode {
        /// What came.
        theirs: &'static str,
        /// What is configured.
        ours: &'static str,
    },
}

/// It failed here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LocalFailure {
    /// The generator gave no free SPI in many draws.
    #[error("no free SPI")]
    NoFreeSpi,
    /// A value of ours does not fit the format (an identity too long).
    #[error("cannot express {0} on the wire")]
    Inexpressible(&'static str),
}

impl Refused {
    /// The counter that the refusal falls under.
    pub(crate) fn reason(&self) -> DropReason {
        match self {
            Self::Peer(error) => error.reason(),
            Self::Config(error) => error.reason(),
            Self::Local(_) => DropReason::RateLimited,
        }
    }
}

impl PeerMisbehaved {
    fn reason(&self) -> DropReason {
        match self {
            Self::Malformed(error) => error.into(),
            Self::Undecipherable(_) => DropReason::DecryptionFailed,
            Self::MissingPayload(..)
            | Self::DuplicatePayload(..)
            | Self::UnexpectedPayload(..)
            | Self::WrongFirstPayload(..)
            | Self::MisplacedPayload(..)
            | Self::NotProtected(_)
            | Self::UntimelyProtection(_)
            | Self::MessageId(_)
            | Self::NoResponderCookie(_)
            | Self::KeyExchangeMismatch
            | Self::BadSpi => DropReason::BadStructure,
            Self::BadHash(_) => DropReason::BadHash,
            Self::BadPublicValue(_) => DropReason::BadPublicValue,
            Self::NotOffered(_) => DropReason::NotOffered,
            Self::ChangedSelectors { .. } => DropReason::InvalidSelectors,
        }
    }
}

impl Mismatch {
    fn reason(&self) -> DropReason {
        match self {
            Self::Phase1Proposal(_) | Self::Phase2Proposal(_) => DropReason::NoProposalChosen,
            Self::Identity { .. } => DropReason::WrongIdentity,
            Self::Undecipherable(_) => DropReason::DecryptionFailed,
            Self::Unauthenticated(_) => DropReason::BadHash,
            Self::Selectors { .. } => DropReason::InvalidSelectors,
            Self::NoNatTraversal | Self::Mode { .. } => DropReason::UnsupportedExchange,
        }
    }
}
