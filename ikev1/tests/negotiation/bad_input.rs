//! Each kind of bad input, and the one counter that it falls under. What is refused changes
//! nothing: the exchange goes on with the next good message.

use core::time::Duration;

use ikev1::DropReason;
use ikev1::config::{Phase1Exchange, RemoteAddress};
use ikev1::crypto::{DhGroup, DiffieHellman};
use ikev1::wire::{
    Chain, Cookie, Delete, ExchangeType, Identification, Identity, Incoming, KeyExchange, Lifetime,
    MAX_ATTRIBUTES, MAX_PAYLOADS, MAX_PROPOSALS, MAX_TRANSFORMS, Nonce, Payload, Phase1Transform,
    Proposal, ProtocolId, SecurityAssociation, SpiBytes, parse,
};
use ipsec_types::Spi;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::manual::Manual;
use super::pair::{Side, at};

const SA: u8 = 1;
const VENDOR_ID: u8 = 13;
const HEADER: usize = 28;

/// Everything that was dropped so far.
fn dropped(manual: &mut Manual) -> Vec<(DropReason, u64)> {
    let counters = manual.pair.bob().negotiator.counters();
    DropReason::ALL
        .iter()
        .map(|&reason| (reason, counters.dropped(reason)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// Says `datagram`; exactly this reason is counted, once, and nothing is answered.
fn expect(manual: &mut Manual, what: &str, datagram: &[u8], reason: DropReason) {
    let before = manual.pair.bob().dropped(reason);
    let others: u64 = dropped(manual).iter().map(|(_, count)| count).sum();
    let answers = manual.say(datagram);
    assert!(answers.is_empty(), "{what} was answered");
    let after = manual.pair.bob().dropped(reason);
    assert_eq!(after, before + 1, "{what}: {:?}", dropped(manual));
    let all: u64 = dropped(manual).iter().map(|(_, count)| count).sum();
    assert_eq!(all, others + 1, "{what} is counted under one reason");
}

/// Sets the header's length to that of the datagram.
fn with_length(mut datagram: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(datagram.len()).unwrap().to_be_bytes();
    datagram[24..28].copy_from_slice(&length);
    datagram
}

/// A first message whose first payload is of type `first`, with these bytes behind the header.
fn first_message(manual: &Manual, first: u8, body: &[u8]) -> Vec<u8> {
    let mut datagram = manual.main_mode(vec![Manual::offer().into()]).encode();
    datagram.truncate(HEADER);
    datagram[16] = first;
    datagram.extend(body);
    with_length(datagram)
}

/// A payload or substructure with its generic header.
fn generic(next: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[next, 0], &length[..], body].concat()
}

fn sa(proposals: &[u8]) -> Vec<u8> {
    generic(0, &[&[0, 0, 0, 1, 0, 0, 0, 1], proposals].concat())
}

/// `count` copies of a substructure, chained by its own type.
fn chain(kind: u8, body: &[u8], count: usize) -> Vec<u8> {
    let mut all = generic(kind, body).repeat(count - 1);
    all.extend(generic(0, body));
    all
}

fn broken_lengths(manual: &Manual) -> Vec<(&'static str, Vec<u8>)> {
    let good = manual.main_mode(vec![Manual::offer().into()]).encode();
    let mut zero_length = good[HEADER..].to_vec();
    zero_length[2..4].fill(0);
    let mut past_the_end = good[HEADER..].to_vec();
    past_the_end[2..4].fill(0xff);
    let mut header_lies = good.clone();
    header_lies[27] += 1;
    let first = |kind, body: &[u8]| first_message(manual, kind, body);
    vec![
        ("nothing", Vec::new()),
        ("half a header", good[..HEADER / 2].to_vec()),
        ("a header alone", first(0, &[])),
        ("a promised payload that is not there", first(SA, &[])),
        ("a length of zero", first(SA, &zero_length)),
        ("a length past the end", first(SA, &past_the_end)),
        ("a header that lies about the length", header_lies),
    ]
}

fn broken_counts(manual: &Manual) -> Vec<(&'static str, Vec<u8>)> {
    const ATTRIBUTE: [u8; 4] = [0x80, 1, 0, 7];
    let transform = [&[1, 1, 0, 0][..], &ATTRIBUTE].concat();
    let proposal = |count: u8, transforms: &[u8]| [&[1, 1, 0, count][..], transforms].concat();
    let one = proposal(1, &generic(0, &transform));
    // One proposal counts its transforms in a byte.
    const { assert!(600 > MAX_TRANSFORMS) };
    let of_200 = proposal(200, &chain(3, &transform, 200));
    let attributes = ATTRIBUTE.repeat(MAX_ATTRIBUTES + 1);
    let many = generic(0, &[&[1, 1, 0, 0][..], &attributes].concat());
    let first = |proposals: &[u8]| first_message(manual, SA, &sa(proposals));
    let vendors = chain(VENDOR_ID, b"vendor", MAX_PAYLOADS + 1);
    vec![
        (
            "too many payloads",
            first_message(manual, VENDOR_ID, &vendors),
        ),
        (
            "too many proposals",
            first(&chain(2, &one, MAX_PROPOSALS + 1)),
        ),
        ("too many transforms", first(&chain(2, &of_200, 3))),
        (
            "too many attributes",
            first(&generic(0, &proposal(1, &many))),
        ),
        ("an SA inside an SA", first(&generic(SA, &one))),
    ]
}

#[test]
fn lengths_and_counts_of_the_first_message() {
    let mut manual = Manual::new();
    let cases = [broken_lengths(&manual), broken_counts(&manual)].concat();
    for (what, datagram) in cases {
        expect(&mut manual, what, &datagram, DropReason::Malformed);
    }
    assert_eq!(manual.pair.bob().negotiator.load().half_open, 0);
    manual.hello();
}

#[test]
fn a_payload_that_nobody_knows() {
    let mut manual = Manual::new();
    let good = manual.main_mode(vec![Manual::offer().into()]).encode();
    let body = [&good[HEADER..], &generic(0, &[1; 8])].concat();
    let mut datagram = first_message(&manual, SA, &body);
    datagram[HEADER] = 77;
    expect(
        &mut manual,
        "payload 77",
        &datagram,
        DropReason::BadStructure,
    );
}

/// Bob takes this group; the exchange stands before message 3.
fn before_message_3(group: DhGroup) -> Manual {
    let suite: ikev1::Phase1Suite = format!("aes128-sha256-{group}").parse().unwrap();
    let mut manual = Manual::with(|bob| bob.phase1.proposals = vec![suite]);
    let transform = Phase1Transform {
        suite,
        lifetime: Lifetime::default(),
    };
    let transforms = vec![transform.to_transform(1)];
    let proposal = Proposal::new(1, ProtocolId::ISAKMP, SpiBytes::EMPTY, transforms).unwrap();
    let offer = SecurityAssociation::new(vec![proposal]).unwrap();
    let answers = manual.say(&manual.main_mode(vec![offer.into()]).encode());
    let Incoming::Clear(answer) = parse(&answers[0]).unwrap() else {
        panic!("message 2 is in the clear");
    };
    manual.cookies = answer.header.cookies;
    manual
}

/// p-1 and p of MODP-1024, known by their ends.
fn near_the_prime(last: u8) -> Vec<u8> {
    const PRIME: &str = "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139\
        B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637E\
        D6B0BFF5CB6F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE649286651ECE65381FFFFFFFFFFFFFFFF";
    let digits: Vec<char> = PRIME.chars().filter(|c| !c.is_whitespace()).collect();
    let mut bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
        .collect();
    *bytes.last_mut().unwrap() = last;
    bytes
}

#[test]
fn public_values_of_message_3() {
    let padded = |value: u8| {
        let mut bytes = vec![0; 128];
        bytes[127] = value;
        bytes
    };
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let mut off_the_curve = DiffieHellman::generate(DhGroup::Ecp256, &mut rng)
        .public_value()
        .to_vec();
    off_the_curve[63] ^= 1;
    let cases = [
        (DhGroup::Modp1024, "0", padded(0)),
        (DhGroup::Modp1024, "1", padded(1)),
        (DhGroup::Modp1024, "p-1", near_the_prime(0xfe)),
        (DhGroup::Modp1024, "p", near_the_prime(0xff)),
        (DhGroup::Modp1024, "a byte short", vec![2; 127]),
        (DhGroup::Modp1024, "a byte long", vec![2; 129]),
        (DhGroup::Modp2048S256, "2, outside the subgroup", {
            let mut bytes = vec![0; 256];
            bytes[255] = 2;
            bytes
        }),
        (DhGroup::Ecp256, "a point off the curve", off_the_curve),
        (DhGroup::Curve25519, "a point of small order", vec![0; 32]),
    ];
    for (group, what, value) in cases {
        let mut manual = before_message_3(group);
        let ke = KeyExchange::new(value).unwrap();
        let message = manual.main_mode(vec![ke.into(), Nonce::from([1; 32]).into()]);
        let what = format!("{group}: {what}");
        expect(
            &mut manual,
            &what,
            &message.encode(),
            DropReason::BadPublicValue,
        );
        // The exchange still waits for a good one.
        let good = DiffieHellman::generate(group, &mut rng);
        let ke = KeyExchange::from(&good);
        let message = manual.main_mode(vec![ke.into(), Nonce::from([1; 32]).into()]);
        assert_eq!(manual.say(&message.encode()).len(), 1, "{what}");
    }
}

#[test]
fn nonces_of_message_3() {
    for length in [0, 1, 7, 257, 1000] {
        let mut manual = before_message_3(DhGroup::Curve25519);
        let ke = manual.fresh_dh();
        let message = manual.main_mode(vec![ke.into(), Nonce::from([1; 32]).into()]);
        let mut datagram = message.encode();
        datagram.truncate(datagram.len() - 36);
        datagram.extend(generic(0, &vec![1; length]));
        let datagram = with_length(datagram);
        let what = format!("a nonce of {length} bytes");
        expect(&mut manual, &what, &datagram, DropReason::BadNonce);
        manual.exchange_keys(b"correct horse battery staple");
    }
}

#[test]
fn another_responder_cookie_is_out_of_order() {
    let mut manual = before_message_3(DhGroup::Curve25519);
    let right = manual.cookies;
    manual.cookies.responder = Cookie([7; 8]);
    let ke = manual.fresh_dh();
    let message = manual.main_mode(vec![ke.into(), Nonce::from([1; 32]).into()]);
    expect(
        &mut manual,
        "a message 3 for another exchange",
        &message.encode(),
        DropReason::OutOfOrder,
    );
    manual.cookies = right;
    manual.exchange_keys(b"correct horse battery staple");
}

#[test]
fn an_answer_that_was_not_offered() {
    let mut manual = Manual::established();
    manual.bob_initiates();
    let spi = Spi::new(0x1234).unwrap();
    let (_, _, third) = manual.answer_quick(spi, false, |payloads| {
        payloads[0] = Manual::esp_offer("aes256gcm16", None, spi).into();
    });
    assert!(third.is_empty());
    assert_eq!(manual.pair.bob().dropped(DropReason::NotOffered), 1);
    assert!(manual.pair.bob().data_plane.pairs.is_empty());
}

/// RFC 2409 §5.5: the SA payload follows HASH at once, in both messages.
#[test]
fn an_sa_payload_out_of_its_place_in_quick_mode() {
    let mut manual = Manual::established();
    let mut payloads = Manual::quick_payloads();
    payloads.swap(0, 1);
    let first = manual.protected(ExchangeType::Quick, 77, payloads);
    expect(
        &mut manual,
        "a nonce between HASH and SA",
        &first,
        DropReason::BadStructure,
    );
    let good = manual.protected(ExchangeType::Quick, 78, Manual::quick_payloads());
    assert_eq!(manual.say(&good).len(), 1);

    let mut manual = Manual::established();
    manual.bob_initiates();
    let spi = Spi::new(0x1234).unwrap();
    let (_, _, third) = manual.answer_quick(spi, false, |payloads| payloads.swap(0, 1));
    assert!(third.is_empty());
    assert_eq!(manual.pair.bob().dropped(DropReason::BadStructure), 1);
    assert!(manual.pair.bob().data_plane.pairs.is_empty());
}

/// Message 1 of quick mode, under an IKE SA, with a right HASH(1) before what is wrong.
#[test]
fn payloads_of_quick_mode() {
    let chain = Chain::build(Manual::quick_payloads());
    let sa_len = usize::from(u16::from_be_bytes([chain.bytes()[2], chain.bytes()[3]]));
    let (sa, rest) = chain.bytes().split_at(sa_len);
    let nonce_of = |len: usize| [sa, &generic(0, &vec![1; len])].concat();
    let renamed = |kind: u8| {
        let mut bytes = sa.to_vec();
        bytes[0] = kind;
        [&bytes, rest].concat()
    };
    let with_sa_length = |length: [u8; 2]| {
        let mut bytes = chain.bytes().to_vec();
        bytes[2..4].copy_from_slice(&length);
        bytes
    };
    let alone = renamed(0)[..sa_len].to_vec();
    let twice = [sa, &generic(SA, &[1; 32]), &alone].concat();
    let cases = [
        (
            "a promised nonce that is not there",
            sa.to_vec(),
            DropReason::Malformed,
        ),
        ("a nonce of 0 bytes", nonce_of(0), DropReason::BadNonce),
        ("a nonce of 7 bytes", nonce_of(7), DropReason::BadNonce),
        ("a nonce of 257 bytes", nonce_of(257), DropReason::BadNonce),
        (
            "a payload of no length",
            with_sa_length([0, 0]),
            DropReason::Malformed,
        ),
        (
            "a payload past the end",
            with_sa_length([0xff, 0xff]),
            DropReason::Malformed,
        ),
        (
            "a payload that nobody knows",
            renamed(77),
            DropReason::BadStructure,
        ),
        ("no nonce", alone, DropReason::BadStructure),
        ("two SA payloads", twice, DropReason::BadStructure),
    ];
    for (what, bytes, reason) in cases {
        let mut manual = Manual::established();
        let datagram = manual.protected_bytes(77, SA, &bytes);
        expect(&mut manual, what, &datagram, reason);
        let load = manual.pair.bob().negotiator.load();
        assert_eq!((load.esp_sas, load.spis), (0, 0), "{what}");
        let good = manual.protected(ExchangeType::Quick, 78, Manual::quick_payloads());
        assert_eq!(manual.say(&good).len(), 1, "{what}");
    }
}

#[test]
fn public_values_of_quick_mode() {
    let mut manual = Manual::established_with(|bob| {
        bob.phase2.proposals = vec!["aes128gcm16-curve25519".parse().unwrap()];
    });
    for (n, value) in [vec![0; 32], vec![1; 31], vec![1; 33]]
        .into_iter()
        .enumerate()
    {
        let mut payloads = Manual::quick_payloads();
        let spi = Spi::new(0x1234).unwrap();
        payloads[0] = Manual::esp_offer("aes128gcm16", Some(DhGroup::Curve25519), spi).into();
        payloads.insert(2, KeyExchange::new(value).unwrap().into());
        let id = 70 + u32::try_from(n).unwrap();
        let datagram = manual.protected(ExchangeType::Quick, id, payloads);
        expect(
            &mut manual,
            "a public value",
            &datagram,
            DropReason::BadPublicValue,
        );
    }
    assert_eq!(manual.pair.bob().negotiator.load().spis, 0, "no SPI leaks");
}

#[test]
fn phase_2_hashes_wrong_by_one_bit() {
    let mut manual = Manual::established();
    manual.flip = 1;
    let quick = manual.protected(ExchangeType::Quick, 77, Manual::quick_payloads());
    expect(&mut manual, "HASH(1)", &quick, DropReason::BadHash);
    let delete = Delete::isakmp(manual.cookies).into();
    let informational = manual.protected(ExchangeType::Informational, 78, vec![delete]);
    expect(&mut manual, "a delete", &informational, DropReason::BadHash);
    assert_eq!(manual.pair.bob().negotiator.load().ike_sas, 1);

    let mut manual = Manual::established();
    manual.flip = 1;
    manual.bob_initiates();
    let (_, _, third) = manual.answer_quick(Spi::new(0x1234).unwrap(), false, |_| {});
    assert!(third.is_empty(), "HASH(2)");
    assert_eq!(manual.pair.bob().dropped(DropReason::BadHash), 1);
    assert!(manual.pair.bob().data_plane.pairs.is_empty());
}

/// Bob takes a peer at any address; the second part is a first message of aggressive mode.
fn anybody() -> (Manual, Vec<u8>) {
    let mut manual = Manual::with(|bob| {
        bob.remote = RemoteAddress::Any;
        bob.exchange = Phase1Exchange::Aggressive;
    });
    let ke = manual.fresh_dh();
    let name = Identity::Address("192.0.2.1".parse().unwrap());
    let payloads: Vec<Payload> = vec![
        Manual::offer().into(),
        ke.into(),
        Nonce::from([1; 32]).into(),
        Identification::any_port(name).into(),
    ];
    let header = manual.header(ExchangeType::Aggressive, 0);
    let datagram = ikev1::wire::Message::new(header, payloads).encode();
    (manual, datagram)
}

/// The same message from `count` addresses, one after the other; the answers that it gets.
fn from_everywhere(
    manual: &mut Manual,
    datagram: &[u8],
    count: u32,
    interval: Duration,
) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    for n in 0..count {
        manual.pair.run_for(interval);
        let mut source = at(Side::Alice, 500);
        source.set_ip(std::net::Ipv4Addr::from(0x0a00_0000 + n).into());
        answers.extend(manual.say_from(source, datagram));
    }
    answers
}

/// The sources are without number; the table is not.
#[test]
fn the_table_of_exchanges_is_bounded_over_all_sources() {
    let (mut manual, datagram) = anybody();
    from_everywhere(&mut manual, &datagram, 4_200, Duration::from_millis(10));
    assert_eq!(manual.pair.bob().negotiator.load().half_open, 4096);
    assert_eq!(manual.pair.bob().dropped(DropReason::HalfOpenEvicted), 104);
    manual.pair.run_for(Duration::from_mins(3));
    assert_eq!(manual.pair.bob().negotiator.load().half_open, 0);
}

/// Aggressive mode computes before it knows that anybody is there, and answers with more than
/// it was asked with: both within limits.
#[test]
fn aggressive_mode_has_a_ration_of_diffie_hellman() {
    let (mut manual, datagram) = anybody();
    let answers = from_everywhere(&mut manual, &datagram, 2_000, Duration::from_millis(1));
    // A burst of 100, then 100 a second for 2 s.
    assert!((299..=301).contains(&answers.len()), "{}", answers.len());
    let bob = manual.pair.bob();
    let spent = bob.negotiator.counters().totals.diffie_hellman;
    assert_eq!(spent, 2 * answers.len() as u64);
    let refused = bob.dropped(DropReason::RateLimited);
    assert_eq!(refused, 2_000 - answers.len() as u64);
    for answer in &answers {
        assert!(answer.len() < 2 * datagram.len(), "{} bytes", answer.len());
    }
}

#[test]
fn complaints_beyond_the_ration_are_counted() {
    let mut manual = Manual::with(|bob| {
        bob.phase1.proposals = vec!["aes256-sha512-ecp521".parse().unwrap()];
    });
    let message = manual.main_mode(vec![Manual::offer().into()]).encode();
    assert_eq!(manual.say(&message).len(), 1, "NO-PROPOSAL-CHOSEN");
    assert!(manual.say(&message).is_empty());
    assert_eq!(manual.pair.bob().dropped(DropReason::NoProposalChosen), 2);
    assert_eq!(manual.pair.bob().dropped(DropReason::RateLimited), 1);
}

/// No reason is without a test that makes it happen: this file and its neighbours name each.
#[test]
fn every_reason_is_named_in_a_test() {
    let texts = [
        include_str!("bad_input.rs"),
        include_str!("extras.rs"),
        include_str!("faults.rs"),
        include_str!("hostile.rs"),
        include_str!("letter.rs"),
        include_str!("life.rs"),
        include_str!("mismatches.rs"),
        include_str!("nat.rs"),
    ];
    for reason in DropReason::ALL {
        let name = format!("DropReason::{reason:?}");
        assert!(texts.iter().any(|text| text.contains(&name)), "{name}");
    }
}
