//! What a scenario needs from the machine, and the one line that says what is missing.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::isolation;

/// A thing without which a scenario cannot run. Namespaces and `ip` are always needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The `vipsec` binary.
    Vipsec,
    /// strongSwan's charon with the kernel-libipsec plugin, and swanctl.
    StrongSwan,
    /// `/dev/net/tun`.
    Tun,
    /// A program in the search path, and the Debian package that has it.
    Program(&'static str, &'static str),
    /// The library that gives a process another time of day.
    FakeTime,
}

/// `ping`.
pub const PING: Need = Need::Program("ping", "iputils-ping");
/// A WAN without segmentation offload.
pub const ETHTOOL: Need = Need::Program("ethtool", "ethtool");
/// Captures.
pub const DUMPCAP: Need = Need::Program("dumpcap", "wireshark-common");
/// The judge of what is on the wire.
pub const TSHARK: Need = Need::Program("tshark", "tshark");
/// Today's way to move an address.
pub const KEEPALIVED: Need = Need::Program("keepalived", "keepalived");
/// NAT and packet loss.
pub const NFT: Need = Need::Program("nft", "nftables");

/// Where Debian and Ubuntu install charon.
pub const CHARON: &str = "/usr/lib/ipsec/charon";
const LIBIPSEC: &str = "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so";

/// Why the scenario cannot run here; `None` when it can.
pub(crate) fn first_missing(needs: &[Need]) -> Option<String> {
    static ISOLATION: OnceLock<Result<(), String>> = OnceLock::new();
    if let Err(reason) = ISOLATION.get_or_init(isolation::probe) {
        return Some(reason.clone());
    }
    needs.iter().find_map(|need| need.missing())
}

impl Need {
    /// What is missing, and how to get it; `None` when it is there.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Vipsec => vipsec_binary()
                .is_none()
                .then(|| "no vipsec binary: run `cargo build --release` first".to_owned()),
            Self::StrongSwan => missing_file(CHARON, "strongswan-charon")
                .or_else(|| missing_file(LIBIPSEC, "libcharon-extra-plugins"))
                .or_else(|| missing_program("swanctl", "strongswan-swanctl")),
            Self::Tun => (!Path::new("/dev/net/tun").exists())
                .then(|| "/dev/net/tun does not exist (modprobe tun)".to_owned()),
            Self::Program(name, package) => missing_program(name, package),
            Self::FakeTime => libfaketime()
                .is_none()
                .then(|| "libfaketime is missing (Debian package libfaketime)".to_owned()),
        }
    }
}

/// Where Debian and Ubuntu install libfaketime, for processes of several threads.
#[must_use]
pub fn libfaketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    folders
        .flatten()
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.is_file())
}

fn missing_file(path: &str, package: &str) -> Option<String> {
    (!Path::new(path).exists()).then(|| format!("{path} is missing (Debian package {package})"))
}

fn missing_program(name: &str, package: &str) -> Option<String> {
    find_program(name)
        .is_none()
        .then(|| format!("{name} is missing (Debian package {package})"))
}

/// Looks a program up in the search path and in the sbin directories, which a user's search
/// path on Debian lacks.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// The binary under test: `VIPSEC_BIN`, else the newest of the release and the debug build.
#[must_use]
pub fn vipsec_binary() -> Option<PathBuf> {
    if let Some(path) = env::var_os("VIPSEC_BIN") {
        return Some(PathBuf::from(path));
    }
    let modified = |path: &PathBuf| path.metadata().and_then(|m| m.modified()).ok();
    // The running test is target/PROFILE/deps/NAME, the demo is target/PROFILE/demo.
    let program = env::current_exe().ok()?;
    program
        .ancestors()
        .flat_map(|directory| ["release", "debug"].map(|p| directory.join(p).join("vipsec")))
        .filter(|candidate| candidate.is_file())
        .max_by_key(modified)
}
