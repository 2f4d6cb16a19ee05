//! Starting, stopping, restarting and changing one's mind, on either side.

use std::time::Duration;

use netns_tests::lab::wait_for;
use netns_tests::peer::vipsec::{self, Options};
use netns_tests::peer::{StrongSwan, Vipsec};
use netns_tests::probe::Numbered;
use netns_tests::topology::HOST_B;
use netns_tests::tunnel::{
    AGAINST_OURSELVES, AGAINST_STRONGSWAN, AgainstOurselves, AgainstStrongSwan, FIRST_PACKET,
    expect_ping, expect_pings, policy_a, route_a, swan_policy_b, swan_route_b,
};
use netns_tests::{LabError, scenario};

/// Everything about links, addresses and routes that the gateway's kernel knows.
fn network(host: &netns_tests::lab::Host) -> Result<String, LabError> {
    let mut text = String::new();
    for words in [
        "-br address",
        "route show table all",
        "-6 route show table all",
        "rule",
    ] {
        text += &host.ip(words)?.stdout;
    }
    // Counted down by the kernel.
    text = text.replace("expires", "");
    Ok(text)
}

/// Waits until everything is as it was before.
fn expect_network(host: &netns_tests::lab::Host, before: &str) -> Result<(), LabError> {
    let patience = Duration::from_secs(5);
    let mut last = String::new();
    let gone = wait_for("the network to be as before", patience, || {
        last = network(host)?;
        Ok((last == before).then_some(()))
    });
    if gone.is_err() {
        assert_eq!(last, before);
    }
    gone
}

/// The same, once the kernel has done with its IPv6 addresses, which takes it a moment after a
/// device is up.
fn settled_network(host: &netns_tests::lab::Host) -> Result<String, LabError> {
    let patience = Duration::from_secs(5);
    wait_for("local routes of the IPv6 addresses", patience, || {
        let text = network(host)?;
        let is_there = |start: &str, device: &str| {
            let end = format!("dev {device} table local");
            text.lines()
                .any(|line| line.starts_with(start) && line.contains(&end))
        };
        let settled = is_there("local fe80:", "wan")
            && is_there("local fe80:", "lan")
            && is_there("local fd00:", "lan");
        Ok(settled.then_some(text))
    })
}

/// SIGTERM: the peer is told, and the machine looks as before the start.
#[test]
fn a_clean_shutdown_leaves_nothing() {
    scenario(AGAINST_STRONGSWAN, || {
        let sites = netns_tests::TwoSites::new(&netns_tests::Lab::new()?)?;
        let before = settled_network(&sites.gw_a)?;
        let theirs = StrongSwan::default().start(&sites.gw_b, &[swan_route_b()])?;
        let mut ours = Vipsec::start(&sites.gw_a, &[route_a()])?;
        ours.bring_up("site")?;
        theirs.wait_installed(1, vipsec::UP)?;
        expect_ping(&sites.host_a, HOST_B)?;
        assert_ne!(network(&sites.gw_a)?, before, "a tunnel shows");
        assert!(ours.stop()?.success());
        wait_for(
            "strongSwan to have been told",
            Duration::from_secs(2),
            || Ok(theirs.sas()?.is_empty().then_some(())),
        )?;
        assert!(
            theirs.log().contains("received DELETE for IKE_SA"),
            "{}",
            theirs.log()
        );
        expect_network(&sites.gw_a, &before)?;
        assert!(!sites.gw_a.directory().join("vipsec.sock").exists());
        Ok(())
    });
}

/// SIGKILL: nobody can tidy up but the kernel, and the next start works at once.
#[test]
fn a_killed_daemon_leaves_nothing_and_comes_back() {
    scenario(AGAINST_STRONGSWAN, || {
        let sites = netns_tests::TwoSites::new(&netns_tests::Lab::new()?)?;
        let before = settled_network(&sites.gw_a)?;
        let theirs = StrongSwan::default().start(&sites.gw_b, &[swan_route_b()])?;
        let mut ours = Vipsec::start(&sites.gw_a, &[route_a()])?;
        ours.bring_up("site")?;
        expect_ping(&sites.host_a, HOST_B)?;
        ours.process().kill()?;
        // Its devices go with the process, the relay's link with its namespace a moment later.
        expect_network(&sites.gw_a, &before)?;
        let ours = Vipsec::start(&sites.gw_a, &[route_a().start("on-start")])?;
        ours.wait_up("site")?;
        expect_ping(&sites.host_a, HOST_B)?;
        // INITIAL-CONTACT has removed what our first life left at the peer.
        theirs.wait_installed(1, vipsec::UP)?;
        Ok(())
    });
}

/// `down` tells the peer; `up` works again.
#[test]
fn down_and_up_again() {
    scenario(AGAINST_STRONGSWAN, || {
        let pair = AgainstStrongSwan::start(&policy_a(), &swan_policy_b())?;
        for _round in 0..3 {
            pair.we_initiate()?;
            pair.expect_traffic()?;
            pair.ours.down("site")?;
            let status = pair.ours.wait_state("site", "down", vipsec::UP)?;
            assert!(
                status.ike_sas.is_empty() && status.esp_sas.is_empty(),
                "{status:?}"
            );
            wait_for(
                "strongSwan to have been told",
                Duration::from_secs(2),
                || Ok(pair.theirs.sas()?.is_empty().then_some(())),
            )?;
        }
        Ok(())
    });
}

/// The peer deletes everything; we believe it, and accept the next negotiation.
#[test]
fn the_peer_takes_it_down() {
    scenario(AGAINST_STRONGSWAN, || {
        let pair = AgainstStrongSwan::start(&policy_a(), &swan_policy_b())?;
        pair.we_initiate()?;
        pair.expect_traffic()?;
        pair.theirs.terminate("site")?;
        let status = pair.ours.wait_state("site", "down", vipsec::UP)?;
        assert!(status.esp_sas.is_empty(), "{status:?}");
        pair.they_initiate()?;
        pair.expect_traffic()?;
        Ok(())
    });
}

/// The peer loses power and comes back without a memory: its INITIAL-CONTACT replaces the
/// old SAs, and nothing is left of them.
#[test]
fn the_peer_restarts() {
    scenario(AGAINST_STRONGSWAN, || {
        let mut pair = AgainstStrongSwan::start(&policy_a(), &swan_policy_b())?;
        let old = pair.we_initiate()?;
        pair.expect_traffic()?;
        pair.theirs.process().kill()?;
        std::fs::remove_file(pair.sites.gw_b.directory().join("vici"))?;
        pair.theirs = StrongSwan::default().start(&pair.sites.gw_b, &[swan_policy_b()])?;
        pair.theirs.initiate("net")?;
        pair.expect_traffic()?;
        let status = pair.ours.connection("site")?;
        assert_eq!(status.ike_sas.len(), 1, "{status:?}");
        assert_ne!(
            status.ike_sas[0].initiator_cookie,
            old.ike_sas[0].initiator_cookie
        );
        assert_eq!(status.in_use().count(), 1, "{status:?}");
        Ok(())
    });
}

/// The peer replaces its phase-2 SA, and then phase 1: no packet of a steady stream is lost,
/// and no second SA stays in use.
#[test]
fn the_peer_rekeys_without_loss() {
    scenario(AGAINST_STRONGSWAN, || {
        let pair = AgainstStrongSwan::start(&policy_a(), &swan_policy_b())?;
        let old = pair.we_initiate()?;
        expect_pings(&pair.sites)?;
        let out = Numbered::start(&pair.sites.host_a, &pair.sites.host_b, HOST_B, 500)?;
        let spi = old.in_use().next().unwrap().spi_in.clone();
        pair.theirs.rekey_child("net")?;
        wait_for("a new SPI in use", FIRST_PACKET, || {
            let status = pair.ours.connection("site")?;
            Ok(status.in_use().all(|sa| sa.spi_in != spi).then_some(()))
        })?;
        pair.theirs.reauthenticate("site")?;
        let is_old = |sa: &vipsec::IkeSa| sa.initiator_cookie == old.ike_sas[0].initiator_cookie;
        wait_for("a new IKE SA", FIRST_PACKET, || {
            let status = pair.ours.connection("site")?;
            Ok(status.ike_sas.iter().any(|sa| !is_old(sa)).then_some(()))
        })?;
        let report = out.finish()?;
        assert_eq!((report.lost(), report.duplicates), (0, 0), "{report:?}");
        wait_for("the old IKE SA to go", Duration::from_secs(40), || {
            let status = pair.ours.connection("site")?;
            let alone = status.ike_sas.len() == 1 && !status.ike_sas.iter().any(is_old);
            Ok(alone.then_some(()))
        })?;
        pair.expect_traffic()?;
        assert_eq!(pair.ours.connection("site")?.in_use().count(), 1);
        Ok(())
    });
}

/// A new configuration adds a connection; the running one does not notice. A bad one changes
/// nothing at all (invariant I9).
#[test]
fn reload_leaves_running_tunnels_alone() {
    scenario(AGAINST_STRONGSWAN, || {
        let pair = AgainstStrongSwan::start(&policy_a(), &swan_policy_b())?;
        let old = pair.we_initiate()?;
        expect_pings(&pair.sites)?;
        let probe = Numbered::start(&pair.sites.host_a, &pair.sites.host_b, HOST_B, 200)?;
        let other = vipsec::Connection::policy_based(
            "203.0.113.1",
            "203.0.113.77",
            "10.1.0.0/16",
            "10.77.0.0/16",
        )
        .name("other");
        pair.ours.reload(&[policy_a(), other.clone()])?;
        assert_eq!(pair.ours.status()?.connections.len(), 2);
        let broken = other.encapsulation("pigeon");
        assert!(pair.ours.reload(&[policy_a(), broken]).is_err());
        assert_eq!(pair.ours.status()?.connections.len(), 2);
        pair.ours.reload(&[policy_a()])?;
        assert_eq!(pair.ours.status()?.connections.len(), 1);
        let now = pair.ours.connection("site")?;
        assert_eq!(
            now.ike_sas[0].initiator_cookie,
            old.ike_sas[0].initiator_cookie
        );
        let report = probe.finish()?;
        assert_eq!(report.lost(), 0, "{report:?}");
        Ok(())
    });
}

/// A second daemon on the same control socket says so and leaves the first alone.
#[test]
fn a_second_daemon_is_refused() {
    scenario(AGAINST_OURSELVES, || {
        let pair = AgainstOurselves::start(&policy_a(), &Options::default())?;
        pair.bring_up()?;
        let files = Vipsec::prepare(&pair.sites.gw_a, &[policy_a()])?;
        let mut command = pair.sites.gw_a.command(&files.binary);
        command.arg("run").arg("-c").arg(&files.config);
        let mut second = pair.sites.gw_a.spawn("second", command)?;
        assert!(
            !second.wait(Duration::from_secs(5))?.success(),
            "{}",
            second.log()
        );
        expect_pings(&pair.sites)?;
        assert_eq!(pair.a.connection("site")?.state, "up");
        Ok(())
    });
}

/// Both sides start at the same moment: one pair of ESP SAs is in use in the end, and the
/// same one on both sides.
#[test]
fn both_start_at_once() {
    scenario(AGAINST_OURSELVES, || {
        let pair = AgainstOurselves::start(&policy_a(), &Options::default())?;
        pair.a.up("site")?;
        pair.b.up("site")?;
        pair.a.wait_up("site")?;
        pair.b.wait_up("site")?;
        expect_pings(&pair.sites)?;
        wait_for(
            "one pair in use on both sides",
            Duration::from_secs(10),
            || {
                let a: Vec<_> = pair
                    .a
                    .connection("site")?
                    .in_use()
                    .map(|sa| sa.spi_in.clone())
                    .collect();
                let b: Vec<_> = pair
                    .b
                    .connection("site")?
                    .in_use()
                    .map(|sa| sa.spi_out.clone())
                    .collect();
                Ok((a.len() == 1 && a == b).then_some(()))
            },
        )?;
        expect_pings(&pair.sites)?;
        Ok(())
    });
}

/// Somebody deletes a tunnel's device. The log names it and says what to do; that restores it.
#[test]
fn a_device_that_is_deleted_is_named_and_restored_by_a_restart() {
    scenario(AGAINST_OURSELVES, || {
        let mut pair = AgainstOurselves::start(&policy_a(), &Options::default())?;
        pair.bring_up()?;
        expect_pings(&pair.sites)?;
        pair.sites.gw_a.ip("link delete vti-site")?;
        let process = pair.a.process();
        let line = process.wait_for_line("cannot be read", FIRST_PACKET)?;
        for word in ["device=\"vti-site\"", "restart"] {
            assert!(line.contains(word), "no {word} in {line}");
        }
        process.must_run()?;
        let status = pair.a.run("status")?.stdout;
        assert!(
            status.contains("vti-site HAS BEEN DELETED"),
            "not shown: {status}"
        );
        pair.a.stop()?;
        pair.a = Vipsec::start(&pair.sites.gw_a, &[policy_a()])?;
        pair.a.bring_up("site")?;
        expect_pings(&pair.sites)?;
        Ok(())
    });
}
