//! The gateway: one negotiator, one SA database, one data plane, and what passes between them.
//!
//! No method here waits. The event loop feeds it, then asks [`Gateway::gather`] what came of it,
//! and lets [`Gateway::carry_out`] do it: at once, or with a partner once the partner knows.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use esp_dataplane::worker::{DataPlane, NatTSender};
use esp_dataplane::{EspEvent, EventReceiver, Sad};
use ikev1::config::StartMode;
use ikev1::{Command, Datagram, NATT_PORT, Transmit, TransmitKind};
use ipsec_types::{ConnectionId, Direction, EspSaPair, Flow, SendGate, Spi};
use tracing::{debug, warn};

use super::batch::{Batch, Effect, PairId};
use super::ike::Ike;
use super::ike_socket::{IkeDatagram, IkeSockets};
use super::keylog::KeyLog;
use crate::config::{ResolvedConfig, ResolvedConnection};

/// Everything that turns negotiations into traffic.
pub(super) struct Gateway {
    pub(super) config: ResolvedConfig,
    pub(super) ike: Ike,
    /// With a partner, while this node may not speak: the negotiator is not asked for anything.
    pub(super) silent: bool,
    pub(super) sad: Arc<Sad>,
    pub(super) data_plane: DataPlane,
    pub(super) ike_sockets: IkeSockets,
    pub(super) gate: Arc<SendGate>,
    nat_t: NatTSender,
    esp_events: EventReceiver,
    pub(super) keylog: Option<KeyLog>,
    /// The inbound SPI that names a pair, by its outbound SPI (which the peer chose, so it is
    /// unique only within its connection).
    pub(super) pair_names: HashMap<(ConnectionId, Spi), Spi>,
    /// Opened packets at the last look, to tell the negotiator which peers are alive.
    opened: HashMap<ConnectionId, u64>,
    pub(super) history: super::history::History,
    pub(super) holds: super::hold::Holds,
    pub(super) tunnel_pings: super::tunnel_ping::TunnelPings,
    /// Connections that the operator took down: traffic does not bring them back.
    pub(super) taken_down: HashSet<ConnectionId>,
    pub(super) unsent: u64,
    /// Dead peer detection has given a peer up, and no IKE SA has come up since.
    pub(super) peers_dead: bool,
    /// Which half of the IV space new SAs draw from.
    pub(super) member: esp_dataplane::iv::Member,
}

/// The parts a gateway is made of.
pub(super) struct Parts {
    /// What the file says.
    pub config: ResolvedConfig,
    /// Knows the same connections.
    pub ike: Ike,
    /// Shared with the workers.
    pub sad: Arc<Sad>,
    /// What the workers report.
    pub esp_events: EventReceiver,
    /// The workers.
    pub data_plane: DataPlane,
    /// Port 500.
    pub ike_sockets: IkeSockets,
    /// Stands in front of every socket.
    pub gate: Arc<SendGate>,
    /// Open when the operator asked for keys.
    pub keylog: Option<KeyLog>,
}

impl Gateway {
    /// Puts the parts together.
    pub(super) fn new(parts: Parts) -> Self {
        let nat_t = parts.data_plane.nat_t_sender();
        Self {
            config: parts.config,
            ike: parts.ike,
            silent: false,
            sad: parts.sad,
            data_plane: parts.data_plane,
            ike_sockets: parts.ike_sockets,
            gate: parts.gate,
            nat_t,
            esp_events: parts.esp_events,
            keylog: parts.keylog,
            pair_names: HashMap::new(),
            opened: HashMap::new(),
            history: super::history::History::default(),
            holds: super::hold::Holds::default(),
            tunnel_pings: super::tunnel_ping::TunnelPings::default(),
            taken_down: HashSet::new(),
            unsent: 0,
            peers_dead: false,
            member: esp_dataplane::iv::Member::A,
        }
    }

    /// The configured connection behind an id.
    pub(super) fn connection(&self, id: ConnectionId) -> Option<&ResolvedConnection> {
        self.config
            .connections
            .iter()
            .find(|connection| connection.id() == id)
    }

    /// Its name, for the log.
    pub(super) fn name(&self, id: ConnectionId) -> &str {
        self.connection(id)
            .map_or("(removed)", ResolvedConnection::name)
    }

    /// What the workers had to tell while nobody listened fast enough.
    pub(super) fn worker_events_lost(&self) -> u64 {
        self.esp_events.lost()
    }

    /// An ISAKMP message has arrived on either port.
    pub(super) fn handle_datagram(&mut self, now: Instant, datagram: &IkeDatagram) {
        self.ike.handle_datagram(
            now,
            &Datagram {
                local: datagram.local,
                remote: datagram.remote,
                payload: &datagram.payload,
            },
        );
    }

    /// Carries out all that the negotiator and the workers have to say, at once.
    pub(super) fn settle(&mut self, now: Instant) {
        loop {
            let batch = self.gather(now);
            if batch.is_empty() {
                return;
            }
            self.carry_out(now, &batch);
        }
    }

    /// What the negotiator and the workers have to say. A new inbound SA is open when this
    /// returns: before the message can leave that lets the peer use it.
    pub(super) fn gather(&mut self, now: Instant) -> Batch {
        let mut batch = Batch::default();
        while let Some(event) = self.esp_events.try_recv() {
            self.handle_esp_event(now, event);
        }
        if self.silent {
            return batch;
        }
        while let Some(event) = self.ike.poll_event() {
            self.handle_ike_event(now, event, &mut batch);
        }
        while let Some(transmit) = self.ike.poll_transmit() {
            batch.transmits.push(transmit);
        }
        batch
    }

    /// Does what was gathered.
    pub(super) fn carry_out(&mut self, now: Instant, batch: &Batch) {
        for effect in &batch.effects {
            match effect {
                Effect::Switch(pair) => self.switch_outbound(now, *pair),
                Effect::Uninstall(pair) => self.uninstall(*pair),
            }
        }
        for transmit in &batch.transmits {
            self.transmit(transmit);
        }
    }

    fn transmit(&mut self, transmit: &Transmit) {
        let Transmit {
            local,
            remote,
            kind,
            payload,
        } = transmit;
        let sent = match (kind, local.port()) {
            (TransmitKind::NatKeepalive, _) => self
                .nat_t
                .send_keepalive(*local, *remote)
                .map_err(|error| error.to_string()),
            (TransmitKind::Isakmp, NATT_PORT) => self
                .nat_t
                .send(*local, *remote, payload)
                .map_err(|error| error.to_string()),
            (TransmitKind::Isakmp, _) => self
                .ike_sockets
                .send(*local, *remote, payload)
                .map_err(|error| error.to_string()),
        };
        if let Err(error) = sent {
            self.unsent += 1;
            debug!(%local, %remote, %error, "IKE message not sent; its exchange will retransmit");
        }
    }

    fn handle_esp_event(&mut self, now: Instant, event: EspEvent) {
        let command = match event {
            EspEvent::NoSa { connection, flow } => self.on_demand(connection, &flow),
            EspEvent::UnknownSpi { spi, from, .. } => Some(Command::UnknownSpi {
                remote: from,
                spi: spi.get(),
            }),
            EspEvent::SoftLimit {
                connection,
                spi,
                direction,
                kind,
            } => {
                debug!(connection = self.name(connection), %spi, ?direction, ?kind, "ESP SA nears its limit");
                self.pair_name(connection, spi, direction)
                    .map(|inbound| Command::SoftLimit { inbound })
            }
            EspEvent::PeerMoved { spi, from, .. } => Some(Command::PeerMoved {
                inbound: spi,
                remote: from,
            }),
        };
        if let Some(command) = command {
            self.ike.handle_command(now, command);
        }
    }

    /// SAs of a partner are here under their names.
    pub(super) fn adopt(&mut self, pair: PairId) {
        self.pair_names
            .insert((pair.connection, pair.outbound), pair.inbound);
    }

    /// No SA has a name any more.
    pub(super) fn forget_pairs(&mut self) {
        self.pair_names.clear();
        self.opened.clear();
    }

    fn pair_name(&self, connection: ConnectionId, spi: Spi, direction: Direction) -> Option<Spi> {
        match direction {
            Direction::Inbound => Some(spi),
            Direction::Outbound => self.pair_names.get(&(connection, spi)).copied(),
        }
    }

    /// A packet wants to go where no SA leads. A connection that waits for its peer goes on
    /// waiting; the data plane has counted the packet.
    fn on_demand(&self, id: ConnectionId, flow: &Flow) -> Option<Command> {
        let connection = self.connection(id)?;
        let selectors = connection
            .ike
            .selectors
            .iter()
            .find(|pair| pair.permits_outbound(flow))
            .copied()?;
        if self.taken_down.contains(&id) {
            return None;
        }
        match connection.ike.start {
            StartMode::OnStart | StartMode::OnTraffic => Some(Command::Initiate {
                connection: id,
                selectors: Some(selectors),
            }),
            StartMode::Respond => None,
        }
    }

    /// Tells the negotiator which peers have been heard since the last call: authenticated
    /// traffic is proof of life (RFC 3706 section 5.5).
    pub(super) fn report_life(&mut self, now: Instant) {
        let mut opened: HashMap<ConnectionId, u64> = HashMap::new();
        for sa in self.sad.status().inbound {
            *opened.entry(sa.connection).or_default() += sa.traffic.packets;
        }
        for (connection, packets) in &opened {
            let before = self.opened.get(connection).copied().unwrap_or_default();
            if *packets > before {
                self.ike.handle_command(
                    now,
                    Command::TrafficSeen {
                        connection: *connection,
                    },
                );
            }
        }
        self.opened = opened;
    }

    /// Begins to write keys to `directory`, those of live SAs first.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn start_keylog(&mut self, directory: &Path) -> std::io::Result<()> {
        let mut keylog = KeyLog::open(directory)?;
        let live = self.sad.export();
        for (_, sa) in &live.inbound {
            keylog.esp_sa(&sa.params)?;
        }
        for sa in &live.outbound {
            keylog.esp_sa(&sa.state.params)?;
        }
        for sa in self.live_ike_sas() {
            if let Some(key) = self.ike.phase1_key(sa) {
                keylog.ike_sa(sa.initiator.0, &key)?;
            }
        }
        self.keylog = Some(keylog);
        warn!(directory = %directory.display(), "KEYS ARE BEING WRITTEN TO DISK: whoever reads them reads the tunnels");
        Ok(())
    }

    fn live_ike_sas(&self) -> Vec<ikev1::IkeSaId> {
        let connections = self.ike.status(Instant::now());
        connections
            .iter()
            .flat_map(|connection| connection.ike_sas.iter().map(|sa| sa.id))
            .collect()
    }

    pub(super) fn log_esp_keys(&mut self, pair: &EspSaPair) {
        if let Some(keylog) = &mut self.keylog
            && let Err(error) = keylog
                .esp_sa(&pair.inbound)
                .and_then(|()| keylog.esp_sa(&pair.outbound))
        {
            warn!(%error, "key log cannot be written");
        }
    }

    pub(super) fn log_ike_key(&mut self, ike_sa: ikev1::IkeSaId) {
        let Some(keylog) = &mut self.keylog else {
            return;
        };
        if let Some(key) = self.ike.phase1_key(ike_sa)
            && let Err(error) = keylog.ike_sa(ike_sa.initiator.0, &key)
        {
            warn!(%error, "key log cannot be written");
        }
    }
}
