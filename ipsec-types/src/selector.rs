//! Traffic selectors: which inner packets an ESP SA may carry (RFC 4301 §4.4.1).

use core::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// One side of a phase-2 identity: a prefix, and optionally a protocol and a port
/// (RFC 2407 §4.6.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TrafficSelector {
    /// The addresses; host bits are always zero.
    net: IpNet,
    /// IP protocol number; 0 is any.
    protocol: u8,
    /// TCP or UDP port; 0 is any. Meaningful only with a protocol that has ports.
    port: u16,
}

impl TrafficSelector {
    /// Any protocol and port within `net`; host bits of `net` are cleared.
    #[must_use]
    pub fn net(net: IpNet) -> Self {
        Self::new(net, 0, 0)
    }

    /// A prefix narrowed to an IP protocol (0 = any) and a port (0 = any).
    #[must_use]
    pub fn new(net: IpNet, protocol: u8, port: u16) -> Self {
        Self {
            net: net.trunc(),
            protocol,
            port,
        }
    }

    /// The prefix.
    #[must_use]
    pub fn prefix(&self) -> IpNet {
        self.net
    }

    /// IP protocol number, 0 for any.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Port, 0 for any.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// True when an endpoint of a packet with this address, protocol and port is inside.
    /// `port` is `None` when the packet does not show one (a later fragment, ICMP): a
    /// selector that names a port then does not match (RFC 4301 §7.2 without OPAQUE).
    #[must_use]
    pub fn contains(&self, address: IpAddr, protocol: u8, port: Option<u16>) -> bool {
        self.net.contains(&address)
            && (self.protocol == 0 || self.protocol == protocol)
            && (self.port == 0 || port == Some(self.port))
    }

    /// True when some packet endpoint is inside both selectors.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        (self.net.contains(&other.net) || other.net.contains(&self.net))
            && (self.protocol == 0 || other.protocol == 0 || self.protocol == other.protocol)
            && (self.port == 0 || other.port == 0 || self.port == other.port)
    }

    /// True when every packet endpoint inside `other` is inside `self` too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.net.contains(&other.net)
            && (self.protocol == 0 || self.protocol == other.protocol)
            && (self.port == 0 || self.port == other.port)
    }
}

impl fmt::Debug for TrafficSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `10.0.0.0/8`, or `10.0.0.0/8[6/443]` with protocol and port.
impl fmt::Display for TrafficSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.net)?;
        match (self.protocol, self.port) {
            (0, 0) => Ok(()),
            (protocol, 0) => write!(f, "[{protocol}]"),
            (protocol, port) => write!(f, "[{protocol}/{port}]"),
        }
    }
}

/// What one phase 2 protects: our side and the peer's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SelectorPair {
    /// Addresses behind us.
    pub local: TrafficSelector,
    /// Addresses behind the peer.
    pub remote: TrafficSelector,
}

impl SelectorPair {
    /// True when an outbound packet (source behind us) may use this SA.
    #[must_use]
    pub fn permits_outbound(&self, flow: &Flow) -> bool {
        self.local
            .contains(flow.source, flow.protocol, flow.source_port)
            && self
                .remote
                .contains(flow.destination, flow.protocol, flow.destination_port)
    }

    /// True when an inbound packet (source behind the peer) may have come out of this SA.
    #[must_use]
    pub fn permits_inbound(&self, flow: &Flow) -> bool {
        self.remote
            .contains(flow.source, flow.protocol, flow.source_port)
            && self
                .local
                .contains(flow.destination, flow.protocol, flow.destination_port)
    }

    /// The same pair as the peer writes it.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            local: self.remote,
            remote: self.local,
        }
    }
}

impl fmt::Display for SelectorPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <=> {}", self.local, self.remote)
    }
}

/// The fields of an inner packet that selectors look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Inner source address.
    pub source: IpAddr,
    /// Inner destination address.
    pub destination: IpAddr,
    /// Upper-layer protocol number, after IPv6 extension headers.
    pub protocol: u8,
    /// `None` when the packet shows no ports.
    pub source_port: Option<u16>,
    /// `None` when the packet shows no ports.
    pub destination_port: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(net: &str, protocol: u8, port: u16) -> TrafficSelector {
        TrafficSelector::new(net.parse().unwrap(), protocol, port)
    }

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!(selector("10.1.2.3/8", 0, 0), selector("10.0.0.0/8", 0, 0));
    }

    #[test]
    fn contains_checks_prefix_protocol_and_port() {
        let https = selector("10.0.0.0/8", 6, 443);
        let inside: IpAddr = "10.9.9.9".parse().unwrap();
        assert!(https.contains(inside, 6, Some(443)));
        assert!(!https.contains(inside, 6, Some(80)));
        assert!(!https.contains(inside, 17, Some(443)));
        assert!(!https.contains(inside, 6, None));
        assert!(!https.contains("11.0.0.1".parse().unwrap(), 6, Some(443)));
    }

    #[test]
    fn covers_is_not_symmetric() {
        let wide = selector("10.0.0.0/8", 0, 0);
        let narrow = selector("10.1.0.0/16", 6, 0);
        assert!(wide.covers(&narrow) && !narrow.covers(&wide));
        assert!(wide.overlaps(&narrow) && narrow.overlaps(&wide));
        assert!(!narrow.overlaps(&selector("10.1.0.0/16", 17, 0)));
    }

    #[test]
    fn ipv4_and_ipv6_never_meet() {
        assert!(!selector("0.0.0.0/0", 0, 0).overlaps(&selector("::/0", 0, 0)));
    }
}
