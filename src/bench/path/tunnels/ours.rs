//! vipsec at both ends: the real daemon, or the data plane alone with fixed keys.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use netns_tests::lab::{Background, Host, wait_for};
use netns_tests::topology::{A_NET, A_WAN, B_NET, B_WAN};
use netns_tests::{LabError, TwoSites};

use super::Running;
use crate::daemon::TX_QUEUE_LEN;

/// The tunnel device of either gateway.
pub(in crate::bench::path) const DEVICE: &str = "vti-bench";

/// Its MTU, the configuration's default.
const MTU: u16 = 1400;

/// Daemons start in milliseconds; a loaded machine gets more.
const READY: Duration = Duration::from_secs(15);

/// Words for `vipsec bench gateway`, but for the side.
pub(super) fn fixed(protection: &str, encapsulation: &str, workers: usize) -> String {
    format!("--protection {protection} --encapsulation {encapsulation} --workers {workers}")
}

/// Both gateways as `vipsec bench gateway`: no IKE, keys that everybody knows.
pub(super) fn start_static(sites: &TwoSites, words: &str) -> Result<Running, LabError> {
    let mut a = gateway(&sites.gw_a, "a", words)?;
    let mut b = gateway(&sites.gw_b, "b", words)?;
    for (process, host, other) in [(&mut a, &sites.gw_a, B_NET), (&mut b, &sites.gw_b, A_NET)] {
        process.wait_for_line("ready", READY)?;
        host.ip(&format!(
            "link set {DEVICE} mtu {MTU} txqueuelen {TX_QUEUE_LEN} up"
        ))?;
        host.ip(&format!("route add {other} dev {DEVICE}"))?;
    }
    Ok(Running::new(vec![a.pid(), b.pid()]).holding(a).holding(b))
}

fn gateway(host: &Host, side: &str, words: &str) -> Result<Background, LabError> {
    let mut command = host.command(program()?);
    command.args(["bench", "gateway", "--side", side]);
    command.args(words.split_whitespace());
    host.spawn("gateway", command)
}

fn program() -> Result<PathBuf, LabError> {
    std::env::current_exe().map_err(LabError::at("find the running program"))
}

/// Phase 2 of a tunnel that is measured: it lasts.
const LASTING: &str = "proposals = [\"aes128gcm16\"]";

/// Both gateways as `vipsec run`; gateway A initiates.
pub(super) fn start_daemon(
    sites: &TwoSites,
    encapsulation: &str,
    workers: usize,
) -> Result<Running, LabError> {
    start_daemon_with(sites, encapsulation, workers, LASTING)
}

/// The same with these lines for phase 2.
pub(in crate::bench) fn start_daemon_with(
    sites: &TwoSites,
    encapsulation: &str,
    workers: usize,
    phase2: &str,
) -> Result<Running, LabError> {
    let b = Daemon {
        host: &sites.gw_b,
        ends: Ends {
            addresses: [B_WAN, A_WAN],
            route: A_NET,
            start: "respond",
        },
    };
    let a = Daemon {
        host: &sites.gw_a,
        ends: Ends {
            addresses: [A_WAN, B_WAN],
            route: B_NET,
            start: "on-start",
        },
    };
    let mut b_process = b.start(encapsulation, workers, phase2)?;
    let mut a_process = a.start(encapsulation, workers, phase2)?;
    a.wait_up(&mut a_process)?;
    b.wait_up(&mut b_process)?;
    let pids = vec![a_process.pid(), b_process.pid()];
    Ok(Running::new(pids).holding(a_process).holding(b_process))
}

struct Daemon<'a> {
    host: &'a Host,
    ends: Ends<'a>,
}

/// What the two gateways' connections differ in.
struct Ends<'a> {
    /// Own, then the peer's.
    addresses: [&'a str; 2],
    route: &'a str,
    start: &'a str,
}

impl Ends<'_> {
    /// The rest of a gateway's configuration. Weak suites are measured too.
    fn connection(&self, psk: &str, encapsulation: &str, phase2: &str) -> String {
        let Self {
            addresses: [local, remote],
            route,
            start,
        } = self;
        format!(
            "pin_workers = false\nlog = \"warn\"\n\n\
             [[connection]]\nname = \"bench\"\nlocal = \"{local}\"\nremote = \"{remote}\"\n\
             psk_file = \"{psk}\"\nstart = \"{start}\"\nencapsulation = \"{encapsulation}\"\n\
             allow_weak = true\n\
             [connection.phase1]\nproposals = [\"aes256-sha256-modp2048\"]\n\
             [connection.phase2]\n{phase2}\n\
             [connection.vti]\ndevice = \"{DEVICE}\"\nmtu = {MTU}\nroutes = [\"{route}\"]\n"
        )
    }
}

impl Daemon<'_> {
    fn start(
        &self,
        encapsulation: &str,
        workers: usize,
        phase2: &str,
    ) -> Result<Background, LabError> {
        let psk = self
            .host
            .write("bench.psk", "everybody-knows-this-key-1\n")?;
        fs::set_permissions(&psk, fs::Permissions::from_mode(0o600))
            .map_err(LabError::at("protect the key file"))?;
        let own = format!(
            "[gateway]\nname = \"{}\"\nworkers = {workers}\ncontrol_socket = \"{}\"\n",
            self.host.name(),
            self.socket(),
        );
        let psk = psk.display().to_string();
        let text = own + &self.ends.connection(&psk, encapsulation, phase2);
        let config = self.host.write("bench.toml", &text)?;
        let mut command = self.host.command(program()?);
        command.arg("run").arg("--config").arg(config);
        self.host.spawn("vipsec", command)
    }

    fn wait_up(&self, process: &mut Background) -> Result<(), LabError> {
        let what = format!("the tunnel on {}", self.host.name());
        wait_for(&what, READY, || {
            process.must_run()?;
            let status = ask(self.host)?;
            let state = status.pointer("/connections/0/state");
            let is_up = state.and_then(serde_json::Value::as_str) == Some("up");
            Ok(is_up.then_some(()))
        })
    }

    fn socket(&self) -> String {
        socket(self.host)
    }
}

fn socket(host: &Host) -> String {
    host.directory().join("bench.sock").display().to_string()
}

/// What the daemon on a gateway says about itself; nothing when it does not answer.
pub(in crate::bench) fn ask(host: &Host) -> Result<serde_json::Value, LabError> {
    let mut command = host.command(program()?);
    command.args(["status", "--json", "--socket", &socket(host)]);
    let output = command.output().map_err(LabError::at("ask vipsec"))?;
    Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use ipsec_types::EspSuite;

    use super::*;

    /// The soak takes all suites, those that need consent too.
    #[test]
    fn every_suite_may_be_configured() {
        let directory = scratch();
        let psk = directory.join("bench.psk");
        fs::write(&psk, "everybody-knows-this-key-1\n").unwrap();
        fs::set_permissions(&psk, fs::Permissions::from_mode(0o600)).unwrap();
        let ends = Ends {
            addresses: [A_WAN, B_WAN],
            route: B_NET,
            start: "on-start",
        };
        for suite in EspSuite::ALL {
            for encapsulation in ["udp", "esp"] {
                let phase2 = format!("proposals = [\"{suite}\"]");
                let rest = ends.connection(&psk.display().to_string(), encapsulation, &phase2);
                let file = directory.join("bench.toml");
                fs::write(&file, format!("[gateway]\nname = \"gw-a\"\n{rest}")).unwrap();
                crate::config::load(&file).unwrap_or_else(|errors| panic!("{suite}: {errors}"));
            }
        }
        fs::remove_dir_all(directory).unwrap();
    }

    fn scratch() -> PathBuf {
        let directory = std::env::temp_dir().join(format!("vipsec-bench-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }
}
