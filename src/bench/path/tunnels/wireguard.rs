//! Userspace WireGuard programs, told what to do over their common control socket
//! (the "cross-platform userspace interface").

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use netns_tests::lab::{Background, Host, wait_for};
use netns_tests::need::find_program;
use netns_tests::topology::{A_NET, A_WAN, B_NET, B_WAN};
use netns_tests::{LabError, TwoSites};

use super::Running;

const DEVICE: &str = "wg-bench";
const PORT: u16 = 51_820;
/// WireGuard's default on a path of 1500 bytes.
const MTU: u16 = 1420;
const READY: Duration = Duration::from_secs(10);

/// A key pair that everybody knows.
struct Keys {
    private: &'static str,
    public: &'static str,
}

const KEYS_A: Keys = Keys {
    private: "0830557a9fc4e90e33587da2c7ec11365b80a5caef14395e83a8cdf2173c6146",
    public: "5e9d342b7ca9dd7483c1617c8d07c3e99bff21c855a89951e548c85df975b94d",
};
const KEYS_B: Keys = Keys {
    private: "103b6085aacff4193e6388add2f71c41668bb0d5fa1f44698eb3d8fd22476c51",
    public: "cbba0ed68fb3eb78118da5fc743f19e8c0810fc5605c1fef81705fd66fb60453",
};

pub(super) fn start(sites: &TwoSites, program: &str) -> Result<Running, LabError> {
    let a = one(&sites.gw_a, program, [&KEYS_A, &KEYS_B], B_WAN, B_NET)?;
    let b = one(&sites.gw_b, program, [&KEYS_B, &KEYS_A], A_WAN, A_NET)?;
    Ok(Running::new(vec![a.pid(), b.pid()]).holding(a).holding(b))
}

fn one(
    host: &Host,
    program: &str,
    [own, peer]: [&Keys; 2],
    peer_wan: &str,
    peer_net: &str,
) -> Result<Background, LabError> {
    let path = find_program(program).unwrap_or_else(|| PathBuf::from(program));
    let mut command = host.command(path);
    // All of them know the other words. These two look for a login to drop privileges to.
    if matches!(program, "boringtun-cli" | "gotatun") {
        command.arg("--disable-drop-privileges");
    }
    command.arg("--foreground").arg(DEVICE);
    command
        .env("LOG_LEVEL", "error")
        .env("WG_QUICK_USERSPACE_IMPLEMENTATION", program);
    let mut process = host.spawn(program, command)?;
    // The host's own /run is this directory, seen from outside.
    let socket = host
        .directory()
        .join(format!("run/wireguard/{DEVICE}.sock"));
    wait_for("the control socket of WireGuard", READY, || {
        process.must_run()?;
        Ok(socket.exists().then_some(()))
    })?;
    let (private, public) = (own.private, peer.public);
    let words = format!(
        "set=1\nprivate_key={private}\nlisten_port={PORT}\nreplace_peers=true\n\
         public_key={public}\nendpoint={peer_wan}:{PORT}\nallowed_ip={peer_net}\n\n"
    );
    let answer = talk(&socket, &words).map_err(LabError::at("configure WireGuard"))?;
    if !answer.contains("errno=0") {
        return Err(LabError::unreadable("the answer of WireGuard", &answer));
    }
    host.ip(&format!("link set {DEVICE} mtu {MTU} up"))?;
    host.ip(&format!("route add {peer_net} dev {DEVICE}"))?;
    Ok(process)
}

fn talk(socket: &PathBuf, words: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(READY))?;
    stream.write_all(words.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 256];
    while !answer.ends_with(b"\n\n") {
        match stream.read(&mut part)? {
            0 => break,
            count => answer.extend_from_slice(part.get(..count).unwrap_or_default()),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
