//! The virtio-net header in front of every packet of a TUN with `IFF_VNET_HDR`
//! (Virtual I/O Device 1.2, §5.1.6).

use super::OffloadError;

/// What one read or write carries, after the header was checked for values we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VirtioHeader {
    /// The checksum at `csum_start + csum_offset` holds the pseudo-header only; the rest is
    /// for us (reading) or for the kernel (writing) to complete.
    pub needs_checksum: bool,
    /// The kernel need not verify the checksum: we have.
    pub checksum_valid: bool,
    /// How the packet is to be cut; `None` for a single packet.
    pub gso: Option<Gso>,
    /// Length of all headers of a super-packet: a hint for the kernel.
    pub header_len: u16,
    /// Where the checksum's coverage begins.
    pub checksum_start: u16,
    /// Where the checksum stands, counted from `checksum_start`.
    pub checksum_offset: u16,
}

/// Segmentation of a super-packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gso {
    /// The upper layer and IP version.
    pub kind: GsoKind,
    /// The sender asked to reduce its window (CWR): only the first segment says so.
    pub ecn: bool,
    /// Payload bytes of every segment but the last.
    pub size: u16,
}

/// What a super-packet is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP datagrams over either.
    Udp,
}

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

impl VirtioHeader {
    /// Length on the TUN: the legacy header without `num_buffers`.
    pub const LEN: usize = 10;

    /// Reads a header.
    ///
    /// # Errors
    /// [`OffloadError::Truncated`] and [`OffloadError::UnknownGso`].
    pub fn parse(bytes: &[u8]) -> Result<Self, OffloadError> {
        let Some(&[flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1]) =
            bytes.first_chunk::<{ Self::LEN }>()
        else {
            return Err(OffloadError::Truncated);
        };
        let size = u16::from_ne_bytes([g0, g1]);
        let kind = match gso_type & !GSO_ECN {
            GSO_NONE => None,
            GSO_TCPV4 => Some(GsoKind::TcpV4),
            GSO_TCPV6 => Some(GsoKind::TcpV6),
            GSO_UDP_L4 => Some(GsoKind::Udp),
            other => return Err(OffloadError::UnknownGso(other)),
        };
        Ok(Self {
            needs_checksum: flags & NEEDS_CSUM != 0,
            checksum_valid: flags & DATA_VALID != 0,
            gso: kind.map(|kind| Gso {
                kind,
                ecn: gso_type & GSO_ECN != 0,
                size,
            }),
            header_len: u16::from_ne_bytes([h0, h1]),
            checksum_start: u16::from_ne_bytes([s0, s1]),
            checksum_offset: u16::from_ne_bytes([o0, o1]),
        })
    }

    /// The header as bytes, in the host's byte order as a legacy device has it.
    #[must_use]
    pub fn emit(&self) -> [u8; Self::LEN] {
        let mut flags = 0;
        if self.needs_checksum {
            flags |= NEEDS_CSUM;
        }
        if self.checksum_valid {
            flags |= DATA_VALID;
        }
        let (gso_type, size) = match self.gso {
            None => (GSO_NONE, 0),
            Some(gso) => {
                let kind = match gso.kind {
                    GsoKind::TcpV4 => GSO_TCPV4,
                    GsoKind::TcpV6 => GSO_TCPV6,
                    GsoKind::Udp => GSO_UDP_L4,
                };
                (kind | if gso.ecn { GSO_ECN } else { 0 }, gso.size)
            }
        };
        let [h0, h1] = self.header_len.to_ne_bytes();
        let [g0, g1] = size.to_ne_bytes();
        let [s0, s1] = self.checksum_start.to_ne_bytes();
        let [o0, o1] = self.checksum_offset.to_ne_bytes();
        [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_unknown_kind_is_named() {
        let mut bytes = VirtioHeader::default().emit();
        bytes[1] = 3; // UFO, which we never ask for
        assert_eq!(
            VirtioHeader::parse(&bytes),
            Err(OffloadError::UnknownGso(3))
        );
        assert_eq!(
            VirtioHeader::parse(&bytes[..9]),
            Err(OffloadError::Truncated)
        );
    }

    proptest! {
        #[test]
        fn emit_then_parse_is_identity(
            needs_checksum: bool, checksum_valid: bool, kind in 0..4, ecn: bool, size: u16,
            header_len: u16, checksum_start: u16, checksum_offset: u16,
        ) {
            let gso = [None, Some(GsoKind::TcpV4), Some(GsoKind::TcpV6), Some(GsoKind::Udp)]
                [usize::try_from(kind).unwrap()]
                .map(|kind| Gso { kind, ecn, size });
            let header = VirtioHeader {
                needs_checksum, checksum_valid, gso, header_len, checksum_start, checksum_offset,
            };
            prop_assert_eq!(VirtioHeader::parse(&header.emit()), Ok(header));
        }
    }
}
