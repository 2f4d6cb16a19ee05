//! Hash functions and the prf built from them (RFC 2409 §4: HMAC of the negotiated hash).

use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use ipsec_types::SecretBytes;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;

use super::HashAlgorithm;

/// Runs `$body` with the type alias `$hash` bound to the algorithm's implementation.
macro_rules! with_hash {
    ($algorithm:expr, $hash:ident => $body:expr) => {
        match $algorithm {
            HashAlgorithm::Md5 => {
                type $hash = Md5;
                $body
            }
            HashAlgorithm::Sha1 => {
                type $hash = Sha1;
                $body
            }
            HashAlgorithm::Sha256 => {
                type $hash = Sha256;
                $body
            }
            HashAlgorithm::Sha384 => {
                type $hash = Sha384;
                $body
            }
            HashAlgorithm::Sha512 => {
                type $hash = Sha512;
                $body
            }
        }
    };
}

impl HashAlgorithm {
    /// Length of the output in bytes.
    #[must_use]
    pub const fn output_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The hash of the parts one after the other.
    #[must_use]
    pub fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        with_hash!(self, H => {
            let mut hash = H::new();
            parts.iter().for_each(|part| Digest::update(&mut hash, part));
            hash.finalize().to_vec()
        })
    }

    /// prf(key, parts one after the other).
    #[must_use]
    pub fn prf(self, key: &[u8], parts: &[&[u8]]) -> SecretBytes {
        SecretBytes::new(with_hash!(self, H => hmac::<Hmac<H>>(key, parts)))
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
fn hmac<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of every length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

/// One of the authenticating hashes of RFC 2409 §5 as we compute it: 16 to 64 bytes.
#[derive(Clone)]
pub struct HashOutput(SecretBytes);

impl HashOutput {
    pub(super) const fn new(bytes: SecretBytes) -> Self {
        Self(bytes)
    }

    /// The bytes, to be sent.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.0.expose()
    }

    /// Compares with what a peer sent, in constant time.
    #[must_use]
    pub fn matches(&self, received: &[u8]) -> bool {
        hashes_match(self.as_slice(), received)
    }
}

impl fmt::Debug for HashOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashOutput({} bytes)", self.0.len())
    }
}

/// Compares two hashes in a time that depends on their lengths only.
#[must_use]
pub fn hashes_match(ours: &[u8], theirs: &[u8]) -> bool {
    ours.ct_eq(theirs).into()
}
