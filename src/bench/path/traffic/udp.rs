//! The highest rate of UDP packets that arrives with less than 0.1 % loss.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use netns_tests::topology::HOST_B;
use netns_tests::{LabError, TwoSites};
use serde::{Deserialize, Serialize};

use super::frames::Frames;
use super::{Meter, joined};

/// Loss that a rate may have.
const LOSS: f64 = 0.001;

/// IP and UDP header.
const HEADERS: usize = 28;

/// The first rate tried, in packets per second.
const FIRST: f64 = 8_000.0;

/// The search ends when the rate is known so well: the same for fast and slow ones.
const FINE: f64 = 0.02;

/// Trials at most: about five doublings, then six halvings. A tunnel that does not even carry
/// the first rate ends it.
const STEPS: u32 = 14;

/// The receiver listens until nothing has come for so long.
const TAIL: Duration = Duration::from_millis(60);

/// Packets that are still on their way when the sender stops are not lost, but a tunnel that
/// only queues them does not carry the rate: so much later the last one may come.
const LATE: f64 = 0.1;

/// The receiver looks so often: it is not woken for every packet.
const LOOK: Duration = Duration::from_micros(100);

/// A rate that came through.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Rate {
    /// Thousands of packets per second received.
    pub kpps: f64,
    /// Lost share.
    pub loss: f64,
    /// Microseconds of processor time of both gateways per packet.
    pub cpu_us: f64,
}

/// Doubles the rate until too much is lost, then halves the interval.
pub(in crate::bench::path) fn highest_rate(
    sites: &TwoSites,
    ip_len: usize,
    time: Duration,
    pids: &[u32],
) -> Result<Rate, LabError> {
    let mut flow = Flow::new(sites, ip_len)?;
    let mut best = Rate::default();
    let (mut good, mut bad) = (0.0, None);
    let mut next = FIRST;
    for _step in 0..STEPS {
        if bad.is_some_and(|bad| bad - good < bad * FINE) {
            break;
        }
        let trial = flow.best_of_two(next, time, pids)?;
        if trial.rate.loss < LOSS && trial.rate.kpps > best.kpps {
            best = trial.rate;
        }
        if trial.passed {
            good = next;
        } else {
            bad = Some(next);
        }
        next = bad.map_or(good * 2.0, |bad| f64::midpoint(good, bad));
    }
    Ok(best)
}

struct Trial {
    rate: Rate,
    /// All that was due was sent, nearly all of it came, and it came in time.
    passed: bool,
}

struct Flow<'a> {
    sites: &'a TwoSites,
    out: Frames,
    into: UdpSocket,
    payload: usize,
    /// Numbers the trials, so that late packets of one are not counted in the next.
    trial: u32,
}

impl<'a> Flow<'a> {
    fn new(sites: &'a TwoSites, ip_len: usize) -> Result<Self, LabError> {
        let at = LabError::at::<std::io::Error>;
        let into = sites.host_b.enter(|| UdpSocket::bind((HOST_B, 0)))?;
        let into = into.map_err(at("bind a UDP socket"))?;
        into.set_nonblocking(true).map_err(at("not to wait"))?;
        // The receiver must not be the one that loses. Without the privilege the system's limit
        // has to do.
        let buffer = 16 << 20;
        let _forced = rustix::net::sockopt::set_socket_recv_buffer_size_force(&into, buffer);
        let target = into.local_addr().map_err(at("UDP address"))?;
        Ok(Self {
            sites,
            out: Frames::new(sites, target)?,
            into,
            payload: ip_len.saturating_sub(HEADERS),
            trial: 0,
        })
    }

    /// A hiccup of the machine is not the tunnel's limit: a trial fails when it fails twice.
    fn best_of_two(&mut self, rate: f64, time: Duration, pids: &[u32]) -> Result<Trial, LabError> {
        let first = self.once(rate, time, pids)?;
        if first.passed {
            return Ok(first);
        }
        let second = self.once(rate, time, pids)?;
        let better = second.passed || second.rate.loss < first.rate.loss;
        Ok(if better { second } else { first })
    }

    fn once(&mut self, rate: f64, time: Duration, pids: &[u32]) -> Result<Trial, LabError> {
        self.trial += 1;
        let mut payload = vec![0x5a; self.payload];
        if let Some(number) = payload.first_chunk_mut() {
            *number = self.trial.to_be_bytes();
        }
        let flow = &*self;
        let stop = AtomicBool::new(false);
        let meter = Meter::start(pids)?;
        let start = Instant::now();
        let (sent, arrived) = thread::scope(|scope| {
            let receiver = scope.spawn(|| {
                flow.sites.host_b.run_here()?;
                Ok::<_, LabError>(flow.receive(&stop, start))
            });
            let sender = scope.spawn(|| {
                flow.sites.host_a.run_here()?;
                flow.out.send(&payload, rate, time)
            });
            let sent = joined(sender);
            stop.store(true, Ordering::Relaxed);
            (sent, joined(receiver))
        });
        let (sent, (received, last), used) = (sent?, arrived?, meter.stop()?);
        let seconds = time.as_secs_f64();
        let loss = 1.0 - received as f64 / sent.max(1) as f64;
        let result = Rate {
            kpps: received as f64 / last.as_secs_f64().max(seconds) / 1e3,
            loss,
            cpu_us: used.gateways.as_secs_f64() * 1e6 / received.max(1) as f64,
        };
        Ok(Trial {
            rate: result,
            passed: loss < LOSS
                && sent as f64 > rate * seconds * 0.97
                && last.as_secs_f64() < seconds * (1.0 + LATE),
        })
    }

    /// Counts packets of this trial until the sender has stopped and none has come for [`TAIL`];
    /// when the last one came.
    fn receive(&self, stop: &AtomicBool, start: Instant) -> (u64, Duration) {
        let mut packet = [0; 2048];
        let (mut received, mut last) = (0, Duration::ZERO);
        loop {
            let before = received;
            while self.into.recv(&mut packet).is_ok() {
                // The others are late ones of an earlier trial.
                if packet.first_chunk() == Some(&self.trial.to_be_bytes()) {
                    received += 1;
                }
            }
            let now = start.elapsed();
            if received > before {
                last = now;
            } else if stop.load(Ordering::Relaxed) && now > last + TAIL {
                return (received, last);
            }
            thread::sleep(LOOK);
        }
    }
}
