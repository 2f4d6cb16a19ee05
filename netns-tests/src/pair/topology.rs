//! The network of a pair.
//!
//! ```text
//!                 .20 │                203.0.113.0/24
//!  peer-host ─── peer ┤wan switch                       lan switch├─── lan-host
//!  10.2.0.2   10.2.0.1│                                           │    10.1.0.2
//!                     ├── .2 wan0  gw-a  lan0 10.1.0.11 ──────────┤
//!                     │           sync0 10.99.0.1                 │
//!                     │             │ sync switch                 │
//!                     │           sync0 10.99.0.2                 │
//!                     └── .3 wan0  gw-b  lan0 10.1.0.12 ──────────┘
//!
//!                     203.0.113.1 on the WAN, 10.1.0.1 on the LAN: whoever is active
//! ```
//! The peer is on the same segment as the gateways, so the answer to "who has 203.0.113.1"
//! matters to it. Every cable of a gateway ends in a switch, and all switches are on one
//! machine: pulling a cable is what pulling a cable is (the gateway sees its carrier go, the
//! others see nothing), and muting all cables of a gateway is what losing it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::LabError;
use crate::lab::{Bridge, Cable, Host, Lab, mute_at_once, unmute_at_once};
use crate::probe::pcap::Mac;
use crate::topology::{HOST_A, HOST_A6, HOST_B, HOST_B6};

/// The pair's address on the WAN; the peer knows no other.
pub const ADDRESS_WAN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The pair's address on the LAN; the hosts' gateway.
pub const ADDRESS_LAN: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
/// The peer.
pub const PEER_WAN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 20);
/// A peer that is not on the WAN.
pub const PEER_FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 20);
/// The router between the WAN and [`PEER_FAR`].
pub const ROUTER_WAN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);
/// The pair's IPv6 address on the WAN.
pub const ADDRESS6_WAN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 1);
/// The pair's IPv6 address on the LAN.
pub const ADDRESS6_LAN: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xa, 0, 0, 0, 0, 0, 1);
/// The peer's IPv6 address.
pub const PEER6_WAN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x20);
/// The gateways' own addresses on the WAN.
pub const NODE_WAN: [Ipv4Addr; 2] = [Ipv4Addr::new(203, 0, 113, 2), Ipv4Addr::new(203, 0, 113, 3)];
/// The gateways' own addresses on the LAN.
pub const NODE_LAN: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 11), Ipv4Addr::new(10, 1, 0, 12)];
/// The gateways' addresses on the link between them.
pub(super) const NODE_SYNC: [Ipv4Addr; 2] =
    [Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 2)];
/// The gateways' own IPv6 addresses on the LAN.
pub(super) const NODE6_LAN: [IpAddr; 2] = [ipv6_lan(0x11), ipv6_lan(0x12)];
/// The gateways' IPv6 addresses on the link between them.
pub(super) const NODE6_SYNC: [IpAddr; 2] = [ipv6_sync(1), ipv6_sync(2)];
/// The host on the pair's LAN.
pub const HOST_LAN: IpAddr = HOST_A;
/// The host behind the peer.
pub const HOST_PEER: IpAddr = HOST_B;

const fn ipv6_lan(host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xa, 0, 0, 0, 0, 0, host))
}

const fn ipv6_sync(host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, host))
}

/// The network of a pair.
#[derive(Debug)]
pub struct Pair {
    /// The gateways, `gw-a` and `gw-b`.
    pub nodes: [Node; 2],
    /// The peer's gateway, [`PEER_WAN`] or [`PEER_FAR`].
    pub peer: Host,
    /// From the WAN switch to the peer, or to the router before it.
    pub uplink: Cable,
    /// Behind the peer, [`HOST_PEER`].
    pub peer_host: Host,
    /// On the pair's LAN, [`HOST_LAN`]; its gateway is [`ADDRESS_LAN`].
    pub lan_host: Host,
    /// The WAN's switch.
    pub wan: Bridge,
    /// The LAN's switch.
    pub lan: Bridge,
}

/// One gateway, with its cables.
#[derive(Debug)]
pub struct Node {
    /// The machine: devices `wan0`, `lan0` and `sync0`.
    pub host: Host,
    /// To the WAN switch.
    pub wan: Cable,
    /// To the LAN switch.
    pub lan: Cable,
    /// To the other gateway.
    pub sync: Cable,
    /// The card at the WAN.
    pub wan_card: Mac,
    /// The card at the LAN.
    pub lan_card: Mac,
}

impl Pair {
    /// Builds it; nobody has the shared addresses yet.
    ///
    /// # Errors
    /// When the lab cannot be built.
    pub fn new(lab: &Lab) -> Result<Self, LabError> {
        Self::build(lab, |wan, peer| {
            let uplink = wan.plug(peer, "wan")?;
            peer.address("wan", &format!("{PEER_WAN}/24"))?;
            Ok(uplink)
        })
    }

    /// The same with the peer at [`PEER_FAR`], behind [`ROUTER_WAN`]. The gateways know no way
    /// there but through what their configuration says.
    ///
    /// # Errors
    /// When the lab cannot be built.
    pub fn behind_router(lab: &Lab) -> Result<Self, LabError> {
        Self::build(lab, |wan, peer| {
            let router = lab.host("router")?;
            let uplink = wan.plug(&router, "wan")?;
            router.address("wan", &format!("{ROUTER_WAN}/24"))?;
            Cable::plug((&router, "peer"), (peer, "wan"))?;
            router.address("peer", "198.51.100.1/24")?;
            peer.address("wan", &format!("{PEER_FAR}/24"))?;
            peer.route("default", Ipv4Addr::new(198, 51, 100, 1).into())?;
            Ok(uplink)
        })
    }

    fn build(
        lab: &Lab,
        connect: impl FnOnce(&Bridge, &Host) -> Result<Cable, LabError>,
    ) -> Result<Self, LabError> {
        let switches = lab.host("switches")?;
        let wan = Bridge::new(&switches, "wan")?;
        let lan = Bridge::new(&switches, "lan")?;
        let sync = Bridge::new(&switches, "sync")?;
        let node = |name, index: usize| -> Result<Node, LabError> {
            let host = lab.host(name)?;
            let cables = [
                (&wan, "wan0", NODE_WAN, 24),
                (&lan, "lan0", NODE_LAN, 16),
                (&sync, "sync0", NODE_SYNC, 24),
            ];
            let [wan, lan, sync] = cables.map(|(switch, device, addresses, length)| {
                let cable = switch.plug(&host, device)?;
                let address = addresses.get(index).copied();
                let address = address.unwrap_or(Ipv4Addr::UNSPECIFIED);
                host.address(device, &format!("{address}/{length}"))?;
                Ok(cable)
            });
            let (wan_card, lan_card) = (card(&host, "wan0")?, card(&host, "lan0")?);
            Ok(Node {
                host,
                wan: wan?,
                lan: lan?,
                sync: sync?,
                wan_card,
                lan_card,
            })
        };
        let nodes = [node("gw-a", 0)?, node("gw-b", 1)?];
        let peer = lab.host("peer")?;
        let uplink = connect(&wan, &peer)?;
        let peer_host = lab.host("peer-host")?;
        Cable::plug((&peer_host, "lan"), (&peer, "lan"))?;
        peer.address("lan", "10.2.0.1/16")?;
        peer_host.address("lan", &format!("{HOST_PEER}/16"))?;
        peer_host.route("default", Ipv4Addr::new(10, 2, 0, 1).into())?;
        let lan_host = lab.host("lan-host")?;
        lan.plug(&lan_host, "lan")?;
        lan_host.address("lan", &format!("{HOST_LAN}/16"))?;
        lan_host.route("default", ADDRESS_LAN.into())?;
        Ok(Self {
            nodes,
            peer,
            uplink,
            peer_host,
            lan_host,
            wan,
            lan,
        })
    }

    /// Everybody gets an IPv6 address besides.
    ///
    /// # Errors
    /// When the kernel has no IPv6.
    pub fn add_ipv6(&self) -> Result<(), LabError> {
        let own = NODE6_LAN.iter().zip(NODE6_SYNC);
        for (number, (node, (lan, sync))) in self.nodes.iter().zip(own).enumerate() {
            let wan = format!("2001:db8:113::{}/64", number + 2);
            node.host.address("wan0", &wan)?;
            node.host.address("lan0", &format!("{lan}/64"))?;
            node.host.address("sync0", &format!("{sync}/64"))?;
        }
        self.peer.address("wan", &format!("{PEER6_WAN}/64"))?;
        self.peer.address("lan", "fd00:b::1/64")?;
        self.peer_host.address("lan", &format!("{HOST_B6}/64"))?;
        self.peer_host.ip("-6 route add default via fd00:b::1")?;
        self.lan_host.address("lan", &format!("{HOST_A6}/64"))?;
        let gateway = format!("-6 route add default via {ADDRESS6_LAN}");
        self.lan_host.ip(&gateway)?;
        Ok(())
    }

    /// Nothing passes any more between a gateway and the peer; everybody else hears both.
    ///
    /// # Errors
    /// When a device is gone.
    pub fn cut_off_from_peer(&self, node: &Node, cut: bool) -> Result<(), LabError> {
        self.uplink.isolate(cut)?;
        node.wan.isolate(cut)
    }

    /// A further machine on the WAN, with an address of its choice.
    ///
    /// # Errors
    /// When the lab cannot be built.
    pub fn stranger(&self, lab: &Lab, address: Ipv4Addr) -> Result<Host, LabError> {
        let host = lab.host("stranger")?;
        self.wan.plug(&host, "wan")?;
        host.address("wan", &format!("{address}/24"))?;
        Ok(host)
    }

    /// The nodes do not hear each other any more, on any configured path; the peer and the
    /// hosts hear both. The worst that can happen to a pair.
    ///
    /// # Errors
    /// When a device is gone.
    pub fn split(&self) -> Result<(), LabError> {
        let [a, b] = &self.nodes;
        for node in [a, b] {
            node.lan.isolate(true)?;
        }
        mute_at_once(&[&a.sync, &b.sync])
    }

    /// Ends [`Pair::split`].
    ///
    /// # Errors
    /// When a device is gone.
    pub fn heal_split(&self) -> Result<(), LabError> {
        let [a, b] = &self.nodes;
        for node in [a, b] {
            node.lan.isolate(false)?;
        }
        unmute_at_once(&[&a.sync, &b.sync])
    }
}

impl Node {
    /// The machine is gone as far as anybody can see, and nobody is told: all its cables carry
    /// nothing any more. It goes on running, and believes itself healthy.
    ///
    /// # Errors
    /// When a device is gone.
    pub fn vanish(&self) -> Result<(), LabError> {
        mute_at_once(&[&self.wan, &self.lan, &self.sync])
    }

    /// Ends [`Node::vanish`].
    ///
    /// # Errors
    /// When a device is gone.
    pub fn reappear(&self) -> Result<(), LabError> {
        unmute_at_once(&[&self.wan, &self.lan, &self.sync])
    }
}

fn card(host: &Host, device: &str) -> Result<Mac, LabError> {
    let words = host.ip(&format!("-br link show dev {device}"))?.stdout;
    words.split_whitespace().nth(2).unwrap_or_default().parse()
}
