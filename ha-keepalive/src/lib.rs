//! Election, lease, takeover and state replication for a gateway pair.
#![deny(unsafe_code)]

pub mod advert;
pub mod channel;
pub mod election;
pub mod lease;
pub mod node;
pub mod replication;
mod secret;
pub mod takeover;
mod vocabulary;
mod wire;

pub use secret::{PairSecret, SecretTooShort};
pub use vocabulary::{
    AdvertInterval, Epoch, Member, OutOfRange, PathId, Paths, Priority, Revision, SessionId,
};
