//! The ciphers of an SA: keys expanded once, used on slices in place.
//!
//! ```text
//!   SaCipher --+-- Gcm:  Intel's IPsec library, ring (AES-128/256), AWS-LC or the aes-gcm crate:
//!              |         whichever is fastest here
//!              +-- Cbc:  aes blocks chained over up to 8 packets at a time, or des blocks over
//!              |         one (3DES), + HMAC
//!              +-- Null: no protection at all; benchmarks only, not reachable by negotiation
//! ```
//!
//! # CBC IVs
//! CBC wants IVs that an observer cannot predict (RFC 3602 §2, RFC 2451 §3), GCM only wants
//! them never to repeat. Both come from the same unique 64-bit value of [`crate::iv`]: for CBC
//! the value is encrypted under a key of its own, derived from the SA's keys with a label, with
//! a cipher whose blocks are as long as the IV: AES-128, or 3DES for 3DES. A block cipher is a
//! permutation, so unique inputs give unique IVs; it is pseudo-random, so without that key the
//! IVs cannot be predicted; and no random generator is asked per packet.

mod cbc_hmac;
mod choice;
mod gcm;
mod hmac_key;
mod interleave;

pub(crate) use cbc_hmac::{CbcHmac, MAX_IV_LEN};
pub use choice::{AeadBackend, AeadBackends};
pub(crate) use gcm::GcmKey;
pub(crate) use interleave::CbcJob;

use ipsec_types::{EspSaParams, EspSuite};

/// The cipher refused; with lengths that were checked before this cannot happen on sealing,
/// and on opening it means that the ICV is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CipherError;

/// The key material does not fit the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Too short or too long.
    #[error("the key material does not have the length that the ESP suite asks for")]
    Length,
    /// Two neighbours of the three DES keys are the same, which leaves single DES and must be
    /// refused (RFC 2451 §2.3). By chance it happens once in 2⁵⁵ keys.
    #[error("the 3DES key is no stronger than a key of DES; negotiate again")]
    SingleDes,
}

/// The expanded keys of one SA.
#[expect(
    clippy::large_enum_variant,
    reason = "the fast cipher stands in line: one pointer less per packet"
)]
pub(crate) enum SaCipher {
    /// AES-GCM with a 16-byte ICV (RFC 4106).
    Gcm(GcmKey),
    /// AES-CBC (RFC 3602) or 3DES-CBC (RFC 2451), then HMAC over header and ciphertext.
    Cbc(Box<CbcHmac>),
    /// Frames packets like GCM and protects nothing.
    Null,
}

impl SaCipher {
    /// Expands the keys of an SA.
    pub(crate) fn new(params: &EspSaParams, backends: AeadBackends) -> Result<Self, BadKey> {
        let (encryption, integrity) = (
            params.encryption_key.expose(),
            params.integrity_key.expose(),
        );
        match params.suite {
            EspSuite::AesGcm16(bits) => {
                if !integrity.is_empty() {
                    return Err(BadKey::Length);
                }
                GcmKey::new(bits, encryption, backends.for_key(bits)).map(Self::Gcm)
            }
            EspSuite::CbcHmac(cipher, hash) => {
                let keys = CbcHmac::new(cipher, encryption, hash, integrity)?;
                Ok(Self::Cbc(Box::new(keys)))
            }
        }
    }
}

impl core::fmt::Debug for SaCipher {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Gcm(_) => "Gcm(redacted)",
            Self::Cbc(_) => "Cbc(redacted)",
            Self::Null => "Null",
        })
    }
}
