//! A pair in everyday life: its connections are edited on either node, it is stopped for an
//! upgrade, its programs are run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use netns_tests::lab::wait_for;
use netns_tests::pair::{OURS_NEEDS, Ours, Settings, Watch};
use netns_tests::scenario;
use netns_tests::{Lab, LabError};

const PATIENCE: Duration = Duration::from_secs(30);
/// What nobody waits longer for.
const SOON: Duration = Duration::from_secs(10);

/// SIGTERM on the active node, as `systemctl restart` sends it: the role is handed over first,
/// nothing is lost, and the peer hears nothing. The node comes back as the standby.
#[test]
fn stopping_the_active_node_loses_nothing() {
    scenario(OURS_NEEDS, || {
        let lab = Lab::new()?;
        let mut pair = Ours::start(&lab, &Settings::default())?;
        let watch = Watch::start(&pair.net, PATIENCE)?;
        let active = pair.wait_ready()?;
        let event = watch.during("stop", || {
            let daemon = pair.daemons.get_mut(active).and_then(Option::take);
            assert!(daemon.unwrap().stop()?.success());
            Ok(())
        })?;
        pair.wait_role(1 - active, "active")?;
        pair.revive(active)?;
        assert_eq!(pair.wait_ready()?, 1 - active);
        let evidence = watch.finish()?;
        let cost = evidence.cost(&event);
        assert_eq!(
            (cost.lost(), cost.duplicates(), cost.ike),
            (0, 0, 0),
            "{cost:?}"
        );
        assert_eq!(cost.repeated_ivs, 0, "{cost:?}");
        Ok(())
    });
}

fn script(file: &Path, text: &str) -> Result<(), LabError> {
    let written = fs::write(file, format!("#!/bin/sh\n{text}\n"))
        .and_then(|()| fs::set_permissions(file, fs::Permissions::from_mode(0o755)));
    written.map_err(|error| LabError::unreadable("a script", &error.to_string()))
}

/// The health script of the active node fails: the partner has the role at once, and the mover
/// was told on both nodes.
#[test]
fn a_failing_health_script_moves_the_pair_and_the_mover_is_told() {
    scenario(OURS_NEEDS, || {
        let lab = Lab::new()?;
        let folder = std::env::temp_dir().join(format!("vipsec-health-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (health, sick) = (folder.join("healthy"), folder.join("gw-a-is-sick"));
        let (mover, told) = (folder.join("move"), folder.join("told"));
        // Both nodes run the same script: only gw-a has this host name in its environment.
        script(
            &health,
            &format!(
                "[ ! -e {} ] || ! ip address show dev sync0 | grep -q 10.99.0.1/",
                sick.display()
            ),
        )?;
        script(
            &mover,
            &format!(
                "echo $VIPSEC_NODE $VIPSEC_EVENT $VIPSEC_ADDRESSES >> {}",
                told.display()
            ),
        )?;
        let settings = Settings {
            extra_tables: format!(
                "[pair.health]\nexec = {health:?}\ninterval = \"1s\"\ntimeout = \"1s\"\nfailures = 1\n[pair.mover]\nexec = {mover:?}\n"
            ),
            ..Settings::default()
        };
        let pair = Ours::start(&lab, &settings)?;
        assert_eq!(pair.wait_ready()?, 0);
        fs::write(&sick, "").unwrap();
        pair.wait_role(1, "active")?;
        let sick_node = pair.wait_role(0, "standby")?;
        assert!(
            sick_node.failed.iter().any(|failed| failed == "health"),
            "{sick_node:?}"
        );
        wait_for("the mover to be told", SOON, || {
            let said = fs::read_to_string(&told).unwrap_or_default();
            let moved = ["standby 203.0.113.1", "active 203.0.113.1"]
                .iter()
                .all(|words| said.contains(words));
            Ok(moved.then_some(()))
        })?;
        // Well again, it is ready after the hold-down and takes nothing back.
        fs::remove_file(&sick).unwrap();
        assert_eq!(pair.wait_ready()?, 1);
        fs::remove_dir_all(&folder).unwrap();
        Ok(())
    });
}

/// A connection that is added on the standby is proposed, applied by the active node, and stored
/// on both; nonsense is refused where it is edited, and nothing changes anywhere.
#[test]
fn connections_are_edited_on_either_node() {
    scenario(OURS_NEEDS, || {
        let lab = Lab::new()?;
        let settings = Settings {
            shared: true,
            ..Settings::default()
        };
        let pair = Ours::start(&lab, &settings)?;
        let active = pair.wait_ready()?;
        let standby = 1 - active;
        let file = |index: usize| {
            pair.node(index)
                .host
                .directory()
                .join("shared/connections.toml")
        };
        let key = |index: usize| pair.node(index).host.directory().join("shared/second.psk");

        let before = fs::read_to_string(file(standby)).unwrap();
        let added = before.clone()
            + "\n[[connection]]\nname = \"second\"\nlocal = \"203.0.113.1\"\nremote = \"203.0.113.77\"\npsk_file = \"second.psk\"\n[connection.vti]\ndevice = \"vti-second\"\n[[connection.selector]]\nlocal = \"10.1.0.0/16\"\nremote = \"10.7.0.0/16\"\n";
        fs::write(key(standby), "h7Vq2-mXe9pVb41zTr8uPs0dLhYf6CgNa\n").unwrap();
        fs::set_permissions(key(standby), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(file(standby), &added).unwrap();
        pair.daemon(standby)?.run("reload")?;
        wait_for("both nodes to know the connection", SOON, || {
            let mut known = 0;
            for index in [active, standby] {
                let status = pair.daemon(index)?.status()?;
                known += usize::from(status.connections.iter().any(|one| one.name == "second"));
            }
            let stored = fs::read_to_string(file(active)).is_ok_and(|text| text == added);
            let key =
                fs::metadata(key(active)).is_ok_and(|key| key.permissions().mode() & 0o077 == 0);
            Ok((known == 2 && stored && key).then_some(()))
        })?;

        fs::write(file(active), added.replace("10.7.0.0/16", "10.7.0.0.0/16")).unwrap();
        let refused = pair.daemon(active)?.attempt("reload")?;
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(
            said.contains("connections.toml") && said.contains("10.7.0.0.0/16"),
            "{said}"
        );
        fs::write(file(active), &before).unwrap();
        pair.daemon(active)?.run("reload")?;
        wait_for("the standby to forget the connection", SOON, || {
            let status = pair.daemon(standby)?.status()?;
            let forgot = !status.connections.iter().any(|one| one.name == "second");
            let stored = fs::read_to_string(file(standby)).is_ok_and(|text| text == before);
            Ok((forgot && stored).then_some(()))
        })?;
        assert_eq!(
            pair.wait_ready()?,
            active,
            "and the tunnel has never been down"
        );
        Ok(())
    });
}
