//! Two sites with a gateway at each: the start of nearly every scenario.

use std::time::Duration;

use crate::lab::{Host, Lab, wait_for};
use crate::peer::{Charon, StrongSwan, Vipsec, swan, vipsec};
use crate::probe::Ping;
use crate::topology::{A_NET, A_WAN, B_NET, B_WAN, HOST_A, HOST_B, TwoSites};
use crate::{LabError, Need, need};

/// What a tunnel against strongSwan needs from the machine.
pub const AGAINST_STRONGSWAN: &[Need] = &[need::PING, Need::Tun, Need::StrongSwan, Need::Vipsec];

/// What a tunnel between two vipsec needs from the machine.
pub const AGAINST_OURSELVES: &[Need] = &[need::PING, Need::Tun, Need::Vipsec];

/// How long a first packet may take through an established tunnel.
pub const FIRST_PACKET: Duration = Duration::from_secs(5);

/// vipsec on gateway A, strongSwan on gateway B.
#[derive(Debug)]
pub struct AgainstStrongSwan {
    /// The network.
    pub sites: TwoSites,
    /// Gateway A.
    pub ours: Vipsec,
    /// Gateway B.
    pub theirs: Charon,
}

/// vipsec on both gateways.
#[derive(Debug)]
pub struct AgainstOurselves {
    /// The network.
    pub sites: TwoSites,
    /// Gateway A.
    pub a: Vipsec,
    /// Gateway B.
    pub b: Vipsec,
}

/// Gateway A's side of a policy-based tunnel between the two LANs.
#[must_use]
pub fn policy_a() -> vipsec::Connection {
    vipsec::Connection::policy_based(A_WAN, B_WAN, A_NET, B_NET)
}

/// Gateway A's side of a route-based tunnel: 0.0.0.0/0 both ways.
#[must_use]
pub fn route_a() -> vipsec::Connection {
    vipsec::Connection::route_based(A_WAN, B_WAN, &[B_NET])
}

/// Gateway B's side of a policy-based tunnel, for strongSwan.
#[must_use]
pub fn swan_policy_b() -> swan::Connection {
    swan::Connection::new(B_WAN, A_WAN, B_NET, A_NET)
}

/// Both sides of a policy-based tunnel by aggressive mode, which each of them has to ask for,
/// with names as identities.
#[must_use]
pub fn aggressive() -> (vipsec::Connection, swan::Connection) {
    let mut ours = policy_a();
    "mode = \"aggressive\"".clone_into(&mut ours.extra);
    "fqdn:a.example".clone_into(&mut ours.local_id);
    "fqdn:b.example".clone_into(&mut ours.remote_id);
    let theirs = swan::Connection {
        aggressive: true,
        local_id: "b.example".to_owned(),
        remote_id: "a.example".to_owned(),
        ..swan_policy_b()
    };
    (ours, theirs)
}

/// Gateway B's side of a route-based tunnel, for strongSwan.
#[must_use]
pub fn swan_route_b() -> swan::Connection {
    swan::Connection::new(B_WAN, A_WAN, "0.0.0.0/0", "0.0.0.0/0")
}

impl AgainstStrongSwan {
    /// Builds the network and starts both daemons; neither starts the tunnel unless its
    /// configuration says so.
    ///
    /// # Errors
    /// When the lab or a daemon does not start.
    pub fn start(ours: &vipsec::Connection, theirs: &swan::Connection) -> Result<Self, LabError> {
        let sites = TwoSites::new(&Lab::new()?)?;
        // The peer first: a connection with start = "on-start" then finds it listening.
        let theirs = StrongSwan::default().start(&sites.gw_b, std::slice::from_ref(theirs))?;
        let ours = Vipsec::start(&sites.gw_a, std::slice::from_ref(ours))?;
        Ok(Self {
            sites,
            ours,
            theirs,
        })
    }

    /// We initiate; returns when both sides call the tunnel up.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn we_initiate(&self) -> Result<vipsec::ConnectionStatus, LabError> {
        let status = self.ours.bring_up("site")?;
        self.theirs.wait_installed(1, vipsec::UP)?;
        Ok(status)
    }

    /// strongSwan initiates; returns when both sides call the tunnel up.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn they_initiate(&self) -> Result<vipsec::ConnectionStatus, LabError> {
        self.theirs.initiate("net")?;
        self.ours.wait_up("site")
    }

    /// Pings both ways, and asserts that both sides' byte counters have seen it.
    ///
    /// # Errors
    /// When an answer is missing or a counter stands still.
    pub fn expect_traffic(&self) -> Result<(), LabError> {
        expect_pings(&self.sites)?;
        wait_for(
            "both gateways to have counted the pings",
            FIRST_PACKET,
            || {
                let ours = self.ours.connection("site")?;
                let ours = ours.in_use().any(|sa| sa.bytes_in > 0 && sa.bytes_out > 0);
                let theirs = self.theirs.installed()?;
                let theirs = theirs.iter().any(|sa| sa.bytes_in > 0 && sa.bytes_out > 0);
                Ok((ours && theirs).then_some(()))
            },
        )
    }
}

impl AgainstOurselves {
    /// Builds the network and starts both daemons with mirrored configurations: `a` is
    /// gateway A's; gateway B gets the same with addresses and prefixes exchanged.
    ///
    /// # Errors
    /// When the lab or a daemon does not start.
    pub fn start(a: &vipsec::Connection, options: &vipsec::Options) -> Result<Self, LabError> {
        let sites = TwoSites::new(&Lab::new()?)?;
        let b = Vipsec::start(&sites.gw_b, &[mirrored(a)])?;
        let a = Vipsec::start_with(&sites.gw_a, std::slice::from_ref(a), options)?;
        Ok(Self { sites, a, b })
    }

    /// Gateway A initiates; returns when both sides call the tunnel up.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn bring_up(&self) -> Result<vipsec::ConnectionStatus, LabError> {
        let status = self.a.bring_up("site")?;
        self.b.wait_up("site")?;
        Ok(status)
    }
}

/// The other gateway's view of a connection; it waits for the first to start.
#[must_use]
pub fn mirrored(connection: &vipsec::Connection) -> vipsec::Connection {
    let mut other = connection.clone();
    std::mem::swap(&mut other.local, &mut other.remote);
    std::mem::swap(&mut other.local_id, &mut other.remote_id);
    for selector in &mut other.selectors {
        std::mem::swap(&mut selector.local, &mut selector.remote);
    }
    for route in &mut other.routes {
        if route == B_NET {
            A_NET.clone_into(route);
        }
    }
    other.start("respond")
}

/// Pings between the hosts of both sites, both ways, none lost.
///
/// # Errors
/// When an answer is missing. The very first packet may overtake the installation of its SA
/// at the peer, which is no fault; so pings are counted after the first answer.
pub fn expect_pings(sites: &TwoSites) -> Result<(), LabError> {
    expect_ping(&sites.host_a, HOST_B)?;
    expect_ping(&sites.host_b, HOST_A)
}

/// Pings from one host, none lost after the first answer.
///
/// # Errors
/// When an answer is missing.
pub fn expect_ping(from: &Host, to: std::net::IpAddr) -> Result<(), LabError> {
    let ping = Ping::to(to);
    ping.until_answered(from, FIRST_PACKET)?;
    let report = ping.count(5).from(from)?;
    if report.is_complete() {
        return Ok(());
    }
    Err(LabError::Damaged(format!(
        "pings from {} to {to} got lost: {report:?}",
        from.name()
    )))
}
