//! The one secret the two gateways share, and the keys drawn from it.

use hmac::{Hmac, KeyInit, Mac};
use ipsec_types::SecretBytes;
use sha2::Sha256;
use zeroize::Zeroizing;

/// A key of 32 bytes, zeroized on drop.
pub(crate) type Key = Zeroizing<[u8; 32]>;

/// The pair secret from the configuration. Every use draws its own key under its own label, so
/// that an advert key cannot open the sync channel (HKDF, RFC 5869, with SHA-256).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairSecret(SecretBytes);

/// The pair secret is too short to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the pair secret has {0} bytes; at least {min} are needed (for example: openssl rand -hex 32)",
    min = PairSecret::MIN_LEN
)]
pub struct SecretTooShort(pub usize);

impl PairSecret {
    /// An offline guess against a captured advert must be hopeless.
    pub const MIN_LEN: usize = 16;

    /// Takes the bytes of the secret file, surrounding white space already removed.
    ///
    /// # Errors
    /// [`SecretTooShort`] below [`PairSecret::MIN_LEN`] bytes.
    pub fn new(bytes: SecretBytes) -> Result<Self, SecretTooShort> {
        if bytes.len() < Self::MIN_LEN {
            return Err(SecretTooShort(bytes.len()));
        }
        Ok(Self(bytes))
    }

    /// The key for one use: HKDF-Extract with a fixed salt, then one block of HKDF-Expand.
    pub(crate) fn derive(&self, label: &[u8]) -> Key {
        let extracted = hmac_sha256(b"vipsec pair secret", &[self.0.expose()]);
        hmac_sha256(extracted.as_slice(), &[label, &[1]])
    }
}

/// HMAC-SHA-256 (RFC 2104) over the concatenation of `parts`.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Key {
    // HMAC takes keys of every length, so this cannot fail; an empty result would never verify.
    let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(key) else {
        return Zeroizing::new([0; 32]);
    };
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn hmac_meets_rfc_4231_case_2() {
        let mac = hmac_sha256(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(
            hex(mac.as_slice()),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn each_label_has_its_own_key() {
        let secret = PairSecret::new(SecretBytes::new(vec![7; 32])).unwrap();
        assert_ne!(*secret.derive(b"a"), *secret.derive(b"b"));
        assert_eq!(*secret.derive(b"a"), *secret.derive(b"a"));
    }

    #[test]
    fn short_secrets_are_refused_and_never_printed() {
        assert_eq!(
            PairSecret::new(SecretBytes::new(vec![7; 15])).unwrap_err(),
            SecretTooShort(15)
        );
        let secret = PairSecret::new(SecretBytes::new(b"correct horse battery".to_vec())).unwrap();
        assert!(!format!("{secret:?}").contains("horse"));
    }
}
