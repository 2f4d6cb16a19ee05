//! Start-up, in the order in which things must exist.

use std::sync::Arc;
use std::time::Instant;

use esp_dataplane::worker::{ControlSink, DataPlane, DataPlaneConfig, OffloadPolicy};
use esp_dataplane::{AeadBackends, Sad, SadConfig};
use ikev1::{Negotiator, Standby};
use ipsec_types::SendGate;
use tokio::sync::{Notify, mpsc};
use tracing::{info, warn};

use super::DaemonError;
use super::clock::entropy;
use super::event_loop::Daemon;
use super::gateway::{Gateway, Parts};
use super::ike::Ike;
use super::ike_socket::{IkeDatagram, IkeSockets};
use super::pair::Pair;
use super::tunnels::Tunnels;
use crate::cli::RunOptions;
use crate::config::ResolvedConfig;
use crate::control;

/// ISAKMP datagrams that wait for the negotiator. A flood beyond it is dropped by the kernel
/// (port 500) or counted (port 4500).
const IKE_QUEUE: usize = 256;

/// Control requests that wait.
const CALL_QUEUE: usize = 16;

/// Where the workers put what is not ESP on port 4500.
struct NatTraversalInbox(mpsc::Sender<IkeDatagram>);

impl ControlSink for NatTraversalInbox {
    fn nat_t_datagram(
        &self,
        local: std::net::SocketAddr,
        remote: std::net::SocketAddr,
        payload: &[u8],
    ) -> bool {
        self.0
            .try_send(IkeDatagram {
                local,
                remote,
                payload: payload.to_vec(),
            })
            .is_ok()
    }
}

/// Starts every room; the daemon is ready when this returns.
pub(super) async fn start(
    config: ResolvedConfig,
    options: RunOptions,
) -> Result<Daemon, DaemonError> {
    let started = Instant::now();
    allow_many_descriptors();
    // The control socket first: it is what tells a second daemon that we are here.
    let server = control::Server::bind(&options.socket)?;
    let tunnels = empty_tunnels(config.gateway.workers, config.pair.is_some())?;
    let wake = Arc::new(Notify::new());
    let (isakmp_sender, isakmp_inbox) = mpsc::channel(IKE_QUEUE);
    let (nat_t_sender, nat_t_inbox) = mpsc::channel(IKE_QUEUE);
    let parts = parts(config, &wake, [isakmp_sender, nat_t_sender], started)?;
    let next_connection_id = next_connection_id(&parts.config);
    let (calls_sender, calls) = mpsc::channel(CALL_QUEUE);
    let mut daemon = Daemon {
        gateway: Gateway::new(parts),
        tunnels,
        pair: None,
        options,
        started,
        ike_inboxes: [isakmp_inbox, nat_t_inbox],
        calls,
        next_connection_id,
        wake,
    };
    daemon.open().await?;
    tokio::task::spawn_local(server.serve(calls_sender));
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        warn!(%error, "systemd cannot be told that the daemon is ready");
    }
    let config = &daemon.gateway.config;
    info!(
        gateway = %config.gateway.name,
        connections = config.connections.len(),
        workers = config.gateway.workers,
        "vipsec {} is ready", env!("CARGO_PKG_VERSION"),
    );
    say_if_aes_gcm_could_be_faster();
    Ok(daemon)
}

/// One package does it, on CPUs where the other libraries do not use all that there is.
fn say_if_aes_gcm_could_be_faster() {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("vaes") {
        let has_avx512 = is_x86_feature_detected!("avx512f");
        let (package, now) = match ipsec_mb::library() {
            Err(why) if has_avx512 => ("libipsec-mb1 or libipsec-mb2", why.to_string()),
            Err(why) => ("libipsec-mb2", why.to_string()),
            // It has code for VAES only together with AVX-512, 1.5 also with GFNI.
            Ok(library) if !has_avx512 && library.version().starts_with("1.") => (
                "libipsec-mb2",
                format!("version {} is installed", library.version()),
            ),
            Ok(_) => return,
        };
        info!(%now, "with Intel's IPsec library (package {package}) AES-GCM may be faster on this CPU");
    }
}

/// Each worker has several queues of each tunnel, which are descriptors: what the process may
/// raise its limit to, it does.
fn allow_many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, limit = limit.current, "cannot raise the limit of file descriptors");
    }
}

fn empty_tunnels(workers: usize, paired: bool) -> Result<Tunnels, DaemonError> {
    let net = vti::Netlink::connect().map_err(DaemonError::NetlinkSocket)?;
    Ok(Tunnels::new(net, workers, paired))
}

/// The SA database, the workers and the negotiator, joined by nothing yet.
fn parts(
    config: ResolvedConfig,
    wake: &Arc<Notify>,
    [isakmp, nat_t]: [mpsc::Sender<IkeDatagram>; 2],
    now: Instant,
) -> Result<Parts, DaemonError> {
    // With a partner the lease opens it (invariant I6).
    let gate = Arc::new(match config.pair {
        Some(_) => SendGate::closed(),
        None => SendGate::always_open(),
    });
    let wake = Arc::clone(wake);
    let mark = config.gateway.firewall_mark;
    let (sad, esp_events) = Sad::new(SadConfig {
        workers: config.gateway.workers,
        backends: AeadBackends::measure(),
        notify: Some(Arc::new(move || wake.notify_one())),
        ..SadConfig::default()
    });
    let inbox: Arc<dyn ControlSink> = Arc::new(NatTraversalInbox(nat_t));
    let data_plane = DataPlane::start(
        DataPlaneConfig {
            workers: config.gateway.workers,
            pin: config.gateway.pin_workers,
            busy_poll: config.gateway.busy_poll,
            real_time: config.gateway.real_time,
            mark,
            offload: OffloadPolicy {
                esp_relay: config.gateway.esp_relay,
                ..OffloadPolicy::default()
            },
            ..DataPlaneConfig::default()
        },
        &gate,
        &sad,
        &inbox,
    )
    .map_err(DaemonError::Workers)?;
    let connections = config.connections.iter();
    let connections = connections.map(|connection| Arc::clone(&connection.ike));
    let ike = match config.pair {
        Some(_) => Ike::mute(Standby::new(connections.collect())),
        None => Ike::Speaking(Box::new(Negotiator::new(
            connections.collect(),
            entropy(),
            now,
        ))),
    };
    Ok(Parts {
        config,
        ike,
        sad,
        esp_events,
        data_plane,
        ike_sockets: IkeSockets::new(Arc::clone(&gate), mark, isakmp),
        gate,
        keylog: None,
    })
}

impl Daemon {
    /// Opens what the world can see: sockets, VTIs, and the key log if it was asked for. On an
    /// error nothing is left open.
    async fn open(&mut self) -> Result<(), DaemonError> {
        let gateway = &mut self.gateway;
        for connection in &gateway.config.connections {
            listen(
                &mut gateway.ike_sockets,
                &gateway.data_plane,
                connection.ike.local,
            )?;
        }
        // Only now: whoever holds our ports is alive, and his routes are not left over.
        self.tunnels.sweep().await;
        if let Some(directory) = &self.options.keylog {
            gateway
                .start_keylog(directory)
                .map_err(|source| DaemonError::Keylog {
                    directory: directory.clone(),
                    source,
                })?;
        }
        for connection in &gateway.config.connections {
            if let Err(error) = self.tunnels.create(connection, &gateway.data_plane).await {
                self.tunnels.remove_all(&gateway.data_plane).await;
                return Err(error.into());
            }
        }
        if let Err(error) = self.open_pair().await {
            self.tunnels.remove_all(&self.gateway.data_plane).await;
            return Err(error);
        }
        Ok(())
    }

    /// Joins the pair, if there is one: mute until the pair has agreed who is active.
    async fn open_pair(&mut self) -> Result<(), DaemonError> {
        let Some(config) = self.gateway.config.pair.clone() else {
            return Ok(());
        };
        self.gateway.member = super::pair::iv_member(config.member);
        self.gateway.silent = true;
        let pair = Pair::open(
            &config,
            &self.options.config_path,
            &self.gateway,
            &self.tunnels,
        )
        .await?;
        pair.route_to_partner(&self.gateway).await;
        self.pair = Some(pair);
        Ok(())
    }
}

/// Above every id in the config.
fn next_connection_id(config: &ResolvedConfig) -> u32 {
    config
        .connections
        .iter()
        .map(|connection| connection.id().0 + 1)
        .max()
        .unwrap_or_default()
}

/// Opens port 500, port 4500 and protocol 50 on one of our addresses.
pub(super) fn listen(
    ike_sockets: &mut IkeSockets,
    data_plane: &DataPlane,
    address: std::net::IpAddr,
) -> Result<(), DaemonError> {
    ike_sockets
        .listen(address)
        .map_err(|source| DaemonError::Listen { address, source })?;
    data_plane.add_listener(address)?;
    Ok(())
}
