//! Which library runs AES-GCM: measured once at start-up, shown in `status`.

use core::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

use ipsec_types::AesKeyBits;
use serde::{Deserialize, Serialize};

use super::GcmKey;

/// A library that offers AES-GCM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum AeadBackend {
    /// ring: assembly with VAES and AVX2 where the CPU has them; no AES-192.
    #[default]
    Ring,
    /// AWS-LC: assembly with VAES and AVX-512 where the CPU has them.
    AwsLc,
    /// The aes-gcm crate.
    AesGcm,
}

impl AeadBackend {
    /// All libraries.
    pub const ALL: [Self; 3] = [Self::Ring, Self::AwsLc, Self::AesGcm];

    /// False for the one gap: ring has no AES-192.
    #[must_use]
    pub const fn offers(self, bits: AesKeyBits) -> bool {
        !matches!((self, bits), (Self::Ring, AesKeyBits::Aes192))
    }
}

impl fmt::Display for AeadBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ring => "ring",
            Self::AwsLc => "AWS-LC",
            Self::AesGcm => "aes-gcm",
        })
    }
}

/// The library for each key length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AeadBackends {
    /// For AES-128-GCM.
    pub aes128: AeadBackend,
    /// For AES-192-GCM; ring does not offer it, and AWS-LC stands in.
    pub aes192: AeadBackend,
    /// For AES-256-GCM.
    pub aes256: AeadBackend,
}

impl Default for AeadBackends {
    fn default() -> Self {
        Self::all(AeadBackend::default())
    }
}

impl AeadBackends {
    /// One library for all key lengths that it offers.
    #[must_use]
    pub const fn all(backend: AeadBackend) -> Self {
        Self {
            aes128: backend,
            aes192: if backend.offers(AesKeyBits::Aes192) {
                backend
            } else {
                AeadBackend::AwsLc
            },
            aes256: backend,
        }
    }

    /// Seals 1400-byte packets with each library for a few milliseconds and takes the fastest.
    #[must_use]
    pub fn measure() -> Self {
        Self {
            aes128: fastest(AesKeyBits::Aes128),
            aes192: fastest(AesKeyBits::Aes192),
            aes256: fastest(AesKeyBits::Aes256),
        }
    }

    /// The library for a key length.
    #[must_use]
    pub const fn for_key(self, bits: AesKeyBits) -> AeadBackend {
        match bits {
            AesKeyBits::Aes128 => self.aes128,
            AesKeyBits::Aes192 => self.aes192,
            AesKeyBits::Aes256 => self.aes256,
        }
    }
}

fn fastest(bits: AesKeyBits) -> AeadBackend {
    AeadBackend::ALL
        .into_iter()
        .filter(|backend| backend.offers(bits))
        .min_by_key(|backend| best_time(bits, *backend))
        .unwrap_or_default()
}

/// The best of a few rounds: noise only ever adds time.
fn best_time(bits: AesKeyBits, backend: AeadBackend) -> Duration {
    const ROUNDS: usize = 8;
    const SEALS_PER_ROUND: u64 = 200;
    // Not a secret: it protects nothing and is forgotten at the end of this function.
    let Ok(key) = GcmKey::new(bits, &vec![0; bits.bytes() + 4], backend) else {
        return Duration::MAX;
    };
    let mut packet = [0_u8; 1400];
    let mut round = || {
        let start = Instant::now();
        for iv in 0..SEALS_PER_ROUND {
            let _ = black_box(key.seal(iv.to_be_bytes(), &[0; 8], black_box(&mut packet)));
        }
        start.elapsed()
    };
    (0..ROUNDS).map(|_| round()).min().unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_has_the_key_length_is_chosen() {
        let chosen = AeadBackends::measure();
        for bits in [AesKeyBits::Aes128, AesKeyBits::Aes192, AesKeyBits::Aes256] {
            assert!(chosen.for_key(bits).offers(bits));
            assert!(best_time(bits, chosen.for_key(bits)) < Duration::from_secs(1));
        }
    }

    #[test]
    fn whoever_wants_ring_gets_192_bits_too() {
        let all = AeadBackends::all(AeadBackend::Ring);
        assert_eq!(all.aes128, AeadBackend::Ring);
        assert_eq!(all.aes192, AeadBackend::AwsLc);
    }
}
