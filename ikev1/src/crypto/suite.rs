//! The algorithms of phase 1: their numbers on the wire, and the names that configuration
//! files and the log use.

use core::fmt;
use core::str::FromStr;

use ipsec_types::AesKeyBits;
use serde::{Deserialize, Serialize};

/// A Diffie-Hellman group (RFC 2409 §6, RFC 3526, RFC 5903; 31 as strongSwan numbers it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DhGroup {
    /// Group 1: weak, only where the config opts in.
    Modp768,
    /// Group 2: weak, only where the config opts in.
    Modp1024,
    /// Group 5: weak, only where the config opts in.
    Modp1536,
    /// Group 14.
    Modp2048,
    /// Group 15.
    Modp3072,
    /// Group 16.
    Modp4096,
    /// Group 17.
    Modp6144,
    /// Group 18.
    Modp8192,
    /// Group 19: NIST P-256.
    Ecp256,
    /// Group 20: NIST P-384.
    Ecp384,
    /// Group 21: NIST P-521.
    Ecp521,
    /// Group 24, with a subgroup of 256 bits (RFC 5114 §2.3): weak, only where the config opts
    /// in.
    Modp2048S256,
    /// Group 31: X25519.
    Curve25519,
}

impl DhGroup {
    /// Every group, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::Modp768,
        Self::Modp1024,
        Self::Modp1536,
        Self::Modp2048,
        Self::Modp3072,
        Self::Modp4096,
        Self::Modp6144,
        Self::Modp8192,
        Self::Ecp256,
        Self::Ecp384,
        Self::Ecp521,
        Self::Modp2048S256,
        Self::Curve25519,
    ];

    /// The value of the Group Description attribute.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Modp768 => 1,
            Self::Modp1024 => 2,
            Self::Modp1536 => 5,
            Self::Modp2048 => 14,
            Self::Modp3072 => 15,
            Self::Modp4096 => 16,
            Self::Modp6144 => 17,
            Self::Modp8192 => 18,
            Self::Ecp256 => 19,
            Self::Ecp384 => 20,
            Self::Ecp521 => 21,
            Self::Modp2048S256 => 24,
            Self::Curve25519 => 31,
        }
    }

    /// The inverse of [`DhGroup::number`].
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.number() == number)
    }

    /// True when an attacker with means can break it, or nobody knows where its prime comes
    /// from (group 24; RFC 8247 §2.4).
    #[must_use]
    pub const fn is_weak(self) -> bool {
        matches!(
            self,
            Self::Modp768 | Self::Modp1024 | Self::Modp1536 | Self::Modp2048S256
        )
    }
}

impl fmt::Display for DhGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Modp768 => "modp768",
            Self::Modp1024 => "modp1024",
            Self::Modp1536 => "modp1536",
            Self::Modp2048 => "modp2048",
            Self::Modp3072 => "modp3072",
            Self::Modp4096 => "modp4096",
            Self::Modp6144 => "modp6144",
            Self::Modp8192 => "modp8192",
            Self::Ecp256 => "ecp256",
            Self::Ecp384 => "ecp384",
            Self::Ecp521 => "ecp521",
            Self::Modp2048S256 => "modp2048s256",
            Self::Curve25519 => "curve25519",
        })
    }
}

/// The hash of phase 1, whose HMAC is the prf (RFC 2409 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HashAlgorithm {
    /// MD5: weak, only where the config opts in.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA2-256.
    Sha256,
    /// SHA2-384.
    Sha384,
    /// SHA2-512.
    Sha512,
}

impl HashAlgorithm {
    /// Every algorithm, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Md5,
        Self::Sha1,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
    ];

    /// The value of the Hash Algorithm attribute (RFC 2409 Appendix A and IANA).
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Md5 => 1,
            Self::Sha1 => 2,
            Self::Sha256 => 4,
            Self::Sha384 => 5,
            Self::Sha512 => 6,
        }
    }

    /// The inverse of [`HashAlgorithm::number`].
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.number() == number)
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        })
    }
}

/// The cipher of phase 1, always CBC: AES-GCM is not defined there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase1Cipher {
    /// 3DES: weak, only where the config opts in.
    TripleDesCbc,
    /// AES (RFC 3602).
    AesCbc(AesKeyBits),
}

impl Phase1Cipher {
    const ALL: [Self; 4] = [
        Self::TripleDesCbc,
        Self::AesCbc(AesKeyBits::Aes128),
        Self::AesCbc(AesKeyBits::Aes192),
        Self::AesCbc(AesKeyBits::Aes256),
    ];

    /// The value of the Encryption Algorithm attribute (RFC 2409 Appendix A).
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::TripleDesCbc => 5,
            Self::AesCbc(_) => 7,
        }
    }

    /// The value of the Key Length attribute in bits; 3DES has none.
    #[must_use]
    pub const fn key_length_attribute(self) -> Option<u16> {
        match self {
            Self::TripleDesCbc => None,
            Self::AesCbc(bits) => Some(bits.bits()),
        }
    }

    /// Key length in bytes; 3DES counts its parity bits.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::TripleDesCbc => 24,
            Self::AesCbc(bits) => bits.bytes(),
        }
    }

    /// Block length in bytes, which is also the length of an IV.
    #[must_use]
    pub const fn block_len(self) -> usize {
        match self {
            Self::TripleDesCbc => 8,
            Self::AesCbc(_) => 16,
        }
    }
}

impl fmt::Display for Phase1Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TripleDesCbc => f.write_str("3des"),
            Self::AesCbc(bits) => write!(f, "aes{}", bits.bits()),
        }
    }
}

/// Cipher, hash and group of phase 1. Authentication is always by pre-shared key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Phase1Suite {
    /// Encrypts everything from the fifth message on.
    pub cipher: Phase1Cipher,
    /// Its HMAC is the prf.
    pub hash: HashAlgorithm,
    /// Diffie-Hellman group.
    pub group: DhGroup,
}

impl Phase1Suite {
    /// True when a part of it is allowed only where the config opts in: 3DES, MD5,
    /// MODP-768, -1024 and -1536, group 24.
    #[must_use]
    pub fn is_weak(self) -> bool {
        self.cipher == Phase1Cipher::TripleDesCbc
            || self.hash == HashAlgorithm::Md5
            || self.group.is_weak()
    }
}

/// `aes256-sha256-modp2048`.
impl fmt::Display for Phase1Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.cipher, self.hash, self.group)
    }
}

/// Not the name of a phase-1 suite: cipher, hash and group with hyphens between them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown phase 1 suite \"{0}\"; examples: aes256-sha256-modp2048, aes128-sha1-ecp256")]
pub struct UnknownPhase1Suite(pub String);

impl FromStr for Phase1Suite {
    type Err = UnknownPhase1Suite;

    fn from_str(name: &str) -> Result<Self, UnknownPhase1Suite> {
        let unknown = || UnknownPhase1Suite(name.to_owned());
        let parts: Vec<&str> = name.split('-').collect();
        let [cipher, hash, group] = parts[..] else {
            return Err(unknown());
        };
        Ok(Self {
            cipher: by_name(&Phase1Cipher::ALL, cipher).ok_or_else(unknown)?,
            hash: by_name(&HashAlgorithm::ALL, hash).ok_or_else(unknown)?,
            group: by_name(&DhGroup::ALL, group).ok_or_else(unknown)?,
        })
    }
}

fn by_name<T: Copy + fmt::Display>(values: &[T], name: &str) -> Option<T> {
    values
        .iter()
        .copied()
        .find(|value| value.to_string() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_round_trip() {
        for cipher in Phase1Cipher::ALL {
            for hash in HashAlgorithm::ALL {
                assert_eq!(HashAlgorithm::from_number(hash.number()), Some(hash));
                for group in DhGroup::ALL {
                    assert_eq!(DhGroup::from_number(group.number()), Some(group));
                    let suite = Phase1Suite {
                        cipher,
                        hash,
                        group,
                    };
                    assert_eq!(suite.to_string().parse(), Ok(suite));
                }
            }
        }
    }

    #[test]
    fn other_names_are_refused() {
        for name in [
            "",
            "aes256-sha256",
            "aes255-sha1-modp2048",
            "aes256-sha3-modp2048",
            "aes256-sha1-modp2047",
            "aes256-sha1-modp2048-esn",
        ] {
            let refused = name.parse::<Phase1Suite>();
            assert_eq!(refused, Err(UnknownPhase1Suite(name.to_owned())));
        }
    }

    #[test]
    fn weakness_of_any_part_counts() {
        let weak = |name: &str| name.parse::<Phase1Suite>().unwrap().is_weak();
        assert!(weak("aes256-sha256-modp768"));
        assert!(weak("aes256-sha256-modp1024"));
        assert!(weak("aes256-sha256-modp2048s256"));
        assert!(weak("aes256-sha256-modp1536"));
        assert!(weak("3des-sha1-modp2048"));
        assert!(weak("aes128-md5-modp2048"));
        assert!(!weak("aes128-sha1-curve25519"));
    }
}
