//! The one clock of the pair.

use core::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME`: monotonic, and it runs while the machine is suspended. A lease that was
/// alive before a suspend is over after it.
#[must_use]
pub fn boot_time() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    // Neither field is ever negative on this clock.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_moves_forward() {
        let before = super::boot_time();
        assert!(before > core::time::Duration::ZERO && super::boot_time() >= before);
    }
}
