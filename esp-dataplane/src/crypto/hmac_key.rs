//! HMAC with the key's two inner states computed once (RFC 2104 §4), truncated for ESP
//! (RFC 2404, RFC 4868).

use hmac::{Hmac, KeyInit, Mac};
use ipsec_types::EspIntegrity;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;

use super::BadKeyLength;

/// The longest ICV: HMAC-SHA-512-256.
pub(crate) const MAX_ICV_LEN: usize = 32;

/// A keyed HMAC, ready to be cloned for each packet.
pub(crate) enum HmacKey {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

/// A truncated HMAC: the first `len` bytes count.
#[derive(Clone, Copy)]
pub(crate) struct Icv {
    bytes: [u8; MAX_ICV_LEN],
    len: usize,
}

impl Icv {
    /// The bytes as they stand on the wire.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Compares in constant time.
    pub(crate) fn matches(&self, wire: &[u8]) -> bool {
        self.as_bytes().ct_eq(wire).into()
    }
}

impl HmacKey {
    pub(crate) fn new(hash: EspIntegrity, key: &[u8]) -> Result<Self, BadKeyLength> {
        if key.len() != hash.key_len() {
            return Err(BadKeyLength);
        }
        Ok(match hash {
            EspIntegrity::HmacSha1_96 => Self::Sha1(keyed(key)?),
            EspIntegrity::HmacSha256_128 => Self::Sha256(keyed(key)?),
            EspIntegrity::HmacSha384_192 => Self::Sha384(keyed(key)?),
            EspIntegrity::HmacSha512_256 => Self::Sha512(keyed(key)?),
        })
    }

    /// The ICV over `message | suffix`; the suffix is the ESN's high half or empty
    /// (RFC 4303 §2.2.1).
    #[inline]
    pub(crate) fn icv(&self, message: &[u8], suffix: &[u8]) -> Icv {
        match self {
            Self::Sha1(key) => truncated::<_, 12>(key, message, suffix),
            Self::Sha256(key) => truncated::<_, 16>(key, message, suffix),
            Self::Sha384(key) => truncated::<_, 24>(key, message, suffix),
            Self::Sha512(key) => truncated::<_, 32>(key, message, suffix),
        }
    }
}

fn keyed<M: KeyInit>(key: &[u8]) -> Result<M, BadKeyLength> {
    M::new_from_slice(key).map_err(|_| BadKeyLength)
}

#[inline]
fn truncated<M: Mac + Clone, const LEN: usize>(key: &M, message: &[u8], suffix: &[u8]) -> Icv {
    let mut mac = key.clone();
    mac.update(message);
    mac.update(suffix);
    let full = mac.finalize().into_bytes();
    let mut bytes = [0; MAX_ICV_LEN];
    for (to, from) in bytes.iter_mut().zip(full.iter().take(LEN)) {
        *to = *from;
    }
    Icv { bytes, len: LEN }
}
