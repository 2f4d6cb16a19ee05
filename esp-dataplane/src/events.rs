//! What the data plane tells the control plane: bounded, never blocking, rate limited.
//!
//! Events are hints. A lost one is counted and will be repeated by the next packet that causes
//! it, so a flood of packets can neither fill the memory nor stop a worker.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use ipsec_types::{ConnectionId, Direction, Encapsulation, Flow, Spi};

/// Which limit an SA is about to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoftLimitKind {
    /// Most of the negotiated kilobytes are used (RFC 2407 §4.5).
    Bytes,
    /// Most of the sequence number space is used (RFC 4303 §3.3.3).
    Sequence,
    /// Most of the IVs of this activation are used (invariant I1).
    Ivs,
}

/// Something the control plane may want to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EspEvent {
    /// A packet wants to leave through a tunnel that has no SA for it.
    NoSa {
        /// The tunnel.
        connection: ConnectionId,
        /// The packet's addresses, protocol and ports.
        flow: Flow,
    },
    /// An ESP packet names an inbound SPI that we do not have. Unauthenticated: a reason to
    /// ask the peer over a protected channel, never to act on its own (invariant I5).
    UnknownSpi {
        /// The SPI on the wire.
        spi: Spi,
        /// The outer source.
        from: SocketAddr,
        /// How the packet came.
        encapsulation: Encapsulation,
    },
    /// An SA should be replaced soon. Told once per SA and kind.
    SoftLimit {
        /// The tunnel.
        connection: ConnectionId,
        /// The SA.
        spi: Spi,
        /// Its direction.
        direction: Direction,
        /// What runs out.
        kind: SoftLimitKind,
    },
    /// An authenticated packet, the newest of its SA, came from another outer address than
    /// the peer's: a NAT has changed its mapping (RFC 3947 §6).
    PeerMoved {
        /// The tunnel.
        connection: ConnectionId,
        /// The inbound SA.
        spi: Spi,
        /// The new outer source.
        from: SocketAddr,
    },
}

/// Called after an event was queued, to wake whoever reads the queue. Must not block.
pub type Notify = Arc<dyn Fn() + Send + Sync>;

/// The control plane's end of the queue.
pub struct EventReceiver {
    queue: Receiver<EspEvent>,
    lost: Arc<AtomicU64>,
}

impl EventReceiver {
    /// The oldest event, if there is one. Never blocks.
    #[must_use]
    pub fn try_recv(&self) -> Option<EspEvent> {
        self.queue.try_recv().ok()
    }

    /// Events that found the queue full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for EventReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventReceiver")
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

/// The workers' shared end of the queue.
#[derive(Clone)]
pub(crate) struct EventQueue {
    queue: SyncSender<EspEvent>,
    lost: Arc<AtomicU64>,
    notify: Option<Notify>,
}

/// A queue of `capacity` events.
pub(crate) fn channel(capacity: usize, notify: Option<Notify>) -> (EventQueue, EventReceiver) {
    let (sender, receiver) = sync_channel(capacity.max(1));
    let lost = Arc::new(AtomicU64::new(0));
    let queue = EventQueue {
        queue: sender,
        lost: Arc::clone(&lost),
        notify,
    };
    (
        queue,
        EventReceiver {
            queue: receiver,
            lost,
        },
    )
}

impl EventQueue {
    fn push(&self, event: EspEvent) {
        match self.queue.try_send(event) {
            Ok(()) => {
                if let Some(notify) = &self.notify {
                    notify();
                }
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl fmt::Debug for EventQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventQueue").finish_non_exhaustive()
    }
}

/// At most this many events of one kind leave one worker at once, …
const BURST: u32 = 16;
/// … and one more each time this long has passed.
const REFILL: Duration = Duration::from_millis(50);

/// A token bucket that is told the time.
#[derive(Debug)]
struct RateLimit {
    tokens: u32,
    refilled: Duration,
}

impl RateLimit {
    const fn new() -> Self {
        Self {
            tokens: BURST,
            refilled: Duration::ZERO,
        }
    }

    fn admit(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.refilled);
        let earned = passed.as_nanos() / REFILL.as_nanos();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(earned).min(BURST);
            self.refilled = now;
        }
        let Some(left) = self.tokens.checked_sub(1) else {
            return false;
        };
        self.tokens = left;
        true
    }
}

/// Rate limits of one kind of event, one for each connection: a busy tunnel without an SA does
/// not silence the others. There are as many as connections in the configuration.
#[derive(Debug, Default)]
struct PerConnection(HashMap<ConnectionId, RateLimit>);

impl PerConnection {
    fn admit(&mut self, connection: ConnectionId, now: Duration) -> bool {
        let limit = self.0.entry(connection).or_insert_with(RateLimit::new);
        limit.admit(now)
    }
}

/// One worker's way to the control plane, with a rate limit for each kind of event that a
/// stranger can cause.
#[derive(Debug)]
pub(crate) struct EventSender {
    queue: EventQueue,
    no_sa: PerConnection,
    unknown_spi: RateLimit,
    peer_moved: PerConnection,
}

impl EventSender {
    pub(crate) fn new(queue: EventQueue) -> Self {
        Self {
            queue,
            no_sa: PerConnection::default(),
            unknown_spi: RateLimit::new(),
            peer_moved: PerConnection::default(),
        }
    }

    /// Queues the event unless its kind is over its rate.
    #[cold]
    pub(crate) fn send(&mut self, now: Duration, event: EspEvent) {
        let admitted = match event {
            EspEvent::NoSa { connection, .. } => self.no_sa.admit(connection, now),
            EspEvent::UnknownSpi { .. } => self.unknown_spi.admit(now),
            EspEvent::PeerMoved { connection, .. } => self.peer_moved.admit(connection, now),
            // Once per SA and kind already.
            EspEvent::SoftLimit { .. } => true,
        };
        if admitted {
            self.queue.push(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(spi: u32) -> EspEvent {
        EspEvent::UnknownSpi {
            spi: Spi::new(spi).unwrap(),
            from: "192.0.2.1:4500".parse().unwrap(),
            encapsulation: Encapsulation::Udp,
        }
    }

    #[test]
    fn a_flood_of_unknown_spis_is_cut_to_a_burst() {
        let (queue, events) = channel(1000, None);
        let mut sender = EventSender::new(queue);
        let now = Duration::from_secs(5);
        for spi in 300..600 {
            sender.send(now, unknown(spi));
        }
        assert_eq!(std::iter::from_fn(|| events.try_recv()).count(), 16);
        sender.send(now + REFILL, unknown(700));
        assert_eq!(events.try_recv(), Some(unknown(700)));
        assert_eq!(events.lost(), 0);
    }

    #[test]
    fn a_tunnel_without_an_sa_does_not_silence_another() {
        let (queue, events) = channel(1000, None);
        let mut sender = EventSender::new(queue);
        let no_sa = |connection| EspEvent::NoSa {
            connection: ConnectionId(connection),
            flow: ipsec_types::Flow {
                source: "10.0.0.1".parse().unwrap(),
                destination: "10.0.0.2".parse().unwrap(),
                protocol: 1,
                source_port: None,
                destination_port: None,
            },
        };
        for _packet in 0..100 {
            sender.send(Duration::ZERO, no_sa(1));
        }
        sender.send(Duration::ZERO, no_sa(2));
        let all: Vec<_> = std::iter::from_fn(|| events.try_recv()).collect();
        assert_eq!(all.len(), 17);
        assert_eq!(all.last(), Some(&no_sa(2)));
    }

    #[test]
    fn a_full_queue_never_blocks_and_counts() {
        let (queue, events) = channel(2, None);
        let mut sender = EventSender::new(queue);
        for spi in 300..305 {
            sender.send(Duration::ZERO, unknown(spi));
        }
        assert_eq!(events.lost(), 3);
        assert_eq!(events.try_recv(), Some(unknown(300)));
    }

    #[test]
    fn the_reader_is_woken() {
        let woken = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&woken);
        let notify: Notify = Arc::new(move || {
            seen.fetch_add(1, Ordering::Relaxed);
        });
        let (queue, _events) = channel(2, Some(notify));
        EventSender::new(queue).send(Duration::ZERO, unknown(300));
        assert_eq!(woken.load(Ordering::Relaxed), 1);
    }
}
