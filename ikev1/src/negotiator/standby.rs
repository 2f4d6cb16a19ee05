//! The negotiator of a node that is not active: it remembers and cannot speak.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rand_core::CryptoRng;

use super::{Beginning, Negotiator};
use crate::config::Connection;
use crate::sa::export::{ExportedTunnel, VERSION};

/// Holds replicated state. Mute by construction (invariant I6): it has no method that yields
/// a datagram, so it can neither initiate, nor probe, nor retransmit.
pub struct Standby {
    connections: Vec<Arc<Connection>>,
    /// By connection name, with the instant at which it was exported.
    tunnels: BTreeMap<String, (Instant, ExportedTunnel)>,
}

/// Replicated state cannot be taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The config here has no connection of this name.
    #[error("no connection is called \"{0}\" here")]
    UnknownConnection(String),
    /// It comes from a program with another layout of the state.
    #[error("exported state has layout {theirs}, this program knows {ours}")]
    Version {
        /// The layout that came.
        theirs: u16,
        /// The layout we know.
        ours: u16,
    },
    /// A value in it contradicts itself.
    #[error("exported state of \"{connection}\" is not consistent: {what}")]
    Inconsistent {
        /// Whose state.
        connection: String,
        /// What is wrong.
        what: &'static str,
    },
}

impl Standby {
    /// Knows the connections, holds no state yet.
    #[must_use]
    pub fn new(connections: Vec<Arc<Connection>>) -> Self {
        Self {
            connections,
            tunnels: BTreeMap::new(),
        }
    }

    /// Replaces what is known of one connection by what the active has
    /// [exported](Negotiator::export). Lifetimes run on from `now`. May be called as often as
    /// the active's state changes; the last one counts.
    ///
    /// # Errors
    /// When the state does not fit the config here; what was known before stays.
    pub fn put(&mut self, now: Instant, tunnel: ExportedTunnel) -> Result<(), ImportError> {
        if tunnel.version != VERSION {
            return Err(ImportError::Version {
                theirs: tunnel.version,
                ours: VERSION,
            });
        }
        if !self.knows(&tunnel.connection) {
            return Err(ImportError::UnknownConnection(tunnel.connection));
        }
        self.tunnels
            .insert(tunnel.connection.clone(), (now, tunnel));
        Ok(())
    }

    /// Forgets a connection's state (the active has no SA for it any more).
    pub fn remove(&mut self, connection: &str) {
        self.tunnels.remove(connection);
    }

    /// A new set of connections; state of connections that are gone is dropped.
    pub fn reload(&mut self, connections: Vec<Arc<Connection>>) {
        self.connections = connections;
        let mut tunnels = core::mem::take(&mut self.tunnels);
        tunnels.retain(|name, _| self.knows(name));
        self.tunnels = tunnels;
    }

    fn knows(&self, name: &str) -> bool {
        self.connections
            .iter()
            .any(|connection| connection.name == name)
    }

    /// Names of the connections whose state is here.
    pub fn connections(&self) -> impl Iterator<Item = &str> {
        self.tunnels.keys().map(String::as_str)
    }

    /// Begins to speak. With [`Beginning::Hot`] every imported SA goes on (under the same
    /// message ids, DPD numbers and deadlines) and only connections without one are initiated,
    /// unless they were taken down; with [`Beginning::Cold`] the imported state is
    /// dropped. State that contradicts itself is left out, and its connection begins anew; the
    /// reasons are returned.
    #[must_use]
    pub fn activate(
        self,
        now: Instant,
        rng: Box<dyn CryptoRng + Send>,
        beginning: Beginning,
    ) -> (Negotiator, Vec<ImportError>) {
        let mut negotiator = Negotiator::idle(self.connections, rng, now);
        let mut errors = Vec::new();
        if beginning == Beginning::Hot {
            for (since, tunnel) in self.tunnels.into_values() {
                let elapsed = now.saturating_duration_since(since);
                if let Err(error) = negotiator.import_tunnel(tunnel, elapsed) {
                    errors.push(error);
                }
            }
        }
        negotiator.upkeep_all();
        (negotiator, errors)
    }
}
