//! What `status` shows of the data plane. No keys in here.

use core::time::Duration;
use std::net::SocketAddr;

use ipsec_types::{ConnectionId, Encapsulation, EspSuite, SelectorPair, Spi};
use serde::{Deserialize, Serialize};

use crate::counters::Traffic;
use crate::crypto::AeadBackends;
use crate::iv::{Epoch, Member};
use crate::sa::{InboundSa, OutboundSa};

/// One inbound SA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundStatus {
    /// The tunnel.
    pub connection: ConnectionId,
    /// Our SPI.
    pub spi: Spi,
    /// Its transforms.
    pub suite: EspSuite,
    /// 64-bit sequence numbers.
    pub esn: bool,
    /// Inner packets it may carry.
    pub selectors: SelectorPair,
    /// Protocol 50 or UDP.
    pub encapsulation: Encapsulation,
    /// Where the peer is expected.
    pub remote: SocketAddr,
    /// Packets and inner bytes opened.
    pub traffic: Traffic,
    /// When it last opened a packet, on the workers' clock.
    pub last_used: Option<Duration>,
    /// The highest sequence number accepted.
    pub replay_edge: u64,
    /// Size of the replay window in packets.
    pub replay_window: u64,
}

/// One outbound SA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboundStatus {
    /// The tunnel.
    pub connection: ConnectionId,
    /// The peer's SPI.
    pub spi: Spi,
    /// Its transforms.
    pub suite: EspSuite,
    /// 64-bit sequence numbers.
    pub esn: bool,
    /// Inner packets it may carry.
    pub selectors: SelectorPair,
    /// Protocol 50 or UDP.
    pub encapsulation: Encapsulation,
    /// Where packets go.
    pub remote: SocketAddr,
    /// False while another SA carries the traffic of these selectors.
    pub in_use: bool,
    /// Packets and inner bytes sealed.
    pub traffic: Traffic,
    /// When it last sealed a packet, on the workers' clock.
    pub last_used: Option<Duration>,
    /// The next sequence number.
    pub sequence_next: u64,
    /// The last sequence number that may be sent for now.
    pub sequence_ceiling: u64,
    /// Which half of the IV space it draws from.
    pub iv_member: Member,
    /// The IV epoch.
    pub iv_epoch: Epoch,
}

/// Every SA, and what runs the ciphers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SadStatus {
    /// By SPI.
    pub inbound: Vec<InboundStatus>,
    /// By tunnel and SPI.
    pub outbound: Vec<OutboundStatus>,
    /// Which library runs AES-GCM.
    pub backends: AeadBackends,
}

impl InboundStatus {
    pub(super) fn of(sa: &InboundSa) -> Self {
        let params = sa.params();
        Self {
            connection: sa.connection(),
            spi: params.spi,
            suite: params.suite,
            esn: params.esn,
            selectors: params.selectors,
            encapsulation: params.encapsulation,
            remote: sa.endpoints().remote,
            traffic: sa.traffic(),
            last_used: sa.last_used(),
            replay_edge: sa.replay().edge(),
            replay_window: sa.replay().size(),
        }
    }
}

impl OutboundStatus {
    pub(super) fn of(sa: &OutboundSa, in_use: bool) -> Self {
        let params = sa.params();
        Self {
            connection: sa.connection(),
            spi: params.spi,
            suite: params.suite,
            esn: params.esn,
            selectors: params.selectors,
            encapsulation: params.encapsulation,
            remote: sa.endpoints().remote,
            in_use,
            traffic: sa.traffic(),
            last_used: sa.last_used(),
            sequence_next: sa.sequence().next(),
            sequence_ceiling: sa.sequence().ceiling(),
            iv_member: sa.ivs().member(),
            iv_epoch: sa.ivs().epoch(),
        }
    }
}
