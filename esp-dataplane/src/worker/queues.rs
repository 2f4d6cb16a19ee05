//! A worker's queues of one tunnel device.
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
//! The order within a flow is kept: the kernel sends a flow's packets to the queue that its
//! answers were last written to, and the same flow is always written to the same queue.

use std::hash::{BuildHasher, RandomState};

use vti::{Offloads, TunQueue};

use crate::inner::flow_of;

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

/// One worker's queues of a device.
#[derive(Debug)]
pub(super) struct Queues {
    queues: Box<[TunQueue]>,
    /// Keyed, so that nobody outside can choose flows that meet in one queue.
    hasher: RandomState,
}

impl Queues {
    pub(super) fn new(queues: impl Into<Box<[TunQueue]>>) -> Self {
        Self {
            queues: queues.into(),
            hasher: RandomState::new(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<&TunQueue> {
        self.queues.get(index)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &TunQueue> {
        self.queues.iter()
    }

    /// What the device takes; the same for all queues.
    pub(super) fn offloads(&self) -> Offloads {
        self.queues
            .first()
            .map_or_else(Offloads::default, TunQueue::offloads)
    }

    /// The queue for a packet that is written to the device; the flow's other direction will
    /// come by it. `head` begins with the packet's headers.
    pub(super) fn of_flow(&self, head: &[u8]) -> Option<&TunQueue> {
        self.queues.get(match self.queues.len() {
            0 | 1 => 0,
            // What is no flow has no order either.
            several => flow_of(head).map_or(0, |flow| self.hash(&flow) % several),
        })
    }

    fn hash(&self, flow: &ipsec_types::Flow) -> usize {
        // The low bits are as good as any.
        self.hasher.hash_one(flow) as usize
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
            TunQueue::from_parts(file, Offloads::default())
        };
        Queues::new((0..count).map(open).collect::<Vec<_>>())
    }

    /// A UDP packet from one of many ports.
    fn packet(port: u16) -> [u8; 28] {
        let mut packet = [0; 28];
        packet[0] = 0x45;
        packet[9] = 17;
        packet[20..22].copy_from_slice(&port.to_be_bytes());
        packet
    }

    #[test]
    fn flows_are_spread_and_each_stays_where_it_is() {
        use std::os::fd::AsFd;
        let queues = queues(8);
        let queue_of = |port| {
            let queue = queues.of_flow(&packet(port)).unwrap();
            queue.as_fd().as_raw_fd()
        };
        let mut used: Vec<_> = (0..1000).map(queue_of).collect();
        assert_eq!(used, (0..1000).map(queue_of).collect::<Vec<_>>());
        used.sort_unstable();
        used.dedup();
        assert_eq!(used.len(), 8, "a thousand flows use all queues");
        assert!(queues.of_flow(b"no packet").is_some());
    }

    #[test]
    fn every_worker_has_as_many_queues() {
        assert_eq!(device_queues(0), 8);
        assert_eq!(device_queues(2), 16);
        assert_eq!(device_queues(100), 200);
        assert_eq!(device_queues(1000), 1000);
    }
}
