//! The negotiator: the one value that a driver holds.
//!
//! ```text
//!  dispatch ----> phase1_first, phase1_flow ----> phase1/  (states and messages)
//!      |    \---> phase2_flow, phase2_end ------> phase2/
//!      |     \--> informational_flow
//!      |                 |
//!  timeouts, commands    v
//!      \---------> endings, upkeep: starts what is missing or due, for each tunnel
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ipsec_types::{ConnectionId, SecretBytes};
use rand_core::CryptoRng;

use self::context::Context;
use self::fragments::Fragments;
use self::half_open::HalfOpen;
use self::tunnel::Tunnel;
use crate::api::{Command, ConnectionStatus, Datagram, Event, IkeSaId, TimerName, Transmit};
use crate::config::Connection;
use crate::counters::Counters;
use crate::sa::export::ExportedTunnel;
use crate::sa::ike::IkeSa;

mod commands;
pub(crate) mod context;
mod dispatch;
mod endings;
mod export;
mod fragments;
mod half_open;
mod informational_flow;
mod phase1_first;
mod phase1_flow;
mod phase2_end;
mod phase2_flow;
mod quiet;
mod standby;
mod status;
mod timeouts;
pub(crate) mod timers;
mod tunnel;
mod upkeep;

pub use standby::{ImportError, Standby};

/// Negotiates for a set of connections. Feed it ([`Negotiator::handle_datagram`],
/// [`Negotiator::handle_timeout`], [`Negotiator::handle_command`]), then drain it:
/// [`Negotiator::poll_transmit`] and [`Negotiator::poll_event`] until `None`, and sleep until
/// [`Negotiator::poll_timeout`].
pub struct Negotiator {
    tunnels: BTreeMap<ConnectionId, Tunnel>,
    /// Phase-1 exchanges in progress.
    half_open: HalfOpen,
    /// Established IKE SAs by their cookies.
    sas: BTreeMap<IkeSaId, IkeSa>,
    fragments: Fragments,
    cx: Context,
    /// Shut down: nothing is started any more.
    shut: bool,
    /// About to be handed over: nothing is started for now.
    quiet: bool,
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
    /// A single gateway after a cold start. Connections that start by themselves do so now.
    #[must_use]
    pub fn new(
        connections: Vec<Arc<Connection>>,
        rng: Box<dyn CryptoRng + Send>,
        now: Instant,
    ) -> Self {
        let mut negotiator = Self::idle(connections, rng, now);
        negotiator.upkeep_all();
        negotiator
    }

    /// Knows the connections, has started nothing.
    fn idle(
        connections: Vec<Arc<Connection>>,
        rng: Box<dyn CryptoRng + Send>,
        now: Instant,
    ) -> Self {
        Self {
            tunnels: connections
                .into_iter()
                .map(|connection| (connection.id, Tunnel::new(connection)))
                .collect(),
            half_open: HalfOpen::default(),
            sas: BTreeMap::new(),
            fragments: Fragments::default(),
            cx: Context::new(rng, now),
            shut: false,
            quiet: false,
        }
    }

    fn upkeep_all(&mut self) {
        let all: Vec<ConnectionId> = self.tunnels.keys().copied().collect();
        for id in all {
            self.upkeep(id);
        }
    }

    /// An ISAKMP datagram has arrived.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &Datagram<'_>) {
        self.cx.now = now;
        self.dispatch(datagram);
    }

    /// The instant of [`Negotiator::poll_timeout`] has come. Calling it early does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.cx.now = now;
        self.fire_timers();
    }

    /// The daemon wants something.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        self.cx.now = now;
        self.obey_command(command);
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.cx.next_transmit()
    }

    /// The next thing to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.cx.next_event()
    }

    /// When to call [`Negotiator::handle_timeout`], and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, TimerName)> {
        self.cx.timers.next()
    }

    /// Every connection as a user wants to see it.
    #[must_use]
    pub fn status(&self, now: Instant) -> Vec<ConnectionStatus> {
        self.tunnels
            .values()
            .map(|tunnel| self.status_of(tunnel, now))
            .collect()
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.cx.counters
    }

    /// The key of an IKE SA's cipher, for Wireshark's ISAKMP decryption table. A secret:
    /// only for the key log that the user has asked for.
    #[must_use]
    pub fn phase1_key(&self, ike_sa: IkeSaId) -> Option<SecretBytes> {
        let sa = self.sas.get(&ike_sa)?;
        Some(SecretBytes::from(sa.keys.cipher_key().expose()))
    }

    /// How much the negotiator holds; for tests and metrics of bounds.
    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            half_open: self.half_open.len(),
            ike_sas: self.sas.len(),
            esp_sas: self
                .tunnels
                .values()
                .map(|tunnel| tunnel.children.len())
                .sum(),
            quick_modes: self.sas.values().map(|sa| sa.quick_modes.len()).sum(),
            spis: self.cx.spis_in_use(),
        }
    }

    /// A connection's live state for a standby; `None` when there is nothing to know of it (no
    /// IKE SA, no ESP SA, not taken down): the standby is then to
    /// [forget](Standby::remove) it.
    ///
    /// How an active node keeps a standby up to date:
    ///
    /// - [`Event::StateChanged`] says "export this connection again". It follows everything
    ///   that a standby must know: each message id used up by us or by the peer (so each
    ///   authentic message of a quick mode or informational exchange, each probe and answer of
    ///   DPD with its sequence number), each IKE SA and ESP SA pair that comes, goes or changes
    ///   its place, each move of the peer's address or port, each `up` and `down` of a user. It
    ///   does not follow traffic, keepalives, duplicates or anything unauthenticated.
    /// - It comes after the other events of the same input, once per connection however much
    ///   has changed. Export when it is polled, put the result in place of the last one.
    /// - An input's datagrams rest in [`Negotiator::poll_transmit`] meanwhile. A driver that
    ///   sends them only when the standby has acknowledged the export loses nothing at a
    ///   takeover; one that does not wait may leave the standby one message behind, which
    ///   costs at most a resent message or a new quick mode.
    /// - At most [`ExportedTunnel::MAX_ENCODED`] bytes in postcard. A route-based connection
    ///   takes about 500 bytes and 3 more for each message id used up (2 a probe); some 300
    ///   ESP SA pairs fit. What does not fit is left out: ESP SAs beyond that (the standby
    ///   negotiates them anew), the ids of retiring IKE SAs, at last those of the current one
    ///   (the standby then lets nobody begin an exchange under it, and replaces it at once).
    /// - It carries the remaining lifetimes and rekey times, which run on from
    ///   [`Standby::put`]; keys and the last block of phase 1, from which every later IV
    ///   comes; both addresses with their ports, and who is behind a NAT; used message ids;
    ///   DPD sequence numbers both ways; the last message of phase 1 and of each quick mode
    ///   for duplicates of what it answered, and those that await message 3 or CONNECTED.
    /// - It does not carry phase 1 in progress, nor a quick mode of ours that awaits message
    ///   2: these are run again. A planned switchover waits for them
    ///   ([`Negotiator::quiesce`], [`Negotiator::is_negotiating`]).
    #[must_use]
    pub fn export(&self, now: Instant, connection: ConnectionId) -> Option<ExportedTunnel> {
        self.export_tunnel(now, connection)
    }

    /// Gives up speaking: the state goes on in a value that cannot send. No peer is told
    /// anything, SAs stay as they are. What [`Negotiator::poll_transmit`] and
    /// [`Negotiator::poll_event`] still hold is gone; so are exchanges in progress that
    /// [`Negotiator::export`] does not carry.
    #[must_use]
    pub fn stand_down(self, now: Instant) -> Standby {
        let connections = self
            .tunnels
            .values()
            .map(|tunnel| Arc::clone(&tunnel.config))
            .collect();
        let mut standby = Standby::new(connections);
        for &id in self.tunnels.keys() {
            if let Some(exported) = self.export_tunnel(now, id) {
                // It was exported under this very config.
                let _ = standby.put(now, exported);
            }
        }
        standby
    }
}

/// What a negotiator holds at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Phase-1 exchanges in progress.
    pub half_open: usize,
    /// Established IKE SAs.
    pub ike_sas: usize,
    /// Live ESP SA pairs.
    pub esp_sas: usize,
    /// Quick modes in progress or remembered.
    pub quick_modes: usize,
    /// Inbound SPIs taken.
    pub spis: usize,
}
