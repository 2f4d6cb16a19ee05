//! A pair in a bad world: full disks, a wrong clock, a partner of another version, intruders,
//! a sync connection that stands still, peers that one node cannot reach.
//!
//! ```text
//!   peer ──────── wan switch ─┬─ gw-a ─┬─ lan switch ─┬─ lan-host
//!                   stranger ─┤        │              └─ intruder
//!                             └─ gw-b ─┘
//! ```

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::time::Duration;

use netns_tests::lab::{Host, now, wait_for};
use netns_tests::need::{NFT, Need, libfaketime};
use netns_tests::pair::{
    ADDRESS_WAN, NODE_LAN, OURS_NEEDS, Ours, PEER_WAN, SANE, Settings, Watch, lossless, unnoticed,
};
use netns_tests::peer::{swan, vipsec};
use netns_tests::probe::pcap::{self, Arp};
use netns_tests::probe::{Capture, Forger, Noise, Ping, Wire};
use netns_tests::topology::B_NET;
use netns_tests::{Lab, LabError, scenario};

/// No event may take longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);
const PORT: u16 = 7410;

fn counter(pair: &Ours, index: usize, name: &str) -> Result<u64, LabError> {
    Ok(pair.daemon(index)?.status()?.counter(name))
}

/// Waits until a node has said something.
fn wait_said(pair: &Ours, index: usize, words: &str) -> Result<(), LabError> {
    let daemon = pair.daemon(index)?;
    let what = format!("{words:?} in the log of node {index}");
    wait_for(&what, PATIENCE, || {
        Ok(daemon.log().contains(words).then_some(()))
    })
}

/// Rules of the packet filter on a machine, in a table that is removed as a whole.
fn rule(host: &Host, chains: &str) -> Result<(), LabError> {
    let file = host.write("fault.nft", &format!("table inet fault {{\n{chains}\n}}\n"))?;
    host.run(&format!("nft -f {}", file.display()))?;
    Ok(())
}

const SECOND: &str = "
[[connection]]
name = \"second\"
local = \"203.0.113.1\"
remote = \"203.0.113.77\"
psk_file = \"0.psk\"
start = \"respond\"
[connection.vti]
device = \"vti-second\"
[[connection.selector]]
local = \"10.1.0.0/16\"
remote = \"10.7.0.0/16\"
";

/// The partner's connections cannot be written down: they run all the same, the file is what it
/// was, and both the log and a counter say so. When there is room they are.
#[test]
fn connections_that_cannot_be_stored_run_all_the_same() {
    scenario(OURS_NEEDS, || {
        let lab = Lab::new()?;
        let disk = lab.disk("gw-b/shared", 64)?;
        let settings = Settings {
            shared: true,
            ..Settings::default()
        };
        let mut pair = Ours::start(&lab, &settings)?;
        assert_eq!(pair.wait_ready()?, 0);
        disk.fill()?;
        let watch = Watch::start(&pair.net, PATIENCE)?;
        let began = now();
        let text = |folder: &Path| fs::read_to_string(folder.join("connections.toml")).unwrap();
        let here = pair.node(0).host.directory().join("shared");
        let before = text(&here);
        fs::write(here.join("connections.toml"), before.clone() + SECOND).unwrap();
        pair.daemon(0)?.run("reload")?;
        wait_said(&pair, 1, "run here but are not on disk")?;
        wait_for("the failure to be counted", PATIENCE, || {
            let count = counter(&pair, 1, "connections_not_stored")?;
            Ok((count > 0).then_some(()))
        })?;
        assert_eq!(text(disk.place()), before, "the old file is whole");
        assert!(!disk.place().join(".connections.toml.new").exists());
        let status = pair.daemon(1)?.status()?;
        assert!(status.connection("second").is_some(), "{status:?}");
        wait_for("the pair to be in sync", PATIENCE, || {
            Ok(pair.pair_status(1)?.takeover.hot.then_some(()))
        })?;
        let edited = now();
        // Its file is the one before: nobody proposes that by mistake.
        let refused = pair.daemon(1)?.attempt("reload")?;
        assert!(
            refused.text().contains("older than what runs"),
            "{refused:?}"
        );
        disk.make_room()?;
        wait_said(&pair, 1, "the connections are on disk now")?;
        assert_eq!(text(disk.place()), before + SECOND);
        let reloaded = pair.daemon(1)?.run("reload")?;
        assert!(
            reloaded.text().contains("nothing has changed"),
            "{reloaded:?}"
        );
        let killed = watch.during("kill -9", || pair.kill(0))?;
        assert!(pair.daemon(1)?.status()?.connection("second").is_some());
        let evidence = watch.finish()?;
        lossless(&evidence.within(&(began..edited)));
        unnoticed(&evidence.cost(&killed));
        Ok(())
    });
}

/// Everything that the active node could write to is full, its log above all: it goes on, and
/// can hand over.
#[test]
fn a_node_whose_disk_is_full_goes_on() {
    scenario(OURS_NEEDS, || {
        let lab = Lab::new()?;
        let disk = lab.disk("gw-a", 512)?;
        let pair = Ours::start(&lab, &Settings::default())?;
        assert_eq!(pair.wait_ready()?, 0);
        let watch = Watch::start(&pair.net, PATIENCE)?;
        disk.fill()?;
        // The log has room to the end of its page, so this takes a few.
        let (mut active, mut unsaid) = (0, false);
        while !unsaid {
            let log = pair.daemon(0)?.log();
            let event = watch.during("planned switchover", || pair.switchover(active))?;
            assert_eq!(pair.wait_ready()?, 1 - active);
            lossless(&watch.cost_so_far(&event)?);
            unsaid = pair.daemon(0)?.log() == log;
            active = 1 - active;
        }
        disk.make_room()?;
        let event = watch.during("planned switchover", || pair.switchover(active))?;
        wait_said(&pair, 0, "a planned switchover was asked for")?;
        assert_eq!(pair.wait_ready()?, 1 - active);
        lossless(&watch.finish()?.cost(&event));
        Ok(())
    });
}

/// Keys for Wireshark that cannot be written: no tunnel waits for them, and who asks for them
/// is told.
#[test]
fn a_key_log_on_a_full_disk_is_refused() {
    scenario(OURS_NEEDS, || {
        let lab = Lab::new()?;
        let disk = lab.disk("gw-a/keys", 64)?;
        let pair = Ours::start(&lab, &Settings::default())?;
        assert_eq!(pair.wait_ready()?, 0);
        let on = format!("keylog on {}", disk.place().display());
        pair.daemon(0)?.run(&on)?;
        disk.fill()?;
        let watch = Watch::start(&pair.net, PATIENCE)?;
        let began = now();
        // A table has room to the end of its page: a few SAs.
        wait_for("the key log to fail", PATIENCE, || {
            pair.peer.rekey_child("net")?;
            let log = pair.daemon(0)?.log();
            Ok(log.contains("key log cannot be written").then_some(()))
        })?;
        pair.daemon(0)?.run("keylog off")?;
        let refused = pair.daemon(0)?.attempt(&on)?;
        assert!(!refused.status.success(), "{refused:?}");
        assert!(refused.text().contains("No space left"), "{refused:?}");
        assert_eq!(pair.wait_ready()?, 0);
        watch.wait_steady(now())?;
        let cost = watch.finish()?.within(&(began..now()));
        assert_eq!(cost.duplicates(), 0, "{cost:?}");
        assert!(cost.gap() < SANE, "{cost:?}");
        Ok(())
    });
}

/// The time of day of one node is a year off: no lifetime is measured by it.
#[test]
fn a_clock_a_year_off_changes_nothing() {
    let needs = [OURS_NEEDS, &[Need::FakeTime]].concat();
    scenario(&needs, || {
        let library = libfaketime().unwrap_or_default().display().to_string();
        let wrong = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME", "+365d"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_DISABLE_SHM", "1"),
        ];
        let wrong = wrong.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = Settings {
            environment: [Vec::new(), wrong.to_vec()],
            ..Settings::default()
        };
        let mut pair = Ours::start(&Lab::new()?, &settings)?;
        let year = |pair: &Ours, index: usize| -> Result<u32, LabError> {
            let log = pair.daemon(index)?.log();
            let year = log.get(..4).and_then(|digits| digits.parse().ok());
            year.ok_or_else(|| LabError::unreadable("the time of a line", &log))
        };
        assert!(year(&pair, 1)? > year(&pair, 0)?, "the clock is wrong");
        let watch = Watch::start(&pair.net, PATIENCE)?;
        let began = now();
        for active in [0, 1] {
            assert_eq!(pair.wait_ready()?, active);
            let event = watch.during("planned switchover", || pair.switchover(active))?;
            assert_eq!(pair.wait_ready()?, 1 - active);
            lossless(&watch.cost_so_far(&event)?);
        }
        let planned = began..now();
        let killed = watch.during("kill -9", || pair.kill(0))?;
        let evidence = watch.finish()?;
        let cost = evidence.within(&planned);
        assert_eq!((cost.ike, cost.new_spis), (0, 0), "{cost:?}");
        unnoticed(&evidence.cost(&killed));
        Ok(())
    });
}

/// Every advert of one node says that it is of another version: both say so, and the one that
/// came second does not fight for the address.
#[test]
fn nodes_of_different_versions_say_so() {
    let needs = [OURS_NEEDS, &[NFT]].concat();
    scenario(&needs, || {
        let mut pair = Ours::prepare(&Lab::new()?, &Settings::default())?;
        pair.revive(0)?;
        pair.wait_role(0, "active")?;
        pair.daemon(0)?.wait_up("site")?;
        // The byte after the four of the magic, which follow the eight of UDP. And no records
        // either: those are encrypted.
        let other = format!("udp dport {PORT} @th,96,8 set 77; tcp dport {PORT} drop;");
        rule(
            &pair.node(1).host,
            &format!(
                "chain in {{\ntype filter hook input priority 0; {other}\n}}
                 chain out {{\ntype filter hook output priority 0; {other}\n}}"
            ),
        )?;
        let watch = Watch::start(&pair.net, PATIENCE)?;
        let began = now();
        pair.revive(1)?;
        for index in [0, 1] {
            wait_said(&pair, index, "the partner runs another version")?;
            assert!(counter(&pair, index, "advert_version")? > 0);
        }
        watch.wait_steady(now())?;
        lossless(&watch.finish()?.within(&(began..now())));
        assert_eq!(pair.pair_status(0)?.role, "active");
        let second = pair.pair_status(1)?;
        assert!(!second.serving, "{second:?}");
        Ok(())
    });
}

/// All that a node has counted as refused in its part of the pair.
fn refused(pair: &Ours, index: usize) -> Result<u64, LabError> {
    let status = pair.daemon(index)?.status()?;
    let counted = status.counters.get("pair");
    Ok(counted.map_or(0, |room| room.values().sum()))
}

/// A machine on the LAN repeats, tears and forges adverts in the name of either node, and talks
/// to the port of the records: everything is counted, nothing has an effect.
#[test]
fn i5_an_intruder_on_the_lan_has_no_effect() {
    scenario(OURS_NEEDS, || {
        let lab = Lab::new()?;
        let pair = Ours::start(&lab, &Settings::default())?;
        let intruder = lab.host("intruder")?;
        pair.net.lan.plug(&intruder, "lan")?;
        // Its lies about the source stay within the packets: ARP is another story.
        intruder.sysctl("ipv4/conf/all/arp_ignore", "1")?;
        intruder.sysctl("ipv4/conf/all/arp_announce", "2")?;
        intruder.address("lan", "10.1.0.66/16")?;
        let active = pair.wait_ready()?;
        let watch = Watch::start(&pair.net, PATIENCE)?;
        let began = now();
        for victim in [active, 1 - active] {
            let way = (NODE_LAN[1 - victim], NODE_LAN[victim]);
            forge_adverts(&pair, &intruder, victim, way)?;
        }
        forge_records(&pair, &intruder)?;
        watch.wait_steady(now())?;
        assert_eq!(pair.wait_ready()?, active);
        lossless(&watch.finish()?.within(&(began..now())));
        Ok(())
    });
}

fn forge_adverts(
    pair: &Ours,
    intruder: &Host,
    victim: usize,
    (from, to): (Ipv4Addr, Ipv4Addr),
) -> Result<(), LabError> {
    let capture = Capture::start(&pair.node(victim).host, "lan0", "udp port 7410")?;
    let adverts = capture.wait_for("adverts of the partner", |packets| {
        let sent = packets.iter().filter(|packet| packet.source == from);
        let sent: Vec<_> = sent.filter_map(pcap::IpPacket::udp).collect();
        (sent.len() >= 10).then_some(sent)
    })?;
    intruder.ip(&format!("address add {from}/32 dev lo"))?;
    let forger = Forger::new(intruder, from)?;
    let (mut noise, before) = (Noise::new(11), refused(pair, victim)?);
    let to = SocketAddrV4::new(to, PORT);
    for advert in &adverts {
        forger.udp(PORT, to, &advert.payload)?;
        let torn = advert.payload.get(..advert.payload.len() / 2);
        forger.udp(PORT, to, torn.unwrap_or_default())?;
        forger.udp(PORT, to, &noise.bytes(advert.payload.len()))?;
        let mut changed = advert.payload.clone();
        if let Some(last) = changed.last_mut() {
            *last ^= 1;
        }
        forger.udp(PORT, to, &changed)?;
    }
    intruder.ip(&format!("address del {from}/32 dev lo"))?;
    let all = 4 * adverts.len() as u64;
    wait_for("every forgery to be counted", PATIENCE, || {
        Ok((refused(pair, victim)? >= before + all).then_some(()))
    })
}

/// Node A listens. A stranger is hung up on; who has the partner's address still has to know
/// the secret.
fn forge_records(pair: &Ours, intruder: &Host) -> Result<(), LabError> {
    let to = SocketAddrV4::new(NODE_LAN[0], PORT);
    let mut noise = Noise::new(13);
    for (host, name) in [
        (intruder, "sync_strangers"),
        (&pair.node(1).host, "sync_other_secret"),
    ] {
        let before = counter(pair, 0, name)?;
        let mut stream = host
            .enter(|| TcpStream::connect(to))?
            .map_err(LabError::at("reach the port of the records"))?;
        // The length of a first message that fits, and then something else.
        let words = [&[0, 48][..], &noise.bytes(4096)].concat();
        // It may have hung up already.
        let _unheard = stream.write_all(&words);
        stream
            .set_read_timeout(Some(PATIENCE))
            .map_err(LabError::at("set a time-out"))?;
        let answer = stream.read(&mut [0; 64]);
        assert!(!matches!(answer, Ok(1..)), "no answer: {answer:?}");
        wait_for(name, PATIENCE, || {
            Ok((counter(pair, 0, name)? > before).then_some(()))
        })?;
    }
    Ok(())
}

/// How often a node says after a takeover that it has an address, at least: six times a question
/// and an answer, within three seconds. It begins anew when the standby has everything.
const ANNOUNCEMENTS: usize = 12;

/// Between the last two of the six are two seconds, between the others one at most.
const LAST_GAP: Duration = Duration::from_millis(1500);

/// A third machine takes the address of a running pair: it is named in the log and counted,
/// and the active node neither leaves nor shouts it down.
#[test]
fn a_third_machine_with_the_address_is_named() {
    scenario(OURS_NEEDS, || {
        let lab = Lab::new()?;
        let mut pair = Ours::prepare(&lab, &Settings::default())?;
        let capture = Capture::start(pair.net.wan.host(), "wan", "arp")?;
        pair.revive(0)?;
        pair.wait_role(0, "active")?;
        pair.revive(1)?;
        assert_eq!(pair.wait_ready()?, 0);
        let ready = now();
        let ours = pair.node(0).wan_card;
        let unasked = |wire: &Wire| -> Vec<Duration> {
            let about = |arp: Arp| arp.sender == ADDRESS_WAN && arp.target == ADDRESS_WAN;
            let claims = wire.claims.iter();
            claims
                .filter(|one| one.from == ours && about(one.arp))
                .map(|one| one.at)
                .collect()
        };
        // A count alone is passed on the way where the first six were cut short.
        let announced = wait_for("the announcements of its own takeover", PATIENCE, || {
            let all = unasked(&Wire::read(capture.file())?);
            Ok(match all.as_slice() {
                [.., before, question, answer] => {
                    let is_last = *question > ready && *question - *before > LAST_GAP;
                    (is_last && answer > question).then_some(all.len())
                }
                _ => None,
            })
        })?;
        assert!(announced >= ANNOUNCEMENTS, "{announced}");
        let stranger = pair.net.stranger(&lab, ADDRESS_WAN)?;
        // The switch floods everything: the active node hears the answers of the other one.
        let switch = pair.net.wan.host();
        switch.ip("link set wan type bridge ageing_time 0 fdb_flush")?;
        pair.net.peer.ip("neigh flush dev wan")?;
        Ping::to(ADDRESS_WAN.into()).from(&pair.net.peer)?;
        wait_said(&pair, 0, "another machine answers for the virtual address")?;
        assert!(counter(&pair, 0, "address_conflicts")? > 0);
        assert_eq!(pair.pair_status(0)?.role, "active");
        let wire = Wire::read(&capture.finish_busy()?)?;
        assert_eq!(unasked(&wire).len(), announced, "it shouts");
        drop(stranger);
        Ok(())
    });
}

/// So many quick modes that their records fill many frames.
const CHILDREN: u8 = 30;

fn many_sas() -> Settings {
    let mut settings = Settings::default();
    for number in 0..CHILDREN {
        let net = format!("10.1.{}.0/24", 100 + number);
        let selector = vipsec::Selector::new(&net, B_NET);
        settings.connection = settings.connection.selector(selector);
        let child = swan::Child::new(&format!("net-{number}"), B_NET, &net);
        settings.peer = settings.peer.child(child);
    }
    settings
}

/// The snapshot of many SAs stops in the middle: the standby knows that it has only a part, the
/// tunnels do not notice, and once the connection moves it has them all.
#[test]
fn a_snapshot_that_stalls_in_the_middle_harms_nobody() {
    let needs = [OURS_NEEDS, &[NFT]].concat();
    scenario(&needs, || {
        let settings = many_sas();
        let mut pair = Ours::prepare(&Lab::new()?, &settings)?;
        pair.revive(0)?;
        pair.wait_role(0, "active")?;
        wait_for("all SAs", PATIENCE, || {
            let connection = pair.daemon(0)?.connection("site")?;
            let all = connection.in_use().count() > usize::from(CHILDREN);
            Ok(all.then_some(()))
        })?;
        let watch = Watch::start(&pair.net, PATIENCE)?;
        let began = now();
        let quota = format!("tcp sport {PORT} quota over 6 kbytes counter drop;");
        let host = pair.node(1).host.clone();
        rule(
            &host,
            &format!("chain in {{\ntype filter hook input priority 0; {quota}\n}}"),
        )?;
        pair.revive(1)?;
        pair.wait_role(1, "standby")?;
        wait_for("the snapshot to stall", PATIENCE, || {
            let seen = host.run("nft list table inet fault")?.stdout;
            Ok((!seen.contains("packets 0 ")).then_some(()))
        })?;
        let status = pair.pair_status(1)?;
        assert!(!status.takeover.hot && !status.in_sync, "{status:?}");
        assert!(
            pair.daemon(0)?
                .attempt("switchover")?
                .text()
                .contains("sync")
        );
        host.run("nft delete table inet fault")?;
        assert_eq!(pair.wait_ready()?, 0);
        let event = watch.during("planned switchover", || pair.switchover(0))?;
        let known = pair.daemon(1)?.connection("site")?.in_use().count();
        assert_eq!(known, usize::from(CHILDREN) + 1);
        let evidence = watch.finish()?;
        lossless(&evidence.within(&(began..event.settled)));
        Ok(())
    });
}

/// With a path check, and DPD that takes three seconds.
fn checked() -> Settings {
    let mut settings = Settings {
        extra: format!("path_check = [\"{PEER_WAN}\"]"),
        ..Settings::default()
    };
    "[connection.dpd]\naction = \"restart\"\ndelay = \"1s\"\nretry = \"1s\"\nmax_failures = 2\n"
        .clone_into(&mut settings.connection.extra_tables);
    settings
}

fn says_unreachable(pair: &Ours, index: usize) -> Result<(), LabError> {
    wait_for("the node to miss the peers", PATIENCE, || {
        let failed = pair.pair_status(index)?.failed;
        let missed = failed.iter().any(|name| name == "peers-reachable");
        Ok(missed.then_some(()))
    })
}

/// The active node alone does not reach the peer, and all its links are up: DPD gives the peer
/// up, and the partner, which reaches it, takes over.
#[test]
fn a_node_that_cannot_reach_its_peers_gives_up() {
    scenario(OURS_NEEDS, || {
        let pair = Ours::start(&Lab::new()?, &checked())?;
        let active = pair.wait_ready()?;
        let watch = Watch::start(&pair.net, PATIENCE)?;
        pair.net.cut_off_from_peer(pair.node(active), true)?;
        pair.wait_role(1 - active, "active")?;
        says_unreachable(&pair, active)?;
        wait_said(&pair, active, "the peers cannot be reached from here")?;
        watch.wait_steady(now())?;
        pair.net.cut_off_from_peer(pair.node(active), false)?;
        assert_eq!(pair.wait_ready()?, 1 - active, "who took over stays");
        assert_eq!(watch.finish()?.whole().repeated_ivs, 0);
        Ok(())
    });
}

/// A standby that could not reach the peer either does not take over, until it can.
#[test]
fn a_standby_that_cannot_reach_the_peers_stays_one() {
    scenario(OURS_NEEDS, || {
        let mut pair = Ours::start(&Lab::new()?, &checked())?;
        let active = pair.wait_ready()?;
        let standby = 1 - active;
        let watch = Watch::start(&pair.net, PATIENCE)?;
        pair.net.cut_off_from_peer(pair.node(standby), true)?;
        says_unreachable(&pair, standby)?;
        let refused = pair.daemon(active)?.attempt("switchover")?;
        assert!(!refused.status.success(), "{refused:?}");
        pair.kill(active)?;
        wait_for("the standby to hear of the death", PATIENCE, || {
            let why = pair.pair_status(standby)?;
            Ok((!why.in_sync).then_some(()))
        })?;
        // What it must not do takes no defined time.
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(pair.pair_status(standby)?.role, "standby");
        pair.net.cut_off_from_peer(pair.node(standby), false)?;
        pair.wait_role(standby, "active")?;
        watch.wait_steady(now())?;
        assert_eq!(watch.finish()?.whole().repeated_ivs, 0);
        Ok(())
    });
}
