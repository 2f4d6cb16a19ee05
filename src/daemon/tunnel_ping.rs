//! An echo request through a tunnel, for a peer that speaks no DPD. Nobody waits for the
//! answer here: the data plane notices that something has come out of the tunnel.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;

use ipsec_types::ConnectionId;
use socket2::{Domain, Protocol, Socket, Type};
use tracing::{debug, warn};

use super::gateway::Gateway;
use crate::config::{ResolvedConnection, TunnelPing};

/// What the data of the request says, for whoever sees it in a capture.
const DATA: &[u8] = b"vipsec: is the tunnel alive?";
/// Echo request (RFC 792); for ICMPv6 it is 128 (RFC 4443 §4.1).
const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;

/// Pings, and what was said about them.
#[derive(Debug, Default)]
pub(super) struct TunnelPings {
    sequence: u16,
    /// Connections whose trouble the log knows.
    told: HashSet<ConnectionId>,
}

impl TunnelPings {
    fn probe(&mut self, connection: &ResolvedConnection) {
        let name = connection.name();
        let Some(ping) = connection.ping else {
            if self.told.insert(connection.id()) {
                warn!(
                    connection = name,
                    "the peer does not announce dead peer detection and no dpd.ping is \
                     configured: nobody will notice when it is gone before the SAs expire"
                );
            }
            return;
        };
        self.sequence = self.sequence.wrapping_add(1);
        match send(&connection.vti.device, ping, self.sequence) {
            Ok(()) => {
                self.told.remove(&connection.id());
                debug!(connection = name, target = %ping.target, "pinged through the tunnel");
            }
            Err(error) => {
                if self.told.insert(connection.id()) {
                    warn!(connection = name, target = %ping.target, source = %ping.source, %error,
                        "cannot ping through the tunnel: is dpd.ping_from (or the first of \
                         vti.addresses) an address of this machine?");
                }
            }
        }
    }
}

impl Gateway {
    /// The peer of a connection is silent, and has no DPD.
    pub(super) fn ping_through_tunnel(&mut self, silent: ConnectionId) {
        let connections = &self.config.connections;
        if let Some(connection) = connections.iter().find(|known| known.id() == silent) {
            self.tunnel_pings.probe(connection);
        }
    }
}

/// A socket for each ping: the device may be another one by the next time, and no answers
/// pile up in it.
fn send(device: &str, ping: TunnelPing, sequence: u16) -> io::Result<()> {
    let (domain, protocol) = match ping.target {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(protocol))?;
    socket.bind_device(Some(device.as_bytes()))?;
    socket.bind(&SocketAddr::new(ping.source, 0).into())?;
    let identifier = u16::try_from(socket.as_raw_fd() & 0xffff).unwrap_or(0);
    let request = echo_request(ping.target, identifier, sequence);
    socket.send_to(&request, &SocketAddr::new(ping.target, 0).into())?;
    Ok(())
}

/// RFC 792, RFC 4443 §4.1. The kernel fills in the checksum of ICMPv6, not of ICMP.
fn echo_request(target: IpAddr, identifier: u16, sequence: u16) -> Vec<u8> {
    let kind = match target {
        IpAddr::V4(_) => ECHO_REQUEST,
        IpAddr::V6(_) => ECHO_REQUEST_V6,
    };
    let [id0, id1] = identifier.to_be_bytes();
    let [seq0, seq1] = sequence.to_be_bytes();
    let with_checksum = |[sum0, sum1]: [u8; 2]| -> Vec<u8> {
        let header = [kind, 0, sum0, sum1, id0, id1, seq0, seq1];
        header.into_iter().chain(DATA.iter().copied()).collect()
    };
    let bare = with_checksum([0, 0]);
    if target.is_ipv6() {
        return bare;
    }
    with_checksum(internet_checksum(&bare).to_be_bytes())
}

/// RFC 1071.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| {
            let high = pair.first().copied().unwrap_or(0);
            let low = pair.get(1).copied().unwrap_or(0);
            u32::from(u16::from_be_bytes([high, low]))
        })
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_an_echo_request_makes_it_sum_to_zero() {
        let request = echo_request("192.0.2.1".parse().unwrap(), 0x1234, 7);
        assert_eq!(request[..2], [8, 0]);
        assert_eq!(request[4..8], [0x12, 0x34, 0, 7]);
        assert_ne!(request[2..4], [0, 0]);
        assert_eq!(internet_checksum(&request), 0);
        // RFC 1071 §3's example.
        let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(internet_checksum(&example), !0xddf2);
        assert_eq!(internet_checksum(&[0xff]), 0x00ff);
    }

    #[test]
    fn icmpv6_leaves_the_checksum_to_the_kernel() {
        let request = echo_request("2001:db8::1".parse().unwrap(), 1, 2);
        assert_eq!(request[..4], [128, 0, 0, 0]);
    }
}
