//! State replication: everything the standby needs to go on as if nothing had happened.
//!
//! ```text
//!   active                                              standby
//!   Journal  -- SnapshotBegin, Delta*, SnapshotEnd -->  Replica --> the daemon's mute copy
//!            -- Delta, Delta, ... ------------------->
//!            <-- Ack ----------------------------------
//!   Ledger: sequence ceilings (I2)      Edges: replay windows (I3)
//! ```
//! Values are opaque bytes under typed keys; nothing here knows an IKE SA from a config line. The
//! connection underneath keeps order and secrecy ([`crate::channel`]); a gap is a bug and heals
//! itself by a new snapshot.

mod ceiling;
mod commit;
mod edge;
mod in_flight;
mod journal;
mod message;
mod record;
mod replica;
#[cfg(test)]
mod tests;

pub use ceiling::{Ceiling, Ledger, Limit, Running};
pub use commit::Commit;
pub use edge::{Edge, Edges};
pub use in_flight::Lag;
pub use journal::{Following, Journal, Limits};
pub use message::{BadMessage, Change, Hello, Message, PROTOCOL};
pub use record::{Key, Kind, Record, Supported, TooLarge, Unacceptable};
pub use replica::{Applied, Replica, ReplicaCounters};
