//! AES-GCM for ESP (RFC 4106): nonce = salt (4) | explicit IV (8), ICV = full 16-byte tag.

use aes_gcm::aead::array::Array;
use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::aes::Aes192;
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm};
use aws_lc_rs::aead as aws_lc;
use ipsec_types::{AesKeyBits, EspSuite};
use ring::aead as ring_aead;

use super::{AeadBackend, BadKey, CipherError};

/// Tag length in bytes.
pub(crate) const TAG_LEN: usize = 16;

type Aes192Gcm = AesGcm<Aes192, U12>;
type SoftNonce = Array<u8, U12>;
type SoftTag = Array<u8, U16>;

/// An expanded AES-GCM key with its salt.
pub(crate) struct GcmKey {
    salt: u32,
    key: Backend,
}

/// One library's expanded key.
#[expect(
    clippy::large_enum_variant,
    reason = "the library that is fast stands in line: one pointer less per packet"
)]
enum Backend {
    IpsecMb(ipsec_mb::GcmKey),
    Ring(ring_aead::LessSafeKey),
    AwsLc(aws_lc::LessSafeKey),
    Soft128(Box<Aes128Gcm>),
    Soft192(Box<Aes192Gcm>),
    Soft256(Box<Aes256Gcm>),
}

impl GcmKey {
    /// `keymat` is the AES key followed by the salt (RFC 4106 §8.1). AWS-LC stands in where
    /// `backend` does not offer the key length.
    pub(crate) fn new(
        bits: AesKeyBits,
        keymat: &[u8],
        backend: AeadBackend,
    ) -> Result<Self, BadKey> {
        let (key, salt) = keymat.split_last_chunk().ok_or(BadKey::Length)?;
        let key = match backend.or_stand_in(bits) {
            AeadBackend::IpsecMb => ipsec_mb_key(bits, key)?,
            AeadBackend::Ring => ring_key(bits, key)?,
            AeadBackend::AwsLc => aws_lc_key(bits, key)?,
            AeadBackend::AesGcm => match bits {
                AesKeyBits::Aes128 => Backend::Soft128(soft_key(key)?),
                AesKeyBits::Aes192 => Backend::Soft192(soft_key(key)?),
                AesKeyBits::Aes256 => Backend::Soft256(soft_key(key)?),
            },
        };
        let salt: [u8; EspSuite::GCM_SALT_LEN] = *salt;
        Ok(Self {
            salt: u32::from_be_bytes(salt),
            key,
        })
    }

    /// Encrypts `body` in place and returns the ICV.
    #[inline]
    pub(crate) fn seal(
        &self,
        iv: [u8; 8],
        aad: &[u8],
        body: &mut [u8],
    ) -> Result<[u8; TAG_LEN], CipherError> {
        let nonce = self.nonce(iv);
        match &self.key {
            Backend::IpsecMb(key) => key.seal(nonce, aad, body).map_err(|_| CipherError),
            Backend::Ring(key) => {
                let nonce = ring_aead::Nonce::assume_unique_for_key(nonce);
                let tag = key
                    .seal_in_place_separate_tag(nonce, ring_aead::Aad::from(aad), body)
                    .map_err(|_| CipherError)?;
                tag.as_ref().try_into().map_err(|_| CipherError)
            }
            Backend::AwsLc(key) => {
                let nonce = aws_lc::Nonce::assume_unique_for_key(nonce);
                let tag = key
                    .seal_in_place_separate_tag(nonce, aws_lc::Aad::from(aad), body)
                    .map_err(|_| CipherError)?;
                tag.as_ref().try_into().map_err(|_| CipherError)
            }
            Backend::Soft128(key) => soft_seal(key.as_ref(), nonce, aad, body),
            Backend::Soft192(key) => soft_seal(key.as_ref(), nonce, aad, body),
            Backend::Soft256(key) => soft_seal(key.as_ref(), nonce, aad, body),
        }
    }

    /// Checks the ICV, the last 16 bytes of `body_and_icv`, and decrypts what stands before it
    /// in place. After a failure the bytes are of no use.
    #[inline]
    pub(crate) fn open(
        &self,
        iv: [u8; 8],
        aad: &[u8],
        body_and_icv: &mut [u8],
    ) -> Result<(), CipherError> {
        let nonce = self.nonce(iv);
        match &self.key {
            Backend::IpsecMb(key) => {
                let (body, icv) = body_and_icv
                    .split_last_chunk_mut::<TAG_LEN>()
                    .ok_or(CipherError)?;
                key.open(nonce, aad, body, icv).map_err(|_| CipherError)
            }
            Backend::Ring(key) => {
                let nonce = ring_aead::Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, ring_aead::Aad::from(aad), body_and_icv)
                    .map(|_| ())
                    .map_err(|_| CipherError)
            }
            Backend::AwsLc(key) => {
                let nonce = aws_lc::Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, aws_lc::Aad::from(aad), body_and_icv)
                    .map(|_| ())
                    .map_err(|_| CipherError)
            }
            Backend::Soft128(key) => soft_open(key.as_ref(), nonce, aad, body_and_icv),
            Backend::Soft192(key) => soft_open(key.as_ref(), nonce, aad, body_and_icv),
            Backend::Soft256(key) => soft_open(key.as_ref(), nonce, aad, body_and_icv),
        }
    }

    /// `salt | iv`, put together in registers: bytes stored one by one could not be loaded
    /// again as words without waiting for the store.
    #[inline]
    const fn nonce(&self, iv: [u8; 8]) -> [u8; 12] {
        let nonce = (self.salt as u128) << 96 | (u64::from_be_bytes(iv) as u128) << 32;
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = nonce.to_be_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }
}

fn ipsec_mb_key(bits: AesKeyBits, key: &[u8]) -> Result<Backend, BadKey> {
    let library = ipsec_mb::library()
        .ok()
        .filter(|_| key.len() == bits.bytes());
    library
        .and_then(|library| ipsec_mb::GcmKey::new(library, key))
        .map(Backend::IpsecMb)
        .ok_or(BadKey::Length)
}

fn ring_key(bits: AesKeyBits, key: &[u8]) -> Result<Backend, BadKey> {
    let algorithm = match bits {
        AesKeyBits::Aes128 => &ring_aead::AES_128_GCM,
        // ring has no 192 bits; a key of that length does not fit this either.
        AesKeyBits::Aes192 | AesKeyBits::Aes256 => &ring_aead::AES_256_GCM,
    };
    ring_aead::UnboundKey::new(algorithm, key)
        .map(|key| Backend::Ring(ring_aead::LessSafeKey::new(key)))
        .map_err(|_| BadKey::Length)
}

fn aws_lc_key(bits: AesKeyBits, key: &[u8]) -> Result<Backend, BadKey> {
    let algorithm = match bits {
        AesKeyBits::Aes128 => &aws_lc::AES_128_GCM,
        AesKeyBits::Aes192 => &aws_lc::AES_192_GCM,
        AesKeyBits::Aes256 => &aws_lc::AES_256_GCM,
    };
    aws_lc::UnboundKey::new(algorithm, key)
        .map(|key| Backend::AwsLc(aws_lc::LessSafeKey::new(key)))
        .map_err(|_| BadKey::Length)
}

fn soft_key<C: KeyInit>(key: &[u8]) -> Result<Box<C>, BadKey> {
    C::new_from_slice(key)
        .map(Box::new)
        .map_err(|_| BadKey::Length)
}

fn soft_seal<C>(
    key: &C,
    nonce: [u8; 12],
    aad: &[u8],
    body: &mut [u8],
) -> Result<[u8; TAG_LEN], CipherError>
where
    C: AeadInOut<NonceSize = U12, TagSize = U16>,
{
    key.encrypt_inout_detached(&SoftNonce::from(nonce), aad, body.into())
        .map(Into::into)
        .map_err(|_| CipherError)
}

fn soft_open<C>(
    key: &C,
    nonce: [u8; 12],
    aad: &[u8],
    body_and_icv: &mut [u8],
) -> Result<(), CipherError>
where
    C: AeadInOut<NonceSize = U12, TagSize = U16>,
{
    let (body, icv) = body_and_icv
        .split_last_chunk_mut::<TAG_LEN>()
        .ok_or(CipherError)?;
    key.decrypt_inout_detached(
        &SoftNonce::from(nonce),
        aad,
        body.into(),
        &SoftTag::from(*icv),
    )
    .map_err(|_| CipherError)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BITS: [AesKeyBits; 3] = [AesKeyBits::Aes128, AesKeyBits::Aes192, AesKeyBits::Aes256];

    #[test]
    fn all_back_ends_speak_the_same_cipher() {
        for bits in BITS {
            let keymat: Vec<u8> = (0..bits.bytes() as u8 + 4).collect();
            let soft = GcmKey::new(bits, &keymat, AeadBackend::AesGcm).unwrap();
            let offered = AeadBackend::ALL.into_iter().filter(|one| one.offers(bits));
            for backend in offered {
                let fast = GcmKey::new(bits, &keymat, backend).unwrap();
                for len in [0_usize, 1, 15, 16, 17, 64, 255, 1400, 9000] {
                    let plain: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
                    let (mut one, mut two) = (plain.clone(), plain.clone());
                    let tag = fast.seal([9; 8], b"header", &mut one).unwrap();
                    assert_eq!(tag, soft.seal([9; 8], b"header", &mut two).unwrap());
                    assert_eq!(one, two);
                    one.extend_from_slice(&tag);
                    two.extend_from_slice(&tag);
                    let mut damaged = one.clone();
                    damaged[len] ^= 1;
                    fast.open([9; 8], b"header", &mut damaged).unwrap_err();
                    fast.open([9; 8], b"header", &mut two).unwrap();
                    soft.open([9; 8], b"header", &mut one).unwrap();
                    assert_eq!((&one[..len], &two[..len]), (&plain[..], &plain[..]));
                }
            }
        }
    }

    #[test]
    fn a_wrong_key_length_is_refused() {
        for bits in BITS {
            for backend in AeadBackend::ALL {
                for len in [0, 3, bits.bytes(), bits.bytes() + 5] {
                    assert!(GcmKey::new(bits, &vec![0; len], backend).is_err());
                }
            }
        }
    }
}
