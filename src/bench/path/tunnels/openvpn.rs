//! OpenVPN without its kernel module: TLS between certificates that know each other by
//! fingerprint, AES-128-GCM.

use std::path::{Path, PathBuf};
use std::time::Duration;

use netns_tests::lab::{Background, Host};
use netns_tests::need::find_program;
use netns_tests::topology::{A_NET, A_WAN, B_NET, B_WAN};
use netns_tests::{LabError, TwoSites};

use super::Running;

const DEVICE: &str = "tun-bench";
const READY: Duration = Duration::from_secs(20);

pub(super) fn start(sites: &TwoSites) -> Result<Running, LabError> {
    let (a, b) = (&sites.gw_a, &sites.gw_b);
    let prints = [certify(a)?, certify(b)?];
    let [print_a, print_b] = &prints;
    let server = [
        "10.9.0.2 10.9.0.1",
        A_WAN,
        "--tls-server --dh none",
        print_a.as_str(),
    ];
    let client = ["10.9.0.1 10.9.0.2", B_WAN, "--tls-client", print_b.as_str()];
    let mut b = one(b, server)?;
    let mut a = one(a, client)?;
    for (process, host, other) in [(&mut a, &sites.gw_a, B_NET), (&mut b, &sites.gw_b, A_NET)] {
        process.wait_for_line("Initialization Sequence Completed", READY)?;
        host.ip(&format!("route add {other} dev {DEVICE}"))?;
    }
    Ok(Running::new(vec![a.pid(), b.pid()]).holding(a).holding(b))
}

/// Makes a key and a certificate, and returns its fingerprint.
fn certify(host: &Host) -> Result<String, LabError> {
    let (key, cert) = files(host.directory());
    host.run(&format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
         -subj /CN={} -keyout {} -out {}",
        host.name(),
        key.display(),
        cert.display()
    ))?;
    let words = format!(
        "openssl x509 -in {} -noout -fingerprint -sha256",
        cert.display()
    );
    let output = host.run(&words)?;
    let print = output.stdout.trim().split_once('=');
    let print = print.map(|(_, print)| print.to_owned());
    print.ok_or_else(|| LabError::unreadable("openssl's fingerprint", &output.stdout))
}

fn files(directory: &Path) -> (PathBuf, PathBuf) {
    (directory.join("key.pem"), directory.join("cert.pem"))
}

fn one(host: &Host, [inner, remote, role, peer]: [&str; 4]) -> Result<Background, LabError> {
    let (key, cert) = files(host.directory());
    let program = find_program("openvpn").unwrap_or_else(|| PathBuf::from("openvpn"));
    let mut command = host.command(program);
    let words = format!(
        "--dev {DEVICE} --dev-type tun --disable-dco --proto udp --port 1194 --remote {remote} \
         --ifconfig {inner} --data-ciphers AES-128-GCM --tun-mtu 1400 \
         --sndbuf 4194304 --rcvbuf 4194304 --verb 1 {role}"
    );
    command.args(words.split_whitespace());
    command.args(["--peer-fingerprint", peer]);
    command.arg("--key").arg(key).arg("--cert").arg(cert);
    host.spawn("openvpn", command)
}
