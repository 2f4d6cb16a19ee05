//! The status model. Its JSON form is an interface: fields are added, not renamed.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Counted events: room (`ikev1`, `esp`, `io`, `vti`, `control`), then reason. Entries that
/// are zero may be left out.
pub type Counters = BTreeMap<String, BTreeMap<String, u64>>;

/// The whole daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The gateway's name.
    pub gateway: String,
    /// The daemon's version.
    pub version: String,
    /// Seconds since the daemon started.
    pub uptime_secs: u64,
    /// The configuration's revision, in hexadecimal.
    pub revision: String,
    /// Worker threads of the data plane.
    pub workers: u32,
    /// The cipher back ends in use, such as `aes256gcm16: ring`.
    #[serde(default)]
    pub cipher_backends: Vec<String>,
    /// The folder that keys are written to, when somebody asked for that.
    #[serde(default)]
    pub keylog: Option<PathBuf>,
    /// This node's part in the pair; `None` when the gateway is alone.
    #[serde(default)]
    pub pair: Option<PairStatus>,
    /// The connections, in the order of the configuration.
    pub connections: Vec<ConnectionStatus>,
    /// What was refused, and why.
    #[serde(default)]
    pub counters: Counters,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// Its name.
    pub name: String,
    /// Whether traffic can flow.
    pub state: ConnectionState,
    /// Seconds in this state.
    pub state_secs: u64,
    /// Our outer address.
    pub local: IpAddr,
    /// The peer's outer address; `None` while a peer that may come from anywhere has not.
    pub remote: Option<IpAddr>,
    /// Who we say we are.
    pub local_id: String,
    /// Who the peer must be.
    pub peer_id: String,
    /// Its phase-1 SAs, the newest first.
    pub ike_sas: Vec<IkeSaStatus>,
    /// Its phase-2 SAs, the newest first.
    pub esp_sas: Vec<EspSaStatus>,
    /// How a dead peer would be noticed; `None` without an established IKE SA.
    #[serde(default)]
    pub liveness: Option<Liveness>,
    /// What went wrong last, in one line.
    pub last_error: Option<LastError>,
    /// The tunnel interface.
    pub vti: VtiStatus,
}

/// Whether traffic can flow through a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionState {
    /// Nobody asked for it.
    Down,
    /// A negotiation is on its way.
    Connecting,
    /// At least one ESP SA pair is there.
    Up,
    /// The last negotiation failed; it may be tried again.
    Failed,
    /// This node is not the active one of its pair: the partner carries it.
    Standby,
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "down",
            Self::Connecting => "connecting",
            Self::Up => "up",
            Self::Failed => "failed",
            Self::Standby => "standby",
        })
    }
}

/// How a dead peer is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Liveness {
    /// The peer announced DPD and is asked when it is silent (RFC 3706).
    Dpd,
    /// The peer announced no DPD; `dpd.ping` is pinged through the tunnel instead.
    Ping,
    /// The peer announced no DPD and there is no `dpd.ping`: only an unanswered rekey tells.
    RekeyOnly,
    /// `dpd.action` is `off`: only an unanswered rekey tells, and that is wanted.
    Off,
}

/// Who sent the first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// We did.
    Initiator,
    /// The peer did.
    Responder,
}

impl From<ikev1::Role> for Role {
    fn from(role: ikev1::Role) -> Self {
        match role {
            ikev1::Role::Initiator => Self::Initiator,
            ikev1::Role::Responder => Self::Responder,
        }
    }
}

/// How ESP travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encapsulation {
    /// IP protocol 50.
    Esp,
    /// UDP, port 4500.
    Udp,
}

impl From<ipsec_types::Encapsulation> for Encapsulation {
    fn from(encapsulation: ipsec_types::Encapsulation) -> Self {
        match encapsulation {
            ipsec_types::Encapsulation::Esp => Self::Esp,
            ipsec_types::Encapsulation::Udp => Self::Udp,
        }
    }
}

/// Where NAT-T found a NAT (RFC 3947).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NatStatus {
    /// In front of us.
    pub local: bool,
    /// In front of the peer.
    pub remote: bool,
}

/// One phase-1 SA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IkeSaStatus {
    /// Initiator's cookie, 16 hexadecimal digits.
    pub initiator_cookie: String,
    /// Responder's cookie, 16 hexadecimal digits; zeros while it is not known.
    pub responder_cookie: String,
    /// Who sent message 1.
    pub role: Role,
    /// `established`, or the message it waits for.
    pub state: String,
    /// The agreed suite; empty while nothing is agreed.
    pub suite: String,
    /// True when the suite needed `allow_weak`.
    pub weak: bool,
    /// Seconds since it was established.
    pub established_secs: Option<u64>,
    /// Seconds until its successor is negotiated.
    pub rekey_in_secs: Option<u64>,
    /// NATs on the way.
    pub nat: NatStatus,
    /// Our address and port for IKE.
    pub local: SocketAddr,
    /// The peer's address and port for IKE.
    pub remote: SocketAddr,
}

/// One phase-2 SA pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EspSaStatus {
    /// Our SPI, `0x` and eight hexadecimal digits.
    pub spi_in: String,
    /// The peer's SPI.
    pub spi_out: String,
    /// The agreed suite.
    pub suite: String,
    /// True when the suite needed `allow_weak`.
    pub weak: bool,
    /// 64-bit extended sequence numbers.
    pub esn: bool,
    /// What it may carry, `LOCAL <=> REMOTE`.
    pub selectors: String,
    /// Inner bytes that came in.
    pub bytes_in: u64,
    /// Inner bytes that went out.
    pub bytes_out: u64,
    /// Inner packets that came in.
    pub packets_in: u64,
    /// Inner packets that went out.
    pub packets_out: u64,
    /// Seconds since it was established.
    pub established_secs: u64,
    /// Seconds until its successor is negotiated.
    pub rekey_in_secs: Option<u64>,
    /// Seconds until it must not be used any more.
    pub expires_in_secs: u64,
    /// How it travels.
    pub encapsulation: Encapsulation,
    /// The last sequence number that was used.
    pub seq_out: u64,
    /// The highest sequence number that came in authentic.
    pub replay_edge: u64,
    /// Size of the replay window in packets.
    pub replay_window: u32,
    /// True for an SA that has a successor and only still receives.
    pub draining: bool,
}

/// What went wrong last on a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// In one line.
    pub text: String,
    /// Seconds ago.
    pub ago_secs: u64,
}

/// The tunnel interface of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VtiStatus {
    /// Interface name.
    pub device: String,
    /// Largest inner packet in bytes.
    pub mtu: u16,
    /// Addresses on the interface.
    pub addresses: Vec<IpNet>,
    /// What is routed into it.
    pub routes: Vec<IpNet>,
    /// Somebody has deleted it: nothing is carried until the daemon is started again.
    #[serde(default)]
    pub deleted: bool,
}

/// One node's view of the pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairStatus {
    /// Which of the two this node is: `a` or `b`.
    pub member: String,
    /// What this node shows to others: `init`, `standby` or `active`.
    pub role: String,
    /// It may send for the virtual addresses now: it is active and its lease holds.
    pub serving: bool,
    /// The finer state, such as `handing-over` or `asking`; the role's name most of the time.
    pub state: String,
    /// Seconds in this state.
    pub since_secs: u64,
    /// Why it is in this state, in one sentence.
    pub why: String,
    /// Number of the activation in force, 0 for none; the higher one is the newer.
    pub epoch: u64,
    /// Conditions that are bad here: `wan-link`, `lan-link`, `health`, `peers-reachable`,
    /// `takeover`, `config`.
    pub failed: Vec<String>,
    /// Whether this node may be active.
    pub fit: bool,
    /// The partner as it was heard; `None` when it was not heard since the start.
    pub partner: Option<PartnerStatus>,
    /// The standby has everything that the active node has.
    pub in_sync: bool,
    /// What the standby has not acknowledged; on the active node with a standby.
    #[serde(default)]
    pub lag: Option<LagStatus>,
    /// What a takeover now would be like.
    pub takeover: TakeoverReadiness,
    /// The first digits of the revision of the connections.
    pub config_revision_short: String,
    /// The virtual addresses, in the order of the configuration.
    pub addresses: Vec<VirtualAddressStatus>,
    /// The last transitions, the oldest first; ten at most.
    pub transitions: Vec<TransitionStatus>,
    /// The steps of the last change of role, in their order.
    pub last_change: Vec<StepStatus>,
}

/// The partner as it was heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartnerStatus {
    /// Its role.
    pub role: String,
    /// The number of its activation.
    pub epoch: u64,
    /// Milliseconds since its last advert.
    pub heard_ms_ago: u64,
    /// Whether it says that it may be active.
    pub fit: bool,
    /// Whether its connections are the same as ours.
    pub same_config: bool,
    /// Its process is proven dead.
    pub dead: bool,
}

/// What the standby has not acknowledged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LagStatus {
    /// Changes.
    pub records: u64,
    /// Their size.
    pub bytes: u64,
    /// Age of the oldest in milliseconds.
    pub ms: f64,
}

/// What a takeover now would be like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TakeoverReadiness {
    /// The tunnels go on; otherwise every one of them is negotiated anew.
    pub hot: bool,
    /// What stands against one without loss.
    pub reasons: Vec<String>,
}

/// One virtual address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualAddressStatus {
    /// With its prefix length.
    pub address: String,
    /// The link it is answered on.
    pub link: String,
    /// This node has it now.
    pub here: bool,
}

/// One change of state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransitionStatus {
    /// Seconds ago.
    pub ago_secs: f64,
    /// The state before.
    pub from: String,
    /// The state after.
    pub to: String,
    /// What happened, in one sentence.
    pub reason: String,
    /// Milliseconds since the last sign of life of an active partner.
    #[serde(default)]
    pub silence_ms: Option<f64>,
    /// Milliseconds from the decision to the first packet that may be sent.
    #[serde(default)]
    pub serving_after_ms: Option<f64>,
}

/// One step of a change of role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepStatus {
    /// Its name, such as `add-addresses`.
    pub step: String,
    /// Milliseconds it took.
    pub took_ms: f64,
    /// Why it failed, if it did.
    #[serde(default)]
    pub failure: Option<String>,
}
