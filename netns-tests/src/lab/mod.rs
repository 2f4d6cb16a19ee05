//! Networks made of namespaces: hosts, cables, bridges, and the processes on them.

mod disk;
mod host;
mod link;
mod namespace;
mod process;
mod wait;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub use disk::Disk;
pub use host::Host;
pub use link::{Bridge, Cable, mute_at_once, pull_at_once, unmute_at_once};
pub use process::{Background, Output};
pub use wait::{POLL, now, wait_for};

use crate::LabError;
use crate::isolation;

/// Numbers the labs of one process, so that two of them never share a path.
static NEXT_LAB: AtomicU32 = AtomicU32::new(1);

/// One network. Everything in it is anonymous: hosts are file descriptors of namespaces, and
/// files live in a tmpfs that only this process and its children can see.
#[derive(Debug)]
pub struct Lab {
    root: PathBuf,
}

impl Lab {
    /// An empty network.
    ///
    /// # Errors
    /// When the process is not isolated (see [`crate::scenario`]) or the directory cannot be made.
    pub fn new() -> Result<Self, LabError> {
        isolation::require_inside()?;
        let number = NEXT_LAB.fetch_add(1, Ordering::Relaxed);
        let root = PathBuf::from(isolation::LAB_ROOT).join(number.to_string());
        std::fs::create_dir_all(&root).map_err(LabError::at("make the lab's directory"))?;
        Ok(Self { root })
    }

    /// A machine with a loopback interface, IP forwarding on and nothing else.
    ///
    /// # Errors
    /// When the kernel refuses a namespace or a mount.
    pub fn host(&self, name: &str) -> Result<Host, LabError> {
        Host::new(&self.root, name)
    }

    /// A small disk for a folder of a machine that is made later, such as `gw-a/shared`.
    ///
    /// # Errors
    /// When the kernel refuses the mount.
    pub fn disk(&self, folder: &str, kibibytes: u32) -> Result<Disk, LabError> {
        Disk::new(self.root.join(folder), kibibytes)
    }

    /// Where its files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.root
    }

    /// Copies the logs of everything that ran in it, named after their place.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep_logs(&self, to: &Path) -> Result<(), LabError> {
        std::fs::create_dir_all(to).map_err(LabError::at("make a place for the logs"))?;
        for log in crate::scenario::logs(&self.root) {
            let inside = log.strip_prefix(&self.root).unwrap_or(&log);
            let name = inside.display().to_string().replace('/', "-");
            std::fs::copy(&log, to.join(name)).map_err(LabError::at("keep a log"))?;
        }
        Ok(())
    }

    /// Throws its files away: a program that builds many networks would fill the memory with
    /// captures.
    ///
    /// # Errors
    /// What the file system says.
    pub fn discard(self) -> Result<(), LabError> {
        std::fs::remove_dir_all(&self.root).map_err(LabError::at("remove the lab's directory"))
    }
}
