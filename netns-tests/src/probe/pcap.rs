//! The packets of a capture file, as far as scenarios look into them.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use crate::LabError;

/// An IPv4 packet as it crossed an Ethernet device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpPacket {
    /// When it was seen, since the epoch, by the microsecond.
    pub at: Duration,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Protocol number.
    pub protocol: u8,
    /// What follows the IP header; of a fragment, its part.
    pub payload: Vec<u8>,
}

/// A UDP datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Source address.
    pub source: Ipv4Addr,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// What follows the UDP header.
    pub payload: Vec<u8>,
}

/// The address of a network card.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// A frame with what scenarios look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// When it was seen, since the epoch, by the microsecond.
    pub at: Duration,
    /// The card that sent it.
    pub from: Mac,
    /// The card it is for.
    pub to: Mac,
    /// What it carries.
    pub content: Content,
}

/// What a frame carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// IPv4.
    Ip(IpPacket),
    /// ARP for IPv4.
    Arp(Arp),
}

/// An ARP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// Asks; otherwise it answers.
    pub request: bool,
    /// Whose card is told.
    pub sender: Ipv4Addr,
    /// The card that is told.
    pub sender_mac: Mac,
    /// Who is asked for, or answered to.
    pub target: Ipv4Addr,
}

/// A neighbour advertisement (RFC 4861 §4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertisement {
    /// When it was seen, since the epoch, by the microsecond.
    pub at: Duration,
    /// The card that sent it.
    pub from: Mac,
    /// The address that it is about.
    pub target: Ipv6Addr,
    /// Answers a question.
    pub solicited: bool,
}

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
const ETHERNET_HEADER: usize = 14;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const SOLICITED: u8 = 0x40;
const ARP_REQUEST: u16 = 1;
const UDP: u8 = 17;
const ISAKMP_EXCHANGE: usize = 18;
const MAIN_MODE: u8 = 2;
const QUICK_MODE: u8 = 32;

/// All whole IPv4 packets in a file that was written on this machine, possibly half of it so far.
///
/// # Errors
/// When the file cannot be read.
pub fn ipv4_packets(file: &Path) -> Result<Vec<IpPacket>, LabError> {
    records(file, ipv4)
}

/// All whole IPv4 and ARP frames in such a file.
///
/// # Errors
/// When the file cannot be read.
pub fn frames(file: &Path) -> Result<Vec<Frame>, LabError> {
    records(file, frame)
}

/// All neighbour advertisements in such a file.
///
/// # Errors
/// When the file cannot be read.
pub fn advertisements(file: &Path) -> Result<Vec<Advertisement>, LabError> {
    records(file, advertisement)
}

/// When the last whole frame was seen; zero for a file without one.
pub(crate) fn newest(file: &Path) -> Result<Duration, LabError> {
    let times = records(file, |at, _frame| Some(at))?;
    Ok(times.into_iter().max().unwrap_or_default())
}

fn records<T>(
    file: &Path,
    read: impl Fn(Duration, &[u8]) -> Option<T>,
) -> Result<Vec<T>, LabError> {
    let bytes = fs::read(file).map_err(LabError::at(format!("read {}", file.display())))?;
    let mut rest = bytes.get(FILE_HEADER..).unwrap_or_default();
    let mut found = Vec::new();
    while let Some((at, frame, next)) = record(rest) {
        found.extend(read(at, frame));
        rest = next;
    }
    Ok(found)
}

impl Arp {
    /// Claims the address for a card: an answer, or a question that asks for its own sender.
    #[must_use]
    pub fn claims(&self, address: Ipv4Addr) -> bool {
        self.sender == address && (!self.request || self.target == address)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for Mac {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self, LabError> {
        let octets: Result<Vec<u8>, _> = text
            .trim()
            .split(':')
            .map(|octet| u8::from_str_radix(octet, 16))
            .collect();
        let six = octets.ok().and_then(|octets| octets.try_into().ok());
        six.map(Self)
            .ok_or_else(|| LabError::unreadable("the address of a card", text))
    }
}

impl IpPacket {
    /// The datagram in it, when it is UDP and no later fragment.
    #[must_use]
    pub fn udp(&self) -> Option<Datagram> {
        if self.protocol != UDP {
            return None;
        }
        Some(Datagram {
            source: self.source,
            source_port: u16_at(&self.payload, 0)?,
            destination_port: u16_at(&self.payload, 2)?,
            payload: self.payload.get(8..)?.to_vec(),
        })
    }
}

/// When, one frame, and what follows it; `None` at the end or at a half-written record.
fn record(bytes: &[u8]) -> Option<(Duration, &[u8], &[u8])> {
    let field = |at: usize| -> Option<u32> {
        let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_ne_bytes(four))
    };
    let seconds = Duration::from_secs(field(0)?.into());
    let at = seconds + Duration::from_micros(field(4)?.into());
    let length = usize::try_from(field(8)?).ok()?;
    let (frame, next) = bytes.get(RECORD_HEADER..)?.split_at_checked(length)?;
    Some((at, frame, next))
}

/// How long one negotiation took on the wire: from the first message of phase 1 to the third
/// of quick mode. `None` when the packets hold no complete one.
#[must_use]
pub fn negotiation_time(packets: &[IpPacket]) -> Option<Duration> {
    let messages = packets.iter().filter_map(|packet| {
        let payload = packet.udp()?.payload;
        // On port 4500 four zero bytes stand before the ISAKMP header (RFC 3948).
        let header = payload.strip_prefix(&[0; 4]).unwrap_or(&payload);
        Some((packet.at, *header.get(ISAKMP_EXCHANGE)?))
    });
    let messages: Vec<_> = messages.collect();
    let (start, _) = messages
        .iter()
        .find(|(_, exchange)| *exchange == MAIN_MODE)?;
    let quick = messages
        .iter()
        .filter(|(_, exchange)| *exchange == QUICK_MODE);
    let (end, _) = quick.clone().nth(2)?;
    end.checked_sub(*start)
}

fn ipv4(at: Duration, frame: &[u8]) -> Option<IpPacket> {
    if frame.get(12..14)? != ETHERTYPE_IPV4 {
        return None;
    }
    let packet = frame.get(ETHERNET_HEADER..)?;
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let total = usize::from(u16_at(packet, 2)?);
    let address = |at: usize| -> Option<Ipv4Addr> {
        let octets: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(octets.into())
    };
    Some(IpPacket {
        at,
        source: address(12)?,
        destination: address(16)?,
        protocol: *packet.get(9)?,
        payload: packet.get(header..total)?.to_vec(),
    })
}

fn frame(at: Duration, frame: &[u8]) -> Option<Frame> {
    let mac = |from: usize| frame.get(from..from + 6)?.try_into().ok().map(Mac);
    let content = if *frame.get(12..14)? == ETHERTYPE_ARP {
        Content::Arp(arp(frame.get(ETHERNET_HEADER..)?)?)
    } else {
        Content::Ip(ipv4(at, frame)?)
    };
    Some(Frame {
        at,
        from: mac(6)?,
        to: mac(0)?,
        content,
    })
}

/// RFC 826 for Ethernet and IPv4.
fn arp(packet: &[u8]) -> Option<Arp> {
    let address = |at: usize| -> Option<Ipv4Addr> {
        let octets: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(octets.into())
    };
    if packet.get(2..6)? != [0x08, 0x00, 6, 4] {
        return None;
    }
    Some(Arp {
        request: u16_at(packet, 6)? == ARP_REQUEST,
        sender_mac: Mac(packet.get(8..14)?.try_into().ok()?),
        sender: address(14)?,
        target: address(24)?,
    })
}

/// One without extension headers, as RFC 4861 §7.1.2 wants it.
fn advertisement(at: Duration, frame: &[u8]) -> Option<Advertisement> {
    let packet = frame.get(ETHERNET_HEADER..)?;
    let message = packet.get(40..)?;
    let wanted = *frame.get(12..14)? == ETHERTYPE_IPV6
        && *packet.get(6)? == ICMPV6
        && *message.first()? == NEIGHBOUR_ADVERTISEMENT;
    let target: [u8; 16] = message.get(8..24)?.try_into().ok()?;
    wanted.then_some(Advertisement {
        at,
        from: Mac(frame.get(6..12)?.try_into().ok()?),
        target: target.into(),
        solicited: message.get(4)? & SOLICITED != 0,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let two: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_be_bytes(two))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_udp_datagram_is_taken_out_of_its_frame() {
        let mut frame = vec![0; 12];
        frame.extend(ETHERTYPE_IPV4);
        frame.extend([
            0x45, 0, 0, 30, 0, 0, 0, 0, 64, UDP, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
        ]);
        frame.extend([0x01, 0xf4, 0x11, 0x94, 0, 10, 0, 0, 0xab, 0xcd]);
        frame.extend([0; 16]); // Ethernet padding is not payload
        let datagram = ipv4(Duration::ZERO, &frame).unwrap().udp().unwrap();
        assert_eq!(
            (datagram.source_port, datagram.destination_port),
            (500, 4500)
        );
        assert_eq!(datagram.payload, [0xab, 0xcd]);
    }

    #[test]
    fn an_announcement_claims_an_address() {
        let mut bytes = vec![0xff; 6];
        bytes.extend([2, 0, 0, 0, 0, 9]);
        bytes.extend(ETHERTYPE_ARP);
        bytes.extend([0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 192, 0, 2, 1]);
        bytes.extend([0, 0, 0, 0, 0, 0, 192, 0, 2, 1]);
        let frame = frame(Duration::ZERO, &bytes).unwrap();
        assert_eq!(frame.from, "02:00:00:00:00:09".parse().unwrap());
        let Content::Arp(arp) = frame.content else {
            panic!("{frame:?}");
        };
        assert_eq!(arp.sender_mac, frame.from);
        assert!(arp.claims("192.0.2.1".parse().unwrap()));
        let question = Arp {
            target: "192.0.2.7".parse().unwrap(),
            ..arp
        };
        assert!(!question.claims("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn a_neighbour_advertisement_is_told_from_a_question() {
        let mut bytes = vec![0x33; 6];
        bytes.extend([2, 0, 0, 0, 0, 9]);
        bytes.extend(ETHERTYPE_IPV6);
        bytes.extend([0x60, 0, 0, 0, 0, 24, ICMPV6, 255]);
        bytes.extend([0; 32]);
        bytes.extend([NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, 0x20, 0, 0, 0]);
        let target: Ipv6Addr = "2001:db8::1".parse().unwrap();
        bytes.extend(target.octets());
        let found = advertisement(Duration::ZERO, &bytes).unwrap();
        assert_eq!((found.target, found.solicited), (target, false));
        bytes[ETHERNET_HEADER + 40] = 135;
        assert_eq!(advertisement(Duration::ZERO, &bytes), None);
    }

    #[test]
    fn a_torn_record_ends_the_file() {
        assert_eq!(record(&[0; 10]), None);
        let mut bytes = vec![0; 16];
        bytes[8..12].copy_from_slice(&9_u32.to_ne_bytes());
        assert_eq!(record(&bytes), None);
    }
}
