//! Where outbound packets are laid out, sealed and lined up as trains.

use core::ops::Range;
use std::net::SocketAddr;
use std::sync::Arc;

use ipsec_types::Encapsulation;

use crate::io::{MAX_TRAIN_BYTES, MAX_TRAIN_PACKETS, Train};
use crate::packet::SealSlot;
use crate::pipeline::Pipeline;
use crate::sa::{Endpoints, OutboundSa};

/// Room for a long burst of super-packets with their ESP framing and a bit more: with the read
/// buffer it stays within a second-level cache of 512 KiB.
const ARENA: usize = 352 * 1024;

/// Packets between two flushes.
const SLOTS: usize = 512;

/// A train that is sealed and waits to be sent, and the socket it leaves by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    pub(super) train: Train,
    pub(super) local: SocketAddr,
    pub(super) encapsulation: Encapsulation,
}

/// A train that still grows: slots of equal sealed length.
#[derive(Debug)]
struct Growing {
    slots: Range<usize>,
    stride: usize,
    bytes: usize,
    traffic_class: u8,
    /// Its last packet was shorter.
    closed: bool,
}

/// What was sealed with one run of an SA's numbers, and is sent in its turn.
#[derive(Debug)]
struct Group {
    sa: Arc<OutboundSa>,
    numbers: Range<u64>,
    ready: Range<usize>,
}

/// Groups that may be sent now, one call for all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    groups: Range<usize>,
    /// Their trains.
    pub(super) ready: Range<usize>,
    /// An earlier run seems to be lost with the worker that had it.
    pub(super) gave_up: bool,
}

/// Groups of one SA that may stand between two others of the same SA in one call.
const LOOK_BACK: usize = 8;

/// Packets of a burst on their way out.
#[derive(Debug)]
pub(super) struct Outbox {
    arena: Box<[u8]>,
    cursor: usize,
    sa: Option<(Arc<OutboundSa>, Endpoints)>,
    slots: Vec<SealSlot>,
    growing: Vec<Growing>,
    ready: Vec<Ready>,
    groups: Vec<Group>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            arena: vec![0; ARENA].into_boxed_slice(),
            cursor: 0,
            sa: None,
            slots: Vec::with_capacity(SLOTS),
            growing: Vec::with_capacity(SLOTS),
            ready: Vec::with_capacity(SLOTS),
            groups: Vec::with_capacity(SLOTS),
        }
    }

    /// Bytes laid out since the last [`Outbox::clear`].
    pub(super) const fn used(&self) -> usize {
        self.cursor
    }

    /// The packets that follow leave by this SA; those before are sealed first if they left by
    /// another.
    pub(super) fn use_sa(&mut self, sa: Arc<OutboundSa>, pipeline: &mut Pipeline) {
        let same = self
            .sa
            .as_ref()
            .is_some_and(|(current, _)| Arc::ptr_eq(current, &sa));
        if !same {
            self.seal(pipeline);
            let endpoints = sa.endpoints();
            self.sa = Some((sa, endpoints));
        }
    }

    /// True when an inner packet of `len` bytes fits before the next [`Outbox::clear`].
    pub(super) fn has_room(&self, len: usize) -> bool {
        let sealed = self.sa.as_ref().map_or(len, |(sa, _)| sa.sealed_len(len));
        self.slots.len() < SLOTS
            && self.ready.len() + self.growing.len() < SLOTS
            && self.groups.len() < SLOTS
            && self.cursor + sealed <= self.arena.len()
    }

    /// Room for an inner packet of `len` bytes: the slice to write it into. `None` when there
    /// is no room, which [`Outbox::has_room`] tells before.
    pub(super) fn reserve(&mut self, len: usize, traffic_class: u8) -> Option<&mut [u8]> {
        let (sa, _) = self.sa.as_ref()?;
        let (header, sealed) = (sa.header_len(), sa.sealed_len(len));
        if !self.has_room(len) {
            return None;
        }
        let start = self.cursor + header;
        let slot = self.slots.len();
        self.slots.push(SealSlot::new(start, len));
        self.cursor += sealed;
        match self.growing.last_mut() {
            Some(train) if train.takes(sealed, traffic_class) => {
                train.slots.end = slot + 1;
                train.bytes += sealed;
                train.closed = sealed < train.stride;
            }
            _ => self.growing.push(Growing {
                slots: slot..slot + 1,
                stride: sealed,
                bytes: sealed,
                traffic_class,
                closed: false,
            }),
        }
        self.arena.get_mut(start..start + len)
    }

    /// Gives the last reserved slot back. What it was for is not sent; its bytes stay unused.
    #[cold]
    pub(super) fn take_back(&mut self) {
        self.slots.pop();
        let Some(train) = self.growing.last_mut() else {
            return;
        };
        train.slots.end = train.slots.end.saturating_sub(1);
        // A gap behind it: nothing may be appended.
        train.closed = true;
        if train.slots.is_empty() {
            self.growing.pop();
        }
    }

    /// Seals what was laid out and lines it up for sending.
    pub(super) fn seal(&mut self, pipeline: &mut Pipeline) {
        let Some((sa, endpoints)) = self.sa.as_ref() else {
            return;
        };
        if self.slots.is_empty() {
            return;
        }
        let (_packets, numbers) = pipeline.seal_numbered(sa, &mut self.arena, &mut self.slots);
        let before = self.ready.len();
        for train in &self.growing {
            let slots = self.slots.get(train.slots.clone()).unwrap_or_default();
            // Refusals are the tail of a run that met its ceiling; they are counted already.
            let mut sealed = slots.iter().map_while(|slot| slot.result.as_ref().ok());
            let Some(first) = sealed.next() else {
                continue;
            };
            let end = sealed.last().unwrap_or(first).end;
            self.ready.push(Ready {
                train: Train {
                    start: first.start,
                    len: end - first.start,
                    stride: train.stride,
                    remote: endpoints.remote,
                    traffic_class: train.traffic_class,
                },
                local: endpoints.local,
                encapsulation: endpoints.encapsulation,
            });
        }
        if let Some(numbers) = numbers {
            self.groups.push(Group {
                sa: Arc::clone(sa),
                numbers,
                ready: before..self.ready.len(),
            });
        }
        self.slots.clear();
        self.growing.clear();
    }

    /// Waits until the next group, from index `after` on, may be sent, and adds what follows
    /// and need not wait; `None` when nothing is left. While a turn is held nothing is waited
    /// for, see [`crate::sa`].
    pub(super) fn take_turn(&self, after: usize) -> Option<Turn> {
        let first = self.groups.get(after)?;
        let gave_up = !first.sa.turns.wait_for(first.numbers.start);
        let mut turn = Turn {
            groups: after..after + 1,
            ready: first.ready.clone(),
            gave_up,
        };
        while let Some(next) = self.groups.get(turn.groups.end) {
            let held = self.groups.get(turn.groups.clone()).unwrap_or_default();
            let follows = |earlier: &Group| {
                Arc::ptr_eq(&earlier.sa, &next.sa) && earlier.numbers.end == next.numbers.start
            };
            let is_open = next.sa.turns.is_open_for(next.numbers.start)
                || held.iter().rev().take(LOOK_BACK).any(follows);
            if !is_open {
                break;
            }
            turn.groups.end += 1;
            turn.ready.end = next.ready.end;
        }
        Some(turn)
    }

    /// A turn's trains are sent, or never will be: the next worker may go on. Returns where the
    /// next turn begins.
    pub(super) fn pass_turn(&self, turn: &Turn) -> usize {
        for group in self.groups.get(turn.groups.clone()).unwrap_or_default() {
            group.sa.turns.pass(group.numbers.end);
        }
        turn.groups.end
    }

    /// What waits to be sent, and where it lies.
    pub(super) fn ready(&self) -> (&[Ready], &[u8]) {
        (&self.ready, &self.arena)
    }

    /// Forgets all packets; the next begins at the front of the arena. The SA stays.
    pub(super) fn clear(&mut self) {
        self.ready.clear();
        self.groups.clear();
        self.slots.clear();
        self.growing.clear();
        self.cursor = 0;
    }

    /// Lets go of the SA at the end of a burst: it may be removed while nothing is sent.
    pub(super) fn release_sa(&mut self) {
        self.sa = None;
    }
}

impl Growing {
    fn takes(&self, sealed: usize, traffic_class: u8) -> bool {
        !self.closed
            && sealed <= self.stride
            && self.traffic_class == traffic_class
            && self.slots.len() < MAX_TRAIN_PACKETS
            && self.bytes + sealed <= MAX_TRAIN_BYTES
    }
}

#[cfg(test)]
mod tests;
