//! Every rule of the format, broken once: the refusal names the place and the rule.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod wire_support;

use ikev1::wire::{
    Attribute, AttributeType, AttributeValue, Chain, Delete, DeletedSas, Fragment, HashData,
    IdName, Identity, Incoming, KeyExchange, MAX_ATTRIBUTES, MAX_PADDING, MAX_PAYLOADS,
    MAX_PROPOSALS, MAX_TRANSFORMS, Nonce, Notification, NotifyType, Opaque, OpaqueIdentity,
    ParseError, PayloadType, Place, Proposal, ProtocolId, Rule, SecurityAssociation, SpiBytes,
    Transform, VendorId, parse,
};
use wire_support::{generic, informational, raw_datagram};

const VENDOR_ID: u8 = 13;

fn refusal(datagram: &[u8]) -> ParseError {
    parse(datagram).unwrap_err()
}

fn refused_header(damage: impl Fn(&mut Vec<u8>)) -> Rule {
    let mut datagram = informational().encode();
    damage(&mut datagram);
    let ParseError { place, rule } = refusal(&datagram);
    assert_eq!(place, Place::Header);
    rule
}

/// The rule that a message with this one payload breaks in this very payload.
fn refused_payload(kind: PayloadType, body: &[u8]) -> Rule {
    let ParseError { place, rule } = refusal(&raw_datagram(kind.0, &generic(0, body)));
    assert_eq!(place, Place::Payload(kind));
    rule
}

#[test]
fn header_rules() {
    let length = |datagram: &mut Vec<u8>, length: u32| {
        datagram[24..28].copy_from_slice(&length.to_be_bytes());
    };
    let len = informational().encode().len();
    let wrong = |header: u32, datagram: usize| Rule::LengthMismatch { header, datagram };
    assert_eq!(refused_header(|d| d.truncate(27)), Rule::HeaderTooShort(27));
    assert_eq!(refused_header(Vec::clear), Rule::HeaderTooShort(0));
    assert_eq!(refused_header(|d| d.truncate(40)), wrong(len as u32, 40));
    assert_eq!(refused_header(|d| d.push(0)), wrong(len as u32, len + 1));
    assert_eq!(refused_header(|d| length(d, 0)), wrong(0, len));
    assert_eq!(
        refused_header(|d| length(d, u32::MAX)),
        wrong(u32::MAX, len)
    );
    assert_eq!(refused_header(|d| d[17] = 0x20), Rule::Version(0x20));
    assert_eq!(refused_header(|d| d[17] = 0x11), Rule::Version(0x11));
    assert_eq!(refused_header(|d| d[17] = 0), Rule::Version(0));
    assert_eq!(
        refused_header(|d| d[..8].fill(0)),
        Rule::ZeroInitiatorCookie
    );
    for unknown in [0, 7, 31, 34, 240, 255] {
        assert_eq!(
            refused_header(|d| d[18] = unknown),
            Rule::UnknownExchange(unknown)
        );
    }
}

#[test]
fn flags_without_a_meaning_are_ignored() {
    let mut datagram = informational().encode();
    datagram[19] |= 0xf8;
    assert_eq!(parse(&datagram).unwrap(), Incoming::Clear(informational()));
}

#[test]
fn an_encrypted_message_needs_a_body() {
    let mut datagram = raw_datagram(8, &[]);
    datagram[19] = 1;
    assert_eq!(
        refusal(&datagram),
        ParseError {
            place: Place::Header,
            rule: Rule::Empty
        }
    );
}

#[test]
fn chain_rules() {
    let chain = |rule| ParseError {
        place: Place::Chain,
        rule,
    };
    assert_eq!(refusal(&raw_datagram(0, &[])), chain(Rule::Empty));
    assert_eq!(refusal(&raw_datagram(0, &[0; 4])), chain(Rule::Empty));
    let one = generic(0, b"vendor");
    let with_tail = [&one[..], &[0]].concat();
    assert_eq!(
        refusal(&raw_datagram(VENDOR_ID, &with_tail)),
        chain(Rule::TrailingBytes(1))
    );
    let mut many = generic(VENDOR_ID, b"vendor").repeat(MAX_PAYLOADS - 1);
    many.extend(&one);
    assert!(parse(&raw_datagram(VENDOR_ID, &many)).is_ok());
    let mut too_many = generic(VENDOR_ID, b"vendor").repeat(MAX_PAYLOADS);
    too_many.extend(&one);
    assert_eq!(
        refusal(&raw_datagram(VENDOR_ID, &too_many)),
        chain(Rule::TooManyPayloads)
    );
}

#[test]
fn generic_header_rules() {
    let vendor = |body: &[u8]| {
        let ParseError { place, rule } = refusal(&raw_datagram(VENDOR_ID, body));
        assert_eq!(place, Place::Payload(PayloadType::VENDOR_ID));
        rule
    };
    assert_eq!(vendor(&[]), Rule::PayloadTooShort(0));
    assert_eq!(vendor(&[0]), Rule::PayloadTooShort(1));
    assert_eq!(vendor(&[0, 0, 0]), Rule::PayloadTooShort(1));
    for length in 0..4 {
        assert_eq!(
            vendor(&[0, 0, 0, length]),
            Rule::PayloadTooShort(length.into())
        );
    }
    let past_end = |length, available| Rule::LengthPastEnd { length, available };
    assert_eq!(vendor(&[0, 0, 0, 6, 1]), past_end(6, 5));
    assert_eq!(vendor(&[0, 0, 0xff, 0xff, 1]), past_end(0xffff, 5));
    assert_eq!(vendor(&[0, 0x80, 0, 5, 1]), Rule::ReservedNotZero(0x80));
    // The chain promises a second payload that is not there.
    assert_eq!(vendor(&generic(VENDOR_ID, b"x")), Rule::PayloadTooShort(0));
}

#[test]
fn padding_beyond_its_cap_is_refused() {
    let mut datagram = informational().encode();
    datagram[19] = 1;
    let Incoming::Protected(protected) = parse(&datagram).unwrap() else {
        panic!("the E bit is set");
    };
    let mut plaintext = informational().chain.bytes().to_vec();
    plaintext.resize(plaintext.len() + MAX_PADDING + 1, 0);
    let rule = Rule::PaddingTooLong(MAX_PADDING + 1);
    let expected = ParseError {
        place: Place::Chain,
        rule,
    };
    assert_eq!(protected.parse_plaintext(&plaintext), Err(expected));
}

#[test]
fn proposals_and_transforms_are_misplaced_outside_an_sa() {
    for kind in [PayloadType::PROPOSAL, PayloadType::TRANSFORM] {
        assert_eq!(refused_payload(kind, &[1, 1, 0, 1]), Rule::Misplaced);
    }
}

#[test]
fn payload_body_rules() {
    use PayloadType as P;
    assert_eq!(refused_payload(P::KEY_EXCHANGE, &[]), Rule::Empty);
    assert_eq!(
        refused_payload(P::KEY_EXCHANGE, &[1; 1025]),
        Rule::TooLong(1025)
    );
    assert_eq!(refused_payload(P::VENDOR_ID, &[]), Rule::Empty);
    for len in [0, 1, 7, 257, 1000] {
        assert_eq!(
            refused_payload(P::NONCE, &vec![1; len]),
            Rule::NonceLength(len)
        );
    }
    for kind in [P::HASH, P::NAT_D, P::NAT_D_DRAFT] {
        for len in [0, 15, 65] {
            assert_eq!(refused_payload(kind, &vec![1; len]), Rule::HashLength(len));
        }
    }
}

#[test]
fn identification_rules() {
    let id = |kind: u8, data: &[u8]| {
        refused_payload(PayloadType::ID, &[&[kind, 0, 0, 0][..], data].concat())
    };
    assert_eq!(
        refused_payload(PayloadType::ID, &[1, 0, 0]),
        Rule::PayloadTooShort(1)
    );
    for (kind, legal) in [(1, 4), (4, 8), (5, 16), (6, 32), (7, 8), (8, 32)] {
        for len in [0, legal - 1, legal + 1] {
            assert_eq!(id(kind, &vec![0; len]), Rule::IdLength { kind, len });
        }
    }
    assert_eq!(id(4, &[10, 0, 0, 0, 255, 0, 255, 0]), Rule::IdMask);
    assert_eq!(id(6, &[[0; 16], [1; 16]].concat()), Rule::IdMask);
    assert_eq!(id(7, &[10, 0, 0, 2, 10, 0, 0, 1]), Rule::IdRange);
    assert_eq!(id(8, &[[9; 16], [8; 16]].concat()), Rule::IdRange);
    for name in [&b""[..], b"a b", b"a\nb", b"a\0", b"\xff", &[b'a'; 256]] {
        assert_eq!(id(2, name), Rule::IdName);
        assert_eq!(id(3, name), Rule::IdName);
    }
    assert_eq!(id(11, &[]), Rule::IdLength { kind: 11, len: 0 });
    assert_eq!(id(9, &[0; 2049]), Rule::IdLength { kind: 9, len: 2049 });
}

#[test]
fn notification_and_delete_rules() {
    let notify = |body: &[u8]| refused_payload(PayloadType::NOTIFICATION, body);
    assert_eq!(notify(&[0, 0, 0]), Rule::PayloadTooShort(3));
    assert_eq!(notify(&[0, 0, 0, 2, 1, 0, 0, 1]), Rule::Doi(2));
    let past_end = |length, available| Rule::LengthPastEnd { length, available };
    assert_eq!(notify(&[0, 0, 0, 1, 1, 16, 0, 1, 9]), past_end(16, 1));
    let long_spi = [&[0, 0, 0, 1, 1, 17, 0, 1][..], &[9; 17]].concat();
    assert_eq!(notify(&long_spi), Rule::SpiLength(17));

    let delete = |body: &[u8]| refused_payload(PayloadType::DELETE, body);
    let mismatch = |count, size, len| Rule::SpiCountMismatch { count, size, len };
    assert_eq!(delete(&[0, 0, 0, 1, 3, 4]), Rule::PayloadTooShort(0));
    assert_eq!(delete(&[0, 0, 0, 9, 3, 4, 0, 1, 1, 2, 3, 4]), Rule::Doi(9));
    assert_eq!(delete(&[0, 0, 0, 1, 3, 4, 0, 0]), Rule::NoSpis);
    assert_eq!(delete(&[0, 0, 0, 1, 3, 0, 0xff, 0xff]), Rule::NoSpis);
    assert_eq!(
        delete(&[0, 0, 0, 1, 3, 4, 0, 2, 1, 2, 3, 4]),
        mismatch(2, 4, 4)
    );
    assert_eq!(
        delete(&[0, 0, 0, 1, 3, 4, 0xff, 0xff]),
        mismatch(0xffff, 4, 0)
    );
    assert_eq!(delete(&[0, 0, 0, 1, 3, 2, 0, 1, 1, 2]), Rule::SpiLength(2));
    assert_eq!(
        delete(&[0, 0, 0, 1, 1, 4, 0, 1, 1, 2, 3, 4]),
        Rule::SpiLength(4)
    );
    let long_spi = [&[0, 0, 0, 1, 9, 17, 0, 1][..], &[9; 17]].concat();
    assert_eq!(delete(&long_spi), Rule::SpiLength(17));
}

#[test]
fn nat_original_address_and_fragment_rules() {
    for kind in [PayloadType::NAT_OA, PayloadType::NAT_OA_DRAFT] {
        assert_eq!(refused_payload(kind, &[1, 0, 0]), Rule::PayloadTooShort(3));
        assert_eq!(
            refused_payload(kind, &[2, 0, 0, 0, 1, 2, 3, 4]),
            Rule::NatOaAddress
        );
        assert_eq!(
            refused_payload(kind, &[1, 0, 0, 0, 1, 2, 3, 4, 5]),
            Rule::NatOaAddress
        );
        assert_eq!(
            refused_payload(kind, &[5, 0, 0, 0, 1, 2, 3, 4]),
            Rule::PayloadTooShort(4)
        );
    }
    let fragment = |body: &[u8]| refused_payload(PayloadType::FRAGMENT, body);
    assert_eq!(fragment(&[0, 1, 1]), Rule::PayloadTooShort(1));
    assert_eq!(fragment(&[0, 1, 0, 1, 9]), Rule::FragmentNumber);
    assert_eq!(fragment(&[0, 1, 1, 1]), Rule::FragmentNumber);
    // Nothing may stand beside a fragment.
    let two = [generic(VENDOR_ID, &[0, 1, 1, 1, 9]), generic(0, b"vendor")].concat();
    let expected = ParseError {
        place: Place::Chain,
        rule: Rule::TooManyPayloads,
    };
    assert_eq!(
        refusal(&raw_datagram(PayloadType::FRAGMENT.0, &two)),
        expected
    );
}

/// DOI and situation, then raw proposals.
fn refused_sa(proposals: &[u8]) -> ParseError {
    let body = [&[0, 0, 0, 1, 0, 0, 0, 1][..], proposals].concat();
    refusal(&raw_datagram(PayloadType::SA.0, &generic(0, &body)))
}

const fn in_proposal(rule: Rule) -> ParseError {
    ParseError {
        place: Place::Payload(PayloadType::PROPOSAL),
        rule,
    }
}

const fn in_transform(rule: Rule) -> ParseError {
    ParseError {
        place: Place::Payload(PayloadType::TRANSFORM),
        rule,
    }
}

#[test]
fn sa_rules() {
    let sa = |body: &[u8]| refused_payload(PayloadType::SA, body);
    assert_eq!(sa(&[0, 0, 0]), Rule::PayloadTooShort(3));
    assert_eq!(sa(&[0, 0, 0, 1, 0]), Rule::PayloadTooShort(1));
    assert_eq!(sa(&[0, 0, 0, 0, 0, 0, 0, 1]), Rule::Doi(0));
    assert_eq!(sa(&[0, 0, 0, 2, 0, 0, 0, 1]), Rule::Doi(2));
    assert_eq!(sa(&[0, 0, 0, 1, 0, 0, 0, 3]), Rule::Situation(3));
    assert_eq!(sa(&[0, 0, 0, 1, 0, 0, 0, 1]), Rule::NoProposals);
}

#[test]
fn proposal_rules() {
    let transform = generic(0, &[1, 1, 0, 0]);
    let proposal = |count: u8, transforms: &[u8]| [&[1, 1, 0, count][..], transforms].concat();
    let past_end = |length, available| Rule::LengthPastEnd { length, available };
    let mismatch = |announced, found| Rule::TransformCountMismatch { announced, found };
    assert_eq!(refused_sa(&[0, 0]), in_proposal(Rule::PayloadTooShort(0)));
    assert_eq!(refused_sa(&[0, 0, 0, 99]), in_proposal(past_end(99, 4)));
    assert_eq!(
        refused_sa(&[0, 7, 0, 4]),
        in_proposal(Rule::ReservedNotZero(7))
    );
    assert_eq!(
        refused_sa(&generic(0, &[1, 1])),
        in_proposal(Rule::PayloadTooShort(2))
    );
    assert_eq!(
        refused_sa(&generic(0, &[1, 3, 8, 0, 1])),
        in_proposal(past_end(8, 1))
    );
    let long_spi = [&[1, 3, 17, 1][..], &[0; 17], &transform].concat();
    assert_eq!(
        refused_sa(&generic(0, &long_spi)),
        in_proposal(Rule::SpiLength(17))
    );
    assert_eq!(
        refused_sa(&generic(0, &proposal(0, &[]))),
        in_proposal(Rule::NoTransforms)
    );
    assert_eq!(
        refused_sa(&generic(0, &proposal(1, &[]))),
        in_proposal(mismatch(1, 0))
    );
    assert_eq!(
        refused_sa(&generic(0, &proposal(2, &transform))),
        in_proposal(mismatch(2, 1))
    );
    // The chain of proposals: 2 while more follow, 0 at the end.
    let legal = proposal(1, &transform);
    assert_eq!(
        refused_sa(&generic(2, &legal)),
        in_proposal(Rule::NestedPayload(2))
    );
    let gap = [generic(0, &legal), generic(0, &legal)].concat();
    assert_eq!(refused_sa(&gap), in_proposal(Rule::NestedPayload(0)));
    let wrong = [generic(4, &legal), generic(0, &legal)].concat();
    assert_eq!(refused_sa(&wrong), in_proposal(Rule::NestedPayload(4)));
}

#[test]
fn transform_and_attribute_rules() {
    let sa_of = |count: u8, transforms: &[u8]| {
        refused_sa(&generic(0, &[&[1, 1, 0, count][..], transforms].concat()))
    };
    let attributes = |bytes: &[u8]| {
        let transform = [&[1, 1, 0, 0][..], bytes].concat();
        sa_of(1, &generic(0, &transform))
    };
    assert_eq!(
        sa_of(1, &generic(0, &[1, 1, 0])),
        in_transform(Rule::PayloadTooShort(3))
    );
    assert_eq!(
        sa_of(1, &generic(3, &[1, 1, 0, 0])),
        in_transform(Rule::NestedPayload(3))
    );
    let two = [generic(2, &[1, 1, 0, 0]), generic(0, &[1, 1, 0, 0])].concat();
    assert_eq!(sa_of(2, &two), in_transform(Rule::NestedPayload(2)));

    assert_eq!(attributes(&[0x80]), in_transform(Rule::PayloadTooShort(1)));
    assert_eq!(
        attributes(&[0x80, 1, 0]),
        in_transform(Rule::PayloadTooShort(1))
    );
    assert_eq!(
        attributes(&[0, 12, 0, 0]),
        in_transform(Rule::EmptyAttribute(12))
    );
    let past_end = Rule::LengthPastEnd {
        length: 5,
        available: 4,
    };
    assert_eq!(
        attributes(&[0, 12, 0, 5, 1, 2, 3, 4]),
        in_transform(past_end)
    );
    let long = [&[0, 12, 4, 1][..], &[1; 1025]].concat();
    assert_eq!(attributes(&long), in_transform(Rule::TooLong(1025)));
    let many = [0x80, 1, 0, 7].repeat(MAX_ATTRIBUTES + 1);
    assert_eq!(attributes(&many), in_transform(Rule::TooManyAttributes));
}

/// Absurd counts end at the caps, not in memory.
#[test]
fn counts_in_an_sa_are_capped() {
    let chain = |kind: u8, body: &[u8], count: usize| {
        let mut chain = generic(kind, body).repeat(count - 1);
        chain.extend(generic(0, body));
        chain
    };
    let small = [&[1, 1, 0, 1][..], &generic(0, &[1, 1, 0, 0])].concat();
    let refused = refused_sa(&chain(2, &small, MAX_PROPOSALS + 1));
    let place = Place::Payload(PayloadType::SA);
    assert_eq!(
        refused,
        ParseError {
            place,
            rule: Rule::TooManyProposals
        }
    );

    let full = [&[1, 1, 0, 255][..], &chain(3, &[1, 1, 0, 0], 255)].concat();
    let refused = refused_sa(&chain(2, &full, MAX_TRANSFORMS / 255 + 1));
    assert_eq!(refused, in_proposal(Rule::TooManyTransforms));
    let over = [&[1, 1, 0, 255][..], &chain(3, &[1, 1, 0, 0], 256)].concat();
    assert_eq!(
        refused_sa(&generic(0, &over)),
        in_proposal(Rule::TooManyTransforms)
    );
}

/// RESERVED2 of a transform and the reserved bytes of NAT-OA change nothing, and some
/// peers are careless with them.
#[test]
fn reserved_bytes_without_weight_are_ignored() {
    let proposal = [&[1, 1, 0, 1][..], &generic(0, &[1, 1, 0xff, 0xff])].concat();
    let body = [&[0, 0, 0, 1, 0, 0, 0, 1][..], &generic(0, &proposal)].concat();
    assert!(parse(&raw_datagram(PayloadType::SA.0, &generic(0, &body))).is_ok());
    let nat_oa = generic(0, &[1, 9, 9, 9, 192, 0, 2, 1]);
    assert!(parse(&raw_datagram(PayloadType::NAT_OA.0, &nat_oa)).is_ok());
}

/// The constructors refuse what the parser refuses.
#[test]
fn constructors_know_the_same_rules() {
    assert_eq!(Nonce::new(vec![0; 7]), Err(Rule::NonceLength(7)));
    assert_eq!(Nonce::new(vec![0; 257]), Err(Rule::NonceLength(257)));
    assert_eq!(KeyExchange::new(vec![]), Err(Rule::Empty));
    assert_eq!(HashData::new(vec![0; 15]), Err(Rule::HashLength(15)));
    assert_eq!(VendorId::new(vec![]), Err(Rule::Empty));
    assert_eq!(VendorId::new(vec![0; 65_532]), Err(Rule::TooLong(65_532)));
    assert_eq!(SpiBytes::new(&[0; 17]), Err(Rule::SpiLength(17)));
    assert_eq!(
        Opaque::new(PayloadType::NONCE, vec![]),
        Err(Rule::NotOpaque(10))
    );
    assert_eq!(
        OpaqueIdentity::new(2, b"gw".to_vec()),
        Err(Rule::NotOpaque(2))
    );
    assert_eq!(IdName::new("two words"), Err(Rule::IdName));
    let (low, high) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    assert_eq!(Identity::range_v4(high, low), Err(Rule::IdRange));
    assert_eq!(
        Fragment::new(1, 0, true, vec![1]),
        Err(Rule::FragmentNumber)
    );
    assert_eq!(
        Fragment::new(1, 1, true, vec![0; 65_528]),
        Err(Rule::TooLong(65_528))
    );
    let kind = AttributeType(0x8001);
    assert_eq!(
        Attribute::new(kind, AttributeValue::Short(1)),
        Err(Rule::AttributeType(0x8001))
    );
    let long = Notification::new(
        ProtocolId::ESP,
        SpiBytes::EMPTY,
        NotifyType::CONNECTED,
        vec![0; 65_531],
    );
    assert_eq!(long, Err(Rule::TooLong(65_531)));
}

#[test]
fn constructors_of_lists_know_the_same_rules() {
    let transform = Transform::new(1, 1, vec![]).unwrap();
    let proposal = |transforms| Proposal::new(1, ProtocolId::ISAKMP, SpiBytes::EMPTY, transforms);
    assert_eq!(proposal(vec![]), Err(Rule::NoTransforms));
    assert_eq!(
        proposal(vec![transform.clone(); 256]),
        Err(Rule::TooManyTransforms)
    );
    let one = proposal(vec![transform.clone()]).unwrap();
    let full = proposal(vec![transform; 255]).unwrap();
    assert_eq!(SecurityAssociation::new(vec![]), Err(Rule::NoProposals));
    let many = SecurityAssociation::new(vec![one; MAX_PROPOSALS + 1]);
    assert_eq!(many, Err(Rule::TooManyProposals));
    assert_eq!(
        SecurityAssociation::new(vec![full; 3]),
        Err(Rule::TooManyTransforms)
    );
    let value = AttributeValue::Long(vec![0; 1024]);
    let attribute = Attribute::new(AttributeType(1), value).unwrap();
    let huge = Transform::new(1, 1, vec![attribute.clone(); MAX_ATTRIBUTES]).unwrap();
    assert!(matches!(proposal(vec![huge; 3]), Err(Rule::TooLong(_))));
    let many = Transform::new(1, 1, vec![attribute; MAX_ATTRIBUTES + 1]);
    assert_eq!(many, Err(Rule::TooManyAttributes));

    assert_eq!(Delete::new(DeletedSas::Esp(vec![])), Err(Rule::NoSpis));
    let too_many = DeletedSas::Esp(vec![256; 16_383]);
    assert_eq!(Delete::new(too_many), Err(Rule::TooLong(65_532)));
    let mixed = vec![SpiBytes::from([1; 4]), SpiBytes::from([1; 2])];
    assert_eq!(
        Delete::new(DeletedSas::Other(ProtocolId::AH, mixed.clone())),
        Err(Rule::SpiLength(4))
    );
    let not_other = DeletedSas::Other(ProtocolId::ESP, mixed);
    assert_eq!(Delete::new(not_other), Err(Rule::NotOpaque(3)));
}

#[test]
fn an_esp_spi_has_four_bytes_and_is_not_reserved() {
    let transform = Transform::new(1, 20, vec![]).unwrap();
    let proposal = |spi| Proposal::new(1, ProtocolId::ESP, spi, vec![transform.clone()]).unwrap();
    assert_eq!(
        proposal(SpiBytes::from([0, 0, 1, 0]))
            .esp_spi()
            .unwrap()
            .get(),
        256
    );
    assert_eq!(
        proposal(SpiBytes::from([0, 0, 0, 255])).esp_spi(),
        Err(Rule::ReservedSpi(255))
    );
    assert_eq!(proposal(SpiBytes::EMPTY).esp_spi(), Err(Rule::SpiLength(0)));
    assert_eq!(
        proposal(SpiBytes::from([1; 16])).esp_spi(),
        Err(Rule::SpiLength(16))
    );
}

#[test]
fn a_refusal_says_where_and_why() {
    let error = ParseError {
        place: Place::Payload(PayloadType::NONCE),
        rule: Rule::NonceLength(4),
    };
    assert_eq!(
        error.to_string(),
        "NONCE payload: a nonce has 8 to 256 bytes, not 4"
    );
    assert_eq!(error.rule.name(), "nonce-length");
}

/// An absurd chain that we are asked to build ends at the same cap.
#[test]
fn a_chain_that_is_built_can_be_parsed() {
    let vendor = VendorId::new(b"x".to_vec()).unwrap();
    let chain = Chain::build(vec![vendor.into(); MAX_PAYLOADS + 5]);
    assert_eq!(chain.payloads().len(), MAX_PAYLOADS);
}
