//! The ioctls of `/dev/net/tun` and of ethtool: the only unsafe code of this crate.
#![expect(unsafe_code, reason = "this file owns the system calls of the devices")]

use core::ffi::{c_int, c_short, c_uint, c_ulong};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const TUNSETIFF: c_ulong = 0x4004_54ca;
const TUNSETOFFLOAD: c_ulong = 0x4004_54d0;
const TUNSETVNETHDRSZ: c_ulong = 0x4004_54d8;
const SIOCETHTOOL: c_ulong = 0x8946;

/// Layer 3: IP packets, no Ethernet header.
pub(crate) const IFF_TUN: c_short = 0x0001;
/// No protocol bytes in front of a packet.
pub(crate) const IFF_NO_PI: c_short = 0x1000;
/// Several queues, one per file descriptor.
pub(crate) const IFF_MULTI_QUEUE: c_short = 0x0100;
/// A virtio-net header in front of every packet.
pub(crate) const IFF_VNET_HDR: c_short = 0x4000;
/// Refuse to attach to a device that exists.
#[expect(clippy::cast_possible_wrap, reason = "the top bit of the flag word")]
pub(crate) const IFF_TUN_EXCL: c_short = 0x8000_u16 as c_short;

/// Hand over packets with partial checksums.
pub(crate) const TUN_F_CSUM: c_uint = 0x01;
/// Hand over TCP super-packets over IPv4.
pub(crate) const TUN_F_TSO4: c_uint = 0x02;
/// Hand over TCP super-packets over IPv6.
pub(crate) const TUN_F_TSO6: c_uint = 0x04;
/// Hand over TCP super-packets with CWR.
pub(crate) const TUN_F_TSO_ECN: c_uint = 0x08;
/// Hand over UDP super-packets over IPv4 (since Linux 6.2).
pub(crate) const TUN_F_USO4: c_uint = 0x20;
/// Hand over UDP super-packets over IPv6.
pub(crate) const TUN_F_USO6: c_uint = 0x40;

/// Whether the kernel sums up what the device sends.
pub(crate) const ETHTOOL_STXCSUM: c_uint = 0x17;
/// Whether the device takes packets in pieces.
pub(crate) const ETHTOOL_SSG: c_uint = 0x19;
/// Whether the device takes TCP super-packets.
pub(crate) const ETHTOOL_STSO: c_uint = 0x1f;
/// Whether received packets are put together to trains.
pub(crate) const ETHTOOL_SGRO: c_uint = 0x2c;

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: c_uint,
    value: c_uint,
}

/// Sets an offload of the device `name` in the socket's network namespace.
pub(crate) fn set_feature(
    socket: BorrowedFd<'_>,
    name: &str,
    command: c_uint,
    on: bool,
) -> io::Result<()> {
    let mut value = EthtoolValue {
        command,
        value: c_uint::from(on),
    };
    let mut request = request_for(name);
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the kernel reads and writes one `ifreq` and the `ethtool_value` that it points to;
    // both outlive the call, and it keeps no pointer to either.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) })
}

fn request_for(name: &str) -> libc::ifreq {
    // SAFETY: all-zero bytes are a valid `ifreq`: it consists of integers, arrays and a union of these.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    // The last byte stays 0: a name that is too long is cut, and then not found.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Attaches an open `/dev/net/tun` to the device `name`, creating it.
pub(crate) fn set_interface(fd: BorrowedFd<'_>, name: &str, flags: c_short) -> io::Result<()> {
    let mut request = request_for(name);
    request.ifr_ifru.ifru_flags = flags;
    // SAFETY: the kernel reads and writes one `ifreq`, which `request` is, and keeps no pointer to it.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETIFF as _, &raw mut request) })
}

/// Sets what super-packets the kernel may hand over.
pub(crate) fn set_offload(fd: BorrowedFd<'_>, flags: c_uint) -> io::Result<()> {
    // SAFETY: this ioctl takes its argument by value and touches no memory of ours.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETOFFLOAD as _, c_ulong::from(flags)) })
}

/// Sets the length of the virtio-net header.
pub(crate) fn set_header_len(fd: BorrowedFd<'_>, len: c_int) -> io::Result<()> {
    // SAFETY: the kernel reads one `int`, which `len` is, and keeps no pointer to it.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETVNETHDRSZ as _, &raw const len) })
}
