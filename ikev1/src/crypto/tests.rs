//! Known answers: from the RFCs and NIST where they give some, else from an independent
//! program (Python's hmac and OpenSSL) that follows the formulas of RFC 2409.

use ipsec_types::AesKeyBits::{self, Aes128, Aes192, Aes256};
use ipsec_types::EspIntegrity::{HmacSha1_96, HmacSha512_256};
use ipsec_types::{CbcCipher, EspSuite, SecretBytes, Spi};

use super::*;

/// Decodes hexadecimal.
pub(super) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// RFC 2202 and RFC 4231: test case 1 of each, and the one with a key longer than a block.
#[test]
fn prf_is_hmac() {
    let cases = [
        (
            HashAlgorithm::Md5,
            16,
            "9294727a3638bb1c13f48ef8158bfc9d",
            80,
            "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd",
        ),
        (
            HashAlgorithm::Sha1,
            20,
            "b617318655057264e28bc0b6fb378c8ef146be00",
            80,
            "aa4ae5e15272d00e95705637ce8a3b55ed402112",
        ),
        (
            HashAlgorithm::Sha256,
            20,
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            131,
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            HashAlgorithm::Sha384,
            20,
            "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59c\
             faea9ea9076ede7f4af152e8b2fa9cb6",
            131,
            "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c6\
             0c2ef6ab4030fe8296248df163f44952",
        ),
        (
            HashAlgorithm::Sha512,
            20,
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde\
             daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
            131,
            "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352\
             6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
        ),
    ];
    for (hash, short_key, expected, long_key, expected_long) in cases {
        let short = hash.prf(&vec![0x0b; short_key], &[b"Hi ", b"There"]);
        assert_eq!(short.expose(), hex(expected), "{hash}");
        assert_eq!(short.len(), hash.output_len());
        let text = b"Test Using Larger Than Block-Size Key - Hash Key First";
        let long = hash.prf(&vec![0xaa; long_key], &[text]);
        assert_eq!(long.expose(), hex(expected_long), "{hash}");
    }
}

/// RFC 1321 and FIPS 180-4: the hash of "abc", in one part or in three.
#[test]
fn digest_joins_its_parts() {
    let cases = [
        (HashAlgorithm::Md5, "900150983cd24fb0d6963f7d28e17f72"),
        (
            HashAlgorithm::Sha1,
            "a9993e364706816aba3e25717850c26c9cd0d89d",
        ),
        (
            HashAlgorithm::Sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
    ];
    for (hash, expected) in cases {
        assert_eq!(hash.digest(&[b"abc"]), hex(expected));
        assert_eq!(hash.digest(&[b"a", b"", b"bc"]), hex(expected));
    }
}

fn cipher_key(cipher: Phase1Cipher, key: &str) -> CipherKey {
    CipherKey::new(cipher, SecretBytes::new(hex(key))).unwrap()
}

const NIST_PLAINTEXT: &str = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51";
const COUNTING_IV: &str = "000102030405060708090a0b0c0d0e0f";

/// RFC 3602 §4 cases 1 and 2, NIST SP 800-38A F.2.3 and F.2.5, and 3DES by OpenSSL.
#[test]
fn cbc_known_answers() {
    let aes = |bits: AesKeyBits| Phase1Cipher::AesCbc(bits);
    let single_block: String = b"Single block msg"
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let counting: String = (0..32).map(|b: u8| format!("{b:02x}")).collect();
    let cases = [
        (
            aes(Aes128),
            "06a9214036b8a15b512e03d534120006",
            "3dafba429d9eb430b422da802c9fac41",
            single_block.as_str(),
            "e353779c1079aeb82708942dbe77181a",
        ),
        (
            aes(Aes128),
            "c286696d887c9aa0611bbb3e2025a45a",
            "562e17996d093d28ddb3ba695a2e6f58",
            counting.as_str(),
            "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1",
        ),
        (
            aes(Aes192),
            "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
            COUNTING_IV,
            NIST_PLAINTEXT,
            "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a",
        ),
        (
            aes(Aes256),
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            COUNTING_IV,
            NIST_PLAINTEXT,
            "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d",
        ),
        (
            Phase1Cipher::TripleDesCbc,
            "0123456789abcdef23456789abcdef01456789abcdef0123",
            "f69f2445df4f9b17",
            NIST_PLAINTEXT,
            "2079c3d53aa763e193b79e2569ab5262516570481f25b50f73c0bda85c8e0da7",
        ),
    ];
    for (cipher, key, iv, plaintext, ciphertext) in cases {
        let key = cipher_key(cipher, key);
        let iv = Iv::from_prefix(&hex(iv));
        let mut message = hex(plaintext);
        let next = key.encrypt(&iv, &mut message);
        assert_eq!(message, hex(ciphertext), "{cipher}");
        assert!(
            hex(ciphertext).ends_with(next.block(key.block_len())),
            "{cipher}"
        );
        assert_eq!(key.decrypt(&iv, &mut message), Ok(next), "{cipher}");
        assert_eq!(message, hex(plaintext), "{cipher}");
    }
}

/// Two messages, the second with the IV that the first left behind, are one long message.
#[test]
fn the_iv_chains_from_message_to_message() {
    for cipher in [Phase1Cipher::AesCbc(Aes256), Phase1Cipher::TripleDesCbc] {
        let key = CipherKey::new(cipher, SecretBytes::new(vec![7; cipher.key_len()])).unwrap();
        let start = Iv::from_prefix(&[9; 16]);
        let mut whole = hex(NIST_PLAINTEXT);
        let end = key.encrypt(&start, &mut whole);
        let (mut head, mut tail) = (hex(NIST_PLAINTEXT), hex(NIST_PLAINTEXT).split_off(16));
        head.truncate(16);
        let middle = key.encrypt(&start, &mut head);
        assert_eq!(key.encrypt(&middle, &mut tail), end);
        assert_eq!([head, tail].concat(), whole);
    }
}

#[test]
fn encryption_pads_to_whole_blocks_and_decryption_wants_them() {
    let key = cipher_key(
        Phase1Cipher::AesCbc(Aes128),
        "06a9214036b8a15b512e03d534120006",
    );
    let iv = Iv::from_prefix(&[0; 16]);
    let mut message = vec![1; 17];
    _ = key.encrypt(&iv, &mut message);
    assert_eq!(message.len(), 32);
    assert_eq!(key.decrypt(&iv, &mut message[..31]), Err(PartialBlock(31)));
    assert_eq!(key.decrypt(&iv, &mut []), Err(PartialBlock(0)));
    key.decrypt(&iv, &mut message).unwrap();
    assert_eq!(message, [&[1; 17][..], &[0; 15]].concat());
}

#[test]
fn a_key_of_the_wrong_length_is_refused_even_from_imported_state() {
    let cipher = Phase1Cipher::AesCbc(Aes256);
    let refused = CipherKey::new(cipher, SecretBytes::new(vec![0; 16]));
    assert_eq!(refused, Err(WrongKeyLength { cipher, len: 16 }));
    let key = CipherKey::new(cipher, SecretBytes::new(vec![3; 32])).unwrap();
    let mut exported = postcard::to_stdvec(&key).unwrap();
    assert_eq!(postcard::from_bytes::<CipherKey>(&exported).unwrap(), key);
    // The key's length byte stands in front of its 32 bytes.
    let at = exported.len() - 33;
    exported[at] = 31;
    assert!(postcard::from_bytes::<CipherKey>(&exported).is_err());
}

/// One row of answers for the inputs below.
struct Derivation {
    hash: HashAlgorithm,
    cipher: Phase1Cipher,
    key: &'static str,
    first_iv: &'static str,
    exchange_iv: &'static str,
    hash_i: &'static str,
    hash_r: &'static str,
    hash_1: &'static str,
    hash_2: &'static str,
    hash_3: &'static str,
    suite: EspSuite,
    keymat: &'static str,
    keymat_pfs: &'static str,
}

const DERIVATIONS: [Derivation; 6] = [
    Derivation {
        hash: HashAlgorithm::Md5,
        cipher: Phase1Cipher::AesCbc(Aes256),
        key: "a2740a6bb685b38abd6e453fb49d2518ee4d03b12a7cc9c5c8c6296e9da5e37b",
        first_iv: "bab0e1ffbd4e4697759d77954ba58bd5",
        exchange_iv: "b7ddb50d2108069da3a19ce8132b1ecb",
        hash_i: "8d2bb2cade967d3390f0c69bb5e65689",
        hash_r: "8f1ba3ad09a932dd792ab82d38cbab75",
        hash_1: "c76288647f931716aafedab2db5c58ce",
        hash_2: "ffe984371abd7c9978f2f78b50e4cd41",
        hash_3: "5ae26e3ac7c510a25869183617a3f517",
        suite: EspSuite::AesGcm16(Aes256),
        keymat: "ad8b0d8df451982c83c737b451c3d6ad8084f5659595adcf3ee8aeaf354fbadb9750497a",
        keymat_pfs: "4c52ed596b2200bfb97fa5e13cf1387777e6c8cbf9101dd4829e66263126730af592df68",
    },
    Derivation {
        hash: HashAlgorithm::Sha1,
        cipher: Phase1Cipher::TripleDesCbc,
        key: "60de6fa74905d33521728a660e6419b0b795b2444999725f",
        first_iv: "2e42591c7434efb5",
        exchange_iv: "1c1a9ee1fefe1e60",
        hash_i: "73dfdf17c55bbe1a1f789d2c3f5163a57c32f31c",
        hash_r: "5b556720e51197b899c3e3807364393d8135426a",
        hash_1: "e4d6fe1192a8edccdc3fbd5b8e737aeeaf306064",
        hash_2: "63ade8be71b41e8a6bf50a57bb23f83ae00f50eb",
        hash_3: "fc58a4e22e6de753aa191821711b508a3d7770db",
        suite: EspSuite::CbcHmac(CbcCipher::Aes(Aes256), HmacSha1_96),
        keymat: "1ce6215697ced7579b0f461fe53017c60aba4bffc673edc8a2c116177c4828df6ae49af0\
            650faea461281e81595762f213f24993",
        keymat_pfs: "aacc79e33de0515ba91e2e06a386b72da4191b7ad9ec534137cff3ab239fdb1074aa7839\
            fd62cd55e1a4fd4e8e32a26c679207b8",
    },
    Derivation {
        hash: HashAlgorithm::Sha1,
        cipher: Phase1Cipher::AesCbc(Aes256),
        key: "60de6fa74905d33521728a660e6419b0b795b2444999725fcb6e9c53189af9a9",
        first_iv: "2e42591c7434efb5f6a4e77048182b4f",
        exchange_iv: "af34257bf3990a7c90181aa4a20adf2d",
        hash_i: "73dfdf17c55bbe1a1f789d2c3f5163a57c32f31c",
        hash_r: "5b556720e51197b899c3e3807364393d8135426a",
        hash_1: "e4d6fe1192a8edccdc3fbd5b8e737aeeaf306064",
        hash_2: "63ade8be71b41e8a6bf50a57bb23f83ae00f50eb",
        hash_3: "fc58a4e22e6de753aa191821711b508a3d7770db",
        suite: EspSuite::AesGcm16(Aes256),
        keymat: "1ce6215697ced7579b0f461fe53017c60aba4bffc673edc8a2c116177c4828df6ae49af0",
        keymat_pfs: "aacc79e33de0515ba91e2e06a386b72da4191b7ad9ec534137cff3ab239fdb1074aa7839",
    },
    Derivation {
        hash: HashAlgorithm::Sha256,
        cipher: Phase1Cipher::AesCbc(Aes256),
        key: "5db75176e9ca8bbc69286221d125b864ea9a7a591dd4692015139acebff77648",
        first_iv: "8759177b6e8fc901106d7264cbbe88d5",
        exchange_iv: "f941357685fdd0c02cccf5c6509b4d6c",
        hash_i: "6fa47e12f6c16f5a9db005ac647b0ff1c37ceae61ade68fd955a634e7a03d3cd",
        hash_r: "039da50cd839544e7c661a885d9b1991c4ee0bd940e09dbbb0966d9c228e4e97",
        hash_1: "0e33a1a84fab4497cfe10c2c16beb2308583cc373f42bc943150193ba423dc4d",
        hash_2: "a8cb006c57da1fa9260ffffd0ccd36304a54d75af516edbe4b678836a59f3625",
        hash_3: "d7071834fefb5da5aab9480448285ce2e18b4c9b881fb0ea684154c95f4fa997",
        suite: EspSuite::CbcHmac(CbcCipher::Aes(Aes256), HmacSha512_256),
        keymat: "9b503d95e754eaa972e07721ab6dc446bfc1fb6f114fcab53eb695fa2b89b6d7be38d880\
            6682fa3fcae2a986028d9a035bead1c72191c9582085d3ecac9bb2a2f63020a83105c466\
            b59c8012c2b78d2a452cdb69623a839aac396768e6241379",
        keymat_pfs: "4dcff5f9191e4254fe9468853e1b6a5833ff79cf34e68066c0e0fb4ac85a9cc55df6e041\
            9703e4bbebb0372043bfc4b70269dea34c4d8ad25e0bb18450d374a98893df64fe6084ea\
            511067289436603a06b468f79e61ef7bc83d32f22568257f",
    },
    Derivation {
        hash: HashAlgorithm::Sha384,
        cipher: Phase1Cipher::AesCbc(Aes192),
        key: "dc01eb249461908504ff88e0a3a21221cf59c6d19cf663b8",
        first_iv: "183d28a3dc2adf7932be8be32fb577c5",
        exchange_iv: "797ee13f2cd4872e261e88c6661560a9",
        hash_i: "109d9bcc6d91f9ee639f6f4b8cda1e8b734c96edb1a90c3760599b3e234af6b3a0ef3e3b\
            a14febe4d41b732f8cc96cf7",
        hash_r: "2e96364b53cac9154601648149c36c054f10fb397457710d7879869c8d745fda844a1e5e\
            67bb4684b1cd081390460a25",
        hash_1: "68a431aa260ada753e514b09256dcb76bdc12ac0bbcb5ae70d2d7bf07d4825bfa20cecf3\
            fcd01c05ed0d6378e346e54c",
        hash_2: "61217ee68225a6d90b78bd27d6efc0504e24cd63c81b1934a179a7373fd4dbe2e9b037ed\
            a953faf92bd2b8a8e8f9e877",
        hash_3: "0847d8e5822dfaf3fad5c9c01b2c0186b2fda4bf5415e161a78b6b9ddd64225e2756a094\
            a62ef69a63db6f6f3d15d5f1",
        suite: EspSuite::AesGcm16(Aes192),
        keymat: "6b8b3afb8651e855c31d3553a6a69342bedf1443c20b8130db944a78",
        keymat_pfs: "78a9ffe0a8baec1e25a9e3d40896d099e57b0e3db6cfccafdf85afaa",
    },
    Derivation {
        hash: HashAlgorithm::Sha512,
        cipher: Phase1Cipher::AesCbc(Aes128),
        key: "8b8c99e0ba3aaf96972bcb7d40a4104c",
        first_iv: "4c7088ca858d0b715a73b465faebcd7a",
        exchange_iv: "b62189ceeb049519dfcf34c2b768c4d1",
        hash_i: "308b62b5f6f90f518f3c3fc1fff54fcb978b0f673a7f18b862328e2d1d0e3cc02dbbebd9\
            f14340ad0ca61ea34d4120472266186a8de702ed3190cbfc53f3e6bd",
        hash_r: "00a7f9e762f8676f52d78047bfba3a15503d50a91e0ea598ea3ece78f726e599a2492c82\
            3b795e07b5a56ad74c18ab9e45e53a1efdb6eae31df75e9a6d4d6488",
        hash_1: "d45dace7fcdef8a3cd0cb3cbdffaee0efe2d1c8b4f99f737c147b7e556508b4c75ea9fd0\
            e2191196a610a34e2e87b2e3a699b6c79935a29093f137c17c05bead",
        hash_2: "02d6793763ee50e4de3108108957b33534a39ca5155ef7e99785a786c6254ca9f9dac351\
            735bf900f236c9ee864fcdc49e9da2eb430580f1c95706978f0639a5",
        hash_3: "c683d92634ed180aac59f86907ef075c840c2500aaa13e4f897fb3047b18a6497c94fae1\
            7ab8e5a625f804fbb1eea76f2f7f4dce78f065f1a42a2044c524d71d",
        suite: EspSuite::AesGcm16(Aes128),
        keymat: "7f80c8103d60997734cbb2e59b578b6eb90b95ef",
        keymat_pfs: "7755e97ae00cce3a2c94411d659e27b015ec104a",
    },
];

const G_XI: [u8; 128] = [0x11; 128];
const G_XR: [u8; 128] = [0x22; 128];
const MESSAGE_ID: u32 = 0xdead_beef;
const REST: &[u8] = b"everything after the hash payload";

fn counting(start: u8, len: u8) -> Vec<u8> {
    (start..start + len).collect()
}

impl Derivation {
    /// The inputs that every row shares.
    const TRANSCRIPT: Phase1Transcript<'static> = Phase1Transcript {
        g_xi: &G_XI,
        g_xr: &G_XR,
        cookie_i: [1, 2, 3, 4, 5, 6, 7, 8],
        cookie_r: [0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88],
        sa_i_body: b"SA body",
    };

    fn nonces() -> (Vec<u8>, Vec<u8>) {
        (counting(0x10, 16), counting(0x40, 32))
    }

    fn skeyid(&self) -> Skeyid {
        let psk = SecretBytes::from(&b"a long pre-shared key"[..]);
        let (ni, nr) = Self::nonces();
        Skeyid::from_psk(self.hash, &psk, &ni, &nr)
    }

    fn keys(&self) -> Phase1Keys {
        let g_xy = SecretBytes::new(vec![0x5a; 128]);
        let Phase1Transcript {
            cookie_i, cookie_r, ..
        } = Self::TRANSCRIPT;
        self.skeyid().derive(self.cipher, &g_xy, cookie_i, cookie_r)
    }

    fn name(&self) -> String {
        format!("{} {}", self.hash, self.cipher)
    }
}

#[test]
fn both_sides_are_authenticated_by_hash_i_and_hash_r() {
    for row in &DERIVATIONS {
        let hash_i = row.skeyid().hash_i(&Derivation::TRANSCRIPT, b"IDii");
        let hash_r = row.skeyid().hash_r(&Derivation::TRANSCRIPT, b"IDir");
        assert!(hash_i.matches(&hex(row.hash_i)), "{}", row.name());
        assert!(hash_r.matches(&hex(row.hash_r)), "{}", row.name());
    }
}

#[test]
fn cipher_keys_and_ivs_of_appendix_b() {
    for row in &DERIVATIONS {
        let (name, keys) = (row.name(), row.keys());
        assert_eq!(keys.cipher_key().expose(), hex(row.key), "{name}");
        let block_len = row.cipher.block_len();
        let first_iv = phase1_iv(row.hash, &G_XI, &G_XR);
        assert_eq!(first_iv.block(block_len), hex(row.first_iv), "{name}");
        let last_block = Iv::from_prefix(&counting(0xa0, 16));
        let exchange_iv = keys.phase2_iv(&last_block, MESSAGE_ID);
        assert_eq!(exchange_iv.block(block_len), hex(row.exchange_iv), "{name}");
    }
}

#[test]
fn quick_mode_hashes() {
    let (ni, nr) = Derivation::nonces();
    for row in &DERIVATIONS {
        let (name, keys) = (row.name(), row.keys());
        let hash_1 = keys.hash_1(MESSAGE_ID, REST);
        let hash_2 = keys.hash_2(MESSAGE_ID, &ni, REST);
        let hash_3 = keys.hash_3(MESSAGE_ID, &ni, &nr);
        assert!(hash_1.matches(&hex(row.hash_1)), "{name}");
        assert!(hash_2.matches(&hex(row.hash_2)), "{name}");
        assert!(hash_3.matches(&hex(row.hash_3)), "{name}");
    }
}

#[test]
fn keymat_with_and_without_forward_secrecy() {
    let (ni, nr) = Derivation::nonces();
    let spi = Spi::new(0xc0ff_ee42).unwrap();
    let pfs = SecretBytes::new(vec![0x33; 32]);
    for row in &DERIVATIONS {
        let (name, suite) = (row.name(), row.suite);
        for (g_xy, keymat) in [(None, row.keymat), (Some(&pfs), row.keymat_pfs)] {
            let esp = row.keys().esp_keys(suite, g_xy, spi, &ni, &nr);
            assert_eq!(
                esp.encryption_key.len(),
                suite.encryption_key_len(),
                "{name}"
            );
            assert_eq!(esp.integrity_key.len(), suite.integrity_key_len(), "{name}");
            let joined = [esp.encryption_key.expose(), esp.integrity_key.expose()].concat();
            assert_eq!(joined, hex(keymat), "{name}");
        }
    }
}

#[test]
fn a_hash_that_differs_in_one_bit_or_in_length_does_not_match() {
    let hash = HashOutput::new(SecretBytes::new(vec![0x55; 20]));
    assert!(hash.matches(&[0x55; 20]));
    for bit in 0..160 {
        let mut forged = [0x55; 20];
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(!hash.matches(&forged), "bit {bit}");
    }
    assert!(!hash.matches(&[0x55; 19]));
    assert!(!hash.matches(&[0x55; 21]));
    assert!(!hash.matches(&[]));
}

#[test]
fn debug_shows_no_secret() {
    let psk = SecretBytes::from(&b"secret"[..]);
    let skeyid = Skeyid::from_psk(HashAlgorithm::Sha1, &psk, &[0; 8], &[1; 8]);
    let keys = skeyid.derive(Phase1Cipher::AesCbc(Aes128), &psk, [0; 8], [1; 8]);
    let shown = format!("{skeyid:?} {keys:?} {:?}", keys.hash_1(1, REST));
    assert!(shown.contains("redacted"), "{shown}");
    let key_bytes = format!("{:?}", keys.cipher_key().expose());
    assert!(
        !shown.contains(key_bytes.trim_matches(['[', ']'])),
        "{shown}"
    );
}

#[test]
fn phase1_keys_survive_export_and_import() {
    let psk = SecretBytes::from(&b"secret"[..]);
    let skeyid = Skeyid::from_psk(HashAlgorithm::Sha256, &psk, &[0; 8], &[1; 8]);
    let keys = skeyid.derive(Phase1Cipher::AesCbc(Aes256), &psk, [0; 8], [1; 8]);
    let exported = postcard::to_stdvec(&keys).unwrap();
    assert_eq!(postcard::from_bytes::<Phase1Keys>(&exported).unwrap(), keys);
}
