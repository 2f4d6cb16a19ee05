//! Resending by whoever awaits an answer, with back-off (RFC 2408 §5.1).

use core::time::Duration;

use crate::config::RetransmitPolicy;

/// How often the message in hand has been sent again, and the wait before the next time.
#[derive(Debug, Clone)]
pub(crate) struct Retransmit {
    policy: RetransmitPolicy,
    wait: Duration,
    sent_again: u32,
}

impl Retransmit {
    pub(crate) fn new(policy: RetransmitPolicy) -> Self {
        Self {
            wait: policy.initial,
            policy,
            sent_again: 0,
        }
    }

    /// The wait after the first sending.
    pub(crate) fn first_wait(&self) -> Duration {
        self.policy.initial
    }

    /// The wait is over without an answer: `Some(wait)` to send again and wait that long,
    /// `None` to give up.
    pub(crate) fn next(&mut self) -> Option<Duration> {
        if self.sent_again >= self.policy.tries {
            return None;
        }
        self.sent_again += 1;
        let grown = self
            .wait
            .saturating_mul(self.policy.factor_percent.max(100))
            / 100;
        self.wait = grown.min(self.policy.ceiling).max(self.policy.initial);
        Some(self.wait)
    }
}

impl RetransmitPolicy {
    /// From the first sending to giving up.
    #[must_use]
    pub fn patience(&self) -> Duration {
        let mut retransmit = Retransmit::new(*self);
        let mut total = retransmit.first_wait();
        while let Some(wait) = retransmit.next() {
            total = total.saturating_add(wait);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_ceiling_and_end() {
        let mut retransmit = Retransmit::new(RetransmitPolicy {
            initial: Duration::from_secs(1),
            factor_percent: 200,
            ceiling: Duration::from_secs(5),
            tries: 4,
        });
        let waits: Vec<_> = core::iter::from_fn(|| retransmit.next())
            .map(|wait| wait.as_secs())
            .collect();
        assert_eq!(waits, [2, 4, 5, 5]);
    }

    #[test]
    fn default_patience_is_about_a_minute() {
        let patience = RetransmitPolicy::default().patience();
        assert!((50..80).contains(&patience.as_secs()), "{patience:?}");
    }
}
