//! A NAT on either side (RFC 3947).

use core::time::Duration;

use ikev1::config::{Connection, RemoteAddress, StartMode};
use ikev1::{Command, Event, TransmitKind};
use ipsec_types::Encapsulation;

use super::config::{ALICE, BOB, address, both};
use super::pair::{Nat, Pair, Side};

const SOON: Duration = Duration::from_secs(3);
const INSIDE: &str = "10.0.0.5";

fn natted(side: Side) -> (Connection, Connection, Nat) {
    let (mut alice, mut bob) = both();
    let (behind, outside) = match side {
        Side::Alice => (&mut alice, ALICE),
        Side::Bob => (&mut bob, BOB),
    };
    behind.local = address(INSIDE);
    let nat = Nat {
        side,
        inside: address(INSIDE),
        outside: address(outside),
        port_shift: 0,
    };
    (alice, bob, nat)
}

fn up_behind_nat(side: Side, port_shift: u16) -> Pair {
    let (alice, bob, mut nat) = natted(side);
    nat.port_shift = port_shift;
    let mut pair = Pair::new(alice, bob);
    pair.nat = Some(nat);
    pair.run_until_up(SOON);
    pair.assert_consistent();
    pair
}

#[test]
fn the_initiator_behind_a_nat() {
    let mut pair = up_behind_nat(Side::Alice, 7000);
    let sa = pair.bob().data_plane.pairs.values().next().unwrap().clone();
    assert_eq!(sa.outbound.encapsulation, Encapsulation::Udp);
    assert_eq!(
        sa.outbound.remote,
        format!("{ALICE}:11500").parse().unwrap()
    );
    assert_eq!(sa.outbound.local.port(), 4500);
    let ports: Vec<u16> = pair
        .sent
        .iter()
        .filter(|flight| flight.from == Side::Alice)
        .map(|flight| flight.source.port())
        .collect();
    assert_eq!(ports[..3], [500, 500, 4500], "floats with message 5");
}

#[test]
fn the_responder_behind_a_nat_that_forwards() {
    let mut pair = up_behind_nat(Side::Bob, 0);
    let sa = pair.alice().data_plane.pairs.values().next().unwrap();
    assert_eq!(sa.outbound.encapsulation, Encapsulation::Udp);
    assert_eq!(sa.outbound.remote.port(), 4500);
}

/// RFC 3947 §7: the host behind the NAT must not follow the other's address. Whoever copies
/// the newest ESP packet and delivers it first would divert our traffic.
#[test]
fn behind_the_nat_the_peers_address_is_not_followed() {
    for (side, is_followed) in [(Side::Alice, false), (Side::Bob, true)] {
        let mut pair = up_behind_nat(Side::Alice, 7000);
        let inbound = *pair.node(side).data_plane.pairs.keys().next().unwrap();
        let remote = "203.0.113.66:4500".parse().unwrap();
        pair.command(side, Command::PeerMoved { inbound, remote });
        let moved = pair
            .node(side)
            .events
            .iter()
            .any(|event| matches!(event, Event::PeerMoved { remote: to, .. } if *to == remote));
        assert_eq!(moved, is_followed, "{side:?}");
    }
}

#[test]
fn keepalives_only_behind_the_nat_and_only_one_byte() {
    let mut pair = up_behind_nat(Side::Alice, 7000);
    pair.run_for(Duration::from_secs(100));
    let keepalives: Vec<_> = pair
        .sent
        .iter()
        .filter(|flight| flight.kind == TransmitKind::NatKeepalive)
        .collect();
    assert!((4..=5).contains(&keepalives.len()), "{}", keepalives.len());
    for keepalive in keepalives {
        assert_eq!(keepalive.from, Side::Alice);
        assert_eq!(keepalive.payload, [0xff]);
        assert_eq!(keepalive.source.port(), 4500);
    }
}

#[test]
fn an_authenticated_message_from_a_new_port_is_followed() {
    let mut pair = up_behind_nat(Side::Alice, 7000);
    pair.nat.as_mut().unwrap().port_shift = 9000;
    // The next thing Alice says is her rekey, through the new mapping.
    pair.run_for(Duration::from_mins(70));
    let moved =
        pair.bob().events.iter().any(
            |event| matches!(event, Event::PeerMoved { remote, .. } if remote.port() == 13500),
        );
    assert!(moved);
    assert!(pair.is_up());
    pair.assert_consistent();
}

#[test]
fn a_forged_message_from_a_new_port_is_not_followed() {
    let mut pair = up_behind_nat(Side::Alice, 7000);
    let last = pair.sent.last().unwrap().clone();
    let forger = format!("{ALICE}:6666").parse().unwrap();
    let target = format!("{BOB}:4500").parse().unwrap();
    let mut forged = last.payload.clone();
    let end = forged.len() - 1;
    forged[end] ^= 1;
    pair.inject(Side::Bob, forger, target, &forged);
    pair.inject(Side::Bob, forger, target, &last.payload);
    let moved = pair
        .bob()
        .events
        .iter()
        .any(|event| matches!(event, Event::PeerMoved { .. }));
    assert!(!moved);
}

#[test]
fn phase1_rekey_stays_on_the_floated_ports() {
    let mut pair = up_behind_nat(Side::Alice, 7000);
    let before = pair.sent.len();
    pair.run_for(Duration::from_hours(9));
    assert!(pair.is_up());
    pair.assert_consistent();
    assert!(
        pair.sent[before..]
            .iter()
            .all(|flight| flight.source.port() == 4500)
    );
}

#[test]
fn a_lost_message_5_is_resent_from_the_new_port() {
    let (alice, bob, mut nat) = natted(Side::Alice);
    nat.port_shift = 7000;
    let mut pair = Pair::new(alice, bob);
    pair.nat = Some(nat);
    pair.lose(&[4, 5]);
    pair.run_until_up(SOON);
    pair.assert_consistent();
}

#[test]
fn a_peer_anywhere_needs_aggressive_mode() {
    let (mut alice, mut bob) = both();
    bob.remote = RemoteAddress::Any;
    bob.start = StartMode::Respond;
    for side in [&mut alice, &mut bob] {
        side.exchange = ikev1::config::Phase1Exchange::Aggressive;
    }
    alice.local_id = "fqdn:roamer.example".parse().unwrap();
    bob.remote_id = "fqdn:roamer.example".parse().unwrap();
    let mut pair = Pair::new(alice, bob);
    pair.nat = Some(Nat {
        side: Side::Alice,
        inside: address(ALICE),
        outside: address("203.0.113.200"),
        port_shift: 7000,
    });
    pair.run_until_up(SOON);
    pair.assert_consistent();
    let sa = pair.bob().data_plane.pairs.values().next().unwrap();
    assert_eq!(sa.outbound.remote, "203.0.113.200:11500".parse().unwrap());
}
