//! `bench core`: the pipeline in memory, by stage, beside the same without a cipher; and how
//! what the workers share scales.

mod memory;
mod scaling;

use core::fmt;

use ipsec_types::{AesKeyBits, CbcCipher, EspIntegrity, EspSuite};
use serde::{Deserialize, Serialize};

use super::BenchError;
use super::args::Effort;
use super::loopback::Protection;
use super::sample::{Sample, digits};
use super::table::Table;
use super::ticks;
use super::work::packets::{self, FromTun};
use super::work::{Cycle, Stages};
use scaling::Scaling;

/// The inner MTU that the configuration has by default.
const MTU: u16 = 1400;

/// What `bench core` found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CoreFigures {
    /// One for each kind of traffic and protection.
    pub rows: Vec<CoreRow>,
    /// What the workers share.
    pub scaling: Vec<Scaling>,
    /// What a thousand SA pairs take, in KiB.
    pub thousand_sas_kib: u64,
}

/// One kind of traffic with one protection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CoreRow {
    /// What is carried.
    pub traffic: String,
    /// Suite, or that there is none.
    pub protection: String,
    /// Nanoseconds per packet for both gateways together.
    pub ns: Sample,
    /// Nanoseconds per packet of each stage.
    pub split_ns: f64,
    /// See [`CoreRow::split_ns`].
    pub seal_ns: f64,
    /// See [`CoreRow::split_ns`].
    pub open_ns: f64,
    /// See [`CoreRow::split_ns`].
    pub coalesce_ns: f64,
    /// Millions of packets per second through all stages on one core.
    pub mpps: f64,
    /// 10⁹ inner bits per second through all stages on one core.
    pub gbit_s: f64,
    /// Speed relative to the same without a cipher.
    pub of_ceiling: Sample,
}

const PROTECTIONS: [Protection; 4] = [
    Protection::Null,
    Protection::Suite(EspSuite::AesGcm16(AesKeyBits::Aes128)),
    Protection::Suite(EspSuite::AesGcm16(AesKeyBits::Aes256)),
    Protection::Suite(EspSuite::CbcHmac(
        CbcCipher::Aes(AesKeyBits::Aes256),
        EspIntegrity::HmacSha256_128,
    )),
];

/// Measures all of it.
///
/// # Errors
/// When packets are lost or damaged.
pub(super) fn measure(effort: Effort) -> Result<CoreFigures, BenchError> {
    let rate = ticks::Rate::measure();
    let kinds: [(&str, Vec<FromTun>); 3] = [
        ("TCP, 64 KiB super-packets", vec![packets::tcp_super(MTU)]),
        ("UDP, 1400 bytes, 64 reads", packets::udp_singles(1400, 64)),
        ("UDP, 64 bytes, 64 reads", packets::udp_singles(64, 64)),
    ];
    let mut rows = Vec::new();
    for (traffic, input) in &kinds {
        eprintln!("core: {traffic}");
        rows.extend(by_turns(traffic, input, effort, rate)?);
    }
    Ok(CoreFigures {
        rows,
        scaling: scaling::measure(effort, rate)?,
        thousand_sas_kib: memory::thousand_sas_kib()?,
    })
}

/// Every protection once in each turn.
fn by_turns(
    traffic: &str,
    input: &[FromTun],
    effort: Effort,
    rate: ticks::Rate,
) -> Result<Vec<CoreRow>, BenchError> {
    let mut contenders = Vec::new();
    for protection in PROTECTIONS {
        let mut cycle = Cycle::new(protection, input.to_vec())?;
        let first = cycle.run(20)?.total().max(1) as f64;
        let times = (rate.ticks(effort.turn_ns) / first).max(9.0) as u32;
        contenders.push((protection, cycle, times, Vec::new()));
    }
    for _turn in 0..effort.turns {
        for (_, cycle, times, turns) in &mut contenders {
            turns.push(cycle.run(*times)?);
        }
    }
    let ceiling: Vec<Stages> = contenders
        .first()
        .map(|(_, _, _, turns)| turns.clone())
        .unwrap_or_default();
    let rows = contenders
        .iter()
        .map(|(protection, _, _, turns)| row(traffic, *protection, turns, &ceiling, rate));
    Ok(rows.collect())
}

fn row(
    traffic: &str,
    protection: Protection,
    turns: &[Stages],
    ceiling: &[Stages],
    rate: ticks::Rate,
) -> CoreRow {
    let per_packet = |ticks: u64, turn: &Stages| rate.ns(ticks) / turn.packets as f64;
    let median = |of: fn(&Stages) -> u64| {
        Sample::of(turns.iter().map(|turn| per_packet(of(turn), turn))).median
    };
    let ns = Sample::of(turns.iter().map(|turn| per_packet(turn.total(), turn)));
    let pairs = turns.iter().zip(ceiling);
    let bytes = turns.iter().map(|t| t.bytes).sum::<u64>() as f64;
    let packets = turns.iter().map(|t| t.packets).sum::<u64>() as f64;
    CoreRow {
        traffic: traffic.to_owned(),
        protection: protection.to_string(),
        ns,
        split_ns: median(|turn| turn.split),
        seal_ns: median(|turn| turn.seal),
        open_ns: median(|turn| turn.open),
        coalesce_ns: median(|turn| turn.coalesce),
        mpps: 1e3 / ns.median,
        gbit_s: bytes / packets * 8.0 / ns.median,
        of_ceiling: Sample::of(
            pairs.map(|(turn, top)| per_packet(top.total(), top) / per_packet(turn.total(), turn)),
        ),
    }
}

impl fmt::Display for CoreFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "One core does the work of both gateways; nanoseconds per ESP packet.\n"
        )?;
        let mut table = Table::new([
            "traffic",
            "protection",
            "ns",
            "split",
            "seal",
            "open",
            "coalesce",
            "Mpps",
            "Gbit/s",
            "of no cipher",
        ]);
        for row in &self.rows {
            table.row(vec![
                row.traffic.clone(),
                row.protection.clone(),
                row.ns.to_string(),
                digits(row.split_ns),
                digits(row.seal_ns),
                digits(row.open_ns),
                digits(row.coalesce_ns),
                digits(row.mpps),
                digits(row.gbit_s),
                row.of_ceiling.to_string(),
            ]);
        }
        writeln!(f, "{table}")?;
        writeln!(f, "What the workers of one SA share:\n")?;
        writeln!(f, "{}", scaling::table(&self.scaling))?;
        writeln!(
            f,
            "1000 SA pairs take {} MiB.",
            digits(self.thousand_sas_kib as f64 / 1024.0)
        )
    }
}
