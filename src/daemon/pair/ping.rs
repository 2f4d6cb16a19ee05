//! ICMP echo (RFC 792, RFC 4443) from this node's own addresses.

use core::time::Duration;
use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// True when one of `targets` answers within `limit`.
pub(super) async fn any_answers(targets: &[IpAddr], limit: Duration) -> bool {
    let mut tasks = tokio::task::JoinSet::new();
    for target in targets.iter().copied() {
        tasks.spawn_local(async move { echo(target, limit).await.unwrap_or(false) });
    }
    while let Some(answered) = tasks.join_next().await {
        if answered.unwrap_or(false) {
            return true;
        }
    }
    false
}

/// One echo on an unprivileged ICMP socket, where the kernel fills in the identifier and the
/// checksum and hands over only what answers it.
async fn echo(target: IpAddr, limit: Duration) -> io::Result<bool> {
    let (domain, protocol, request) = match target {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.connect(&SocketAddr::new(target, 0).into())?;
    let message: [u8; 16] = [
        request, 0, 0, 0, 0, 0, 0, 1, b'v', b'i', b'p', b's', b'e', b'c', 0, 0,
    ];
    socket.send(&message)?;
    let socket = UdpSocket::from_std(socket.into())?;
    let mut answer = [0; 64];
    // "Host unreachable" is an error here, and no answer.
    match tokio::time::timeout(limit, socket.recv(&mut answer)).await {
        Ok(received) => received.map(|_| true),
        Err(_) => Ok(false),
    }
}
