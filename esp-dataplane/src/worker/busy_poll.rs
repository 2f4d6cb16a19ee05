//! When a worker sleeps.

use core::time::Duration;
use std::time::Instant;

use super::trains::Trains;

/// Whether a worker without work looks for packets for a while before it sleeps.
///
/// A wake-up costs more than looking for tens of microseconds, on a virtual machine most of all.
/// But where packets come seldom, looking finds none. So the last gaps decide: a gap shorter
/// than the time limit earns two tries, a try in vain costs one. An answer that comes soon after
/// its question is waited for although the next question comes late; packets that come one by
/// one at long intervals are slept for. Where others run on this CPU in a short gap it does not
/// halt, and whoever sends the next packet is one of them more likely than not: a worker that
/// looks is in their way, so such a gap costs a try too. Beside trains nobody looks: there a
/// wake-up costs little, and the hosts or another worker may be short of a CPU.
#[derive(Debug)]
pub(super) struct BusyPoll {
    limit: Duration,
    tries: u8,
    idle_since: Instant,
    /// This gap's try is over.
    gave_up: bool,
    trains: Trains,
}

impl BusyPoll {
    const MOST_TRIES: u8 = 4;

    /// In a gap of this length a CPU halts, whoever ran on it before.
    const HALTS: Duration = Duration::from_micros(150);

    /// Never looks when `limit` is zero.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            tries: 0,
            idle_since: Instant::now(),
            gave_up: true,
            trains: Trains::default(),
        }
    }

    /// There is no work at `now`: whether to go on looking.
    pub(super) fn goes_on(&mut self, now: Instant) -> bool {
        if self.tries == 0 || self.gave_up {
            return false;
        }
        if self.gap(now) < self.limit {
            return true;
        }
        self.tries -= 1;
        self.gave_up = true;
        false
    }

    /// Whether work that is found at `now` changes something for what follows.
    pub(super) fn would_earn(&self, now: Instant) -> bool {
        self.gap(now) < self.limit && self.tries < Self::MOST_TRIES
    }

    /// Work was found at `now`, by looking or by being woken; whether others had this CPU
    /// meanwhile.
    pub(super) fn found(&mut self, now: Instant, had_company: bool) {
        let gap = self.gap(now);
        if gap >= self.limit {
            return;
        }
        self.tries = match had_company && gap < Self::HALTS {
            true => self.tries.saturating_sub(1),
            false => Self::MOST_TRIES.min(self.tries + 2),
        };
    }

    /// Whether trains pass at `now`.
    pub(super) fn is_beside_trains(&self, now: Instant) -> bool {
        self.trains.are_beside(now)
    }

    /// How long there has been no work at `now`.
    pub(super) fn gap(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.idle_since)
    }

    /// The work is done at `now`; it moved so many bytes.
    pub(super) fn done(&mut self, now: Instant, bytes: usize) {
        self.idle_since = now;
        self.trains.note(now, bytes);
        self.gave_up = self.trains.are_beside(now);
    }
}

#[cfg(test)]
mod tests {
    use super::super::trains::BESIDE;
    use super::*;

    /// The gaps of some traffic, alone on the CPU; how many of them are looked through to their
    /// end or the limit.
    fn looked(limit_us: u64, gaps_us: &[u64]) -> usize {
        looked_beside(limit_us, gaps_us, false)
    }

    /// The same, also where others run in every gap.
    fn looked_beside(limit_us: u64, gaps_us: &[u64], company: bool) -> usize {
        let mut poll = BusyPoll::new(Duration::from_micros(limit_us));
        let mut now = Instant::now();
        poll.done(now, 100);
        let mut looked = 0;
        for gap in gaps_us {
            looked += usize::from(poll.goes_on(now));
            let end = now + Duration::from_micros(*gap);
            let limit = now + Duration::from_micros(limit_us);
            poll.goes_on(end.min(limit));
            now = end;
            poll.found(now, company);
            poll.done(now, 100);
        }
        looked
    }

    #[test]
    fn answers_that_come_soon_are_waited_for() {
        let questions_and_answers = [40, 1000].repeat(50);
        assert_eq!(looked(50, &questions_and_answers), 99);
    }

    #[test]
    fn packets_far_apart_are_slept_for() {
        assert_eq!(looked(50, &[200; 100]), 0);
        let lull_after_a_rush = [[10; 100], [200; 100]].concat();
        assert_eq!(looked(50, &lull_after_a_rush), 99 + 4);
    }

    #[test]
    fn who_shares_the_cpu_with_others_sleeps() {
        let questions_and_answers = [40, 1000].repeat(50);
        assert_eq!(looked_beside(50, &questions_and_answers, true), 0);
        // One that has looked until now stops soon.
        let mut poll = BusyPoll::new(Duration::from_micros(50));
        let mut now = Instant::now();
        for company in [false, false, true, true, true, true] {
            poll.done(now, 100);
            now += Duration::from_micros(40);
            poll.found(now, company);
        }
        poll.done(now, 100);
        assert!(!poll.goes_on(now));
    }

    #[test]
    fn a_limit_beyond_a_halt_is_for_looking_whoever_shares_the_cpu() {
        assert_eq!(looked_beside(2000, &[40, 1000].repeat(50), true), 98);
    }

    #[test]
    fn nobody_looks_beside_trains() {
        let mut poll = BusyPoll::new(Duration::from_micros(50));
        let now = Instant::now();
        poll.done(now, 100);
        poll.found(now, false);
        poll.done(now, 64 << 10);
        assert!(!poll.goes_on(now));
        poll.done(now + BESIDE / 2, 100);
        assert!(!poll.goes_on(now + BESIDE / 2));
        poll.done(now + BESIDE, 100);
        assert!(poll.goes_on(now + BESIDE));
    }

    #[test]
    fn a_limit_of_zero_never_looks() {
        assert_eq!(looked(0, &[0, 1, 1000]), 0);
    }
}
