//! Bodies of the fuzz targets, callable from the replay test as well. Each panics when something
//! that must hold does not; hidden from the documentation, and not for use.
#![expect(clippy::panic, reason = "a finding ends the run")]

use core::time::Duration;
use std::sync::Arc;

use ipsec_types::{SecretBytes, SendGate};
use rand_core::{CryptoRng, TryCryptoRng, TryRng};

use crate::advert::{ADVERT_LEN, Sealer};
use crate::channel::{Channel, Rotation};
use crate::election::{Condition, Config, State};
use crate::io::arp;
use crate::node::{NodeConfig, Order, PairNode};
use crate::replication::{Key, Kind, Message, Record, Supported};
use crate::secret::PairSecret;
use crate::vocabulary::{AdvertInterval, Member, PathId, Revision};

/// Chance without chance: a counter.
struct Count(u64);

impl TryRng for Count {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        self.try_next_u64().map(|value| value as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        self.0 += 1;
        Ok(self.0)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        for (byte, value) in out.iter_mut().zip(1..) {
            *byte = value;
        }
        Ok(())
    }
}

impl TryCryptoRng for Count {}

fn secret() -> Option<PairSecret> {
    PairSecret::new(SecretBytes::new(vec![3; 32])).ok()
}

/// A datagram from anyone, and the same bytes with a good MAC: what opens must seal to itself.
pub fn advert(datagram: &[u8]) {
    let Some(secret) = secret() else { return };
    let sealer = Sealer::new(&secret);
    let _ = sealer.open(datagram);
    let mut body = datagram.to_vec();
    body.resize(ADVERT_LEN - 32, 0);
    let sealed = sealer.with_mac(body);
    if let Ok(advert) = sealer.open(&sealed) {
        let again = sealer.seal(&advert);
        assert_eq!(sealer.open(&again), Ok(advert));
    }
}

/// A frame out of the sync channel.
pub fn message(frame: &[u8]) {
    if let Ok(message) = Message::decode(frame) {
        let again = message.encode();
        assert_eq!(Message::decode(again.expose()).as_ref(), Ok(&message));
    }
}

/// Bytes on the sync port, before and after somebody has shown the secret.
pub fn channel(bytes: &[u8]) {
    let Some(secret) = secret() else { return };
    let end = |member, rng: &mut dyn CryptoRng| {
        Channel::new(&secret, member, Rotation::default(), rng, Duration::ZERO)
    };
    let mut stranger = end(Member::A, &mut Count(0));
    let _ = stranger.receive(bytes);
    assert!(!stranger.is_open() && stranger.poll_message().is_none());

    let mut a = end(Member::A, &mut Count(0));
    let mut b = end(Member::B, &mut Count(100));
    let _ = a.receive(b.outgoing());
    let _ = b.receive(a.outgoing());
    assert!(b.is_open());
    let _ = b.receive(bytes);
    assert!(b.poll_message().is_none(), "nobody else has the keys");
}

/// A frame on a link.
pub fn frame(bytes: &[u8]) {
    let _ = arp::parse(bytes);
}

/// A node under any sequence of inputs: whatever happens, the gate is open only in a state that
/// may speak, and only for a lease.
pub fn node(script: &[u8]) {
    let (Some(secret), Ok(interval)) = (secret(), AdvertInterval::new(Duration::from_millis(100)))
    else {
        return;
    };
    let gate = Arc::new(SendGate::closed());
    let config = NodeConfig::new(Config::new(Member::A, interval), Supported::new(|_| 1));
    let mut now = Duration::from_secs(1);
    let mut node = PairNode::new(config, &secret, Arc::clone(&gate), &mut Count(0), now);
    let sealer = Sealer::new(&secret);
    let mut rest = script;
    while let Some(([what, length], tail)) = rest.split_first_chunk::<2>() {
        let (data, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = tail;
        now += Duration::from_millis(u64::from(what >> 4) * 20);
        input(&mut node, now, *what & 15, data, &sealer);
        drain(&mut node, now);
        check(&node, &gate, now);
    }
}

fn input(node: &mut PairNode, now: Duration, what: u8, data: &[u8], sealer: &Sealer) {
    let first = data.first().copied().unwrap_or(0);
    let good = first & 1 == 0;
    match what {
        0..=2 => node.handle_timeout(now),
        3 => {
            let mut body = data.to_vec();
            body.resize(ADVERT_LEN - 32, 0);
            let _ = node.handle_datagram(now, PathId::First, &sealer.with_mac(body));
        }
        4 => {
            let _ = node.handle_datagram(now, PathId::Second, data);
        }
        5 => node.handle_sync_up(now),
        6 => node.handle_sync_down(now),
        7 | 8 => {
            if let Ok(message) = Message::decode(data) {
                node.handle_message(now, message);
            }
        }
        9 => node.handle_path_refused(now, if good { PathId::First } else { PathId::Second }),
        10 => node.handle_condition(now, Condition::WanLink, good),
        11 => node.switchover(now),
        12 => put(node, now, data),
        13 => node.set_revision(now, Revision(u64::from(first))),
        14 => {
            let _ = node.force_switchover(now);
        }
        _ => {
            let _ = node.add_outbound(now, data, u64::from(first), u64::from(u32::MAX));
            let _ = node.report_sequence(now, data, u64::from(first) * 10_000);
        }
    }
}

fn put(node: &mut PairNode, now: Duration, data: &[u8]) {
    let Ok(key) = Key::new(Kind::IkeSa, data) else {
        return;
    };
    if let Ok(record) = Record::new(key, 1, SecretBytes::from(data)) {
        let position = node.put(now, record);
        if let Ok(position) = position {
            let _ = node.commit(now, position);
        }
    }
}

fn drain(node: &mut PairNode, now: Duration) {
    let mut polled = 0;
    while let Some(order) = node.poll_order() {
        if let Order::Perform { id, .. } = order {
            node.step_done(now, id, Ok(()));
        }
        polled += 1;
        assert!(polled < 10_000, "orders without end");
    }
    while node.poll_datagram().is_some() {}
    while node.poll_message(now).is_some() {
        polled += 1;
        assert!(polled < 10_000, "messages without end");
    }
}

fn check(node: &PairNode, gate: &SendGate, now: Duration) {
    let state = node.election().state();
    if gate.is_open(now) && !state.may_speak() {
        panic!("the gate is open as {state:?}");
    }
    assert!(
        !gate.is_open(now + Duration::from_secs(1)),
        "a lease is short"
    );
    assert!(state != State::Stopped, "nobody stopped it");
    assert!(node.poll_timeout().is_some(), "it must be woken again");
}
