//! Replays every input that the fuzzers start from, and every one that ever broke something.
//!
//! The seeds are generated: `cargo test -p ikev1 --test wire_corpus -- --ignored` writes them
//! anew. A seed that is no longer what the codec builds fails here, so that the corpus keeps
//! reaching as deep as it did.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod wire_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ikev1::wire::{
    Chain, Delete, ExchangeType, Flags, Fragment, FragmentMessage, HashData, Header, IdName,
    Identification, Identity, KeyExchange, KnownVendor, Lifetime, Message, MessageId, NatDialect,
    NatDiscovery, NatOriginalAddress, Nonce, Notification, NotifyType, Opaque, OpaqueIdentity,
    Payload, PayloadType, Phase1Transform, Phase2Transform, Proposal, ProtocolId,
    SecurityAssociation, SpiBytes, VendorId, fuzz,
};
use ipsec_types::{Encapsulation, Spi, TrafficSelector};
use wire_support::cookies;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target)
}

fn replay(target: &str, run: fn(&[u8])) {
    let mut replayed = 0;
    for entry in fs::read_dir(corpus(target)).unwrap() {
        let path = entry.unwrap().path();
        let input = fs::read(&path).unwrap();
        if std::panic::catch_unwind(|| run(&input)).is_err() {
            panic!("{} breaks {target}", path.display());
        }
        replayed += 1;
    }
    assert!(
        replayed >= seeds(target).len(),
        "the corpus of {target} is incomplete"
    );
}

#[test]
fn isakmp_parse_replays_its_corpus() {
    replay("isakmp_parse", fuzz::isakmp_parse);
}

#[test]
fn decrypted_payloads_replays_its_corpus() {
    replay("decrypted_payloads", fuzz::decrypted_payloads);
}

#[test]
fn seeds_are_what_the_codec_builds() {
    for target in ["isakmp_parse", "decrypted_payloads"] {
        for (name, seed) in seeds(target) {
            let path = corpus(target).join(name);
            let committed = fs::read(&path).unwrap_or_default();
            assert!(committed == seed, "{} is out of date", path.display());
        }
    }
}

#[test]
#[ignore = "writes the seeds into the source tree"]
fn write_the_seeds() {
    for target in ["isakmp_parse", "decrypted_payloads"] {
        fs::create_dir_all(corpus(target)).unwrap();
        for (name, seed) in seeds(target) {
            fs::write(corpus(target).join(name), seed).unwrap();
        }
    }
}

fn seeds(target: &str) -> Vec<(&'static str, Vec<u8>)> {
    match target {
        "isakmp_parse" => datagrams(),
        _ => plaintexts(),
    }
}

fn header(exchange: ExchangeType, message_id: u32) -> Header {
    Header::new(cookies(), exchange, MessageId(message_id))
}

fn main_mode(payloads: Vec<Payload>) -> Vec<u8> {
    Message::new(header(ExchangeType::IdentityProtection, 0), payloads).encode()
}

/// Main mode until the float to encryption, aggressive mode, informational, fragments.
fn datagrams() -> Vec<(&'static str, Vec<u8>)> {
    let mut encrypted = header(ExchangeType::Quick, 0x1234);
    encrypted.flags = Flags {
        encryption: true,
        commit: true,
        authentication_only: false,
    };
    let fragment = |number, last| {
        let data = wire_support::informational().encode();
        let fragment = Fragment::new(1, number, last, data).unwrap();
        FragmentMessage {
            header: header(ExchangeType::Quick, 9),
            fragment,
        }
        .encode()
    };
    let mut cookie_only = encrypted;
    cookie_only.flags.encryption = false;
    let mut protected = Message::new(cookie_only, vec![nonce()]).encode();
    protected[19] = 3;
    vec![
        (
            "main-mode-1",
            main_mode([vec![phase1_offer()], vendors()].concat()),
        ),
        (
            "main-mode-3",
            main_mode(vec![ke(256), nonce(), nat_d(NatDialect::Rfc3947)]),
        ),
        (
            "main-mode-3-draft",
            main_mode(vec![ke(128), nonce(), nat_d(NatDialect::Draft)]),
        ),
        (
            "aggressive-1",
            Message::new(
                header(ExchangeType::Aggressive, 0),
                vec![phase1_offer(), ke(64), nonce(), fqdn()],
            )
            .encode(),
        ),
        ("informational", wire_support::informational().encode()),
        ("quick-protected", protected),
        ("fragment-first", fragment(1, false)),
        ("fragment-last", fragment(2, true)),
        ("every-id", main_mode(every_id())),
        ("opaque", main_mode(opaque())),
    ]
}

/// What stands behind encryption: main mode 5, quick mode, deletes and notifications.
fn plaintexts() -> Vec<(&'static str, Vec<u8>)> {
    let plain = |payloads: Vec<Payload>, padding: usize| {
        let chain = Chain::build(payloads);
        [&[chain.first().0][..], chain.bytes(), &vec![0; padding]].concat()
    };
    let spi = Spi::new(0xc0ff_ee42).unwrap();
    let selector = |net: &str| {
        let selector = TrafficSelector::net(net.parse().unwrap());
        Payload::from(Identification::from_selector(&selector))
    };
    let quick = vec![
        hash(),
        phase2_offer(),
        nonce(),
        ke(32),
        selector("0.0.0.0/0"),
        selector("2001:db8::/32"),
    ];
    let lifetime = Lifetime {
        seconds: Some(3600),
        kilobytes: Some(102_400_000),
    };
    let esp = SpiBytes::from(spi);
    let responder_lifetime = Notification::responder_lifetime(ProtocolId::ESP, esp, lifetime);
    let dpd = Notification::dead_peer_detection(NotifyType::R_U_THERE, cookies(), 77);
    vec![
        (
            "main-mode-5",
            plain(vec![fqdn(), hash(), initial_contact()], 3),
        ),
        ("quick-1", plain(quick, 11)),
        (
            "quick-2",
            plain(vec![hash(), nonce(), responder_lifetime.into()], 0),
        ),
        ("quick-3", plain(vec![hash()], 8)),
        (
            "delete-esp",
            plain(vec![hash(), Delete::esp(spi).into(), nonce()], 5),
        ),
        (
            "delete-isakmp",
            plain(vec![hash(), Delete::isakmp(cookies()).into()], 0),
        ),
        ("dpd", plain(vec![hash(), dpd.into()], 255)),
        ("every-id", plain(every_id(), 0)),
    ]
}

fn phase1_offer() -> Payload {
    let lifetime = Lifetime::from_time(Duration::from_secs(100_000));
    let names = [
        "aes256-sha256-modp2048",
        "3des-md5-modp1024",
        "aes128-sha512-curve25519",
    ];
    let transforms = names.iter().zip(1..).map(|(name, number)| {
        let suite = name.parse().unwrap();
        Phase1Transform { suite, lifetime }.to_transform(number)
    });
    let transforms = transforms.collect();
    let proposal = Proposal::new(1, ProtocolId::ISAKMP, SpiBytes::EMPTY, transforms).unwrap();
    SecurityAssociation::new(vec![proposal]).unwrap().into()
}

fn phase2_offer() -> Payload {
    let lifetime = Lifetime {
        seconds: Some(3600),
        kilobytes: Some(102_400_000),
    };
    let transform = |suite: &str, group, esn| {
        Phase2Transform {
            suite: suite.parse().unwrap(),
            mode: ikev1::wire::EncapsulationMode::tunnel(Encapsulation::Udp, NatDialect::Draft),
            group,
            esn,
            lifetime,
        }
        .to_transform(1)
    };
    let group = ikev1::crypto::DhGroup::from_number(14);
    let proposal = |number, transform| {
        Proposal::new(
            number,
            ProtocolId::ESP,
            SpiBytes::from([1; 4]),
            vec![transform],
        )
        .unwrap()
    };
    let proposals = vec![
        proposal(1, transform("aes256gcm16", group, true)),
        proposal(2, transform("aes128-sha1", None, false)),
    ];
    SecurityAssociation::new(proposals).unwrap().into()
}

fn vendors() -> Vec<Payload> {
    KnownVendor::ALL
        .into_iter()
        .map(|vendor| VendorId::from(vendor).into())
        .collect()
}

fn ke(len: usize) -> Payload {
    KeyExchange::new(vec![0x4b; len]).unwrap().into()
}

fn nonce() -> Payload {
    Nonce::from([0x4e; 32]).into()
}

fn hash() -> Payload {
    HashData::new(vec![0x48; 20]).unwrap().into()
}

fn nat_d(dialect: NatDialect) -> Payload {
    NatDiscovery::new(dialect, vec![0x44; 32]).unwrap().into()
}

fn fqdn() -> Payload {
    let name = IdName::new("gw.example.org").unwrap();
    Identification::any_port(Identity::Fqdn(name)).into()
}

fn initial_contact() -> Payload {
    Notification::initial_contact(cookies()).into()
}

fn every_id() -> Vec<Payload> {
    let (v4, v6) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
    let (v4_end, v6_end) = ("192.0.2.9".parse().unwrap(), "2001:db8::9".parse().unwrap());
    let identities = [
        Identity::Address("192.0.2.1".parse().unwrap()),
        Identity::Address("2001:db8::1".parse().unwrap()),
        Identity::Subnet("192.0.2.0/24".parse().unwrap()),
        Identity::Subnet("2001:db8::/32".parse().unwrap()),
        Identity::range_v4(v4, v4_end).unwrap(),
        Identity::range_v6(v6, v6_end).unwrap(),
        Identity::UserFqdn(IdName::new("a@example.org").unwrap()),
        Identity::Opaque(OpaqueIdentity::key_id(b"branch-7".to_vec()).unwrap()),
    ];
    identities
        .map(|identity| Identification::any_port(identity).into())
        .to_vec()
}

fn opaque() -> Vec<Payload> {
    let address = |ip: &str| NatOriginalAddress {
        dialect: NatDialect::Rfc3947,
        address: ip.parse().unwrap(),
    };
    vec![
        Opaque::new(PayloadType::CERTIFICATE, vec![4; 40])
            .unwrap()
            .into(),
        Opaque::new(PayloadType(200), vec![]).unwrap().into(),
        address("192.0.2.1").into(),
        address("2001:db8::1").into(),
    ]
}
