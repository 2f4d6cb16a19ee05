//! One worker's way through the data plane: SA lookup, sealing and opening of whole trains,
//! counting, events.

pub(crate) mod stages;

use core::ops::Range;
use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use ipsec_types::{ConnectionId, Direction, Encapsulation, Flow, Spi};

use crate::counters::{DropReason, Traffic, WorkerCounters};
use crate::events::{EspEvent, EventSender, SoftLimitKind};
use crate::packet::{self, OpenSlot, OpenedTrain, SealSlot};
use crate::sa::{ESP_HEADER, InboundSa, OutboundSa};
use crate::table::{FlowCache, Snapshot};

/// A worker's own view of the shared SA table. Each worker has one; it is `Send`, and nothing
/// in it is shared but what is read.
///
/// ```text
///   begin_batch(now)
///   outbound(connection, flow) -> SA      seal_train(SA, buffer, slots)    -> socket
///   open_train(buffer, slots, from)                                        -> tunnel device
/// ```
pub struct Pipeline {
    table: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    flows: FlowCache,
    counters: Arc<WorkerCounters>,
    events: EventSender,
    now: Duration,
}

impl Pipeline {
    pub(crate) fn new(
        table: Arc<ArcSwap<Snapshot>>,
        counters: Arc<WorkerCounters>,
        events: EventSender,
    ) -> Self {
        Self {
            table: Cache::new(table),
            flows: FlowCache::new(),
            counters,
            events,
            now: Duration::ZERO,
        }
    }

    /// Sets the time of the work that follows, on a clock that runs through suspend.
    pub fn begin_batch(&mut self, now: Duration) {
        self.now = now;
    }

    /// This worker's counters.
    #[must_use]
    pub fn counters(&self) -> &WorkerCounters {
        &self.counters
    }

    /// The SA for `packets` packets of a flow that leaves through a tunnel. Without one they are
    /// counted as dropped and the control plane hears of it.
    pub fn outbound(
        &mut self,
        connection: ConnectionId,
        flow: &Flow,
        packets: u64,
    ) -> Option<Arc<OutboundSa>> {
        let found = self
            .table
            .load()
            .outbound(connection, flow, &mut self.flows);
        let Some(sa) = found else {
            self.counters.count(DropReason::NoSa, packets);
            let event = EspEvent::NoSa {
                connection,
                flow: *flow,
            };
            self.events.send(self.now, event);
            return None;
        };
        Some(Arc::clone(sa))
    }

    /// Seals a train in place and counts it. Every slot carries its own result; the number of
    /// sealed packets is returned. Without a sequence number all slots are refused.
    pub fn seal_train(&mut self, sa: &OutboundSa, buf: &mut [u8], slots: &mut [SealSlot]) -> usize {
        let (packets, _numbers) = self.seal_numbered(sa, buf, slots);
        packets
    }

    /// As [`Pipeline::seal_train`]; also tells which numbers were taken, used or not.
    pub(crate) fn seal_numbered(
        &mut self,
        sa: &OutboundSa,
        buf: &mut [u8],
        slots: &mut [SealSlot],
    ) -> (usize, Option<Range<u64>>) {
        let wanted = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        if wanted == 0 {
            return (0, None);
        }
        let mut numbers = None;
        let traffic = match sa.reserve(wanted) {
            Ok(run) => {
                let first = run.first_seq();
                numbers = Some(first..first + run.len() as u64);
                packet::seal_train(run, buf, slots).traffic
            }
            Err(reason) => {
                for slot in slots.iter_mut() {
                    slot.result = Err(reason);
                }
                Traffic::default()
            }
        };
        if traffic.packets != u64::from(wanted) {
            self.count_refused(slots.iter().filter_map(|slot| slot.result.as_ref().err()));
        }
        if traffic.packets > 0 {
            self.counters.count_sealed(traffic);
        }
        if let Some(kind) = sa.account(traffic, self.now) {
            self.tell_soft_limit(sa.connection(), sa.spi(), Direction::Outbound, kind);
        }
        (
            usize::try_from(traffic.packets).unwrap_or(usize::MAX),
            numbers,
        )
    }

    /// Opens a train of ESP packets from one outer source in place and counts it. Every slot
    /// carries its own result; the packets may belong to different SAs. Returns how many
    /// were opened.
    pub fn open_train(
        &mut self,
        buf: &mut [u8],
        slots: &mut [OpenSlot],
        from: SocketAddr,
        encapsulation: Encapsulation,
    ) -> usize {
        let mut opened = Traffic::default();
        let mut rest = slots;
        while !rest.is_empty() {
            let (same, sa) = self.front(buf, rest, from, encapsulation);
            let (front, others) = rest.split_at_mut(same);
            if let Some(sa) = sa {
                let train = packet::open_train(&sa, buf, front, encapsulation);
                opened += self.account_opened(&sa, front, from, train);
            }
            rest = others;
        }
        if opened.packets > 0 {
            self.counters.count_opened(opened);
        }
        usize::try_from(opened.packets).unwrap_or(usize::MAX)
    }

    /// How many slots at the front share an SPI, at least 1 unless there are none, and the SA
    /// of that SPI. Without one they are refused and counted.
    fn front(
        &mut self,
        buf: &[u8],
        slots: &mut [OpenSlot],
        from: SocketAddr,
        encapsulation: Encapsulation,
    ) -> (usize, Option<Arc<InboundSa>>) {
        let Some(first) = slots.first() else {
            return (0, None);
        };
        let spi = spi_at(buf, first);
        let same = match spi {
            Ok(spi) => {
                let bytes = spi.get().to_be_bytes();
                let is_same = |slot: &&OpenSlot| starts_with(buf, slot, bytes);
                slots.iter().take_while(is_same).count().max(1)
            }
            Err(_) => 1,
        };
        let refused = match spi {
            Err(reason) => reason,
            Ok(spi) => match self.table.load().inbound(spi) {
                Some(sa) => return (same, Some(Arc::clone(sa))),
                None => {
                    let event = EspEvent::UnknownSpi {
                        spi,
                        from,
                        encapsulation,
                    };
                    self.events.send(self.now, event);
                    DropReason::UnknownSpi
                }
            },
        };
        for slot in slots.iter_mut().take(same) {
            slot.result = Err(refused);
        }
        self.counters.count(refused, same as u64);
        (same, None)
    }

    /// Counts what became of packets of one SA and tells the control plane what it should know.
    fn account_opened(
        &mut self,
        sa: &InboundSa,
        slots: &[OpenSlot],
        from: SocketAddr,
        train: OpenedTrain,
    ) -> Traffic {
        let traffic = train.traffic;
        if traffic.packets != slots.len() as u64 {
            self.count_refused(slots.iter().filter_map(|slot| slot.result.as_ref().err()));
        }
        if traffic.packets == 0 {
            return traffic;
        }
        if train.ecn_marked > 0 {
            self.counters.count_ecn_marked(train.ecn_marked);
        }
        // Only the newest authentic packet may teach an address (invariant I5): an old one
        // that was held back on the way would point to where the peer no longer is.
        if train.moved_edge && !sa.expects(from) {
            let event = EspEvent::PeerMoved {
                connection: sa.connection(),
                spi: sa.spi(),
                from,
            };
            self.events.send(self.now, event);
        }
        if let Some(kind) = sa.account(traffic, self.now) {
            self.tell_soft_limit(sa.connection(), sa.spi(), Direction::Inbound, kind);
        }
        traffic
    }

    #[cold]
    fn count_refused<'a>(&self, reasons: impl Iterator<Item = &'a DropReason>) {
        for reason in reasons {
            self.counters.count(*reason, 1);
        }
    }

    #[cold]
    fn tell_soft_limit(
        &mut self,
        connection: ConnectionId,
        spi: Spi,
        direction: Direction,
        kind: SoftLimitKind,
    ) {
        let event = EspEvent::SoftLimit {
            connection,
            spi,
            direction,
            kind,
        };
        self.events.send(self.now, event);
    }
}

impl core::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pipeline")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// Whether an ESP header is there and begins with these bytes.
#[inline]
fn starts_with(buf: &[u8], slot: &OpenSlot, spi: [u8; 4]) -> bool {
    let header = buf
        .get(slot.start..)
        .and_then(<[u8]>::first_chunk::<ESP_HEADER>);
    slot.len >= ESP_HEADER && header.is_some_and(|[a, b, c, d, ..]| [*a, *b, *c, *d] == spi)
}

fn spi_at(buf: &[u8], slot: &OpenSlot) -> Result<Spi, DropReason> {
    let end = slot.start.saturating_add(slot.len);
    packet::spi_of(buf.get(slot.start..end).unwrap_or_default())
}
