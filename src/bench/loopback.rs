//! An SA pair whose two ends are the same process: what it seals it can open.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use esp_dataplane::{
    AeadBackends, InstallOptions, OutboundSa, Pipeline, Sad, SadConfig, SealSlot, inner,
};
use ipsec_types::{
    ConnectionId, Direction, Encapsulation, EspSaPair, EspSaParams, EspSuite, Flow, SaLifetime,
    SecretBytes, SelectorPair, Spi, TrafficSelector,
};

use super::BenchError;

/// What protects the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// A real suite.
    Suite(EspSuite),
    /// Framing, numbers and the replay window, but no cipher: the ceiling.
    Null,
}

impl Protection {
    /// The suite that gives the lengths; without a cipher they are AES-128-GCM's.
    #[must_use]
    pub const fn suite(self) -> EspSuite {
        match self {
            Self::Suite(suite) => suite,
            Self::Null => EspSuite::AesGcm16(ipsec_types::AesKeyBits::Aes128),
        }
    }
}

impl core::fmt::Display for Protection {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Suite(suite) => f.pad(&suite.to_string()),
            Self::Null => f.pad("no cipher"),
        }
    }
}

/// The inner source of every packet here.
pub(super) const INNER_SOURCE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// The inner destination of every packet here.
pub(super) const INNER_DESTINATION: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);

/// Where the datagrams of the loop come from and go to.
pub(super) const OUTER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 4500);

/// The tunnel of every SA here.
pub(super) const CONNECTION: ConnectionId = ConnectionId(0);

/// A table with one SA pair that talks to itself.
pub struct Loopback {
    /// The table, for further workers.
    pub sad: Arc<Sad>,
    /// The first worker's view.
    pub pipeline: Pipeline,
    /// The SA that seals.
    pub sa: Arc<OutboundSa>,
}

impl Loopback {
    /// Installs the pair and switches it on. The library behind AES-GCM is always ring where
    /// it can be, because that is what the bars compare with.
    ///
    /// # Errors
    /// When the table refuses the pair.
    pub fn new(protection: Protection, workers: usize) -> Result<Self, BenchError> {
        let config = SadConfig {
            workers,
            backends: AeadBackends::default(),
            ..SadConfig::default()
        };
        let (sad, _events) = Sad::new(config);
        install(&sad, protection, Spi::MIN, CONNECTION)?;
        let pipeline = sad.pipeline(0);
        let sa = sad.outbound(CONNECTION, Spi::MIN);
        let sa = sa.ok_or(esp_dataplane::SadError::UnknownSa(Spi::MIN))?;
        Ok(Self { sad, pipeline, sa })
    }
}

/// Installs one self-talking pair.
pub(super) fn install(
    sad: &Sad,
    protection: Protection,
    spi: Spi,
    connection: ConnectionId,
) -> Result<(), BenchError> {
    let pair = pair(protection.suite(), spi, connection);
    match protection {
        Protection::Suite(_) => sad.install_pair(&pair, InstallOptions::default())?,
        Protection::Null => sad.install_null_pair_for_bench(&pair)?,
    }
    sad.switch_outbound(connection, spi)?;
    Ok(())
}

fn pair(suite: EspSuite, spi: Spi, connection: ConnectionId) -> EspSaPair {
    // Keys that protect nothing: both ends are in this process.
    let key = |len: usize, seed: u8| {
        let bytes = (0..len).map(|i| seed.wrapping_add(i as u8).wrapping_mul(0x9d));
        SecretBytes::new(bytes.collect())
    };
    let any = TrafficSelector::net(ipnet::IpNet::V4(ipnet::Ipv4Net::default()));
    let selectors = SelectorPair {
        local: any,
        remote: any,
    };
    let params = |direction| EspSaParams {
        spi,
        direction,
        suite,
        encryption_key: key(suite.encryption_key_len(), 7),
        integrity_key: key(suite.integrity_key_len(), 91),
        esn: false,
        selectors,
        encapsulation: Encapsulation::Udp,
        local: OUTER,
        remote: OUTER,
    };
    EspSaPair {
        connection,
        inbound: params(Direction::Inbound),
        outbound: params(Direction::Outbound),
        lifetime: SaLifetime {
            time: core::time::Duration::from_secs(3600),
            kilobytes: None,
        },
    }
}

/// Slots for `count` inner packets of `len` bytes behind each other, as they would stand for
/// one UDP_SEGMENT send, and the length of the buffer that holds them.
pub(super) fn lay_out(sa: &OutboundSa, len: usize, count: usize) -> (Vec<SealSlot>, usize) {
    let stride = sa.sealed_len(len);
    let slots = (0..count).map(|i| SealSlot::new(i * stride + sa.header_len(), len));
    (slots.collect(), stride * count)
}

/// The flow of a packet, which every packet of the benches has.
pub(super) fn flow_of(packet: &[u8]) -> Result<Flow, BenchError> {
    inner::flow_of(packet).map_err(|reason| BenchError::Wrong(reason.to_string()))
}
