//! Death is news, silence is only suspicion.
//!
//! When a daemon dies on a living host, that host's kernel says so: it closes the sync
//! connection, and answers a datagram to the daemon's port with "port unreachable". Both can be
//! forged by whoever shares a link, so neither moves the election (invariant I5): they only
//! start a question. The proof is complete when
//!
//! 1. the sync connection of this run has closed a moment ago,
//! 2. a probe on **every** configured path came back as port unreachable since, and
//! 3. for a short grace after the last of these, no authentic advert answered any probe.
//!
//! A living daemon answers a probe within a round trip, whatever its advert interval. And a dead
//! one's lease needs no waiting for: it was in the memory of the process that is gone.

use core::time::Duration;

use crate::vocabulary::{PathId, Paths};

/// When the probes leave, counted from the news. The kernel tears a dying process down in no
/// particular order, so the first probe may still find the port open; Linux answers a burst of
/// six unreachables to one host, then one a second (`icmp_ratelimit`).
const PROBES: [Duration; 7] = [
    Duration::from_millis(0),
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(7),
    Duration::from_millis(15),
    Duration::from_millis(60),
    Duration::from_millis(1100),
];

/// How long a closed connection counts as news: until the last probe has been answered.
const NEWS_LAST: Duration = Duration::from_millis(1500);

/// Collects the news about one partner.
#[derive(Debug)]
pub(super) struct Evidence {
    paths: Paths,
    grace: Duration,
    news_at: Option<Duration>,
    connected: bool,
    probes: usize,
    refused: [Option<Duration>; 2],
}

impl Evidence {
    pub(super) const fn new(paths: Paths, grace: Duration) -> Self {
        Self {
            paths,
            grace,
            news_at: None,
            connected: false,
            probes: 0,
            refused: [None; 2],
        }
    }

    /// The sync connection is up: whatever was thought before is void.
    pub(super) const fn connected(&mut self) {
        self.connected = true;
        self.clear();
    }

    /// The sync connection closed.
    pub(super) const fn closed(&mut self, now: Duration) {
        self.connected = false;
        self.ask_again(now);
    }

    /// A datagram came back as port unreachable. Without a sync connection that has just closed
    /// this is noise: whoever shares a link can make it at any time, and a partner that happens
    /// to be stopped cannot contradict.
    pub(super) fn refused(&mut self, now: Duration, path: PathId) {
        let lately = |news: Duration| now.saturating_sub(news) <= NEWS_LAST;
        if self.connected || !self.news_at.is_some_and(lately) {
            return;
        }
        if let Some(refused) = self.refused.get_mut(path.index()) {
            // The first counts: later probes must not put the proof off.
            refused.get_or_insert(now);
        }
    }

    /// An authentic advert arrived: somebody is alive. The probes go on, for it may have been
    /// under way when its sender died.
    pub(super) const fn alive(&mut self) {
        self.refused = [None; 2];
    }

    /// This process was stopped: what it has seen is stale.
    pub(super) const fn clear(&mut self) {
        self.news_at = None;
        self.probes = 0;
        self.refused = [None; 2];
    }

    const fn ask_again(&mut self, now: Duration) {
        self.clear();
        self.news_at = Some(now);
    }

    /// When the next probe is due.
    pub(super) fn probe_at(&self) -> Option<Duration> {
        Some(self.news_at? + *PROBES.get(self.probes)?)
    }

    /// A probe has left.
    pub(super) const fn probed(&mut self) {
        self.probes += 1;
    }

    /// When the proof will be complete, if nothing contradicts it before.
    pub(super) fn proof_at(&self) -> Option<Duration> {
        self.news_at?;
        if self.connected {
            return None;
        }
        let mut last = Duration::ZERO;
        for path in self.paths.ids() {
            last = last.max(self.refused.get(path.index()).copied().flatten()?);
        }
        Some(last + self.grace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn evidence() -> Evidence {
        let mut evidence = Evidence::new(Paths::Two, 5 * MS);
        evidence.connected();
        evidence
    }

    #[test]
    fn every_path_must_refuse_after_the_connection_closed() {
        let mut evidence = evidence();
        evidence.refused(MS, PathId::First);
        evidence.closed(2 * MS);
        assert_eq!(evidence.probe_at(), Some(2 * MS));
        evidence.refused(3 * MS, PathId::Second);
        assert_eq!(evidence.proof_at(), None, "the first path spoke too early");
        evidence.refused(4 * MS, PathId::First);
        assert_eq!(evidence.proof_at(), Some(9 * MS));
    }

    #[test]
    fn later_refusals_do_not_put_the_proof_off() {
        let mut evidence = evidence();
        evidence.closed(MS);
        for at in 2..6 {
            evidence.refused(at * MS, PathId::First);
            evidence.refused(at * MS, PathId::Second);
        }
        assert_eq!(evidence.proof_at(), Some(7 * MS));
    }

    #[test]
    fn an_answer_voids_the_refusals() {
        let mut evidence = evidence();
        evidence.closed(MS);
        evidence.refused(2 * MS, PathId::First);
        evidence.refused(2 * MS, PathId::Second);
        evidence.alive();
        assert_eq!(evidence.proof_at(), None);
        assert!(evidence.probe_at().is_some(), "and the question stays open");
    }

    #[test]
    fn an_open_connection_outweighs_unreachable_ports() {
        let mut evidence = evidence();
        evidence.refused(MS, PathId::First);
        evidence.refused(MS, PathId::Second);
        assert_eq!(evidence.proof_at(), None);
    }

    #[test]
    fn i5_without_a_connection_that_has_just_closed_refusals_are_noise() {
        let mut evidence = Evidence::new(Paths::One, 5 * MS);
        evidence.refused(MS, PathId::First);
        assert_eq!(evidence.proof_at(), None, "none was ever open");
        evidence.connected();
        evidence.closed(10 * MS);
        evidence.refused(10 * MS + NEWS_LAST + MS, PathId::First);
        assert_eq!(evidence.proof_at(), None, "that was long ago");
    }

    #[test]
    fn the_probes_end() {
        let mut evidence = evidence();
        evidence.closed(MS);
        for _ in 0..PROBES.len() {
            assert!(evidence.probe_at().is_some());
            evidence.probed();
        }
        assert_eq!(evidence.probe_at(), None);
    }
}
