//! Workers go before ordinary programs beside streams, and only then.

use std::ffi::OsStr;
use std::fs;
use std::thread;
use std::time::Duration;

use netns_tests::lab::{Background, Host, wait_for};
use netns_tests::peer::{Vipsec, vipsec};
use netns_tests::probe::{Amount, Bulk, Ping};
use netns_tests::topology::HOST_B;
use netns_tests::tunnel::{AGAINST_OURSELVES, AgainstOurselves, expect_pings, policy_a};
use netns_tests::{Lab, LabError, scenario};

/// `SCHED_OTHER`, `SCHED_RR` and `SCHED_BATCH` as `/proc` has them.
const ORDINARY: u32 = 0;
const REAL_TIME: u32 = 2;
const INTERRUPTS_NOBODY: u32 = 3;

const PATIENCE: Duration = Duration::from_secs(5);

/// Scheduling policy of a gateway's only worker: field 41 of `stat`, the name being the second.
fn policy_of_worker(pid: u32) -> Result<u32, LabError> {
    let tasks = format!("/proc/{pid}/task");
    for task in fs::read_dir(&tasks).map_err(LabError::at("list threads"))? {
        let path = task.map_err(LabError::at("list threads"))?.path();
        let text = fs::read_to_string(path.join("stat")).map_err(LabError::at("read stat"))?;
        let Some((_, rest)) = text.split_once("(vipsec-w0) ") else {
            continue;
        };
        let policy = rest.split_whitespace().nth(38);
        return policy
            .and_then(|policy| policy.parse().ok())
            .ok_or_else(|| LabError::unreadable("/proc/PID/task/TID/stat", &text));
    }
    Err(LabError::Damaged(format!("{tasks}: no worker")))
}

/// What workers become beside packets that come one by one: it depends on whether the kernel
/// keeps an account of what a thread waits.
fn beside_pings() -> u32 {
    match fs::exists("/proc/self/schedstat") {
        Ok(true) => INTERRUPTS_NOBODY,
        _ => ORDINARY,
    }
}

/// A stream gives both gateways' workers precedence; packets that come one by one take it from
/// them again, and let them interrupt nobody.
#[test]
fn beside_a_stream_and_no_longer() {
    scenario(AGAINST_OURSELVES, || {
        let mut pair = AgainstOurselves::start(&policy_a(), &vipsec::Options::default())?;
        pair.bring_up()?;
        expect_pings(&pair.sites)?;
        let pids = [pair.a.process().pid(), pair.b.process().pid()];
        let both = |policy| {
            move || {
                let [a, b] = pids;
                let both = [policy_of_worker(a)?, policy_of_worker(b)?];
                Ok((both == [policy; 2]).then_some(()))
            }
        };
        let pinged = || {
            Ping::to(HOST_B).until_answered(&pair.sites.host_a, PATIENCE)?;
            both(beside_pings())()
        };
        wait_for("workers behind others beside pings", PATIENCE, pinged)?;
        thread::scope(|scope| {
            let (from, to) = (&pair.sites.host_a, &pair.sites.host_b);
            let amount = Amount::For(Duration::from_secs(2));
            let stream = scope.spawn(move || Bulk::to(HOST_B, amount).run(from, to));
            wait_for("real-time workers", PATIENCE, both(REAL_TIME))?;
            stream.join().expect("the stream's thread")
        })?;
        wait_for("the same afterwards", PATIENCE, pinged)?;
        Ok(())
    });
}

/// A daemon that may not change a scheduling policy.
fn without_the_privilege(host: &Host, files: &vipsec::Files) -> Result<Background, LabError> {
    let mut command = host.command(OsStr::new("setpriv"));
    command.args(["--bounding-set", "-sys_nice"]);
    command.arg(&files.binary).arg("run");
    command.arg("-c").arg(&files.config);
    host.spawn("vipsec", command)
}

/// The daemon says what is missing and runs all the same.
#[test]
fn a_daemon_that_may_not_says_so() {
    scenario(AGAINST_OURSELVES, || {
        let host = Lab::new()?.host("gw")?;
        let files = Vipsec::prepare(&host, &[policy_a()])?;
        let mut process = without_the_privilege(&host, &files)?;
        let line = process.wait_for_line("real-time", PATIENCE)?;
        for word in ["CAP_SYS_NICE", "real_time = false"] {
            assert!(line.contains(word), "no {word} in {line}");
        }
        assert_eq!(policy_of_worker(process.pid())?, ORDINARY);
        let up = || Ok(files.socket.exists().then_some(()));
        wait_for("the control socket", PATIENCE, up)?;
        process.must_run()?;
        Ok(())
    });
}

/// Where an operator does not want it the kernel is not asked.
#[test]
fn a_daemon_that_shall_not_does_not_ask() {
    scenario(AGAINST_OURSELVES, || {
        let host = Lab::new()?.host("gw")?;
        let files = Vipsec::prepare(&host, &[policy_a()])?;
        let text = fs::read_to_string(&files.config)?;
        let text = text.replace("[gateway]\n", "[gateway]\nreal_time = false\n");
        fs::write(&files.config, text)?;
        let mut process = without_the_privilege(&host, &files)?;
        let up = || Ok(files.socket.exists().then_some(()));
        wait_for("the control socket", PATIENCE, up)?;
        process.stop(PATIENCE)?;
        assert!(!process.log().contains("real-time"), "{}", process.log());
        Ok(())
    });
}
