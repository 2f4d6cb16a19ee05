//! Bulk TCP: streams that run until they are told to stop, measured in a window after their
//! start.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use netns_tests::LabError;
use netns_tests::lab::Host;
use netns_tests::probe;
use netns_tests::topology::{HOST_A, HOST_B};
use serde::{Deserialize, Serialize};

use super::{Hosts, Meter, joined};

/// Bytes of one write or read.
const BLOCK: usize = 128 * 1024;

/// Slow start, and the first packets of a tunnel, are not part of a figure.
const WARM_UP: Duration = Duration::from_millis(400);

/// A stream that stands still so long is broken.
const STALL: Duration = Duration::from_secs(10);

/// Which streams run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench::path) enum Streams {
    /// So many from host A to host B.
    AToB(usize),
    /// One each way.
    Both,
}

/// What streams carried, in sum.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bulk {
    /// 10⁹ payload bits per second.
    pub gbit_s: f64,
    /// Seconds of processor time of both gateways per 10⁹ payload bytes; 0 for the kernel's
    /// routing, which has no process.
    pub cpu_s_per_gb: f64,
    /// The same of the whole machine, with both hosts and whatever else runs on it.
    pub system_cpu_s_per_gb: f64,
}

/// Runs the streams for `time` beyond their start.
pub(in crate::bench::path) fn bulk(
    hosts: &Hosts<'_>,
    streams: Streams,
    time: Duration,
    pids: &[u32],
) -> Result<Bulk, LabError> {
    with_streams(hosts, streams, |received| {
        thread::sleep(WARM_UP);
        let meter = Meter::start(pids)?;
        let before = received.load(Ordering::Relaxed);
        thread::sleep(time);
        let bytes = (received.load(Ordering::Relaxed) - before) as f64;
        let used = meter.stop()?;
        if bytes == 0.0 {
            return Err(LabError::Damaged("no byte came through".to_owned()));
        }
        let per_gb = |cpu: Duration| cpu.as_secs_f64() / (bytes / 1e9);
        Ok(Bulk {
            gbit_s: bytes * 8.0 / 1e9 / used.elapsed.as_secs_f64(),
            cpu_s_per_gb: per_gb(used.gateways),
            system_cpu_s_per_gb: per_gb(used.system),
        })
    })
}

/// Does `work` while the streams run; it is given the count of received bytes.
pub(super) fn with_streams<T>(
    hosts: &Hosts<'_>,
    streams: Streams,
    work: impl FnOnce(&AtomicU64) -> Result<T, LabError>,
) -> Result<T, LabError> {
    let (a, b) = (&hosts.sites.host_a, &hosts.sites.host_b);
    let stream = |from, to, address| {
        let control = Some(hosts.congestion_control);
        Ok((from, to, connect(from, to, address, STALL, control)?))
    };
    let pairs = match streams {
        Streams::AToB(count) => (0..count)
            .map(|_| stream(a, b, HOST_B))
            .collect::<Result<Vec<_>, LabError>>()?,
        Streams::Both => vec![stream(a, b, HOST_B)?, stream(b, a, HOST_A)?],
    };
    let (received, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (from, to, (out, into)) in pairs {
            let (received, stop) = (&received, &stop);
            threads.push(scope.spawn(move || from.run_here().map(|()| send(out, stop))));
            threads.push(scope.spawn(move || to.run_here().map(|()| receive(into, received))));
        }
        let result = work(&received);
        stop.store(true, Ordering::Relaxed);
        // A stream that did not run would be missing in the figure.
        threads.into_iter().try_for_each(joined)?;
        result
    })
}

/// A stream from one host to another, with a congestion control of the kernel or what the machine
/// is set to; it is broken when it stands still for `stall`.
///
/// # Errors
/// When one of them cannot be reached from the other.
pub(in crate::bench) fn connect(
    from: &Host,
    to: &Host,
    address: IpAddr,
    stall: Duration,
    congestion_control: Option<&str>,
) -> Result<(TcpStream, TcpStream), LabError> {
    let listener = to
        .enter(|| TcpListener::bind(SocketAddr::new(address, 0)))?
        .map_err(LabError::at("listen"))?;
    let address = listener.local_addr().map_err(LabError::at("listen"))?;
    let out = from.enter(|| probe::connect(&address, stall, congestion_control))??;
    let (into, _from) = listener.accept().map_err(LabError::at("accept"))?;
    out.set_write_timeout(Some(stall))
        .and_then(|()| into.set_read_timeout(Some(stall)))
        .map_err(LabError::at("set a time-out"))?;
    Ok((out, into))
}

/// Ends with the stop flag, or when the stream is broken, which shows as bytes that are missing.
fn send(mut stream: TcpStream, stop: &AtomicBool) {
    let block = vec![0x5a; BLOCK];
    while !stop.load(Ordering::Relaxed) {
        if stream.write_all(&block).is_err() {
            return;
        }
    }
}

fn receive(mut stream: TcpStream, received: &AtomicU64) {
    let mut block = vec![0; 2 * BLOCK];
    while let Ok(count @ 1..) = stream.read(&mut block) {
        received.fetch_add(count as u64, Ordering::Relaxed);
    }
}
