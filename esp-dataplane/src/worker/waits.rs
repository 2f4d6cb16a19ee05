//! How long a thread has waited for a CPU while others had it.

use core::time::Duration;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The kernel's account of the calling thread (`/proc/thread-self/schedstat`); some kernels keep
/// none (`CONFIG_SCHED_INFO`).
#[derive(Debug)]
pub(super) struct Waits(Option<File>);

impl Waits {
    pub(super) fn of_this_thread() -> Self {
        Self(File::open("/proc/thread-self/schedstat").ok())
    }

    /// As where the kernel keeps no account.
    #[cfg(test)]
    pub(super) const fn none() -> Self {
        Self(None)
    }

    /// As where the kernel says this, whatever becomes of the thread.
    #[cfg(test)]
    pub(super) fn told(waited: Duration) -> Self {
        use std::io::Write;

        let text = format!("1 {} 1\n", waited.as_nanos());
        let file = rustix::fs::memfd_create(c"schedstat", rustix::fs::MemfdFlags::CLOEXEC);
        let mut file = File::from(file.expect("memory for a file"));
        file.write_all(text.as_bytes()).expect("room for a line");
        Self(Some(file))
    }

    /// In all its life, from being woken to running; where a CPU had halted, until it came back.
    /// Asking takes a microsecond.
    pub(super) fn total(&self) -> Option<Duration> {
        // Three numbers of at most twenty digits.
        let mut text = [0; 64];
        let len = self.0.as_ref()?.read_at(&mut text, 0).ok()?;
        waited(text.get(..len)?)
    }
}

/// The second number, in nanoseconds; the first one is the time that it ran.
fn waited(schedstat: &[u8]) -> Option<Duration> {
    let text = core::str::from_utf8(schedstat).ok()?;
    let nanoseconds = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::schedule::beside_a_program_that_computes;
    use super::*;

    #[test]
    fn the_kernel_counts_what_a_thread_waits() {
        beside_a_program_that_computes(|| {
            let waits = Waits::of_this_thread();
            // Some kernels keep no account.
            let Some(before) = waits.total() else { return };
            let start = Instant::now();
            while waits.total() < Some(before + Duration::from_millis(1)) {
                std::thread::yield_now();
                assert!(start.elapsed() < Duration::from_secs(60), "{before:?}");
            }
        });
    }

    #[test]
    fn the_second_number_counts() {
        let expected = Some(Duration::from_nanos(294_641_762));
        assert_eq!(waited(b"169869256 294641762 108\n"), expected);
        assert_eq!(waited(b"169869256\n"), None);
        assert_eq!(waited(b"169869256 -1 108\n"), None);
    }
}
