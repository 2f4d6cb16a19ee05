//! What the RFCs ask for in so many words, against the peer made by hand.

use core::time::Duration;
use std::collections::BTreeSet;

use ikev1::config::Phase1Exchange;
use ikev1::crypto::Iv;
use ikev1::wire::{
    ExchangeType, Identification, Identity, Incoming, Lifetime, Notification, NotifyType, Payload,
    Proposal, ProtocolId, SecurityAssociation, SpiBytes, parse,
};
use ikev1::{Command, DownReason, DropReason, Event};
use ipsec_types::{ConnectionId, Spi, TrafficSelector};

use super::config::{ALICE, BOB, address, both, list, selectors};
use super::manual::Manual;
use super::pair::{Pair, Side};

const SOON: Duration = Duration::from_secs(3);

fn spi() -> Spi {
    Spi::new(0x1234).unwrap()
}

/// Bob wants to begin a quick mode, and waits a moment for us to do so.
fn starting() -> Manual {
    let mut manual = Manual::established();
    let everything = Command::Initiate {
        connection: ConnectionId(0),
        selectors: None,
    };
    manual.pair.command(Side::Bob, everything);
    manual
}

fn connected(spi: SpiBytes) -> Payload {
    Notification::plain(ProtocolId::ESP, spi, NotifyType::CONNECTED).into()
}

/// RFC 2408 §3.1: the message id of the quick mode, in an informational exchange.
#[test]
fn connected_under_the_message_id_of_its_quick_mode() {
    let mut manual = starting();
    let (id, _, third) = manual.answer_quick(spi(), true, |_| {});
    assert_eq!(third.len(), 1, "message 3");
    assert!(manual.pair.bob().data_plane.outbound.is_empty());
    let news = manual.protected(
        ExchangeType::Informational,
        id,
        vec![connected(SpiBytes::EMPTY)],
    );
    manual.say(&news);
    assert_eq!(manual.pair.bob().data_plane.outbound.len(), 1);
    // Once: it is a replay from now on.
    manual.say(&news);
    let bob = manual.pair.bob();
    assert_eq!(bob.dropped(DropReason::ReplayedMessageId), 1);
}

#[test]
fn nothing_but_connected_comes_under_the_message_id_of_a_quick_mode() {
    let mut manual = starting();
    let (id, _, _) = manual.answer_quick(spi(), true, |_| {});
    let restarted = Notification::initial_contact(manual.cookies).into();
    let forged = manual.protected(ExchangeType::Informational, id, vec![restarted]);
    manual.say(&forged);
    let bob = manual.pair.bob();
    assert_eq!(bob.dropped(DropReason::ReplayedMessageId), 1);
    assert!(bob.data_plane.outbound.is_empty());
}

#[test]
fn connected_under_an_id_of_its_own_names_the_pair() {
    let mut manual = starting();
    let (_, theirs, _) = manual.answer_quick(spi(), true, |_| {});
    let other = connected(Spi::new(0x9999).unwrap().into());
    let news = manual.protected(ExchangeType::Informational, 501, vec![other]);
    manual.say(&news);
    assert!(manual.pair.bob().data_plane.outbound.is_empty());
    let news = manual.protected(
        ExchangeType::Informational,
        502,
        vec![connected(theirs.into())],
    );
    manual.say(&news);
    assert_eq!(manual.pair.bob().data_plane.outbound.len(), 1);
}

/// RFC 2408 §5.1.
#[test]
fn a_refusal_is_repeated_for_a_repeated_message() {
    let mut manual = Manual::established();
    let mut payloads = Manual::quick_payloads();
    payloads[0] = Manual::esp_offer("aes256gcm16", None, spi()).into();
    let quick = manual.protected(ExchangeType::Quick, 77, payloads.clone());
    let first = manual.say(&quick);
    assert_eq!(first.len(), 1);
    assert_eq!(manual.say(&quick), first, "the very same datagram");
    let bob = manual.pair.bob();
    assert_eq!(bob.dropped(DropReason::NoProposalChosen), 1);
    assert_eq!(bob.dropped(DropReason::Duplicate), 1);
    assert_eq!(bob.failures().len(), 1, "the user is told once");
    assert!(!bob.negotiator.is_negotiating());
    // Not for ever, and not for any number of them.
    for id in 100..200 {
        let quick = manual.protected(ExchangeType::Quick, id, payloads.clone());
        assert_eq!(manual.say(&quick).len(), 1);
    }
    assert!(manual.pair.bob().negotiator.load().quick_modes <= 32);
    let good = manual.protected(ExchangeType::Quick, 78, Manual::quick_payloads());
    assert_eq!(manual.say(&good).len(), 1, "there is room for a good one");
    manual.pair.run_for(Duration::from_mins(2));
    assert!(manual.say(&quick).is_empty());
    assert_eq!(manual.pair.bob().negotiator.load().quick_modes, 0);
}

/// RFC 2407 §4.6.3: not in the exchange, but right after it, and believed.
#[test]
fn aggressive_mode_says_initial_contact_after_message_3() {
    let (mut alice, mut bob) = both();
    alice.exchange = Phase1Exchange::Aggressive;
    bob.exchange = Phase1Exchange::Aggressive;
    let config = list(alice.clone());
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    pair.run_for(Duration::from_mins(5));
    pair.take(Side::Alice);
    let before = pair.sent.len();
    pair.boot(Side::Alice, config);
    pair.run_until_up(SOON);
    pair.run_for(SOON);
    let kinds: Vec<u8> = pair.sent[before..]
        .iter()
        .map(|flight| flight.payload[18])
        .take(4)
        .collect();
    assert_eq!(kinds, [4, 4, 4, 5], "three messages, then an informational");
    let gone = pair.bob().events.iter().filter(|event| {
        matches!(
            event,
            Event::IkeSaDown {
                reason: DownReason::PeerRestarted,
                ..
            } | Event::EspSaDown {
                reason: DownReason::PeerRestarted,
                ..
            }
        )
    });
    assert_eq!(gone.count(), 2);
    pair.assert_consistent();
}

/// RFC 2407 §4.5: who states no lifetime means eight hours.
#[test]
fn a_peer_that_states_no_lifetime_means_eight_hours() {
    let day = Duration::from_hours(24);
    let mut manual = Manual::established_with(|bob| {
        bob.phase1.lifetime = day;
        bob.phase2.lifetime = day;
    });
    let quick = manual.protected(ExchangeType::Quick, 77, Manual::quick_payloads());
    manual.say(&quick);
    let now = manual.pair.now;
    let status = manual.pair.bob().negotiator.status(now);
    assert_eq!(status[0].ike_sas[0].expires_in_seconds, 28_800);
    assert_eq!(status[0].esp_sas[0].expires_in_seconds, 28_800);
}

/// RFC 2409 §5 would have a changed lifetime refused. Taken, it can only shorten ours.
#[test]
fn a_lifetime_changed_in_the_answer_shortens_and_never_lengthens() {
    for (stated, expected) in [(600, 600), (7_200, 3_600)] {
        let mut manual = starting();
        manual.answer_quick(spi(), false, |payloads| {
            let Payload::Sa(sa) = &payloads[0] else {
                panic!("SA comes first");
            };
            let transform = &sa.proposals()[0].transforms()[0];
            let mut meaning = ikev1::wire::Phase2Transform::from_transform(transform).unwrap();
            meaning.lifetime = Lifetime {
                seconds: Some(stated),
                kilobytes: None,
            };
            let transforms = vec![meaning.to_transform(transform.number())];
            let proposal = Proposal::new(1, ProtocolId::ESP, spi().into(), transforms).unwrap();
            payloads[0] = SecurityAssociation::new(vec![proposal]).unwrap().into();
        });
        let now = manual.pair.now;
        let status = manual.pair.bob().negotiator.status(now);
        let left = status[0].esp_sas[0].expires_in_seconds;
        assert!((expected - 2..=expected).contains(&left), "{left}");
    }
}

/// RFC 2409 §5.5.
#[test]
fn an_answer_with_other_identities_is_refused() {
    let mut manual = starting();
    let narrow = TrafficSelector::net("10.9.0.0/16".parse().unwrap());
    let (_, _, third) = manual.answer_quick(spi(), false, |payloads| {
        payloads[2] = Identification::from_selector(&narrow).into();
    });
    assert!(third.is_empty());
    let bob = manual.pair.bob();
    assert_eq!(bob.dropped(DropReason::InvalidSelectors), 1);
    assert!(bob.data_plane.pairs.is_empty());
}

/// RFC 2409 §5.5.
#[test]
fn quick_mode_without_identities_means_the_two_hosts() {
    let mut manual = Manual::established_with(|bob| {
        bob.selectors = vec![selectors("198.51.100.2/32", "192.0.2.1/32")];
    });
    let mut payloads = Manual::quick_payloads();
    payloads.truncate(2);
    let quick = manual.protected(ExchangeType::Quick, 77, payloads);
    assert_eq!(manual.say(&quick).len(), 1);
    let bob = manual.pair.bob();
    let pair = bob.data_plane.pairs.values().next().unwrap();
    assert_eq!(
        pair.inbound.selectors,
        selectors("198.51.100.2/32", "192.0.2.1/32")
    );
}

/// RFC 2407 §4.6.2.
#[test]
fn a_phase_1_identity_has_the_port_of_ike_or_none() {
    let name = Identity::Address(address(ALICE));
    for (protocol, port, fits) in [
        (0, 0, true),
        (17, 500, true),
        (17, 0, true),
        (17, 4500, true),
        (17, 4501, false),
        (6, 500, false),
        (0, 500, false),
    ] {
        let mut manual = Manual::new();
        manual.hello();
        manual.exchange_keys(b"correct horse battery staple");
        let id = Identification {
            protocol,
            port,
            identity: name.clone(),
        };
        let (datagram, _) = manual.seal_phase1(manual.proof(&id));
        assert_eq!(manual.say(&datagram).len() == 1, fits, "{protocol}/{port}");
        let refused = manual.pair.bob().dropped(DropReason::WrongIdentity);
        assert_eq!(refused, u64::from(!fits), "{protocol}/{port}");
    }
}

/// RFC 2407 §4.6.3.1, from an informational exchange.
#[test]
fn responder_lifetime_on_its_own_shortens_an_sa() {
    let mut manual = starting();
    manual.answer_quick(spi(), false, |_| {});
    let notice = |protocol, spi: SpiBytes, seconds| {
        let lifetime = Lifetime {
            seconds: Some(seconds),
            kilobytes: None,
        };
        Notification::responder_lifetime(protocol, spi, lifetime).into()
    };
    let left = |manual: &mut Manual| {
        let now = manual.pair.now;
        let status = manual.pair.bob().negotiator.status(now);
        status[0].esp_sas[0].expires_in_seconds
    };
    let esp = notice(ProtocolId::ESP, spi().into(), 300);
    manual.say(&manual.protected(ExchangeType::Informational, 501, vec![esp]));
    assert!((295..=300).contains(&left(&mut manual)));
    let longer = notice(ProtocolId::ESP, spi().into(), 90_000);
    manual.say(&manual.protected(ExchangeType::Informational, 502, vec![longer]));
    assert!((295..=300).contains(&left(&mut manual)), "never lengthens");
    for (id, protocol) in [(504, ProtocolId::ESP), (505, ProtocolId::ISAKMP)] {
        let for_ever = notice(protocol, spi().into(), u64::MAX);
        manual.say(&manual.protected(ExchangeType::Informational, id, vec![for_ever]));
        assert!((295..=300).contains(&left(&mut manual)), "beyond any clock");
    }
    let foreign = notice(ProtocolId::ESP, Spi::new(0x9999).unwrap().into(), 1);
    manual.say(&manual.protected(ExchangeType::Informational, 503, vec![foreign]));
    assert!((295..=300).contains(&left(&mut manual)));
    assert_eq!(manual.pair.bob().dropped(DropReason::UnknownSpi), 1);
    manual.pair.run_for(Duration::from_secs(301));
    let expired = manual
        .pair
        .bob()
        .events
        .iter()
        .any(|event| matches!(event, Event::EspSaDown { outbound, .. } if *outbound == spi()));
    assert!(expired, "it ends when its responder says so");
}

/// RFC 2407 §4.4.1, RFC 2408 §4.2: no other protocols, no bundles.
#[test]
fn proposals_of_other_protocols_and_bundles_are_not_chosen() {
    const AH: ProtocolId = ProtocolId(2);
    let offered = Manual::esp_offer("aes128gcm16", None, spi());
    let esp = offered.proposals()[0].clone();
    let renamed = |number, protocol| {
        Proposal::new(number, protocol, spi().into(), esp.transforms().to_vec()).unwrap()
    };
    let alone = vec![renamed(1, AH)];
    let bundle = vec![renamed(1, AH), renamed(1, ProtocolId::ESP)];
    let either = vec![renamed(1, AH), renamed(2, ProtocolId::ESP)];
    for (proposals, fits) in [(alone, false), (bundle, false), (either, true)] {
        let mut manual = Manual::established();
        let mut payloads = Manual::quick_payloads();
        payloads[0] = SecurityAssociation::new(proposals).unwrap().into();
        manual.say(&manual.protected(ExchangeType::Quick, 77, payloads));
        let bob = manual.pair.bob();
        assert_eq!(bob.negotiator.load().esp_sas, usize::from(fits));
        let refused = bob.dropped(DropReason::NoProposalChosen);
        assert_eq!(refused, u64::from(!fits));
    }
}

/// RFC 3706 §5.3.
#[test]
fn probes_with_other_cookies_or_data_are_not_answered() {
    let mut manual = Manual::established();
    let kind = NotifyType::R_U_THERE;
    let mut others = manual.cookies;
    others.initiator.0[0] ^= 1;
    let own = SpiBytes::from(manual.cookies.to_bytes());
    let probe = |spi, data: &[u8]| -> Payload {
        Notification::new(ProtocolId::ISAKMP, spi, kind, data.to_vec())
            .unwrap()
            .into()
    };
    let cases = [
        (probe(SpiBytes::from(others.to_bytes()), &[0; 4]), 0),
        (probe(own, &[0; 3]), 0),
        (probe(own, &[0; 5]), 0),
        (probe(own, &[0; 4]), 1),
        (probe(SpiBytes::EMPTY, &[0, 0, 0, 1]), 1),
    ];
    for (n, (payload, answers)) in (1_u32..).zip(cases) {
        let datagram = manual.protected(ExchangeType::Informational, 600 + n, vec![payload]);
        assert_eq!(manual.say(&datagram).len(), answers, "case {n}");
    }
    assert_eq!(manual.pair.bob().dropped(DropReason::BadDpdSequence), 3);
}

/// RFC 2408 §2.5.3.
#[test]
fn cookies_do_not_repeat() {
    let mut manual = Manual::new();
    let mut seen = BTreeSet::new();
    for n in 0..200_u8 {
        manual.cookies.initiator.0[0] = n;
        manual.cookies.responder.0 = [0; 8];
        let message = manual.main_mode(vec![Manual::offer().into()]);
        let answers = manual.say(&message.encode());
        let cookie = parse(&answers[0]).unwrap().header().cookies.responder;
        assert!(!cookie.is_zero());
        assert!(seen.insert(cookie.0));
    }
    // No two share a half, as counters and clocks would.
    let halves: BTreeSet<&[u8]> = seen.iter().map(|cookie| &cookie[..4]).collect();
    assert!(halves.len() >= 199);
}

/// RFC 2407 §4.6.2, and RFC 2409 §5: what Bob says of himself.
#[test]
fn our_identity_has_no_protocol_and_no_port() {
    let mut manual = Manual::new();
    manual.hello();
    manual.exchange_keys(b"correct horse battery staple");
    let (datagram, iv) = manual.seal_phase1(manual.proof(&Manual::alice_id()));
    let answers = manual.say(&datagram);
    let Incoming::Protected(answer) = parse(&answers[0]).unwrap() else {
        panic!("message 6 is encrypted");
    };
    let keys = manual.keys.as_ref().unwrap();
    let (message, _) = answer.open(keys.cipher_key(), &iv).unwrap();
    let id = message
        .chain
        .payloads()
        .iter()
        .find_map(|payload| match payload {
            Payload::Id(id) => Some(id.clone()),
            _ => None,
        });
    let expected = Identification {
        protocol: 0,
        port: 0,
        identity: Identity::Address(address(BOB)),
    };
    assert_eq!(id, Some(expected));
}

#[test]
fn main_mode_keeps_initial_contact_in_message_5() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    let informational = pair.sent.iter().filter(|flight| flight.payload[18] == 5);
    assert_eq!(informational.count(), 0);
}

/// Two quick modes in the same millisecond would leave each side to choose, and peers choose by
/// rules of their own: whoever began phase 1 has a second's precedence.
#[test]
fn whoever_began_phase_1_begins_quick_mode_first() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    // Message 3 has come: it is no forgery that Bob answers.
    pair.run_for(Duration::from_millis(35));
    let both_want_it = Command::Initiate {
        connection: ConnectionId(0),
        selectors: None,
    };
    pair.command(Side::Bob, both_want_it);
    pair.run_until_up(SOON);
    pair.run_for(Duration::from_secs(10));
    let begun: BTreeSet<(&[u8], Side)> = pair
        .sent
        .iter()
        .filter(|flight| flight.payload[18] == 32)
        .map(|flight| (&flight.payload[20..24], flight.from))
        .collect();
    let ids: BTreeSet<&[u8]> = begun.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), 1, "one quick mode");
    assert_eq!(pair.alice().data_plane.pairs.len(), 1);
    assert_eq!(pair.messages(), 9);
}

#[test]
fn a_peer_that_does_not_use_its_precedence_loses_it_after_a_second() {
    let mut manual = starting();
    let quick_modes = |manual: &Manual| {
        let sent = manual.pair.sent.iter();
        sent.filter(|flight| flight.from == Side::Bob && flight.payload[18] == 32)
            .count()
    };
    manual.pair.run_for(Duration::from_millis(990));
    assert_eq!(quick_modes(&manual), 0);
    manual.pair.run_for(Duration::from_millis(20));
    assert_eq!(quick_modes(&manual), 1);
}

/// RFC 2407 §4.6.3.1: which SA is meant, and all of its lifetimes.
#[test]
fn our_responder_lifetime_names_our_spi_and_all_lifetimes() {
    let mut manual = Manual::established_with(|bob| bob.phase2.lifetime_kilobytes = Some(5000));
    let quick = manual.protected(ExchangeType::Quick, 77, Manual::quick_payloads());
    let answers = manual.say(&quick);
    let Incoming::Protected(answer) = parse(&answers[0]).unwrap() else {
        panic!("quick mode is encrypted");
    };
    // CBC: the next IV is the last block before.
    let iv = Iv::from_prefix(&quick[quick.len() - 16..]);
    let keys = manual.keys.as_ref().unwrap();
    let (message, _) = answer.open(keys.cipher_key(), &iv).unwrap();
    let mut chosen = None;
    let mut notices = Vec::new();
    for payload in message.chain.payloads() {
        match payload {
            Payload::Sa(sa) => chosen = sa.proposals()[0].esp_spi().ok(),
            Payload::Notification(notice) => notices.push(notice),
            _ => {}
        }
    }
    let [notice] = notices.as_slice() else {
        panic!("one notification");
    };
    assert_eq!(notice.kind(), NotifyType::RESPONDER_LIFETIME);
    assert_eq!(notice.protocol(), ProtocolId::ESP);
    assert_eq!(*notice.spi(), SpiBytes::from(chosen.unwrap()));
    let lifetime = notice.lifetime().unwrap();
    assert_eq!(
        (lifetime.seconds, lifetime.kilobytes),
        (Some(3600), Some(5000))
    );
}
