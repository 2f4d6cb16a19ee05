//! Answers for the virtual addresses on a real link, under the lease.
//!
//! The addresses sit on a device of the daemon's own, so that they die with it. The kernel would
//! answer ARP for them on every link all the same, also while the daemon is stopped and its lease
//! long over; with `arp_ignore = 1` on the real links it does not, and this does: each answer
//! passes the send gate (invariants I6 and I7). For IPv6 the kernel never answers for another
//! device's address, so this is the only one who does.

use core::time::Duration;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ipsec_types::SendGate;

use super::arp::{self, ETHERTYPE_ARP, ETHERTYPE_IPV6, Heard, Mac};
use super::clock::boot_time;
use super::packet_socket::PacketSocket;

/// Longest frame of interest: a neighbour solicitation with options.
const MAX_FRAME: usize = 256;
/// Frames handled in one go, so that a flood cannot keep the control plane busy.
const BATCH: usize = 64;

/// What the responder did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct ResponderCounters {
    /// Questions answered.
    pub answered: u64,
    /// Questions not answered because the lease does not hold.
    pub gate_closed: u64,
    /// Frames of a third machine that claims one of our addresses.
    pub conflicts: u64,
    /// Frames that could not be sent.
    pub send_failed: u64,
}

/// A third machine claims an address of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// The address.
    pub address: IpAddr,
    /// Who claims it; the partner's gratuitous ARP after a takeover looks the same.
    pub mac: Mac,
}

/// An Ethernet address that moves with the virtual addresses, and the device that receives
/// frames for it while it is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VirtualMac<'a> {
    /// The address.
    pub mac: Mac,
    /// A device on the same link with that address.
    pub device: &'a str,
}

/// Answers on one link for one family of addresses.
#[derive(Debug)]
pub struct Responder {
    socket: PacketSocket,
    /// What is said to have the addresses.
    mac: Mac,
    /// It hears the whole link; otherwise only who asks the virtual MAC.
    on_link: bool,
    addresses: Vec<IpAddr>,
    gate: Arc<SendGate>,
    counters: ResponderCounters,
}

impl Responder {
    /// Opens the sockets for a link: one for each family that occurs in `addresses`. What is
    /// said with a virtual MAC leaves only under the lease, so that no switch sends here what
    /// belongs to the partner.
    ///
    /// Hosts that know the answer ask the virtual MAC again (RFC 4861 §7.3.3; for ARP, Linux does
    /// the same). ARP is heard on the link all the same; IPv6 is not, if it is classified on the
    /// way, and needs one more socket on the device of the virtual MAC.
    ///
    /// # Errors
    /// As [`PacketSocket::open`].
    pub fn open(
        link: &str,
        virtual_mac: Option<VirtualMac<'_>>,
        addresses: &[IpAddr],
        gate: &Arc<SendGate>,
    ) -> io::Result<Vec<Self>> {
        let mut responders = Vec::new();
        for ethertype in [ETHERTYPE_ARP, ETHERTYPE_IPV6] {
            let of_family = |address: &&IpAddr| address.is_ipv4() == (ethertype == ETHERTYPE_ARP);
            let addresses: Vec<IpAddr> = addresses.iter().filter(of_family).copied().collect();
            if addresses.is_empty() {
                continue;
            }
            let socket = PacketSocket::open(link, ethertype)?;
            for address in &addresses {
                if let IpAddr::V6(address) = address {
                    socket.join_solicited_node(*address)?;
                }
            }
            let responder = |socket: PacketSocket, mac, on_link| Self {
                socket,
                mac,
                on_link,
                addresses: addresses.clone(),
                gate: Arc::clone(gate),
                counters: ResponderCounters::default(),
            };
            let own = socket.mac();
            let mac = virtual_mac.map_or(own, |moves| moves.mac);
            responders.push(responder(socket, mac, true));
            if let Some(VirtualMac { mac, device }) = virtual_mac
                && ethertype == ETHERTYPE_IPV6
            {
                let socket = PacketSocket::open_before_classifiers(device)?;
                responders.push(responder(socket, mac, false));
            }
        }
        Ok(responders)
    }

    /// The socket, for the event loop.
    #[must_use]
    pub const fn socket(&self) -> &PacketSocket {
        &self.socket
    }

    /// It hears everybody on the link, and announces and probes there. The others answer what
    /// is asked of the virtual MAC alone.
    #[must_use]
    pub const fn is_on_link(&self) -> bool {
        self.on_link
    }

    /// The MAC that it says has the addresses: the virtual one, or the link's own.
    #[must_use]
    pub const fn mac(&self) -> Mac {
        self.mac
    }

    /// The addresses it answers for.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// What it did so far.
    #[must_use]
    pub const fn counters(&self) -> &ResponderCounters {
        &self.counters
    }

    /// The socket is readable. Reads a bounded batch, answers, and returns what else was heard,
    /// for duplicate address detection.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn handle_readable(&mut self) -> io::Result<Vec<Heard>> {
        let mut heard = Vec::new();
        let mut buffer = [0; MAX_FRAME];
        for _ in 0..BATCH {
            let length = match self.socket.receive(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let frame = buffer.get(..length).unwrap_or_default();
            heard.extend(self.handle_frame(frame));
        }
        Ok(heard)
    }

    fn handle_frame(&mut self, frame: &[u8]) -> Option<Heard> {
        let heard = arp::parse(frame)?;
        match heard {
            Heard::Question {
                target,
                asker,
                asker_mac,
            } if self.addresses.contains(&target) && asker_mac != self.socket.mac() => {
                self.answer(target, asker, asker_mac);
                Some(heard)
            }
            Heard::Claim { address, mac }
                if self.addresses.contains(&address) && mac != self.socket.mac() =>
            {
                self.counters.conflicts += 1;
                Some(heard)
            }
            Heard::Question { .. } | Heard::Claim { .. } => None,
        }
    }

    fn answer(&mut self, target: IpAddr, asker: IpAddr, asker_mac: Mac) {
        // The clock of this very answer: the process may have been stopped within a batch.
        if !self.gate.is_open(boot_time()) {
            self.counters.gate_closed += 1;
            return;
        }
        let Some(frame) = arp::answer(self.mac, target, asker, asker_mac) else {
            return;
        };
        match self.socket.send(&frame) {
            Ok(()) => self.counters.answered += 1,
            Err(_) => self.counters.send_failed += 1,
        }
    }

    /// Says to everybody on the link that the addresses are here, if the lease holds.
    pub fn announce(&mut self, now: Duration) {
        if !self.gate.is_open(now) {
            self.counters.gate_closed += 1;
            return;
        }
        for address in &self.addresses {
            for frame in arp::announcement(self.mac, *address) {
                if self.socket.send(&frame).is_err() {
                    self.counters.send_failed += 1;
                }
            }
        }
    }

    /// Sends one probe for an address, from the link's own MAC: allowed without a lease, since
    /// it claims nothing.
    ///
    /// # Errors
    /// The link is down.
    pub fn probe(&self, address: IpAddr) -> io::Result<()> {
        self.socket.send(&arp::probe(self.socket.mac(), address))
    }
}
