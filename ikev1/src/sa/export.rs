//! The whole state of a connection as a value that another process can take over. It carries
//! durations, never instants: the other machine's clock has another origin.

use core::time::Duration;

use ipsec_types::{Encapsulation, SaLifetime, SelectorPair, Spi};
use serde::{Deserialize, Serialize};

use super::child::Stage;
use crate::api::Role;
use crate::crypto::{Iv, Phase1Keys, Phase1Suite};
use crate::natt::{NatState, Path, PeerFeatures};
use crate::phase1::Fingerprint;
use crate::suite::Phase2Proposal;
use crate::wire::{CookiePair, Nonce};

/// Layout of the exported state; another number is refused.
pub(crate) const VERSION: u16 = 1;

/// One connection's IKE SAs and what it knows of its ESP SAs; secret (it holds keys), so it
/// travels only inside the pair channel (invariant I4). Opaque outside this crate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedTunnel {
    pub(crate) version: u16,
    pub(crate) connection: String,
    pub(crate) wanted: Vec<SelectorPair>,
    pub(crate) last_path: Option<Path>,
    pub(crate) ike_sas: Vec<ExportedIkeSa>,
    pub(crate) children: Vec<ExportedChild>,
}

impl ExportedTunnel {
    /// The configured name of the connection it belongs to.
    #[must_use]
    pub fn connection(&self) -> &str {
        &self.connection
    }
}

/// One IKE SA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExportedIkeSa {
    pub(crate) id: CookiePair,
    pub(crate) role: Role,
    pub(crate) suite: Phase1Suite,
    pub(crate) keys: Phase1Keys,
    pub(crate) last_block: Iv,
    pub(crate) path: Path,
    pub(crate) nat: NatState,
    pub(crate) peer: PeerFeatures,
    pub(crate) used_message_ids: Vec<u32>,
    /// Our next DPD sequence number and the peer's last.
    pub(crate) dpd: (u32, Option<u32>),
    pub(crate) age: Duration,
    pub(crate) expires_in: Duration,
    pub(crate) rekey_in: Option<Duration>,
    pub(crate) retiring: bool,
    pub(crate) confirmed: bool,
    pub(crate) last_received: Option<Fingerprint>,
    pub(crate) last_sent: Option<Vec<u8>>,
    pub(crate) answered: Vec<ExportedAnswer>,
}

/// A quick mode of the peer's that awaits message 3. One of ours is not exported: it is
/// simply run again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExportedAnswer {
    pub(crate) message_id: u32,
    pub(crate) selectors: SelectorPair,
    pub(crate) inbound: Spi,
    pub(crate) iv: Iv,
    pub(crate) ni: Nonce,
    pub(crate) nr: Nonce,
    pub(crate) last_in: Option<Fingerprint>,
    pub(crate) last_out: Vec<u8>,
}

/// What the negotiator knows of an ESP SA pair. Keys, counters and windows are exported by
/// the data plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExportedChild {
    pub(crate) inbound: Spi,
    pub(crate) outbound: Spi,
    pub(crate) selectors: SelectorPair,
    pub(crate) proposal: Phase2Proposal,
    pub(crate) encapsulation: Encapsulation,
    pub(crate) role: Role,
    pub(crate) lifetime: SaLifetime,
    pub(crate) age: Duration,
    pub(crate) expires_in: Duration,
    pub(crate) rekey_in: Option<Duration>,
    pub(crate) stage: Stage,
    pub(crate) rekey_due: bool,
}
