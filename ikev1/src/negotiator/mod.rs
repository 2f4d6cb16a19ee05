//! The negotiator: the one value that a driver holds.

use std::sync::Arc;
use std::time::Instant;

use ipsec_types::ConnectionId;
use rand_core::CryptoRng;

use crate::api::{Command, ConnectionStatus, Datagram, Event, TimerName, Transmit};
use crate::config::Connection;
use crate::counters::Counters;
use crate::sa::export::ExportedTunnel;

mod standby;

pub use standby::{ImportError, Standby};

/// Negotiates for a set of connections. Feed it ([`Negotiator::handle_datagram`],
/// [`Negotiator::handle_timeout`], [`Negotiator::handle_command`]), then drain it:
/// [`Negotiator::poll_transmit`] and [`Negotiator::poll_event`] until `None`, and sleep until
/// [`Negotiator::poll_timeout`].
pub struct Negotiator {
    connections: Vec<Arc<Connection>>,
    rng: Box<dyn CryptoRng + Send>,
    counters: Counters,
}

/// What the negotiator begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// No memory: connections with [`crate::config::StartMode::OnStart`] are initiated at
    /// once, and the first IKE SA with each peer says INITIAL-CONTACT.
    Cold,
    /// Live SAs were imported: nothing is initiated for those.
    Hot,
}

impl Negotiator {
    /// A single gateway after a cold start.
    #[must_use]
    pub fn new(
        connections: Vec<Arc<Connection>>,
        rng: Box<dyn CryptoRng + Send>,
        now: Instant,
    ) -> Self {
        let _ = now;
        Self {
            connections,
            rng,
            counters: Counters::default(),
        }
    }

    /// An ISAKMP datagram has arrived.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &Datagram<'_>) {
        let _ = (now, datagram, &mut self.rng);
    }

    /// The instant of [`Negotiator::poll_timeout`] has come. Calling it early does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// The daemon wants something.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        let _ = (now, command);
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        None
    }

    /// The next thing to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// When to call [`Negotiator::handle_timeout`], and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, TimerName)> {
        None
    }

    /// Every connection as a user wants to see it.
    #[must_use]
    pub fn status(&self, now: Instant) -> Vec<ConnectionStatus> {
        let _ = (now, &self.connections);
        Vec::new()
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A connection's live state for a standby; `None` when it has no IKE SA and no ESP SA.
    #[must_use]
    pub fn export(&self, now: Instant, connection: ConnectionId) -> Option<ExportedTunnel> {
        let _ = (now, connection);
        None
    }

    /// Gives up speaking: the state goes on in a value that cannot send.
    #[must_use]
    pub fn stand_down(self, now: Instant) -> Standby {
        let _ = now;
        Standby::new(self.connections)
    }
}
