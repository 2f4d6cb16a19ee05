//! `bench crypto`: what a packet costs to seal and to open, beside the bare cipher call on the
//! same bytes in the same run.
//!
//! ```text
//!   turn of ours:   seal_train, open_train, seal_train, open_train, ...   for a few ms
//!   turn of bare:   encrypt,    decrypt,    encrypt,    decrypt, ...      for a few ms
//!   ratio:          of each pair of neighbouring turns; the median counts
//! ```

mod bare;
mod train;

use core::fmt;

use esp_dataplane::{AeadBackend, AeadBackends};
use ipsec_types::EspSuite;
use serde::{Deserialize, Serialize};

use super::BenchError;
use super::args::{CryptoArgs, Effort};
use super::loopback::Protection;
use super::progress::bar;
use super::sample::{Sample, digits};
use super::table::Table;
use super::ticks;

pub use train::Train;

/// The sizes of inner packets, in bytes; the last is the longest that IP has.
const SIZES: [u16; 5] = [64, 512, 1400, 8192, u16::MAX];

/// Bytes of a train: what one UDP_SEGMENT send carries.
const TRAIN_BYTES: usize = 65_536;
/// Packets of a train: the kernel's limit for one send.
const TRAIN_PACKETS: usize = 64;

/// Every measured suite and size.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CryptoFigures {
    /// One for each suite and size.
    pub rows: Vec<CryptoRow>,
}

/// One suite at one size.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CryptoRow {
    /// Name of the suite.
    pub suite: String,
    /// The library behind AES-GCM; none with CBC, which is our own arrangement of the block
    /// cipher.
    pub library: Option<String>,
    /// Inner packet in bytes.
    pub size: usize,
    /// How many packets are sealed and opened together.
    pub packets_per_train: usize,
    /// Sealing.
    pub seal: Side,
    /// Opening.
    pub open: Side,
}

/// One way of a row.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Side {
    /// Nanoseconds per packet.
    pub ns: Sample,
    /// Nanoseconds per packet of the bare cipher call.
    pub bare_ns: Sample,
    /// How much of the bare call's speed is left: 1 is all of it, above 1 is faster.
    pub of_bare: Sample,
    /// Millions of packets per second.
    pub mpps: f64,
    /// 10⁹ inner bits per second.
    pub gbit_s: f64,
    /// Cycles of the base clock per inner byte; 0 where they cannot be counted.
    pub cycles_per_byte: f64,
}

/// What a train took in one turn: the median of all its trains.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spent {
    /// Ticks of sealing it.
    pub(crate) seal: u64,
    /// Ticks of opening it.
    pub(crate) open: u64,
    /// Packets of a train.
    pub(crate) packets: u64,
}

/// Measures all suites and sizes, or those that `wanted` names.
///
/// # Errors
/// When a cipher does not do its work.
pub(super) fn measure(wanted: &CryptoArgs, effort: Effort) -> Result<CryptoFigures, BenchError> {
    let suites = some_or(&wanted.suites, &EspSuite::ALL);
    let sizes = some_or(&wanted.sizes, &SIZES);
    let rate = ticks::Rate::measure();
    let in_use = AeadBackends::measure();
    let mut rows = Vec::new();
    for (number, suite) in suites.iter().enumerate() {
        eprintln!("crypto {} {suite}", bar(number, suites.len()));
        for library in libraries(*suite, in_use) {
            for size in &sizes {
                rows.push(one(*suite, library, usize::from(*size), effort, rate)?);
            }
        }
    }
    Ok(CryptoFigures { rows })
}

/// The library that is the fastest here and so in use, and the other ones in assembly beside it.
/// CBC has no choice.
fn libraries(suite: EspSuite, in_use: AeadBackends) -> Vec<Option<AeadBackend>> {
    let EspSuite::AesGcm16(bits) = suite else {
        return vec![None];
    };
    let in_use = in_use.for_key(bits);
    let others = [AeadBackend::IpsecMb, AeadBackend::AwsLc, AeadBackend::Ring]
        .into_iter()
        .filter(|other| *other != in_use && other.offers(bits));
    core::iter::once(in_use).chain(others).map(Some).collect()
}

fn train(
    suite: EspSuite,
    library: Option<AeadBackend>,
    size: usize,
    count: usize,
) -> Result<Train, BenchError> {
    let backends = AeadBackends::all(library.unwrap_or_default());
    Train::new(backends, Protection::Suite(suite), size, count)
}

fn some_or<T: Clone>(wanted: &[T], all: &[T]) -> Vec<T> {
    if wanted.is_empty() { all } else { wanted }.to_vec()
}

fn one(
    suite: EspSuite,
    library: Option<AeadBackend>,
    size: usize,
    effort: Effort,
    rate: ticks::Rate,
) -> Result<CryptoRow, BenchError> {
    let count = (TRAIN_BYTES / size.max(1)).clamp(1, TRAIN_PACKETS);
    let mut ours = train(suite, library, size, count)?;
    let mut bare = bare::Bare::new(suite, library, size, count)?;
    let budget = rate.ticks(effort.turn_ns);
    // The first turn of each finds the trains' number for a turn, and warms the caches.
    let trains = trains_within(budget, |trains| ours.run(trains))?;
    let bare_trains = trains_within(budget, |trains| bare.run(trains))?;
    let mut turns = Vec::with_capacity(effort.turns);
    for _turn in 0..effort.turns {
        turns.push((ours.run(trains)?, bare.run(bare_trains)?));
    }
    let side = |of: fn(&Spent) -> u64| {
        let per_packet = |spent: &Spent| rate.ns(of(spent)) / spent.packets as f64;
        let ns = Sample::of(turns.iter().map(|(ours, _)| per_packet(ours)));
        Side {
            ns,
            bare_ns: Sample::of(turns.iter().map(|(_, bare)| per_packet(bare))),
            of_bare: Sample::of(
                turns
                    .iter()
                    .map(|(ours, bare)| per_packet(bare) / per_packet(ours)),
            ),
            mpps: 1e3 / ns.median,
            gbit_s: size as f64 * 8.0 / ns.median,
            cycles_per_byte: if ticks::ARE_CYCLES {
                rate.ticks(ns.median) / size as f64
            } else {
                0.0
            },
        }
    };
    Ok(CryptoRow {
        suite: suite.to_string(),
        library: library.map(|library| library.to_string()),
        size,
        packets_per_train: count,
        seal: side(|spent| spent.seal),
        open: side(|spent| spent.open),
    })
}

/// How many trains take about `budget` ticks; at least enough for a median.
pub(super) fn trains_within(
    budget: f64,
    mut run: impl FnMut(u32) -> Result<Spent, BenchError>,
) -> Result<u32, BenchError> {
    const FEWEST: u32 = 9;
    let mut spent = Spent::default();
    for trains in [1, FEWEST] {
        spent = run(trains)?;
    }
    let ticks = (spent.seal + spent.open).max(1) as f64;
    Ok(((budget / ticks) as u32).max(FEWEST))
}

impl fmt::Display for CryptoFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "One core. \"of bare\": speed relative to the bare call of the same library on the same\n\
             bytes. Of several libraries the first is the one in use.\n"
        )?;
        let mut table = Table::new([
            "suite", "library", "bytes", "seal ns", "Mpps", "Gbit/s", "cyc/B", "of bare",
            "open ns", "Mpps", "Gbit/s", "cyc/B", "of bare",
        ]);
        for row in &self.rows {
            let mut cells = vec![
                row.suite.clone(),
                row.library.clone().unwrap_or_default(),
                row.size.to_string(),
            ];
            for side in [&row.seal, &row.open] {
                cells.extend([
                    side.ns.to_string(),
                    digits(side.mpps),
                    digits(side.gbit_s),
                    digits(side.cycles_per_byte),
                    side.of_bare.to_string(),
                ]);
            }
            table.row(cells);
        }
        table.fmt(f)
    }
}

#[cfg(test)]
mod tests;
