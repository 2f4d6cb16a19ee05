//! How much a worker reads from a tunnel's queue before other sources have their turn.

use core::time::Duration;

/// Beside others: about one super-packet.
const SHORT: usize = 64 * 1024;

/// Among streams only: about four. What is sealed and sent in one go wakes the other gateway
/// less often, and its acknowledgements come together.
const LONG: usize = 256 * 1024;

/// Who has sent a single packet is expected to send another for so long: more than the 20 ms
/// between two packets of a voice.
const MEMORY: Duration = Duration::from_millis(50);

/// How long bursts may be.
///
/// A small packet waits for the burst that is under way. Where every packet belongs to a
/// stream nobody minds, and longer bursts carry more.
#[derive(Debug, Default)]
pub(super) struct Bursts {
    /// When a packet that is no part of a stream was last read, in the lease's time.
    last_single: Option<Duration>,
}

impl Bursts {
    /// A queue had its turn at `now`: whether it gave packets that are neither super-packets
    /// nor bare acknowledgements, and whether super-packets come by it. A stream's last packet
    /// is single too, but comes in the queue of its super-packets.
    pub(super) const fn note_turn(&mut self, now: Duration, has_single: bool, of_stream: bool) {
        if has_single && !of_stream {
            self.last_single = Some(now);
        }
    }

    /// Whether packets that are no part of a stream may come at `now`.
    pub(super) fn are_beside_singles(&self, now: Duration) -> bool {
        let is_beside = |single| now.saturating_sub(single) < MEMORY;
        self.last_single.is_some_and(is_beside)
    }

    /// A burst that begins at `now` ends when so many bytes are laid out.
    pub(super) fn limit(&self, now: Duration) -> usize {
        match self.are_beside_singles(now) {
            true => SHORT,
            false => LONG,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_short_beside_single_packets() {
        let mut bursts = Bursts::default();
        let now = Duration::from_secs(100);
        assert_eq!(bursts.limit(now), LONG);
        bursts.note_turn(now, true, false);
        assert_eq!(bursts.limit(now), SHORT);
        assert_eq!(bursts.limit(now + MEMORY - Duration::from_nanos(1)), SHORT);
        assert_eq!(bursts.limit(now + MEMORY), LONG);
    }

    #[test]
    fn streams_among_themselves_have_long_bursts() {
        let mut bursts = Bursts::default();
        let now = Duration::from_secs(100);
        bursts.note_turn(now, false, false);
        bursts.note_turn(now, false, true);
        bursts.note_turn(now, true, true);
        assert_eq!(bursts.limit(now), LONG);
    }
}
