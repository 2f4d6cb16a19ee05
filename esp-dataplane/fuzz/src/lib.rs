//! What the fuzz target `esp_open` does with its input. The same file is a module of
//! `esp-dataplane/tests/fuzz_corpus.rs`, which replays the committed inputs without a fuzzer.
//!
//! ```text
//!   byte 0   what to build: raw datagram, or a body sealed with a known key
//!   byte 1   outer traffic class, and which suite opens a raw datagram
//!   rest     the datagram, or the body: inner packet, padding, pad length, next header
//! ```
//!
//! The keys are known here, so the input gets past the integrity check and reaches everything
//! that a malicious but authenticated peer can reach.

use std::net::SocketAddr;
use std::time::Duration;

use aes::cipher::{Array, BlockModeEncrypt, KeyIvInit};
use esp_dataplane::{DropReason, InstallOptions, OpenSlot, Sad, SadConfig};
use hmac::{Hmac, KeyInit, Mac};
use ipsec_types::{
    AesKeyBits, CbcCipher, ConnectionId, Direction, Encapsulation, EspIntegrity, EspSaPair,
    EspSaParams, EspSuite, SaLifetime, SecretBytes, SelectorPair, Spi, TrafficSelector,
};

const SPI: u32 = 0x0000_1000;
const KEY: u8 = 0x42;
const SEQ: u32 = 1;

/// How the rest of the input becomes an ESP packet.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// As it is: mostly refused before or by the ICV.
    Raw,
    /// As it is, but with our SPI.
    RawOurSpi,
    /// The body of an AES-128-GCM packet with a good ICV.
    Gcm,
    /// The body of an AES-128-CBC, HMAC-SHA-256 packet with a good ICV.
    Cbc,
}

impl Kind {
    fn of(byte: u8) -> Self {
        match byte % 4 {
            0 => Self::Raw,
            1 => Self::RawOurSpi,
            2 => Self::Gcm,
            _ => Self::Cbc,
        }
    }
}

/// Opens what the input describes; every promise of the opener is asserted.
pub fn esp_open(input: &[u8]) {
    let [kind_byte, context, rest @ ..] = input else {
        return;
    };
    let kind = Kind::of(*kind_byte);
    let suite = match kind {
        Kind::Gcm => EspSuite::AesGcm16(AesKeyBits::Aes128),
        Kind::Cbc => EspSuite::CbcHmac(
            CbcCipher::Aes(AesKeyBits::Aes128),
            EspIntegrity::HmacSha256_128,
        ),
        Kind::Raw | Kind::RawOurSpi => EspSuite::ALL[usize::from(*context) % EspSuite::ALL.len()],
    };
    let packet = match kind {
        Kind::Raw => rest.to_vec(),
        Kind::RawOurSpi => {
            let mut packet = rest.to_vec();
            for (to, from) in packet.iter_mut().zip(SPI.to_be_bytes()) {
                *to = from;
            }
            packet
        }
        Kind::Gcm => sealed_gcm(rest),
        Kind::Cbc => sealed_cbc(rest),
    };
    // Bit 2 of the first byte narrows the selectors, so that their check is reached too.
    check(suite, kind_byte & 4 != 0, *context, packet);
}

fn check(suite: EspSuite, narrow: bool, outer_traffic_class: u8, packet: Vec<u8>) {
    let (sad, _events) = Sad::new(SadConfig::default());
    sad.install_pair(&pair(suite, narrow), InstallOptions::default())
        .expect("the pair is well formed");
    let mut pipeline = sad.pipeline(0);
    pipeline.begin_batch(Duration::from_secs(1));

    let from: SocketAddr = ([198, 51, 100, 7], 4500).into();
    let slot = OpenSlot::new(0, packet.len(), outer_traffic_class);
    let (mut buf, mut slots) = (packet.clone(), [slot.clone()]);
    let opened = pipeline.open_train(&mut buf, &mut slots, from, Encapsulation::Udp);
    let sa = sad
        .inbound(Spi::new(SPI).expect("not reserved"))
        .expect("installed above");
    match &slots[0].result {
        Ok(inner) => {
            assert_eq!(opened, 1);
            let bytes = &buf[inner.inner.clone()];
            let (version, stated) = match bytes[0] >> 4 {
                4 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
                6 => (
                    6,
                    40 + usize::from(u16::from_be_bytes([bytes[4], bytes[5]])),
                ),
                other => panic!("an inner packet of version {other}"),
            };
            assert_eq!(stated, bytes.len());
            assert_eq!(
                inner.version.next_header(),
                if version == 4 { 4 } else { 41 }
            );
            assert_eq!(sa.replay().edge(), inner.seq);
        }
        Err(reason) => {
            assert_eq!(opened, 0);
            assert_eq!(sad.counters().get(*reason), 1);
        }
    }
    // Whatever it was: an authentic number is used up, any other changed nothing.
    let edge = sa.replay().edge();
    let (mut buf, mut slots) = (packet, [slot]);
    pipeline.open_train(&mut buf, &mut slots, from, Encapsulation::Udp);
    assert!(slots[0].result.is_err());
    if edge != 0 {
        assert_eq!(slots[0].result, Err(DropReason::Replayed));
    }
    assert_eq!(sa.replay().edge(), edge);
}

fn pair(suite: EspSuite, narrow: bool) -> EspSaPair {
    let net = |text: &str| TrafficSelector::net(text.parse().expect("a prefix"));
    let port = TrafficSelector::new("10.2.0.0/16".parse().expect("a prefix"), 17, 53);
    let selectors = if narrow {
        SelectorPair {
            local: port,
            remote: net("10.1.0.0/16"),
        }
    } else {
        SelectorPair {
            local: net("0.0.0.0/0"),
            remote: net("0.0.0.0/0"),
        }
    };
    let params = |direction, spi| EspSaParams {
        spi: Spi::new(spi).expect("not reserved"),
        direction,
        suite,
        encryption_key: SecretBytes::new(vec![KEY; suite.encryption_key_len()]),
        integrity_key: SecretBytes::new(vec![KEY; suite.integrity_key_len()]),
        esn: false,
        selectors,
        encapsulation: Encapsulation::Udp,
        local: ([203, 0, 113, 1], 4500).into(),
        remote: ([198, 51, 100, 7], 4500).into(),
    };
    EspSaPair {
        connection: ConnectionId(0),
        inbound: params(Direction::Inbound, SPI),
        outbound: params(Direction::Outbound, SPI + 1),
        lifetime: SaLifetime {
            time: Duration::from_secs(3600),
            kilobytes: None,
        },
    }
}

fn header() -> Vec<u8> {
    [SPI.to_be_bytes(), SEQ.to_be_bytes()].concat()
}

fn sealed_gcm(body: &[u8]) -> Vec<u8> {
    use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    let key = UnboundKey::new(&AES_128_GCM, &[KEY; 16]).expect("16 bytes");
    let mut nonce = [0; 12];
    nonce[..4].fill(KEY);
    let mut body = body.to_vec();
    LessSafeKey::new(key)
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(header()),
            &mut body,
        )
        .expect("short enough");
    [header(), vec![0; 8], body].concat()
}

fn sealed_cbc(body: &[u8]) -> Vec<u8> {
    let mut body = body[..body.len() / 16 * 16].to_vec();
    let (blocks, _) = Array::slice_as_chunks_mut(&mut body);
    cbc::Encryptor::<aes::Aes128>::new(&[KEY; 16].into(), &[0; 16].into()).encrypt_blocks(blocks);
    let mut packet = [header(), vec![0; 16], body].concat();
    let mut mac = <Hmac<sha2::Sha256> as KeyInit>::new_from_slice(&[KEY; 32]).expect("any length");
    mac.update(&packet);
    packet.extend_from_slice(&mac.finalize().into_bytes()[..16]);
    packet
}
