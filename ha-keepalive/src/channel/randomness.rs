//! Gives snow the randomness that was handed to us, and no other.

use rand_core::CryptoRng;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use zeroize::Zeroizing;

/// One ephemeral X25519 key is all that `NNpsk0` draws.
const NEEDED: usize = 32;

/// The ciphers of snow's own resolver with randomness drawn beforehand.
pub(super) struct Drawn(Zeroizing<[u8; NEEDED]>);

impl From<&mut dyn CryptoRng> for Drawn {
    fn from(rng: &mut dyn CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; NEEDED]);
        rng.fill_bytes(bytes.as_mut_slice());
        Self(bytes)
    }
}

/// Hands out each drawn byte once.
struct Once {
    bytes: Zeroizing<[u8; NEEDED]>,
    used: usize,
}

impl Random for Once {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        let end = self.used + out.len();
        let Some(fresh) = self.bytes.get(self.used..end) else {
            return Err(snow::Error::Rng);
        };
        out.copy_from_slice(fresh);
        self.used = end;
        Ok(())
    }
}

impl CryptoResolver for Drawn {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once {
            bytes: self.0.clone(),
            used: 0,
        }))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}
