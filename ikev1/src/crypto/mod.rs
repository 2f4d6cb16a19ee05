//! The cryptography of RFC 2409, on top of well-kept crates: prf and hashes, the key
//! hierarchy of phase 1, KEYMAT, CBC with its chained IVs, and the Diffie-Hellman groups.
//!
//! ```text
//!  PSK, Ni, Nr ---> Skeyid --- g^xy, cookies ---> Phase1Keys { SKEYID_d, SKEYID_a, CipherKey }
//!                     |                             |            |            |
//!                 HASH_I, HASH_R                 KEYMAT   HASH(1..3)    seal and open
//! ```
//!
//! A leaf: it knows bytes, not payloads. Randomness is an argument. Secrets are
//! [`ipsec_types::SecretBytes`] or are wiped when dropped; secret values meet only
//! constant-time code.

mod cipher;
mod dh;
mod hash;
mod keys;
mod suite;

pub use cipher::{CipherKey, Iv, PartialBlock, WrongKeyLength};
pub use dh::{DhError, DiffieHellman};
pub use hash::{HashOutput, hashes_match};
pub use keys::{EspKeys, Phase1Keys, Phase1Transcript, Skeyid, phase1_iv};
pub use suite::{DhGroup, HashAlgorithm, Phase1Cipher, Phase1Suite, UnknownPhase1Suite};

#[cfg(test)]
mod tests;
