//! Numbered UDP packets at a steady rate: what was lost, doubled or late, and for how long
//! nothing came.
//!
//! The sender keeps to a timetable of absolute deadlines; the receiver takes the kernel's time
//! of arrival, so that a receiving thread that is kept waiting does not look like a gap. What
//! has happened so far can be looked at while the probe runs.

mod trace;
mod wire;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};

use crate::LabError;
use crate::lab::{Host, now, wait_for};
use crate::sys;

pub use trace::{Arrival, NumberedReport, Trace};

/// Room for a receiver that is not scheduled for a while, in bytes.
const RECEIVE_BUFFER: usize = 4 << 20;

/// How often a waiting receiver looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// A running probe.
#[derive(Debug)]
pub struct Numbered {
    name: String,
    interval: Duration,
    stop: Arc<AtomicBool>,
    trace: Arc<Mutex<Trace>>,
    sender: JoinHandle<()>,
    receiver: JoinHandle<Result<(), LabError>>,
}

impl Numbered {
    /// Starts sending `per_second` packets from one host to an address of another.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub fn start(
        sender: &Host,
        receiver: &Host,
        address: IpAddr,
        per_second: u32,
    ) -> Result<Self, LabError> {
        let into = bind(receiver, address)?;
        let target = into.local_addr().map_err(LabError::at("probe address"))?;
        let any: IpAddr = match address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let out = bind(sender, any)?;
        // Beyond the system's limit for root; within it for a user's namespaces.
        set_socket_recv_buffer_size_force(&into, RECEIVE_BUFFER)
            .or_else(|_refused| set_socket_recv_buffer_size(&into, RECEIVE_BUFFER))
            .map_err(LabError::at("enlarge a socket buffer"))?;
        into.set_read_timeout(Some(LOOK))
            .map_err(LabError::at("set a time-out"))?;
        sys::stamp_arrivals(into.as_fd()).map_err(LabError::at("ask for times of arrival"))?;
        let interval = Duration::from_secs(1) / per_second.max(1);
        let stop = Arc::new(AtomicBool::new(false));
        let trace = Arc::new(Mutex::new(Trace::default()));
        let (sending, receiving) = (Arc::clone(&stop), Arc::clone(&stop));
        let (sent, arrived) = (Arc::clone(&trace), Arc::clone(&trace));
        Ok(Self {
            name: format!("{} → {}", sender.name(), receiver.name()),
            interval,
            stop,
            trace,
            sender: thread::spawn(move || wire::send(&out, target, interval, &sent, &sending)),
            receiver: thread::spawn(move || wire::receive(&into, &arrived, &receiving)),
        })
    }

    /// `sender → receiver`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until nearly everything that is sent arrives: nine tenths of what is due within
    /// `window`, which begins no earlier than `since` (Unix time). Says when that was.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn wait_flowing(
        &self,
        since: Duration,
        window: Duration,
        patience: Duration,
    ) -> Result<Duration, LabError> {
        let due = window.as_nanos() / self.interval.as_nanos().max(1);
        let wanted = usize::try_from(due * 9 / 10).unwrap_or(usize::MAX);
        let what = format!("a steady stream {}", self.name);
        wait_for(&what, patience, || {
            let now = now();
            let from = now.saturating_sub(window);
            let steady = from >= since && self.lock().arrived_since(from) >= wanted;
            Ok(steady.then_some(now))
        })
    }

    /// What has happened so far. Packets of the last moments may still be on their way.
    #[must_use]
    pub fn so_far(&self) -> Trace {
        self.lock().clone()
    }

    /// Stops sending, waits for stragglers and counts.
    ///
    /// # Errors
    /// When a socket failed in a way that is not loss.
    pub fn finish(self) -> Result<NumberedReport, LabError> {
        Ok(self.finish_trace()?.report())
    }

    /// Stops sending, waits for stragglers and gives everything that was seen.
    ///
    /// # Errors
    /// As [`Numbered::finish`].
    pub fn finish_trace(self) -> Result<Trace, LabError> {
        self.stop.store(true, Ordering::Relaxed);
        let panicked = |_panic| LabError::Damaged("a probe thread panicked".to_owned());
        self.sender.join().map_err(panicked)?;
        self.receiver.join().map_err(panicked)??;
        let mut trace = self.trace.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut trace))
    }

    fn lock(&self) -> MutexGuard<'_, Trace> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bind(host: &Host, address: IpAddr) -> Result<UdpSocket, LabError> {
    host.enter(|| UdpSocket::bind(SocketAddr::new(address, 0)))?
        .map_err(LabError::at("bind a probe socket"))
}
