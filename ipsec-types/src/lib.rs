//! The words that two or more rooms of the house share.
//!
//! A leaf: no I/O, no clock, no state machine. What stands here is what the IKE negotiator
//! (`ikev1`) decides and the data plane (`esp-dataplane`) obeys, in values that cannot be
//! illegal: an [`Spi`] is never reserved, a [`SecretBytes`] never prints itself, an
//! [`EspSuite`] always knows the lengths of its keys.
//!
//! ```text
//!   ikev1  --- EspSaPair --->  the daemon  --- EspSaParams --->  esp-dataplane
//!                                  |
//!                              SendGate (lease) in front of every socket
//! ```
#![forbid(unsafe_code)]

mod gate;
mod sa;
mod secret;
mod selector;
mod spi;
mod suite;

pub use gate::{GateClosed, SendGate};
pub use sa::{ConnectionId, Direction, Encapsulation, EspSaPair, EspSaParams, SaLifetime};
pub use secret::SecretBytes;
pub use selector::{Flow, SelectorPair, TrafficSelector};
pub use spi::{ReservedSpi, Spi};
pub use suite::{AesKeyBits, CbcCipher, EspIntegrity, EspSuite, UnknownSuite};
