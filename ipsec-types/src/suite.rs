//! ESP transforms and the lengths that follow from them.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// AES key length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AesKeyBits {
    /// 16 bytes.
    Aes128,
    /// 24 bytes.
    Aes192,
    /// 32 bytes.
    Aes256,
}

impl AesKeyBits {
    /// Key length in bits, as the Key Length attribute carries it (RFC 2407 §4.5).
    #[must_use]
    pub const fn bits(self) -> u16 {
        match self {
            Self::Aes128 => 128,
            Self::Aes192 => 192,
            Self::Aes256 => 256,
        }
    }

    /// Key length in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.bits() as usize / 8
    }

    /// The inverse of [`AesKeyBits::bits`].
    #[must_use]
    pub const fn from_bits(bits: u16) -> Option<Self> {
        match bits {
            128 => Some(Self::Aes128),
            192 => Some(Self::Aes192),
            256 => Some(Self::Aes256),
            _ => None,
        }
    }
}

/// ESP encryption transform in CBC mode, which needs an integrity transform beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "FlatCbcCipher", into = "FlatCbcCipher")]
pub enum CbcCipher {
    /// AES-CBC (RFC 3602, transform 12).
    Aes(AesKeyBits),
    /// 3DES-CBC (RFC 2451, transform 3): weak, only where the config opts in.
    TripleDes,
}

/// How a [`CbcCipher`] is written: AES as its key length alone, as before 3DES was there, so
/// that the two nodes of a pair need not be of the same age.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum FlatCbcCipher {
    Aes128,
    Aes192,
    Aes256,
    TripleDes,
}

impl From<CbcCipher> for FlatCbcCipher {
    fn from(cipher: CbcCipher) -> Self {
        match cipher {
            CbcCipher::Aes(AesKeyBits::Aes128) => Self::Aes128,
            CbcCipher::Aes(AesKeyBits::Aes192) => Self::Aes192,
            CbcCipher::Aes(AesKeyBits::Aes256) => Self::Aes256,
            CbcCipher::TripleDes => Self::TripleDes,
        }
    }
}

impl From<FlatCbcCipher> for CbcCipher {
    fn from(flat: FlatCbcCipher) -> Self {
        match flat {
            FlatCbcCipher::Aes128 => Self::Aes(AesKeyBits::Aes128),
            FlatCbcCipher::Aes192 => Self::Aes(AesKeyBits::Aes192),
            FlatCbcCipher::Aes256 => Self::Aes(AesKeyBits::Aes256),
            FlatCbcCipher::TripleDes => Self::TripleDes,
        }
    }
}

impl CbcCipher {
    /// Key length in bytes; 3DES counts its parity bits (RFC 2451 §2.2).
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes(bits) => bits.bytes(),
            Self::TripleDes => 24,
        }
    }

    /// Block length in bytes, which is also the length of an IV.
    #[must_use]
    pub const fn block_len(self) -> usize {
        match self {
            Self::Aes(_) => 16,
            Self::TripleDes => 8,
        }
    }
}

/// ESP integrity transform beside a cipher that does not authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EspIntegrity {
    /// HMAC-SHA1-96 (RFC 2404).
    HmacSha1_96,
    /// HMAC-SHA-256-128 (RFC 4868).
    HmacSha256_128,
    /// HMAC-SHA-384-192 (RFC 4868).
    HmacSha384_192,
    /// HMAC-SHA-512-256 (RFC 4868).
    HmacSha512_256,
    /// HMAC-MD5-96 (RFC 2403): weak, only where the config opts in.
    HmacMd5_96,
}

impl EspIntegrity {
    /// Key length in bytes: the length of the hash (RFC 2403 §2, RFC 2404 §3, RFC 4868 §2.1.1).
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::HmacSha1_96 => 20,
            Self::HmacSha256_128 => 32,
            Self::HmacSha384_192 => 48,
            Self::HmacSha512_256 => 64,
            Self::HmacMd5_96 => 16,
        }
    }

    /// Length of the truncated ICV in bytes.
    #[must_use]
    pub const fn icv_len(self) -> usize {
        match self {
            Self::HmacSha1_96 | Self::HmacMd5_96 => 12,
            Self::HmacSha256_128 => 16,
            Self::HmacSha384_192 => 24,
            Self::HmacSha512_256 => 32,
        }
    }
}

/// A complete ESP protection suite: an AEAD, or a cipher with its integrity transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EspSuite {
    /// AES-GCM with a 16-byte ICV.
    AesGcm16(AesKeyBits),
    /// Encrypt-then-MAC: a cipher in CBC mode and an HMAC over header, IV and ciphertext.
    CbcHmac(CbcCipher, EspIntegrity),
}

impl EspSuite {
    /// The salt that follows a GCM key in KEYMAT (RFC 4106 §8.1), in bytes.
    pub const GCM_SALT_LEN: usize = 4;

    /// Every suite, strongest first; those that [are weak](Self::is_weak) stand at the end.
    pub const ALL: [Self; 23] = {
        use AesKeyBits::{Aes128, Aes192, Aes256};
        use CbcCipher::{Aes, TripleDes};
        use EspIntegrity::{
            HmacMd5_96, HmacSha1_96, HmacSha256_128, HmacSha384_192, HmacSha512_256,
        };
        [
            Self::AesGcm16(Aes256),
            Self::AesGcm16(Aes192),
            Self::AesGcm16(Aes128),
            Self::CbcHmac(Aes(Aes256), HmacSha512_256),
            Self::CbcHmac(Aes(Aes256), HmacSha384_192),
            Self::CbcHmac(Aes(Aes256), HmacSha256_128),
            Self::CbcHmac(Aes(Aes256), HmacSha1_96),
            Self::CbcHmac(Aes(Aes192), HmacSha512_256),
            Self::CbcHmac(Aes(Aes192), HmacSha384_192),
            Self::CbcHmac(Aes(Aes192), HmacSha256_128),
            Self::CbcHmac(Aes(Aes192), HmacSha1_96),
            Self::CbcHmac(Aes(Aes128), HmacSha512_256),
            Self::CbcHmac(Aes(Aes128), HmacSha384_192),
            Self::CbcHmac(Aes(Aes128), HmacSha256_128),
            Self::CbcHmac(Aes(Aes128), HmacSha1_96),
            Self::CbcHmac(Aes(Aes256), HmacMd5_96),
            Self::CbcHmac(Aes(Aes192), HmacMd5_96),
            Self::CbcHmac(Aes(Aes128), HmacMd5_96),
            Self::CbcHmac(TripleDes, HmacSha512_256),
            Self::CbcHmac(TripleDes, HmacSha384_192),
            Self::CbcHmac(TripleDes, HmacSha256_128),
            Self::CbcHmac(TripleDes, HmacSha1_96),
            Self::CbcHmac(TripleDes, HmacMd5_96),
        ]
    };

    /// True when a part of it is allowed only where the config opts in: 3DES, MD5.
    #[must_use]
    pub const fn is_weak(self) -> bool {
        matches!(
            self,
            Self::CbcHmac(CbcCipher::TripleDes, _) | Self::CbcHmac(_, EspIntegrity::HmacMd5_96)
        )
    }

    /// The integrity transform; `None` for an AEAD.
    #[must_use]
    pub const fn integrity(self) -> Option<EspIntegrity> {
        match self {
            Self::AesGcm16(_) => None,
            Self::CbcHmac(_, integrity) => Some(integrity),
        }
    }

    /// Bytes of KEYMAT that key the cipher, GCM salt included.
    #[must_use]
    pub const fn encryption_key_len(self) -> usize {
        match self {
            Self::AesGcm16(bits) => bits.bytes() + Self::GCM_SALT_LEN,
            Self::CbcHmac(cipher, _) => cipher.key_len(),
        }
    }

    /// Bytes of KEYMAT that key the integrity transform; 0 for an AEAD.
    #[must_use]
    pub const fn integrity_key_len(self) -> usize {
        match self {
            Self::AesGcm16(_) => 0,
            Self::CbcHmac(_, integrity) => integrity.key_len(),
        }
    }

    /// Length of the explicit IV in bytes.
    #[must_use]
    pub const fn iv_len(self) -> usize {
        match self {
            Self::AesGcm16(_) => 8,
            Self::CbcHmac(cipher, _) => cipher.block_len(),
        }
    }

    /// Length of the ICV in bytes.
    #[must_use]
    pub const fn icv_len(self) -> usize {
        match self {
            Self::AesGcm16(_) => 16,
            Self::CbcHmac(_, integrity) => integrity.icv_len(),
        }
    }

    /// Ciphertext is a multiple of this many bytes (RFC 4303 §2.4 asks for at least 4).
    #[must_use]
    pub const fn alignment(self) -> usize {
        match self {
            Self::AesGcm16(_) => 4,
            Self::CbcHmac(cipher, _) => cipher.block_len(),
        }
    }

    /// ESP bytes around a payload of `inner` bytes: header, IV, padding, trailer and ICV.
    #[must_use]
    pub const fn overhead(self, inner: usize) -> usize {
        let padded = (inner + 2).next_multiple_of(self.alignment());
        8 + self.iv_len() + (padded - inner) + self.icv_len()
    }
}

/// `aes256gcm16`, `aes128-sha256`, `3des-md5`: the names configuration files use.
impl fmt::Display for EspSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AesGcm16(bits) => write!(f, "aes{}gcm16", bits.bits()),
            Self::CbcHmac(cipher, integrity) => {
                let hash = match integrity {
                    EspIntegrity::HmacSha1_96 => "sha1",
                    EspIntegrity::HmacSha256_128 => "sha256",
                    EspIntegrity::HmacSha384_192 => "sha384",
                    EspIntegrity::HmacSha512_256 => "sha512",
                    EspIntegrity::HmacMd5_96 => "md5",
                };
                match cipher {
                    CbcCipher::Aes(bits) => write!(f, "aes{}-{hash}", bits.bits()),
                    CbcCipher::TripleDes => write!(f, "3des-{hash}"),
                }
            }
        }
    }
}

/// The name is not one of [`EspSuite::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown ESP suite \"{0}\"; examples: aes256gcm16, aes128gcm16, aes256-sha256")]
pub struct UnknownSuite(pub String);

impl FromStr for EspSuite {
    type Err = UnknownSuite;

    fn from_str(name: &str) -> Result<Self, UnknownSuite> {
        Self::ALL
            .into_iter()
            .find(|suite| suite.to_string() == name)
            .ok_or_else(|| UnknownSuite(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for suite in EspSuite::ALL {
            assert_eq!(suite.to_string().parse(), Ok(suite));
        }
        assert!("aes256".parse::<EspSuite>().is_err());
    }

    #[test]
    fn three_des_and_md5_are_weak_and_stand_last() {
        let weak = |suite: &EspSuite| {
            let name = suite.to_string();
            name.starts_with("3des") || name.ends_with("md5")
        };
        assert!(EspSuite::ALL.iter().all(|s| s.is_weak() == weak(s)));
        assert!(EspSuite::ALL.is_sorted_by_key(|suite| suite.is_weak()));
    }

    #[test]
    fn three_des_has_short_blocks() {
        let suite: EspSuite = "3des-md5".parse().unwrap();
        // 1398 + 2 is a multiple of 8: header 8, IV 8, trailer 2, ICV 12.
        assert_eq!(suite.overhead(1398), 30);
        assert_eq!(suite.overhead(1399), 37);
    }

    #[test]
    fn gcm_overhead_of_a_full_packet() {
        let suite = EspSuite::AesGcm16(AesKeyBits::Aes256);
        // 1402 + 2 is already a multiple of 4: header 8, IV 8, trailer 2, ICV 16.
        assert_eq!(suite.overhead(1402), 34);
        assert_eq!(suite.overhead(1403), 37);
    }
}
