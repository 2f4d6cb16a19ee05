//! The command line as clap sees it. The doc comments are the help texts and the man pages.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::DEFAULT_PATH;

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  the daemon refused, or it did not work
  2  the command line is wrong
  3  the configuration is wrong
  4  no daemon answers
  5  it was started, and was not done in time";

/// A userspace IPsec/IKEv1 gateway: tunnels to peers that know one address and one key.
#[derive(Debug, Parser)]
#[command(name = "vipsec", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub(super) struct Cli {
    /// Where the daemon's control socket is [default: as the configuration says]
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Action,
}

/// Which configuration file.
#[derive(Debug, Args)]
pub(super) struct ConfigFile {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub(super) config: PathBuf,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Run the daemon in the foreground, as systemd does
    Run {
        #[command(flatten)]
        file: ConfigFile,
        /// Write session keys into this folder for Wireshark: whoever reads them reads your
        /// traffic
        #[arg(long, value_name = "DIR")]
        keylog: Option<PathBuf>,
    },
    /// Check the configuration; change nothing
    Check {
        #[command(flatten)]
        file: ConfigFile,
        /// Print every setting of every connection, and where it comes from
        #[arg(long)]
        explain: bool,
    },
    /// Show what the daemon does
    Status {
        /// Only this connection
        connection: Option<String>,
        /// For programs
        #[arg(long)]
        json: bool,
        /// Only the counters, each on a line of its own
        #[arg(long, conflicts_with = "connection")]
        counters: bool,
    },
    /// Show the status again and again until Ctrl-C
    Watch {
        /// Only this connection
        connection: Option<String>,
        /// Seconds between two looks
        #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
        interval: u64,
    },
    /// Bring a connection up and wait until it is
    Up {
        /// The connection
        connection: String,
        /// How long to wait
        #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
        timeout: u64,
        /// Do not wait
        #[arg(long)]
        no_wait: bool,
    },
    /// Take a connection down; it stays down until it is brought up again
    Down {
        /// The connection
        connection: String,
    },
    /// Hand the role over to the partner, or take it from there, without losing a packet
    Switchover {
        /// Even if packets would be lost
        #[arg(long)]
        force: bool,
        /// Only say whether it could be done now
        #[arg(long)]
        dry_run: bool,
    },
    /// Make the daemon read its configuration again; tunnels that did not change stay up
    Reload,
    /// Write session keys for Wireshark, or stop it
    Keylog {
        #[command(subcommand)]
        action: KeylogAction,
    },
    /// Measure this machine: ciphers, the packet pipeline, and whole tunnels
    Bench(crate::bench::BenchCommand),
    /// Print a completion script for a shell, to be read by that shell at its start
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a folder
    #[command(hide = true)]
    Man {
        /// The folder
        directory: PathBuf,
    },
    /// Print the version
    Version,
}

/// What to do with the session keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeylogAction {
    /// Write them: whoever reads the folder reads your traffic
    On {
        /// The folder; it must exist
        directory: PathBuf,
    },
    /// Stop writing them
    Off,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_socket_may_stand_anywhere() {
        for line in [
            ["vipsec", "--socket", "/tmp/s", "status"],
            ["vipsec", "status", "--socket", "/tmp/s"],
        ] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert_eq!(cli.socket, Some(PathBuf::from("/tmp/s")));
        }
    }

    #[test]
    fn defaults() {
        let cli = Cli::try_parse_from(["vipsec", "run"]).unwrap();
        let Action::Run { file, keylog: None } = cli.command else {
            panic!("not run");
        };
        assert_eq!(file.config, PathBuf::from("/etc/vipsec/vipsec.toml"));
        assert!(Cli::try_parse_from(["vipsec", "up"]).is_err());
        assert!(Cli::try_parse_from(["vipsec"]).is_err());
        assert!(Cli::try_parse_from(["vipsec", "watch", "--interval", "0"]).is_err());
    }
}
