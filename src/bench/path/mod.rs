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

use netns_tests::probe::CONGESTION_CONTROL;
use serde::{Deserialize, Serialize};

use super::args::Effort;
use super::progress::bar;
use super::{BenchError, machine, sample::digits};

pub(super) use figures::{PathFigures, Run};
pub(super) use figures::{Pick, pick};
pub(super) use traffic::connect;
pub(super) use tunnels::{Contender, ask, start_daemon_with};
pub(super) use world::WorldFigures;

pub(super) use gateway::{GatewayArgs, run as run_gateway};
use world::{NO_WORLD, Which};
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
    /// Congestion control of the hosts' TCP, whatever the machine is set to [default: cubic]
    #[arg(long, value_name = "NAME")]
    congestion_control: Option<String>,
    /// Keep each site, a gateway and its host, on half of the CPUs, as if they were machines of
    /// their own [default: the kernel places everybody]
    #[arg(long)]
    sites_apart: bool,
    /// Only bulk TCP, no UDP and no round trips
    #[arg(long)]
    bulk_only: bool,
    /// Only round trips, on the plain WAN
    #[arg(long, conflicts_with_all = ["bulk_only", "wan"])]
    round_trips_only: bool,
}

/// Measures all rounds.
///
/// # Errors
/// When this machine gives no namespaces, or not one contender works. A contender that does
/// not work is named and left out.
pub(super) fn measure(args: &PathArgs, effort: Effort) -> Result<PathFigures, BenchError> {
    if args.sites_apart && machine::cores() < 2 {
        return Err(BenchError::Path(
            "--sites-apart needs two CPUs, and we may use one".to_owned(),
        ));
    }
    let mut figures = planned(args, effort);
    let turns = turns(args, figures.rounds);
    let (start, total) = (Instant::now(), turns.len());
    for (done, turn) in (1_u32..).zip(turns) {
        let Turn {
            round,
            wan,
            contender,
        } = turn;
        eprint!(
            "path {} {contender}, {wan} ... ",
            bar(done as usize - 1, total)
        );
        let world = WorldArgs {
            contender,
            wan,
            seconds: figures.seconds,
            workers: figures.workers,
            figures: turn.which(args),
            congestion_control: figures.congestion_control.clone(),
            sites_apart: figures.sites_apart,
        };
        match one(&world) {
            Ok(run) => {
                let left = start.elapsed() * (total as u32 - done) / done;
                let tcp = run.tcp.map_or(0.0, |tcp| tcp.gbit_s);
                eprintln!("{} Gbit/s, {} s to go", digits(tcp), left.as_secs());
                figures.runs.push(Run {
                    round,
                    wan,
                    contender,
                    figures: run,
                });
            }
            Err(Failure::NoWorld(reason)) => return Err(BenchError::Path(reason)),
            Err(Failure::Contender(reason)) => {
                eprintln!("failed\n{reason}");
                figures.failed.push(format!("{contender}, {wan}: {reason}"));
            }
        }
    }
    if figures.runs.is_empty() {
        let why = figures.failed.first().cloned().unwrap_or_default();
        return Err(BenchError::Path(why));
    }
    Ok(figures)
}

/// How it will be measured; nothing is yet.
fn planned(args: &PathArgs, effort: Effort) -> PathFigures {
    let quick = effort.is_quick();
    PathFigures {
        rounds: args.rounds.unwrap_or(if quick { 1 } else { 5 }),
        seconds: args.seconds.unwrap_or(if quick { 1.0 } else { 2.0 }),
        workers: args
            .workers
            .unwrap_or_else(|| (machine::cores() / 2).max(1)),
        congestion_control: args
            .congestion_control
            .clone()
            .unwrap_or_else(|| CONGESTION_CONTROL.to_owned()),
        sites_apart: args.sites_apart,
        ..PathFigures::default()
    }
}

/// One contender under one condition in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    round: usize,
    wan: Wan,
    contender: Contender,
}

impl Turn {
    /// What UDP and round trips cost does not depend on how super-packets cross the WAN: there
    /// are none. Spinning is for round trips; beside two spinning gateways nothing else finds a
    /// core on a small machine.
    fn which(self, args: &PathArgs) -> Which {
        match self.contender {
            Contender::StaticSpin => Which::Idle,
            _ if args.round_trips_only => Which::RoundTrips,
            _ if args.bulk_only || self.wan != Wan::Plain => Which::Bulk,
            _ => Which::All,
        }
    }
}

/// Every turn in its order: all contenders under a condition, all conditions in a round.
fn turns(args: &PathArgs, rounds: usize) -> Vec<Turn> {
    let wans = if args.round_trips_only {
        vec![Wan::Plain]
    } else if args.wan.is_empty() {
        Wan::ALL.to_vec()
    } else {
        args.wan.clone()
    };
    let contenders = present(args);
    let mut turns = Vec::new();
    for round in 0..rounds {
        for wan in &wans {
            let turn = |contender: &Contender| Turn {
                round,
                wan: *wan,
                contender: *contender,
            };
            turns.extend(contenders.iter().map(turn));
        }
    }
    turns.retain(|turn| {
        turn.contender != Contender::StaticSpin || (turn.wan == Wan::Plain && !args.bulk_only)
    });
    turns
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

/// Why a turn gave no figures.
enum Failure {
    /// This machine has no private worlds for us.
    NoWorld(String),
    /// This contender did not work.
    Contender(String),
}

/// One world; its output's last line is the figures.
fn one(args: &WorldArgs) -> Result<WorldFigures, Failure> {
    let contender = <Contender as clap::ValueEnum>::to_possible_value(&args.contender);
    let program = std::env::current_exe();
    let output = program.and_then(|program| {
        Command::new(program)
            .args(["bench", "world", "--wan", args.wan.word()])
            .args(["--seconds", &args.seconds.to_string()])
            .args(["--workers", &args.workers.to_string()])
            .args(["--congestion-control", &args.congestion_control])
            .args(args.sites_apart.then_some("--sites-apart"))
            .args(["--figures", args.figures.word(), "--contender"])
            .args(contender.iter().map(|value| value.get_name()))
            .stdin(Stdio::null())
            .output()
    });
    let output = output.map_err(|error| Failure::NoWorld(error.to_string()))?;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(NO_WORLD) {
        let hint = "run it as root (sudo), or where users may have namespaces of their own";
        return Err(Failure::NoWorld(format!("{}; {hint}", complaint.trim())));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|_| Failure::Contender(complaint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contenders_take_turns_within_a_round() {
        let args = PathArgs {
            contenders: vec![Contender::Kernel],
            wan: vec![Wan::Gro, Wan::Plain],
            ..PathArgs::default()
        };
        let order: Vec<_> = turns(&args, 2).iter().map(|t| (t.round, t.wan)).collect();
        let expected = [
            (0, Wan::Gro),
            (0, Wan::Plain),
            (1, Wan::Gro),
            (1, Wan::Plain),
        ];
        assert_eq!(order, expected);
    }

    #[test]
    fn small_packets_are_measured_once_a_round() {
        let args = PathArgs::default();
        let turn = |contender, wan| Turn {
            round: 0,
            wan,
            contender,
        };
        assert_eq!(turn(Contender::Vipsec, Wan::Plain).which(&args), Which::All);
        assert_eq!(turn(Contender::Vipsec, Wan::Gro).which(&args), Which::Bulk);
        assert_eq!(
            turn(Contender::StaticSpin, Wan::Plain).which(&args),
            Which::Idle
        );
    }
}
