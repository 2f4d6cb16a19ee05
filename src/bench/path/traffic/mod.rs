//! Traffic between the two hosts, and what it cost. Nothing here looks into a tunnel: every
//! contender sees the same packets.

mod frames;
mod rtt;
mod tcp;
mod udp;

use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use netns_tests::{LabError, TwoSites, cpu};

pub(super) use rtt::Rtt;
pub(super) use tcp::Bulk;
pub(super) use udp::Rate;

pub(super) use rtt::round_trips;
pub(in crate::bench) use tcp::connect;
pub(super) use tcp::{Streams, bulk};
pub(super) use udp::highest_rate;

/// The two hosts, and how they send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hosts<'a> {
    pub(super) sites: &'a TwoSites,
    /// That of their TCP, by the kernel's name for it.
    pub(super) congestion_control: &'a str,
}

/// Counts processor time from its making on.
pub(super) struct Meter<'a> {
    pids: &'a [u32],
    start: Instant,
    gateways: Duration,
    system: Duration,
}

/// Processor time and wall time of a window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    /// Of both gateways' processes; zero when the kernel does all the work.
    pub(super) gateways: Duration,
    /// Of the whole machine, whatever else runs on it included.
    pub(super) system: Duration,
    /// By the clock on the wall.
    pub(super) elapsed: Duration,
}

impl<'a> Meter<'a> {
    pub(super) fn start(pids: &'a [u32]) -> Result<Self, LabError> {
        Ok(Self {
            pids,
            gateways: of_all(pids)?,
            system: of_system()?,
            start: Instant::now(),
        })
    }

    pub(super) fn stop(self) -> Result<Used, LabError> {
        let elapsed = self.start.elapsed();
        Ok(Used {
            gateways: of_all(self.pids)?.saturating_sub(self.gateways),
            system: of_system()?.saturating_sub(self.system),
            elapsed,
        })
    }
}

/// What a thread of the traffic came to.
fn joined<T>(thread: ScopedJoinHandle<'_, Result<T, LabError>>) -> Result<T, LabError> {
    let died = |_panic| {
        Err(LabError::Damaged(
            "a thread of the traffic has died".to_owned(),
        ))
    };
    thread.join().unwrap_or_else(died)
}

fn of_all(pids: &[u32]) -> Result<Duration, LabError> {
    pids.iter().map(|pid| cpu::used(*pid)).sum()
}

/// Everything but idle and waiting, from the first line of `/proc/stat`.
fn of_system() -> Result<Duration, LabError> {
    let text = std::fs::read_to_string("/proc/stat").map_err(LabError::at("read /proc/stat"))?;
    let busy = busy_ticks(&text).ok_or_else(|| LabError::unreadable("/proc/stat", &text))?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(busy as f64 / per_second as f64))
}

/// `cpu user nice system idle iowait irq softirq …`.
fn busy_ticks(text: &str) -> Option<u64> {
    let fields: Vec<u64> = text
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let [user, nice, system, _idle, _waiting, irq, softirq, ..] = fields.as_slice() else {
        return None;
    };
    Some(user + nice + system + irq + softirq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_not_busy() {
        let text = "cpu  10 1 20 99999 7 3 4 0 0 0\ncpu0 1 2 3\n";
        assert_eq!(busy_ticks(text), Some(38));
        assert_eq!(busy_ticks("intr 1"), None);
    }
}
