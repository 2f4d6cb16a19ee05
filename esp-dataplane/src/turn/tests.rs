//! Turns among threads.

use crate::sequence::{SequenceRange, SequenceWidth};
use crate::turn::Turnstile;
use std::sync::Mutex;

/// Workers that reserve at random lengths and dawdle before they send: the numbers leave
/// without a gap and in order.
#[test]
fn several_workers_send_in_the_order_of_their_numbers() {
    let range = SequenceRange::new(SequenceWidth::Bits64, 1, None);
    let turns = Turnstile::new(1);
    let wire = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for worker in 1..=4_u32 {
            let (range, turns, wire) = (&range, &turns, &wire);
            scope.spawn(move || {
                for round in 0..500 {
                    let run = range.reserve(1 + (round * worker) % 48).unwrap();
                    for _seal in 0..(round * 7 * worker) % 50 {
                        std::thread::yield_now();
                    }
                    assert!(turns.wait_for(run.first));
                    let numbers = run.first..run.first + u64::from(run.count);
                    wire.lock().unwrap().extend(numbers.clone());
                    turns.pass(numbers.end);
                }
            });
        }
    });
    let wire = wire.into_inner().unwrap();
    assert!(wire.iter().copied().eq(1..=wire.len() as u64));
}

#[test]
fn a_turn_that_is_passed_late_never_goes_back() {
    let turns = Turnstile::new(1);
    turns.pass(50);
    turns.pass(10);
    assert!(turns.is_open_for(50));
    assert!(!turns.is_open_for(51));
}
