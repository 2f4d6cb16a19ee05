//! Making sockets: addresses that may not be ours yet, buffers, marks, "don't fragment".

use core::ffi::c_int;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::sys;

/// Whether routers may fragment outer packets (RFC 4301 §8.1 leaves the choice to policy).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OuterDf {
    /// They may: a path MTU that shrinks costs speed, not the tunnel. Path MTU news, which
    /// anyone can forge, are not listened to.
    #[default]
    Clear,
    /// They may not; packets above the path MTU are refused and counted.
    Set,
}

/// Whether programs in the kernel turn UDP trains into protocol 50 and back; see
/// docs/decisions/0006-protocol-50-io.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EspRelay {
    /// Where the kernel and the process's privileges permit it; otherwise, with a word in the
    /// log, protocol 50 goes packet by packet.
    #[default]
    Auto,
    /// On every IPv4 address, or it is an error.
    On,
    /// Nowhere.
    Off,
}

/// Which of the kernel's offers to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffloadPolicy {
    /// Hand over whole trains and let the kernel, or the hardware, cut them.
    pub udp_segment: bool,
    /// Take trains that the kernel has put together.
    pub udp_gro: bool,
    /// Let programs in the kernel carry protocol 50 in trains.
    pub esp_relay: EspRelay,
}

impl Default for OffloadPolicy {
    fn default() -> Self {
        Self {
            udp_segment: true,
            udp_gro: true,
            esp_relay: EspRelay::Auto,
        }
    }
}

/// What all outer sockets have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketOptions {
    /// Firewall mark of everything sent, for policy routing.
    pub mark: Option<u32>,
    /// Send and receive buffer in bytes; beyond the system's limit only with CAP_NET_ADMIN.
    pub buffer: usize,
    /// "Don't fragment" of outer packets.
    pub outer_df: OuterDf,
    /// Segmentation offload.
    pub offload: OffloadPolicy,
}

/// A UDP socket for `local`, not bound yet.
pub(super) fn udp_socket(local: SocketAddr, options: &SocketOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    prepare(&socket, local.ip(), options)?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// A raw socket for ESP on `local`. It would get a copy of every ESP packet to this address:
/// with several workers, each keeps its share of the SPIs.
pub(super) fn esp_socket(
    local: IpAddr,
    (worker, workers): (u32, u32),
    options: &SocketOptions,
) -> io::Result<Socket> {
    let domain = if local.is_ipv4() {
        Domain::IPV4
    } else {
        Domain::IPV6
    };
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_ESP)))?;
    if workers > 1 {
        sys::keep_spi_share(socket.as_fd(), worker, workers, local.is_ipv4())?;
    }
    prepare(&socket, local, options)?;
    socket.bind(&SockAddr::from(SocketAddr::new(local, 0)))?;
    Ok(socket)
}

fn prepare(socket: &Socket, local: IpAddr, options: &SocketOptions) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let set = |level, name, value| sys::set_option(socket.as_fd(), level, name, value);
    let discover = match (options.outer_df, local) {
        (OuterDf::Set, IpAddr::V4(_)) => libc::IP_PMTUDISC_DO,
        (OuterDf::Set, IpAddr::V6(_)) => libc::IPV6_PMTUDISC_DO,
        (OuterDf::Clear, IpAddr::V4(_)) => libc::IP_PMTUDISC_OMIT,
        // IPv6 routers never fragment: we have to, and so need to know the path.
        (OuterDf::Clear, IpAddr::V6(_)) => libc::IPV6_PMTUDISC_DONT,
    };
    if local.is_ipv4() {
        // The virtual address may be on the other gateway of the pair at this moment.
        socket.set_freebind_v4(true)?;
        socket.set_recv_tos_v4(true)?;
        set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, discover)?;
    } else {
        socket.set_freebind_v6(true)?;
        socket.set_recv_tclass_v6(true)?;
        set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, discover)?;
    }
    if let Some(mark) = options.mark {
        socket.set_mark(mark)?;
    }
    set_buffers(socket, options.buffer);
    Ok(())
}

/// Bursts of 64 KiB need room. With the privilege the system's limit does not count; without,
/// the kernel gives what it may, and a smaller buffer only costs packets under load.
fn set_buffers(socket: &Socket, bytes: usize) {
    let Ok(value) = c_int::try_from(bytes) else {
        return;
    };
    if value == 0 {
        return;
    }
    let pairs = [
        (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
        (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
    ];
    for (forced, plain) in pairs {
        let set = |name| sys::set_option(socket.as_fd(), libc::SOL_SOCKET, name, value);
        if let Err(error) = set(forced).or_else(|_| set(plain)) {
            tracing::warn!(bytes, %error, "cannot enlarge a socket buffer");
        }
    }
}

/// Turns UDP_GRO on; false, logged, when this kernel has none.
pub(super) fn enable_gro(socket: &Socket) -> bool {
    match sys::set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "the kernel has no UDP_GRO; receiving packet by packet");
            false
        }
    }
}

/// The descriptor of a socket.
pub(super) fn into_fd(socket: Socket) -> OwnedFd {
    socket.into()
}
