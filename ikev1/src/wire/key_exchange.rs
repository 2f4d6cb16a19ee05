//! Key exchange, nonce and hash payloads: bytes with a rule about their number.

use serde::{Deserialize, Serialize};

use super::Rule;
use crate::crypto::{DiffieHellman, HashOutput};

/// A Diffie-Hellman public value (RFC 2408 §3.7). Whether it belongs to the group is
/// [`crate::crypto::DiffieHellman::agree`]'s question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyExchange(Vec<u8>);

impl KeyExchange {
    /// Length of the longest public value that any group here has: MODP-8192.
    pub const MAX_LEN: usize = 1024;

    /// Takes over a public value.
    ///
    /// # Errors
    /// [`Rule::Empty`] without bytes, [`Rule::TooLong`] past 1,024.
    pub fn new(public_value: Vec<u8>) -> Result<Self, Rule> {
        match public_value.len() {
            0 => Err(Rule::Empty),
            1..=Self::MAX_LEN => Ok(Self(public_value)),
            len => Err(Rule::TooLong(len)),
        }
    }

    /// The public value, which is also the payload's body.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl From<&DiffieHellman> for KeyExchange {
    fn from(dh: &DiffieHellman) -> Self {
        Self(dh.public_value().to_vec())
    }
}

/// A nonce of 8 to 256 bytes (RFC 2409 §5).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Nonce(Vec<u8>);

impl Nonce {
    /// Takes over a nonce.
    ///
    /// # Errors
    /// [`Rule::NonceLength`] outside 8 to 256 bytes.
    pub fn new(nonce: Vec<u8>) -> Result<Self, Rule> {
        match nonce.len() {
            8..=256 => Ok(Self(nonce)),
            len => Err(Rule::NonceLength(len)),
        }
    }

    /// The nonce, which is also the payload's body (Ni_b, Nr_b).
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl From<[u8; 32]> for Nonce {
    fn from(nonce: [u8; 32]) -> Self {
        Self(nonce.to_vec())
    }
}

impl TryFrom<Vec<u8>> for Nonce {
    type Error = Rule;

    fn try_from(nonce: Vec<u8>) -> Result<Self, Rule> {
        Self::new(nonce)
    }
}

impl From<Nonce> for Vec<u8> {
    fn from(nonce: Nonce) -> Self {
        nonce.0
    }
}

/// The output of a prf or hash (RFC 2408 §3.11): at least MD5's 16 bytes, at most
/// SHA2-512's 64.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HashData(Vec<u8>);

impl HashData {
    /// Takes over a hash.
    ///
    /// # Errors
    /// [`Rule::HashLength`] outside 16 to 64 bytes.
    pub fn new(hash: Vec<u8>) -> Result<Self, Rule> {
        match hash.len() {
            16..=64 => Ok(Self(hash)),
            len => Err(Rule::HashLength(len)),
        }
    }

    /// The hash. Compare it with [`HashOutput::matches`], never with `==`.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl From<&HashOutput> for HashData {
    fn from(hash: &HashOutput) -> Self {
        Self(hash.as_slice().to_vec())
    }
}
