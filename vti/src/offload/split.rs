//! From one super-packet to the segments that travel.

use super::{Gso, GsoKind, OffloadError, VirtioHeader};
use crate::checksum::Sum;
use crate::wire::{
    self, CWR, FIN, IPV4_HEADER, IPV6_HEADER, Layout, PSH, TCP, TCP_CHECKSUM, TCP_HEADER, UDP,
    UDP_HEADER,
};

/// A packet read from the TUN, checked against its virtio header: a single packet or a
/// super-packet of several segments. Nothing is copied until [`SuperPacket::write_segment`].
#[derive(Debug, Clone, Copy)]
pub struct SuperPacket<'a> {
    packet: &'a [u8],
    plan: Plan,
}

#[derive(Debug, Clone, Copy)]
enum Plan {
    /// One packet; the position of a partial checksum (coverage start, field).
    Single(Option<(usize, usize)>),
    /// Several segments.
    Train(Train),
}

#[derive(Debug, Clone, Copy)]
struct Train {
    is_ipv6: bool,
    /// Offset of the TCP or UDP header.
    upper: usize,
    /// Length of all headers.
    headers: usize,
    /// Payload bytes per segment.
    size: usize,
    is_tcp: bool,
    /// What the IPv4 header's checksum covers and all segments share.
    ip_sum: Sum,
    /// What the checksum of TCP or UDP covers and all segments share: addresses, protocol, and
    /// of its header what stays.
    upper_sum: Sum,
}

impl<'a> SuperPacket<'a> {
    /// Checks `packet` (without its virtio header) against `header`. Bytes behind the length
    /// in the IP header are cut off.
    ///
    /// # Errors
    /// The [`OffloadError`] that names the lie.
    pub fn parse(header: &VirtioHeader, packet: &'a [u8]) -> Result<Self, OffloadError> {
        let packet = trim(packet, header.gso.is_some())?;
        let plan = match header.gso {
            None => Plan::Single(partial_checksum(header, packet)?),
            Some(gso) => Plan::Train(Train::parse(gso, header, packet)?),
        };
        Ok(Self { packet, plan })
    }

    /// The packet as it was read: its headers tell the flow of every segment.
    #[must_use]
    pub const fn packet(&self) -> &'a [u8] {
        self.packet
    }

    /// How many packets will travel.
    #[must_use]
    pub fn segments(&self) -> usize {
        match self.plan {
            Plan::Single(_) => 1,
            Plan::Train(train) => (self.packet.len() - train.headers).div_ceil(train.size),
        }
    }

    /// Length of segment `index` with its headers, in bytes; 0 when there is no such segment.
    #[must_use]
    pub fn segment_len(&self, index: usize) -> usize {
        match self.plan {
            Plan::Single(_) if index == 0 => self.packet.len(),
            Plan::Single(_) => 0,
            Plan::Train(train) => {
                let payload = self.packet.len() - train.headers;
                match payload.saturating_sub(index.saturating_mul(train.size)) {
                    0 => 0,
                    left => train.headers + left.min(train.size),
                }
            }
        }
    }

    /// Writes segment `index` with complete headers and checksums into `out`, which has
    /// [`SuperPacket::segment_len`] bytes. The payload is copied once and summed while it is
    /// still in the first-level cache.
    ///
    /// # Errors
    /// [`OffloadError::SlotMismatch`] when `out` has another length.
    pub fn write_segment(&self, index: usize, out: &mut [u8]) -> Result<(), OffloadError> {
        if out.len() != self.segment_len(index) || out.is_empty() {
            return Err(OffloadError::SlotMismatch);
        }
        match self.plan {
            Plan::Single(partial) => {
                out.copy_from_slice(self.packet);
                match partial {
                    None => Some(()),
                    Some((start, field)) => complete(out, start, field),
                }
            }
            Plan::Train(train) => train.write(self.packet, index, out),
        }
        .ok_or(OffloadError::SlotMismatch)
    }
}

/// Cuts the packet to the length in its IP header. A super-packet beyond 64 KiB has 0 there.
fn trim(packet: &[u8], is_super: bool) -> Result<&[u8], OffloadError> {
    let total = match wire::byte(packet, 0).map(|first| first >> 4) {
        Some(4) if packet.len() >= IPV4_HEADER => wire::be16(packet, 2).map(usize::from),
        Some(6) if packet.len() >= IPV6_HEADER => {
            wire::be16(packet, 4).map(|len| usize::from(len) + IPV6_HEADER)
        }
        _ => None,
    };
    match total {
        Some(0 | IPV6_HEADER) if is_super => Ok(packet),
        Some(total) if total >= IPV4_HEADER => packet.get(..total).ok_or(OffloadError::Truncated),
        _ => Err(OffloadError::Truncated),
    }
}

fn partial_checksum(
    header: &VirtioHeader,
    packet: &[u8],
) -> Result<Option<(usize, usize)>, OffloadError> {
    if !header.needs_checksum {
        return Ok(None);
    }
    let start = usize::from(header.checksum_start);
    let field = start + usize::from(header.checksum_offset);
    if start < IPV4_HEADER || field + 2 > packet.len() {
        return Err(OffloadError::ChecksumOutside);
    }
    Ok(Some((start, field)))
}

/// Completes a checksum whose field holds the pseudo-header's sum.
fn complete(packet: &mut [u8], start: usize, field: usize) -> Option<()> {
    let checksum = Sum::ZERO.bytes(packet.get(start..)?).complement();
    wire::put(packet, field, &never_zero(checksum))
}

/// A UDP checksum of zero means "none" (RFC 768); its other representation says the same to
/// every verifier, TCP's included.
const fn never_zero(checksum: [u8; 2]) -> [u8; 2] {
    match checksum {
        [0, 0] => [0xff, 0xff],
        other => other,
    }
}

impl Train {
    fn parse(gso: Gso, header: &VirtioHeader, packet: &[u8]) -> Result<Self, OffloadError> {
        let layout = Layout::parse(packet).ok_or(OffloadError::Truncated)?;
        let (version_ok, is_tcp) = match gso.kind {
            GsoKind::TcpV4 => (!layout.is_ipv6, true),
            GsoKind::TcpV6 => (layout.is_ipv6, true),
            GsoKind::Udp => (true, false),
        };
        let protocol = if is_tcp { TCP } else { UDP };
        if !version_ok || layout.fragment || layout.protocol != protocol {
            return Err(OffloadError::KindMismatch);
        }
        if header.needs_checksum && usize::from(header.checksum_start) != layout.upper {
            return Err(OffloadError::ChecksumOutside);
        }
        let upper_len = if is_tcp {
            let words = wire::byte(packet, layout.upper + 12).ok_or(OffloadError::Truncated)? >> 4;
            usize::from(words) * 4
        } else {
            UDP_HEADER
        };
        let headers = layout.upper + upper_len;
        let minimum = if is_tcp { TCP_HEADER } else { UDP_HEADER };
        let Some(payload) = packet.len().checked_sub(headers) else {
            return Err(OffloadError::Truncated);
        };
        if upper_len < minimum {
            return Err(OffloadError::Truncated);
        }
        if gso.size == 0 {
            return Err(OffloadError::GsoSizeZero);
        }
        if usize::from(gso.size) > payload {
            let size = gso.size;
            return Err(OffloadError::GsoSizeTooLarge { size, payload });
        }
        let (ip_sum, upper_sum) =
            shared_sums(packet, &layout, headers, is_tcp).ok_or(OffloadError::Truncated)?;
        Ok(Self {
            is_ipv6: layout.is_ipv6,
            upper: layout.upper,
            headers,
            size: usize::from(gso.size),
            is_tcp,
            ip_sum,
            upper_sum,
        })
    }

    /// `None` only when `out` is shorter than the headers, which the caller has excluded.
    fn write(&self, packet: &[u8], index: usize, out: &mut [u8]) -> Option<()> {
        let start = index * self.size;
        let payload_len = out.len().checked_sub(self.headers)?;
        let payload = packet.get(self.headers + start..)?.get(..payload_len)?;
        let (head, body) = out.split_at_mut_checked(self.headers)?;
        head.copy_from_slice(packet.get(..self.headers)?);
        body.copy_from_slice(payload);
        let upper_sum = self.upper_sum.plus(Sum::ZERO.bytes(body));
        self.write_ip(head, index, self.headers + payload_len)?;
        let is_last = self.headers + start + payload_len == packet.len();
        let upper_len = u16::try_from(self.headers - self.upper + payload_len).ok()?;
        let upper = head.get_mut(self.upper..)?;
        if self.is_tcp {
            let advance = u32::try_from(start).ok()?;
            write_tcp(upper, advance, is_last, upper_sum.word(upper_len))
        } else {
            write_udp(upper, upper_len, upper_sum.word(upper_len))
        }
    }

    fn write_ip(&self, head: &mut [u8], index: usize, total: usize) -> Option<()> {
        if self.is_ipv6 {
            let header: &mut [u8; IPV6_HEADER] = head.first_chunk_mut()?;
            let len = u16::try_from(total - IPV6_HEADER).ok()?;
            [header[4], header[5]] = len.to_be_bytes();
            return Some(());
        }
        let header: &mut [u8; IPV4_HEADER] = head.first_chunk_mut()?;
        let total = u16::try_from(total).ok()?;
        // The kernel counts the identification up by one per segment, as GRO expects it.
        let step = u16::try_from(index & 0xffff).ok()?;
        let id = u16::from_be_bytes([header[4], header[5]]).wrapping_add(step);
        [header[2], header[3]] = total.to_be_bytes();
        [header[4], header[5]] = id.to_be_bytes();
        [header[10], header[11]] = self.ip_sum.word(total).word(id).complement();
        Some(())
    }
}

/// [`Train::ip_sum`] and [`Train::upper_sum`]. All parts begin at even offsets, so the words of
/// one do not shift those of another.
fn shared_sums(packet: &[u8], layout: &Layout, headers: usize, is_tcp: bool) -> Option<(Sum, Sum)> {
    let upper = layout.upper;
    let sum_of = |parts: &[core::ops::Range<usize>]| {
        parts.iter().try_fold(Sum::ZERO, |sum, part| {
            Some(sum.bytes(packet.get(part.clone())?))
        })
    };
    // Without total length, identification and the checksum itself.
    let ip_sum = if layout.is_ipv6 {
        Sum::ZERO
    } else {
        sum_of(&[0..2, 6..10, 12..upper])?
    };
    let ports = packet.get(upper..upper + 4)?;
    let shared = wire::pseudo_header(packet, layout.protocol, 0)?.bytes(ports);
    if !is_tcp {
        return Some((ip_sum, shared));
    }
    // Without sequence number, the word of the flags, and the checksum.
    let header = sum_of(&[
        upper + 8..upper + 12,
        upper + 14..upper + TCP_CHECKSUM,
        upper + TCP_CHECKSUM + 2..headers,
    ])?;
    Some((ip_sum, shared.plus(header)))
}

/// Of a TCP header: sequence number, flags and checksum. The segment's data begins `advance` bytes
/// behind the super-packet's; `sum` has everything else.
fn write_tcp(header: &mut [u8], advance: u32, is_last: bool, sum: Sum) -> Option<()> {
    let header: &mut [u8; TCP_HEADER] = header.first_chunk_mut()?;
    let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let sequence = sequence.wrapping_add(advance).to_be_bytes();
    [header[4], header[5], header[6], header[7]] = sequence;
    if !is_last {
        header[13] &= !(FIN | PSH);
    }
    if advance > 0 {
        header[13] &= !CWR;
    }
    let sum = sum.bytes(&sequence).bytes(&[header[12], header[13]]);
    [header[16], header[17]] = sum.complement();
    Some(())
}

/// Of a UDP header: length and checksum. `sum` has everything else but the length.
fn write_udp(header: &mut [u8], len: u16, sum: Sum) -> Option<()> {
    let header: &mut [u8; UDP_HEADER] = header.first_chunk_mut()?;
    [header[4], header[5]] = len.to_be_bytes();
    [header[6], header[7]] = never_zero(sum.word(len).complement());
    Some(())
}
