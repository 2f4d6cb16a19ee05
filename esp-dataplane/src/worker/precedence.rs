//! When a worker goes before every ordinary program.
//!
//! The kernel's own forwarding does: softirqs run before any program, and when they find no end
//! they go on as a thread that shares the CPU with others (`ksoftirqd`). A worker does the same:
//! beside super-packets it is real-time (`SCHED_RR`) for as long as it leaves others a twentieth
//! of its CPU, as the kernel demands of all real-time threads together (`sched_rt_runtime_us`),
//! and when it does not, it is ordinary for a while.
//!
//! ```text
//!                super-packet                         1 ms without one
//!   ordinary ------------------>  real-time  -----------------------------> ordinary
//!            <------------------             its credit is used up
//!             for PAUSE, then the credit is full again
//! ```
//!
//! Beside single packets it takes 100 ms without a super-packet.
//!
//! Beside super-packets only: those are the streams that fill queues and CPUs, beside which
//! everybody else waits. Where packets come one by one, a worker that interrupts their sender
//! for each finds no two at once, and the sum of both suffers. And where they come one at a time,
//! a question and its answer, it goes behind those that run already (`deference`).

use core::time::Duration;
use std::time::Instant;

use super::schedule::Attributes;
use super::trains::{BESIDE, Trains};
use crate::io::{IoCounters, count};

/// Work without rest, before it is ordinary again: what a program has to wait for it at most.
const FULL: Duration = Duration::from_millis(10);

/// Rest earns so many times its length: one twentieth of the time is rest, then.
const EARNS: u32 = 19;

/// No round takes longer. Whatever seems to was not this thread's time: another real-time thread
/// had its CPU, or the hypervisor.
const LONGEST_ROUND: Duration = Duration::from_millis(1);

/// So long after its last super-packet a stream may go on, where single packets pass beside it.
/// Streams pause for milliseconds where a host, or the hypervisor, is busy with something else; a
/// worker that is ordinary when they come back waits for the time slice of whoever runs, and
/// those packets with it.
const LASTS: Duration = Duration::from_millis(100);

/// How long it is ordinary when its credit is used up.
const PAUSE: Duration = Duration::from_millis(5);

/// What a round moved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streamed {
    /// Bytes of super-packets.
    pub(super) bytes: usize,
    /// Packets that are no part of a stream came of late.
    pub(super) beside_singles: bool,
}

/// What a worker's policy becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    RealTime,
    /// No stream any more.
    Ordinary,
    /// No rest.
    Spent,
}

/// The account of one worker.
#[derive(Debug)]
struct Account {
    is_real_time: bool,
    credit: Duration,
    /// The last time that work began or ended.
    mark: Instant,
    /// Those of super-packets.
    trains: Trains,
    spent_at: Option<Instant>,
}

impl Account {
    fn new(now: Instant) -> Self {
        Self {
            is_real_time: false,
            credit: FULL,
            mark: now,
            trains: Trains::default(),
            spent_at: None,
        }
    }

    /// Work begins: it has rested until now.
    fn begin(&mut self, now: Instant) {
        let earned = now.saturating_duration_since(self.mark) * EARNS;
        self.credit = FULL.min(self.credit + earned);
        self.mark = now;
    }

    /// The work is done, and moved so much.
    fn end(&mut self, now: Instant, streamed: Streamed) -> Option<Change> {
        let worked = now.saturating_duration_since(self.mark).min(LONGEST_ROUND);
        self.mark = now;
        self.trains.note(now, streamed.bytes);
        let since = |then: Instant| now.saturating_duration_since(then);
        if self.spent_at.is_some_and(|then| since(then) >= PAUSE) {
            self.spent_at = None;
            self.credit = FULL;
        }
        if self.is_real_time {
            self.credit = self.credit.saturating_sub(worked);
        }
        let lasts = match streamed.beside_singles {
            true => LASTS,
            false => BESIDE,
        };
        match (self.is_real_time, self.trains.were_within(lasts, now)) {
            (true, _) if self.credit.is_zero() => {
                self.is_real_time = false;
                self.spent_at = Some(now);
                Some(Change::Spent)
            }
            (true, false) => {
                self.is_real_time = false;
                Some(Change::Ordinary)
            }
            (false, true) if self.spent_at.is_none() => {
                self.is_real_time = true;
                Some(Change::RealTime)
            }
            _ => None,
        }
    }
}

/// How a thread stands beside others on its CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It interrupts all of them.
    Before,
    /// As any program.
    Among,
    /// It interrupts nobody.
    Behind,
}

/// Keeps the calling thread's policy; it stays on that thread.
pub(super) struct Precedence {
    ordinary: Attributes,
    /// None where real time is not wanted, or the kernel grants none.
    account: Option<Account>,
    standing: Standing,
}

impl Precedence {
    /// Gives the calling thread short slices, and precedence from now on if that is wanted.
    /// Nothing is changed, now or later, where an operator has chosen another policy.
    pub(super) fn take(is_wanted: bool) -> Option<Self> {
        let own = Attributes::current();
        let ordinary = match own.map(|own| own.is_ordinary().then(|| own.in_short_slices())) {
            Ok(Some(ordinary)) => ordinary,
            Ok(None) => return None,
            Err(error) => {
                tracing::debug!(%error, "a worker does not know its scheduling policy");
                return None;
            }
        };
        if let Err(error) = ordinary.apply() {
            tracing::debug!(%error, "no short time slices for a worker");
        }
        let has_real_time = is_wanted && !is_denied(ordinary);
        Some(Self {
            ordinary,
            account: has_real_time.then(|| Account::new(Instant::now())),
            standing: Standing::Among,
        })
    }

    /// Work begins at `now`.
    pub(super) fn found(&mut self, now: Instant) {
        if let Some(account) = &mut self.account {
            account.begin(now);
        }
    }

    /// The work is done at `now`, and moved so much. Whether the worker `defers` to others while it
    /// has no precedence.
    pub(super) fn done(
        &mut self,
        now: Instant,
        streamed: Streamed,
        defers: bool,
        counters: &IoCounters,
    ) {
        let account = self.account.as_mut();
        match account.and_then(|account| account.end(now, streamed)) {
            Some(Change::RealTime) => count(&counters.real_time_taken, 1),
            Some(Change::Spent) => count(&counters.real_time_spent, 1),
            Some(Change::Ordinary) | None => {}
        }
        let is_real_time = |account: &Account| account.is_real_time;
        let standing = match (self.account.as_ref().is_some_and(is_real_time), defers) {
            (true, _) => Standing::Before,
            (false, true) => Standing::Behind,
            (false, false) => Standing::Among,
        };
        if standing != self.standing {
            self.standing = standing;
            self.apply();
        }
    }

    fn apply(&self) {
        let attributes = match self.standing {
            Standing::Before => self.ordinary.in_real_time(),
            Standing::Among => self.ordinary,
            Standing::Behind => self.ordinary.in_deference(),
        };
        if let Err(error) = attributes.apply() {
            let wanted = self.standing;
            tracing::debug!(%error, ?wanted, "a worker keeps the scheduling policy it has");
        }
    }
}

/// Tries once, so that the log says at the start what is missing.
fn is_denied(ordinary: Attributes) -> bool {
    let tried = ordinary.in_real_time().apply();
    let back = ordinary.apply();
    let Err(error) = tried.and(back) else {
        return false;
    };
    tracing::info!(
        %error,
        "a worker shares its CPU with other programs also beside streams: the kernel grants it \
         no real-time priority; give the daemon CAP_SYS_NICE, or set real_time = false"
    );
    true
}

#[cfg(test)]
mod tests {
    use super::super::trains::TRAIN;
    use super::*;

    const BIG: Streamed = bytes(64 * 1024);

    const fn bytes(bytes: usize) -> Streamed {
        Streamed {
            bytes,
            beside_singles: false,
        }
    }

    fn us(microseconds: u64) -> Duration {
        Duration::from_micros(microseconds)
    }

    /// Rounds of so much work and so much rest with super-packets: the changes, each with its
    /// time.
    fn rounds(count: u32, work: Duration, rest: Duration) -> Vec<(Duration, Change)> {
        let start = Instant::now();
        let mut account = Account::new(start);
        let mut now = start;
        let mut changes = Vec::new();
        for _round in 0..count {
            account.begin(now);
            now += work;
            if let Some(change) = account.end(now, BIG) {
                changes.push((now - start, change));
            }
            now += rest;
        }
        changes
    }

    #[test]
    fn a_stream_has_precedence_while_a_twentieth_is_left_to_others() {
        let changes = rounds(10_000, us(95), us(5));
        assert_eq!(changes, [(us(95), Change::RealTime)]);
    }

    #[test]
    fn whoever_does_not_rest_is_ordinary_for_a_third_of_the_time() {
        let changes = rounds(10_000, us(100), us(0));
        let mut at = us(100);
        for (index, change) in changes.iter().enumerate() {
            let (expected, lasts) = match index % 2 {
                0 => (Change::RealTime, FULL),
                _ => (Change::Spent, PAUSE),
            };
            assert_eq!(*change, (at, expected));
            at += lasts;
        }
        // In one second 66 times to and fro, and once more.
        assert_eq!(changes.len(), 133);
    }

    #[test]
    fn a_little_less_than_that_is_not_enough() {
        let changes = rounds(10_000, us(96), us(4));
        let spent = |change: &&(Duration, Change)| change.1 == Change::Spent;
        assert!(changes.iter().filter(spent).count() > 10, "{changes:?}");
    }

    #[test]
    fn time_that_somebody_took_is_not_its_own() {
        let changes = rounds(100, 20 * FULL, FULL / 10);
        assert_eq!(changes, [(20 * FULL, Change::RealTime)]);
    }

    /// Whether precedence ends when a stream has paused for so long.
    fn ends_after(pause: Duration, beside_singles: bool) -> bool {
        let start = Instant::now();
        let mut account = Account::new(start);
        account.begin(start);
        assert_eq!(account.end(start, BIG), Some(Change::RealTime));
        let little = Streamed {
            bytes: 100,
            beside_singles,
        };
        account.end(start + pause, little) == Some(Change::Ordinary)
    }

    #[test]
    fn it_ends_with_the_stream() {
        assert!(!ends_after(BESIDE / 2, false));
        assert!(ends_after(BESIDE, false));
    }

    #[test]
    fn beside_single_packets_it_outlasts_a_pause_of_the_stream() {
        assert!(!ends_after(LASTS / 2, true));
        assert!(ends_after(LASTS, true));
    }

    #[test]
    fn small_packets_alone_never_have_it() {
        let start = Instant::now();
        let mut account = Account::new(start);
        for round in 0..1000 {
            account.begin(start + us(100) * round);
            assert_eq!(
                account.end(start + us(100) * round + us(50), bytes(TRAIN - 1)),
                None
            );
        }
    }

    /// On a thread of its own, whose policy it may change.
    #[test]
    fn the_kernel_is_told() {
        let telling = || {
            let Some(mut precedence) = Precedence::take(true) else {
                return assert!(!Attributes::current().unwrap().is_ordinary());
            };
            if precedence.account.is_none() {
                // Where the kernel grants none.
                return assert!(Attributes::current().unwrap().is_ordinary());
            }
            let counters = IoCounters::default();
            let now = Instant::now();
            precedence.found(now);
            let policy = || Attributes::current().unwrap().policy();
            precedence.done(now, BIG, true, &counters);
            assert_eq!(policy(), i64::from(libc::SCHED_RR));
            precedence.done(now + LASTS, bytes(0), false, &counters);
            assert_eq!(policy(), i64::from(libc::SCHED_OTHER));
            precedence.done(now + LASTS, bytes(0), true, &counters);
            assert_eq!(policy(), i64::from(libc::SCHED_BATCH));
            precedence.done(now + LASTS, BIG, true, &counters);
            assert_eq!(policy(), i64::from(libc::SCHED_RR));
        };
        std::thread::spawn(telling).join().unwrap();
    }

    #[test]
    fn whoever_has_another_policy_keeps_it() {
        let keeping = || {
            let real_time = Attributes::current().unwrap().in_real_time();
            if real_time.apply().is_err() {
                return;
            }
            assert!(Precedence::take(true).is_none());
            assert!(!Attributes::current().unwrap().is_ordinary());
        };
        std::thread::spawn(keeping).join().unwrap();
    }
}
