//! A machine: namespaces, a directory, and a way to run things.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::thread::{CpuSet, sched_setaffinity};

use super::namespace::Namespace;
use super::process::{Background, Output};
use crate::LabError;

/// A machine of the lab. Clones are handles of the same machine.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    directory: PathBuf,
    namespace: Namespace,
    /// Numbers the logs, so that a restarted daemon does not overwrite its first life.
    runs: AtomicU32,
    /// Its own CPUs, where it does not use all of them.
    cpus: OnceLock<CpuSet>,
}

/// Kernel settings of every machine: it routes, it filters return paths loosely as systemd
/// sets it, IPv6 addresses are usable at once, and root may open ICMP echo sockets.
const SETTINGS: [(&str, &str); 7] = [
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/rp_filter", "2"),
    ("ipv4/conf/default/rp_filter", "2"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv4/ping_group_range", "0 0"),
];

impl Host {
    pub(super) fn new(root: &Path, name: &str) -> Result<Self, LabError> {
        let directory = root.join(name);
        let run = directory.join("run");
        std::fs::create_dir_all(&run).map_err(LabError::at(format!("make {name}'s files")))?;
        let namespace = Namespace::new(&run)?;
        let host = Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                directory,
                namespace,
                runs: AtomicU32::new(1),
                cpus: OnceLock::new(),
            }),
        };
        for (setting, value) in SETTINGS {
            host.sysctl(setting, value)?;
        }
        host.ip("link set lo up")?;
        Ok(host)
    }

    /// The name it was made with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Files of this machine, at the same path inside and outside of it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// Writes a file into the machine's directory and says where it is.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, LabError> {
        let path = self.inner.directory.join(name);
        std::fs::write(&path, text).map_err(LabError::at(format!("write {}", path.display())))?;
        Ok(path)
    }

    /// Sets `/proc/sys/net/{name}`.
    ///
    /// # Errors
    /// When the setting is unknown or the value is refused.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<(), LabError> {
        let path = Path::new("/proc/sys/net").join(name);
        self.enter(|| std::fs::write(&path, value))?
            .map_err(LabError::at(format!("set {name} = {value}")))
    }

    /// Runs `ip` with words separated by blanks.
    ///
    /// # Errors
    /// [`LabError::Command`] when `ip` refuses.
    pub fn ip(&self, words: &str) -> Result<Output, LabError> {
        self.run(&format!("ip {words}"))
    }

    /// Adds an address such as `10.1.0.1/24` or `fd00:a::1/64` to a device.
    ///
    /// # Errors
    /// [`LabError::Command`] when `ip` refuses.
    pub fn address(&self, device: &str, address: &str) -> Result<(), LabError> {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.ip(&format!("address add {address} dev {device}{nodad}"))?;
        Ok(())
    }

    /// Routes `prefix` (or `default`) through a neighbour.
    ///
    /// # Errors
    /// [`LabError::Command`] when `ip` refuses.
    pub fn route(&self, prefix: &str, via: IpAddr) -> Result<(), LabError> {
        let family = if via.is_ipv6() { "-6 " } else { "" };
        self.ip(&format!("{family}route add {prefix} via {via}"))?;
        Ok(())
    }

    /// Runs a command, given as words separated by blanks, to its end.
    ///
    /// # Errors
    /// [`LabError::Command`] when it cannot start or ends with anything but 0.
    pub fn run(&self, words: &str) -> Result<Output, LabError> {
        self.attempt(words)?.or_fail(self.name(), words)
    }

    /// Like [`Host::run`], but the command's own refusal is a result.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn attempt(&self, words: &str) -> Result<Output, LabError> {
        let mut parts = words.split_whitespace();
        let program = parts.next().unwrap_or_default();
        let mut command = self.command(program);
        command.args(parts);
        Output::of(command, words)
    }

    /// A command that will run on this machine; for those that need more than words.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let cpus = self.inner.cpus.get().copied();
        let mut command = self.inner.namespace.command(program.as_ref(), cpus);
        command.stdin(Stdio::null());
        command
    }

    /// Starts a process that lives until it is stopped or its handle is dropped; its output
    /// goes to a log in the machine's directory.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn spawn(&self, name: &str, command: Command) -> Result<Background, LabError> {
        let run = self.inner.runs.fetch_add(1, Ordering::Relaxed);
        let log = self.inner.directory.join(format!("{run}-{name}.log"));
        Background::start(&format!("{name} on {}", self.name()), log, command)
    }

    /// Runs `work` on a thread inside the machine's network; sockets made there stay there.
    ///
    /// # Errors
    /// When the thread cannot enter.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        self.inner.namespace.enter(work)
    }

    /// From now on what is started here runs on these CPUs only, and so does a thread that
    /// asks for it with [`Host::run_here`]. The first choice stays.
    pub fn keep_to(&self, cpus: CpuSet) {
        let _first = self.inner.cpus.set(cpus);
    }

    /// Moves the calling thread to this machine's CPUs, where it has some of its own.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn run_here(&self) -> Result<(), LabError> {
        let Some(cpus) = self.inner.cpus.get() else {
            return Ok(());
        };
        sched_setaffinity(None, cpus).map_err(LabError::at(format!("move to {}", self.name())))
    }

    /// True for two handles of one machine.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(super) fn namespace(&self) -> &Namespace {
        &self.inner.namespace
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({})", self.name())
    }
}
