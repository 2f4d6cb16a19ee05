//! The lease on sending (invariant I6): renewed by the election loop, read by everybody who
//! sends.
//!
//! The lease of an advert ends [`crate::advert::lease_length`] after that advert was *sent*. The
//! partner's patience starts when an advert is *received* and is longer, so in whatever instant a
//! process is stopped, its lease is over before the partner's patience is. The woken process
//! needs no luck and no signal: the gate compares the end of the lease with the clock of the
//! packet at hand, and finds it closed.

use core::time::Duration;
use std::sync::Arc;

use ipsec_types::SendGate;

/// Renews and ends one node's right to speak for the virtual address.
#[derive(Debug)]
pub struct Lease {
    gate: Arc<SendGate>,
    length: Duration,
    until: Option<Duration>,
    opened: bool,
}

impl Lease {
    /// A lease that does not hold yet. `gate` stands in front of the sockets and is closed now.
    #[must_use]
    pub fn new(gate: Arc<SendGate>, length: Duration) -> Self {
        gate.close();
        Self {
            gate,
            length,
            until: None,
            opened: false,
        }
    }

    /// An advert that left at `sent` entitles to speak for one lease length from then. Never
    /// shortens a lease that holds. The gate follows once it has been opened.
    pub fn renew(&mut self, sent: Duration) {
        let until = sent + self.length;
        if self.until.is_none_or(|old| until > old) {
            self.until = Some(until);
            self.apply();
        }
    }

    /// Opens the gate for as long as the lease holds: the address is on the interface and the
    /// SAs are in place. The lease has been running since the claim.
    pub fn open(&mut self) {
        self.opened = true;
        self.apply();
    }

    fn apply(&self) {
        if let (true, Some(until)) = (self.opened, self.until) {
            self.gate.renew(until);
        }
    }

    /// Ends the lease at once and closes the gate.
    pub fn close(&mut self) {
        self.until = None;
        self.opened = false;
        self.gate.close();
    }

    /// True when a lease was held and has run out at `now`: the process was stopped or starved.
    #[must_use]
    pub fn has_run_out(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now >= until)
    }

    /// True while the gate is open at `now`.
    #[must_use]
    pub fn is_open(&self, now: Duration) -> bool {
        self.opened && self.until.is_some_and(|until| now < until)
    }

    /// The end of the lease, if one is held.
    #[must_use]
    pub const fn ends_at(&self) -> Option<Duration> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_gate_follows_the_lease() {
        let gate = Arc::new(SendGate::always_open());
        let mut lease = Lease::new(Arc::clone(&gate), 25 * MS);
        assert!(
            !gate.is_open(Duration::ZERO),
            "taking the gate over closes it"
        );
        lease.renew(100 * MS);
        assert!(!gate.is_open(100 * MS), "a claim alone opens nothing");
        lease.open();
        assert!(gate.is_open(124 * MS) && !gate.is_open(125 * MS));
        assert!(lease.is_open(124 * MS) && lease.has_run_out(125 * MS));
        lease.renew(90 * MS);
        assert_eq!(
            lease.ends_at(),
            Some(125 * MS),
            "an older advert shortens nothing"
        );
        lease.close();
        assert!(!gate.is_open(Duration::ZERO) && !lease.has_run_out(Duration::MAX));
    }
}
