//! What the daemon asks for.

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ipsec_types::{ConnectionId, SelectorPair, Spi};

use super::Negotiator;
use super::tunnel::Tunnel;
use crate::api::{Command, DownReason};
use crate::config::Connection;
use crate::counters::DropReason;
use crate::natt::Path;
use crate::wire::{Notification, NotifyType, ProtocolId};

/// At most one answer to an unknown SPI and connection in this time.
const UNKNOWN_SPI_INTERVAL: Duration = Duration::from_secs(10);

impl Negotiator {
    pub(super) fn obey_command(&mut self, command: Command) {
        match command {
            Command::Initiate {
                connection,
                selectors,
            } => self.initiate(connection, selectors),
            Command::Terminate { connection } => {
                self.terminate(connection, DownReason::Terminated);
            }
            Command::Shutdown => self.shut_down(),
            Command::SoftLimit { inbound } => self.soft_limit(inbound),
            Command::HardLimit { inbound } => self.hard_limit(inbound),
            Command::TrafficSeen { connection } => self.traffic_seen(connection),
            Command::PeerMoved { inbound, remote } => self.esp_moved(inbound, remote),
            Command::UnknownSpi { remote, spi } => self.unknown_spi(remote, spi),
            Command::Reload { connections } => self.reload(connections),
        }
    }

    /// A user asks for everything and does not want to wait; traffic asks for one pair and
    /// waits as long as earlier failures say.
    fn initiate(&mut self, id: ConnectionId, selectors: Option<SelectorPair>) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else {
            return;
        };
        match selectors {
            Some(selectors) => {
                if !tunnel.config.selectors.contains(&selectors) {
                    return;
                }
                let waiting = tunnel.retry_at.is_some_and(|at| at > self.cx.now);
                if waiting && !tunnel.wanted.contains(&selectors) {
                    return;
                }
                tunnel.wanted.insert(selectors);
            }
            None => {
                tunnel.retry_at = None;
                tunnel.failures = 0;
                let all = tunnel.config.selectors.clone();
                tunnel.wanted.extend(all);
            }
        }
        self.cx.mark_changed(id);
        self.upkeep(id);
    }

    fn shut_down(&mut self) {
        self.shut = true;
        let all: Vec<ConnectionId> = self.tunnels.keys().copied().collect();
        for id in all {
            self.terminate(id, DownReason::Terminated);
        }
    }

    fn connection_of(&self, inbound: Spi) -> Option<ConnectionId> {
        self.tunnels
            .values()
            .find(|tunnel| tunnel.children.contains_key(&inbound))
            .map(Tunnel::id)
    }

    fn soft_limit(&mut self, inbound: Spi) {
        if let Some(connection) = self.connection_of(inbound) {
            self.child_rekey(connection, inbound);
        }
    }

    fn hard_limit(&mut self, inbound: Spi) {
        if let Some(connection) = self.connection_of(inbound) {
            self.delete_child(connection, inbound, DownReason::Expired);
            self.upkeep(connection);
        }
    }

    fn traffic_seen(&mut self, connection: ConnectionId) {
        let Some(tunnel) = self.tunnels.get(&connection) else {
            return;
        };
        for id in &tunnel.ike_sas {
            if let Some(sa) = self.sas.get_mut(id) {
                sa.dpd.heard(self.cx.now);
            }
        }
    }

    fn esp_moved(&mut self, inbound: Spi, remote: SocketAddr) {
        let Some(connection) = self.connection_of(inbound) else {
            return;
        };
        let current = self.current_ike_sa(connection);
        if let Some(sa) = current.and_then(|id| self.sas.get(&id))
            // Only a NAT in front of the peer moves it; without one, whoever copies the
            // newest packet and delivers it first would divert our traffic (RFC 3947 §6).
            && sa.nat.remote
            && remote.port() != 0
            && sa.path.remote != remote
        {
            let path = Path { remote, ..sa.path };
            self.move_peer(connection, path);
        }
    }

    /// Somebody at a peer's address sends ESP that we have no SA for. The address may be
    /// forged; so this only tells the real peer, under its IKE SA, what is not there.
    fn unknown_spi(&mut self, remote: SocketAddr, spi: u32) {
        let now = self.cx.now;
        let found = self.tunnels.values_mut().find_map(|tunnel| {
            let id = tunnel.ike_sas.iter().rev().copied().find(|id| {
                self.sas
                    .get(id)
                    .is_some_and(|sa| sa.path.remote.ip() == remote.ip())
            })?;
            Some((tunnel, id))
        });
        let Some((tunnel, id)) = found else {
            self.cx.drop_because(DropReason::UnknownSpi);
            return;
        };
        let recently = tunnel
            .last_unknown_spi
            .is_some_and(|last| now.saturating_duration_since(last) < UNKNOWN_SPI_INTERVAL);
        if recently {
            self.cx.drop_because(DropReason::RateLimited);
            return;
        }
        tunnel.last_unknown_spi = Some(now);
        let spi = spi.to_be_bytes();
        let kind = NotifyType::INVALID_SPI;
        let notification = Notification::new(ProtocolId::ESP, spi.into(), kind, spi.to_vec());
        if let (Ok(notification), Some(sa)) = (notification, self.sas.get_mut(&id)) {
            sa.send_informational(vec![notification.into()], &mut self.cx);
        }
    }

    /// Connections whose config is as it was keep their SAs; the others end and begin anew.
    fn reload(&mut self, connections: Vec<Arc<Connection>>) {
        let old: Vec<Arc<Connection>> = self
            .tunnels
            .values()
            .map(|tunnel| Arc::clone(&tunnel.config))
            .collect();
        let kept = |config: &Arc<Connection>| connections.iter().any(|new| new == config);
        for config in old.iter().filter(|config| !kept(config)) {
            self.terminate(config.id, DownReason::ConfigChanged);
        }
        let mut before = core::mem::take(&mut self.tunnels);
        self.tunnels = connections
            .into_iter()
            .map(|connection| {
                let tunnel = before
                    .remove(&connection.id)
                    .filter(|tunnel| tunnel.config == connection)
                    .unwrap_or_else(|| Tunnel::new(connection));
                (tunnel.id(), tunnel)
            })
            .collect::<BTreeMap<_, _>>();
        self.upkeep_all();
    }
}
