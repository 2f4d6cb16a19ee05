//! Numbered UDP packets at a steady rate: what was lost, doubled or late, and for how long
//! nothing came.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};

use crate::LabError;
use crate::lab::Host;

/// How long the receiver listens on after the last packet was sent.
const TAIL: Duration = Duration::from_millis(300);

/// A sender that is later than this gives up its schedule.
const LATE: Duration = Duration::from_millis(10);

/// Room for a receiver that is not scheduled for a while, in bytes.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A running probe.
#[derive(Debug)]
pub struct Numbered {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<u64, LabError>>,
    receiver: JoinHandle<Result<Vec<Arrival>, LabError>>,
}

/// A packet that came through.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    number: u64,
    at: Instant,
}

/// What became of the packets.
#[derive(Debug, Clone)]
pub struct NumberedReport {
    /// Packets sent.
    pub sent: u64,
    /// Different packets received.
    pub received: u64,
    /// Packets received more than once.
    pub duplicates: u64,
    /// Packets that a later one had overtaken.
    pub reordered: u64,
    /// Longest time between two arrivals.
    pub longest_gap: Duration,
    /// The number after which the longest gap came.
    pub gap_after: u64,
}

impl NumberedReport {
    /// Packets that never came.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }
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
        let bind = |host: &Host, address: IpAddr| {
            host.enter(|| UdpSocket::bind(SocketAddr::new(address, 0)))?
                .map_err(LabError::at("bind a probe socket"))
        };
        let into = bind(receiver, address)?;
        let target = into.local_addr().map_err(LabError::at("probe address"))?;
        let any: IpAddr = if address.is_ipv6() {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv4Addr::UNSPECIFIED.into()
        };
        let out = bind(sender, any)?;
        // Beyond the system's limit for root; within it for a user's namespaces.
        set_socket_recv_buffer_size_force(&into, RECEIVE_BUFFER)
            .or_else(|_refused| set_socket_recv_buffer_size(&into, RECEIVE_BUFFER))
            .map_err(LabError::at("enlarge a socket buffer"))?;
        into.set_read_timeout(Some(Duration::from_millis(20)))
            .map_err(LabError::at("set a time-out"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let interval = Duration::from_secs(1) / per_second.max(1);
        let (sending, receiving) = (Arc::clone(&stop), Arc::clone(&stop));
        Ok(Self {
            stop,
            sender: thread::spawn(move || send(&out, target, interval, &sending)),
            receiver: thread::spawn(move || receive(&into, &receiving)),
        })
    }

    /// Stops sending, waits for stragglers and counts.
    ///
    /// # Errors
    /// When a socket failed in a way that is not loss.
    pub fn finish(self) -> Result<NumberedReport, LabError> {
        self.stop.store(true, Ordering::Relaxed);
        let panicked = |_panic| LabError::Damaged("a probe thread panicked".to_owned());
        let sent = self.sender.join().map_err(panicked)??;
        let arrivals = self.receiver.join().map_err(panicked)??;
        Ok(count(sent, &arrivals))
    }
}

fn send(
    socket: &UdpSocket,
    target: SocketAddr,
    interval: Duration,
    stop: &AtomicBool,
) -> Result<u64, LabError> {
    let mut start = Instant::now();
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        // An error here is what a host sees while there is no tunnel (no route, an ICMP
        // message): the packet is lost, and counted as such.
        let _lost = socket.send_to(&number.to_be_bytes(), target);
        number += 1;
        // By the schedule and not by the last packet, so that a late one does not shift all.
        let due = interval.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
        let now = start.elapsed();
        match now.checked_sub(due) {
            // The machine was busy elsewhere: what was missed is not sent in one burst, which
            // would measure the receiver's socket buffer.
            Some(late) if late > LATE => start += late,
            Some(_late) => {}
            None => thread::sleep(due.saturating_sub(now)),
        }
    }
    Ok(number)
}

fn receive(socket: &UdpSocket, stop: &AtomicBool) -> Result<Vec<Arrival>, LabError> {
    let mut arrivals = Vec::new();
    let mut stopped: Option<Instant> = None;
    loop {
        let mut packet = [0; 8];
        match socket.recv(&mut packet) {
            Ok(8) => arrivals.push(Arrival {
                number: u64::from_be_bytes(packet),
                at: Instant::now(),
            }),
            Ok(_foreign) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(LabError::at("receive a probe packet")(error)),
        }
        if stop.load(Ordering::Relaxed) && stopped.get_or_insert_with(Instant::now).elapsed() > TAIL
        {
            return Ok(arrivals);
        }
    }
}

fn count(sent: u64, arrivals: &[Arrival]) -> NumberedReport {
    let mut report = NumberedReport {
        sent,
        received: 0,
        duplicates: 0,
        reordered: 0,
        longest_gap: Duration::ZERO,
        gap_after: 0,
    };
    let mut seen = std::collections::HashSet::new();
    let mut highest = None;
    for arrival in arrivals {
        if seen.insert(arrival.number) {
            report.received += 1;
        } else {
            report.duplicates += 1;
        }
        if highest.is_some_and(|highest| arrival.number < highest) {
            report.reordered += 1;
        }
        highest = highest.max(Some(arrival.number));
    }
    for pair in arrivals.windows(2) {
        let [before, after] = pair else { continue };
        let gap = after.at - before.at;
        if gap > report.longest_gap {
            report.longest_gap = gap;
            report.gap_after = before.number;
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_doubles_order_and_gap_are_told_apart() {
        let start = Instant::now();
        let arrival = |number, ms| Arrival {
            number,
            at: start + Duration::from_millis(ms),
        };
        let arrivals = [
            arrival(0, 0),
            arrival(2, 1),
            arrival(1, 2),
            arrival(2, 3),
            arrival(5, 40),
        ];
        let report = count(7, &arrivals);
        assert_eq!((report.received, report.lost()), (4, 3));
        assert_eq!((report.duplicates, report.reordered), (1, 1));
        assert_eq!(report.longest_gap, Duration::from_millis(37));
        assert_eq!(report.gap_after, 2);
    }
}
