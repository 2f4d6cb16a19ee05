//! Links, addresses and routes over rtnetlink. Everything made here is remembered and can be
//! removed again; what a killed process left behind is found by its route protocol number.
//!
//! # The peer behind its own tunnel
//! A route such as 0.0.0.0/0 into the tunnel also covers the peer's outer address, and our own
//! ESP would be routed into the tunnel for ever. The answer here is a **pinned host route**: a
//! /32 or /128 to the peer through the next hop it had before. Longest prefix wins, whatever
//! the tunnel routes say, for every process and for reverse-path filters alike; policy routing
//! by firewall mark needs the filters' co-operation (`src_valid_mark`) and fails silently
//! without. [`Netlink::pin_peer`] may be called again at any time and follows the underlay.

mod links;
mod macvlan;
mod message;
mod neighbours;
mod pin;
mod via;

use core::net::IpAddr;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressScope;
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol};
use rtnetlink::{Handle, LinkUnspec};
use tokio::runtime;

pub use links::{Link, LinkEvent, LinkEvents, watch_links};
pub use macvlan::Macvlan;
pub use via::ViaRoute;

/// Marks our routes: an unassigned number of the kernel's route protocol space.
pub const ROUTE_PROTOCOL: u8 = 86;

/// The main routing table.
pub const MAIN_TABLE: u32 = 254;

/// Metric of tunnel routes unless the configuration says otherwise.
pub const DEFAULT_METRIC: u32 = 100;

/// A request that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {source}")]
pub struct NetError {
    /// What was tried, such as "add route 10.0.0.0/8".
    pub action: String,
    /// What the kernel said.
    pub source: io::Error,
}

/// Of the link-local block (RFC 3927), outside of what Azure uses for BGP.
const PLACEHOLDER: core::net::Ipv4Addr = core::net::Ipv4Addr::new(169, 254, 86, 86);

/// Settings of a tunnel device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkSettings {
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Packets the kernel queues for us; `None` leaves its default of 500.
    pub tx_queue_len: Option<u32>,
}

/// A route into a tunnel device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Destinations.
    pub prefix: IpNet,
    /// Index of the device.
    pub device: u32,
    /// Lower wins among routes with the same prefix.
    pub metric: u32,
    /// Routing table, normally [`MAIN_TABLE`].
    pub table: u32,
}

/// The way a destination has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// Index of the device.
    pub device: u32,
    /// `None` when the destination is on the link.
    pub gateway: Option<IpAddr>,
}

/// A host route that keeps a peer outside of its own tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// The peer's outer address.
    pub peer: IpAddr,
    /// Where its packets go.
    pub via: NextHop,
}

/// Something that [`Netlink::remove_all`] removes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// A route into a tunnel.
    Route(Route),
    /// An address on a device.
    Address {
        /// Index of the device.
        device: u32,
        /// The address with the length of its prefix.
        address: IpNet,
    },
    /// A host route to a peer.
    Pin(Pin),
    /// A route through a next hop.
    Via(ViaRoute),
    /// A device, by its index.
    Device(u32),
}

/// A connection to rtnetlink.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    made: Mutex<Vec<Made>>,
}

/// True when one of `prefixes`, routed into a tunnel, would swallow packets to the tunnel's
/// own peer.
#[must_use]
pub fn covers_peer(prefixes: &[IpNet], peer: IpAddr) -> bool {
    prefixes.iter().any(|prefix| prefix.contains(&peer))
}

pub(crate) fn refused(action: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> NetError {
    let action = action.into();
    move |error| NetError {
        source: match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other.to_string()),
        },
        action,
    }
}

fn is_errno(error: &NetError, errno: i32) -> bool {
    error.source.raw_os_error() == Some(errno)
}

impl Netlink {
    /// Opens the connection, on a thread of its own that ends when the `Netlink` is dropped.
    ///
    /// The kernel does what is asked within the system call that asks, and under one lock for
    /// all namespaces: while another program takes a namespace or a bridge down, that call may
    /// stand for a tenth of a second and more. Whoever awaits the answer waits, nobody else.
    ///
    /// # Errors
    /// When the netlink socket cannot be opened or the thread cannot be started.
    pub fn connect() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
        let (connection, handle, _) = {
            let _registers_there = runtime.enter();
            rtnetlink::new_connection()?
        };
        thread::Builder::new()
            .name("netlink".to_owned())
            .spawn(move || runtime.block_on(connection))?;
        Ok(Self {
            handle,
            made: Mutex::new(Vec::new()),
        })
    }

    /// Sets MTU, queue length and state of a device.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn configure_link(&self, device: u32, link: LinkSettings) -> Result<(), NetError> {
        self.keep_link_quiet(device).await;
        let mut message = LinkUnspec::new_with_index(device).mtu(link.mtu);
        if let Some(len) = link.tx_queue_len {
            message = message.append_extra_attribute(LinkAttribute::TxQueueLen(len));
        }
        let message = if link.up {
            message.up()
        } else {
            message.down()
        };
        self.handle
            .link()
            .set(message.build())
            .execute()
            .await
            .map_err(refused(format!("set up device {device}")))
    }

    /// Keeps the kernel from giving the device an IPv6 link-local address: its neighbour
    /// discovery and multicast reports would only be refused by the selectors and counted.
    async fn keep_link_quiet(&self, device: u32) {
        let quiet = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let message = LinkUnspec::new_with_index(device)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
                vec![quiet],
            )]))
            .build();
        if let Err(error) = self.handle.link().set(message).execute().await {
            // A kernel without IPv6 has nothing to say either.
            tracing::debug!(device, %error, "IPv6 link-local addresses cannot be turned off");
        }
    }

    /// Adds an address to a device; one that is there already is fine.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn add_address(&self, device: u32, address: IpNet) -> Result<(), NetError> {
        let added = self
            .handle
            .address()
            .add(device, address.addr(), address.prefix_len())
            .execute()
            .await
            .map_err(refused(format!("add address {address} to device {device}")));
        match added {
            Err(error) if !is_errno(&error, libc::EEXIST) => Err(error),
            _ => {
                self.remember(Made::Address { device, address });
                Ok(())
            }
        }
    }

    /// Gives a device an IPv4 address that nothing is ever sent from or to (scope host). The
    /// kernel's reverse-path filter in loose mode (`rp_filter = 2`) drops what comes from a device
    /// without any address and not from where its routes point.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn add_placeholder_address(&self, device: u32) -> Result<(), NetError> {
        let mut request = self.handle.address().add(device, PLACEHOLDER.into(), 32);
        request.message_mut().header.scope = AddressScope::Host;
        let added = request
            .execute()
            .await
            .map_err(refused(format!("add an address to device {device}")));
        match added {
            Err(error) if !is_errno(&error, libc::EEXIST) => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes an address off a device; one that is gone already is fine.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn take_address(&self, device: u32, address: IpNet) -> Result<(), NetError> {
        self.remove(Made::Address { device, address }).await
    }

    /// Adds a route; the same one twice is fine.
    ///
    /// # Errors
    /// [`NetError`]; `EEXIST` when another route has the same prefix, metric and table.
    pub async fn add_route(&self, route: &Route) -> Result<(), NetError> {
        let added = self
            .handle
            .route()
            .add(route.message())
            .execute()
            .await
            .map_err(refused(format!(
                "add route {} metric {}",
                route.prefix, route.metric
            )));
        match added {
            // Asked again, not looked up: a device that was down has lost its routes.
            Err(error)
                if is_errno(&error, libc::EEXIST) && self.made().contains(&Made::Route(*route)) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) => {
                self.remember(Made::Route(*route));
                Ok(())
            }
        }
    }

    /// Removes a route; one that is gone already is fine.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn remove_route(&self, route: &Route) -> Result<(), NetError> {
        self.remove(Made::Route(*route)).await
    }

    /// Everything made and not removed, oldest first.
    #[must_use]
    pub fn made(&self) -> Vec<Made> {
        self.lock().clone()
    }

    /// Forgets what stood on a device that is gone: the kernel has removed it.
    pub fn forget_device(&self, index: u32) {
        self.lock().retain(|made| match made {
            Made::Route(route) => route.device != index,
            Made::Address { device, .. } => *device != index,
            Made::Pin(_) => true,
            Made::Via(route) => route.device != Some(index),
            Made::Device(device) => *device != index,
        });
    }

    /// Removes everything made, newest first, and goes on after a failure.
    ///
    /// # Errors
    /// The first [`NetError`]; what failed stays in [`Netlink::made`].
    pub async fn remove_all(&self) -> Result<(), NetError> {
        let mut first = Ok(());
        for made in self.made().into_iter().rev() {
            let removed = self.remove(made).await;
            first = first.and(removed);
        }
        first
    }

    /// Removes the routes that an earlier process of ours, killed, has left behind (host
    /// routes to peers; what stood on its tunnel devices went with them). Call it before
    /// anything is made. Returns how many there were.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn sweep(&self) -> Result<usize, NetError> {
        let mut swept = 0;
        for ipv6 in [false, true] {
            for message in self.dump(ipv6).await? {
                if message.header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL) {
                    self.delete(message, "remove a left-over route").await?;
                    swept += 1;
                }
            }
        }
        Ok(swept)
    }

    async fn dump(&self, ipv6: bool) -> Result<Vec<RouteMessage>, NetError> {
        let mut message = RouteMessage::default();
        message.header.address_family = if ipv6 {
            AddressFamily::Inet6
        } else {
            AddressFamily::Inet
        };
        self.handle
            .route()
            .get(message)
            .execute()
            .try_collect()
            .await
            .map_err(refused("list routes"))
    }

    async fn remove(&self, made: Made) -> Result<(), NetError> {
        let removed = match made {
            Made::Route(route) => {
                let action = format!("remove route {}", route.prefix);
                self.delete(route.message(), action).await
            }
            Made::Pin(pin) => {
                let action = format!("remove the host route to {}", pin.peer);
                self.delete(pin.message(), action).await
            }
            Made::Via(route) => {
                let action = format!("remove route {}", route.prefix);
                self.delete(route.message(), action).await
            }
            Made::Address { device, address } => self.remove_address(device, address).await,
            Made::Device(device) => self.delete_device(device).await,
        };
        match removed {
            Err(error) if !is_gone(&error) => Err(error),
            _ => {
                self.lock().retain(|other| *other != made);
                Ok(())
            }
        }
    }

    async fn remove_address(&self, device: u32, address: IpNet) -> Result<(), NetError> {
        let action = format!("remove address {address}");
        let mut found = Box::pin(
            self.handle
                .address()
                .get()
                .set_link_index_filter(device)
                .set_address_filter(address.addr())
                .execute(),
        );
        while let Some(message) = found.try_next().await.map_err(refused(&*action))? {
            self.handle
                .address()
                .del(message)
                .execute()
                .await
                .map_err(refused(&*action))?;
        }
        Ok(())
    }

    async fn delete(
        &self,
        message: RouteMessage,
        action: impl Into<String>,
    ) -> Result<(), NetError> {
        self.handle
            .route()
            .del(message)
            .execute()
            .await
            .map_err(refused(action))
    }

    fn remember(&self, made: Made) {
        let mut all = self.lock();
        if !all.contains(&made) {
            all.push(made);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Made>> {
        // A list of plain values is usable after a panic elsewhere.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No such route or address, or its device has gone with everything on it.
fn is_gone(error: &NetError) -> bool {
    [libc::ESRCH, libc::ENODEV, libc::EADDRNOTAVAIL, libc::ENOENT]
        .iter()
        .any(|errno| is_errno(error, *errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_route_covers_every_peer_of_its_family() {
        let all: IpNet = "0.0.0.0/0".parse().unwrap();
        assert!(covers_peer(&[all], "198.51.100.7".parse().unwrap()));
        assert!(!covers_peer(&[all], "2001:db8::1".parse().unwrap()));
        assert!(!covers_peer(
            &["10.0.0.0/8".parse().unwrap()],
            "198.51.100.7".parse().unwrap()
        ));
    }
}
