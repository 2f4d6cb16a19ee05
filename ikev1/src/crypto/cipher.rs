//! The CBC ciphers that protect ISAKMP messages (RFC 2409 Appendix B).

use aes::{Aes128, Aes192, Aes256};
use cbc::cipher::{
    BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit,
    KeyInit, array::Array,
};
use des::TdesEde3;
use ipsec_types::{AesKeyBits, SecretBytes};
use serde::{Deserialize, Serialize};

use super::Phase1Cipher;

/// An initialisation vector, which is the last ciphertext block of the message before it. A
/// cipher with blocks of 8 bytes uses the first 8. Not secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Iv([u8; Self::MAX_LEN]);

impl Iv {
    /// Block length of AES.
    const MAX_LEN: usize = 16;

    /// The first bytes of a hash or the last ciphertext block; missing bytes are zero.
    #[must_use]
    pub fn from_prefix(bytes: &[u8]) -> Self {
        let mut iv = [0; Self::MAX_LEN];
        for (target, byte) in iv.iter_mut().zip(bytes) {
            *target = *byte;
        }
        Self(iv)
    }

    /// The bytes that a cipher with blocks of `block_len` bytes uses.
    #[must_use]
    pub fn block(&self, block_len: usize) -> &[u8] {
        self.0.get(..block_len).unwrap_or(&self.0)
    }
}

/// A ciphertext that is not a whole number of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} bytes are not a whole number of cipher blocks")]
pub struct PartialBlock(pub usize);

/// A key of a length that its cipher does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{cipher} has keys of {} bytes, not {len}", .cipher.key_len())]
pub struct WrongKeyLength {
    /// The cipher.
    pub cipher: Phase1Cipher,
    /// Length of the key in bytes.
    pub len: usize,
}

/// A cipher with a key of the right length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawCipherKey", into = "RawCipherKey")]
pub struct CipherKey {
    cipher: Phase1Cipher,
    key: SecretBytes,
}

#[derive(Serialize, Deserialize)]
struct RawCipherKey {
    cipher: Phase1Cipher,
    key: SecretBytes,
}

impl From<CipherKey> for RawCipherKey {
    fn from(key: CipherKey) -> Self {
        Self {
            cipher: key.cipher,
            key: key.key,
        }
    }
}

impl TryFrom<RawCipherKey> for CipherKey {
    type Error = WrongKeyLength;

    fn try_from(raw: RawCipherKey) -> Result<Self, WrongKeyLength> {
        Self::new(raw.cipher, raw.key)
    }
}

/// Runs `$body` with the type alias `$block` bound to the block cipher.
macro_rules! with_cipher {
    ($cipher:expr, $block:ident => $body:expr) => {
        match $cipher {
            Phase1Cipher::TripleDesCbc => {
                type $block = TdesEde3;
                $body
            }
            Phase1Cipher::AesCbc(AesKeyBits::Aes128) => {
                type $block = Aes128;
                $body
            }
            Phase1Cipher::AesCbc(AesKeyBits::Aes192) => {
                type $block = Aes192;
                $body
            }
            Phase1Cipher::AesCbc(AesKeyBits::Aes256) => {
                type $block = Aes256;
                $body
            }
        }
    };
}

impl CipherKey {
    /// Pairs a cipher with its key.
    ///
    /// # Errors
    /// [`WrongKeyLength`] unless the key has exactly [`Phase1Cipher::key_len`] bytes.
    pub fn new(cipher: Phase1Cipher, key: SecretBytes) -> Result<Self, WrongKeyLength> {
        if key.len() == cipher.key_len() {
            Ok(Self { cipher, key })
        } else {
            Err(WrongKeyLength {
                cipher,
                len: key.len(),
            })
        }
    }

    /// The cipher.
    #[must_use]
    pub const fn cipher(&self) -> Phase1Cipher {
        self.cipher
    }

    /// The key, for the key log that Wireshark reads.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.key.expose()
    }

    /// Block length in bytes.
    #[must_use]
    pub const fn block_len(&self) -> usize {
        self.cipher.block_len()
    }

    /// Pads with zeros to whole blocks and encrypts in place. Returns the last ciphertext
    /// block, the IV of the next message; `iv` itself when there was nothing to encrypt.
    #[must_use]
    pub fn encrypt(&self, iv: &Iv, message: &mut Vec<u8>) -> Iv {
        message.resize(message.len().next_multiple_of(self.block_len()), 0);
        with_cipher!(self.cipher, C => encrypt::<C>(self.block_cipher(), iv, message));
        self.last_block(message).unwrap_or(*iv)
    }

    /// Decrypts in place and returns the last ciphertext block, the IV of the next message.
    ///
    /// # Errors
    /// [`PartialBlock`] for anything but one or more whole blocks; `message` is untouched.
    pub fn decrypt(&self, iv: &Iv, message: &mut [u8]) -> Result<Iv, PartialBlock> {
        let partial = PartialBlock(message.len());
        if !message.len().is_multiple_of(self.block_len()) {
            return Err(partial);
        }
        let next_iv = self.last_block(message).ok_or(partial)?;
        with_cipher!(self.cipher, C => decrypt::<C>(self.block_cipher(), iv, message));
        Ok(next_iv)
    }

    #[expect(
        clippy::expect_used,
        reason = "the constructor checked the length of the key"
    )]
    fn block_cipher<C: KeyInit>(&self) -> C {
        C::new_from_slice(self.key.expose()).expect("the constructor checked the key length")
    }

    fn last_block(&self, ciphertext: &[u8]) -> Option<Iv> {
        let start = ciphertext.len().checked_sub(self.block_len())?;
        ciphertext.get(start..).map(Iv::from_prefix)
    }
}

fn encrypt<C: BlockCipherEncrypt>(cipher: C, iv: &Iv, message: &mut [u8]) {
    let (blocks, _) = Array::slice_as_chunks_mut(message);
    let iv = iv_block::<C>(iv);
    cbc::Encryptor::inner_iv_init(cipher, &iv).encrypt_blocks(blocks);
}

fn decrypt<C: BlockCipherDecrypt>(cipher: C, iv: &Iv, message: &mut [u8]) {
    let (blocks, _) = Array::slice_as_chunks_mut(message);
    let iv = iv_block::<C>(iv);
    cbc::Decryptor::inner_iv_init(cipher, &iv).decrypt_blocks(blocks);
}

fn iv_block<C: cbc::cipher::BlockSizeUser>(iv: &Iv) -> cbc::cipher::Block<C> {
    Array::from_fn(|index| iv.0.get(index).copied().unwrap_or_default())
}
