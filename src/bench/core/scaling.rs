//! How what the workers share behaves when several use it at the same time.
//!
//! Threads stand for workers. A thread's rate is counted per second of its own processor time,
//! so that neither a busy machine nor more threads than cores look like contention.

use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use esp_dataplane::replay::{ReplayRefusal, ReplayWindow, ReplayWindowSize};
use esp_dataplane::sequence::{SequenceRange, SequenceWidth};
use esp_dataplane::worker::backlog::Backlog;
use esp_dataplane::{Sad, SealSlot};
use ipsec_types::{AesKeyBits, ConnectionId, EspSuite, Spi};
use serde::{Deserialize, Serialize};

use crate::bench::args::Effort;
use crate::bench::loopback::{self, CONNECTION, Loopback, Protection};
use crate::bench::sample::{Sample, digits};
use crate::bench::table::Table;
use crate::bench::work::packets;
use crate::bench::{BenchError, machine, ticks};

/// Packets of a train: sequence numbers are taken for so many at once.
const TRAIN: u32 = 64;

/// One shared structure with one number of workers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scaling {
    /// The structure and what is done to it.
    pub what: String,
    /// How many threads use it.
    pub workers: usize,
    /// Millions of packets per second, all threads together.
    pub mpps: Sample,
    /// Packets per second of processor time, relative to a worker that is alone: 1 is perfect.
    pub efficiency: Sample,
}

/// What a worker does until it is told to stop; returns the packets.
type Work = Arc<dyn Fn(usize, &AtomicBool) -> u64 + Send + Sync>;

/// Every structure with one, two, … workers, up to twice the cores.
///
/// # Errors
/// When an SA cannot be installed.
pub(super) fn measure(effort: Effort, _rate: ticks::Rate) -> Result<Vec<Scaling>, BenchError> {
    let cores = machine::cores();
    let mut counts = vec![1];
    while let Some(next) = counts.last().map(|last| last * 2) {
        if next > 2 * cores {
            break;
        }
        counts.push(next);
    }
    let time = Duration::from_nanos((effort.turn_ns * 4.0) as u64);
    let mut all = Vec::new();
    for (what, make) in structures() {
        eprintln!("core: {what}");
        all.extend(one(what, make, &counts, effort.turns, time)?);
    }
    Ok(all)
}

fn one(
    what: &str,
    make: fn() -> Result<Work, BenchError>,
    counts: &[usize],
    turns: usize,
    time: Duration,
) -> Result<Vec<Scaling>, BenchError> {
    let mut rates: Vec<Vec<Rate>> = vec![Vec::new(); counts.len()];
    for _turn in 0..turns {
        for (rates, workers) in rates.iter_mut().zip(counts) {
            rates.push(together(&make()?, *workers, time));
        }
    }
    let alone = rates.first().cloned().unwrap_or_default();
    let rows = rates.iter().zip(counts).map(|(rates, workers)| {
        let pairs = rates.iter().zip(&alone);
        let efficiency = pairs.map(|(rate, alone)| rate.per_cpu / alone.per_cpu);
        Scaling {
            what: what.to_owned(),
            workers: *workers,
            mpps: Sample::of(rates.iter().map(|rate| rate.wall)),
            efficiency: Sample::of(efficiency),
        }
    });
    Ok(rows.collect())
}

/// Millions of packets per second of all threads together.
#[derive(Debug, Clone, Copy)]
struct Rate {
    /// By the clock on the wall.
    wall: f64,
    /// By the processor time that the threads got.
    per_cpu: f64,
}

/// Runs `workers` threads at the same time.
fn together(work: &Work, workers: usize, time: Duration) -> Rate {
    let (stop, ready) = (AtomicBool::new(false), Barrier::new(workers + 1));
    let (packets, cpu_ns) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut elapsed = Duration::ZERO;
    thread::scope(|scope| {
        for worker in 0..workers {
            let (stop, ready, packets, cpu_ns) = (&stop, &ready, &packets, &cpu_ns);
            scope.spawn(move || {
                ready.wait();
                let start = thread_cpu_ns();
                packets.fetch_add(work(worker, stop), Ordering::Relaxed);
                cpu_ns.fetch_add(thread_cpu_ns().saturating_sub(start), Ordering::Relaxed);
            });
        }
        ready.wait();
        let start = Instant::now();
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        elapsed = start.elapsed();
    });
    let packets = packets.into_inner() as f64;
    Rate {
        wall: packets / 1e6 / elapsed.as_secs_f64(),
        per_cpu: packets * 1e3 / cpu_ns.into_inner() as f64,
    }
}

fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or(0)
}

type Structure = (&'static str, fn() -> Result<Work, BenchError>);

fn structures() -> [Structure; 6] {
    [
        ("sequence range, trains of 64", sequence),
        ("replay window, trains of 64", replay),
        ("SA lookup, no change", || lookup(false)),
        ("SA lookup, table replaced every ms", || lookup(true)),
        ("seal and open without a cipher", whole),
        ("one peer's trains opened in turn, AES-128-GCM", in_turn),
    ]
}

fn sequence() -> Result<Work, BenchError> {
    let range = SequenceRange::new(SequenceWidth::Bits64, 1, None);
    Ok(Arc::new(move |_worker, stop| {
        let mut packets = 0;
        while !stop.load(Ordering::Relaxed) {
            for _train in 0..16 {
                packets += range.reserve(TRAIN).map_or(0, |run| u64::from(run.count));
            }
        }
        packets
    }))
}

/// Each worker takes the next train of numbers, as if one sender's trains were dealt out.
fn replay() -> Result<Work, BenchError> {
    let window = ReplayWindow::new(ReplayWindowSize::default(), SequenceWidth::Bits32);
    let next = AtomicU64::new(1);
    Ok(Arc::new(move |_worker, stop| {
        let mut packets = 0;
        while !stop.load(Ordering::Relaxed) {
            let first = next.fetch_add(u64::from(TRAIN), Ordering::Relaxed);
            let mut train: [Result<u64, ReplayRefusal>; TRAIN as usize] =
                core::array::from_fn(|i| window.check_before_auth(first as u32 + i as u32));
            window.commit_train_after_auth(&mut train);
            packets += train.iter().filter(|number| number.is_ok()).count() as u64;
        }
        packets
    }))
}

/// A packet at a time. `churn`: the first worker also plays the control plane and replaces the
/// table about every millisecond.
fn lookup(churn: bool) -> Result<Work, BenchError> {
    let tunnel = Loopback::new(Protection::Null, 16)?;
    let mut inner = [0; 64];
    packets::fill_udp(&mut inner);
    let flow = loopback::flow_of(&inner)?;
    let sad = tunnel.sad;
    Ok(Arc::new(move |worker, stop| {
        let mut pipeline = sad.pipeline(worker);
        let mut packets = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            for _packet in 0..64 {
                packets += u64::from(pipeline.outbound(CONNECTION, &flow, 1).is_some());
            }
            if churn && worker == 0 && packets.is_multiple_of(1 << 16) {
                replace(&sad);
            }
        }
        packets
    }))
}

fn replace(sad: &Sad) {
    let other = ConnectionId(1);
    if let Ok(spi) = Spi::new(0x2000) {
        // Refused only when the previous round did not remove it, which it did.
        let _installed = loopback::install(sad, Protection::Null, spi, other);
    }
    sad.remove_connection(other);
}

/// The whole SA: numbers, framing, replay window, counters, of one SA in all workers.
fn whole() -> Result<Work, BenchError> {
    let tunnel = Loopback::new(Protection::Null, 16)?;
    let (sad, sa) = (tunnel.sad, tunnel.sa);
    Ok(Arc::new(move |worker, stop| {
        let mut pipeline = sad.pipeline(worker);
        let (mut seal, total) = loopback::lay_out(&sa, 64, TRAIN as usize);
        let mut buffer = vec![0; total];
        let mut open = Vec::new();
        for SealSlot {
            inner_start,
            inner_len,
            ..
        } in &seal
        {
            let inner = buffer.get_mut(*inner_start..inner_start + inner_len);
            packets::fill_udp(inner.unwrap_or_default());
            let (start, len) = (inner_start - sa.header_len(), sa.sealed_len(*inner_len));
            open.push(esp_dataplane::OpenSlot::new(start, len, 0));
        }
        let mut packets = 0;
        while !stop.load(Ordering::Relaxed) {
            pipeline.seal_train(&sa, &mut buffer, &mut seal);
            let udp = ipsec_types::Encapsulation::Udp;
            packets += pipeline.open_train(&mut buffer, &mut open, loopback::OUTER, udp) as u64;
        }
        packets
    }))
}

/// One worker receives all trains; all open them, and the replay window and the tunnel device
/// see them in their order. Sealing stands for the cipher work of opening, which costs the same.
fn in_turn() -> Result<Work, BenchError> {
    let gcm = Protection::Suite(EspSuite::AesGcm16(AesKeyBits::Aes128));
    let tunnel = Loopback::new(gcm, 16)?;
    let window = ReplayWindow::new(ReplayWindowSize::default(), SequenceWidth::Bits64);
    let backlog = Backlog::new((0..8).map(|_| ()));
    let (sad, sa) = (tunnel.sad, tunnel.sa);
    Ok(Arc::new(move |worker, stop| {
        let mut pipeline = sad.pipeline(worker);
        let (mut slots, total) = loopback::lay_out(&sa, 1400, TRAIN as usize);
        let mut buffer = vec![0; total];
        let mut inner = [0; 1400];
        packets::fill_udp(&mut inner);
        let mut packets = 0;
        while !stop.load(Ordering::Relaxed) {
            while worker == 0 && backlog.waiting() < 4 && backlog.lay_out(|()| {}) {}
            let Some((ticket, ())) = backlog.take() else {
                thread::yield_now();
                continue;
            };
            // What was sealed is no IP packet any more.
            for slot in &slots {
                let at = slot.inner_start..slot.inner_start + slot.inner_len;
                if let Some(place) = buffer.get_mut(at) {
                    place.copy_from_slice(&inner);
                }
            }
            let sealed = pipeline.seal_train(&sa, &mut buffer, &mut slots);
            let first = ticket * u64::from(TRAIN) + 1;
            let mut train: [Result<u64, ReplayRefusal>; TRAIN as usize] =
                core::array::from_fn(|i| Ok(first + i as u64));
            let _in_time = backlog.commits.wait_for(ticket);
            window.commit_train_after_auth(&mut train);
            backlog.commits.pass(ticket + 1);
            let _in_time = backlog.writes.wait_for(ticket);
            backlog.give_back(ticket, ());
            backlog.writes.pass(ticket + 1);
            let accepted = train.iter().filter(|number| number.is_ok()).count();
            packets += accepted.min(sealed) as u64;
        }
        packets
    }))
}

pub(super) fn table(scaling: &[Scaling]) -> Table {
    let mut table = Table::new(["structure", "workers", "Mpps", "ns/packet", "efficiency"]);
    for row in scaling {
        table.row(vec![
            row.what.clone(),
            row.workers.to_string(),
            row.mpps.to_string(),
            digits(1e3 / row.mpps.median),
            row.efficiency.to_string(),
        ]);
    }
    table
}
