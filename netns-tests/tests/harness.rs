//! The lab itself, before any of our own code is in it.

use std::time::Duration;

use netns_tests::need::PING;
use netns_tests::peer::{ConnectionConfig, StrongSwan};
use netns_tests::probe::Ping;
use netns_tests::topology::{A_NET, A_WAN, B_NET, B_WAN, HOST_B, TwoSites};
use netns_tests::{Lab, Need, scenario};

/// Without a tunnel the sites do not reach each other: a ping that arrives in another
/// scenario can only have come through its tunnel.
#[test]
fn without_a_tunnel_nothing_passes() {
    scenario(&[PING], || {
        let sites = TwoSites::new(&Lab::new()?)?;
        let report = Ping::to(HOST_B).count(2).from(&sites.host_a)?;
        assert_eq!(report.received, 0);
        let neighbour = Ping::to(B_WAN.parse()?).from(&sites.gw_a)?;
        assert!(neighbour.is_complete(), "{neighbour:?}");
        Ok(())
    });
}

/// host-a ── gw-a (charon) ══ gw-b (charon) ── host-b
#[test]
fn strongswan_to_strongswan() {
    scenario(&[PING, Need::Tun, Need::StrongSwan], || {
        let sites = TwoSites::new(&Lab::new()?)?;
        let a = ConnectionConfig::new(A_WAN, B_WAN, A_NET, B_NET);
        let b = ConnectionConfig::new(B_WAN, A_WAN, B_NET, A_NET);
        let left = StrongSwan::default().start(&sites.gw_a, &[a])?;
        let right = StrongSwan::default().start(&sites.gw_b, &[b])?;
        left.initiate("net")?;
        let ours = left.wait_installed(1, Duration::from_secs(5))?;
        let theirs = right.wait_installed(1, Duration::from_secs(5))?;
        assert_eq!(ours[0].spi_out, theirs[0].spi_in);
        Ping::to(HOST_B).until_answered(&sites.host_a, Duration::from_secs(5))?;
        let report = Ping::to(HOST_B).count(10).from(&sites.host_a)?;
        assert!(report.is_complete(), "{report:?}");
        assert!(right.installed()?[0].bytes_in > 0);
        Ok(())
    });
}
