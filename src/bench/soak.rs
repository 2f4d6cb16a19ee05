//! `bench soak`: every ESP suite for a while between two daemons in private namespaces, with
//! rekeys all the time and every byte compared.
//!
//! ```text
//!   host-a ── gw-a ═════ UDP 4500, then protocol 50 ═════ gw-b ── host-b
//!      TCP each way, bytes that show where they belong
//!      UDP each way, numbered, of all sizes
//! ```

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ipsec_types::EspSuite;
use netns_tests::lab::Host;
use netns_tests::probe::Ping;
use netns_tests::topology::{HOST_A, HOST_B};
use netns_tests::{Lab, LabError, Outcome, TwoSites, isolated};

use super::path::{ask, connect, start_daemon_with};
use crate::stdout;

/// How long to soak.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SoakArgs {
    /// Minutes in all, shared by the suites
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Only these suites
    #[arg(long, value_name = "SUITE", value_delimiter = ',')]
    suites: Vec<EspSuite>,
    /// Seconds between two rekeys, 10 at least
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(10..))]
    rekey: u32,
    /// Data-plane threads of each gateway
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// One turn, in a world of its own, with this encapsulation
    #[arg(long, hide = true)]
    turn: Option<String>,
}

/// Minutes of one turn: a world of its own ends after four, whatever happens in it.
const LONGEST_TURN: f64 = 3.0;

/// The pattern's period is prime: a byte that is missing or twice shows in all that follow.
const PERIOD: usize = 65_521;

/// UDP datagrams a second, each way.
const DATAGRAMS: u32 = 500;

/// A stream that stands still so long has failed.
const STALL: Duration = Duration::from_secs(20);

/// What one suite carried.
#[derive(Debug, Default)]
struct Tally {
    bytes: AtomicU64,
    wrong: AtomicU64,
    sent: AtomicU64,
    came: AtomicU64,
    broken: AtomicU64,
}

/// Soaks and prints a line for each suite, until nobody reads them; fails on a wrong byte, a broken
/// stream, or when no rekey took place in spite of the time for it. Every turn is a process in a
/// world of its own, of which nothing is left.
pub(super) fn run(args: &SoakArgs) -> ExitCode {
    if let Some(encapsulation) = &args.turn {
        let time = Duration::from_secs_f64(args.minutes.max(0.0) * 60.0);
        return isolated(&[], || -> Outcome {
            for suite in &args.suites {
                one(args, *suite, encapsulation, time)?;
            }
            Ok(())
        });
    }
    let suites = if args.suites.is_empty() {
        EspSuite::ALL.to_vec()
    } else {
        args.suites.clone()
    };
    let each = args.minutes.clamp(0.05, 1440.0) / suites.len().max(1) as f64;
    let rounds = (each / LONGEST_TURN).ceil().max(1.0);
    let mut turns = 0;
    let mut failed = false;
    for _round in 0..rounds as u32 {
        for suite in &suites {
            let encapsulation = ["udp", "esp"].into_iter().cycle().nth(turns);
            turns += 1;
            let (line, failure) = turn(args, *suite, encapsulation.unwrap_or("udp"), each / rounds);
            if let Some(reason) = failure {
                eprintln!("{suite}: {reason}");
                failed = true;
            }
            // Nobody reads on: what has been seen so far counts.
            if let Err(error) = stdout::write(&line) {
                failed |= error.kind() != io::ErrorKind::BrokenPipe;
                return ExitCode::from(u8::from(failed));
            }
        }
    }
    ExitCode::from(u8::from(failed))
}

/// One turn in a process of its own: its line, and what went wrong.
fn turn(
    args: &SoakArgs,
    suite: EspSuite,
    encapsulation: &str,
    minutes: f64,
) -> (String, Option<String>) {
    let output = std::env::current_exe().and_then(|program| {
        Command::new(program)
            .args(["bench", "soak", "--turn", encapsulation])
            .args(["--suites", &suite.to_string()])
            .args(["--minutes", &minutes.to_string()])
            .args(["--rekey", &args.rekey.to_string()])
            .args(["--workers", &args.workers.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
    });
    match output {
        Ok(Output { status, stdout, .. }) => {
            let failure = (!status.success()).then(|| format!("the turn ended with {status}"));
            (String::from_utf8_lossy(&stdout).into_owned(), failure)
        }
        Err(error) => (String::new(), Some(error.to_string())),
    }
}

fn one(
    args: &SoakArgs,
    suite: EspSuite,
    encapsulation: &str,
    time: Duration,
) -> Result<(), LabError> {
    let sites = TwoSites::new(&Lab::new()?)?;
    let (rekey, margin) = (args.rekey, (args.rekey / 5).max(2));
    let lifetime = rekey + margin;
    let phase2 = format!(
        "proposals = [\"{suite}\"]\nlifetime = \"{lifetime}s\"\nrekey_margin = \"{margin}s\"\n\
         rekey_jitter = \"0s\"\ngrace = \"5s\""
    );
    let _running = start_daemon_with(&sites, encapsulation, args.workers, &phase2)?;
    Ping::to(HOST_B).until_answered(&sites.host_a, Duration::from_secs(8))?;
    let tally = Tally::default();
    let spis = carry(&sites, time, &tally)?;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (wrong, broken) = (count(&tally.wrong), count(&tally.broken));
    let rekeys = spis.len().saturating_sub(1);
    let line = format!(
        "{suite:<14} {encapsulation}  {:>4} s  {:>7.2} GB  {rekeys} rekeys  {wrong} wrong bytes  \
         {broken} broken streams  UDP {} sent, {} came\n",
        time.as_secs(),
        count(&tally.bytes) as f64 / 1e9,
        count(&tally.sent),
        count(&tally.came),
    );
    stdout::write(&line).map_err(LabError::at("write the figures"))?;
    let too_few = time.as_secs() > u64::from(lifetime) + 5 && rekeys == 0;
    if wrong > 0 || broken > 0 || too_few {
        return Err(LabError::Damaged("bytes, streams or rekeys".to_owned()));
    }
    Ok(())
}

/// Runs all traffic for `time`; returns the SPIs that gateway A has received by.
fn carry(sites: &TwoSites, time: Duration, tally: &Tally) -> Result<BTreeSet<String>, LabError> {
    let (a, b) = (&sites.host_a, &sites.host_b);
    let streams = [
        connect(a, b, HOST_B, STALL, None)?,
        connect(b, a, HOST_A, STALL, None)?,
    ];
    let sockets = [datagrams(a, b, HOST_B)?, datagrams(b, a, HOST_A)?];
    let stop = AtomicBool::new(false);
    let pattern: Vec<u8> = (0..PERIOD).map(byte).collect();
    let mut spis = BTreeSet::new();
    thread::scope(|scope| {
        let (stop, pattern) = (&stop, pattern.as_slice());
        for (out, into) in streams {
            scope.spawn(move || write_pattern(out, pattern, stop, tally));
            scope.spawn(move || check_pattern(into, pattern, stop, tally));
        }
        for (out, into) in sockets {
            scope.spawn(move || send_numbered(&out, pattern, stop, tally));
            scope.spawn(move || check_numbered(&into, pattern, stop, tally));
        }
        let start = Instant::now();
        let mut result = Ok(());
        while start.elapsed() < time && result.is_ok() {
            thread::sleep(Duration::from_secs(1).min(time));
            result = ask(&sites.gw_a).map(|status| {
                let sas = status.pointer("/connections/0/esp_sas");
                let sas = sas.and_then(serde_json::Value::as_array);
                let spi = |sa: &serde_json::Value| Some(sa.get("spi_in")?.as_str()?.to_owned());
                spis.extend(sas.into_iter().flatten().filter_map(spi));
            });
        }
        stop.store(true, Ordering::Relaxed);
        result
    })?;
    Ok(spis)
}

fn byte(at: usize) -> u8 {
    (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]
}

fn datagrams(from: &Host, to: &Host, address: IpAddr) -> Result<(UdpSocket, UdpSocket), LabError> {
    let bind = |host: &Host, at: IpAddr| {
        host.enter(|| UdpSocket::bind(SocketAddr::new(at, 0)))?
            .map_err(LabError::at("open a UDP socket"))
    };
    let into = bind(to, address)?;
    let out = bind(from, IpAddr::from([0, 0, 0, 0]))?;
    into.set_read_timeout(Some(Duration::from_millis(300)))
        .and_then(|()| out.connect(into.local_addr()?))
        .map_err(LabError::at("connect a UDP socket"))?;
    Ok((out, into))
}

fn write_pattern(mut stream: TcpStream, pattern: &[u8], stop: &AtomicBool, tally: &Tally) {
    while !stop.load(Ordering::Relaxed) {
        if stream.write_all(pattern).is_err() {
            tally.broken.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
}

fn check_pattern(mut stream: TcpStream, pattern: &[u8], stop: &AtomicBool, tally: &Tally) {
    let (mut at, mut block) = (0, vec![0; 256 * 1024]);
    loop {
        let count = match stream.read(&mut block) {
            Ok(0) => return,
            Ok(count) => count,
            Err(_) if stop.load(Ordering::Relaxed) => return,
            Err(_) => {
                tally.broken.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        let mut rest = block.get(..count).unwrap_or_default();
        let mut wrong = 0;
        while !rest.is_empty() {
            let wanted = pattern.get(at..).unwrap_or_default();
            let (now, later) = rest.split_at(rest.len().min(wanted.len()));
            if wanted.get(..now.len()) != Some(now) {
                wrong += now.iter().zip(wanted).filter(|(a, b)| a != b).count();
            }
            at = (at + now.len()) % PERIOD;
            rest = later;
        }
        tally.bytes.fetch_add(count as u64, Ordering::Relaxed);
        tally.wrong.fetch_add(wrong as u64, Ordering::Relaxed);
    }
}

/// A number, and as much of the pattern as the number says.
fn datagram(number: u64, pattern: &[u8]) -> Vec<u8> {
    let len = usize::try_from(number % 2801).unwrap_or(0);
    let start = usize::try_from(number * 31 % 50_000).unwrap_or(0);
    let body = pattern.get(start..start + len).unwrap_or_default();
    [&number.to_be_bytes()[..], body].concat()
}

fn send_numbered(socket: &UdpSocket, pattern: &[u8], stop: &AtomicBool, tally: &Tally) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // A full queue is a loss like any other.
        if socket.send(&datagram(number, pattern)).is_ok() {
            tally.sent.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(Duration::from_secs(1) / DATAGRAMS);
    }
}

fn check_numbered(socket: &UdpSocket, pattern: &[u8], stop: &AtomicBool, tally: &Tally) {
    let mut block = vec![0; 4096];
    loop {
        let Ok(len) = socket.recv(&mut block) else {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            continue;
        };
        let came = block.get(..len).unwrap_or_default();
        let number = came.first_chunk().map_or(0, |n| u64::from_be_bytes(*n));
        tally.came.fetch_add(1, Ordering::Relaxed);
        if came != datagram(number, pattern) {
            tally.wrong.fetch_add(len as u64, Ordering::Relaxed);
        }
    }
}
