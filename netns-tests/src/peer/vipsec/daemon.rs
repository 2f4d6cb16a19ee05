//! A running `vipsec run`, and the commands that talk to it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use super::config::{self, Connection};
use super::pair::Member;
use super::status::{ConnectionStatus, Status};
use crate::LabError;
use crate::lab::{Background, Host, Output, wait_for};
use crate::need::vipsec_binary;

/// The daemon is ready in milliseconds; a loaded machine gets more.
const READY: Duration = Duration::from_secs(10);

/// How long a tunnel may take to come up: main mode, quick mode and one lost message.
pub const UP: Duration = Duration::from_secs(10);

/// Settings of a daemon that differ between scenarios.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Write keys for Wireshark.
    pub keylog: bool,
    /// The node's part in a pair; `None` for a single gateway.
    pub pair: Option<Member>,
    /// Further environment variables of the process.
    pub environment: Vec<(String, String)>,
}

impl Options {
    /// The daemon writes its keys down.
    #[must_use]
    pub const fn with_keylog() -> Self {
        Self {
            keylog: true,
            pair: None,
            environment: Vec::new(),
        }
    }
}

/// A running vipsec.
#[derive(Debug)]
pub struct Vipsec {
    host: Host,
    process: Background,
    files: Files,
    options: Box<Options>,
}

/// Where a gateway keeps what; `Vipsec::prepare` makes it without starting anything.
#[derive(Debug, Clone)]
pub struct Files {
    /// The program.
    pub binary: PathBuf,
    /// `vipsec.toml`.
    pub config: PathBuf,
    /// Control socket.
    pub socket: PathBuf,
    /// Key tables for Wireshark.
    pub keylog: PathBuf,
}

/// The folder of what a pair keeps the same, in a node's folder.
const SHARED: &str = "shared";
/// The file of connections in it; the keys are beside it.
pub(super) const SHARED_CONNECTIONS: &str = "shared/connections.toml";

impl Vipsec {
    /// Writes the configuration and starts the daemon; returns when it answers.
    ///
    /// # Errors
    /// When it refuses the configuration or does not answer.
    pub fn start(host: &Host, connections: &[Connection]) -> Result<Self, LabError> {
        Self::start_with(host, connections, &Options::default())
    }

    /// Like [`Vipsec::start`], with options.
    ///
    /// # Errors
    /// As [`Vipsec::start`].
    pub fn start_with(
        host: &Host,
        connections: &[Connection],
        options: &Options,
    ) -> Result<Self, LabError> {
        let files = Self::prepare_with(host, connections, options)?;
        let mut command = host.command(&files.binary);
        command.arg("run").arg("-c").arg(&files.config);
        command.env("RUST_BACKTRACE", "1");
        command.envs(options.environment.iter().cloned());
        if options.keylog {
            command.arg("--keylog").arg(&files.keylog);
        }
        let process = host.spawn("vipsec", command)?;
        let mut daemon = Self {
            host: host.clone(),
            process,
            files,
            options: Box::new(options.clone()),
        };
        wait_for("the answer of vipsec status", READY, || {
            daemon.process.must_run()?;
            let answer = daemon.attempt("status --json")?;
            Ok(answer.status.success().then_some(()))
        })?;
        Ok(daemon)
    }

    /// Writes configuration and key files only.
    ///
    /// # Errors
    /// What the file system says.
    pub fn prepare(host: &Host, connections: &[Connection]) -> Result<Files, LabError> {
        Self::prepare_with(host, connections, &Options::default())
    }

    /// Like [`Vipsec::prepare`], with options.
    ///
    /// # Errors
    /// What the file system says.
    pub fn prepare_with(
        host: &Host,
        connections: &[Connection],
        options: &Options,
    ) -> Result<Files, LabError> {
        let directory = host.directory();
        let files = Files {
            binary: vipsec_binary().unwrap_or_else(|| PathBuf::from("vipsec")),
            config: directory.join("vipsec.toml"),
            socket: directory.join("vipsec.sock"),
            keylog: directory.join("keylog"),
        };
        let shares = options.pair.as_ref().is_some_and(|member| member.shared);
        if shares {
            fs::create_dir_all(directory.join(SHARED))
                .map_err(LabError::at("make the folder of the pair"))?;
        }
        for (number, connection) in connections.iter().enumerate() {
            let folder = if shares { SHARED } else { "." };
            write_secret(host, &format!("{folder}/{number}.psk"), &connection.psk)?;
        }
        let mut pair = String::new();
        if let Some(member) = &options.pair {
            let secret = write_secret(host, "pair.secret", &member.secret)?;
            pair = member.render(&secret);
        }
        let mut inline = connections;
        if shares {
            let shared = config::render_connections(Path::new(""), connections);
            host.write(SHARED_CONNECTIONS, &shared)?;
            inline = &[];
        }
        let text = config::render(host.name(), &files.socket, &pair, directory, inline);
        host.write("vipsec.toml", &text)?;
        Ok(files)
    }

    /// Tells it to bring a connection up; does not wait for the outcome.
    ///
    /// # Errors
    /// When it refuses.
    pub fn up(&self, connection: &str) -> Result<(), LabError> {
        self.run(&format!("up {connection} --no-wait"))?;
        Ok(())
    }

    /// Tells it to take a connection down.
    ///
    /// # Errors
    /// When it refuses.
    pub fn down(&self, connection: &str) -> Result<(), LabError> {
        self.run(&format!("down {connection}"))?;
        Ok(())
    }

    /// What it says about itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<Status, LabError> {
        Status::parse(&self.run("status --json")?.stdout)
    }

    /// What it says about one connection.
    ///
    /// # Errors
    /// When it does not answer, or does not know the connection.
    pub fn connection(&self, name: &str) -> Result<ConnectionStatus, LabError> {
        let status = self.status()?;
        let found = status.connection(name).cloned();
        found.ok_or_else(|| LabError::unreadable("vipsec status", name))
    }

    /// Waits until a connection is in a state.
    ///
    /// # Errors
    /// [`LabError::Timeout`] with the last state and error seen.
    pub fn wait_state(
        &self,
        connection: &str,
        state: &str,
        patience: Duration,
    ) -> Result<ConnectionStatus, LabError> {
        let mut last = String::new();
        let what = format!("{connection} {state} on {}", self.host.name());
        let result = wait_for(&what, patience, || {
            let status = self.connection(connection)?;
            last = format!("{}: {}", status.state, status.error());
            Ok((status.state == state).then_some(status))
        });
        result.map_err(|error| match error {
            LabError::Timeout { what, waited } => LabError::Timeout {
                what: format!("{what}; it is {last}"),
                waited,
            },
            other => other,
        })
    }

    /// Waits until a connection is up.
    ///
    /// # Errors
    /// As [`Vipsec::wait_state`].
    pub fn wait_up(&self, connection: &str) -> Result<ConnectionStatus, LabError> {
        self.wait_state(connection, "up", UP)
    }

    /// Brings a connection up and waits for it, as `vipsec up` does.
    ///
    /// # Errors
    /// With the command's account of the failure.
    pub fn bring_up(&self, connection: &str) -> Result<ConnectionStatus, LabError> {
        let seconds = UP.as_secs();
        self.run(&format!("up {connection} --timeout {seconds}"))?;
        self.wait_up(connection)
    }

    /// Replaces the configuration and tells the daemon to read it.
    ///
    /// # Errors
    /// When it refuses the new one.
    pub fn reload(&self, connections: &[Connection]) -> Result<(), LabError> {
        Self::prepare_with(&self.host, connections, &self.options)?;
        self.run("reload")?;
        Ok(())
    }

    /// Ends it the polite way (SIGTERM).
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Result<ExitStatus, LabError> {
        self.process.stop(READY)
    }

    /// The daemon's process: log, signals, CPU time.
    pub fn process(&mut self) -> &mut Background {
        &mut self.process
    }

    /// All it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Directory with the tables `esp_sa` and `ikev1_decryption_table`.
    #[must_use]
    pub fn keylog(&self) -> &Path {
        &self.files.keylog
    }

    /// Runs a command of the binary against this daemon's socket.
    ///
    /// # Errors
    /// [`LabError::Command`] when it refuses.
    pub fn run(&self, words: &str) -> Result<Output, LabError> {
        self.attempt(words)?
            .or_fail(self.host.name(), &format!("vipsec {words}"))
    }

    /// Runs a command of the binary against this daemon's socket; its refusal is a result.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn attempt(&self, words: &str) -> Result<Output, LabError> {
        let mut command = self.host.command(&self.files.binary);
        command.args(words.split_whitespace());
        command.arg("--socket").arg(&self.files.socket);
        Output::of(command, words)
    }
}

/// A file that only its owner may read.
fn write_secret(host: &Host, name: &str, secret: &str) -> Result<PathBuf, LabError> {
    let path = host.write(name, &format!("{secret}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
        .map_err(LabError::at("protect the key file"))?;
    Ok(path)
}

impl Drop for Vipsec {
    /// Leaves its last words beside the log, for the case that the scenario fails.
    fn drop(&mut self) {
        if self.process.must_run().is_ok()
            && let Ok(answer) = self.attempt("status")
        {
            // A failing disk would show in the scenario itself.
            let _unsaid = self.host.write("last-status.log", &answer.text());
        }
    }
}
