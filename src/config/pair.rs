//! The partner gateway, resolved: everything a node of a pair needs to know of itself. All of it
//! is node-local but the file of connections, which the two nodes keep the same.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ha_keepalive::io::arp::Mac;
use ha_keepalive::{AdvertInterval, Member, PairSecret, Priority};
use ipnet::IpNet;

/// `[pair]`: this node's part in the pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairConfig {
    /// Which of the two this node is; the other one is the other.
    pub member: Member,
    /// The higher one leads when nobody leads yet.
    pub priority: Priority,
    /// How often adverts are sent.
    pub advert_interval: AdvertInterval,
    /// How long a standby of higher priority must have been ready before it asks for the role;
    /// `None` never asks.
    pub preempt: Option<Duration>,
    /// How long failed conditions must have been good again before they count.
    pub hold_down: Duration,
    /// How long a new ESP SA waits for the standby to know it before it carries traffic.
    pub commit_wait: Duration,
    /// How long the old active node opens and forwards what still reaches it after a planned
    /// switchover.
    pub grace: Duration,
    /// What the two nodes share; from `secret_file`.
    pub secret: PairSecret,
    /// The ways between the nodes, one or two. The sync connection prefers the first.
    pub paths: Vec<PairPath>,
    /// The virtual addresses; they move as one group.
    pub addresses: Vec<VirtualAddress>,
    /// The health script, if there is one.
    pub health: Option<HealthCheck>,
    /// The program that moves the addresses where ARP means nothing, if there is one.
    pub mover: Option<MoverConfig>,
    /// What the standby pings from its own address to see whether the peers could be reached.
    pub path_check: Vec<IpAddr>,
    /// The file of connections that the two nodes keep the same; `None` when they stand in the
    /// main file and are kept the same by the operator.
    pub connections: Option<PathBuf>,
}

/// `[[pair.path]]`: one way between the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairPath {
    /// Our end: an address of this node's own, never a virtual one.
    pub local: SocketAddr,
    /// The partner's end.
    pub peer: SocketAddr,
}

/// `[[pair.address]]`: one virtual address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualAddress {
    /// The address with the prefix length of its link.
    pub address: IpNet,
    /// The real link that is answered on.
    pub link: String,
    /// What the link leads to.
    pub side: Side,
    /// A default gateway while this node is active.
    pub gateway: Option<IpAddr>,
    /// An Ethernet address that moves with it, the same for all addresses of the link; `None`
    /// stays with the link's own.
    pub virtual_mac: Option<Mac>,
}

impl fmt::Display for VirtualAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {} ({})", self.address, self.link, self.side)?;
        if let Some(gateway) = self.gateway {
            write!(f, ", gateway {gateway}")?;
        }
        match self.virtual_mac {
            Some(mac) => write!(f, ", virtual MAC {mac}"),
            None => Ok(()),
        }
    }
}

/// What a link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// To the peers.
    Wan,
    /// To the hosts.
    Lan,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wan => "wan",
            Self::Lan => "lan",
        })
    }
}

/// `[pair.health]`: a program whose exit status says whether this node is fit to be active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Absolute path.
    pub exec: PathBuf,
    /// Time between two runs.
    pub interval: Duration,
    /// When a run is killed and counts as failed.
    pub timeout: Duration,
    /// Failures in a row that make the node unfit.
    pub failures: u32,
}

/// `[pair.mover]`: a program that moves the addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoverConfig {
    /// Absolute path.
    pub exec: PathBuf,
    /// When a run is killed.
    pub timeout: Duration,
}
