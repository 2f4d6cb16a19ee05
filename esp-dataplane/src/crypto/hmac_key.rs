//! HMAC with the key's two inner states computed once (RFC 2104 §4), truncated for ESP
//! (RFC 2403, RFC 2404, RFC 4868).

use hmac::{Hmac, KeyInit, Mac};
use ipsec_types::EspIntegrity;
use md5::Md5;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;

use super::BadKey;

/// The longest ICV: HMAC-SHA-512-256.
pub(crate) const MAX_ICV_LEN: usize = 32;

/// A keyed HMAC, ready to be cloned for each packet.
pub(crate) enum HmacKey {
    Md5(Hmac<Md5>),
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
    pub(crate) fn new(hash: EspIntegrity, key: &[u8]) -> Result<Self, BadKey> {
        if key.len() != hash.key_len() {
            return Err(BadKey::Length);
        }
        Ok(match hash {
            EspIntegrity::HmacMd5_96 => Self::Md5(keyed(key)?),
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
            Self::Md5(key) => truncated::<_, 12>(key, message, suffix),
            Self::Sha1(key) => truncated::<_, 12>(key, message, suffix),
            Self::Sha256(key) => truncated::<_, 16>(key, message, suffix),
            Self::Sha384(key) => truncated::<_, 24>(key, message, suffix),
            Self::Sha512(key) => truncated::<_, 32>(key, message, suffix),
        }
    }
}

fn keyed<M: KeyInit>(key: &[u8]) -> Result<M, BadKey> {
    M::new_from_slice(key).map_err(|_| BadKey::Length)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The test cases of RFC 2403 §5 whose keys have the length that ESP uses.
    #[test]
    fn hmac_md5_96_of_rfc_2403() {
        let cases: [(u8, &[u8], u128); 3] = [
            (0x0b, b"Hi There", 0x9294_727a_3638_bb1c_13f4_8ef8),
            (0xaa, &[0xdd; 50], 0x56be_3452_1d14_4c88_dbb8_c733),
            (
                0x0c,
                b"Test With Truncation",
                0x5646_1ef2_342e_dc00_f9ba_b995,
            ),
        ];
        for (key, message, want) in cases {
            let key = HmacKey::new(EspIntegrity::HmacMd5_96, &[key; 16]).unwrap();
            let (first, second) = message.split_at(4);
            let icv = key.icv(first, second);
            assert_eq!(icv.as_bytes(), &want.to_be_bytes()[4..]);
        }
    }
}
