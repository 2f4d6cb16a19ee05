//! Packets that no honest peer sends: each is counted, none does harm.
//!
//! ```text
//!   host-a ──── gw-a ═══════════╤═══════════ gw-b ──── host-b
//!                               └ forged packets, from the peer's own address
//! ```

#![expect(
    clippy::indexing_slicing,
    reason = "the packets come from our own capture; a short one fails the test"
)]

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use netns_tests::lab::wait_for;
use netns_tests::peer::Vipsec;
use netns_tests::peer::vipsec::Options;
use netns_tests::probe::{Capture, Forger, Noise, Numbered, NumberedReport, Ping, pcap};
use netns_tests::topology::{A_WAN, HOST_B, TwoSites};
use netns_tests::tunnel::{
    AGAINST_OURSELVES, AGAINST_STRONGSWAN, AgainstOurselves, AgainstStrongSwan, expect_ping,
    expect_pings, policy_a, swan_policy_b,
};
use netns_tests::{LabError, Need, need, scenario};

const ESP: u8 = 50;
const A: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const B: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

fn with_capture(needs: &[Need]) -> Vec<Need> {
    let mut needs = needs.to_vec();
    needs.push(need::DUMPCAP);
    needs
}

/// What a capture of some pings holds of the peer's ESP packets, as they arrive at gateway A.
fn peers_esp(sites: &TwoSites, udp: bool) -> Result<Vec<Vec<u8>>, LabError> {
    let filter = if udp { "udp port 4500" } else { "ip proto 50" };
    let capture = Capture::start(&sites.gw_a, "wan", filter)?;
    Ping::to(HOST_B).count(10).from(&sites.host_a)?;
    let packets = pcap::ipv4_packets(&capture.finish()?)?;
    let from_b = packets.into_iter().filter(|packet| packet.source == B);
    let payloads = from_b.filter_map(|packet| match packet.protocol {
        ESP if !udp => Some(packet.payload),
        _ if udp => packet.udp().map(|datagram| datagram.payload),
        _ => None,
    });
    // Neither IKE (four zero bytes) nor a keepalive.
    Ok(payloads
        .filter(|payload| payload.len() > 8 && payload[..4] != [0; 4])
        .collect())
}

fn wait_counter(ours: &Vipsec, reason: &str, at_least: u64) -> Result<(), LabError> {
    let what = format!("counter {reason} >= {at_least}");
    wait_for(&what, Duration::from_secs(5), || {
        Ok((ours.status()?.counter(reason) >= at_least).then_some(()))
    })
}

/// Packets of a probe that say something.
const PROBED: usize = 20;

fn expect_unharmed(report: &NumberedReport) {
    assert!(report.sent > PROBED as u64, "{report:?}");
    assert_eq!((report.lost(), report.duplicates), (0, 0), "{report:?}");
}

/// Sends every kind of bad ESP packet and looks at the counters.
fn bad_esp(
    ours: &Vipsec,
    sites: &TwoSites,
    inject: impl Fn(&[u8]) -> Result<(), LabError>,
    captured: &[Vec<u8>],
) -> Result<(), LabError> {
    assert!(captured.len() >= 10, "{} packets captured", captured.len());
    let probe = Numbered::start(&sites.host_a, &sites.host_b, HOST_B, 200)?;
    // For as long as it takes for the probe to mean something.
    let mut rounds = 0;
    while rounds < 10 || probe.so_far().sent.len() <= PROBED {
        bad_round(ours, &inject, captured)?;
        rounds += 1;
    }
    expect_unharmed(&probe.finish()?);
    expect_pings(sites)
}

/// Replays, damaged packets, foreign SPIs and stumps, each waited for at its counter.
fn bad_round(
    ours: &Vipsec,
    inject: impl Fn(&[u8]) -> Result<(), LabError>,
    captured: &[Vec<u8>],
) -> Result<(), LabError> {
    let before = ours.status()?;
    let then = |reason: &str| before.counter(reason);
    let count = captured.len() as u64;
    for packet in captured {
        inject(packet)?;
    }
    wait_counter(ours, "replayed", then("replayed") + count)?;
    for packet in captured {
        let mut damaged = packet.clone();
        // A number beyond the window's edge, so that the replay check lets it pass.
        damaged[4..8].copy_from_slice(&0x0100_0000_u32.to_be_bytes());
        inject(&damaged)?;
    }
    wait_counter(ours, "bad_icv", then("bad_icv") + count)?;
    for packet in captured {
        let mut foreign = packet.clone();
        foreign[..4].copy_from_slice(&0x7777_7777_u32.to_be_bytes());
        inject(&foreign)?;
    }
    wait_counter(ours, "unknown_spi", then("unknown_spi") + count)?;
    for packet in captured {
        inject(&packet[..12])?;
    }
    wait_counter(ours, "truncated", then("truncated") + count)
}

#[test]
fn bad_esp_in_udp_is_counted_and_harmless() {
    scenario(&with_capture(AGAINST_STRONGSWAN), || {
        let pair = AgainstStrongSwan::start(&policy_a(), &swan_policy_b())?;
        pair.we_initiate()?;
        expect_pings(&pair.sites)?;
        let captured = peers_esp(&pair.sites, true)?;
        let forger = Forger::new(&pair.sites.gw_b, B)?;
        let to = SocketAddrV4::new(A, 4500);
        bad_esp(
            &pair.ours,
            &pair.sites,
            |packet| forger.udp(4500, to, packet),
            &captured,
        )?;
        Ok(())
    });
}

#[test]
fn bad_esp_in_protocol_50_is_counted_and_harmless() {
    scenario(&with_capture(AGAINST_OURSELVES), || {
        let pair = AgainstOurselves::start(&policy_a(), &Options::default())?;
        pair.bring_up()?;
        expect_pings(&pair.sites)?;
        let captured = peers_esp(&pair.sites, false)?;
        let forger = Forger::new(&pair.sites.gw_b, B)?;
        bad_esp(
            &pair.a,
            &pair.sites,
            |packet| forger.esp(A, packet),
            &captured,
        )?;
        Ok(())
    });
}

/// ISAKMP datagrams from noise to nearly right, from the peer's own address and port.
#[test]
fn garbage_from_the_peers_address_does_no_harm() {
    scenario(AGAINST_STRONGSWAN, || {
        let pair = AgainstStrongSwan::start(&policy_a(), &swan_policy_b())?;
        let status = pair.we_initiate()?;
        expect_pings(&pair.sites)?;
        let cookies = cookies(&status.ike_sas[0].initiator_cookie, &pair)?;
        let forger = Forger::new(&pair.sites.gw_b, B)?;
        let probe = Numbered::start(&pair.sites.host_a, &pair.sites.host_b, HOST_B, 200)?;
        let seed = 0x5eed_0001;
        println!("seed {seed:#x}");
        let mut noise = Noise::new(seed);
        for round in 0..20_000_usize {
            let datagram = garbage(&mut noise, &cookies);
            let to = SocketAddrV4::new(A, 500);
            forger.udp(500, to, &datagram)?;
            if round % 4 == 0 {
                let mut marked = vec![0; 4];
                marked.extend(&datagram);
                forger.udp(4500, SocketAddrV4::new(A, 4500), &marked)?;
            }
            // 10,000 a second: enough to keep the daemon busy, not to measure the socket buffer.
            if round % 100 == 0 {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        expect_unharmed(&probe.finish()?);
        let after = pair.ours.connection("site")?;
        assert_eq!(
            after.ike_sas[0].initiator_cookie,
            status.ike_sas[0].initiator_cookie
        );
        assert_eq!(after.in_use().count(), 1);
        pair.expect_traffic()?;
        Ok(())
    });
}

/// Both cookies of the established IKE SA, as 16 bytes.
fn cookies(initiator: &str, pair: &AgainstStrongSwan) -> Result<Vec<u8>, LabError> {
    let sas = pair.theirs.sas()?;
    let hex = format!("{}{}", sas[0].initiator_cookie, sas[0].responder_cookie);
    assert_eq!(
        sas[0].initiator_cookie, initiator,
        "both sides name the same SA"
    );
    let bytes = (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16));
    bytes
        .collect::<Result<Vec<u8>, _>>()
        .map_err(|_| LabError::unreadable("cookies", &hex))
}

/// One of: noise; a header with noise behind it; the live cookies with noise, a clear delete
/// or a clear notify; a first message with a broken SA payload.
fn garbage(noise: &mut Noise, cookies: &[u8]) -> Vec<u8> {
    let length = noise.below(400);
    let body = noise.bytes(length);
    let fresh = [noise.bytes(8), vec![0; 8]].concat();
    match noise.below(6) {
        0 => body,
        1 => header(&fresh, 1, 2, 0, &body),
        2 => header(
            cookies,
            noise.below(16) as u8,
            [2, 5, 32][noise.below(3)],
            1,
            &body,
        ),
        3 => header(cookies, 12, 5, 0, &delete(cookies)),
        4 => header(cookies, 11, 5, 0, &[0, 0, 0, 12, 0, 0, 0, 1, 1, 0, 0, 11]),
        _ => {
            let mut sa = vec![0, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0, 1];
            sa.extend(&body);
            header(&fresh, 1, 2, 0, &sa)
        }
    }
}

/// A Delete payload for the IKE SA with these cookies (RFC 2408 section 3.15).
fn delete(cookies: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, 0, 0, 28, 0, 0, 0, 1, 1, 16, 0, 1];
    payload.extend(cookies);
    payload
}

/// An ISAKMP header (RFC 2408 section 3.1) in front of a body, with the right length.
fn header(cookies: &[u8], next: u8, exchange: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut message = cookies.to_vec();
    message.extend([next, 0x10, exchange, flags]);
    let id: u32 = if exchange == 2 { 0 } else { 0x1234_5678 };
    message.extend(id.to_be_bytes());
    message.extend(((28 + body.len()) as u32).to_be_bytes());
    message.extend(body);
    message
}

/// A clear delete or notify with the right cookies, and nothing else: no effect at all.
#[test]
fn an_unauthenticated_delete_is_ignored() {
    scenario(AGAINST_STRONGSWAN, || {
        let pair = AgainstStrongSwan::start(&policy_a(), &swan_policy_b())?;
        let status = pair.we_initiate()?;
        let cookies = cookies(&status.ike_sas[0].initiator_cookie, &pair)?;
        let forger = Forger::new(&pair.sites.gw_b, B)?;
        let mut message = vec![0; 4];
        message.extend(header(&cookies, 12, 5, 0, &delete(&cookies)));
        for _ in 0..10 {
            forger.udp(4500, SocketAddrV4::new(A, 4500), &message)?;
        }
        pair.expect_traffic()?;
        let after = pair.ours.connection("site")?;
        assert_eq!(
            after.ike_sas[0].initiator_cookie,
            status.ike_sas[0].initiator_cookie
        );
        assert_eq!(after.in_use().count(), 1);
        Ok(())
    });
}

/// A source that is no configured peer gets no answer to anything.
#[test]
fn a_stranger_hears_nothing() {
    scenario(&with_capture(AGAINST_OURSELVES), || {
        let sites = TwoSites::new(&netns_tests::Lab::new()?)?;
        let _ours = Vipsec::start(&sites.gw_a, &[policy_a()])?;
        sites.gw_b.address("wan", "203.0.113.66/24")?;
        let capture = Capture::start(&sites.gw_a, "wan", "host 203.0.113.66 and not arp")?;
        let stranger = sites
            .gw_b
            .enter(|| UdpSocket::bind("203.0.113.66:500"))?
            .map_err(LabError::at("bind"))?;
        let mut noise = Noise::new(7);
        for _ in 0..200 {
            let datagram = garbage(&mut noise, &[7; 16]);
            stranger.send_to(&datagram, (A_WAN, 500))?;
        }
        stranger.send_to(&first_message(), (A_WAN, 500))?;
        // The answer to the ping comes after every answer to an earlier datagram.
        expect_ping(&sites.gw_b, A_WAN.parse()?)?;
        let packets = pcap::ipv4_packets(&capture.finish()?)?;
        let asked = packets.iter().filter(|packet| packet.udp().is_some());
        assert!(asked.count() >= 201);
        let answers: Vec<_> = packets.iter().filter(|packet| packet.source == A).collect();
        assert!(answers.is_empty(), "{answers:?}");
        Ok(())
    });
}

/// Towards an address that has proved nothing, never more bytes than came from it.
#[test]
fn no_amplification_towards_the_peers_address() {
    scenario(&with_capture(AGAINST_OURSELVES), || {
        let sites = TwoSites::new(&netns_tests::Lab::new()?)?;
        let _ours = Vipsec::start(&sites.gw_a, &[policy_a()])?;
        let capture = Capture::start(&sites.gw_a, "wan", "udp port 500")?;
        let forger = Forger::new(&sites.gw_b, B)?;
        // Somebody who can send as the peer, and never reads the answers.
        for _ in 0..50 {
            forger.udp(500, SocketAddrV4::new(A, 500), &first_message())?;
        }
        expect_ping(&sites.gw_b, A_WAN.parse()?)?;
        let packets = pcap::ipv4_packets(&capture.finish()?)?;
        let bytes = |from: Ipv4Addr| -> usize {
            let sent = packets.iter().filter(|packet| packet.source == from);
            sent.map(|packet| packet.payload.len()).sum()
        };
        assert!(bytes(B) > 0);
        assert!(bytes(A) <= bytes(B), "{} in, {} out", bytes(B), bytes(A));
        Ok(())
    });
}

/// A correct main-mode first message: AES-256, SHA-256, group 14, pre-shared key.
fn first_message() -> Vec<u8> {
    let attributes: [u16; 14] = [
        0x8001, 7, 0x800e, 256, 0x8002, 4, 0x8003, 1, 0x8004, 14, 0x800b, 1, 0x800c, 28_800,
    ];
    let transform = [vec![0, 0, 0, 36, 1, 1, 0, 0], words(&attributes)].concat();
    let proposal = [vec![0, 0, 0, 44, 1, 1, 0, 1], transform].concat();
    let sa = [vec![0, 0, 0, 56, 0, 0, 0, 1, 0, 0, 0, 1], proposal].concat();
    header(&[[9; 8], [0; 8]].concat(), 1, 2, 0, &sa)
}

fn words(values: &[u16]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_be_bytes())
        .collect()
}
