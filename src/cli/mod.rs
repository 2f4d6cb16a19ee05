//! The command line: `vipsec run`, `check`, `status`, `watch`, `up`, `down`,
//! `switchover`, `reload` and the rest. What a command does to a running daemon goes over the control socket.
//!
//! Exit codes: 0 done; 1 refused or failed; 2 wrong command line; 3 wrong configuration; 4
//! no daemon; 5 not done in time. Results go to standard output, everything else to standard
//! error, and every error says what to do next.

mod args;
mod ask;
mod check;
mod generate;
mod output;
mod switchover;
mod up;
mod watch;

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use args::{Action, Cli, KeylogAction};
use ask::Daemon;
use output::{Failure, complain, print};

use crate::config::{self, ResolvedConfig};
use crate::control::Command;
use crate::{bench, logging};

/// How the daemon was asked to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    /// The configuration file, to be read again at a reload.
    pub config_path: PathBuf,
    /// Where to listen for commands.
    pub socket: PathBuf,
    /// The folder for session keys.
    pub keylog: Option<PathBuf>,
}

/// Understands the command line, does what it says, and tells how it went. `daemon` is what
/// `vipsec run` becomes once configuration and log are there.
#[must_use]
pub fn run<E: Display>(
    daemon: impl FnOnce(ResolvedConfig, RunOptions) -> Result<(), E>,
) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match dispatch(cli, daemon) {
        Ok(code) => code,
        Err(failure) => {
            complain(&failure);
            failure.code()
        }
    }
}

fn dispatch<E: Display>(
    cli: Cli,
    run: impl FnOnce(ResolvedConfig, RunOptions) -> Result<(), E>,
) -> Result<ExitCode, Failure> {
    let daemon = Daemon::new(cli.socket.clone());
    let done = match cli.command {
        // Measures, needs no daemon, and has an exit code of its own.
        Action::Bench(command) => return Ok(bench::run(command)),
        Action::Run { file, keylog } => {
            let (config, options) = prepare(file.config, cli.socket, keylog)?;
            run(config, options).map_err(|error| Failure::wrong(error.to_string()))
        }
        Action::Check { file, explain } => check::check(&file.config, explain),
        Action::Status {
            connection,
            json,
            counters,
        } => {
            if counters {
                ask::counters(&daemon, json)
            } else {
                ask::status(&daemon, connection, json)
            }
        }
        Action::Watch {
            connection,
            interval,
        } => watch::watch(&daemon, connection.as_deref(), interval),
        Action::Up {
            connection,
            timeout,
            no_wait,
        } => up::up(&daemon, &connection, (!no_wait).then_some(timeout)),
        Action::Down { connection } => ask::done(&daemon, &Command::Down { connection }),
        Action::Switchover { force, dry_run } => switchover::switchover(&daemon, force, dry_run),
        Action::Reload => ask::done(&daemon, &Command::Reload),
        Action::Keylog {
            action: KeylogAction::On { directory },
        } => ask::keylog_on(&daemon, &directory),
        Action::Keylog {
            action: KeylogAction::Off,
        } => ask::done(&daemon, &Command::KeylogOff),
        Action::Completions { shell } => generate::completions(shell),
        Action::Man { directory } => generate::man_pages(&directory),
        Action::Version => print(concat!("vipsec ", env!("CARGO_PKG_VERSION"), "\n")),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Everything that `vipsec run` needs before there is a daemon.
fn prepare(
    config_path: PathBuf,
    socket: Option<PathBuf>,
    keylog: Option<PathBuf>,
) -> Result<(ResolvedConfig, RunOptions), Failure> {
    // Reload must find the same file, wherever the daemon goes.
    let config_path = std::path::absolute(&config_path).unwrap_or(config_path);
    let config = config::load(&config_path)?;
    logging::init(&config.gateway.log).map_err(|error| Failure::wrong(error.to_string()))?;
    for warning in &config.warnings {
        tracing::warn!("{}", warning.one_line());
    }
    let options = RunOptions {
        socket: socket.unwrap_or_else(|| config.gateway.control_socket.clone()),
        config_path,
        keylog,
    };
    Ok((config, options))
}
