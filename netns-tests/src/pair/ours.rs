//! vipsec on both gateways, strongSwan as the peer.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::topology::{
    ADDRESS_LAN, ADDRESS_WAN, ADDRESS6_LAN, ADDRESS6_WAN, HOST_PEER, NODE_LAN, NODE_SYNC,
    NODE6_LAN, NODE6_SYNC, Node, PEER_WAN, Pair, ROUTER_WAN,
};
use crate::lab::{Lab, now, wait_for};
use crate::peer::vipsec::{self, Member, Options, PairStatus, Status};
use crate::peer::{Charon, StrongSwan, Vipsec, swan};
use crate::probe::Ping;
use crate::topology::{A_NET, B_NET, HOST_B6};
use crate::{LabError, Need, need};

/// What a pair against strongSwan needs from the machine.
pub const OURS_NEEDS: &[Need] = &[
    need::PING,
    need::DUMPCAP,
    Need::Tun,
    Need::StrongSwan,
    Need::Vipsec,
];

/// How long a node may take to find its role, or to come into sync.
const ROLES: Duration = Duration::from_secs(20);

/// What differs between scenarios.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Advert interval.
    pub advert: Duration,
    /// Virtual MACs on the WAN and on the LAN; empty ones are left out.
    pub virtual_macs: [String; 2],
    /// The secret of each node.
    pub secrets: [String; 2],
    /// The virtual addresses and the paths are IPv6, and the hosts have IPv6 addresses.
    pub ipv6: bool,
    /// The peer is not on the WAN: a router is between.
    pub routed: bool,
    /// Further environment variables of each daemon.
    pub environment: [Vec<(String, String)>; 2],
    /// The connections stand in a file that the pair keeps the same.
    pub shared: bool,
    /// Further lines of `[pair]`, verbatim.
    pub extra: String,
    /// Further tables, verbatim.
    pub extra_tables: String,
    /// The connection, the same on both nodes.
    pub connection: vipsec::Connection,
    /// The peer's side.
    pub peer: swan::Connection,
}

impl Default for Settings {
    /// Adverts every 50 ms; one policy-based tunnel between the two LANs, which the active
    /// node starts.
    fn default() -> Self {
        let secret = "k7Qw-2mXe9-Vb41z-Tr8uPs-0dLhYf-6CgNa";
        let (wan, peer) = (ADDRESS_WAN.to_string(), PEER_WAN.to_string());
        Self {
            advert: Duration::from_millis(50),
            virtual_macs: Default::default(),
            secrets: [secret.to_owned(), secret.to_owned()],
            ipv6: false,
            routed: false,
            environment: Default::default(),
            shared: false,
            extra: String::new(),
            extra_tables: String::new(),
            connection: vipsec::Connection::policy_based(&wan, &peer, A_NET, B_NET)
                .start("on-start"),
            peer: swan::Connection::new(&peer, &wan, B_NET, A_NET),
        }
    }
}

/// A running pair.
#[derive(Debug)]
pub struct Ours {
    /// The network.
    pub net: Pair,
    /// The peer.
    pub peer: Charon,
    /// The daemons of the two nodes; `None` while one is dead.
    pub daemons: [Option<Vipsec>; 2],
    settings: Settings,
}

impl Settings {
    /// The same with another advert interval.
    #[must_use]
    pub fn advert(self, advert: Duration) -> Self {
        Self { advert, ..self }
    }

    fn member(&self, index: usize) -> Member {
        let (own, other) = (index, 1 - index);
        let pick = |addresses: [IpAddr; 2]| {
            let text = |at: usize| addresses.get(at).map(ToString::to_string);
            (
                text(own).unwrap_or_default(),
                text(other).unwrap_or_default(),
            )
        };
        let [wan, lan] = if self.ipv6 {
            [format!("{ADDRESS6_WAN}/64"), format!("{ADDRESS6_LAN}/64")]
        } else {
            [format!("{ADDRESS_WAN}/24"), format!("{ADDRESS_LAN}/16")]
        };
        let router = self.routed.then(|| ROUTER_WAN.to_string());
        Member {
            member: if index == 0 { 'a' } else { 'b' },
            secret: self.secrets.get(index).cloned().unwrap_or_default(),
            priority: if index == 0 { 120 } else { 100 },
            advert_interval: format!("{}ms", self.advert.as_millis()),
            preempt: "off".to_owned(),
            hold_down: "3s".to_owned(),
            commit_wait: "50ms".to_owned(),
            grace: "5s".to_owned(),
            paths: if self.ipv6 {
                vec![pick(NODE6_SYNC), pick(NODE6_LAN)]
            } else {
                vec![
                    pick(NODE_SYNC.map(IpAddr::V4)),
                    pick(NODE_LAN.map(IpAddr::V4)),
                ]
            },
            addresses: vec![
                (wan, "wan0".to_owned(), "wan".to_owned()),
                (lan, "lan0".to_owned(), "lan".to_owned()),
            ],
            gateways: router.into_iter().collect(),
            shared: self.shared,
            virtual_macs: self.virtual_macs.to_vec(),
            extra: self.extra.clone(),
            extra_tables: self.extra_tables.clone(),
        }
    }
}

impl Ours {
    /// Builds the network, starts the peer and both nodes (gw-a first, so that it is active),
    /// and returns when the tunnel carries packets and the standby knows everything.
    ///
    /// # Errors
    /// When anything of this does not come about.
    pub fn start(lab: &Lab, settings: &Settings) -> Result<Self, LabError> {
        let mut pair = Self::prepare(lab, settings)?;
        pair.revive(0)?;
        pair.wait_role(0, "active")?;
        pair.revive(1)?;
        pair.wait_ready()?;
        let mut far = HOST_PEER;
        if settings.ipv6 {
            let parsed = HOST_B6.parse();
            far = parsed.map_err(|_| LabError::unreadable("an address", HOST_B6))?;
        }
        Ping::to(far).until_answered(&pair.net.lan_host, vipsec::UP)?;
        Ok(pair)
    }

    /// Builds the network and starts the peer; both nodes are dead.
    ///
    /// # Errors
    /// When the lab or the peer does not start.
    pub fn prepare(lab: &Lab, settings: &Settings) -> Result<Self, LabError> {
        let net = if settings.routed {
            Pair::behind_router(lab)?
        } else {
            Pair::new(lab)?
        };
        if settings.ipv6 {
            net.add_ipv6()?;
        }
        let quiet = StrongSwan {
            log_level: 1,
            ..StrongSwan::default()
        };
        let peer = quiet.start(&net.peer, std::slice::from_ref(&settings.peer))?;
        Ok(Self {
            net,
            peer,
            daemons: [None, None],
            settings: settings.clone(),
        })
    }

    /// Starts the daemon of a node, as after a crash or a boot.
    ///
    /// # Errors
    /// When it does not start.
    pub fn revive(&mut self, index: usize) -> Result<(), LabError> {
        let options = Options {
            pair: Some(self.settings.member(index)),
            environment: self
                .settings
                .environment
                .get(index)
                .cloned()
                .unwrap_or_default(),
            ..Options::default()
        };
        let connections = std::slice::from_ref(&self.settings.connection);
        let daemon = Vipsec::start_with(&self.node(index).host, connections, &options)?;
        if let Some(place) = self.daemons.get_mut(index) {
            *place = Some(daemon);
        }
        Ok(())
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it is dead already.
    pub fn kill(&mut self, index: usize) -> Result<(), LabError> {
        self.daemon_mut(index)?.process().kill()
    }

    /// Sends a signal to the daemon of a node.
    ///
    /// # Errors
    /// When it is dead.
    pub fn signal(&mut self, index: usize, signal: Signal) -> Result<(), LabError> {
        self.daemon_mut(index)?.process().signal(signal)
    }

    /// Stops the daemon of a node for a while, as a machine that is suspended does. Says since
    /// when it stood: what it sent before, it sent as the active node.
    ///
    /// # Errors
    /// When it is dead.
    pub fn suspend(&mut self, index: usize, time: Duration) -> Result<Duration, LabError> {
        self.daemon_mut(index)?.process().suspend()?;
        let since = now();
        thread::sleep(time); // the length of the suspension is the scenario
        self.signal(index, Signal::CONT)?;
        Ok(since)
    }

    /// A node of the network; 0 is gw-a.
    ///
    /// # Panics
    /// Never: an index above 1 is gw-b.
    #[must_use]
    pub fn node(&self, index: usize) -> &Node {
        let [a, b] = &self.net.nodes;
        if index == 0 { a } else { b }
    }

    /// The daemon of a node.
    ///
    /// # Errors
    /// When it is dead.
    pub fn daemon(&self, index: usize) -> Result<&Vipsec, LabError> {
        let daemon = self.daemons.get(index).and_then(Option::as_ref);
        daemon.ok_or_else(|| LabError::unreadable("the daemon of a dead node", "none runs"))
    }

    fn daemon_mut(&mut self, index: usize) -> Result<&mut Vipsec, LabError> {
        let daemon = self.daemons.get_mut(index).and_then(Option::as_mut);
        daemon.ok_or_else(|| LabError::unreadable("the daemon of a dead node", "none runs"))
    }

    /// What a node says about the pair.
    ///
    /// # Errors
    /// When it does not answer, or does not know that it is in a pair.
    pub fn pair_status(&self, index: usize) -> Result<PairStatus, LabError> {
        let status = self.daemon(index)?.status()?;
        part(&status).cloned()
    }

    /// Which node is active; the other one then is not.
    ///
    /// # Errors
    /// When none or both are, or one does not answer.
    pub fn active(&self) -> Result<usize, LabError> {
        let roles = [self.pair_status(0)?.role, self.pair_status(1)?.role];
        match roles.each_ref().map(String::as_str) {
            ["active", "active"] => Err(LabError::unreadable("the roles", "both are active")),
            ["active", _] => Ok(0),
            [_, "active"] => Ok(1),
            _ => Err(LabError::unreadable("the roles", &roles.join(" and "))),
        }
    }

    /// Waits until a node is in a role.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn wait_role(&self, index: usize, role: &str) -> Result<PairStatus, LabError> {
        let what = format!("{} to be {role}", self.node(index).host.name());
        wait_for(&what, ROLES, || {
            let status = self.pair_status(index)?;
            Ok((status.role == role).then_some(status))
        })
    }

    /// Waits until one node is active with its tunnel up, and the other knows everything that
    /// a hot takeover needs. Says which one is active.
    ///
    /// # Errors
    /// [`LabError::Timeout`] with what both nodes say.
    pub fn wait_ready(&self) -> Result<usize, LabError> {
        let mut last = String::new();
        let result = wait_for("the pair to be in sync", ROLES, || {
            let statuses = [self.daemon(0)?.status()?, self.daemon(1)?.status()?];
            last = format!("{:?} | {:?}", statuses[0].pair, statuses[1].pair);
            for (active, standby) in [(0, 1), (1, 0)] {
                let (Some(one), Some(two)) = (statuses.get(active), statuses.get(standby)) else {
                    continue;
                };
                if is_active(one)? && is_standby(two)? {
                    return Ok(Some(active));
                }
            }
            Ok(None)
        });
        result.map_err(|error| match error {
            LabError::Timeout { what, waited } => LabError::Timeout {
                what: format!("{what}; they say {last}"),
                waited,
            },
            other => other,
        })
    }

    /// A planned switchover, asked of the node that is active.
    ///
    /// # Errors
    /// When it is refused.
    pub fn switchover(&self, active: usize) -> Result<(), LabError> {
        self.daemon(active)?.run("switchover")?;
        Ok(())
    }
}

fn part(status: &Status) -> Result<&PairStatus, LabError> {
    let part = status.pair.as_ref();
    part.ok_or_else(|| LabError::unreadable("vipsec status", "it has no part about a pair"))
}

fn is_active(status: &Status) -> Result<bool, LabError> {
    let part = part(status)?;
    let up = status.connections.iter().all(|one| one.state == "up");
    Ok(part.role == "active" && part.serving && part.fit && part.in_sync && up)
}

fn is_standby(status: &Status) -> Result<bool, LabError> {
    let part = part(status)?;
    Ok(part.role == "standby" && part.fit && part.in_sync && part.takeover.hot)
}
