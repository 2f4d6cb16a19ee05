use aes::cipher::{BlockModeEncrypt, KeyIvInit};
use proptest::prelude::*;

use super::*;

const BITS: [AesKeyBits; 3] = [AesKeyBits::Aes128, AesKeyBits::Aes192, AesKeyBits::Aes256];

fn keys(bits: AesKeyBits) -> CbcHmac {
    let key: Vec<u8> = (0..bits.bytes() as u8).collect();
    CbcHmac::new(bits, &key, EspIntegrity::HmacSha256_128, &[7; 32]).unwrap()
}

/// The plain implementation: one packet, one block after the other.
fn reference(bits: AesKeyBits, iv: [u8; 16], body: &mut [u8]) {
    let key: Vec<u8> = (0..bits.bytes() as u8).collect();
    let (blocks, _) = Array::<u8, U16>::slice_as_chunks_mut(body);
    match bits {
        AesKeyBits::Aes128 => cbc::Encryptor::<aes::Aes128>::new_from_slices(&key, &iv)
            .unwrap()
            .encrypt_blocks(blocks),
        AesKeyBits::Aes192 => cbc::Encryptor::<aes::Aes192>::new_from_slices(&key, &iv)
            .unwrap()
            .encrypt_blocks(blocks),
        AesKeyBits::Aes256 => cbc::Encryptor::<aes::Aes256>::new_from_slices(&key, &iv)
            .unwrap()
            .encrypt_blocks(blocks),
    }
}

/// Packets of these many blocks, laid out with gaps, encrypted together.
fn interleaved_equals_plain(bits: AesKeyBits, blocks: &[usize], seed: u8) {
    let keys = keys(bits);
    let mut buf = Vec::new();
    let mut jobs = Vec::new();
    for (i, count) in blocks.iter().enumerate() {
        buf.extend_from_slice(&[0xee; 5]);
        jobs.push(CbcJob {
            iv: buf.len(),
            blocks: *count,
        });
        buf.extend((0..(count + 1) * 16).map(|j| (i * 31 + j * 7) as u8 ^ seed));
    }
    let mut want = buf.clone();
    for job in &jobs {
        let body_at = job.iv + 16;
        let iv: [u8; 16] = want[job.iv..body_at].try_into().unwrap();
        reference(bits, iv, &mut want[body_at..body_at + job.blocks * 16]);
    }
    let plain = buf.clone();
    keys.encrypt(&mut buf, jobs.iter().copied());
    assert_eq!(buf, want, "{bits:?} {blocks:?}");
    for job in &jobs {
        let body_at = job.iv + 16;
        let iv: [u8; 16] = buf[job.iv..body_at].try_into().unwrap();
        keys.decrypt(iv, &mut buf[body_at..body_at + job.blocks * 16])
            .unwrap();
    }
    assert_eq!(buf, plain);
}

proptest! {
    #[test]
    fn interleaved_cbc_equals_the_cbc_crate(
        blocks in prop::collection::vec(0_usize..100, 0..40),
        bits in prop::sample::select(BITS.to_vec()),
        seed: u8,
    ) {
        interleaved_equals_plain(bits, &blocks, seed);
    }
}

#[test]
fn lanes_that_fill_and_drain_unevenly() {
    for bits in BITS {
        for count in 0..=20 {
            interleaved_equals_plain(bits, &vec![3; count], 1);
        }
        interleaved_equals_plain(bits, &[90, 1, 1, 1, 1, 1, 1, 1, 1, 1, 50, 2, 0, 9], 2);
    }
}

#[test]
fn a_job_outside_the_buffer_is_left_alone() {
    let mut buf = vec![1_u8; 48];
    let jobs = [
        CbcJob { iv: 16, blocks: 2 },
        CbcJob {
            iv: usize::MAX,
            blocks: 1,
        },
        CbcJob {
            iv: 0,
            blocks: usize::MAX / 16,
        },
    ];
    keys(AesKeyBits::Aes128).encrypt(&mut buf, jobs.into_iter());
    assert_eq!(buf, vec![1_u8; 48]);
}

#[test]
fn ivs_are_unique_and_do_not_show_the_counter() {
    let keys = keys(AesKeyBits::Aes256);
    let mut ivs = vec![[0_u8; 16]; 5000];
    keys.ivs(1 << 63, &mut ivs);
    let unique: std::collections::HashSet<_> = ivs.iter().collect();
    assert_eq!(unique.len(), ivs.len());
    // Neighbours differ in about half of their 128 bits.
    let flips: u32 = ivs
        .windows(2)
        .map(|pair| (u128::from_be_bytes(pair[0]) ^ u128::from_be_bytes(pair[1])).count_ones())
        .sum();
    let mean = f64::from(flips) / (ivs.len() - 1) as f64;
    assert!((60.0..68.0).contains(&mean), "{mean} bits");
}

#[test]
fn ivs_depend_on_both_keys() {
    let mut seen = std::collections::HashSet::new();
    for (encryption, integrity) in [([1; 16], [1; 32]), ([2; 16], [1; 32]), ([1; 16], [2; 32])] {
        let hash = EspIntegrity::HmacSha256_128;
        let keys = CbcHmac::new(AesKeyBits::Aes128, &encryption, hash, &integrity).unwrap();
        let mut iv = [[0; 16]];
        keys.ivs(0, &mut iv);
        assert!(seen.insert(iv));
    }
}
