//! What people have today: keepalived moves the addresses, strongSwan negotiates anew.
//!
//! charon runs on both nodes all the time; when keepalived makes a node master, it tells that
//! node's charon to initiate, which is the fastest arrangement of the two.

use std::time::Duration;

use super::topology::{ADDRESS_LAN, ADDRESS_WAN, HOST_PEER, PEER_WAN, Pair};
use crate::lab::{Background, Lab};
use crate::peer::{Charon, Keepalived, StrongSwan, swan};
use crate::probe::Ping;
use crate::topology::{A_NET, B_NET};
use crate::{LabError, Need, need};

/// What it needs from the machine.
pub const BASELINE_NEEDS: &[Need] = &[
    need::PING,
    need::DUMPCAP,
    need::KEEPALIVED,
    Need::Tun,
    Need::StrongSwan,
];

/// The election takes three adverts, the negotiation of a loaded machine a while.
const UP: Duration = Duration::from_secs(20);

/// keepalived and strongSwan on both nodes, strongSwan as the peer.
#[derive(Debug)]
pub struct Baseline {
    /// The network.
    pub net: Pair,
    /// The peer.
    pub peer: Charon,
    /// The nodes' charons.
    pub charons: [Charon; 2],
    _keepaliveds: [Background; 2],
}

impl Baseline {
    /// Builds it and returns when the tunnel through gw-a carries packets.
    ///
    /// # Errors
    /// When anything of this does not come about.
    pub fn start(lab: &Lab, advert: Duration) -> Result<Self, LabError> {
        let net = Pair::new(lab)?;
        let quiet = StrongSwan {
            log_level: 1,
            ..StrongSwan::default()
        };
        let (address, peer_address) = (ADDRESS_WAN.to_string(), PEER_WAN.to_string());
        let there = swan::Connection::new(&peer_address, &address, B_NET, A_NET);
        let peer = quiet.start(&net.peer, &[there])?;
        let here = [swan::Connection::new(&address, &peer_address, A_NET, B_NET)];
        let [a, b] = &net.nodes;
        let charons = [quiet.start(&a.host, &here)?, quiet.start(&b.host, &here)?];
        let [charon_a, charon_b] = &charons;
        let keepalived = |charon: &Charon, priority| Keepalived {
            priority,
            advert,
            device: "lan0".to_owned(),
            addresses: vec![
                (format!("{ADDRESS_WAN}/24"), "wan0".to_owned()),
                (format!("{ADDRESS_LAN}/16"), "lan0".to_owned()),
            ],
            notify_master: charon.initiate_command("net"),
        };
        let first = keepalived(charon_a, 200).start(&a.host)?;
        Ping::to(HOST_PEER).until_answered(&net.lan_host, UP)?;
        let mut second = keepalived(charon_b, 100).start(&b.host)?;
        second.wait_for_line("Entering BACKUP STATE", UP)?;
        Ok(Self {
            net,
            peer,
            charons,
            _keepaliveds: [first, second],
        })
    }
}
