//! When to say again that the address is here, and whether somebody else says so too.

use core::time::Duration;
use std::net::IpAddr;

use super::arp::{Heard, Mac};

/// Delays of the burst after a takeover. The first goes out at once; the others are for a switch
/// that was busy relearning, or a host that lost the first.
const BURST: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(1000),
    Duration::from_millis(3000),
];

/// Paces announcements: the burst, then a refresh.
#[derive(Debug, Clone)]
pub struct Announcer {
    begun: Option<Duration>,
    sent: usize,
    refresh: Option<Duration>,
    next_refresh: Option<Duration>,
}

impl Announcer {
    /// `refresh` repeats the announcement for as long as this node is active; `None` does not.
    #[must_use]
    pub const fn new(refresh: Option<Duration>) -> Self {
        Self {
            begun: None,
            sent: 0,
            refresh,
            next_refresh: None,
        }
    }

    /// The address is here as of `now`.
    pub fn begin(&mut self, now: Duration) {
        self.begun = Some(now);
        self.sent = 0;
        self.next_refresh = self.refresh.map(|refresh| now + refresh);
    }

    /// The address is gone.
    pub const fn stop(&mut self) {
        self.begun = None;
        self.next_refresh = None;
    }

    /// When the next announcement is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let burst = BURST.get(self.sent).copied();
        let next = burst.and_then(|delay| Some(self.begun? + delay));
        next.or(self.next_refresh)
    }

    /// True when an announcement is to be sent now; it is then taken as sent.
    pub fn handle_timeout(&mut self, now: Duration) -> bool {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return false;
        }
        if self.sent < BURST.len() {
            self.sent += 1;
        }
        if self.next_refresh.is_some_and(|at| at <= now) {
            self.next_refresh = self.refresh.map(|refresh| now + refresh);
        }
        true
    }
}

/// Duplicate address detection before a cold start (RFC 5227 §2.1, RFC 4862 §5.4): three probes,
/// and nobody may answer.
#[derive(Debug, Clone)]
pub struct DuplicateCheck {
    address: IpAddr,
    ours: Mac,
    began: Duration,
    sent: u32,
}

/// A third machine uses the address. Nobody fights for it: the takeover fails, and says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{address} is already in use by {mac}")]
pub struct Duplicate {
    /// The address.
    pub address: IpAddr,
    /// Who claims it.
    pub mac: Mac,
}

/// What [`DuplicateCheck::handle_timeout`] wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Send a probe.
    Probe,
    /// Wait.
    Wait,
    /// Nobody answered.
    Free,
}

impl DuplicateCheck {
    const PROBES: u32 = 3;
    /// RFC 5227 §1.1 spaces probes by 1 to 2 s for hosts that come and go; machines on one
    /// switch answer within milliseconds, and a gateway that starts cold is missed.
    const SPACING: Duration = Duration::from_millis(50);

    /// Begins at `now`; `ours` is the link's own address.
    #[must_use]
    pub const fn new(address: IpAddr, ours: Mac, now: Duration) -> Self {
        Self {
            address,
            ours,
            began: now,
            sent: 0,
        }
    }

    /// A frame was heard on the link.
    ///
    /// # Errors
    /// [`Duplicate`] when it shows a third machine with the address, or one that is checking it
    /// at the same time.
    pub fn handle(&self, heard: Heard) -> Result<(), Duplicate> {
        let (address, mac) = match heard {
            Heard::Claim { address, mac } => (address, mac),
            Heard::Question {
                target,
                asker,
                asker_mac,
            } if asker.is_unspecified() => (target, asker_mac),
            Heard::Question {
                asker, asker_mac, ..
            } => (asker, asker_mac),
        };
        if address == self.address && mac != self.ours {
            return Err(Duplicate { address, mac });
        }
        Ok(())
    }

    /// What to do at `now`.
    pub fn handle_timeout(&mut self, now: Duration) -> Check {
        if now < self.poll_timeout() {
            return Check::Wait;
        }
        if self.sent == Self::PROBES {
            return Check::Free;
        }
        self.sent += 1;
        Check::Probe
    }

    /// When to ask again.
    #[must_use]
    pub fn poll_timeout(&self) -> Duration {
        self.began + Self::SPACING * self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn a_burst_then_a_refresh_until_stopped() {
        let mut announcer = Announcer::new(Some(Duration::from_secs(10)));
        assert_eq!(announcer.poll_timeout(), None);
        announcer.begin(1000 * MS);
        let mut sent = Vec::new();
        while sent.len() < 8
            && let Some(at) = announcer.poll_timeout()
        {
            assert!(!announcer.handle_timeout(at - MS / 2) && announcer.handle_timeout(at));
            sent.push((at - 1000 * MS).as_millis());
        }
        assert_eq!(sent, [0, 10, 50, 200, 1000, 3000, 10_000, 20_000]);
        announcer.stop();
        assert_eq!(announcer.poll_timeout(), None);
    }

    #[test]
    fn three_probes_and_silence_mean_free() {
        let mut check = DuplicateCheck::new("192.0.2.1".parse().unwrap(), OURS, Duration::ZERO);
        let mut seen = Vec::new();
        for ms in 0..=160 {
            let next = check.handle_timeout(Duration::from_millis(ms));
            if next != Check::Wait {
                seen.push((ms, next));
            }
        }
        seen.truncate(4);
        let probes = [(0, Check::Probe), (50, Check::Probe), (100, Check::Probe)];
        assert_eq!(seen[..3], probes);
        assert_eq!(seen[3], (150, Check::Free));
    }

    #[test]
    fn a_claim_or_a_rival_probe_of_another_machine_is_a_duplicate() {
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let check = DuplicateCheck::new(address, OURS, Duration::ZERO);
        let claim = |mac| Heard::Claim { address, mac };
        assert_eq!(check.handle(claim(OURS)), Ok(()), "our own announcement");
        let duplicate = Err(Duplicate {
            address,
            mac: THEIRS,
        });
        assert_eq!(check.handle(claim(THEIRS)), duplicate);
        let rival = Heard::Question {
            target: address,
            asker: "0.0.0.0".parse().unwrap(),
            asker_mac: THEIRS,
        };
        assert_eq!(check.handle(rival), duplicate);
        let stranger = Heard::Question {
            target: address,
            asker: "192.0.2.9".parse().unwrap(),
            asker_mac: THEIRS,
        };
        assert_eq!(check.handle(stranger), Ok(()), "asking is no crime");
    }
}
