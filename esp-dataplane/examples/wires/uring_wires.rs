//! Raw sockets by io_uring: one call a burst, or one receive request for ever.
#![expect(
    unsafe_code,
    reason = "requests of io_uring point to memory that has to live"
)]

use core::sync::atomic::Ordering;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::load::{Receiver, Sender};
use crate::messages::Messages;
use crate::net::End;
use crate::packet::{A, B, BURST, IPV4, esp, is_ours};
use crate::sys::{self, Mapping};
use crate::uring::{Request, Ring};

// linux/io_uring.h
const OP_SENDMSG: u8 = 9;
const OP_RECV: u8 = 27;
const RECV_MULTISHOT: u16 = 1 << 1;
const HAS_MORE: u32 = 1 << 1;

const SLOT: usize = 2048;

fn socket(local: std::net::Ipv4Addr) -> io::Result<OwnedFd> {
    let protocol = Protocol::from(libc::IPPROTO_ESP);
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(protocol))?;
    socket.bind(&SockAddr::from(std::net::SocketAddr::from((local, 0))))?;
    for name in [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE] {
        sys::set(socket.as_fd(), libc::SOL_SOCKET, name, 4 << 20)?;
    }
    Ok(socket.into())
}

/// Sends with one call a burst.
struct UringSender {
    ring: Ring,
    messages: Messages,
}

impl Sender for UringSender {
    fn send(&mut self) -> io::Result<usize> {
        for address in self.messages.addresses() {
            let request = Request {
                operation: OP_SENDMSG,
                how: 0,
                address,
                len: 1,
                flags: 0,
                picks_buffer: false,
                tag: 0,
            };
            // SAFETY: the messages live as long as the ring and are never written.
            unsafe { self.ring.push(&request) }?;
        }
        let (mut done, mut taken) = (0, 0);
        while done < BURST {
            self.ring.enter((BURST - done) as u32, 0)?;
            while let Some(completion) = self.ring.next()? {
                done += 1;
                taken += usize::from(completion.result > 0);
            }
        }
        Ok(taken)
    }
}

/// A raw socket that sends by io_uring.
pub(crate) fn sender(_end: &End) -> io::Result<Box<dyn Sender>> {
    Ok(Box::new(UringSender {
        ring: Ring::new(socket(A)?.as_fd())?,
        messages: Messages::new(&esp(), Some(B)),
    }))
}

/// Waits, and then asks for a burst with one call.
struct BatchReceiver {
    ring: Ring,
    fd: OwnedFd,
    slots: Mapping,
    /// How many packets the next call asks for: each that is not there costs something too.
    wanted: usize,
}

impl BatchReceiver {
    fn take(&mut self) -> io::Result<usize> {
        for slot in 0..self.wanted {
            let request = Request {
                operation: OP_RECV,
                how: 0,
                address: self.slots.address(slot * SLOT),
                len: SLOT as u32,
                flags: libc::MSG_DONTWAIT as u32,
                picks_buffer: false,
                tag: slot as u64,
            };
            // SAFETY: the slots live as long as the ring, and this one is not looked at before
            // its request is done.
            unsafe { self.ring.push(&request) }?;
        }
        let (mut done, mut count, mut ours) = (0, 0, 0);
        while done < self.wanted {
            self.ring.enter((self.wanted - done) as u32, 0)?;
            while let Some(completion) = self.ring.next()? {
                done += 1;
                if completion.result > 0 {
                    count += 1;
                    let slot = completion.tag as usize * SLOT;
                    let front: [u8; 4] = self.slots.read(slot + IPV4)?;
                    ours += usize::from(is_ours(&front));
                }
            }
        }
        self.wanted = (2 * count).clamp(4, BURST);
        Ok(ours)
    }
}

impl Receiver for BatchReceiver {
    fn receive(&mut self) -> io::Result<usize> {
        let count = self.take()?;
        if count == 0 && sys::wait(self.fd.as_fd())? {
            return self.take();
        }
        Ok(count)
    }
}

/// A raw socket that receives by io_uring, a burst a call.
pub(crate) fn batch_receiver(_end: &End) -> io::Result<Box<dyn Receiver>> {
    let fd = socket(B)?;
    Ok(Box::new(BatchReceiver {
        ring: Ring::new(fd.as_fd())?,
        fd,
        slots: Mapping::anonymous(BURST * SLOT)?,
        wanted: BURST,
    }))
}

/// One request for ever: the kernel picks buffers from a ring of them.
struct MultishotReceiver {
    ring: Ring,
    /// `struct io_uring_buf_ring`.
    buffers: Mapping,
    slots: Mapping,
    tail: u16,
    /// So many microseconds it waits for more than one packet.
    rest: u32,
    armed: bool,
}

const BUFFERS: u16 = 1024;

impl MultishotReceiver {
    /// Gives a buffer to the kernel; [`MultishotReceiver::publish`] tells it.
    fn give(&mut self, buffer: u16) -> io::Result<()> {
        let at = usize::from(self.tail % BUFFERS) * 16;
        let address = self.slots.address(usize::from(buffer) * SLOT);
        // The tail stands in the last two bytes of the first entry.
        self.buffers.write(at, &address.to_ne_bytes())?;
        self.buffers.write(at + 8, &(SLOT as u32).to_ne_bytes())?;
        self.buffers.write(at + 12, &buffer.to_ne_bytes())?;
        self.tail = self.tail.wrapping_add(1);
        Ok(())
    }

    fn publish(&self) -> io::Result<()> {
        self.buffers.half(14)?.store(self.tail, Ordering::Release);
        Ok(())
    }

    fn take(&mut self) -> io::Result<usize> {
        let (mut count, mut ours) = (0, 0);
        while count < BURST {
            let Some(completion) = self.ring.next()? else {
                break;
            };
            count += 1;
            self.armed &= completion.flags & HAS_MORE != 0;
            if completion.result > 0 {
                let buffer = (completion.flags >> 16) as u16;
                let front: [u8; 4] = self.slots.read(usize::from(buffer) * SLOT + IPV4)?;
                ours += usize::from(is_ours(&front));
                self.give(buffer)?;
            }
        }
        self.publish()?;
        Ok(ours)
    }
}

impl Receiver for MultishotReceiver {
    fn receive(&mut self) -> io::Result<usize> {
        let count = self.take()?;
        if count > 0 {
            return Ok(count);
        }
        if !self.armed {
            let request = Request {
                operation: OP_RECV,
                how: RECV_MULTISHOT,
                address: 0,
                len: 0,
                flags: 0,
                picks_buffer: true,
                tag: 0,
            };
            // SAFETY: it points to nothing; the buffers live as long as the ring.
            unsafe { self.ring.push(&request) }?;
            self.armed = true;
        }
        if self.rest == 0 {
            self.ring.enter(1, 0)?;
        } else {
            self.ring.enter(BURST as u32, self.rest)?;
        }
        self.take()
    }
}

/// A raw socket that receives by one request of io_uring.
pub(crate) fn multishot_receiver(_end: &End) -> io::Result<Box<dyn Receiver>> {
    multishot(0)
}

/// The same, with the kernel's own way to rest ([`crate::rest`]).
pub(crate) fn rested_multishot_receiver(_end: &End) -> io::Result<Box<dyn Receiver>> {
    multishot(crate::rest::REST.as_micros() as u32)
}

fn multishot(rest: u32) -> io::Result<Box<dyn Receiver>> {
    let mut receiver = MultishotReceiver {
        ring: Ring::new(socket(B)?.as_fd())?,
        buffers: Mapping::anonymous(usize::from(BUFFERS) * 16)?,
        slots: Mapping::anonymous(usize::from(BUFFERS) * SLOT)?,
        tail: 0,
        rest,
        armed: false,
    };
    // SAFETY: fields are dropped in their order, so the ring goes first.
    unsafe { receiver.ring.provide(&receiver.buffers, u32::from(BUFFERS)) }?;
    for buffer in 0..BUFFERS {
        receiver.give(buffer)?;
    }
    receiver.publish()?;
    Ok(Box::new(receiver))
}
