//! The CPU is offered to whoever else wants it, unless they keep it.
//!
//! A packet that a program on this machine has sent wakes the worker on that program's CPU, and
//! interrupts the program, which would only have gone to sleep to wait for the answer. Let it: it
//! costs that program's last microseconds, and then this CPU has one thing to do. Whoever is
//! woken by the packet's next step is placed here too, and not on a CPU that has halted and takes
//! tens of microseconds to come back. The same goes for a worker that looks for packets: those
//! it has woken come first.
//!
//! A program that computes does not go to sleep, it takes a whole time slice. So nothing is
//! offered for a while after an offer that took long.

use core::time::Duration;
use std::time::Instant;

use super::schedule::involuntary_switches;

/// An offer that takes less found nobody: no two changes of threads take so little.
const NOBODY: Duration = Duration::from_micros(2);

/// Whoever sends or answers a packet is done before.
const LONG: Duration = Duration::from_micros(300);

/// For how long nothing is offered after a long one, which may have been a chance; each time that
/// it happens again, twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// At most for so long.
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

/// Whether offers are made.
#[derive(Debug)]
struct Patience {
    /// Nothing is offered before.
    until: Option<Instant>,
    pause: Duration,
}

impl Patience {
    const fn new() -> Self {
        Self {
            until: None,
            pause: FIRST_PAUSE,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Somebody took an offer, and so much time until `now`.
    fn note(&mut self, now: Instant, took: Duration) {
        if took < LONG {
            return;
        }
        // Calm for as long as the last pause was: whoever computed then has ended.
        let is_calm = self.until.is_none_or(|until| now > until + self.pause);
        self.pause = match is_calm {
            true => FIRST_PAUSE,
            false => LONGEST_PAUSE.min(self.pause * 2),
        };
        self.until = Some(now + self.pause);
    }
}

/// The offers of the calling thread.
#[derive(Debug)]
pub(super) struct Offers {
    patience: Patience,
    /// Times that the kernel gave this thread's CPU to another one, when last asked.
    switches: u64,
    /// An offer took long enough for somebody else.
    was_taken: bool,
}

impl Offers {
    pub(super) fn new() -> Self {
        Self {
            patience: Patience::new(),
            switches: involuntary_switches(),
            was_taken: false,
        }
    }

    /// As after an offer that took very long.
    #[cfg(test)]
    pub(super) fn withheld() -> Self {
        let mut offers = Self::new();
        offers.patience.until = Some(Instant::now() + LONGEST_PAUSE);
        offers
    }

    /// Whether an offer should be made at `now`: nobody has taken one for long of late.
    pub(super) fn are_made(&self, now: Instant) -> bool {
        !self.patience.is_over(now)
    }

    /// Leaves the CPU, at `now`, to whoever waits for it on this CPU; returns the time
    /// afterwards.
    pub(super) fn offer(&mut self, now: Instant) -> Instant {
        rustix::thread::sched_yield();
        let after = Instant::now();
        let took = after.saturating_duration_since(now);
        self.was_taken |= took >= NOBODY;
        // An interrupt or the hypervisor takes long, too, but the counter does not count them.
        if took >= LONG && involuntary_switches() != self.switches {
            self.patience.note(after, took);
        }
        after
    }

    /// The worker waited for so long, until `now`, before others left it this CPU.
    pub(super) fn note_wait(&mut self, now: Instant, wait: Duration) {
        self.patience.note(now, wait);
    }

    /// Whether somebody else had this CPU since the last time that this was asked, while the
    /// worker would have gone on: in an offer that was taken, or, if that is of interest, at any
    /// other time.
    pub(super) fn had_company(&mut self, at_any_time: bool) -> bool {
        if !core::mem::take(&mut self.was_taken) && !at_any_time {
            return false;
        }
        let before = core::mem::replace(&mut self.switches, involuntary_switches());
        self.switches != before
    }
}

#[cfg(test)]
mod tests {
    use super::super::schedule::beside_a_program_that_computes;
    use super::*;

    #[test]
    fn a_short_offer_is_followed_by_others() {
        let mut patience = Patience::new();
        let now = Instant::now();
        patience.note(now, LONG - Duration::from_nanos(1));
        assert!(!patience.is_over(now));
    }

    #[test]
    fn pauses_double_while_somebody_computes() {
        let mut patience = Patience::new();
        let mut now = Instant::now();
        let doubled = (0..).map(|times| FIRST_PAUSE * (1 << times));
        let pauses = doubled.take_while(|pause| *pause < LONGEST_PAUSE);
        for pause in pauses.chain([LONGEST_PAUSE; 2]) {
            patience.note(now, LONG);
            assert!(patience.is_over(now + pause - Duration::from_nanos(1)));
            assert!(!patience.is_over(now + pause), "{pause:?}");
            now += pause;
        }
        // Nobody took long for as long as the last pause was.
        now += LONGEST_PAUSE + Duration::from_nanos(1);
        patience.note(now, LONG);
        assert!(!patience.is_over(now + FIRST_PAUSE));
    }

    /// What another thread on the same CPU, which computes, takes of the offers.
    #[test]
    fn whoever_keeps_the_cpu_is_offered_nothing_for_a_while() {
        beside_a_program_that_computes(|| {
            let mut offers = Offers::new();
            let start = Instant::now();
            while offers.are_made(Instant::now()) {
                offers.offer(Instant::now());
                assert!(start.elapsed() < Duration::from_secs(60), "{offers:?}");
            }
            assert!(offers.had_company(false));
            assert!(!offers.had_company(false), "that was told already");
        });
    }
}
