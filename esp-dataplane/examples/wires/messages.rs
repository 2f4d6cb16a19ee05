//! A burst as the kernel takes it in messages: for `sendmmsg`, and for io_uring.
#![expect(
    unsafe_code,
    reason = "this file owns sendmmsg and its message headers"
)]

use core::ffi::c_uint;
use core::mem::{size_of, zeroed};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::packet::BURST;
use crate::sys::check;

/// [`BURST`] equal packets and a message header for each.
pub(crate) struct Messages {
    headers: Vec<libc::mmsghdr>,
    // What the headers point to; never changed.
    _vectors: Vec<libc::iovec>,
    _packets: Vec<u8>,
    _to: Vec<libc::sockaddr_in>,
}

impl Messages {
    /// Copies of `packet`, to `to` unless the socket knows where to.
    pub(crate) fn new(packet: &[u8], to: Option<Ipv4Addr>) -> Self {
        let packets = packet.repeat(BURST);
        let pieces = packets.chunks(packet.len().max(1));
        let vector = |piece: &[u8]| libc::iovec {
            iov_base: piece.as_ptr().cast_mut().cast(),
            iov_len: piece.len(),
        };
        let mut vectors: Vec<_> = pieces.map(vector).collect();
        // SAFETY: all-zero bytes are a valid address.
        let mut address: libc::sockaddr_in = unsafe { zeroed() };
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_addr.s_addr = u32::from_ne_bytes(to.unwrap_or(Ipv4Addr::LOCALHOST).octets());
        let mut address = vec![address];
        let name = address.as_mut_ptr();
        let header = |vector| {
            // SAFETY: all-zero bytes are a valid `mmsghdr`: it consists of integers and pointers.
            let mut header: libc::mmsghdr = unsafe { zeroed() };
            if to.is_some() {
                header.msg_hdr.msg_name = name.cast();
                header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header
        };
        Self {
            headers: vectors.iter_mut().map(|vector| header(vector)).collect(),
            _vectors: vectors,
            _packets: packets,
            _to: address,
        }
    }

    /// Sends all; returns how many the kernel took.
    pub(crate) fn send(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = self.headers.get_mut(done..).filter(|rest| !rest.is_empty()) {
            // SAFETY: every header points to an address and one vector, and every vector into the
            // packets; all live as long as `self` and are never written.
            let sent = unsafe {
                libc::sendmmsg(fd.as_raw_fd(), rest.as_mut_ptr(), rest.len() as c_uint, 0)
            };
            match check(sent) {
                Ok(()) => done += sent as usize,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Where the message headers are, for the kernel: they stay there.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = u64> {
        let address = |header: &libc::mmsghdr| (&raw const header.msg_hdr) as u64;
        self.headers.iter().map(address)
    }
}
