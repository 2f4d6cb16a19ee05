//! A private link: a pair of devices, one end in a network namespace of its own. It goes with
//! that namespace, however the process ends.

use core::net::{IpAddr, Ipv4Addr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::netlink::{NetError, refused};
use crate::sys;

/// A private link with its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrivateLink {
    /// Index of the end that was moved out.
    pub outer: u32,
    /// Link address of the end inside.
    pub inner_mac: [u8; 6],
}

/// An Ethernet device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EthernetDevice {
    /// Its index.
    pub index: u32,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// Name of the outer end; a second one is called `esp-relay1`.
const OUTER: &str = "esp-relay";
const INNER: &str = "inner";

/// The longest packet a pair of devices takes.
const MTU: u32 = 65_535;

/// Makes the link in the current network namespace, which must be a private one, and moves its
/// outer end to the namespace `to`. Inside, `local` is an own address, every other address is
/// on the link, and no address is asked for. Trains that leave are cut and summed up by the
/// kernel; trains that come are put together.
///
/// # Errors
/// [`NetError`].
pub fn private_link(local: Ipv4Addr, to: BorrowedFd<'_>) -> Result<PrivateLink, NetError> {
    with_netlink(async |handle| {
        let pair = LinkVeth::new(INNER, OUTER).build();
        let link = handle.link();
        link.add(pair)
            .execute()
            .await
            .map_err(refused("make a private link"))?;
        let outer = named(&handle, OUTER).await?;
        // The name with a number counts only if the plain one is taken there.
        let moved = LinkUnspec::new_with_index(outer.header.index)
            .name(format!("{OUTER}%d"))
            .setns_by_fd(to.as_raw_fd());
        link.set(moved.build())
            .execute()
            .await
            .map_err(refused("move an end of a private link"))?;
        let inner = named(&handle, INNER).await?;
        set_feature(INNER, sys::ETHTOOL_STXCSUM, false)?;
        set_feature(INNER, sys::ETHTOOL_SSG, false)?;
        set_feature(INNER, sys::ETHTOOL_SGRO, true)?;
        let index = inner.header.index;
        let up = LinkUnspec::new_with_index(index).mtu(MTU).arp(false).up();
        link.set(up.build())
            .execute()
            .await
            .map_err(refused("set up a private link"))?;
        handle
            .address()
            .add(index, IpAddr::V4(local), 32)
            .execute()
            .await
            .map_err(refused("give a private link its address"))?;
        handle
            .route()
            .add(default_route(index))
            .execute()
            .await
            .map_err(refused("give a private link its route"))?;
        describe(&inner)
    })
}

/// Sets up the outer end, in the namespace it was moved to.
///
/// # Errors
/// [`NetError`].
pub fn raise_outer_end(outer: u32) -> Result<(), NetError> {
    let name = with_netlink(async |handle| {
        // IPv6 would only talk to itself there.
        let quiet = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let quiet = LinkUnspec::new_with_index(outer).append_extra_attribute(
            LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![quiet])]),
        );
        if let Err(error) = handle.link().set(quiet.build()).execute().await {
            tracing::debug!(outer, %error, "IPv6 link-local addresses cannot be turned off");
        }
        let up = LinkUnspec::new_with_index(outer).mtu(MTU).arp(false).up();
        handle
            .link()
            .set(up.build())
            .execute()
            .await
            .map_err(refused("set up the outer end of a private link"))?;
        let found = handle.link().get().match_index(outer).execute();
        let found = found.try_collect::<Vec<_>>().await;
        let found = found.map_err(refused("find the outer end of a private link"))?;
        let name = found.iter().flat_map(|link| &link.attributes);
        let mut name = name.filter_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        });
        Ok(name.next_back().unwrap_or_default())
    })?;
    // Without it, the kernel would not put trains together at the other end.
    set_feature(&name, sys::ETHTOOL_STSO, false)?;
    allow_forwarding(&name)
}

/// Route lookups for what comes out of the link are lookups for forwarding.
fn allow_forwarding(name: &str) -> Result<(), NetError> {
    let path = format!("/proc/sys/net/ipv4/conf/{name}/forwarding");
    let is_on = std::fs::read_to_string(&path).is_ok_and(|value| value.trim() == "1");
    if is_on {
        return Ok(());
    }
    std::fs::write(&path, "1").map_err(|source| NetError {
        action: format!("write 1 to {path}"),
        source,
    })
}

/// The Ethernet devices of the current network namespace that receive for themselves, and not
/// for a bridge or bond.
///
/// # Errors
/// [`NetError`].
pub fn ethernet_devices() -> Result<Vec<EthernetDevice>, NetError> {
    let links = with_netlink(async |handle| {
        let links = handle.link().get().execute().try_collect::<Vec<_>>().await;
        links.map_err(refused("list the network devices"))
    })?;
    let device = |link: &LinkMessage| {
        let mut mtu = None;
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::Controller(_) => return None,
                LinkAttribute::Mtu(value) => mtu = Some(*value),
                _ => {}
            }
        }
        let is_ethernet = link.header.link_layer_type == LinkLayerType::Ether;
        let index = link.header.index;
        mtu.filter(|_| is_ethernet)
            .map(|mtu| EthernetDevice { index, mtu })
    };
    Ok(links.iter().filter_map(device).collect())
}

/// Does `work` with a netlink connection of the current network namespace.
fn with_netlink<T>(work: impl AsyncFnOnce(Handle) -> Result<T, NetError>) -> Result<T, NetError> {
    let failed = |source| NetError {
        action: "open a netlink socket".to_owned(),
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
        let driver = tokio::spawn(connection);
        let result = work(handle).await;
        driver.abort();
        result
    })
}

async fn named(handle: &Handle, name: &str) -> Result<LinkMessage, NetError> {
    let found = handle.link().get().match_name(name.to_owned()).execute();
    let found = found.try_collect::<Vec<_>>().await;
    found
        .map_err(refused(format!("find the device {name}")))?
        .pop()
        .ok_or_else(|| NetError {
            action: format!("find the device {name}"),
            source: io::ErrorKind::NotFound.into(),
        })
}

fn default_route(device: u32) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .output_interface(device)
        .scope(RouteScope::Link)
        .build()
}

fn describe(inner: &LinkMessage) -> Result<PrivateLink, NetError> {
    let (mut outer, mut mac) = (None, None);
    for attribute in &inner.attributes {
        match attribute {
            LinkAttribute::Link(index) => outer = Some(*index),
            LinkAttribute::Address(address) => mac = address.as_slice().try_into().ok(),
            _ => {}
        }
    }
    outer
        .zip(mac)
        .map(|(outer, inner_mac)| PrivateLink { outer, inner_mac })
        .ok_or_else(|| NetError {
            action: "find the other end of a private link".to_owned(),
            source: io::ErrorKind::InvalidData.into(),
        })
}

fn set_feature(device: &str, command: u32, on: bool) -> Result<(), NetError> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    );
    socket
        .map_err(io::Error::from)
        .and_then(|socket| sys::set_feature(socket.as_fd(), device, command, on))
        .map_err(|source| NetError {
            action: format!("set an offload of {device}"),
            source,
        })
}
