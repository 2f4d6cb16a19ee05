//! A network namespace and a mount namespace, held by file descriptors only.
//!
//! Nothing appears in `/run/netns`. When the last descriptor and the last process are gone,
//! the kernel removes interfaces, routes and mounts; there is no clean-up to forget.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{mount_bind, mount_bind_recursive};
use rustix::thread::CpuSet;

use crate::LabError;
use crate::isolation::LAB_ROOT;
use crate::sys;

#[derive(Debug)]
pub(crate) struct Namespace {
    net: Arc<OwnedFd>,
    mnt: Arc<OwnedFd>,
}

impl Namespace {
    /// New namespaces in which `/run` is the directory `run`, with the lab's own directory
    /// kept visible at its place.
    pub(crate) fn new(run: &Path) -> Result<Self, LabError> {
        let make = || -> Result<Self, LabError> {
            sys::leave_network_and_mounts().map_err(LabError::at("make a network namespace"))?;
            replace_run(run)?;
            let open = |kind: &str| {
                File::open(format!("/proc/thread-self/ns/{kind}"))
                    .map(|file| Arc::new(OwnedFd::from(file)))
                    .map_err(LabError::at("open a namespace"))
            };
            Ok(Self {
                net: open("net")?,
                mnt: open("mnt")?,
            })
        };
        on_own_thread(make)?
    }

    /// A command that will run inside, on these CPUs if some are named.
    pub(crate) fn command(&self, program: &Path, cpus: Option<CpuSet>) -> Command {
        let mut command = Command::new(program);
        sys::start_inside(
            &mut command,
            Arc::clone(&self.net),
            Arc::clone(&self.mnt),
            cpus,
        );
        command
    }

    /// Runs `work` on a thread inside the network namespace (the files stay the lab's own).
    /// A socket made in there keeps belonging to the namespace wherever it is used.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        on_own_thread(|| {
            sys::enter_network(self.net.as_fd()).map_err(LabError::at("enter a namespace"))?;
            Ok(work())
        })?
    }

    /// A path by which another process of this lab can name the network namespace.
    pub(crate) fn path(&self) -> PathBuf {
        let process = std::process::id();
        PathBuf::from(format!("/proc/{process}/fd/{}", self.net.as_raw_fd()))
    }
}

/// Namespaces belong to threads, so a thread of its own keeps the caller where it was.
fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
    thread::scope(|scope| {
        scope.spawn(work).join().map_err(|_panic| LabError::System {
            step: "work inside a namespace".to_owned(),
            source: std::io::Error::other("the thread panicked"),
        })
    })
}

fn replace_run(run: &Path) -> Result<(), LabError> {
    let lab = rustix::fs::open(LAB_ROOT, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(LabError::at("open the lab's directory"))?;
    mount_bind(run, "/run").map_err(LabError::at("give the host its own /run"))?;
    let kept = format!("/proc/thread-self/fd/{}", lab.as_raw_fd());
    std::fs::create_dir_all(LAB_ROOT).map_err(LabError::at("make the lab's mount point"))?;
    // Recursively: a disk of the lab is a mount below it.
    mount_bind_recursive(kept.as_str(), LAB_ROOT).map_err(LabError::at("keep the lab's directory"))
}
