//! Commands that are one question to the daemon.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::output::{Failure, note, print};
use crate::config;
use crate::control::{Client, Command, Reply};
use crate::palette::{Palette, Tone};
use crate::status::{self, Status};

/// Longer than the daemon itself waits for its own loop, so that its excuse arrives.
const PATIENCE: Duration = Duration::from_secs(25);

/// The running daemon, as far as the command line knows it.
#[derive(Debug)]
pub(super) struct Daemon {
    socket: PathBuf,
}

impl Daemon {
    /// The daemon at `socket`, or where the default configuration says.
    pub(super) fn new(socket: Option<PathBuf>) -> Self {
        Self {
            socket: socket
                .unwrap_or_else(|| config::control_socket(Path::new(config::DEFAULT_PATH))),
        }
    }

    /// One question; a refusal is a failure.
    pub(super) fn ask(&self, command: &Command) -> Result<Reply, Failure> {
        match Client::connect(&self.socket, PATIENCE)?.call(command)? {
            Reply::Refused(refusal) => Err(Failure::Refused(refusal)),
            reply => Ok(reply),
        }
    }

    /// The status of everything, or of one connection.
    pub(super) fn status(&self, connection: Option<&str>) -> Result<Status, Failure> {
        let connection = connection.map(str::to_owned);
        match self.ask(&Command::Status { connection })? {
            Reply::Status(status) => Ok(*status),
            Reply::Counters(_) | Reply::Done(_) | Reply::Refused(_) => Err(unexpected()),
        }
    }
}

fn unexpected() -> Failure {
    Failure::Client(crate::control::ClientError::Protocol(
        "it belongs to another question".to_owned(),
    ))
}

/// `vipsec status`.
pub(super) fn status(
    daemon: &Daemon,
    connection: Option<String>,
    json: bool,
) -> Result<(), Failure> {
    let status = daemon.status(connection.as_deref())?;
    if json {
        return print_json(&status);
    }
    print(&status::render(&status, Palette::for_stdout()))
}

/// `vipsec status --counters`.
pub(super) fn counters(daemon: &Daemon, json: bool) -> Result<(), Failure> {
    let Reply::Counters(counters) = daemon.ask(&Command::Counters)? else {
        return Err(unexpected());
    };
    if json {
        return print_json(&counters);
    }
    print(&status::render_counters(&counters))
}

/// Commands whose answer is one line.
pub(super) fn done(daemon: &Daemon, command: &Command) -> Result<(), Failure> {
    let Reply::Done(line) = daemon.ask(command)? else {
        return Err(unexpected());
    };
    print(&format!("{line}\n"))
}

/// `vipsec keylog on`.
pub(super) fn keylog_on(daemon: &Daemon, directory: &Path) -> Result<(), Failure> {
    // The daemon has another working folder than we have.
    let directory = std::path::absolute(directory)
        .map_err(|error| Failure::wrong(format!("{}: {error}", directory.display())))?;
    let palette = Palette::for_stderr();
    let warning = palette.paint(Tone::Bad, "whoever reads this folder reads your traffic");
    done(daemon, &Command::KeylogOn { directory })?;
    note(&format!("{warning}; stop it with: vipsec keylog off\n"));
    Ok(())
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::wrong(format!("cannot write the result: {error}")))?;
    print(&format!("{json}\n"))
}
