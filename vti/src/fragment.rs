//! Fragments of an inner IPv4 packet (RFC 791 §3.2) that may be fragmented and does not fit
//! the tunnel: cut before it is sealed, as RFC 4301 §8.2 has it for gateways.

use crate::wire::{self, IPV4_HEADER, MORE_FRAGMENTS};

/// How an IPv4 packet is cut.
#[derive(Debug, Clone, Copy)]
pub struct Fragments<'a> {
    packet: &'a [u8],
    header: usize,
    /// Payload bytes per fragment, a multiple of 8.
    size: usize,
}

impl<'a> Fragments<'a> {
    /// Cuts `packet` for `mtu` bytes. `None` when it is not a complete IPv4 packet, or the
    /// MTU has no room for 8 bytes behind the header.
    #[must_use]
    pub fn of(packet: &'a [u8], mtu: u16) -> Option<Self> {
        let first = wire::byte(packet, 0)?;
        let header = usize::from(first & 0x0f) * 4;
        let size = usize::from(mtu).checked_sub(header)? & !7;
        let complete = first >> 4 == 4 && header >= IPV4_HEADER && packet.len() > header;
        (complete && size > 0).then_some(Self {
            packet,
            header,
            size,
        })
    }

    /// How many fragments there are.
    #[must_use]
    pub fn count(&self) -> usize {
        (self.packet.len() - self.header).div_ceil(self.size)
    }

    /// Length of fragment `index` with its header; 0 when there is none.
    #[must_use]
    pub fn len_of(&self, index: usize) -> usize {
        let payload = self.packet.len() - self.header;
        match payload.saturating_sub(index.saturating_mul(self.size)) {
            0 => 0,
            left => self.header + left.min(self.size),
        }
    }

    /// Writes fragment `index` into `out`, which has [`Fragments::len_of`] bytes. `None` when
    /// it has not. Options are repeated in every fragment: all of them may be, and only some
    /// must (RFC 791 §3.1 "copied" flag).
    #[must_use]
    pub fn write(&self, index: usize, out: &mut [u8]) -> Option<()> {
        let len = self.len_of(index);
        if len == 0 || out.len() != len {
            return None;
        }
        let start = self.header + index * self.size;
        let payload = self.packet.get(start..start + (len - self.header))?;
        let (head, body) = out.split_at_mut_checked(self.header)?;
        head.copy_from_slice(self.packet.get(..self.header)?);
        body.copy_from_slice(payload);
        let is_last = start + payload.len() == self.packet.len();
        let old = wire::be16(head, 6)?;
        let step = u16::try_from(index * self.size / 8).ok()?;
        let offset = (old & 0x1fff).checked_add(step).filter(|o| *o < 0x2000)?;
        let more = if is_last {
            old & MORE_FRAGMENTS
        } else {
            MORE_FRAGMENTS
        };
        wire::put(head, 2, &u16::try_from(len).ok()?.to_be_bytes())?;
        wire::put(head, 6, &(offset | more).to_be_bytes())?;
        wire::fill_ipv4_checksum(head, self.header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{IpNumber, PacketBuilder, SlicedPacket};
    use proptest::prelude::*;

    proptest! {
        /// Reassembly by etherparse's view of each fragment gives the payload again.
        #[test]
        fn fragments_carry_the_payload_in_order(len in 1..4000_usize, mtu in 68..1500_u16) {
            let payload: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let mut packet = Vec::new();
            PacketBuilder::ipv4([1, 2, 3, 4], [5, 6, 7, 8], 9)
                .write(&mut packet, IpNumber(253), &payload)
                .unwrap();
            packet[6] &= !0x40;
            let fragments = Fragments::of(&packet, mtu).unwrap();
            let mut again = Vec::new();
            for index in 0..fragments.count() {
                let mut out = vec![0; fragments.len_of(index)];
                fragments.write(index, &mut out).unwrap();
                prop_assert!(out.len() <= usize::from(mtu));
                let sliced = SlicedPacket::from_ip(&out).unwrap();
                let Some(etherparse::NetSlice::Ipv4(ip)) = sliced.net else { panic!("not IPv4") };
                let header = ip.header().to_header();
                prop_assert_eq!(header.calc_header_checksum(), header.header_checksum);
                prop_assert_eq!(usize::from(header.fragment_offset.value()) * 8, again.len());
                prop_assert_eq!(header.more_fragments, index + 1 < fragments.count());
                again.extend_from_slice(ip.payload().payload);
            }
            prop_assert_eq!(again, payload);
        }
    }

    #[test]
    fn an_mtu_below_the_header_is_refused() {
        assert!(Fragments::of(&[0x45; 40], 27).is_none());
        assert!(Fragments::of(&[0x65; 40], 1400).is_none());
    }
}
