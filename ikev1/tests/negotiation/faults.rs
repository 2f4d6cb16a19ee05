//! Loss, duplicates, replays and tampering, at each position of the nine messages.

use core::time::Duration;

use ikev1::DropReason;

use super::config::both;
use super::pair::{Fate, Flight, Pair, Side};

const NINE: core::ops::Range<usize> = 0..9;
const SOON: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_mins(3);

#[test]
fn each_message_may_be_lost() {
    for lost in NINE {
        let (alice, bob) = both();
        let mut pair = Pair::new(alice, bob);
        pair.lose(&[lost]);
        pair.run_until_up(Duration::from_secs(2));
        pair.run_for(LONG);
        pair.assert_consistent();
        assert!(pair.is_up(), "message {lost}");
        assert_eq!(pair.alice().data_plane.pairs.len(), 1, "message {lost}");
    }
}

#[test]
fn each_message_may_be_lost_three_times() {
    for lost in NINE {
        let (alice, bob) = both();
        let mut pair = Pair::new(alice, bob);
        let mut content = None;
        let mut losses = 0;
        pair.network(move |flight| {
            if flight.number == lost {
                content = Some(flight.payload.clone());
            }
            if content.as_ref() == Some(&flight.payload) && losses < 3 {
                losses += 1;
                return Fate::Drop;
            }
            Fate::Deliver
        });
        pair.run_until_up(Duration::from_secs(10));
        pair.run_for(LONG);
        pair.assert_consistent();
    }
}

#[test]
fn each_message_may_come_twice() {
    for twice in NINE {
        let (alice, bob) = both();
        let mut pair = Pair::new(alice, bob);
        pair.network(move |flight| {
            if flight.number == twice {
                Fate::Duplicate
            } else {
                Fate::Deliver
            }
        });
        pair.run_until_up(SOON);
        pair.run_for(LONG);
        pair.assert_consistent();
        assert_eq!(pair.bob().data_plane.pairs.len(), 1, "message {twice}");
    }
}

#[test]
fn every_message_may_come_twice() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.network(|_| Fate::Duplicate);
    pair.run_until_up(SOON);
    pair.run_for(LONG);
    pair.assert_consistent();
    assert!(pair.sent.len() < 40, "duplicates do not breed");
}

#[test]
fn each_message_may_be_overtaken() {
    for late in NINE {
        let (alice, bob) = both();
        let mut pair = Pair::new(alice, bob);
        pair.network(move |flight| {
            if flight.number == late {
                Fate::Delay(Duration::from_millis(1200))
            } else {
                Fate::Deliver
            }
        });
        pair.run_until_up(SOON);
        pair.run_for(LONG);
        pair.assert_consistent();
    }
}

#[test]
fn a_phase1_responder_never_resends_on_its_own() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.network(|flight| match flight.from {
        Side::Alice if flight.number > 0 => Fate::Drop,
        Side::Alice | Side::Bob => Fate::Deliver,
    });
    pair.run_for(LONG);
    let from_bob = pair.sent.iter().filter(|f| f.from == Side::Bob).count();
    assert_eq!(from_bob, 1, "one answer to the one question it got");
    assert_eq!(
        pair.bob().negotiator.load().half_open,
        0,
        "and then it forgets"
    );
}

#[test]
fn the_whole_conversation_replayed_changes_nothing() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    pair.run_for(LONG);
    let recorded = pair.sent.clone();
    let before = (pair.alice().negotiator.load(), pair.bob().negotiator.load());
    for flight in &recorded {
        let to = flight.from.other();
        pair.inject(to, flight.source, flight.target, &flight.payload);
        pair.run_for(Duration::from_millis(100));
    }
    pair.run_for(LONG);
    pair.assert_consistent();
    assert_eq!(pair.alice().negotiator.load(), before.0);
    assert_eq!(pair.bob().negotiator.load(), before.1);
    assert!(pair.bob().dropped(DropReason::ReplayedMessageId) > 0);
    assert!(pair.is_up());
}

#[test]
fn one_flipped_bit_never_makes_a_wrong_sa() {
    let mut lengths = vec![0; 9];
    let (alice, bob) = both();
    let mut clean = Pair::new(alice, bob);
    clean.run_until_up(SOON);
    for flight in &clean.sent {
        lengths[flight.number] = flight.payload.len();
    }
    for (number, length) in lengths.into_iter().enumerate() {
        for byte in 0..length {
            // One bit of each byte: all eight take eight times as long and find the same.
            flip_one_bit(number, byte, byte % 8);
        }
    }
}

fn flip_one_bit(number: usize, byte: usize, bit: usize) {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.network(move |flight: &Flight| {
        if flight.number != number {
            return Fate::Deliver;
        }
        let mut payload = flight.payload.clone();
        payload[byte] ^= 1 << bit;
        Fate::Replace(payload)
    });
    pair.run_for(Duration::from_secs(8));
    pair.assert_no_wrong_keys();
    pair.reliable();
    pair.run_until_up(Duration::from_mins(5));
    pair.assert_no_wrong_keys();
}
