//! Known answers: packets that other implementations sealed.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod common;

use common::{NOW, Terms, train};
use esp_dataplane::iv::{Epoch, Member};
use esp_dataplane::packet::{open, seal_train};
use esp_dataplane::replay::{ReplayState, ReplayWindowSize};
use esp_dataplane::sa::{Activation, ByteLimits, InboundState, OutboundState, Resume};
use esp_dataplane::{AeadBackend, AeadBackends, DropReason, InboundSa, OutboundSa, Traffic};
use ipsec_types::{ConnectionId, Direction, Encapsulation, EspSaParams, EspSuite, Spi};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|d| d as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn backends() -> [AeadBackends; 4] {
    AeadBackend::ALL.map(AeadBackends::all)
}

/// One packet with everything needed to seal or open it.
#[derive(Clone)]
struct Vector {
    suite: EspSuite,
    esn: bool,
    seq: u64,
    spi: Spi,
    encryption_key: Vec<u8>,
    integrity_key: Vec<u8>,
    inner: Vec<u8>,
    sealed: Vec<u8>,
}

impl Vector {
    fn parse(line: &str) -> Self {
        let fields: Vec<&str> = line.split(' ').collect();
        Self {
            suite: fields[0].parse().unwrap(),
            esn: fields[1] == "esn",
            seq: u64::from_str_radix(fields[2], 16).unwrap(),
            spi: Spi::new(u32::from_str_radix(fields[3], 16).unwrap()).unwrap(),
            encryption_key: hex(fields[4]),
            integrity_key: hex(fields[5]),
            inner: hex(fields[6]),
            sealed: hex(fields[7]),
        }
    }

    fn params(&self, direction: Direction) -> EspSaParams {
        let net = if self.inner.first().is_some_and(|b| b >> 4 == 6) {
            "::/0"
        } else {
            "0.0.0.0/0"
        };
        EspSaParams {
            spi: self.spi,
            encryption_key: self.encryption_key.as_slice().into(),
            integrity_key: self.integrity_key.as_slice().into(),
            esn: self.esn,
            selectors: common::selectors(net, net),
            ..Terms::new(self.suite).params(direction, 0x1000)
        }
    }

    /// A receiver that has just accepted the number before.
    fn receiver(&self, backends: AeadBackends) -> InboundSa {
        let state = InboundState {
            params: self.params(Direction::Inbound),
            limits: ByteLimits::UNLIMITED,
            window: ReplayWindowSize::default(),
            replay: ReplayState {
                edge: self.seq.wrapping_sub(1),
                seen: Vec::new(),
            },
            traffic: Traffic::default(),
        };
        InboundSa::import(ConnectionId(0), state, backends).unwrap()
    }

    /// A sender that is about to use the number, in IV epoch 0x123 of member B.
    fn sender(&self, backends: AeadBackends) -> OutboundSa {
        let state = OutboundState {
            params: self.params(Direction::Outbound),
            limits: ByteLimits::UNLIMITED,
            next: self.seq,
            ceiling: u64::MAX,
            member: Member::A,
            epoch: Epoch::new(0x122).unwrap(),
            traffic: Traffic::default(),
        };
        let activation = Activation {
            member: Member::B,
            above: Epoch::FIRST,
            resume: Resume::Exact,
            ceiling: None,
        };
        OutboundSa::import(ConnectionId(0), state, activation, backends).unwrap()
    }

    fn open(&self, backends: AeadBackends) -> Result<Vec<u8>, DropReason> {
        let mut packet = self.sealed.clone();
        let opened = open(&self.receiver(backends), &mut packet, 0, Encapsulation::Udp)?;
        assert_eq!(opened.seq, self.seq);
        Ok(packet[opened.inner].to_vec())
    }
}

fn scapy() -> Vec<Vector> {
    include_str!("vectors/esp.txt")
        .lines()
        .map(Vector::parse)
        .collect()
}

#[test]
fn scapys_packets_open_in_every_suite_with_and_without_esn() {
    let vectors = scapy();
    for suite in EspSuite::ALL {
        for esn in [false, true] {
            let count = vectors
                .iter()
                .filter(|v| v.suite == suite && v.esn == esn)
                .count();
            assert!(count >= 10, "{suite}, ESN {esn}: {count} vectors");
        }
    }
    for vector in &vectors {
        for backends in backends() {
            let what = format!("{} esn {} seq {:x}", vector.suite, vector.esn, vector.seq);
            assert_eq!(vector.open(backends).as_ref(), Ok(&vector.inner), "{what}");
        }
    }
}

/// With AES-GCM we can choose the IV that scapy was given, and must produce its very bytes.
#[test]
fn our_gcm_packets_are_scapys_byte_for_byte() {
    let gcm = |v: &Vector| matches!(v.suite, EspSuite::AesGcm16(_));
    let mut compared = 0;
    for vector in scapy().iter().filter(|v| gcm(v)) {
        for backends in backends() {
            let sa = vector.sender(backends);
            let counter: [u8; 8] = vector.sealed[8..16].try_into().unwrap();
            sa.ivs()
                .skip_to(u64::from_be_bytes(counter) & 0xffff_ffff_ffff);
            let (mut buf, mut slots) = train(&sa, std::slice::from_ref(&vector.inner));
            seal_train(sa.reserve(1).unwrap(), &mut buf, &mut slots);
            assert_eq!(
                buf[slots[0].result.clone().unwrap()],
                vector.sealed,
                "{}",
                vector.suite
            );
            compared += 1;
        }
    }
    assert!(compared >= 100, "{compared}");
}

/// The high half of an ESN is authenticated although it is not sent: a receiver in another
/// subspace of 2^32 numbers refuses the packet.
#[test]
fn the_unsent_half_of_an_esn_is_authenticated() {
    for vector in scapy().iter().filter(|v| v.esn) {
        let mut elsewhere = vector.sealed.clone();
        let receiver = Vector {
            seq: vector.seq + (1 << 32),
            ..vector.clone()
        }
        .receiver(AeadBackends::default());
        let result = open(&receiver, &mut elsewhere, 0, Encapsulation::Udp);
        assert_eq!(result, Err(DropReason::BadIcv), "{}", vector.suite);
    }
}

/// draft-mcgrew-gcm-test-01, three of its ESP packets. Their next header is 1, which no tunnel
/// carries: the refusal by next header shows that ICV and padding were found right.
#[test]
fn packets_of_draft_mcgrew_gcm_test() {
    let cases = [
        // AES-128 with ESN, sequence number 0x87654321_00000000.
        (
            "aes128gcm16 esn 8765432100000000 4321 4c80cdefbb5d10da906ac73c3613a6342e443b68 - 00",
            "00004321 00000000 4956ed7e3b244cfe
             fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34
             cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce
             61bc17d768fd9732 459018148f6cbe722fd04796562dfdb4",
        ),
        // AES-192, sequence number 10.
        (
            "aes192gcm16 32 a a5f8 feffe9928665731c6d6a8f9467308308feffe9928665731ccafebabe - 00",
            "0000a5f8 0000000a facedbaddecaf888
             a5b1f8066029aea40e598b8122de02420938b3ab33f828e687b8858b5bfbdbd0
             315b27452144cc77 95457b9652037f5318027b5b4cd7a636",
        ),
        // AES-256, sequence number 2.
        (
            "aes256gcm16 32 2 4a2cbfe3 abbccddef00112233445566778899aababbccddef00112233445566778899aab11223344 - 00",
            "4a2cbfe3 00000002 0102030405060708
             ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763
             748a637985771d347f0545659f14e99def842d8e b335f4eecfdbf831824b4c4915956c96",
        ),
    ];
    for (description, packet) in cases {
        for backends in backends() {
            let mut vector = Vector::parse(&format!("{description} {}", hex_of(&hex(packet))));
            assert_eq!(vector.open(backends), Err(DropReason::UnknownNextHeader));
            *vector.sealed.last_mut().unwrap() ^= 1;
            assert_eq!(vector.open(backends), Err(DropReason::BadIcv));
        }
    }
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn a_train_of_vectors_through_the_table() {
    // All GCM-256 packets without ESN as one train, into an SA that was never used.
    let vectors: Vec<_> = scapy()
        .into_iter()
        .filter(|v| v.suite == common::GCM256 && !v.esn && v.inner[0] >> 4 == 4)
        .collect();
    let mut plane = common::Plane::new();
    plane.pipeline.begin_batch(NOW);
    let mut pair = Terms::new(common::GCM256).pair_b();
    pair.inbound = vectors[0].params(Direction::Inbound);
    plane.install(&pair);
    let packets: Vec<_> = vectors.iter().map(|v| v.sealed.clone()).collect();
    let opened = plane.open_from(&packets, common::side_b(), 0);
    for (vector, result) in vectors.iter().zip(opened) {
        assert_eq!(result.unwrap().1, vector.inner);
    }
}
