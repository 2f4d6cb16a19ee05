//! What the loader asks of the machine, behind a trait so that tests need no real secrets.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ipsec_types::SecretBytes;
use zeroize::Zeroizing;

/// Largest configuration file that is read, in bytes; a thousand connections fit.
pub(super) const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Largest key file that is read, in bytes; no peer takes a longer key.
pub(super) const MAX_SECRET_BYTES: u64 = 4096;

/// A key file as it was found, not yet judged.
#[derive(Debug, Clone)]
pub struct SecretFile {
    /// Its content.
    pub content: SecretBytes,
    /// Permission bits, `0o600` for a good one.
    pub mode: u32,
    /// User id of its owner.
    pub owner: u32,
    /// False for a directory, a device or a pipe; `content` is then empty.
    pub regular: bool,
    /// True when there is more than `content` shows.
    pub truncated: bool,
}

/// The machine as the loader sees it.
pub trait Files {
    /// The text of the configuration file.
    ///
    /// # Errors
    /// Whatever the system says; [`io::ErrorKind::FileTooLarge`] above 1 MiB.
    fn read_config(&self, path: &Path) -> io::Result<String>;

    /// A pre-shared key with the facts about its file, taken from the same open file.
    ///
    /// # Errors
    /// Whatever the system says.
    fn read_secret(&self, path: &Path) -> io::Result<SecretFile>;

    /// The host's name.
    fn host_name(&self) -> String;

    /// The user that we run as.
    fn user(&self) -> u32;
}

/// The real machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFiles;

impl Files for RealFiles {
    fn read_config(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        file.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_CONFIG_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(text)
    }

    fn read_secret(&self, path: &Path) -> io::Result<SecretFile> {
        // Not blocking: a pipe in the place of the file must not hold the daemon.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        let facts = file.metadata()?;
        let mut content = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES as usize + 1));
        if facts.is_file() {
            file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut content)?;
        }
        let truncated = content.len() as u64 > MAX_SECRET_BYTES;
        Ok(SecretFile {
            content: SecretBytes::new(std::mem::take(&mut *content)),
            mode: facts.mode() & 0o7777,
            owner: facts.uid(),
            regular: facts.is_file(),
            truncated,
        })
    }

    fn host_name(&self) -> String {
        let name = rustix::system::uname();
        name.nodename().to_string_lossy().into_owned()
    }

    fn user(&self) -> u32 {
        rustix::process::geteuid().as_raw()
    }
}

/// A machine on which some files have other content than on the disk: what a partner sent is
/// judged before it is stored.
#[derive(Debug, Clone)]
pub struct Overlay<F> {
    base: F,
    files: BTreeMap<PathBuf, SecretBytes>,
}

impl<F: Files> Overlay<F> {
    /// `base`, and nothing else yet.
    pub fn new(base: F) -> Self {
        Self {
            base,
            files: BTreeMap::new(),
        }
    }

    /// The file at `path` has this content. As a key it belongs to us and nobody else may
    /// read it, which is how it would be stored.
    pub fn put(&mut self, path: &Path, content: SecretBytes) {
        self.files.insert(path.to_owned(), content);
    }
}

impl<F: Files> Files for Overlay<F> {
    fn read_config(&self, path: &Path) -> io::Result<String> {
        let Some(content) = self.files.get(path) else {
            return self.base.read_config(path);
        };
        if content.len() as u64 > MAX_CONFIG_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let text = std::str::from_utf8(content.expose());
        text.map(str::to_owned)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn read_secret(&self, path: &Path) -> io::Result<SecretFile> {
        let Some(content) = self.files.get(path) else {
            return self.base.read_secret(path);
        };
        Ok(SecretFile {
            content: content.clone(),
            mode: 0o600,
            owner: self.base.user(),
            regular: true,
            truncated: content.len() as u64 > MAX_SECRET_BYTES,
        })
    }

    fn host_name(&self) -> String {
        self.base.host_name()
    }

    fn user(&self) -> u32 {
        self.base.user()
    }
}
