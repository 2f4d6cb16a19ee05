//! What the tests of the data plane share: keys, inner packets, a tunnel's two ends.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]
#![allow(dead_code, reason = "each test file uses a part of this")]

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use esp_dataplane::{
    AeadBackends, EventReceiver, InstallOptions, OpenSlot, Opened, Pipeline, Sad, SadConfig,
    SealSlot,
};
use esp_dataplane::{DropReason, OutboundSa};
use ipsec_types::{
    AesKeyBits, CbcCipher, ConnectionId, Direction, Encapsulation, EspIntegrity, EspSaPair,
    EspSaParams, EspSuite, Flow, SaLifetime, SecretBytes, SelectorPair, Spi, TrafficSelector,
};

pub(crate) const GCM128: EspSuite = EspSuite::AesGcm16(AesKeyBits::Aes128);
pub(crate) const GCM256: EspSuite = EspSuite::AesGcm16(AesKeyBits::Aes256);
pub(crate) const CBC256: EspSuite = EspSuite::CbcHmac(
    CbcCipher::Aes(AesKeyBits::Aes256),
    EspIntegrity::HmacSha256_128,
);

pub(crate) const TUNNEL: ConnectionId = ConnectionId(0);
pub(crate) const NOW: Duration = Duration::from_secs(100);

/// A's outer address.
pub(crate) fn side_a() -> SocketAddr {
    "203.0.113.1:4500".parse().unwrap()
}

/// B's outer address.
pub(crate) fn side_b() -> SocketAddr {
    "198.51.100.7:4500".parse().unwrap()
}

pub(crate) fn spi(value: u32) -> Spi {
    Spi::new(value).unwrap()
}

pub(crate) fn selectors(local: &str, remote: &str) -> SelectorPair {
    SelectorPair {
        local: TrafficSelector::net(local.parse().unwrap()),
        remote: TrafficSelector::net(remote.parse().unwrap()),
    }
}

pub(crate) fn any_ipv4() -> SelectorPair {
    selectors("0.0.0.0/0", "0.0.0.0/0")
}

/// What a test tunnel is negotiated with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) suite: EspSuite,
    pub(crate) esn: bool,
    pub(crate) selectors: SelectorPair,
    pub(crate) encapsulation: Encapsulation,
    pub(crate) kilobytes: Option<u64>,
    /// SPI of A to B; B to A is the next one.
    pub(crate) spi: u32,
}

impl Terms {
    pub(crate) fn new(suite: EspSuite) -> Self {
        Self {
            suite,
            esn: false,
            selectors: any_ipv4(),
            encapsulation: Encapsulation::Udp,
            kilobytes: None,
            spi: 0x1000,
        }
    }

    /// Keys that differ by direction and SPI.
    pub(crate) fn params(&self, direction: Direction, spi_value: u32) -> EspSaParams {
        let key = |len: usize, salt: u8| {
            let bytes = (0..len).map(|i| (i as u8).wrapping_mul(37) ^ salt ^ spi_value as u8);
            SecretBytes::new(bytes.collect())
        };
        EspSaParams {
            spi: spi(spi_value),
            direction,
            suite: self.suite,
            encryption_key: key(self.suite.encryption_key_len(), 0x11),
            integrity_key: key(self.suite.integrity_key_len(), 0xa2),
            esn: self.esn,
            selectors: self.selectors,
            encapsulation: self.encapsulation,
            local: side_a(),
            remote: side_b(),
        }
    }

    /// The pair as A installs it.
    pub(crate) fn pair_a(&self) -> EspSaPair {
        EspSaPair {
            connection: TUNNEL,
            inbound: self.params(Direction::Inbound, self.spi + 1),
            outbound: self.params(Direction::Outbound, self.spi),
            lifetime: SaLifetime {
                time: Duration::from_secs(3600),
                kilobytes: self.kilobytes,
            },
        }
    }

    /// The same pair as B installs it.
    pub(crate) fn pair_b(&self) -> EspSaPair {
        let mut pair = self.pair_a();
        std::mem::swap(&mut pair.inbound, &mut pair.outbound);
        pair.inbound.direction = Direction::Inbound;
        pair.outbound.direction = Direction::Outbound;
        for params in [&mut pair.inbound, &mut pair.outbound] {
            std::mem::swap(&mut params.local, &mut params.remote);
            params.selectors = params.selectors.reversed();
        }
        pair
    }
}

/// One gateway's data plane with one worker.
pub(crate) struct Plane {
    pub(crate) sad: Arc<Sad>,
    pub(crate) pipeline: Pipeline,
    pub(crate) events: EventReceiver,
}

impl Plane {
    pub(crate) fn new() -> Self {
        Self::by(AeadBackends::default())
    }

    /// With AES-GCM by these libraries.
    pub(crate) fn by(backends: AeadBackends) -> Self {
        let (sad, events) = Sad::new(SadConfig {
            backends,
            ..SadConfig::default()
        });
        let mut pipeline = sad.pipeline(0);
        pipeline.begin_batch(NOW);
        Self {
            sad,
            pipeline,
            events,
        }
    }

    /// A plane with this pair installed and carrying traffic.
    pub(crate) fn with(pair: &EspSaPair) -> Self {
        let plane = Self::new();
        plane.install(pair);
        plane
    }

    pub(crate) fn install(&self, pair: &EspSaPair) {
        self.sad
            .install_pair(pair, InstallOptions::default())
            .unwrap();
        self.sad
            .switch_outbound(pair.connection, pair.outbound.spi)
            .unwrap();
    }

    /// Seals packets as one train; the ESP packets that came out.
    pub(crate) fn seal(&mut self, packets: &[Vec<u8>]) -> Vec<Result<Vec<u8>, DropReason>> {
        let flow = esp_dataplane::inner::flow_of(&packets[0]).unwrap();
        let Some(sa) = self.pipeline.outbound(TUNNEL, &flow, packets.len() as u64) else {
            return vec![Err(DropReason::NoSa); packets.len()];
        };
        let (mut buf, mut slots) = train(&sa, packets);
        self.pipeline.seal_train(&sa, &mut buf, &mut slots);
        slots
            .into_iter()
            .map(|slot| slot.result.map(|range| buf[range].to_vec()))
            .collect()
    }

    /// Seals one packet.
    pub(crate) fn seal_one(&mut self, packet: &[u8]) -> Vec<u8> {
        self.seal(&[packet.to_vec()]).remove(0).unwrap()
    }

    /// Opens ESP packets as one train from `from`.
    pub(crate) fn open_from(
        &mut self,
        packets: &[Vec<u8>],
        from: SocketAddr,
        outer_traffic_class: u8,
    ) -> Vec<Result<(Opened, Vec<u8>), DropReason>> {
        let mut buf = Vec::new();
        let mut slots = Vec::new();
        for packet in packets {
            slots.push(OpenSlot::new(buf.len(), packet.len(), outer_traffic_class));
            buf.extend_from_slice(packet);
        }
        self.pipeline
            .open_train(&mut buf, &mut slots, from, Encapsulation::Udp);
        slots
            .into_iter()
            .map(|slot| {
                slot.result.map(|opened| {
                    let inner = buf[opened.inner.clone()].to_vec();
                    (opened, inner)
                })
            })
            .collect()
    }

    /// Opens one ESP packet that A sent.
    pub(crate) fn open_one(&mut self, packet: &[u8]) -> Result<Vec<u8>, DropReason> {
        self.open_from(&[packet.to_vec()], side_a(), 0)
            .remove(0)
            .map(|(_, inner)| inner)
    }

    pub(crate) fn drops(&self, reason: DropReason) -> u64 {
        self.sad.counters().get(reason)
    }
}

/// Lays packets out for an SA, end to end.
pub(crate) fn train(sa: &OutboundSa, packets: &[Vec<u8>]) -> (Vec<u8>, Vec<SealSlot>) {
    let total = packets.iter().map(|p| sa.sealed_len(p.len())).sum();
    let mut buf = vec![0; total];
    let mut slots = Vec::new();
    let mut at = 0;
    for packet in packets {
        let start = at + sa.header_len();
        buf[start..start + packet.len()].copy_from_slice(packet);
        slots.push(SealSlot::new(start, packet.len()));
        at += sa.sealed_len(packet.len());
    }
    (buf, slots)
}

/// An IPv4 UDP packet of `len` bytes in all, with a valid header checksum.
pub(crate) fn ipv4(source: [u8; 4], destination: [u8; 4], len: usize) -> Vec<u8> {
    assert!(len >= 28);
    let mut packet: Vec<u8> = (0..len).map(|i| (i * 13) as u8).collect();
    packet[..12].copy_from_slice(&[
        0x45,
        0,
        (len >> 8) as u8,
        len as u8,
        0,
        1,
        0,
        0,
        64,
        17,
        0,
        0,
    ]);
    packet[12..16].copy_from_slice(&source);
    packet[16..20].copy_from_slice(&destination);
    packet[20..24].copy_from_slice(&[0x30, 0x39, 0, 53]);
    fix_checksum(&mut packet);
    packet
}

/// Writes the IPv4 header checksum.
pub(crate) fn fix_checksum(packet: &mut [u8]) {
    packet[10..12].copy_from_slice(&[0, 0]);
    let sum = ones_complement_sum(&packet[..20]);
    packet[10..12].copy_from_slice(&(!sum).to_be_bytes());
}

/// The sum a valid IPv4 header has: 0xffff.
pub(crate) fn ones_complement_sum(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// From behind A to behind B.
pub(crate) fn a_to_b(len: usize) -> Vec<u8> {
    ipv4([10, 1, 0, 1], [10, 2, 0, 2], len)
}

/// From behind B to behind A.
pub(crate) fn b_to_a(len: usize) -> Vec<u8> {
    ipv4([10, 2, 0, 2], [10, 1, 0, 1], len)
}

/// An IPv6 UDP packet of `len` bytes in all.
pub(crate) fn ipv6(source: u16, destination: u16, len: usize) -> Vec<u8> {
    assert!(len >= 48);
    let mut packet: Vec<u8> = (0..len).map(|i| (i * 29) as u8).collect();
    let payload = len - 40;
    packet[..8].copy_from_slice(&[0x60, 0, 0, 0, (payload >> 8) as u8, payload as u8, 17, 64]);
    for (range, host) in [(8..24_usize, source), (24..40, destination)] {
        let range: Range<usize> = range;
        packet[range.clone()].fill(0);
        packet[range.start..range.start + 2].copy_from_slice(&[0xfd, 0]);
        packet[range.end - 2..range.end].copy_from_slice(&host.to_be_bytes());
    }
    packet[40..44].copy_from_slice(&[0x30, 0x39, 0, 53]);
    packet
}

pub(crate) fn flow_of(packet: &[u8]) -> Flow {
    esp_dataplane::inner::flow_of(packet).unwrap()
}
