//! What speaks ESP to the outside: UDP with segmentation offload, and protocol 50.
//!
//! All stand behind one trait, [`Wire`], whose unit is the batch: trains of sealed packets go
//! out, a batch of received messages comes in. For protocol 50 there are two, a raw socket that
//! always works and a relay in the kernel that is several times cheaper. A wire never fails for good: what it could not send it reports by
//! reason, and the next batch is tried again.
//!
//! ```text
//!   TxBatch  [ train: p p p p p ][ train: p p ][ train: p ]     arena, sealed in place
//!      UDP   one sendmmsg, one message a train (UDP_SEGMENT)
//!      ESP   one sendmmsg, one message a packet; or as UDP, by the relay
//!
//!   RxBatch  [ message: p p p p    ][ message: p ] ...          slots, opened in place
//!      UDP   one recvmmsg, the kernel puts trains together (UDP_GRO)
//!      ESP   one recvmmsg, one packet a message; or as UDP, by the relay
//! ```

mod esp;
mod options;
pub(crate) mod relay;
mod sys;
mod udp;

use core::ops::Range;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

pub use esp::EspWire;
pub use options::{EspRelay, OffloadPolicy, OuterDf, SocketOptions};
pub use relay::RelayWire;
pub use udp::UdpWire;

use crate::counters::DropReason;
use sys::{Incoming, Outgoing, ReceiveQueue, SendQueue};

/// The longest train. The kernel accepts a whole UDP payload, 65,507 bytes, but a device takes
/// uncut only [`vti::MAX_UNCUT`] with the headers of IPv6 and UDP, and a train that is cut in
/// software costs twice as much.
pub const MAX_TRAIN_BYTES: usize = vti::MAX_UNCUT - 40 - 8;

/// The most datagrams in one train (`UDP_MAX_SEGMENTS`, 64 until Linux 6.8).
pub const MAX_TRAIN_PACKETS: usize = 64;

/// Messages in one system call.
const MESSAGES: usize = 64;

/// Consecutive packets in an arena that go to one destination, all of the same length but the
/// last, which may be shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Train {
    /// Where the first packet begins.
    pub start: usize,
    /// Bytes of all packets.
    pub len: usize,
    /// Bytes of each packet but the last.
    pub stride: usize,
    /// Where to; the port is ignored for protocol 50.
    pub remote: SocketAddr,
    /// ToS or traffic class of the outer header.
    pub traffic_class: u8,
}

impl Train {
    /// How many packets there are.
    #[must_use]
    pub fn packets(&self) -> usize {
        self.len.div_ceil(self.stride.max(1))
    }

    fn pieces(self) -> impl Iterator<Item = Range<usize>> {
        let end = self.start + self.len;
        (self.start..end)
            .step_by(self.stride.max(1))
            .map(move |start| start..end.min(start + self.stride))
    }
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Packets that the kernel took.
    pub packets: u64,
    /// Packets refused because a queue was full.
    pub full: u64,
    /// Packets larger than the path allows.
    pub too_big: u64,
    /// Packets refused for another reason, such as no route or a firewall.
    pub refused: u64,
    /// System calls made.
    pub calls: u64,
    /// Trains that had to be sent packet by packet.
    pub uncut: u64,
}

impl Sent {
    /// Adds another batch's outcome.
    pub fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.full += other.full;
        self.too_big += other.too_big;
        self.refused += other.refused;
        self.calls += other.calls;
        self.uncut += other.uncut;
    }

    fn count_refusal(&mut self, error: &io::Error, packets: u64) {
        match reason_of(error) {
            DropReason::SocketFull => self.full += packets,
            DropReason::TooBig => self.too_big += packets,
            _ => self.refused += packets,
        }
    }
}

/// The reason a refusal is counted under.
fn reason_of(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => DropReason::SocketFull,
        Some(libc::EMSGSIZE) => DropReason::TooBig,
        _ => DropReason::SocketError,
    }
}

/// One received message: a datagram, or a train of equal datagrams that came together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RxMessage {
    /// Where it begins in the batch's buffer.
    pub start: usize,
    /// Bytes of all its datagrams.
    pub len: usize,
    /// Bytes of each datagram but the last.
    pub stride: usize,
    /// The outer source; port 0 for protocol 50.
    pub from: SocketAddr,
    /// ToS or traffic class of the outer header.
    pub traffic_class: u8,
}

/// Messages that came with one receive call, and the buffer that they stand in.
pub struct Burst {
    buffer: Box<[u8]>,
    messages: Vec<RxMessage>,
}

/// A reused buffer for received messages.
pub struct RxBatch {
    burst: Burst,
    queue: ReceiveQueue,
    /// Bytes of a message, on average: of the last call, or, when strict, of earlier ones that
    /// had larger ones.
    average: usize,
    is_strict: bool,
    /// Messages dropped because the kernel had to cut them, or their sender is unknown.
    truncated: u64,
    /// The last call brought as many messages as it asked for.
    filled: bool,
}

/// A message is at most this long.
const SLOT: usize = 65_536;

/// Slots begin this far apart: not a power of two, or all would compete for the same cache
/// sets.
const SLOT_STRIDE: usize = SLOT + 1_600;

/// Messages per receive call.
const RX_MESSAGES: usize = 32;

/// About so many bytes are worked on before the other direction has its turn: they and what
/// they become stay in the second-level cache.
const RX_BURST_BYTES: usize = 192 * 1024;

impl Default for RxBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for Burst {
    fn default() -> Self {
        Self {
            // Fresh zero pages: the kernel gives memory only to slots that are ever used.
            buffer: vec![0; SLOT_STRIDE * RX_MESSAGES].into_boxed_slice(),
            messages: Vec::with_capacity(RX_MESSAGES),
        }
    }
}

impl Burst {
    /// The received messages and the buffer they stand in.
    pub fn parts(&mut self) -> (&[RxMessage], &mut [u8]) {
        (&self.messages, &mut self.buffer)
    }

    /// A burst as if received: for tests of what comes after.
    #[cfg(test)]
    pub(crate) fn of(datagrams: &[Vec<u8>], from: SocketAddr) -> Self {
        let mut burst = Self::default();
        let mut start = 0;
        for datagram in datagrams {
            let len = datagram.len();
            burst.buffer[start..start + len].copy_from_slice(datagram);
            burst.messages.push(RxMessage {
                start,
                len,
                stride: len.max(1),
                from,
                traffic_class: 0,
            });
            start += len;
        }
        burst
    }
}

impl RxBatch {
    /// An empty batch with its buffer.
    #[must_use]
    pub fn new() -> Self {
        Self {
            burst: Burst::default(),
            queue: ReceiveQueue::new(RX_MESSAGES),
            average: 1,
            is_strict: true,
            truncated: 0,
            filled: false,
        }
    }

    /// The received messages and the buffer they stand in.
    pub fn parts(&mut self) -> (&[RxMessage], &mut [u8]) {
        self.burst.parts()
    }

    /// What was received.
    pub(crate) const fn burst(&mut self) -> &mut Burst {
        &mut self.burst
    }

    /// True when the last call brought as many messages as it asked for: more may be waiting.
    pub(crate) const fn is_filled(&self) -> bool {
        self.filled
    }

    /// Whether a burst may be no longer than it should be. Between a stream's trains comes a small
    /// packet now and then; taking that for the end of the trains asks for megabytes of them at
    /// once, behind which everybody else waits. Where there is nobody else, that carries more.
    pub(crate) const fn be_strict(&mut self, is_strict: bool) {
        self.is_strict = is_strict;
    }

    /// Bytes of what was received.
    pub(crate) fn bytes(&self) -> usize {
        self.burst.messages.iter().map(|message| message.len).sum()
    }

    /// Messages of the last call that were dropped because they were cut.
    #[must_use]
    pub const fn truncated(&self) -> u64 {
        self.truncated
    }

    /// The ports of senders say nothing: protocol 50 has none.
    fn forget_ports(&mut self) {
        for message in &mut self.burst.messages {
            message.from.set_port(0);
        }
    }

    /// Receives as many messages as make a burst. `describe` turns what stands in a slot into
    /// a message: it gets the slot's start and bytes.
    fn receive(
        &mut self,
        fd: BorrowedFd<'_>,
        describe: impl Fn(usize, &[u8], &Incoming) -> Option<RxMessage>,
    ) -> io::Result<usize> {
        let Burst { buffer, messages } = &mut self.burst;
        messages.clear();
        self.truncated = 0;
        let wanted = (RX_BURST_BYTES / self.average).clamp(2, RX_MESSAGES);
        let places = buffer
            .chunks_mut(SLOT_STRIDE)
            .filter_map(|slot| slot.get_mut(..SLOT))
            .take(wanted);
        let received = self.queue.receive(fd, places)?;
        let mut bytes = 0;
        for index in 0..received {
            let Some(incoming) = self.queue.message(index) else {
                continue;
            };
            let start = index * SLOT_STRIDE;
            let slot = buffer.get(start..start + incoming.len.min(SLOT));
            bytes += incoming.len;
            let message = slot
                .filter(|_| !incoming.truncated)
                .and_then(|slot| describe(start, slot, &incoming));
            match message {
                Some(message) => messages.push(message),
                None => self.truncated += 1,
            }
        }
        self.filled = received == wanted;
        if let Some(average) = bytes.checked_div(received) {
            let faded = match self.is_strict {
                true => self.average - self.average / 8,
                false => 1,
            };
            self.average = average.max(faded);
        }
        Ok(received)
    }
}

/// A socket, or a ring, that carries sealed packets.
pub trait Wire: Send {
    /// What to wait on.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Sends trains out of `arena`. Never blocks longer than a moment for room.
    fn send(&mut self, scratch: &mut TxScratch, arena: &[u8], trains: &[Train]) -> Sent;

    /// Receives what waits, at most one burst; 0 when nothing waited.
    ///
    /// # Errors
    /// What the kernel says; the wire remains usable.
    fn receive(&mut self, batch: &mut RxBatch) -> io::Result<usize>;
}

/// Reused memory for the messages of one send call.
pub struct TxScratch {
    queue: SendQueue,
    /// Packets of a train that the kernel did not cut.
    pieces: SendQueue,
}

impl Default for TxScratch {
    fn default() -> Self {
        Self {
            queue: SendQueue::new(MESSAGES),
            pieces: SendQueue::new(MESSAGES),
        }
    }
}

/// Sends what is in the queue; `fallback` decides about a message that the kernel refused,
/// before the next one leaves.
fn send_queue(
    fd: BorrowedFd<'_>,
    queue: &mut SendQueue,
    arena: &[u8],
    sent: &mut Sent,
    mut fallback: impl FnMut(&io::Error, &Outgoing, &mut Sent),
) {
    let mut first = 0;
    let mut waited = false;
    while first < queue.len() {
        sent.calls += 1;
        match queue.send(fd, arena, first) {
            Ok(count) => {
                let done = (first..first + count).filter_map(|index| queue.message(index));
                sent.packets += done.map(packets_in).sum::<u64>();
                first += count.max(1);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !waited => {
                waited = true;
                wait_for_room(fd);
            }
            Err(error) => {
                if let Some(message) = queue.message(first) {
                    fallback(&error, message, sent);
                }
                first += 1;
            }
        }
    }
    queue.clear();
}

fn packets_in(message: &Outgoing) -> u64 {
    let len = message.range.len();
    let segment = message.segment.map_or(len, usize::from).max(1);
    len.div_ceil(segment) as u64
}

/// A full send buffer drains within microseconds, or the link is slower than what comes in and
/// packets have to be dropped somewhere: one short wait tells the two apart.
fn wait_for_room(fd: BorrowedFd<'_>) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let limit = Timespec {
        tv_sec: 0,
        tv_nsec: 2_000_000,
    };
    let mut fds = [PollFd::new(&fd, PollFlags::OUT)];
    // Whether there is room or not, the next send call tells.
    let _whether_ready = poll(&mut fds, Some(&limit));
}

macro_rules! io_counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What one worker's system calls amounted to; drops are in
        /// [`crate::WorkerCounters`].
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct IoCounters {
            $($(#[doc = $doc])+ pub(crate) $name: AtomicU64,)+
        }

        /// The sum of [`IoCounters`] over all workers.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct IoCounterSnapshot {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl IoCounters {
            /// Adds this worker's counts to `total`.
            pub(crate) fn add_to(&self, total: &mut IoCounterSnapshot) {
                $(total.$name += self.$name.load(Ordering::Relaxed);)+
            }
        }

        impl IoCounterSnapshot {
            /// Every counter with its name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }
        }
    };
}

io_counters! {
    /// Packets and super-packets read from tunnel devices.
    tun_reads,
    /// Packets and super-packets written to tunnel devices.
    tun_writes,
    /// Send calls.
    send_calls,
    /// Receive calls that brought something.
    receive_calls,
    /// ESP packets that left.
    packets_out,
    /// ESP packets that came, before any check.
    packets_in,
    /// Times a worker has not waited any longer for one that had its turn before it.
    turns_given_up,
    /// Inbound bursts laid out for other workers, who open them if they are sooner there.
    bursts_shared,
    /// Inbound bursts that came by another worker's socket and were opened by this one.
    bursts_helped,
    /// Times a worker has gone before ordinary programs, for a stream.
    real_time_taken,
    /// Times it has given that up because it left them less than a twentieth of its CPU.
    real_time_spent,
    /// Trains that the kernel refused to cut and that were sent packet by packet.
    uncut_trains,
    /// Packets and super-packets given back to the kernel while a tunnel is reflected.
    reflected,
    /// ICMP answers to packets that were too big.
    icmp_answers,
    /// Inner packets that were fragmented before they were sealed.
    fragmented,
    /// IKE datagrams handed to the control plane.
    control_datagrams,
    /// Receive calls that failed.
    receive_errors,
    /// Reads from tunnel devices that failed.
    tun_errors,
}

/// Adds to a counter that only its own worker writes.
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
