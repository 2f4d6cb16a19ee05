//! What the pair refused, by reason (invariant I8), and what it means.

use core::time::Duration;

use ha_keepalive::io::clock::boot_time;
use tracing::warn;

use super::Pair;

/// How often the same reason is in the log.
const LOG_PAUSE: Duration = Duration::from_secs(30);

/// Reasons that a human should look into, and where.
const ADVICE: [(&str, &str); 8] = [
    (
        "advert_mac",
        "another secret: secret_file must have the same content on both nodes",
    ),
    (
        "advert_version",
        "the partner runs another version: upgrade one node after the other, the standby first",
    ),
    (
        "advert_reflected",
        "both nodes have the same `member`, or something sends our adverts back",
    ),
    (
        "advert_wrong_path",
        "the paths are crossed: [[pair.path]] must stand in the same order on both nodes",
    ),
    (
        "sync_other_secret",
        "somebody dialled who does not know the secret: secret_file must have the same content on both nodes",
    ),
    (
        "sync_bad_messages",
        "the partner runs another version: upgrade one node after the other, the standby first",
    ),
    (
        "replica_unknown_versions",
        "the active node runs a newer version: upgrade this one",
    ),
    (
        "connections_not_stored",
        "is the disk full? The partner's connections run here but are not on disk",
    ),
];

impl Pair {
    /// Every counted event.
    pub(in crate::daemon) fn counters(&self) -> Vec<(&'static str, u64)> {
        let node = self.driver.node();
        let links = self.state.links.counters();
        let sync = self.driver.sync_counters();
        let accepted = |(name, _): &(&str, u64)| *name != "advert_accepted";
        let mut counts: Vec<_> = node.counts().filter(accepted).collect();
        counts.extend([
            ("sync_other_secret", sync.other_secret),
            ("sync_bad_frames", sync.bad_frames),
            ("sync_bad_messages", sync.bad_messages),
            ("sync_slow_handshakes", sync.slow_handshakes),
            ("sync_strangers", sync.strangers),
            ("replay_exposure_most", node.replay_exposure().1),
            ("arp_not_answered_without_lease", links.gate_closed),
            ("arp_not_sent", links.send_failed),
            ("address_conflicts", self.state.conflicts),
            ("connections_not_stored", self.state.not_stored),
        ]);
        counts
    }

    /// Says in the log what has been refused since the last time, with advice, but not often.
    pub(in crate::daemon) fn log_refusals(&mut self) {
        let now = boot_time();
        let counts = self.counters();
        for (reason, advice) in ADVICE {
            let of = |(name, count): &(&str, u64)| (*name == reason).then_some(*count);
            let count = counts.iter().find_map(of).unwrap_or_default();
            let (logged, at) = self.logged.get(reason).copied().unwrap_or_default();
            let recent = logged > 0 && now.saturating_sub(at) < LOG_PAUSE;
            if count > logged && !recent {
                warn!(reason, count = count - logged, advice, "refused");
                self.logged.insert(reason, (count, now));
            }
        }
    }
}
