//! Packet sockets: frames with their Ethernet headers, past the IP layer.
//!
//! Received frames stand in a ring that the kernel copies them to; sent ones go by `sendmmsg`
//! or from a ring. Neither meets a queueing discipline. The kernel may be told to drop
//! what the ring has got; otherwise the IP layer gets it as well.

use core::sync::atomic::Ordering;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};

use crate::load::{Receiver, Sender};
use crate::messages::Messages;
use crate::net::End;
use crate::packet::{BURST, ETHERNET, IPV4, frame, is_ours};
use crate::relay::drop_after_taps;
use crate::sys::{self, Mapping};

// linux/if_packet.h
const PACKET_RX_RING: i32 = 5;
const PACKET_VERSION: i32 = 10;
const PACKET_TX_RING: i32 = 13;
const PACKET_QDISC_BYPASS: i32 = 20;
const PACKET_IGNORE_OUTGOING: i32 = 23;
const TPACKET_V2: i32 = 1;
const TPACKET_V3: i32 = 2;
/// Of a received frame or block: it is ours. Of a frame to send: it is the kernel's.
const READY: u32 = 1;

/// `struct tpacket_req3`; its front is `struct tpacket_req`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct RingRequest {
    block_size: u32,
    blocks: u32,
    frame_size: u32,
    frames: u32,
    /// In milliseconds: after so long a block is handed over half empty.
    retire: u32,
    private: u32,
    features: u32,
}

const BLOCK: usize = 1 << 16;
const BLOCKS: usize = 32;
const SLOT: usize = 2048;
const SLOTS: usize = BLOCK * BLOCKS / SLOT;

const REQUEST: RingRequest = RingRequest {
    block_size: BLOCK as u32,
    blocks: BLOCKS as u32,
    frame_size: SLOT as u32,
    frames: SLOTS as u32,
    retire: 1,
    private: 0,
    features: 0,
};

/// Which ring.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    V2,
    V3,
}

/// A socket that receives or sends.
fn socket(receives: bool) -> io::Result<OwnedFd> {
    // Nothing comes before the socket is bound.
    let fd = socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None::<Protocol>,
    )?;
    let set = |name| sys::set(fd.as_fd(), libc::SOL_PACKET, name, 1);
    if receives {
        set(PACKET_IGNORE_OUTGOING)?;
        sys::keep_protocol_50(fd.as_fd())?;
    } else {
        set(PACKET_QDISC_BYPASS)?;
    }
    Ok(fd)
}

fn bind(fd: &OwnedFd, end: &End, protocol: u16) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: end.device as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    sys::bind(fd.as_fd(), &address)
}

fn ring(fd: &OwnedFd, which: i32, kind: Kind) -> io::Result<Mapping> {
    let version = if kind == Kind::V2 {
        TPACKET_V2
    } else {
        TPACKET_V3
    };
    sys::set(fd.as_fd(), libc::SOL_PACKET, PACKET_VERSION, version)?;
    sys::set(fd.as_fd(), libc::SOL_PACKET, which, REQUEST)?;
    Mapping::of(fd.as_fd(), BLOCK * BLOCKS, 0)
}

/// Sends with `sendmmsg`.
struct MessageSender {
    fd: OwnedFd,
    messages: Messages,
}

impl Sender for MessageSender {
    fn send(&mut self) -> io::Result<usize> {
        self.messages.send(self.fd.as_fd())
    }
}

/// A packet socket that sends with `sendmmsg`.
pub(crate) fn message_sender(end: &End) -> io::Result<Box<dyn Sender>> {
    let fd = socket(false)?;
    bind(&fd, end, 0)?;
    let messages = Messages::new(&frame(), None);
    Ok(Box::new(MessageSender { fd, messages }))
}

/// Sends from a ring. Every frame is copied into it: a worker seals in place, and what it seals
/// comes from a TUN device in one piece.
struct RingSender {
    fd: OwnedFd,
    ring: Mapping,
    frame: Vec<u8>,
    next: usize,
}

/// Where a frame begins in its slot: behind `struct tpacket2_hdr`.
const SENT_AT: usize = 32;

impl Sender for RingSender {
    fn send(&mut self) -> io::Result<usize> {
        let mut queued = 0;
        while queued < BURST {
            let slot = self.next * SLOT;
            if self.ring.word(slot)?.load(Ordering::Acquire) != 0 {
                break;
            }
            self.ring.write(slot + SENT_AT, &self.frame)?;
            self.ring.word(slot)?.store(READY, Ordering::Release);
            self.next = (self.next + 1) % SLOTS;
            queued += 1;
        }
        while !sys::kick(self.fd.as_fd())? {}
        Ok(queued)
    }
}

/// A packet socket that sends from a ring, with one call a burst.
pub(crate) fn ring_sender(end: &End) -> io::Result<Box<dyn Sender>> {
    let fd = socket(false)?;
    let mut ring = ring(&fd, PACKET_TX_RING, Kind::V2)?;
    let frame = frame();
    for slot in (0..SLOTS).map(|index| index * SLOT) {
        ring.write(slot + 4, &(frame.len() as u32).to_ne_bytes())?;
    }
    bind(&fd, end, 0)?;
    Ok(Box::new(RingSender {
        fd,
        ring,
        frame,
        next: 0,
    }))
}

/// Receives from a ring.
struct RingReceiver {
    fd: OwnedFd,
    ring: Mapping,
    kind: Kind,
    next: usize,
    _dropping: Option<OwnedFd>,
}

impl RingReceiver {
    /// One if the frame that begins at `at` is a packet of ours.
    fn count(&self, at: usize) -> io::Result<usize> {
        let front: [u8; 4] = self.ring.read(at + ETHERNET + IPV4)?;
        Ok(usize::from(is_ours(&front)))
    }

    /// Frame by frame.
    fn take_slots(&mut self) -> io::Result<usize> {
        let mut count = 0;
        while count < BURST {
            let slot = self.next * SLOT;
            let status = self.ring.word(slot)?;
            if status.load(Ordering::Acquire) & READY == 0 {
                break;
            }
            let mac = u16::from_ne_bytes(self.ring.read(slot + 12)?);
            count += self.count(slot + usize::from(mac))?;
            status.store(0, Ordering::Release);
            self.next = (self.next + 1) % SLOTS;
        }
        Ok(count)
    }

    /// A whole block (`struct tpacket_block_desc`), if there is one.
    fn take_block(&mut self) -> io::Result<usize> {
        let block = self.next * BLOCK;
        let number = |offset| self.ring.read(block + offset).map(u32::from_ne_bytes);
        let status = self.ring.word(block + 8)?;
        if status.load(Ordering::Acquire) & READY == 0 {
            return Ok(0);
        }
        let mut count = 0;
        let mut at = number(16)? as usize;
        for _frame in 0..number(12)? {
            let mac = u16::from_ne_bytes(self.ring.read(block + at + 24)?);
            count += self.count(block + at + usize::from(mac))?;
            at += number(at)? as usize;
        }
        status.store(0, Ordering::Release);
        self.next = (self.next + 1) % BLOCKS;
        Ok(count)
    }

    fn take(&mut self) -> io::Result<usize> {
        match self.kind {
            Kind::V2 => self.take_slots(),
            Kind::V3 => self.take_block(),
        }
    }
}

impl Receiver for RingReceiver {
    fn receive(&mut self) -> io::Result<usize> {
        let count = self.take()?;
        if count == 0 && sys::wait(self.fd.as_fd())? {
            return self.take();
        }
        Ok(count)
    }
}

fn receiver(end: &End, kind: Kind, drops: bool) -> io::Result<Box<dyn Receiver>> {
    let every = libc::ETH_P_ALL as u16;
    let fd = socket(true)?;
    let ring = ring(&fd, PACKET_RX_RING, kind)?;
    bind(&fd, end, every)?;
    let dropping = drops.then(|| drop_after_taps(end.device)).transpose()?;
    Ok(Box::new(RingReceiver {
        fd,
        ring,
        kind,
        next: 0,
        _dropping: dropping,
    }))
}

/// A ring of frames; the IP layer gets the packets too.
pub(crate) fn v2_and_stack(end: &End) -> io::Result<Box<dyn Receiver>> {
    receiver(end, Kind::V2, false)
}

/// A ring of frames; the IP layer does not get them.
pub(crate) fn v2(end: &End) -> io::Result<Box<dyn Receiver>> {
    receiver(end, Kind::V2, true)
}

/// A ring of blocks, handed over when full or after a millisecond.
pub(crate) fn v3(end: &End) -> io::Result<Box<dyn Receiver>> {
    receiver(end, Kind::V3, true)
}
