//! Virtual MACs: an Ethernet address on each link that moves with the virtual addresses, so that
//! the neighbours' ARP caches stay right whatever happens to the pair.
//!
//! ```text
//!   peer ──┤wan├── wan0 + vmac-wan0  gw-a, gw-b  vmac-lan0 + lan0 ──┤lan├── lan-host
//!                  02:00:5e:00:01:0a             02:00:5e:00:01:0b
//! ```

use std::net::Ipv4Addr;
use std::time::Duration;

use netns_tests::lab::{Host, wait_for};
use netns_tests::pair::{ADDRESS_LAN, ADDRESS_WAN, HOST_PEER, OURS_NEEDS, Ours, Settings, Watch};
use netns_tests::probe::{Ping, Wire};
use netns_tests::{Lab, LabError, scenario};

const WAN_MAC: &str = "02:00:5e:00:01:0a";
const LAN_MAC: &str = "02:00:5e:00:01:0b";
const PATIENCE: Duration = Duration::from_secs(20);

fn start(lab: &Lab) -> Result<Ours, LabError> {
    let settings = Settings {
        virtual_macs: [WAN_MAC.to_owned(), LAN_MAC.to_owned()],
        ..Settings::default()
    };
    Ours::start(lab, &settings)
}

/// What a host's ARP cache says about an address.
fn cached(host: &Host, address: Ipv4Addr) -> Result<String, LabError> {
    Ok(host.ip(&format!("neighbour show {address}"))?.stdout)
}

fn assert_caches_are_right(pair: &Ours) -> Result<(), LabError> {
    let peer = cached(&pair.net.peer, ADDRESS_WAN)?;
    assert!(peer.contains(WAN_MAC), "the peer's cache: {peer}");
    let host = cached(&pair.net.lan_host, ADDRESS_LAN)?;
    assert!(host.contains(LAN_MAC), "the host's cache: {host}");
    Ok(())
}

/// Everything that was ever said about the address names its virtual MAC.
fn assert_one_mac(wire: &Wire, address: Ipv4Addr, mac: &str) -> Result<(), LabError> {
    let mac = mac.parse()?;
    let claims = wire.claims.iter();
    let claims: Vec<_> = claims.filter(|one| one.arp.sender == address).collect();
    assert!(!claims.is_empty(), "nobody spoke for {address}");
    for claim in claims {
        assert_eq!(claim.arp.sender_mac, mac, "{claim:?}");
        assert_eq!(claim.from, mac, "{claim:?}");
    }
    Ok(())
}

/// The devices of the virtual MACs of a node, as `ip -br link` shows them: with `UP` among the
/// flags while they receive.
fn receives(pair: &Ours, index: usize) -> Result<[bool; 2], LabError> {
    let host = &pair.node(index).host;
    let up = |device: &str| {
        let link = host.ip(&format!("-br link show dev {device}"))?.stdout;
        Ok::<_, LabError>(link.contains("<") && link.contains(",UP"))
    };
    Ok([up("vmac-wan0")?, up("vmac-lan0")?])
}

fn wait_receives(pair: &Ours, index: usize, expected: bool) -> Result<(), LabError> {
    let name = pair.node(index).host.name();
    let what = format!("the virtual MACs of {name} to be on: {expected}");
    wait_for(&what, PATIENCE, || {
        Ok((receives(pair, index)? == [expected; 2]).then_some(()))
    })
}

/// A switchover and a kill: caches stay, the switchover loses and doubles nothing, and the old
/// node lets go of the MAC as soon as the new one has announced it, long before the grace ends.
#[test]
fn the_mac_stays_over_a_switchover_and_a_kill() {
    scenario(OURS_NEEDS, || {
        let mut pair = start(&Lab::new()?)?;
        let active = pair.active()?;
        assert_eq!(receives(&pair, active)?, [true; 2]);
        assert_eq!(receives(&pair, 1 - active)?, [false; 2]);
        assert_caches_are_right(&pair)?;
        let watch = Watch::start(&pair.net, PATIENCE)?;

        let planned = watch.during("a planned switchover", || {
            pair.switchover(active)?;
            // The grace is 5 s: this is the announcement.
            wait_receives(&pair, active, false)
        })?;
        let took = planned.acted - planned.at;
        assert!(took < Duration::from_secs(4), "{took:?}");
        assert_eq!(pair.wait_ready()?, 1 - active);
        assert_eq!(receives(&pair, 1 - active)?, [true; 2]);
        assert_caches_are_right(&pair)?;

        let killed = watch.during("kill -9", || pair.kill(1 - active))?;
        assert_caches_are_right(&pair)?;
        assert_eq!(pair.wait_role(active, "active")?.role, "active");

        let evidence = watch.finish()?;
        let (planned, killed) = (evidence.cost(&planned), evidence.cost(&killed));
        println!("planned: let go after {took:?}, {planned:?}\nkilled: {killed:?}");
        assert_eq!(
            (planned.lost(), planned.duplicates()),
            (0, 0),
            "{planned:?}"
        );
        assert_eq!(planned.ike, 0, "{planned:?}");
        assert_eq!((killed.duplicates(), killed.ike), (0, 0), "{killed:?}");
        assert_one_mac(&evidence.wan, ADDRESS_WAN, WAN_MAC)?;
        assert_one_mac(&evidence.lan, ADDRESS_LAN, LAN_MAC)?;
        Ok(())
    });
}

/// Both switches flood everything: both nodes are shown every frame for the MACs. The standby's
/// devices are down; those of a killed node are still up, and its kernel drops what they receive.
#[test]
fn what_both_nodes_are_shown_only_the_active_one_takes() {
    scenario(OURS_NEEDS, || {
        let mut pair = start(&Lab::new()?)?;
        let active = pair.active()?;
        for index in [0, 1] {
            // Nor does the kernel's filter of return paths help: it would refuse whatever comes
            // in on a device without an address.
            pair.node(index)
                .host
                .sysctl("ipv4/conf/all/rp_filter", "0")?;
        }
        for switch in ["wan", "lan"] {
            let host = pair.net.wan.host();
            host.ip(&format!("link set {switch} type bridge ageing_time 0"))?;
        }
        let watch = Watch::start(&pair.net, PATIENCE)?;
        let event = watch.during("kill -9", || pair.kill(active))?;
        watch.wait_steady(event.settled)?;
        // Still up: only its way into the kernel has gone.
        assert_eq!(receives(&pair, active)?, [true; 2]);
        let evidence = watch.finish()?;
        let cost = evidence.whole();
        println!("{cost:?}");
        assert_eq!(cost.duplicates(), 0, "{cost:?}");
        assert_eq!(cost.replay_drops, 0, "{cost:?}");

        // A new daemon tidies up, and does not take the role.
        pair.revive(active)?;
        assert_eq!(pair.wait_ready()?, 1 - active);
        wait_receives(&pair, active, false)?;
        Ping::to(HOST_PEER).until_answered(&pair.net.lan_host, PATIENCE)?;

        // And one that is stopped leaves nothing.
        pair.signal(active, rustix::process::Signal::TERM)?;
        let host = &pair.node(active).host;
        wait_for("the devices to be gone", PATIENCE, || {
            let links = host.ip("-br link")?.stdout;
            Ok((!links.contains("vmac-") && !links.contains("vip")).then_some(()))
        })?;
        Ok(())
    });
}
