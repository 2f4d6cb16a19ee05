//! The standby as a router: what reaches it for the tunnels goes to the partner.

use std::net::IpAddr;

use ipnet::IpNet;
use tracing::warn;

use super::{Pair, watch};
use crate::config::Side;
use crate::daemon::gateway::Gateway;
use crate::daemon::tunnels::Tunnels;

impl Pair {
    /// The kernel drops the routes of a link that goes down; it is back.
    pub(super) fn mend_routes(&self, gateway: &Gateway, tunnels: &Tunnels) {
        let addresses = self.state.addresses.clone();
        let ways = (self.not_active().is_none() && !gateway.silent).then(|| tunnels.ways());
        let (partner, prefixes) = (self.partner_next_hop(), forwarded(gateway));
        tokio::task::spawn_local(async move {
            if let Some(ways) = ways
                && let Err(error) = addresses.take(ways).await
            {
                warn!(error, "not everything that went with the link is back");
            }
            if let Some(partner) = partner {
                addresses.forward_to_partner(partner, &prefixes).await;
            }
        });
    }

    /// What reaches this node while it is standby goes to the partner, and the VTIs can give
    /// packets back to the kernel.
    pub(in crate::daemon) async fn route_to_partner(&self, gateway: &Gateway) {
        for connection in &gateway.config.connections {
            watch::open_vti(&connection.vti.device);
        }
        let prefixes = forwarded(gateway);
        if let Some(partner) = self.partner_next_hop() {
            let addresses = &self.state.addresses;
            addresses.forward_to_partner(partner, &prefixes).await;
        }
    }

    /// The partner's address on the LAN if a path runs there, else on the last path: hosts'
    /// packets arrive there from where the kernel expects them.
    fn partner_next_hop(&self) -> Option<IpAddr> {
        let config = &self.state.config;
        let on_lan = |peer: IpAddr| {
            let lans = config
                .addresses
                .iter()
                .filter(|spec| spec.side == Side::Lan);
            lans.into_iter()
                .any(|spec| spec.address.trunc().contains(&peer))
        };
        let mut paths = config.paths.iter().map(|path| path.peer.ip());
        let lan = paths.clone().find(|peer| on_lan(*peer));
        lan.or_else(|| paths.next_back())
    }
}

/// What a standby sends on to its partner, with the metric that the active node's VTI has.
fn forwarded(gateway: &Gateway) -> Vec<(IpNet, u32)> {
    let mut prefixes = Vec::new();
    for connection in &gateway.config.connections {
        let routes = connection.vti.routes.iter();
        prefixes.extend(routes.map(|prefix| (*prefix, connection.vti.metric)));
    }
    prefixes
}
