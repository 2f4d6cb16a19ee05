//! One measurement: a thread that sends, a thread that receives, and what both cost.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::io;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::cpu;
use crate::net::End;
use crate::packet::BURST;

/// How long the sender waits for a packet that has not arrived.
const PATIENCE: Duration = Duration::from_millis(20);

/// What sends.
pub(crate) trait Sender {
    /// Sends [`BURST`] packets; returns how many the kernel took.
    fn send(&mut self) -> io::Result<usize>;
}

/// What receives.
pub(crate) trait Receiver {
    /// Takes what waits, at most about a burst, and counts our packets in it. Waits a moment
    /// when nothing is there, and returns 0 when nothing came.
    fn receive(&mut self) -> io::Result<usize>;
}

/// A way to carry protocol 50. Each end is made in the thread that uses it.
pub(crate) struct Way {
    /// What it is called.
    pub name: &'static str,
    /// Makes the sending end.
    pub sender: fn(&End) -> io::Result<Box<dyn Sender>>,
    /// Makes the receiving end.
    pub receiver: fn(&End) -> io::Result<Box<dyn Receiver>>,
}

/// How much is asked for.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// As fast as it goes with so many packets on the way, as TCP would do it.
    Window(u64),
    /// So many packets a second, a burst at a time.
    Paced(u32),
}

/// What came of it.
pub(crate) struct Outcome {
    /// Packets that the kernel took.
    pub sent: u64,
    /// Packets that arrived.
    pub received: u64,
    /// How long it took.
    pub took: Duration,
    /// Processor time of it all.
    pub cpu: Duration,
    /// Times that the receiver took something.
    pub takes: u64,
    /// From the first packet of a burst to the last one's arrival, for bursts that were alone.
    pub delays: Vec<Duration>,
}

struct Shared {
    received: AtomicU64,
    over: AtomicBool,
    /// The sender waits until so many have arrived.
    resume_at: AtomicU64,
    /// Since when: nanoseconds in `burst_began` count from here.
    epoch: Instant,
    burst_began: AtomicU64,
    /// So many have arrived when the burst has, if nothing is lost.
    burst_ends: AtomicU64,
    takes: AtomicU64,
    gate: Barrier,
}

/// Lets packets go from `a` to `b` for a while.
pub(crate) fn measure(
    way: &Way,
    (a, b): (&End, &End),
    load: Load,
    duration: Duration,
) -> io::Result<Outcome> {
    let shared = &Shared {
        received: AtomicU64::new(0),
        over: AtomicBool::new(false),
        resume_at: AtomicU64::new(u64::MAX),
        epoch: Instant::now(),
        burst_began: AtomicU64::new(0),
        burst_ends: AtomicU64::new(u64::MAX),
        takes: AtomicU64::new(0),
        gate: Barrier::new(3),
    };
    thread::scope(|scope| {
        let sending = scope.spawn(move || send(way, a, shared, load, duration));
        let wake = sending.thread().clone();
        let receiving = scope.spawn(move || receive(way, b, shared, &wake));
        shared.gate.wait();
        let before = cpu::used();
        // Both are done, and both still hold what they have: taking that apart is not counted.
        shared.gate.wait();
        let after = cpu::used();
        shared.gate.wait();
        let sent = sending.join().map_err(|_panic| io::ErrorKind::Other)?;
        let delays = receiving.join().map_err(|_panic| io::ErrorKind::Other)?;
        let (sent, took) = sent?;
        Ok(Outcome {
            sent,
            received: shared.received.load(Ordering::Relaxed),
            took,
            cpu: after?.saturating_sub(before?),
            takes: shared.takes.load(Ordering::Relaxed),
            delays: delays?,
        })
    })
}

fn send(
    way: &Way,
    end: &End,
    shared: &Shared,
    load: Load,
    duration: Duration,
) -> io::Result<(u64, Duration)> {
    let mut sender = end.inside(|| (way.sender)(end));
    shared.gate.wait();
    let start = Instant::now();
    let sent = match (&mut sender, load) {
        (Ok(sender), Load::Window(window)) => fill(&mut **sender, shared, window, duration),
        (Ok(sender), Load::Paced(rate)) => pace(&mut **sender, shared, rate, duration),
        (Err(_), _) => Ok(0),
    };
    let took = start.elapsed();
    shared.over.store(true, Ordering::Release);
    shared.gate.wait();
    shared.gate.wait();
    sender.and(sent).map(|sent| (sent, took))
}

fn receive(
    way: &Way,
    end: &End,
    shared: &Shared,
    wake: &thread::Thread,
) -> io::Result<Vec<Duration>> {
    let mut receiver = end.inside(|| (way.receiver)(end));
    shared.gate.wait();
    let result = match &mut receiver {
        Ok(receiver) => drain(&mut **receiver, shared, wake),
        Err(_) => Ok(Vec::new()),
    };
    shared.gate.wait();
    shared.gate.wait();
    receiver.and(result)
}

/// Keeps the window full: sends until there is no room for a burst, and then waits until half of
/// the window has arrived.
fn fill(
    sender: &mut dyn Sender,
    shared: &Shared,
    window: u64,
    duration: Duration,
) -> io::Result<u64> {
    let start = Instant::now();
    let (mut sent, mut lost) = (0, 0_u64);
    while start.elapsed() < duration {
        sent += sender.send()? as u64;
        let arrived = || shared.received.load(Ordering::SeqCst) + lost;
        if sent + BURST as u64 <= arrived() + window {
            continue;
        }
        let enough = (sent - window / 2).saturating_sub(lost);
        shared.resume_at.store(enough, Ordering::SeqCst);
        let since = Instant::now();
        while shared.received.load(Ordering::SeqCst) < enough {
            thread::park_timeout(PATIENCE);
            if since.elapsed() > PATIENCE {
                // What has not come by now will not come.
                lost = sent.saturating_sub(shared.received.load(Ordering::SeqCst));
                break;
            }
        }
        shared.resume_at.store(u64::MAX, Ordering::SeqCst);
    }
    Ok(sent)
}

fn pace(
    sender: &mut dyn Sender,
    shared: &Shared,
    rate: u32,
    duration: Duration,
) -> io::Result<u64> {
    let start = Instant::now();
    let step = Duration::from_secs(BURST as u64) / rate;
    let (mut sent, mut due) = (0, start);
    while due < start + duration {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let began = shared.epoch.elapsed().as_nanos() as u64;
        shared.burst_began.store(began, Ordering::SeqCst);
        shared
            .burst_ends
            .store(sent + BURST as u64, Ordering::SeqCst);
        sent += sender.send()? as u64;
        due += step;
    }
    Ok(sent)
}

fn drain(
    receiver: &mut dyn Receiver,
    shared: &Shared,
    wake: &thread::Thread,
) -> io::Result<Vec<Duration>> {
    let mut delays = Vec::with_capacity(1 << 16);
    loop {
        let over = shared.over.load(Ordering::Acquire);
        let count = receiver.receive()? as u64;
        if count == 0 && over {
            return Ok(delays);
        }
        shared.takes.fetch_add(count.min(1), Ordering::Relaxed);
        let received = shared.received.fetch_add(count, Ordering::SeqCst) + count;
        if received >= shared.resume_at.load(Ordering::SeqCst) {
            shared.resume_at.store(u64::MAX, Ordering::SeqCst);
            wake.unpark();
        }
        if count > 0 && received == shared.burst_ends.load(Ordering::SeqCst) {
            let began = Duration::from_nanos(shared.burst_began.load(Ordering::SeqCst));
            delays.push(shared.epoch.elapsed().saturating_sub(began));
        }
    }
}
