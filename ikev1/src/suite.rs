//! Names of what phase 2 negotiates, as configuration files and the log write them:
//! `aes256gcm16-modp2048-esn`. Phase 1's suites are in [`crate::crypto`].

use core::fmt;
use core::str::FromStr;

use ipsec_types::EspSuite;
use serde::{Deserialize, Serialize};

pub use crate::crypto::{DhGroup, HashAlgorithm, Phase1Cipher, Phase1Suite, UnknownPhase1Suite};

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
        self.suite.is_weak() || self.pfs.is_some_and(DhGroup::is_weak)
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
            pfs: Some(group_by_name(group)?),
            esn,
        })
    }
}

fn group_by_name(name: &str) -> Result<DhGroup, SuiteError> {
    DhGroup::ALL
        .into_iter()
        .find(|group| group.to_string() == name)
        .ok_or_else(|| SuiteError::UnknownGroup(name.to_owned()))
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
         ecp384, ecp521, curve25519, modp768, modp1024, modp1536, \
         modp2048s256"
    )]
    UnknownGroup(String),
    /// Not an ESP suite, with or without a group.
    #[error(
        "unknown phase-2 proposal \"{0}\"; examples: aes256gcm16, aes256-sha256, \
         aes256gcm16-modp2048"
    )]
    UnknownEspSuite(String),
}

/// Finds the part of a phase-1 name that is to blame.
impl From<UnknownPhase1Suite> for SuiteError {
    fn from(UnknownPhase1Suite(name): UnknownPhase1Suite) -> Self {
        const CIPHERS: [&str; 4] = ["aes128", "aes192", "aes256", "3des"];
        let parts: Vec<&str> = name.split('-').collect();
        let &[cipher, hash, group] = parts.as_slice() else {
            return Self::NotThreeParts(name);
        };
        if !CIPHERS.contains(&cipher) {
            return Self::UnknownCipher(cipher.to_owned());
        }
        if !HashAlgorithm::ALL
            .iter()
            .any(|known| known.to_string() == hash)
        {
            return Self::UnknownHash(hash.to_owned());
        }
        Self::UnknownGroup(group.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blame(name: &str) -> SuiteError {
        name.parse::<Phase1Suite>().unwrap_err().into()
    }

    #[test]
    fn the_unknown_part_is_named() {
        assert!(matches!(
            blame("aes256-sha256"),
            SuiteError::NotThreeParts(_)
        ));
        assert!(matches!(
            blame("aes255-sha256-ecp256"),
            SuiteError::UnknownCipher(_)
        ));
        assert!(matches!(
            blame("aes256-sha3-ecp256"),
            SuiteError::UnknownHash(_)
        ));
        assert!(matches!(
            blame("aes256-sha256-ecp255"),
            SuiteError::UnknownGroup(_)
        ));
    }

    #[test]
    fn names_round_trip() {
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
    fn weakness_of_any_part_counts() {
        let weak = |name: &str| name.parse::<Phase2Proposal>().unwrap().is_weak();
        assert!(weak("3des-sha256"));
        assert!(weak("aes256-md5-ecp256"));
        assert!(weak("aes256gcm16-modp1024"));
        assert!(!weak("aes128-sha1-modp2048-esn"));
    }

    /// The two nodes of a pair may be of different ages: what was written once stays readable.
    #[test]
    fn suites_are_written_as_they_always_were() {
        for (name, bytes) in [
            ("aes192gcm16", &[0, 1][..]),
            ("aes128-sha1", &[1, 0, 0]),
            ("aes256-sha512", &[1, 2, 3]),
            ("3des-md5", &[1, 3, 4]),
        ] {
            let suite: EspSuite = name.parse().unwrap();
            assert_eq!(postcard::to_stdvec(&suite).unwrap(), bytes, "{name}");
            assert_eq!(postcard::from_bytes(bytes), Ok(suite), "{name}");
        }
    }

    #[test]
    fn a_wrong_name_says_what_is_known() {
        let error = "aes256-sha256-modp2047"
            .parse::<Phase2Proposal>()
            .unwrap_err();
        assert!(error.to_string().contains("modp2048"), "{error}");
        assert!("aes256gcm16-".parse::<Phase2Proposal>().is_err());
    }
}
