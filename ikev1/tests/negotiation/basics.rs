//! Main mode and quick mode between two of us, when nothing goes wrong.

use core::time::Duration;

use ikev1::config::{EncapsulationPolicy, StartMode};
use ikev1::{DhGroup, Event, HashAlgorithm, Identity};
use ipsec_types::{Encapsulation, EspSuite};

use super::config::{both, both_with, selectors};
use super::pair::{Pair, Side};

const SOON: Duration = Duration::from_secs(3);

#[test]
fn a_tunnel_comes_up_in_nine_messages() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    assert_eq!(pair.messages(), 9, "six of main mode, three of quick mode");
    pair.run_for(Duration::from_mins(5));
    assert_eq!(pair.messages(), 9, "and then silence");
    pair.assert_consistent();
    assert!(pair.alice().failures().is_empty());
}

#[test]
fn the_responder_may_be_either_side() {
    let (alice, bob) = both();
    let mut pair = Pair::new(
        ikev1::config::Connection {
            start: StartMode::Respond,
            ..alice
        },
        ikev1::config::Connection {
            start: StartMode::OnStart,
            ..bob
        },
    );
    pair.run_until_up(SOON);
    pair.assert_consistent();
}

#[test]
fn every_phase1_cipher_and_hash() {
    for cipher in ["aes128", "aes192", "aes256", "3des"] {
        for hash in HashAlgorithm::ALL {
            let suite = format!("{cipher}-{hash}-curve25519");
            let (alice, bob) = both_with(&suite, "aes128gcm16");
            let mut pair = Pair::new(alice, bob);
            pair.run_until_up(SOON);
            pair.assert_consistent();
        }
    }
}

#[test]
fn every_group_in_both_phases() {
    // The largest two take a second each; they are covered by the group tests.
    let groups = DhGroup::ALL
        .into_iter()
        .filter(|group| !matches!(group, DhGroup::Modp6144 | DhGroup::Modp8192));
    for group in groups {
        let (alice, bob) = both_with(
            &format!("aes256-sha256-{group}"),
            &format!("aes256gcm16-{group}"),
        );
        let mut pair = Pair::new(alice, bob);
        pair.run_until_up(SOON);
        pair.assert_consistent();
    }
}

#[test]
fn every_esp_suite_with_and_without_esn() {
    for suite in EspSuite::ALL {
        for esn in ["", "-esn"] {
            let (alice, bob) = both_with("aes128-sha256-curve25519", &format!("{suite}{esn}"));
            let mut pair = Pair::new(alice, bob);
            pair.run_until_up(SOON);
            pair.assert_consistent();
            let sa = pair
                .alice()
                .data_plane
                .pairs
                .values()
                .next()
                .unwrap()
                .clone();
            assert_eq!(sa.inbound.suite, suite);
            assert_eq!(sa.inbound.esn, !esn.is_empty());
            assert_eq!(sa.inbound.encryption_key.len(), suite.encryption_key_len());
            assert_eq!(sa.outbound.integrity_key.len(), suite.integrity_key_len());
        }
    }
}

#[test]
fn one_quick_mode_for_each_pair_of_selectors() {
    let (mut alice, mut bob) = both();
    alice.selectors = (0..5)
        .map(|n| selectors(&format!("10.1.{n}.0/24"), "10.2.0.0/16"))
        .collect();
    bob.selectors = alice.selectors.iter().map(|pair| pair.reversed()).collect();
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    pair.run_for(SOON);
    pair.assert_consistent();
    assert_eq!(pair.alice().data_plane.outbound.len(), 5);
    assert_eq!(pair.messages(), 6 + 5 * 3);
}

#[test]
fn identities_of_every_kind() {
    for id in [
        "fqdn:gw.example.org",
        "user-fqdn:gw@example.org",
        "key-id:branch",
    ] {
        let (mut alice, mut bob) = both();
        alice.local_id = id.parse().unwrap();
        bob.remote_id = id.parse().unwrap();
        let mut pair = Pair::new(alice, bob);
        pair.run_until_up(SOON);
    }
    let (alice, mut bob) = both();
    bob.remote_id = Identity::Any;
    Pair::new(alice, bob).run_until_up(SOON);
}

#[test]
fn without_a_nat_esp_is_protocol_50() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    assert!(pair.sent.iter().all(|flight| flight.source.port() == 500));
    let sa = pair.bob().data_plane.pairs.values().next().unwrap();
    assert_eq!(sa.inbound.encapsulation, Encapsulation::Esp);
}

#[test]
fn udp_can_be_forced_by_either_side() {
    for forced in [Side::Alice, Side::Bob] {
        let (mut alice, mut bob) = both();
        match forced {
            Side::Alice => alice.encapsulation = EncapsulationPolicy::Udp,
            Side::Bob => bob.encapsulation = EncapsulationPolicy::Udp,
        }
        let mut pair = Pair::new(alice, bob);
        pair.run_until_up(SOON);
        pair.assert_consistent();
        let sa = pair.alice().data_plane.pairs.values().next().unwrap();
        assert_eq!(sa.inbound.encapsulation, Encapsulation::Udp);
        assert_eq!(
            (sa.inbound.local.port(), sa.inbound.remote.port()),
            (4500, 4500)
        );
    }
}

#[test]
fn traffic_starts_a_connection_that_waits_for_it() {
    let (mut alice, bob) = both();
    alice.start = StartMode::OnTraffic;
    let wanted = alice.selectors[0];
    let mut pair = Pair::new(alice, bob);
    pair.run_for(SOON);
    assert_eq!(pair.messages(), 0);
    pair.command(
        Side::Alice,
        ikev1::Command::Initiate {
            connection: ipsec_types::ConnectionId(0),
            selectors: Some(wanted),
        },
    );
    pair.run_until_up(SOON);
    assert_eq!(pair.messages(), 9);
}

#[test]
fn terminating_deletes_on_both_sides() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    pair.command(
        Side::Alice,
        ikev1::Command::Terminate {
            connection: ipsec_types::ConnectionId(0),
        },
    );
    pair.run_for(Duration::from_mins(10));
    for side in [Side::Alice, Side::Bob] {
        let node = pair.node(side);
        assert!(node.data_plane.pairs.is_empty());
        assert_eq!(node.negotiator.load().ike_sas, 0);
        assert_eq!(node.negotiator.load().spis, 0);
    }
    let deleted_by_peer = pair.bob().events.iter().any(|event| {
        matches!(
            event,
            Event::EspSaDown {
                reason: ikev1::DownReason::DeletedByPeer,
                ..
            }
        )
    });
    assert!(deleted_by_peer);
}

#[test]
fn shutdown_says_goodbye_and_stays_quiet() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    pair.command(Side::Alice, ikev1::Command::Shutdown);
    pair.run_for(Duration::from_secs(1));
    assert!(pair.bob().data_plane.pairs.is_empty());
    let sent = pair.sent.len();
    pair.run_for(Duration::from_hours(2));
    assert_eq!(pair.sent.len(), sent);
}
