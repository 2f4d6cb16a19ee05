//! Election, lease, takeover and state replication for a gateway pair.
#![deny(unsafe_code)]

pub mod advert;
pub mod election;
pub mod lease;
mod secret;
mod vocabulary;
mod wire;

pub use secret::{PairSecret, SecretTooShort};
pub use vocabulary::{
    AdvertInterval, Epoch, Member, OutOfRange, PathId, Paths, Priority, Revision, SessionId,
};
