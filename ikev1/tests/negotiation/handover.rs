//! A live connection moves to another negotiator, and the peer does not notice.

use core::time::Duration;
use std::sync::Arc;

use ikev1::config::{Connection, DpdAction, DpdPolicy, RekeyPolicy};
use ikev1::{Beginning, Command, ExportedTunnel, ImportError, Negotiator, Standby};
use ipsec_types::ConnectionId;

use super::config::{ALICE, address, both, both_with, list, selectors};
use super::pair::{Nat, Pair, Side};

const SOON: Duration = Duration::from_secs(3);
const ID: ConnectionId = ConnectionId(0);

/// What the pair channel does to exported state.
fn over_the_wire(exported: &ExportedTunnel) -> ExportedTunnel {
    let bytes = postcard::to_stdvec(exported).unwrap();
    let back = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(*exported, back);
    back
}

/// The active loses power right after it has exported; the other node takes over `pause`
/// later. The data plane moves by its own means.
fn take_over(pair: &mut Pair, side: Side, config: Vec<Arc<Connection>>, pause: Duration) {
    let exported = {
        let now = pair.now;
        pair.node(side).negotiator.export(now, ID)
    };
    let old = pair.take(side);
    let mut standby = Standby::new(config);
    if let Some(exported) = exported {
        standby.put(pair.now, over_the_wire(&exported)).unwrap();
    }
    pair.run_for(pause);
    let rng = pair.rng();
    let (negotiator, errors) = standby.activate(pair.now, rng, Beginning::Hot);
    assert!(errors.is_empty(), "{errors:?}");
    pair.install(side, negotiator, old.data_plane);
}

fn with_dpd(mut connection: Connection) -> Connection {
    connection.dpd = Some(DpdPolicy {
        delay: Duration::from_secs(20),
        retry: Duration::from_secs(3),
        max_failures: 3,
        action: DpdAction::Restart,
    });
    connection
}

#[test]
fn a_takeover_sends_nothing() {
    for side in [Side::Alice, Side::Bob] {
        let (alice, bob) = both();
        let config = list(if side == Side::Alice {
            alice.clone()
        } else {
            bob.clone()
        });
        let mut pair = Pair::new(alice, bob);
        pair.run_until_up(SOON);
        pair.run_for(Duration::from_mins(1));
        let before = pair.sent.len();
        take_over(&mut pair, side, config, Duration::from_millis(300));
        pair.run_for(Duration::from_mins(5));
        assert_eq!(pair.sent.len(), before);
        assert!(pair.is_up());
        pair.assert_consistent();
    }
}

#[test]
fn rekeys_of_both_phases_go_on_after_it() {
    let (alice, bob) = both();
    let config = list(alice.clone());
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    pair.run_for(Duration::from_mins(20));
    take_over(&mut pair, Side::Alice, config, Duration::from_secs(1));
    let end = pair.now + Duration::from_hours(10);
    while pair.now < end {
        pair.run_for(Duration::from_secs(1));
        assert!(pair.is_up(), "down at {:?}", pair.now - pair.start);
    }
    pair.assert_consistent();
    let restarted = pair.bob().events.iter().any(|event| {
        matches!(
            event,
            ikev1::Event::IkeSaDown {
                reason: ikev1::DownReason::PeerRestarted,
                ..
            }
        )
    });
    assert!(!restarted, "no INITIAL-CONTACT after a hot takeover");
}

#[test]
fn times_of_the_sas_are_kept() {
    let (alice, bob) = both();
    let config = list(alice.clone());
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    pair.run_for(Duration::from_mins(1));
    let now = pair.now;
    let before = pair.alice().negotiator.status(now);
    assert!(before[0].esp_sas[0].rekey_in_seconds.is_some());
    take_over(&mut pair, Side::Alice, config, Duration::ZERO);
    let after = pair.alice().negotiator.status(now);
    assert_eq!(before[0].ike_sas, after[0].ike_sas);
    assert_eq!(before[0].esp_sas, after[0].esp_sas);
}

/// The initiator of a rekey moves its traffic some time after its last message, and who takes
/// over in between moves it at the same time: by then the peer closes the old pair.
#[test]
fn traffic_moves_in_time_after_a_takeover_amid_a_rekey() {
    for after in [100, 1000, 1900] {
        let (mut alice, mut bob) = both();
        for side in [&mut alice, &mut bob] {
            side.phase2.grace = Duration::from_millis(100);
        }
        let config = list(alice.clone());
        let mut pair = Pair::new(alice, bob);
        pair.run_until_up(SOON);
        while pair.alice().data_plane.pairs.len() < 2 {
            pair.run_for(Duration::from_millis(10));
        }
        pair.run_for(Duration::from_millis(after));
        let pause = Duration::from_millis(10);
        take_over(&mut pair, Side::Alice, config, pause);
        let end = pair.now + SOON;
        while pair.step(end) {
            assert!(pair.is_up(), "down {after} ms after the rekey");
        }
        assert_eq!(pair.alice().data_plane.pairs.len(), 1);
    }
}

#[test]
fn dpd_goes_on_with_the_same_numbers() {
    let (alice, bob) = both();
    let (alice, bob) = (with_dpd(alice), with_dpd(bob));
    let config = list(alice.clone());
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    pair.run_for(Duration::from_mins(5));
    take_over(&mut pair, Side::Alice, config, Duration::from_secs(1));
    pair.run_for(Duration::from_mins(10));
    assert!(pair.is_up());
    for side in [Side::Alice, Side::Bob] {
        let node = pair.node(side);
        assert_eq!(node.dropped(ikev1::DropReason::BadDpdSequence), 0);
        assert_eq!(node.dropped(ikev1::DropReason::ReplayedMessageId), 0);
    }
}

#[test]
fn deletes_go_on_after_it() {
    let (alice, bob) = both();
    let config = list(alice.clone());
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    take_over(&mut pair, Side::Alice, config, Duration::from_secs(1));
    pair.command(Side::Alice, Command::Terminate { connection: ID });
    pair.run_for(SOON);
    assert!(pair.bob().data_plane.pairs.is_empty());
    assert_eq!(pair.bob().negotiator.load().ike_sas, 0);
}

#[test]
fn the_replay_memory_goes_along() {
    let (alice, bob) = both();
    let config = list(bob.clone());
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    let recorded = pair.sent.clone();
    take_over(&mut pair, Side::Bob, config, Duration::from_secs(1));
    for flight in recorded.iter().filter(|flight| flight.from == Side::Alice) {
        pair.inject(Side::Bob, flight.source, flight.target, &flight.payload);
    }
    pair.run_for(SOON);
    assert_eq!(pair.bob().negotiator.load().esp_sas, 1);
    assert!(pair.bob().dropped(ikev1::DropReason::ReplayedMessageId) > 0);
}

#[test]
fn nat_state_goes_along() {
    let (mut alice, bob) = both();
    alice.local = address("10.0.0.5");
    let config = list(alice.clone());
    let mut pair = Pair::new(alice, bob);
    pair.nat = Some(Nat {
        side: Side::Alice,
        inside: address("10.0.0.5"),
        outside: address(ALICE),
        port_shift: 7000,
    });
    pair.run_until_up(SOON);
    take_over(&mut pair, Side::Alice, config, Duration::from_secs(1));
    let before = pair.sent.len();
    pair.run_for(Duration::from_mins(2));
    let keepalives = pair.sent.len() - before;
    assert!((5..=7).contains(&keepalives), "{keepalives}");
    pair.run_for(Duration::from_hours(10));
    assert!(pair.is_up());
    assert!(
        pair.sent[before..]
            .iter()
            .all(|flight| flight.source.port() == 4500)
    );
}

#[test]
fn at_every_point_of_the_negotiation() {
    for millis in (0..200).step_by(5) {
        for side in [Side::Alice, Side::Bob] {
            let (alice, bob) = both_with("aes128-sha256-curve25519", "aes128gcm16-curve25519");
            let config = list(if side == Side::Alice {
                alice.clone()
            } else {
                bob.clone()
            });
            let mut pair = Pair::new(alice, bob);
            pair.run_for(Duration::from_millis(millis));
            take_over(&mut pair, side, config, Duration::from_millis(40));
            pair.run_until_up(Duration::from_mins(3));
            pair.run_for(Duration::from_mins(3));
            assert!(pair.is_up(), "{side:?} taken over at {millis} ms");
            pair.assert_consistent();
        }
    }
}

#[test]
fn at_random_points_of_a_rekey() {
    for step in 0..40 {
        let (mut alice, mut bob) = both();
        alice.selectors = (0..3)
            .map(|n| selectors(&format!("10.1.{n}.0/24"), "10.2.0.0/16"))
            .collect();
        bob.selectors = alice.selectors.iter().map(|pair| pair.reversed()).collect();
        for side in [&mut alice, &mut bob] {
            side.phase2.lifetime = Duration::from_mins(10);
            side.phase2.rekey = RekeyPolicy {
                margin: Duration::from_mins(1),
                jitter: Duration::ZERO,
            };
        }
        let config = list(alice.clone());
        let mut pair = Pair::new(alice, bob);
        pair.run_until_up(SOON);
        pair.run_for(Duration::from_secs(8 * 60 + 58));
        pair.run_for(Duration::from_millis(step * 100));
        take_over(&mut pair, Side::Alice, config, Duration::from_millis(100));
        pair.run_for(Duration::from_mins(3));
        assert!(pair.is_up(), "step {step}");
        pair.assert_consistent();
        assert_eq!(pair.alice().data_plane.pairs.len(), 3, "step {step}");
    }
}

#[test]
fn a_cold_activation_starts_anew_with_initial_contact() {
    let (alice, bob) = both();
    let config = list(alice.clone());
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    pair.run_for(Duration::from_mins(1));
    pair.take(Side::Alice);
    let rng = pair.rng();
    let (negotiator, _) = Standby::new(config).activate(pair.now, rng, Beginning::Cold);
    pair.install(Side::Alice, negotiator, super::pair::DataPlane::default());
    pair.run_until_up(SOON);
    pair.run_for(Duration::from_mins(1));
    pair.assert_consistent();
    assert_eq!(pair.bob().negotiator.load().ike_sas, 1);
}

#[test]
fn standing_down_and_up_again() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    let node = pair.take(Side::Alice);
    let standby: Standby = node.negotiator.stand_down(pair.now);
    assert_eq!(standby.connections().collect::<Vec<_>>(), ["test"]);
    let rng = pair.rng();
    let (negotiator, errors): (Negotiator, _) = standby.activate(pair.now, rng, Beginning::Hot);
    assert!(errors.is_empty());
    pair.install(Side::Alice, negotiator, node.data_plane);
    pair.run_for(Duration::from_hours(2));
    assert!(pair.is_up());
    pair.assert_consistent();
}

#[test]
fn state_that_does_not_fit_is_refused() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice.clone(), bob);
    pair.run_until_up(SOON);
    let now = pair.now;
    let exported = pair.alice().negotiator.export(now, ID).unwrap();
    let mut other = alice;
    other.name = "other".to_owned();
    let mut standby = Standby::new(list(other));
    assert_eq!(
        standby.put(now, exported),
        Err(ImportError::UnknownConnection("test".to_owned()))
    );
}

#[test]
fn exported_state_does_not_print_its_keys() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    let now = pair.now;
    let exported = pair.alice().negotiator.export(now, ID).unwrap();
    let printed = format!("{exported:?}");
    assert!(printed.contains("redacted"), "{printed}");
    let id = pair.alice().negotiator.status(now)[0].ike_sas[0].id;
    let key = pair.alice().negotiator.phase1_key(id).unwrap();
    assert!(!printed.contains(&format!("{:?}", key.expose())));
}

/// Somebody has tampered with NAT-D, so phase 1 is of no use to phase 2. The node that takes
/// over does not take it for a good one, and gives it up as the first would have.
#[test]
fn an_ike_sa_without_any_success_is_doubted_after_it_too() {
    let (alice, bob) = both();
    let config = list(alice.clone());
    let mut pair = Pair::new(alice, bob);
    pair.network(|flight| {
        if flight.number != 2 {
            return super::pair::Fate::Deliver;
        }
        // Message 3: its last payload is a NAT-D, which no hash covers.
        let mut payload = flight.payload.clone();
        let last = payload.len() - 1;
        payload[last] ^= 1;
        super::pair::Fate::Replace(payload)
    });
    pair.run_for(SOON);
    assert!(!pair.is_up());
    assert_eq!(pair.alice().negotiator.load().ike_sas, 1);
    pair.reliable();
    take_over(&mut pair, Side::Alice, config, Duration::from_secs(1));
    pair.run_until_up(Duration::from_mins(5));
}
