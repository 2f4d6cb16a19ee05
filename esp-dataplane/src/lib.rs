//! The ESP data plane: packets in; packets, or a counted reason for the drop, out.
//!
//! It holds the security associations that IKE has negotiated, seals what leaves through a
//! tunnel and opens what comes back (RFC 4301, 4303, 4106, 3602, 6040). It never negotiates,
//! never decides who may send (that is [`ipsec_types::SendGate`]), and on the packet path it
//! never takes a lock, never allocates and never logs.
//!
//! ```text
//!                 install, switch, remove, export, import
//!   control plane ------------------------------------------> Sad
//!        ^                                                     | snapshot (arc-swap)
//!        | events: NoSa, UnknownSpi, SoftLimit, PeerMoved      v
//!        +--------------------------------------------- Pipeline, one per worker
//!                                                        |            ^
//!   tunnel device --> flow_of --> outbound --> seal_train            open_train <-- sockets
//!                                              |  sequence run          | SPI -> SA
//!                                              |  IV run                | check_before_auth
//!                                              |  frame, cipher, ICV    | ICV, decrypt
//!                                              v                        | commit_after_auth
//!                                            sockets                    v padding, selectors, ECN
//!                                                                  tunnel device
//! ```
//!
//! A worker's loop, in short:
//!
//! ```text
//!   pipeline.begin_batch(now);
//!   if let Some(sa) = pipeline.outbound(connection, &flow, packets) {
//!       pipeline.seal_train(&sa, &mut buffer, &mut seal_slots);
//!   }
//!   pipeline.open_train(&mut buffer, &mut open_slots, from, encapsulation);
//! ```

mod counters;
mod crypto;
pub mod ecn;
mod events;
pub mod inner;
pub mod io;
pub mod iv;
pub mod packet;
mod pipeline;
pub mod replay;
pub mod sa;
pub mod sequence;
mod sync;
pub mod table;
#[doc(hidden)]
pub mod turn;
// Not a child of `turn`, which the model checker's tests include with other atomics.
#[cfg(test)]
#[path = "turn/tests.rs"]
mod turn_tests;
pub mod worker;

pub use counters::{CounterSnapshot, DropReason, Traffic, WorkerCounters};
pub use crypto::{AeadBackend, AeadBackends, BadKey};
pub use events::{EspEvent, EventReceiver, Notify, SoftLimitKind};
pub use packet::{OpenSlot, Opened, SealSlot};
pub use pipeline::Pipeline;
pub use sa::{Endpoints, InboundSa, OutboundSa};
pub use table::{InstallOptions, Sad, SadConfig, SadError, SadState, SadStatus};
