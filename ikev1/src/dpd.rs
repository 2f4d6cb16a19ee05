//! Dead peer detection (RFC 3706), for one connection: a clock of silence and a count of
//! unanswered probes. What is sent, and what follows death, is decided elsewhere.

use std::time::Instant;

use crate::config::DpdPolicy;

/// What to do when the DPD timer fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DpdStep {
    /// The peer was heard of; look again then.
    Wait(Instant),
    /// Send R-U-THERE with this number, and look again then.
    Probe {
        /// Sequence number.
        sequence: u32,
        /// Next look.
        again: Instant,
    },
    /// The peer is dead.
    Dead,
}

/// Liveness of a peer as one IKE SA sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dpd {
    /// Sequence number of our next probe; random at first, then one more each time.
    next_sequence: u32,
    /// Number of the probe that awaits its answer.
    awaited: Option<u32>,
    /// Probes without an answer since the peer was last heard of.
    failures: u32,
    /// The highest number the peer has probed us with.
    peer_sequence: Option<u32>,
    /// Last sign of life.
    last_heard: Instant,
}

impl Dpd {
    pub(crate) fn new(random_start: u32, now: Instant) -> Self {
        Self {
            // RFC 3706 §6.2: the high bit clear leaves room to count.
            next_sequence: random_start & 0x7fff_ffff,
            awaited: None,
            failures: 0,
            peer_sequence: None,
            last_heard: now,
        }
    }

    /// Authenticated IKE or ESP came from the peer.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.last_heard = self.last_heard.max(now);
        self.failures = 0;
    }

    /// True when R-U-THERE-ACK with this number answers our probe. An older answer is stale,
    /// though authentic: it is no proof that the peer lives now.
    pub(crate) fn acknowledged(&mut self, sequence: u32, now: Instant) -> bool {
        if self.awaited != Some(sequence) {
            return false;
        }
        self.awaited = None;
        self.heard(now);
        true
    }

    /// True when the peer's R-U-THERE is new: its number lies above the last one. The peer
    /// may start anywhere, and repeat a probe whose answer was lost (RFC 3706 §6.2 lets a
    /// retransmission carry the same number).
    pub(crate) fn accepts_probe(&mut self, sequence: u32) -> bool {
        let fresh = self
            .peer_sequence
            .is_none_or(|last| sequence.wrapping_sub(last) < 1 << 31);
        if fresh {
            self.peer_sequence = Some(sequence);
        }
        fresh
    }

    /// When the timer should fire at the earliest.
    pub(crate) fn first_look(&self, policy: &DpdPolicy) -> Instant {
        self.last_heard + policy.delay
    }

    /// The timer has fired.
    pub(crate) fn step(&mut self, policy: &DpdPolicy, now: Instant) -> DpdStep {
        let due = self.last_heard + policy.delay;
        if now < due {
            self.failures = 0;
            return DpdStep::Wait(due);
        }
        if self.failures >= policy.max_failures {
            return DpdStep::Dead;
        }
        let sequence = self.next_sequence;
        self.next_sequence = self.next_sequence.wrapping_add(1);
        self.awaited = Some(sequence);
        self.failures += 1;
        DpdStep::Probe {
            sequence,
            again: now + policy.retry,
        }
    }

    /// Numbers for a standby: our next, and the peer's last.
    pub(crate) fn sequences(&self) -> (u32, Option<u32>) {
        (self.next_sequence, self.peer_sequence)
    }

    /// The state on another machine: as if the peer had just been heard of, because a
    /// take-over is no sign of the peer's death.
    pub(crate) fn resumed(sequences: (u32, Option<u32>), now: Instant) -> Self {
        Self {
            peer_sequence: sequences.1,
            next_sequence: sequences.0,
            ..Self::new(0, now)
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn policy() -> DpdPolicy {
        DpdPolicy {
            delay: 10 * SECOND,
            retry: 2 * SECOND,
            max_failures: 2,
            ..DpdPolicy::default()
        }
    }

    #[test]
    fn silence_leads_to_probes_and_death() {
        let start = origin();
        let mut dpd = Dpd::new(5, start);
        let t = start + 10 * SECOND;
        let probe = |sequence, now| DpdStep::Probe {
            sequence,
            again: now + 2 * SECOND,
        };
        assert_eq!(dpd.step(&policy(), t - SECOND), DpdStep::Wait(t));
        assert_eq!(dpd.step(&policy(), t), probe(5, t));
        assert_eq!(
            dpd.step(&policy(), t + 2 * SECOND),
            probe(6, t + 2 * SECOND)
        );
        assert_eq!(dpd.step(&policy(), t + 4 * SECOND), DpdStep::Dead);
    }

    #[test]
    fn the_first_number_leaves_room_to_count() {
        let start = origin();
        let mut dpd = Dpd::new(u32::MAX, start);
        let probe = dpd.step(&policy(), start + 10 * SECOND);
        let DpdStep::Probe { sequence, .. } = probe else {
            panic!("{probe:?}");
        };
        assert_eq!(sequence, u32::MAX >> 1);
    }

    #[test]
    fn traffic_counts_as_life() {
        let start = origin();
        let mut dpd = Dpd::new(5, start);
        let t = start + 10 * SECOND;
        assert!(matches!(dpd.step(&policy(), t), DpdStep::Probe { .. }));
        dpd.heard(t + SECOND);
        assert_eq!(
            dpd.step(&policy(), t + 2 * SECOND),
            DpdStep::Wait(t + 11 * SECOND)
        );
    }

    #[test]
    fn only_the_awaited_number_is_an_answer() {
        let start = origin();
        let mut dpd = Dpd::new(5, start);
        let t = start + 10 * SECOND;
        let _ = dpd.step(&policy(), t);
        assert!(!dpd.acknowledged(4, t) && !dpd.acknowledged(6, t));
        assert!(dpd.acknowledged(5, t));
        assert!(!dpd.acknowledged(5, t), "a replayed answer proves nothing");
    }

    #[test]
    fn the_peers_numbers_never_go_back() {
        let mut dpd = Dpd::new(0, origin());
        assert!(dpd.accepts_probe(100));
        assert!(
            dpd.accepts_probe(100),
            "repeated because our answer was lost"
        );
        assert!(dpd.accepts_probe(101));
        assert!(!dpd.accepts_probe(99));
    }
}
