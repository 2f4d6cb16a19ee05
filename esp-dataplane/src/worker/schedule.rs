//! How a worker shares its CPU with whatever else runs there.
//!
//! A worker under load never sleeps, and the kernel looks whether somebody else should run only
//! at its tick, every 1 to 4 ms: for so long a second worker, the control plane or a host's
//! program on the same CPU would stand still, and their packets with them. So a worker asks for
//! short time slices, which makes the kernel wake it sooner and leave it sooner without giving
//! it more time in sum, and offers its CPU between two bursts when it has worked for a slice.
//! Where nobody else wants the CPU, that is one system call in a quarter of a millisecond.

use core::time::Duration;
use std::io;
use std::time::Instant;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity, sched_yield};

/// Nine super-packets or so.
const SLICE: Duration = Duration::from_micros(200);

/// Work without a break.
#[derive(Debug)]
pub(super) struct Stint {
    began: Instant,
}

impl Stint {
    pub(super) fn begin() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    /// Lets others run if it has lasted for a slice.
    pub(super) fn pause_if_due(&mut self) {
        if self.began.elapsed() >= SLICE {
            sched_yield();
            *self = Self::begin();
        }
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
        let before = rustix::process::getpriority_process(None).unwrap();
        std::thread::spawn(|| ask_for_short_slices().unwrap())
            .join()
            .unwrap();
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), before);
    }

    #[test]
    fn a_stint_begins_anew_after_a_pause() {
        let long_ago = Instant::now().checked_sub(SLICE).unwrap();
        let mut stint = Stint { began: long_ago };
        stint.pause_if_due();
        assert!(stint.began > long_ago);
    }
}
