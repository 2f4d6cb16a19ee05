//! One packet as the coalescer sees it.

use crate::checksum::Sum;
use crate::offload::GsoKind;
use crate::wire::{
    self, DONT_FRAGMENT, FIN, IPV4_HEADER, IPV6_HEADER, PSH, RST, SYN, TCP, TCP_HEADER, UDP,
    UDP_CHECKSUM, UDP_HEADER, URG,
};

/// What a packet needs to be merged, read once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) kind: GsoKind,
    pub(super) is_ipv6: bool,
    /// Length of the IP header.
    pub(super) upper: usize,
    /// Length of all headers.
    pub(super) headers: usize,
    pub(super) payload: usize,
    pub(super) sequence: u32,
    pub(super) flags: u8,
    pub(super) id: u16,
    /// Ports and the low address bits, to tell most flows apart at one glance.
    pub(super) hint: u64,
}

impl Candidate {
    /// Reads TCP and UDP packets without IP options, extension headers or fragmentation,
    /// whose lengths agree.
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        let (is_ipv6, upper, protocol, id) = match wire::byte(packet, 0)? {
            0x45 => {
                let header: &[u8; IPV4_HEADER] = packet.first_chunk()?;
                let total = u16::from_be_bytes([header[2], header[3]]);
                let fragment = u16::from_be_bytes([header[6], header[7]]) & !DONT_FRAGMENT;
                if usize::from(total) != packet.len() || fragment != 0 {
                    return None;
                }
                let id = u16::from_be_bytes([header[4], header[5]]);
                (false, IPV4_HEADER, header[9], id)
            }
            first if first >> 4 == 6 => {
                let header: &[u8; IPV6_HEADER] = packet.first_chunk()?;
                let len = u16::from_be_bytes([header[4], header[5]]);
                if usize::from(len) + IPV6_HEADER != packet.len() {
                    return None;
                }
                (true, IPV6_HEADER, header[6], 0)
            }
            _ => return None,
        };
        let (kind, upper_len, sequence, flags) = match protocol {
            TCP => {
                let header: &[u8; TCP_HEADER] = packet.get(upper..)?.first_chunk()?;
                let len = usize::from(header[12] >> 4) * 4;
                let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                let kind = if is_ipv6 {
                    GsoKind::TcpV6
                } else {
                    GsoKind::TcpV4
                };
                (len >= TCP_HEADER).then_some((kind, len, sequence, header[13]))?
            }
            UDP => {
                let len = wire::be16(packet, upper + 4)?;
                let whole = usize::from(len) == packet.len() - upper && len >= 8;
                whole.then_some((GsoKind::Udp, UDP_HEADER, 0, 0))?
            }
            _ => return None,
        };
        let headers = upper + upper_len;
        let ports = wire::be32(packet, upper)?;
        let address = wire::be32(packet, upper - 4)?;
        Some(Self {
            kind,
            is_ipv6,
            upper,
            headers,
            payload: packet.len().checked_sub(headers)?,
            sequence,
            flags,
            id,
            hint: (u64::from(ports) << 32) | u64::from(address),
        })
    }

    pub(super) const fn is_tcp(&self) -> bool {
        !matches!(self.kind, GsoKind::Udp)
    }

    pub(super) fn next_sequence(&self) -> u32 {
        // A packet is shorter than 2^16.
        self.sequence
            .wrapping_add(u32::try_from(self.payload).unwrap_or(0))
    }

    pub(super) fn checksum_is_intact(&self, packet: &[u8]) -> bool {
        let ip_is_intact = self.is_ipv6
            || packet
                .first_chunk::<IPV4_HEADER>()
                .is_some_and(|header| Sum::ZERO.bytes(header).is_intact());
        let protocol = if self.is_tcp() { TCP } else { UDP };
        // No UDP checksum at all (IPv4): a super-packet would gain one, so it stays single.
        let has_checksum =
            self.is_tcp() || wire::be16(packet, self.upper + UDP_CHECKSUM).is_some_and(|c| c != 0);
        let Some(upper) = packet.get(self.upper..) else {
            return false;
        };
        ip_is_intact
            && has_checksum
            && wire::pseudo_header(packet, protocol, upper.len())
                .is_some_and(|sum| sum.bytes(upper).is_intact())
    }

    /// May this packet be the head of a super-packet?
    pub(super) const fn may_grow(&self) -> bool {
        self.payload > 0 && (!self.is_tcp() || self.flags & (FIN | SYN | RST | PSH | URG) == 0)
    }

    /// Same addresses, ports and flow label: the order between the two matters.
    pub(super) fn same_flow(&self, packet: &[u8], other: &Self, head: &[u8]) -> bool {
        let same_addresses = if self.is_ipv6 {
            wire::array::<32>(packet, 8) == wire::array(head, 8)
        } else {
            wire::array::<8>(packet, 12) == wire::array(head, 12)
        };
        same_addresses && wire::be32(packet, self.upper) == wire::be32(head, other.upper)
    }
}
