//! Two configurations that do not fit: no tunnel, and one line that says why.

use core::time::Duration;

use ikev1::config::{Connection, EncapsulationPolicy, Phase1Exchange};
use ikev1::{DropReason, Event};
use ipsec_types::SecretBytes;

use super::config::{both, selectors};
use super::pair::{Pair, Side};

const LONG: Duration = Duration::from_mins(4);

/// Runs until everything is given up, and gives what each side told its user first.
fn explanations(alice: Connection, bob: Connection) -> (String, String, Pair) {
    let mut pair = Pair::new(alice, bob);
    pair.run_for(LONG);
    assert!(!pair.is_up());
    assert!(pair.alice().data_plane.pairs.is_empty());
    assert!(pair.bob().data_plane.pairs.is_empty());
    let first = |node: &mut super::pair::Node| node.failures().first().cloned().unwrap_or_default();
    let (alice, bob) = (first(pair.alice()), first(pair.bob()));
    (alice, bob, pair)
}

#[test]
fn wrong_pre_shared_key() {
    let (alice, mut bob) = both();
    bob.psk = SecretBytes::from(&b"something else"[..]);
    let (alice, bob, mut pair) = explanations(alice, bob);
    assert!(bob.contains("pre-shared keys differ"), "{bob}");
    assert!(
        alice.contains("does not accept our identity or pre-shared key"),
        "{alice}"
    );
    assert!(pair.bob().dropped(DropReason::DecryptionFailed) > 0);
    let told = pair.bob().failures().len();
    let attempts = pair.alice().failures().len();
    assert!(
        told <= attempts + 1,
        "once per attempt, not once per message"
    );
}

#[test]
fn no_phase1_proposal_in_common() {
    let (mut alice, mut bob) = both();
    alice.phase1.proposals = vec!["aes256-sha256-modp1024".parse().unwrap()];
    bob.phase1.proposals = vec!["aes256-sha256-modp2048".parse().unwrap()];
    let (alice, bob, mut pair) = explanations(alice, bob);
    assert!(
        bob.contains("peer offers DH group modp1024 only, this connection allows modp2048"),
        "{bob}"
    );
    assert!(
        alice.contains("peer says NO-PROPOSAL-CHOSEN (not authenticated) to our offer of aes256-sha256-modp1024"),
        "{alice}"
    );
    assert_eq!(pair.bob().negotiator.counters().totals.diffie_hellman, 0);
}

#[test]
fn no_phase2_proposal_in_common() {
    let (mut alice, mut bob) = both();
    alice.phase2.proposals = vec!["aes256gcm16".parse().unwrap()];
    bob.phase2.proposals = vec!["aes256-sha256".parse().unwrap()];
    let (alice, bob, mut pair) = explanations(alice, bob);
    assert!(bob.contains("ESP suite aes256gcm16 only"), "{bob}");
    assert!(
        alice.contains("peer refuses every phase-2 proposal"),
        "{alice}"
    );
    assert!(alice.contains("aes256gcm16"), "{alice}");
    assert_eq!(pair.alice().negotiator.load().spis, 0, "no SPI leaks");
    let attempts = pair.alice().failures().len();
    assert!(
        (2..12).contains(&attempts),
        "{attempts} attempts in four minutes"
    );
}

#[test]
fn pfs_on_one_side_only() {
    let (mut alice, bob) = both();
    alice.phase2.proposals = vec!["aes128gcm16-curve25519".parse().unwrap()];
    let (_, bob, _) = explanations(alice, bob);
    assert!(
        bob.contains("peer offers PFS group curve25519 only, this connection allows none"),
        "{bob}"
    );
}

#[test]
fn the_second_pfs_group_is_tried() {
    let (mut alice, mut bob) = both();
    alice.phase2.proposals = vec![
        "aes128gcm16".parse().unwrap(),
        "aes128gcm16-curve25519".parse().unwrap(),
    ];
    bob.phase2.proposals = vec!["aes128gcm16-curve25519".parse().unwrap()];
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(Duration::from_secs(3));
    pair.assert_consistent();
}

#[test]
fn selectors_that_are_not_configured() {
    let (mut alice, mut bob) = both();
    alice.selectors = vec![selectors("10.1.0.0/16", "10.2.0.0/16")];
    bob.selectors = vec![selectors("10.2.0.0/16", "10.1.0.0/24")];
    let (alice, bob, mut pair) = explanations(alice, bob);
    assert!(
        bob.contains("peer proposes selectors 10.2.0.0/16 <=> 10.1.0.0/16"),
        "{bob}"
    );
    assert!(alice.contains("peer refuses the selectors"), "{alice}");
    assert!(pair.bob().dropped(DropReason::InvalidSelectors) > 0);
}

#[test]
fn wrong_identity() {
    let (mut alice, bob) = both();
    alice.local_id = "fqdn:somebody.example".parse().unwrap();
    let (_, bob, mut pair) = explanations(alice, bob);
    assert!(
        bob.contains("peer identifies as fqdn:somebody.example"),
        "{bob}"
    );
    assert!(bob.contains("set remote_id"), "{bob}");
    assert!(pair.bob().dropped(DropReason::WrongIdentity) > 0);
}

#[test]
fn the_responder_proves_its_identity_too() {
    let (alice, mut bob) = both();
    bob.local_id = "fqdn:impostor.example".parse().unwrap();
    let mut pair = Pair::new(alice, bob);
    pair.run_for(LONG);
    assert!(!pair.is_up());
    let said = pair.alice().failures().join("\n");
    assert!(
        said.contains("peer identifies as fqdn:impostor.example"),
        "{said}"
    );
}

#[test]
fn udp_prescribed_and_the_peer_cannot() {
    let (mut alice, mut bob) = both();
    alice.encapsulation = EncapsulationPolicy::Udp;
    bob.encapsulation = EncapsulationPolicy::Esp;
    let (alice, _, _) = explanations(alice, bob);
    assert!(alice.contains("does not announce NAT traversal"), "{alice}");
}

#[test]
fn a_source_without_a_connection_gets_no_answer() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    let first = pair.sent.clone();
    pair.run_for(Duration::from_millis(1));
    let first = first
        .first()
        .cloned()
        .unwrap_or_else(|| pair.sent[0].clone());
    let stranger = "203.0.113.77:500".parse().unwrap();
    let before = pair.sent.len();
    pair.inject(Side::Bob, stranger, first.target, &first.payload);
    assert_eq!(pair.sent.len(), before);
    assert_eq!(pair.bob().dropped(DropReason::UnknownPeer), 1);
}

#[test]
fn aggressive_mode_is_off_unless_configured() {
    let (mut alice, bob) = both();
    alice.exchange = Phase1Exchange::Aggressive;
    let mut pair = Pair::new(alice, bob);
    pair.run_for(LONG);
    assert!(!pair.is_up());
    assert!(pair.sent.iter().all(|flight| flight.from == Side::Alice));
    let said = pair.bob().failures().join("\n");
    assert!(
        said.contains("peer begins aggressive mode, this connection has mode = \"main\""),
        "{said}"
    );
    let said = pair.alice().failures().join("\n");
    assert!(
        said.contains("not configured for our address or this mode"),
        "{said}"
    );
    assert!(pair.bob().dropped(DropReason::UnsupportedExchange) > 0);
}

/// Every explanation says what to change, in one line.
#[test]
fn every_explanation_says_what_to_change() {
    type Change = fn(&mut Connection, &mut Connection);
    let cases: [(Change, &str); 8] = [
        (
            |alice, _| alice.phase2.proposals = vec!["3des-md5".parse().unwrap()],
            "peer offers ESP suite 3des-md5 only, this connection allows aes128gcm16; add one of \
             the peer's to [connection.phase2] proposals with allow_weak = true",
        ),
        (
            |alice, _| alice.psk = SecretBytes::from(&b"something else"[..]),
            "compare psk_file",
        ),
        (
            |alice, _| alice.phase1.proposals = vec!["aes128-sha256-modp1024".parse().unwrap()],
            "add one of the peer's to [connection.phase1] proposals with allow_weak = true",
        ),
        (
            |alice, _| alice.phase1.proposals = vec!["aes128-sha256-ecp256".parse().unwrap()],
            "add one of the peer's to [connection.phase1] proposals or change the peer",
        ),
        (
            |alice, _| alice.phase2.proposals = vec!["aes256gcm16".parse().unwrap()],
            "add one of the peer's to [connection.phase2] proposals or change the peer",
        ),
        (
            |alice, _| alice.local_id = "fqdn:a.example".parse().unwrap(),
            "set remote_id = \"fqdn:a.example\"",
        ),
        (
            |alice, _| alice.selectors = vec![selectors("10.1.0.0/16", "10.2.0.0/16")],
            "here by [[connection.selector]]",
        ),
        (
            |alice, _| alice.exchange = Phase1Exchange::Aggressive,
            "set the same mode at both ends",
        ),
    ];
    for (change, words) in cases {
        let (mut alice, mut bob) = both();
        change(&mut alice, &mut bob);
        let (_, said, _) = explanations(alice, bob);
        assert!(said.contains(words), "{said}");
        assert!(!said.contains('\n') && said.len() < 400, "{said}");
    }
}

#[test]
fn a_failure_is_forgotten_when_it_works_again() {
    let (alice, mut bob) = both();
    let key = bob.psk.clone();
    bob.psk = SecretBytes::from(&b"something else"[..]);
    let mut pair = Pair::new(alice, bob.clone());
    pair.run_for(Duration::from_mins(2));
    let now = pair.now;
    let status = pair.alice().negotiator.status(now);
    assert!(status[0].last_failure.is_some());
    bob.psk = key;
    pair.command(
        Side::Bob,
        ikev1::Command::Reload {
            connections: super::config::list(bob),
        },
    );
    pair.run_until_up(LONG);
    let now = pair.now;
    let status = pair.alice().negotiator.status(now);
    assert_eq!(status[0].last_failure, None);
    let up = pair
        .alice()
        .events
        .iter()
        .any(|event| matches!(event, Event::IkeSaUp { .. }));
    assert!(up);
}
