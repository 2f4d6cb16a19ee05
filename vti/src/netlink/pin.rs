//! Keeping a peer outside of its own tunnel.

use core::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::route::{RouteProtocol, RouteType};

use super::message::{builder, destination_of, next_hop, priority_of, table_of};
use super::{MAIN_TABLE, Made, NetError, Netlink, NextHop, Pin, ROUTE_PROTOCOL, refused};

impl Netlink {
    /// The way that packets to `destination` take now, policy rules included. `None` when
    /// there is none.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn lookup(&self, destination: IpAddr) -> Result<Option<NextHop>, NetError> {
        let message = builder(IpNet::from(destination), 0).build();
        let mut answers = Box::pin(self.handle.route().get(message).execute());
        match answers.try_next().await {
            Ok(answer) => Ok(answer.as_ref().and_then(next_hop)),
            Err(rtnetlink::Error::NetlinkError(message))
                if matches!(
                    message.to_io().raw_os_error(),
                    Some(libc::ENETUNREACH | libc::EHOSTUNREACH)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(refused(format!("look up the way to {destination}"))(error)),
        }
    }

    /// Keeps `peer` outside of our tunnels: adds, or corrects, a host route through the way it
    /// has without `our_devices`. Call it before tunnel routes that cover the peer, and again
    /// whenever the underlay may have changed: a pin that somebody has removed is made again.
    /// `None` when there is nothing to pin: the peer cannot be reached at all, stands on this
    /// very machine, or has a host route already that is not ours (which stays untouched).
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn pin_peer(
        &self,
        peer: IpAddr,
        our_devices: &[u32],
    ) -> Result<Option<Pin>, NetError> {
        let pinned = self.made().into_iter().find_map(|made| match made {
            Made::Pin(pin) if pin.peer == peer => Some(pin),
            _ => None,
        });
        if self.has_foreign_host_route(peer).await? {
            return Ok(None);
        }
        // The kernel's own answer honours policy rules, but with our pin or our tunnel in
        // place it would only repeat ourselves.
        let direct = match pinned {
            Some(_) => None,
            None => self
                .lookup(peer)
                .await?
                .filter(|hop| !our_devices.contains(&hop.device)),
        };
        let via = match direct {
            Some(hop) => Some(hop),
            None => self.underlay(peer, our_devices).await?,
        };
        let Some(pin) = via.map(|via| Pin { peer, via }) else {
            return Ok(None);
        };
        if let Some(stale) = pinned.filter(|pinned| *pinned != pin) {
            self.remove(Made::Pin(stale)).await?;
        }
        self.handle
            .route()
            .add(pin.message())
            .replace()
            .execute()
            .await
            .map_err(refused(format!("pin a host route to peer {peer}")))?;
        if pinned != Some(pin) {
            self.remember(Made::Pin(pin));
        }
        Ok(Some(pin))
    }

    /// Removes the host route to `peer`, if there is one.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn unpin_peer(&self, peer: IpAddr) -> Result<(), NetError> {
        for made in self.made() {
            if matches!(made, Made::Pin(pin) if pin.peer == peer) {
                self.remove(made).await?;
            }
        }
        Ok(())
    }

    /// True when the administrator has a host route to `peer`.
    async fn has_foreign_host_route(&self, peer: IpAddr) -> Result<bool, NetError> {
        let host = IpNet::from(peer);
        Ok(self.dump(peer.is_ipv6()).await?.iter().any(|message| {
            message.header.protocol != RouteProtocol::Other(ROUTE_PROTOCOL)
                && table_of(message) == MAIN_TABLE
                && destination_of(message) == Some(host)
        }))
    }

    /// The best way to `peer` in the main table among routes that are not ours.
    async fn underlay(
        &self,
        peer: IpAddr,
        our_devices: &[u32],
    ) -> Result<Option<NextHop>, NetError> {
        let mut best: Option<((u8, core::cmp::Reverse<u32>), NextHop)> = None;
        for message in self.dump(peer.is_ipv6()).await? {
            let ours = message.header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL);
            let unicast = message.header.kind == RouteType::Unicast;
            if ours || !unicast || table_of(&message) != MAIN_TABLE {
                continue;
            }
            let covers = destination_of(&message).is_some_and(|prefix| prefix.contains(&peer));
            let Some(hop) = next_hop(&message).filter(|_| covers) else {
                continue;
            };
            let metric = priority_of(&message);
            let rank = (
                message.header.destination_prefix_length,
                core::cmp::Reverse(metric),
            );
            let better = best.as_ref().is_none_or(|(other, _)| rank > *other);
            if better && !our_devices.contains(&hop.device) {
                best = Some((rank, hop));
            }
        }
        Ok(best.map(|(_, hop)| hop))
    }
}
