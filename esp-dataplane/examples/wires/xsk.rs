//! AF_XDP sockets: four rings of frame numbers over one piece of memory. A veth can only copy.

use core::sync::atomic::Ordering;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};

use crate::load::{Receiver, Sender};
use crate::net::End;
use crate::packet::{BURST, ETHERNET, FRAME, IPV4, frame, is_ours};
use crate::sys::{self, Mapping};
use crate::wires;
use crate::xdp::{self, Mode};

const CHUNK: usize = 2048;
const CHUNKS: usize = 1024;

/// One ring of the four.
struct Ring {
    memory: Mapping,
    offsets: libc::xdp_ring_offset,
    /// Bytes of an entry.
    entry: usize,
}

impl Ring {
    fn new(fd: &OwnedFd, which: i32, page: i64, entry: usize) -> io::Result<Self> {
        sys::set(fd.as_fd(), libc::SOL_XDP, which, CHUNKS as i32)?;
        let none = || libc::xdp_ring_offset {
            producer: 0,
            consumer: 0,
            desc: 0,
            flags: 0,
        };
        let offsets = libc::xdp_mmap_offsets {
            rx: none(),
            tx: none(),
            fr: none(),
            cr: none(),
        };
        let offsets = sys::get(fd.as_fd(), libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, offsets)?;
        let offsets = match which {
            libc::XDP_RX_RING => offsets.rx,
            libc::XDP_TX_RING => offsets.tx,
            libc::XDP_UMEM_FILL_RING => offsets.fr,
            _ => offsets.cr,
        };
        let len = offsets.desc as usize + CHUNKS * entry;
        Ok(Self {
            memory: Mapping::of(fd.as_fd(), len, page)?,
            offsets,
            entry,
        })
    }

    fn place(&self, at: u32) -> usize {
        self.offsets.desc as usize + at as usize % CHUNKS * self.entry
    }

    /// Adds an entry as the producer. The caller knows that there is room: there are no more
    /// frames than places.
    fn put(&mut self, address: u64, len: u32) -> io::Result<()> {
        let at = self.memory.word(self.offsets.producer as usize)?;
        let at = at.load(Ordering::Relaxed);
        let place = self.place(at);
        self.memory.write(place, &address.to_ne_bytes())?;
        if self.entry == 16 {
            self.memory
                .write(place + 8, &u64::from(len).to_ne_bytes())?;
        }
        let producer = self.memory.word(self.offsets.producer as usize)?;
        producer.store(at.wrapping_add(1), Ordering::Release);
        Ok(())
    }

    /// Takes an entry as the consumer: the address.
    fn take(&mut self) -> io::Result<Option<u64>> {
        let consumer = self.memory.word(self.offsets.consumer as usize)?;
        let at = consumer.load(Ordering::Relaxed);
        let producer = self.memory.word(self.offsets.producer as usize)?;
        if at == producer.load(Ordering::Acquire) {
            return Ok(None);
        }
        let address = u64::from_ne_bytes(self.memory.read(self.place(at))?);
        consumer.store(at.wrapping_add(1), Ordering::Release);
        Ok(Some(address))
    }

    /// True when the consumer has taken all.
    fn is_empty(&self) -> io::Result<bool> {
        let consumer = self.memory.word(self.offsets.consumer as usize)?;
        let producer = self.memory.word(self.offsets.producer as usize)?;
        Ok(consumer.load(Ordering::Acquire) == producer.load(Ordering::Relaxed))
    }
}

/// The socket with its memory, not yet bound.
fn socket() -> io::Result<(OwnedFd, Mapping)> {
    let family = AddressFamily::from_raw(libc::AF_XDP as u16);
    let kind = SocketType::RAW;
    let fd = socket_with(family, kind, SocketFlags::CLOEXEC, None::<Protocol>)?;
    let memory = Mapping::anonymous(CHUNKS * CHUNK)?;
    let region = libc::xdp_umem_reg {
        addr: memory.address(0),
        len: (CHUNKS * CHUNK) as u64,
        chunk_size: CHUNK as u32,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    sys::set(fd.as_fd(), libc::SOL_XDP, libc::XDP_UMEM_REG, region)?;
    Ok((fd, memory))
}

fn bind(fd: &OwnedFd, end: &End) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: libc::XDP_COPY | libc::XDP_USE_NEED_WAKEUP,
        sxdp_ifindex: end.device,
        sxdp_queue_id: 0,
        sxdp_shared_umem_fd: 0,
    };
    // The kernel takes its time to take the last socket on this queue apart.
    let limit = Instant::now() + Duration::from_secs(1);
    loop {
        match sys::bind(fd.as_fd(), &address) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < limit => {
                thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

fn fill_ring(fd: &OwnedFd) -> io::Result<Ring> {
    let page = libc::XDP_UMEM_PGOFF_FILL_RING.cast_signed();
    Ring::new(fd, libc::XDP_UMEM_FILL_RING, page, 8)
}

fn completion_ring(fd: &OwnedFd) -> io::Result<Ring> {
    let page = libc::XDP_UMEM_PGOFF_COMPLETION_RING.cast_signed();
    Ring::new(fd, libc::XDP_UMEM_COMPLETION_RING, page, 8)
}

/// Sends frames, each of which is copied into the memory first: a worker seals in place, and
/// what it seals comes from a TUN device in one piece.
struct XskSender {
    fd: OwnedFd,
    sent: Ring,
    done: Ring,
    free: Vec<u64>,
    frame: Vec<u8>,
    memory: Mapping,
    _fill: Ring,
}

impl Sender for XskSender {
    fn send(&mut self) -> io::Result<usize> {
        while let Some(address) = self.done.take()? {
            self.free.push(address);
        }
        let mut queued = 0;
        while queued < BURST {
            let Some(address) = self.free.pop() else {
                break;
            };
            self.memory.write(address as usize, &self.frame)?;
            self.sent.put(address, FRAME as u32)?;
            queued += 1;
        }
        // One call sends 32 at most.
        while !self.sent.is_empty()? {
            let _want_more = sys::kick(self.fd.as_fd())?;
        }
        Ok(queued)
    }
}

/// An AF_XDP socket that sends.
pub(crate) fn sender(end: &End) -> io::Result<Box<dyn Sender>> {
    let (fd, memory) = socket()?;
    let fill = fill_ring(&fd)?;
    let done = completion_ring(&fd)?;
    let sent = Ring::new(&fd, libc::XDP_TX_RING, libc::XDP_PGOFF_TX_RING, 16)?;
    bind(&fd, end)?;
    Ok(Box::new(XskSender {
        fd,
        sent,
        done,
        free: (0..CHUNKS).map(|chunk| (chunk * CHUNK) as u64).collect(),
        frame: frame(),
        memory,
        _fill: fill,
    }))
}

struct XskReceiver {
    _program: [OwnedFd; 2],
    fd: OwnedFd,
    received: Ring,
    fill: Ring,
    _done: Ring,
    memory: Mapping,
}

impl XskReceiver {
    fn take(&mut self) -> io::Result<usize> {
        let (mut count, mut ours) = (0, 0);
        while count < BURST {
            let Some(address) = self.received.take()? else {
                break;
            };
            count += 1;
            let front: [u8; 4] = self.memory.read(address as usize + ETHERNET + IPV4)?;
            ours += usize::from(is_ours(&front));
            // The kernel wants to see where a chunk begins.
            self.fill.put(address & !(CHUNK as u64 - 1), 0)?;
        }
        Ok(ours)
    }
}

impl Receiver for XskReceiver {
    fn receive(&mut self) -> io::Result<usize> {
        let count = self.take()?;
        if count == 0 && sys::wait(self.fd.as_fd())? {
            return self.take();
        }
        Ok(count)
    }
}

fn receiver(end: &End, mode: Mode) -> io::Result<Box<dyn Receiver>> {
    let (fd, memory) = socket()?;
    let mut fill = fill_ring(&fd)?;
    let done = completion_ring(&fd)?;
    let received = Ring::new(&fd, libc::XDP_RX_RING, libc::XDP_PGOFF_RX_RING, 16)?;
    for chunk in 0..CHUNKS {
        fill.put((chunk * CHUNK) as u64, 0)?;
    }
    bind(&fd, end)?;
    let program = xdp::redirect(fd.as_fd(), end.device, mode)?;
    Ok(Box::new(XskReceiver {
        _program: program,
        fd,
        received,
        fill,
        _done: done,
        memory,
    }))
}

/// An AF_XDP socket behind a generic program.
pub(crate) fn generic_receiver(end: &End) -> io::Result<Box<dyn Receiver>> {
    receiver(end, Mode::Generic)
}

/// An AF_XDP socket behind a program in the veth driver.
pub(crate) fn driver_receiver(end: &End) -> io::Result<Box<dyn Receiver>> {
    receiver(end, Mode::Driver)
}

/// A receiver of something else, on a device with an AF_XDP socket.
struct Beside {
    receiver: Box<dyn Receiver>,
    _beside: Box<dyn Receiver>,
}

impl Receiver for Beside {
    fn receive(&mut self) -> io::Result<usize> {
        self.receiver.receive()
    }
}

/// ESP in UDP, on a device where a generic program looks for protocol 50.
pub(crate) fn udp_receiver_beside(end: &End) -> io::Result<Box<dyn Receiver>> {
    Ok(Box::new(Beside {
        receiver: wires::udp_receiver(end)?,
        _beside: generic_receiver(end)?,
    }))
}
