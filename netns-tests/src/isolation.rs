//! A private world for one scenario: own processes, own mounts, own (empty) network.
//!
//! The program starts itself once more under `unshare`, as process 1 of a new process
//! namespace. Whatever ends that process, be it the end of the test, a panic, Ctrl-C or
//! `kill -9` of the outer program, the kernel ends every process in there with it, and then
//! removes the networks and mounts that only they held.
//!
//! ```text
//!  cargo test ── unshare ── the same test, as process 1 ─┬─ charon in host "gw-b"
//!      (dies: SIGKILL ─▶ dies: SIGKILL ─▶)               ├─ vipsec in host "gw-a"
//!                                                        └─ ping in host "host-a"
//! ```
//! Without root the new world is a user namespace in which we are root.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, mount};

use crate::LabError;
use crate::sys;

/// Where labs keep their files: in a tmpfs over `/run` that only the isolated world sees.
pub(crate) const LAB_ROOT: &str = "/run/lab";

/// Set for the inner program. Its own process id, 1, is the second witness.
const INSIDE: &str = "VIPSEC_LAB_INSIDE";

/// True in the inner program.
pub(crate) fn inside() -> bool {
    env::var_os(INSIDE).is_some() && std::process::id() == 1
}

/// Refuses to build a network in the world of the user.
pub(crate) fn require_inside() -> Result<(), LabError> {
    if inside() && Path::new(LAB_ROOT).is_dir() {
        return Ok(());
    }
    Err(LabError::System {
        step: "make a lab".to_owned(),
        source: std::io::Error::other("the process is not isolated; use `scenario` or `isolated`"),
    })
}

/// A command that runs this very program in a private world.
pub(crate) fn command_inside(arguments: &[&str]) -> Result<Command, LabError> {
    let program = env::current_exe().map_err(LabError::at("find the running program"))?;
    let mut command = unshare();
    command.arg(program).args(arguments).env(INSIDE, "1");
    Ok(command)
}

/// First thing in the inner program: `/proc` that knows the new process ids, an empty `/run`.
pub(crate) fn furnish() -> Result<(), LabError> {
    if Path::new(LAB_ROOT).is_dir() {
        return Ok(());
    }
    mount("proc", "/proc", "proc", MountFlags::empty(), None)
        .map_err(LabError::at("mount /proc"))?;
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None)
        .map_err(LabError::at("mount a tmpfs over /run"))?;
    fs::create_dir_all(LAB_ROOT).map_err(LabError::at("make the lab's directory"))
}

/// Tries the whole isolation on a harmless command.
///
/// # Errors
/// One line that says why it is not to be had here.
pub(crate) fn probe() -> Result<(), String> {
    let script = "mount -t proc proc /proc && mount -t tmpfs tmpfs /run && exec ip link";
    let output = unshare()
        .args(["sh", "-c", script])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start unshare (package util-linux): {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let who = if is_root() { "root" } else { "not root" };
    Err(format!(
        "namespaces are not to be had here ({who}): {}",
        words.trim().replace('\n', "; ")
    ))
}

/// True with effective user id 0.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "--net", "--uts", "--pid", "--fork"]);
    command.args(["--kill-child=KILL", "--"]);
    sys::die_with_parent(&mut command);
    command
}
