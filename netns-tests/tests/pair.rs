//! vipsec on two gateways behind one address, strongSwan as the peer, a numbered packet a
//! millisecond in each direction: what each kind of mishap costs. Times are for `make
//! ha-report`; here they only have to be sane.
//!
//! ```text
//!   peer-host ── peer ── wan switch ─┬─ gw-a ─┬─ lan switch ── lan-host
//!                                    └─ gw-b ─┘
//! ```

use std::thread;
use std::time::Duration;

use netns_tests::lab::{Host, now, wait_for};
use netns_tests::need::NFT;
use netns_tests::pair::{
    ADDRESS_LAN, ADDRESS_WAN, Cost, Event, Evidence, HOST_PEER, NODE_LAN, OURS_NEEDS, Ours, SANE,
    Settings, Watch, lossless, unnoticed,
};
use netns_tests::peer::vipsec;
use netns_tests::probe::Ping;
use netns_tests::tunnel::expect_ping;
use netns_tests::{Lab, LabError, scenario};

/// No event may take longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pair that is in sync, and its watch.
fn start(lab: &Lab) -> Result<(Ours, Watch), LabError> {
    let pair = Ours::start(lab, &Settings::default())?;
    let watch = Watch::start(&pair.net, PATIENCE)?;
    Ok((pair, watch))
}

/// Does something to the active node, twice, each time to the other one; after each time the
/// other node is active, and `repair` makes the pair whole without losing a packet.
fn twice(
    what: &str,
    act: impl Fn(&mut Ours, usize) -> Result<(), LabError>,
    repair: impl Fn(&mut Ours, usize) -> Result<(), LabError>,
    check: impl Fn(&Cost),
) -> Result<(), LabError> {
    let lab = Lab::new()?;
    let (mut pair, watch) = start(&lab)?;
    let mut events = Vec::new();
    for _time in 0..2 {
        let active = pair.wait_ready()?;
        let event = watch.during(what, || act(&mut pair, active))?;
        assert_eq!(pair.pair_status(1 - active)?.role, "active");
        repair(&mut pair, active)?;
        assert_eq!(pair.wait_ready()?, 1 - active, "who took over stays");
        events.push((event, now()));
    }
    let evidence = watch.finish()?;
    for (event, whole) in &events {
        println!("{what}: {:?}", evidence.cost(event));
        check(&evidence.cost(event));
        lossless(&evidence.within(&(event.settled..*whole)));
    }
    assert_eq!(evidence.whole().repeated_ivs, 0);
    Ok(())
}

fn nothing(_pair: &mut Ours, _index: usize) -> Result<(), LabError> {
    Ok(())
}

/// Exact numbers are handed over: nothing is lost, doubled or said to the peer.
#[test]
fn i2_a_planned_switchover_loses_nothing() {
    scenario(OURS_NEEDS, || {
        twice(
            "planned switchover",
            |pair, active| pair.switchover(active),
            nothing,
            lossless,
        )?;
        Ok(())
    });
}

/// The kernel of a living host says that the daemon is dead; the peer notices nothing.
#[test]
fn i2_a_killed_active_is_replaced() {
    scenario(OURS_NEEDS, || {
        twice(
            "kill -9",
            |pair, active| pair.kill(active),
            Ours::revive,
            unnoticed,
        )?;
        Ok(())
    });
}

/// All cables of the active node fall silent at once.
#[test]
fn i2_a_host_that_is_gone_is_replaced() {
    scenario(OURS_NEEDS, || {
        twice(
            "the active host is gone",
            |pair, active| pair.node(active).vanish(),
            |pair, active| pair.node(active).reappear(),
            unnoticed,
        )?;
        Ok(())
    });
}

/// The active node sees its carrier go and hands over.
#[test]
fn a_pulled_wan_cable_moves_the_pair() {
    scenario(OURS_NEEDS, || {
        twice(
            "the WAN cable of the active node is pulled",
            |pair, active| pair.node(active).wan.pull(),
            |pair, active| pair.node(active).wan.replug(),
            unnoticed,
        )?;
        Ok(())
    });
}

/// The same on the side of the hosts.
#[test]
fn a_pulled_lan_cable_moves_the_pair() {
    scenario(OURS_NEEDS, || {
        twice(
            "the LAN cable of the active node is pulled",
            |pair, active| pair.node(active).lan.pull(),
            |pair, active| pair.node(active).lan.replug(),
            unnoticed,
        )?;
        Ok(())
    });
}

/// Whether a node spoke for one of the virtual addresses within the event, since a moment.
fn spoke(evidence: &Evidence, pair: &Ours, index: usize, since: Duration, event: &Event) -> usize {
    let node = pair.node(index);
    let wan = evidence.wan.spoken(ADDRESS_WAN, node.wan_card);
    let lan = evidence.lan.spoken(ADDRESS_LAN, node.lan_card);
    wan.chain(lan)
        .filter(|at| *at > since && *at < event.settled)
        .count()
}

/// A node that was stopped for seconds finds its lease expired and says nothing.
#[test]
fn i6_a_node_that_wakes_up_is_mute() {
    scenario(OURS_NEEDS, || {
        let lab = Lab::new()?;
        let (mut pair, watch) = start(&lab)?;
        let active = pair.wait_ready()?;
        let mut stood = Duration::MAX;
        let event = watch.during("SIGSTOP for 3 s", || {
            stood = pair.suspend(active, Duration::from_secs(3))?;
            thread::sleep(Duration::from_secs(1)); // what it must not do takes no defined time
            Ok(())
        })?;
        assert_eq!(pair.wait_ready()?, 1 - active);
        let evidence = watch.finish()?;
        let cost = evidence.cost(&event);
        unnoticed(&cost);
        assert_eq!(
            spoke(&evidence, &pair, active, stood, &event),
            0,
            "{cost:?}"
        );
        Ok(())
    });
}

/// The nodes do not hear each other, and the peer and the hosts hear both: both send. Nothing
/// is ever sealed twice, and after healing one of them leaves at once.
#[test]
fn i1_a_split_repeats_no_iv() {
    scenario(OURS_NEEDS, || {
        let lab = Lab::new()?;
        let (pair, watch) = start(&lab)?;
        let active = pair.wait_ready()?;
        let mut healed = Duration::ZERO;
        let event = watch.during("split for 3 s", || {
            pair.net.split()?;
            pair.wait_role(1 - active, "active")?;
            thread::sleep(Duration::from_secs(3)); // the length of the split is the scenario
            pair.net.heal_split()?;
            healed = now();
            thread::sleep(Duration::from_secs(1)); // what must not happen takes no defined time
            Ok(())
        })?;
        let stays = pair.wait_ready()?;
        let evidence = watch.finish()?;
        let whole = evidence.whole();
        assert_eq!(whole.repeated_ivs, 0, "{whole:?}");
        assert_eq!(whole.negotiation, 0, "{whole:?}");
        let patience = healed + Duration::from_millis(500); // two adverts, on any machine
        assert_eq!(spoke(&evidence, &pair, 1 - stays, patience, &event), 0);
        Ok(())
    });
}

/// Nothing depends on the standby, and it comes back as one.
#[test]
fn a_standby_dies_and_returns_unnoticed() {
    scenario(OURS_NEEDS, || {
        let lab = Lab::new()?;
        let (mut pair, watch) = start(&lab)?;
        let active = pair.wait_ready()?;
        let began = now();
        for _time in 0..3 {
            pair.kill(1 - active)?;
            pair.revive(1 - active)?;
            assert_eq!(pair.wait_ready()?, active);
        }
        watch.wait_steady(now())?;
        let evidence = watch.finish()?;
        lossless(&evidence.within(&(began..now())));
        Ok(())
    });
}

/// A killed daemon leaves no kernel behind that answers for the address.
#[test]
fn i7_the_address_dies_with_the_process() {
    scenario(OURS_NEEDS, || {
        let lab = Lab::new()?;
        let (mut pair, watch) = start(&lab)?;
        let active = pair.wait_ready()?;
        expect_ping(&pair.net.peer, ADDRESS_WAN.into())?;
        pair.kill(1 - active)?;
        pair.kill(active)?;
        let dead = now();
        for (host, device, address) in [
            (&pair.net.peer, "wan", ADDRESS_WAN),
            (&pair.net.lan_host, "lan", ADDRESS_LAN),
        ] {
            host.ip(&format!("neigh flush dev {device}"))?;
            let report = Ping::to(address.into()).count(3).from(host)?;
            assert_eq!(report.received, 0, "{address} is still there");
        }
        let evidence = watch.finish()?;
        let since = dead..Duration::MAX;
        let wan = evidence.wan.claimants(ADDRESS_WAN, since.clone());
        assert!(wan.is_empty(), "{wan:?}");
        let lan = evidence.lan.claimants(ADDRESS_LAN, since);
        assert!(lan.is_empty(), "{lan:?}");
        Ok(())
    });
}

/// A host whose next hop is the standby still reaches the peer: the standby routes to the
/// active node, before and after a takeover.
#[test]
fn the_standby_forwards_to_the_active() {
    scenario(OURS_NEEDS, || {
        let lab = Lab::new()?;
        let pair = Ours::start(&lab, &Settings::default())?;
        for _time in 0..2 {
            let active = pair.wait_ready()?;
            let standby = NODE_LAN[1 - active];
            let host = &pair.net.lan_host;
            host.ip(&format!("route replace default via {standby}"))?;
            expect_ping(host, HOST_PEER)?;
            let watch = Watch::start(&pair.net, PATIENCE)?;
            let began = now();
            watch.wait_steady(began)?;
            lossless(&watch.finish()?.within(&(began..now())));
            pair.switchover(active)?;
        }
        Ok(())
    });
}

/// SAs that were negotiated while in a pair are known to the standby.
#[test]
fn a_takeover_after_a_rekey_is_hot() {
    scenario(OURS_NEEDS, || {
        let lab = Lab::new()?;
        let (mut pair, watch) = start(&lab)?;
        let active = pair.wait_ready()?;
        let before = now();
        pair.peer.rekey_child("net")?;
        pair.peer.reauthenticate("site")?;
        watch.wait_steady(now())?;
        assert_eq!(pair.wait_ready()?, active);
        let rekeyed = now();
        let event = watch.during("kill -9", || pair.kill(active))?;
        let evidence = watch.finish()?;
        assert!(
            evidence.within(&(before..rekeyed)).new_spis >= 1,
            "it was rekeyed"
        );
        assert_eq!(evidence.within(&(before..rekeyed)).lost(), 0);
        unnoticed(&evidence.cost(&event));
        Ok(())
    });
}

/// From now on the records of the pair do not reach this machine; adverts do.
fn hold_records(host: &Host) -> Result<(), LabError> {
    let rules = "table inet wall {
        chain in {
            type filter hook input priority 0
            tcp dport 7410 drop
            tcp sport 7410 drop
        }
    }";
    let file = host.write("wall.nft", rules)?;
    host.run(&format!("nft -f {}", file.display()))?;
    Ok(())
}

/// The sync connection stands still for seconds: the tunnel does not notice, both nodes say
/// that they are not in sync, and are again once it moves.
#[test]
fn a_stalled_sync_connection_harms_nobody() {
    let needs = [OURS_NEEDS, &[NFT]].concat();
    scenario(&needs, || {
        let lab = Lab::new()?;
        let (pair, watch) = start(&lab)?;
        let active = pair.wait_ready()?;
        let began = now();
        let host = &pair.node(1 - active).host;
        hold_records(host)?;
        wait_for("the active node to miss the standby", PATIENCE, || {
            Ok((!pair.pair_status(active)?.in_sync).then_some(()))
        })?;
        host.run("nft delete table inet wall")?;
        assert_eq!(pair.wait_ready()?, active);
        watch.wait_steady(now())?;
        lossless(&watch.finish()?.within(&(began..now())));
        Ok(())
    });
}

/// Adverts pass, records do not: the standby knows that it knows nothing, says so, and
/// negotiates anew when it has to take over.
#[test]
fn a_standby_without_records_takes_over_cold() {
    let needs = [OURS_NEEDS, &[NFT]].concat();
    scenario(&needs, || {
        let lab = Lab::new()?;
        let mut pair = Ours::prepare(&lab, &Settings::default())?;
        hold_records(&pair.node(1).host)?;
        pair.revive(0)?;
        pair.wait_role(0, "active")?;
        pair.daemon(0)?.wait_up("site")?;
        pair.revive(1)?;
        let status = pair.wait_role(1, "standby")?;
        assert!(!status.takeover.hot, "{status:?}");
        assert!(!status.takeover.reasons.is_empty(), "{status:?}");
        let watch = Watch::start(&pair.net, PATIENCE)?;
        let event = watch.during("kill -9", || pair.kill(0))?;
        let evidence = watch.finish()?;
        let cost = evidence.cost(&event);
        println!("cold: {cost:?}");
        assert!(cost.negotiation >= 9 && cost.new_spis >= 1, "{cost:?}");
        assert_eq!((cost.repeated_ivs, cost.contested), (0, 0), "{cost:?}");
        assert!(cost.gap() < SANE, "{cost:?}");
        pair.peer.wait_installed(1, vipsec::UP)?;
        Ok(())
    });
}

/// Two secrets: each node says so, and the one that came second does not fight for the
/// address.
#[test]
fn nodes_with_different_secrets_say_so() {
    scenario(OURS_NEEDS, || {
        let mut settings = Settings::default();
        settings.secrets[1] = "aN0ther-Secr3t-0f-th3-pair-4711".to_owned();
        let lab = Lab::new()?;
        let mut pair = Ours::prepare(&lab, &settings)?;
        pair.revive(0)?;
        pair.wait_role(0, "active")?;
        Ping::to(HOST_PEER).until_answered(&pair.net.lan_host, vipsec::UP)?;
        let watch = Watch::start(&pair.net, PATIENCE)?;
        let began = now();
        pair.revive(1)?;
        for index in [0, 1] {
            let daemon = pair.daemon(index)?;
            wait_for("words about the secret", PATIENCE, || {
                Ok(daemon.log().contains("secret").then_some(()))
            })?;
        }
        watch.wait_steady(now())?;
        let cost = watch.finish()?.within(&(began..now()));
        lossless(&cost);
        assert_eq!(pair.pair_status(0)?.role, "active");
        Ok(())
    });
}

/// Somebody else has the address already: the node says so, and does not fight for it.
#[test]
fn an_address_in_use_is_not_fought_for() {
    scenario(OURS_NEEDS, || {
        let lab = Lab::new()?;
        let mut pair = Ours::prepare(&lab, &Settings::default())?;
        let stranger = pair.net.stranger(&lab, ADDRESS_WAN)?;
        expect_ping(&pair.net.peer, ADDRESS_WAN.into())?;
        let capture = netns_tests::probe::Capture::start(pair.net.wan.host(), "wan", "arp")?;
        pair.revive(0)?;
        let daemon = pair.daemon(0)?;
        wait_for("words about the address", PATIENCE, || {
            Ok(daemon.log().contains("in use").then_some(()))
        })?;
        thread::sleep(Duration::from_secs(1)); // what it must not do takes no defined time
        let wire = netns_tests::probe::Wire::read(&capture.finish_busy()?)?;
        let claimants = wire.claimants(ADDRESS_WAN, Duration::ZERO..Duration::MAX);
        let ours = pair.node(0).wan_card;
        assert!(!claimants.contains_key(&ours), "{claimants:?}");
        drop(stranger);
        Ok(())
    });
}

/// What was said once on the path between the nodes is said again, and garbage as well: both
/// are counted, and nobody changes its role.
#[test]
fn i5_replayed_and_forged_adverts_change_nothing() {
    scenario(OURS_NEEDS, || {
        let lab = Lab::new()?;
        let (pair, watch) = start(&lab)?;
        let active = pair.wait_ready()?;
        adverts::repeat(&pair, active)?;
        let began = now();
        watch.wait_steady(began)?;
        assert_eq!(pair.wait_ready()?, active);
        lossless(&watch.finish()?.within(&(began..now())));
        Ok(())
    });
}

mod adverts {
    //! Adverts of one node, recorded and sent again to the other.

    use std::net::{Ipv4Addr, SocketAddrV4};
    use std::time::Duration;

    use netns_tests::LabError;
    use netns_tests::lab::wait_for;
    use netns_tests::pair::Ours;
    use netns_tests::probe::{Capture, Forger, Noise, pcap};

    const PORT: u16 = 7410;

    pub(super) fn repeat(pair: &Ours, active: usize) -> Result<(), LabError> {
        let host = &pair.node(active).host;
        let capture = Capture::start(host, "sync0", "udp port 7410")?;
        let own = format!("10.99.0.{}", active + 1);
        let own: Ipv4Addr = own
            .parse()
            .map_err(|_| LabError::unreadable("address", &own))?;
        let packets = capture.wait_for("adverts of the active node", |packets| {
            let sent = packets.iter().filter(|packet| packet.source == own);
            let sent: Vec<_> = sent.filter_map(pcap::IpPacket::udp).collect();
            (sent.len() >= 20).then_some(sent)
        })?;
        let to = SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, u8::from(active == 0) + 1), PORT);
        let forger = Forger::new(host, own)?;
        let mut noise = Noise::new(7);
        let refused = || -> Result<u64, LabError> {
            let status = pair.daemon(1 - active)?.status()?;
            Ok(status
                .counters
                .get("pair")
                .map_or(0, |room| room.values().sum()))
        };
        let before = refused()?;
        for packet in &packets {
            forger.udp(PORT, to, &packet.payload)?;
            let mut torn = packet.payload.clone();
            torn.truncate(torn.len() / 2);
            forger.udp(PORT, to, &torn)?;
            forger.udp(PORT, to, &noise.bytes(packet.payload.len()))?;
        }
        let all = 3 * packets.len() as u64;
        wait_for(
            "every refusal to be counted",
            Duration::from_secs(5),
            || Ok((refused()? >= before + all).then_some(())),
        )
    }
}
