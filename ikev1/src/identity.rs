//! Who a gateway claims to be in phase 1 (RFC 2407 §4.6.2).

use core::fmt;
use core::str::FromStr;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A phase-1 identity as configured; `Any` is only ever the remote side.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Identity {
    /// `ID_IPV4_ADDR` or `ID_IPV6_ADDR`.
    Address(IpAddr),
    /// `ID_FQDN`; written `fqdn:gw.example.org`.
    Fqdn(String),
    /// `ID_USER_FQDN`; written `user-fqdn:gw@example.org`.
    UserFqdn(String),
    /// `ID_KEY_ID`, opaque bytes; written `key-id:branch-7`.
    KeyId(Vec<u8>),
    /// Whatever the peer claims: the address and the key alone decide. Written `any`.
    Any,
}

/// The text is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not an identity; write an IP address, fqdn:NAME, user-fqdn:NAME@DOMAIN, \
     key-id:TEXT or any"
)]
pub struct InvalidIdentity(pub String);

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Fqdn(name) => write!(f, "fqdn:{name}"),
            Self::UserFqdn(name) => write!(f, "user-fqdn:{name}"),
            Self::KeyId(bytes) => write!(f, "key-id:{}", bytes.escape_ascii()),
            Self::Any => f.write_str("any"),
        }
    }
}

impl FromStr for Identity {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, InvalidIdentity> {
        let invalid = || InvalidIdentity(text.to_owned());
        if text == "any" {
            return Ok(Self::Any);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let (kind, value) = text.split_once(':').ok_or_else(invalid)?;
        if value.is_empty() || value.len() > Self::MAX_TEXT_LEN {
            return Err(invalid());
        }
        match kind {
            "fqdn" => Ok(Self::Fqdn(value.to_owned())),
            "user-fqdn" if value.contains('@') => Ok(Self::UserFqdn(value.to_owned())),
            "key-id" => Ok(Self::KeyId(value.as_bytes().to_vec())),
            _ => Err(invalid()),
        }
    }
}

impl Identity {
    /// Longest name or key id in bytes: one domain name (RFC 1035 §2.3.4) fits.
    pub const MAX_TEXT_LEN: usize = 255;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip() {
        for text in [
            "203.0.113.1",
            "2001:db8::1",
            "fqdn:gw.example.org",
            "user-fqdn:gw@example.org",
            "key-id:branch-7",
            "any",
        ] {
            assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "fqdn:",
            "gw.example.org",
            "user-fqdn:nobody",
            "203.0.113.256",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }
}
