//! Lifetimes and rekeys of both phases, in hours of virtual time.

use core::time::Duration;

use ikev1::config::{Connection, RekeyPolicy, StartMode};
use ikev1::{Command, DownReason, Event};

use super::config::{both, selectors};
use super::pair::{Fate, Pair, Side};

const SOON: Duration = Duration::from_secs(3);
const MINUTE: Duration = Duration::from_mins(1);

fn up() -> Pair {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    pair
}

/// Runs in small steps; the tunnel must carry at each.
fn stays_up(pair: &mut Pair, span: Duration) {
    let end = pair.now + span;
    while pair.now < end {
        pair.run_for(Duration::from_millis(250));
        assert!(pair.is_up(), "down at {:?}", pair.now - pair.start);
    }
}

#[test]
fn phase2_rekeys_before_it_expires_without_a_gap() {
    let mut pair = up();
    stays_up(&mut pair, Duration::from_hours(3));
    pair.assert_consistent();
    let expired = pair.alice().events.iter().any(|event| {
        matches!(
            event,
            Event::EspSaDown {
                reason: DownReason::Expired,
                ..
            }
        )
    });
    assert!(!expired, "every pair was replaced before its end");
    let made = pair.alice().negotiator.counters().totals.esp_sas;
    assert!((4..=5).contains(&made), "{made} pairs in three hours");
    assert!(pair.alice().data_plane.most_pairs <= 2);
}

/// The initiator moves its traffic some time after the responder has retired the old pair: a
/// grace shorter than that time must not cut off what is still sent on it.
#[test]
fn a_short_grace_waits_until_the_peer_has_moved() {
    let (mut alice, mut bob) = both();
    for side in [&mut alice, &mut bob] {
        side.phase2.grace = Duration::from_millis(100);
    }
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    let end = pair.now + Duration::from_mins(150);
    while pair.step(end) {
        assert!(pair.is_up(), "down at {:?}", pair.now - pair.start);
    }
    for side in [Side::Alice, Side::Bob] {
        let made = pair.node(side).negotiator.counters().totals.esp_sas;
        assert!(made >= 3, "{side:?} has seen {made} pairs");
    }
}

#[test]
fn phase1_rekey_keeps_the_esp_sas() {
    let (mut alice, mut bob) = both();
    for side in [&mut alice, &mut bob] {
        side.phase1.lifetime = Duration::from_mins(30);
        side.phase1.rekey = RekeyPolicy::for_lifetime(side.phase1.lifetime);
    }
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    let first: Vec<_> = pair.alice().data_plane.pairs.keys().copied().collect();
    stays_up(&mut pair, Duration::from_mins(40));
    let now: Vec<_> = pair.alice().data_plane.pairs.keys().copied().collect();
    assert_eq!(first, now, "the ESP SAs are not touched");
    let made = pair.alice().negotiator.counters().totals.ike_sas;
    assert_eq!(made, 2);
    assert_eq!(pair.alice().negotiator.load().ike_sas, 1);
    assert_eq!(pair.bob().negotiator.load().ike_sas, 1);
    stays_up(&mut pair, Duration::from_hours(2));
    pair.assert_consistent();
}

#[test]
fn a_day_with_both_phases_rekeying() {
    let mut pair = up();
    for _ in 0..24 * 4 {
        pair.run_for(15 * MINUTE);
        assert!(pair.is_up());
    }
    pair.assert_consistent();
    for side in [Side::Alice, Side::Bob] {
        let node = pair.node(side);
        assert!(node.data_plane.most_pairs <= 3);
        assert!(node.negotiator.load().ike_sas <= 2);
        assert_eq!(
            node.negotiator.load().spis,
            node.data_plane.pairs.len(),
            "no SPI leaks"
        );
    }
    let totals = pair.alice().negotiator.counters().totals;
    assert!(totals.ike_sas <= 5, "{} IKE SAs", totals.ike_sas);
    assert!(pair.messages() < 60 * 9, "{} messages", pair.messages());
}

#[test]
fn rekeys_survive_loss() {
    for seed in 0..5 {
        let (alice, bob) = both();
        let mut pair = Pair::seeded(seed, super::config::list(alice), super::config::list(bob));
        let mut count = 0_u64;
        pair.network(move |_| {
            count = count
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(seed + 1);
            if count >> 62 == 0 {
                Fate::Drop
            } else {
                Fate::Deliver
            }
        });
        pair.run_until_up(MINUTE);
        for _ in 0..24 {
            pair.run_for(15 * MINUTE);
        }
        pair.reliable();
        pair.run_for(2 * MINUTE);
        assert!(pair.is_up(), "seed {seed}");
        pair.assert_no_wrong_keys();
    }
}

#[test]
fn soft_limit_starts_a_replacement() {
    let mut pair = up();
    let inbound = *pair.alice().data_plane.pairs.keys().next().unwrap();
    pair.command(Side::Alice, Command::SoftLimit { inbound });
    stays_up(&mut pair, MINUTE);
    let replaces = pair.alice().events.iter().any(
        |event| matches!(event, Event::EspSaUp { replaces: Some(spi), .. } if *spi == inbound),
    );
    assert!(replaces);
    assert_eq!(pair.alice().data_plane.pairs.len(), 1);
    assert!(!pair.alice().data_plane.pairs.contains_key(&inbound));
    pair.assert_consistent();
}

#[test]
fn soft_limit_on_both_sides_at_once_leaves_one_pair() {
    let mut pair = up();
    for side in [Side::Alice, Side::Bob] {
        let inbound = *pair.node(side).data_plane.pairs.keys().next().unwrap();
        pair.command(side, Command::SoftLimit { inbound });
    }
    stays_up(&mut pair, 6 * MINUTE);
    pair.assert_consistent();
    for side in [Side::Alice, Side::Bob] {
        assert_eq!(pair.node(side).data_plane.pairs.len(), 1);
    }
    let names: Vec<_> = pair.alice().data_plane.outbound.values().copied().collect();
    assert_eq!(names.len(), 1);
}

#[test]
fn hard_limit_ends_the_pair_and_a_new_one_is_made() {
    let mut pair = up();
    let inbound = *pair.alice().data_plane.pairs.keys().next().unwrap();
    pair.command(Side::Alice, Command::HardLimit { inbound });
    pair.run_for(SOON);
    assert!(pair.is_up());
    pair.assert_consistent();
}

#[test]
fn both_sides_start_at_once() {
    for seed in 0..20 {
        let (alice, bob) = both();
        let bob = Connection {
            start: StartMode::OnStart,
            ..bob
        };
        let mut pair = Pair::seeded(seed, super::config::list(alice), super::config::list(bob));
        pair.run_until_up(SOON);
        stays_up(&mut pair, 6 * MINUTE);
        pair.assert_consistent();
        for side in [Side::Alice, Side::Bob] {
            let load = pair.node(side).negotiator.load();
            assert_eq!(
                (load.ike_sas, load.esp_sas),
                (1, 1),
                "seed {seed}, {side:?}"
            );
            assert_eq!((load.half_open, load.spis), (0, 1), "seed {seed}, {side:?}");
        }
    }
}

#[test]
fn rekeys_that_collide_for_days_do_not_pile_up() {
    let (alice, bob) = both();
    let exact = RekeyPolicy {
        margin: 5 * MINUTE,
        jitter: Duration::ZERO,
    };
    let mut sides = [alice, bob];
    for side in &mut sides {
        side.start = StartMode::OnStart;
        side.phase1.rekey = exact;
        side.phase2.rekey = exact;
    }
    let [alice, bob] = sides;
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    for _ in 0..48 {
        pair.run_for(30 * MINUTE);
        assert!(pair.is_up());
        assert!(pair.alice().negotiator.load().esp_sas <= 3);
    }
    pair.run_for(6 * MINUTE);
    pair.assert_consistent();
}

#[test]
fn the_responders_shorter_lifetime_is_kept_by_both() {
    let (alice, mut bob) = both();
    bob.phase2.lifetime = Duration::from_mins(10);
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    let now = pair.now;
    let status = pair.alice().negotiator.status(now);
    assert!(status[0].esp_sas[0].expires_in_seconds <= 600);
    stays_up(&mut pair, Duration::from_hours(1));
    pair.assert_consistent();
}

#[test]
fn several_selectors_rekey_one_after_the_other() {
    let (mut alice, mut bob) = both();
    alice.selectors = (0..4)
        .map(|n| selectors(&format!("10.1.{n}.0/24"), "10.2.0.0/16"))
        .collect();
    bob.selectors = alice.selectors.iter().map(|pair| pair.reversed()).collect();
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    pair.run_for(SOON);
    stays_up(&mut pair, Duration::from_hours(2));
    pair.assert_consistent();
}

#[test]
fn a_lost_phase1_rekey_is_tried_again_before_the_end() {
    let (mut alice, mut bob) = both();
    for side in [&mut alice, &mut bob] {
        side.phase1.lifetime = Duration::from_hours(1);
        side.phase1.rekey = RekeyPolicy::for_lifetime(side.phase1.lifetime);
    }
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    let start = pair.start;
    let _ = start;
    let mut dropped = 0;
    pair.network(move |_| {
        dropped += 1;
        if dropped < 14 {
            Fate::Drop
        } else {
            Fate::Deliver
        }
    });
    pair.run_for(Duration::from_mins(70));
    assert!(pair.is_up());
    pair.assert_consistent();
}

#[test]
fn a_peer_that_drops_its_children_with_the_ike_sa() {
    let (mut alice, mut bob) = both();
    for side in [&mut alice, &mut bob] {
        side.peer_drops_children = true;
        side.phase1.lifetime = Duration::from_mins(30);
        side.phase1.rekey = RekeyPolicy::for_lifetime(side.phase1.lifetime);
    }
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    let first: Vec<_> = pair.alice().data_plane.pairs.keys().copied().collect();
    stays_up(&mut pair, Duration::from_mins(32));
    let now: Vec<_> = pair.alice().data_plane.pairs.keys().copied().collect();
    assert_ne!(first, now, "quick mode ran again under the new IKE SA");
    pair.assert_consistent();
}

#[test]
fn a_rekey_of_the_peer_right_after_ours_wins() {
    // Many seeds: the rule must not depend on which SPIs the two pairs happened to get.
    for seed in 0..20 {
        let (alice, bob) = both();
        let mut pair = Pair::seeded(seed, super::config::list(alice), super::config::list(bob));
        pair.run_until_up(SOON);
        pair.run_for(Duration::from_millis(300));
        let inbound = *pair.bob().data_plane.pairs.keys().next().unwrap();
        pair.command(Side::Bob, Command::SoftLimit { inbound });
        pair.run_for(Duration::from_secs(5));
        let newest = pair
            .bob()
            .events
            .iter()
            .rev()
            .find_map(|event| match event {
                Event::EspSaUp { pair, .. } => Some(pair.outbound.spi),
                _ => None,
            });
        let in_use: Vec<_> = pair.alice().data_plane.outbound.values().copied().collect();
        assert_eq!(in_use, [newest.unwrap()], "seed {seed}");
        stays_up(&mut pair, 3 * MINUTE);
        assert_eq!(pair.alice().data_plane.pairs.len(), 1);
        pair.assert_consistent();
    }
}
