//! What one end seals, the other opens: every suite, width, version and size.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{CBC256, GCM128, Plane, Terms, a_to_b, ipv6, selectors, side_a, train};
use esp_dataplane::{DropReason, SealSlot};
use ipsec_types::EspSuite;
use proptest::prelude::*;

fn both_ends(terms: &Terms) -> (Plane, Plane) {
    (Plane::with(&terms.pair_a()), Plane::with(&terms.pair_b()))
}

/// Seals at A, opens at B, and says what came out.
fn through(terms: &Terms, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (mut a, mut b) = both_ends(terms);
    let sealed: Vec<_> = a.seal(packets).into_iter().map(Result::unwrap).collect();
    for (packet, sealed) in packets.iter().zip(&sealed) {
        assert_eq!(
            sealed.len(),
            packet.len() + terms.suite.overhead(packet.len())
        );
    }
    let opened = b.open_from(&sealed, side_a(), 0);
    assert_eq!(b.sad.counters().total_drops(), 0);
    assert_eq!(b.sad.counters().opened.packets, packets.len() as u64);
    opened.into_iter().map(|r| r.unwrap().1).collect()
}

#[test]
fn every_suite_with_and_without_esn() {
    let packets: Vec<_> = (28..120)
        .chain([1392, 1400, 1500, 9000])
        .map(a_to_b)
        .collect();
    for suite in EspSuite::ALL {
        for esn in [false, true] {
            let terms = Terms {
                esn,
                ..Terms::new(suite)
            };
            assert_eq!(through(&terms, &packets), packets, "{suite}, ESN {esn}");
        }
    }
}

#[test]
fn ipv6_inside() {
    for suite in [GCM128, CBC256] {
        let terms = Terms {
            selectors: selectors("::/0", "::/0"),
            ..Terms::new(suite)
        };
        let packets = [ipv6(1, 2, 48), ipv6(1, 2, 1400)];
        assert_eq!(through(&terms, &packets), packets);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn trains_of_any_sizes_come_out_as_they_went_in(
        sizes in prop::collection::vec(28_usize..3000, 1..70),
        suite in prop::sample::select(EspSuite::ALL.to_vec()),
        esn: bool,
    ) {
        let packets: Vec<_> = sizes.into_iter().map(a_to_b).collect();
        let terms = Terms { esn, ..Terms::new(suite) };
        prop_assert_eq!(through(&terms, &packets), packets);
    }
}

/// The layout of a UDP_SEGMENT send: equal packets back to back, the last one shorter.
#[test]
fn a_train_leaves_no_gaps_and_no_overlaps() {
    let mut plane = Plane::with(&Terms::new(CBC256).pair_a());
    let packets: Vec<_> = [1350; 20].into_iter().chain([77]).map(a_to_b).collect();
    let flow = common::flow_of(&packets[0]);
    let sa = plane.pipeline.outbound(common::TUNNEL, &flow, 21).unwrap();
    let (mut buf, mut slots) = train(&sa, &packets);
    assert_eq!(plane.pipeline.seal_train(&sa, &mut buf, &mut slots), 21);
    let mut at = 0;
    for slot in &slots {
        let range = slot.result.clone().unwrap();
        assert_eq!(range.start, at);
        at = range.end;
    }
    assert_eq!(at, buf.len());
}

#[test]
fn sequence_numbers_rise_by_one_within_and_across_trains() {
    let (mut a, _) = both_ends(&Terms::new(GCM128));
    let mut seqs = Vec::new();
    for train in 1..5 {
        for packet in a.seal(&vec![a_to_b(100); train]) {
            seqs.push(u32::from_be_bytes(
                packet.unwrap()[4..8].try_into().unwrap(),
            ));
        }
    }
    assert_eq!(seqs, (1..=10).collect::<Vec<_>>());
}

/// A slot that cannot be sealed says why, and the others leave.
#[test]
fn bad_slots_do_not_harm_their_neighbours() {
    for suite in [GCM128, CBC256] {
        let terms = Terms::new(suite);
        let (mut a, mut b) = both_ends(&terms);
        let flow = common::flow_of(&a_to_b(100));
        let sa = a.pipeline.outbound(common::TUNNEL, &flow, 5).unwrap();
        let stride = 400;
        let mut buf = vec![0_u8; 5 * stride];
        let mut slots = Vec::new();
        for i in 0..5 {
            let start = i * stride + sa.header_len();
            buf[start..start + 100].copy_from_slice(&a_to_b(100));
            slots.push(SealSlot::new(start, 100));
        }
        buf[slots[1].inner_start] = 0x15; // neither version 4 nor 6
        slots[2].inner_start = 3; // no headroom
        slots[3].inner_len = 70_000; // no IP packet
        slots.push(SealSlot::new(buf.len() - 10, 200)); // beyond the buffer
        slots.push(SealSlot::new(usize::MAX, 20));
        slots.push(SealSlot::new(50, 0));
        assert_eq!(a.pipeline.seal_train(&sa, &mut buf, &mut slots), 2);
        let reasons: Vec<_> = slots.iter().map(|s| s.result.clone().err()).collect();
        let no_room = Some(DropReason::NoHeadroom);
        assert_eq!(
            reasons,
            [
                None,
                Some(DropReason::NotIp),
                no_room,
                Some(DropReason::TooBig),
                None,
                no_room,
                no_room,
                Some(DropReason::NotIp)
            ]
        );
        for slot in [&slots[0], &slots[4]] {
            let sealed = &buf[slot.result.clone().unwrap()];
            assert_eq!(b.open_one(sealed), Ok(a_to_b(100)));
        }
        assert_eq!(a.drops(DropReason::NoHeadroom), 3);
    }
}

#[test]
fn padding_is_the_monotone_sequence_and_next_header_names_the_version() {
    // With the null cipher the body stays readable.
    let terms = Terms::new(GCM128);
    let mut a = Plane::new();
    a.sad.install_null_pair_for_bench(&terms.pair_a()).unwrap();
    a.sad
        .switch_outbound(common::TUNNEL, common::spi(0x1000))
        .unwrap();
    for len in 28..60 {
        let sealed = a.seal_one(&a_to_b(len));
        let body = &sealed[16..sealed.len() - 16];
        let (pad_len, next_header) = (body[body.len() - 2], body[body.len() - 1]);
        let padding = &body[len..body.len() - 2];
        assert_eq!(padding, (1..=pad_len).collect::<Vec<u8>>());
        assert_eq!((body.len() % 4, next_header), (0, 4));
        assert!(pad_len < 4);
    }
}
