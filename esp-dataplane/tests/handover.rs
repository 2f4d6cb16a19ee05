//! Moving live SAs between two data planes, and the invariants that must survive it.
//!
//! ```text
//!            state, as bytes                 one peer, which never
//!   gw 1  ------------------->  gw 2         notices the difference
//!     \___________________________\____________ peer
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod common;

use std::collections::HashSet;

use common::{CBC256, GCM128, GCM256, Plane, TUNNEL, Terms, a_to_b, b_to_a, spi};
use esp_dataplane::iv::{Epoch, Member};
use esp_dataplane::sa::{Activation, ImportError, Resume};
use esp_dataplane::{DropReason, InstallOptions, SadError, SadState};

const CEILING: u64 = 1000;

fn activation(member: Member, resume: Resume) -> Activation {
    Activation {
        member,
        above: Epoch::FIRST,
        resume,
        ceiling: Some(10 * CEILING),
    }
}

/// Through the same encoding as the pair channel.
fn over_the_wire(state: &SadState) -> SadState {
    let bytes = postcard::to_stdvec(state).unwrap();
    postcard::from_bytes(&bytes).unwrap()
}

/// A gateway that may send up to [`CEILING`], and its peer.
fn gateway_and_peer(terms: &Terms, member: Member) -> (Plane, Plane) {
    let gateway = Plane::new();
    let options = InstallOptions {
        member,
        ceiling: Some(CEILING),
        ..Default::default()
    };
    gateway.sad.install_pair(&terms.pair_a(), options).unwrap();
    gateway
        .sad
        .switch_outbound(TUNNEL, terms.pair_a().outbound.spi)
        .unwrap();
    (gateway, Plane::with(&terms.pair_b()))
}

fn taken_over(state: &SadState, activation: Activation) -> Plane {
    let gateway = Plane::new();
    gateway
        .sad
        .import(over_the_wire(state), activation)
        .unwrap();
    gateway
}

/// The explicit IVs of packets.
fn ivs(sealed: &[Vec<u8>], iv_len: usize) -> Vec<Vec<u8>> {
    sealed
        .iter()
        .map(|packet| packet[8..8 + iv_len].to_vec())
        .collect()
}

fn seq(sealed: &[u8]) -> u32 {
    u32::from_be_bytes(sealed[4..8].try_into().unwrap())
}

fn send(from: &mut Plane, packet: &[u8], count: usize) -> Vec<Vec<u8>> {
    let packets = vec![packet.to_vec(); count];
    from.seal(&packets)
        .into_iter()
        .map(Result::unwrap)
        .collect()
}

#[test]
fn export_import_moves_a_live_sa() {
    for suite in [GCM128, GCM256, CBC256] {
        for esn in [false, true] {
            let terms = Terms {
                esn,
                ..Terms::new(suite)
            };
            let (mut one, mut peer) = gateway_and_peer(&terms, Member::A);
            let from_peer = send(&mut peer, &b_to_a(200), 30);
            for packet in &from_peer[..20] {
                assert_eq!(one.open_one(packet), Ok(b_to_a(200)));
            }
            for packet in send(&mut one, &a_to_b(300), 10) {
                assert_eq!(peer.open_one(&packet), Ok(a_to_b(300)));
            }

            let mut two = taken_over(
                &one.sad.export(),
                activation(Member::B, Resume::AboveCeiling),
            );

            let sealed = send(&mut two, &a_to_b(300), 5);
            assert_eq!(u64::from(seq(&sealed[0])), CEILING + 1);
            for packet in sealed {
                assert_eq!(
                    peer.open_one(&packet),
                    Ok(a_to_b(300)),
                    "{suite}, ESN {esn}"
                );
            }
            for packet in &from_peer[..20] {
                assert_eq!(two.open_one(packet), Err(DropReason::Replayed));
            }
            for packet in &from_peer[20..] {
                assert_eq!(two.open_one(packet), Ok(b_to_a(200)));
            }
            let sa = two.sad.outbound(TUNNEL, spi(terms.spi)).unwrap();
            assert_eq!(sa.traffic().packets, 15, "byte counters go on");
            assert_eq!(
                two.sad
                    .inbound(spi(terms.spi + 1))
                    .unwrap()
                    .traffic()
                    .packets,
                30
            );
        }
    }
}

#[test]
fn a_planned_handover_continues_exactly() {
    let (mut one, mut peer) = gateway_and_peer(&Terms::new(GCM128), Member::A);
    let before = send(&mut one, &a_to_b(100), 7);
    let mut two = taken_over(&one.sad.export(), activation(Member::B, Resume::Exact));
    let after = send(&mut two, &a_to_b(100), 3);
    let seqs: Vec<_> = before.iter().chain(&after).map(|p| seq(p)).collect();
    assert_eq!(seqs, (1..=10).collect::<Vec<_>>());
    for packet in before.iter().chain(&after) {
        assert!(peer.open_one(packet).is_ok());
    }
}

/// Split brain: both gateways seal with the same keys and the same sequence numbers. Then a
/// gateway takes over again from a state it has already used once.
#[test]
fn i1_no_iv_is_used_twice_even_in_split_brain_and_after_stale_states() {
    for (suite, iv_len) in [(GCM128, 8), (CBC256, 16)] {
        let terms = Terms::new(suite);
        let (mut one, _) = gateway_and_peer(&terms, Member::A);
        send(&mut one, &a_to_b(100), 3);
        let stale = one.sad.export();

        let mut sealed = send(&mut one, &a_to_b(100), 200);
        let mut two = taken_over(&stale, activation(Member::B, Resume::Exact));
        sealed.extend(send(&mut two, &a_to_b(100), 200));
        // B falls back to standby and takes over again, knowing only the stale state and the
        // epoch it had used.
        let used = two
            .sad
            .outbound(TUNNEL, spi(terms.spi))
            .unwrap()
            .ivs()
            .epoch();
        let again = Activation {
            above: used,
            ..activation(Member::B, Resume::Exact)
        };
        sealed.extend(send(&mut taken_over(&stale, again), &a_to_b(100), 200));
        // And A, demoted in the meantime, continues from B's state.
        let state = over_the_wire(&two.sad.export());
        assert_eq!(one.sad.remove_all(), 2);
        one.sad
            .import(state, activation(Member::A, Resume::Exact))
            .unwrap();
        sealed.extend(send(&mut one, &a_to_b(100), 200));

        let unique: HashSet<_> = ivs(&sealed, iv_len).into_iter().collect();
        assert_eq!(unique.len(), 800, "{suite}");
    }
}

#[test]
fn i1_the_iv_names_member_epoch_and_counter() {
    let terms = Terms::new(GCM128);
    let (mut one, _) = gateway_and_peer(&terms, Member::A);
    let first = send(&mut one, &a_to_b(100), 2);
    assert_eq!(
        ivs(&first, 8),
        [[0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1]]
    );
    let mut two = taken_over(&one.sad.export(), activation(Member::B, Resume::Exact));
    let second = send(&mut two, &a_to_b(100), 1);
    assert_eq!(ivs(&second, 8), [[0x80, 1, 0, 0, 0, 0, 0, 0]]);
}

#[test]
fn i1_an_exhausted_epoch_refuses_instead_of_wrapping() {
    let terms = Terms::new(GCM128);
    let (mut one, _) = gateway_and_peer(&terms, Member::A);
    let sa = one.sad.outbound(TUNNEL, spi(terms.spi)).unwrap();
    sa.ivs().skip_to((1 << 48) - 2);
    let last = send(&mut one, &a_to_b(100), 2);
    assert_eq!(last[1][8..16], [0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    for _ in 0..3 {
        assert_eq!(
            one.seal(&[a_to_b(100)])[0],
            Err(DropReason::SequenceExhausted)
        );
    }
    assert!(
        one.events.try_recv().is_some(),
        "the control plane was not asked for a new SA"
    );

    let mut state = one.sad.export();
    state.outbound[0].state.epoch = Epoch::LAST;
    let refused = Plane::new()
        .sad
        .import(state, activation(Member::B, Resume::Exact));
    assert!(matches!(
        refused,
        Err(SadError::Import(ImportError::EpochExhausted(_)))
    ));
}

#[test]
fn i2_after_a_takeover_numbers_continue_above_all_that_may_have_been_sent() {
    let terms = Terms::new(GCM128);
    let (mut one, mut peer) = gateway_and_peer(&terms, Member::A);
    let stale = one.sad.export();
    // The active sends all it may; the peer accepts all of it.
    for packet in send(&mut one, &a_to_b(64), CEILING as usize) {
        assert!(peer.open_one(&packet).is_ok());
    }
    assert_eq!(one.seal(&[a_to_b(64)])[0], Err(DropReason::SequenceCeiling));
    let mut two = taken_over(&stale, activation(Member::B, Resume::AboveCeiling));
    for packet in send(&mut two, &a_to_b(64), 100) {
        assert!(
            peer.open_one(&packet).is_ok(),
            "the peer took it for a replay"
        );
    }
}

#[test]
fn i2_without_a_number_above_the_ceiling_the_takeover_is_refused() {
    let plane = Plane::with(&Terms::new(GCM128).pair_a());
    let refused = Plane::new().sad.import(
        plane.sad.export(),
        activation(Member::B, Resume::AboveCeiling),
    );
    assert_eq!(
        refused,
        Err(SadError::Import(ImportError::SequenceExhausted))
    );
}

#[test]
fn i3_the_standby_refuses_everything_up_to_the_replicated_edge() {
    let terms = Terms::new(GCM128);
    let (mut one, mut peer) = gateway_and_peer(&terms, Member::A);
    let packets = send(&mut peer, &b_to_a(64), 3000);
    for packet in &packets[..2500] {
        assert!(one.open_one(packet).is_ok());
    }
    let mut two = taken_over(
        &one.sad.export(),
        activation(Member::B, Resume::AboveCeiling),
    );
    for packet in &packets[..2500] {
        assert!(two.open_one(packet).is_err());
    }
    for packet in &packets[2500..] {
        assert!(two.open_one(packet).is_ok());
    }
}

/// The daemon's other way to use a state: a running standby merges newer windows.
#[test]
fn i3_merging_an_older_window_never_moves_it_back() {
    let terms = Terms::new(GCM128);
    let (mut one, mut peer) = gateway_and_peer(&terms, Member::A);
    let packets = send(&mut peer, &b_to_a(64), 20);
    let empty = one
        .sad
        .inbound(spi(terms.spi + 1))
        .unwrap()
        .replay()
        .export();
    for packet in &packets {
        assert!(one.open_one(packet).is_ok());
    }
    let sa = one.sad.inbound(spi(terms.spi + 1)).unwrap();
    sa.replay().import(&empty);
    assert_eq!(sa.replay().edge(), 20);
    assert_eq!(one.open_one(&packets[7]), Err(DropReason::Replayed));
}

#[test]
fn i4_states_print_no_keys() {
    let plane = Plane::with(&Terms::new(CBC256).pair_a());
    let printed = format!(
        "{:?} {:?}",
        plane.sad.export(),
        plane.sad.outbound(TUNNEL, spi(0x1000))
    );
    assert!(printed.contains("redacted"));
    // The key's bytes as Debug would list them.
    let key = Terms::new(CBC256).pair_a().outbound.encryption_key;
    let listed = format!("{:?}", &key.expose()[..4]);
    assert!(!printed.contains(listed.trim_matches(['[', ']'])));
}

#[test]
fn a_moved_peer_and_the_place_in_the_policy_travel_along() {
    let terms = Terms::new(GCM128);
    let (one, _) = gateway_and_peer(&terms, Member::A);
    let moved = "192.0.2.50:4501".parse().unwrap();
    one.sad.update_peer(TUNNEL, moved);
    let two = taken_over(&one.sad.export(), activation(Member::B, Resume::Exact));
    let status = two.sad.status();
    assert_eq!(
        (status.outbound[0].remote, status.inbound[0].remote),
        (moved, moved)
    );
    assert!(status.outbound[0].in_use);
}

#[test]
fn an_import_is_all_or_nothing() {
    let (one, _) = gateway_and_peer(&Terms::new(GCM128), Member::A);
    let mut state = one.sad.export();
    let mut second = state.outbound[0].clone();
    second.state.params.encryption_key = vec![1, 2, 3].as_slice().into();
    second.state.params.spi = spi(0x7777);
    state.outbound.push(second);
    let two = Plane::new();
    assert!(
        two.sad
            .import(state, activation(Member::B, Resume::Exact))
            .is_err()
    );
    assert_eq!(two.sad.export(), SadState::default());
    // Twice the same is refused as a whole, too.
    two.sad
        .import(one.sad.export(), activation(Member::B, Resume::Exact))
        .unwrap();
    let again = two
        .sad
        .import(one.sad.export(), activation(Member::B, Resume::Exact));
    assert!(matches!(again, Err(SadError::DuplicateSpi(_))));
}
