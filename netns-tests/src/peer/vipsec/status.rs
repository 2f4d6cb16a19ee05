//! `vipsec status --json`, as far as the scenarios look at it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::pair::PairStatus;
use crate::LabError;

/// The whole answer.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// Name of the gateway.
    pub gateway: String,
    /// One entry for each configured connection.
    pub connections: Vec<ConnectionStatus>,
    /// Room, then reason, then how often; what never happened is left out.
    #[serde(default)]
    pub counters: BTreeMap<String, BTreeMap<String, u64>>,
    /// The node's part in a pair; `None` for a single gateway.
    #[serde(default)]
    pub pair: Option<PairStatus>,
}

/// One connection.
#[derive(Debug, Clone, Deserialize)]
pub struct ConnectionStatus {
    /// Its configured name.
    pub name: String,
    /// `up`, `connecting`, `failed`, `down`.
    pub state: String,
    /// Phase 1.
    #[serde(default)]
    pub ike_sas: Vec<IkeSa>,
    /// Phase 2.
    #[serde(default)]
    pub esp_sas: Vec<EspSa>,
    /// `dpd`, `ping`, `rekey-only` or `off`; `None` without an IKE SA.
    #[serde(default)]
    pub liveness: Option<String>,
    /// Why it is not up.
    #[serde(default)]
    pub last_error: Option<LastError>,
}

/// An IKE SA.
#[derive(Debug, Clone, Deserialize)]
pub struct IkeSa {
    /// Initiator's cookie, in hexadecimal.
    pub initiator_cookie: String,
    /// `initiator` or `responder`.
    pub role: String,
    /// Negotiated algorithms.
    pub suite: String,
}

/// A pair of ESP SAs.
#[derive(Debug, Clone, Deserialize)]
pub struct EspSa {
    /// SPI towards us, as `0x` and eight digits.
    pub spi_in: String,
    /// SPI towards the peer.
    pub spi_out: String,
    /// Negotiated algorithms.
    pub suite: String,
    /// They needed the user's consent.
    pub weak: bool,
    /// Payload bytes opened.
    #[serde(default)]
    pub bytes_in: u64,
    /// Payload bytes sealed.
    #[serde(default)]
    pub bytes_out: u64,
    /// Packets opened.
    #[serde(default)]
    pub packets_in: u64,
    /// `udp` or `esp`.
    #[serde(default)]
    pub encapsulation: String,
    /// Extended sequence numbers.
    #[serde(default)]
    pub esn: bool,
    /// Replaced already, and kept for late packets only.
    #[serde(default)]
    pub draining: bool,
}

/// The last failure of a connection.
#[derive(Debug, Clone, Deserialize)]
pub struct LastError {
    /// One line for the operator.
    pub text: String,
}

impl Status {
    pub(super) fn parse(text: &str) -> Result<Self, LabError> {
        serde_json::from_str(text)
            .map_err(|error| LabError::unreadable("vipsec status", &format!("{error}: {text}")))
    }

    /// A connection by name.
    #[must_use]
    pub fn connection(&self, name: &str) -> Option<&ConnectionStatus> {
        self.connections.iter().find(|c| c.name == name)
    }

    /// A counter, wherever it is kept; 0 when it never happened.
    #[must_use]
    pub fn counter(&self, reason: &str) -> u64 {
        let rooms = self.counters.values();
        rooms.filter_map(|room| room.get(reason)).sum()
    }
}

impl ConnectionStatus {
    /// The ESP SAs that carry traffic now.
    pub fn in_use(&self) -> impl Iterator<Item = &EspSa> {
        self.esp_sas.iter().filter(|sa| !sa.draining)
    }

    /// The last error's text; empty when there was none.
    #[must_use]
    pub fn error(&self) -> &str {
        self.last_error.as_ref().map_or("", |error| &error.text)
    }
}
