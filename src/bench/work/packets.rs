//! Inner packets as a host's kernel hands them over, with correct checksums.

use vti::checksum::Sum;
use vti::{Gso, GsoKind, VirtioHeader};

use crate::bench::loopback::{INNER_DESTINATION, INNER_SOURCE};

const IPV4: usize = 20;
const UDP: usize = 8;
/// TCP header with time stamps, as every Linux host sends it.
const TCP: usize = 32;
const TCP_CHECKSUM: u16 = 16;
const UDP_CHECKSUM: u16 = 6;

/// A packet as a TUN queue delivers it.
#[derive(Debug, Clone)]
pub struct FromTun {
    /// The virtio header's bytes.
    pub header: [u8; VirtioHeader::LEN],
    /// The packet, partial checksum and all.
    pub packet: Vec<u8>,
}

/// One TCP super-packet of 64 KiB, to be cut for this inner MTU.
#[must_use]
pub fn tcp_super(mtu: u16) -> FromTun {
    let headers = IPV4 + TCP;
    let mut packet = vec![0; usize::from(u16::MAX)];
    fill_pattern(&mut packet);
    fill_ipv4(&mut packet, 6);
    let [source, port] = [50_000_u16, 5001].map(u16::to_be_bytes);
    put(&mut packet, IPV4, &source);
    put(&mut packet, IPV4 + 2, &port);
    // Header of eight words; ACK; two no-operations and the time stamps.
    put(
        &mut packet,
        IPV4 + 12,
        &[0x80, 0x10, 0xff, 0xff, 0, 0, 0, 0],
    );
    put(
        &mut packet,
        IPV4 + 20,
        &[1, 1, 8, 10, 0, 0, 1, 0, 0, 0, 2, 0],
    );
    let partial = pseudo_header(6, packet.len() - IPV4).folded();
    put(&mut packet, IPV4 + usize::from(TCP_CHECKSUM), &partial);
    let size = usize::from(mtu).saturating_sub(headers);
    let header = VirtioHeader {
        needs_checksum: true,
        checksum_valid: false,
        gso: Some(Gso {
            kind: GsoKind::TcpV4,
            ecn: false,
            size: size as u16,
        }),
        header_len: headers as u16,
        checksum_start: IPV4 as u16,
        checksum_offset: TCP_CHECKSUM,
    };
    FromTun {
        header: header.emit(),
        packet,
    }
}

/// `count` UDP datagrams of one flow in IP packets of `len` bytes, at least 28, each read by
/// itself.
#[must_use]
pub fn udp_singles(len: usize, count: u16) -> Vec<FromTun> {
    (0..count).map(|id| udp_single(len, id)).collect()
}

fn udp_single(len: usize, id: u16) -> FromTun {
    let mut packet = vec![0; len.max(IPV4 + UDP)];
    fill_udp(&mut packet);
    identify(&mut packet, id);
    let partial = pseudo_header(17, packet.len() - IPV4).folded();
    put(&mut packet, IPV4 + usize::from(UDP_CHECKSUM), &partial);
    let header = VirtioHeader {
        needs_checksum: true,
        checksum_start: IPV4 as u16,
        checksum_offset: UDP_CHECKSUM,
        ..VirtioHeader::default()
    };
    FromTun {
        header: header.emit(),
        packet,
    }
}

/// Turns the bytes into an IPv4 packet with a UDP datagram and a complete checksum.
pub fn fill_udp(packet: &mut [u8]) {
    fill_pattern(packet);
    fill_ipv4(packet, 17);
    let len = packet.len().saturating_sub(IPV4);
    let [source, port] = [50_000_u16, 5001].map(u16::to_be_bytes);
    put(packet, IPV4, &source);
    put(packet, IPV4 + 2, &port);
    put(packet, IPV4 + 4, &(len as u16).to_be_bytes());
    put(packet, IPV4 + 6, &[0, 0]);
    let upper = packet.get(IPV4..).unwrap_or_default();
    let checksum = pseudo_header(17, len).bytes(upper).complement();
    put(packet, IPV4 + 6, &checksum);
}

fn fill_pattern(packet: &mut [u8]) {
    for (byte, value) in packet.iter_mut().zip(0_usize..) {
        *byte = (value * 31 % 251) as u8;
    }
}

/// A header without options: "don't fragment", identification 0, TTL 64.
fn fill_ipv4(packet: &mut [u8], protocol: u8) {
    let total = (packet.len() as u16).to_be_bytes();
    put(
        packet,
        0,
        &[
            0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, protocol, 0, 0,
        ],
    );
    put(packet, 12, &INNER_SOURCE.octets());
    put(packet, 16, &INNER_DESTINATION.octets());
    let header = packet.get(..IPV4).unwrap_or_default();
    let checksum = Sum::ZERO.bytes(header).complement();
    put(packet, 10, &checksum);
}

fn identify(packet: &mut [u8], id: u16) {
    put(packet, 4, &id.to_be_bytes());
    put(packet, 10, &[0, 0]);
    let header = packet.get(..IPV4).unwrap_or_default();
    let checksum = Sum::ZERO.bytes(header).complement();
    put(packet, 10, &checksum);
}

fn pseudo_header(protocol: u8, upper_len: usize) -> Sum {
    Sum::ZERO
        .bytes(&INNER_SOURCE.octets())
        .bytes(&INNER_DESTINATION.octets())
        .word(u16::from(protocol))
        .word(upper_len as u16)
}

/// Packets here are as long as their headers: a short slice is left as it is.
fn put(packet: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(field) = packet.get_mut(at..at + bytes.len()) {
        field.copy_from_slice(bytes);
    }
}
