//! The key hierarchy of RFC 2409: SKEYID and its children, IVs, authenticating hashes and
//! KEYMAT.

use ipsec_types::{EspSuite, SecretBytes, Spi};
use serde::{Deserialize, Serialize};

use super::{CipherKey, HashAlgorithm, HashOutput, Iv, Phase1Cipher};

/// PROTO_IPSEC_ESP (RFC 2407 §4.4.1), as KEYMAT takes it in.
const PROTOCOL_ESP: u8 = 3;

/// The root of phase 1. It lives until both sides are authenticated.
#[derive(Debug, Clone)]
pub struct Skeyid {
    hash: HashAlgorithm,
    skeyid: SecretBytes,
}

/// What HASH_I and HASH_R are taken over, besides the identity (RFC 2409 §5).
#[derive(Debug, Clone, Copy)]
pub struct Phase1Transcript<'a> {
    /// g^xi: the initiator's KE payload.
    pub g_xi: &'a [u8],
    /// g^xr: the responder's KE payload.
    pub g_xr: &'a [u8],
    /// CKY-I.
    pub cookie_i: [u8; 8],
    /// CKY-R.
    pub cookie_r: [u8; 8],
    /// SAi_b: the body of the SA payload that the initiator offered.
    pub sa_i_body: &'a [u8],
}

impl Skeyid {
    /// SKEYID = prf(pre-shared key, Ni_b | Nr_b), RFC 2409 §5.
    #[must_use]
    pub fn from_psk(hash: HashAlgorithm, psk: &SecretBytes, ni: &[u8], nr: &[u8]) -> Self {
        Self {
            hash,
            skeyid: hash.prf(psk.expose(), &[ni, nr]),
        }
    }

    /// HASH_I = prf(SKEYID, g^xi | g^xr | CKY-I | CKY-R | SAi_b | IDii_b).
    #[must_use]
    pub fn hash_i(&self, transcript: &Phase1Transcript<'_>, id_ii_body: &[u8]) -> HashOutput {
        let t = transcript;
        let parts = [
            t.g_xi,
            t.g_xr,
            &t.cookie_i,
            &t.cookie_r,
            t.sa_i_body,
            id_ii_body,
        ];
        HashOutput::new(self.hash.prf(self.skeyid.expose(), &parts))
    }

    /// HASH_R = prf(SKEYID, g^xr | g^xi | CKY-R | CKY-I | SAi_b | IDir_b).
    #[must_use]
    pub fn hash_r(&self, transcript: &Phase1Transcript<'_>, id_ir_body: &[u8]) -> HashOutput {
        let t = transcript;
        let parts = [
            t.g_xr,
            t.g_xi,
            &t.cookie_r,
            &t.cookie_i,
            t.sa_i_body,
            id_ir_body,
        ];
        HashOutput::new(self.hash.prf(self.skeyid.expose(), &parts))
    }

    /// SKEYID_d, SKEYID_a, SKEYID_e and the cipher's key.
    #[must_use]
    pub fn derive(
        &self,
        cipher: Phase1Cipher,
        g_xy: &SecretBytes,
        cookie_i: [u8; 8],
        cookie_r: [u8; 8],
    ) -> Phase1Keys {
        let chained = |previous: &[u8], number: u8| {
            let parts: [&[u8]; 5] = [previous, g_xy.expose(), &cookie_i, &cookie_r, &[number]];
            self.hash.prf(self.skeyid.expose(), &parts)
        };
        let skeyid_d = chained(&[], 0);
        let skeyid_a = chained(skeyid_d.expose(), 1);
        let skeyid_e = chained(skeyid_a.expose(), 2);
        Phase1Keys {
            hash: self.hash,
            skeyid_d,
            skeyid_a,
            cipher_key: expand_cipher_key(self.hash, cipher, &skeyid_e),
        }
    }
}

/// The key of the phase-1 cipher, RFC 2409 Appendix B: the first bytes of SKEYID_e, or of
/// K1 | K2 | ... with K1 = prf(SKEYID_e, 0), Kn = prf(SKEYID_e, Kn-1) when it is too short.
#[expect(
    clippy::expect_used,
    reason = "the key is cut to the cipher's length just before"
)]
fn expand_cipher_key(
    hash: HashAlgorithm,
    cipher: Phase1Cipher,
    skeyid_e: &SecretBytes,
) -> CipherKey {
    let wanted = cipher.key_len();
    let key = if skeyid_e.len() >= wanted {
        prefix(skeyid_e.expose(), wanted)
    } else {
        let first = hash.prf(skeyid_e.expose(), &[&[0]]);
        expand(first, wanted, |last| hash.prf(skeyid_e.expose(), &[last]))
    };
    CipherKey::new(cipher, key).expect("the key was cut to the cipher's length")
}

/// Blocks one after the other, each computed from the last one, until there are `wanted` bytes.
fn expand(first: SecretBytes, wanted: usize, next: impl Fn(&[u8]) -> SecretBytes) -> SecretBytes {
    // Reserved at once: growing would leave copies of key material behind.
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(wanted + first.len()));
    let mut block = first;
    loop {
        bytes.extend_from_slice(block.expose());
        if bytes.len() >= wanted {
            return prefix(&bytes, wanted);
        }
        block = next(block.expose());
    }
}

fn prefix(bytes: &[u8], wanted: usize) -> SecretBytes {
    SecretBytes::from(bytes.get(..wanted).unwrap_or(bytes))
}

/// The IV of the first encrypted message of phase 1: hash(g^xi | g^xr), RFC 2409 Appendix B.
#[must_use]
pub fn phase1_iv(hash: HashAlgorithm, g_xi: &[u8], g_xr: &[u8]) -> Iv {
    Iv::from_prefix(&hash.digest(&[g_xi, g_xr]))
}

/// What an established IKE SA keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase1Keys {
    hash: HashAlgorithm,
    skeyid_d: SecretBytes,
    skeyid_a: SecretBytes,
    cipher_key: CipherKey,
}

/// Keys of one direction of an ESP SA, cut to the lengths of the suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EspKeys {
    /// Cipher key, for GCM followed by the salt.
    pub encryption_key: SecretBytes,
    /// Integrity key; empty for an AEAD.
    pub integrity_key: SecretBytes,
}

impl Phase1Keys {
    /// The negotiated hash.
    #[must_use]
    pub const fn hash(&self) -> HashAlgorithm {
        self.hash
    }

    /// The key that protects messages.
    #[must_use]
    pub const fn cipher_key(&self) -> &CipherKey {
        &self.cipher_key
    }

    /// The IV of the first message of a quick mode or informational exchange:
    /// hash(last ciphertext block of phase 1 | message id), RFC 2409 Appendix B.
    #[must_use]
    pub fn phase2_iv(&self, last_phase1_block: &Iv, message_id: u32) -> Iv {
        let last_block = last_phase1_block.block(self.cipher_key.block_len());
        Iv::from_prefix(&self.hash.digest(&[last_block, &message_id.to_be_bytes()]))
    }

    /// HASH(1) = prf(SKEYID_a, M-ID | everything after the HASH payload); also the hash of
    /// an informational message (RFC 2409 §5.5 and §5.7).
    #[must_use]
    pub fn hash_1(&self, message_id: u32, after_hash: &[u8]) -> HashOutput {
        self.authenticate(&[&message_id.to_be_bytes(), after_hash])
    }

    /// HASH(2) = prf(SKEYID_a, M-ID | Ni_b | everything after the HASH payload).
    #[must_use]
    pub fn hash_2(&self, message_id: u32, ni: &[u8], after_hash: &[u8]) -> HashOutput {
        self.authenticate(&[&message_id.to_be_bytes(), ni, after_hash])
    }

    /// HASH(3) = prf(SKEYID_a, 0 | M-ID | Ni_b | Nr_b).
    #[must_use]
    pub fn hash_3(&self, message_id: u32, ni: &[u8], nr: &[u8]) -> HashOutput {
        self.authenticate(&[&[0], &message_id.to_be_bytes(), ni, nr])
    }

    fn authenticate(&self, parts: &[&[u8]]) -> HashOutput {
        HashOutput::new(self.hash.prf(self.skeyid_a.expose(), parts))
    }

    /// KEYMAT of one direction (RFC 2409 §5.5): the SPI is the receiver's, `g_xy` the shared
    /// secret of a quick mode with perfect forward secrecy.
    #[must_use]
    pub fn esp_keys(
        &self,
        suite: EspSuite,
        g_xy: Option<&SecretBytes>,
        spi: Spi,
        ni: &[u8],
        nr: &[u8],
    ) -> EspKeys {
        let g_xy = g_xy.map_or(&[][..], SecretBytes::expose);
        let spi = spi.to_be_bytes();
        let block = |previous: &[u8]| {
            let parts: [&[u8]; 6] = [previous, g_xy, &[PROTOCOL_ESP], &spi, ni, nr];
            self.hash.prf(self.skeyid_d.expose(), &parts)
        };
        let encryption_len = suite.encryption_key_len();
        let wanted = encryption_len + suite.integrity_key_len();
        let keymat = expand(block(&[]), wanted, block);
        let (encryption, integrity) = keymat
            .expose()
            .split_at_checked(encryption_len)
            .unwrap_or_default();
        EspKeys {
            encryption_key: SecretBytes::from(encryption),
            integrity_key: SecretBytes::from(integrity),
        }
    }
}
