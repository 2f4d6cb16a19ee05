//! What every part of the negotiator may use while it handles one input.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use ipsec_types::{ConnectionId, SecretBytes, Spi};
use rand_core::CryptoRng;

use super::timers::Timers;
use crate::api::{Event, Transmit, TransmitKind};
use crate::counters::{Counters, DropReason};
use crate::crypto::{DhGroup, DiffieHellman};
use crate::error::{LocalFailure, PeerMisbehaved};
use crate::natt::Path;
use crate::wire::Nonce;

/// Time and chance in, datagrams, events and deadlines out.
pub(crate) struct Context {
    /// The instant of the input that is being handled.
    pub(crate) now: Instant,
    pub(crate) rng: Box<dyn CryptoRng + Send>,
    pub(crate) timers: Timers,
    pub(crate) counters: Counters,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    /// Connections whose state a standby has to learn anew.
    changed: BTreeSet<ConnectionId>,
    /// Inbound SPIs of live SAs and of quick modes in progress.
    spis: BTreeSet<Spi>,
}

impl Context {
    pub(crate) fn new(rng: Box<dyn CryptoRng + Send>, now: Instant) -> Self {
        Self {
            now,
            rng,
            timers: Timers::default(),
            counters: Counters::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            changed: BTreeSet::new(),
            spis: BTreeSet::new(),
        }
    }

    /// Queues an ISAKMP message.
    pub(crate) fn send(&mut self, path: Path, payload: Vec<u8>) {
        self.counters.totals.datagrams_sent += 1;
        self.transmits.push_back(Transmit {
            local: path.local,
            remote: path.remote,
            kind: TransmitKind::Isakmp,
            payload,
        });
    }

    /// [`Context::send`] for a message that was sent before.
    pub(crate) fn send_again(&mut self, path: Path, payload: Vec<u8>) {
        self.counters.totals.retransmits += 1;
        self.send(path, payload);
    }

    /// Queues the byte that keeps a NAT's mapping alive.
    pub(crate) fn send_keepalive(&mut self, path: Path) {
        self.transmits.push_back(Transmit {
            local: path.local,
            remote: path.remote,
            kind: TransmitKind::NatKeepalive,
            payload: vec![0xff],
        });
    }

    pub(crate) fn emit(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// A standby has to learn of this connection's state.
    pub(crate) fn mark_changed(&mut self, connection: ConnectionId) {
        self.changed.insert(connection);
    }

    pub(crate) fn drop_because(&mut self, reason: DropReason) {
        self.counters.count(reason);
    }

    pub(crate) fn next_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Events in their order; what a standby must know comes last, once per connection.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| {
            let connection = self.changed.pop_first()?;
            Some(Event::StateChanged { connection })
        })
    }

    pub(crate) fn generate(&mut self, group: DhGroup) -> DiffieHellman {
        self.counters.totals.diffie_hellman += 1;
        DiffieHellman::generate(group, &mut *self.rng)
    }

    pub(crate) fn agree(
        &mut self,
        dh: &DiffieHellman,
        peer: &[u8],
    ) -> Result<SecretBytes, PeerMisbehaved> {
        self.counters.totals.diffie_hellman += 1;
        dh.agree(peer)
            .map_err(|error| PeerMisbehaved::BadPublicValue(error.to_string()))
    }

    /// A nonce of 32 bytes: as long as the longest key in use needs.
    pub(crate) fn fresh_nonce(&mut self) -> Nonce {
        let mut bytes = [0; 32];
        self.rng.fill_bytes(&mut bytes);
        Nonce::from(bytes)
    }

    /// An inbound SPI that no live SA and no negotiation of ours has.
    pub(crate) fn draw_spi(&mut self) -> Result<Spi, LocalFailure> {
        for _ in 0..64 {
            if let Ok(spi) = Spi::new(self.rng.next_u32())
                && self.spis.insert(spi)
            {
                return Ok(spi);
            }
        }
        Err(LocalFailure::NoFreeSpi)
    }

    /// An imported SA has this inbound SPI; false when it is taken.
    pub(crate) fn claim_spi(&mut self, spi: Spi) -> bool {
        self.spis.insert(spi)
    }

    pub(crate) fn release_spi(&mut self, spi: Spi) {
        self.spis.remove(&spi);
    }

    /// Inbound SPIs in use.
    pub(crate) fn spis_in_use(&self) -> usize {
        self.spis.len()
    }

    /// Random bits.
    pub(crate) fn random(&mut self) -> u32 {
        self.rng.next_u32()
    }

    /// A random part of `span`, evenly.
    pub(crate) fn jitter(&mut self, span: core::time::Duration) -> core::time::Duration {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let part = (u128::from(self.rng.next_u64()) * u128::from(millis)) >> 64;
        core::time::Duration::from_millis(u64::try_from(part).unwrap_or(0))
    }
}
