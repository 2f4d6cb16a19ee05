//! What payloads mean: transforms of both phases, identities as selectors, notifications,
//! vendor ids, NAT discovery; and one message written out byte by byte.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod wire_support;

use std::time::Duration;

use ikev1::crypto::{DhGroup, HashAlgorithm, Phase1Suite};
use ikev1::wire::{
    Attribute, AttributeRefusal, AttributeType, AttributeValue, Chain, Delete, DeletedSas,
    EncapsulationMode, ExchangeType, Flags, Fragment, FragmentMessage, Header, IdName,
    Identification, Identity, Incoming, KnownVendor, Lifetime, Message, MessageId, NatDialect,
    NatDiscovery, Notification, NotifyType, OpaqueIdentity, Payload, Phase1Refusal,
    Phase1Transform, Phase2Refusal, Phase2Transform, Proposal, ProtocolId, SecurityAssociation,
    SpiBytes, Transform, VendorId, describe_phase1, describe_phase2, parse,
};
use ipsec_types::{Encapsulation, EspSuite, Spi, TrafficSelector};
use proptest::prelude::*;
use wire_support::cookies;

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| str::from_utf8(pair).unwrap());
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

/// The first message of a main mode, written by hand from RFC 2408 §3 and RFC 2409
/// Appendix A.
#[test]
fn a_main_mode_offer_byte_by_byte() {
    let expected = hex(
        "0102030405060708 0000000000000000 01 10 02 00 00000000 00000068
         0d00 0038 00000001 00000001
           0000 002c 01 01 00 01
             0000 0024 01 01 0000
               8001 0007  8002 0004  8003 0001  8004 000e  800e 0100  800b 0001  800c 7080
         0000 0014 afcad71368a1f1c96b8696fc77570100",
    );
    let suite: Phase1Suite = "aes256-sha256-modp2048".parse().unwrap();
    let lifetime = Lifetime::from_time(Duration::from_secs(8 * 3600));
    let transform = Phase1Transform { suite, lifetime }.to_transform(1);
    let proposal = Proposal::new(1, ProtocolId::ISAKMP, SpiBytes::EMPTY, vec![transform]).unwrap();
    let mut cookies = cookies();
    cookies.initiator.0 = [1, 2, 3, 4, 5, 6, 7, 8];
    cookies.responder.0 = [0; 8];
    let message = Message::new(
        Header::new(cookies, ExchangeType::IdentityProtection, MessageId::PHASE1),
        vec![
            SecurityAssociation::new(vec![proposal]).unwrap().into(),
            VendorId::from(KnownVendor::DeadPeerDetection).into(),
        ],
    );
    assert_eq!(message.encode(), expected);
    assert_eq!(parse(&expected).unwrap(), Incoming::Clear(message));
}

fn short(kind: u16, value: u16) -> Attribute {
    Attribute::new(AttributeType(kind), AttributeValue::Short(value)).unwrap()
}

fn long(kind: u16, value: &[u8]) -> Attribute {
    Attribute::new(AttributeType(kind), AttributeValue::Long(value.to_vec())).unwrap()
}

fn lifetime() -> impl Strategy<Value = Lifetime> {
    let number = || prop::option::of(prop_oneof![1..=70_000_u64, 1..=u64::MAX]);
    (number(), number()).prop_map(|(seconds, kilobytes)| Lifetime { seconds, kilobytes })
}

fn group() -> impl Strategy<Value = DhGroup> {
    prop::sample::select(DhGroup::ALL.to_vec())
}

fn phase1_suite() -> impl Strategy<Value = Phase1Suite> {
    let cipher = prop::sample::select(vec!["3des", "aes128", "aes192", "aes256"]);
    let hash = prop::sample::select(HashAlgorithm::ALL.to_vec());
    (cipher, hash, group())
        .prop_map(|(cipher, hash, group)| format!("{cipher}-{hash}-{group}").parse().unwrap())
}

fn mode() -> impl Strategy<Value = EncapsulationMode> {
    prop::sample::select(vec![
        EncapsulationMode::Tunnel,
        EncapsulationMode::Transport,
        EncapsulationMode::UdpTunnel(NatDialect::Rfc3947),
        EncapsulationMode::UdpTunnel(NatDialect::Draft),
        EncapsulationMode::UdpTransport(NatDialect::Rfc3947),
        EncapsulationMode::UdpTransport(NatDialect::Draft),
    ])
}

proptest! {
    #[test]
    fn phase1_transforms_round_trip(
        suite in phase1_suite(),
        lifetime in lifetime(),
        number in any::<u8>(),
    ) {
        let meant = Phase1Transform { suite, lifetime };
        let transform = meant.to_transform(number);
        prop_assert_eq!(transform.number(), number);
        prop_assert_eq!(Phase1Transform::from_transform(&transform), Ok(meant));
        prop_assert!(describe_phase1(&transform).starts_with(&suite.to_string()));
    }

    #[test]
    fn phase2_transforms_round_trip(
        suite in prop::sample::select(EspSuite::ALL.to_vec()),
        mode in mode(),
        group in prop::option::of(group()),
        esn in any::<bool>(),
        lifetime in lifetime(),
        number in any::<u8>(),
    ) {
        let meant = Phase2Transform { suite, mode, group, esn, lifetime };
        let transform = meant.to_transform(number);
        prop_assert_eq!(Phase2Transform::from_transform(&transform), Ok(meant));
        prop_assert!(describe_phase2(&transform).starts_with(&suite.to_string()));
    }

    #[test]
    fn any_transform_is_judged_without_panic(transform in wire_support::transform()) {
        _ = Phase1Transform::from_transform(&transform);
        _ = Phase2Transform::from_transform(&transform);
        prop_assert!(!describe_phase1(&transform).is_empty());
        prop_assert!(!describe_phase2(&transform).is_empty());
    }

    #[test]
    fn responder_lifetime_round_trips(lifetime in lifetime(), isakmp in any::<bool>()) {
        let protocol = if isakmp { ProtocolId::ISAKMP } else { ProtocolId::ESP };
        let notify = Notification::responder_lifetime(protocol, SpiBytes::EMPTY, lifetime);
        prop_assert_eq!(notify.lifetime(), Ok(lifetime));
    }
}

fn phase1(attributes: &[Attribute]) -> Transform {
    Transform::new(1, 1, attributes.to_vec()).unwrap()
}

/// AES-256, SHA-1, pre-shared key, MODP-1024.
fn phase1_attributes() -> Vec<Attribute> {
    vec![
        short(1, 7),
        short(14, 256),
        short(2, 2),
        short(3, 1),
        short(4, 2),
    ]
}

#[test]
fn azure_like_phase1_offer_with_a_long_lifetime() {
    let mut attributes = phase1_attributes();
    attributes.extend([short(11, 1), long(12, &[0, 0, 0x70, 0x80])]);
    let transform = phase1(&attributes);
    let read = Phase1Transform::from_transform(&transform).unwrap();
    assert_eq!(read.suite.to_string(), "aes256-sha1-modp1024");
    assert_eq!(read.lifetime.time(), Some(Duration::from_secs(28_800)));
    assert_eq!(describe_phase1(&transform), "aes256-sha1-modp1024, 28800 s");
}

#[test]
fn phase1_refusals_name_the_attribute() {
    let with = |index: usize, attribute: Attribute| {
        let mut attributes = phase1_attributes();
        attributes[index] = attribute;
        Phase1Transform::from_transform(&phase1(&attributes)).unwrap_err()
    };
    let without = |index: usize| {
        let mut attributes = phase1_attributes();
        attributes.remove(index);
        Phase1Transform::from_transform(&phase1(&attributes)).unwrap_err()
    };
    let encryption = |algorithm, key_bits| Phase1Refusal::Encryption {
        algorithm,
        key_bits,
    };
    assert_eq!(with(0, short(1, 1)), encryption(1, Some(256)));
    assert_eq!(with(1, short(14, 0)), encryption(7, Some(0)));
    assert_eq!(with(1, short(14, 512)), encryption(7, Some(512)));
    assert_eq!(with(2, short(2, 3)), Phase1Refusal::Hash(3));
    assert_eq!(with(3, short(3, 3)), Phase1Refusal::Authentication(3));
    assert_eq!(with(4, short(4, 22)), Phase1Refusal::Group(22));
    for missing in 0..5 {
        assert!(
            matches!(without(missing), Phase1Refusal::Missing(_)),
            "{missing}"
        );
    }
}

#[test]
fn contradicting_phase1_attributes_are_refused() {
    let extra = |attributes: &[Attribute]| {
        let attributes = [&phase1_attributes()[..], attributes].concat();
        Phase1Transform::from_transform(&phase1(&attributes)).map_err(|refusal| match refusal {
            Phase1Refusal::Attribute(refusal) => refusal,
            other => panic!("{other}"),
        })
    };
    let kind = AttributeType;
    assert_eq!(
        extra(&[short(4, 14)]),
        Err(AttributeRefusal::Conflicting(kind(4)))
    );
    assert!(extra(&[short(4, 2)]).is_ok());
    assert_eq!(
        extra(&[long(1, &[7])]),
        Err(AttributeRefusal::NotBasic(kind(1)))
    );
    assert_eq!(extra(&[short(11, 3)]), Err(AttributeRefusal::LifeType(3)));
    assert_eq!(extra(&[short(11, 1)]), Err(AttributeRefusal::LifeUnpaired));
    assert_eq!(extra(&[short(12, 9)]), Err(AttributeRefusal::LifeUnpaired));
    assert_eq!(
        extra(&[short(11, 1), short(11, 1)]),
        Err(AttributeRefusal::LifeUnpaired)
    );
    // strongSwan's way to say "no limit".
    let endless = extra(&[short(11, 1), short(12, 0)]).unwrap();
    assert_eq!(endless.lifetime, Lifetime::default());
    assert_eq!(
        extra(&[short(11, 1), long(12, &[1; 9])]),
        Err(AttributeRefusal::LifeDuration)
    );
    let twice = [short(11, 1), short(12, 9), short(11, 1), short(12, 8)];
    assert_eq!(extra(&twice), Err(AttributeRefusal::Conflicting(kind(12))));
    let unsupported = [&phase1_attributes()[..], &[short(13, 1)]].concat();
    assert_eq!(
        Phase1Transform::from_transform(&phase1(&unsupported)),
        Err(Phase1Refusal::Unsupported(kind(13)))
    );
    let id = Transform::new(1, 2, phase1_attributes()).unwrap();
    assert_eq!(
        Phase1Transform::from_transform(&id),
        Err(Phase1Refusal::TransformId(2))
    );
}

#[test]
fn leading_zeros_of_a_duration_do_not_matter() {
    let mut attributes = phase1_attributes();
    attributes.extend([short(11, 1), long(12, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 60])]);
    let read = Phase1Transform::from_transform(&phase1(&attributes)).unwrap();
    assert_eq!(read.lifetime.seconds, Some(60));
}

#[test]
fn a_duration_of_zero_says_nothing() {
    let mut attributes = phase1_attributes();
    attributes.extend([short(11, 2), short(12, 0), short(11, 1), short(12, 60)]);
    let read = Phase1Transform::from_transform(&phase1(&attributes)).unwrap();
    assert_eq!(read.lifetime, Lifetime::from_time(Duration::from_secs(60)));
}

#[test]
fn an_offer_we_cannot_take_is_still_described() {
    let attributes = [short(1, 1), short(2, 9), short(3, 65001), short(4, 22)];
    assert_eq!(
        describe_phase1(&phase1(&attributes)),
        "encryption1-hash9-group22, authentication 65001"
    );
    let esp = |id: u8, attributes: &[Attribute]| {
        describe_phase2(&Transform::new(1, id, attributes.to_vec()).unwrap())
    };
    assert_eq!(esp(3, &[short(4, 1), short(5, 1)]), "3des-md5, tunnel");
    assert_eq!(
        esp(
            18,
            &[short(6, 128), short(3, 22), short(4, 61443), short(11, 1)]
        ),
        "aes128gcm8-group22-esn, UDP tunnel (draft)"
    );
    assert_eq!(esp(77, &[short(4, 9)]), "esp77, mode 9");
}

#[test]
fn azure_like_phase2_offer() {
    let attributes = vec![
        short(1, 1),
        long(2, &[0, 0, 0x69, 0x78]),
        short(1, 2),
        long(2, &[0x06, 0x1a, 0x80, 0x00]),
        short(4, 3),
        short(6, 256),
    ];
    let transform = Transform::new(1, 20, attributes).unwrap();
    let read = Phase2Transform::from_transform(&transform).unwrap();
    assert_eq!(read.suite, "aes256gcm16".parse().unwrap());
    assert_eq!(read.mode.tunnel_over(), Some(Encapsulation::Udp));
    assert_eq!(read.lifetime.seconds, Some(27_000));
    assert_eq!(read.lifetime.kilobytes, Some(102_400_000));
    assert_eq!(
        describe_phase2(&transform),
        "aes256gcm16, UDP tunnel, 27000 s, 102400000 kB"
    );
}

#[test]
fn phase2_refusals_name_the_attribute() {
    let read = |id: u8, attributes: &[Attribute]| {
        let transform = Transform::new(1, id, attributes.to_vec()).unwrap();
        Phase2Transform::from_transform(&transform).unwrap_err()
    };
    let (tunnel, bits, sha256) = (short(4, 1), short(6, 128), short(5, 5));
    let with = |extra: &[Attribute]| [&[tunnel.clone()][..], extra].concat();
    assert_eq!(
        read(2, &with(std::slice::from_ref(&sha256))),
        Phase2Refusal::Cipher(2)
    );
    assert_eq!(read(3, &with(&[])), Phase2Refusal::MissingIntegrity);
    assert_eq!(
        read(3, &with(&[short(5, 1), short(6, 128)])),
        Phase2Refusal::FixedKeyLength(128)
    );
    assert_eq!(read(20, &with(&[])), Phase2Refusal::MissingKeyLength);
    assert_eq!(read(20, &with(&[short(6, 0)])), Phase2Refusal::KeyLength(0));
    assert_eq!(
        read(12, &with(std::slice::from_ref(&bits))),
        Phase2Refusal::MissingIntegrity
    );
    assert_eq!(
        read(12, &with(&[bits.clone(), short(5, 3)])),
        Phase2Refusal::Integrity(3)
    );
    assert_eq!(
        read(20, &with(&[bits.clone(), sha256])),
        Phase2Refusal::IntegrityBesideAead(5)
    );
    assert_eq!(
        read(20, &with(&[bits.clone(), short(3, 22)])),
        Phase2Refusal::Group(22)
    );
    assert_eq!(
        read(20, &with(&[bits.clone(), short(11, 2)])),
        Phase2Refusal::ExtendedSequence(2)
    );
    // Compression, key rounds and the like would change what travels.
    assert_eq!(
        read(20, &with(&[bits.clone(), short(8, 1)])),
        Phase2Refusal::Unsupported(AttributeType(8))
    );
    assert_eq!(
        read(20, std::slice::from_ref(&bits)),
        Phase2Refusal::MissingMode
    );
    assert_eq!(read(20, &[bits, short(4, 5)]), Phase2Refusal::Mode(5));
}

#[test]
fn encapsulation_follows_the_dialect() {
    let tunnel = EncapsulationMode::tunnel;
    let (rfc, draft) = (NatDialect::Rfc3947, NatDialect::Draft);
    assert_eq!(tunnel(Encapsulation::Esp, draft), EncapsulationMode::Tunnel);
    assert_eq!(
        tunnel(Encapsulation::Udp, draft),
        EncapsulationMode::UdpTunnel(draft)
    );
    assert_eq!(EncapsulationMode::Transport.tunnel_over(), None);
    assert_eq!(EncapsulationMode::UdpTransport(rfc).tunnel_over(), None);
}

#[test]
fn selectors_become_identities_and_come_back() {
    for (net, protocol, port, shown) in [
        ("0.0.0.0/0", 0, 0, "0.0.0.0/0"),
        ("10.1.0.0/16", 6, 443, "10.1.0.0/16[6/443]"),
        ("10.1.2.3/32", 17, 0, "10.1.2.3[17]"),
        ("::/0", 0, 0, "::/0"),
        ("2001:db8::1/128", 0, 0, "2001:db8::1"),
    ] {
        let selector = TrafficSelector::new(net.parse().unwrap(), protocol, port);
        let id = Identification::from_selector(&selector);
        assert_eq!(id.to_selector(), Some(selector));
        assert_eq!(id.to_string(), shown);
    }
}

#[test]
fn a_range_is_a_selector_when_it_is_a_prefix() {
    let range = |start: &str, end: &str| {
        let identity = Identity::range_v4(start.parse().unwrap(), end.parse().unwrap());
        identity.unwrap().prefix().map(|prefix| prefix.to_string())
    };
    assert_eq!(
        range("0.0.0.0", "255.255.255.255").as_deref(),
        Some("0.0.0.0/0")
    );
    assert_eq!(
        range("10.0.0.0", "10.0.0.255").as_deref(),
        Some("10.0.0.0/24")
    );
    assert_eq!(
        range("10.0.0.7", "10.0.0.7").as_deref(),
        Some("10.0.0.7/32")
    );
    assert_eq!(range("10.0.0.1", "10.0.0.255"), None);
    assert_eq!(range("10.0.0.255", "10.0.1.0"), None);
    let (first, last) = (
        "2001:db8::".parse().unwrap(),
        "2001:db8::ffff".parse().unwrap(),
    );
    let prefix = Identity::range_v6(first, last).unwrap().prefix();
    assert_eq!(prefix, Some("2001:db8::/112".parse().unwrap()));
}

/// A subnet with host bits means the subnet, but goes back to the peer as it came.
#[test]
fn host_bits_of_a_subnet_survive_but_do_not_count() {
    let body = [4, 0, 0, 0, 10, 1, 2, 3, 255, 255, 0, 0];
    let datagram = wire_support::raw_datagram(5, &wire_support::generic(0, &body));
    let Incoming::Clear(message) = parse(&datagram).unwrap() else {
        panic!("sent in the clear");
    };
    assert_eq!(message.encode(), datagram);
    let [Payload::Id(id)] = message.chain.payloads() else {
        panic!("one identity");
    };
    let prefix = id.identity.prefix().unwrap();
    assert_eq!(prefix.to_string(), "10.1.0.0/16");
}

#[test]
fn names_and_opaque_ids_are_no_selectors() {
    let names = [
        (
            Identity::Fqdn(IdName::new("gw.example.org").unwrap()),
            "fqdn:gw.example.org",
        ),
        (
            Identity::UserFqdn(IdName::new("a@b.c").unwrap()),
            "user-fqdn:a@b.c",
        ),
        (
            Identity::Opaque(OpaqueIdentity::key_id(b"abc".to_vec()).unwrap()),
            "key-id:616263",
        ),
        (
            Identity::Opaque(OpaqueIdentity::new(9, vec![0x30]).unwrap()),
            "id-type-9:30",
        ),
    ];
    for (identity, shown) in names {
        assert_eq!(identity.to_string(), shown);
        assert_eq!(Identification::any_port(identity).to_selector(), None);
    }
}

#[test]
fn dead_peer_detection_carries_cookies_and_a_sequence() {
    let probe = Notification::dead_peer_detection(NotifyType::R_U_THERE, cookies(), 0xffff_fffe);
    assert_eq!(probe.spi().as_slice(), cookies().to_bytes());
    assert_eq!(probe.dead_peer_detection_sequence(), Some(0xffff_fffe));
    assert_eq!(probe.kind().to_string(), "R-U-THERE");
    let short = Notification::new(
        ProtocolId::ISAKMP,
        SpiBytes::EMPTY,
        NotifyType::R_U_THERE_ACK,
        vec![0; 3],
    );
    assert_eq!(short.unwrap().dead_peer_detection_sequence(), None);
}

#[test]
fn notify_types_have_names_and_sides() {
    assert_eq!(
        NotifyType::NO_PROPOSAL_CHOSEN.to_string(),
        "NO-PROPOSAL-CHOSEN"
    );
    assert_eq!(NotifyType(9999).to_string(), "notification 9999");
    assert!(NotifyType::INVALID_ID_INFORMATION.is_error());
    assert!(!NotifyType::INITIAL_CONTACT.is_error());
}

#[test]
fn deletes_name_their_sas() {
    let body = |delete: Delete| Payload::from(delete).body();
    let spi = Spi::new(0xc0ff_ee42).unwrap();
    assert_eq!(body(Delete::esp(spi)), hex("00000001 03 04 0001 c0ffee42"));
    let isakmp = body(Delete::isakmp(cookies()));
    assert_eq!(
        isakmp,
        [&hex("00000001 01 10 0001")[..], &cookies().to_bytes()].concat()
    );
    let several = Delete::new(DeletedSas::Esp(vec![300, 301])).unwrap();
    assert_eq!(several.sas(), &DeletedSas::Esp(vec![300, 301]));
}

/// Most vendor ids are the MD5 hash of a text.
#[test]
fn vendor_ids_are_what_they_are_hashed_from() {
    let texts = [
        (KnownVendor::NatT, "RFC 3947"),
        (KnownVendor::NatTDraft03, "draft-ietf-ipsec-nat-t-ike-03"),
        (
            KnownVendor::NatTDraft02Lf,
            "draft-ietf-ipsec-nat-t-ike-02\n",
        ),
        (KnownVendor::NatTDraft02, "draft-ietf-ipsec-nat-t-ike-02"),
        (KnownVendor::Fragmentation, "FRAGMENTATION"),
        (KnownVendor::NlbsPresent, "NLBS_PRESENT"),
    ];
    for (vendor, text) in texts {
        let hashed = HashAlgorithm::Md5.digest(&[text.as_bytes()]);
        assert_eq!(vendor.bytes()[..], hashed[..], "{text:?}");
        assert_eq!(VendorId::from(vendor).known(), Some(vendor));
    }
}

#[test]
fn vendor_ids_with_versions_and_capabilities_are_recognised() {
    let known = |id: &[u8]| VendorId::new(id.to_vec()).unwrap().known();
    let mut dpd = KnownVendor::DeadPeerDetection.bytes();
    assert_eq!(known(&dpd), Some(KnownVendor::DeadPeerDetection));
    dpd[15] = 1;
    assert_eq!(known(&dpd), Some(KnownVendor::DeadPeerDetection));
    dpd[13] ^= 1;
    assert_eq!(known(&dpd), None);
    assert_eq!(known(&dpd[..13]), None);
    let cisco = [&KnownVendor::Fragmentation.bytes()[..], &[0x80, 0, 0, 0]].concat();
    assert_eq!(known(&cisco), Some(KnownVendor::Fragmentation));
    let longer = [&KnownVendor::NatT.bytes()[..], &[0]].concat();
    assert_eq!(known(&longer), None);
}

/// Computed by Python's hashlib from RFC 3947 §3.2.
#[test]
fn nat_discovery_hashes_cookies_address_and_port() {
    let cases = [
        (
            HashAlgorithm::Md5,
            "192.0.2.1:500",
            "52f40c6a2f40064f0ce6dba93320f63f",
        ),
        (
            HashAlgorithm::Sha1,
            "192.0.2.1:500",
            "d5ed3d046bd0bf17ef46cf003bc047bc4c0afb97",
        ),
        (
            HashAlgorithm::Sha256,
            "[2001:db8::1]:4500",
            "ff4b0c3cee1954c3c31c036c61c60aa72416b00b5b6714ea614ac22de2897072",
        ),
    ];
    for (hash, address, expected) in cases {
        let address = address.parse().unwrap();
        let nat_d = NatDiscovery::of(NatDialect::Rfc3947, hash, cookies(), address);
        assert_eq!(nat_d.hash(), hex(expected), "{address}");
        assert_eq!(Payload::from(nat_d).kind().0, 20);
        let draft = NatDiscovery::of(NatDialect::Draft, hash, cookies(), address);
        assert_eq!(Payload::from(draft).kind().0, 130);
    }
}

#[test]
fn fragments_put_together_are_the_message() {
    let whole = wire_support::informational();
    let datagram = whole.encode();
    let mut header = whole.header;
    // Some peers leave the E bit of the message that they cut.
    header.flags = Flags {
        encryption: true,
        ..header.flags
    };
    let pieces: Vec<&[u8]> = datagram.chunks(40).collect();
    let mut together = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let number = u8::try_from(index + 1).unwrap();
        let last = index + 1 == pieces.len();
        let fragment = Fragment::new(77, number, last, piece.to_vec()).unwrap();
        let sent = FragmentMessage { header, fragment };
        let Incoming::Fragment(received) = parse(&sent.encode()).unwrap() else {
            panic!("a fragment");
        };
        assert_eq!(received, sent);
        assert_eq!(received.fragment.id(), 77);
        assert_eq!(received.fragment.number(), number);
        assert_eq!(received.fragment.is_last(), last);
        together.extend_from_slice(received.fragment.data());
    }
    assert_eq!(parse(&together).unwrap(), Incoming::Clear(whole));
}

#[test]
fn a_chain_is_searched_by_kind() {
    let chain = Chain::build(vec![
        VendorId::from(KnownVendor::NatT).into(),
        Notification::initial_contact(cookies()).into(),
        VendorId::from(KnownVendor::NlbsPresent).into(),
    ]);
    let kind = chain.payloads()[0].kind();
    assert_eq!(chain.count(kind), 2);
    assert_eq!(chain.body_of(kind), Some(&KnownVendor::NatT.bytes()[..]));
    assert_eq!(chain.split_hash(), None);
    assert_eq!(chain.to_string(), "vendor id, notification, vendor id");
    let message = Message {
        header: Header::new(cookies(), ExchangeType::Informational, MessageId(7)),
        chain,
    };
    assert_eq!(
        message.to_string(),
        "informational 00000007 [vendor id, notification, vendor id]"
    );
}
