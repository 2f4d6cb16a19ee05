use aes::cipher::{BlockModeEncrypt, KeyIvInit};
use proptest::prelude::*;

use super::*;

const CIPHERS: [CbcCipher; 4] = [
    CbcCipher::Aes(AesKeyBits::Aes128),
    CbcCipher::Aes(AesKeyBits::Aes192),
    CbcCipher::Aes(AesKeyBits::Aes256),
    CbcCipher::TripleDes,
];

fn key_of(cipher: CbcCipher) -> Vec<u8> {
    (0..cipher.key_len() as u8).map(|i| i * 3).collect()
}

fn keys(cipher: CbcCipher) -> CbcHmac {
    CbcHmac::new(
        cipher,
        &key_of(cipher),
        EspIntegrity::HmacSha256_128,
        &[7; 32],
    )
    .unwrap()
}

/// The plain implementation: one packet, one block after the other.
fn reference(cipher: CbcCipher, iv: &[u8], body: &mut [u8]) {
    fn plain<C: BlockCipherEncrypt + KeyInit>(key: &[u8], iv: &[u8], body: &mut [u8]) {
        let (blocks, _) = Array::<u8, C::BlockSize>::slice_as_chunks_mut(body);
        cbc::Encryptor::<C>::new_from_slices(key, iv)
            .unwrap()
            .encrypt_blocks(blocks);
    }
    let key = key_of(cipher);
    match cipher {
        CbcCipher::Aes(AesKeyBits::Aes128) => plain::<aes::Aes128>(&key, iv, body),
        CbcCipher::Aes(AesKeyBits::Aes192) => plain::<aes::Aes192>(&key, iv, body),
        CbcCipher::Aes(AesKeyBits::Aes256) => plain::<aes::Aes256>(&key, iv, body),
        CbcCipher::TripleDes => plain::<des::TdesEde3>(&key, iv, body),
    }
}

/// Packets of these many blocks, laid out with gaps, encrypted together.
fn together_equals_plain(cipher: CbcCipher, blocks: &[usize], seed: u8) {
    let keys = keys(cipher);
    let block = cipher.block_len();
    let mut buf = Vec::new();
    let mut jobs = Vec::new();
    for (i, count) in blocks.iter().enumerate() {
        buf.extend_from_slice(&[0xee; 5]);
        jobs.push(CbcJob {
            iv: buf.len(),
            blocks: *count,
        });
        buf.extend((0..(count + 1) * block).map(|j| (i * 31 + j * 7) as u8 ^ seed));
    }
    let mut want = buf.clone();
    for job in &jobs {
        let (iv, body) = want[job.iv..][..(job.blocks + 1) * block].split_at_mut(block);
        reference(cipher, iv, body);
    }
    let plain = buf.clone();
    keys.encrypt(&mut buf, jobs.iter().copied());
    assert_eq!(buf, want, "{cipher:?} {blocks:?}");
    for job in &jobs {
        let (iv, body) = buf[job.iv..][..(job.blocks + 1) * block].split_at_mut(block);
        keys.decrypt(iv, body).unwrap();
    }
    assert_eq!(buf, plain);
}

proptest! {
    #[test]
    fn packets_together_equal_the_cbc_crate(
        blocks in prop::collection::vec(0_usize..100, 0..40),
        cipher in prop::sample::select(CIPHERS.to_vec()),
        seed: u8,
    ) {
        together_equals_plain(cipher, &blocks, seed);
    }
}

#[test]
fn lanes_that_fill_and_drain_unevenly() {
    for cipher in CIPHERS {
        for count in 0..=20 {
            together_equals_plain(cipher, &vec![3; count], 1);
        }
        together_equals_plain(cipher, &[90, 1, 1, 1, 1, 1, 1, 1, 1, 1, 50, 2, 0, 9], 2);
    }
}

#[test]
fn a_job_outside_the_buffer_is_left_alone() {
    let jobs = [
        CbcJob { iv: 24, blocks: 3 },
        CbcJob {
            iv: usize::MAX,
            blocks: 1,
        },
        CbcJob {
            iv: 0,
            blocks: usize::MAX / 16,
        },
        CbcJob {
            iv: 0,
            blocks: usize::MAX,
        },
    ];
    for cipher in CIPHERS {
        let mut buf = vec![1_u8; 48];
        keys(cipher).encrypt(&mut buf, jobs.into_iter());
        assert_eq!(buf, vec![1_u8; 48]);
    }
}

#[test]
fn ivs_are_unique_and_do_not_show_the_counter() {
    for cipher in CIPHERS {
        let len = cipher.block_len();
        let mut ivs = vec![[0_u8; MAX_IV_LEN]; 5000];
        keys(cipher).ivs(1 << 63, &mut ivs);
        let ivs: Vec<&[u8]> = ivs.iter().map(|iv| &iv[..len]).collect();
        let unique: std::collections::HashSet<_> = ivs.iter().collect();
        assert_eq!(unique.len(), ivs.len());
        // Neighbours differ in about half of their bits.
        let flips: u32 = ivs
            .windows(2)
            .flat_map(|pair| pair[0].iter().zip(pair[1]))
            .map(|(one, other)| (one ^ other).count_ones())
            .sum();
        let share = f64::from(flips) / (8 * len * (ivs.len() - 1)) as f64;
        assert!((0.47..0.53).contains(&share), "{cipher:?}: {share}");
    }
}

#[test]
fn ivs_depend_on_both_keys() {
    let mut seen = std::collections::HashSet::new();
    for cipher in CIPHERS {
        let key = key_of(cipher);
        let another: Vec<u8> = key.iter().map(|byte| byte ^ 0x10).collect();
        for (encryption, integrity) in [(&key, [1; 32]), (&another, [1; 32]), (&key, [2; 32])] {
            let hash = EspIntegrity::HmacSha256_128;
            let keys = CbcHmac::new(cipher, encryption, hash, &integrity).unwrap();
            let mut iv = [[0; MAX_IV_LEN]];
            keys.ivs(0, &mut iv);
            assert!(seen.insert(iv));
        }
    }
}

#[test]
fn a_3des_key_that_is_a_des_key_is_refused() {
    let refused = |mut key: Vec<u8>, same: [usize; 2], parity: u8| {
        key.copy_within(same[0] * 8..same[0] * 8 + 8, same[1] * 8);
        key[same[1] * 8] ^= parity;
        let hash = EspIntegrity::HmacMd5_96;
        CbcHmac::new(CbcCipher::TripleDes, &key, hash, &[7; 16]).err()
    };
    let key = key_of(CbcCipher::TripleDes);
    for parity in [0, 1] {
        assert_eq!(
            refused(key.clone(), [0, 1], parity),
            Some(BadKey::SingleDes)
        );
        assert_eq!(
            refused(key.clone(), [1, 2], parity),
            Some(BadKey::SingleDes)
        );
    }
    // With two keys it is still 3DES.
    assert_eq!(refused(key, [0, 2], 0), None);
}
