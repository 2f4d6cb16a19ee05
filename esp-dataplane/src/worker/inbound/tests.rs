//! What several workers make of one peer's packets is what one worker makes of them.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ipsec_types::{
    Direction, EspSaPair, EspSaParams, EspSuite, SaLifetime, SecretBytes, SelectorPair, SendGate,
    Spi, TrafficSelector,
};
use proptest::prelude::*;
use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};
use vti::{Offloads, TunQueue};

use super::*;
use crate::io::{EspWire, IoCounters, SocketOptions, UdpWire};
use crate::packet::SealSlot;
use crate::replay::ReplayWindowSize;
use crate::table::{InstallOptions, Sad, SadConfig};
use crate::worker::ControlSink;
use crate::worker::crew::Crew;
use crate::worker::listener::Listener;
use crate::worker::queues::Queues;
use crate::worker::thread::CoreSetup;

const CONNECTION: ConnectionId = ConnectionId(7);

#[test]
fn the_nat_t_port_carries_three_kinds() {
    let of = |datagram: &[u8]| Kind::of(datagram, Encapsulation::Udp);
    assert_eq!(of(&[0xff]), Kind::Keepalive);
    assert_eq!(of(&[0, 0, 0, 0, 1, 2]), Kind::Ike);
    assert_eq!(of(&[0, 0, 1, 0, 1, 2]), Kind::Esp);
    assert_eq!(of(&[0xff, 0xff, 0xff, 0xff]), Kind::Esp);
    assert_eq!(of(&[0, 0]), Kind::Neither);
    assert_eq!(of(&[]), Kind::Neither);
    assert_eq!(Kind::of(&[0; 8], Encapsulation::Esp), Kind::Esp);
}

fn outer() -> SocketAddr {
    "192.0.2.1:4500".parse().unwrap()
}

/// An SA that talks to itself, with the smallest replay window: whoever lets workers run ahead
/// of each other loses packets here.
fn pair() -> EspSaPair {
    let any = TrafficSelector::net("0.0.0.0/0".parse().unwrap());
    let suite: EspSuite = "aes128gcm16".parse().unwrap();
    let params = |direction| EspSaParams {
        spi: Spi::MIN,
        direction,
        suite,
        encryption_key: SecretBytes::new(vec![1; suite.encryption_key_len()]),
        integrity_key: SecretBytes::new(vec![2; suite.integrity_key_len()]),
        esn: true,
        selectors: SelectorPair {
            local: any,
            remote: any,
        },
        encapsulation: Encapsulation::Udp,
        local: outer(),
        remote: outer(),
    };
    EspSaPair {
        connection: CONNECTION,
        inbound: params(Direction::Inbound),
        outbound: params(Direction::Outbound),
        lifetime: SaLifetime {
            time: Duration::from_secs(60),
            kilobytes: None,
        },
    }
}

fn sad(workers: usize) -> Arc<Sad> {
    let config = SadConfig {
        workers,
        ..SadConfig::default()
    };
    let (sad, _events) = Sad::new(config);
    let options = InstallOptions {
        replay_window: ReplayWindowSize::new(ReplayWindowSize::MIN).unwrap(),
        ..InstallOptions::default()
    };
    sad.install_pair(&pair(), options).unwrap();
    sad
}

/// One's complement sum of 16-bit words (RFC 1071).
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!(folded as u16)).to_be_bytes()
}

/// Segment `number` of one of two TCP streams.
fn segment(number: u32) -> Vec<u8> {
    const PAYLOAD: u32 = 100;
    let stream = (number / 5 % 2) as u8;
    let mut packet = vec![0x45, 0, 0, 140, 0, 0, 0x40, 0, 64, 6, 0, 0];
    packet.extend([10, 1, 0, 1, 10, 2, 0, 1]);
    packet.extend([0x10, stream, 0x20, 0]);
    packet.extend((number * PAYLOAD).to_be_bytes());
    packet.extend([0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    packet.extend((0..PAYLOAD).map(|i| (number * 31 + i) as u8));
    let header = checksum(&[&packet[..20]]);
    packet[10..12].copy_from_slice(&header);
    let pseudo = [0, 6, 0, 120];
    let whole = checksum(&[&packet[12..20], &pseudo, &packet[20..]]);
    packet[36..38].copy_from_slice(&whole);
    packet
}

/// The segments of `count` packets, sealed.
fn sealed(count: u32) -> Vec<Vec<u8>> {
    let sad = sad(1);
    let sa = sad.outbound(CONNECTION, Spi::MIN).unwrap();
    let mut pipeline = sad.pipeline(0);
    let seal = |number| {
        let inner = segment(number);
        let mut buffer = vec![0; sa.sealed_len(inner.len())];
        let start = sa.header_len();
        buffer[start..start + inner.len()].copy_from_slice(&inner);
        let mut slots = [SealSlot::new(start, inner.len())];
        assert_eq!(pipeline.seal_train(&sa, &mut buffer, &mut slots), 1);
        buffer
    };
    (0..count).map(seal).collect()
}

struct NoSink;

impl ControlSink for NoSink {
    fn nat_t_datagram(&self, _: SocketAddr, _: SocketAddr, _: &[u8]) -> bool {
        true
    }
}

/// The workers of a data plane without their threads, and the host's end of their device.
struct Yard {
    sad: Arc<Sad>,
    crew: Arc<Crew>,
    ports: Arc<Ports>,
    host: OwnedFd,
    counters: Arc<IoCounters>,
}

impl Yard {
    fn new(workers: usize) -> Self {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (host, device) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        sockopt::set_socket_send_buffer_size(&device, 4 << 20).unwrap();
        let offloads = Offloads {
            virtio_header: true,
            tcp: true,
            udp: true,
        };
        let mut ports = Ports::default();
        let port = Port {
            queues: Arc::new(Queues::new([TunQueue::from_parts(
                device,
                &"vti0".into(),
                offloads,
            )])),
            own: 0..1,
            mss: None,
        };
        ports.add(0, CONNECTION, port);
        let wakes = (0..workers).map(|_| Arc::new(eventfd(0, EventfdFlags::NONBLOCK).unwrap()));
        Self {
            sad: sad(workers),
            crew: Crew::new(wakes, workers),
            ports: Arc::new(ports),
            host,
            counters: Arc::default(),
        }
    }

    fn core(&self, number: usize) -> Core {
        let mut core = Core::new(CoreSetup {
            gate: Arc::new(SendGate::closed()),
            sink: Arc::new(NoSink),
            counters: Arc::clone(&self.counters),
            pipeline: self.sad.pipeline(number),
            crew: Arc::clone(&self.crew),
            number,
        });
        core.ports = Arc::clone(&self.ports);
        core
    }

    /// What the host got, in order, and how many packets were opened, refused and given up.
    fn outcome(&self) -> (Vec<Vec<u8>>, [u64; 3]) {
        let mut buffer = vec![0; 70_000];
        let mut frames = Vec::new();
        while let Ok(len) = rustix::io::read(&self.host, &mut buffer) {
            frames.push(buffer[..len].to_vec());
        }
        let counters = self.sad.counters();
        let refused = counters.drops.values().sum();
        let given_up = self.counters.turns_given_up.load(Ordering::Relaxed);
        (frames, [counters.opened.packets, refused, given_up])
    }
}

fn origin() -> Origin {
    Origin {
        local: outer(),
        encapsulation: Encapsulation::Udp,
    }
}

fn by_one(bursts: &[Vec<Vec<u8>>]) -> (Vec<Vec<u8>>, [u64; 3]) {
    let yard = Yard::new(1);
    let mut core = yard.core(0);
    for burst in bursts {
        core.open_here(&mut Burst::of(burst, outer()), origin());
    }
    yard.outcome()
}

/// One lays out and opens when the ring is full; the others help, and each dawdles by its own
/// pattern.
fn by_several(bursts: &[Vec<Vec<u8>>], workers: usize) -> (Vec<Vec<u8>>, [u64; 3], u64) {
    let yard = Yard::new(workers);
    let (end, helped) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 1..workers {
            let (yard, end, helped) = (&yard, &end, &helped);
            scope.spawn(move || {
                let mut core = yard.core(number);
                let mut round = 0;
                while !end.load(Ordering::Relaxed) {
                    if let Some(taken) = yard.crew.take_any(number) {
                        for _dawdle in 0..(round * 13 * number) % 7 {
                            thread::yield_now();
                        }
                        core.open_in_turn(taken);
                        helped.fetch_add(1, Ordering::Relaxed);
                    }
                    round += 1;
                    thread::yield_now();
                }
            });
        }
        let mut core = yard.core(0);
        for burst in bursts {
            let mut burst = Burst::of(burst, outer());
            while !yard.crew.lay_out(0, &mut burst, origin(), &yard.ports) {
                match yard.crew.take_own(0) {
                    Some(taken) => core.open_in_turn(taken),
                    None => thread::yield_now(),
                }
            }
        }
        core.call_helpers_home();
        end.store(true, Ordering::Relaxed);
    });
    assert!(!yard.crew.has_work());
    let (frames, counts) = yard.outcome();
    (frames, counts, helped.into_inner())
}

/// What happens to packets on the way.
#[derive(Debug, Clone)]
enum Mishap {
    /// The packet comes again, so much later.
    Replay(usize, usize),
    /// A bit of it is wrong.
    Corrupt(usize, usize),
    /// It swaps places with another.
    Swap(usize, usize),
    /// It gets lost.
    Lose(usize),
}

impl Mishap {
    fn befall(&self, packets: &mut Vec<Vec<u8>>) {
        let len = packets.len();
        match *self {
            Self::Replay(at, later) => {
                let copy = packets[at % len].clone();
                packets.insert((at % len + later).min(len), copy);
            }
            Self::Corrupt(at, byte) => {
                let packet = &mut packets[at % len];
                let byte = byte % packet.len();
                packet[byte] ^= 0x10;
            }
            Self::Swap(a, b) => packets.swap(a % len, b % len),
            Self::Lose(at) => drop(packets.remove(at % len)),
        }
    }
}

fn mishap() -> impl Strategy<Value = Mishap> {
    let place = || 0_usize..1000;
    prop_oneof![
        (place(), 0_usize..150).prop_map(|(at, later)| Mishap::Replay(at, later)),
        (place(), place()).prop_map(|(at, byte)| Mishap::Corrupt(at, byte)),
        (place(), place()).prop_map(|(a, b)| Mishap::Swap(a, b)),
        place().prop_map(Mishap::Lose),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn several_workers_write_what_one_would(
        count in 50_u32..400,
        mishaps in proptest::collection::vec(mishap(), 0..40),
        lengths in proptest::collection::vec(1_usize..40, 1..10),
        workers in 2_usize..5,
    ) {
        let mut packets = sealed(count);
        for mishap in &mishaps {
            mishap.befall(&mut packets);
        }
        let mut bursts = Vec::new();
        let mut rest = &packets[..];
        for length in lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (burst, others) = rest.split_at((*length).min(rest.len()));
            bursts.push(burst.to_vec());
            rest = others;
        }
        let one = by_one(&bursts);
        let (frames, counts, _helped) = by_several(&bursts, workers);
        prop_assert_eq!(one.1, counts);
        prop_assert!(one.0 == frames, "other frames, or another order");
    }
}

/// The property above says nothing unless helpers do help.
#[test]
fn helpers_get_their_share() {
    let bursts: Vec<_> = sealed(3000).chunks(10).map(<[_]>::to_vec).collect();
    let mut helped = 0;
    for _attempt in 0..20 {
        let (frames, counts, share) = by_several(&bursts, 3);
        assert_eq!(counts, [3000, 0, 0]);
        assert_eq!(frames, by_one(&bursts).0);
        helped += share;
        if helped > 50 {
            return;
        }
    }
    panic!("{helped} bursts only were opened by helpers");
}

/// A helper that is gone with a parcel is not waited for without end, and what came behind it
/// is written.
#[test]
fn a_helper_that_never_comes_back_is_given_up() {
    let yard = Yard::new(2);
    let packets = sealed(20);
    let mut core = yard.core(0);
    let lay_out = |packets: &[Vec<u8>]| {
        let mut burst = Burst::of(packets, outer());
        yard.crew.lay_out(0, &mut burst, origin(), &yard.ports)
    };
    assert!(lay_out(&packets[..10]));
    let lost = yard.crew.take_any(1).unwrap();
    assert!(lay_out(&packets[10..]));
    core.call_helpers_home();
    let (frames, [opened, refused, given_up]) = yard.outcome();
    assert_eq!((opened, refused), (10, 0));
    assert!(!frames.is_empty() && given_up > 0);
    // Its place is not filled again while it is gone; the others are.
    assert!((0..2).all(|_| lay_out(&[])) && !lay_out(&[]));
    core.call_helpers_home();
    // It was only very slow: late packets are as good as any that come late.
    yard.core(1).open_in_turn(lost);
    assert_eq!(yard.outcome().1[0], 20);
    assert!(lay_out(&[]));
}

#[test]
fn a_worker_alone_lays_nothing_out() {
    let yard = Yard::new(1);
    let mut burst = Burst::of(&sealed(3), outer());
    assert!(!yard.crew.lay_out(0, &mut burst, origin(), &yard.ports));
    assert!(!yard.crew.has_helper(0) && !yard.crew.wake_one(0));
    assert_eq!(burst.parts().0.len(), 3, "it is still there");
}

/// Who is woken rests no more, so that the next parcel wakes somebody else.
#[test]
fn everybody_who_rests_is_woken_once() {
    let yard = Yard::new(3);
    for rests in [0, 2] {
        yard.crew.set_rest(rests, true);
    }
    assert!(yard.crew.wake_one(1) && yard.crew.wake_one(1) && !yard.crew.wake_one(1));
    yard.crew.set_rest(1, true);
    assert!(!yard.crew.wake_one(1), "nobody wakes itself");
}

/// How many of 40 small datagrams come with one call, after a long one and a small one.
fn burst_after_a_small_one(beside_singles: bool) -> Option<usize> {
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let options = SocketOptions::default();
    // Raw sockets are for the privileged.
    let esp = EspWire::open(local.ip(), (0, 1), &options).ok()?;
    let udp = UdpWire::open(local, 1, &options).unwrap().remove(0);
    let receives = udp.try_clone().unwrap();
    let yard = Yard::new(1);
    let mut core = yard.core(0);
    core.beside_singles = beside_singles;
    core.listeners = vec![Some(Listener::new(local, udp, esp, None))];
    let sender = UdpSocket::bind(local).unwrap();
    // Sending on loopback is receiving.
    let send = |len| sender.send_to(&vec![0xff; len], receives.local_addr().unwrap());
    let mut batch = RxBatch::new();
    for len in [20_000, 100] {
        send(len).unwrap();
        core.inbound_burst(0, Inlet::Udp, &mut batch);
        assert_eq!(batch.bytes(), len);
    }
    for _datagram in 0..40 {
        send(100).unwrap();
    }
    core.inbound_burst(0, Inlet::Udp, &mut batch);
    Some(batch.parts().0.len())
}

#[test]
fn bursts_are_as_long_as_they_should_be_beside_single_packets_only() {
    let lengths = [true, false].map(burst_after_a_small_one);
    assert!(
        matches!(lengths, [Some(11), Some(32)] | [None, None]),
        "{lengths:?}"
    );
}
