//! ICMP echo with the patience of a test: an answer counts however late it comes within the
//! deadline, and only when it carries the bytes that were sent. (The system's `ping` stops
//! listening two round trips after its last request, which on a busy machine is too early.)

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use rustix::net::{AddressFamily, SocketType, ipproto, socket};

use crate::LabError;
use crate::lab::Host;

/// Time between two requests.
const INTERVAL: Duration = Duration::from_millis(20);

/// How long the last answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The same for a single request that is repeated until it is answered.
const TRY: Duration = Duration::from_millis(200);

/// Type, code, checksum, identifier and sequence number (RFC 792, RFC 4443).
const HEADER: usize = 8;

/// An ICMP echo train in the making.
#[derive(Debug, Clone)]
pub struct Ping {
    destination: IpAddr,
    count: u16,
    size: usize,
    do_not_fragment: bool,
    patience: Duration,
}

/// What became of the requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PingReport {
    /// Echo requests sent, those included that the kernel refused to send.
    pub sent: u32,
    /// Requests that were answered, duplicates not counted.
    pub received: u32,
    /// Mean round-trip time in milliseconds; 0 without an answer.
    pub mean_ms: f64,
}

impl PingReport {
    /// Every request was answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.sent == self.received && self.sent > 0
    }
}

impl Ping {
    /// Three requests of 56 bytes, 20 ms apart, that routers may fragment.
    #[must_use]
    pub fn to(destination: IpAddr) -> Self {
        Self {
            destination,
            count: 3,
            size: 56,
            do_not_fragment: false,
            patience: PATIENCE,
        }
    }

    /// How many requests.
    #[must_use]
    pub fn count(self, count: u16) -> Self {
        Self { count, ..self }
    }

    /// ICMP payload bytes in each; more than the MTU makes fragments.
    #[must_use]
    pub fn size(self, size: usize) -> Self {
        Self { size, ..self }
    }

    /// Sets the don't-fragment bit.
    #[must_use]
    pub fn do_not_fragment(self) -> Self {
        Self {
            do_not_fragment: true,
            ..self
        }
    }

    /// Sends from `host` and counts.
    ///
    /// # Errors
    /// When there is no socket to be had, or an answer carries other bytes than its request.
    /// Lost answers are not an error.
    pub fn from(&self, host: &Host) -> Result<PingReport, LabError> {
        let socket = host
            .enter(|| self.open())?
            .map_err(LabError::at("open an ICMP socket"))?;
        let mut train = Train {
            ping: self,
            socket,
            unanswered: HashMap::new(),
            times: Vec::new(),
        };
        for number in 0..self.count {
            train.send(number);
            train.listen(INTERVAL)?;
        }
        train.listen(self.patience)?;
        let times = &train.times;
        let mean = times.iter().sum::<Duration>().as_secs_f64() / times.len().max(1) as f64;
        Ok(PingReport {
            sent: u32::from(self.count),
            received: u32::try_from(times.len()).unwrap_or(u32::MAX),
            mean_ms: mean * 1000.0,
        })
    }

    /// One request at a time until one is answered.
    ///
    /// # Errors
    /// [`LabError::Timeout`] when none is within `patience`.
    pub fn until_answered(&self, host: &Host, patience: Duration) -> Result<(), LabError> {
        let once = Self {
            count: 1,
            patience: TRY,
            ..self.clone()
        };
        let what = format!("an answer from {} to {}", self.destination, host.name());
        crate::lab::wait_for(&what, patience, || {
            let report = once.from(host)?;
            Ok(report.is_complete().then_some(()))
        })
    }

    fn open(&self) -> io::Result<UdpSocket> {
        let (family, protocol) = match self.destination {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
        };
        // The kernel fills in identifier and checksum, and hands over our own answers only.
        let icmp: OwnedFd = socket(family, SocketType::DGRAM, Some(protocol))?;
        // Left to itself, the kernel forbids fragments and learns by losing the first packet.
        match (self.destination, self.do_not_fragment) {
            (IpAddr::V4(_), true) => set_ip_mtu_discover(&icmp, Ipv4PathMtuDiscovery::DO)?,
            (IpAddr::V4(_), false) => set_ip_mtu_discover(&icmp, Ipv4PathMtuDiscovery::DONT)?,
            (IpAddr::V6(_), true) => set_ipv6_mtu_discover(&icmp, Ipv6PathMtuDiscovery::DO)?,
            (IpAddr::V6(_), false) => {}
        }
        Ok(UdpSocket::from(icmp))
    }

    fn payload(&self, number: u16) -> Vec<u8> {
        let byte = |at: usize| (at.wrapping_mul(31) ^ usize::from(number)).to_le_bytes()[0];
        (0..self.size).map(byte).collect()
    }
}

/// Requests on their way.
struct Train<'a> {
    ping: &'a Ping,
    socket: UdpSocket,
    unanswered: HashMap<u16, Instant>,
    times: Vec<Duration>,
}

impl Train<'_> {
    fn send(&mut self, number: u16) {
        let echo_request = if self.ping.destination.is_ipv4() {
            8
        } else {
            128
        };
        let mut packet = vec![echo_request, 0, 0, 0, 0, 0];
        packet.extend(number.to_be_bytes());
        packet.extend(self.ping.payload(number));
        self.unanswered.insert(number, Instant::now());
        // What the kernel refuses (no route, too big for don't-fragment) stays unanswered.
        let target = SocketAddr::new(self.ping.destination, 0);
        let _unsent = self.socket.send_to(&packet, target);
    }

    /// Takes answers until the time is over, or at once when none is outstanding and no more
    /// requests follow.
    fn listen(&mut self, time: Duration) -> Result<(), LabError> {
        let end = Instant::now() + time;
        let mut packet = vec![0; HEADER + self.ping.size + 1];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let idle = self.unanswered.is_empty() && time != INTERVAL;
            if left.is_zero() || idle {
                return Ok(());
            }
            self.socket
                .set_read_timeout(Some(left))
                .map_err(LabError::at("set a time-out"))?;
            match self.socket.recv(&mut packet) {
                Ok(length) => self.answer(packet.get(..length).unwrap_or_default())?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // An ICMP error about one of our requests: that one stays unanswered.
                Err(_told) => {}
            }
        }
    }

    fn answer(&mut self, packet: &[u8]) -> Result<(), LabError> {
        let &[_, _, _, _, _, _, high, low, ref payload @ ..] = packet else {
            return Err(LabError::Damaged(
                "an ICMP answer without a header".to_owned(),
            ));
        };
        let number = u16::from_be_bytes([high, low]);
        let Some(sent) = self.unanswered.remove(&number) else {
            return Ok(());
        };
        if payload != self.ping.payload(number) {
            let text = format!("answer {number} from {}", self.ping.destination);
            return Err(LabError::Damaged(text));
        }
        self.times.push(sent.elapsed());
        Ok(())
    }
}
