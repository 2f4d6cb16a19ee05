//! Route messages: what we write into them and read out of them.

use core::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType, RouteVia,
};

use super::{NextHop, Pin, ROUTE_PROTOCOL, Route};

impl Route {
    pub(super) fn message(&self) -> RouteMessage {
        let mut builder = builder(self.prefix, self.metric)
            .output_interface(self.device)
            .table_id(self.table);
        if self.prefix.addr().is_ipv4() {
            builder = builder.scope(RouteScope::Link);
        }
        builder.build()
    }
}

impl Pin {
    pub(super) fn message(&self) -> RouteMessage {
        let builder = builder(IpNet::from(self.peer), 0).output_interface(self.via.device);
        let mut message = match self.via.gateway {
            None if self.peer.is_ipv4() => builder.scope(RouteScope::Link).build(),
            _ => builder.build(),
        };
        if let Some(gateway) = self.via.gateway {
            message.attributes.push(match (self.peer, gateway) {
                (IpAddr::V4(_), IpAddr::V6(via)) => RouteAttribute::Via(RouteVia::Inet6(via)),
                _ => RouteAttribute::Gateway(gateway.into()),
            });
        }
        message
    }
}

/// A route message to `prefix` with our protocol number. Metric 0 is left out: for IPv6 the
/// kernel then takes its default.
pub(super) fn builder(prefix: IpNet, metric: u32) -> RouteMessageBuilder<IpAddr> {
    let mut builder =
        RouteMessageBuilder::<IpAddr>::new().protocol(RouteProtocol::Other(ROUTE_PROTOCOL));
    let message = builder.get_mut();
    message.header.address_family = match prefix {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    message.header.destination_prefix_length = prefix.prefix_len();
    message
        .attributes
        .push(RouteAttribute::Destination(prefix.network().into()));
    if metric == 0 {
        builder
    } else {
        builder.priority(metric)
    }
}

pub(super) fn next_hop(message: &RouteMessage) -> Option<NextHop> {
    if !matches!(message.header.kind, RouteType::Unicast) {
        return None;
    }
    let device = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            RouteAttribute::MultiPath(hops) => hops.first().map(|hop| hop.interface_index),
            _ => None,
        })?;
    let gateway = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Gateway(RouteAddress::Inet6(address))
        | RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::V6(*address)),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some(IpAddr::V4(*address)),
        _ => None,
    };
    let gateway = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::MultiPath(hops) => hops
                .first()
                .and_then(|hop| hop.attributes.iter().find_map(gateway)),
            other => gateway(other),
        });
    Some(NextHop { device, gateway })
}

pub(super) fn table_of(message: &RouteMessage) -> u32 {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        })
        .unwrap_or_else(|| u32::from(message.header.table))
}

pub(super) fn priority_of(message: &RouteMessage) -> u32 {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Priority(metric) => Some(*metric),
            _ => None,
        })
        .unwrap_or(0)
}

pub(super) fn destination_of(message: &RouteMessage) -> Option<IpNet> {
    let unspecified = match message.header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
            _ => None,
        })
        .unwrap_or(unspecified);
    IpNet::new(address, message.header.destination_prefix_length).ok()
}
