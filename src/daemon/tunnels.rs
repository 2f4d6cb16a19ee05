//! One VTI a connection: the device, its addresses and routes, and its place in the data plane.

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use esp_dataplane::worker::{DataPlane, DataPlaneError, TunnelSpec, device_queues};
use ikev1::config::RemoteAddress;
use ipnet::IpNet;
use ipsec_types::ConnectionId;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};
use vti::{LinkSettings, MssClamp, NetError, Netlink, Route, Tun, TunConfig, TunError};

use crate::config::{Mss, ResolvedConnection, VtiConfig};

/// Length of each of the kernel's queues in front of the TUN device, in packets. Long enough for
/// the bursts of a few TCP senders, and for half a million packets a second while a worker waits
/// for its CPU until the kernel's tick (4 ms on many machines); short enough not to hide
/// congestion from them.
pub(crate) const TX_QUEUE_LEN: u32 = 2000;

/// The kernel's main routing table.
const MAIN_TABLE: u32 = 254;

/// How often the pinned ways to the peers are looked after: a link that flaps is back within a
/// few seconds, and a dump of a large routing table is not free.
const REPIN_INTERVAL: Duration = Duration::from_secs(5);

/// A program that is being started holds copies of a device's queues until it runs, a few
/// milliseconds on a busy machine. Shorter than the partner waits for adverts, which wait for this.
const HELD: Duration = Duration::from_millis(20);

/// Why a VTI could not be made; whatever was made of it is removed again.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The device itself.
    #[error("connection \"{connection}\": {source}")]
    Device {
        /// Whose VTI.
        connection: String,
        /// What the kernel refused.
        source: TunError,
    },
    /// MTU, address or route.
    #[error("connection \"{connection}\", device {device}: {source}")]
    Network {
        /// Whose VTI.
        connection: String,
        /// Its device.
        device: String,
        /// What the kernel refused.
        source: NetError,
    },
    /// The workers.
    #[error("connection \"{connection}\": {source}")]
    DataPlane {
        /// Whose VTI.
        connection: String,
        /// What they refused.
        source: DataPlaneError,
    },
}

/// The VTIs that are there.
pub(super) struct Tunnels {
    net: Arc<Netlink>,
    workers: usize,
    /// With a partner, addresses and routes come and go with the role: see [`Tunnels::ways`].
    paired: bool,
    devices: BTreeMap<ConnectionId, Device>,
    repin_at: Option<Instant>,
    /// The ways to the peers being looked after.
    repin: Option<JoinHandle<()>>,
}

struct Device {
    index: u32,
    settings: VtiConfig,
    peer: Option<IpAddr>,
    routes: Vec<Route>,
}

/// Addresses and routes of VTIs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ways {
    /// Index of the device, and the address.
    pub addresses: Vec<(u32, IpNet)>,
    /// Routes into the devices.
    pub routes: Vec<Route>,
}

impl Device {
    /// The peer, if one of `routes` would send our ESP to it back into the tunnel.
    fn covered_peer(&self, routes: &[IpNet]) -> Option<IpAddr> {
        self.peer.filter(|peer| vti::covers_peer(routes, *peer))
    }

    fn wanted_routes(&self) -> Vec<Route> {
        let routes = self.settings.routes.iter();
        routes
            .map(|prefix| Route {
                prefix: *prefix,
                device: self.index,
                metric: self.settings.metric,
                table: MAIN_TABLE,
            })
            .collect()
    }
}

impl Tunnels {
    /// None yet; `workers` is the number of queues each will have.
    pub(super) fn new(net: Netlink, workers: usize, paired: bool) -> Self {
        Self {
            net: Arc::new(net),
            workers,
            paired,
            devices: BTreeMap::new(),
            repin_at: None,
            repin: None,
        }
    }

    /// True when we made this device and another program has deleted it; under another name it
    /// still carries.
    pub(super) fn is_deleted(&self, device: &str) -> bool {
        self.devices
            .values()
            .find(|ours| ours.settings.device == device)
            .is_some_and(|ours| !vti::exists(ours.index))
    }

    /// The netlink connection.
    pub(super) fn net(&self) -> Arc<Netlink> {
        Arc::clone(&self.net)
    }

    /// What the VTIs need to carry traffic: with a partner, only the active node has it.
    pub(super) fn ways(&self) -> Ways {
        let mut ways = Ways::default();
        for device in self.devices.values() {
            let index = device.index;
            let addresses = device.settings.addresses.iter();
            ways.addresses
                .extend(addresses.map(|address| (index, *address)));
            ways.routes.extend(device.wanted_routes());
        }
        ways
    }

    /// Removes the routes that a daemon which was killed has left.
    pub(super) async fn sweep(&self) {
        match self.net.sweep().await {
            Ok(0) => {}
            Ok(routes) => warn!(routes, "removed what a daemon that was killed had left"),
            Err(error) => warn!(%error, "left-over routes could not all be removed"),
        }
    }

    /// Makes the ways to the peers right again every few seconds: links flap, other programs
    /// tidy up, and without its pin a tunnel would swallow its own ESP. In a task of its own: a
    /// dump of a large routing table takes time, and the caller keeps a lease alive.
    pub(super) fn repin_when_due(&mut self, now: Instant) {
        let busy = self.repin.as_ref().is_some_and(|task| !task.is_finished());
        if busy || self.repin_at.is_some_and(|at| now < at) {
            return;
        }
        self.repin_at = Some(now + REPIN_INTERVAL);
        let ours = self.indices();
        let pins: Vec<_> = self
            .devices
            .values()
            .filter_map(|device| {
                let peer = device.covered_peer(&device.settings.routes)?;
                Some((device.settings.device.clone(), peer))
            })
            .collect();
        if pins.is_empty() {
            return;
        }
        let net = self.net();
        self.repin = Some(tokio::task::spawn_local(async move {
            for (device, peer) in pins {
                if let Err(error) = pin_peer(&net, peer, &ours).await {
                    warn!(device, %error, "the way to the peer cannot be kept");
                }
            }
        }));
    }

    /// Nothing may be pinned by a list of devices that is about to change.
    async fn end_repin(&mut self) {
        if let Some(task) = self.repin.take()
            && let Err(error) = task.await
        {
            warn!(%error, "the ways to the peers were not looked after");
        }
    }

    fn indices(&self) -> Vec<u32> {
        self.devices.values().map(|device| device.index).collect()
    }

    /// True when the connection has a VTI made from exactly these settings.
    pub(super) fn is_as_configured(&self, connection: &ResolvedConnection) -> bool {
        self.devices.get(&connection.id()).is_some_and(|device| {
            device.settings == connection.vti && device.peer == peer_address(connection)
        })
    }

    /// Connections that have a VTI.
    pub(super) fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        self.devices.keys().copied()
    }

    /// Makes the VTI of a connection: device, workers, addresses, routes.
    ///
    /// # Errors
    /// [`TunnelError`]; nothing of the device is left then.
    pub(super) async fn create(
        &mut self,
        connection: &ResolvedConnection,
        data_plane: &DataPlane,
    ) -> Result<(), TunnelError> {
        self.end_repin().await;
        let vti = &connection.vti;
        let device_error = |source| TunnelError::Device {
            connection: connection.name().to_owned(),
            source,
        };
        let tun = Tun::create(&TunConfig {
            name: vti.device.clone(),
            queues: device_queues(self.workers),
            offload: true,
        })
        .map_err(device_error)?;
        let index = tun.index();
        let spec = TunnelSpec {
            connection: connection.id(),
            queues: tun.into_queues(),
            mtu: vti.mtu,
            mss: match vti.mss {
                Mss::Auto => MssClamp::Auto,
                Mss::Off => MssClamp::Off,
                Mss::Fixed(limit) => MssClamp::Limit(limit),
            },
        };
        data_plane
            .add_tunnel(spec)
            .map_err(|source| TunnelError::DataPlane {
                connection: connection.name().to_owned(),
                source,
            })?;
        let mut device = Device {
            index,
            settings: vti.clone(),
            peer: peer_address(connection),
            routes: Vec::new(),
        };
        let configured = self.configure(&mut device).await;
        let device_name = vti.device.clone();
        self.devices.insert(connection.id(), device);
        if let Err(source) = configured {
            self.remove(connection.id(), data_plane).await;
            return Err(TunnelError::Network {
                connection: connection.name().to_owned(),
                device: device_name,
                source,
            });
        }
        info!(connection = connection.name(), device = %vti.device, mtu = vti.mtu, "VTI is up");
        Ok(())
    }

    async fn configure(&self, device: &mut Device) -> Result<(), NetError> {
        let settings = device.settings.clone();
        self.net
            .configure_link(
                device.index,
                LinkSettings {
                    mtu: u32::from(settings.mtu),
                    up: true,
                    tx_queue_len: Some(TX_QUEUE_LEN),
                },
            )
            .await?;
        if let Some(peer) = device.covered_peer(&settings.routes) {
            let mut ours = self.indices();
            ours.push(device.index);
            pin_peer(&self.net, peer, &ours).await?;
        }
        if self.paired {
            // What is opened here while the routes lead to the partner must get through.
            return self.net.add_placeholder_address(device.index).await;
        }
        for address in &settings.addresses {
            self.net.add_address(device.index, *address).await?;
        }
        for route in device.wanted_routes() {
            self.net.add_route(&route).await?;
            device.routes.push(route);
        }
        Ok(())
    }

    /// Removes the VTI of a connection, its routes first.
    pub(super) async fn remove(&mut self, connection: ConnectionId, data_plane: &DataPlane) {
        self.end_repin().await;
        let Some(device) = self.devices.remove(&connection) else {
            return;
        };
        for route in &device.routes {
            if let Err(error) = self.net.remove_route(route).await {
                warn!(prefix = %route.prefix, %error, "route could not be removed; it goes with its device");
            }
        }
        if let Err(error) = data_plane.remove_tunnel(connection) {
            warn!(device = %device.settings.device, %error, "workers did not let go of the VTI");
        }
        self.net.forget_device(device.index);
        self.unpin(&device).await;
        // Until then no other device can have its name.
        let name = &device.settings.device;
        if vti::is_gone_within(device.index, HELD).await {
            info!(device = %name, "VTI is removed");
        } else {
            warn!(device = %name, "VTI is closed, and still there: until it has gone, none of its name can be made");
        }
    }

    /// Gives the way to the peer of a removed device back, unless another one needs it.
    async fn unpin(&self, gone: &Device) {
        let Some(peer) = gone.peer else {
            return;
        };
        let is_needed = self
            .devices
            .values()
            .any(|device| device.peer == Some(peer));
        if !is_needed && let Err(error) = self.net.unpin_peer(peer).await {
            warn!(%peer, %error, "the pinned way to the peer could not be removed");
        }
    }

    /// Removes everything, the pinned ways to the peers too.
    pub(super) async fn remove_all(&mut self, data_plane: &DataPlane) {
        let connections: Vec<_> = self.connections().collect();
        for connection in connections {
            self.remove(connection, data_plane).await;
        }
        if let Err(error) = self.net.remove_all().await {
            warn!(%error, "not every route could be removed");
        }
    }
}

/// Nails the way to a peer down before a route into a tunnel swallows it. `ours` are the VTIs.
async fn pin_peer(net: &Netlink, peer: IpAddr, ours: &[u32]) -> Result<(), NetError> {
    if net.pin_peer(peer, ours).await?.is_none() {
        debug!(%peer, "no way to pin: unreachable, on this machine, or routed by its own host route");
    }
    Ok(())
}

/// The peer's address, when it has a fixed one.
pub(super) fn peer_address(connection: &ResolvedConnection) -> Option<IpAddr> {
    match connection.ike.remote {
        RemoteAddress::Address(address) => Some(address),
        RemoteAddress::Any => None,
    }
}
