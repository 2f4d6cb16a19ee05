//! Bodies of the fuzz targets, callable from the replay test as well. Each panics when an
//! identity does not hold; hidden from the documentation, and not for use.

use super::{
    Cookie, CookiePair, ExchangeType, HEADER_LEN, Header, Identity, Incoming, MAX_PADDING, Message,
    MessageId, Payload, PayloadType, Phase1Transform, Phase2Transform, ProtectedMessage,
    describe_phase1, describe_phase2, parse,
};

/// A datagram from anyone: what parses must build to bytes that parse to the same again.
pub fn isakmp_parse(datagram: &[u8]) {
    match parse(datagram) {
        Ok(Incoming::Clear(message)) => {
            assert_eq!(message.encode().len(), datagram.len());
            check(&message);
        }
        Ok(Incoming::Fragment(fragment)) => {
            let encoded = fragment.encode();
            assert_eq!(encoded.len(), datagram.len());
            assert_eq!(parse(&encoded), Ok(Incoming::Fragment(fragment)));
        }
        // Ciphertext is kept as it is; the other target looks inside.
        Ok(Incoming::Protected(protected)) => {
            assert!(datagram.ends_with(protected.ciphertext()));
            assert_eq!(protected.ciphertext().len() + HEADER_LEN, datagram.len());
        }
        Err(refusal) => {
            assert!(!refusal.to_string().is_empty());
            assert!(!refusal.rule.name().is_empty());
        }
    }
}

/// A plaintext as it comes out of a decryption, right key or wrong: first byte the type of
/// the first payload, then the chain with its padding.
pub fn decrypted_payloads(input: &[u8]) {
    let Some((&first, plaintext)) = input.split_first() else {
        return;
    };
    let cookies = CookiePair {
        initiator: Cookie([1; 8]),
        responder: Cookie([2; 8]),
    };
    let header = Header::new(cookies, ExchangeType::Quick, MessageId(1));
    let protected = ProtectedMessage::new(header, PayloadType(first), plaintext.to_vec());
    let Ok(message) = protected.parse_plaintext(plaintext) else {
        return;
    };
    let used = message.chain.bytes().len();
    assert!(plaintext.len() - used <= MAX_PADDING);
    assert!(plaintext.starts_with(message.chain.bytes()));
    check(&message);
}

/// The values alone, without the bytes they came from, make the same message.
fn check(message: &Message) {
    read_every_view(message);
    let payloads = message.chain.payloads();
    let built = Message::new(message.header, payloads.to_vec());
    assert_eq!(built.chain.bytes().len(), message.chain.bytes().len());
    // A fragment travels alone, so a chain that starts with one cannot be sent in the clear.
    if built.chain.first() != PayloadType::FRAGMENT {
        let parsed = parse(&built.encode());
        assert_eq!(parsed.as_ref(), Ok(&Incoming::Clear(built)));
    }
}

/// Typed views must judge whatever a legal message carries without panicking, and bodies
/// must be the ones that the values would encode to, but for reserved bytes.
fn read_every_view(message: &Message) {
    let chain = &message.chain;
    for (index, payload) in chain.payloads().iter().enumerate() {
        assert_eq!(chain.body(index).len(), payload.body().len());
        match payload {
            Payload::Sa(sa) => {
                for proposal in sa.proposals() {
                    _ = proposal.esp_spi();
                    for transform in proposal.transforms() {
                        _ = Phase1Transform::from_transform(transform);
                        _ = Phase2Transform::from_transform(transform);
                        assert!(!describe_phase1(transform).is_empty());
                        assert!(!describe_phase2(transform).is_empty());
                    }
                }
            }
            Payload::Id(id) => {
                _ = id.to_selector();
                assert!(!id.to_string().is_empty());
                if let Identity::Fqdn(name) | Identity::UserFqdn(name) = &id.identity {
                    assert!(name.as_str().is_ascii());
                }
            }
            Payload::Notification(notification) => {
                _ = notification.lifetime();
                _ = notification.dead_peer_detection_sequence();
            }
            Payload::VendorId(vendor) => _ = vendor.known(),
            Payload::KeyExchange(_)
            | Payload::Hash(_)
            | Payload::Nonce(_)
            | Payload::Delete(_)
            | Payload::NatD(_)
            | Payload::NatOa(_)
            | Payload::Fragment(_)
            | Payload::Opaque(_) => {}
        }
    }
    if let Some((hash, rest)) = chain.split_hash() {
        assert_eq!(chain.bytes().len(), 4 + hash.as_slice().len() + rest.len());
    }
}
