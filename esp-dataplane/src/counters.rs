//! Every refused packet has a reason, and every reason a counter (invariant I8).
//!
//! Each worker counts on its own cache lines; whoever asks for the totals adds them up.

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident => $text:literal,)+) => {
        /// Why a packet was dropped.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
            thiserror::Error,
        )]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ #[error($text)] $name,)+
        }

        impl DropReason {
            /// Every reason, in the order of the status page.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// A name for metrics: `snake_case`, never changed once released.
            #[must_use]
            pub fn metric_name(self) -> String {
                let name = match self {
                    $(Self::$name => stringify!($name),)+
                };
                snake_case(name)
            }
        }
    };
}

drop_reasons! {
    // --- inbound, before authentication ---
    /// Shorter than an ESP header, IV, trailer and ICV.
    Truncated => "the ESP packet is too short for its SA",
    /// SPI 0 to 255 (RFC 4303 §2.1).
    ReservedSpi => "reserved SPI",
    /// No inbound SA has this SPI.
    UnknownSpi => "no SA has this SPI",
    /// UDP where protocol 50 was agreed, or the other way round.
    WrongEncapsulation => "the SA does not use this encapsulation",
    /// Sequence number 0 or beyond the number space.
    SequenceIllegal => "illegal sequence number",
    /// The sequence number was accepted before (RFC 4303 §3.4.3).
    Replayed => "replayed sequence number",
    /// The sequence number is left of the replay window.
    TooOld => "sequence number older than the replay window",
    /// The ciphertext is no whole number of cipher blocks.
    BadBlockLength => "the ciphertext is not a multiple of the block size",
    /// The integrity check failed (RFC 4303 §3.4.4).
    BadIcv => "the integrity check failed",
    // --- inbound, after authentication ---
    /// Padding is not 1, 2, 3, … or longer than the payload (RFC 4303 §2.4).
    BadPadding => "bad ESP padding",
    /// Next header 59: traffic-flow confidentiality, dropped by design (RFC 4303 §2.6).
    Dummy => "dummy packet",
    /// Next header is neither IPv4 (4) nor IPv6 (41).
    UnknownNextHeader => "next header is neither IPv4 nor IPv6",
    /// The inner version differs from the next header, or is neither 4 nor 6.
    InnerVersion => "the inner packet has the wrong IP version",
    /// Inner header truncated, or its length field exceeds the payload.
    InnerLength => "the inner packet is truncated",
    /// The inner packet is outside the SA's traffic selectors (RFC 4301 §5.2 step 4).
    SelectorMismatch => "the inner packet is outside the traffic selectors",
    /// Congestion was marked on an inner packet that does not know ECN (RFC 6040 §4.2).
    EcnNotCapable => "congestion marked on a packet without ECN",
    // --- outbound ---
    /// No outbound SA for the tunnel and the packet's selectors.
    NoSa => "no SA for this packet",
    /// The packet is neither IPv4 nor IPv6, or its header is truncated.
    NotIp => "not an IP packet",
    /// The slot has no room for the ESP header or trailer.
    NoHeadroom => "no room for the ESP header or trailer",
    /// The partner has not acknowledged higher sequence numbers (invariant I2).
    SequenceCeiling => "waiting for the partner to acknowledge sequence numbers",
    /// Sequence numbers or IVs are used up.
    SequenceExhausted => "the SA's sequence numbers or IVs are used up",
    /// The negotiated kilobytes are used up (RFC 2407 §4.5).
    LifetimeExhausted => "the SA's kilobyte lifetime is used up",
    /// The cipher refused; cannot happen with valid lengths.
    CipherFailure => "the cipher refused the packet",
    // --- counted by the I/O layer ---
    /// The lease on sending does not hold (invariant I6).
    GateClosed => "the lease on sending does not hold",
    /// Larger than the path or the tunnel allows.
    TooBig => "larger than the path MTU",
    /// The socket's buffer is full (EAGAIN, ENOBUFS).
    SocketFull => "the socket buffer is full",
    /// The socket refused with another error.
    SocketError => "the socket refused the packet",
    /// The tunnel device did not take the packet.
    TunFull => "the tunnel device is full or gone",
    /// The virtio header of a super-packet contradicts the packet.
    BadOffloadHeader => "the offload header contradicts the packet",
    /// A NAT keepalive, dropped by design (RFC 3948 §2.3).
    NatKeepalive => "NAT keepalive",
    /// A UDP datagram that is neither ESP, IKE nor a keepalive.
    NotEsp => "neither ESP nor IKE",
    /// The control plane did not keep up with IKE datagrams.
    ControlQueueFull => "the control plane's queue is full",
    /// The kernel cut the datagram: our buffer was too small.
    ReceiveTruncated => "the kernel truncated the datagram",
}

/// `BadIcv` -> `bad_icv`.
fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for (i, c) in name.char_indices() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Packets and bytes that passed one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes of inner packets.
    pub bytes: u64,
}

impl core::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// What one worker has counted. Aligned so that no two workers share a cache line (128: the
/// prefetcher of current CPUs fetches lines in pairs).
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerCounters {
    drops: [AtomicU64; DropReason::ALL.len()],
    sealed: [AtomicU64; 2],
    opened: [AtomicU64; 2],
    ecn_marked: AtomicU64,
}

impl Default for WorkerCounters {
    fn default() -> Self {
        Self {
            drops: core::array::from_fn(|_| AtomicU64::new(0)),
            sealed: Default::default(),
            opened: Default::default(),
            ecn_marked: AtomicU64::new(0),
        }
    }
}

impl WorkerCounters {
    /// Counts `packets` drops.
    pub fn count(&self, reason: DropReason, packets: u64) {
        if let Some(counter) = self.drops.get(reason as usize) {
            counter.fetch_add(packets, Ordering::Relaxed);
        }
    }

    /// Counts sealed inner packets; once per train.
    pub fn count_sealed(&self, traffic: Traffic) {
        add(&self.sealed, traffic);
    }

    /// Counts opened inner packets; once per train.
    pub fn count_opened(&self, traffic: Traffic) {
        add(&self.opened, traffic);
    }

    /// Counts inner packets that took over a congestion mark.
    pub fn count_ecn_marked(&self, packets: u64) {
        self.ecn_marked.fetch_add(packets, Ordering::Relaxed);
    }
}

fn add(counters: &[AtomicU64; 2], traffic: Traffic) {
    let [packets, bytes] = counters;
    packets.fetch_add(traffic.packets, Ordering::Relaxed);
    bytes.fetch_add(traffic.bytes, Ordering::Relaxed);
}

fn load(counters: &[AtomicU64; 2]) -> Traffic {
    let [packets, bytes] = counters;
    Traffic {
        packets: packets.load(Ordering::Relaxed),
        bytes: bytes.load(Ordering::Relaxed),
    }
}

/// The sum over all workers at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CounterSnapshot {
    /// Drops by reason; reasons that never occurred are absent.
    pub drops: BTreeMap<DropReason, u64>,
    /// Inner packets sealed.
    pub sealed: Traffic,
    /// Inner packets opened and accepted.
    pub opened: Traffic,
    /// Opened packets that took over a congestion mark from the outer header.
    pub ecn_marked: u64,
}

impl CounterSnapshot {
    /// Adds up what the workers have counted.
    #[must_use]
    pub fn sum(workers: &[Arc<WorkerCounters>]) -> Self {
        let mut total = Self::default();
        for worker in workers {
            for (reason, counter) in DropReason::ALL.iter().zip(&worker.drops) {
                let drops = counter.load(Ordering::Relaxed);
                if drops > 0 {
                    *total.drops.entry(*reason).or_default() += drops;
                }
            }
            let (sealed, opened) = (load(&worker.sealed), load(&worker.opened));
            total.sealed.packets += sealed.packets;
            total.sealed.bytes += sealed.bytes;
            total.opened.packets += opened.packets;
            total.opened.bytes += opened.bytes;
            total.ecn_marked += worker.ecn_marked.load(Ordering::Relaxed);
        }
        total
    }

    /// Drops for one reason.
    #[must_use]
    pub fn get(&self, reason: DropReason) -> u64 {
        self.drops.get(&reason).copied().unwrap_or(0)
    }

    /// Drops for all reasons together.
    #[must_use]
    pub fn total_drops(&self) -> u64 {
        self.drops.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_index_their_own_counter() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }

    #[test]
    fn metric_names_are_snake_case_and_unique() {
        assert_eq!(DropReason::BadIcv.metric_name(), "bad_icv");
        let names: std::collections::BTreeSet<_> =
            DropReason::ALL.iter().map(|r| r.metric_name()).collect();
        assert_eq!(names.len(), DropReason::ALL.len());
    }

    #[test]
    fn the_sum_runs_over_all_workers() {
        let workers = [
            Arc::new(WorkerCounters::default()),
            Arc::new(WorkerCounters::default()),
        ];
        workers[0].count(DropReason::NoSa, 2);
        workers[1].count(DropReason::NoSa, 3);
        let total = CounterSnapshot::sum(&workers);
        assert_eq!(total.get(DropReason::NoSa), 5);
        assert_eq!(total.total_drops(), 5);
    }
}
