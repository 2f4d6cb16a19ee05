//! AES-CBC with HMAC, encrypt-then-MAC (RFC 4303 §3.3.2, RFC 3602).

use aes::cipher::{
    Array, BlockCipherEncrypt, BlockModeDecrypt, BlockSizeUser, InnerIvInit, KeyInit, consts::U16,
};
use aes::{Aes128Dec, Aes128Enc, Aes192Dec, Aes192Enc, Aes256Dec, Aes256Enc};
use hmac::{Hmac, Mac};
use ipsec_types::{AesKeyBits, EspIntegrity};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::hmac_key::{HmacKey, Icv};
use super::interleave::{self, BLOCK, CbcJob};
use super::{BadKeyLength, CipherError};

/// Separates the key of the IVs from the traffic keys it is derived from.
const IV_KEY_LABEL: &[u8] = b"vipsec ESP CBC IV key";

/// The expanded keys of one CBC SA.
pub(crate) struct CbcHmac {
    cipher: AesCbcKey,
    mac: HmacKey,
    /// Encrypts unique values into unpredictable IVs; see the module above.
    iv_key: Aes128Enc,
}

/// Both key schedules; an SA uses one of them, and which one costs nothing to leave open.
enum AesCbcKey {
    Aes128(Aes128Enc, Aes128Dec),
    Aes192(Aes192Enc, Aes192Dec),
    Aes256(Aes256Enc, Aes256Dec),
}

impl CbcHmac {
    pub(crate) fn new(
        bits: AesKeyBits,
        encryption: &[u8],
        hash: EspIntegrity,
        integrity: &[u8],
    ) -> Result<Self, BadKeyLength> {
        let cipher = match bits {
            AesKeyBits::Aes128 => AesCbcKey::Aes128(expand(encryption)?, expand(encryption)?),
            AesKeyBits::Aes192 => AesCbcKey::Aes192(expand(encryption)?, expand(encryption)?),
            AesKeyBits::Aes256 => AesCbcKey::Aes256(expand(encryption)?, expand(encryption)?),
        };
        Ok(Self {
            cipher,
            mac: HmacKey::new(hash, integrity)?,
            iv_key: derive_iv_key(encryption, integrity)?,
        })
    }

    /// Turns consecutive unique values, `first` and up, into IVs.
    #[inline]
    pub(crate) fn ivs(&self, first: u64, out: &mut [[u8; BLOCK]]) {
        for (iv, unique) in out.iter_mut().zip(first..) {
            *iv = (u128::from(unique) << 64).to_be_bytes();
        }
        self.iv_key
            .encrypt_blocks(Array::cast_slice_from_core_mut(out));
    }

    /// Encrypts packets in place, several at a time.
    #[inline]
    pub(crate) fn encrypt(&self, buf: &mut [u8], jobs: impl Iterator<Item = CbcJob>) {
        match &self.cipher {
            AesCbcKey::Aes128(enc, _) => interleave::encrypt(enc, buf, jobs),
            AesCbcKey::Aes192(enc, _) => interleave::encrypt(enc, buf, jobs),
            AesCbcKey::Aes256(enc, _) => interleave::encrypt(enc, buf, jobs),
        }
    }

    /// Decrypts one packet in place; `body` is a whole number of blocks.
    #[inline]
    pub(crate) fn decrypt(&self, iv: [u8; BLOCK], body: &mut [u8]) -> Result<(), CipherError> {
        match &self.cipher {
            AesCbcKey::Aes128(_, dec) => decrypt(dec, iv, body),
            AesCbcKey::Aes192(_, dec) => decrypt(dec, iv, body),
            AesCbcKey::Aes256(_, dec) => decrypt(dec, iv, body),
        }
    }

    /// The ICV over header, IV and ciphertext, then the high half of an ESN.
    #[inline]
    pub(crate) fn icv(&self, authenticated: &[u8], esn_high: &[u8]) -> Icv {
        self.mac.icv(authenticated, esn_high)
    }
}

fn expand<K: KeyInit>(key: &[u8]) -> Result<K, BadKeyLength> {
    K::new_from_slice(key).map_err(|_| BadKeyLength)
}

/// HMAC-SHA-256 of a label and the cipher key under the integrity key, cut to 128 bits. Both
/// ends of a pair derive the same key, which is harmless: their inputs never meet.
fn derive_iv_key(encryption: &[u8], integrity: &[u8]) -> Result<Aes128Enc, BadKeyLength> {
    let mut prf = <Hmac<Sha256> as KeyInit>::new_from_slice(integrity).map_err(|_| BadKeyLength)?;
    prf.update(IV_KEY_LABEL);
    prf.update(encryption);
    let derived = Zeroizing::new(<[u8; 32]>::from(prf.finalize().into_bytes()));
    let key = derived.first_chunk::<16>().ok_or(BadKeyLength)?;
    expand(key)
}

#[inline]
fn decrypt<C>(cipher: &C, iv: [u8; BLOCK], body: &mut [u8]) -> Result<(), CipherError>
where
    C: aes::cipher::BlockCipherDecrypt + BlockSizeUser<BlockSize = U16>,
{
    let (blocks, rest) = Array::<u8, U16>::slice_as_chunks_mut(body);
    if !rest.is_empty() {
        return Err(CipherError);
    }
    cbc::Decryptor::inner_iv_init(cipher, &Array(iv)).decrypt_blocks(blocks);
    Ok(())
}

#[cfg(test)]
mod tests;
