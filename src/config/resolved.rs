//! The configuration that the program uses: every default filled in, every name understood.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use esp_dataplane::worker::EspRelay;
use ikev1::config::Connection;
use ipnet::IpNet;
use ipsec_types::ConnectionId;

use super::explain::Explanation;
use super::pair::PairConfig;
use super::problem::Problem;
use super::profile::Profile;
use super::shared::SharedConfig;

/// A whole file, resolved. Only [`load`](super::load) makes one, so it is never half right.
#[derive(Debug, Clone)]
pub struct ResolvedConfig {
    /// The daemon itself.
    pub gateway: Gateway,
    /// The tunnels, numbered by [`ConnectionId`] in the order of the file.
    pub connections: Vec<ResolvedConnection>,
    /// The partner gateway.
    pub pair: Option<PairConfig>,
    /// What the two nodes keep the same, when `[pair]` names a file of connections: exactly
    /// what was loaded, for replication.
    pub shared: Option<SharedConfig>,
    /// Names the content of `connections`: equal on two nodes when they would do the same.
    pub revision: Revision,
    /// What a human should look at; the configuration is usable all the same.
    pub warnings: Vec<Problem>,
    /// Where each setting of each connection came from, in the order of `connections`.
    pub explanations: Vec<Explanation>,
    /// The same for `[pair]`.
    pub pair_explanation: Option<Explanation>,
}

/// Settings of the daemon itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Its name in status and log; the host name unless configured.
    pub name: String,
    /// Worker threads of the data plane, at least 1; 1 unless configured.
    pub workers: usize,
    /// Whether each worker stays on a core of its own.
    pub pin_workers: bool,
    /// How long an idle worker spins before it sleeps; zero sleeps at once.
    pub busy_poll: Duration,
    /// Whether workers go before ordinary programs beside streams.
    pub real_time: bool,
    /// Firewall mark (`SO_MARK`) of everything the daemon sends to peers.
    pub firewall_mark: Option<u32>,
    /// Whether protocol 50 goes through the kernel in trains.
    pub esp_relay: EspRelay,
    /// Where `vipsec status` and the other commands reach the daemon.
    pub control_socket: PathBuf,
    /// Filter directives of the log, such as `info` or `info,ikev1=debug`.
    pub log: String,
}

/// One tunnel: what the negotiator, the data plane and the interface need to know.
///
/// Two are equal when nothing that a running tunnel could notice has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedConnection {
    /// What IKE needs, and the names and addresses everybody needs.
    pub ike: Arc<Connection>,
    /// The profile that gave the values which the file leaves out.
    pub profile: Profile,
    /// Whether routes or selectors choose the traffic.
    pub kind: ConnectionKind,
    /// Size of the inbound replay window in packets: a power of two from 64 to 4096.
    pub replay_window: u32,
    /// The tunnel interface.
    pub vti: VtiConfig,
    /// What is pinged through the tunnel when a peer that speaks no DPD is silent.
    pub ping: Option<TunnelPing>,
}

/// A ping through the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelPing {
    /// Behind the peer; it has to answer.
    pub target: IpAddr,
    /// An address of this machine that may use the tunnel.
    pub source: IpAddr,
}

impl ResolvedConnection {
    /// Its place in the configuration.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.ike.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.ike.name
    }
}

/// What chooses the traffic of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionKind {
    /// Routes into the interface; the selectors are everything on both sides.
    RouteBased,
    /// `[[connection.selector]]`: one quick mode for each.
    PolicyBased,
}

/// The tunnel interface of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VtiConfig {
    /// Interface name, 1 to 15 bytes.
    pub device: String,
    /// Largest inner packet in bytes.
    pub mtu: u16,
    /// TCP MSS clamp.
    pub mss: Mss,
    /// Metric of the routes; lower wins.
    pub metric: u32,
    /// Addresses on the interface, with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Prefixes that are routed into the tunnel.
    pub routes: Vec<IpNet>,
}

/// TCP MSS clamp of the packets in a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mss {
    /// As large as the MTU permits.
    Auto,
    /// Left alone.
    Off,
    /// At most this many bytes.
    Fixed(u16),
}

impl fmt::Display for Mss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Fixed(bytes) => write!(f, "{bytes}"),
        }
    }
}

/// SHA-256 of the resolved connections in canonical form. Pre-shared keys are not part of
/// it: the revision is shown in clear, and a hash of a weak key would invite guessing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Revision(pub(super) [u8; 32]);

impl Revision {
    /// The digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight bytes, for adverts.
    #[must_use]
    pub fn as_u64(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// The first twelve hexadecimal digits: enough for a human to compare.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().chars().take(12).collect()
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revision({})", self.short())
    }
}
