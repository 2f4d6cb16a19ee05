//! Names of the algorithms that the two phases negotiate, as configuration files and the log
//! write them: `aes256-sha256-modp2048`, `aes256gcm16-modp2048-esn`.

use core::fmt;
use core::str::FromStr;

use ipsec_types::{AesKeyBits, EspSuite};
use serde::{Deserialize, Serialize};

/// A Diffie-Hellman group by its IANA number (RFC 2409 §6, RFC 3526, RFC 5903; 31 as
/// strongSwan uses it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DhGroup {
    /// Group 2, 1024 bits: weak, opt-in.
    Modp1024,
    /// Group 5, 1536 bits: weak, opt-in.
    Modp1536,
    /// Group 14, 2048 bits.
    Modp2048,
    /// Group 15, 3072 bits.
    Modp3072,
    /// Group 16, 4096 bits.
    Modp4096,
    /// Group 17, 6144 bits.
    Modp6144,
    /// Group 18, 8192 bits.
    Modp8192,
    /// Group 19, NIST P-256.
    Ecp256,
    /// Group 20, NIST P-384.
    Ecp384,
    /// Group 21, NIST P-521.
    Ecp521,
    /// Group 31, X25519.
    Curve25519,
}

impl DhGroup {
    /// Every group, in the order of their numbers.
    pub const ALL: [Self; 11] = [
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
        Self::Curve25519,
    ];

    /// The value of the Group Description attribute.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
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
            Self::Curve25519 => 31,
        }
    }

    /// The inverse of [`DhGroup::number`].
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.number() == number)
    }

    /// True when the group is within reach of an attacker with means; the config must opt in.
    #[must_use]
    pub const fn is_weak(self) -> bool {
        matches!(self, Self::Modp1024 | Self::Modp1536)
    }

    const fn name(self) -> &'static str {
        match self {
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
            Self::Curve25519 => "curve25519",
        }
    }
}

impl fmt::Display for DhGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DhGroup {
    type Err = SuiteError;

    fn from_str(name: &str) -> Result<Self, SuiteError> {
        Self::ALL
            .into_iter()
            .find(|group| group.name() == name)
            .ok_or_else(|| SuiteError::UnknownGroup(name.to_owned()))
    }
}

/// Phase-1 encryption; always CBC (AES-GCM is not defined for phase 1 of IKEv1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase1Cipher {
    /// 3DES-CBC (5): weak, opt-in.
    TripleDes,
    /// AES-CBC (7, RFC 3602) with its key length attribute.
    Aes(AesKeyBits),
}

impl Phase1Cipher {
    /// The value of the Encryption Algorithm attribute (RFC 2409 Appendix A).
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::TripleDes => 5,
            Self::Aes(_) => 7,
        }
    }

    /// The value of the Key Length attribute, in bits; 3DES has none.
    #[must_use]
    pub const fn key_length_attribute(self) -> Option<u16> {
        match self {
            Self::TripleDes => None,
            Self::Aes(bits) => Some(bits.bits()),
        }
    }
}

impl fmt::Display for Phase1Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TripleDes => f.write_str("3des"),
            Self::Aes(bits) => write!(f, "aes{}", bits.bits()),
        }
    }
}

/// Phase-1 hash, which also makes the prf (HMAC of it, RFC 2409 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase1Hash {
    /// MD5 (1): weak, opt-in.
    Md5,
    /// SHA-1 (2).
    Sha1,
    /// SHA-256 (4).
    Sha256,
    /// SHA-384 (5).
    Sha384,
    /// SHA-512 (6).
    Sha512,
}

impl Phase1Hash {
    /// Every hash, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Md5,
        Self::Sha1,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
    ];

    /// The value of the Hash Algorithm attribute (RFC 2409 Appendix A, IANA registry).
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

    /// The inverse of [`Phase1Hash::number`].
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.number() == number)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }
}

impl fmt::Display for Phase1Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One phase-1 transform: cipher, hash and group, with a pre-shared key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Phase1Suite {
    /// Encryption of messages 5, 6 and everything after them.
    pub cipher: Phase1Cipher,
    /// Hash and prf.
    pub hash: Phase1Hash,
    /// Diffie-Hellman group.
    pub group: DhGroup,
}

impl Phase1Suite {
    /// True when any part of it needs the config's explicit consent.
    #[must_use]
    pub const fn is_weak(self) -> bool {
        matches!(self.cipher, Phase1Cipher::TripleDes)
            || matches!(self.hash, Phase1Hash::Md5)
            || self.group.is_weak()
    }
}

impl fmt::Display for Phase1Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.cipher, self.hash, self.group)
    }
}

/// `aes256-sha256-modp2048`: cipher, hash, group, all three required.
impl FromStr for Phase1Suite {
    type Err = SuiteError;

    fn from_str(name: &str) -> Result<Self, SuiteError> {
        let mut parts = name.split('-');
        let (Some(cipher), Some(hash), Some(group), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(SuiteError::NotThreeParts(name.to_owned()));
        };
        let cipher = match cipher {
            "3des" => Phase1Cipher::TripleDes,
            "aes128" => Phase1Cipher::Aes(AesKeyBits::Aes128),
            "aes192" => Phase1Cipher::Aes(AesKeyBits::Aes192),
            "aes256" => Phase1Cipher::Aes(AesKeyBits::Aes256),
            other => return Err(SuiteError::UnknownCipher(other.to_owned())),
        };
        let hash = Phase1Hash::ALL
            .into_iter()
            .find(|known| known.name() == hash)
            .ok_or_else(|| SuiteError::UnknownHash(hash.to_owned()))?;
        Ok(Self {
            cipher,
            hash,
            group: group.parse()?,
        })
    }
}

/// One phase-2 offer: an ESP suite, and optionally a group (PFS) and ESN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Phase2Proposal {
    /// ESP transforms.
    pub suite: EspSuite,
    /// A fresh Diffie-Hellman exchange in quick mode (perfect forward secrecy).
    pub pfs: Option<DhGroup>,
    /// 64-bit extended sequence numbers (RFC 4304).
    pub esn: bool,
}

impl Phase2Proposal {
    /// True when it needs the config's explicit consent.
    #[must_use]
    pub fn is_weak(self) -> bool {
        self.pfs.is_some_and(DhGroup::is_weak)
    }
}

impl fmt::Display for Phase2Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.suite)?;
        if let Some(group) = self.pfs {
            write!(f, "-{group}")?;
        }
        if self.esn {
            f.write_str("-esn")?;
        }
        Ok(())
    }
}

/// `aes256gcm16`, `aes256-sha256-modp2048`, `aes128gcm16-ecp256-esn`.
impl FromStr for Phase2Proposal {
    type Err = SuiteError;

    fn from_str(name: &str) -> Result<Self, SuiteError> {
        let (rest, esn) = match name.strip_suffix("-esn") {
            Some(rest) => (rest, true),
            None => (name, false),
        };
        if let Ok(suite) = rest.parse::<EspSuite>() {
            return Ok(Self {
                suite,
                pfs: None,
                esn,
            });
        }
        let Some((suite, group)) = rest.rsplit_once('-') else {
            return Err(SuiteError::UnknownEspSuite(rest.to_owned()));
        };
        let suite = suite
            .parse()
            .map_err(|_| SuiteError::UnknownEspSuite(rest.to_owned()))?;
        Ok(Self {
            suite,
            pfs: Some(group.parse()?),
            esn,
        })
    }
}

/// A proposal's name in the configuration cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuiteError {
    /// Phase 1 needs cipher, hash and group.
    #[error(
        "phase-1 proposal \"{0}\" must be cipher-hash-group, for example aes256-sha256-modp2048"
    )]
    NotThreeParts(String),
    /// Not a phase-1 cipher.
    #[error("unknown phase-1 cipher \"{0}\"; known: aes128, aes192, aes256, 3des")]
    UnknownCipher(String),
    /// Not a phase-1 hash.
    #[error("unknown phase-1 hash \"{0}\"; known: sha256, sha384, sha512, sha1, md5")]
    UnknownHash(String),
    /// Not a Diffie-Hellman group.
    #[error(
        "unknown group \"{0}\"; known: modp2048, modp3072, modp4096, modp6144, modp8192, ecp256, \
         ecp384, ecp521, curve25519, modp1024, modp1536"
    )]
    UnknownGroup(String),
    /// Not an ESP suite, with or without a group.
    #[error(
        "unknown phase-2 proposal \"{0}\"; examples: aes256gcm16, aes256-sha256, \
         aes256gcm16-modp2048"
    )]
    UnknownEspSuite(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phase1_names_round_trip() {
        for cipher in ["3des", "aes128", "aes192", "aes256"] {
            for hash in Phase1Hash::ALL {
                for group in DhGroup::ALL {
                    let name = format!("{cipher}-{hash}-{group}");
                    let suite: Phase1Suite = name.parse().unwrap();
                    assert_eq!(suite.to_string(), name);
                }
            }
        }
    }

    #[test]
    fn phase2_names_round_trip() {
        for suite in EspSuite::ALL {
            for pfs in core::iter::once(None).chain(DhGroup::ALL.map(Some)) {
                for esn in [false, true] {
                    let proposal = Phase2Proposal { suite, pfs, esn };
                    assert_eq!(proposal.to_string().parse(), Ok(proposal));
                }
            }
        }
    }

    #[test]
    fn a_wrong_name_says_what_is_known() {
        let error = "aes256-sha256".parse::<Phase1Suite>().unwrap_err();
        assert!(error.to_string().contains("aes256-sha256-modp2048"));
        let error = "aes256-sha256-modp2047"
            .parse::<Phase2Proposal>()
            .unwrap_err();
        assert!(error.to_string().contains("modp2048"), "{error}");
        assert!("aes256gcm16-".parse::<Phase2Proposal>().is_err());
    }

    #[test]
    fn weakness_needs_consent() {
        assert!(
            "aes256-sha256-modp1024"
                .parse::<Phase1Suite>()
                .unwrap()
                .is_weak()
        );
        assert!(
            "3des-sha1-modp2048"
                .parse::<Phase1Suite>()
                .unwrap()
                .is_weak()
        );
        assert!(
            !"aes128-sha1-curve25519"
                .parse::<Phase1Suite>()
                .unwrap()
                .is_weak()
        );
    }
}
