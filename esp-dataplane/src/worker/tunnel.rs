//! A tunnel device as one worker has it.

use core::ops::Range;
use core::time::Duration;
use std::sync::Arc;

use ipsec_types::ConnectionId;
use vti::MssLimits;
use vti::icmp::AnswerLimit;

use super::queues::Queues;
use super::trains::TRAIN;

/// What becomes of the packets in a tunnel's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// They are sealed and sent.
    Carry,
    /// They stay there.
    Hold,
    /// They go back to the kernel, which routes them anew.
    Reflect,
}

/// A tunnel device as one worker has it.
pub(super) struct Tunnel {
    pub(super) connection: ConnectionId,
    pub(super) queues: Arc<Queues>,
    /// Those that this worker reads.
    pub(super) own: Range<usize>,
    /// What their last turns brought.
    last_turns: Box<[LastTurn]>,
    pub(super) mtu: u16,
    pub(super) mss: Option<MssLimits>,
    pub(super) answers: AnswerLimit,
    pub(super) service: Service,
    /// The kernel has removed the device: it is not read any more.
    pub(super) is_lost: bool,
}

/// What a queue's last turn brought.
#[derive(Debug, Clone, Copy, Default)]
struct LastTurn {
    had_train: bool,
    had_one: bool,
}

impl Tunnel {
    pub(super) fn new(
        connection: ConnectionId,
        queues: Arc<Queues>,
        own: Range<usize>,
        mtu: u16,
        mss: Option<MssLimits>,
    ) -> Self {
        Self {
            connection,
            queues,
            last_turns: vec![LastTurn::default(); own.len()].into_boxed_slice(),
            own,
            mtu,
            mss,
            answers: AnswerLimit::new(Duration::ZERO),
            service: Service::Carry,
            is_lost: false,
        }
    }

    /// Whether a queue's last turn moved a train.
    pub(super) fn had_train(&self, queue: usize) -> bool {
        self.last_turn(queue).had_train
    }

    /// Whether a queue's last turn brought one packet, and that one was no part of a stream.
    pub(super) fn had_one(&self, queue: usize) -> bool {
        self.last_turn(queue).had_one
    }

    fn last_turn(&self, queue: usize) -> LastTurn {
        let place = queue.checked_sub(self.own.start);
        let last = place.and_then(|place| self.last_turns.get(place));
        last.copied().unwrap_or_default()
    }

    fn last_turn_mut(&mut self, queue: usize) -> Option<&mut LastTurn> {
        let place = queue.checked_sub(self.own.start)?;
        self.last_turns.get_mut(place)
    }

    /// In its turn, a queue brought one packet that is no part of a stream, or it did not.
    pub(super) fn note_one(&mut self, queue: usize, had_one: bool) {
        if let Some(last) = self.last_turn_mut(queue) {
            last.had_one = had_one;
        }
    }

    /// A queue had its turn and moved so many bytes.
    pub(super) fn note_turn(&mut self, queue: usize, moved: usize) {
        if let Some(last) = self.last_turn_mut(queue) {
            last.had_train = moved >= TRAIN;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_known_by_its_last_turn() {
        let queues = Arc::new(Queues::new([]));
        let mut tunnel = Tunnel::new(ConnectionId(1), queues, 8..16, 1400, None);
        tunnel.note_turn(9, TRAIN);
        tunnel.note_turn(10, TRAIN - 1);
        let known = |tunnel: &Tunnel| -> Vec<usize> {
            (0..20).filter(|queue| tunnel.had_train(*queue)).collect()
        };
        assert_eq!(known(&tunnel), [9]);
        tunnel.note_turn(9, 100);
        assert!(known(&tunnel).is_empty());
        for queue in [9, 10, 20] {
            tunnel.note_one(queue, true);
        }
        tunnel.note_one(10, false);
        let ones: Vec<usize> = (0..30).filter(|queue| tunnel.had_one(*queue)).collect();
        assert_eq!(ones, [9], "queue 20 is another worker's");
    }
}
