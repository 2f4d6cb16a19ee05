//! What the kernel's scheduler is asked for: a thread's CPU, its slices and its policy.

use core::time::Duration;
use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The time slice of a worker. With the usual one, of milliseconds, whoever looks for packets is
/// not left for a host's program or another worker that was just woken on the same CPU, and a
/// worker that is woken waits for others longer than it has to.
const SLICE: Duration = Duration::from_micros(200);

/// Above every ordinary program, below everything else that is real-time.
const LOWEST_REAL_TIME: u32 = 1;

/// Scheduling attributes of a thread (`sched_setattr(2)`).
#[derive(Clone, Copy)]
pub(super) struct Attributes(libc::sched_attr);

impl Attributes {
    const SIZE: u32 = size_of::<libc::sched_attr>() as u32;
    const MYSELF: libc::pid_t = 0;
    const NO_FLAGS: libc::c_uint = 0;

    /// Those that the calling thread has.
    ///
    /// # Errors
    /// What the kernel says.
    #[expect(unsafe_code, reason = "neither libc nor rustix has a safe form")]
    pub(super) fn current() -> io::Result<Self> {
        // SAFETY: all fields are integers, for which zero is a value.
        let mut attributes: libc::sched_attr = unsafe { core::mem::zeroed() };
        let at = &raw mut attributes;
        // SAFETY: `at` points to SIZE writable bytes that outlive the call.
        let got = unsafe {
            libc::syscall(
                libc::SYS_sched_getattr,
                Self::MYSELF,
                at,
                Self::SIZE,
                Self::NO_FLAGS,
            )
        };
        match got {
            0 => Ok(Self(attributes)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Gives them to the calling thread.
    ///
    /// # Errors
    /// What the kernel says; it grants real time only with `CAP_SYS_NICE`.
    #[expect(unsafe_code, reason = "neither libc nor rustix has a safe form")]
    pub(super) fn apply(mut self) -> io::Result<()> {
        self.0.size = Self::SIZE;
        let from = &raw const self.0;
        // SAFETY: `from` points to an initialised structure that says its own size.
        let set =
            unsafe { libc::syscall(libc::SYS_sched_setattr, Self::MYSELF, from, Self::NO_FLAGS) };
        match set {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Whether it shares the CPU as any program does: neither real-time nor for idle times only.
    pub(super) fn is_ordinary(&self) -> bool {
        self.policy() == i64::from(libc::SCHED_OTHER)
    }

    pub(super) fn policy(&self) -> i64 {
        i64::from(self.0.sched_policy)
    }

    /// The same with slices of [`SLICE`] (Linux 6.12; older kernels take the wish and do
    /// nothing).
    pub(super) fn in_short_slices(mut self) -> Self {
        self.0.sched_runtime = u64::try_from(SLICE.as_nanos()).unwrap_or(u64::MAX);
        self
    }

    /// The same, but when it is woken it interrupts no ordinary program.
    pub(super) fn in_deference(mut self) -> Self {
        self.0.sched_policy = libc::SCHED_BATCH.cast_unsigned();
        self
    }

    /// The same, but before every ordinary program.
    pub(super) fn in_real_time(mut self) -> Self {
        self.0.sched_policy = libc::SCHED_RR.cast_unsigned();
        self.0.sched_priority = LOWEST_REAL_TIME;
        self.0.sched_nice = 0;
        self.0.sched_runtime = 0;
        self
    }
}

/// How often the kernel gave the CPU to another thread while the calling one would have gone on
/// (`getrusage(2)`); 0 where it does not say.
#[expect(unsafe_code, reason = "neither libc nor rustix has a safe form")]
pub(super) fn involuntary_switches() -> u64 {
    // SAFETY: all fields are integers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { core::mem::zeroed() };
    // SAFETY: the pointer is to a structure of the kernel's size that outlives the call.
    match unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) } {
        0 => u64::try_from(usage.ru_nivcsw).unwrap_or(0),
        _ => 0,
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

/// Runs `run` on a thread that shares its only CPU with one that computes. Not at all where the
/// kernel does not say which CPUs there are.
#[cfg(test)]
pub(super) fn beside_a_program_that_computes(run: impl FnOnce() + Send) {
    use core::sync::atomic::{AtomicBool, Ordering};

    let Some(cpu) = allowed_cpus().first().copied() else {
        return;
    };
    let computes = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin_to(cpu);
            while computes.load(Ordering::Relaxed) {
                core::hint::spin_loop();
            }
        });
        let beside = scope.spawn(|| {
            pin_to(cpu);
            run();
        });
        let ended = beside.join();
        computes.store(false, Ordering::Relaxed);
        assert!(ended.is_ok());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_slices_keep_the_priority() {
        use rustix::process::{getpriority_process, setpriority_process};
        // To Linux, "this process" is the calling thread here.
        let asking = || {
            let nicer = getpriority_process(None).unwrap() + 3;
            setpriority_process(None, nicer).unwrap();
            let own = Attributes::current().unwrap();
            own.in_short_slices().apply().unwrap();
            assert_eq!(getpriority_process(None).unwrap(), nicer.min(19));
        };
        std::thread::spawn(asking).join().unwrap();
    }
}
