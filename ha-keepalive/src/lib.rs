//! Two gateways, one address: who holds it, how the other learns everything it needs, and how it
//! takes over before anybody notices.
//!
//! This crate decides which of two nodes is active ([`election`]), lets it speak only while its
//! lease holds ([`lease`]), keeps the other's copy of the state current ([`replication`] over
//! [`channel`]), and says step by step what a takeover does ([`takeover`]). [`node::PairNode`]
//! puts these together without a socket, a clock or a thread; [`io`] gives them sockets and time.
//!
//! It never looks into the state it carries: IKE and ESP SAs are opaque bytes under typed keys.
//! It never speaks to a peer, never installs an SA, and never decides on an unauthenticated
//! packet: forged news can make it ask a question, and nothing more.
//!
//! ```text
//!     gateway A                                        gateway B
//!  .--------------.   adverts (UDP, HMAC), path 1  .--------------.
//!  |   PairNode   | <============================> |   PairNode   |
//!  |  Init        |   adverts, path 2              |  Init        |
//!  |  Standby     | <============================> |  Standby     |
//!  |  Active      |   records, acks, switchover    |  Active      |
//!  |              | <----- Noise over TCP -------> |              |
//!  '--------------'                                '--------------'
//!     SendGate: open only while the lease holds, on exactly one of the two
//! ```
//!
//! The driver loop, as [`io::driver`] has it:
//!
//! ```text
//! loop {
//!     feed one input: datagram | port unreachable | sync up, message, down | step done | deadline
//!     while let Some(order) = node.poll_order()          { obey it }     // first: limits tighten
//!     while let Some((path, bytes)) = node.poll_datagram() { send it }   // then promises leave
//!     while channel.has_room() { send node.poll_message(now) }
//!     wake at node.poll_timeout()
//! }
//! ```
//! All times are `Duration`s on `CLOCK_BOOTTIME`.
#![deny(unsafe_code)]

pub mod advert;
pub mod channel;
pub mod election;
#[doc(hidden)]
pub mod fuzz;
pub mod io;
pub mod lease;
mod millis;
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
