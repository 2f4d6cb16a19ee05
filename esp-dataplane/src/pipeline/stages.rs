//! Opening in three stages, for workers that open one peer's trains in parallel.
//!
//! ```text
//!   authenticate   SPI -> SA, early replay check, ICV, decryption     side by side
//!   commit         replay window                                      in the order of arrival
//!   check          padding, inner packet, selectors, ECN, counting    side by side
//! ```
//!
//! The replay window hears of the packets in the order in which they came. So it does not
//! matter how far one worker is ahead of another: what a single worker would accept is accepted,
//! whatever the size of the window.

use core::ops::Range;
use std::net::SocketAddr;
use std::sync::Arc;

use ipsec_types::Encapsulation;

use super::Pipeline;
use crate::counters::{DropReason, Traffic};
use crate::packet::{self, OpenSlot, OpenedTrain};
use crate::sa::InboundSa;

/// What is known of packets between the stages; reused for burst after burst.
#[derive(Debug)]
pub(crate) struct Stages {
    /// A sequence number for each slot, or why there is none.
    seqs: Vec<Result<u64, DropReason>>,
    groups: Vec<Group>,
}

/// Neighbouring slots of one SA from one source.
#[derive(Debug)]
struct Group {
    sa: Arc<InboundSa>,
    slots: Range<usize>,
    from: SocketAddr,
    moved_edge: bool,
}

impl Stages {
    /// With memory for `packets` packets.
    pub(crate) fn with_capacity(packets: usize) -> Self {
        Self {
            seqs: Vec::with_capacity(packets),
            groups: Vec::with_capacity(packets),
        }
    }

    /// Forgets everything, and lets go of the SAs.
    pub(crate) fn clear(&mut self) {
        self.seqs.clear();
        self.groups.clear();
    }
}

impl Pipeline {
    /// The first stage, for the slots that were appended since the last call; they came from
    /// one outer source. What no SA is for is refused and counted now.
    pub(crate) fn authenticate(
        &mut self,
        buf: &mut [u8],
        slots: &mut [OpenSlot],
        from: SocketAddr,
        encapsulation: Encapsulation,
        stages: &mut Stages,
    ) {
        let mut at = stages.seqs.len();
        stages.seqs.resize(slots.len(), Err(DropReason::UnknownSpi));
        while let Some(rest) = slots.get_mut(at..).filter(|rest| !rest.is_empty()) {
            let (same, sa) = self.front(buf, rest, from, encapsulation);
            let range = at..at + same;
            if let (Some(sa), Some(slots), Some(seqs)) = (
                sa,
                slots.get(range.clone()),
                stages.seqs.get_mut(range.clone()),
            ) {
                packet::authenticate_train(&sa, buf, slots, encapsulation, seqs);
                stages.groups.push(Group {
                    sa,
                    slots: range,
                    from,
                    moved_edge: false,
                });
            }
            at += same;
        }
    }

    /// The second stage. Nobody may commit earlier packets of the same SAs afterwards.
    pub(crate) fn commit(stages: &mut Stages) {
        for group in &mut stages.groups {
            let seqs = stages.seqs.get_mut(group.slots.clone());
            let moved = group
                .sa
                .replay
                .commit_train_after_auth(seqs.unwrap_or_default());
            group.moved_edge = moved.is_some();
        }
    }

    /// The third stage: every slot gets its result and is counted.
    pub(crate) fn check(&mut self, buf: &mut [u8], slots: &mut [OpenSlot], stages: &Stages) {
        let mut opened = Traffic::default();
        for group in &stages.groups {
            let mut train = OpenedTrain {
                moved_edge: group.moved_edge,
                ..OpenedTrain::default()
            };
            let slots = slots.get_mut(group.slots.clone()).unwrap_or_default();
            let seqs = stages.seqs.get(group.slots.clone()).unwrap_or_default();
            packet::check_train(&group.sa, buf, slots, seqs, &mut train);
            opened += self.account_opened(&group.sa, slots, group.from, train);
        }
        if opened.packets > 0 {
            self.counters.count_opened(opened);
        }
    }
}
