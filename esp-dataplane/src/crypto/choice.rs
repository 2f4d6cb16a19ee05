//! Which library runs AES-GCM: measured once at start-up, shown in `status`.

use core::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

use ipsec_types::AesKeyBits;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::GcmKey;

/// A library that offers AES-GCM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum AeadBackend {
    /// Intel's IPsec library, where it is installed: assembly for each generation of CPUs, the
    /// fastest with AVX-512.
    IpsecMb,
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
    pub const ALL: [Self; 4] = [Self::IpsecMb, Self::Ring, Self::AwsLc, Self::AesGcm];

    /// False for ring's gap, AES-192, and where Intel's library is not installed.
    #[must_use]
    pub fn offers(self, bits: AesKeyBits) -> bool {
        match self {
            Self::IpsecMb => ipsec_mb::library().is_ok(),
            Self::Ring => bits != AesKeyBits::Aes192,
            Self::AwsLc | Self::AesGcm => true,
        }
    }

    /// This library, or AWS-LC for what it does not offer.
    pub(crate) fn or_stand_in(self, bits: AesKeyBits) -> Self {
        if self.offers(bits) { self } else { Self::AwsLc }
    }
}

/// With its version if it is the system's and not ours.
impl fmt::Display for AeadBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IpsecMb => match ipsec_mb::library() {
                Ok(library) => return write!(f, "IPsec-MB {}", library.version()),
                Err(_) => "IPsec-MB",
            },
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
    /// One library for all key lengths that it offers, AWS-LC for the others.
    #[must_use]
    pub fn all(backend: AeadBackend) -> Self {
        Self {
            aes128: backend.or_stand_in(AesKeyBits::Aes128),
            aes192: backend.or_stand_in(AesKeyBits::Aes192),
            aes256: backend.or_stand_in(AesKeyBits::Aes256),
        }
    }

    /// Seals 1400-byte packets with each library for a few milliseconds and takes the fastest
    /// of those that seal and open as the aes-gcm crate does.
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
        .filter(|backend| backend.offers(bits) && proven(bits, *backend))
        .min_by_key(|backend| best_time(bits, *backend))
        .unwrap_or(AeadBackend::AesGcm)
}

/// Whether the library does what the aes-gcm crate does. The one that is loaded from the system
/// was not there when this program was tested.
fn proven(bits: AesKeyBits, backend: AeadBackend) -> bool {
    // Not a secret: it protects nothing and is forgotten at the end of this function.
    let keymat: Vec<u8> = (0_u8..).take(bits.bytes() + 4).collect();
    let [key, judge] = [backend, AeadBackend::AesGcm].map(|one| GcmKey::new(bits, &keymat, one));
    let proven = match (key, judge) {
        (Ok(key), Ok(judge)) => does_as(&key, &judge).is_some(),
        _ => false,
    };
    if !proven {
        let bits = bits.bytes() * 8;
        warn!(%backend, "AES-{bits}-GCM goes wrong with this library: another one is used");
    }
    proven
}

/// Nothing if a packet differs, sealed or opened, or a damaged one is accepted.
fn does_as(key: &GcmKey, judge: &GcmKey) -> Option<()> {
    // On both sides of a block, of the 4 and 16 blocks that libraries take at once, and packets.
    const LENGTHS: [usize; 10] = [0, 1, 15, 16, 63, 65, 255, 257, 1404, 9000];
    // The ESP header, without and with the high half of an extended sequence number.
    const AADS: [&[u8]; 2] = [&[0x5a; 8], &[0xa5; 12]];
    for ((iv, len), aad) in (1_u64..).zip(LENGTHS).zip(AADS.into_iter().cycle()) {
        let iv = iv.to_be_bytes();
        let plain: Vec<u8> = (0..=u8::MAX).cycle().take(len).collect();
        let (mut packet, mut judged) = (plain.clone(), plain.clone());
        let tag = key.seal(iv, aad, &mut packet).ok()?;
        packet.extend(tag);
        let tag = judge.seal(iv, aad, &mut judged).ok()?;
        judged.extend(tag);
        if packet != judged {
            return None;
        }
        key.open(iv, aad, &mut packet).ok()?;
        if packet.get(..len) != Some(&plain) {
            return None;
        }
        *judged.last_mut()? ^= 1;
        if key.open(iv, aad, &mut judged).is_ok() {
            return None;
        }
    }
    Some(())
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

    #[test]
    fn a_library_with_other_results_is_not_proven() {
        let key = |byte| GcmKey::new(AesKeyBits::Aes128, &[byte; 20], AeadBackend::AwsLc).unwrap();
        assert_eq!(does_as(&key(1), &key(1)), Some(()));
        assert_eq!(does_as(&key(1), &key(2)), None);
    }

    #[test]
    fn every_library_is_proven() {
        for bits in [AesKeyBits::Aes128, AesKeyBits::Aes192, AesKeyBits::Aes256] {
            for backend in AeadBackend::ALL {
                assert!(proven(bits, backend), "{backend} {bits:?}");
            }
        }
    }
}
