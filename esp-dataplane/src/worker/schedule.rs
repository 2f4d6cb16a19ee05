//! Which CPU a worker has, and when it sleeps.

use core::time::Duration;
use std::io;
use std::time::Instant;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The time slice of a worker. With the usual one, of milliseconds, whoever looks for packets is
/// not left for a host's program or another worker that was just woken on the same CPU, and a
/// worker that is woken waits for others longer than it has to.
const SLICE: Duration = Duration::from_micros(200);

/// Whether a worker without work looks for packets for a while before it sleeps.
///
/// A wake-up costs more than looking for tens of microseconds, on a virtual machine most of all.
/// But where packets come seldom, looking finds none. So the last gaps decide: a gap shorter
/// than the time limit earns two tries, a try in vain costs one. An answer that comes soon after
/// its question is waited for although the next question comes late; packets that come one by
/// one at long intervals are slept for. Beside trains nobody looks: there a wake-up costs little,
/// and the hosts or another worker may be short of a CPU.
#[derive(Debug)]
pub(super) struct BusyPoll {
    limit: Duration,
    tries: u8,
    idle_since: Instant,
    /// This gap's try is over.
    gave_up: bool,
    last_train: Option<Instant>,
}

impl BusyPoll {
    const MOST_TRIES: u8 = 4;

    /// A round that moved so many bytes had a train.
    const TRAIN: usize = 16 * 1024;

    /// So long after a train there may be others.
    const BESIDE: Duration = Duration::from_millis(1);

    /// Never looks when `limit` is zero.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            tries: 0,
            idle_since: Instant::now(),
            gave_up: true,
            last_train: None,
        }
    }

    /// There is no work at `now`: whether to go on looking.
    pub(super) fn goes_on(&mut self, now: Instant) -> bool {
        if self.tries == 0 || self.gave_up {
            return false;
        }
        if now.saturating_duration_since(self.idle_since) < self.limit {
            return true;
        }
        self.tries -= 1;
        self.gave_up = true;
        false
    }

    /// Work was found at `now`, by looking or by being woken.
    pub(super) fn found(&mut self, now: Instant) {
        if now.saturating_duration_since(self.idle_since) < self.limit {
            self.tries = Self::MOST_TRIES.min(self.tries + 2);
        }
    }

    /// The work is done at `now`; it moved so many bytes.
    pub(super) fn done(&mut self, now: Instant, bytes: usize) {
        self.idle_since = now;
        if bytes >= Self::TRAIN {
            self.last_train = Some(now);
        }
        let is_beside = |train: Instant| now.saturating_duration_since(train) < Self::BESIDE;
        self.gave_up = self.last_train.is_some_and(is_beside);
    }
}

/// Asks the kernel for slices of [`SLICE`] for the calling thread (Linux 6.12; older kernels
/// take the wish and do nothing). Priority and policy stay: where an operator has chosen a
/// real-time policy, nothing is changed.
///
/// # Errors
/// What the kernel says.
#[expect(unsafe_code, reason = "neither libc nor rustix has a safe form")]
pub(super) fn ask_for_short_slices() -> io::Result<()> {
    const SIZE: u32 = size_of::<libc::sched_attr>() as u32;
    const MYSELF: libc::pid_t = 0;
    const NO_FLAGS: libc::c_uint = 0;
    // SAFETY: all fields are integers, for which zero is a value.
    let mut attributes: libc::sched_attr = unsafe { core::mem::zeroed() };
    let at = &raw mut attributes;
    // SAFETY: `at` points to SIZE writable bytes that outlive the call.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, MYSELF, at, SIZE, NO_FLAGS) };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    if i64::from(attributes.sched_policy) != i64::from(libc::SCHED_OTHER) {
        return Ok(());
    }
    attributes.size = SIZE;
    attributes.sched_runtime = u64::try_from(SLICE.as_nanos()).unwrap_or(u64::MAX);
    let from = &raw const attributes;
    // SAFETY: `from` points to an initialised structure that says its own size.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, MYSELF, from, NO_FLAGS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The CPUs that this process may use.
pub(super) fn allowed_cpus() -> Vec<usize> {
    sched_getaffinity(None).map_or_else(
        |_| Vec::new(),
        |set| {
            (0..CpuSet::MAX_CPU)
                .filter(|cpu| set.is_set(*cpu))
                .collect()
        },
    )
}

/// Binds the calling thread to a CPU.
pub(super) fn pin_to(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::warn!(cpu, %error, "cannot pin a worker");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_ask_and_keeps_its_priority() {
        use rustix::process::{getpriority_process, setpriority_process};
        // To Linux, "this process" is the calling thread here.
        let asking = || {
            let nicer = getpriority_process(None).unwrap() + 3;
            setpriority_process(None, nicer).unwrap();
            ask_for_short_slices().unwrap();
            assert_eq!(getpriority_process(None).unwrap(), nicer.min(19));
        };
        std::thread::spawn(asking).join().unwrap();
    }

    /// The gaps of some traffic; how many of them are looked through to their end or the limit.
    fn looked(limit_us: u64, gaps_us: &[u64]) -> usize {
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
            poll.found(now);
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
    fn nobody_looks_beside_trains() {
        let mut poll = BusyPoll::new(Duration::from_micros(50));
        let now = Instant::now();
        poll.done(now, 100);
        poll.found(now);
        poll.done(now, 64 << 10);
        assert!(!poll.goes_on(now));
        poll.done(now + BusyPoll::BESIDE / 2, 100);
        assert!(!poll.goes_on(now + BusyPoll::BESIDE / 2));
        poll.done(now + BusyPoll::BESIDE, 100);
        assert!(poll.goes_on(now + BusyPoll::BESIDE));
    }

    #[test]
    fn a_limit_of_zero_never_looks() {
        assert_eq!(looked(0, &[0, 1, 1000]), 0);
    }
}
