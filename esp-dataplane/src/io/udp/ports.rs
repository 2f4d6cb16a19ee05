//! The sockets that share the NAT-T port of an address: for each worker one that receives and
//! one that only sends.
//!
//! The kernel tells whoever waits for a socket when a packet that it has sent is freed. With
//! epoll that takes two locks a packet, whatever epoll waits for: a twentieth of a worker's time
//! where the kernel cuts its trains. So packets leave by a socket that nobody waits for.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use socket2::Socket;

use super::super::{SocketOptions, options, sys};

/// The sockets of one worker on a port.
pub(super) struct Ends {
    pub(super) receiver: Socket,
    /// None where the kernel gives no such socket: then the receiving one sends too.
    pub(super) sender: Option<Socket>,
}

/// Opens the sockets of `workers` workers on `local`. The address need not be ours yet.
///
/// # Errors
/// When the kernel refuses, such as `EADDRINUSE` when somebody has the port.
pub(super) fn open(
    local: SocketAddr,
    workers: u32,
    options: &SocketOptions,
) -> io::Result<Vec<Ends>> {
    // The first socket has the port for itself, and only then lets in the others.
    let first = options::udp_socket(local, options)?;
    first.bind(&local.into())?;
    first.set_reuse_port(true)?;
    let bound = first.local_addr()?.as_socket().unwrap_or(local);
    let others = (1..workers).map(|_worker| {
        let socket = options::udp_socket(bound, options)?;
        socket.set_reuse_port(true)?;
        socket.bind(&bound.into())?;
        Ok(socket)
    });
    let receivers = core::iter::once(Ok(first)).chain(others);
    let receivers = receivers.collect::<io::Result<Vec<_>>>()?;
    // A receiver that is bound later would be put into a group with a sender.
    let mut ends = Vec::with_capacity(receivers.len());
    for receiver in receivers {
        let sender = open_sender(bound, options);
        if let (Err(error), true) = (&sender, ends.is_empty()) {
            tracing::info!(
                local = %bound,
                %error,
                "no sockets that only send, which take CAP_NET_RAW: those that receive send too"
            );
        }
        let sender = sender.ok();
        ends.push(Ends { receiver, sender });
    }
    // From here on nobody joins.
    for sender in ends.iter().filter_map(|ends| ends.sender.as_ref()) {
        sender.set_reuse_port(false)?;
    }
    if let [alone] = ends.as_slice() {
        // A group of one costs a hash for every packet that comes.
        alone.receiver.set_reuse_port(false)?;
    }
    Ok(ends)
}

/// The port of a source that no packet has: discard.
const NOBODY: u16 = 9;

/// A socket that shares the port and receives nothing.
///
/// A connected socket receives only from where it is connected to, here the loopback address,
/// and the kernel drops packets from there that come from elsewhere. Sending names the peer each
/// time, as without a connection. The kernel looks through all sockets of a group with a
/// connected one for every packet, so it must not be in the receivers' group: it is bound while
/// it is tied to a device that they are not tied to.
fn open_sender(local: SocketAddr, options: &SocketOptions) -> io::Result<Socket> {
    let socket = options::udp_socket(local, options)?;
    socket.bind_device(Some(b"lo"))?;
    socket.set_reuse_port(true)?;
    socket.bind(&local.into())?;
    socket.bind_device(None)?;
    let nobody = match local.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    let (level, name) = match local.ip() {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT),
    };
    let transparent = |on: bool| sys::set_option(socket.as_fd(), level, name, i32::from(on));
    // Only for the connecting: the address may be on the other gateway of the pair.
    transparent(true)?;
    socket.connect(&SocketAddr::new(nobody, NOBODY).into())?;
    transparent(false)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn open_on(local: &str, workers: u32) -> Vec<Ends> {
        open(local.parse().unwrap(), workers, &SocketOptions::default()).unwrap()
    }

    fn address(socket: &Socket) -> SocketAddr {
        socket.local_addr().unwrap().as_socket().unwrap()
    }

    /// How many datagrams wait in a socket.
    fn drain(socket: &Socket) -> usize {
        core::iter::from_fn(|| socket.recv(&mut [core::mem::MaybeUninit::new(0); 8]).ok()).count()
    }

    #[test]
    fn receivers_share_what_comes_and_senders_get_nothing() {
        for (local, workers) in [("127.0.0.1:0", 1), ("127.0.0.1:0", 3), ("[::1]:0", 3)] {
            let ends = open_on(local, workers);
            let to = address(&ends[0].receiver);
            for ends in &ends {
                assert_eq!(address(&ends.receiver), to);
            }
            for _ in 0..100 {
                let peer = UdpSocket::bind(SocketAddr::new(to.ip(), 0)).unwrap();
                assert_eq!(peer.send_to(b"hello", to).unwrap(), 5);
            }
            let shares: Vec<usize> = ends.iter().map(|ends| drain(&ends.receiver)).collect();
            assert_eq!(shares.iter().sum::<usize>(), 100, "{shares:?}");
            assert!(!shares.contains(&0), "{shares:?}");
            for sender in ends.iter().filter_map(|ends| ends.sender.as_ref()) {
                assert_eq!(address(sender), to);
                assert_eq!(drain(sender), 0);
            }
        }
    }

    #[test]
    fn a_sender_answers_from_the_port() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let ends = open_on(local, 2);
            let peer = UdpSocket::bind(local).unwrap();
            let to = peer.local_addr().unwrap().into();
            for ends in &ends {
                let sender = ends.sender.as_ref().unwrap_or(&ends.receiver);
                sender.send_to(b"hello", &to).unwrap();
                let (_, from) = peer.recv_from(&mut [0; 8]).unwrap();
                assert_eq!(from, address(&ends.receiver));
            }
        }
    }

    /// A standby has its sockets before it has the address.
    #[test]
    fn the_address_may_be_elsewhere() {
        for local in ["192.0.2.1:0", "[2001:db8::1]:0"] {
            for ends in open_on(local, 2) {
                // It takes CAP_NET_RAW and CAP_NET_ADMIN.
                let is_privileged = rustix::process::geteuid().is_root();
                assert!(ends.sender.is_some() || !is_privileged, "{local}");
            }
        }
    }

    #[test]
    fn nobody_else_joins() {
        let ends = open_on("127.0.0.1:0", 1);
        let local = address(&ends[0].receiver);
        let again = open(local, 1, &SocketOptions::default());
        assert_eq!(again.err().unwrap().kind(), io::ErrorKind::AddrInUse);
        let other = options::udp_socket(local, &SocketOptions::default()).unwrap();
        other.set_reuse_port(true).unwrap();
        let refused = other.bind(&local.into()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }
}
