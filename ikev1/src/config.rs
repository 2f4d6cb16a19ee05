//! The resolved configuration of a connection: every default filled in, every name understood.
//! The daemon builds it from its file; nothing here is optional in the sense of "not decided".

use core::time::Duration;
use std::net::IpAddr;

use ipsec_types::{ConnectionId, SecretBytes, SelectorPair};

use crate::identity::Identity;
use crate::suite::{Phase1Suite, Phase2Proposal};

/// One peer and what we want with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Its place in the resolved config.
    pub id: ConnectionId,
    /// Its name in the config, the log and the status.
    pub name: String,
    /// Our outer address.
    pub local: IpAddr,
    /// The peer's outer address.
    pub remote: RemoteAddress,
    /// Who we say we are.
    pub local_id: Identity,
    /// Who the peer must say it is.
    pub remote_id: Identity,
    /// The pre-shared key.
    pub psk: SecretBytes,
    /// Who begins.
    pub start: StartMode,
    /// How ESP travels.
    pub encapsulation: EncapsulationPolicy,
    /// Main or aggressive mode, for both roles.
    pub exchange: Phase1Exchange,
    /// Phase 1.
    pub phase1: Phase1Policy,
    /// Phase 2.
    pub phase2: Phase2Policy,
    /// One quick mode each; never empty. Route-based connections have one pair,
    /// `0.0.0.0/0 <=> 0.0.0.0/0`.
    pub selectors: Vec<SelectorPair>,
    /// Resending of unanswered messages.
    pub retransmit: RetransmitPolicy,
    /// Dead peer detection; `None` never probes (but still answers probes).
    pub dpd: Option<DpdPolicy>,
    /// Interval of NAT keepalives while we are behind a NAT (RFC 3948 §4).
    pub nat_keepalive: Duration,
    /// Announce and accept IKE fragmentation as Microsoft and Cisco peers send it.
    pub fragmentation: bool,
    /// The peer drops its ESP SAs together with their IKE SA (Azure does): after each phase 1
    /// the quick modes are run again at once.
    pub peer_drops_children: bool,
    /// For a peer that does not announce DPD: when pings through the tunnel
    /// ([`crate::Event::ProbeThroughTunnel`]) stay unanswered, negotiate phase 1 anew to find
    /// out whether it lives. To be set only where something answers the ping.
    pub dpd_by_ping: bool,
}

/// Where the peer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteAddress {
    /// At this address.
    Address(IpAddr),
    /// Anywhere: the identity decides. Responder in aggressive mode only (RFC 2409 §5.4 makes
    /// the key depend on the address in main mode).
    Any,
}

/// Who begins the negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartMode {
    /// We do, at once, and again whenever the tunnel is lost.
    OnStart,
    /// We do, when the first packet wants to go through.
    OnTraffic,
    /// The peer does.
    Respond,
}

/// How ESP travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncapsulationPolicy {
    /// In UDP when NAT-T finds a NAT on the way, else protocol 50.
    Auto,
    /// In UDP always: we claim to be behind a NAT.
    Udp,
    /// Protocol 50 always: NAT-T is not announced.
    Esp,
}

/// Phase-1 exchange type (RFC 2409 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase1Exchange {
    /// Six messages, identities protected.
    Main,
    /// Three messages; the hash of the key is there for everybody to guess against.
    Aggressive,
}

/// Phase-1 policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase1Policy {
    /// In order of preference; never empty. Weak ones stand here only by consent.
    pub proposals: Vec<Phase1Suite>,
    /// Offered lifetime of the IKE SA.
    pub lifetime: Duration,
    /// How early before its end the IKE SA is replaced.
    pub rekey: RekeyPolicy,
}

/// Phase-2 policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase2Policy {
    /// In order of preference; never empty. RFC 2409 §5.5 forces one PFS group on all offers
    /// of a quick mode, so proposals with different groups go out in the order of the first.
    pub proposals: Vec<Phase2Proposal>,
    /// Offered lifetime of the ESP SAs.
    pub lifetime: Duration,
    /// Offered volume in units of 1024 bytes; `None` is not offered.
    pub lifetime_kilobytes: Option<u64>,
    /// How early before their end ESP SAs are replaced.
    pub rekey: RekeyPolicy,
    /// How long the old inbound SA stays open after both sides have had the time to move to its
    /// successor: from 2 s after it took over here.
    pub grace: Duration,
}

/// When a rekey starts: `margin` before the end, plus a random part of `jitter` earlier, so
/// that two gateways that started together do not rekey together for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RekeyPolicy {
    /// How early at least.
    pub margin: Duration,
    /// Up to this much earlier still.
    pub jitter: Duration,
}

impl RekeyPolicy {
    /// A margin of a tenth of the lifetime, at most 9 minutes, and as much jitter.
    #[must_use]
    pub fn for_lifetime(lifetime: Duration) -> Self {
        let margin = (lifetime / 10).min(Duration::from_mins(9));
        Self {
            margin,
            jitter: margin,
        }
    }
}

/// Resending of unanswered messages by whoever started the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetransmitPolicy {
    /// Wait before the first resend; each further wait is `factor_percent` of the last.
    pub initial: Duration,
    /// Growth of the wait in percent; 180 is a factor of 1.8. At least 100.
    pub factor_percent: u32,
    /// Longest wait.
    pub ceiling: Duration,
    /// Resends before the exchange is given up.
    pub tries: u32,
}

impl Default for RetransmitPolicy {
    /// 0.5 s, 0.9, 1.6, 2.9, 5.2, 9.4, then 15 s: given up after about 65 s.
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(500),
            factor_percent: 180,
            ceiling: Duration::from_secs(15),
            tries: 8,
        }
    }
}

/// Dead peer detection (RFC 3706).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DpdPolicy {
    /// Silence after which the first probe goes out.
    pub delay: Duration,
    /// Wait for the answer to each probe.
    pub retry: Duration,
    /// Unanswered probes after which the peer is dead; at least 1.
    pub max_failures: u32,
    /// What follows.
    pub action: DpdAction,
}

impl Default for DpdPolicy {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(30),
            retry: Duration::from_secs(5),
            max_failures: 3,
            action: DpdAction::Restart,
        }
    }
}

/// What a dead peer leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DpdAction {
    /// Negotiate anew at once.
    Restart,
    /// Forget the SAs, negotiate anew when traffic asks for it.
    Hold,
    /// Forget the SAs and wait for the peer.
    Clear,
}
