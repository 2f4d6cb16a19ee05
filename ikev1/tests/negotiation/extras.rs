//! Aggressive mode, fragmentation, the commit bit, vendor ids, random networks.

use core::time::Duration;

use ikev1::config::Phase1Exchange;
use ikev1::wire::{
    ExchangeType, Fragment, FragmentMessage, Header, Incoming, MAX_PAYLOADS, Message, Notification,
    Payload, VendorId, parse,
};
use ikev1::{DownReason, DropReason, Event};
use proptest::prelude::*;

use super::config::{both, both_with};
use super::manual::Manual;
use super::pair::{Fate, Pair, Side, at};

const SOON: Duration = Duration::from_secs(3);

fn aggressive() -> (ikev1::config::Connection, ikev1::config::Connection) {
    let (mut alice, mut bob) = both();
    alice.exchange = Phase1Exchange::Aggressive;
    bob.exchange = Phase1Exchange::Aggressive;
    (alice, bob)
}

#[test]
fn aggressive_mode_takes_three_messages() {
    let (alice, bob) = aggressive();
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    assert_eq!(pair.messages(), 6);
    pair.run_for(Duration::from_hours(10));
    assert!(pair.is_up());
    pair.assert_consistent();
}

#[test]
fn aggressive_mode_survives_any_lost_message() {
    for lost in 0..6 {
        let (alice, bob) = aggressive();
        let mut pair = Pair::new(alice, bob);
        pair.lose(&[lost]);
        pair.run_until_up(SOON);
        pair.run_for(Duration::from_mins(3));
        assert!(pair.is_up());
        pair.assert_consistent();
    }
}

/// Message 2 is in the clear and HASH_R does not cover notifications, so anybody on the way
/// can add one; it must not cost us the SAs that we have (RFC 2407 §4.6.3).
#[test]
fn initial_contact_in_a_clear_message_is_not_believed() {
    let (alice, bob) = aggressive();
    let mut pair = Pair::new(alice, bob);
    pair.network(|flight| match parse(&flight.payload) {
        Ok(Incoming::Clear(message))
            if flight.from == Side::Bob && message.header.exchange == ExchangeType::Aggressive =>
        {
            let mut payloads = message.chain.payloads().to_vec();
            payloads.push(Notification::initial_contact(message.header.cookies).into());
            Fate::Replace(Message::new(message.header, payloads).encode())
        }
        _ => Fate::Deliver,
    });
    pair.run_until_up(SOON);
    pair.run_for(Duration::from_hours(20));
    let ike_sas = pair
        .alice()
        .events
        .iter()
        .filter(|event| matches!(event, Event::IkeSaUp { .. }));
    assert!(ike_sas.count() > 1, "phase 1 was rekeyed");
    assert!(!pair.alice().events.iter().any(|event| matches!(
        event,
        Event::EspSaDown {
            reason: DownReason::PeerRestarted,
            ..
        } | Event::IkeSaDown {
            reason: DownReason::PeerRestarted,
            ..
        }
    )));
}

#[test]
fn aggressive_mode_with_the_wrong_key() {
    let (alice, mut bob) = aggressive();
    bob.psk = ipsec_types::SecretBytes::from(&b"another"[..]);
    let mut pair = Pair::new(alice, bob);
    pair.run_for(Duration::from_mins(3));
    assert!(!pair.is_up());
    assert!(pair.alice().dropped(DropReason::BadHash) > 0);
    assert!(pair.alice().failures()[0].contains("pre-shared keys differ"));
}

#[test]
fn aggressive_mode_from_an_unknown_identity_costs_no_diffie_hellman() {
    let (mut alice, bob) = aggressive();
    alice.local_id = "fqdn:stranger.example".parse().unwrap();
    let mut pair = Pair::new(alice, bob);
    pair.run_for(SOON);
    assert_eq!(pair.bob().negotiator.counters().totals.diffie_hellman, 0);
    assert!(pair.bob().dropped(DropReason::WrongIdentity) > 0);
}

/// Cuts a datagram as Microsoft and Cisco peers do.
fn cut(datagram: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let header: Header = *parse(datagram).unwrap().header();
    let pieces: Vec<&[u8]> = datagram.chunks(piece).collect();
    let count = pieces.len();
    pieces
        .into_iter()
        .enumerate()
        .map(|(index, data)| {
            let number = u8::try_from(index + 1).unwrap();
            let fragment = Fragment::new(1, number, index + 1 == count, data.to_vec()).unwrap();
            FragmentMessage { header, fragment }.encode()
        })
        .collect()
}

#[test]
fn fragments_in_any_order_are_put_together() {
    for reverse in [false, true] {
        let mut manual = Manual::new();
        manual.hello();
        let ke = manual.fresh_dh();
        let nonce = ikev1::wire::Nonce::from([1; 32]);
        let message = manual.main_mode(vec![ke.into(), nonce.into()]).encode();
        let mut fragments = cut(&message, 30);
        assert!(fragments.len() > 3);
        if reverse {
            fragments.reverse();
        }
        let answers: Vec<_> = fragments
            .iter()
            .flat_map(|fragment| manual.say(fragment))
            .collect();
        assert_eq!(answers.len(), 1, "message 4");
    }
}

#[test]
fn fragments_are_bounded_and_must_not_contradict() {
    let mut manual = Manual::new();
    manual.hello();
    let message = manual.main_mode(vec![Manual::offer().into()]).encode();
    let header = *parse(&message).unwrap().header();
    let fragment = |id, number, last, data: Vec<u8>| {
        let fragment = Fragment::new(id, number, last, data).unwrap();
        FragmentMessage { header, fragment }.encode()
    };
    for bad in [
        vec![
            fragment(1, 1, false, vec![1; 8]),
            fragment(1, 1, false, vec![2; 8]),
        ],
        vec![fragment(2, 33, false, vec![1; 8])],
        vec![
            fragment(3, 2, true, vec![1; 8]),
            fragment(3, 3, true, vec![1; 8]),
        ],
        vec![
            fragment(4, 3, false, vec![1; 8]),
            fragment(4, 2, true, vec![1; 8]),
        ],
        vec![fragment(5, 1, false, vec![1; 33_000])],
    ] {
        let before = manual.pair.bob().dropped(DropReason::BadFragment);
        for datagram in bad {
            manual.say(&datagram);
        }
        assert_eq!(
            manual.pair.bob().dropped(DropReason::BadFragment),
            before + 1
        );
    }
    // Many beginnings are only ever a few.
    for id in 100..400 {
        manual.say(&fragment(id, 1, false, vec![1; 1000]));
    }
    // A fragment of a fragment is nothing.
    let inner = fragment(900, 1, true, vec![1; 8]);
    let before = manual.pair.bob().dropped(DropReason::BadFragment);
    manual.say(&fragment(901, 1, true, inner));
    assert_eq!(
        manual.pair.bob().dropped(DropReason::BadFragment),
        before + 1
    );
    let stranger = "203.0.113.8:500".parse().unwrap();
    manual.say_from(stranger, &fragment(902, 1, false, vec![1; 8]));
    assert_eq!(manual.pair.bob().dropped(DropReason::UnknownPeer), 1);
}

#[test]
fn a_commit_bit_delays_the_switch_until_connected_or_patience_ends() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.network(|flight| {
        if flight.number != 7 {
            return Fate::Deliver;
        }
        // Quick mode message 2: the commit bit is in the header, which no hash covers.
        let mut payload = flight.payload.clone();
        payload[19] |= 2;
        Fate::Replace(payload)
    });
    pair.run_for(SOON);
    assert_eq!(pair.alice().data_plane.pairs.len(), 1, "inbound is open");
    assert!(pair.alice().data_plane.outbound.is_empty());
    pair.run_for(SOON);
    assert!(pair.is_up());
}

#[test]
fn unknown_vendor_ids_are_ignored() {
    let mut manual = Manual::new();
    let mut payloads: Vec<Payload> = vec![Manual::offer().into()];
    for n in 0..30 {
        payloads.push(VendorId::new(vec![n; 4 + usize::from(n)]).unwrap().into());
    }
    let message = manual.main_mode(payloads.clone());
    assert_eq!(manual.say(&message.encode()).len(), 1);
    payloads.resize(MAX_PAYLOADS, VendorId::new(vec![9; 4]).unwrap().into());
    manual.cookies.initiator.0[0] ^= 1;
    let message = manual.main_mode(payloads);
    assert!(manual.say(&message.encode()).is_empty(), "60 are too many");
    assert_eq!(manual.pair.bob().dropped(DropReason::BadStructure), 1);
}

#[test]
fn drafts_of_nat_traversal_are_spoken() {
    use ikev1::wire::KnownVendor;
    let (alice, mut bob) = both();
    bob.encapsulation = ikev1::config::EncapsulationPolicy::Udp;
    let mut pair = Pair::new(alice, bob);
    // Nobody hears of RFC 3947: the draft with the line feed is what is left in common. Vendor
    // ids are not authenticated, so the network can take one away.
    pair.network(|flight| {
        let Ok(Incoming::Clear(message)) = parse(&flight.payload) else {
            return Fate::Deliver;
        };
        let kept: Vec<Payload> = message
            .chain
            .payloads()
            .iter()
            .filter(|payload| {
                !matches!(payload, Payload::VendorId(vendor)
                    if matches!(vendor.known(), Some(KnownVendor::NatT | KnownVendor::NatTDraft03)))
            })
            .cloned()
            .collect();
        Fate::Replace(Message::new(message.header, kept).encode())
    });
    pair.run_until_up(SOON);
    pair.assert_consistent();
    assert!(pair.sent.iter().any(|flight| flight.source.port() == 4500));
    assert!(pair.sent.iter().any(
        |flight| matches!(parse(&flight.payload), Ok(Incoming::Clear(m))
                if m.chain.count(ikev1::wire::PayloadType::NAT_D_DRAFT) == 2)
    ));
}

#[test]
fn complaints_about_forged_first_messages_are_rationed() {
    let mut manual = Manual::new();
    let wrong = {
        use ikev1::wire::{
            Lifetime, Phase1Transform, Proposal, ProtocolId, SecurityAssociation, SpiBytes,
        };
        let transform = Phase1Transform {
            suite: "aes256-sha1-modp1024".parse().unwrap(),
            lifetime: Lifetime::default(),
        };
        let transforms = vec![transform.to_transform(1)];
        let proposal = Proposal::new(1, ProtocolId::ISAKMP, SpiBytes::EMPTY, transforms).unwrap();
        SecurityAssociation::new(vec![proposal]).unwrap()
    };
    let mut answers = 0;
    for n in 0..1000_u16 {
        manual.cookies.initiator.0[..2].copy_from_slice(&n.to_be_bytes());
        let message = manual.main_mode(vec![wrong.clone().into()]);
        answers += manual.say(&message.encode()).len();
    }
    assert_eq!(answers, 1);
    assert_eq!(manual.pair.bob().failures().len(), 1);
    assert_eq!(manual.pair.bob().negotiator.load().half_open, 0);
}

#[test]
fn a_peer_without_dpd_is_pinged_and_not_given_up() {
    let (mut alice, bob) = both();
    alice.dpd = Some(ikev1::config::DpdPolicy::default());
    let mut pair = Pair::new(alice, bob);
    // DPD is announced by a vendor id; this network eats all of them.
    pair.network(|flight| match parse(&flight.payload) {
        Ok(Incoming::Clear(message)) => {
            let kept = message.chain.payloads().iter();
            let kept = kept.filter(|p| !matches!(p, Payload::VendorId(_))).cloned();
            Fate::Replace(Message::new(message.header, kept.collect()).encode())
        }
        _ => Fate::Deliver,
    });
    pair.run_until_up(SOON);
    let before = pair.sent.len();
    pair.run_for(Duration::from_mins(10));
    assert_eq!(
        pair.sent.len(),
        before,
        "no R-U-THERE for a peer that does not know it"
    );
    let pinged = pair
        .alice()
        .events
        .iter()
        .any(|event| matches!(event, Event::ProbeThroughTunnel { .. }));
    assert!(pinged && pair.is_up());
}

#[test]
fn messages_of_the_largest_group_fit_a_datagram() {
    let (alice, bob) = both_with("aes256-sha512-modp4096", "aes256-sha512-modp4096");
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    let longest = pair.sent.iter().map(|flight| flight.payload.len()).max();
    assert!(longest.unwrap() < 1200, "{longest:?}");
    assert_eq!(pair.sent[0].target, at(Side::Bob, 500));
}

#[derive(Debug, Clone, Copy)]
enum Mishap {
    None,
    Lost,
    Twice,
    Late(u16),
    Garbled(u16),
}

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        4 => Just(Mishap::None),
        2 => Just(Mishap::Lost),
        1 => Just(Mishap::Twice),
        2 => (0..3000_u16).prop_map(Mishap::Late),
        1 => any::<u16>().prop_map(Mishap::Garbled),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    /// Whatever happens to the first datagrams, in the end there is one tunnel, the same on
    /// both sides, whoever began.
    #[test]
    fn any_schedule_ends_with_one_tunnel(
        seed in any::<u64>(),
        both_start in any::<bool>(),
        mishaps in proptest::collection::vec(mishap(), 0..60),
    ) {
        let (alice, mut bob) = both();
        if both_start {
            bob.start = ikev1::config::StartMode::OnStart;
        }
        let (alice, bob) = (super::config::list(alice), super::config::list(bob));
        let mut pair = Pair::seeded(seed, alice, bob);
        pair.traffic = true;
        pair.network(move |flight| match mishaps.get(flight.number) {
            None | Some(Mishap::None) => Fate::Deliver,
            Some(Mishap::Lost) => Fate::Drop,
            Some(Mishap::Twice) => Fate::Duplicate,
            Some(Mishap::Late(millis)) => Fate::Delay(Duration::from_millis(u64::from(*millis))),
            Some(Mishap::Garbled(place)) => {
                let mut payload = flight.payload.clone();
                let at = usize::from(*place) % payload.len();
                payload[at] ^= 0x10;
                Fate::Replace(payload)
            }
        });
        pair.run_until_up(Duration::from_mins(8));
        pair.run_for(Duration::from_mins(8));
        prop_assert!(pair.is_up());
        pair.assert_no_wrong_keys();
        for side in [Side::Alice, Side::Bob] {
            let load = pair.node(side).negotiator.load();
            prop_assert!(load.esp_sas <= 2 && load.spis <= 2, "{load:?}");
        }
        // What a crossing has left goes with the next rekey.
        pair.run_for(Duration::from_mins(60));
        pair.run_until_settled(Duration::from_mins(10));
        prop_assert!(pair.is_up());
        pair.assert_consistent();
    }
}
