//! Routes through a next hop: to the partner, and to a gateway while an address is here.

use core::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteScope};

use super::message::builder;
use super::{Made, NetError, Netlink, refused};

/// A route that does not lead into a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViaRoute {
    /// Destinations.
    pub prefix: IpNet,
    /// The next hop; `None` when the destinations are on the link.
    pub gateway: Option<IpAddr>,
    /// Index of the link; `None` leaves it to the way to the next hop. A next hop is taken to be
    /// on the link that is given here, whatever the addresses say.
    pub device: Option<u32>,
    /// Our address in what we send there ourselves. The kernel removes the route with it.
    pub source: Option<IpAddr>,
    /// Lower wins.
    pub metric: u32,
}

impl ViaRoute {
    pub(super) fn message(&self) -> RouteMessage {
        let mut route = builder(self.prefix, self.metric);
        if let Some(device) = self.device {
            route = route.output_interface(device);
        }
        if self.gateway.is_none() && self.prefix.addr().is_ipv4() {
            route = route.scope(RouteScope::Link);
        }
        let mut message = route.build();
        if let Some(gateway) = self.gateway {
            message
                .attributes
                .push(RouteAttribute::Gateway(gateway.into()));
            if self.device.is_some() {
                message.header.flags |= RouteFlags::Onlink;
            }
        }
        if let Some(source) = self.source {
            message
                .attributes
                .push(RouteAttribute::PrefSource(source.into()));
        }
        message
    }
}

impl Netlink {
    /// Adds a route, in the place of one of ours with the same prefix and metric.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn add_via(&self, route: &ViaRoute) -> Result<(), NetError> {
        self.handle
            .route()
            .add(route.message())
            .replace()
            .execute()
            .await
            .map_err(refused(format!("add route {}", route.prefix)))?;
        self.remember(Made::Via(*route));
        Ok(())
    }

    /// Removes a route; one that is gone already is fine.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn remove_via(&self, route: &ViaRoute) -> Result<(), NetError> {
        self.remove(Made::Via(*route)).await
    }
}
