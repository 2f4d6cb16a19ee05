//! The virtual addresses, and everything in the kernel that comes and goes with them.
//!
//! They sit on a TUN device of the daemon's own that nobody reads. It is not persistent: when
//! the process dies, in whatever way, the kernel takes the device away, and with it the
//! addresses and the routes that have them as source. The real links answer for them through
//! [`super::link`], never by the kernel's own ARP.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ipnet::IpNet;
use tokio::sync::{Mutex, MutexGuard};
use tracing::{error, info, warn};
use vti::{LinkSettings, NetError, Netlink, Tun, TunConfig, TunError, TunQueue, ViaRoute};

use super::virtual_mac::VirtualMacs;
use crate::config::VirtualAddress;
use crate::daemon::tunnels::Ways;

/// Name of the device that carries the virtual addresses.
pub(super) const DEVICE: &str = "vipsec-vip";

/// Metric of the default route of an address with a gateway: before what DHCP installs.
const GATEWAY_METRIC: u32 = 50;
/// Metric of the way onto the link of an address whose link has no address of its own.
const ON_LINK_METRIC: u32 = 4000;

/// Why the device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The device itself.
    #[error(transparent)]
    Device(#[from] TunError),
    /// Netlink.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A configured link is not there.
    #[error("[[pair.address]] {address}: there is no link called \"{link}\" (ip link)")]
    NoLink {
        /// Whose.
        address: IpNet,
        /// The configured name.
        link: String,
    },
}

/// The virtual addresses on their device. Cheap to share: steps of a change of role run as
/// tasks, one after the other.
#[derive(Clone)]
pub(super) struct Addresses(Arc<Inner>);

struct Inner {
    net: Arc<Netlink>,
    device: u32,
    /// Keeps the device alive.
    _queues: Vec<TunQueue>,
    specs: Vec<VirtualAddress>,
    links: BTreeMap<String, u32>,
    macs: VirtualMacs,
    /// One change at a time.
    turn: Mutex<()>,
    /// Everything was put in place, and nothing was taken away since.
    held: AtomicBool,
    /// The routes to the partner.
    forwarded: Mutex<Vec<ViaRoute>>,
}

impl Addresses {
    /// Makes the device, without any address on it.
    ///
    /// # Errors
    /// [`AddressError`].
    pub(super) async fn open(
        net: Arc<Netlink>,
        specs: Vec<VirtualAddress>,
    ) -> Result<Self, AddressError> {
        let mut links = BTreeMap::new();
        for spec in &specs {
            let link = net
                .link(&spec.link)
                .await?
                .ok_or_else(|| AddressError::NoLink {
                    address: spec.address,
                    link: spec.link.clone(),
                })?;
            links.insert(spec.link.clone(), link.index);
        }
        let tun = Tun::create(&TunConfig {
            name: DEVICE.to_owned(),
            queues: 1,
            offload: false,
        })?;
        let device = tun.index();
        net.configure_link(
            device,
            LinkSettings {
                mtu: 1500,
                up: true,
                tx_queue_len: None,
            },
        )
        .await?;
        let macs = VirtualMacs::open(&net, &specs, &links).await?;
        Ok(Self(Arc::new(Inner {
            net,
            device,
            _queues: tun.into_queues(),
            specs,
            links,
            macs,
            turn: Mutex::new(()),
            held: AtomicBool::new(false),
            forwarded: Mutex::new(Vec::new()),
        })))
    }

    pub(super) fn specs(&self) -> &[VirtualAddress] {
        &self.0.specs
    }

    pub(super) fn macs(&self) -> &VirtualMacs {
        &self.0.macs
    }

    /// True when this node has the addresses and all that belongs to them, as far as it knows.
    pub(super) fn are_held(&self) -> bool {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Addresses, their routes, the ways into the VTIs, and at last the virtual MACs: whoever
    /// sends there finds everything. What is there already is fine.
    pub(super) async fn take(&self, ways: Ways) -> Result<(), String> {
        let inner = &self.0;
        let _turn = inner.turn.lock().await;
        let taken = self.take_all(&ways).await;
        inner.held.store(taken.is_ok(), Ordering::Relaxed);
        taken
    }

    /// The turn of somebody who takes something away: from now on not everything is held,
    /// whatever ends in between.
    async fn turn_to_leave(&self) -> MutexGuard<'_, ()> {
        let held = &self.0.held;
        held.store(false, Ordering::Relaxed);
        let turn = self.0.turn.lock().await;
        held.store(false, Ordering::Relaxed);
        turn
    }

    async fn take_all(&self, ways: &Ways) -> Result<(), String> {
        let inner = &self.0;
        for spec in &inner.specs {
            let host = host(spec.address.addr());
            let added = inner.net.add_address(inner.carrier(spec), host).await;
            added.map_err(|error| error.to_string())?;
        }
        for spec in &inner.specs {
            for route in inner.routes_of(spec) {
                let added = inner.net.add_via(&route).await;
                added.map_err(|error| error.to_string())?;
            }
        }
        // One tunnel whose route is taken by somebody else must not keep the others down.
        if let Err(error) = self.open_ways(ways).await {
            error!(
                error,
                "not every tunnel has its routes; remove what stands against them"
            );
        }
        let raised = inner.macs.raise(&inner.net).await;
        raised.map_err(|error| error.to_string())
    }

    /// The partner has announced the virtual MAC on a link: the switch sends nothing for it here
    /// any more.
    pub(super) async fn leave_mac(&self, link: &str) -> Result<(), String> {
        let inner = &self.0;
        let _turn = self.turn_to_leave().await;
        let lowered = inner.macs.lower_link(&inner.net, link).await;
        lowered.map_err(|error| error.to_string())
    }

    /// Only the ways into the VTIs, for a standby that makes ready for the role and holds packets
    /// until it has it.
    pub(super) async fn prepare(&self, ways: Ways) -> Result<(), String> {
        let _turn = self.0.turn.lock().await;
        self.open_ways(&ways).await
    }

    async fn open_ways(&self, ways: &Ways) -> Result<(), String> {
        let mut failed = Vec::new();
        for (device, address) in &ways.addresses {
            if let Err(error) = self.0.net.add_address(*device, *address).await {
                failed.push(error.to_string());
            }
        }
        for route in &ways.routes {
            if let Err(error) = self.0.net.add_route(route).await {
                failed.push(error.to_string());
            }
        }
        outcome(&failed)
    }

    /// The ways into the VTIs are closed: what comes from the LAN goes to the partner. What was
    /// sealed and still waits for a neighbour's answer is not sent any more (invariant I6).
    pub(super) async fn close_ways(&self, ways: &Ways) -> Result<(), String> {
        let _turn = self.turn_to_leave().await;
        let mut failed = Vec::new();
        for index in self.0.links.values() {
            if let Err(error) = self.0.net.drop_unresolved(*index).await {
                failed.push(error.to_string());
            }
        }
        for route in &ways.routes {
            if let Err(error) = self.0.net.remove_route(route).await {
                failed.push(error.to_string());
            }
        }
        for (device, address) in &ways.addresses {
            if let Err(error) = self.0.net.take_address(*device, *address).await {
                failed.push(error.to_string());
            }
        }
        outcome(&failed)
    }

    /// The virtual addresses go, with their MACs and routes.
    pub(super) async fn leave(&self) -> Result<(), String> {
        let inner = &self.0;
        let _turn = self.turn_to_leave().await;
        let mut failed = Vec::new();
        if let Err(error) = inner.macs.lower(&inner.net).await {
            failed.push(error.to_string());
        }
        for spec in &inner.specs {
            for route in inner.routes_of(spec) {
                if let Err(error) = inner.net.remove_via(&route).await {
                    failed.push(error.to_string());
                }
            }
            let host = host(spec.address.addr());
            if let Err(error) = inner.net.take_address(inner.carrier(spec), host).await {
                failed.push(error.to_string());
            }
        }
        outcome(&failed)
    }

    /// Sends what reaches this node for `prefixes`, while it is not the active one, to the
    /// partner: hosts may use either node as their next hop. The VTI's own routes have better
    /// metrics, so on the active node these rest; when its process dies they come into force.
    pub(super) async fn forward_to_partner(&self, partner: IpAddr, prefixes: &[(IpNet, u32)]) {
        let of_family = |prefix: &&(IpNet, u32)| prefix.0.addr().is_ipv4() == partner.is_ipv4();
        for (prefix, _) in prefixes.iter().filter(|prefix| !of_family(prefix)) {
            warn!(%prefix, via = %partner, "what reaches this node for it while it is standby is lost: no path between the nodes is of its family");
        }
        let wanted: Vec<ViaRoute> = prefixes
            .iter()
            .filter(of_family)
            .map(|(prefix, metric)| ViaRoute {
                prefix: *prefix,
                gateway: Some(partner),
                device: None,
                source: None,
                metric: metric.saturating_add(1),
            })
            .collect();
        let mut forwarded = self.0.forwarded.lock().await;
        for gone in forwarded.iter().filter(|route| !wanted.contains(route)) {
            if let Err(error) = self.0.net.remove_via(gone).await {
                warn!(prefix = %gone.prefix, %error, "a route to the partner is left");
            }
        }
        for route in &wanted {
            let known = forwarded.contains(route);
            match self.0.net.add_via(route).await {
                Ok(()) if known => {}
                Ok(()) => {
                    info!(prefix = %route.prefix, via = %partner, "what reaches the standby goes to the active node")
                }
                Err(error) => {
                    warn!(prefix = %route.prefix, via = %partner, %error, "what reaches this node while it is standby cannot be sent to the active node");
                }
            }
        }
        *forwarded = wanted;
    }
}

impl Inner {
    /// The device for an address: that of its link's virtual MAC, or the one for all others.
    fn carrier(&self, spec: &VirtualAddress) -> u32 {
        self.macs.carrier(&spec.link).unwrap_or(self.device)
    }

    /// The routes that exist while the address does.
    fn routes_of(&self, spec: &VirtualAddress) -> Vec<ViaRoute> {
        let Some(gateway) = spec.gateway else {
            return Vec::new();
        };
        let device = self.links.get(&spec.link).copied();
        let source = Some(spec.address.addr());
        let everything = match spec.address {
            IpNet::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
            IpNet::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
        };
        vec![
            ViaRoute {
                prefix: spec.address.trunc(),
                gateway: None,
                device,
                source,
                metric: ON_LINK_METRIC,
            },
            ViaRoute {
                prefix: everything,
                gateway: Some(gateway),
                device,
                source,
                metric: GATEWAY_METRIC,
            },
        ]
    }
}

fn host(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

fn outcome(failed: &[String]) -> Result<(), String> {
    match failed {
        [] => Ok(()),
        failed => Err(failed.join("; ")),
    }
}
