//! Protocol 50 at the speed of UDP: the kernel cuts and collects trains for UDP, not for ESP.
//! So the worker speaks UDP, on a private link that nobody else sees, and two small programs in
//! the kernel turn it into protocol 50 and back.
//!
//! ```text
//!   private namespace                    the gateway's namespace
//!
//!   UDP socket ── UDP_SEGMENT ──> inner ═ esp-relay ── to_wire ──> route, neighbour ──> WAN
//!       ^                                    UDP header off                   protocol 50
//!       └────── UDP_GRO <──────── inner ═ esp-relay <── from_wire <────────────────── WAN
//!                                            UDP header on; source port = SPI
//! ```
//!
//! Packets that the programs do not want, such as fragments, headers with options and what is
//! for an address that is not ours at the moment, go the usual way: the raw socket stays open
//! beside the relay, and what is too long for the relay is sent there. Outer packets in the
//! relay do not meet the gateway's INPUT and OUTPUT firewall chains. Everything goes when the
//! process does: the programs with their descriptors, the link with its namespace.

mod assembler;
mod programs;
mod sys;

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use vti::veth;

use super::{OuterDf, RxBatch, Sent, SocketOptions, Train, TxScratch, UdpWire, Wire};
use programs::{COUNTERS, PORT, PrivateLink};
use sys::Counters;

/// IPv4 header in front of ESP.
const OUTER_HEADER: usize = 20;

/// One worker's end of a relay.
#[derive(Debug)]
pub struct RelayWire {
    udp: UdpWire,
    relay: Arc<Relay>,
}

/// What all workers of a relay share.
#[derive(Debug)]
struct Relay {
    counters: Counters<COUNTERS>,
    /// What of the counters has been reported.
    reported: [AtomicU64; COUNTERS],
    /// The longest ESP packet that may be worth trying.
    longest: AtomicUsize,
    /// The programs stay attached as long as these are open.
    _attached: Vec<OwnedFd>,
}

/// Makes the relay for a local address of the current network namespace and opens a socket for
/// each worker.
///
/// # Errors
/// What the kernel says: `EPERM` without CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_BPF, `EINVAL`
/// before Linux 6.6. `Unsupported` with a firewall mark, which the private link does not carry,
/// and when outer packets must not be fragmented, because the path MTU is not known in there.
pub(crate) fn open(
    local: Ipv4Addr,
    workers: u32,
    options: &SocketOptions,
) -> io::Result<Vec<RelayWire>> {
    if options.mark.is_some() || options.outer_df == OuterDf::Set {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let options = *options;
    // The thread changes its namespace, and ends before anybody could meet it there.
    std::thread::Builder::new()
        .name("vipsec-relay".to_owned())
        .spawn(move || open_here(local, workers, &options))?
        .join()
        .unwrap_or_else(|_panic| Err(io::Error::other("the thread that makes a relay panicked")))
}

fn open_here(local: Ipv4Addr, workers: u32, options: &SocketOptions) -> io::Result<Vec<RelayWire>> {
    let home = rustix::fs::open(
        "/proc/thread-self/ns/net",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    enter_private_namespace()?;
    let link = veth::private_link(local, home.as_fd()).map_err(io::Error::other)?;
    let port = SocketAddr::from((local, PORT));
    let sockets = UdpWire::open(port, workers, options)?;
    move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network))?;
    veth::raise_outer_end(link.outer).map_err(io::Error::other)?;
    let relay = Arc::new(Relay::attach(local, link)?);
    let wire = |udp| RelayWire {
        udp,
        relay: Arc::clone(&relay),
    };
    Ok(sockets.into_iter().map(wire).collect())
}

#[expect(unsafe_code, reason = "unshare has no safe form")]
fn enter_private_namespace() -> io::Result<()> {
    // SAFETY: only CLONE_NEWNET is asked for: descriptors and memory stay shared, and the calling
    // thread was made to move.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}

impl Relay {
    fn attach(local: Ipv4Addr, link: veth::PrivateLink) -> io::Result<Self> {
        let counters = Counters::new()?;
        let to_wire = programs::to_wire(counters.descriptor());
        let from_wire = programs::from_wire(
            local,
            PrivateLink {
                outer: link.outer,
                inner_mac: link.inner_mac,
            },
        );
        let (to_wire, from_wire) = to_wire
            .zip(from_wire)
            .ok_or_else(|| io::Error::other("a program of the relay has no end"))?;
        let (to_wire, from_wire) = (sys::load(&to_wire)?, sys::load(&from_wire)?);
        let mut attached = vec![sys::attach(&to_wire, link.outer)?];
        let mut longest = 0;
        for device in veth::ethernet_devices().map_err(io::Error::other)? {
            if device.index != link.outer {
                attached.push(sys::attach(&from_wire, device.index)?);
                longest = longest.max(device.mtu as usize);
            }
        }
        Ok(Self {
            counters,
            reported: Default::default(),
            longest: AtomicUsize::new(longest.saturating_sub(OUTER_HEADER)),
            _attached: attached,
        })
    }

    /// What the programs have dropped since the last call, by any worker.
    fn news(&self) -> [u64; COUNTERS] {
        let mut news = self.counters.read();
        for (now, reported) in news.iter_mut().zip(&self.reported) {
            *now -= reported.fetch_max(*now, Ordering::Relaxed).min(*now);
        }
        news
    }
}

impl RelayWire {
    /// False for packets that the relay cannot send: they are too long to leave whole.
    pub(crate) fn takes(&self, train: &Train) -> bool {
        let longest = self.relay.longest.load(Ordering::Relaxed);
        train.remote.is_ipv4() && train.stride.min(train.len) <= longest
    }

    /// A device on the way has a smaller MTU than was thought: from now on, packets as long as
    /// these are left to the raw socket, which fragments them.
    fn learn(&self, trains: &[Train]) {
        let longest = trains.iter().map(|train| train.stride.min(train.len)).max();
        if let Some(shorter) = longest.and_then(|longest| longest.checked_sub(1)) {
            self.relay.longest.fetch_min(shorter, Ordering::Relaxed);
            tracing::info!(
                longest = shorter,
                "longer ESP packets do not fit the link; they go packet by packet"
            );
        }
    }
}

impl Wire for RelayWire {
    fn fd(&self) -> BorrowedFd<'_> {
        self.udp.fd()
    }

    fn send(&mut self, scratch: &mut TxScratch, arena: &[u8], trains: &[Train]) -> Sent {
        let remote = |train: &Train| SocketAddr::new(train.remote.ip(), PORT);
        let mut sent = self.udp.send_to(scratch, arena, trains, remote);
        let [no_route, too_big] = self.relay.news();
        if no_route + too_big > 0 {
            sent.packets = sent.packets.saturating_sub(no_route + too_big);
            sent.refused += no_route;
            sent.too_big += too_big;
            if too_big > 0 {
                self.learn(trains);
            }
        }
        sent
    }

    fn receive(&mut self, batch: &mut RxBatch) -> io::Result<usize> {
        let received = self.udp.receive(batch)?;
        batch.forget_ports();
        Ok(received)
    }
}
