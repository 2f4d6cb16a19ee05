//! The two threads of a probe. A packet is its number and the time it was sent, 16 bytes.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::trace::{Arrival, Trace};
use crate::LabError;
use crate::lab::now;
use crate::sys;

/// How long the receiver listens on after the last packet was sent.
const TAIL: Duration = Duration::from_millis(300);

/// A sender that is later than this gives up its timetable: what was missed is not sent in one
/// burst, which would measure the receiver's socket buffer.
const LATE: Duration = Duration::from_millis(10);

const LENGTH: usize = 16;

pub(super) fn send(
    socket: &UdpSocket,
    target: SocketAddr,
    interval: Duration,
    trace: &Mutex<Trace>,
    stop: &AtomicBool,
) {
    sys::run_first();
    let mut start = Instant::now();
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let at = now();
        // First noted, then sent: the receiver may be faster than this thread.
        trace
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .sent
            .push(at);
        let nanoseconds = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        let packet = [number.to_be_bytes(), nanoseconds.to_be_bytes()].concat();
        // An error here is what a host sees while there is no tunnel (no route, an ICMP
        // message): the packet is lost, and counted as such.
        let _lost = socket.send_to(&packet, target);
        number += 1;
        let due = interval.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
        let now = start.elapsed();
        match now.checked_sub(due) {
            Some(late) if late > LATE => start += late,
            Some(_late) => {}
            None => thread::sleep(due.saturating_sub(now)),
        }
    }
}

pub(super) fn receive(
    socket: &UdpSocket,
    trace: &Mutex<Trace>,
    stop: &AtomicBool,
) -> Result<(), LabError> {
    let mut stopped: Option<Instant> = None;
    let mut packet = [0; LENGTH + 1];
    loop {
        match sys::receive_stamped(socket.as_fd(), &mut packet) {
            Ok((LENGTH, at)) => {
                let arrival = arrival(&packet, at);
                let mut trace = trace.lock().unwrap_or_else(PoisonError::into_inner);
                trace.arrivals.push(arrival);
            }
            Ok(_foreign) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(LabError::at("receive a probe packet")(error)),
        }
        if stop.load(Ordering::Relaxed) && stopped.get_or_insert_with(Instant::now).elapsed() > TAIL
        {
            return Ok(());
        }
    }
}

fn arrival(packet: &[u8], at: Duration) -> Arrival {
    let field = |from: usize| {
        let bytes = packet.get(from..from + 8).and_then(|b| b.try_into().ok());
        u64::from_be_bytes(bytes.unwrap_or_default())
    };
    Arrival {
        number: field(0),
        sent: Duration::from_nanos(field(8)),
        at,
    }
}
