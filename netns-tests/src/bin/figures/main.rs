//! `make bench`: negotiation time and bulk throughput beside strongSwan, in one run.
//!
//! Figures are ratios within one run: every pair of gateways stands in the same topology, on
//! the same machine, minutes apart. Negotiation time is read from a capture of the WAN, from
//! the first message of main mode to the third of quick mode; CPU time is that of both
//! gateway processes.
//!
//! `figures [--rounds N] [--seconds S] [--pairs WORD] [--json FILE]`

mod pairing;

use std::env;
use std::error::Error;
use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use netns_tests::need::{DUMPCAP, PING};
use netns_tests::probe::{Amount, Bulk, CONGESTION_CONTROL, Capture, Ping, pcap};
use netns_tests::topology::HOST_B;
use netns_tests::{Lab, LabError, Need, Outcome, TwoSites, isolated};

use pairing::Pairing;

/// How the WAN treats packets.
#[derive(Debug, Clone, Copy)]
enum Wan {
    /// A plain veth: 64 KiB packets cross uncut, which flatters designs with segmentation.
    Plain,
    /// Packets of MTU size only; the receiver may merge them. Nearest to a real card.
    Gro,
    /// Packets of MTU size only, one by one.
    NoGro,
}

struct Options {
    rounds: usize,
    time: Duration,
    /// Only pairs whose name contains it.
    pairs: String,
    json: Option<String>,
}

fn main() -> ExitCode {
    let needs = [PING, DUMPCAP, Need::Tun, Need::StrongSwan, Need::Vipsec];
    isolated(&needs, run)
}

fn run() -> Outcome {
    let options = Options::parse()?;
    let negotiation = negotiation(&options)?;
    let bulk = bulk(&options)?;
    if let Some(file) = &options.json {
        let all = json!({ "negotiation": negotiation, "bulk": bulk });
        fs::write(file, format!("{all:#}\n"))?;
        println!("\nwritten to {file}");
    }
    Ok(())
}

impl Options {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            rounds: 15,
            time: Duration::from_secs(4),
            pairs: String::new(),
            json: None,
        };
        let mut words = env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words
                .next()
                .ok_or_else(|| format!("{word} needs a value"))?;
            match word.as_str() {
                "--rounds" => options.rounds = value.parse()?,
                "--seconds" => options.time = Duration::from_secs_f64(value.parse()?),
                "--pairs" => options.pairs = value,
                "--json" => options.json = Some(value),
                _ => return Err(format!("unknown option {word}").into()),
            }
        }
        Ok(options)
    }

    fn pairings(&self) -> impl Iterator<Item = Pairing> {
        let chosen = |pairing: &Pairing| pairing.name().contains(&self.pairs);
        Pairing::ALL.into_iter().filter(chosen)
    }
}

/// Main mode and quick mode with MODP-2048, AES-256, SHA-256.
fn negotiation(options: &Options) -> Result<Vec<Value>, Box<dyn Error>> {
    println!(
        "Negotiation on the wire, main + quick mode, MODP-2048, {} rounds\n",
        options.rounds
    );
    println!(
        "  {:<30} {:>9} {:>9} {:>9} {:>7}",
        "", "median", "fastest", "slowest", "ratio"
    );
    let mut rows = Vec::new();
    let mut yardstick = None;
    for pairing in options.pairings() {
        let mut times = Vec::new();
        let sites = TwoSites::new(&Lab::new()?)?;
        let running = pairing.start(&sites, "aes256gcm16")?;
        for _round in 0..options.rounds {
            times.push(one_negotiation(&sites, &running)?.as_secs_f64() * 1000.0);
        }
        times.sort_by(f64::total_cmp);
        let median = median(&times);
        let (fastest, slowest) = (times.first().copied(), times.last().copied());
        let (fastest, slowest) = (fastest.unwrap_or(0.0), slowest.unwrap_or(0.0));
        let ratio = median / *yardstick.get_or_insert(median);
        println!(
            "  {:<30} {median:>6.1} ms {fastest:>6.1} ms {slowest:>6.1} ms {ratio:>6.2}x",
            pairing.name()
        );
        rows.push(json!({
            "pair": pairing.name(), "median_ms": median, "times_ms": times, "ratio": ratio,
        }));
    }
    Ok(rows)
}

fn one_negotiation(sites: &TwoSites, running: &pairing::Running) -> Result<Duration, LabError> {
    let capture = Capture::start(&sites.gw_a, "wan", "udp port 500 or udp port 4500")?;
    running.up()?;
    let time = capture.wait_for("a complete negotiation", pcap::negotiation_time)?;
    running.down()?;
    Ok(time)
}

/// One TCP stream from host to host.
fn bulk(options: &Options) -> Result<Vec<Value>, Box<dyn Error>> {
    let mut rows = Vec::new();
    for wan in [Wan::Plain, Wan::Gro, Wan::NoGro] {
        println!("\nBulk TCP, one stream, AES-256-GCM, {}\n", wan.words());
        println!(
            "  {:<30} {:>8} {:>12} {:>7} {:>7}",
            "", "Gbit/s", "CPU-s/GB", "speed", "CPU"
        );
        let mut yardstick = None;
        for pairing in options.pairings() {
            if pairing == Pairing::SwanToOurs {
                continue; // a single stream meets the same two gateways as the other way round
            }
            let (speed, cost) = one_transfer(pairing, wan, options.time)?;
            let (base_speed, base_cost) = *yardstick.get_or_insert((speed, cost));
            println!(
                "  {:<30} {speed:>8.2} {cost:>12.1} {:>6.1}x {:>6.2}x",
                pairing.name(),
                speed / base_speed,
                cost / base_cost
            );
            rows.push(json!({
                "pair": pairing.name(), "wan": wan.words(), "gbit_per_second": speed,
                "cpu_seconds_per_gb": cost,
            }));
        }
    }
    Ok(rows)
}

fn one_transfer(pairing: Pairing, wan: Wan, time: Duration) -> Result<(f64, f64), LabError> {
    let sites = TwoSites::new(&Lab::new()?)?;
    match wan {
        Wan::Plain => {}
        Wan::Gro => sites.wan.carry_single_packets(true)?,
        Wan::NoGro => sites.wan.carry_single_packets(false)?,
    }
    let mut running = pairing.start(&sites, "aes256gcm16")?;
    running.up()?;
    Ping::to(HOST_B).until_answered(&sites.host_a, Duration::from_secs(5))?;
    let before = running.cpu()?;
    let bulk = Bulk::to(HOST_B, Amount::For(time)).congestion_control(CONGESTION_CONTROL);
    let moved = bulk.run(&sites.host_a, &sites.host_b)?;
    let cpu = running.cpu()?.saturating_sub(before);
    let cost = cpu.as_secs_f64() / (moved.bytes as f64 / 1e9);
    Ok((moved.gbit_per_second(), cost))
}

impl Wan {
    fn words(self) -> &'static str {
        match self {
            Self::Plain => "plain veth",
            Self::Gro => "WAN with MTU-sized packets, GRO on",
            Self::NoGro => "WAN with MTU-sized packets, GRO off",
        }
    }
}

/// The middle of sorted values.
fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}
