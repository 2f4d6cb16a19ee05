//! What a worker does while it has no work.
//!
//! ```text
//!   work done ──> looks, offering the CPU ──> sleeps ──> lets whoever woke it finish ──> work
//!                          │     ▲
//!                          └─────┴── finds a packet ───────────────────────────────────> work
//! ```
//!
//! Who shares its CPU matters where packets come one by one, a question and its answer. Where
//! more than one waits, somebody sends as many as he can: there a worker looks as long as that
//! finds packets, and whoever it is woken by is left to wait.
//!
//! To let others finish, a worker is of a policy that does not interrupt them (`deference`), as
//! soon as packets have come one by one for a while; before, it offers them the CPU (`offers`).

use core::time::Duration;
use std::time::Instant;

use super::busy_poll::BusyPoll;
use super::deference::Deference;
use super::offers::Offers;

/// What was done in a round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// Received and laid out for sending.
    pub(super) bytes: usize,
    /// Packets, super-packets and trains.
    pub(super) packets: usize,
}

/// The rests of the calling thread.
#[derive(Debug)]
pub(super) struct Rest {
    busy_poll: BusyPoll,
    offers: Offers,
    deference: Deference,
    /// When the last one ended, until it is settled.
    ended: Option<Instant>,
    /// The last one ended by being woken.
    slept: bool,
    was_long: bool,
    /// The last round had more than one packet, or trains pass.
    is_rush: bool,
    /// So many of those that follow are taken to be in company, as the last one was.
    like_the_last: u8,
}

/// One rest of so many is asked about while it always was in company.
const ASKED: u8 = 8;

/// Where packets wait already, the next round begins sooner.
const LONG: Duration = Duration::from_micros(5);

impl Rest {
    /// It looks for packets for at most `limit` before it sleeps.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            busy_poll: BusyPoll::new(limit),
            offers: Offers::new(),
            deference: Deference::new(),
            ended: None,
            slept: false,
            was_long: false,
            is_rush: false,
            like_the_last: 0,
        }
    }

    /// There is no work: whether to look for some once more, or to sleep.
    pub(super) fn looks(&mut self) -> bool {
        let now = Instant::now();
        // Whoever computes on this CPU leaves it at once to a worker that is woken, and only
        // at its leisure to one that looks.
        let may = self.is_rush || self.offers.are_made(now);
        let looks = may && self.busy_poll.goes_on(now);
        if looks {
            // First of all whoever was woken by the last packet.
            self.offers.offer(now);
        }
        looks
    }

    /// There is work, after the worker `slept` or looked; returns the time at which it begins.
    pub(super) fn ends(&mut self, slept: bool) -> Instant {
        let found = Instant::now();
        self.was_long = self.busy_poll.gap(found) >= LONG;
        self.ended = Some(found);
        self.slept = slept;
        let were_interrupted = slept && !self.deference.is_shown();
        if were_interrupted && !self.is_rush && self.offers.are_made(found) {
            return self.offers.offer(found);
        }
        found
    }

    /// Whether another packet is unlikely to wait already: the last rest was longer than it is
    /// then, or packets come one by one.
    pub(super) const fn finds_one(&self) -> bool {
        self.was_long || self.deference.is_shown()
    }

    /// The work is done at `now`.
    pub(super) fn begins(&mut self, now: Instant, round: Round) {
        self.is_rush = round.packets > 1 || self.busy_poll.is_beside_trains(now);
        // What the last rest was like is asked now, when no packet waits for the answer.
        if let Some(found) = self.ended.take() {
            let had_company = !self.is_rush && self.had_company(found);
            self.busy_poll.found(found, had_company);
            self.settle(now, round);
        }
        self.busy_poll.done(now, round.bytes);
    }

    /// What the rest before this round says about the next ones.
    fn settle(&mut self, now: Instant, round: Round) {
        match self.is_rush {
            true => self.deference.note_rush(),
            false if self.slept && round.packets == 1 => self.deference.note_single(),
            false => {}
        }
        if self.slept
            && let Some(wait) = self.deference.wait()
        {
            self.offers.note_wait(now, wait);
        }
    }

    /// Whether the worker lets others on its CPU finish, from `now` on, when it is woken.
    pub(super) fn defers(&mut self, now: Instant) -> bool {
        self.deference.decide(!self.offers.are_made(now))
    }

    /// Whether others had this CPU in the rest that ended at `found`.
    fn had_company(&mut self, found: Instant) -> bool {
        if self.like_the_last > 0 {
            self.like_the_last -= 1;
            return true;
        }
        let had_company = self.offers.had_company(self.busy_poll.would_earn(found));
        if had_company {
            self.like_the_last = ASKED - 1;
        }
        had_company
    }
}

#[cfg(test)]
mod tests {
    use super::super::precedence::{Precedence, Streamed};
    use super::super::schedule::beside_a_program_that_computes;
    use super::super::waits::Waits;
    use super::*;
    use crate::io::IoCounters;

    const ONE: Round = Round {
        bytes: 100,
        packets: 1,
    };
    const MANY: Round = Round {
        bytes: 1000,
        packets: 10,
    };

    /// Ten rounds, one soon after the other, with others on this CPU in every rest between them;
    /// whether the worker looks afterwards.
    fn looks_after(round: Round) -> bool {
        let mut rest = Rest::new(Duration::from_millis(1));
        let mut now = Instant::now();
        for _round in 0..10 {
            rest.begins(now, round);
            now += Duration::from_micros(10);
            rest.ended = Some(now);
            rest.like_the_last = ASKED;
        }
        rest.begins(now, round);
        rest.busy_poll.goes_on(now)
    }

    #[test]
    fn one_by_one_a_worker_in_company_sleeps() {
        assert!(!looks_after(ONE));
    }

    #[test]
    fn in_a_rush_it_looks_whoever_shares_its_cpu() {
        assert!(looks_after(MANY));
    }

    /// Whether it looks beside a program that keeps the CPU.
    fn looks_beside_a_program_that_computes(round: Round) -> bool {
        let now = Instant::now();
        let mut rest = Rest::new(Duration::from_secs(3600));
        rest.begins(now, MANY);
        rest.ended = Some(now);
        rest.begins(now, round);
        assert!(rest.looks(), "nobody computes yet");
        rest.offers = Offers::withheld();
        rest.looks()
    }

    #[test]
    fn beside_a_program_that_computes_it_looks_in_a_rush_only() {
        assert!(!looks_beside_a_program_that_computes(ONE));
        assert!(looks_beside_a_program_that_computes(MANY));
    }

    /// After so many rounds of one packet each, found by looking or after a sleep; nobody else
    /// wanted the CPU.
    fn after_singles(count: u32, slept: bool) -> (Rest, Instant) {
        let mut rest = Rest::new(Duration::ZERO);
        rest.deference.set_waits(Waits::told(Duration::ZERO));
        let mut now = Instant::now();
        for _round in 0..count {
            rest.begins(now, ONE);
            rest.defers(now);
            now += Duration::from_millis(1);
            rest.ended = Some(now);
            rest.slept = slept;
        }
        rest.begins(now, ONE);
        (rest, now)
    }

    #[test]
    fn who_is_woken_for_one_packet_at_a_time_defers() {
        let (mut rest, now) = after_singles(100, true);
        assert!(rest.defers(now));
        assert!(rest.finds_one());
        let (mut rest, now) = after_singles(3, true);
        assert!(!rest.defers(now));
    }

    #[test]
    fn who_defers_has_interrupted_nobody_and_offers_nothing() {
        let (mut rest, now) = after_singles(100, true);
        assert!(rest.defers(now));
        let begins = rest.ends(true);
        assert_eq!(Some(begins), rest.ended);
        let (mut rest, _) = after_singles(3, true);
        let begins = rest.ends(true);
        assert!(Some(begins) > rest.ended, "an offer takes time");
    }

    #[test]
    fn nobody_defers_in_a_rush_or_to_a_program_that_computes() {
        let (mut rest, now) = after_singles(100, true);
        rest.ended = Some(now);
        rest.begins(now, MANY);
        assert!(!rest.defers(now));
        let (mut rest, now) = after_singles(100, true);
        rest.offers = Offers::withheld();
        assert!(!rest.defers(now));
    }

    #[test]
    fn whoever_waited_long_for_others_does_not_defer_again_soon() {
        let (mut rest, now) = after_singles(100, true);
        assert!(rest.defers(now));
        rest.deference
            .set_waits(Waits::told(Duration::from_secs(1)));
        let mut later = now;
        while rest.defers(later) {
            later += Duration::from_millis(1);
            rest.ended = Some(later);
            rest.begins(later, ONE);
            assert!(later < now + Duration::from_secs(1), "{rest:?}");
        }
    }

    #[test]
    fn who_looks_for_packets_does_not_defer() {
        let (mut rest, now) = after_singles(100, false);
        assert!(!rest.defers(now));
    }

    /// Sleeps and is woken until it has deferred, and does not any more.
    fn defer_until_it_is_dear() {
        // The kernel may keep no account, or somebody may have chosen another policy.
        let (Some(_), Some(mut precedence)) =
            (Waits::of_this_thread().total(), Precedence::take(false))
        else {
            return;
        };
        let counters = IoCounters::default();
        let mut rest = Rest::new(Duration::ZERO);
        let mut has_deferred = false;
        let start = Instant::now();
        loop {
            let now = Instant::now();
            rest.begins(now, ONE);
            let defers = rest.defers(now);
            if has_deferred && !defers {
                return;
            }
            has_deferred |= defers;
            let nothing = Streamed {
                bytes: 0,
                beside_singles: false,
            };
            precedence.done(now, nothing, defers, &counters);
            std::thread::sleep(Duration::from_millis(1));
            rest.ends(true);
            assert!(start.elapsed() < Duration::from_secs(60), "{rest:?}");
        }
    }

    #[test]
    fn whoever_computes_is_not_deferred_to_for_long() {
        beside_a_program_that_computes(defer_until_it_is_dear);
    }
}
