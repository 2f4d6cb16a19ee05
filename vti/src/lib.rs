//! The tunnel interface: TUN queues with segmentation offload, routes, MTU and MSS.
//!
//! To the host, a tunnel is a network device; to the data plane, it is a set of queues, one
//! per worker. This crate is the seam: it makes the device and its routes, reads packets and
//! super-packets from a queue, cuts them to what travels, and puts together again what came
//! out of the tunnel. It never touches ESP, keys or sockets, starts no thread and keeps no
//! clock.
//!
//! ```text
//!   host ── route ──> TUN ── TunQueue::read ──> SuperPacket::parse ── write_segment ──> slots
//!   host <────────── TUN <── TunQueue::write <── Coalescer::drain <── Coalescer::push <── slots
//! ```
//!
//! One batch of a worker, both ways:
//!
//! ```no_run
//! # use vti::{Coalescer, Lane, SuperPacket, TunQueue, VirtioHeader};
//! # fn batch(queue: &TunQueue, mut send: impl FnMut(&[u8])) -> Result<(), Box<dyn std::error::Error>> {
//! let mut buffer = vec![0; 65_600];
//! let mut slot = vec![0; 1_500];
//! while let Some(received) = queue.read(&mut buffer)? {
//!     let packet = &buffer[VirtioHeader::LEN..][..received.len];
//!     let packet = SuperPacket::parse(&received.header?, packet)?;
//!     for index in 0..packet.segments() {
//!         let slot = &mut slot[..packet.segment_len(index)];
//!         packet.write_segment(index, slot)?;
//!         send(slot);
//!     }
//! }
//! let offloads = queue.offloads();
//! let lane = Lane { tag: 0, tcp: offloads.tcp, udp: offloads.udp };
//! let mut coalescer = Coalescer::with_capacity(64);
//! coalescer.push(&buffer, 0..100, &lane);
//! coalescer.push(&buffer, 100..200, &lane);
//! coalescer.drain(&mut buffer, |_tag, header, parts| {
//!     let _counted_by_the_caller = queue.write(header, parts);
//! });
//! # Ok(())
//! # }
//! ```

pub mod checksum;
mod device;
pub mod fragment;
pub mod icmp;
mod mss;
pub mod netlink;
pub mod offload;
mod sys;
pub mod veth;
mod wire;

pub use device::{Offloads, Received, Tun, TunConfig, TunError, TunQueue, exists, is_gone_within};
pub use mss::{MssClamp, MssLimits};
pub use netlink::{
    Link, LinkEvent, LinkEvents, LinkSettings, MAIN_TABLE, Macvlan, Made, NetError, Netlink,
    NextHop, Pin, Route, ViaRoute, covers_peer, watch_links,
};
pub use offload::{
    Coalescer, Gso, GsoKind, Lane, MAX_PARTS, MAX_UNCUT, OffloadError, SuperPacket, VirtioHeader,
};
