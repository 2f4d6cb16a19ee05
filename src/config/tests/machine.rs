//! A machine of paper: one configuration file and a drawer of keys.

use std::io;
use std::path::Path;

use ipsec_types::SecretBytes;

use crate::config::files::{MAX_CONFIG_BYTES, MAX_SECRET_BYTES};
use crate::config::{ConfigErrors, Files, ResolvedConfig, SecretFile, load_with};

/// A key that nobody has to warn about.
pub(super) const GOOD_KEY: &str = "mC3vXq8RtYb2LkZw7HdPfJ5sNgA9eUxT";

/// Begins the file of connections in a text that is two files.
pub(super) const SECOND_FILE: &str = "%%% connections.toml\n";

/// What the loader sees.
pub(super) struct Machine {
    pub(super) config: io::Result<String>,
    /// `connections.toml`, if there is one.
    pub(super) connections: Option<String>,
}

impl Machine {
    pub(super) fn with(config: &str) -> Self {
        let (main, connections) = match config.split_once(SECOND_FILE) {
            Some((main, connections)) => (main, Some(connections.to_owned())),
            None => (config, None),
        };
        Self {
            config: Ok(main.to_owned()),
            connections,
        }
    }
}

/// Loads `config` as `vipsec.toml`.
pub(super) fn load(config: &str) -> Result<ResolvedConfig, ConfigErrors> {
    load_with(Path::new("vipsec.toml"), &Machine::with(config))
}

fn error_like(error: &io::Error) -> io::Error {
    error.kind().into()
}

impl Files for Machine {
    fn read_config(&self, path: &Path) -> io::Result<String> {
        let text = match path.to_str() {
            Some("vipsec.toml") => self.config.as_ref().map_err(error_like)?,
            Some("connections.toml") => self.connections.as_ref().ok_or(io::ErrorKind::NotFound)?,
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        if text.len() as u64 > MAX_CONFIG_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(text.clone())
    }

    fn read_secret(&self, path: &Path) -> io::Result<SecretFile> {
        let mut file = SecretFile {
            content: SecretBytes::from(GOOD_KEY.as_bytes()),
            mode: 0o600,
            owner: 0,
            regular: true,
            truncated: false,
        };
        let content = |text: &[u8]| SecretBytes::from(text);
        match path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("")
        {
            "good.psk" | "pair.secret" => {}
            "short.secret" => file.content = content(b"fifteen chars!\n"),
            "weak.secret" => file.content = content(b"Summer2026!Summer2026!\n"),
            "newline.psk" => file.content = content(format!("{GOOD_KEY}\n").as_bytes()),
            "world.psk" => file.mode = 0o644,
            "foreign.psk" => file.owner = 1000,
            "empty.psk" => file.content = content(b"\n"),
            "two-lines.psk" => file.content = content(b"one\ntwo\n"),
            "umlaut.psk" => file.content = content("schlüssel".as_bytes()),
            "weak.psk" => file.content = content(b"Summer2026!\n"),
            "hyphen.psk" => file.content = content(format!("{GOOD_KEY}-{GOOD_KEY}").as_bytes()),
            "folder" => file.regular = false,
            "large.psk" => {
                file.content = content(&vec![b'x'; MAX_SECRET_BYTES as usize + 1]);
                file.truncated = true;
            }
            "forbidden.psk" => return Err(io::ErrorKind::PermissionDenied.into()),
            _ => return Err(io::ErrorKind::NotFound.into()),
        }
        Ok(file)
    }

    fn host_name(&self) -> String {
        "paper".to_owned()
    }

    fn user(&self) -> u32 {
        0
    }
}
