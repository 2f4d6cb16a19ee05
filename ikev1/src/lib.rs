//! Sans-IO ISAKMP/IKEv1 negotiator: datagrams and time in; datagrams, events and a deadline out.
//!
//! It speaks main mode, aggressive mode, quick mode and informational exchanges with
//! pre-shared keys, in both roles (RFC 2407, 2408, 2409), with NAT traversal (RFC 3947) and
//! dead peer detection (RFC 3706). What it agrees on comes out as
//! [`EspSaPair`](ipsec_types::EspSaPair)s for a data plane that it knows nothing about.
//!
//! It never opens a socket, reads a clock, starts a thread or draws on a global source of
//! randomness: all of these are arguments. It never answers a source that no connection names,
//! never acts on an unauthenticated informational, and as a responder never sends on its own
//! timer.
//!
//! ```text
//!              handle_datagram            poll_transmit
//!   sockets  ------------------> +------+ ------------->  sockets
//!              handle_timeout    | Nego-|   poll_event
//!   clock    ------------------> | tia- | ------------->  data plane, status, standby
//!              handle_command    | tor  |  poll_timeout
//!   daemon   ------------------> +------+ ------------->  clock
//! ```
//!
//! The driver's loop:
//!
//! ```text
//! loop {
//!     while let Some(transmit) = negotiator.poll_transmit() { send(transmit) }
//!     while let Some(event) = negotiator.poll_event() { obey(event) }
//!     match wait(negotiator.poll_timeout()) {
//!         Arrived(datagram) => negotiator.handle_datagram(now(), &datagram),
//!         Asked(command) => negotiator.handle_command(now(), command),
//!         TimedOut => negotiator.handle_timeout(now()),
//!     }
//! }
//! ```
//!
//! A node that is not active holds a [`Standby`] instead, which cannot speak.
#![forbid(unsafe_code)]

mod api;
pub mod config;
mod counters;
pub mod crypto;
mod dpd;
mod error;
mod exchange;
mod identity;
mod natt;
mod negotiator;
mod phase1;
mod phase2;
mod proposal;
mod retransmit;
mod sa;
mod suite;
pub mod wire;

pub use api::{
    Command, ConnectionState, ConnectionStatus, Datagram, DownReason, EspSaStatus, Event,
    ISAKMP_PORT, IkeSaId, IkeSaStatus, NATT_PORT, Phase, Role, TimerName, Transmit, TransmitKind,
};
pub use counters::{Counters, DropReason, Totals};
pub use identity::{Identity, InvalidIdentity};
pub use negotiator::{Beginning, ImportError, Load, Negotiator, Standby};
pub use sa::export::ExportedTunnel;
pub use suite::{
    DhGroup, HashAlgorithm, Phase1Cipher, Phase1Suite, Phase2Proposal, SuiteError,
    UnknownPhase1Suite,
};
