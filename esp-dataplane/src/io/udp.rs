//! ESP in UDP (RFC 3948) with segmentation offload both ways.

mod ports;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::SockAddr;

use super::sys::{Outgoing, SendQueue};
use super::{RxBatch, RxMessage, Sent, SocketOptions, Train, TxScratch, Wire, options, send_queue};

/// A worker's UDP sockets on the NAT-T port of one local address, which it shares with the other
/// workers.
#[derive(Debug)]
pub struct UdpWire {
    socket: UdpSocket,
    /// Sends, if there is one; see [`ports`].
    sender: Option<UdpSocket>,
    /// The kernel cuts trains for us. Cleared for good when it turns out not to.
    segments: bool,
}

impl UdpWire {
    /// Opens the sockets of each of `workers` workers; the address need not be ours yet.
    ///
    /// # Errors
    /// When the kernel refuses, such as `EADDRINUSE` when somebody has the port.
    pub fn open(
        local: SocketAddr,
        workers: u32,
        socket_options: &SocketOptions,
    ) -> io::Result<Vec<Self>> {
        let all = ports::open(local, workers, socket_options)?;
        let wire = |ends: ports::Ends| {
            if socket_options.offload.udp_gro {
                options::enable_gro(&ends.receiver);
            }
            Self {
                socket: options::into_fd(ends.receiver).into(),
                sender: ends.sender.map(|sender| options::into_fd(sender).into()),
                segments: socket_options.offload.udp_segment,
            }
        };
        Ok(all.into_iter().map(wire).collect())
    }

    /// Another handle to the receiving socket, for the control plane's datagrams.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn try_clone(&self) -> io::Result<UdpSocket> {
        self.socket.try_clone()
    }

    fn sender(&self) -> BorrowedFd<'_> {
        self.sender.as_ref().unwrap_or(&self.socket).as_fd()
    }

    /// Sends whole trains. One that the kernel refuses to cut goes packet by packet, before
    /// whatever follows it.
    fn send_trains(&mut self, scratch: &mut TxScratch, arena: &[u8], sent: &mut Sent) {
        let mut unsupported = false;
        let TxScratch { queue, pieces } = scratch;
        let fd = self.sender();
        send_queue(fd, queue, arena, sent, |error, message, sent| {
            match (error.raw_os_error(), message.segment) {
                (Some(errno @ (libc::EINVAL | libc::EIO | libc::EMSGSIZE)), Some(_)) => {
                    unsupported |= errno == libc::EIO;
                    sent.uncut += 1;
                    send_pieces(fd, pieces, arena, message, sent);
                }
                _ => sent.count_refusal(error, super::packets_in(message)),
            }
        });
        if unsupported {
            tracing::warn!("the kernel does not cut UDP trains here; sending packet by packet");
            self.segments = false;
        }
    }
}

/// Sends a train packet by packet: the kernel then fragments those that are too long for the
/// path, which it does not do for trains.
fn send_pieces(
    fd: BorrowedFd<'_>,
    queue: &mut SendQueue,
    arena: &[u8],
    train: &Outgoing,
    sent: &mut Sent,
) {
    let stride = train.segment.map_or(train.range.len(), usize::from).max(1);
    let mut rest = train.range.clone();
    while !rest.is_empty() {
        while !rest.is_empty() && !queue.is_full() {
            let end = rest.end.min(rest.start + stride);
            queue.push(Outgoing {
                range: rest.start..end,
                to: train.to.clone(),
                segment: None,
                traffic_class: train.traffic_class,
            });
            rest.start = end;
        }
        send_queue(fd, queue, arena, sent, |error, _, sent| {
            sent.count_refusal(error, 1);
        });
    }
}

impl UdpWire {
    /// Sends trains to where `remote` says.
    pub(super) fn send_to(
        &mut self,
        scratch: &mut TxScratch,
        arena: &[u8],
        trains: &[Train],
        remote: impl Fn(&Train) -> SocketAddr,
    ) -> Sent {
        let mut sent = Sent::default();
        for train in trains {
            let is_train = train.len > train.stride;
            let message = Outgoing {
                range: train.start..train.start + train.len,
                to: SockAddr::from(remote(train)),
                segment: u16::try_from(train.stride).ok().filter(|_| is_train),
                traffic_class: train.traffic_class,
            };
            if is_train && !self.segments {
                self.send_trains(scratch, arena, &mut sent);
                let fd = self.sender();
                send_pieces(fd, &mut scratch.pieces, arena, &message, &mut sent);
                continue;
            }
            if scratch.queue.is_full() {
                self.send_trains(scratch, arena, &mut sent);
            }
            scratch.queue.push(message);
        }
        self.send_trains(scratch, arena, &mut sent);
        sent
    }
}

impl Wire for UdpWire {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn send(&mut self, scratch: &mut TxScratch, arena: &[u8], trains: &[Train]) -> Sent {
        self.send_to(scratch, arena, trains, |train| train.remote)
    }

    fn receive(&mut self, batch: &mut RxBatch) -> io::Result<usize> {
        batch.receive(self.socket.as_fd(), |start, _, incoming| {
            Some(RxMessage {
                start,
                len: incoming.len,
                stride: incoming.beside.segment.unwrap_or(incoming.len).max(1),
                from: incoming.from?,
                traffic_class: incoming.beside.traffic_class,
            })
        })
    }
}

#[cfg(test)]
mod tests;
