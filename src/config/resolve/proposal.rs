//! What is wrong with the name of a proposal, part by part.

use std::fmt::Display;
use std::str::FromStr;

use ikev1::{Phase1Suite, Phase2Proposal};
use ipsec_types::EspSuite;

use crate::config::suggest::nearest;

const CIPHERS: [&str; 4] = ["aes128", "aes192", "aes256", "3des"];
const GROUPS: [&str; 13] = [
    "modp2048",
    "modp3072",
    "modp4096",
    "modp6144",
    "modp8192",
    "ecp256",
    "ecp384",
    "ecp521",
    "curve25519",
    "modp1024",
    "modp1536",
    "modp768",
    "modp2048s256",
];
const HASHES: [&str; 5] = ["sha1", "sha256", "sha384", "sha512", "md5"];

/// A phase-1 or phase-2 proposal as far as a configuration is concerned.
pub(super) trait Proposal: FromStr + Display + PartialEq + Copy {
    /// Names that may stand there.
    const EXAMPLES: &'static str;

    /// True when it needs the user's consent.
    fn is_weak(&self) -> bool;

    /// The part of `name` that is not understood. `name` does not parse.
    fn unknown_part(name: &str) -> String;
}

impl Proposal for Phase1Suite {
    const EXAMPLES: &'static str = "\"aes256-sha256-modp2048\" or \"aes128-sha1-modp2048\"";

    fn is_weak(&self) -> bool {
        Self::is_weak(*self)
    }

    fn unknown_part(name: &str) -> String {
        let parts: Vec<&str> = name.split('-').collect();
        let &[cipher, hash, group] = parts.as_slice() else {
            return "it is not cipher-hash-group".to_owned();
        };
        if cipher.contains("gcm") {
            return "AES-GCM is not defined for phase 1 of IKEv1".to_owned();
        }
        if !CIPHERS.contains(&cipher) {
            return unknown("cipher", cipher, &CIPHERS);
        }
        if !HASHES.contains(&hash) {
            return unknown("hash", hash, &HASHES);
        }
        unknown_group(group)
    }
}

impl Proposal for Phase2Proposal {
    const EXAMPLES: &'static str =
        "\"aes256gcm16\", \"aes256-sha256\" or, with PFS, \"aes256gcm16-modp2048\"";

    fn is_weak(&self) -> bool {
        Self::is_weak(*self)
    }

    fn unknown_part(name: &str) -> String {
        let rest = name.strip_suffix("-esn").unwrap_or(name);
        let suites: Vec<String> = EspSuite::ALL.iter().map(ToString::to_string).collect();
        let behind = suites
            .iter()
            .filter_map(|suite| rest.strip_prefix(suite.as_str())?.strip_prefix('-'))
            .min_by_key(|group| group.len());
        if let Some(group) = behind {
            return unknown_group(group);
        }
        if CIPHERS.contains(&rest) {
            return format!("it has no integrity, as in \"{rest}-sha256\"");
        }
        let suites: Vec<&str> = suites.iter().map(String::as_str).collect();
        unknown("suite", rest, &suites)
    }
}

fn unknown_group(group: &str) -> String {
    unknown("group", group, &GROUPS)
}

fn unknown(what: &str, part: &str, known: &[&str]) -> String {
    match nearest(part, known.iter().copied()) {
        Some(meant) => format!("the {what} \"{part}\" is unknown, did you mean \"{meant}\"?"),
        None => format!("the {what} \"{part}\" is unknown"),
    }
}

/// The weak algorithm in the name of a proposal, and why it is weak; none in others.
pub(in crate::config) fn weakness(name: &str) -> Option<(&'static str, &'static str)> {
    const REACH: &str = "it is within reach of an attacker with means";
    const TABLE: [(&str, &str, &str); 6] = [
        ("3des", "3DES", "its small blocks leak (CVE-2016-2183)"),
        ("md5", "MD5", "it is broken"),
        ("modp768", "DH group 1", REACH),
        ("modp1024", "DH group 2", REACH),
        ("modp1536", "DH group 5", REACH),
        (
            "modp2048s256",
            "DH group 24",
            "nobody knows where its prime comes from (RFC 8247)",
        ),
    ];
    TABLE
        .into_iter()
        .find(|(part, _, _)| name.split('-').any(|found| found == *part))
        .map(|(_, algorithm, why)| (algorithm, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_that_is_suggested_is_understood() {
        for cipher in CIPHERS {
            for hash in HASHES {
                for group in GROUPS {
                    let name = format!("{cipher}-{hash}-{group}");
                    assert!(name.parse::<Phase1Suite>().is_ok(), "{name}");
                }
            }
        }
        for group in GROUPS {
            let name = format!("aes256gcm16-{group}");
            assert!(name.parse::<Phase2Proposal>().is_ok(), "{name}");
        }
    }

    #[test]
    fn every_weak_algorithm_has_a_name() {
        for name in [
            "3des-sha1-modp2048",
            "aes128-md5-modp2048",
            "aes128-sha1-modp1024",
            "aes128-sha1-modp1536",
            "aes128-sha1-modp768",
            "aes128-sha1-modp2048s256",
        ] {
            let suite: Phase1Suite = name.parse().unwrap();
            assert!(Proposal::is_weak(&suite));
            assert!(weakness(name).is_some(), "{name}");
        }
        for suite in EspSuite::ALL {
            let name = suite.to_string();
            let weak = name.parse::<Phase2Proposal>().unwrap().is_weak();
            assert_eq!(weak, weakness(&name).is_some(), "{name}");
        }
    }
}
