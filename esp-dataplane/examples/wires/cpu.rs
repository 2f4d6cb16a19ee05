//! Processor time: of this process, and of the kernel's threads that do what interrupts leave.
//!
//! Without `CONFIG_IRQ_TIME_ACCOUNTING` the kernel counts softirqs for the thread that they
//! interrupt. On a veth that is the sender, which causes them, or else `ksoftirqd`.

use std::fs;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Of all threads of this process, those of io_uring among them, and of `ksoftirqd`.
pub(crate) fn used() -> io::Result<Duration> {
    let mut used = Duration::ZERO;
    for pid in ksoftirqd() {
        let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
        let first = text.split_whitespace().next();
        let nanoseconds = first.and_then(|word| word.parse().ok());
        used += Duration::from_nanos(nanoseconds.ok_or(io::ErrorKind::InvalidData)?);
    }
    let own = clock_gettime(ClockId::ProcessCPUTime);
    Ok(used + Duration::try_from(own).map_err(io::Error::other)?)
}

/// They are among the first threads that a kernel makes. In a PID namespace nobody sees them.
fn ksoftirqd() -> &'static [u32] {
    static PIDS: OnceLock<Vec<u32>> = OnceLock::new();
    PIDS.get_or_init(|| {
        let name = |pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let is_one = |pid: &u32| name(*pid).starts_with("ksoftirqd/");
        (2..1000).filter(is_one).collect()
    })
}
