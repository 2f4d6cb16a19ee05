//! The queues of a tunnel device, of which each worker reads some.
//!
//! A queue of the kernel is first in, first out: behind a TCP stream that fills its window a
//! small packet of another flow would wait for milliseconds. So every worker has several
//! queues, the kernel spreads flows over them, and the worker takes a burst from each by turns.
//!
//! ```text
//!   kernel: hash of the flow  -->  queue 0 [ 64 KiB ][ 64 KiB ][ 64 KiB ]  --\
//!                                  queue 1 [ 80 B ]                        ---+-->  one burst each
//!                                  queue 2                                 --/
//! ```
//!
//! The order within a flow is kept. The kernel sends a flow's packets to the queue that its
//! answers were last written to, and for want of answers, or three seconds after the last, to one
//! that it picks by a hash of its own. So answers are written to the queue that the flow's
//! packets come by already, whichever worker reads that one: an answer after a long time would
//! otherwise move a flow away from packets that still wait, and let later ones overtake them.
//! Decision 12 says where that has its limits.

use core::ops::Range;
use core::sync::atomic::{AtomicU16, Ordering};
use std::hash::{BuildHasher, RandomState};

use ipsec_types::Flow;
use vti::{Offloads, TunQueue};

use crate::inner::{flow_of, is_fragment};

/// More flows than this at a time share queues; each queue costs a file descriptor.
const PER_WORKER: usize = 8;

/// A TUN device has no more (`MAX_TAP_QUEUES`).
const MOST: usize = 256;

/// How many queues a tunnel device should have for so many workers: as many for each.
#[must_use]
pub fn device_queues(workers: usize) -> usize {
    let workers = workers.max(1);
    workers * (MOST / workers).clamp(1, PER_WORKER)
}

/// Groups of flows that are told apart by where they come; two bytes each.
const GROUPS: usize = 4096;

/// Nothing has come from this group yet.
const UNKNOWN: u16 = u16::MAX;

/// All queues of a device.
#[derive(Debug)]
pub(super) struct Queues {
    queues: Box<[TunQueue]>,
    /// Keyed, so that nobody outside can choose flows that meet in one queue.
    hasher: RandomState,
    /// Which queue the packets of a group were last read from.
    comes_by: Box<[AtomicU16]>,
}

impl Queues {
    pub(super) fn new(queues: impl Into<Box<[TunQueue]>>) -> Self {
        let queues = queues.into();
        let groups = if queues.len() > 1 { GROUPS } else { 0 };
        Self {
            queues,
            hasher: RandomState::new(),
            comes_by: (0..groups).map(|_| AtomicU16::new(UNKNOWN)).collect(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<&TunQueue> {
        self.queues.get(index)
    }

    /// Those of a worker, with their numbers.
    pub(super) fn of_worker(&self, own: &Range<usize>) -> impl Iterator<Item = (usize, &TunQueue)> {
        own.clone()
            .zip(self.queues.get(own.clone()).into_iter().flatten())
    }

    /// What the device takes; the same for all queues.
    pub(super) fn offloads(&self) -> Offloads {
        self.queues
            .first()
            .map_or_else(Offloads::default, TunQueue::offloads)
    }

    /// A packet of the flow was read from a queue.
    pub(super) fn note(&self, packet: &[u8], flow: &Flow, queue: usize) {
        if self.queues.len() <= 1 {
            return;
        }
        let queue = u16::try_from(queue).unwrap_or(UNKNOWN);
        let group = self.comes_by.get(self.group(&steered_by(packet, *flow)));
        // Not written unless it changes: the line would go from worker to worker.
        if let Some(group) = group.filter(|group| group.load(Ordering::Relaxed) != queue) {
            group.store(queue, Ordering::Relaxed);
        }
    }

    /// The queue for a packet that is written to the device; the flow's other direction will
    /// come by it. `head` begins with the packet's headers; `own` are the queues of whoever has
    /// received it, for a flow that nothing has come from yet.
    pub(super) fn of_flow(&self, head: &[u8], own: &Range<usize>) -> Option<&TunQueue> {
        if self.queues.len() <= 1 {
            return self.queues.first();
        }
        // What is no flow has no order either.
        let group = flow_of(head).map_or(0, |flow| self.group(&reversed(&steered_by(head, flow))));
        let known = self.comes_by.get(group)?.load(Ordering::Relaxed);
        let known = self.queues.get(usize::from(known));
        known.or_else(|| self.queues.get(own.start + group % own.len().max(1)))
    }

    fn group(&self, flow: &Flow) -> usize {
        // The low bits are as good as any.
        self.hasher.hash_one(flow) as usize % GROUPS
    }
}

/// What the kernel steers a packet by: of fragments, also of a flow's first one, it sees addresses
/// and protocol alone. To it they are a flow of their own.
fn steered_by(packet: &[u8], flow: Flow) -> Flow {
    if !is_fragment(packet) {
        return flow;
    }
    Flow {
        source_port: None,
        destination_port: None,
        ..flow
    }
}

/// The same flow's other direction.
const fn reversed(flow: &Flow) -> Flow {
    Flow {
        source: flow.destination,
        destination: flow.source,
        protocol: flow.protocol,
        source_port: flow.destination_port,
        destination_port: flow.source_port,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::{AsRawFd, OwnedFd};

    use super::*;

    fn queues(count: usize) -> Queues {
        let open = |_| {
            let file = OwnedFd::from(File::open("/dev/null").unwrap());
            TunQueue::from_parts(file, &"vti0".into(), Offloads::default())
        };
        Queues::new((0..count).map(open).collect::<Vec<_>>())
    }

    /// A UDP packet from one of many ports.
    fn packet(port: u16) -> [u8; 28] {
        let mut packet = [0; 28];
        packet[0] = 0x45;
        packet[9] = 17;
        packet[12..20].copy_from_slice(&[10, 2, 0, 1, 10, 1, 0, 1]);
        packet[22..24].copy_from_slice(&[0, 53]);
        packet[20..22].copy_from_slice(&port.to_be_bytes());
        packet
    }

    #[test]
    fn flows_are_spread_and_each_stays_where_it_is() {
        use std::os::fd::AsFd;
        let queues = queues(8);
        let queue_of = |port| {
            let queue = queues.of_flow(&packet(port), &(0..8)).unwrap();
            queue.as_fd().as_raw_fd()
        };
        let mut used: Vec<_> = (0..1000).map(queue_of).collect();
        assert_eq!(used, (0..1000).map(queue_of).collect::<Vec<_>>());
        used.sort_unstable();
        used.dedup();
        assert_eq!(used.len(), 8, "a thousand flows use all queues");
        assert!(queues.of_flow(b"no packet", &(0..8)).is_some());
    }

    #[test]
    fn an_answer_is_written_to_where_its_flow_comes_from() {
        use std::os::fd::AsFd;
        let queues = queues(8);
        for port in 0..100_u16 {
            let answer = packet(port);
            let flow = reversed(&flow_of(&answer).unwrap());
            let other = usize::from(port % 8);
            queues.note(&answer, &flow, other);
            let queue = queues.of_flow(&answer, &(0..2)).unwrap();
            let expected = queues.get(other).unwrap();
            assert_eq!(queue.as_fd().as_raw_fd(), expected.as_fd().as_raw_fd());
        }
    }

    #[test]
    fn a_first_fragment_says_nothing_of_the_whole_packets_queue() {
        use std::os::fd::AsFd;
        let queues = queues(8);
        let whole = packet(700);
        let mut fragment = whole;
        fragment[6] = 0x20; // more fragments
        let note = |packet: &[u8], queue| {
            let flow = reversed(&flow_of(packet).unwrap());
            queues.note(packet, &flow, queue);
        };
        let queue_of = |packet: &[u8]| {
            let queue = queues.of_flow(packet, &(0..8)).unwrap();
            queue.as_fd().as_raw_fd()
        };
        let number = |queue: usize| queues.get(queue).unwrap().as_fd().as_raw_fd();
        note(&whole, 3);
        note(&fragment, 5);
        assert_eq!(queue_of(&whole), number(3));
        assert_eq!(queue_of(&fragment), number(5));
        let mut later = fragment;
        later[7] = 1; // its offset
        assert_eq!(queue_of(&later), number(5), "fragments stay together");
    }

    #[test]
    fn every_worker_has_as_many_queues() {
        assert_eq!(device_queues(0), 8);
        assert_eq!(device_queues(2), 16);
        assert_eq!(device_queues(100), 200);
        assert_eq!(device_queues(1000), 1000);
    }
}
