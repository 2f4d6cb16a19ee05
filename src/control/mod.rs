//! The control socket: how the command line talks to a running daemon.
//!
//! One JSON object a line over a Unix stream socket that only its owner may open:
//!
//! ```text
//!   > {"v":1,"cmd":"status","connection":"azure"}
//!   < {"v":1,"reply":"status","data":{...}}
//!   > {"v":1,"cmd":"up","connection":"azzure"}
//!   < {"v":1,"reply":"refused","data":{"kind":"unknown-connection","message":"...","hint":"..."}}
//! ```
//!
//! `protocol` is pure: bytes to command, reply to bytes. `server` accepts, bounds and times
//! out; it hands each [`Call`] to the daemon's loop over a channel and never touches the
//! daemon's state itself, so a slow client can hold up nobody. `client` is blocking and is
//! all that the command line needs.

mod client;
mod protocol;
mod server;
#[cfg(test)]
mod tests;

pub use client::{Client, ClientError};
pub use protocol::{Command, PROTOCOL_VERSION, Refusal, RefusalKind, Reply};
pub use server::{BindError, Call, Server};
