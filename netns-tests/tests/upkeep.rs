//! What keeps a tunnel alive through the years: rekeying, and noticing that the peer is gone.

use std::time::{Duration, Instant};

use netns_tests::lab::wait_for;
use netns_tests::peer::{StrongSwan, Vipsec, swan, vipsec};
use netns_tests::probe::Numbered;
use netns_tests::topology::{HOST_A, HOST_B};
use netns_tests::tunnel::{
    AGAINST_OURSELVES, AGAINST_STRONGSWAN, AgainstOurselves, AgainstStrongSwan, aggressive,
    expect_pings, policy_a, swan_policy_b,
};
use netns_tests::{LabError, TwoSites, scenario};

/// The shortest lifetimes that the configuration allows: several successors in half a minute.
fn short_lived() -> vipsec::Connection {
    let mut connection = policy_a();
    "25s".clone_into(&mut connection.phase1_lifetime);
    "rekey_margin = \"12s\"\nrekey_jitter = \"1s\"".clone_into(&mut connection.phase1_extra);
    "10s".clone_into(&mut connection.phase2_lifetime);
    "rekey_margin = \"4s\"\nrekey_jitter = \"1s\"\ngrace = \"2s\""
        .clone_into(&mut connection.phase2_extra);
    connection
}

/// Streams in both directions while `ours` replaces phase 2 at least three times and phase 1
/// at least once: nothing lost, nothing doubled, nothing left over.
fn rekey_under_load(sites: &TwoSites, ours: &Vipsec) -> Result<(), LabError> {
    expect_pings(sites)?;
    let out = Numbered::start(&sites.host_a, &sites.host_b, HOST_B, 500)?;
    let back = Numbered::start(&sites.host_b, &sites.host_a, HOST_A, 500)?;
    let (mut spis, mut cookies) = (Vec::new(), Vec::new());
    wait_for(
        "three new SPIs and a new cookie",
        Duration::from_secs(60),
        || {
            let status = ours.connection("site")?;
            spis.extend(status.in_use().map(|sa| sa.spi_in.clone()));
            cookies.extend(status.ike_sas.iter().map(|sa| sa.initiator_cookie.clone()));
            for list in [&mut spis, &mut cookies] {
                list.sort();
                list.dedup();
            }
            let pairs = status.esp_sas.len();
            assert!(pairs <= 3, "SAs pile up: {status:?}");
            Ok((spis.len() >= 4 && cookies.len() >= 2).then_some(()))
        },
    )?;
    for report in [out.finish()?, back.finish()?] {
        assert_eq!((report.lost(), report.duplicates), (0, 0), "{report:?}");
    }
    Ok(())
}

#[test]
fn we_rekey_without_loss() {
    scenario(AGAINST_STRONGSWAN, || {
        let pair = AgainstStrongSwan::start(&short_lived(), &swan_policy_b())?;
        pair.we_initiate()?;
        rekey_under_load(&pair.sites, &pair.ours)?;
        assert!(pair.theirs.installed()?.len() <= 2);
        Ok(())
    });
}

/// Both sides have the same lifetimes, so both want to rekey at about the same time.
#[test]
fn two_of_us_rekey_without_loss() {
    scenario(AGAINST_OURSELVES, || {
        let pair = AgainstOurselves::start(&short_lived(), &vipsec::Options::default())?;
        pair.bring_up()?;
        rekey_under_load(&pair.sites, &pair.a)?;
        Ok(())
    });
}

fn with_dpd(action: &str) -> vipsec::Connection {
    let mut connection = policy_a();
    connection.extra_tables = format!(
        "[connection.dpd]\naction = \"{action}\"\ndelay = \"1s\"\nretry = \"1s\"\nmax_failures = 2\n\
         [connection.retransmit]\nfirst = \"300ms\"\ntries = 4"
    );
    connection
}

/// The peer dies without a word, and no traffic flows: probes find out.
#[test]
fn a_dead_peer_is_noticed() {
    scenario(AGAINST_STRONGSWAN, || {
        let mut pair = AgainstStrongSwan::start(&with_dpd("clear"), &swan_policy_b())?;
        pair.we_initiate()?;
        pair.expect_traffic()?;
        pair.theirs.process().kill()?;
        let died = Instant::now();
        wait_for(
            "no SA towards the dead peer",
            Duration::from_secs(10),
            || {
                let status = pair.ours.connection("site")?;
                Ok(status.esp_sas.is_empty().then_some(()))
            },
        )?;
        let noticed = died.elapsed();
        assert!(
            noticed > Duration::from_secs(2),
            "without asking twice: {noticed:?}"
        );
        assert_ne!(pair.ours.connection("site")?.state, "up");
        Ok(())
    });
}

/// A living peer that has nothing to say is not taken for dead.
#[test]
fn an_idle_peer_is_not_dead() {
    scenario(AGAINST_STRONGSWAN, || {
        let pair = AgainstStrongSwan::start(&with_dpd("clear"), &swan_policy_b())?;
        let before = pair.we_initiate()?;
        // Several rounds of probe and answer; they show in the peer's log.
        wait_for("four answered probes", Duration::from_secs(15), || {
            let answers = pair.theirs.log().matches("N(DPD_ACK)").count();
            Ok((answers >= 4).then_some(()))
        })?;
        let after = pair.ours.connection("site")?;
        assert_eq!(
            after.ike_sas[0].initiator_cookie,
            before.ike_sas[0].initiator_cookie
        );
        pair.expect_traffic()?;
        Ok(())
    });
}

/// With `restart` a peer that comes back is found again without anybody's help.
#[test]
fn a_peer_that_comes_back_is_found() {
    scenario(AGAINST_STRONGSWAN, || {
        let mut pair = AgainstStrongSwan::start(&with_dpd("restart"), &swan_policy_b())?;
        pair.we_initiate()?;
        pair.expect_traffic()?;
        pair.theirs.process().kill()?;
        wait_for(
            "no SA towards the dead peer",
            Duration::from_secs(10),
            || {
                let status = pair.ours.connection("site")?;
                Ok(status.esp_sas.is_empty().then_some(()))
            },
        )?;
        std::fs::remove_file(pair.sites.gw_b.directory().join("vici"))?;
        pair.theirs = StrongSwan::default().start(&pair.sites.gw_b, &[swan_policy_b()])?;
        pair.ours
            .wait_state("site", "up", Duration::from_secs(60))?;
        pair.expect_traffic()?;
        Ok(())
    });
}

/// strongSwan asks whether we are alive.
#[test]
fn we_answer_probes() {
    scenario(AGAINST_STRONGSWAN, || {
        let theirs = swan::Connection {
            dpd_delay: "1s".to_owned(),
            dpd_timeout: "5s".to_owned(),
            ..swan_policy_b()
        };
        let mut ours = policy_a();
        "[connection.dpd]\naction = \"off\"".clone_into(&mut ours.extra_tables);
        let pair = AgainstStrongSwan::start(&ours, &theirs)?;
        pair.we_initiate()?;
        wait_for("four answers to probes", Duration::from_secs(15), || {
            let log = pair.theirs.log();
            let answers = log
                .lines()
                .filter(|line| line.contains("parsed") && line.contains("N(DPD_ACK)"));
            Ok((answers.count() >= 4).then_some(()))
        })?;
        pair.expect_traffic()?;
        Ok(())
    });
}

/// Aggressive mode, which both sides have to ask for.
#[test]
fn aggressive_mode_both_ways() {
    scenario(AGAINST_STRONGSWAN, || {
        let (ours, theirs) = aggressive();
        let pair = AgainstStrongSwan::start(&ours, &theirs)?;
        pair.we_initiate()?;
        pair.expect_traffic()?;
        pair.ours.down("site")?;
        pair.theirs.wait_installed(0, vipsec::UP)?;
        pair.they_initiate()?;
        pair.expect_traffic()?;
        Ok(())
    });
}
