//! The SA table: switching, falling back, policy order, many tunnels, removal under load.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{CBC256, GCM128, Plane, TUNNEL, Terms, a_to_b, flow_of, ipv4, selectors, side_a, spi};
use esp_dataplane::{DropReason, InstallOptions, SadError};
use ipsec_types::{ConnectionId, EspSaPair, Spi};

fn used_spi(plane: &mut Plane, packet: &[u8]) -> Option<Spi> {
    let sa = plane.pipeline.outbound(TUNNEL, &flow_of(packet), 1)?;
    Some(sa.spi())
}

fn rekeyed(terms: Terms) -> Terms {
    Terms {
        spi: terms.spi + 0x100,
        ..terms
    }
}

#[test]
fn outbound_waits_for_the_switch_while_inbound_opens_at_once() {
    let terms = Terms::new(GCM128);
    let mut b = Plane::new();
    b.sad
        .install_pair(&terms.pair_b(), InstallOptions::default())
        .unwrap();
    assert_eq!(used_spi(&mut b, &common::b_to_a(60)), None);
    let sealed = Plane::with(&terms.pair_a()).seal_one(&a_to_b(60));
    assert!(b.open_one(&sealed).is_ok());
    b.sad.switch_outbound(TUNNEL, spi(terms.spi + 1)).unwrap();
    assert_eq!(
        used_spi(&mut b, &common::b_to_a(60)),
        Some(spi(terms.spi + 1))
    );
}

#[test]
fn a_rekey_switches_and_a_removal_falls_back() {
    let old = Terms::new(GCM128);
    let new = rekeyed(old);
    let mut a = Plane::with(&old.pair_a());
    a.sad
        .install_pair(&new.pair_a(), InstallOptions::default())
        .unwrap();
    assert_eq!(used_spi(&mut a, &a_to_b(60)), Some(spi(old.spi)));
    a.sad.switch_outbound(TUNNEL, spi(new.spi)).unwrap();
    assert_eq!(used_spi(&mut a, &a_to_b(60)), Some(spi(new.spi)));
    // The peer deletes the new one again.
    assert!(a.sad.remove_outbound(TUNNEL, spi(new.spi)));
    assert_eq!(used_spi(&mut a, &a_to_b(60)), Some(spi(old.spi)));
    assert!(a.sad.remove_outbound(TUNNEL, spi(old.spi)));
    assert_eq!(used_spi(&mut a, &a_to_b(60)), None);
    assert!(!a.sad.remove_outbound(TUNNEL, spi(old.spi)));
}

#[test]
fn both_generations_open_during_a_rekey() {
    let old = Terms::new(GCM128);
    let new = Terms {
        suite: CBC256,
        ..rekeyed(old)
    };
    let mut b = Plane::with(&old.pair_b());
    b.install(&new.pair_b());
    let (mut old_a, mut new_a) = (Plane::with(&old.pair_a()), Plane::with(&new.pair_a()));
    // One train may mix both.
    let train = [
        old_a.seal_one(&a_to_b(100)),
        new_a.seal_one(&a_to_b(200)),
        old_a.seal_one(&a_to_b(300)),
    ];
    let results = b.open_from(&train, side_a(), 0);
    assert!(results.iter().all(Result::is_ok));
    assert!(b.sad.remove_inbound(spi(old.spi)));
    assert_eq!(
        b.open_one(&old_a.seal_one(&a_to_b(50))),
        Err(DropReason::UnknownSpi)
    );
    assert!(b.open_one(&new_a.seal_one(&a_to_b(50))).is_ok());
}

#[test]
fn duplicates_and_unknown_spis_are_refused_and_change_nothing() {
    let terms = Terms::new(GCM128);
    let plane = Plane::with(&terms.pair_a());
    let before = plane.sad.status();
    let again = plane
        .sad
        .install_pair(&terms.pair_a(), InstallOptions::default());
    assert!(matches!(again, Err(SadError::DuplicateSpi(_))));
    let unknown = plane.sad.switch_outbound(TUNNEL, spi(0x9999));
    assert_eq!(unknown, Err(SadError::UnknownSa(spi(0x9999))));
    let mut swapped = rekeyed(terms).pair_a();
    std::mem::swap(&mut swapped.inbound, &mut swapped.outbound);
    assert!(
        plane
            .sad
            .install_pair(&swapped, InstallOptions::default())
            .is_err()
    );
    let mut short = rekeyed(terms).pair_a();
    short.outbound.encryption_key = [1_u8, 2][..].into();
    assert!(
        plane
            .sad
            .install_pair(&short, InstallOptions::default())
            .is_err()
    );
    assert_eq!(plane.sad.status(), before);
}

/// Peers choose outbound SPIs: two of them may choose the same.
#[test]
fn two_peers_may_choose_the_same_outbound_spi() {
    let first = Terms::new(GCM128).pair_a();
    let mut second = Terms::new(GCM128).pair_a();
    second.connection = ConnectionId(7);
    second.inbound.spi = spi(0x5555);
    let plane = Plane::with(&first);
    plane.install(&second);
    assert_eq!(plane.sad.remove_connection(ConnectionId(7)), 2);
    assert!(plane.sad.outbound(TUNNEL, first.outbound.spi).is_some());
}

/// Overlapping selectors: the order of the policy decides, not that of the installation.
#[test]
fn selectors_are_tried_in_the_order_of_the_policy() {
    let mut plane = Plane::new();
    let nets = ["10.2.9.0/24", "10.2.0.0/16", "10.0.0.0/8", "0.0.0.0/0"];
    for (i, net) in nets.iter().enumerate().rev() {
        let terms = Terms {
            selectors: selectors("0.0.0.0/0", net),
            spi: 0x1000 * (i as u32 + 1),
            ..Terms::new(GCM128)
        };
        let options = InstallOptions {
            order: i as u32,
            ..Default::default()
        };
        plane.sad.install_pair(&terms.pair_a(), options).unwrap();
        plane.sad.switch_outbound(TUNNEL, spi(terms.spi)).unwrap();
    }
    // Twice: found by walking, then in the worker's cache.
    for _ in 0..2 {
        for (last, want) in [
            ([10, 2, 9, 1], 1),
            ([10, 2, 1, 1], 2),
            ([10, 9, 9, 9], 3),
            ([9, 9, 9, 9], 4),
        ] {
            let packet = ipv4([10, 1, 0, 1], last, 60);
            assert_eq!(used_spi(&mut plane, &packet), Some(spi(0x1000 * want)));
        }
    }
    // A removal makes the caches forget.
    plane.sad.remove_outbound(TUNNEL, spi(0x1000));
    let packet = ipv4([10, 1, 0, 1], [10, 2, 9, 1], 60);
    assert_eq!(used_spi(&mut plane, &packet), Some(spi(0x2000)));
}

#[test]
fn status_tells_what_passed_and_survives_json() {
    let terms = Terms::new(GCM128);
    let (mut a, mut b) = (Plane::with(&terms.pair_a()), Plane::with(&terms.pair_b()));
    for _ in 0..3 {
        let sealed = a.seal_one(&a_to_b(150));
        b.open_one(&sealed).unwrap();
    }
    let (out, inn) = (&a.sad.status().outbound[0], &b.sad.status().inbound[0]);
    assert_eq!(
        (out.traffic.packets, out.traffic.bytes, out.sequence_next),
        (3, 450, 4)
    );
    assert_eq!(
        (inn.traffic.packets, inn.traffic.bytes, inn.replay_edge),
        (3, 450, 3)
    );
    assert_eq!(
        (out.last_used, inn.last_used),
        (Some(common::NOW), Some(common::NOW))
    );
    let bytes = postcard::to_stdvec(&a.sad.status()).unwrap();
    assert_eq!(
        postcard::from_bytes::<esp_dataplane::SadStatus>(&bytes).unwrap(),
        a.sad.status()
    );
}

/// Workers seal and open while the control plane rekeys under them: no packet is lost, no
/// packet is sealed by a removed SA's successor twice.
#[test]
fn rekeys_under_load_lose_nothing() {
    const REKEYS: u32 = 200;
    let first = Terms::new(GCM128);
    let (a, b) = (Plane::with(&first.pair_a()), Plane::with(&first.pair_b()));
    let (sad_a, sad_b) = (a.sad.clone(), b.sad.clone());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let (mut a, mut b) = (a, b);
            let mut passed = 0_u64;
            while !stop.load(Ordering::Relaxed) || passed == 0 {
                let sealed: Vec<_> = a
                    .seal(&vec![a_to_b(90); 8])
                    .into_iter()
                    .map(Result::unwrap)
                    .collect();
                let opened = b.open_from(&sealed, side_a(), 0);
                assert!(opened.iter().all(Result::is_ok), "{opened:?}");
                passed += 8;
            }
            passed
        });
        for i in 0..REKEYS {
            let terms = |i: u32| Terms {
                spi: 0x1000 + i * 0x10,
                ..first
            };
            let new = terms(i + 1);
            let pair = |p: &EspSaPair| p.clone();
            // The receiver first, as make-before-break has it.
            sad_b
                .install_pair(&pair(&new.pair_b()), InstallOptions::default())
                .unwrap();
            sad_a
                .install_pair(&pair(&new.pair_a()), InstallOptions::default())
                .unwrap();
            sad_a.switch_outbound(TUNNEL, spi(new.spi)).unwrap();
            // The one before the last: its packets are long through.
            if i > 0 {
                let older = terms(i - 1);
                sad_a.remove_outbound(TUNNEL, spi(older.spi));
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(worker.join().unwrap() > 0);
    });
    assert_eq!(sad_b.counters().total_drops(), 0);
}

/// 1,000 tunnels: each finds its own SA.
#[test]
fn a_thousand_tunnels() {
    let mut plane = Plane::new();
    for i in 0..1000_u32 {
        let mut pair = Terms {
            spi: 0x1_0000 + i * 2,
            ..Terms::new(GCM128)
        }
        .pair_a();
        pair.connection = ConnectionId(i);
        plane.install(&pair);
    }
    let flow = flow_of(&a_to_b(60));
    for i in (0..1000_u32).step_by(37) {
        let sa = plane.pipeline.outbound(ConnectionId(i), &flow, 1).unwrap();
        assert_eq!(sa.spi(), spi(0x1_0000 + i * 2));
    }
    assert!(
        plane
            .pipeline
            .outbound(ConnectionId(1000), &flow, 1)
            .is_none()
    );
}
