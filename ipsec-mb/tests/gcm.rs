//! The library against the test vectors of AES-GCM, and what it refuses.
#![expect(clippy::indexing_slicing, reason = "helpers of tests")]

use ipsec_mb::{GcmError, GcmKey, Library, NotUsable, library};

/// Runs `test` with the library, or says why not; in CI that is a failure, but where there is no
/// such library.
fn with_library(name: &str, test: impl FnOnce(&'static Library)) {
    match library() {
        Ok(library) => test(library),
        Err(why) => {
            assert!(
                *why == NotUsable::Architecture || std::env::var("CI").as_deref() != Ok("true"),
                "{name} cannot run: {why}"
            );
            println!("SKIPPED {name}: {why}");
        }
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// Test cases 4, 10 and 16 of McGrew and Viega, "The Galois/Counter Mode of Operation (GCM)":
/// 60 bytes with 20 bytes of additional data, for the three key lengths.
#[test]
fn known_answers() {
    const KEY: &str = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
    const BODY: &str = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
                        1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39";
    const AAD: &str = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
    const ANSWERS: [(usize, &str, &str); 3] = [
        (
            16,
            "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e\
             21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
            "5bc94fbc3221a5db94fae95ae7121a47",
        ),
        (
            24,
            "3980ca0b3c00e841eb06fac4872a2757859e1ceaa6efd984628593b40ca1e19c\
             7d773d00c144c525ac619d18c84a3f4718e2448b2fe324d9ccda2710",
            "2519498e80f1478f37ba55bd6d27618c",
        ),
        (
            32,
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
             8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
            "76fc6ece0f4e1768cddf8853bb2d551b",
        ),
    ];
    with_library("known_answers", |library| {
        for (key_len, sealed, tag) in ANSWERS {
            let key = GcmKey::new(library, &hex(KEY)[..key_len]).unwrap();
            let nonce = *hex("cafebabefacedbaddecaf888").first_chunk().unwrap();
            let mut body = hex(BODY);
            let made = key.seal(nonce, &hex(AAD), &mut body).unwrap();
            assert_eq!((&body, made.to_vec()), (&hex(sealed), hex(tag)));
            key.open(nonce, &hex(AAD), &mut body, &made).unwrap();
            assert_eq!(body, hex(BODY));
        }
    });
}

#[test]
fn every_length_comes_back() {
    with_library("every_length_comes_back", |library| {
        for key_len in [16, 24, 32] {
            let key = GcmKey::new(library, &vec![3; key_len]).unwrap();
            for len in (0..=1100).chain([1400, 8191, 9000, 65_535, 1 << 20]) {
                // A byte more on both sides, which is to stay.
                let plain: Vec<u8> = (0..len + 2).map(|i| (i * 7) as u8).collect();
                let mut packet = plain.clone();
                let nonce = [len as u8; 12];
                let tag = key.seal(nonce, b"header", &mut packet[1..=len]).unwrap();
                assert_eq!((packet[0], packet[len + 1]), (plain[0], plain[len + 1]));
                if len >= 16 {
                    assert_ne!(packet, plain);
                }
                key.open(nonce, b"header", &mut packet[1..=len], &tag)
                    .unwrap();
                assert_eq!(packet, plain);
            }
        }
    });
}

#[test]
fn what_was_changed_is_refused_and_wiped() {
    with_library("what_was_changed_is_refused_and_wiped", |library| {
        for key_len in [16, 24, 32] {
            let key = GcmKey::new(library, &vec![3; key_len]).unwrap();
            let mut sealed = *b"forty bytes of what nobody but us knows.";
            let tag = key.seal([1; 12], b"header", &mut sealed).unwrap();
            let refused = |nonce: [u8; 12], aad: &[u8], mut body: Vec<u8>, tag: [u8; 16]| {
                let error = key.open(nonce, aad, &mut body, &tag).unwrap_err();
                assert_eq!(error, GcmError::WrongTag);
                assert!(body.iter().all(|byte| *byte == 0), "{body:x?}");
            };
            for bit in 0..8 {
                for at in 0..sealed.len() {
                    let mut body = sealed.to_vec();
                    body[at] ^= 1 << bit;
                    refused([1; 12], b"header", body, tag);
                }
                for at in 0..tag.len() {
                    let mut tag = tag;
                    tag[at] ^= 1 << bit;
                    refused([1; 12], b"header", sealed.to_vec(), tag);
                }
            }
            refused([2; 12], b"header", sealed.to_vec(), tag);
            refused([1; 12], b"Header", sealed.to_vec(), tag);
            refused([1; 12], b"header", sealed[..39].to_vec(), tag);
            key.open([1; 12], b"header", &mut sealed, &tag).unwrap();
        }
    });
}

#[test]
fn keys_of_other_lengths_are_none() {
    with_library("keys_of_other_lengths_are_none", |library| {
        for len in [0, 1, 15, 17, 20, 31, 33, 64] {
            assert!(GcmKey::new(library, &vec![0; len]).is_none());
        }
        let key = GcmKey::new(library, &[9; 16]).unwrap();
        assert_eq!(format!("{key:?}"), "GcmKey(redacted)");
    });
}

#[test]
fn threads_do_not_disturb_each_other() {
    with_library("threads_do_not_disturb_each_other", |library| {
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                scope.spawn(move || {
                    let key = GcmKey::new(library, &[thread; 16]).unwrap();
                    let plain = vec![thread; 1400];
                    for turn in 0..2000_u16 {
                        let mut nonce = [0; 12];
                        nonce[..2].copy_from_slice(&turn.to_be_bytes());
                        let mut body = plain.clone();
                        let tag = key.seal(nonce, &[], &mut body).unwrap();
                        key.open(nonce, &[], &mut body, &tag).unwrap();
                        assert_eq!(body, plain);
                    }
                });
            }
        });
    });
}
