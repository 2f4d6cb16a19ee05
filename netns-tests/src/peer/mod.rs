//! The gateways at the ends of a tunnel, as black boxes: programs with a config, a log and a
//! control socket.

mod charon;
mod swanctl_conf;
mod vici_text;

pub use charon::{Charon, ChildSa, IkeSa, StrongSwan};
pub use swanctl_conf::{ChildConfig, ConnectionConfig, Start};

/// The pre-shared key of every scenario that does not test keys.
pub const PSK: &str = "correct-horse-battery-staple-1";
