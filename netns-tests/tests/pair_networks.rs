//! A pair in networks that differ from the usual one: IPv6 addresses, and a peer behind a router.
//!
//! ```text
//!   peer ── (router) ── wan switch ─┬─ gw-a ─┬─ lan switch ── lan-host
//!                                   └─ gw-b ─┘
//! ```

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Duration;

use netns_tests::lab::{now, wait_for};
use netns_tests::pair::{
    ADDRESS_WAN, ADDRESS6_LAN, ADDRESS6_WAN, Node, OURS_NEEDS, Ours, PEER_FAR, PEER6_WAN, RATE,
    ROUTER_WAN, SANE, Settings, Watch, lossless, unnoticed,
};
use netns_tests::peer::{swan, vipsec};
use netns_tests::probe::pcap::{self, Advertisement, Mac};
use netns_tests::probe::{Capture, Numbered, Ping};
use netns_tests::topology::{A_NET, A_NET6, B_NET, B_NET6, HOST_A6, HOST_B6};
use netns_tests::{Lab, LabError, scenario};

/// No event may take longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);

fn ipv6() -> Settings {
    let (ours, theirs) = (ADDRESS6_WAN.to_string(), PEER6_WAN.to_string());
    Settings {
        ipv6: true,
        connection: vipsec::Connection::policy_based(&ours, &theirs, A_NET6, B_NET6)
            .start("on-start"),
        peer: swan::Connection::new(&theirs, &ours, B_NET6, A_NET6),
        ..Settings::default()
    }
}

/// Who said that an address is his, in this order, repetitions left out.
fn holders(said: &[Advertisement], address: Ipv6Addr) -> Vec<Mac> {
    let about = said.iter().filter(|one| one.target == address);
    let mut cards: Vec<Mac> = about.map(|one| one.from).collect();
    cards.dedup();
    cards
}

/// The SPIs of the tunnel, as the peer knows them.
fn spis(pair: &Ours) -> Result<BTreeSet<u32>, LabError> {
    let installed = pair.peer.installed()?;
    Ok(installed.iter().map(|sa| sa.spi_out).collect())
}

/// A switchover and a death of the active node, with IPv6 inside and outside.
#[test]
fn ipv6_addresses_move_with_the_role() {
    scenario(OURS_NEEDS, || {
        let mut pair = Ours::start(&Lab::new()?, &ipv6())?;
        // Not later: charon loses packets while it lists its SAs.
        let before = spis(&pair)?;
        let captures = [
            Capture::start(pair.net.wan.host(), "wan", "icmp6")?,
            Capture::start(pair.net.lan.host(), "lan", "icmp6")?,
        ];
        let (near, far) = (&pair.net.lan_host, &pair.net.peer_host);
        let out = Numbered::start(near, far, HOST_B6.parse()?, RATE)?;
        let back = Numbered::start(far, near, HOST_A6.parse()?, RATE)?;
        let flows = |since: Duration| {
            let steady = Duration::from_millis(500);
            out.wait_flowing(since, steady, PATIENCE)?;
            back.wait_flowing(since, steady, PATIENCE)
        };
        flows(now())?;
        let active = pair.wait_ready()?;
        let began = now();
        pair.switchover(active)?;
        assert_eq!(pair.wait_ready()?, 1 - active);
        let switched = flows(now())?;
        pair.kill(1 - active)?;
        let killed = now();
        flows(killed)?;
        assert_eq!(pair.pair_status(active)?.role, "active");
        let (out, back) = (out.finish_trace()?, back.finish_trace()?);
        assert_eq!(spis(&pair)?, before, "nothing was negotiated");
        for (way, trace) in [("out", &out), ("back", &back)] {
            let planned = trace.between(began, switched - Duration::from_millis(100));
            let cost = (planned.lost(), planned.duplicates);
            assert_eq!(cost, (0, 0), "{way}: {planned:?}");
            assert!(trace.report().longest_gap < SANE, "{:?}", trace.report());
        }
        let [wan, lan] = captures;
        for (capture, address, card) in [
            (wan, ADDRESS6_WAN, wan_card as fn(&Node) -> Mac),
            (lan, ADDRESS6_LAN, lan_card),
        ] {
            let said = pcap::advertisements(&capture.finish_busy()?)?;
            let cards = [active, 1 - active].map(|index| card(pair.node(index)));
            moved_there_and_back(&said, address, cards, [began, killed]);
        }
        Ok(())
    });
}

fn wan_card(node: &Node) -> Mac {
    node.wan_card
}

fn lan_card(node: &Node) -> Mac {
    node.lan_card
}

/// Each takeover was told to everybody, and nobody claimed the address out of turn.
fn moved_there_and_back(
    said: &[Advertisement],
    address: Ipv6Addr,
    cards @ [first, second]: [Mac; 2],
    [began, killed]: [Duration; 2],
) {
    let told = |since: Duration, card: Mac| {
        let about = said.iter().filter(|one| one.target == address);
        let mut after = about.filter(|one| one.at > since && one.from == card);
        after.any(|one| !one.solicited)
    };
    assert!(told(began, second), "the switchover was not announced");
    assert!(told(killed, first), "the takeover was not announced");
    let since: Vec<_> = said.iter().copied().filter(|one| one.at > began).collect();
    let all = holders(&since, address);
    let (early, late) = (vec![first, second, first], vec![second, first]);
    assert!(
        all == early || all == late,
        "{address}: {all:?} of {cards:?}"
    );
}

/// The active node alone answers who asks for its IPv6 addresses; of a dead pair nobody does.
#[test]
fn i7_ipv6_addresses_die_with_the_process() {
    scenario(OURS_NEEDS, || {
        let mut pair = Ours::start(&Lab::new()?, &ipv6())?;
        let active = pair.wait_ready()?;
        let asked = |pair: &Ours, answers: u32| -> Result<Vec<Vec<Mac>>, LabError> {
            let (peer, lan_host) = (&pair.net.peer, &pair.net.lan_host);
            let mut cards = Vec::new();
            for (host, device, switch, address) in [
                (peer, "wan", &pair.net.wan, ADDRESS6_WAN),
                (lan_host, "lan", &pair.net.lan, ADDRESS6_LAN),
            ] {
                let capture = Capture::start(switch.host(), device, "icmp6")?;
                host.ip(&format!("-6 neigh flush dev {device}"))?;
                let report = Ping::to(address.into()).count(3).from(host)?;
                assert_eq!(report.received, answers, "{address}");
                let said = pcap::advertisements(&capture.finish_busy()?)?;
                cards.push(holders(&said, address));
            }
            Ok(cards)
        };
        let node = pair.node(active);
        let ours = [vec![node.wan_card], vec![node.lan_card]];
        assert_eq!(asked(&pair, 3)?, ours);
        pair.kill(1 - active)?;
        pair.kill(active)?;
        assert_eq!(asked(&pair, 0)?, [vec![], vec![]]);
        Ok(())
    });
}

/// The way to the peer comes and goes with the role.
#[test]
fn a_peer_behind_a_router_notices_nothing() {
    scenario(OURS_NEEDS, || {
        let (ours, theirs) = (ADDRESS_WAN.to_string(), PEER_FAR.to_string());
        let settings = Settings {
            routed: true,
            connection: vipsec::Connection::policy_based(&ours, &theirs, A_NET, B_NET)
                .start("on-start"),
            peer: swan::Connection::new(&theirs, &ours, B_NET, A_NET),
            ..Settings::default()
        };
        let mut pair = Ours::start(&Lab::new()?, &settings)?;
        let active = pair.wait_ready()?;
        let has_way = |pair: &Ours, index: usize| -> Result<bool, LabError> {
            let routes = pair.node(index).host.ip("route show default")?.stdout;
            Ok(routes.contains(&format!("via {ROUTER_WAN} dev wan0")))
        };
        assert!(has_way(&pair, active)? && !has_way(&pair, 1 - active)?);
        let watch = Watch::start(&pair.net, PATIENCE)?;
        let planned = watch.during("planned switchover", || pair.switchover(active))?;
        assert_eq!(pair.wait_ready()?, 1 - active);
        // The old node keeps its addresses and routes for the grace.
        wait_for("the old node's way to be gone", PATIENCE, || {
            Ok((!has_way(&pair, active)?).then_some(()))
        })?;
        assert!(has_way(&pair, 1 - active)?);
        let killed = watch.during("kill -9", || pair.kill(1 - active))?;
        assert!(has_way(&pair, active)? && !has_way(&pair, 1 - active)?);
        let evidence = watch.finish()?;
        lossless(&evidence.cost(&planned));
        unnoticed(&evidence.cost(&killed));
        Ok(())
    });
}
