//! What the two nodes of a pair keep the same: the file of connections and the keys it names.
//! It travels inside the pair channel only, and is stored only after it has been loaded.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use ipsec_types::SecretBytes;
use serde::{Deserialize, Serialize};

use super::files::{Files, MAX_CONFIG_BYTES, MAX_SECRET_BYTES, Overlay};

/// First byte of the encoded form.
const FORMAT: u8 = 1;

/// The connections of a pair, as they stand in their files.
///
/// A partner's copy is loaded before it is believed:
/// ```no_run
/// # use vipsec::config::{SharedConfig, RealFiles, load_with};
/// # fn take(bytes: &[u8], main: &std::path::Path, connections: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
/// let shared = SharedConfig::decode(bytes)?;
/// let config = load_with(main, &shared.overlay(connections, RealFiles))?;
/// shared.store(connections)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedConfig {
    /// The text of the file of connections.
    pub text: String,
    /// The keys that it names, each once: the name as the text has it, relative to the
    /// folder of that file.
    pub psk_files: Vec<(String, SecretBytes)>,
}

/// Bytes that are no [`SharedConfig`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotShared {
    /// Another version of the daemon wrote them.
    #[error("the partner's connections are in another form: are both nodes of the same version?")]
    Format,
    /// They are cut off or damaged.
    #[error("the partner's connections cannot be decoded")]
    Damaged,
    /// Larger than a file of connections or a key may be.
    #[error("the partner's connections are too large")]
    TooLarge,
    /// A key file that would be outside the folder.
    #[error("the partner's connections name a key outside their folder")]
    Outside,
}

impl SharedConfig {
    /// The form that travels. It contains the keys in clear: for the pair channel only.
    #[must_use]
    pub fn encode(&self) -> SecretBytes {
        // Sized before it is written: a buffer that grows leaves copies of keys behind.
        let size = postcard::experimental::serialized_size(self).unwrap_or_default();
        let mut bytes = Vec::with_capacity(size + 1);
        bytes.push(FORMAT);
        // A string and bytes: nothing that could fail to be written. An empty result would be
        // refused by the partner.
        SecretBytes::new(postcard::to_extend(self, bytes).unwrap_or_default())
    }

    /// The inverse of [`SharedConfig::encode`].
    ///
    /// # Errors
    /// [`NotShared`]; the bytes come from the partner, and are checked like anybody's.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotShared> {
        let (&format, rest) = bytes.split_first().ok_or(NotShared::Damaged)?;
        if format != FORMAT {
            return Err(NotShared::Format);
        }
        let (shared, rest): (Self, &[u8]) =
            postcard::take_from_bytes(rest).map_err(|_| NotShared::Damaged)?;
        if !rest.is_empty() {
            return Err(NotShared::Damaged);
        }
        let large = |length: usize, limit: u64| length as u64 > limit;
        let keys = &shared.psk_files;
        if large(shared.text.len(), MAX_CONFIG_BYTES)
            || keys
                .iter()
                .any(|(_, key)| large(key.len(), MAX_SECRET_BYTES))
        {
            return Err(NotShared::TooLarge);
        }
        if !keys.iter().all(|(name, _)| is_shareable(name)) {
            return Err(NotShared::Outside);
        }
        Ok(shared)
    }

    /// `base` with this in the place of the file at `connections` and the keys beside it.
    pub fn overlay<F: Files>(&self, connections: &Path, base: F) -> Overlay<F> {
        let mut overlay = Overlay::new(base);
        overlay.put(connections, SecretBytes::from(self.text.as_bytes()));
        for (name, key) in &self.psk_files {
            overlay.put(&beside(connections, name), key.clone());
        }
        overlay
    }

    /// Writes the keys beside `connections`, then the text to it. Each file is replaced at
    /// once or not at all, and none names a key that is not there yet.
    ///
    /// # Errors
    /// The system's, with the file in the text. What was there before is whole.
    pub fn store(&self, connections: &Path) -> io::Result<()> {
        for (name, key) in &self.psk_files {
            replace(&beside(connections, name), 0o600, key.expose())?;
        }
        replace(connections, 0o640, self.text.as_bytes())
    }
}

fn beside(connections: &Path, name: &str) -> PathBuf {
    connections.parent().unwrap_or(Path::new("")).join(name)
}

/// True for a name that means the same file, below the folder, on both nodes.
pub(super) fn is_shareable(name: &str) -> bool {
    let mut parts = Path::new(name).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Puts `content` at `path` in one step: written beside it, on the disk, then renamed.
fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut fresh = std::ffi::OsString::from(".");
    fresh.push(name);
    fresh.push(".new");
    let fresh = folder.join(fresh);
    let write = || {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(folder)?;
        // Left over from a crash: its mode may be another one.
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error: io::Error| {
        // What could not be completed must not lie about; there may be no such file.
        let _ = fs::remove_file(&fresh);
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    })
}
