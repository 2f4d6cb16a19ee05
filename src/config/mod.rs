//! The configuration file: read once, resolved once, and never half applied (invariant I9).
//!
//! ```text
//!   vipsec.toml --toml--> tree with spans --raw.rs--> every key a Field --resolve/--> ResolvedConfig
//!                              |                          |                  |
//!                              +--------- findings -------+------------------+----> ConfigErrors
//! ```
//!
//! Nobody but this module sees a raw value. A wrong value is never replaced by a default:
//! it is a [`Problem`] with file, line, column, what was expected and what to do, and all
//! problems of a file come at once. [`load`] is used by `check`, at start and at reload, so
//! the three cannot disagree.

mod document;
mod explain;
mod fault;
mod files;
mod pair;
mod problem;
mod profile;
mod raw;
mod resolve;
mod resolved;
mod secret;
mod shared;
mod source;
mod suggest;
#[cfg(test)]
mod tests;
mod value;
mod words;

use std::io::ErrorKind;
use std::path::Path;

use toml::Spanned;
use toml::de::DeTable;

use document::{Field, Section};
use fault::Fault;
use problem::Findings;
use source::{InFile, Source, Sources};

pub use explain::{Explanation, Origin, Setting};
pub use files::{Files, Overlay, RealFiles, SecretFile};
pub use pair::{HealthCheck, MoverConfig, PairConfig, PairPath, Side, VirtualAddress};
pub use problem::{ConfigErrors, Problem, Severity};
pub use profile::Profile;
pub use resolved::{
    ConnectionKind, Gateway, Mss, ResolvedConfig, ResolvedConnection, Revision, TunnelPing,
    VtiConfig,
};
pub use shared::{NotShared, SharedConfig};

/// Where the configuration is unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/vipsec/vipsec.toml";

/// Where the control socket is unless the configuration says otherwise.
pub const DEFAULT_CONTROL_SOCKET: &str = "/run/vipsec/vipsec.sock";

/// Reads and resolves the file at `path` and the key files that it names.
///
/// # Errors
/// [`ConfigErrors`] with everything that is wrong.
pub fn load(path: &Path) -> Result<ResolvedConfig, ConfigErrors> {
    load_with(path, &RealFiles)
}

/// [`load`] on a machine of the caller's choice.
///
/// # Errors
/// [`ConfigErrors`] with everything that is wrong.
pub fn load_with(path: &Path, files: &dyn Files) -> Result<ResolvedConfig, ConfigErrors> {
    let (sources, resolved, findings) = examine(path, files);
    let problems = findings.into_problems(&sources);
    match resolved {
        Some(mut config) => {
            config.warnings = problems;
            Ok(config)
        }
        None => Err(ConfigErrors::new(problems)),
    }
}

/// The texts, what they come to if they are right, and everything that is to be said about
/// them.
fn examine(path: &Path, files: &dyn Files) -> (Sources, Option<ResolvedConfig>, Findings) {
    let mut findings = Findings::default();
    let mut sources = Sources {
        main: Source::new(path, String::new()),
        connections: None,
    };
    let text = match files.read_config(path) {
        Ok(text) => text,
        Err(error) => {
            findings.add_without_place(if error.kind() == ErrorKind::FileTooLarge {
                Fault::FileTooLarge {
                    limit: files::MAX_CONFIG_BYTES,
                }
            } else {
                Fault::FileUnreadable {
                    reason: secret::plain_reason(&error),
                }
            });
            return (sources, None, findings);
        }
    };
    sources.main = Source::new(path, text);
    let Some(main) = parse::<raw::RawFile>(&sources.main, &mut findings) else {
        return (sources, None, findings);
    };
    let shared = match named_connections(&main) {
        None => None,
        Some(name) => {
            if let Some(beside) = main.connection.given() {
                findings.add(&beside.span(), Fault::ConnectionsTwice);
            }
            sources.connections = read_connections(path, name, files, &mut findings);
            findings.enter(InFile::Connections);
            let read = |source| parse::<raw::RawConnections>(source, &mut findings);
            // What could not be read has been noted, and is not "no connection".
            let read = sources.connections.as_ref().and_then(read);
            findings.enter(InFile::Main);
            Some(read.map_or(Field::Invalid, |raw| raw.connection))
        }
    };
    let read = resolve::Read {
        sources: &sources,
        main: &main,
        shared: shared.as_ref(),
    };
    let resolved = resolve::resolve(&read, files, &mut findings);
    (sources, resolved, findings)
}

/// The file of connections that `[pair]` names.
fn named_connections(main: &raw::RawFile) -> Option<&Spanned<String>> {
    main.pair.given()?.get_ref().0.connections.given()
}

/// Reads the file `name`, which is beside the main file at `path`.
fn read_connections(
    path: &Path,
    name: &Spanned<String>,
    files: &dyn Files,
    findings: &mut Findings,
) -> Option<Source> {
    let path = path.parent().unwrap_or(Path::new("")).join(name.get_ref());
    match files.read_config(&path) {
        Ok(text) => Some(Source::new(&path, text)),
        Err(error) => {
            let reason = if error.kind() == ErrorKind::FileTooLarge {
                format!("it is larger than {} bytes", files::MAX_CONFIG_BYTES)
            } else {
                secret::plain_reason(&error)
            };
            findings.add(&name.span(), Fault::ConnectionsUnreadable { path, reason });
            None
        }
    }
}

/// Where the configuration at `path` puts the control socket; the default when it does not
/// say, or cannot be read. Asks nothing else of the file: somebody who may use the socket
/// need not be able to read the keys.
#[must_use]
pub fn control_socket(path: &Path) -> std::path::PathBuf {
    let configured = || {
        let text = RealFiles.read_config(path).ok()?;
        let (table, _) = DeTable::parse_recoverable(&text);
        let gateway = table.get_ref().get("gateway")?.get_ref().as_table()?;
        let socket = gateway.get("control_socket")?.get_ref().as_str()?;
        Some(std::path::PathBuf::from(socket))
    };
    configured().unwrap_or_else(|| DEFAULT_CONTROL_SOCKET.into())
}

/// The raw file; `None` when it is not TOML, because what the parser made of the rest would
/// only give rise to more faults.
fn parse<S: Section>(source: &Source, findings: &mut Findings) -> Option<S> {
    let (table, errors) = DeTable::parse_recoverable(source.text());
    for error in &errors {
        let message = error.message().lines().next().unwrap_or("").to_owned();
        let end = source.text().len();
        let span = error.span().unwrap_or(end..end);
        findings.add(&span, Fault::Syntax { message });
    }
    if !errors.is_empty() {
        return None;
    }
    let span = table.span();
    Some(S::read(table.get_ref(), &span, findings))
}
