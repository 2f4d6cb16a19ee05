//! Known answers and refusals of every group.

use core::convert::Infallible;

use ipsec_types::SecretBytes;
use rand_chacha::ChaCha20Rng;
use rand_core::{SeedableRng, TryCryptoRng, TryRng};

use super::primes;
use super::{DhError, DiffieHellman};
use crate::crypto::tests::hex;
use crate::crypto::{DhGroup, HashAlgorithm};

/// "Randomness" that is known, so that private values of the RFCs can be set.
struct Scripted(std::vec::IntoIter<u8>);

impl Scripted {
    fn new(bytes: Vec<u8>) -> Self {
        Self(bytes.into_iter())
    }
}

impl TryRng for Scripted {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        rand_core::utils::next_word_via_fill(self)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        rand_core::utils::next_word_via_fill(self)
    }

    fn try_fill_bytes(&mut self, target: &mut [u8]) -> Result<(), Infallible> {
        for byte in target {
            *byte = self.0.next().expect("the script is long enough");
        }
        Ok(())
    }
}

impl TryCryptoRng for Scripted {}

fn scripted(group: DhGroup, private: &str) -> DiffieHellman {
    DiffieHellman::generate(group, &mut Scripted::new(hex(private)))
}

struct Vector {
    group: DhGroup,
    private_i: &'static str,
    public_i: &'static str,
    private_r: &'static str,
    public_r: &'static str,
    shared: &'static str,
}

/// RFC 5903 §8.1 to §8.3 and RFC 7748 §6.1.
const VECTORS: [Vector; 4] = [
    Vector {
        group: DhGroup::Ecp256,
        private_i: "C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433",
        public_i: "DAD0B65394221CF9B051E1FECA5787D098DFE637FC90B9EF945D0C3772581180\
                   5271A0461CDB8252D61F1C456FA3E59AB1F45B33ACCF5F58389E0577B8990BB3",
        private_r: "C6EF9C5D78AE012A011164ACB397CE2088685D8F06BF9BE0B283AB46476BEE53",
        public_r: "D12DFB5289C8D4F81208B70270398C342296970A0BCCB74C736FC7554494BF63\
                   56FBF3CA366CC23E8157854C13C58D6AAC23F046ADA30F8353E74F33039872AB",
        shared: "D6840F6B42F6EDAFD13116E0E12565202FEF8E9ECE7DCE03812464D04B9442DE",
    },
    Vector {
        group: DhGroup::Ecp384,
        private_i: "099F3C7034D4A2C699884D73A375A67F7624EF7C6B3C0F160647B67414DCE655\
                    E35B538041E649EE3FAEF896783AB194",
        public_i: "667842D7D180AC2CDE6F74F37551F55755C7645C20EF73E31634FE72B4C55EE6\
                   DE3AC808ACB4BDB4C88732AEE95F41AA\
                   9482ED1FC0EEB9CAFC4984625CCFC23F65032149E0E144ADA024181535A0F38E\
                   EB9FCFF3C2C947DAE69B4C634573A81C",
        private_r: "41CB0779B4BDB85D47846725FBEC3C9430FAB46CC8DC5060855CC9BDA0AA2942\
                    E0308312916B8ED2960E4BD55A7448FC",
        public_r: "E558DBEF53EECDE3D3FCCFC1AEA08A89A987475D12FD950D83CFA41732BC509D\
                   0D1AC43A0336DEF96FDA41D0774A3571\
                   DCFBEC7AACF3196472169E838430367F66EEBE3C6E70C416DD5F0C68759DD1FF\
                   F83FA40142209DFF5EAAD96DB9E6386C",
        shared: "11187331C279962D93D604243FD592CB9D0A926F422E47187521287E7156C5C4\
                 D603135569B9E9D09CF5D4A270F59746",
    },
    Vector {
        group: DhGroup::Ecp521,
        private_i: "0037ADE9319A89F4DABDB3EF411AACCCA5123C61ACAB57B5393DCE47608172A0\
                    95AA85A30FE1C2952C6771D937BA9777F5957B2639BAB072462F68C27A57382D4A52",
        public_i: "0015417E84DBF28C0AD3C278713349DC7DF153C897A1891BD98BAB4357C9ECBE\
                   E1E3BF42E00B8E380AEAE57C2D107564941885942AF5A7F4601723C4195D176CED3E\
                   017CAE20B6641D2EEB695786D8C946146239D099E18E1D5A514C739D7CB4A10A\
                   D8A788015AC405D7799DC75E7B7D5B6CF2261A6A7F1507438BF01BEB6CA3926F9582",
        private_r: "0145BA99A847AF43793FDD0E872E7CDFA16BE30FDC780F97BCCC3F078380201E\
                    9C677D600B343757A3BDBF2A3163E4C2F869CCA7458AA4A4EFFC311F5CB151685EB9",
        public_r: "00D0B3975AC4B799F5BEA16D5E13E9AF971D5E9B984C9F39728B5E5739735A21\
                   9B97C356436ADC6E95BB0352F6BE64A6C2912D4EF2D0433CED2B6171640012D9460F\
                   015C68226383956E3BD066E797B623C27CE0EAC2F551A10C2C724D9852077B87\
                   220B6536C5C408A1D2AEBB8E86D678AE49CB57091F4732296579AB44FCD17F0FC56A",
        shared: "01144C7D79AE6956BC8EDB8E7C787C4521CB086FA64407F97894E5E6B2D79B04\
                 D1427E73CA4BAA240A34786859810C06B3C715A3A8CC3151F2BEE417996D19F3DDEA",
    },
    Vector {
        group: DhGroup::Curve25519,
        private_i: "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        public_i: "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
        private_r: "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        public_r: "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
        shared: "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
    },
];

#[test]
fn curves_known_answers() {
    for vector in &VECTORS {
        let group = vector.group;
        let initiator = scripted(group, vector.private_i);
        let responder = scripted(group, vector.private_r);
        assert_eq!(initiator.public_value(), hex(vector.public_i), "{group}");
        assert_eq!(responder.public_value(), hex(vector.public_r), "{group}");
        let shared = SecretBytes::new(hex(vector.shared));
        assert_eq!(
            initiator.agree(&hex(vector.public_r)),
            Ok(shared.clone()),
            "{group}"
        );
        assert_eq!(
            responder.agree(&hex(vector.public_i)),
            Ok(shared),
            "{group}"
        );
    }
}

/// SHA-256 of 2^x mod p and of y^x mod p, computed by Python for x = 3, 10, 17, ... and
/// y = 5, 18, 31, ... (bytes modulo 256), x cut to the group's exponent length.
#[test]
fn modp_known_answers() {
    let cases = [
        (
            DhGroup::Modp768,
            "24da0ab0a4202b7e9210bb1d6908a8ec3aa64f25208eaed07934e48957384153",
            "964e569cf217b3a7a904fdf58245a79dc043537e912fef6c29bf77ab4eb281b3",
        ),
        (
            DhGroup::Modp1024,
            "2963f96caa115e3d59da73ea769621662937a3484097bac8e8aa9c2384fd397d",
            "b75a5436c0b65db09fef41e066559ef3a4150469fd709f035251681566427bf9",
        ),
        (
            DhGroup::Modp1536,
            "df3e7398f51bbecb3d2be6b28a17ac68ae7ae1454164a436f74790bdfb668fa2",
            "24c24cdc7fa5c1e904b44a3388e6b4ea509c5b2c96c7ade50060ea29bda1e5ae",
        ),
        (
            DhGroup::Modp2048,
            "2409244d7244bb1f4c71de591bd3ae7065e46e3b57462bec12359f857667827c",
            "8477bc391567c6f947c917e1a2ce07c12c9736d11b4cdaea6b11289cd2f73b73",
        ),
        (
            DhGroup::Modp3072,
            "b637aec97607d535a66c0d06fb60b0bf864b3d6f02487695854ee44c9d35fc01",
            "461b0823263d943c784315a857873da4e92ef5ba2345c608f06a47791b345668",
        ),
        (
            DhGroup::Modp4096,
            "9cabb72f2e0ac39fcd677c0d1e70123d6428235673a57b417302be9c0084692f",
            "5b9aad7005624c851e9c5a257259c092c05516b1aeafa66bc7af2ef002039c1b",
        ),
        (
            DhGroup::Modp6144,
            "b50db5dfb3f61461ef20b05ce9011796ad92b77b263305c216efb4c532c4eeea",
            "07fe1d32ccce05bf80c323c3ec96e6d30693c2198196280a92e648e39dcae083",
        ),
        (
            DhGroup::Modp8192,
            "3d5ddace197a0ce18608bbbfe84c786f7ca3050ae08b341a65594663f3052af5",
            "7539ac541e61f9f7d52d62302428fdb01f02aae97e8d3b8a0eeb111a49fdc5bf",
        ),
    ];
    let sequence = |step: usize, start: usize, len: usize| -> Vec<u8> {
        (0..len).map(|index| (index * step + start) as u8).collect()
    };
    for (group, public, shared) in cases {
        let mut rng = Scripted::new(sequence(7, 3, 64));
        let dh = DiffieHellman::generate(group, &mut rng);
        let sha256 = |bytes: &[u8]| HashAlgorithm::Sha256.digest(&[bytes]);
        assert_eq!(sha256(dh.public_value()), hex(public), "{group}");
        let mut peer = sequence(13, 5, group.public_len());
        peer[0] &= 0x7f;
        let secret = dh.agree(&peer).unwrap();
        assert_eq!(sha256(secret.expose()), hex(shared), "{group}");
    }
}

/// The same for group 24, with y = g^12345: a y outside the subgroup is refused.
#[test]
fn group_24_known_answers_and_its_subgroup() {
    let private = (0..64).map(|index| (index * 7 + 3) as u8).collect();
    let dh = DiffieHellman::generate(DhGroup::Modp2048S256, &mut Scripted::new(private));
    let sha256 = |bytes: &[u8]| HashAlgorithm::Sha256.digest(&[bytes]);
    assert_eq!(
        sha256(dh.public_value()),
        hex("3a5d4f3bb6b1449bb03c481ad82aca0439a7a7c0f721dd5c33793f20750c6be0")
    );
    let peer = hex(
        "5F01E85CEFF1B64BCC2BFB6470DEEE217655EAB3776DBD7161EC62F0831767FF43DD19EEC84D9A5B\
         DCA699971C72B7AA44A207944886C259335DA33632611F0D099A8B3386B475E16E32228CCF8AFF72\
         416C2B1E93A97170CD04A0948BB736F9B948EA793E152B6FEA889EB6378952A9B29BA823E66A9D99\
         FAF9F7B1697B231D76236FE80E3D704F35F950E4789A46A38F0670AC5B9783D5AE50806BE7217BE3\
         8D4E5EAF9A73AE00D1A7D596ACC397775EC16867786C86EDB6A8D49FA7CD3C360A68B11C1A1FC019\
         5019A0D1EFA562324D65BB8938FE587BD19DFFEF015998A30FC2F912332C959EFA2A298E188842B4\
         5741C9A08C52CF56C47619AFFDC5488A",
    );
    let secret = dh.agree(&peer).unwrap();
    assert_eq!(
        sha256(secret.expose()),
        hex("dd009eff7b8e035f2cf1c029a4e03d8c443ad331b2a3e484d9859ac483fc08bb")
    );
    let mut outside = vec![0; 256];
    outside[255] = 2;
    assert_eq!(dh.agree(&outside), Err(DhError::NotInSubgroup));
    outside[255] = 1;
    assert_eq!(dh.agree(&outside), Err(DhError::OutOfRange));
}

#[test]
fn both_sides_of_every_group_agree() {
    let mut rng = ChaCha20Rng::seed_from_u64(2409);
    for group in DhGroup::ALL {
        let one = DiffieHellman::generate(group, &mut rng);
        let other = DiffieHellman::generate(group, &mut rng);
        assert_eq!(one.public_value().len(), group.public_len(), "{group}");
        assert_ne!(one.public_value(), other.public_value(), "{group}");
        let secret = one.agree(other.public_value()).unwrap();
        assert_eq!(secret.len(), group.secret_len(), "{group}");
        assert_eq!(other.agree(one.public_value()), Ok(secret), "{group}");
    }
}

#[test]
fn a_public_value_of_another_length_is_refused() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    for group in [DhGroup::Modp1024, DhGroup::Ecp256, DhGroup::Curve25519] {
        let dh = DiffieHellman::generate(group, &mut rng);
        let expected = group.public_len();
        for len in [0, 1, expected - 1, expected + 1, 2 * expected] {
            let refused = DhError::Length {
                group,
                expected,
                len,
            };
            assert_eq!(dh.agree(&vec![2; len]), Err(refused), "{group} {len}");
        }
    }
}

/// CVE-2015-3240 and its kin: 0, 1, p-1, p and beyond.
#[test]
fn modp_values_that_give_the_secret_away_are_refused() {
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let dh = DiffieHellman::generate(DhGroup::Modp1024, &mut rng);
    let p = hex(primes::MODP_1024);
    let near_p = |last: u8| {
        let mut value = p.clone();
        *value.last_mut().unwrap() = last;
        value
    };
    let small = |last: u8| {
        let mut value = vec![0; 128];
        value[127] = last;
        value
    };
    for refused in [
        small(0),
        small(1),
        near_p(0xfe),
        near_p(0xff),
        vec![0xff; 128],
    ] {
        assert_eq!(dh.agree(&refused), Err(DhError::OutOfRange));
    }
    for accepted in [small(2), near_p(0xfd)] {
        assert!(dh.agree(&accepted).is_ok());
    }
}

#[test]
fn points_off_the_curve_are_refused() {
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    for group in [DhGroup::Ecp256, DhGroup::Ecp384, DhGroup::Ecp521] {
        let dh = DiffieHellman::generate(group, &mut rng);
        let mut forged = DiffieHellman::generate(group, &mut rng)
            .public_value()
            .to_vec();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(dh.agree(&forged), Err(DhError::NotOnCurve), "{group}");
        let zero = vec![0; group.public_len()];
        assert_eq!(dh.agree(&zero), Err(DhError::NotOnCurve), "{group}");
        let beyond_the_field = vec![0xff; group.public_len()];
        assert_eq!(
            dh.agree(&beyond_the_field),
            Err(DhError::NotOnCurve),
            "{group}"
        );
    }
}

#[test]
fn curve25519_values_of_small_order_are_refused() {
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let dh = DiffieHellman::generate(DhGroup::Curve25519, &mut rng);
    let mut one = vec![0; 32];
    assert_eq!(dh.agree(&one), Err(DhError::ZeroSecret));
    one[0] = 1;
    assert_eq!(dh.agree(&one), Err(DhError::ZeroSecret));
    let order_8 = hex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
    assert_eq!(dh.agree(&order_8), Err(DhError::ZeroSecret));
}

#[test]
fn debug_shows_the_group_only() {
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let dh = DiffieHellman::generate(DhGroup::Modp2048, &mut rng);
    assert_eq!(format!("{dh:?}"), "DiffieHellman(modp2048)");
}

/// Little-endian numbers with just the arithmetic that pi needs.
mod number {
    pub(super) fn add(left: &mut [u32], right: &[u32]) {
        let mut carry = 0;
        for (l, r) in left.iter_mut().zip(right) {
            let sum = u64::from(*l) + u64::from(*r) + carry;
            *l = sum as u32;
            carry = sum >> 32;
        }
    }

    pub(super) fn subtract(left: &mut [u32], right: &[u32]) {
        let mut borrow = 0;
        for (l, r) in left.iter_mut().zip(right) {
            let difference = i64::from(*l) - i64::from(*r) - borrow;
            *l = difference as u32;
            borrow = i64::from(difference < 0);
        }
    }

    pub(super) fn multiply(number: &mut [u32], factor: u32) {
        let mut carry = 0;
        for word in number {
            let product = u64::from(*word) * u64::from(factor) + carry;
            *word = product as u32;
            carry = product >> 32;
        }
    }

    pub(super) fn divide(number: &mut [u32], divisor: u32) {
        let mut remainder = 0;
        for word in number.iter_mut().rev() {
            let dividend = remainder << 32 | u64::from(*word);
            *word = (dividend / u64::from(divisor)) as u32;
            remainder = dividend % u64::from(divisor);
        }
    }

    /// arctan(1/x) by its series, in units of 2^-bits.
    pub(super) fn arctan_of_inverse(x: u32, words: usize) -> Vec<u32> {
        let mut power = vec![0; words];
        power[words - 1] = 1;
        divide(&mut power, x);
        let mut sum = power.clone();
        for index in 1.. {
            divide(&mut power, x * x);
            if power.iter().all(|word| *word == 0) {
                break;
            }
            let mut term = power.clone();
            divide(&mut term, 2 * index + 1);
            if index % 2 == 1 {
                subtract(&mut sum, &term);
            } else {
                add(&mut sum, &term);
            }
        }
        sum
    }
}

/// floor(2^bits * pi) by Machin's formula, with 128 guard bits; little-endian words.
fn pi(bits: usize) -> Vec<u32> {
    let fraction_words = bits.div_ceil(32) + 4;
    let mut sum = number::arctan_of_inverse(5, fraction_words + 1);
    number::multiply(&mut sum, 4);
    number::subtract(
        &mut sum,
        &number::arctan_of_inverse(239, fraction_words + 1),
    );
    number::multiply(&mut sum, 4);
    // The value is now pi * 2^(32 * fraction_words); cut it to `bits` fraction bits.
    let excess = 32 * fraction_words - bits;
    let (words, shift) = (excess / 32, excess % 32);
    let kept = &sum[words..];
    (0..kept.len())
        .map(|index| {
            let high = kept.get(index + 1).copied().unwrap_or(0);
            ((u64::from(high) << 32 | u64::from(kept[index])) >> shift) as u32
        })
        .collect()
}

/// RFC 2409 §6.2 and RFC 3526: p = 2^n - 2^(n-64) - 1 + 2^64 * (floor(2^(n-130) pi) + k).
#[test]
fn modp_primes_follow_from_pi() {
    let cases = [
        (768, 149_686, primes::MODP_768),
        (1024, 129_093, primes::MODP_1024),
        (1536, 741_804, primes::MODP_1536),
        (2048, 124_476, primes::MODP_2048),
        (3072, 1_690_314, primes::MODP_3072),
        (4096, 240_904, primes::MODP_4096),
        (6144, 929_484, primes::MODP_6144),
        (8192, 4_743_158, primes::MODP_8192),
    ];
    for (bits, k, prime) in cases {
        let words = bits / 32;
        let mut middle = pi(bits - 130);
        middle.resize(words, 0);
        number::add(&mut middle, &[vec![k], vec![0; words - 1]].concat());
        // 64 bits higher: two words of zeros below.
        let mut p = [&[0, 0][..], &middle[..words - 2]].concat();
        // + 2^n - 2^(n-64) - 1: all ones in the top 64 bits, and one less.
        let mut ones = vec![0; words];
        ones[words - 2..].fill(u32::MAX);
        number::add(&mut p, &ones);
        number::subtract(&mut p, &[vec![1], vec![0; words - 1]].concat());
        let bytes: Vec<u8> = p.iter().rev().flat_map(|word| word.to_be_bytes()).collect();
        assert_eq!(bytes, hex(prime), "{bits} bits");
    }
}
