//! The connections that the two nodes keep the same, as a record.

use std::path::PathBuf;
use std::time::Duration;

use ha_keepalive::Revision;
use ha_keepalive::advert::Role;
use ha_keepalive::io::clock::boot_time;
use ha_keepalive::node::PairNode;
use ha_keepalive::replication::{Key, Kind, Record, TooLarge};
use tracing::{debug, error, info, warn};

use super::{Pair, State};
use crate::config::{RealFiles, ResolvedConfig, SharedConfig, load_with};
use crate::daemon::gateway::Gateway;
use crate::daemon::tunnels::Tunnels;

/// The name of the one [`Kind::Config`] record.
const NAME: &[u8] = b"connections";
/// Version of its encoding.
const VERSION: u16 = 1;

/// How long a full disk is left alone.
const STORE_AGAIN: Duration = Duration::from_secs(5);

/// Connections of the partner that are understood here and wait to be applied.
pub(in crate::daemon) struct Incoming {
    /// As they came.
    pub shared: SharedConfig,
    /// As they resolve on this node.
    pub config: ResolvedConfig,
    /// The standby proposes them; otherwise they are in force on the active node.
    pub proposed: bool,
}

fn key() -> Result<Key, TooLarge> {
    Key::new(Kind::Config, NAME)
}

fn record(shared: &SharedConfig) -> Result<Record, String> {
    let record = key().and_then(|key| Record::new(key, VERSION, shared.encode()));
    record.map_err(|error| {
        format!("the connections cannot be replicated: {error}; split them or shorten comments")
    })
}

impl Pair {
    /// Proposes an edit to the active node.
    ///
    /// # Errors
    /// Nobody is there, or it is too large.
    pub(in crate::daemon) fn propose(&mut self, shared: &SharedConfig) -> Result<(), String> {
        let node = self.driver.node();
        let peer = node.election().peer();
        if !node.is_connected() || peer.is_none_or(|peer| peer.role != Role::Active) {
            return Err("no active node is connected".to_owned());
        }
        let record = record(shared)?;
        self.driver.node_mut().propose(record);
        Ok(())
    }

    /// Writes what is in force here.
    pub(in crate::daemon) fn share_config(&mut self, gateway: &Gateway) {
        self.state.share_config(self.driver.node_mut(), gateway);
    }

    /// Tells the partner which revision runs here.
    pub(in crate::daemon) fn note_revision(&mut self, gateway: &Gateway) {
        let revision = Revision(gateway.config.revision.as_u64());
        let node = self.driver.node_mut();
        node.set_revision(boot_time(), revision);
        // What was refused for want of these connections may be taken now.
        node.follow_anew(boot_time());
    }

    /// The file of connections on this node is not what runs.
    pub(in crate::daemon) const fn is_unstored(&self) -> bool {
        self.state.unstored.is_some()
    }

    /// True when it is time to write the connections again; then not again for a while.
    pub(in crate::daemon) fn store_is_due(&mut self) -> bool {
        let now = boot_time();
        let since = self.state.unstored;
        let due = since.is_some_and(|at| now.saturating_sub(at) >= STORE_AGAIN);
        if due {
            self.state.unstored = Some(now);
        }
        due
    }

    /// The partner's connections that wait to be applied.
    pub(in crate::daemon) fn take_incoming(&mut self) -> Option<Incoming> {
        self.state.incoming.take()
    }

    /// What came cannot be applied: both nodes say so.
    pub(in crate::daemon) fn refuse_shared(&mut self, proposed: bool, reason: &str) {
        // A constant name is never too long.
        let Ok(key) = key() else { return };
        let node = self.driver.node_mut();
        if proposed {
            node.decline_proposal(key, reason.to_owned());
        } else {
            node.refuse(boot_time(), &key, reason);
        }
    }

    /// For tasks that have something to tell.
    pub(in crate::daemon) fn news(&self) -> tokio::sync::mpsc::UnboundedSender<super::News> {
        self.state.news.clone()
    }

    /// What waits for the standby happens now: the sockets it needs are about to close.
    pub(in crate::daemon) fn carry_out_pending(&mut self, gateway: &mut Gateway) {
        for (_, batch) in self.state.pending.drain(..) {
            gateway.carry_out(std::time::Instant::now(), &batch);
        }
    }

    /// Ways into the VTIs, if this node has the addresses.
    pub(in crate::daemon) async fn open_ways(&self, tunnels: &Tunnels) -> Result<(), String> {
        if self.not_active().is_some() {
            return Ok(());
        }
        self.state.addresses.prepare(tunnels.ways()).await
    }

    /// Sends an advert that is due, so that the lease holds while something takes long.
    pub(in crate::daemon) fn keep_lease(&mut self) {
        self.driver.keep_lease();
    }
}

impl State {
    /// The active node's connections are in force.
    pub(super) fn share_config(&mut self, node: &mut PairNode, gateway: &Gateway) {
        let now = boot_time();
        node.set_revision(now, Revision(gateway.config.revision.as_u64()));
        let Some(shared) = &gateway.config.shared else {
            return;
        };
        match record(shared) {
            Ok(record) => {
                // A standby that refused something gets another chance.
                node.offer_anew(now);
                if let Err(error) = node.put(now, record) {
                    debug!(%error, "connections are shared by the active node");
                }
            }
            Err(error) => error!("{error}"),
        }
    }

    /// The active node's connections have come: they must be usable here before they are
    /// acknowledged.
    pub(super) fn receive_config(
        &mut self,
        record: &Record,
        gateway: &Gateway,
    ) -> Result<(), String> {
        self.incoming = None;
        let shared =
            SharedConfig::decode(record.body.expose()).map_err(|error| error.to_string())?;
        if Some(&shared) == gateway.config.shared.as_ref() {
            return Ok(());
        }
        let config = self.understand(&shared, gateway)?;
        self.incoming = Some(Incoming {
            shared,
            config,
            proposed: false,
        });
        Ok(())
    }

    /// The standby proposes connections.
    pub(super) fn receive_proposal(
        &mut self,
        node: &mut PairNode,
        record: &Record,
        gateway: &Gateway,
    ) {
        let understood = SharedConfig::decode(record.body.expose())
            .map_err(|error| error.to_string())
            .and_then(|shared| Ok((self.understand(&shared, gateway)?, shared)));
        match understood {
            Ok((config, shared)) => {
                info!("the standby proposes other connections");
                self.incoming = Some(Incoming {
                    shared,
                    config,
                    proposed: true,
                });
            }
            Err(reason) => {
                warn!("the standby proposes connections that cannot be used here: {reason}");
                node.decline_proposal(record.key.clone(), reason);
            }
        }
    }

    fn understand(
        &self,
        shared: &SharedConfig,
        gateway: &Gateway,
    ) -> Result<ResolvedConfig, String> {
        let pair = gateway.config.pair.as_ref();
        let connections: PathBuf = pair
            .and_then(|pair| pair.connections.clone())
            .ok_or("this node keeps its connections in its main file; set `connections` in [pair] on both nodes")?;
        load_with(&self.config_path, &shared.overlay(&connections, RealFiles))
            .map_err(|errors| errors.to_string())
    }
}
