//! Raw Ethernet frames on one link: AF_PACKET.
#![expect(
    unsafe_code,
    reason = "socket2 and rustix have no sockaddr_ll and no packet memberships"
)]

use core::mem::{MaybeUninit, size_of};
use std::ffi::CString;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};

use super::arp::{ETHERTYPE_IPV6, Mac, solicited_node};

/// A non-blocking socket for the frames of one EtherType on one link.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
    index: i32,
    mac: Mac,
}

impl PacketSocket {
    /// Opens it; needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// No such link, no Ethernet address on it, or no permission.
    pub fn open(link: &str, ethertype: u16) -> io::Result<Self> {
        let index = link_index(link)?;
        let mac = link_mac(link)?;
        // Protocol 0 hears nothing until the socket is bound to its link.
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        socket.set_nonblocking(true)?;
        if ethertype == ETHERTYPE_IPV6 {
            hear_neighbour_discovery_only(&socket, Destination::Any)?;
        }
        socket.bind(&address(index, ethertype)?)?;
        Ok(Self { socket, index, mac })
    }

    /// Hears the neighbour discovery that is addressed to the link alone, also when a traffic
    /// classifier takes it away from the kernel. While the link is down it hears nothing.
    ///
    /// # Errors
    /// As [`PacketSocket::open`].
    pub fn open_before_classifiers(link: &str) -> io::Result<Self> {
        let index = link_index(link)?;
        let mac = link_mac(link)?;
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        socket.set_nonblocking(true)?;
        hear_neighbour_discovery_only(&socket, Destination::Us)?;
        // Sockets for one protocol come after the classifiers.
        socket.bind(&address(index, libc::ETH_P_ALL as u16)?)?;
        Ok(Self { socket, index, mac })
    }

    /// The link's own Ethernet address.
    #[must_use]
    pub const fn mac(&self) -> Mac {
        self.mac
    }

    /// Sends one frame, Ethernet header included.
    ///
    /// # Errors
    /// The link is down, or its queue is full ([`io::ErrorKind::WouldBlock`]).
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        rustix::net::send(&self.socket, frame, SendFlags::empty())?;
        Ok(())
    }

    /// Receives one frame.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (length, _) = rustix::net::recv(&self.socket, buffer, RecvFlags::empty())?;
        Ok(length)
    }

    /// Hears the solicitations for an IPv6 address that is not on this link.
    ///
    /// # Errors
    /// The link is gone.
    pub fn join_solicited_node(&self, address: Ipv6Addr) -> io::Result<()> {
        let Mac(group) = Mac::of_multicast(solicited_node(address));
        let mut request = libc::packet_mreq {
            mr_ifindex: self.index,
            mr_type: libc::PACKET_MR_MULTICAST as libc::c_ushort,
            mr_alen: 6,
            mr_address: [0; 8],
        };
        for (to, from) in request.mr_address.iter_mut().zip(group) {
            *to = from;
        }
        let length = size_of::<libc::packet_mreq>() as libc::socklen_t;
        // SAFETY: `request` is a valid packet_mreq that outlives the call, `length` is its size,
        // and the kernel only reads it.
        let failed = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                (&raw const request).cast(),
                length,
            )
        };
        match failed {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

impl From<PacketSocket> for OwnedFd {
    fn from(socket: PacketSocket) -> Self {
        socket.socket.into()
    }
}

/// Whose frames are of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Destination {
    Any,
    /// Addressed to the link alone: no broadcasts, and nothing that we send.
    Us,
}

/// What the kernel says of a frame beside its bytes (`linux/filter.h`).
const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_TWO: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const JUMP_IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// One instruction a row: code, jump if true, jump if false, operand; offsets count from the
/// Ethernet header.
fn instruction(code: u32, jump_true: u8, jump_false: u8, operand: u32) -> SockFilter {
    // Every code fits into the 16 bits of an instruction.
    SockFilter::new(code as u16, jump_true, jump_false, operand)
}

/// Neighbour solicitations and advertisements (RFC 4861 §4.3 and §4.4) without extension headers:
/// the rest of the link's IPv6 traffic must not wake the control plane.
fn hear_neighbour_discovery_only(socket: &Socket, whose: Destination) -> io::Result<()> {
    // A jump by 0 goes on with the next row either way.
    let other = if whose == Destination::Us { 8 } else { 0 };
    socket.attach_filter(&[
        instruction(LOAD_BYTE, 0, 0, PACKET_TYPE),
        instruction(JUMP_IF_EQUAL, 0, other, u32::from(libc::PACKET_HOST)),
        instruction(LOAD_TWO, 0, 0, 12),
        instruction(JUMP_IF_EQUAL, 0, 6, u32::from(ETHERTYPE_IPV6)),
        instruction(LOAD_BYTE, 0, 0, 14 + 6),
        instruction(JUMP_IF_EQUAL, 0, 4, 58), // ICMPv6
        instruction(LOAD_BYTE, 0, 0, 14 + 40),
        instruction(JUMP_IF_EQUAL, 1, 0, 135), // solicitation
        instruction(JUMP_IF_EQUAL, 0, 1, 136), // advertisement
        instruction(RETURN, 0, 0, u32::MAX),   // the whole frame
        instruction(RETURN, 0, 0, 0),          // nothing
    ])
}

fn address(index: i32, ethertype: u16) -> io::Result<SockAddr> {
    // SAFETY: `storage` points to zeroed storage large enough and aligned for any address; the
    // closure writes a complete sockaddr_ll into it and its exact length.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            storage
                .cast::<libc::sockaddr_ll>()
                .write(libc::sockaddr_ll {
                    sll_family: libc::AF_PACKET as libc::c_ushort,
                    sll_protocol: ethertype.to_be(),
                    sll_ifindex: index,
                    sll_hatype: 0,
                    sll_pkttype: 0,
                    sll_halen: 0,
                    sll_addr: [0; 8],
                });
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }?;
    Ok(address)
}

fn link_index(link: &str) -> io::Result<i32> {
    let name = CString::new(link).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: `name` is a NUL-terminated string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    match i32::try_from(index) {
        Ok(index) if index > 0 => Ok(index),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The Ethernet address, from an ioctl: `/sys` may be another namespace's.
fn link_mac(link: &str) -> io::Result<Mac> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: all-zero bytes are a valid ifreq: an empty name and an empty address.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    // The last byte stays 0.
    let space = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(space).zip(link.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: `request` is a valid ifreq with a NUL-terminated name; the kernel writes at most
    // one sockaddr into its union.
    let failed = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR as _, &mut request) };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so the union holds the hardware address.
    let address = unsafe { request.ifr_ifru.ifru_hwaddr };
    if address.sa_family != libc::ARPHRD_ETHER {
        let what = format!("{link} is not an Ethernet link");
        return Err(io::Error::new(io::ErrorKind::Unsupported, what));
    }
    let [a, b, c, d, e, f, ..] = address.sa_data.map(|byte| byte as u8);
    Ok(Mac([a, b, c, d, e, f]))
}
