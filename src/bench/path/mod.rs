//! `bench path`: whole tunnels between two gateways in private namespaces.
//!
//! ```text
//!   host-a ──── gw-a ═══════ WAN ═══════ gw-b ──── host-b
//!   traffic     contender   a condition  contender  traffic
//! ```
//!
//! One measurement is one process in a world of its own (`vipsec bench world`): nothing of a
//! contender is left for the next. The contenders take turns, round by round, and ratios are
//! built within a round.

mod figures;
mod gateway;
mod traffic;
mod tunnels;
mod world;

use core::fmt;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::args::Effort;
use super::{BenchError, machine, sample::digits};

pub(super) use figures::{PathFigures, Run};
pub(super) use figures::{Pick, pick};
pub(super) use tunnels::Contender;
pub(super) use world::WorldFigures;

pub(super) use gateway::{GatewayArgs, run as run_gateway};
pub(super) use world::{WorldArgs, run as run_world};

/// What the links between the gateways do with packets.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Wan {
    /// Super-packets of 64 KiB cross uncut, which flatters segmentation offload
    Plain,
    /// Only packets of MTU size cross; the receiver may merge them, as a network card does
    Gro,
    /// Only packets of MTU size cross, one by one
    NoGro,
}

impl Wan {
    pub(super) const ALL: [Self; 3] = [Self::Plain, Self::Gro, Self::NoGro];

    /// The word of the command line.
    const fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gro => "gro",
            Self::NoGro => "no-gro",
        }
    }
}

impl fmt::Display for Wan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Plain => "plain veth",
            Self::Gro => "MTU-sized packets, GRO on",
            Self::NoGro => "MTU-sized packets, GRO off",
        })
    }
}

/// What to measure on the path.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct PathArgs {
    /// Only these contenders [default: all that are installed]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME")]
    contenders: Vec<Contender>,
    /// Only these kinds of WAN
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND")]
    wan: Vec<Wan>,
    /// How often every contender has its turn
    #[arg(long)]
    rounds: Option<usize>,
    /// How long each TCP figure is measured
    #[arg(long)]
    seconds: Option<f64>,
    /// Data-plane threads of each of our gateways [default: half of the cores]
    #[arg(long)]
    workers: Option<usize>,
    /// Only bulk TCP, no UDP and no round trips
    #[arg(long)]
    bulk_only: bool,
}

/// Measures all rounds.
///
/// # Errors
/// When this machine gives no namespaces. A contender that does not work is named and left
/// out.
pub(super) fn measure(args: &PathArgs, effort: Effort) -> Result<PathFigures, BenchError> {
    let wans = if args.wan.is_empty() {
        Wan::ALL.to_vec()
    } else {
        args.wan.clone()
    };
    let contenders = present(args);
    let quick = effort.is_quick();
    let rounds = args.rounds.unwrap_or(if quick { 1 } else { 5 });
    let seconds = args.seconds.unwrap_or(if quick { 1.0 } else { 2.0 });
    let workers = args
        .workers
        .unwrap_or_else(|| (machine::cores() / 2).max(1));
    let mut figures = PathFigures {
        rounds,
        seconds,
        workers,
        ..PathFigures::default()
    };
    let total = rounds * wans.len() * contenders.len();
    let (start, mut done) = (Instant::now(), 0);
    for round in 0..rounds {
        for wan in &wans {
            for contender in &contenders {
                done += 1;
                eprint!("path {done}/{total}: {contender}, {wan} ... ");
                let world = WorldArgs {
                    contender: *contender,
                    wan: *wan,
                    seconds,
                    workers,
                    // What UDP and round trips cost does not depend on how super-packets
                    // cross the WAN: there are none.
                    bulk_only: args.bulk_only || *wan != Wan::Plain,
                };
                match one(&world) {
                    Ok(run) => {
                        let tcp = run.tcp.map_or(0.0, |tcp| tcp.gbit_s);
                        let left = start.elapsed() * (total - done) as u32 / done as u32;
                        eprintln!("{} Gbit/s, {} s to go", digits(tcp), left.as_secs());
                        figures.runs.push(Run {
                            round,
                            wan: *wan,
                            contender: *contender,
                            figures: run,
                        });
                    }
                    Err(reason) => {
                        eprintln!("failed\n{reason}");
                        figures.failed.push(format!("{contender}, {wan}: {reason}"));
                    }
                }
            }
        }
    }
    if figures.runs.is_empty() {
        let why = figures.failed.first().cloned().unwrap_or_default();
        return Err(BenchError::Path(why));
    }
    Ok(figures)
}

/// The wanted contenders that are there; the others are named.
fn present(args: &PathArgs) -> Vec<Contender> {
    let wanted = if args.contenders.is_empty() {
        Contender::DEFAULT.to_vec()
    } else {
        args.contenders.clone()
    };
    let is_there = |contender: &Contender| match contender.missing() {
        None => true,
        Some(reason) => {
            eprintln!("path: without {contender}: {reason}");
            false
        }
    };
    wanted.into_iter().filter(is_there).collect()
}

/// One world; its output's last line is the figures.
fn one(args: &WorldArgs) -> Result<WorldFigures, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let contender = <Contender as clap::ValueEnum>::to_possible_value(&args.contender);
    let mut command = Command::new(program);
    command.args(["bench", "world", "--wan", args.wan.word()]);
    command.args(["--seconds", &args.seconds.to_string()]);
    command.args(["--workers", &args.workers.to_string()]);
    command.args(
        contender
            .iter()
            .flat_map(|value| ["--contender", value.get_name()]),
    );
    if args.bulk_only {
        command.arg("--bulk-only");
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())
}
