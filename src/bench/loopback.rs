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
    /// Installs the pair and switches it on. The library behind AES-GCM is ring where it can
    /// be, so that figures of different machines can be compared.
    ///
    /// # Errors
    /// When the table refuses the pair.
    pub fn new(protection: Protection, workers: usize) -> Result<Self, BenchError> {
        Self::by(AeadBackends::default(), protection, workers)
    }

    /// The same with AES-GCM by chosen libraries.
    ///
    /// # Errors
    /// When the table refuses the pair.
    pub fn by(
        backends: AeadBackends,
        protection: Protection,
        workers: usize,
    ) -> Result<Self, BenchError> {
        let config = SadConfig {
            workers,
            backends,
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

/// The two ends of a pair, seen from one of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    /// Own outer address.
    pub(super) local: SocketAddr,
    /// The other's.
    pub(super) remote: SocketAddr,
    /// Of what we open.
    pub(super) inbound: Spi,
    /// Of what we seal.
    pub(super) outbound: Spi,
    /// How ESP travels.
    pub(super) encapsulation: Encapsulation,
}

/// Installs one self-talking pair.
pub(super) fn install(
    sad: &Sad,
    protection: Protection,
    spi: Spi,
    connection: ConnectionId,
) -> Result<(), BenchError> {
    let ends = Ends {
        local: OUTER,
        remote: OUTER,
        inbound: spi,
        outbound: spi,
        encapsulation: Encapsulation::Udp,
    };
    install_between(sad, protection, connection, &ends)
}

/// Installs a pair whose other end may be another process that does the same.
pub(super) fn install_between(
    sad: &Sad,
    protection: Protection,
    connection: ConnectionId,
    ends: &Ends,
) -> Result<(), BenchError> {
    let pair = pair(protection.suite(), connection, ends);
    match protection {
        Protection::Suite(_) => sad.install_pair(&pair, InstallOptions::default())?,
        Protection::Null => sad.install_null_pair_for_bench(&pair)?,
    }
    sad.switch_outbound(connection, ends.outbound)?;
    Ok(())
}

fn pair(suite: EspSuite, connection: ConnectionId, ends: &Ends) -> EspSaPair {
    // Keys that everybody knows, one for each SPI: they protect nothing.
    let key = |len: usize, seed: u32| {
        let bytes = (0_u32..).map(|i| (seed ^ i).wrapping_mul(0x9e37_79b9).to_be_bytes()[0]);
        SecretBytes::new(bytes.take(len).collect())
    };
    let any = TrafficSelector::net(ipnet::IpNet::V4(ipnet::Ipv4Net::default()));
    let selectors = SelectorPair {
        local: any,
        remote: any,
    };
    let params = |direction, spi: Spi| EspSaParams {
        spi,
        direction,
        suite,
        encryption_key: key(suite.encryption_key_len(), spi.get()),
        integrity_key: key(suite.integrity_key_len(), !spi.get()),
        esn: false,
        selectors,
        encapsulation: ends.encapsulation,
        local: ends.local,
        remote: ends.remote,
    };
    EspSaPair {
        connection,
        inbound: params(Direction::Inbound, ends.inbound),
        outbound: params(Direction::Outbound, ends.outbound),
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
