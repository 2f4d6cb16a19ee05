//! Legal values at random, and raw messages that break one rule at a time.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its part of the helpers; a test fails by panicking"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ikev1::wire::{
    Attribute, AttributeType, AttributeValue, Cookie, CookiePair, Delete, DeletedSas, ExchangeType,
    Flags, Fragment, HashData, Header, IdName, Identification, Identity, KeyExchange, Message,
    MessageId, NatDialect, NatDiscovery, Nonce, Notification, NotifyType, Opaque, OpaqueIdentity,
    Payload, PayloadType, Proposal, ProtocolId, SecurityAssociation, SpiBytes, Transform, VendorId,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::prelude::*;

pub fn header() -> impl Strategy<Value = Header> {
    let exchange = prop::sample::select(vec![
        ExchangeType::Base,
        ExchangeType::IdentityProtection,
        ExchangeType::AuthenticationOnly,
        ExchangeType::Aggressive,
        ExchangeType::Informational,
        ExchangeType::Transaction,
        ExchangeType::Quick,
        ExchangeType::NewGroup,
    ]);
    let cookies = (1..=u64::MAX, any::<u64>());
    (cookies, exchange, any::<[bool; 2]>(), any::<u32>()).prop_map(
        |((initiator, responder), exchange, [commit, authentication_only], message_id)| Header {
            cookies: CookiePair {
                initiator: Cookie(initiator.to_be_bytes()),
                responder: Cookie(responder.to_be_bytes()),
            },
            exchange,
            flags: Flags {
                encryption: false,
                commit,
                authentication_only,
            },
            message_id: MessageId(message_id),
        },
    )
}

fn bytes(len: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), len)
}

fn spi() -> impl Strategy<Value = SpiBytes> {
    bytes(0..=16).prop_map(|spi| SpiBytes::new(&spi).unwrap())
}

fn attribute() -> impl Strategy<Value = Attribute> {
    let value = prop_oneof![
        any::<u16>().prop_map(AttributeValue::Short),
        bytes(1..=40).prop_map(AttributeValue::Long),
    ];
    (0..0x8000_u16, value)
        .prop_map(|(kind, value)| Attribute::new(AttributeType(kind), value).unwrap())
}

pub fn transform() -> impl Strategy<Value = Transform> {
    (any::<u8>(), any::<u8>(), vec(attribute(), 0..8))
        .prop_map(|(number, id, attributes)| Transform::new(number, id, attributes).unwrap())
}

pub fn sa() -> impl Strategy<Value = SecurityAssociation> {
    let proposal = (any::<u8>(), any::<u8>(), spi(), vec(transform(), 1..5)).prop_map(
        |(number, protocol, spi, transforms)| {
            Proposal::new(number, ProtocolId(protocol), spi, transforms).unwrap()
        },
    );
    vec(proposal, 1..4).prop_map(|proposals| SecurityAssociation::new(proposals).unwrap())
}

fn identity() -> impl Strategy<Value = Identity> {
    prop_oneof![
        any::<IpAddr>().prop_map(Identity::Address),
        (any::<Ipv4Addr>(), 0..=32_u8)
            .prop_map(|(ip, len)| Identity::Subnet(IpNet::V4(Ipv4Net::new(ip, len).unwrap()))),
        (any::<Ipv6Addr>(), 0..=128_u8)
            .prop_map(|(ip, len)| Identity::Subnet(IpNet::V6(Ipv6Net::new(ip, len).unwrap()))),
        any::<[Ipv4Addr; 2]>().prop_map(|[a, b]| Identity::range_v4(a.min(b), a.max(b)).unwrap()),
        any::<[Ipv6Addr; 2]>().prop_map(|[a, b]| Identity::range_v6(a.min(b), a.max(b)).unwrap()),
        "[!-~]{1,255}".prop_map(|name| Identity::Fqdn(IdName::new(&name).unwrap())),
        "[!-~]{1,255}".prop_map(|name| Identity::UserFqdn(IdName::new(&name).unwrap())),
        (prop_oneof![Just(0), 9..=255_u8], bytes(1..=64)).prop_map(|(kind, data)| {
            Identity::Opaque(OpaqueIdentity::new(kind, data).unwrap())
        }),
    ]
}

fn identification() -> impl Strategy<Value = Identification> {
    (identity(), any::<u8>(), any::<u16>()).prop_map(|(identity, protocol, port)| Identification {
        identity,
        protocol,
        port,
    })
}

fn notification() -> impl Strategy<Value = Notification> {
    (any::<u8>(), spi(), any::<u16>(), bytes(0..=64)).prop_map(|(protocol, spi, kind, data)| {
        Notification::new(ProtocolId(protocol), spi, NotifyType(kind), data).unwrap()
    })
}

fn delete() -> impl Strategy<Value = Delete> {
    let pair = any::<[u8; 16]>().prop_map(|pair| CookiePair::from_bytes(&pair).unwrap());
    let other = (4..=255_u8, 1..=16_usize, 1..5_usize).prop_flat_map(|(protocol, size, count)| {
        vec(bytes(size..=size), count).prop_map(move |spis| {
            let spis = spis.iter().map(|spi| SpiBytes::new(spi).unwrap()).collect();
            DeletedSas::Other(ProtocolId(protocol), spis)
        })
    });
    prop_oneof![
        vec(pair, 1..5).prop_map(DeletedSas::Isakmp),
        vec(any::<u32>(), 1..9).prop_map(DeletedSas::Esp),
        other,
    ]
    .prop_map(|sas| Delete::new(sas).unwrap())
}

fn dialect() -> impl Strategy<Value = NatDialect> {
    prop_oneof![Just(NatDialect::Rfc3947), Just(NatDialect::Draft)]
}

pub fn hash_data() -> impl Strategy<Value = HashData> {
    bytes(16..=64).prop_map(|hash| HashData::new(hash).unwrap())
}

fn opaque() -> impl Strategy<Value = Opaque> {
    let kind = prop_oneof![
        Just(PayloadType::CERTIFICATE),
        Just(PayloadType::CERTIFICATE_REQUEST),
        Just(PayloadType::SIGNATURE),
        (22..=129_u8).prop_map(PayloadType),
        (133..=255_u8).prop_map(PayloadType),
    ];
    (kind, bytes(0..=64)).prop_map(|(kind, body)| Opaque::new(kind, body).unwrap())
}

/// Any payload but a fragment, which travels alone.
pub fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        sa().prop_map(Payload::from),
        bytes(1..=1024).prop_map(|ke| KeyExchange::new(ke).unwrap().into()),
        identification().prop_map(Payload::from),
        hash_data().prop_map(Payload::from),
        bytes(8..=256).prop_map(|nonce| Nonce::new(nonce).unwrap().into()),
        notification().prop_map(Payload::from),
        delete().prop_map(Payload::from),
        bytes(1..=64).prop_map(|vendor| VendorId::new(vendor).unwrap().into()),
        (dialect(), bytes(16..=64))
            .prop_map(|(dialect, hash)| NatDiscovery::new(dialect, hash).unwrap().into()),
        (dialect(), any::<IpAddr>()).prop_map(|(dialect, address)| {
            ikev1::wire::NatOriginalAddress { dialect, address }.into()
        }),
        opaque().prop_map(Payload::from),
    ]
}

pub fn fragment() -> impl Strategy<Value = Fragment> {
    (any::<u16>(), 1..=255_u8, any::<bool>(), bytes(1..=600))
        .prop_map(|(id, number, last, data)| Fragment::new(id, number, last, data).unwrap())
}

pub fn payloads() -> impl Strategy<Value = Vec<Payload>> {
    vec(payload(), 1..10)
}

pub fn message() -> impl Strategy<Value = Message> {
    (header(), payloads()).prop_map(|(header, payloads)| Message::new(header, payloads))
}

/// Cookies that are not zero.
pub fn cookies() -> CookiePair {
    CookiePair {
        initiator: Cookie(*b"initiato"),
        responder: Cookie(*b"responde"),
    }
}

/// A small message of three payloads.
pub fn informational() -> Message {
    let header = Header::new(cookies(), ExchangeType::Informational, MessageId(7));
    let dpd = Notification::dead_peer_detection(NotifyType::R_U_THERE, cookies(), 1);
    let hash = HashData::new(vec![3; 20]).unwrap();
    Message::new(header, vec![hash.into(), dpd.clone().into(), dpd.into()])
}

/// A datagram of any body: first payload type, then raw bytes.
pub fn raw_datagram(first: u8, body: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend_from_slice(&cookies().to_bytes());
    datagram.extend_from_slice(&[first, 0x10, 5, 0]);
    datagram.extend_from_slice(&7_u32.to_be_bytes());
    datagram.extend_from_slice(&u32::try_from(28 + body.len()).unwrap().to_be_bytes());
    datagram.extend_from_slice(body);
    datagram
}

/// A generic header with the length that belongs to the body.
pub fn generic(next: u8, body: &[u8]) -> Vec<u8> {
    let mut payload = vec![next, 0];
    payload.extend_from_slice(&u16::try_from(4 + body.len()).unwrap().to_be_bytes());
    payload.extend_from_slice(body);
    payload
}
