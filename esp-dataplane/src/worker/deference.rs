//! When a worker that is woken lets others on its CPU finish first.
//!
//! A packet that a program on this machine has sent wakes the worker on that program's CPU. An
//! ordinary worker interrupts it, microseconds before it would have gone to sleep to wait for the
//! answer; one of the policy for batches (`SCHED_BATCH`) does not, and costs two changes of
//! threads less. The price is the time slice of whoever computes on that CPU, for every packet.
//! So a worker that waited that long is ordinary for a while.
//!
//! Where more than one packet waits, somebody sends as many as he can: whoever waited for him to
//! finish would find the queue full.

use core::time::Duration;

use super::waits::Waits;

/// Packets that have to come one by one before it is so.
const AFTER: u8 = 16;

/// The wait is asked for after one rest, then after two more, and so on up to every so many.
const SELDOM: u8 = 32;

/// Whether the calling thread defers to others.
#[derive(Debug)]
pub(super) struct Deference {
    waits: Waits,
    /// Packets that came one by one of late.
    singles: u8,
    is_shown: bool,
    /// What it had waited when last asked.
    settled: Duration,
    /// Sleeps since then.
    sleeps: u8,
    /// So many are enough to ask.
    asked_after: u8,
}

impl Deference {
    pub(super) fn new() -> Self {
        Self {
            waits: Waits::of_this_thread(),
            singles: 0,
            is_shown: false,
            settled: Duration::ZERO,
            sleeps: 0,
            asked_after: 1,
        }
    }

    #[cfg(test)]
    pub(super) fn set_waits(&mut self, waits: Waits) {
        self.waits = waits;
    }

    pub(super) const fn is_shown(&self) -> bool {
        self.is_shown
    }

    /// A round is over that brought more than one packet, or is among trains.
    pub(super) const fn note_rush(&mut self) {
        self.singles = 0;
    }

    /// A packet came alone.
    pub(super) fn note_single(&mut self) {
        self.singles = AFTER.min(self.singles + 1);
    }

    /// The worker slept before this round: what it waited for its CPU, on average since this was
    /// last answered.
    pub(super) fn wait(&mut self) -> Option<Duration> {
        self.sleeps = self.sleeps.saturating_add(1);
        if !self.is_shown || self.sleeps < self.asked_after {
            return None;
        }
        let total = self.waits.total()?;
        let wait = total.saturating_sub(self.settled) / u32::from(self.sleeps);
        self.settled = total;
        self.sleeps = 0;
        self.asked_after = SELDOM.min(self.asked_after * 2);
        Some(wait)
    }

    /// Whether to defer from now on, unless somebody computes on this CPU. Where the kernel does
    /// not say what a thread has waited, never.
    pub(super) fn decide(&mut self, somebody_computes: bool) -> bool {
        let should = self.singles == AFTER && !somebody_computes;
        if should && !self.is_shown {
            let Some(total) = self.waits.total() else {
                self.singles = 0;
                return false;
            };
            self.settled = total;
            self.sleeps = 0;
            self.asked_after = 1;
        }
        self.is_shown = should;
        should
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_singles(count: u8) -> Deference {
        let mut deference = Deference::new();
        deference.waits = Waits::told(Duration::ZERO);
        for _packet in 0..count {
            deference.note_single();
        }
        deference
    }

    #[test]
    fn it_takes_many_single_packets_and_one_rush_ends_it() {
        assert!(!after_singles(AFTER - 1).decide(false));
        let mut deference = after_singles(AFTER);
        assert!(deference.decide(false));
        assert!(deference.is_shown());
        deference.note_rush();
        assert!(!deference.decide(false));
        deference.note_single();
        assert!(!deference.decide(false));
    }

    #[test]
    fn nobody_defers_to_whoever_computes() {
        let mut deference = after_singles(AFTER);
        assert!(!deference.decide(true));
        assert!(deference.decide(false), "once that has ended");
    }

    #[test]
    fn a_kernel_that_keeps_no_account_is_asked_now_and_then_only() {
        let mut deference = after_singles(AFTER);
        deference.waits = Waits::none();
        assert!(!deference.decide(false));
        deference.note_single();
        assert!(!deference.decide(false));
    }

    #[test]
    fn what_it_waited_is_asked_for_less_and_less_often() {
        let mut deference = after_singles(AFTER);
        assert_eq!(deference.wait(), None, "it does not defer yet");
        assert!(deference.decide(false));
        let asked: Vec<usize> = (1..=127).filter(|_| deference.wait().is_some()).collect();
        assert_eq!(asked, [1, 3, 7, 15, 31, 63, 95, 127]);
    }

    #[test]
    fn a_wait_is_the_average_since_it_was_last_asked_for() {
        let mut deference = after_singles(AFTER);
        deference.waits = Waits::told(Duration::from_micros(100));
        assert!(deference.decide(false));
        deference.waits = Waits::told(Duration::from_micros(150));
        assert_eq!(deference.wait(), Some(Duration::from_micros(50)));
        deference.waits = Waits::told(Duration::from_micros(350));
        assert_eq!(deference.wait(), None);
        assert_eq!(deference.wait(), Some(Duration::from_micros(100)));
    }
}
