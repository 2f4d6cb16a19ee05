//! The few facts about IP, TCP and UDP headers that the tunnel interface needs, read and
//! written with lengths checked.

use crate::checksum::Sum;

/// IP protocol number of TCP.
pub(crate) const TCP: u8 = 6;
/// IP protocol number of UDP.
pub(crate) const UDP: u8 = 17;
/// Length of an IPv4 header without options.
pub(crate) const IPV4_HEADER: usize = 20;
/// Length of the fixed IPv6 header.
pub(crate) const IPV6_HEADER: usize = 40;
/// Length of a UDP header.
pub(crate) const UDP_HEADER: usize = 8;
/// Length of a TCP header without options.
pub(crate) const TCP_HEADER: usize = 20;
/// Where the checksum stands in a TCP header.
pub(crate) const TCP_CHECKSUM: usize = 16;
/// Where the checksum stands in a UDP header.
pub(crate) const UDP_CHECKSUM: usize = 6;
/// "Don't fragment" in the flags-and-offset word of IPv4.
pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
/// "More fragments" in the same word.
pub(crate) const MORE_FRAGMENTS: u16 = 0x2000;
/// TCP flag bits in byte 13.
pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const URG: u8 = 0x20;
pub(crate) const CWR: u8 = 0x80;

/// The byte at `offset`.
pub(crate) fn byte(bytes: &[u8], offset: usize) -> Option<u8> {
    bytes.get(offset).copied()
}

/// `N` bytes at `offset`.
pub(crate) fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk::<N>().copied()
}

/// The big-endian 16-bit value at `offset`.
pub(crate) fn be16(bytes: &[u8], offset: usize) -> Option<u16> {
    array(bytes, offset).map(u16::from_be_bytes)
}

/// The big-endian 32-bit value at `offset`.
pub(crate) fn be32(bytes: &[u8], offset: usize) -> Option<u32> {
    array(bytes, offset).map(u32::from_be_bytes)
}

/// Overwrites the bytes at `offset`; `None` when they are not there.
pub(crate) fn put(bytes: &mut [u8], offset: usize, value: &[u8]) -> Option<()> {
    bytes
        .get_mut(offset..offset.checked_add(value.len())?)?
        .copy_from_slice(value);
    Some(())
}

/// Where the parts of an inner packet stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// IPv4 or IPv6.
    pub(crate) is_ipv6: bool,
    /// Offset of the upper layer: behind options or extension headers.
    pub(crate) upper: usize,
    /// Upper-layer protocol number.
    pub(crate) protocol: u8,
    /// A fragment, first or later.
    pub(crate) fragment: bool,
    /// A fragment that does not begin with the upper-layer header.
    pub(crate) later_fragment: bool,
    /// Length according to the IP header.
    pub(crate) total: usize,
}

impl Layout {
    /// Reads an IPv4 or IPv6 packet. `None` when it is neither or shorter than its headers.
    pub(crate) fn parse(packet: &[u8]) -> Option<Self> {
        match byte(packet, 0)? >> 4 {
            4 => Self::parse_ipv4(packet),
            6 => Self::parse_ipv6(packet),
            _ => None,
        }
    }

    fn parse_ipv4(packet: &[u8]) -> Option<Self> {
        let header: &[u8; IPV4_HEADER] = packet.first_chunk()?;
        let upper = usize::from(header[0] & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let offset = u16::from_be_bytes([header[6], header[7]]);
        (upper >= IPV4_HEADER && upper <= packet.len()).then_some(Self {
            is_ipv6: false,
            upper,
            protocol: header[9],
            fragment: offset & (MORE_FRAGMENTS | 0x1fff) != 0,
            later_fragment: offset & 0x1fff != 0,
            total,
        })
    }

    fn parse_ipv6(packet: &[u8]) -> Option<Self> {
        let header: &[u8; IPV6_HEADER] = packet.first_chunk()?;
        let total = IPV6_HEADER + usize::from(u16::from_be_bytes([header[4], header[5]]));
        let mut layout = Self {
            is_ipv6: true,
            upper: IPV6_HEADER,
            protocol: header[6],
            fragment: false,
            later_fragment: false,
            total,
        };
        // RFC 8200 §4.1 allows each header once (destination options twice): eight is more
        // than any honest chain has.
        for _ in 0..8 {
            let step = match layout.protocol {
                // Hop-by-hop, routing, destination options: length in units of 8 bytes.
                0 | 43 | 60 => 8 + usize::from(byte(packet, layout.upper + 1)?) * 8,
                44 => {
                    let offset = be16(packet, layout.upper + 2)?;
                    layout.fragment = true;
                    layout.later_fragment = offset & 0xfff8 != 0;
                    8
                }
                // Authentication header: length in units of 4 bytes, minus 2.
                51 => 8 + usize::from(byte(packet, layout.upper + 1)?) * 4,
                _ => return (layout.upper <= packet.len()).then_some(layout),
            };
            let next = byte(packet, layout.upper)?;
            layout.upper += step;
            layout.protocol = next;
            if layout.later_fragment {
                return (layout.upper <= packet.len()).then_some(layout);
            }
        }
        None
    }
}

/// The pseudo-header of TCP, UDP and ICMPv6 (RFC 793 §3.1, RFC 8200 §8.1) for an upper-layer
/// length of `len` bytes. `None` when the IP header is not complete.
pub(crate) fn pseudo_header(packet: &[u8], protocol: u8, len: usize) -> Option<Sum> {
    let addresses = match byte(packet, 0)? >> 4 {
        4 => packet.get(12..20)?,
        6 => packet.get(8..40)?,
        _ => return None,
    };
    // An upper layer is never longer than 65,575 bytes; the high half matters for IPv6 only.
    let [a, b, c, d] = u32::try_from(len).ok()?.to_be_bytes();
    Some(
        Sum::ZERO
            .bytes(addresses)
            .word(u16::from(protocol))
            .bytes(&[a, b, c, d]),
    )
}

/// Writes the header checksum of an IPv4 header of `header_len` bytes.
pub(crate) fn fill_ipv4_checksum(packet: &mut [u8], header_len: usize) -> Option<()> {
    put(packet, 10, &[0, 0])?;
    let checksum = Sum::ZERO.bytes(packet.get(..header_len)?).complement();
    put(packet, 10, &checksum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_chain_is_walked_to_the_upper_layer() {
        let mut packet = vec![0_u8; 40 + 8 + 16 + 20];
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&44_u16.to_be_bytes());
        packet[6] = 0; // hop-by-hop, 8 bytes
        packet[40] = 60; // destination options, 16 bytes
        packet[48] = TCP;
        packet[49] = 1;
        let layout = Layout::parse(&packet).unwrap();
        assert_eq!((layout.upper, layout.protocol), (64, TCP));
        assert!(!layout.fragment);
    }

    #[test]
    fn an_endless_chain_is_refused() {
        let mut packet = vec![0_u8; 40 + 8 * 20];
        packet[0] = 0x60;
        assert_eq!(Layout::parse(&packet), None);
    }

    #[test]
    fn a_later_fragment_shows_no_ports() {
        let mut packet = vec![0_u8; 40];
        packet[0] = 0x45;
        packet[7] = 1;
        assert!(Layout::parse(&packet).unwrap().later_fragment);
    }

    #[test]
    fn truncated_headers_are_refused() {
        assert_eq!(Layout::parse(&[]), None);
        assert_eq!(Layout::parse(&[0x45; 19]), None);
        assert_eq!(Layout::parse(&[0x60; 39]), None);
        assert_eq!(Layout::parse(&[0x4f; 40]), None);
    }
}
