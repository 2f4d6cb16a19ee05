//! The daemon: starts the rooms, joins them, and runs until it is told to stop.
//!
//! ```text
//!   port 500 ----+                                  +---> port 500, port 4500
//!   port 4500 ---+--> IkeDatagram -->  Gateway  ----+---> SA database -> workers
//!   (workers)    |                    (negotiator)  +---> log, status, key log
//!   control -----+--> Call ---------->     ^
//!   timer, signals, worker events ---------+
//! ```
//!
//! The control plane is one task on one thread; packets never pass through it.

mod batch;
mod clock;
mod event_loop;
mod gateway;
mod history;
mod hold;
mod ike;
mod ike_events;
mod ike_socket;
mod keylog;
mod pair;
mod reload;
mod report;
mod shared;
mod start;
mod tunnel_ping;
mod tunnels;

use std::io;
use std::path::PathBuf;

use esp_dataplane::worker::DataPlaneError;
use vti::NetError;

pub use pair::{AddressError, PairError};
pub(crate) use tunnels::TX_QUEUE_LEN;
pub use tunnels::TunnelError;

use crate::cli::RunOptions;
use crate::config::ResolvedConfig;
use crate::control::BindError;

/// Why the daemon did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The runtime of the control plane.
    #[error("cannot start the control plane: {0}")]
    Runtime(#[source] io::Error),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] BindError),
    /// Netlink.
    #[error("cannot talk to the kernel about links and routes: {0}")]
    Netlink(#[from] NetError),
    /// A worker thread is gone and its share of the traffic with it.
    #[error("worker {0} of the data plane has ended; the daemon must be started anew")]
    WorkerEnded(usize),
    /// The netlink socket.
    #[error("cannot open a netlink socket: {0}")]
    NetlinkSocket(#[source] io::Error),
    /// The pair.
    #[error(transparent)]
    Pair(#[from] PairError),
    /// A VTI.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// The workers.
    #[error("cannot start the data plane: {0}")]
    DataPlane(#[from] DataPlaneError),
    /// The workers' threads.
    #[error("cannot start the workers: {0}")]
    Workers(#[source] io::Error),
    /// Port 500 of one of our addresses.
    #[error(
        "cannot listen on {address} port 500: {source}; is another IKE daemon running? (ss -ulpn 'sport = :500')"
    )]
    Listen {
        /// Our address.
        address: std::net::IpAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The key log that was asked for.
    #[error("cannot write keys to {}: {source}", directory.display())]
    Keylog {
        /// Where.
        directory: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// Signal handlers.
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] io::Error),
}

/// Runs the daemon until SIGTERM or SIGINT. Everything it made is removed before it returns.
///
/// # Errors
/// [`DaemonError`] when it cannot start; nothing is left behind then.
pub fn run(config: ResolvedConfig, options: RunOptions) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DaemonError::Runtime)?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        let daemon = start::start(config, options).await?;
        daemon.run().await
    })
}
