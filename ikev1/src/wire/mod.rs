//! The ISAKMP codec: bytes in, values that cannot be illegal out, and back.
//!
//! ```text
//!  datagram --parse--> Incoming::Clear     ----------------------> Message { header, chain }
//!                      Incoming::Protected --open(key, IV)-------> Message { header, chain }
//!                      Incoming::Fragment  --(reassembled)--parse-> one of the two above
//!
//!  Message { header, chain } --encode-------------> datagram
//!                            --seal(key, IV)------> datagram, next IV
//! ```
//!
//! A [`Chain`] keeps the payloads as typed values *and* the bytes they came from (or went
//! to), because the hashes of RFC 2409 §5 are taken over bytes exactly as they were on the
//! wire. Everything a peer sends is checked once, here; a refusal is a [`ParseError`] that
//! names the [`Place`] and the [`Rule`]. The caps below bound what one datagram can make us
//! hold.
//!
//! Where the RFCs and the field differ:
//!
//! | strict, because nobody breaks it and garbage shows | lenient, because nothing hangs on it |
//! | --- | --- |
//! | the header's length is the datagram's length | unassigned header flags |
//! | RESERVED of every generic header is zero | RESERVED2 of a transform, RESERVED of NAT-OA |
//! | counts, and next-payload numbers inside an SA | value and length of padding after decryption |
//! | basic attributes have the short form | a duration of 0; an attribute said twice alike |
//! | nonces, identities, SPIs have their lengths | a fragment whose header has the E bit |
//! | DOI of an SA is IPsec | DOI 0 in notifications and deletes; payloads of unknown type |
//!
//! The codec keeps no state, decides nothing about the meaning of a proposal and never
//! looks at a key except to pass it to [`crate::crypto`].

mod attribute;
mod chain;
mod delete;
mod error;
mod fragment;
#[doc(hidden)]
pub mod fuzz;
mod header;
mod id;
mod key_exchange;
mod message;
mod nat;
mod notify;
mod payload;
mod phase1;
mod phase2;
mod reader;
mod sa;
mod vendor;

pub use attribute::{
    Attribute, AttributeRefusal, AttributeType, AttributeValue, Lifetime, LifetimeUnit,
};
pub use chain::Chain;
pub use delete::{Delete, DeletedSas};
pub use error::{ParseError, Place, Rule};
pub use fragment::Fragment;
pub use header::{Cookie, CookiePair, ExchangeType, Flags, HEADER_LEN, Header, MessageId};
pub use id::{IdName, Identification, Identity, OpaqueIdentity};
pub use key_exchange::{HashData, KeyExchange, Nonce};
pub use message::{FragmentMessage, Incoming, Message, ProtectedMessage, parse};
pub use nat::{NatDialect, NatDiscovery, NatOriginalAddress};
pub use notify::{Notification, NotifyType};
pub use payload::{Doi, Opaque, Payload, PayloadType, ProtocolId, SpiBytes};
pub use phase1::{Phase1Refusal, Phase1Transform, describe_phase1};
pub use phase2::{
    EncapsulationMode, EspTransformId, Phase2Refusal, Phase2Transform, describe_phase2,
};
pub use sa::{Proposal, SecurityAssociation, Transform};
pub use vendor::{KnownVendor, VendorId};

/// Payloads in one message. Windows sends about 20, most of them vendor ids.
pub const MAX_PAYLOADS: usize = 64;
/// Proposals in one SA payload.
pub const MAX_PROPOSALS: usize = 64;
/// Transforms in one SA payload, all proposals together. A peer that enumerates every
/// combination of its algorithms sends 100 to 200.
pub const MAX_TRANSFORMS: usize = 512;
/// Attributes in one transform. New group mode needs the most, about 10.
pub const MAX_ATTRIBUTES: usize = 32;
/// Bytes of padding after the last payload of a decrypted message. One block is what the
/// RFC needs; some peers add a random number of blocks to hide the length.
pub const MAX_PADDING: usize = 255;
