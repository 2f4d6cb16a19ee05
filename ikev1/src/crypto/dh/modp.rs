//! The MODP groups of RFC 2409 §6 and RFC 3526, generator 2, and of RFC 5114 §2.3, in
//! constant time.

use std::sync::{LazyLock, OnceLock};

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{BitOps, CtAssign, CtEq, Limb, Odd, U512, Uint};
use ipsec_types::SecretBytes;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{DhError, primes};

/// A private value, at most 512 bits long: the subgroup has prime order, so an exponent of
/// twice the group's strength is as good as one of full length (RFC 3526 §8).
pub(super) struct PrivateValue {
    group: &'static dyn ModpGroup,
    exponent: Zeroizing<U512>,
}

impl PrivateValue {
    /// A fresh private value and its public value.
    pub(super) fn generate(
        group: &'static dyn ModpGroup,
        rng: &mut dyn CryptoRng,
    ) -> (Self, Vec<u8>) {
        let mut bytes = Zeroizing::new([0; U512::BITS as usize / 8]);
        rng.fill_bytes(&mut *bytes);
        let unused = U512::BITS - group.exponent_bits();
        let mut exponent = Zeroizing::new(U512::from_be_slice(&*bytes).shr_vartime(unused));
        // Never zero, and as long as it is meant to be.
        exponent.set_bit_vartime(group.exponent_bits() - 1, true);
        let public = group.public_value(&exponent);
        (Self { group, exponent }, public)
    }

    /// The shared secret, left-padded to the length of the modulus.
    pub(super) fn agree(&self, peer: &[u8]) -> Result<SecretBytes, DhError> {
        self.group.agree(&self.exponent, peer)
    }
}

/// A group whose width the caller does not care about.
pub(super) trait ModpGroup: Sync {
    /// Length of private values in bits.
    fn exponent_bits(&self) -> u32;
    /// generator^exponent mod p.
    fn public_value(&self, exponent: &U512) -> Vec<u8>;
    /// peer^exponent mod p.
    fn agree(&self, exponent: &U512, peer: &[u8]) -> Result<SecretBytes, DhError>;
}

/// A prime of `LIMBS` machine words, ready for Montgomery multiplication.
pub(super) struct Modulus<const LIMBS: usize> {
    params: FixedMontyParams<LIMBS>,
    generator: Uint<LIMBS>,
    /// Made when the group is first used.
    generator_powers: OnceLock<GeneratorPowers<LIMBS>>,
    exponent_bits: u32,
    /// Order of the generator's subgroup, where the prime is not a safe one: a peer's value
    /// has to be in there.
    order: Option<U512>,
}

/// Declares the groups. The exponents are at least twice the strength that NIST SP 800-57
/// gives the modulus (80, 96, 112, 128, 152, 176 and 200 bits).
macro_rules! groups {
    ($($name:ident = $bits:literal, $prime:path, $exponent_bits:literal;)+) => {
        $(pub(super) static $name: LazyLock<Modulus<{ $bits / Limb::BITS as usize }>> =
            LazyLock::new(|| Modulus::new($prime, $exponent_bits));)+
    };
}

groups! {
    GROUP_1 = 768, primes::MODP_768, 256;
    GROUP_2 = 1024, primes::MODP_1024, 256;
    GROUP_5 = 1536, primes::MODP_1536, 256;
    GROUP_14 = 2048, primes::MODP_2048, 256;
    GROUP_15 = 3072, primes::MODP_3072, 320;
    GROUP_16 = 4096, primes::MODP_4096, 384;
    GROUP_17 = 6144, primes::MODP_6144, 448;
    GROUP_18 = 8192, primes::MODP_8192, 512;
}

/// Private values of 255 bits are below the order of the subgroup, which has 256.
pub(super) static GROUP_24: LazyLock<Modulus<{ 2048 / Limb::BITS as usize }>> =
    LazyLock::new(|| Modulus {
        generator: Uint::from_be_hex(primes::MODP_2048_S256_GENERATOR),
        order: Some(U512::from_be_hex(primes::MODP_2048_S256_ORDER)),
        ..Modulus::new(primes::MODP_2048_S256, 255)
    });

impl<const LIMBS: usize> Modulus<LIMBS> {
    fn new(prime: &str, exponent_bits: u32) -> Self {
        let prime = Odd::new(Uint::from_be_hex(prime)).expect("a large prime is odd");
        Self {
            params: FixedMontyParams::new_vartime(prime),
            generator: Uint::from_u8(2),
            generator_powers: OnceLock::new(),
            exponent_bits,
            order: None,
        }
    }

    fn power(&self, base: &Uint<LIMBS>, exponent: &U512, bits: u32) -> Uint<LIMBS> {
        FixedMontyForm::new(base, &self.params)
            .pow_bounded_exp(exponent, bits)
            .retrieve()
    }
}

/// Bits of the exponent that are taken at once.
const WINDOW: u32 = 4;

/// What each value of each window of the exponent contributes, in Montgomery form: a public
/// value then takes one multiplication a window and no squaring, a fifth of the general way.
/// 256 KiB for group 14.
struct GeneratorPowers<const LIMBS: usize>(Vec<[Uint<LIMBS>; 1 << WINDOW]>);

impl<const LIMBS: usize> GeneratorPowers<LIMBS> {
    fn new(generator: &Uint<LIMBS>, params: &FixedMontyParams<LIMBS>, bits: u32) -> Self {
        let mut base = FixedMontyForm::new(generator, params);
        let windows = (0..bits.div_ceil(WINDOW)).map(|_| {
            let mut power = FixedMontyForm::one(params);
            let contributions = core::array::from_fn(|_| {
                let contribution = power.to_montgomery();
                power = power.mul(&base);
                contribution
            });
            // base^16 is the next window's base.
            base = power;
            contributions
        });
        Self(windows.collect())
    }

    /// Constant time: every contribution of a window is read, whichever is taken.
    fn power(&self, exponent: &U512, params: &FixedMontyParams<LIMBS>) -> Uint<LIMBS> {
        let mut product = FixedMontyForm::one(params);
        for (shift, window) in (0..).step_by(WINDOW as usize).zip(&self.0) {
            let digit = exponent.shr_vartime(shift).as_limbs()[0] & Limb((1 << WINDOW) - 1);
            let mut factor = Zeroizing::new(window[0]);
            for (value, contribution) in (0..).zip(window) {
                factor.ct_assign(contribution, Limb(value).ct_eq(&digit));
            }
            let factor = FixedMontyForm::from_montgomery(*factor, params);
            product = product.mul(&factor);
        }
        product.retrieve()
    }
}

impl<const LIMBS: usize> ModpGroup for Modulus<LIMBS> {
    fn exponent_bits(&self) -> u32 {
        self.exponent_bits
    }

    fn public_value(&self, exponent: &U512) -> Vec<u8> {
        let powers = self.generator_powers.get_or_init(|| {
            GeneratorPowers::new(&self.generator, &self.params, self.exponent_bits)
        });
        let public = powers.power(exponent, &self.params);
        public.to_be_bytes().as_ref().to_vec()
    }

    fn agree(&self, exponent: &U512, peer: &[u8]) -> Result<SecretBytes, DhError> {
        let peer = Uint::from_be_slice(peer);
        let p_minus_one = self.params.modulus().as_ref().wrapping_sub(&Uint::ONE);
        if peer <= Uint::ONE || peer >= p_minus_one {
            return Err(DhError::OutOfRange);
        }
        if let Some(order) = &self.order
            && self.power(&peer, order, order.bits_vartime()) != Uint::ONE
        {
            return Err(DhError::NotInSubgroup);
        }
        let shared = Zeroizing::new(self.power(&peer, exponent, self.exponent_bits));
        Ok(SecretBytes::from(shared.to_be_bytes().as_ref()))
    }
}
