//! `vipsec bench world`: one contender under one condition, in networks of its own that die
//! with the process. Its last line of output is the figures as JSON.

use std::process::ExitCode;
use std::time::Duration;

use netns_tests::probe::Ping;
use netns_tests::topology::HOST_B;
use netns_tests::{Lab, LabError, Outcome, TwoSites, isolated};
use serde::{Deserialize, Serialize};

use super::Wan;
use super::traffic::{self, Bulk, Hosts, Rate, Rtt, Streams};
use super::tunnels::Contender;
use crate::stdout;

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::bench) struct WorldArgs {
    /// Who carries
    #[arg(long)]
    pub(super) contender: Contender,
    /// Over what
    #[arg(long)]
    pub(super) wan: Wan,
    /// Seconds of each TCP figure
    #[arg(long)]
    pub(super) seconds: f64,
    /// Data-plane threads of each of our gateways
    #[arg(long)]
    pub(super) workers: usize,
    /// Which figures
    #[arg(long)]
    pub(super) figures: Which,
    /// Congestion control of the hosts' TCP
    #[arg(long)]
    pub(super) congestion_control: String,
    /// Each site on CPUs of its own
    #[arg(long)]
    pub(super) sites_apart: bool,
}

/// Which figures a turn is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::bench) enum Which {
    /// All of them
    All,
    /// Only bulk TCP
    Bulk,
    /// Only round trips, through the idle tunnel and through the loaded one
    RoundTrips,
    /// Only round trips through the idle tunnel
    Idle,
}

impl Which {
    /// The word of the command line.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Bulk => "bulk",
            Self::RoundTrips => "round-trips",
            Self::Idle => "idle",
        }
    }
}

/// One contender under one condition, once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct WorldFigures {
    /// One TCP stream.
    pub tcp: Option<Bulk>,
    /// Four TCP streams.
    pub tcp4: Option<Bulk>,
    /// One TCP stream each way.
    pub both: Option<Bulk>,
    /// UDP in IP packets of 64 bytes.
    pub udp64: Option<Rate>,
    /// UDP in IP packets of 1400 bytes.
    pub udp1400: Option<Rate>,
    /// Round trips with nothing else on the path.
    pub idle: Option<Rtt>,
    /// Round trips beside one TCP stream.
    pub loaded: Option<Rtt>,
    /// Resident memory of one gateway in KiB, at the end.
    pub resident_kib: Option<u64>,
}

/// How long a first packet may take through the tunnel.
const FIRST_PACKET: Duration = Duration::from_secs(8);

/// The exit code when this machine gives no private worlds; see [`isolated`].
pub(super) const NO_WORLD: i32 = 2;

/// Runs in a private world and prints the figures.
pub(in crate::bench) fn run(args: &WorldArgs) -> ExitCode {
    isolated(&[], || -> Outcome {
        let figures = measure(args)?;
        let line = serde_json::to_string(&figures)?;
        stdout::write(&format!("{line}\n")).map_err(LabError::at("write the figures"))?;
        Ok(())
    })
}

fn measure(args: &WorldArgs) -> Result<WorldFigures, LabError> {
    let sites = TwoSites::new(&Lab::new()?)?;
    if args.sites_apart {
        sites.keep_apart()?;
    }
    match args.wan {
        Wan::Plain => {}
        Wan::Gro => sites.wan.carry_single_packets(true)?,
        Wan::NoGro => sites.wan.carry_single_packets(false)?,
    }
    let hosts = Hosts {
        sites: &sites,
        congestion_control: &args.congestion_control,
    };
    let running = args.contender.start(&sites, args.workers)?;
    Ping::to(HOST_B).until_answered(&sites.host_a, FIRST_PACKET)?;
    let pids = running.pids.as_slice();
    let time = Duration::from_secs_f64(args.seconds.clamp(0.2, 10.0));
    let mut figures = WorldFigures::default();
    let round_trips = (time.as_secs_f64() * 500.0) as u32;
    if args.figures != Which::Bulk {
        figures.idle = Some(traffic::round_trips(&hosts, round_trips, false)?);
    }
    if matches!(args.figures, Which::All | Which::Bulk) {
        let bulk = |streams| traffic::bulk(&hosts, streams, time, pids).map(Some);
        figures.tcp = bulk(Streams::AToB(1))?;
        figures.tcp4 = bulk(Streams::AToB(4))?;
        figures.both = bulk(Streams::Both)?;
    }
    if matches!(args.figures, Which::All | Which::RoundTrips) {
        figures.loaded = Some(traffic::round_trips(&hosts, round_trips, true)?);
    }
    if args.figures == Which::All {
        let trial = time / 5;
        figures.udp64 = Some(traffic::highest_rate(&sites, 64, trial, pids)?);
        figures.udp1400 = Some(traffic::highest_rate(&sites, 1400, trial, pids)?);
    }
    figures.resident_kib = pids.first().and_then(|pid| resident_kib(*pid));
    Ok(figures)
}

fn resident_kib(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
