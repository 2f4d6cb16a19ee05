//! What was built can be parsed, and what was parsed builds the same bytes again.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod wire_support;

use ikev1::crypto::{CipherKey, Iv, Phase1Cipher};
use ikev1::wire::{Chain, Incoming, MAX_PADDING, Message, ParseError, Place, Rule, parse};
use ipsec_types::{AesKeyBits, SecretBytes};
use proptest::prelude::*;
use wire_support::{header, message, payload, payloads};

fn key(cipher: Phase1Cipher) -> CipherKey {
    CipherKey::new(cipher, SecretBytes::new(vec![0x42; cipher.key_len()])).unwrap()
}

fn ciphers() -> impl Strategy<Value = Phase1Cipher> {
    prop_oneof![
        Just(Phase1Cipher::TripleDesCbc),
        Just(Phase1Cipher::AesCbc(AesKeyBits::Aes128)),
        Just(Phase1Cipher::AesCbc(AesKeyBits::Aes192)),
        Just(Phase1Cipher::AesCbc(AesKeyBits::Aes256)),
    ]
}

fn parse_clear(datagram: &[u8]) -> Message {
    match parse(datagram).expect("what was encoded is legal") {
        Incoming::Clear(message) => message,
        other => unreachable!("sent in the clear: {other:?}"),
    }
}

proptest! {
    #[test]
    fn what_was_encoded_is_what_is_parsed(message in message()) {
        let datagram = message.encode();
        let parsed = parse_clear(&datagram);
        prop_assert_eq!(&parsed, &message);
        prop_assert_eq!(parsed.encode(), datagram);
    }

    #[test]
    fn what_was_sealed_is_what_is_opened(
        message in message(),
        cipher in ciphers(),
        iv in any::<[u8; 16]>(),
    ) {
        let (key, iv) = (key(cipher), Iv::from_prefix(&iv));
        let (datagram, sent_iv) = message.seal(&key, &iv);
        let Incoming::Protected(protected) = parse(&datagram).unwrap() else {
            unreachable!("the E bit is set");
        };
        prop_assert!(protected.header.flags.encryption);
        prop_assert!(protected.ciphertext().len().is_multiple_of(cipher.block_len()));
        prop_assert!(datagram.ends_with(sent_iv.block(cipher.block_len())));
        let (opened, received_iv) = protected.open(&key, &iv).unwrap();
        prop_assert_eq!(opened.chain, message.chain);
        prop_assert_eq!(received_iv, sent_iv);
    }

    /// The hashes of RFC 2409 are taken over bytes: those of a chain that was received are
    /// those of the chain that was built, payload by payload.
    #[test]
    fn bodies_are_the_bytes_of_the_wire(header in header(), payloads in payloads()) {
        let parsed = parse_clear(&Message::new(header, payloads.clone()).encode()).chain;
        for (index, payload) in payloads.iter().enumerate() {
            prop_assert_eq!(parsed.body(index), payload.body());
            let first = payloads.iter().find(|p| p.kind() == payload.kind());
            let expected = first.map(|p| p.body());
            prop_assert_eq!(parsed.body_of(payload.kind()), expected.as_deref());
        }
        prop_assert_eq!(parsed.body(payloads.len()), b"");
    }

    #[test]
    fn everything_after_the_hash_is_what_was_hashed(
        header in header(),
        payloads in payloads(),
        hash in wire_support::hash_data(),
    ) {
        let rest = Chain::build(payloads);
        let chain = rest.behind_hash(hash.clone());
        let parsed = parse_clear(&Message { header, chain }.encode()).chain;
        prop_assert_eq!(parsed.split_hash(), Some((&hash, rest.bytes())));
    }

    #[test]
    fn padding_of_any_value_is_tolerated_after_decryption_and_not_hashed(
        message in message(),
        padding in prop::collection::vec(any::<u8>(), 0..=MAX_PADDING),
    ) {
        let (datagram, _) = message.seal(
            &key(Phase1Cipher::AesCbc(AesKeyBits::Aes128)),
            &Iv::from_prefix(&[0; 16]),
        );
        let Incoming::Protected(protected) = parse(&datagram).unwrap() else {
            unreachable!("the E bit is set");
        };
        let padded = [message.chain.bytes(), &padding].concat();
        prop_assert_eq!(protected.parse_plaintext(&padded).unwrap().chain, message.chain);
    }

    #[test]
    fn no_bytes_make_it_panic(datagram in prop::collection::vec(any::<u8>(), 0..400)) {
        ikev1::wire::fuzz::isakmp_parse(&datagram);
        ikev1::wire::fuzz::decrypted_payloads(&datagram);
    }

    /// A legal message, damaged in a few places, reaches deeper than noise does.
    #[test]
    fn no_damage_makes_it_panic(
        message in message(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut datagram = message.encode();
        for (at, value) in damage {
            *at.get_mut(&mut datagram) = value;
        }
        ikev1::wire::fuzz::isakmp_parse(&datagram);
    }

    #[test]
    fn a_message_cut_short_anywhere_is_refused(
        message in message(),
        at in any::<prop::sample::Index>(),
    ) {
        let datagram = message.encode();
        let cut = at.index(datagram.len());
        prop_assert!(parse(&datagram[..cut]).is_err());
        // With a header that admits the cut, the payload that it went through is refused.
        if cut >= 28 {
            let mut shorter = datagram[..cut].to_vec();
            shorter[24..28].copy_from_slice(&u32::try_from(cut).unwrap().to_be_bytes());
            prop_assert!(parse(&shorter).is_err());
        }
    }

    #[test]
    fn single_payloads_round_trip(header in header(), payload in payload()) {
        let message = Message::new(header, vec![payload]);
        prop_assert_eq!(parse_clear(&message.encode()), message);
    }
}

#[test]
fn a_wrong_key_shows_as_a_named_refusal() {
    let mut refused = 0;
    for seed in 0..=255 {
        let message = wire_support::informational();
        let right = key(Phase1Cipher::AesCbc(AesKeyBits::Aes256));
        let wrong = CipherKey::new(
            Phase1Cipher::AesCbc(AesKeyBits::Aes256),
            SecretBytes::new(vec![seed; 32]),
        )
        .unwrap();
        let iv = Iv::from_prefix(&[1; 16]);
        let (datagram, _) = message.seal(&right, &iv);
        let Incoming::Protected(protected) = parse(&datagram).unwrap() else {
            unreachable!("the E bit is set");
        };
        if right == wrong {
            assert!(protected.open(&wrong, &iv).is_ok());
        } else if let Err(ParseError { place, .. }) = protected.open(&wrong, &iv) {
            assert_ne!(place, Place::Header);
            refused += 1;
        }
    }
    assert!(
        refused >= 250,
        "only {refused} of 255 wrong keys were noticed"
    );
}

#[test]
fn a_ciphertext_of_partial_blocks_is_refused() {
    let message = wire_support::informational();
    let (mut datagram, _) =
        message.seal(&key(Phase1Cipher::TripleDesCbc), &Iv::from_prefix(&[0; 16]));
    // Whole blocks of 3DES, but not of AES.
    if (datagram.len() - 28).is_multiple_of(16) {
        datagram.extend_from_slice(&[0; 8]);
    }
    let len = u32::try_from(datagram.len()).unwrap();
    datagram[24..28].copy_from_slice(&len.to_be_bytes());
    let Incoming::Protected(protected) = parse(&datagram).unwrap() else {
        unreachable!("the E bit is set");
    };
    let refused = protected
        .open(
            &key(Phase1Cipher::AesCbc(AesKeyBits::Aes128)),
            &Iv::from_prefix(&[0; 16]),
        )
        .unwrap_err();
    assert_eq!(refused.rule, Rule::PartialBlock(datagram.len() - 28));
}
