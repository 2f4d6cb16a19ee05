//! A clock that is cheap enough to be read around every train.
#![expect(
    unsafe_code,
    reason = "reading the time-stamp counter has no safe form"
)]

use std::time::{Duration, Instant};

/// Reads the time-stamp counter: about 10 ns, where `Instant::now` takes 25 to 40.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn now() -> u64 {
    // SAFETY: RDTSC reads a counter and touches no memory. It faults only where the kernel
    // forbids it (prctl PR_SET_TSC), which nothing in this program asks for.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Nanoseconds since the first call, where there is no time-stamp counter.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn now() -> u64 {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

/// The ticks of repetitions of the same work. Their median is what the work takes: a
/// repetition that was interrupted by another program is far off, and has no say.
#[derive(Debug, Default)]
pub(super) struct Laps(Vec<u64>);

impl Laps {
    /// Room for so many repetitions.
    pub(super) fn with_capacity(laps: u32) -> Self {
        Self(Vec::with_capacity(laps as usize))
    }

    #[inline]
    pub(super) fn add(&mut self, from: u64, to: u64) {
        self.0.push(to.wrapping_sub(from));
    }

    /// The median; 0 without any repetition.
    pub(super) fn median(mut self) -> u64 {
        let middle = self.0.len() / 2;
        if self.0.is_empty() {
            return 0;
        }
        *self.0.select_nth_unstable(middle).1
    }
}

/// True when a tick is a cycle of the processor's base clock.
pub(super) const ARE_CYCLES: bool = cfg!(target_arch = "x86_64");

/// How many ticks a nanosecond has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate(f64);

impl Rate {
    /// Compares with the system's clock for a few milliseconds.
    pub(super) fn measure() -> Self {
        const WINDOW: Duration = Duration::from_millis(20);
        let (start, first) = (Instant::now(), now());
        let elapsed = loop {
            let elapsed = start.elapsed();
            if elapsed >= WINDOW {
                break elapsed;
            }
            std::hint::spin_loop();
        };
        let ticks = now().wrapping_sub(first);
        Self(ticks as f64 / elapsed.as_nanos() as f64)
    }

    pub(super) fn ns(self, ticks: u64) -> f64 {
        ticks as f64 / self.0
    }

    /// Ticks in a number of nanoseconds.
    pub(super) fn ticks(self, ns: f64) -> f64 {
        ns * self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_has_no_say() {
        let mut laps = Laps::with_capacity(3);
        for (from, to) in [(0, 10), (10, 1_000_000), (5, 14)] {
            laps.add(from, to);
        }
        assert_eq!(laps.median(), 10);
        assert_eq!(Laps::default().median(), 0);
    }
}
