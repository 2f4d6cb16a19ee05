//! Packets that no honest peer sends, with any source port and any protocol.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SendFlags, SocketType, bind, ipproto, sendto, socket};

use crate::LabError;
use crate::lab::Host;

/// A raw socket on a machine: what it sends carries that machine's address, whatever other
/// program owns the port there.
#[derive(Debug)]
pub struct Forger {
    udp: OwnedFd,
    esp: OwnedFd,
    source: Ipv4Addr,
}

impl Forger {
    /// Sends as `source`, an address of the host.
    ///
    /// # Errors
    /// Without the right to open raw sockets.
    pub fn new(host: &Host, source: Ipv4Addr) -> Result<Self, LabError> {
        let open = |protocol| -> rustix::io::Result<OwnedFd> {
            let raw = socket(AddressFamily::INET, SocketType::RAW, Some(protocol))?;
            bind(&raw, &SocketAddr::V4(SocketAddrV4::new(source, 0)))?;
            Ok(raw)
        };
        let sockets = host.enter(|| Ok((open(ipproto::UDP)?, open(ipproto::ESP)?)))?;
        let (udp, esp) = sockets.map_err(LabError::at::<rustix::io::Errno>("open raw sockets"))?;
        Ok(Self { udp, esp, source })
    }

    /// Sends a UDP datagram (without checksum, as RFC 3948 has it) from any port.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn udp(&self, from_port: u16, to: SocketAddrV4, payload: &[u8]) -> Result<(), LabError> {
        let length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
        let mut datagram = Vec::with_capacity(8 + payload.len());
        for field in [from_port, to.port(), length, 0] {
            datagram.extend(field.to_be_bytes());
        }
        datagram.extend(payload);
        send(&self.udp, *to.ip(), &datagram)
    }

    /// Sends a packet of IP protocol 50.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn esp(&self, to: Ipv4Addr, payload: &[u8]) -> Result<(), LabError> {
        send(&self.esp, to, payload)
    }

    /// The address it sends as.
    #[must_use]
    pub fn source(&self) -> Ipv4Addr {
        self.source
    }
}

fn send(raw: &OwnedFd, to: Ipv4Addr, packet: &[u8]) -> Result<(), LabError> {
    let to = SocketAddr::V4(SocketAddrV4::new(to, 0));
    sendto(raw, packet, SendFlags::empty(), &to)
        .map(|_sent| ())
        .map_err(LabError::at("send a forged packet"))
}

/// Bytes that look random and are the same in every run (xorshift64*).
#[derive(Debug, Clone)]
pub struct Noise(u64);

impl Noise {
    /// Equal seeds give equal noise; a failing test prints its seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length)
            .map(|_| self.next_u64().to_be_bytes()[0])
            .collect()
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).unwrap_or(1);
        usize::try_from(self.next_u64() % limit).unwrap_or(0)
    }
}
