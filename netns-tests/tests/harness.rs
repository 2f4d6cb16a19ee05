//! The lab itself, before any of our own code is in it: a probe that lies would make every
//! other scenario worthless.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use netns_tests::lab::{Bridge, Host, wait_for};
use netns_tests::need::{DUMPCAP, PING, TSHARK};
use netns_tests::pair::{NODE_LAN, NODE_WAN, Pair};
use netns_tests::peer::{StrongSwan, swan};
use netns_tests::probe::{Amount, Bulk, Capture, Numbered, Ping, Tshark, connect};
use netns_tests::topology::{
    A_HIDDEN, A_NET, A_NET6, A_WAN, B_NET, B_NET6, B_WAN, HOST_A, HOST_B, HOST_B6, NAT_WAN,
};
use netns_tests::tunnel::{expect_ping, expect_pings};
use netns_tests::{BehindNat, Lab, LabError, Need, TwoSites, need, scenario};
use rustix::net::sockopt::tcp_congestion;

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

/// Two labs with the same names and addresses do not meet.
#[test]
fn two_labs_stand_side_by_side() {
    scenario(&[PING], || {
        let one = TwoSites::new(&Lab::new()?)?;
        let two = TwoSites::new(&Lab::new()?)?;
        assert_ne!(one.gw_a.directory(), two.gw_a.directory());
        one.wan.pull()?;
        let to_b = Ping::to(B_WAN.parse()?).count(1);
        assert_eq!(to_b.from(&one.gw_a)?.received, 0);
        assert!(to_b.from(&two.gw_a)?.is_complete());
        one.wan.replug()?;
        to_b.until_answered(&one.gw_a, Duration::from_secs(5))?;
        Ok(())
    });
}

/// Each stream may use any congestion control that the kernel has, also those that a namespace
/// may not be set to.
#[test]
fn a_stream_uses_the_congestion_control_it_is_told() {
    scenario(&[], || {
        let host = Lab::new()?.host("alone")?;
        let list = "/proc/sys/net/ipv4/tcp_available_congestion_control";
        let names = std::fs::read_to_string(list).map_err(LabError::at(list))?;
        let listener = host.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let listener = listener.map_err(LabError::at("listen"))?;
        let address = listener.local_addr().map_err(LabError::at("listen"))?;
        let open = |name| host.enter(|| connect(&address, Duration::from_secs(5), Some(name)))?;
        for name in names.split_whitespace() {
            let used = tcp_congestion(open(name)?).map_err(std::io::Error::from);
            assert_eq!(used.map_err(LabError::at("ask"))?, name);
        }
        let refused = open("none-such").unwrap_err();
        assert!(refused.to_string().contains("none-such"), "{refused}");
        Ok(())
    });
}

/// A process dies with its handle, and its files are not in the machine's own `/run`.
#[test]
fn processes_end_with_their_handle() {
    scenario(&[], || {
        let host = Lab::new()?.host("alone")?;
        let mut command = host.command("sleep");
        command.arg("1000");
        let sleeper = host.spawn("sleep", command)?;
        let entry = format!("/proc/{}", sleeper.pid());
        assert!(std::path::Path::new(&entry).exists());
        drop(sleeper);
        assert!(!std::path::Path::new(&entry).exists());
        host.run("touch /run/mark")?;
        assert!(host.directory().join("run/mark").exists());
        assert!(!std::path::Path::new("/run/mark").exists());
        Ok(())
    });
}

/// ```text
///   one ──┐
///        switch ── three
///   two ──┘
/// ```
#[test]
fn a_bridge_joins_its_ports() {
    scenario(&[PING], || {
        let lab = Lab::new()?;
        let switch = Bridge::new(&lab.host("switches")?, "wan")?;
        let mut hosts = Vec::new();
        for (number, name) in ["one", "two", "three"].into_iter().enumerate() {
            let host = lab.host(name)?;
            switch.plug(&host, "lan")?;
            host.address("lan", &format!("192.0.2.{}/24", number + 1))?;
            hosts.push(host);
        }
        let patience = Duration::from_secs(5);
        Ping::to("192.0.2.3".parse()?).until_answered(&hosts[0], patience)?;
        Ping::to("192.0.2.3".parse()?).until_answered(&hosts[1], patience)?;
        Ok(())
    });
}

/// The numbered probe counts what a pulled cable takes away, and sees the gap.
#[test]
fn the_numbered_probe_sees_loss() {
    scenario(&[PING], || {
        let sites = TwoSites::new(&Lab::new()?)?;
        let to = B_WAN.parse()?;
        let clean = Numbered::start(&sites.gw_a, &sites.gw_b, to, 500)?;
        std::thread::sleep(Duration::from_millis(300)); // the probe's own duration
        let clean = clean.finish()?;
        assert!(clean.sent >= 50, "{clean:?}");
        assert_eq!((clean.lost(), clean.duplicates), (0, 0), "{clean:?}");

        let probe = Numbered::start(&sites.gw_a, &sites.gw_b, to, 500)?;
        std::thread::sleep(Duration::from_millis(100)); // the probe's own duration
        sites.wan.pull()?;
        std::thread::sleep(Duration::from_millis(200)); // the gap that is to be seen
        sites.wan.replug()?;
        Ping::to(to).until_answered(&sites.gw_a, Duration::from_secs(5))?;
        std::thread::sleep(Duration::from_millis(50)); // the probe's own duration
        let broken = probe.finish()?;
        assert!(broken.lost() >= 20, "{broken:?}");
        assert!(broken.received >= 20, "{broken:?}");
        assert!(
            broken.longest_gap >= Duration::from_millis(190),
            "{broken:?}"
        );
        Ok(())
    });
}

/// A capture holds what crossed, and tshark reads it.
#[test]
fn a_capture_is_read_by_tshark() {
    scenario(&[PING, DUMPCAP, TSHARK], || {
        let sites = TwoSites::new(&Lab::new()?)?;
        let capture = Capture::start(&sites.gw_b, "wan", "icmp")?;
        Ping::to(B_WAN.parse()?).count(4).from(&sites.gw_a)?;
        let file = capture.finish()?;
        assert_eq!(Tshark::read(&file).count("icmp.type == 8")?, 4);
        Ok(())
    });
}

/// host-a ── gw-a (charon) ══ gw-b (charon) ── host-b
#[test]
fn strongswan_to_strongswan() {
    scenario(&[PING, Need::Tun, Need::StrongSwan], || {
        let sites = TwoSites::new(&Lab::new()?)?;
        let a = swan::Connection::new(A_WAN, B_WAN, A_NET, B_NET);
        let b = swan::Connection::new(B_WAN, A_WAN, B_NET, A_NET);
        let left = StrongSwan::default().start(&sites.gw_a, &[a])?;
        let right = StrongSwan::default().start(&sites.gw_b, &[b])?;
        left.initiate("net")?;
        let ours = left.wait_installed(1, Duration::from_secs(5))?;
        let theirs = right.wait_installed(1, Duration::from_secs(5))?;
        assert_eq!(ours[0].spi_out, theirs[0].spi_in);
        Ping::to(HOST_B).until_answered(&sites.host_a, Duration::from_secs(5))?;
        let report = Ping::to(HOST_B).count(10).from(&sites.host_a)?;
        assert!(report.is_complete(), "{report:?}");
        let bulk = Bulk::to(HOST_B, Amount::Bytes(5_000_000)).run(&sites.host_a, &sites.host_b)?;
        assert_eq!(bulk.bytes, 5_000_000);
        wait_for("strongSwan's byte counter", Duration::from_secs(5), || {
            let children = right.installed()?;
            Ok((children[0].bytes_in > 5_000_000).then_some(()))
        })?;
        Ok(())
    });
}

/// Everything else that a scenario asks of strongSwan, asked of two of them: a scenario that
/// fails then fails because of us.
#[test]
fn strongswan_does_what_scenarios_ask_of_it() {
    scenario(&[PING, Need::Tun, Need::StrongSwan], || {
        for (left, right, target) in [
            (A_NET6, B_NET6, HOST_B6.parse()?),
            ("0.0.0.0/0", "0.0.0.0/0", HOST_B),
        ] {
            let sites = TwoSites::new(&Lab::new()?)?;
            let a = swan::Connection::new(A_WAN, B_WAN, left, right);
            let b = swan::Connection::new(B_WAN, A_WAN, right, left);
            let a = StrongSwan::default().start(&sites.gw_a, &[a])?;
            let _b = StrongSwan::default().start(&sites.gw_b, &[b])?;
            a.initiate("net")?;
            expect_ping(&sites.host_a, target)?;
        }
        let sites = TwoSites::new(&Lab::new()?)?;
        let azure = |local, remote| swan::Connection::azure(local, remote);
        let a = StrongSwan::default().start(&sites.gw_a, &[azure(A_WAN, B_WAN)])?;
        let b = StrongSwan::default().start(&sites.gw_b, &[azure(B_WAN, A_WAN)])?;
        a.initiate("net")?;
        expect_pings(&sites)?;
        a.rekey_child("net")?;
        a.reauthenticate("site")?;
        expect_pings(&sites)?;
        a.terminate("site")?;
        b.wait_installed(0, Duration::from_secs(5))?;
        Ok(())
    });
}

/// The same through a NAT, with identities that are names.
#[test]
fn strongswan_to_strongswan_through_a_nat() {
    scenario(&[PING, need::NFT, Need::Tun, Need::StrongSwan], || {
        let a = swan::Connection {
            local_id: "a.example".to_owned(),
            remote_id: "b.example".to_owned(),
            encap: false,
            ..swan::Connection::new(A_HIDDEN, B_WAN, A_NET, B_NET)
        };
        let b = swan::Connection {
            local_id: "b.example".to_owned(),
            remote_id: "a.example".to_owned(),
            encap: false,
            ..swan::Connection::new(B_WAN, NAT_WAN, B_NET, A_NET)
        };
        for port_mapping in [false, true] {
            let net = BehindNat::new(&Lab::new()?, port_mapping)?;
            let left = StrongSwan::default().start(&net.gw_a, std::slice::from_ref(&a))?;
            let right = StrongSwan::default().start(&net.gw_b, std::slice::from_ref(&b))?;
            if port_mapping {
                right.initiate("net")?;
            } else {
                left.initiate("net")?;
            }
            expect_ping(&net.host_a, HOST_B)?;
            expect_ping(&net.host_b, HOST_A)?;
        }
        Ok(())
    });
}

/// A muted cable carries nothing and keeps its carrier; isolated ports do not hear each other,
/// and everybody else hears both.
#[test]
fn the_network_of_a_pair_breaks_as_told() {
    scenario(&[PING], || {
        let net = Pair::new(&Lab::new()?)?;
        let [a, b] = &net.nodes;
        let answers = |from: &Host, to: Ipv4Addr| -> Result<bool, LabError> {
            let ping = Ping::to(to.into()).count(2);
            Ok(ping.from(from)?.received > 0)
        };
        let patience = Duration::from_secs(5);
        let reach = |from: &Host, to: Ipv4Addr| Ping::to(to.into()).until_answered(from, patience);
        reach(&a.host, NODE_LAN[1])?;
        reach(&net.lan_host, NODE_LAN[0])?;
        reach(&net.lan_host, NODE_LAN[1])?;
        reach(&net.peer, NODE_WAN[0])?;
        net.split()?;
        assert!(!answers(&a.host, NODE_LAN[1])?, "split on the LAN");
        assert!(
            !answers(&b.host, "10.99.0.1".parse()?)?,
            "split on the sync link"
        );
        assert!(answers(&net.lan_host, NODE_LAN[0])? && answers(&net.lan_host, NODE_LAN[1])?);
        assert!(answers(&net.peer, NODE_WAN[0])? && answers(&net.peer, NODE_WAN[1])?);
        net.heal_split()?;
        reach(&a.host, NODE_LAN[1])?;
        a.vanish()?;
        assert!(!answers(&net.lan_host, NODE_LAN[0])? && !answers(&net.peer, NODE_WAN[0])?);
        assert!(!answers(&a.host, NODE_LAN[1])?);
        let links = a.host.ip("-br link")?.stdout;
        assert_eq!(links.matches("LOWER_UP").count(), 4, "with lo: {links}");
        a.reappear()?;
        reach(&net.peer, NODE_WAN[0])?;
        a.wan.pull()?;
        let links = a.host.ip("-br link show dev wan0")?.stdout;
        assert!(!links.contains("LOWER_UP"), "{links}");
        a.wan.replug()?;
        reach(&net.peer, NODE_WAN[0])?;
        Ok(())
    });
}
