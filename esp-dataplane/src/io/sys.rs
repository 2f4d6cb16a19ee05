//! The system calls that neither std nor rustix offer: `sendmmsg` and `recvmmsg` with their
//! control messages, socket options by number, packet filters.
#![expect(
    unsafe_code,
    reason = "this file owns the socket system calls of the data plane"
)]

use core::ffi::{c_int, c_uint, c_void};
use core::mem::{size_of, zeroed};
use core::ops::Range;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::SockAddr;

/// Room for the control messages of one packet: two of at most 24 bytes each, and some more.
const CONTROL_LEN: usize = 96;

#[derive(Clone, Copy)]
#[repr(align(8))]
struct Control([u8; CONTROL_LEN]);

/// Room for a `sockaddr_in` or `sockaddr_in6`, 28 bytes at most.
const NAME_LEN: usize = 32;

#[derive(Clone, Copy)]
#[repr(align(8))]
struct Name([u8; NAME_LEN]);

impl Name {
    /// The address that the kernel wrote, if it is an IP address.
    fn read(&self) -> Option<SocketAddr> {
        let [f0, f1, p0, p1, a0, a1, a2, a3, v6 @ ..] = self.0;
        let port = u16::from_be_bytes([p0, p1]);
        match c_int::from(u16::from_ne_bytes([f0, f1])) {
            libc::AF_INET => Some((Ipv4Addr::new(a0, a1, a2, a3), port).into()),
            libc::AF_INET6 => {
                let (address, rest) = v6.split_first_chunk::<16>()?;
                let scope = u32::from_ne_bytes(*rest.first_chunk()?);
                let address = Ipv6Addr::from(*address);
                Some(SocketAddrV6::new(address, port, 0, scope).into())
            }
            _ => None,
        }
    }
}

/// Sets an integer socket option.
pub(super) fn set_option(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: c_int,
) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<c_int>()` bytes from `value`, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast::<c_void>(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    check(result)
}

/// Lets only those packets in whose SPI, as a number, has this remainder. `in_ip_header` when
/// the socket sees packets from their IPv4 header on, else from the ESP header.
pub(super) fn keep_spi_share(
    fd: BorrowedFd<'_>,
    share: u32,
    of: u32,
    in_ip_header: bool,
) -> io::Result<()> {
    const LDX_MSH: u16 = 0xb1;
    const LD_W_IND: u16 = 0x40;
    const LD_W_ABS: u16 = 0x20;
    const ALU_MOD_K: u16 = 0x94;
    const JEQ_K: u16 = 0x15;
    const RET_K: u16 = 0x06;
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let load = if in_ip_header {
        [op(LDX_MSH, 0, 0, 0), op(LD_W_IND, 0, 0, 0)]
    } else {
        [op(LD_W_ABS, 0, 0, 0), op(LD_W_ABS, 0, 0, 0)]
    };
    let [first, second] = load;
    let mut program = [
        first,
        second,
        op(ALU_MOD_K, 0, 0, of),
        op(JEQ_K, 0, 1, share),
        op(RET_K, 0, 0, u32::MAX),
        op(RET_K, 0, 0, 0),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `filter` points to `program` with its right length; the kernel copies both before
    // the call returns.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast::<c_void>(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    check(result)
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// A datagram, or a train that the kernel cuts, to be sent.
#[derive(Clone)]
pub(super) struct Outgoing {
    /// Its bytes in the arena.
    pub(super) range: Range<usize>,
    /// Where to.
    pub(super) to: SockAddr,
    /// Cut into datagrams of this many bytes.
    pub(super) segment: Option<u16>,
    /// ToS or traffic class of the outer header.
    pub(super) traffic_class: u8,
}

/// Messages of one `sendmmsg`.
pub(super) struct SendQueue {
    messages: Vec<Outgoing>,
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    controls: Vec<Control>,
}

impl SendQueue {
    /// Room for `capacity` messages, which is never exceeded.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            messages: Vec::with_capacity(capacity),
            headers: Vec::with_capacity(capacity),
            vectors: Vec::with_capacity(capacity),
            controls: Vec::with_capacity(capacity),
        }
    }

    pub(super) fn clear(&mut self) {
        self.messages.clear();
    }

    pub(super) fn is_full(&self) -> bool {
        self.messages.len() == self.messages.capacity()
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn message(&self, index: usize) -> Option<&Outgoing> {
        self.messages.get(index)
    }

    /// Adds a message; the caller has asked [`SendQueue::is_full`].
    pub(super) fn push(&mut self, message: Outgoing) {
        self.messages.push(message);
    }

    /// Sends from message `first` on; returns how many messages the kernel took, at least 1.
    ///
    /// # Errors
    /// What the kernel says about message `first`.
    pub(super) fn send(
        &mut self,
        fd: BorrowedFd<'_>,
        arena: &[u8],
        first: usize,
    ) -> io::Result<usize> {
        let pending = self.messages.get(first..).unwrap_or_default();
        self.headers.clear();
        self.vectors.clear();
        self.controls.clear();
        for message in pending {
            let Some(bytes) = arena.get(message.range.clone()) else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            self.vectors.push(libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            });
            self.controls.push(Control([0; CONTROL_LEN]));
        }
        let pieces = self.vectors.iter_mut().zip(self.controls.iter_mut());
        for (message, (vector, control)) in pending.iter().zip(pieces) {
            let control_len = write_controls(&mut control.0, message);
            // SAFETY: all-zero bytes are a valid `msghdr`: it consists of integers and pointers.
            let mut header: libc::mmsghdr = unsafe { zeroed() };
            header.msg_hdr.msg_name = message.to.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = message.to.len();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            if control_len > 0 {
                header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = control_len as _;
            }
            self.headers.push(header);
        }
        // SAFETY: every header points to an address, one vector and a control buffer, and every
        // vector into `arena`; none of these moves or is written before the call returns, and the
        // kernel only reads what they point to.
        let sent = unsafe {
            libc::sendmmsg(
                fd.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        check(sent)?;
        Ok(sent as usize)
    }
}

fn write_controls(control: &mut [u8], message: &Outgoing) -> usize {
    let mut at = 0;
    if let Some(segment) = message.segment {
        at = put_control(
            control,
            at,
            (libc::SOL_UDP, libc::UDP_SEGMENT),
            &segment.to_ne_bytes(),
        );
    }
    if message.traffic_class != 0 {
        let kind = if message.to.is_ipv6() {
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
        } else {
            (libc::IPPROTO_IP, libc::IP_TOS)
        };
        let value = c_int::from(message.traffic_class).to_ne_bytes();
        at = put_control(control, at, kind, &value);
    }
    at
}

const CONTROL_HEADER: usize = size_of::<libc::cmsghdr>();

/// Writes one control message (cmsg(3)) and returns where the next one begins.
fn put_control(control: &mut [u8], at: usize, kind: (c_int, c_int), data: &[u8]) -> usize {
    const WORD: usize = size_of::<usize>();
    let end = at + CONTROL_HEADER + data.len();
    let Some(space) = control.get_mut(at..end) else {
        return at;
    };
    let (header, body) = space.split_at_mut(CONTROL_HEADER);
    let (len, names) = header.split_at_mut(CONTROL_HEADER - 8);
    len.copy_from_slice(&(CONTROL_HEADER + data.len()).to_ne_bytes());
    let (level, name) = names.split_at_mut(4);
    level.copy_from_slice(&kind.0.to_ne_bytes());
    name.copy_from_slice(&kind.1.to_ne_bytes());
    body.copy_from_slice(data);
    end.next_multiple_of(WORD)
}

/// What the kernel says beside a received message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Beside {
    /// Bytes of every datagram of a train but the last.
    pub(super) segment: Option<usize>,
    /// ToS or traffic class of the outer header.
    pub(super) traffic_class: u8,
}

fn read_controls(mut control: &[u8]) -> Beside {
    let mut beside = Beside::default();
    while let Some(header) = control.get(..CONTROL_HEADER) {
        let (len, names) = header.split_at(CONTROL_HEADER - 8);
        let len = len
            .first_chunk()
            .map_or(0, |len| usize::from_ne_bytes(*len));
        let (level, name) = names.split_at(4);
        let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |b| c_int::from_ne_bytes(*b));
        let Some(data) = control.get(CONTROL_HEADER..len) else {
            break;
        };
        match (number(level), number(name)) {
            (libc::SOL_UDP, libc::UDP_GRO) => beside.segment = usize::try_from(number(data)).ok(),
            // One byte for IPv4, an int for IPv6: the value is in the first byte of a
            // little-endian int only, so both are read as what they are.
            (libc::IPPROTO_IP, libc::IP_TOS) => {
                beside.traffic_class = data.first().copied().unwrap_or(0);
            }
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                beside.traffic_class = u8::try_from(number(data)).unwrap_or(0);
            }
            _ => {}
        }
        control = control
            .get(len.next_multiple_of(size_of::<usize>())..)
            .unwrap_or_default();
    }
    beside
}

/// One received message: a datagram, or a train that the kernel has put together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Incoming {
    /// Its length in bytes.
    pub(super) len: usize,
    /// The kernel had to cut it.
    pub(super) truncated: bool,
    /// Where it came from.
    pub(super) from: Option<SocketAddr>,
    /// What else is known.
    pub(super) beside: Beside,
}

/// Messages of one `recvmmsg`.
pub(super) struct ReceiveQueue {
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    names: Vec<Name>,
    controls: Vec<Control>,
}

impl ReceiveQueue {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            headers: Vec::with_capacity(capacity),
            vectors: Vec::with_capacity(capacity),
            names: Vec::with_capacity(capacity),
            controls: Vec::with_capacity(capacity),
        }
    }

    /// Receives one message into each of `places`, as far as there are messages, and returns
    /// how many there were: 0 when none waited.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn receive<'a>(
        &mut self,
        fd: BorrowedFd<'_>,
        places: impl Iterator<Item = &'a mut [u8]>,
    ) -> io::Result<usize> {
        self.headers.clear();
        self.vectors.clear();
        self.names.clear();
        self.controls.clear();
        for place in places.take(self.headers.capacity()) {
            self.vectors.push(libc::iovec {
                iov_base: place.as_mut_ptr().cast(),
                iov_len: place.len(),
            });
            self.names.push(Name([0; NAME_LEN]));
            self.controls.push(Control([0; CONTROL_LEN]));
        }
        let pieces = self.names.iter_mut().zip(self.controls.iter_mut());
        for (vector, (name, control)) in self.vectors.iter_mut().zip(pieces) {
            // SAFETY: all-zero bytes are a valid `msghdr`: it consists of integers and pointers.
            let mut header: libc::mmsghdr = unsafe { zeroed() };
            header.msg_hdr.msg_name = name.0.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = NAME_LEN as libc::socklen_t;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_LEN as _;
            self.headers.push(header);
        }
        // SAFETY: every header points to an address, one vector and a control buffer of the stated
        // sizes, and every vector to a place that nobody else can reach while `places` is borrowed
        // mutably; the kernel writes there and nowhere else, and forgets them when it returns.
        let received = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as c_uint,
                libc::MSG_DONTWAIT as _,
                core::ptr::null_mut(),
            )
        };
        match check(received) {
            Ok(()) => Ok(received as usize),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Message `index` of the last call.
    pub(super) fn message(&self, index: usize) -> Option<Incoming> {
        let header = self.headers.get(index)?;
        let control = self.controls.get(index)?;
        let from = self.names.get(index)?.read();
        let used = header.msg_hdr.msg_controllen;
        Some(Incoming {
            len: header.msg_len as usize,
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            from,
            beside: read_controls(control.0.get(..used).unwrap_or_default()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_written_are_controls_read() {
        let mut control = Control([0; CONTROL_LEN]);
        let at = put_control(
            &mut control.0,
            0,
            (libc::SOL_UDP, libc::UDP_GRO),
            &1434_i32.to_ne_bytes(),
        );
        let end = put_control(
            &mut control.0,
            at,
            (libc::IPPROTO_IP, libc::IP_TOS),
            &[0xba],
        );
        let beside = read_controls(&control.0[..end]);
        assert_eq!(
            beside,
            Beside {
                segment: Some(1434),
                traffic_class: 0xba
            }
        );
    }

    #[test]
    fn a_cut_control_buffer_ends_the_reading() {
        let mut control = Control([0; CONTROL_LEN]);
        let end = put_control(
            &mut control.0,
            0,
            (libc::SOL_UDP, libc::UDP_GRO),
            &1434_i32.to_ne_bytes(),
        );
        assert_eq!(read_controls(&control.0[..end - 8]), Beside::default());
        assert_eq!(read_controls(&[0; 16]), Beside::default());
    }
}
