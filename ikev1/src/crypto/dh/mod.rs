//! Diffie-Hellman: one value for every group, made from an RNG that is an argument.

mod ecp;
mod modp;
mod primes;
mod x25519;

use core::fmt;

use ipsec_types::SecretBytes;
use rand_core::CryptoRng;

use super::DhGroup;

/// A peer's public value that must not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DhError {
    /// RFC 2409 §5: a public value has the length of the modulus, left-padded with zeros;
    /// RFC 5903 §7: x and y have the length of the field.
    #[error("a public value of {group} has {expected} bytes, not {len}")]
    Length {
        /// The group.
        group: DhGroup,
        /// Its length in bytes.
        expected: usize,
        /// What came.
        len: usize,
    },
    /// 0, 1, p-1 and everything from p on would give away the secret.
    #[error("the public value is not between 2 and p-2")]
    OutOfRange,
    /// Not in the subgroup of the generator: the secret would show a part of the private value
    /// (RFC 5114 §4, RFC 2785).
    #[error("the public value is not in the subgroup")]
    NotInSubgroup,
    /// The coordinates are not those of a point of the curve.
    #[error("the public value is not a point of the curve")]
    NotOnCurve,
    /// A curve25519 value of small order (RFC 7748 §6.1).
    #[error("the shared secret is zero")]
    ZeroSecret,
}

/// A private value with its public value. It answers any number of public values, so that a
/// forged KE payload does not use it up; it is wiped when dropped.
pub struct DiffieHellman {
    group: DhGroup,
    private: Private,
    public: Vec<u8>,
}

enum Private {
    Modp(modp::PrivateValue),
    Ecp256(p256::ecdh::EphemeralSecret),
    Ecp384(p384::ecdh::EphemeralSecret),
    Ecp521(p521::ecdh::EphemeralSecret),
    Curve25519(x25519_dalek::ReusableSecret),
}

impl DiffieHellman {
    /// A fresh key pair.
    #[must_use]
    pub fn generate(group: DhGroup, rng: &mut dyn CryptoRng) -> Self {
        let (private, public) = match group {
            DhGroup::Ecp256 => {
                let (secret, public) = ecp::generate(rng);
                (Private::Ecp256(secret), public)
            }
            DhGroup::Ecp384 => {
                let (secret, public) = ecp::generate(rng);
                (Private::Ecp384(secret), public)
            }
            DhGroup::Ecp521 => {
                let (secret, public) = ecp::generate(rng);
                (Private::Ecp521(secret), public)
            }
            DhGroup::Curve25519 => {
                let (secret, public) = x25519::generate(rng);
                (Private::Curve25519(secret), public)
            }
            DhGroup::Modp768 => modp(&*modp::GROUP_1, rng),
            DhGroup::Modp1024 => modp(&*modp::GROUP_2, rng),
            DhGroup::Modp1536 => modp(&*modp::GROUP_5, rng),
            DhGroup::Modp2048 => modp(&*modp::GROUP_14, rng),
            DhGroup::Modp3072 => modp(&*modp::GROUP_15, rng),
            DhGroup::Modp4096 => modp(&*modp::GROUP_16, rng),
            DhGroup::Modp6144 => modp(&*modp::GROUP_17, rng),
            DhGroup::Modp8192 => modp(&*modp::GROUP_18, rng),
            DhGroup::Modp2048S256 => modp(&*modp::GROUP_24, rng),
        };
        Self {
            group,
            private,
            public,
        }
    }

    /// The group.
    #[must_use]
    pub const fn group(&self) -> DhGroup {
        self.group
    }

    /// What the KE payload carries; [`DhGroup::public_len`] bytes.
    #[must_use]
    pub fn public_value(&self) -> &[u8] {
        &self.public
    }

    /// g^xy with the peer's public value, [`DhGroup::secret_len`] bytes: the number padded
    /// to the length of the modulus, or x of the common point (RFC 5903 §9).
    ///
    /// # Errors
    /// [`DhError`] when the public value is not one of the group.
    pub fn agree(&self, peer: &[u8]) -> Result<SecretBytes, DhError> {
        let expected = self.group.public_len();
        if peer.len() != expected {
            return Err(DhError::Length {
                group: self.group,
                expected,
                len: peer.len(),
            });
        }
        match &self.private {
            Private::Modp(value) => value.agree(peer),
            Private::Ecp256(secret) => ecp::agree(secret, peer),
            Private::Ecp384(secret) => ecp::agree(secret, peer),
            Private::Ecp521(secret) => ecp::agree(secret, peer),
            Private::Curve25519(secret) => x25519::agree(secret, peer),
        }
    }
}

fn modp(group: &'static dyn modp::ModpGroup, rng: &mut dyn CryptoRng) -> (Private, Vec<u8>) {
    let (value, public) = modp::PrivateValue::generate(group, rng);
    (Private::Modp(value), public)
}

impl fmt::Debug for DiffieHellman {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiffieHellman({})", self.group)
    }
}

impl DhGroup {
    /// Length of a public value in bytes.
    #[must_use]
    pub const fn public_len(self) -> usize {
        match self {
            Self::Modp768 => 96,
            Self::Modp1024 => 128,
            Self::Modp1536 => 192,
            Self::Modp2048 | Self::Modp2048S256 => 256,
            Self::Modp3072 => 384,
            Self::Modp4096 => 512,
            Self::Modp6144 => 768,
            Self::Modp8192 => 1024,
            Self::Ecp256 => 64,
            Self::Ecp384 => 96,
            Self::Ecp521 => 132,
            Self::Curve25519 => 32,
        }
    }

    /// Length of the shared secret in bytes.
    #[must_use]
    pub const fn secret_len(self) -> usize {
        match self {
            Self::Ecp256 | Self::Ecp384 | Self::Ecp521 => self.public_len() / 2,
            Self::Modp768
            | Self::Modp1024
            | Self::Modp1536
            | Self::Modp2048
            | Self::Modp3072
            | Self::Modp4096
            | Self::Modp6144
            | Self::Modp8192
            | Self::Modp2048S256
            | Self::Curve25519 => self.public_len(),
        }
    }
}

#[cfg(test)]
mod tests;
