//! Round trips: one small UDP packet at a time to an echo and back.
//!
//! Beside a stream, who asks and who answers is woken at once ([`be_woken_at_once`]): they stand
//! for hosts with processors of their own, and what they would wait for is the stream's sender
//! and receiver, which no tunnel can help. In the idle tunnel nobody waits for a processor.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use netns_tests::LabError;
use netns_tests::topology::{HOST_A, HOST_B};
use serde::{Deserialize, Serialize};

use super::tcp::{self, Streams};
use super::{Hosts, joined};
use crate::bench::sample::percentile;

/// Between two round trips, so that everything on the way falls asleep again.
const PAUSE: Duration = Duration::from_millis(1);

/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_millis(500);

/// A tunnel that loses more than this is broken, and waiting for each answer would take hours.
const MAX_LOST: u32 = 20;

/// Round-trip times in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Rtt {
    /// Half of the answers come within.
    pub p50_us: f64,
    /// 99 of 100 answers come within.
    pub p99_us: f64,
    /// Answers that did not come.
    pub lost: u32,
}

/// `count` round trips; with `loaded`, while one TCP stream takes what it can get.
pub(in crate::bench::path) fn round_trips(
    hosts: &Hosts<'_>,
    count: u32,
    loaded: bool,
) -> Result<Rtt, LabError> {
    let at = LabError::at::<std::io::Error>;
    let sites = hosts.sites;
    let echo = sites.host_b.enter(|| UdpSocket::bind((HOST_B, 0)))?;
    let echo = echo.map_err(at("bind the echo's socket"))?;
    let target = echo.local_addr().map_err(at("address of the echo"))?;
    let socket = sites.host_a.enter(|| {
        let socket = UdpSocket::bind((HOST_A, 0))?;
        socket.connect(target)?;
        Ok(socket)
    })?;
    let socket = socket.map_err(at("connect to the echo"))?;
    socket
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| echo.set_read_timeout(Some(PATIENCE)))
        .map_err(at("set a time-out"))?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            sites.host_b.run_here()?;
            prepare(loaded);
            answer(&echo, &stop);
            Ok::<_, LabError>(())
        });
        let ask = || {
            sites.host_a.run_here()?;
            prepare(loaded);
            ask(&socket, count)
        };
        let ask = || thread::scope(|scope| joined(scope.spawn(ask)));
        let result = if loaded {
            tcp::with_streams(hosts, Streams::AToB(1), |_received| ask())
        } else {
            ask()
        };
        stop.store(true, Ordering::Relaxed);
        result
    })
}

fn prepare(loaded: bool) {
    if loaded && let Err(error) = be_woken_at_once() {
        eprintln!("note: the loaded round trips wait for processors as the streams do: {error}");
    }
}

/// Puts the calling thread above all that is not real-time, and above our workers
/// (`sched_setscheduler(2)`); it needs `CAP_SYS_NICE`.
#[expect(unsafe_code, reason = "neither libc nor rustix has a safe form")]
fn be_woken_at_once() -> std::io::Result<()> {
    const MYSELF: libc::pid_t = 0;
    let priority = libc::sched_param { sched_priority: 2 };
    // SAFETY: the pointer is to an initialised structure that outlives the call.
    match unsafe { libc::sched_setscheduler(MYSELF, libc::SCHED_FIFO, &raw const priority) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn answer(echo: &UdpSocket, stop: &AtomicBool) {
    let mut packet = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((len, from)) = echo.recv_from(&mut packet) {
            // Lost like any other packet when it cannot be sent.
            let _sent = echo.send_to(packet.get(..len).unwrap_or_default(), from);
        }
    }
}

fn ask(socket: &UdpSocket, count: u32) -> Result<Rtt, LabError> {
    let mut times = Vec::new();
    let mut lost = 0;
    for number in 0..count {
        thread::sleep(PAUSE);
        let start = Instant::now();
        socket
            .send(&number.to_be_bytes())
            .map_err(LabError::at("send to the echo"))?;
        match answer_to(socket, number) {
            Some(()) => times.push(start.elapsed().as_secs_f64() * 1e6),
            None => lost += 1,
        }
        if lost > MAX_LOST {
            return Err(LabError::Damaged(format!("{lost} round trips got lost")));
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(Rtt {
        p50_us: percentile(&times, 0.5),
        p99_us: percentile(&times, 0.99),
        lost,
    })
}

/// Waits for the answer with this number; older ones are late answers to lost questions.
fn answer_to(socket: &UdpSocket, number: u32) -> Option<()> {
    let mut packet = [0; 4];
    loop {
        if socket.recv(&mut packet).ok()? == 4 && u32::from_be_bytes(packet) == number {
            return Some(());
        }
    }
}
