//! Group 31: X25519 (RFC 7748). The KE payload is the u-coordinate in its 32 bytes.

use ipsec_types::SecretBytes;
use rand_core::CryptoRng;
use x25519_dalek::{PublicKey, ReusableSecret};

use super::DhError;

pub(super) fn generate(rng: &mut dyn CryptoRng) -> (ReusableSecret, Vec<u8>) {
    let secret = ReusableSecret::random_from_rng(rng);
    let public = PublicKey::from(&secret).as_bytes().to_vec();
    (secret, public)
}

pub(super) fn agree(secret: &ReusableSecret, peer: &[u8]) -> Result<SecretBytes, DhError> {
    let Ok(peer) = <[u8; 32]>::try_from(peer) else {
        return Err(DhError::NotOnCurve);
    };
    let shared = secret.diffie_hellman(&PublicKey::from(peer));
    if shared.was_contributory() {
        Ok(SecretBytes::from(&shared.as_bytes()[..]))
    } else {
        Err(DhError::ZeroSecret)
    }
}
