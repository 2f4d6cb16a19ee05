//! Which library runs AES-GCM: measured once at start-up, shown in `status`.

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
    /// The aes-gcm crate.
    AesGcm,
}

/// The library for each key length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AeadBackends {
    /// For AES-128-GCM.
    pub aes128: AeadBackend,
    /// For AES-256-GCM.
    pub aes256: AeadBackend,
}

impl AeadBackends {
    /// Seals 1400-byte packets with each library for a few milliseconds and takes the faster.
    #[must_use]
    pub fn measure() -> Self {
        Self {
            aes128: faster(AesKeyBits::Aes128),
            aes256: faster(AesKeyBits::Aes256),
        }
    }

    /// The library for a key length; only one offers 192 bits.
    #[must_use]
    pub const fn for_key(self, bits: AesKeyBits) -> AeadBackend {
        match bits {
            AesKeyBits::Aes128 => self.aes128,
            AesKeyBits::Aes192 => AeadBackend::AesGcm,
            AesKeyBits::Aes256 => self.aes256,
        }
    }
}

fn faster(bits: AesKeyBits) -> AeadBackend {
    let [ring, soft] = [AeadBackend::Ring, AeadBackend::AesGcm].map(|b| best_time(bits, b));
    if soft < ring {
        AeadBackend::AesGcm
    } else {
        AeadBackend::Ring
    }
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
    fn a_library_is_chosen_and_192_bits_have_no_choice() {
        let chosen = AeadBackends::measure();
        for bits in [AesKeyBits::Aes128, AesKeyBits::Aes256] {
            assert!(best_time(bits, chosen.for_key(bits)) < Duration::from_secs(1));
        }
        assert_eq!(chosen.for_key(AesKeyBits::Aes192), AeadBackend::AesGcm);
    }
}
