//! Who may send next: several workers seal for one SA at the same time, and send in the order
//! of their sequence numbers.
//!
//! ```text
//!   worker 1   reserve 1..48    seal ........... send    pass(49)
//!   worker 2   reserve 49..96   seal ... wait_for(49) ........... send    pass(97)
//! ```
//!
//! Without this, a train that was reserved early and sent late would arrive behind any number
//! of later ones, and a peer with a replay window of 32 packets (the default of Linux) would
//! refuse it whole.
//!
//! A worker sends what it has reserved in the order of its reservations, and waits for nothing
//! else while it holds a turn. So whoever waits, waits for an earlier reservation, and nobody
//! waits for ever.

use core::time::Duration;
use std::time::Instant;

use crate::sync::{AtomicU64, Ordering};

/// Looks before a waiting worker offers its CPU to others: about a microsecond.
const SPINS: u32 = 64;

/// Nobody is so slow but a worker that is gone; the others go on without it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The next number to be sent.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Turnstile {
    next: AtomicU64,
}

impl Turnstile {
    /// Numbers below `next` have been sent.
    pub(crate) const fn new(next: u64) -> Self {
        Self {
            next: AtomicU64::new(next),
        }
    }

    /// True when everything before `first` has been sent.
    pub(crate) fn is_open_for(&self, first: u64) -> bool {
        // Acquire: what was sent before us was handed to the kernel before us.
        self.next.load(Ordering::Acquire) >= first
    }

    /// Returns when everything before `first` has been sent; false when a worker seems to be
    /// gone with its turn.
    pub(crate) fn wait_for(&self, first: u64) -> bool {
        for _spin in 0..SPINS {
            if self.is_open_for(first) {
                return true;
            }
            core::hint::spin_loop();
        }
        self.wait_long(first)
    }

    #[cold]
    fn wait_long(&self, first: u64) -> bool {
        let start = Instant::now();
        while !self.is_open_for(first) {
            if start.elapsed() > PATIENCE {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    /// Everything before `after` has been sent, or never will be.
    pub(crate) fn pass(&self, after: u64) {
        self.next.fetch_max(after, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::{SequenceRange, SequenceWidth};
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
}
