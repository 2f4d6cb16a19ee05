//! A cipher in CBC mode with HMAC, encrypt-then-MAC (RFC 4303 §3.3.2): AES (RFC 3602), or 3DES
//! (RFC 2451) where the config consents.

use aes::cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit,
    KeyInit,
};
use aes::{Aes128Dec, Aes128Enc, Aes192Dec, Aes192Enc, Aes256Dec, Aes256Enc};
use des::TdesEde3;
use hmac::{Hmac, Mac};
use ipsec_types::{AesKeyBits, CbcCipher, EspIntegrity};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::hmac_key::{HmacKey, Icv};
use super::interleave::{self, CbcJob};
use super::{BadKey, CipherError};

/// Separates the key of the IVs from the traffic keys it is derived from.
const IV_KEY_LABEL: &[u8] = b"vipsec ESP CBC IV key";

/// Room for the IV of any cipher; AES needs all of it, 3DES the first 8 bytes.
pub(crate) const MAX_IV_LEN: usize = 16;

/// The expanded keys of one CBC SA.
pub(crate) struct CbcHmac {
    cipher: CbcKey,
    mac: HmacKey,
}

/// The key schedules: to encrypt, to decrypt, and to turn unique values into IVs (see the
/// module above). An SA uses a part of them, and which one costs nothing to leave open.
enum CbcKey {
    Aes128(Aes128Enc, Aes128Dec, Aes128Enc),
    Aes192(Aes192Enc, Aes192Dec, Aes128Enc),
    Aes256(Aes256Enc, Aes256Dec, Aes128Enc),
    TripleDes { key: TdesEde3, iv_key: TdesEde3 },
}

impl CbcHmac {
    pub(crate) fn new(
        cipher: CbcCipher,
        encryption: &[u8],
        hash: EspIntegrity,
        integrity: &[u8],
    ) -> Result<Self, BadKey> {
        let mac = HmacKey::new(hash, integrity)?;
        let iv_keymat = derive_iv_keymat(encryption, integrity)?;
        let cipher = match cipher {
            CbcCipher::Aes(AesKeyBits::Aes128) => CbcKey::Aes128(
                expand(encryption)?,
                expand(encryption)?,
                expand_first(&*iv_keymat)?,
            ),
            CbcCipher::Aes(AesKeyBits::Aes192) => CbcKey::Aes192(
                expand(encryption)?,
                expand(encryption)?,
                expand_first(&*iv_keymat)?,
            ),
            CbcCipher::Aes(AesKeyBits::Aes256) => CbcKey::Aes256(
                expand(encryption)?,
                expand(encryption)?,
                expand_first(&*iv_keymat)?,
            ),
            CbcCipher::TripleDes => {
                refuse_single_des(encryption)?;
                CbcKey::TripleDes {
                    key: expand(encryption)?,
                    iv_key: expand_first(&*iv_keymat)?,
                }
            }
        };
        Ok(Self { cipher, mac })
    }

    /// Turns consecutive unique values, `first` and up, into IVs. An IV shorter than its place
    /// stands at the beginning of it.
    #[inline]
    pub(crate) fn ivs(&self, first: u64, out: &mut [[u8; MAX_IV_LEN]]) {
        for (iv, unique) in out.iter_mut().zip(first..) {
            *iv = (u128::from(unique) << 64).to_be_bytes();
        }
        match &self.cipher {
            CbcKey::Aes128(_, _, iv_key)
            | CbcKey::Aes192(_, _, iv_key)
            | CbcKey::Aes256(_, _, iv_key) => {
                iv_key.encrypt_blocks(Array::cast_slice_from_core_mut(out));
            }
            CbcKey::TripleDes { iv_key, .. } => {
                for iv in out.iter_mut().filter_map(|iv| iv.first_chunk_mut::<8>()) {
                    iv_key.encrypt_block(iv.into());
                }
            }
        }
    }

    /// Encrypts packets in place: with AES several at a time, with 3DES, which nothing would
    /// make fast, one after the other.
    #[inline]
    pub(crate) fn encrypt(&self, buf: &mut [u8], jobs: impl Iterator<Item = CbcJob>) {
        match &self.cipher {
            CbcKey::Aes128(enc, ..) => interleave::encrypt(enc, buf, jobs),
            CbcKey::Aes192(enc, ..) => interleave::encrypt(enc, buf, jobs),
            CbcKey::Aes256(enc, ..) => interleave::encrypt(enc, buf, jobs),
            CbcKey::TripleDes { key, .. } => {
                for job in jobs {
                    encrypt_one(key, buf, job);
                }
            }
        }
    }

    /// Decrypts one packet in place; `body` is a whole number of blocks.
    #[inline]
    pub(crate) fn decrypt(&self, iv: &[u8], body: &mut [u8]) -> Result<(), CipherError> {
        match &self.cipher {
            CbcKey::Aes128(_, dec, _) => decrypt(dec, iv, body),
            CbcKey::Aes192(_, dec, _) => decrypt(dec, iv, body),
            CbcKey::Aes256(_, dec, _) => decrypt(dec, iv, body),
            CbcKey::TripleDes { key, .. } => decrypt(key, iv, body),
        }
    }

    /// The ICV over header, IV and ciphertext, then the high half of an ESN.
    #[inline]
    pub(crate) fn icv(&self, authenticated: &[u8], esn_high: &[u8]) -> Icv {
        self.mac.icv(authenticated, esn_high)
    }
}

fn expand<K: KeyInit>(key: &[u8]) -> Result<K, BadKey> {
    K::new_from_slice(key).map_err(|_| BadKey::Length)
}

/// Takes as many bytes as the cipher wants.
fn expand_first<K: KeyInit>(keymat: &[u8]) -> Result<K, BadKey> {
    expand(keymat.get(..K::key_size()).ok_or(BadKey::Length)?)
}

/// RFC 2451 §2.3: equal neighbours undo each other. The lowest bit of each byte is parity, and
/// no part of the key.
fn refuse_single_des(key: &[u8]) -> Result<(), BadKey> {
    let (keys, []) = key.as_chunks::<8>() else {
        return Err(BadKey::Length);
    };
    let significant = |key: &[u8; 8]| u64::from_be_bytes(*key) & 0xfefe_fefe_fefe_fefe;
    let same = |pair: &[[u8; 8]; 2]| significant(&pair[0]) == significant(&pair[1]);
    if keys.array_windows().any(same) {
        return Err(BadKey::SingleDes);
    }
    Ok(())
}

/// HMAC-SHA-256 of a label and the cipher key under the integrity key. Both ends of a pair
/// derive the same key, which is harmless: their inputs never meet.
fn derive_iv_keymat(encryption: &[u8], integrity: &[u8]) -> Result<Zeroizing<[u8; 32]>, BadKey> {
    let mut prf =
        <Hmac<Sha256> as KeyInit>::new_from_slice(integrity).map_err(|_| BadKey::Length)?;
    prf.update(IV_KEY_LABEL);
    prf.update(encryption);
    Ok(Zeroizing::new(prf.finalize().into_bytes().into()))
}

/// Leaves a job alone that does not lie within the buffer, as [`interleave::encrypt`] does.
fn encrypt_one<C: BlockCipherEncrypt>(cipher: &C, buf: &mut [u8], job: CbcJob) {
    let block = C::block_size();
    let Some((iv, body)) = job
        .blocks
        .checked_mul(block)
        .and_then(|len| buf.get_mut(job.iv..)?.get_mut(..len.checked_add(block)?))
        .and_then(|packet| packet.split_at_mut_checked(block))
    else {
        return;
    };
    let (blocks, _) = Array::<u8, C::BlockSize>::slice_as_chunks_mut(body);
    if let Ok(mut chain) = cbc::Encryptor::inner_iv_slice_init(cipher, iv) {
        chain.encrypt_blocks(blocks);
    }
}

#[inline]
fn decrypt<C: BlockCipherDecrypt>(
    cipher: &C,
    iv: &[u8],
    body: &mut [u8],
) -> Result<(), CipherError> {
    let (blocks, rest) = Array::<u8, C::BlockSize>::slice_as_chunks_mut(body);
    if !rest.is_empty() {
        return Err(CipherError);
    }
    cbc::Decryptor::inner_iv_slice_init(cipher, iv)
        .map_err(|_| CipherError)?
        .decrypt_blocks(blocks);
    Ok(())
}

#[cfg(test)]
mod tests;
