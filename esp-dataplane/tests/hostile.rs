//! Bad input: each kind has its own counted reason, changes nothing in the SA and harms no
//! other packet.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod common;

use common::{
    CBC256, GCM128, NOW, Plane, TUNNEL, Terms, a_to_b, ipv4, ipv6, selectors, side_a, spi, train,
};
use esp_dataplane::{DropReason, EspEvent, OpenSlot};
use ipsec_types::{Encapsulation, EspSuite, SelectorPair, TrafficSelector};
use proptest::prelude::*;

fn ends(terms: &Terms) -> (Plane, Plane) {
    (Plane::with(&terms.pair_a()), Plane::with(&terms.pair_b()))
}

/// Seals raw body bytes as an authentic packet: what a peer that breaks the rules inside the
/// encryption would send. Works by handing B a null-cipher SA.
fn plaintext_ends(selectors: SelectorPair) -> (Plane, Plane) {
    let terms = Terms {
        selectors,
        ..Terms::new(GCM128)
    };
    let (a, b) = (Plane::new(), Plane::new());
    a.sad.install_null_pair_for_bench(&terms.pair_a()).unwrap();
    b.sad.install_null_pair_for_bench(&terms.pair_b()).unwrap();
    a.sad.switch_outbound(TUNNEL, spi(0x1000)).unwrap();
    (a, b)
}

/// Changes the body of an unprotected ESP packet: 16 bytes of header and IV, 16 of ICV.
fn with_body(sealed: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut body = sealed[16..sealed.len() - 16].to_vec();
    change(&mut body);
    [&sealed[..16], &body, &sealed[sealed.len() - 16..]].concat()
}

#[test]
fn unknown_and_reserved_spis() {
    let (mut a, mut b) = ends(&Terms::new(GCM128));
    let mut packet = a.seal_one(&a_to_b(100));
    packet[..4].copy_from_slice(&0xdead_beef_u32.to_be_bytes());
    assert_eq!(b.open_one(&packet), Err(DropReason::UnknownSpi));
    let event = EspEvent::UnknownSpi {
        spi: spi(0xdead_beef),
        from: side_a(),
        encapsulation: Encapsulation::Udp,
    };
    assert_eq!(b.events.try_recv(), Some(event));
    packet[..4].copy_from_slice(&255_u32.to_be_bytes());
    assert_eq!(b.open_one(&packet), Err(DropReason::ReservedSpi));
    assert_eq!(b.events.try_recv(), None);
    assert_eq!(b.drops(DropReason::UnknownSpi), 1);
    assert_eq!(b.drops(DropReason::ReservedSpi), 1);
}

#[test]
fn every_flipped_bit_is_refused_and_moves_nothing() {
    for suite in [GCM128, CBC256] {
        for esn in [false, true] {
            let (mut a, mut b) = ends(&Terms {
                esn,
                ..Terms::new(suite)
            });
            let sealed = a.seal_one(&a_to_b(60));
            for bit in 0..sealed.len() * 8 {
                let mut bad = sealed.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(b.open_one(&bad).is_err(), "{suite}, bit {bit}");
            }
            let sa = b.sad.inbound(spi(0x1000)).unwrap();
            assert_eq!(
                sa.replay().edge(),
                0,
                "an unauthenticated packet moved the window"
            );
            assert_eq!(sa.traffic().packets, 0);
            assert_eq!(b.open_one(&sealed), Ok(a_to_b(60)));
            assert!(b.drops(DropReason::BadIcv) > 0);
        }
    }
}

#[test]
fn truncated_at_every_length_and_with_trailing_bytes() {
    for suite in EspSuite::ALL {
        let (mut a, mut b) = ends(&Terms::new(suite));
        let sealed = a.seal_one(&a_to_b(60));
        for len in 0..sealed.len() {
            assert!(b.open_one(&sealed[..len]).is_err(), "{suite}, {len} bytes");
        }
        let mut long = sealed.clone();
        for _ in 0..40 {
            long.push(0);
            assert!(b.open_one(&long).is_err(), "{suite}");
        }
        assert_eq!(b.open_one(&sealed), Ok(a_to_b(60)));
    }
}

#[test]
fn replayed_ancient_and_reordered_numbers() {
    let (mut a, mut b) = ends(&Terms::new(CBC256));
    let packets: Vec<_> = a
        .seal(&vec![a_to_b(64); 1500])
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(b.open_one(&packets[1499]).is_ok());
    assert!(
        b.open_one(&packets[476]).is_ok(),
        "the left end of a window of 1024"
    );
    assert_eq!(b.open_one(&packets[475]), Err(DropReason::TooOld));
    assert_eq!(b.open_one(&packets[1499]), Err(DropReason::Replayed));
    assert_eq!(b.open_one(&packets[476]), Err(DropReason::Replayed));
    assert!(b.open_one(&packets[1000]).is_ok());
    let mut zero = packets[1001].clone();
    zero[4..8].fill(0);
    assert_eq!(b.open_one(&zero), Err(DropReason::SequenceIllegal));
    assert_eq!(b.sad.inbound(spi(0x1000)).unwrap().replay().edge(), 1500);
}

/// The same packet twice in one train, and one corrupt member: the rest passes.
#[test]
fn one_bad_member_does_not_spoil_a_train() {
    let (mut a, mut b) = ends(&Terms::new(GCM128));
    let mut packets: Vec<_> = a
        .seal(&vec![a_to_b(500); 6])
        .into_iter()
        .map(Result::unwrap)
        .collect();
    packets[2][40] ^= 1;
    packets[4] = packets[3].clone();
    packets.push(vec![0; 3]);
    let results: Vec<_> = b
        .open_from(&packets, side_a(), 0)
        .into_iter()
        .map(|r| r.map(|(opened, _)| opened.seq))
        .collect();
    assert_eq!(
        results,
        [
            Ok(1),
            Ok(2),
            Err(DropReason::BadIcv),
            Ok(4),
            Err(DropReason::Replayed),
            Ok(6),
            Err(DropReason::Truncated)
        ]
    );
    assert_eq!(b.sad.counters().opened.packets, 4);
}

#[test]
fn bad_padding() {
    let (mut a, mut b) = plaintext_ends(common::any_ipv4());
    for change in [
        // Padding that is not 1, 2, 3: Linux's old zero padding, and a wrong first byte.
        |body: &mut Vec<u8>| {
            let n = body.len();
            body[n - 3] = 0
        },
        |body: &mut Vec<u8>| {
            let n = body.len();
            body[n - 4] = 9
        },
        // Longer than the packet.
        |body: &mut Vec<u8>| {
            let n = body.len();
            body[n - 2] = 255
        },
    ] {
        // 28 + 2 of padding + 2.
        let sealed = with_body(&a.seal_one(&a_to_b(28)), change);
        assert_eq!(b.open_one(&sealed), Err(DropReason::BadPadding));
    }
    assert_eq!(b.drops(DropReason::BadPadding), 3);
}

#[test]
fn dummies_and_unknown_next_headers() {
    let (mut a, mut b) = plaintext_ends(common::any_ipv4());
    for (next_header, reason) in [
        (59, DropReason::Dummy),
        (6, DropReason::UnknownNextHeader),
        (0, DropReason::UnknownNextHeader),
        (41, DropReason::InnerVersion),
    ] {
        let sealed = with_body(&a.seal_one(&a_to_b(100)), |body| {
            *body.last_mut().unwrap() = next_header
        });
        assert_eq!(b.open_one(&sealed), Err(reason));
    }
}

#[test]
fn inner_lengths_that_lie() {
    let (mut a, mut b) = plaintext_ends(common::any_ipv4());
    for (change, what) in [
        (
            (|body| body[3] = 101) as fn(&mut Vec<u8>),
            "one byte longer than the payload",
        ),
        (|body| body[2] = 0xff, "much longer"),
        (|body| body[3] = 19, "shorter than a header"),
        (|body| body[0] = 0x44, "a header of 16 bytes"),
        (
            |body| {
                body[0] = 0x4f;
                body[3] = 50
            },
            "a header of 60 bytes in a packet of 50",
        ),
    ] {
        let sealed = with_body(&a.seal_one(&a_to_b(100)), change);
        assert_eq!(b.open_one(&sealed), Err(DropReason::InnerLength), "{what}");
    }
    // A body without room for any IP header.
    let tiny = with_body(&a.seal_one(&a_to_b(100)), |body| {
        *body = vec![0x45, 0, 0, 4]
    });
    assert!(b.open_one(&tiny).is_err());
}

/// Traffic-flow padding behind the inner packet is cut off (RFC 4303 §2.7).
#[test]
fn traffic_flow_padding_is_cut() {
    let (mut a, mut b) = plaintext_ends(common::any_ipv4());
    let mut inner = a_to_b(100);
    inner.extend_from_slice(&[0xaa; 300]);
    assert_eq!(b.open_one(&a.seal_one(&inner)), Ok(a_to_b(100)));
}

#[test]
fn wrong_inner_selectors() {
    let terms = Terms {
        selectors: selectors("10.1.0.0/16", "10.2.0.0/16"),
        ..Terms::new(GCM128)
    };
    let (mut a, mut b) = ends(&terms);
    assert_eq!(b.open_one(&a.seal_one(&a_to_b(100))), Ok(a_to_b(100)));
    // A peer that does not keep to what it agreed: its own selectors are wider.
    let wide = Terms {
        selectors: common::any_ipv4(),
        ..terms
    };
    let mut liar = Plane::with(&wide.pair_a());
    liar.seal(&vec![a_to_b(64); 10]);
    for (source, destination) in [
        ([10, 3, 0, 1], [10, 2, 0, 2]),
        ([10, 1, 0, 1], [10, 3, 0, 2]),
        ([10, 2, 0, 2], [10, 1, 0, 1]),
    ] {
        let sealed = liar.seal_one(&ipv4(source, destination, 80));
        assert_eq!(b.open_one(&sealed), Err(DropReason::SelectorMismatch));
    }
    assert_eq!(b.drops(DropReason::SelectorMismatch), 3);
}

#[test]
fn a_port_selector_refuses_other_ports_and_later_fragments() {
    let narrow = SelectorPair {
        local: TrafficSelector::net("10.1.0.0/16".parse().unwrap()),
        remote: TrafficSelector::new("10.2.0.0/16".parse().unwrap(), 17, 53),
    };
    let (mut a, mut b) = plaintext_ends(narrow);
    assert!(b.open_one(&a.seal_one(&a_to_b(100))).is_ok());
    let sealed = a.seal_one(&a_to_b(100));
    let other_port = with_body(&sealed, |body| body[23] = 54);
    assert_eq!(b.open_one(&other_port), Err(DropReason::SelectorMismatch));
    let sealed = a.seal_one(&a_to_b(100));
    let fragment = with_body(&sealed, |body| body[7] = 9);
    assert_eq!(b.open_one(&fragment), Err(DropReason::SelectorMismatch));
    // Outbound the same policy holds.
    let mut other = a_to_b(100);
    other[23] = 54;
    assert_eq!(a.seal(&[other])[0], Err(DropReason::NoSa));
    assert_eq!(a.drops(DropReason::NoSa), 1);
}

#[test]
fn ipv6_in_an_ipv4_tunnel_is_refused() {
    let (mut a, mut b) = plaintext_ends(common::any_ipv4());
    let sealed = a.seal_one(&a_to_b(100));
    let six = ipv6(1, 2, 100);
    let smuggled = with_body(&sealed, |body| {
        body[..100].copy_from_slice(&six);
        *body.last_mut().unwrap() = 41;
    });
    assert_eq!(b.open_one(&smuggled), Err(DropReason::SelectorMismatch));
    assert_eq!(a.seal(&[six])[0], Err(DropReason::NoSa));
}

#[test]
fn the_wrong_encapsulation_is_refused() {
    let (mut a, mut b) = ends(&Terms::new(GCM128));
    let mut sealed = a.seal_one(&a_to_b(100));
    let mut slots = [OpenSlot::new(0, sealed.len(), 0)];
    let opened = b
        .pipeline
        .open_train(&mut sealed, &mut slots, side_a(), Encapsulation::Esp);
    assert_eq!(opened, 0);
    assert_eq!(slots[0].result, Err(DropReason::WrongEncapsulation));
}

#[test]
fn slots_outside_the_buffer_are_refused() {
    let (mut a, mut b) = ends(&Terms::new(GCM128));
    let mut buf = a.seal_one(&a_to_b(100));
    let len = buf.len();
    let mut slots = [
        OpenSlot::new(0, len + 1, 0),
        OpenSlot::new(len, 20, 0),
        OpenSlot::new(usize::MAX, 20, 0),
        OpenSlot::new(0, len, 0),
    ];
    let opened = b
        .pipeline
        .open_train(&mut buf, &mut slots, side_a(), Encapsulation::Udp);
    assert_eq!(opened, 1);
    assert!(slots[3].result.is_ok());
}

#[test]
fn ecn_is_folded_into_the_inner_header() {
    let (mut a, mut b) = ends(&Terms::new(GCM128));
    let mut capable = a_to_b(100);
    capable[1] = 0b1011_1010; // DSCP EF, ECT(0)
    common::fix_checksum(&mut capable);
    let sealed = a.seal(&[capable.clone(), a_to_b(100), capable.clone()]);
    let sealed: Vec<_> = sealed.into_iter().map(Result::unwrap).collect();
    let results = b.open_from(&sealed[..2], side_a(), 0b11);
    let (opened, inner) = results[0].as_ref().unwrap();
    assert!(opened.ecn_marked);
    assert_eq!(inner[1], 0b1011_1011);
    assert_eq!(common::ones_complement_sum(&inner[..20]), 0xffff);
    assert_eq!(results[1], Err(DropReason::EcnNotCapable));
    let unmarked = b.open_from(&sealed[2..], side_a(), 0b10);
    assert_eq!(unmarked[0].as_ref().unwrap().1, capable);
    assert_eq!(b.sad.counters().ecn_marked, 1);
}

#[test]
fn only_the_newest_authentic_packet_tells_a_new_address() {
    let (mut a, mut b) = ends(&Terms::new(GCM128));
    let packets: Vec<_> = a
        .seal(&vec![a_to_b(100); 4])
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let moved = "192.0.2.99:61000".parse().unwrap();
    let mut forged = packets[3].clone();
    forged[50] ^= 1;
    let _ = b.open_from(&[forged], moved, 0);
    assert_eq!(
        b.events.try_recv(),
        None,
        "a forged packet taught an address"
    );
    assert!(b.open_one(&packets[1]).is_ok());
    let _ = b.open_from(&packets[..1], moved, 0);
    assert_eq!(b.events.try_recv(), None, "a late packet taught an address");
    let _ = b.open_from(&packets[2..3], moved, 0);
    let event = EspEvent::PeerMoved {
        connection: TUNNEL,
        spi: spi(0x1000),
        from: moved,
    };
    assert_eq!(b.events.try_recv(), Some(event));
    b.sad.update_peer(TUNNEL, moved);
    let _ = b.open_from(&packets[3..], moved, 0);
    assert_eq!(b.events.try_recv(), None);
    let flow = common::flow_of(&common::b_to_a(60));
    let sa = b.pipeline.outbound(TUNNEL, &flow, 1).unwrap();
    assert_eq!(sa.endpoints().remote, moved);
}

#[test]
fn the_kilobyte_lifetime_warns_and_then_ends() {
    let terms = Terms {
        kilobytes: Some(8),
        ..Terms::new(GCM128)
    };
    let (mut a, mut b) = ends(&terms);
    let mut sealed = Vec::new();
    for i in 0..16 {
        let mut train = a.seal(&[a_to_b(512)]);
        sealed.push(train.remove(0).unwrap());
        let event = a.events.try_recv();
        assert_eq!(event.is_some(), i == 13, "packet {i}: {event:?}");
    }
    assert_eq!(
        a.seal(&[a_to_b(512)])[0],
        Err(DropReason::LifetimeExhausted)
    );
    assert_eq!(a.drops(DropReason::LifetimeExhausted), 1);
    // The receiver warns as well, and opens what the peer still sends.
    b.pipeline.begin_batch(NOW);
    assert!(b.open_from(&sealed, side_a(), 0).iter().all(Result::is_ok));
    assert!(matches!(
        b.events.try_recv(),
        Some(EspEvent::SoftLimit { .. })
    ));
}

/// The last numbers before 2^32 are used; then the SA refuses instead of wrapping.
#[test]
fn sequence_numbers_never_wrap() {
    let terms = Terms::new(GCM128);
    let exported = Plane::with(&terms.pair_a()).sad.export();
    let mut state = exported.clone();
    state.outbound[0].state.next = u64::from(u32::MAX) - 2;
    let mut late = Plane::new();
    let activation = esp_dataplane::sa::Activation {
        member: esp_dataplane::iv::Member::A,
        above: esp_dataplane::iv::Epoch::FIRST,
        resume: esp_dataplane::sa::Resume::Exact,
        ceiling: None,
    };
    late.sad.import(state, activation).unwrap();
    let results: Vec<_> = late
        .seal(&vec![a_to_b(60); 5])
        .into_iter()
        .map(|r| r.map(|_| ()))
        .collect();
    assert_eq!(results[..3], [Ok(()), Ok(()), Ok(())]);
    assert_eq!(results[3..], [Err(DropReason::SequenceCeiling); 2]);
    assert_eq!(
        late.seal(&[a_to_b(60)])[0],
        Err(DropReason::SequenceExhausted)
    );
    assert!(matches!(
        late.events.try_recv(),
        Some(EspEvent::SoftLimit { .. })
    ));
}

proptest! {
    /// Whatever arrives: a result for each slot, no panic, and the tunnel still works.
    #[test]
    fn garbage_of_any_shape_is_refused(
        garbage in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20),
        ours in any::<bool>(),
        suite in prop::sample::select(EspSuite::ALL.to_vec()),
        esn: bool,
    ) {
        let (mut a, mut b) = ends(&Terms { esn, ..Terms::new(suite) });
        let mut garbage = garbage;
        if ours {
            for packet in garbage.iter_mut().filter(|p| p.len() >= 4) {
                packet[..4].copy_from_slice(&0x1000_u32.to_be_bytes());
            }
        }
        let results = b.open_from(&garbage, side_a(), 3);
        prop_assert!(results.iter().all(Result::is_err));
        prop_assert_eq!(b.sad.counters().total_drops(), garbage.len() as u64);
        prop_assert_eq!(b.open_one(&a.seal_one(&a_to_b(100))), Ok(a_to_b(100)));
    }

    /// The same inside the encryption: bodies that no honest peer would send.
    #[test]
    fn garbage_inside_the_encryption_is_refused(body in prop::collection::vec(any::<u8>(), 4..300)) {
        let (mut a, mut b) = plaintext_ends(common::any_ipv4());
        let sealed = with_body(&a.seal_one(&a_to_b(100)), |bytes| *bytes = body);
        if let Ok(inner) = b.open_one(&sealed) {
            // Not impossible: then it must be a whole IPv4 packet.
            prop_assert_eq!(inner[0] >> 4, 4);
            prop_assert_eq!(usize::from(u16::from_be_bytes([inner[2], inner[3]])), inner.len());
        }
    }
}

#[test]
fn a_full_event_queue_and_no_sa_never_stop_a_worker() {
    let mut plane = Plane::new();
    for _ in 0..5000 {
        assert_eq!(plane.seal(&[a_to_b(60)])[0], Err(DropReason::NoSa));
    }
    assert_eq!(plane.drops(DropReason::NoSa), 5000);
    let events = std::iter::from_fn(|| plane.events.try_recv()).count();
    assert!((1..=16).contains(&events), "{events} events");
}

#[test]
fn a_train_longer_than_the_ceiling_is_sealed_in_part() {
    let terms = Terms::new(CBC256);
    let mut a = Plane::new();
    let options = esp_dataplane::InstallOptions {
        ceiling: Some(5),
        ..Default::default()
    };
    a.sad.install_pair(&terms.pair_a(), options).unwrap();
    a.sad.switch_outbound(TUNNEL, spi(0x1000)).unwrap();
    let flow = common::flow_of(&a_to_b(60));
    let sa = a.pipeline.outbound(TUNNEL, &flow, 8).unwrap();
    let (mut buf, mut slots) = train(&sa, &vec![a_to_b(60); 8]);
    assert_eq!(a.pipeline.seal_train(&sa, &mut buf, &mut slots), 5);
    assert!(slots[..5].iter().all(|s| s.result.is_ok()));
    assert!(
        slots[5..]
            .iter()
            .all(|s| s.result == Err(DropReason::SequenceCeiling))
    );
    assert_eq!(a.drops(DropReason::SequenceCeiling), 3);
    assert_eq!(a.seal(&[a_to_b(60)])[0], Err(DropReason::SequenceCeiling));
    sa.sequence().raise_ceiling(6);
    assert!(a.seal(&[a_to_b(60)])[0].is_ok());
}
