//! A peer that breaks the protocol: each break has its name, its counter and no effect.

use core::time::Duration;

use ikev1::DropReason;
use ikev1::crypto::DhGroup;
use ikev1::wire::{
    Chain, Delete, DeletedSas, ExchangeType, HashData, Identification, Identity, KeyExchange,
    Message, MessageId, Nonce, Notification, NotifyType, Payload, ProtocolId, SpiBytes,
};
use ipsec_types::{Spi, TrafficSelector};

use super::manual::Manual;
use super::pair::{Pair, Side};

fn dropped(manual: &mut Manual, reason: DropReason) -> u64 {
    manual.pair.bob().dropped(reason)
}

#[test]
fn the_hand_made_peer_is_accepted_when_it_behaves() {
    let mut manual = Manual::established();
    let quick = manual.protected(ExchangeType::Quick, 77, Manual::quick_payloads());
    assert_eq!(manual.say(&quick).len(), 1);
    let load = manual.pair.bob().negotiator.load();
    assert_eq!((load.ike_sas, load.esp_sas), (1, 1));
}

#[test]
fn bad_public_values() {
    let group = DhGroup::Curve25519;
    for value in [vec![0; 32], vec![1; 31], vec![1; 33], vec![1]] {
        let mut manual = Manual::new();
        manual.hello();
        let ke = KeyExchange::new(value).unwrap();
        let message = manual.main_mode(vec![ke.into(), Nonce::from([1; 32]).into()]);
        assert!(manual.say(&message.encode()).is_empty());
        assert_eq!(
            dropped(&mut manual, DropReason::BadPublicValue),
            1,
            "{group}"
        );
        // The exchange is unharmed.
        manual.exchange_keys(b"correct horse battery staple");
        manual.authenticate();
    }
}

#[test]
fn no_diffie_hellman_for_message_1() {
    let mut manual = Manual::new();
    for n in 0..300_u16 {
        manual.cookies.initiator.0[..2].copy_from_slice(&n.to_be_bytes());
        let message = manual.main_mode(vec![Manual::offer().into()]);
        manual.say(&message.encode());
    }
    let bob = manual.pair.bob();
    assert_eq!(bob.negotiator.counters().totals.diffie_hellman, 0);
    assert_eq!(bob.negotiator.load().half_open, 256);
    assert_eq!(bob.dropped(DropReason::HalfOpenPerSource), 44);
    manual.pair.run_for(Duration::from_mins(3));
    assert_eq!(manual.pair.bob().negotiator.load().half_open, 0);
}

#[test]
fn an_answer_to_an_unknown_address_is_never_longer_than_the_question() {
    let mut manual = Manual::new();
    let message = manual.main_mode(vec![Manual::offer().into()]).encode();
    let answers = manual.say(&message);
    assert_eq!(answers.len(), 1);
    assert!(answers[0].len() <= message.len());
    let again = manual.say(&message);
    assert_eq!(again, answers, "a duplicate gets the stored answer");
}

#[test]
fn a_flood_of_first_messages_does_not_evict_a_confirmed_exchange() {
    let mut manual = Manual::new();
    manual.hello();
    manual.exchange_keys(b"correct horse battery staple");
    let ours = manual.cookies;
    for n in 0..2000_u16 {
        manual.cookies.initiator.0[..2].copy_from_slice(&n.to_be_bytes());
        manual.cookies.responder.0 = [0; 8];
        let message = manual.main_mode(vec![Manual::offer().into()]);
        manual.say(&message.encode());
    }
    assert!(manual.pair.bob().negotiator.load().half_open <= 257);
    manual.cookies = ours;
    manual.authenticate();
}

#[test]
fn hash_of_message_5_wrong_by_one_bit() {
    let mut manual = Manual::new();
    manual.hello();
    manual.exchange_keys(b"correct horse battery staple");
    let mut payloads = manual.proof(&Manual::alice_id());
    let Payload::Hash(hash) = &payloads[1] else {
        panic!("a hash");
    };
    let mut bytes = hash.as_slice().to_vec();
    bytes[31] ^= 1;
    payloads[1] = HashData::new(bytes).unwrap().into();
    let (datagram, _) = manual.seal_phase1(payloads);
    assert!(manual.say(&datagram).is_empty());
    assert_eq!(dropped(&mut manual, DropReason::BadHash), 1);
    manual.authenticate();
}

#[test]
fn another_identity_with_a_right_hash() {
    let mut manual = Manual::new();
    manual.hello();
    manual.exchange_keys(b"correct horse battery staple");
    let other = Identification::any_port(Identity::Address("203.0.113.5".parse().unwrap()));
    let (datagram, _) = manual.seal_phase1(manual.proof(&other));
    assert!(manual.say(&datagram).is_empty());
    assert_eq!(dropped(&mut manual, DropReason::WrongIdentity), 1);
}

#[test]
fn phase2_before_phase1_is_done() {
    let mut manual = Manual::new();
    manual.hello();
    manual.exchange_keys(b"correct horse battery staple");
    let quick = manual.protected(ExchangeType::Quick, 77, Manual::quick_payloads());
    assert!(manual.say(&quick).is_empty());
    assert_eq!(dropped(&mut manual, DropReason::PhaseTwoTooEarly), 1);
    manual.authenticate();
}

#[test]
fn message_3_before_message_1_and_message_5_before_message_3() {
    let mut manual = Manual::new();
    manual.cookies.responder.0 = [9; 8];
    let ke = manual.fresh_dh();
    let message = manual.main_mode(vec![ke.into(), Nonce::from([1; 32]).into()]);
    assert!(manual.say(&message.encode()).is_empty());
    assert_eq!(dropped(&mut manual, DropReason::UnknownCookies), 1);

    let mut manual = Manual::new();
    manual.hello();
    let mut header = manual.header(ExchangeType::IdentityProtection, 0);
    header.flags.encryption = true;
    let mut bytes = Message::new(header, vec![Nonce::from([1; 32]).into()]).encode();
    bytes[19] |= 1;
    assert!(manual.say(&bytes).is_empty());
    assert_eq!(dropped(&mut manual, DropReason::BadStructure), 1);
}

#[test]
fn every_structural_break_of_message_1() {
    let nonce: Payload = Nonce::from([1; 32]).into();
    let sa: Payload = Manual::offer().into();
    for payloads in [
        vec![nonce.clone()],
        vec![nonce.clone(), sa.clone()],
        vec![sa.clone(), sa.clone()],
        vec![sa.clone(), nonce.clone()],
        vec![sa, Delete::esp(Spi::MIN).into()],
    ] {
        let mut manual = Manual::new();
        let message = manual.main_mode(payloads);
        assert!(manual.say(&message.encode()).is_empty());
        assert_eq!(dropped(&mut manual, DropReason::BadStructure), 1);
        assert_eq!(manual.pair.bob().negotiator.load().half_open, 0);
    }
}

#[test]
fn quick_mode_with_a_wrong_hash_or_a_used_id() {
    let mut manual = Manual::established();
    let rest = Chain::build(Manual::quick_payloads());
    let wrong = rest.behind_hash(HashData::new(vec![7; 32]).unwrap());
    let bad = manual.raw_protected(ExchangeType::Quick, 77, &wrong);
    assert!(manual.say(&bad).is_empty());
    assert_eq!(dropped(&mut manual, DropReason::BadHash), 1);
    // A forged message does not use the id up.
    let good = manual.protected(ExchangeType::Quick, 77, Manual::quick_payloads());
    assert_eq!(manual.say(&good).len(), 1);
    manual.pair.run_for(Duration::from_mins(3));
    assert!(manual.say(&good).is_empty(), "a replay after the exchange");
    assert_eq!(dropped(&mut manual, DropReason::ReplayedMessageId), 1);
    assert_eq!(
        manual.pair.bob().negotiator.load().esp_sas,
        0,
        "message 3 never came"
    );
    assert_eq!(manual.pair.bob().negotiator.load().spis, 0);
}

#[test]
fn message_3_of_quick_mode_with_a_wrong_hash() {
    let mut manual = Manual::established();
    let first = manual.protected(ExchangeType::Quick, 77, Manual::quick_payloads());
    manual.say(&first);
    let wrong = Chain::build(vec![HashData::new(vec![7; 32]).unwrap().into()]);
    let third = manual.raw_protected(ExchangeType::Quick, 77, &wrong);
    manual.say(&third);
    assert!(
        manual.pair.bob().data_plane.outbound.is_empty(),
        "nothing leaves on it"
    );
    let refused = dropped(&mut manual, DropReason::BadHash)
        + dropped(&mut manual, DropReason::DecryptionFailed);
    assert_eq!(refused, 1);
}

#[test]
fn quick_mode_is_refused_with_a_protected_notification() {
    let everything = TrafficSelector::net("0.0.0.0/0".parse().unwrap());
    let narrow = TrafficSelector::net("10.9.0.0/16".parse().unwrap());
    let id = |selector: &TrafficSelector| Identification::from_selector(selector).into();
    let spi = Spi::new(0x1234).unwrap();
    let cases: [(Vec<Payload>, NotifyType, DropReason); 2] = [
        (
            vec![
                Manual::esp_offer("aes256gcm16", None, spi).into(),
                Nonce::from([1; 32]).into(),
                id(&everything),
                id(&everything),
            ],
            NotifyType::NO_PROPOSAL_CHOSEN,
            DropReason::NoProposalChosen,
        ),
        (
            vec![
                Manual::esp_offer("aes128gcm16", None, spi).into(),
                Nonce::from([1; 32]).into(),
                id(&narrow),
                id(&everything),
            ],
            NotifyType::INVALID_ID_INFORMATION,
            DropReason::InvalidSelectors,
        ),
    ];
    for (payloads, kind, reason) in cases {
        let mut manual = Manual::established();
        let quick = manual.protected(ExchangeType::Quick, 77, payloads);
        let answers = manual.say(&quick);
        let message = manual.read_informational(&answers[0]).unwrap();
        let said = message
            .chain
            .payloads()
            .iter()
            .any(|payload| matches!(payload, Payload::Notification(n) if n.kind() == kind));
        assert!(said, "{kind}");
        assert_eq!(dropped(&mut manual, reason), 1);
        assert_eq!(manual.pair.bob().negotiator.load().spis, 0);
    }
}

#[test]
fn quick_mode_identities_of_another_type() {
    use ikev1::wire::IdName;
    let name = Identity::Fqdn(IdName::new("x.example").unwrap());
    let id: Payload = Identification::any_port(name).into();
    for ids in [vec![id.clone(), id.clone()], vec![id]] {
        let mut manual = Manual::established();
        let mut payloads = Manual::quick_payloads();
        payloads.truncate(2);
        payloads.extend(ids);
        let quick = manual.protected(ExchangeType::Quick, 77, payloads);
        manual.say(&quick);
        assert_eq!(manual.pair.bob().negotiator.load().esp_sas, 0);
    }
}

#[test]
fn a_key_exchange_that_the_group_does_not_call_for() {
    for (group, with_ke) in [(None, true), (Some(DhGroup::Curve25519), false)] {
        let mut manual = Manual::established();
        let spi = Spi::new(0x1234).unwrap();
        let mut payloads = Manual::quick_payloads();
        payloads[0] = Manual::esp_offer("aes128gcm16", group, spi).into();
        if with_ke {
            let ke = manual.fresh_dh();
            payloads.insert(2, ke.into());
        }
        let quick = manual.protected(ExchangeType::Quick, 77, payloads);
        manual.say(&quick);
        assert_eq!(dropped(&mut manual, DropReason::NoProposalChosen), 1);
    }
}

#[test]
fn deletes_repeated_in_one_message_and_of_foreign_sas() {
    let mut manual = Manual::established();
    let quick = manual.protected(ExchangeType::Quick, 77, Manual::quick_payloads());
    manual.say(&quick);
    let spi = 0x1234;
    let twice = Delete::new(DeletedSas::Esp(vec![spi, spi, 0, 1, 0xffff_ffff])).unwrap();
    let delete = manual.protected(
        ExchangeType::Informational,
        78,
        vec![twice.clone().into(), twice.into()],
    );
    manual.say(&delete);
    assert_eq!(manual.pair.bob().negotiator.load().esp_sas, 0);
    assert_eq!(dropped(&mut manual, DropReason::UnknownSpi), 9);
    let mut foreign = manual.cookies;
    foreign.initiator.0 = [0x55; 8];
    let delete = manual.protected(
        ExchangeType::Informational,
        79,
        vec![Delete::isakmp(foreign).into()],
    );
    manual.say(&delete);
    assert_eq!(manual.pair.bob().negotiator.load().ike_sas, 1);
    let twice = Delete::new(DeletedSas::Isakmp(vec![manual.cookies; 3])).unwrap();
    let delete = manual.protected(ExchangeType::Informational, 80, vec![twice.into()]);
    manual.say(&delete);
    assert_eq!(manual.pair.bob().negotiator.load().ike_sas, 0);
}

#[test]
fn a_delete_with_a_nonce_is_what_windows_sends() {
    let mut manual = Manual::established();
    let delete = manual.protected(
        ExchangeType::Informational,
        78,
        vec![
            Nonce::from([1; 32]).into(),
            Delete::isakmp(manual.cookies).into(),
        ],
    );
    manual.say(&delete);
    assert_eq!(manual.pair.bob().negotiator.load().ike_sas, 0);
}

#[test]
fn dpd_numbers_are_checked_and_echoed() {
    let mut manual = Manual::established();
    let probe = |manual: &Manual, id, sequence| {
        let kind = NotifyType::R_U_THERE;
        let probe = Notification::dead_peer_detection(kind, manual.cookies, sequence);
        manual.protected(ExchangeType::Informational, id, vec![probe.into()])
    };
    let first = probe(&manual, 90, 1000);
    let answers = manual.say(&first);
    let answer = manual.read_informational(&answers[0]).unwrap();
    let Payload::Notification(ack) = &answer.chain.payloads()[1] else {
        panic!("a notification");
    };
    assert_eq!(ack.kind(), NotifyType::R_U_THERE_ACK);
    assert_eq!(ack.dead_peer_detection_sequence(), Some(1000));
    assert!(manual.say(&first).is_empty(), "a replay is not answered");
    let old = probe(&manual, 91, 999);
    assert!(manual.say(&old).is_empty());
    assert_eq!(dropped(&mut manual, DropReason::BadDpdSequence), 1);
    let unasked = Notification::dead_peer_detection(NotifyType::R_U_THERE_ACK, manual.cookies, 5);
    let unasked = manual.protected(ExchangeType::Informational, 92, vec![unasked.into()]);
    manual.say(&unasked);
    assert_eq!(dropped(&mut manual, DropReason::BadDpdSequence), 2);
}

#[test]
fn strange_notifications_are_harmless() {
    let mut manual = Manual::established();
    let quick = manual.protected(ExchangeType::Quick, 77, Manual::quick_payloads());
    manual.say(&quick);
    for number in (0..u16::MAX).step_by(61) {
        let kind = NotifyType(number);
        // Those two have an effect and are tested by themselves.
        if matches!(kind, NotifyType::INITIAL_CONTACT | NotifyType::INVALID_SPI) {
            continue;
        }
        let notification =
            Notification::new(ProtocolId::ESP, SpiBytes::EMPTY, kind, vec![0; 4]).unwrap();
        let message = manual.protected(
            ExchangeType::Informational,
            100_000 + u32::from(number),
            vec![notification.into()],
        );
        manual.say(&message);
    }
    let load = manual.pair.bob().negotiator.load();
    assert_eq!((load.ike_sas, load.esp_sas), (1, 1));
}

#[test]
fn too_many_quick_modes_at_once() {
    let mut manual = Manual::established();
    for id in 1..=70 {
        let quick = manual.protected(ExchangeType::Quick, id, Manual::quick_payloads());
        manual.say(&quick);
    }
    assert_eq!(manual.pair.bob().negotiator.load().quick_modes, 64);
    assert_eq!(dropped(&mut manual, DropReason::TooManyQuickModes), 6);
    manual.pair.run_for(Duration::from_mins(3));
    let load = manual.pair.bob().negotiator.load();
    assert_eq!((load.quick_modes, load.esp_sas, load.spis), (0, 0, 0));
}

#[test]
fn exchanges_that_nobody_speaks() {
    let mut manual = Manual::established();
    for exchange in [
        ExchangeType::Base,
        ExchangeType::AuthenticationOnly,
        ExchangeType::Transaction,
        ExchangeType::NewGroup,
    ] {
        let message = manual.protected(exchange, 5, Manual::quick_payloads());
        assert!(manual.say(&message).is_empty());
    }
    assert_eq!(dropped(&mut manual, DropReason::UnsupportedExchange), 4);
}

#[test]
fn messages_from_another_address_do_not_reach_the_sa() {
    let mut manual = Manual::established();
    let delete = manual.protected(
        ExchangeType::Informational,
        78,
        vec![Delete::isakmp(manual.cookies).into()],
    );
    let elsewhere = "203.0.113.4:500".parse().unwrap();
    manual.say_from(elsewhere, &delete);
    assert_eq!(dropped(&mut manual, DropReason::WrongAddress), 1);
    assert_eq!(manual.pair.bob().negotiator.load().ike_sas, 1);
}

#[test]
fn a_reflected_message_starts_nothing() {
    let (alice, bob) = super::config::both();
    let mut pair = Pair::new(alice, bob);
    pair.network(|_| super::pair::Fate::Drop);
    pair.run_for(Duration::from_millis(1));
    let first = pair.sent[0].clone();
    // Alice's own message 1 comes back as if Bob had sent it.
    pair.inject(Side::Alice, first.target, first.source, &first.payload);
    assert_eq!(pair.alice().dropped(DropReason::BadStructure), 1);
    assert_eq!(pair.alice().negotiator.load().half_open, 1);
}

#[test]
fn garbage_of_every_length() {
    let mut manual = Manual::established();
    let before = manual.pair.bob().negotiator.load();
    let mut state = 1_u64;
    for length in 0..600_usize {
        let mut bytes: Vec<u8> = (0..length)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                u8::try_from(state >> 56).unwrap()
            })
            .collect();
        manual.say(&bytes);
        // The same with a header that leads somewhere.
        if length >= 28 {
            bytes[..16].copy_from_slice(&manual.cookies.to_bytes());
            bytes[17] = 0x10;
            bytes[18] = [2, 4, 5, 32][length % 4];
            let size = u32::try_from(length).unwrap();
            bytes[24..28].copy_from_slice(&size.to_be_bytes());
            manual.say(&bytes);
        }
    }
    let after = manual.pair.bob().negotiator.load();
    assert_eq!(before.ike_sas, after.ike_sas);
    assert_eq!(after.esp_sas, 0);
    assert_eq!(MessageId::PHASE1.0, 0);
}

#[test]
fn a_flood_of_first_messages_costs_little_and_leaves_nothing() {
    const FLOOD: u32 = 20_000;
    let mut manual = Manual::established();
    manual.pair.keep_log = false;
    let begin = wall_clock();
    for n in 0..FLOOD {
        manual.cookies.initiator.0[..4].copy_from_slice(&n.to_be_bytes());
        manual.cookies.responder.0 = [0; 8];
        let message = manual.main_mode(vec![Manual::offer().into()]).encode();
        let (from, to) = (
            super::pair::at(Side::Alice, 500),
            super::pair::at(Side::Bob, 500),
        );
        manual.pair.inject(Side::Bob, from, to, &message);
    }
    let each = (wall_clock() - begin) / FLOOD;
    println!("{each:?} for each spoofed first message, its making and this profile included");
    let load = manual.pair.bob().negotiator.load();
    assert!(load.half_open <= 256 && load.ike_sas == 1);
    manual.pair.run_for(Duration::from_mins(3));
    assert_eq!(manual.pair.bob().negotiator.load().half_open, 0);
}

#[expect(clippy::disallowed_methods, reason = "a measurement, not a decision")]
fn wall_clock() -> std::time::Instant {
    std::time::Instant::now()
}
