//! What must be right with a node before it may be active: tracked conditions and hold-down.

use core::time::Duration;

use serde::Serialize;

/// Something the daemon watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// The link towards the peers is up.
    WanLink,
    /// The link towards the hosts is up.
    LanLink,
    /// The health script succeeds.
    Health,
    /// The peers answer: DPD on the active node, the path check on the standby.
    PeersReachable,
    /// The last attempt to take the addresses succeeded, and nobody else uses them.
    Takeover,
    /// The configuration in force is the partner's.
    Config,
}

impl Condition {
    /// Every condition.
    pub const ALL: [Self; 6] = [
        Self::WanLink,
        Self::LanLink,
        Self::Health,
        Self::PeersReachable,
        Self::Takeover,
        Self::Config,
    ];

    const fn bit(self) -> u8 {
        match self {
            Self::WanLink => 1,
            Self::LanLink => 2,
            Self::Health => 4,
            Self::PeersReachable => 8,
            Self::Takeover => 16,
            Self::Config => 32,
        }
    }
}

/// Bad news counts at once; good news counts after it has lasted for the hold-down, so that a
/// flapping link moves the addresses once and not with every flap.
#[derive(Debug)]
pub struct Track {
    hold_down: Duration,
    failed: u8,
    worst: Option<Condition>,
    fit_from: Option<Duration>,
}

impl Track {
    /// All conditions are good until told otherwise.
    #[must_use]
    pub const fn new(hold_down: Duration) -> Self {
        Self {
            hold_down,
            failed: 0,
            worst: None,
            fit_from: None,
        }
    }

    /// Notes a condition as of `now`.
    pub fn set(&mut self, now: Duration, condition: Condition, good: bool) {
        let before = self.failed;
        if good {
            self.failed &= !condition.bit();
        } else {
            self.failed |= condition.bit();
            self.worst = Some(condition);
        }
        if self.failed != 0 {
            self.fit_from = None;
        } else if before != 0 {
            self.fit_from = Some(now + self.hold_down);
        }
    }

    /// True when every condition is good and has been for the hold-down.
    #[must_use]
    pub fn is_fit(&self, now: Duration) -> bool {
        self.failed == 0 && self.fit_from.is_none_or(|from| now >= from)
    }

    /// The conditions that are bad now.
    pub fn failed(&self) -> impl Iterator<Item = Condition> {
        let failed = self.failed;
        Condition::ALL
            .into_iter()
            .filter(move |condition| failed & condition.bit() != 0)
    }

    /// The condition that failed last, for the log.
    #[must_use]
    pub const fn last_failure(&self) -> Option<Condition> {
        self.worst
    }

    /// When hold-down ends, if it is running at `now`.
    #[must_use]
    pub fn hold_down_ends(&self, now: Duration) -> Option<Duration> {
        self.fit_from.filter(|from| *from > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn bad_news_counts_at_once_and_good_news_after_the_hold_down() {
        let mut track = Track::new(10 * S);
        assert!(track.is_fit(Duration::ZERO));
        track.set(S, Condition::WanLink, false);
        track.set(S, Condition::Health, false);
        assert!(!track.is_fit(S));
        track.set(2 * S, Condition::Health, true);
        assert!(!track.is_fit(100 * S), "the link is still down");
        assert_eq!(track.failed().collect::<Vec<_>>(), [Condition::WanLink]);
        track.set(3 * S, Condition::WanLink, true);
        assert!(!track.is_fit(12 * S) && track.is_fit(13 * S));
        assert_eq!(track.hold_down_ends(12 * S), Some(13 * S));
        assert_eq!(track.hold_down_ends(13 * S), None);
    }

    #[test]
    fn a_flapping_link_never_becomes_fit() {
        let mut track = Track::new(10 * S);
        for second in 0..100 {
            track.set(second * S, Condition::LanLink, second % 2 == 1);
            assert!(!track.is_fit(second * S));
        }
    }
}
