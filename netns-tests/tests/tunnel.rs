//! A tunnel comes up, whoever starts it, and carries what hosts send.
//!
//! ```text
//!   host-a ───── gw-a ══════════════ gw-b ───── host-b
//!  10.1.0.2     vipsec   (WAN)      strongSwan  10.2.0.2
//! ```

use std::net::UdpSocket;
use std::time::Duration;

use netns_tests::lab::wait_for;
use netns_tests::peer::{StrongSwan, Vipsec, swan, vipsec};
use netns_tests::probe::{Amount, Bulk, Numbered, Ping};
use netns_tests::topology::{A_NET6, A_WAN, B_NET6, B_WAN, HOST_A, HOST_A6, HOST_B, HOST_B6};
use netns_tests::tunnel::{
    AGAINST_OURSELVES, AGAINST_STRONGSWAN, AgainstOurselves, AgainstStrongSwan, FIRST_PACKET,
    expect_ping, expect_pings, policy_a, route_a, swan_policy_b, swan_route_b,
};
use netns_tests::{Lab, TwoSites, need, scenario};
use rustix::process::Signal;

#[test]
fn we_initiate() {
    scenario(AGAINST_STRONGSWAN, || {
        let pair = AgainstStrongSwan::start(&policy_a(), &swan_policy_b())?;
        let status = pair.we_initiate()?;
        assert_eq!(status.ike_sas.len(), 1);
        assert_eq!(status.ike_sas[0].role, "initiator");
        pair.expect_traffic()?;
        Ok(())
    });
}

#[test]
fn strongswan_initiates() {
    scenario(AGAINST_STRONGSWAN, || {
        let pair = AgainstStrongSwan::start(&policy_a(), &swan_policy_b())?;
        let status = pair.they_initiate()?;
        assert_eq!(status.ike_sas.len(), 1);
        assert_eq!(status.ike_sas[0].role, "responder");
        pair.expect_traffic()?;
        Ok(())
    });
}

/// `start = "on-start"` needs no command.
#[test]
fn on_start_comes_up_by_itself() {
    scenario(AGAINST_STRONGSWAN, || {
        let pair = AgainstStrongSwan::start(&policy_a().start("on-start"), &swan_policy_b())?;
        pair.ours.wait_up("site")?;
        pair.expect_traffic()?;
        Ok(())
    });
}

/// `start = "on-traffic"`: idle until a host sends something.
#[test]
fn on_traffic_waits_for_a_packet() {
    scenario(AGAINST_STRONGSWAN, || {
        let pair = AgainstStrongSwan::start(&policy_a().start("on-traffic"), &swan_policy_b())?;
        assert_eq!(pair.ours.connection("site")?.state, "down");
        assert!(pair.theirs.sas()?.is_empty());
        Ping::to(HOST_B).until_answered(&pair.sites.host_a, vipsec::UP)?;
        pair.expect_traffic()?;
        Ok(())
    });
}

/// strongSwan with rekeying switched off announces a lifetime of zero seconds. That is no
/// limit, and no reason to refuse.
#[test]
fn a_peer_without_a_lifetime() {
    scenario(AGAINST_STRONGSWAN, || {
        let mut theirs = swan_policy_b();
        "0".clone_into(&mut theirs.rekey_time);
        for child in &mut theirs.children {
            "0".clone_into(&mut child.rekey_time);
        }
        let pair = AgainstStrongSwan::start(&policy_a(), &theirs)?;
        pair.they_initiate()?;
        pair.expect_traffic()?;
        Ok(())
    });
}

/// 0.0.0.0/0 on both sides, the traffic chosen by our routes.
#[test]
fn route_based() {
    scenario(AGAINST_STRONGSWAN, || {
        let pair = AgainstStrongSwan::start(&route_a(), &swan_route_b())?;
        pair.we_initiate()?;
        pair.expect_traffic()?;
        // An address outside both LANs passes too, once both sides route it.
        pair.sites.host_b.address("lan", "172.16.9.9/32")?;
        pair.sites.gw_b.route("172.16.9.9/32", HOST_B)?;
        pair.sites.gw_a.ip("route add 172.16.9.9/32 dev vti-site")?;
        expect_ping(&pair.sites.host_a, "172.16.9.9".parse()?)?;
        Ok(())
    });
}

#[test]
fn route_based_as_responder() {
    scenario(AGAINST_STRONGSWAN, || {
        let pair = AgainstStrongSwan::start(&route_a(), &swan_route_b())?;
        pair.they_initiate()?;
        pair.expect_traffic()?;
        Ok(())
    });
}

/// Two pairs of prefixes on one connection: two quick modes, each carrying its own traffic.
#[test]
fn policy_based_with_two_selectors() {
    scenario(AGAINST_STRONGSWAN, || {
        let ours = vipsec::Connection::policy_based(A_WAN, B_WAN, "10.1.0.0/24", "10.2.0.0/24")
            .selector(vipsec::Selector::new("10.1.0.0/24", "10.2.9.0/24"));
        let theirs = swan::Connection::new(B_WAN, A_WAN, "10.2.0.0/24", "10.1.0.0/24")
            .child(swan::Child::new("net9", "10.2.9.0/24", "10.1.0.0/24"));
        let pair = AgainstStrongSwan::start(&ours, &theirs)?;
        pair.sites.gw_b.address("lan", "10.2.9.1/24")?;
        pair.sites.host_b.address("lan", "10.2.9.2/24")?;
        pair.ours.bring_up("site")?;
        let children = pair.theirs.wait_installed(2, vipsec::UP)?;
        expect_ping(&pair.sites.host_a, HOST_B)?;
        expect_ping(&pair.sites.host_a, "10.2.9.2".parse()?)?;
        let names: Vec<_> = children.iter().map(|child| child.name.as_str()).collect();
        assert!(
            names.contains(&"net") && names.contains(&"net9"),
            "{names:?}"
        );
        wait_for("traffic in both child SAs", FIRST_PACKET, || {
            let children = pair.theirs.installed()?;
            Ok(children
                .iter()
                .all(|child| child.bytes_in > 0)
                .then_some(()))
        })?;
        Ok(())
    });
}

/// Traffic outside a narrow selector does not enter the tunnel.
#[test]
fn policy_based_keeps_the_rest_out() {
    scenario(AGAINST_STRONGSWAN, || {
        let ours = vipsec::Connection::policy_based(A_WAN, B_WAN, "10.1.0.0/24", "10.2.0.0/24");
        let theirs = swan::Connection::new(B_WAN, A_WAN, "10.2.0.0/24", "10.1.0.0/24");
        let pair = AgainstStrongSwan::start(&ours, &theirs)?;
        pair.we_initiate()?;
        expect_ping(&pair.sites.host_a, HOST_B)?;
        // 10.1.7.7 is on the LAN, and not in the selector.
        pair.sites.host_a.address("lan", "10.1.7.7/16")?;
        let before = pair.theirs.installed()?[0].bytes_in;
        let outcome = pair
            .sites
            .host_a
            .attempt("ping -q -W 1 -c 2 -i 0.1 -I 10.1.7.7 10.2.0.2")?;
        assert!(!outcome.status.success(), "{}", outcome.text());
        assert_eq!(pair.theirs.installed()?[0].bytes_in, before);
        assert!(pair.ours.status()?.counter("no_sa") >= 2);
        Ok(())
    });
}

/// Payloads larger than any MTU: fragments through the tunnel, both ways.
#[test]
fn large_pings_are_fragmented_and_arrive() {
    scenario(AGAINST_STRONGSWAN, || {
        let pair = AgainstStrongSwan::start(&policy_a(), &swan_policy_b())?;
        pair.we_initiate()?;
        expect_pings(&pair.sites)?;
        for size in [1372, 1400, 1472, 1473, 4000, 20_000, 60_000] {
            let report = Ping::to(HOST_B).size(size).from(&pair.sites.host_a)?;
            assert!(report.is_complete(), "{size} bytes: {report:?}");
            let report = Ping::to(HOST_A).size(size).from(&pair.sites.host_b)?;
            assert!(report.is_complete(), "{size} bytes back: {report:?}");
        }
        Ok(())
    });
}

/// Don't-fragment packets above the tunnel's MTU are answered by ICMP with the size that fits.
#[test]
fn path_mtu_is_told() {
    scenario(AGAINST_STRONGSWAN, || {
        let pair = AgainstStrongSwan::start(&policy_a(), &swan_policy_b())?;
        pair.we_initiate()?;
        expect_pings(&pair.sites)?;
        let fits = Ping::to(HOST_B).size(1372).do_not_fragment();
        assert!(fits.from(&pair.sites.host_a)?.is_complete());
        let words = "ping -n -W 1 -c 2 -i 0.1 -M do -s 1373 10.2.0.2";
        let text = pair.sites.host_a.attempt(words)?.text();
        assert!(
            text.contains("mtu = 1400") || text.contains("mtu=1400"),
            "{text}"
        );
        Ok(())
    });
}

/// Every byte of bulk transfers arrives, in both directions.
#[test]
fn tcp_bulk_both_ways() {
    scenario(AGAINST_STRONGSWAN, || {
        let pair = AgainstStrongSwan::start(&policy_a(), &swan_policy_b())?;
        pair.we_initiate()?;
        expect_pings(&pair.sites)?;
        let (a, b) = (&pair.sites.host_a, &pair.sites.host_b);
        let amount = Amount::Bytes(20_000_000);
        assert_eq!(Bulk::to(HOST_B, amount).run(a, b)?.bytes, 20_000_000);
        assert_eq!(Bulk::to(HOST_A, amount).run(b, a)?.bytes, 20_000_000);
        let four = Bulk::to(HOST_B, Amount::Bytes(5_000_000)).streams(4);
        assert_eq!(four.run(a, b)?.bytes, 20_000_000);
        Ok(())
    });
}

/// IPv6 inside an IPv4 tunnel.
#[test]
fn ipv6_inside() {
    scenario(AGAINST_STRONGSWAN, || {
        let ours = vipsec::Connection::policy_based(A_WAN, B_WAN, A_NET6, B_NET6);
        let theirs = swan::Connection::new(B_WAN, A_WAN, B_NET6, A_NET6);
        let pair = AgainstStrongSwan::start(&ours, &theirs)?;
        pair.we_initiate()?;
        expect_ping(&pair.sites.host_a, HOST_B6.parse()?)?;
        expect_ping(&pair.sites.host_b, HOST_A6.parse()?)?;
        // IPv6 routers do not fragment: the first one is lost to learn the path's MTU.
        let large = Ping::to(HOST_B6.parse()?).size(4000);
        large.until_answered(&pair.sites.host_a, FIRST_PACKET)?;
        assert!(large.from(&pair.sites.host_a)?.is_complete());
        let bulk = Bulk::to(HOST_B6.parse()?, Amount::Bytes(5_000_000));
        let moved = bulk.run(&pair.sites.host_a, &pair.sites.host_b)?;
        assert_eq!(moved.bytes, 5_000_000);
        Ok(())
    });
}

/// A peer that presents itself as an Azure route-based gateway does: DH group 2 needs our
/// explicit consent, and the connection is shown as weak.
#[test]
fn an_azure_like_peer() {
    scenario(AGAINST_STRONGSWAN, || {
        let mut ours = route_a().proposals("aes256-sha256-modp1024");
        ours.allow_weak = true;
        let pair = AgainstStrongSwan::start(&ours, &swan::Connection::azure(B_WAN, A_WAN))?;
        pair.they_initiate()?;
        pair.expect_traffic()?;
        pair.ours.down("site")?;
        pair.we_initiate()?;
        pair.expect_traffic()?;
        Ok(())
    });
}

/// ```text
///                        ┌── gw-b (strongSwan) ── host-b  10.2.0.0/16
///   host-a ── gw-a ── switch
///                        └── gw-c (strongSwan) ── host-c  10.3.0.0/16
/// ```
#[test]
fn two_tunnels_at_once() {
    scenario(AGAINST_STRONGSWAN, || {
        let lab = Lab::new()?;
        let wan = netns_tests::lab::Bridge::new(&lab.host("switches")?, "wan")?;
        let (gw_a, host_a) = site(&lab, &wan, 'a', 1)?;
        let (gw_b, host_b) = site(&lab, &wan, 'b', 2)?;
        let (gw_c, host_c) = site(&lab, &wan, 'c', 3)?;
        let swan = |n| {
            let own = format!("203.0.113.{n}");
            let net = format!("10.{n}.0.0/16");
            swan::Connection::new(&own, A_WAN, &net, "10.1.0.0/16")
                .psk(&format!("secret-key-of-site-{n}-x7"))
        };
        let _b = StrongSwan::default().start(&gw_b, &[swan(2)])?;
        let c = StrongSwan::default().start(&gw_c, &[swan(3)])?;
        let ours = |n, name: &str| {
            let remote = format!("203.0.113.{n}");
            let net = format!("10.{n}.0.0/16");
            vipsec::Connection::policy_based(A_WAN, &remote, "10.1.0.0/16", &net)
                .name(name)
                .psk(&format!("secret-key-of-site-{n}-x7"))
        };
        let vipsec = Vipsec::start(&gw_a, &[ours(2, "to-b"), ours(3, "to-c")])?;
        vipsec.bring_up("to-b")?;
        c.initiate("net")?;
        vipsec.wait_up("to-c")?;
        expect_ping(&host_a, "10.2.0.2".parse()?)?;
        expect_ping(&host_a, "10.3.0.2".parse()?)?;
        // One goes, the other does not notice.
        let probe = Numbered::start(&host_a, &host_c, "10.3.0.2".parse()?, 200)?;
        vipsec.down("to-b")?;
        vipsec.wait_state("to-b", "down", vipsec::UP)?;
        vipsec.bring_up("to-b")?;
        expect_ping(&host_b, "10.1.0.2".parse()?)?;
        let report = probe.finish()?;
        assert_eq!(report.lost(), 0, "{report:?}");
        Ok(())
    });
}

/// A gateway on the switch with one host behind it.
fn site(
    lab: &Lab,
    wan: &netns_tests::lab::Bridge,
    letter: char,
    number: u8,
) -> Result<(netns_tests::lab::Host, netns_tests::lab::Host), netns_tests::LabError> {
    let gateway = lab.host(&format!("gw-{letter}"))?;
    let host = lab.host(&format!("host-{letter}"))?;
    wan.plug(&gateway, "wan")?;
    netns_tests::lab::Cable::plug((&host, "lan"), (&gateway, "lan"))?;
    gateway.address("wan", &format!("203.0.113.{number}/24"))?;
    gateway.address("lan", &format!("10.{number}.0.1/16"))?;
    host.address("lan", &format!("10.{number}.0.2/16"))?;
    host.ip(&format!("route add default via 10.{number}.0.1"))?;
    Ok((gateway, host))
}

/// A third of all IKE messages is lost, in both directions: retransmission by whoever started
/// the exchange, and answers to duplicates, bring the tunnel up all the same.
#[test]
fn a_lossy_path_only_delays() {
    let mut needs = AGAINST_STRONGSWAN.to_vec();
    needs.push(need::NFT);
    scenario(&needs, || {
        let mut ours = policy_a();
        // Often and long enough that a run of bad luck (one round trip in two is lost) stays far
        // within the patience of the scenario.
        "[connection.retransmit]\nfirst = \"200ms\"\ngrowth_percent = 120\nceiling = \"1s\"\ntries = 40"
            .clone_into(&mut ours.extra_tables);
        let sites = TwoSites::new(&Lab::new()?)?;
        // With its usual 4 s, doubling, strongSwan would not get through often enough.
        let hasty = StrongSwan {
            extra: "retransmit_timeout = 0.5\nretransmit_base = 1.2\nretransmit_tries = 12"
                .to_owned(),
            ..StrongSwan::default()
        };
        let theirs = hasty.start(&sites.gw_b, &[swan_policy_b()])?;
        let ours = Vipsec::start(&sites.gw_a, &[ours])?;
        let pair = AgainstStrongSwan {
            sites,
            ours,
            theirs,
        };
        // Dropped on arrival, as a network does: a drop on the way out would be told to the
        // sender. ESP shares port 4500; IKE is what begins with four zero bytes there.
        for gateway in [&pair.sites.gw_a, &pair.sites.gw_b] {
            let rules = gateway.write(
                "loss.nft",
                "table ip loss {
                    chain in {
                        type filter hook input priority 0
                        udp dport 500 numgen random mod 100 < 33 drop
                        udp dport 4500 @th,64,32 0 numgen random mod 100 < 33 drop
                    }
                }",
            )?;
            gateway.run(&format!("nft -f {}", rules.display()))?;
        }
        let patience = Duration::from_secs(60);
        pair.ours.up("site")?;
        pair.ours.wait_state("site", "up", patience)?;
        pair.theirs.wait_installed(1, patience)?;
        pair.expect_traffic()?;
        Ok(())
    });
}

/// The last message of quick mode is lost. We think the tunnel is up, strongSwan does not, and
/// repeats its own: that repetition has to be answered by ours.
#[test]
fn the_last_message_is_repeated_when_it_was_lost() {
    let mut needs = AGAINST_STRONGSWAN.to_vec();
    needs.push(need::NFT);
    scenario(&needs, || {
        let pair = AgainstStrongSwan::start(&policy_a(), &swan_policy_b())?;
        // ISAKMP header, hash payload of SHA-256, padding: 76 bytes, 88 with UDP header and
        // marker. The quota is used up by the first one.
        let rules = pair.sites.gw_b.write(
            "loss.nft",
            "table ip loss {
                chain in {
                    type filter hook input priority 0
                    udp dport 4500 udp length 88 quota until 110 bytes counter drop
                }
            }",
        )?;
        pair.sites
            .gw_b
            .run(&format!("nft -f {}", rules.display()))?;
        pair.ours.bring_up("site")?;
        pair.theirs.wait_installed(1, Duration::from_secs(10))?;
        let rules = pair.sites.gw_b.run("nft list ruleset")?.stdout;
        assert!(
            rules.contains("counter packets 1 "),
            "the message was not lost: {rules}"
        );
        pair.expect_traffic()?;
        Ok(())
    });
}

/// Protocol 50 between two of us, without NAT.
#[test]
fn ourselves_over_protocol_50() {
    scenario(AGAINST_OURSELVES, || {
        let pair = AgainstOurselves::start(&policy_a(), &vipsec::Options::default())?;
        let status = pair.bring_up()?;
        assert!(
            status.in_use().all(|sa| sa.encapsulation == "esp"),
            "{status:?}"
        );
        expect_pings(&pair.sites)?;
        let (a, b) = (&pair.sites.host_a, &pair.sites.host_b);
        let amount = Amount::Bytes(20_000_000);
        assert_eq!(Bulk::to(HOST_B, amount).run(a, b)?.bytes, 20_000_000);
        assert_eq!(Bulk::to(HOST_A, amount).run(b, a)?.bytes, 20_000_000);
        let large = Ping::to(HOST_B).size(20_000).from(a)?;
        assert!(large.is_complete(), "{large:?}");
        Ok(())
    });
}

/// The same in UDP 4500 although there is no NAT.
#[test]
fn ourselves_over_udp() {
    scenario(AGAINST_OURSELVES, || {
        let pair = AgainstOurselves::start(
            &policy_a().encapsulation("udp"),
            &vipsec::Options::default(),
        )?;
        let status = pair.bring_up()?;
        assert!(
            status.in_use().all(|sa| sa.encapsulation == "udp"),
            "{status:?}"
        );
        expect_pings(&pair.sites)?;
        let amount = Amount::Bytes(20_000_000);
        let moved = Bulk::to(HOST_B, amount).run(&pair.sites.host_a, &pair.sites.host_b)?;
        assert_eq!(moved.bytes, 20_000_000);
        Ok(())
    });
}

/// `encapsulation = "esp"` against a peer that insists on UDP is refused in words.
#[test]
fn protocol_50_only_against_a_udp_only_peer() {
    scenario(AGAINST_STRONGSWAN, || {
        let sites = TwoSites::new(&Lab::new()?)?;
        let theirs = StrongSwan::default().start(&sites.gw_b, &[swan_policy_b()])?;
        let ours = Vipsec::start(&sites.gw_a, &[policy_a().encapsulation("esp")])?;
        ours.up("site")?;
        let status = wait_for("an outcome", Duration::from_secs(15), || {
            let status = ours.connection("site")?;
            Ok((status.state == "up" || !status.error().is_empty()).then_some(status))
        })?;
        // strongSwan accepts protocol 50 in the negotiation or refuses it; either way we never
        // fall back to UDP on our own.
        assert!(
            status.esp_sas.iter().all(|sa| sa.encapsulation != "udp"),
            "{status:?}"
        );
        assert!(theirs.installed()?.len() <= 1);
        Ok(())
    });
}

/// A worker may wait for its CPU as long as a tick of the kernel: what comes meanwhile waits in the
/// device's queue, at half a million packets a second too.
#[test]
fn a_burst_waits_for_a_worker_without_a_cpu() {
    const BURST: usize = 1_900;
    const PATIENCE: Duration = Duration::from_secs(10);
    scenario(AGAINST_OURSELVES, || {
        let mut pair = AgainstOurselves::start(&policy_a(), &vipsec::Options::default())?;
        pair.bring_up()?;
        expect_pings(&pair.sites)?;
        let receiver = pair
            .sites
            .host_b
            .enter(|| UdpSocket::bind((HOST_B, 6000)))??;
        let sender = pair.sites.host_a.enter(|| UdpSocket::bind((HOST_A, 0)))??;
        // All of them wait in its buffer until they are read.
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&receiver, 8 << 20)?;
        receiver.set_read_timeout(Some(PATIENCE))?;
        pair.a.process().suspend()?;
        for number in 0..BURST {
            sender.send_to(&number.to_be_bytes(), (HOST_B, 6000))?;
        }
        pair.a.process().signal(Signal::CONT)?;
        let mut buffer = [0; size_of::<usize>()];
        let arrived = (0..BURST)
            .take_while(|number| {
                let received = receiver.recv(&mut buffer).is_ok();
                received && usize::from_be_bytes(buffer) == *number
            })
            .count();
        assert_eq!(arrived, BURST, "not all arrived in order");
        Ok(())
    });
}
