//! What phase 2 agrees on, in the form the data plane installs.

use core::time::Duration;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{EspSuite, SecretBytes, SelectorPair, Spi};

/// Names a configured connection inside one process: its place in the resolved config.
/// The pair channel uses the connection's configured name instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConnectionId(pub u32);

/// Which way an ESP SA carries packets, seen from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// The peer seals, we open. The SPI is ours.
    Inbound,
    /// We seal, the peer opens. The SPI is the peer's.
    Outbound,
}

/// How ESP travels between the gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Encapsulation {
    /// IP protocol 50 (RFC 4303).
    Esp,
    /// Inside UDP, normally port 4500 (RFC 3948).
    Udp,
}

/// One direction of a negotiated phase 2: all that a data plane needs to install it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EspSaParams {
    /// SPI on the wire.
    pub spi: Spi,
    /// Inbound or outbound.
    pub direction: Direction,
    /// Transforms.
    pub suite: EspSuite,
    /// Cipher key, for GCM followed by the 4-byte salt; `suite.encryption_key_len()` bytes.
    pub encryption_key: SecretBytes,
    /// Integrity key, `suite.integrity_key_len()` bytes; empty for an AEAD.
    pub integrity_key: SecretBytes,
    /// 64-bit extended sequence numbers (RFC 4304, negotiated).
    pub esn: bool,
    /// Inner packets it may carry.
    pub selectors: SelectorPair,
    /// Protocol 50 or UDP.
    pub encapsulation: Encapsulation,
    /// Our outer address; the port matters with [`Encapsulation::Udp`] only.
    pub local: SocketAddr,
    /// The peer's outer address; the port matters with [`Encapsulation::Udp`] only.
    pub remote: SocketAddr,
}

/// Both directions of one phase 2, installed and removed together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EspSaPair {
    /// The connection it belongs to.
    pub connection: ConnectionId,
    /// The peer seals, we open.
    pub inbound: EspSaParams,
    /// We seal, the peer opens.
    pub outbound: EspSaParams,
    /// When it must have been replaced.
    pub lifetime: SaLifetime,
}

/// The negotiated end of an SA; whichever comes first (RFC 2407 §4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaLifetime {
    /// Seconds from establishment.
    pub time: Duration,
    /// Payload volume in units of 1024 bytes; `None` is unlimited.
    pub kilobytes: Option<u64>,
}
