//! What the data plane reads of an inner packet: version, length, traffic class and the fields
//! that traffic selectors look at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipsec_types::Flow;

use crate::counters::DropReason;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

/// IP version of an inner packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IpVersion {
    /// Next header 4 in ESP.
    V4,
    /// Next header 41 in ESP.
    V6,
}

impl IpVersion {
    /// The protocol number that announces such a packet inside ESP (RFC 4303 §2.6).
    #[must_use]
    pub const fn next_header(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 41,
        }
    }

    /// The version that the first nibble names.
    #[must_use]
    pub fn of(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Some(Self::V4),
            6 => Some(Self::V6),
            _ => None,
        }
    }
}

/// The fixed part of an inner IP header, checked against the bytes that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InnerHeader {
    /// 4 or 6.
    pub version: IpVersion,
    /// ToS or traffic class octet.
    pub traffic_class: u8,
    /// Length of the packet in bytes as its header states it; never more than was given.
    pub total_len: usize,
}

impl InnerHeader {
    /// Reads the header of a packet that may be followed by traffic-flow padding
    /// (RFC 4303 §2.7).
    ///
    /// # Errors
    /// [`DropReason::InnerVersion`] for anything but IPv4 and IPv6, [`DropReason::InnerLength`]
    /// when the header or the length it states does not fit into `packet`.
    pub fn parse(packet: &[u8]) -> Result<Self, DropReason> {
        let version = IpVersion::of(packet).ok_or(DropReason::InnerVersion)?;
        Self::read(version, packet).ok_or(DropReason::InnerLength)
    }

    /// [`InnerHeader::parse`] where the version is known; `None` when a length does not fit.
    #[inline(always)]
    pub(crate) fn read(version: IpVersion, packet: &[u8]) -> Option<Self> {
        let (traffic_class, total_len, header_len) = match version {
            IpVersion::V4 => {
                let header: &[u8; IPV4_HEADER] = packet.first_chunk()?;
                let header_len = usize::from(header[0] & 0xf) * 4;
                let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
                (header[1], total_len, header_len)
            }
            IpVersion::V6 => {
                let header: &[u8; IPV6_HEADER] = packet.first_chunk()?;
                let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
                let traffic_class = header[0] << 4 | header[1] >> 4;
                (traffic_class, IPV6_HEADER + payload, IPV6_HEADER)
            }
        };
        let fits =
            header_len >= IPV4_HEADER && total_len >= header_len && total_len <= packet.len();
        fits.then_some(Self {
            version,
            traffic_class,
            total_len,
        })
    }
}

/// Whether this is a TCP segment that only acknowledges: no data, no flag but ACK (RFC 9293
/// §3.1). False also where that is not seen at once, such as behind IPv6 extension headers.
pub(crate) fn is_bare_ack(packet: &[u8]) -> bool {
    const ACK: u8 = 0x10;
    /// All but ECE and CWR, which come and go with ECN.
    const FLAGS: u8 = 0x3f;
    let protocol = match IpVersion::of(packet) {
        Some(IpVersion::V4) => packet.get(9),
        Some(IpVersion::V6) => packet.get(6),
        None => None,
    };
    let header_len = match packet.first() {
        Some(first) if first >> 4 == 4 => usize::from(first & 0xf) * 4,
        _ => IPV6_HEADER,
    };
    let tcp = packet.get(header_len..).unwrap_or_default();
    let (Some(offset), Some(flags)) = (tcp.get(12), tcp.get(13)) else {
        return false;
    };
    protocol == Some(&TCP) && usize::from(offset >> 4) * 4 == tcp.len() && flags & FLAGS == ACK
}

/// Reads what selectors look at. `packet` may be a super-packet whose length field is not
/// filled in: only headers that are there are read.
///
/// A fragment other than the first shows no ports. IPv6 extension headers are skipped up to
/// the upper layer; ports stay `None` when the chain is cut, too long or ends in ESP.
///
/// # Errors
/// [`DropReason::InnerVersion`] for anything but IPv4 and IPv6, [`DropReason::InnerLength`]
/// when the fixed header is truncated.
pub fn flow_of(packet: &[u8]) -> Result<Flow, DropReason> {
    match IpVersion::of(packet).ok_or(DropReason::InnerVersion)? {
        IpVersion::V4 => flow_of_v4(packet),
        IpVersion::V6 => flow_of_v6(packet),
    }
}

fn flow_of_v4(packet: &[u8]) -> Result<Flow, DropReason> {
    let header: &[u8; IPV4_HEADER] = packet.first_chunk().ok_or(DropReason::InnerLength)?;
    let header_len = usize::from(header[0] & 0xf) * 4;
    if header_len < IPV4_HEADER {
        return Err(DropReason::InnerLength);
    }
    let protocol = header[9];
    let fragment_offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    let ports = if fragment_offset == 0 {
        ports_at(packet, header_len, protocol)
    } else {
        None
    };
    let [
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        s0,
        s1,
        s2,
        s3,
        d0,
        d1,
        d2,
        d3,
    ] = *header;
    Ok(flow(
        Ipv4Addr::new(s0, s1, s2, s3).into(),
        Ipv4Addr::new(d0, d1, d2, d3).into(),
        protocol,
        ports,
    ))
}

fn flow_of_v6(packet: &[u8]) -> Result<Flow, DropReason> {
    let header: &[u8; IPV6_HEADER] = packet.first_chunk().ok_or(DropReason::InnerLength)?;
    let (_, addresses) = header.split_at(8);
    let (Some(source), Some(destination)) =
        (addresses.first_chunk::<16>(), addresses.last_chunk::<16>())
    else {
        return Err(DropReason::InnerLength);
    };
    let (protocol, ports) = upper_layer_v6(packet, header[6]);
    Ok(flow(
        Ipv6Addr::from(*source).into(),
        Ipv6Addr::from(*destination).into(),
        protocol,
        ports,
    ))
}

fn flow(source: IpAddr, destination: IpAddr, protocol: u8, ports: Option<(u16, u16)>) -> Flow {
    Flow {
        source,
        destination,
        protocol,
        source_port: ports.map(|(source, _)| source),
        destination_port: ports.map(|(_, destination)| destination),
    }
}

/// Whether a packet is a fragment, the first or a later one (RFC 791 §3.1, RFC 8200 §4.5; in IPv6
/// only where the fragment header comes first).
pub(crate) fn is_fragment(packet: &[u8]) -> bool {
    /// More fragments, and the offset.
    const V4_FIELDS: u16 = 0x3fff;
    const V6_HEADER: u8 = 44;
    let (Some(version), Some(header)) = (IpVersion::of(packet), packet.first_chunk::<8>()) else {
        return false;
    };
    match version {
        IpVersion::V4 => u16::from_be_bytes([header[6], header[7]]) & V4_FIELDS != 0,
        IpVersion::V6 => header[6] == V6_HEADER,
    }
}

/// Walks the extension headers (RFC 8200 §4). A chain that is cut leaves the protocol at the
/// last header it named, without ports, so that only a selector for any protocol matches.
fn upper_layer_v6(packet: &[u8], first: u8) -> (u8, Option<(u16, u16)>) {
    /// More headers than any sane packet has (RFC 8883 lets nodes limit them).
    const MAX_EXTENSION_HEADERS: usize = 8;
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION_OPTIONS: u8 = 60;
    const MOBILITY: u8 = 135;
    const HIP: u8 = 139;
    const SHIM6: u8 = 140;

    let (mut protocol, mut at) = (first, IPV6_HEADER);
    for _ in 0..MAX_EXTENSION_HEADERS {
        let fields = packet.get(at..).and_then(<[u8]>::first_chunk::<4>);
        let next = match (protocol, fields) {
            (HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6, Some(f)) => {
                at += (usize::from(f[1]) + 1) * 8;
                f[0]
            }
            (AUTHENTICATION, Some(f)) => {
                at += (usize::from(f[1]) + 2) * 4;
                f[0]
            }
            (FRAGMENT, Some(f)) => {
                at += 8;
                if u16::from_be_bytes([f[2], f[3]]) & 0xfff8 != 0 {
                    return (f[0], None);
                }
                f[0]
            }
            _ => return (protocol, ports_at(packet, at, protocol)),
        };
        protocol = next;
    }
    (protocol, None)
}

/// The ports of an upper-layer header, for protocols that begin with two of them.
fn ports_at(packet: &[u8], at: usize, protocol: u8) -> Option<(u16, u16)> {
    if !matches!(protocol, TCP | UDP | DCCP | SCTP | UDP_LITE) {
        return None;
    }
    let [s0, s1, d0, d1] = *packet.get(at..)?.first_chunk::<4>()?;
    Some((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])))
}

#[cfg(test)]
mod tests;
