use super::*;

fn ipv4(protocol: u8, fragment: u16, options: usize, payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options * 4;
    let mut packet = vec![0_u8; header_len];
    packet[0] = 0x40 | (header_len / 4) as u8;
    packet[2..4].copy_from_slice(&((header_len + payload.len()) as u16).to_be_bytes());
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet[9] = protocol;
    packet[12..16].copy_from_slice(&[10, 1, 0, 1]);
    packet[16..20].copy_from_slice(&[10, 2, 0, 2]);
    packet.extend_from_slice(payload);
    packet
}

fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0_u8; 40];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    packet[6] = next_header;
    packet[23] = 1;
    packet[39] = 2;
    packet.extend_from_slice(payload);
    packet
}

const PORTS: [u8; 4] = [0x04, 0xd2, 0x01, 0xbb];

#[test]
fn ipv4_ports_stand_behind_options() {
    let flow = flow_of(&ipv4(6, 0x4000, 3, &PORTS)).unwrap();
    assert_eq!(flow.source, "10.1.0.1".parse::<IpAddr>().unwrap());
    assert_eq!(flow.destination, "10.2.0.2".parse::<IpAddr>().unwrap());
    assert_eq!(
        (flow.source_port, flow.destination_port),
        (Some(1234), Some(443))
    );
}

#[test]
fn a_later_fragment_shows_no_ports() {
    let first = flow_of(&ipv4(17, 0x2000, 0, &PORTS)).unwrap();
    assert_eq!(first.destination_port, Some(443));
    let later = flow_of(&ipv4(17, 0x2001, 0, &PORTS)).unwrap();
    assert_eq!((later.protocol, later.destination_port), (17, None));
}

#[test]
fn fragments_are_known_by_their_header() {
    for (fragment, expected) in [
        (0x4000, false),
        (0x2000, true),
        (0x2001, true),
        (0x0001, true),
    ] {
        assert_eq!(is_fragment(&ipv4(17, fragment, 0, &PORTS)), expected);
    }
    assert!(is_fragment(&ipv6(44, &PORTS)));
    assert!(!is_fragment(&ipv6(17, &PORTS)));
    assert!(!is_fragment(&[0x45, 0]));
}

#[test]
fn icmp_shows_no_ports() {
    assert_eq!(flow_of(&ipv4(1, 0, 0, &PORTS)).unwrap().source_port, None);
}

#[test]
fn ipv6_extension_headers_are_skipped() {
    // Hop-by-hop (8 bytes), destination options (16 bytes), then TCP.
    let mut chain = vec![60, 0, 1, 4, 0, 0, 0, 0];
    chain.extend_from_slice(&[6, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    chain.extend_from_slice(&PORTS);
    let flow = flow_of(&ipv6(0, &chain)).unwrap();
    assert_eq!((flow.protocol, flow.destination_port), (6, Some(443)));
}

#[test]
fn ipv6_fragments_show_ports_only_in_the_first() {
    let mut first = vec![17, 0, 0, 1, 0, 0, 0, 7];
    first.extend_from_slice(&PORTS);
    assert_eq!(flow_of(&ipv6(44, &first)).unwrap().source_port, Some(1234));
    let mut later = vec![17, 0, 0x05, 0xa8, 0, 0, 0, 7];
    later.extend_from_slice(&PORTS);
    let flow = flow_of(&ipv6(44, &later)).unwrap();
    assert_eq!((flow.protocol, flow.source_port), (17, None));
}

#[test]
fn an_endless_or_cut_extension_chain_ends_without_ports() {
    let endless: Vec<u8> = std::iter::repeat_n([60, 0, 1, 4, 0, 0, 0, 0], 50)
        .flatten()
        .collect();
    assert_eq!(flow_of(&ipv6(60, &endless)).unwrap().source_port, None);
    let cut = flow_of(&ipv6(60, &[6, 200, 0, 0])).unwrap();
    assert_eq!((cut.protocol, cut.source_port), (6, None));
}

#[test]
fn no_prefix_of_a_packet_is_misread() {
    for packet in [ipv4(6, 0, 2, &PORTS), ipv6(6, &PORTS)] {
        let whole = InnerHeader::parse(&packet).unwrap();
        assert_eq!(whole.total_len, packet.len());
        for len in 0..packet.len() {
            assert!(InnerHeader::parse(&packet[..len]).is_err(), "{len} bytes");
            let _ = flow_of(&packet[..len]);
        }
        let mut padded = packet.clone();
        padded.extend_from_slice(&[0; 9]);
        assert_eq!(InnerHeader::parse(&padded).unwrap(), whole);
    }
}

#[test]
fn other_versions_and_short_header_lengths_are_refused() {
    let mut packet = ipv4(6, 0, 0, &PORTS);
    packet[0] = 0x44;
    assert_eq!(InnerHeader::parse(&packet), Err(DropReason::InnerLength));
    assert_eq!(flow_of(&packet), Err(DropReason::InnerLength));
    packet[0] = 0x55;
    assert_eq!(InnerHeader::parse(&packet), Err(DropReason::InnerVersion));
    assert_eq!(InnerHeader::parse(&[]), Err(DropReason::InnerVersion));
}

#[test]
fn traffic_class_of_both_versions() {
    let mut four = ipv4(6, 0, 0, &PORTS);
    four[1] = 0xb9;
    assert_eq!(InnerHeader::parse(&four).unwrap().traffic_class, 0xb9);
    let mut six = ipv6(6, &PORTS);
    six[..2].copy_from_slice(&[0x6b, 0x9f]);
    assert_eq!(InnerHeader::parse(&six).unwrap().traffic_class, 0xb9);
}

#[test]
fn only_acknowledgements_without_data_are_bare() {
    let tcp = |words: u8, flags: u8, data: usize| {
        let mut segment = vec![0; usize::from(words) * 4 + data];
        segment[12] = words << 4;
        segment[13] = flags;
        segment
    };
    const ACK: u8 = 0x10;
    const ECE: u8 = 0x40;
    for (segment, expected) in [
        (tcp(5, ACK, 0), true),
        (tcp(8, ACK | ECE, 0), true),
        (tcp(8, ACK, 1), false),
        (tcp(8, ACK | 0x02, 0), false),
        (tcp(8, ACK | 0x01, 0), false),
        (tcp(5, 0, 0), false),
    ] {
        assert_eq!(is_bare_ack(&ipv4(6, 0x4000, 0, &segment)), expected);
        assert_eq!(is_bare_ack(&ipv4(6, 0x4000, 3, &segment)), expected);
        assert_eq!(is_bare_ack(&ipv6(6, &segment)), expected);
        assert!(!is_bare_ack(&ipv4(17, 0x4000, 0, &segment)));
    }
    let whole = ipv4(6, 0x4000, 0, &tcp(5, ACK, 0));
    for len in 0..whole.len() {
        assert!(!is_bare_ack(&whole[..len]), "{len} bytes");
    }
}
