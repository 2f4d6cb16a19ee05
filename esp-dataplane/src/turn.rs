//! Whose turn it is: several workers do the long part of a job side by side, and the short last
//! part in order.
//!
//! ```text
//!   worker 1   reserve 1..48    seal ........... send    pass(49)
//!   worker 2   reserve 49..96   seal ... wait_for(49) ........... send    pass(97)
//! ```
//!
//! Outbound, the order is that of an SA's sequence numbers. Without it, a train that was
//! reserved early and sent late would arrive behind any number of later ones, and a peer with a
//! replay window of 32 packets (the default of Linux) would refuse it whole. Inbound, it is the
//! order in which bursts came in by a worker's sockets (`worker::backlog`).
//!
//! A worker does what it has reserved in the order of its reservations, and waits for nothing
//! else while it holds a turn. So whoever waits, waits for an earlier reservation, and nobody
//! waits for ever.

use core::time::Duration;
use std::time::Instant;

use crate::sync::{AtomicU64, Ordering};

/// Looks before a waiting worker offers its CPU to others: about a microsecond.
const SPINS: u32 = 64;

/// Whoever has the turn and is not done by then has lost its CPU to others, perhaps for a whole
/// slice: offering ours again and again would not help it.
const OFFERS: Duration = Duration::from_micros(100);

/// How long a waiting worker sleeps before it looks again.
const NAP: Duration = Duration::from_micros(50);

/// Nobody is so slow but a worker that is gone; the others go on without it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The next number whose turn it is.
#[derive(Debug)]
#[repr(align(128))]
pub struct Turnstile {
    next: AtomicU64,
}

impl Turnstile {
    /// Numbers below `next` have had their turn.
    #[must_use]
    pub fn new(next: u64) -> Self {
        Self {
            next: AtomicU64::new(next),
        }
    }

    /// Everything below it has had its turn.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// True when everything before `first` has had its turn.
    #[must_use]
    pub fn is_open_for(&self, first: u64) -> bool {
        // Acquire: what was done before us is visible to us, and was handed to the kernel.
        self.next.load(Ordering::Acquire) >= first
    }

    /// Returns when everything before `first` has had its turn; false when a worker seems to be
    /// gone with its own.
    #[must_use]
    pub fn wait_for(&self, first: u64) -> bool {
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
            let waited = start.elapsed();
            if waited > PATIENCE {
                return false;
            }
            if waited > OFFERS {
                std::thread::sleep(NAP);
            } else {
                std::thread::yield_now();
            }
        }
        true
    }

    /// Everything before `after` has had its turn, or never will.
    pub fn pass(&self, after: u64) {
        self.next.fetch_max(after, Ordering::Release);
    }
}
