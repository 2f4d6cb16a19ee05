//! TCP maximum segment size: what a SYN promises is lowered to what fits the tunnel
//! (RFC 879, RFC 6691), so that hosts behind networks that lose ICMP still get through.

use crate::checksum;
use crate::wire::{self, IPV4_HEADER, IPV6_HEADER, Layout, SYN, TCP, TCP_CHECKSUM, TCP_HEADER};

/// What to do with the MSS option of a SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MssClamp {
    /// Lower it to what the tunnel's MTU carries.
    #[default]
    Auto,
    /// Leave it.
    Off,
    /// Lower it to this many bytes.
    Limit(u16),
}

/// [`MssClamp`] resolved for one tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MssLimits {
    ipv4: u16,
    ipv6: u16,
}

/// No limit below this: a smaller one helps nobody (RFC 879 §7's default is 536; 216 is what
/// is left of a 256-byte MTU).
const FLOOR: u16 = 216;

impl MssClamp {
    /// The limits for an inner MTU in bytes; `None` for [`MssClamp::Off`].
    #[must_use]
    pub fn resolve(self, mtu: u16) -> Option<MssLimits> {
        let below = |headers: usize| {
            let headers = u16::try_from(headers).unwrap_or(u16::MAX);
            mtu.saturating_sub(headers).max(FLOOR)
        };
        match self {
            Self::Off => None,
            Self::Auto => Some(MssLimits {
                ipv4: below(IPV4_HEADER + TCP_HEADER),
                ipv6: below(IPV6_HEADER + TCP_HEADER),
            }),
            Self::Limit(limit) => Some(MssLimits {
                ipv4: limit,
                ipv6: limit,
            }),
        }
    }
}

impl MssLimits {
    /// Lowers the MSS option of a SYN and corrects the checksum; every other packet is left
    /// alone. The checksum must be complete, not partial. True when something changed.
    pub fn clamp(self, packet: &mut [u8]) -> bool {
        is_plain_syn(packet) && self.clamp_syn(packet).is_some()
    }

    fn clamp_syn(self, packet: &mut [u8]) -> Option<()> {
        let layout = Layout::parse(packet)?;
        if layout.protocol != TCP || layout.later_fragment {
            return None;
        }
        let tcp = packet.get_mut(layout.upper..)?;
        let len = usize::from(wire::byte(tcp, 12)? >> 4) * 4;
        if wire::byte(tcp, 13)? & SYN == 0 || len > tcp.len() {
            return None;
        }
        let limit = if layout.is_ipv6 { self.ipv6 } else { self.ipv4 };
        let at = find_mss(tcp.get(TCP_HEADER..len)?)? + TCP_HEADER;
        if wire::be16(tcp, at)? <= limit {
            return None;
        }
        set_word(tcp, at, limit)
    }
}

/// A cheap look that lets nearly every packet pass: IPv6 is looked at more closely later.
fn is_plain_syn(packet: &[u8]) -> bool {
    match wire::byte(packet, 0) {
        Some(first) if first >> 4 == 4 => {
            let flags = usize::from(first & 0x0f) * 4 + 13;
            wire::byte(packet, 9) == Some(TCP)
                && wire::byte(packet, flags).is_some_and(|flags| flags & SYN != 0)
        }
        Some(first) if first >> 4 == 6 => match wire::byte(packet, 6) {
            Some(TCP) => wire::byte(packet, IPV6_HEADER + 13).is_some_and(|f| f & SYN != 0),
            Some(0 | 43 | 44 | 51 | 60) => true,
            _ => false,
        },
        _ => false,
    }
}

/// Offset of the MSS value (kind 2, length 4) within the options.
fn find_mss(options: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match wire::byte(options, at)? {
            0 => return None,
            1 => at += 1,
            2 if wire::byte(options, at + 1)? == 4 => return Some(at + 2),
            _ => {
                let len = usize::from(wire::byte(options, at + 1)?);
                if len < 2 {
                    return None;
                }
                at += len;
            }
        }
    }
}

/// Replaces 16 bits of a TCP header, which may stand at an odd offset, and its checksum.
fn set_word(tcp: &mut [u8], at: usize, value: u16) -> Option<()> {
    let from = at & !1;
    let old: [u8; 4] = padded(tcp, from)?;
    wire::put(tcp, at, &value.to_be_bytes())?;
    let new: [u8; 4] = padded(tcp, from)?;
    let mut sum = wire::array::<2>(tcp, TCP_CHECKSUM)?;
    let ([a, b, c, d], [e, f, g, h]) = (old, new);
    sum = checksum::adjust(sum, [a, b], [e, f]);
    sum = checksum::adjust(sum, [c, d], [g, h]);
    wire::put(tcp, TCP_CHECKSUM, &sum)
}

/// Four bytes at `from`; the last two may lie behind a header that ends early.
fn padded(tcp: &[u8], from: usize) -> Option<[u8; 4]> {
    let [a, b] = wire::array::<2>(tcp, from)?;
    let [c, d] = wire::array::<2>(tcp, from + 2).unwrap_or_default();
    Some([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};

    fn syn(ipv6: bool, options: &[TcpOptionElement]) -> Vec<u8> {
        let builder = if ipv6 {
            PacketBuilder::ipv6([1; 16], [2; 16], 64)
        } else {
            PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        };
        let mut packet = Vec::new();
        builder
            .tcp(1, 2, 3, 4)
            .syn()
            .options(options)
            .unwrap()
            .write(&mut packet, &[])
            .unwrap();
        packet
    }

    fn mss_and_checksum_ok(packet: &[u8]) -> (Option<u16>, bool) {
        let sliced = SlicedPacket::from_ip(packet).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
            panic!("not TCP");
        };
        let mss = tcp.options_iterator().find_map(|option| match option {
            Ok(TcpOptionElement::MaximumSegmentSize(mss)) => Some(mss),
            _ => None,
        });
        let expected = match sliced.net.unwrap() {
            etherparse::NetSlice::Ipv4(ip) => tcp
                .calc_checksum_ipv4(ip.header().source(), ip.header().destination())
                .unwrap(),
            etherparse::NetSlice::Ipv6(ip) => tcp
                .calc_checksum_ipv6(ip.header().source(), ip.header().destination())
                .unwrap(),
            etherparse::NetSlice::Arp(_) => panic!("ARP"),
        };
        (mss, expected == tcp.checksum())
    }

    #[test]
    fn a_large_mss_is_lowered_in_both_versions() {
        let limits = MssClamp::Auto.resolve(1400).unwrap();
        for (ipv6, expected) in [(false, 1360), (true, 1340)] {
            let mut packet = syn(ipv6, &[TcpOptionElement::MaximumSegmentSize(1460)]);
            assert!(limits.clamp(&mut packet));
            assert_eq!(mss_and_checksum_ok(&packet), (Some(expected), true));
            assert!(!limits.clamp(&mut packet), "a second look changes nothing");
        }
    }

    #[test]
    fn an_option_at_an_odd_offset_keeps_the_checksum_right() {
        let options = [
            TcpOptionElement::Noop,
            TcpOptionElement::MaximumSegmentSize(9000),
            TcpOptionElement::WindowScale(7),
        ];
        let mut packet = syn(false, &options);
        assert!(
            MssClamp::Limit(1000)
                .resolve(1400)
                .unwrap()
                .clamp(&mut packet)
        );
        assert_eq!(mss_and_checksum_ok(&packet), (Some(1000), true));
    }

    #[test]
    fn small_values_and_other_packets_stay() {
        let limits = MssClamp::Auto.resolve(1400).unwrap();
        let mut small = syn(false, &[TcpOptionElement::MaximumSegmentSize(536)]);
        assert!(!limits.clamp(&mut small));
        let mut without = syn(false, &[TcpOptionElement::WindowScale(3)]);
        assert!(!limits.clamp(&mut without));
        assert_eq!(MssClamp::Off.resolve(1400), None);
    }

    #[test]
    fn malformed_options_end_the_search() {
        let limits = MssClamp::Auto.resolve(1400).unwrap();
        let mut packet = syn(false, &[TcpOptionElement::MaximumSegmentSize(1460)]);
        packet[41] = 0; // length 0 would loop for ever
        assert!(!limits.clamp(&mut packet));
        packet.truncate(41);
        assert!(!limits.clamp(&mut packet));
    }
}
