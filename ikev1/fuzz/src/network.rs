//! Two honest gateways, and a network that does what the script says. When the network has
//! come to its senses, the tunnel must come up.

use std::time::Duration;

use ikev1::Command;
use ikev1::config::StartMode;
use ipsec_types::ConnectionId;

use super::lab::{Flight, Lab, Script, endpoint};

/// A script longer than this repeats itself.
const MAX_STEPS: usize = 300;
/// Both rekeys and every retransmission of a lost quick mode fit in.
const RECOVERY: Duration = Duration::from_secs(2 * 3600);

/// Runs a script of network events against two gateways.
pub fn hostile_network(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut lab = Lab::new(StartMode::OnStart);
    for _ in 0..MAX_STEPS {
        let Some(step) = script.next() else {
            break;
        };
        disturb(&mut lab, step, &mut script);
    }
    assert_recovers(&mut lab);
}

fn disturb(lab: &mut Lab, step: u8, script: &mut Script<'_>) {
    match step % 16 {
        0..=3 => deliver_next(lab, |_| {}),
        4 => _ = lab.queue.pop_front(),
        5 => {
            if let Some(flight) = lab.queue.front().cloned() {
                lab.deliver(&flight);
            }
        }
        6 => {
            if let Some(flight) = lab.queue.pop_front() {
                lab.queue.push_back(flight);
            }
        }
        7 | 8 => {
            let damage = script.take(3);
            deliver_next(lab, |payload| flip(payload, damage));
        }
        9 => {
            let cut = usize::from(script.next().unwrap_or(0));
            deliver_next(lab, |payload| {
                payload.truncate(payload.len().saturating_sub(cut));
                fix_length(payload);
            });
        }
        10 => {
            let body = script.field();
            deliver_next(lab, |payload| replace_body(payload, body));
        }
        11 => replay(lab, script.next().unwrap_or(0)),
        12 => inject(lab, step, script),
        13 => advance(lab, script.next().unwrap_or(0)),
        14 => {
            let order = script.next().unwrap_or(0);
            command(lab, order);
        }
        _ => lab.hand_over(usize::from(step >> 7)),
    }
}

fn deliver_next(lab: &mut Lab, change: impl FnOnce(&mut Vec<u8>)) {
    if let Some(mut flight) = lab.queue.pop_front() {
        change(&mut flight.payload);
        lab.deliver(&flight);
    }
}

/// Offset in two bytes, then the bits to flip.
fn flip(payload: &mut [u8], damage: &[u8]) {
    let &[high, low, bits] = damage else {
        return;
    };
    let at = usize::from(u16::from_be_bytes([high, low]));
    if let Some(byte) = payload.get_mut(at) {
        *byte ^= bits;
    }
}

/// Keeps the ISAKMP header, so that cookies and message id fit.
fn replace_body(payload: &mut Vec<u8>, body: &[u8]) {
    payload.truncate(28);
    if let (Some(next), Some((&first, rest))) = (payload.get_mut(16), body.split_first()) {
        *next = first;
        payload.extend_from_slice(rest);
    }
    fix_length(payload);
}

fn fix_length(payload: &mut [u8]) {
    let length = (payload.len() as u32).to_be_bytes();
    if let Some(field) = payload.get_mut(24..28) {
        field.copy_from_slice(&length);
    }
}

fn replay(lab: &mut Lab, which: u8) {
    let index = usize::from(which) % lab.history.len().max(1);
    if let Some(flight) = lab.history.get(index).cloned() {
        lab.deliver(&flight);
    }
}

/// A datagram out of nothing: from the peer's address or from a stranger's.
fn inject(lab: &mut Lab, step: u8, script: &mut Script<'_>) {
    let to = usize::from(step >> 7);
    let source = if step & 0x40 == 0 {
        endpoint(1 - to)
    } else {
        "203.0.113.66:500".parse().expect("a literal address")
    };
    lab.deliver(&Flight {
        to,
        source,
        target: endpoint(to),
        payload: script.field().to_vec(),
    });
}

/// To the next deadline, or by up to 17 minutes.
fn advance(lab: &mut Lab, by: u8) {
    let target = match by {
        0..128 => lab.deadline(),
        _ => Some(lab.now + Duration::from_secs(u64::from(by - 127) * 8)),
    };
    if let Some(target) = target {
        lab.advance_to(target);
    }
}

fn command(lab: &mut Lab, order: u8) {
    let side = usize::from(order >> 7);
    let connection = ConnectionId(0);
    let newest = lab.pairs(side).keys().next_back().copied();
    let command = match (order % 5, newest) {
        (0, Some(inbound)) => Command::SoftLimit { inbound },
        (1, Some(inbound)) => Command::HardLimit { inbound },
        (2, _) => Command::TrafficSeen { connection },
        (3, _) => Command::UnknownSpi {
            remote: endpoint(1 - side),
            spi: u32::from(order) << 24,
        },
        _ => Command::Initiate {
            connection,
            selectors: None,
        },
    };
    lab.command(side, command);
}

/// A network without faults from now on: at the end both sides share an SA pair.
pub fn assert_recovers(lab: &mut Lab) {
    let end = lab.now + RECOVERY;
    for _ in 0..20_000 {
        if let Some(flight) = lab.queue.pop_front() {
            lab.deliver(&flight);
            continue;
        }
        match lab.deadline() {
            Some(deadline) if deadline < end => lab.advance_to(deadline),
            _ => {
                assert!(lab.queue.is_empty());
                assert!(share_a_pair(lab), "the tunnel is dead for ever");
                return;
            }
        }
    }
    panic!("the two talk without end");
}

fn share_a_pair(lab: &Lab) -> bool {
    lab.pairs(0).values().any(|alice| {
        let bob = lab.pairs(1).get(&alice.outbound.spi);
        bob.is_some_and(|bob| {
            bob.outbound.spi == alice.inbound.spi
                && bob.outbound.encryption_key == alice.inbound.encryption_key
        })
    })
}
