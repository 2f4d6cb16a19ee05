//! Instructions per packet of the fast path, counted by callgrind: the same on every run, so a
//! regression of a few percent shows on the busiest machine.
//!
//! `scripts/instruction-counts.sh` builds and runs it. Every piece of work runs twice, with
//! different repetitions; the difference is the work without start-up and set-up. Valgrind does
//! not know the newest cipher instructions, so the counts with a cipher say what the framing
//! around it costs only by comparison with each other.
//!
//! ```text
//!   instructions COMMITTED [--write]     compare with a file of figures, or replace it
//!   instructions --work NAME TIMES       what is run under callgrind
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::process::{Command, ExitCode};

use esp_dataplane::replay::{ReplayRefusal, ReplayWindow, ReplayWindowSize};
use esp_dataplane::sequence::SequenceWidth;
use ipsec_types::{AesKeyBits, EspSuite};
use vipsec::bench::work::{Cycle, Lookup, Protection, packets};

/// More instructions than this share above the committed figure are a regression.
const TOLERANCE: f64 = 0.02;

/// Repetitions of the shorter and of the longer run.
const TIMES: [u32; 2] = [20, 120];

/// A figure: its name, the work that is counted, the work that is subtracted.
const FIGURES: [(&str, &str, Option<&str>); 12] = [
    ("split, TCP 64 KiB", "tcp-split", None),
    ("seal, no cipher, 1400 bytes", "tcp-seal", Some("tcp-split")),
    ("open, no cipher, 1400 bytes", "tcp-open", Some("tcp-seal")),
    ("coalesce, TCP 64 KiB", "tcp-all", Some("tcp-open")),
    ("split, UDP 64 bytes", "udp-split", None),
    ("seal, no cipher, 64 bytes", "udp-seal", Some("udp-split")),
    ("open, no cipher, 64 bytes", "udp-open", Some("udp-seal")),
    ("coalesce, UDP 64 bytes", "udp-all", Some("udp-open")),
    (
        "seal + open, aes128gcm16, 64 bytes",
        "gcm-open",
        Some("udp-split"),
    ),
    ("replay window, trains of 64", "replay", None),
    ("SA lookup, 1 connection", "lookup-1", None),
    ("SA lookup, 1000 connections", "lookup-1000", None),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["--work", name, times] => work(name, times).map(|()| true),
        [file] => count_all().and_then(|figures| compare(file, &figures)),
        [file, "--write"] => count_all().and_then(|figures| write(file, &figures)),
        _ => Err("usage: instructions FILE [--write]".into()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does one piece of work; what callgrind sees.
fn work(name: &str, times: &str) -> Result<(), Box<dyn Error>> {
    let times: u32 = times.parse()?;
    let (kind, stage) = name.split_once('-').unwrap_or((name, ""));
    match kind {
        "tcp" => stages(
            Protection::Null,
            vec![packets::tcp_super(1400)],
            stage,
            times,
        ),
        "udp" => stages(Protection::Null, packets::udp_singles(64, 64), stage, times),
        "gcm" => {
            let suite = EspSuite::AesGcm16(AesKeyBits::Aes128);
            let input = packets::udp_singles(64, 64);
            stages(Protection::Suite(suite), input, stage, times)
        }
        "replay" => {
            replay(times);
            Ok(())
        }
        "lookup" => {
            let mut lookup = Lookup::new(stage.parse()?)?;
            for _time in 0..times {
                black_box(lookup.run(64));
            }
            Ok(())
        }
        _ => Err(format!("unknown work {name}").into()),
    }
}

/// The stages of the pipeline up to and including `last`.
fn stages(
    protection: Protection,
    input: Vec<packets::FromTun>,
    last: &str,
    times: u32,
) -> Result<(), Box<dyn Error>> {
    let mut cycle = Cycle::new(protection, input)?;
    for _time in 0..times {
        black_box(cycle.split());
        if last == "split" {
            continue;
        }
        black_box(cycle.seal());
        if last == "seal" {
            continue;
        }
        black_box(cycle.open());
        if last == "all" {
            black_box(cycle.coalesce());
        }
    }
    Ok(())
}

fn replay(times: u32) {
    let window = ReplayWindow::new(ReplayWindowSize::default(), SequenceWidth::Bits32);
    for train in 0..times {
        let number = |i: usize| window.check_before_auth(train * 64 + 1 + i as u32);
        let mut numbers: [Result<u64, ReplayRefusal>; 64] = core::array::from_fn(number);
        black_box(window.commit_train_after_auth(&mut numbers));
    }
}

/// Packets of one repetition.
fn packets_of(work: &str) -> f64 {
    // A super-packet of 65,535 bytes has 52 of headers; its segments carry 1348 each.
    if work.starts_with("tcp") { 49.0 } else { 64.0 }
}

fn count_all() -> Result<Vec<(&'static str, f64)>, Box<dyn Error>> {
    let mut counted = BTreeMap::new();
    let mut figures = Vec::new();
    for (figure, work, base) in FIGURES {
        for work in [Some(work), base].into_iter().flatten() {
            if !counted.contains_key(work) {
                eprintln!("counting {work}");
                counted.insert(work, per_packet(work)?);
            }
        }
        let of = |work: &str| counted.get(work).copied().unwrap_or(0.0);
        figures.push((figure, of(work) - base.map_or(0.0, of)));
    }
    Ok(figures)
}

fn per_packet(work: &str) -> Result<f64, Box<dyn Error>> {
    let [short, long] = TIMES;
    let (few, many) = (callgrind(work, short)?, callgrind(work, long)?);
    Ok((many - few) / f64::from(long - short) / packets_of(work))
}

/// Instructions of a whole run.
fn callgrind(work: &str, times: u32) -> Result<f64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--work", work, &times.to_string()])
        .output()
        .map_err(|error| format!("cannot start valgrind (Debian package valgrind): {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    match collected {
        Some((_, count)) if output.status.success() => Ok(count.trim().parse()?),
        _ => Err(format!("{work} under valgrind: {text}").into()),
    }
}

fn compare(file: &str, figures: &[(&str, f64)]) -> Result<bool, Box<dyn Error>> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let committed: BTreeMap<&str, f64> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.trim(), value.parse().ok()?))
        })
        .collect();
    let mut good = true;
    println!(
        "{:<36} {:>9} {:>9} {:>8}",
        "instructions per packet", "committed", "now", ""
    );
    for (name, now) in figures {
        let Some(before) = committed.get(name).copied() else {
            println!("{name:<36} {:>9} {now:>9.1} {:>8}", "", "new");
            continue;
        };
        let change = now / before - 1.0;
        let worse = change > TOLERANCE;
        good &= !worse;
        let word = if worse { "  REGRESSION" } else { "" };
        println!(
            "{name:<36} {before:>9.1} {now:>9.1} {:>+7.1}%{word}",
            change * 100.0
        );
    }
    Ok(good)
}

fn write(file: &str, figures: &[(&str, f64)]) -> Result<bool, Box<dyn Error>> {
    let mut text = String::from(
        "# Instructions per packet, counted by callgrind on one core; written by\n\
         # scripts/instruction-counts.sh --write. \"seal\" and \"open\" are one way each.\n",
    );
    for (name, value) in figures {
        text.push_str(&format!("{name:<36} {value:.1}\n"));
    }
    std::fs::write(file, &text).map_err(|error| format!("{file}: {error}"))?;
    print!("{text}");
    Ok(true)
}
