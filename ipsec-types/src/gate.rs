//! The lease on sending (invariant I6): a node that is not sure is silent.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

/// Stands in front of every socket that speaks for the virtual address. The election loop
/// renews it; a process that was paused finds it expired.
///
/// Times are [`Duration`]s on one clock that runs through suspend (`CLOCK_BOOTTIME`); the
/// caller reads it, so the gate itself has no clock.
#[derive(Debug)]
pub struct SendGate {
    /// Nanoseconds on the boot-time clock until which sending is allowed; 0 is closed,
    /// `u64::MAX` is open for ever.
    open_until_ns: AtomicU64,
}

/// The lease does not hold: nothing may be sent for the virtual address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lease on sending does not hold")]
pub struct GateClosed;

impl SendGate {
    /// A gate for a gateway without a partner: always open.
    #[must_use]
    pub const fn always_open() -> Self {
        Self {
            open_until_ns: AtomicU64::new(u64::MAX),
        }
    }

    /// A gate that stays closed until the first [`SendGate::renew`].
    #[must_use]
    pub const fn closed() -> Self {
        Self {
            open_until_ns: AtomicU64::new(0),
        }
    }

    /// Allows sending until `until`. A shorter lease replaces a longer one.
    pub fn renew(&self, until: Duration) {
        let ns = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX - 1);
        self.open_until_ns.store(ns, Ordering::Release);
    }

    /// Forbids sending from now on.
    pub fn close(&self) {
        self.open_until_ns.store(0, Ordering::Release);
    }

    /// True while the lease holds at `now`.
    #[must_use]
    pub fn is_open(&self, now: Duration) -> bool {
        let until = self.open_until_ns.load(Ordering::Acquire);
        until == u64::MAX || now.as_nanos() < u128::from(until)
    }

    /// [`SendGate::is_open`] for callers that leave early with `?`.
    ///
    /// # Errors
    /// [`GateClosed`] when the lease does not hold.
    pub fn check(&self, now: Duration) -> Result<(), GateClosed> {
        if self.is_open(now) {
            Ok(())
        } else {
            Err(GateClosed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_at_its_instant() {
        let gate = SendGate::closed();
        assert!(!gate.is_open(Duration::ZERO));
        gate.renew(Duration::from_millis(50));
        assert!(gate.is_open(Duration::from_millis(49)));
        assert!(!gate.is_open(Duration::from_millis(50)));
        gate.close();
        assert_eq!(gate.check(Duration::ZERO), Err(GateClosed));
    }

    #[test]
    fn a_single_gateway_is_always_open() {
        assert!(SendGate::always_open().is_open(Duration::MAX));
    }
}
