//! The gateways at the ends of a tunnel, as black boxes: programs with a config, a log and a
//! control socket.

pub mod keepalived;
pub mod swan;
pub mod vipsec;

pub use keepalived::Keepalived;
pub use swan::{Charon, StrongSwan};
pub use vipsec::Vipsec;

/// The pre-shared key of every scenario that does not test keys.
pub const PSK: &str = "correct-horse-battery-staple-1";
