//! Every rule of every table, broken one at a time.

use super::*;
use crate::exchange::table::{aggressive, informational, main_mode, quick_mode};
use crate::wire::{
    Cookie, CookiePair, Delete, HashData, Header, Identification, Identity, KeyExchange,
    NatDialect, NatDiscovery, Nonce, Notification, NotifyType, Opaque, Payload, Phase1Transform,
    Proposal, ProtocolId, SecurityAssociation, SpiBytes, VendorId,
};

const RULES: [&MessageRule; 14] = [
    &main_mode::MESSAGE_1,
    &main_mode::MESSAGE_2,
    &main_mode::MESSAGE_3,
    &main_mode::MESSAGE_4,
    &main_mode::MESSAGE_5,
    &main_mode::MESSAGE_6,
    &aggressive::MESSAGE_1,
    &aggressive::MESSAGE_2,
    &aggressive::MESSAGE_3,
    &quick_mode::MESSAGE_1,
    &quick_mode::MESSAGE_2,
    &quick_mode::MESSAGE_3,
    &quick_mode::CONNECTED,
    &informational::PROTECTED,
];

fn sample(kind: PayloadType) -> Payload {
    let address = Identity::Address("192.0.2.1".parse().unwrap());
    let nat_d = |dialect| NatDiscovery::new(dialect, vec![7; 20]).unwrap().into();
    match kind {
        PayloadType::SA => {
            let transform = Phase1Transform {
                suite: "aes256-sha256-modp2048".parse().unwrap(),
                lifetime: crate::wire::Lifetime::default(),
            };
            let transforms = vec![transform.to_transform(1)];
            let proposal = Proposal::new(1, ProtocolId::ISAKMP, SpiBytes::EMPTY, transforms);
            SecurityAssociation::new(vec![proposal.unwrap()])
                .unwrap()
                .into()
        }
        PayloadType::KEY_EXCHANGE => KeyExchange::new(vec![1; 32]).unwrap().into(),
        PayloadType::ID => Identification::any_port(address).into(),
        PayloadType::HASH => HashData::new(vec![1; 32]).unwrap().into(),
        PayloadType::NONCE => Nonce::from([1; 32]).into(),
        PayloadType::NOTIFICATION => {
            Notification::plain(ProtocolId::ISAKMP, SpiBytes::EMPTY, NotifyType::CONNECTED).into()
        }
        PayloadType::DELETE => Delete::isakmp(cookies(true)).into(),
        PayloadType::VENDOR_ID => VendorId::new(vec![1; 16]).unwrap().into(),
        PayloadType::NAT_D => nat_d(NatDialect::Rfc3947),
        PayloadType::NAT_D_DRAFT => nat_d(NatDialect::Draft),
        other => Opaque::new(other, vec![1; 8]).unwrap().into(),
    }
}

fn cookies(answered: bool) -> CookiePair {
    CookiePair {
        initiator: Cookie([1; 8]),
        responder: if answered {
            Cookie([2; 8])
        } else {
            Cookie::ZERO
        },
    }
}

fn good_header(rule: &MessageRule) -> Header {
    let phase1 = matches!(
        rule.exchange,
        ExchangeType::IdentityProtection | ExchangeType::Aggressive
    );
    let id = if phase1 {
        MessageId::PHASE1
    } else {
        MessageId(9)
    };
    let mut header = Header::new(cookies(true), rule.exchange, id);
    header.flags.encryption = rule.protection != Protection::Clear;
    header
}

/// Exactly what is required, in an order that satisfies `leading`.
fn good_payloads(rule: &MessageRule) -> Vec<Payload> {
    rule.required.iter().map(|&kind| sample(kind)).collect()
}

fn checked(rule: &MessageRule, payloads: Vec<Payload>) -> Result<(), PeerMisbehaved> {
    check(rule, &Message::new(good_header(rule), payloads))
}

#[test]
fn what_is_required_is_enough() {
    for rule in RULES {
        assert_eq!(checked(rule, good_payloads(rule)), Ok(()), "{}", rule.name);
    }
}

#[test]
fn each_required_payload_is_missed() {
    for rule in RULES {
        for &kind in rule.required {
            let mut payloads = good_payloads(rule);
            payloads.retain(|payload| payload.kind() != kind);
            // A message without any payload does not exist on the wire.
            payloads.push(sample(PayloadType::VENDOR_ID));
            let expected = if rule.leading.first() == Some(&kind) {
                PeerMisbehaved::WrongFirstPayload(kind, rule.name)
            } else {
                PeerMisbehaved::MissingPayload(kind, rule.name)
            };
            assert_eq!(checked(rule, payloads), Err(expected));
        }
    }
}

#[test]
fn the_leading_payloads_keep_their_places() {
    let mut refused = 0;
    for rule in RULES {
        for (place, &kind) in rule.leading.iter().enumerate().skip(1) {
            let mut payloads = good_payloads(rule);
            assert_eq!(payloads[place].kind(), kind);
            payloads.insert(place, sample(PayloadType::VENDOR_ID));
            let misplaced = Err(PeerMisbehaved::MisplacedPayload(kind, rule.name));
            assert_eq!(checked(rule, payloads), misplaced);
            let mut payloads = good_payloads(rule);
            payloads.swap(place, place + 1);
            assert_eq!(checked(rule, payloads), misplaced);
            refused += 1;
        }
    }
    assert_eq!(refused, 2, "messages 1 and 2 of quick mode");
}

#[test]
fn each_required_payload_may_not_stand_twice() {
    for rule in RULES {
        for &kind in rule.required {
            if rule.allowed.iter().any(|(allowed, _)| *allowed == kind)
                || kind == PayloadType::NOTIFICATION
            {
                continue;
            }
            let mut payloads = good_payloads(rule);
            payloads.push(sample(kind));
            assert_eq!(
                checked(rule, payloads),
                Err(PeerMisbehaved::DuplicatePayload(kind, rule.name))
            );
        }
    }
}

#[test]
fn foreign_payloads_are_refused_and_private_ones_ignored() {
    for rule in RULES {
        let mut payloads = good_payloads(rule);
        payloads.push(sample(PayloadType::SIGNATURE));
        assert_eq!(
            checked(rule, payloads),
            Err(PeerMisbehaved::UnexpectedPayload(
                PayloadType::SIGNATURE,
                rule.name
            ))
        );
        let mut payloads = good_payloads(rule);
        payloads.push(sample(PayloadType(200)));
        payloads.push(sample(PayloadType::VENDOR_ID));
        assert_eq!(checked(rule, payloads), Ok(()));
    }
}

#[test]
fn allowed_payloads_have_a_limit() {
    for rule in RULES {
        for &(kind, times) in rule.allowed {
            let mut payloads = good_payloads(rule);
            let present = payloads.iter().filter(|p| p.kind() == kind).count();
            let sample = || match kind {
                PayloadType::NAT_OA | PayloadType::NAT_OA_DRAFT => None,
                kind => Some(sample(kind)),
            };
            let Some(first) = sample() else { continue };
            payloads.extend((present..times).map(|_| first.clone()));
            assert_eq!(
                checked(rule, payloads.clone()),
                Ok(()),
                "{} {kind}",
                rule.name
            );
            payloads.push(first);
            assert_eq!(
                checked(rule, payloads),
                Err(PeerMisbehaved::DuplicatePayload(kind, rule.name))
            );
        }
    }
}

#[test]
fn protection_and_message_id_are_prescribed() {
    for rule in RULES {
        let payloads = good_payloads(rule);
        let mut header = good_header(rule);
        header.flags.encryption = !header.flags.encryption;
        let got = check(rule, &Message::new(header, payloads.clone()));
        match rule.protection {
            Protection::Clear => {
                assert_eq!(got, Err(PeerMisbehaved::UntimelyProtection(rule.name)))
            }
            Protection::Encrypted => assert_eq!(got, Err(PeerMisbehaved::NotProtected(rule.name))),
            Protection::Either => assert_eq!(got, Ok(())),
        }
        let mut header = good_header(rule);
        header.message_id = match header.message_id {
            MessageId::PHASE1 => MessageId(1),
            _ => MessageId::PHASE1,
        };
        assert_eq!(
            check(rule, &Message::new(header, payloads)),
            Err(PeerMisbehaved::MessageId(rule.name))
        );
    }
}

#[test]
fn a_responder_has_a_cookie() {
    for rule in RULES {
        let mut header = good_header(rule);
        header.cookies = cookies(false);
        let got = check(rule, &Message::new(header, good_payloads(rule)));
        let expected = match rule.sender {
            Role::Initiator => Ok(()),
            Role::Responder => Err(PeerMisbehaved::NoResponderCookie(rule.name)),
        };
        assert_eq!(got, expected);
    }
}
