//! Restarts, deletes and dead peers.

use core::time::Duration;

use ikev1::config::{DpdAction, DpdPolicy, StartMode};
use ikev1::{Command, ConnectionState, DownReason, DropReason, Event};
use ipsec_types::ConnectionId;

use super::config::{both, list};
use super::pair::{Fate, Pair, Side};

const SOON: Duration = Duration::from_secs(3);
const ID: ConnectionId = ConnectionId(0);

fn dpd(action: DpdAction) -> DpdPolicy {
    DpdPolicy {
        delay: Duration::from_secs(10),
        retry: Duration::from_secs(2),
        max_failures: 3,
        action,
    }
}

fn up_with_dpd(action: DpdAction) -> Pair {
    let (mut alice, mut bob) = both();
    alice.dpd = Some(dpd(action));
    bob.dpd = Some(dpd(DpdAction::Clear));
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    pair
}

fn went_down(pair: &mut Pair, side: Side, because: DownReason) -> bool {
    pair.node(side)
        .events
        .iter()
        .any(|event| matches!(event, Event::IkeSaDown { reason, .. } if *reason == because))
}

#[test]
fn probes_are_answered_and_nothing_happens() {
    let mut pair = up_with_dpd(DpdAction::Restart);
    let before = pair.sent.len();
    pair.run_for(Duration::from_mins(5));
    assert!(pair.sent.len() > before, "idle peers are probed");
    assert!(!went_down(&mut pair, Side::Alice, DownReason::PeerDead));
    assert_eq!(pair.alice().dropped(DropReason::BadDpdSequence), 0);
    assert!(pair.is_up());
}

#[test]
fn traffic_replaces_probes() {
    let mut pair = up_with_dpd(DpdAction::Restart);
    let before = pair.sent.len();
    for _ in 0..60 {
        pair.run_for(Duration::from_secs(5));
        for side in [Side::Alice, Side::Bob] {
            pair.command(side, Command::TrafficSeen { connection: ID });
        }
    }
    assert_eq!(pair.sent.len(), before);
}

#[test]
fn restart_brings_the_tunnel_back_to_a_peer_that_lost_power() {
    let mut pair = up_with_dpd(DpdAction::Restart);
    pair.take(Side::Bob);
    pair.run_for(Duration::from_secs(30));
    assert!(went_down(&mut pair, Side::Alice, DownReason::PeerDead));
    assert!(pair.alice().data_plane.pairs.is_empty());
    let (_, bob) = both();
    pair.boot(Side::Bob, list(bob));
    pair.run_until_up(Duration::from_mins(3));
    pair.run_for(Duration::from_mins(1));
    pair.assert_consistent();
}

/// Somebody on the way keeps the peer's acknowledgements and hands one over when the peer is
/// gone: authentic, never seen before, and no proof of life (RFC 3706 §6).
#[test]
fn an_acknowledgement_that_was_held_back_is_no_proof_of_life() {
    let (mut alice, bob) = both();
    alice.dpd = Some(dpd(DpdAction::Clear));
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    let before = pair.sent.len();
    pair.network(|flight| match flight.from {
        Side::Alice => Fate::Deliver,
        Side::Bob => Fate::Drop,
    });
    pair.run_for(Duration::from_secs(13));
    let held_back = pair
        .sent
        .iter()
        .skip(before)
        .find(|flight| flight.from == Side::Bob)
        .cloned()
        .unwrap();
    let (source, target) = (held_back.source, held_back.target);
    pair.inject(Side::Alice, source, target, &held_back.payload);
    assert_eq!(pair.alice().dropped(DropReason::BadDpdSequence), 1);
    pair.run_for(Duration::from_secs(5));
    assert!(went_down(&mut pair, Side::Alice, DownReason::PeerDead));
}

#[test]
fn hold_waits_for_traffic_and_clear_for_the_peer() {
    for action in [DpdAction::Hold, DpdAction::Clear] {
        let mut pair = up_with_dpd(action);
        pair.network(|_| Fate::Drop);
        pair.run_for(Duration::from_mins(1));
        let sent = pair.sent.len();
        pair.run_for(Duration::from_mins(10));
        assert_eq!(pair.sent.len(), sent, "{action:?} stays quiet");
        pair.reliable();
        let wanted = super::config::everything();
        pair.command(
            Side::Alice,
            Command::Initiate {
                connection: ID,
                selectors: Some(wanted),
            },
        );
        pair.run_until_up(SOON);
    }
}

#[test]
fn a_restarted_peer_says_initial_contact() {
    let (alice, mut bob) = both();
    bob.start = StartMode::OnStart;
    let mut pair = Pair::new(alice, bob.clone());
    pair.run_until_up(SOON);
    pair.run_for(Duration::from_mins(3));
    pair.boot(Side::Bob, list(bob));
    pair.run_until_up(SOON);
    pair.run_for(Duration::from_mins(6));
    assert!(went_down(&mut pair, Side::Alice, DownReason::PeerRestarted));
    pair.assert_consistent();
    assert_eq!(pair.alice().negotiator.load().esp_sas, 1);
}

#[test]
fn a_deleted_pair_comes_back_for_the_side_that_wants_it() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    pair.run_for(Duration::from_mins(1));
    let inbound = *pair.bob().data_plane.pairs.keys().next().unwrap();
    pair.command(Side::Bob, Command::HardLimit { inbound });
    pair.run_until_up(SOON);
    pair.assert_consistent();
}

#[test]
fn a_responder_that_terminates_is_left_alone_for_a_moment() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    pair.command(Side::Bob, Command::Terminate { connection: ID });
    pair.run_for(Duration::from_secs(30));
    assert!(pair.is_up(), "Alice is to keep it up and does");
    pair.assert_consistent();
}

#[test]
fn status_tells_what_is_there() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    let now = pair.now;
    assert_eq!(
        pair.bob().negotiator.status(now)[0].state,
        ConnectionState::Down
    );
    pair.run_for(Duration::from_millis(15));
    let now = pair.now;
    assert_eq!(
        pair.alice().negotiator.status(now)[0].state,
        ConnectionState::Connecting
    );
    pair.run_until_up(SOON);
    pair.run_for(Duration::from_mins(1));
    let now = pair.now;
    let status = pair.alice().negotiator.status(now).remove(0);
    assert_eq!(status.state, ConnectionState::Up);
    assert_eq!(status.ike_sas[0].suite, "aes128-sha256-curve25519");
    assert_eq!(status.esp_sas[0].proposal, "aes128gcm16");
    assert!(status.esp_sas[0].in_use && status.ike_sas[0].dpd);
    assert!(status.ike_sas[0].age_seconds >= 60);
    assert!(status.esp_sas[0].rekey_in_seconds.unwrap() < status.esp_sas[0].expires_in_seconds);
}

#[test]
fn an_unprotected_delete_or_notification_has_no_effect() {
    use ikev1::wire::{
        Delete, ExchangeType, Header, Message, MessageId, Notification, NotifyType, ProtocolId,
        SpiBytes,
    };
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    let now = pair.now;
    let id = pair.alice().negotiator.status(now)[0].ike_sas[0].id;
    let spi = *pair.bob().data_plane.pairs.keys().next().unwrap();
    let before = pair.alice().negotiator.load();
    let header = Header::new(id, ExchangeType::Informational, MessageId(77));
    let forged = [
        Message::new(header, vec![Delete::isakmp(id).into()]),
        Message::new(header, vec![Delete::esp(spi).into()]),
        Message::new(header, vec![Notification::initial_contact(id).into()]),
        Message::new(
            header,
            vec![
                Notification::plain(
                    ProtocolId::ESP,
                    SpiBytes::EMPTY,
                    NotifyType::NO_PROPOSAL_CHOSEN,
                )
                .into(),
            ],
        ),
    ];
    for message in forged {
        let from = super::pair::at(Side::Bob, 500);
        let to = super::pair::at(Side::Alice, 500);
        pair.inject(Side::Alice, from, to, &message.encode());
    }
    pair.run_for(SOON);
    assert_eq!(pair.alice().negotiator.load(), before);
    assert!(pair.is_up());
    assert_eq!(
        pair.alice()
            .dropped(DropReason::UnauthenticatedInformational),
        4
    );
}

#[test]
fn unknown_spi_is_answered_at_most_every_ten_seconds() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    pair.run_for(Duration::from_mins(1));
    let before = pair.sent.len();
    for _ in 0..100 {
        let remote = super::pair::at(Side::Alice, 500);
        pair.command(
            Side::Bob,
            Command::UnknownSpi {
                remote,
                spi: 0xdead_beef,
            },
        );
    }
    pair.run_for(SOON);
    assert_eq!(pair.sent.len(), before + 1);
    let stranger = "203.0.113.9:500".parse().unwrap();
    pair.command(
        Side::Bob,
        Command::UnknownSpi {
            remote: stranger,
            spi: 0xdead_beef,
        },
    );
    assert_eq!(pair.sent.len(), before + 1, "nobody answers a stranger");
}

#[test]
fn invalid_spi_leads_to_a_fresh_quick_mode() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    pair.run_for(Duration::from_mins(1));
    let old = *pair.alice().data_plane.pairs.keys().next().unwrap();
    let lost = pair.alice().data_plane.pairs[&old].outbound.spi;
    let remote = super::pair::at(Side::Alice, 500);
    pair.command(
        Side::Bob,
        Command::UnknownSpi {
            remote,
            spi: lost.get(),
        },
    );
    pair.run_for(Duration::from_mins(1));
    assert!(!pair.alice().data_plane.pairs.contains_key(&old));
    assert!(pair.is_up());
    pair.assert_consistent();
}
