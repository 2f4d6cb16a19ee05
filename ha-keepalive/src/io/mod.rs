//! Everything that touches the system: sockets, processes, the clock.
//!
//! The rest of the crate decides; this does. It holds the crate's only `unsafe`, in
//! [`packet_socket`].

pub mod announce;
pub mod arp;
pub mod clock;
mod connection;
pub mod driver;
mod host;
pub mod mover;
pub mod packet_socket;
mod path;
pub mod responder;
