//! The packets that say who has the virtual address: ARP (RFC 826, RFC 5227) and IPv6 neighbour
//! discovery (RFC 4861), as Ethernet frames.
//!
//! ```text
//!   | Ethernet 14 | ARP 28                                |
//!   | Ethernet 14 | IPv6 40 | ICMPv6 NA or NS 24 | LLA option 8 |
//! ```

use core::fmt;
use core::str::FromStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::{Reader, Truncated, Writer};

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Everybody on the link.
    pub const BROADCAST: Self = Self([0xff; 6]);
    const ZERO: Self = Self([0; 6]);

    /// RFC 2464 §7: the group an IPv6 multicast address is sent to.
    #[must_use]
    pub const fn of_multicast(address: Ipv6Addr) -> Self {
        let [.., a, b, c, d] = address.octets();
        Self([0x33, 0x33, a, b, c, d])
    }
}

/// A text is not an Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an Ethernet address is six bytes in hexadecimal, such as 02:00:5e:00:01:0a")]
pub struct NotMac;

impl FromStr for Mac {
    type Err = NotMac;

    fn from_str(text: &str) -> Result<Self, NotMac> {
        let mut bytes = [0; 6];
        let mut words = text.split(':');
        for byte in &mut bytes {
            let word = words.next().filter(|word| word.len() == 2).ok_or(NotMac)?;
            // The radix parser would take a sign.
            if !word.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(NotMac);
            }
            *byte = u8::from_str_radix(word, 16).map_err(|_| NotMac)?;
        }
        match words.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(NotMac),
        }
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;
const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const OPTION_SOURCE_LINK: u8 = 1;
const OPTION_TARGET_LINK: u8 = 2;
/// RFC 4861 §4.4: S, the answer to a solicitation.
const FLAG_SOLICITED: u32 = 1 << 30;
/// RFC 4861 §4.4: O, replace what you had.
const FLAG_OVERRIDE: u32 = 1 << 29;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

fn ethernet(to: Mac, from: Mac, ethertype: u16) -> Writer {
    let mut out = Writer::with_capacity(86);
    out.bytes(&to.0).bytes(&from.0).u16(ethertype);
    out
}

fn arp(to: Mac, operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut out = ethernet(to, sender.0, ETHERTYPE_ARP);
    // Ethernet, IPv4, their lengths.
    out.u16(1).u16(0x0800).u8(6).u8(4).u16(operation);
    for (mac, ip) in [sender, target] {
        out.bytes(&mac.0).bytes(&ip.octets());
    }
    out.finish()
}

/// Says to everybody that `mac` has `address`: as a request and as a reply, since some listen to
/// the one and some to the other (RFC 5227 §3), or as an unsolicited advertisement with override
/// (RFC 4861 §7.2.6).
#[must_use]
pub fn announcement(mac: Mac, address: IpAddr) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(ip) => vec![
            arp(Mac::BROADCAST, ARP_REQUEST, (mac, ip), (Mac::ZERO, ip)),
            arp(Mac::BROADCAST, ARP_REPLY, (mac, ip), (mac, ip)),
        ],
        IpAddr::V6(ip) => {
            let to = (Mac::of_multicast(ALL_NODES), ALL_NODES);
            vec![advertisement(mac, ip, to, FLAG_OVERRIDE)]
        }
    }
}

/// Asks whether anybody has `address`, without claiming it: an ARP probe with an all-zero sender
/// (RFC 5227 §2.1.1), or a solicitation from the unspecified address (RFC 4862 §5.4.2).
#[must_use]
pub fn probe(mac: Mac, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => arp(
            Mac::BROADCAST,
            ARP_REQUEST,
            (mac, Ipv4Addr::UNSPECIFIED),
            (Mac::ZERO, ip),
        ),
        IpAddr::V6(ip) => {
            let group = solicited_node(ip);
            let mut body = Writer::with_capacity(24);
            body.u8(NEIGHBOUR_SOLICITATION).u8(0).u16(0).u32(0);
            body.bytes(&ip.octets());
            let to = (Mac::of_multicast(group), group);
            icmpv6(mac, Ipv6Addr::UNSPECIFIED, to, body)
        }
    }
}

/// RFC 4291 §2.7.1: the group that solicitations for `address` are sent to.
#[must_use]
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | a as u16,
        (b as u16) << 8 | c as u16,
    )
}

fn advertisement(mac: Mac, ip: Ipv6Addr, to: (Mac, Ipv6Addr), flags: u32) -> Vec<u8> {
    let mut body = Writer::with_capacity(32);
    body.u8(NEIGHBOUR_ADVERTISEMENT).u8(0).u16(0).u32(flags);
    body.bytes(&ip.octets());
    body.u8(OPTION_TARGET_LINK).u8(1).bytes(&mac.0);
    icmpv6(mac, ip, to, body)
}

fn icmpv6(mac: Mac, from: Ipv6Addr, to: (Mac, Ipv6Addr), body: Writer) -> Vec<u8> {
    let mut body = body.finish();
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let sum = checksum(from, to.1, length, &body);
    if let Some(field) = body.get_mut(2..4) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    let mut out = ethernet(to.0, mac, ETHERTYPE_IPV6);
    // RFC 4861 §7.1: a hop limit of 255 shows that no router was crossed.
    out.u32(6 << 28).u16(length).u8(ICMPV6).u8(255);
    out.bytes(&from.octets()).bytes(&to.1.octets()).bytes(&body);
    out.finish()
}

/// RFC 4443 §2.3, over the IPv6 pseudo-header.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, length: u16, body: &[u8]) -> u16 {
    let pseudo = [u32::from(length), u32::from(ICMPV6)];
    let words = |bytes: &[u8]| {
        bytes
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
                [high] => u32::from(*high) << 8,
                _ => 0,
            })
            .sum::<u32>()
    };
    let mut sum =
        pseudo.iter().sum::<u32>() + words(&from.octets()) + words(&to.octets()) + words(body);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// What a frame says about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Somebody asks who has `target`.
    Question {
        /// The address asked for.
        target: IpAddr,
        /// Who asks; the unspecified address for a probe.
        asker: IpAddr,
        /// Where the answer goes.
        asker_mac: Mac,
    },
    /// Somebody says that `mac` has `address`.
    Claim {
        /// The address.
        address: IpAddr,
        /// Who claims it.
        mac: Mac,
    },
}

/// Reads a frame; `None` when it is neither ARP nor neighbour discovery, or malformed.
#[must_use]
pub fn parse(frame: &[u8]) -> Option<Heard> {
    parse_frame(frame).ok().flatten()
}

fn parse_frame(frame: &[u8]) -> Result<Option<Heard>, Truncated> {
    let mut reader = Reader::new(frame);
    reader.take(6)?;
    let from = mac(&mut reader)?;
    match reader.u16()? {
        ETHERTYPE_ARP => parse_arp(&mut reader),
        ETHERTYPE_IPV6 => parse_neighbour(&mut reader, from),
        _ => Ok(None),
    }
}

fn mac(reader: &mut Reader<'_>) -> Result<Mac, Truncated> {
    reader.take(6)?.try_into().map(Mac).map_err(|_| Truncated)
}

fn v4(reader: &mut Reader<'_>) -> Result<Ipv4Addr, Truncated> {
    reader.u32().map(Ipv4Addr::from_bits)
}

fn v6(reader: &mut Reader<'_>) -> Result<Ipv6Addr, Truncated> {
    let high = reader.u64()?;
    let low = reader.u64()?;
    Ok(Ipv6Addr::from_bits(
        u128::from(high) << 64 | u128::from(low),
    ))
}

fn parse_arp(reader: &mut Reader<'_>) -> Result<Option<Heard>, Truncated> {
    if reader.take(6)? != [0, 1, 8, 0, 6, 4] {
        return Ok(None);
    }
    let operation = reader.u16()?;
    let sender_mac = mac(reader)?;
    let sender = v4(reader)?;
    mac(reader)?;
    let target = v4(reader)?;
    let claim = Heard::Claim {
        address: sender.into(),
        mac: sender_mac,
    };
    Ok(match operation {
        // An announcement in the form of a request.
        ARP_REQUEST if sender == target => Some(claim),
        ARP_REQUEST => Some(Heard::Question {
            target: target.into(),
            asker: sender.into(),
            asker_mac: sender_mac,
        }),
        ARP_REPLY => Some(claim),
        _ => None,
    })
}

fn parse_neighbour(reader: &mut Reader<'_>, from: Mac) -> Result<Option<Heard>, Truncated> {
    reader.take(6)?;
    let next_header = reader.u8()?;
    let hop_limit = reader.u8()?;
    let asker = v6(reader)?;
    v6(reader)?;
    if next_header != ICMPV6 || hop_limit != 255 {
        return Ok(None);
    }
    let kind = reader.u8()?;
    reader.take(7)?;
    let target = v6(reader)?;
    Ok(match kind {
        NEIGHBOUR_SOLICITATION => Some(Heard::Question {
            target: target.into(),
            asker: asker.into(),
            asker_mac: link_option(reader, OPTION_SOURCE_LINK).unwrap_or(from),
        }),
        NEIGHBOUR_ADVERTISEMENT => Some(Heard::Claim {
            address: target.into(),
            mac: link_option(reader, OPTION_TARGET_LINK).unwrap_or(from),
        }),
        _ => None,
    })
}

fn link_option(reader: &mut Reader<'_>, wanted: u8) -> Option<Mac> {
    loop {
        let kind = reader.u8().ok()?;
        let length = usize::from(reader.u8().ok()?) * 8;
        let body = reader.take(length.checked_sub(2)?).ok()?;
        if kind == wanted {
            return body.try_into().ok().map(Mac);
        }
    }
}

/// The answer to a question for an address of ours.
#[must_use]
pub fn answer(mac: Mac, target: IpAddr, asker: IpAddr, asker_mac: Mac) -> Option<Vec<u8>> {
    match (target, asker) {
        (IpAddr::V4(target), IpAddr::V4(asker)) => {
            Some(arp(asker_mac, ARP_REPLY, (mac, target), (asker_mac, asker)))
        }
        // RFC 4861 §7.2.4: a probe is answered to everybody, and not as solicited.
        (IpAddr::V6(target), IpAddr::V6(asker)) if asker.is_unspecified() => {
            let to = (Mac::of_multicast(ALL_NODES), ALL_NODES);
            Some(advertisement(mac, target, to, FLAG_OVERRIDE))
        }
        (IpAddr::V6(target), IpAddr::V6(asker)) => {
            let flags = FLAG_OVERRIDE | FLAG_SOLICITED;
            Some(advertisement(mac, target, (asker_mac, asker), flags))
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{ArpOperation, NetSlice, SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    use super::*;

    const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_ethernet_address_is_read_as_it_is_written() {
        let mac = Mac([2, 0, 0x5e, 0, 1, 0x0a]);
        assert_eq!("02:00:5E:00:01:0a".parse(), Ok(mac));
        assert_eq!(mac.to_string().parse(), Ok(mac));
        for wrong in [
            "",
            "02:00:5e:00:01",
            "02:00:5e:00:01:0a:00",
            "02:00:5e:00:01:+a",
            "02-00-5e-00-01-0a",
            "2:0:5e:0:1:a",
        ] {
            assert_eq!(wrong.parse::<Mac>(), Err(NotMac), "{wrong}");
        }
    }

    #[test]
    fn gratuitous_arp_is_what_etherparse_reads() {
        let frames = announcement(OURS, ip("192.0.2.1"));
        for (frame, operation) in frames
            .iter()
            .zip([ArpOperation::REQUEST, ArpOperation::REPLY])
        {
            assert_eq!(frame.len(), 42);
            assert_eq!(frame[..6], Mac::BROADCAST.0);
            let packet = SlicedPacket::from_ethernet(frame).unwrap();
            let Some(NetSlice::Arp(arp)) = packet.net else {
                panic!("not ARP");
            };
            assert_eq!(arp.operation(), operation);
            assert_eq!(arp.sender_hw_addr(), OURS.0);
            assert_eq!(arp.sender_protocol_addr(), [192, 0, 2, 1]);
            assert_eq!(arp.target_protocol_addr(), [192, 0, 2, 1]);
        }
    }

    #[test]
    fn an_unsolicited_advertisement_has_a_good_checksum() {
        let frames = announcement(OURS, ip("2001:db8::1"));
        let packet = SlicedPacket::from_ethernet(&frames[0]).unwrap();
        let Some(NetSlice::Ipv6(v6)) = &packet.net else {
            panic!("not IPv6");
        };
        let header = v6.header();
        assert_eq!(header.hop_limit(), 255);
        let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport else {
            panic!("not ICMPv6");
        };
        assert!(icmp.is_checksum_valid(header.source(), header.destination()));
        assert_eq!(icmp.type_u8(), NEIGHBOUR_ADVERTISEMENT);
        assert_eq!(icmp.bytes5to8()[0], 0x20, "override, not solicited");
        assert_eq!(frames[0][..6], [0x33, 0x33, 0, 0, 0, 1]);
    }

    #[test]
    fn announcements_are_claims_and_probes_are_questions() {
        for address in [ip("192.0.2.1"), ip("2001:db8::1")] {
            let claim = Some(Heard::Claim { address, mac: OURS });
            for frame in announcement(OURS, address) {
                assert_eq!(parse(&frame), claim);
            }
            let Some(Heard::Question { target, asker, .. }) = parse(&probe(OURS, address)) else {
                panic!("a probe is a question");
            };
            assert!(target == address && asker.is_unspecified());
        }
    }

    #[test]
    fn a_question_is_answered_to_who_asked() {
        for (target, asker) in [("192.0.2.1", "192.0.2.9"), ("2001:db8::1", "2001:db8::9")] {
            let frame = answer(OURS, ip(target), ip(asker), THEIRS).unwrap();
            assert_eq!(frame[..6], THEIRS.0);
            let address = ip(target);
            assert_eq!(parse(&frame), Some(Heard::Claim { address, mac: OURS }));
        }
    }

    #[test]
    fn the_solicited_node_group_keeps_the_last_three_bytes() {
        let group = solicited_node("2001:db8::12:3456".parse().unwrap());
        assert_eq!(group.to_string(), "ff02::1:ff12:3456");
    }

    proptest! {
        #[test]
        fn noise_and_truncation_are_harmless(
            noise in proptest::collection::vec(any::<u8>(), 0..100),
            cut in 0..86usize,
        ) {
            let _ = parse(&noise);
            for frame in announcement(OURS, ip("2001:db8::1")) {
                let cut = cut.min(frame.len());
                let _ = parse(&frame[..cut]);
            }
        }
    }
}
