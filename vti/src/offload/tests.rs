//! Split and coalesce against each other and against etherparse.

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::*;
use crate::checksum::Sum;

/// A TCP or UDP packet as a host would send it, all checksums right.
#[derive(Debug, Clone)]
struct Shape {
    ipv6: bool,
    tcp: bool,
    options: bool,
    tos: u8,
    id: u16,
    sequence: u32,
}

impl Shape {
    fn packet(&self, index: usize, offset: usize, payload: &[u8], flags: u8) -> Vec<u8> {
        let ip = if self.ipv6 {
            PacketBuilder::ipv6([0x20; 16], [0x21; 16], 61)
        } else {
            PacketBuilder::ipv4([10, 1, 0, 1], [10, 2, 0, 2], 61)
        };
        let mut packet = Vec::new();
        if self.tcp {
            let sequence = self.sequence.wrapping_add(u32::try_from(offset).unwrap());
            let mut builder = ip.tcp(40_000, 443, sequence, 5_000).ack(77);
            if self.options {
                let stamp = etherparse::TcpOptionElement::Timestamp(1, 2);
                let noop = etherparse::TcpOptionElement::Noop;
                builder = builder.options(&[noop.clone(), noop, stamp]).unwrap();
            }
            builder.write(&mut packet, payload).unwrap();
        } else {
            ip.udp(40_000, 443).write(&mut packet, payload).unwrap();
        }
        let id = self.id.wrapping_add(u16::try_from(index).unwrap());
        if self.ipv6 {
            packet[0] |= self.tos >> 4;
            packet[1] |= self.tos << 4;
        } else {
            packet[1] = self.tos;
            packet[4..6].copy_from_slice(&id.to_be_bytes());
        }
        if self.tcp {
            let upper = if self.ipv6 { 40 } else { 20 };
            packet[upper + 13] |= flags;
        }
        fix(&mut packet);
        packet
    }
}

/// Recomputes the checksums the slow way.
fn fix(packet: &mut [u8]) {
    let ipv6 = packet[0] >> 4 == 6;
    let upper = if ipv6 { 40 } else { 20 };
    if !ipv6 {
        packet[10..12].fill(0);
        let sum = Sum::ZERO.bytes(&packet[..20]).complement();
        packet[10..12].copy_from_slice(&sum);
    }
    let protocol = packet[if ipv6 { 6 } else { 9 }];
    let field = upper + if protocol == 6 { 16 } else { 6 };
    packet[field..field + 2].fill(0);
    let addresses = if ipv6 {
        &packet[8..40]
    } else {
        &packet[12..20]
    };
    let len = u16::try_from(packet.len() - upper).unwrap();
    let sum = Sum::ZERO
        .bytes(addresses)
        .word(u16::from(protocol))
        .word(len)
        .bytes(&packet[upper..])
        .complement();
    let sum = if protocol == 17 && sum == [0, 0] {
        [0xff, 0xff]
    } else {
        sum
    };
    packet[field..field + 2].copy_from_slice(&sum);
}

/// Etherparse's opinion of every checksum in the packet.
fn judge(packet: &[u8]) -> bool {
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    let transport = sliced.transport.unwrap();
    match sliced.net.unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            let (from, to) = (header.source, header.destination);
            let upper = match transport {
                TransportSlice::Tcp(tcp) => {
                    tcp.calc_checksum_ipv4(from, to).unwrap() == tcp.checksum()
                }
                TransportSlice::Udp(udp) => {
                    let ip = header.clone();
                    udp.to_header()
                        .calc_checksum_ipv4(&ip, udp.payload())
                        .unwrap()
                        == udp.checksum()
                }
                _ => false,
            };
            upper && header.calc_header_checksum() == header.header_checksum
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            match transport {
                TransportSlice::Tcp(tcp) => {
                    tcp.calc_checksum_ipv6(header.source, header.destination)
                        .unwrap()
                        == tcp.checksum()
                }
                TransportSlice::Udp(udp) => {
                    udp.to_header()
                        .calc_checksum_ipv6(&header, udp.payload())
                        .unwrap()
                        == udp.checksum()
                }
                _ => false,
            }
        }
        NetSlice::Arp(_) => false,
    }
}

fn payload(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|i| u8::try_from(i % 253).unwrap() ^ seed)
        .collect()
}

const fn lane(tag: usize) -> Lane {
    Lane {
        tag,
        tcp: true,
        udp: true,
    }
}

/// Lays packets out in one buffer with gaps, coalesces them and returns the writes.
fn coalesce(packets: &[Vec<u8>]) -> Vec<(VirtioHeader, Vec<u8>)> {
    let mut buffer = vec![0xee; 7];
    let mut ranges = Vec::new();
    for packet in packets {
        ranges.push(buffer.len()..buffer.len() + packet.len());
        buffer.extend_from_slice(packet);
        buffer.extend_from_slice(&[0xee; 34]);
    }
    let mut coalescer = Coalescer::with_capacity(8);
    for range in ranges {
        coalescer.push(&buffer, range, &lane(0));
    }
    let mut writes = Vec::new();
    coalescer.drain(&mut buffer, |_, header, parts| {
        let bytes = parts.iter().flat_map(|part| part.iter().copied()).collect();
        writes.push((*header, bytes));
    });
    assert!(coalescer.is_empty());
    writes
}

fn split(header: &VirtioHeader, packet: &[u8]) -> Vec<Vec<u8>> {
    let packet = SuperPacket::parse(header, packet).unwrap();
    (0..packet.segments())
        .map(|index| {
            let mut out = vec![0; packet.segment_len(index)];
            packet.write_segment(index, &mut out).unwrap();
            out
        })
        .collect()
}

fn shapes() -> impl Strategy<Value = Shape> {
    (
        any::<(bool, bool, bool)>(),
        any::<u8>(),
        any::<u16>(),
        any::<u32>(),
    )
        .prop_map(|((ipv6, tcp, options), tos, id, sequence)| Shape {
            ipv6,
            tcp,
            options,
            tos,
            id,
            sequence,
        })
}

proptest! {
    #[test]
    fn coalesce_then_split_is_identity_and_one_write(
        shape in shapes(), size in 1..1400_usize, count in 2..40_usize, short in 0..1400_usize,
        last_flags in prop_oneof![Just(0_u8), Just(0x08), Just(0x01), Just(0x09)],
    ) {
        let mut packets = Vec::new();
        for index in 0..count {
            let is_last = index + 1 == count;
            let len = if is_last { (short % size) + 1 } else { size };
            let flags = if is_last { last_flags } else { 0 };
            packets.push(shape.packet(index, index * size, &payload(len, 9), flags));
        }
        let writes = coalesce(&packets);
        prop_assert_eq!(writes.len(), 1);
        let (header, bytes) = &writes[0];
        prop_assert!(header.gso.is_some() && header.needs_checksum);
        prop_assert_eq!(split(header, bytes), packets);
    }

    #[test]
    fn any_mixture_comes_out_unchanged_and_in_order_per_flow(
        shape in shapes(),
        pieces in proptest::collection::vec(
            (1..600_usize, any::<u8>(), prop_oneof![5 => Just(0_u8), 1 => any::<u8>()], any::<bool>()), 1..60),
    ) {
        // Sizes, flags and gaps in the sequence at random; a tenth has a bad checksum.
        let mut offset = 0;
        let packets: Vec<Vec<u8>> = pieces.iter().enumerate().map(|(index, (len, seed, flags, jump))| {
            let mut packet = shape.packet(index, offset, &payload(*len, *seed), *flags);
            offset += len + usize::from(*jump && *seed > 200);
            if *seed % 10 == 0 {
                let last = packet.len() - 1;
                packet[last] ^= 0x5a;
            }
            packet
        }).collect();
        let mut again = Vec::new();
        for (header, bytes) in coalesce(&packets) {
            again.extend(split(&header, &bytes));
        }
        prop_assert_eq!(again, packets);
    }

    #[test]
    fn segments_have_right_checksums_by_an_independent_judge(
        shape in shapes(), ip_options: bool, len in 2..60_000_usize, size in 1..1500_u16,
    ) {
        let size = usize::from(size).min(len);
        // What the kernel would hand over: one big packet with a partial checksum.
        let mut big = shape.packet(0, 0, &payload(len, 3), 0x89);
        let mut upper = if shape.ipv6 { 40 } else { 20 };
        if ip_options && !shape.ipv6 {
            upper += add_ip_options(&mut big);
        }
        let kind = match (shape.tcp, shape.ipv6) {
            (false, _) => GsoKind::Udp,
            (true, false) => GsoKind::TcpV4,
            (true, true) => GsoKind::TcpV6,
        };
        let offset = if shape.tcp { 16 } else { 6 };
        big[upper + offset..upper + offset + 2].fill(0x77);
        let header = VirtioHeader {
            needs_checksum: true,
            gso: Some(Gso { kind, ecn: false, size: u16::try_from(size).unwrap() }),
            checksum_start: u16::try_from(upper).unwrap(),
            checksum_offset: offset.try_into().unwrap(),
            ..VirtioHeader::default()
        };
        let segments = split(&header, &big);
        let headers = big.len() - len;
        let mut sent = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            prop_assert!(judge(segment), "segment {} of {}", index, segments.len());
            if shape.tcp {
                let flags = segment[upper + 13];
                prop_assert_eq!(flags & 0x80 != 0, index == 0, "CWR on the first only");
                prop_assert_eq!(flags & 0x09 == 0x09, index + 1 == segments.len(), "FIN, PSH on the last only");
            }
            sent.extend_from_slice(&segment[headers..]);
        }
        prop_assert_eq!(sent, payload(len, 3));
    }

    #[test]
    fn no_header_makes_the_splitter_panic(
        header: [u8; 10], packet in proptest::collection::vec(any::<u8>(), 0..200), version in 0..2_u8,
    ) {
        let mut packet = packet;
        if let Some(first) = packet.first_mut() {
            *first = if version == 0 { 0x45 } else { 0x60 };
        }
        let Ok(header) = VirtioHeader::parse(&header) else { return Ok(()) };
        if let Ok(parsed) = SuperPacket::parse(&header, &packet) {
            for index in 0..parsed.segments() {
                let mut out = vec![0; parsed.segment_len(index)];
                let _any_result = parsed.write_segment(index, &mut out);
            }
            prop_assert_eq!(parsed.segment_len(parsed.segments()), 0);
        }
    }

    #[test]
    fn garbage_passes_the_coalescer_unchanged(
        packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..80), 1..20),
    ) {
        let writes = coalesce(&packets);
        let bytes: Vec<Vec<u8>> = writes.into_iter().map(|(_, bytes)| bytes).collect();
        prop_assert_eq!(bytes, packets);
    }
}

fn tcp4() -> Shape {
    Shape {
        ipv6: false,
        tcp: true,
        options: true,
        tos: 0,
        id: 5,
        sequence: 1000,
    }
}

/// Puts a router alert (RFC 2113) and padding behind an IPv4 header; how many bytes.
fn add_ip_options(packet: &mut Vec<u8>) -> usize {
    let options = [148, 4, 0, 0, 1, 1, 1, 0];
    packet.splice(20..20, options);
    packet[0] += 2;
    let total = u16::try_from(packet.len()).unwrap();
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    options.len()
}

/// Two consecutive packets of which the second was changed by `edit`: how many writes?
fn writes_after(edit: impl Fn(&mut Vec<u8>)) -> usize {
    let shape = tcp4();
    let first = shape.packet(0, 0, &payload(500, 1), 0);
    let mut second = shape.packet(1, 500, &payload(500, 1), 0);
    edit(&mut second);
    fix(&mut second);
    let packets = [first, second];
    let writes = coalesce(&packets);
    let again: Vec<_> = writes.iter().flat_map(|(h, b)| split(h, b)).collect();
    assert_eq!(again, packets);
    writes.len()
}

#[test]
fn what_the_receiver_would_see_is_never_merged_away() {
    assert_eq!(writes_after(|_| {}), 1);
    assert_eq!(writes_after(|p| p[1] = 3), 2, "ECN congestion experienced");
    assert_eq!(writes_after(|p| p[8] = 60), 2, "TTL");
    assert_eq!(writes_after(|p| p[6] ^= 0x40), 2, "don't fragment");
    assert_eq!(writes_after(|p| p[5] = 99), 2, "identification");
    assert_eq!(writes_after(|p| p[20 + 11] ^= 1), 2, "acknowledgement");
    assert_eq!(writes_after(|p| p[20 + 15] ^= 1), 2, "window");
    assert_eq!(writes_after(|p| p[20 + 24] ^= 1), 2, "timestamp option");
    assert_eq!(writes_after(|p| p[20 + 7] ^= 1), 2, "sequence");
    assert_eq!(writes_after(|p| p[20 + 13] |= 0x40), 2, "ECE");
    assert_eq!(
        writes_after(|p| p[20 + 13] |= 0x80),
        2,
        "CWR on a later segment"
    );
    assert_eq!(writes_after(|p| p[20 + 13] |= 0x20), 2, "URG");
    assert_eq!(writes_after(|p| p[20 + 12] |= 0x01), 2, "accurate ECN bit");
    assert_eq!(writes_after(|p| p[21] ^= 1), 2, "port");
}

#[test]
fn equal_identifications_merge_only_with_dont_fragment() {
    let same_id = |p: &mut Vec<u8>| p[4..6].copy_from_slice(&5_u16.to_be_bytes());
    let shape = tcp4();
    for (df, expected) in [(0x40, 1), (0x00, 2)] {
        let mut first = shape.packet(0, 0, &payload(500, 1), 0);
        let mut second = shape.packet(1, 500, &payload(500, 1), 0);
        same_id(&mut second);
        for packet in [&mut first, &mut second] {
            packet[6] = df;
            fix(packet);
        }
        assert_eq!(coalesce(&[first, second]).len(), expected);
    }
}

#[test]
fn a_bad_checksum_stays_bad_and_alone() {
    let shape = tcp4();
    let mut packets: Vec<_> = (0..3)
        .map(|i| shape.packet(i, i * 500, &payload(500, 1), 0))
        .collect();
    packets[1][100] ^= 0xff;
    let writes = coalesce(&packets);
    assert_eq!(writes.len(), 3);
    assert!(!writes[1].0.checksum_valid && writes[0].0.checksum_valid);
    assert_eq!(writes[1].1, packets[1]);
}

#[test]
fn interleaved_flows_each_become_one_write() {
    let one = tcp4();
    let two = Shape {
        ipv6: true,
        ..tcp4()
    };
    let mut packets = Vec::new();
    for index in 0..10 {
        packets.push(one.packet(index, index * 700, &payload(700, 1), 0));
        packets.push(two.packet(index, index * 700, &payload(700, 2), 0));
    }
    assert_eq!(coalesce(&packets).len(), 2);
}

#[test]
fn tunnels_do_not_mix_even_with_the_same_addresses_inside() {
    let shape = tcp4();
    let mut buffer = Vec::new();
    let mut coalescer = Coalescer::with_capacity(8);
    let mut ranges = Vec::new();
    for index in 0..4 {
        let packet = shape.packet(index, index * 500, &payload(500, 1), 0);
        ranges.push(buffer.len()..buffer.len() + packet.len());
        buffer.extend_from_slice(&packet);
    }
    for (index, range) in ranges.into_iter().enumerate() {
        coalescer.push(&buffer, range, &lane(index / 2));
    }
    let mut tags = Vec::new();
    coalescer.drain(&mut buffer, |tag, _, parts| tags.push((tag, parts.len())));
    assert_eq!(tags, [(0, 2), (1, 2)]);
}

#[test]
fn a_udp_packet_without_checksum_does_not_gain_one() {
    let shape = Shape {
        tcp: false,
        ..tcp4()
    };
    let packets: Vec<_> = (0..2)
        .map(|i| {
            let mut packet = shape.packet(i, 0, &payload(300, 1), 0);
            packet[26..28].fill(0);
            packet
        })
        .collect();
    let writes = coalesce(&packets);
    assert_eq!(writes.len(), 2);
    assert_eq!(writes[0].1, packets[0]);
}

#[test]
fn a_super_packet_can_be_forwarded_to_an_ethernet_whole() {
    for ipv6 in [false, true] {
        let shape = Shape { ipv6, ..tcp4() };
        // 44 of them and their headers are 65,524 bytes (IPv4) or more.
        let packets: Vec<_> = (0..64)
            .map(|i| shape.packet(i, i * 1488, &payload(1488, 1), 0))
            .collect();
        let writes = coalesce(&packets);
        assert_eq!(writes.len(), 2);
        assert!(writes.iter().all(|(_, bytes)| bytes.len() + 22 < 65_536));
    }
}

#[test]
fn lies_in_the_virtio_header_are_named() {
    let packet = tcp4().packet(0, 0, &payload(1000, 1), 0);
    let gso = |kind, size| VirtioHeader {
        gso: Some(Gso {
            kind,
            ecn: false,
            size,
        }),
        ..VirtioHeader::default()
    };
    let parse = |header: &VirtioHeader, packet: &[u8]| SuperPacket::parse(header, packet).err();
    assert_eq!(
        parse(&gso(GsoKind::TcpV4, 0), &packet),
        Some(OffloadError::GsoSizeZero)
    );
    assert_eq!(
        parse(&gso(GsoKind::TcpV4, 1001), &packet),
        Some(OffloadError::GsoSizeTooLarge {
            size: 1001,
            payload: 1000
        })
    );
    assert_eq!(
        parse(&gso(GsoKind::TcpV6, 500), &packet),
        Some(OffloadError::KindMismatch)
    );
    assert_eq!(
        parse(&gso(GsoKind::Udp, 500), &packet),
        Some(OffloadError::KindMismatch)
    );
    assert_eq!(
        parse(&gso(GsoKind::TcpV4, 500), &packet[..900]),
        Some(OffloadError::Truncated)
    );
    assert_eq!(
        parse(&gso(GsoKind::TcpV4, 500), &[]),
        Some(OffloadError::Truncated)
    );
    let outside = VirtioHeader {
        needs_checksum: true,
        checksum_start: 2000,
        checksum_offset: 16,
        ..VirtioHeader::default()
    };
    assert_eq!(
        parse(&outside, &packet),
        Some(OffloadError::ChecksumOutside)
    );
}

#[test]
fn a_partial_checksum_of_a_single_packet_is_completed() {
    let whole = tcp4().packet(0, 0, &payload(333, 1), 0);
    let mut partial = whole.clone();
    let len = u16::try_from(partial.len() - 20).unwrap();
    let pseudo = Sum::ZERO.bytes(&partial[12..20]).word(6).word(len).folded();
    partial[36..38].copy_from_slice(&pseudo);
    let header = VirtioHeader {
        needs_checksum: true,
        checksum_start: 20,
        checksum_offset: 16,
        ..VirtioHeader::default()
    };
    assert_eq!(split(&header, &partial), vec![whole]);
}
