//! The two clocks of the daemon and its one source of entropy: the only places where time and
//! chance enter.

use core::time::Duration;

use rand_core::CryptoRng;
use rustix::time::{ClockId, clock_gettime};

/// Time since boot on a clock that runs through suspend; the clock of the send gate and of
/// the data plane.
pub(super) fn boottime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    // The kernel never reports a negative boot time.
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

/// The operating system's generator, for cookies, nonces, Diffie-Hellman secrets and SPIs.
pub(super) fn entropy() -> Box<dyn CryptoRng + Send> {
    Box::new(rand_core::UnwrapErr(getrandom::SysRng))
}
