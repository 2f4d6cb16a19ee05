//! What the data plane adds to the bare cipher call, in memory, on one core.
//!
//! ```text
//!   cargo bench -p esp-dataplane --bench core [-- "open aes128" ...]
//! ```
//!
//! Every line times two ways to do the same work, turn by turn, and prints the medians and the
//! median of the ratios of neighbouring turns: what the machine does meanwhile slows both.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark: it fails loudly"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use aes::cipher::{Array, BlockModeEncrypt, InnerIvInit, KeyInit as _};
use aes::{Aes256Enc, cipher::consts::U16};
use common::{CBC256, GCM128, GCM256, Plane, TUNNEL, Terms, a_to_b, flow_of, side_a, train};
use esp_dataplane::{OpenSlot, SealSlot};
use hmac::{Hmac, Mac};
use ipsec_types::{Encapsulation, EspSuite, Flow};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use sha2::Sha256;

/// Packets per train: a 64 KiB super-packet makes 46 of 1400 bytes.
const LONG: usize = 48;
/// Turns per line.
const TURNS: usize = 401;
/// Each turn takes about this long: less than a scheduler's slice, so that most turns run
/// undisturbed on a busy machine.
const TURN: Duration = Duration::from_micros(300);

/// Two ways to handle a train of packets; each call reports the time that counts.
struct Pairing<'a> {
    name: String,
    packets: usize,
    bytes: usize,
    base: &'a mut dyn FnMut() -> Duration,
    ours: &'a mut dyn FnMut() -> Duration,
}

impl Pairing<'_> {
    fn run(self) {
        if !wanted(&self.name) {
            return;
        }
        let once = ((self.base)() + (self.ours)()).max(Duration::from_nanos(1)) / 2;
        let rounds = (TURN.as_nanos() / once.as_nanos()).clamp(1, 100_000) as u32;
        let turn = |work: &mut dyn FnMut() -> Duration| {
            let total: Duration = (0..rounds).map(|_| work()).sum();
            total.as_secs_f64() * 1e9 / f64::from(rounds) / self.packets as f64
        };
        let (mut base, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let (b, o) = (turn(self.base), turn(self.ours));
            base.push(b);
            ours.push(o);
            ratios.push(b / o);
        }
        let ours = median(&mut ours);
        ratios.sort_by(f64::total_cmp);
        println!(
            "{:<34} {:>8.0} {:>8.0} {:>7.2} {:>5.2}-{:<5.2} {:>8.2} {:>8.1}",
            self.name,
            median(&mut base),
            ours,
            ratios[TURNS / 2],
            ratios[TURNS / 10],
            ratios[TURNS - 1 - TURNS / 10],
            1e3 / ours,
            self.bytes as f64 * 8.0 / ours,
        );
    }
}

/// Arguments, if any, are parts of the lines to run.
fn wanted(name: &str) -> bool {
    let mut parts = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .peekable();
    parts.peek().is_none() || parts.any(|part| name.contains(&part))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// A gateway with a train of equal packets ready to be sealed.
struct Sender {
    plane: Plane,
    flow: Flow,
    buf: Vec<u8>,
    slots: Vec<SealSlot>,
}

impl Sender {
    fn new(terms: &Terms, packets: usize, inner: usize) -> Self {
        let mut plane = Plane::with(&terms.pair_a());
        let packets = vec![a_to_b(inner); packets];
        let flow = flow_of(&packets[0]);
        let sa = plane.pipeline.outbound(TUNNEL, &flow, 1).unwrap();
        let (buf, slots) = train(&sa, &packets);
        Self {
            plane,
            flow,
            buf,
            slots,
        }
    }

    /// The whole outbound path of the core, over whatever the slots hold.
    fn seal(&mut self) -> Duration {
        let Self {
            plane,
            flow,
            buf,
            slots,
        } = self;
        for slot in &*slots {
            buf[slot.inner_start] = 0x45; // still IPv4 after the last turn's encryption
        }
        timed(|| {
            plane.pipeline.begin_batch(common::NOW);
            let sa = plane
                .pipeline
                .outbound(TUNNEL, flow, slots.len() as u64)
                .unwrap();
            assert_eq!(plane.pipeline.seal_train(&sa, buf, slots), slots.len());
        })
    }
}

fn ring_key(suite: EspSuite) -> LessSafeKey {
    let algorithm = if suite == GCM128 {
        &AES_128_GCM
    } else {
        &AES_256_GCM
    };
    LessSafeKey::new(UnboundKey::new(algorithm, &vec![7; algorithm.key_len()]).unwrap())
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// The bare calls on the same buffer: nothing but AEAD over each packet's body.
fn seal_gcm(suite: EspSuite, packets: usize, inner: usize) {
    let mut sender = Sender::new(&Terms::new(suite), packets, inner);
    let (key, mut bare) = (ring_key(suite), sender.buf.clone());
    let stride = bare.len() / packets;
    let mut counter = 0;
    Pairing {
        name: format!("seal {suite} {inner} B x {packets}"),
        packets,
        bytes: inner,
        base: &mut || {
            timed(|| {
                for packet in bare.chunks_exact_mut(stride) {
                    counter += 1;
                    let (body, icv) = packet[16..].split_at_mut(stride - 32);
                    let tag =
                        key.seal_in_place_separate_tag(nonce(counter), Aad::from([0; 8]), body);
                    icv.copy_from_slice(tag.unwrap().as_ref());
                }
                black_box(&mut bare);
            })
        },
        ours: &mut || sender.seal(),
    }
    .run();
}

fn open_gcm(suite: EspSuite, packets: usize, inner: usize) {
    let terms = Terms::new(suite);
    let mut sender = Sender::new(&terms, packets, inner);
    let mut receiver = Plane::with(&terms.pair_b());
    let (key, stride) = (ring_key(suite), sender.buf.len() / packets);
    let mut bare: Vec<u8> = vec![1; stride * packets];
    for packet in bare.chunks_exact_mut(stride) {
        let (body, icv) = packet[16..].split_at_mut(stride - 32);
        let tag = key
            .seal_in_place_separate_tag(nonce(1), Aad::from([0; 8]), body)
            .unwrap();
        icv.copy_from_slice(tag.as_ref());
    }
    let sealed = bare.clone();
    let slot = |i| OpenSlot::new(i * stride, stride, 0);
    let mut slots: Vec<_> = (0..packets).map(slot).collect();
    let mut buf = vec![0; stride * packets];
    Pairing {
        name: format!("open {suite} {inner} B x {packets}"),
        packets,
        bytes: inner,
        base: &mut || {
            bare.copy_from_slice(&sealed);
            timed(|| {
                for packet in bare.chunks_exact_mut(stride) {
                    key.open_in_place(nonce(1), Aad::from([0; 8]), &mut packet[16..])
                        .unwrap();
                }
                black_box(&mut bare);
            })
        },
        ours: &mut || {
            let fresh = a_to_b(inner);
            for slot in &sender.slots {
                sender.buf[slot.inner_start..][..inner].copy_from_slice(&fresh);
            }
            sender.seal();
            buf.copy_from_slice(&sender.buf);
            timed(|| {
                receiver.pipeline.begin_batch(common::NOW);
                let opened = receiver.pipeline.open_train(
                    &mut buf,
                    &mut slots,
                    side_a(),
                    Encapsulation::Udp,
                );
                assert_eq!(opened, packets, "{:?}", slots[0].result);
            })
        },
    }
    .run();
}

/// Serial CBC and HMAC with everything that can be computed before computed before.
fn seal_cbc(packets: usize, inner: usize) {
    let mut sender = Sender::new(&Terms::new(CBC256), packets, inner);
    let cipher = Aes256Enc::new(&[7; 32].into());
    let mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&[7; 32]).unwrap();
    let mut bare = sender.buf.clone();
    let stride = bare.len() / packets;
    Pairing {
        name: format!("seal {CBC256} {inner} B x {packets}"),
        packets,
        bytes: inner,
        base: &mut || {
            timed(|| {
                for packet in bare.chunks_exact_mut(stride) {
                    let (authenticated, icv) = packet.split_at_mut(stride - 16);
                    let iv: [u8; 16] = authenticated[8..24].try_into().unwrap();
                    let (blocks, _) =
                        Array::<u8, U16>::slice_as_chunks_mut(&mut authenticated[24..]);
                    cbc::Encryptor::inner_iv_init(&cipher, &Array(iv)).encrypt_blocks(blocks);
                    let mut mac = mac.clone();
                    mac.update(authenticated);
                    icv.copy_from_slice(&mac.finalize().into_bytes()[..16]);
                }
                black_box(&mut bare);
            })
        },
        ours: &mut || sender.seal(),
    }
    .run();
}

fn main() {
    println!(
        "{:<34} {:>8} {:>8} {:>7} {:>11} {:>8} {:>8}",
        "per packet, in trains of 48 or 1",
        "bare ns",
        "ours ns",
        "ratio",
        "p10-p90",
        "Mpps",
        "Gbit/s"
    );
    for suite in [GCM128, GCM256] {
        for inner in [64, 512, 1400, 8192] {
            seal_gcm(suite, LONG, inner);
            open_gcm(suite, LONG, inner);
        }
        for inner in [64, 1400] {
            seal_gcm(suite, 1, inner);
            open_gcm(suite, 1, inner);
        }
    }
    for inner in [64, 512, 1392, 8192] {
        seal_cbc(LONG, inner);
    }
    seal_cbc(1, 1392);
}
