//! ESP as IP protocol 50 over raw sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::SockAddr;

use super::sys::{Incoming, Outgoing};
use super::{RxBatch, RxMessage, Sent, SocketOptions, Train, TxScratch, Wire, options, send_queue};

/// A raw socket for protocol 50 on one local address.
#[derive(Debug)]
pub struct EspWire {
    socket: OwnedFd,
    is_ipv4: bool,
}

impl EspWire {
    /// Opens the socket of worker `share.0` of `share.1`; the address need not be ours yet.
    ///
    /// # Errors
    /// When the kernel refuses, such as `EPERM` without CAP_NET_RAW.
    pub fn open(
        local: IpAddr,
        share: (u32, u32),
        socket_options: &SocketOptions,
    ) -> io::Result<Self> {
        let socket = options::esp_socket(local, share, socket_options)?;
        Ok(Self {
            socket: options::into_fd(socket),
            is_ipv4: local.is_ipv4(),
        })
    }

    fn flush(&self, scratch: &mut TxScratch, arena: &[u8], sent: &mut Sent) {
        send_queue(
            self.socket.as_fd(),
            &mut scratch.queue,
            arena,
            sent,
            |error, _, sent| sent.count_refusal(error, 1),
        );
    }
}

impl Wire for EspWire {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn send(&mut self, scratch: &mut TxScratch, arena: &[u8], trains: &[Train]) -> Sent {
        let mut sent = Sent::default();
        for train in trains {
            // For a raw IPv6 socket the port would be a protocol number.
            let to = SockAddr::from(SocketAddr::new(train.remote.ip(), 0));
            for range in train.pieces() {
                if scratch.queue.is_full() {
                    self.flush(scratch, arena, &mut sent);
                }
                scratch.queue.push(Outgoing {
                    range,
                    to: to.clone(),
                    segment: None,
                    traffic_class: train.traffic_class,
                });
            }
        }
        self.flush(scratch, arena, &mut sent);
        sent
    }

    fn receive(&mut self, batch: &mut RxBatch) -> io::Result<usize> {
        let describe = if self.is_ipv4 {
            behind_ipv4_header
        } else {
            as_it_is
        };
        batch.receive(self.socket.as_fd(), describe)
    }
}

/// A raw IPv4 socket hands over the IP header, which is where the ToS stands.
fn behind_ipv4_header(start: usize, packet: &[u8], incoming: &Incoming) -> Option<RxMessage> {
    let header_len = usize::from(packet.first()? & 0x0f) * 4;
    let len = packet.len().checked_sub(header_len)?;
    Some(RxMessage {
        start: start + header_len,
        len,
        stride: len.max(1),
        from: SocketAddr::new(incoming.from?.ip(), 0),
        traffic_class: *packet.get(1)?,
    })
}

fn as_it_is(start: usize, packet: &[u8], incoming: &Incoming) -> Option<RxMessage> {
    Some(RxMessage {
        start,
        len: packet.len(),
        stride: packet.len().max(1),
        from: SocketAddr::new(incoming.from?.ip(), 0),
        traffic_class: incoming.beside.traffic_class,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sys::Beside;

    fn incoming() -> Incoming {
        Incoming {
            len: 0,
            truncated: false,
            from: Some("192.0.2.1:50".parse().unwrap()),
            beside: Beside {
                segment: None,
                traffic_class: 3,
            },
        }
    }

    #[test]
    fn the_ipv4_header_is_stepped_over_with_its_options() {
        let mut packet = vec![0; 24 + 40];
        packet[..2].copy_from_slice(&[0x46, 0xb8]);
        let message = behind_ipv4_header(1000, &packet, &incoming()).unwrap();
        assert_eq!((message.start, message.len), (1024, 40));
        assert_eq!(message.traffic_class, 0xb8);
        assert_eq!(message.from.port(), 0);
        assert_eq!(behind_ipv4_header(0, &packet[..10], &incoming()), None);
    }

    #[test]
    fn ipv6_has_no_header_and_its_class_beside() {
        let message = as_it_is(7, &[0; 40], &incoming()).unwrap();
        assert_eq!(
            (message.start, message.len, message.traffic_class),
            (7, 40, 3)
        );
    }
}
