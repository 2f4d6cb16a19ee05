//! Which two gateways stand at the ends, and how to start and stop their tunnel.

use std::time::Duration;

use netns_tests::lab::wait_for;
use netns_tests::peer::{Charon, StrongSwan, Vipsec, swan, vipsec};
use netns_tests::topology::{A_NET, A_WAN, B_NET, B_WAN};
use netns_tests::tunnel::{mirrored, policy_a, swan_policy_b};
use netns_tests::{LabError, TwoSites, cpu};

/// Who stands at gateway A, which initiates, and who at gateway B.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pairing {
    SwanToSwan,
    OursToSwan,
    SwanToOurs,
    OursToOursUdp,
    OursToOursEsp,
}

/// Both gateways, running.
pub(crate) struct Running {
    a: End,
    b: End,
}

enum End {
    Swan(Charon),
    Ours(Vipsec),
}

/// A tunnel that does not come up within this time is broken.
const UP: Duration = Duration::from_secs(10);

impl Pairing {
    pub(crate) const ALL: [Self; 5] = [
        Self::SwanToSwan,
        Self::OursToSwan,
        Self::SwanToOurs,
        Self::OursToOursUdp,
        Self::OursToOursEsp,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SwanToSwan => "strongSwan - strongSwan",
            Self::OursToSwan => "vipsec - strongSwan",
            Self::SwanToOurs => "strongSwan - vipsec",
            Self::OursToOursUdp => "vipsec - vipsec, UDP 4500",
            Self::OursToOursEsp => "vipsec - vipsec, protocol 50",
        }
    }

    /// Starts both gateways with the phase-2 suite; the tunnel is not up yet.
    pub(crate) fn start(self, sites: &TwoSites, suite: &str) -> Result<Running, LabError> {
        let quiet = StrongSwan {
            log_level: 1,
            ..StrongSwan::default()
        };
        let swan_a = swan::Connection::new(A_WAN, B_WAN, A_NET, B_NET).esp_proposals(suite);
        let swan_b = swan_policy_b().esp_proposals(suite);
        let carrier = if self == Self::OursToOursUdp {
            "udp"
        } else {
            "auto"
        };
        let ours_a = policy_a().esp_proposals(suite).encapsulation(carrier);
        let ours_b = mirrored(&ours_a);
        let swan = |host, connection| quiet.start(host, &[connection]).map(End::Swan);
        let ours = |host, connection: vipsec::Connection| {
            Vipsec::start(host, &[connection]).map(End::Ours)
        };
        let (gw_a, gw_b) = (&sites.gw_a, &sites.gw_b);
        let (b, a) = match self {
            Self::SwanToSwan => (swan(gw_b, swan_b)?, swan(gw_a, swan_a)?),
            Self::OursToSwan => (swan(gw_b, swan_b)?, ours(gw_a, ours_a)?),
            Self::SwanToOurs => (ours(gw_b, ours_b)?, swan(gw_a, swan_a)?),
            Self::OursToOursUdp | Self::OursToOursEsp => (ours(gw_b, ours_b)?, ours(gw_a, ours_a)?),
        };
        Ok(Running { a, b })
    }
}

impl Running {
    /// Gateway A initiates; returns when both call the tunnel up.
    pub(crate) fn up(&self) -> Result<(), LabError> {
        match &self.a {
            End::Swan(charon) => charon.initiate("net").map(|_output| ())?,
            End::Ours(vipsec) => vipsec.up("site")?,
        }
        self.a.wait_tunnels(1)?;
        self.b.wait_tunnels(1)
    }

    /// Gateway A takes it down; returns when both know.
    pub(crate) fn down(&self) -> Result<(), LabError> {
        match &self.a {
            End::Swan(charon) => charon.terminate("site")?,
            End::Ours(vipsec) => vipsec.down("site")?,
        }
        self.a.wait_tunnels(0)?;
        self.b.wait_tunnels(0)
    }

    /// Processor time that both gateways have used so far.
    pub(crate) fn cpu(&mut self) -> Result<Duration, LabError> {
        Ok(cpu::used(self.a.pid())? + cpu::used(self.b.pid())?)
    }
}

impl End {
    fn wait_tunnels(&self, count: usize) -> Result<(), LabError> {
        wait_for(&format!("{count} tunnels"), UP, || {
            let installed = match self {
                Self::Swan(charon) => charon.installed()?.len(),
                Self::Ours(vipsec) => vipsec.connection("site")?.in_use().count(),
            };
            Ok((installed == count).then_some(()))
        })
    }

    fn pid(&mut self) -> u32 {
        match self {
            Self::Swan(charon) => charon.process().pid(),
            Self::Ours(vipsec) => vipsec.process().pid(),
        }
    }
}
