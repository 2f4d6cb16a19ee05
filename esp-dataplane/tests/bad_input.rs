//! What a host, a kernel or a stranger may hand to a worker by mistake or on purpose: it is
//! counted, and traffic goes on. The devices are socket pairs, so that every byte is ours; see
//! `gateways` for the rest.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod gateways;

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use esp_dataplane::DropReason;
use esp_dataplane::worker::{DataPlaneConfig, OuterDf};
use gateways::{CONNECTION, Gateway, Scene, WAN_B, eventually, gateways};
use vti::checksum::Sum;
use vti::{Gso, GsoKind, SuperPacket, VirtioHeader};

/// One packet towards the tunnel.
fn put(host: &OwnedFd, header: &VirtioHeader, packet: &[u8]) {
    put_raw(host, &[&header.emit(), packet].concat());
}

fn put_raw(host: &OwnedFd, frame: &[u8]) {
    rustix::io::write(host, frame).unwrap();
}

/// Packets from the tunnel, super-packets cut as the host's kernel would see them.
fn take(host: &OwnedFd, wanted: usize) -> Vec<Vec<u8>> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let (mut packets, mut buffer) = (Vec::new(), vec![0; 70_000]);
    while packets.len() < wanted {
        let Ok(len) = rustix::io::read(host, &mut buffer) else {
            assert!(Instant::now() < deadline, "{} of {wanted}", packets.len());
            std::thread::yield_now();
            continue;
        };
        let header = VirtioHeader::parse(&buffer[..len]).unwrap();
        let packet = SuperPacket::parse(&header, &buffer[VirtioHeader::LEN..len]).unwrap();
        for index in 0..packet.segments() {
            let mut segment = vec![0; packet.segment_len(index)];
            packet.write_segment(index, &mut segment).unwrap();
            packets.push(segment);
        }
    }
    packets
}

/// An IPv4 header in front of `payload`.
fn ipv4(protocol: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).unwrap();
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet.extend([10, 1, 0, 2, 10, 2, 0, 2]);
    let sum = Sum::ZERO.bytes(&packet).complement();
    packet[10..12].copy_from_slice(&sum);
    packet.extend_from_slice(payload);
    packet
}

/// A TCP segment with a right checksum.
fn tcp(id: u16, seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0x13, 0x88, 0, 80, 0, 0, 0, 0, 0, 0, 0, 9, 0x50, 0x10, 1, 0];
    segment[4..8].copy_from_slice(&seq.to_be_bytes());
    segment.extend([0, 0, 0, 0]);
    segment.extend_from_slice(payload);
    let len = u16::try_from(segment.len()).unwrap();
    let pseudo = [&[10, 1, 0, 2, 10, 2, 0, 2, 0, 6][..], &len.to_be_bytes()].concat();
    let sum = Sum::ZERO.bytes(&pseudo).bytes(&segment).complement();
    segment[16..18].copy_from_slice(&sum);
    ipv4(6, id, &segment)
}

/// A good packet still comes through.
fn still_carries(a: &OwnedFd, b: &OwnedFd, mark: u16) {
    let packet = tcp(mark, u32::from(mark), b"still here");
    put(a, &VirtioHeader::default(), &packet);
    assert_eq!(take(b, 1), [packet]);
}

fn ends(a: &Gateway, b: &Gateway) -> (OwnedFd, OwnedFd) {
    (a.play_device(), b.play_device())
}

#[test]
fn lies_about_offloads_are_counted_and_traffic_goes_on() {
    let Some((a, b)) = gateways("lies", &Scene::default()) else {
        return;
    };
    let (host_a, host_b) = ends(&a, &b);
    let packet = tcp(1, 1, &[7; 4000]);
    let gso = |kind, size| VirtioHeader {
        needs_checksum: true,
        gso: Some(Gso {
            kind,
            ecn: false,
            size,
        }),
        header_len: 40,
        checksum_start: 20,
        checksum_offset: 16,
        ..VirtioHeader::default()
    };
    let lies = [
        gso(GsoKind::TcpV4, 0),
        gso(GsoKind::TcpV4, 4001),
        gso(GsoKind::TcpV6, 1000),
        gso(GsoKind::Udp, 1000),
        VirtioHeader {
            checksum_start: 9000,
            ..gso(GsoKind::TcpV4, 1000)
        },
        VirtioHeader {
            needs_checksum: true,
            checksum_start: 20,
            checksum_offset: 9000,
            ..VirtioHeader::default()
        },
    ];
    let mut wanted = 0;
    for lie in &lies {
        put(&host_a, lie, &packet);
        wanted += 1;
        eventually("a counted lie", || {
            a.drops(DropReason::BadOffloadHeader) == wanted
        });
        still_carries(&host_a, &host_b, 100);
    }
    // Truncated at every place within the virtio header and the headers behind it.
    let whole = [&gso(GsoKind::TcpV4, 1000).emit()[..], &packet].concat();
    for len in (1..VirtioHeader::LEN + 40).step_by(3) {
        put_raw(&host_a, &whole[..len]);
    }
    let cut = (1..VirtioHeader::LEN + 40).step_by(3).count() as u64;
    eventually("counted stumps", || {
        a.drops(DropReason::BadOffloadHeader) == wanted + cut
    });
    // No IP at all.
    put(&host_a, &VirtioHeader::default(), &[0x75; 60]);
    eventually("a packet of no known version", || {
        a.drops(DropReason::NotIp) + a.drops(DropReason::BadOffloadHeader) == wanted + cut + 1
    });
    still_carries(&host_a, &host_b, 200);
}

/// Packets of one flow, as different as they may be: what comes out is what went in, byte for
/// byte, a wrong checksum included.
#[test]
fn mixed_sizes_and_a_bad_checksum_come_out_as_they_went_in() {
    let Some((a, b)) = gateways("mixed", &Scene::default()) else {
        return;
    };
    let (host_a, host_b) = ends(&a, &b);
    let mut packets = Vec::new();
    let mut seq = 1;
    for (id, len) in (1..).zip([1300, 1300, 200, 1300, 1, 0, 1300, 700, 1300, 1300]) {
        packets.push(tcp(id, seq, &vec![u8::try_from(id).unwrap(); len]));
        seq += u32::try_from(len).unwrap();
    }
    packets[3][36] ^= 0x55;
    for packet in &packets {
        put(&host_a, &VirtioHeader::default(), packet);
    }
    let mut came = take(&host_b, packets.len());
    // The coalescer may let one flow's odd packet pass first; nothing may be lost or changed.
    came.sort();
    packets.sort();
    assert_eq!(came, packets);
}

#[test]
fn ipv6_extension_chains_and_fragments_pass_unchanged() {
    let Some((a, b)) = gateways("chains", &Scene::default()) else {
        return;
    };
    let (host_a, host_b) = ends(&a, &b);
    let ipv6 = |next: u8, rest: &[u8]| {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        let mut packet = vec![0x60, 0, 0, 0, len[0], len[1], next, 64];
        packet.extend([0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        packet.extend([0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        packet.extend_from_slice(rest);
        packet
    };
    let udp = [0, 1, 0, 2, 0, 12, 0x12, 0x34, 1, 2, 3, 4];
    // Hop-by-hop, then destination options, then UDP; padding options inside.
    let chain = [
        &[60, 0, 1, 4, 0, 0, 0, 0][..],
        &[17, 0, 1, 4, 0, 0, 0, 0],
        &udp,
    ]
    .concat();
    // A later fragment: its bytes look like anything.
    let fragment = [&[17, 0, 0, 0x49, 0, 0, 0, 7][..], &[0xee; 64]].concat();
    let mut later_ipv4 = ipv4(6, 9, &[0xdd; 40]);
    later_ipv4[6..8].copy_from_slice(&[0x00, 0x10]);
    later_ipv4[10..12].fill(0);
    let sum = Sum::ZERO.bytes(&later_ipv4[..20]).complement();
    later_ipv4[10..12].copy_from_slice(&sum);
    for packet in [ipv6(0, &chain), ipv6(44, &fragment), later_ipv4] {
        put(&host_a, &VirtioHeader::default(), &packet);
        assert_eq!(take(&host_b, 1), [packet]);
    }
    // A chain that ends in the middle of a header: no port to select by, but "any" takes it.
    let stump = ipv6(0, &[60, 9, 1, 4, 0, 0]);
    put(&host_a, &VirtioHeader::default(), &stump);
    assert_eq!(take(&host_b, 1), [stump]);
    still_carries(&host_a, &host_b, 300);
}

#[test]
fn a_device_that_disappears_is_counted_once_and_can_be_replaced() {
    let Some((a, b)) = gateways("disappears", &Scene::default()) else {
        return;
    };
    let (host_a, host_b) = ends(&a, &b);
    still_carries(&host_a, &host_b, 1);
    drop(host_a);
    eventually("a counted end", || a.plane.counters().tun_errors == 1);
    // What comes for it has nowhere to go.
    put(&host_b, &VirtioHeader::default(), &tcp(2, 2, b"to nobody"));
    eventually("a counted loss", || a.drops(DropReason::TunFull) == 1);
    assert_eq!(a.plane.counters().tun_errors, 1, "it is not asked again");
    assert_eq!(a.plane.failed_worker(), None);
    a.plane.remove_tunnel(CONNECTION).unwrap();
    let host_a = a.play_device();
    still_carries(&host_a, &host_b, 3);
}

#[test]
fn an_empty_datagram_is_counted() {
    let Some((a, b)) = gateways("empty", &Scene::default()) else {
        return;
    };
    let stranger = a.space.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    stranger.send_to(&[], (WAN_B, 4500)).unwrap();
    stranger.send_to(&[1, 2], (WAN_B, 4500)).unwrap();
    eventually("two that are not ESP", || b.drops(DropReason::NotEsp) == 2);
}

/// EMSGSIZE: outer packets must not be fragmented, and the link is too narrow.
#[test]
fn packets_above_the_path_mtu_are_counted_and_smaller_ones_pass() {
    let scene = Scene {
        config: DataPlaneConfig {
            outer_df: OuterDf::Set,
            ..Scene::default().config
        },
        ..Scene::default()
    };
    let Some((a, b)) = gateways("narrow", &scene) else {
        return;
    };
    let (host_a, host_b) = ends(&a, &b);
    a.space.ip("link set wan mtu 1000");
    put(&host_a, &VirtioHeader::default(), &tcp(1, 1, &[3; 1200]));
    eventually("a counted giant", || a.drops(DropReason::TooBig) == 1);
    still_carries(&host_a, &host_b, 2);
}
