//! The relay, put together from the data plane's own parts: the same two programs and the same
//! private link. The parts are not public, so their files are included here.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use esp_dataplane::io::{RxBatch, Sent, Train, TxScratch, UdpWire, Wire};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use vti::veth;

use crate::load::{Receiver, Sender};
use crate::net::{End, enter_private_namespace, this_namespace};
use crate::packet::{A, B};
use crate::wires::{WireReceiver, WireSender, options};

#[path = "../../src/io/relay/assembler.rs"]
pub(crate) mod assembler;
#[path = "../../src/io/relay/sys.rs"]
mod bpf;
#[path = "../../src/io/relay/programs.rs"]
mod programs;

/// A UDP socket in a private namespace, and the programs that make it protocol 50.
struct Relayed {
    udp: UdpWire,
    /// The programs stay attached as long as these are open.
    _attached: Vec<OwnedFd>,
    counters: bpf::Counters<{ programs::COUNTERS }>,
    /// What the programs had dropped when they were last asked.
    dropped: u64,
}

impl Wire for Relayed {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.udp.fd()
    }

    fn send(&mut self, scratch: &mut TxScratch, arena: &[u8], trains: &[Train]) -> Sent {
        let mut sent = self.udp.send(scratch, arena, trains);
        let dropped = self.counters.read().into_iter().sum();
        sent.packets = sent.packets.saturating_sub(dropped - self.dropped);
        self.dropped = dropped;
        sent
    }

    fn receive(&mut self, batch: &mut RxBatch) -> io::Result<usize> {
        self.udp.receive(batch)
    }
}

/// A relay, for [`B`].
pub(crate) fn sender(end: &End) -> io::Result<Box<dyn Sender>> {
    let to = SocketAddr::from((B, programs::PORT));
    Ok(Box::new(WireSender::new(open(A, end)?, to)))
}

/// A relay.
pub(crate) fn receiver(end: &End) -> io::Result<Box<dyn Receiver>> {
    Ok(Box::new(WireReceiver::new(open(B, end)?)))
}

/// Has the kernel drop protocol 50 after packet sockets have seen it, for as long as the result
/// is kept.
pub(crate) fn drop_after_taps(device: u32) -> io::Result<OwnedFd> {
    use assembler::{Assembler, Reg, When, Width};
    let mut a = Assembler::default();
    a.load(Width::Four, Reg::R2, Reg::R1, 76)
        .load(Width::Four, Reg::R3, Reg::R1, 80)
        .copy(Reg::R4, Reg::R2)
        .add_value(Reg::R4, 34)
        .set(Reg::R0, -1)
        .jump_if(Reg::R4, When::Greater, Reg::R3, "end")
        .load(Width::Two, Reg::R4, Reg::R2, 12)
        .jump_if_value(
            Reg::R4,
            When::NotEqual,
            i32::from(0x0800_u16.to_be()),
            "end",
        )
        .load(Width::One, Reg::R4, Reg::R2, 23)
        .jump_if_value(Reg::R4, When::NotEqual, 50, "end")
        .set(Reg::R0, 2)
        .label("end")
        .exit();
    let program = a.finish().ok_or(io::ErrorKind::InvalidData)?;
    bpf::attach(&bpf::load(&program)?, device)
}

/// The thread leaves its namespace for a moment.
fn open(local: Ipv4Addr, end: &End) -> io::Result<Relayed> {
    let home = this_namespace()?;
    enter_private_namespace()?;
    let link = veth::private_link(local, home.as_fd()).map_err(io::Error::other)?;
    let udp = UdpWire::open(SocketAddr::from((local, programs::PORT)), 1, &options())?.remove(0);
    move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network))?;
    veth::raise_outer_end(link.outer).map_err(io::Error::other)?;
    let counters = bpf::Counters::new()?;
    let to_wire = programs::to_wire(counters.descriptor());
    let ours = programs::PrivateLink {
        outer: link.outer,
        inner_mac: link.inner_mac,
    };
    let from_wire = programs::from_wire(local, ours);
    let (to_wire, from_wire) = to_wire.zip(from_wire).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Relayed {
        udp,
        _attached: vec![
            bpf::attach(&bpf::load(&to_wire)?, link.outer)?,
            bpf::attach(&bpf::load(&from_wire)?, end.device)?,
        ],
        counters,
        dropped: 0,
    })
}
