//! "Packet too big", said to the sender of a packet that does not fit the tunnel (RFC 1191,
//! RFC 8201). The answer is written back into the TUN as if the destination had sent it: our
//! own address as the source would be dropped as a martian.

use core::time::Duration;

use crate::checksum::Sum;
use crate::wire::{self, DONT_FRAGMENT, IPV4_HEADER, IPV6_HEADER, Layout};

/// The longest answer: IPv6 requires no more than the minimum MTU (RFC 4443 §2.4(c)).
pub const MAX_ANSWER: usize = 1280;

/// The bytes of the offending packet that an ICMPv4 answer quotes: RFC 1812 §4.3.2.3 asks for
/// as much as fits 576 bytes.
const IPV4_QUOTE: usize = 576 - IPV4_HEADER - 8;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// True when a packet that is too big has to be answered, not fragmented: IPv6, or IPv4 with
/// "don't fragment".
#[must_use]
pub fn refuses_fragmentation(packet: &[u8]) -> bool {
    match wire::byte(packet, 0).map(|first| first >> 4) {
        Some(4) => wire::be16(packet, 6).is_some_and(|word| word & DONT_FRAGMENT != 0),
        _ => true,
    }
}

/// Builds the answer to `packet`, which is larger than `mtu` bytes, in `out`, and returns its
/// length. `None` when the packet must not be answered: a multicast source or destination, a
/// later fragment, an ICMP error (RFC 1122 §3.2.2), or `out` is shorter than [`MAX_ANSWER`].
#[must_use]
pub fn too_big(packet: &[u8], mtu: u16, out: &mut [u8]) -> Option<usize> {
    let layout = Layout::parse(packet)?;
    if layout.later_fragment || out.len() < MAX_ANSWER {
        return None;
    }
    if layout.is_ipv6 {
        too_big_v6(packet, &layout, mtu, out)
    } else {
        fragmentation_needed(packet, &layout, mtu, out)
    }
}

fn fragmentation_needed(packet: &[u8], layout: &Layout, mtu: u16, out: &mut [u8]) -> Option<usize> {
    let source: [u8; 4] = wire::array(packet, 12)?;
    let destination: [u8; 4] = wire::array(packet, 16)?;
    let unicast = |address: [u8; 4]| (1..224).contains(&address[0]);
    let is_error = layout.protocol == ICMP
        && !matches!(wire::byte(packet, layout.upper), Some(0 | 8 | 13 | 14));
    if is_error || !unicast(source) || !unicast(destination) {
        return None;
    }
    let quote = packet.get(..packet.len().min(IPV4_QUOTE))?;
    let total = IPV4_HEADER + 8 + quote.len();
    let [t0, t1] = u16::try_from(total).ok()?.to_be_bytes();
    let [m0, m1] = mtu.to_be_bytes();
    wire::put(out, 0, &[0x45, 0xc0, t0, t1, 0, 0, 0, 0, 64, ICMP, 0, 0])?;
    wire::put(out, 12, &destination)?;
    wire::put(out, 16, &source)?;
    wire::fill_ipv4_checksum(out, IPV4_HEADER)?;
    // Destination unreachable (3), fragmentation needed (4), next-hop MTU (RFC 1191 §4).
    wire::put(out, IPV4_HEADER, &[3, 4, 0, 0, 0, 0, m0, m1])?;
    wire::put(out, IPV4_HEADER + 8, quote)?;
    let sum = Sum::ZERO.bytes(out.get(IPV4_HEADER..total)?);
    wire::put(out, IPV4_HEADER + 2, &sum.complement())?;
    Some(total)
}

fn too_big_v6(packet: &[u8], layout: &Layout, mtu: u16, out: &mut [u8]) -> Option<usize> {
    let source: [u8; 16] = wire::array(packet, 8)?;
    let destination: [u8; 16] = wire::array(packet, 24)?;
    let is_error =
        layout.protocol == ICMPV6 && wire::byte(packet, layout.upper).is_none_or(|kind| kind < 128);
    // Packet too big may answer a multicast destination (RFC 4443 §2.4(e.3)), but then
    // there is no address to answer from.
    if is_error || source[0] == 0xff || source == [0; 16] || destination[0] == 0xff {
        return None;
    }
    let quote = packet.get(..packet.len().min(MAX_ANSWER - IPV6_HEADER - 8))?;
    let upper_len = 8 + quote.len();
    let [l0, l1] = u16::try_from(upper_len).ok()?.to_be_bytes();
    let [m0, m1] = mtu.to_be_bytes();
    wire::put(out, 0, &[0x60, 0, 0, 0, l0, l1, ICMPV6, 64])?;
    wire::put(out, 8, &destination)?;
    wire::put(out, 24, &source)?;
    wire::put(out, IPV6_HEADER, &[2, 0, 0, 0, 0, 0, m0, m1])?;
    wire::put(out, IPV6_HEADER + 8, quote)?;
    let total = IPV6_HEADER + upper_len;
    let sum = wire::pseudo_header(out, ICMPV6, upper_len)?.bytes(out.get(IPV6_HEADER..total)?);
    wire::put(out, IPV6_HEADER + 2, &sum.complement())?;
    Some(total)
}

/// How many answers may be sent: a token bucket (RFC 4443 §2.4(f) asks for one).
#[derive(Debug, Clone, Copy)]
pub struct AnswerLimit {
    tokens: u32,
    refilled: Duration,
}

impl AnswerLimit {
    /// Answers at once after a quiet time.
    const BURST: u32 = 16;
    /// One more answer per this time.
    const INTERVAL: Duration = Duration::from_millis(10);

    /// A full bucket.
    #[must_use]
    pub const fn new(now: Duration) -> Self {
        Self {
            tokens: Self::BURST,
            refilled: now,
        }
    }

    /// True when one answer may be sent at `now`, a time on any clock that does not go back.
    pub fn allow(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.refilled);
        let gained = passed.as_nanos() / Self::INTERVAL.as_nanos();
        if gained > 0 {
            let gained = u32::try_from(gained).unwrap_or(Self::BURST);
            self.tokens = self.tokens.saturating_add(gained).min(Self::BURST);
            self.refilled = now;
        }
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder, SlicedPacket, TransportSlice};

    fn udp(ipv6: bool, len: usize) -> Vec<u8> {
        let builder = if ipv6 {
            PacketBuilder::ipv6([1; 16], [2; 16], 64)
        } else {
            PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        };
        let mut packet = Vec::new();
        builder.udp(7, 9).write(&mut packet, &vec![5; len]).unwrap();
        packet
    }

    #[test]
    fn ipv4_answer_names_the_mtu_and_quotes_the_packet() {
        let packet = udp(false, 1400);
        let mut out = [0; MAX_ANSWER];
        let len = too_big(&packet, 1300, &mut out).unwrap();
        let sliced = SlicedPacket::from_ip(&out[..len]).unwrap();
        let Some(etherparse::NetSlice::Ipv4(ip)) = sliced.net else {
            panic!("not IPv4");
        };
        assert_eq!(ip.header().source(), [10, 0, 0, 2]);
        assert_eq!(ip.header().destination(), [10, 0, 0, 1]);
        let Some(TransportSlice::Icmpv4(icmp)) = sliced.transport else {
            panic!("not ICMP");
        };
        assert!(matches!(
            icmp.icmp_type(),
            Icmpv4Type::DestinationUnreachable(
                etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded {
                    next_hop_mtu: 1300
                }
            )
        ));
        assert!(Sum::ZERO.bytes(&out[20..len]).is_intact());
        assert_eq!(&out[28..len], &packet[..len - 28]);
    }

    #[test]
    fn ipv6_answer_has_a_valid_checksum() {
        let packet = udp(true, 1400);
        let mut out = [0; MAX_ANSWER];
        let len = too_big(&packet, 1280, &mut out).unwrap();
        let sliced = SlicedPacket::from_ip(&out[..len]).unwrap();
        let Some(TransportSlice::Icmpv6(icmp)) = sliced.transport else {
            panic!("not ICMPv6");
        };
        assert!(matches!(
            icmp.icmp_type(),
            Icmpv6Type::PacketTooBig { mtu: 1280 }
        ));
        assert!(icmp.is_checksum_valid([2; 16], [1; 16]));
    }

    #[test]
    fn errors_fragments_and_multicast_are_not_answered() {
        let mut out = [0; MAX_ANSWER];
        let mut multicast = udp(false, 1400);
        multicast[16] = 224;
        assert_eq!(too_big(&multicast, 1300, &mut out), None);
        let mut fragment = udp(false, 1400);
        fragment[7] = 1;
        assert_eq!(too_big(&fragment, 1300, &mut out), None);
        let len = too_big(&udp(false, 1400), 1300, &mut out).unwrap();
        let error = out[..len].to_vec();
        assert_eq!(too_big(&error, 100, &mut out), None);
    }

    #[test]
    fn the_bucket_empties_and_refills() {
        let mut limit = AnswerLimit::new(Duration::ZERO);
        let allowed = (0..100).filter(|_| limit.allow(Duration::ZERO)).count();
        assert_eq!(allowed, 16);
        assert!(!limit.allow(Duration::from_millis(9)));
        assert!(limit.allow(Duration::from_millis(10)));
    }
}
