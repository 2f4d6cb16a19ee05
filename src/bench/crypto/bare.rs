//! The same bytes through the cipher crates alone, keys expanded once: no framing, no sequence
//! numbers, no replay window.

use aes::cipher::consts::{U12, U16};
use aes::cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit,
    KeyInit,
};
use aes::{Aes128Dec, Aes128Enc, Aes192, Aes192Dec, Aes192Enc, Aes256Dec, Aes256Enc};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm};
use aws_lc_rs::aead as aws_lc;
use des::TdesEde3;
use esp_dataplane::AeadBackend;
use hmac::{Hmac, Mac};
use ipsec_types::{AesKeyBits, CbcCipher, EspIntegrity, EspSuite};
use md5::Md5;
use ring::aead as ring_aead;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

use super::Spent;
use crate::bench::BenchError;
use crate::bench::ticks::{self, Laps};

type Aes192Gcm = AesGcm<Aes192, U12>;

/// SPI and sequence number.
const HEADER: usize = 8;

/// Packets laid out as in an ESP train.
pub(super) struct Bare {
    cipher: Box<dyn Cipher>,
    suite: EspSuite,
    buffer: Vec<u8>,
    stride: usize,
}

/// `packet` is header, IV, body and ICV, as on the wire.
trait Cipher {
    fn seal(&self, packet: &mut [u8]) -> Option<()>;
    fn open(&self, packet: &mut [u8]) -> Option<()>;
}

impl Bare {
    /// `library` is for AES-GCM.
    pub(super) fn new(
        suite: EspSuite,
        library: Option<AeadBackend>,
        len: usize,
        count: usize,
    ) -> Result<Self, BenchError> {
        let cipher = match suite {
            EspSuite::AesGcm16(bits) => gcm(bits, library.unwrap_or_default()),
            EspSuite::CbcHmac(cipher, hash) => cbc_hmac(cipher, hash),
        };
        let cipher = cipher.ok_or_else(|| BenchError::Cipher(suite.to_string()))?;
        let stride = len + suite.overhead(len);
        Ok(Self {
            cipher,
            suite,
            buffer: vec![0x45; stride * count],
            stride,
        })
    }

    pub(super) fn run(&mut self, trains: u32) -> Result<Spent, BenchError> {
        let (mut seal, mut open) = (Laps::with_capacity(trains), Laps::with_capacity(trains));
        let count = self.buffer.len() / self.stride;
        for _train in 0..trains {
            let start = ticks::now();
            let sealed = self.each(|cipher, packet| cipher.seal(packet));
            let between = ticks::now();
            let opened = self.each(|cipher, packet| cipher.open(packet));
            open.add(between, ticks::now());
            seal.add(start, between);
            if sealed != count || opened != count {
                return Err(BenchError::Cipher(self.suite.to_string()));
            }
        }
        Ok(Spent {
            seal: seal.median(),
            open: open.median(),
            packets: count as u64,
        })
    }

    fn each(&mut self, work: impl Fn(&dyn Cipher, &mut [u8]) -> Option<()>) -> usize {
        let cipher = self.cipher.as_ref();
        let packets = self.buffer.chunks_exact_mut(self.stride);
        packets.filter_map(|packet| work(cipher, packet)).count()
    }

    #[cfg(test)]
    pub(super) fn body_len(&self) -> usize {
        self.stride - HEADER - self.suite.iv_len() - self.suite.icv_len()
    }
}

struct IpsecMb(ipsec_mb::GcmKey);

struct Ring(ring_aead::LessSafeKey);

struct AwsLc(aws_lc::LessSafeKey);

struct Soft<C>(C);

fn gcm(bits: AesKeyBits, library: AeadBackend) -> Option<Box<dyn Cipher>> {
    match (library, bits) {
        (AeadBackend::IpsecMb, _) => ipsec_mb_key(bits),
        (AeadBackend::Ring, AesKeyBits::Aes128) => ring_key(&ring_aead::AES_128_GCM),
        (AeadBackend::Ring, AesKeyBits::Aes192) => None,
        (AeadBackend::Ring, AesKeyBits::Aes256) => ring_key(&ring_aead::AES_256_GCM),
        (AeadBackend::AwsLc, AesKeyBits::Aes128) => aws_lc_key(&aws_lc::AES_128_GCM),
        (AeadBackend::AwsLc, AesKeyBits::Aes192) => aws_lc_key(&aws_lc::AES_192_GCM),
        (AeadBackend::AwsLc, AesKeyBits::Aes256) => aws_lc_key(&aws_lc::AES_256_GCM),
        (AeadBackend::AesGcm, AesKeyBits::Aes128) => soft_key::<Aes128Gcm>(bits),
        (AeadBackend::AesGcm, AesKeyBits::Aes192) => soft_key::<Aes192Gcm>(bits),
        (AeadBackend::AesGcm, AesKeyBits::Aes256) => soft_key::<Aes256Gcm>(bits),
    }
}

fn ipsec_mb_key(bits: AesKeyBits) -> Option<Box<dyn Cipher>> {
    let key = ipsec_mb::GcmKey::new(ipsec_mb::library().ok()?, &vec![7; bits.bytes()])?;
    Some(Box::new(IpsecMb(key)))
}

fn ring_key(algorithm: &'static ring_aead::Algorithm) -> Option<Box<dyn Cipher>> {
    let key = ring_aead::UnboundKey::new(algorithm, &vec![7; algorithm.key_len()]).ok()?;
    Some(Box::new(Ring(ring_aead::LessSafeKey::new(key))))
}

fn aws_lc_key(algorithm: &'static aws_lc::Algorithm) -> Option<Box<dyn Cipher>> {
    let key = aws_lc::UnboundKey::new(algorithm, &vec![7; algorithm.key_len()]).ok()?;
    Some(Box::new(AwsLc(aws_lc::LessSafeKey::new(key))))
}

fn soft_key<C>(bits: AesKeyBits) -> Option<Box<dyn Cipher>>
where
    C: KeyInit + AeadInOut<NonceSize = U12, TagSize = U16> + 'static,
{
    let key = C::new_from_slice(&vec![7; bits.bytes()]).ok()?;
    Some(Box::new(Soft(key)))
}

/// Header and IV of a GCM packet apart from its body and ICV. The benchmark's nonce is always
/// the same one, which costs as much as any other.
fn gcm_parts(packet: &mut [u8]) -> Option<([u8; 12], &[u8], &mut [u8])> {
    let (clear, body) = packet.split_at_mut_checked(HEADER + 8)?;
    let nonce = clear.first_chunk::<12>().copied()?;
    let aad = clear.get(..HEADER)?;
    Some((nonce, aad, body))
}

impl Cipher for IpsecMb {
    #[inline]
    fn seal(&self, packet: &mut [u8]) -> Option<()> {
        let (nonce, aad, body) = gcm_parts(packet)?;
        let (body, icv) = body.split_last_chunk_mut::<16>()?;
        *icv = self.0.seal(nonce, aad, body).ok()?;
        Some(())
    }

    #[inline]
    fn open(&self, packet: &mut [u8]) -> Option<()> {
        let (nonce, aad, body) = gcm_parts(packet)?;
        let (body, icv) = body.split_last_chunk_mut::<16>()?;
        self.0.open(nonce, aad, body, icv).ok()
    }
}

/// ring and AWS-LC have the same interface, but no trait for it.
macro_rules! through {
    ($cipher:ty, $library:ident) => {
        impl Cipher for $cipher {
            #[inline]
            fn seal(&self, packet: &mut [u8]) -> Option<()> {
                let (nonce, aad, body) = gcm_parts(packet)?;
                let (body, icv) = body.split_last_chunk_mut::<16>()?;
                let nonce = $library::Nonce::assume_unique_for_key(nonce);
                let aad = $library::Aad::from(aad);
                let tag = self.0.seal_in_place_separate_tag(nonce, aad, body).ok()?;
                icv.copy_from_slice(tag.as_ref());
                Some(())
            }

            #[inline]
            fn open(&self, packet: &mut [u8]) -> Option<()> {
                let (nonce, aad, body) = gcm_parts(packet)?;
                let nonce = $library::Nonce::assume_unique_for_key(nonce);
                let opened = self.0.open_in_place(nonce, $library::Aad::from(aad), body);
                opened.is_ok().then_some(())
            }
        }
    };
}

through!(Ring, ring_aead);
through!(AwsLc, aws_lc);

impl<C: AeadInOut<NonceSize = U12, TagSize = U16>> Cipher for Soft<C> {
    #[inline]
    fn seal(&self, packet: &mut [u8]) -> Option<()> {
        let (nonce, aad, body) = gcm_parts(packet)?;
        let (body, icv) = body.split_last_chunk_mut::<16>()?;
        let tag = self
            .0
            .encrypt_inout_detached(&Array(nonce), aad, body.into())
            .ok()?;
        icv.copy_from_slice(&tag);
        Some(())
    }

    #[inline]
    fn open(&self, packet: &mut [u8]) -> Option<()> {
        let (nonce, aad, body) = gcm_parts(packet)?;
        let (body, icv) = body.split_last_chunk_mut::<16>()?;
        self.0
            .decrypt_inout_detached(&Array(nonce), aad, body.into(), &Array(*icv))
            .ok()
    }
}

/// The plain way: one packet after the other through the `cbc` and `hmac` crates.
struct CbcHmac<E, D, M> {
    encrypt: E,
    decrypt: D,
    mac: M,
    icv: usize,
}

fn cbc_hmac(cipher: CbcCipher, hash: EspIntegrity) -> Option<Box<dyn Cipher>> {
    let key = vec![7; cipher.key_len()];
    match cipher {
        CbcCipher::Aes(AesKeyBits::Aes128) => with_hash::<Aes128Enc, Aes128Dec>(&key, hash),
        CbcCipher::Aes(AesKeyBits::Aes192) => with_hash::<Aes192Enc, Aes192Dec>(&key, hash),
        CbcCipher::Aes(AesKeyBits::Aes256) => with_hash::<Aes256Enc, Aes256Dec>(&key, hash),
        CbcCipher::TripleDes => with_hash::<TdesEde3, TdesEde3>(&key, hash),
    }
}

fn with_hash<E, D>(key: &[u8], hash: EspIntegrity) -> Option<Box<dyn Cipher>>
where
    E: KeyInit + BlockCipherEncrypt + 'static,
    D: KeyInit + BlockCipherDecrypt + 'static,
{
    match hash {
        EspIntegrity::HmacMd5_96 => keyed::<E, D, Hmac<Md5>>(key, hash),
        EspIntegrity::HmacSha1_96 => keyed::<E, D, Hmac<Sha1>>(key, hash),
        EspIntegrity::HmacSha256_128 => keyed::<E, D, Hmac<Sha256>>(key, hash),
        EspIntegrity::HmacSha384_192 => keyed::<E, D, Hmac<Sha384>>(key, hash),
        EspIntegrity::HmacSha512_256 => keyed::<E, D, Hmac<Sha512>>(key, hash),
    }
}

fn keyed<E, D, M>(key: &[u8], hash: EspIntegrity) -> Option<Box<dyn Cipher>>
where
    E: KeyInit + BlockCipherEncrypt + 'static,
    D: KeyInit + BlockCipherDecrypt + 'static,
    M: Mac + KeyInit + Clone + 'static,
{
    Some(Box::new(CbcHmac {
        encrypt: E::new_from_slice(key).ok()?,
        decrypt: D::new_from_slice(key).ok()?,
        mac: <M as KeyInit>::new_from_slice(&vec![9; hash.key_len()]).ok()?,
        icv: hash.icv_len(),
    }))
}

impl<E, D, M: Mac + Clone> CbcHmac<E, D, M> {
    fn tag(&self, authenticated: &[u8]) -> impl AsRef<[u8]> + use<E, D, M> {
        self.mac
            .clone()
            .chain_update(authenticated)
            .finalize()
            .into_bytes()
    }
}

impl<E, D, M> Cipher for CbcHmac<E, D, M>
where
    E: BlockCipherEncrypt,
    D: BlockCipherDecrypt,
    M: Mac + Clone,
{
    #[inline]
    fn seal(&self, packet: &mut [u8]) -> Option<()> {
        let end = packet.len().checked_sub(self.icv)?;
        let (authenticated, icv) = packet.split_at_mut_checked(end)?;
        let (iv, body) = iv_and_body(authenticated, E::block_size())?;
        let (blocks, _) = Array::<u8, E::BlockSize>::slice_as_chunks_mut(body);
        cbc::Encryptor::inner_iv_slice_init(&self.encrypt, iv)
            .ok()?
            .encrypt_blocks(blocks);
        icv.copy_from_slice(self.tag(authenticated).as_ref().get(..self.icv)?);
        Some(())
    }

    #[inline]
    fn open(&self, packet: &mut [u8]) -> Option<()> {
        let end = packet.len().checked_sub(self.icv)?;
        let (authenticated, icv) = packet.split_at_mut_checked(end)?;
        if self.tag(authenticated).as_ref().get(..self.icv)? != icv {
            return None;
        }
        let (iv, body) = iv_and_body(authenticated, D::block_size())?;
        let (blocks, _) = Array::<u8, D::BlockSize>::slice_as_chunks_mut(body);
        cbc::Decryptor::inner_iv_slice_init(&self.decrypt, iv)
            .ok()?
            .decrypt_blocks(blocks);
        Some(())
    }
}

fn iv_and_body(authenticated: &mut [u8], iv_len: usize) -> Option<(&[u8], &mut [u8])> {
    let (clear, body) = authenticated.split_at_mut_checked(HEADER + iv_len)?;
    Some((clear.get(HEADER..)?, body))
}
