//! The whole state of a connection as a value that another process can take over.

use serde::{Deserialize, Serialize};

/// One connection's IKE SAs and what it knows of its ESP SAs; secret (it holds keys), so it
/// travels only inside the pair channel (invariant I4). Opaque outside this crate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedTunnel {
    pub(crate) connection: String,
}

impl ExportedTunnel {
    /// The configured name of the connection it belongs to.
    #[must_use]
    pub fn connection(&self) -> &str {
        &self.connection
    }
}
