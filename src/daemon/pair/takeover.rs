//! Records become SAs and a negotiator again: this node goes on where the other one was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use core::time::Duration;

use esp_dataplane::iv;
use esp_dataplane::sa::{Activation, InboundState, Resume};
use esp_dataplane::table::OutboundRecord;
use ha_keepalive::Epoch;
use ha_keepalive::node::{PairNode, Start};
use ha_keepalive::replication::{Edge, Kind};
use ikev1::{Beginning, Command, ExportedTunnel, Standby};
use ipsec_types::ConnectionId;
use tracing::{info, warn};

use super::records::{ConnectionRecord, EspRecord, decode, decode_window};
use super::{Sa, State, iv_member};
use crate::config::ResolvedConnection;
use crate::daemon::batch::PairId;
use crate::daemon::gateway::Gateway;
use crate::daemon::ike::Ike;

/// What the records say, sorted out.
#[derive(Default)]
struct Memory {
    pairs: Vec<(Vec<u8>, EspRecord)>,
    edges: BTreeMap<Vec<u8>, Edge>,
    tunnels: Vec<(ExportedTunnel, Duration)>,
    wanted: Vec<(String, ConnectionRecord)>,
}

impl Memory {
    fn of(node: &PairNode, now: Duration) -> Self {
        let mut memory = Self::default();
        for (record, age) in node.values(now) {
            let name = record.key.name();
            // What cannot be read was refused when it came, and the pair was not in sync.
            match record.key.kind() {
                Kind::EspSa => {
                    let pair = decode(record).map(|pair| (name.to_vec(), pair));
                    memory.pairs.extend(pair);
                }
                Kind::ReplayEdge => {
                    let edge = Edge::of(record).map(|edge| (name.to_vec(), edge));
                    memory.edges.extend(edge);
                }
                Kind::IkeSa => memory
                    .tunnels
                    .extend(decode(record).map(|tunnel| (tunnel, age))),
                Kind::Connection => {
                    let name = String::from_utf8_lossy(name).into_owned();
                    memory
                        .wanted
                        .extend(decode(record).map(|wanted| (name, wanted)));
                }
                Kind::Config | Kind::SequenceCeiling | Kind::Clock => {}
            }
        }
        memory
    }
}

/// The IV epoch of an SA under this claim, as the data plane wants it: the one below
/// (invariant I1). `None` when the SA has had too many.
fn iv_epoch_below(claim: Epoch, birth: Epoch) -> Option<iv::Epoch> {
    let epoch = claim.for_iv(birth)?;
    iv::Epoch::new(epoch.checked_sub(1)?).ok()
}

impl State {
    /// Every SA continues, outbound above its ceiling or exactly (invariant I2), inbound from
    /// its replicated edge (invariant I3). Nothing is sent before the gate opens.
    pub(super) fn take_over(&mut self, now: Duration, node: &PairNode, gateway: &mut Gateway) {
        let memory = Memory::of(node, now);
        self.end_grace(gateway);
        self.pending.clear();
        self.sas.clear();
        self.switches = 0;
        self.doomed.clear();
        let (tunnels, pairs) = (memory.tunnels.len(), memory.pairs.len());
        self.take_wanted(&memory.wanted, gateway);
        self.take_esp(node, gateway, memory.pairs, &memory.edges);
        take_ike(gateway, memory.tunnels);
        info!(
            connections = tunnels,
            esp_pairs = pairs,
            to_be_replaced = self.doomed.len(),
            epoch = node.epoch().0,
            "SAs taken over",
        );
    }

    /// This node lost its lease and nobody answered: it goes on with what it has, far above all
    /// that a partner may have sent meanwhile.
    pub(super) fn reclaim(&mut self, node: &PairNode, gateway: &mut Gateway) {
        self.pending.clear();
        let starts = starts(node);
        let mut outbound = Vec::new();
        for (name, sa) in &self.sas {
            let PairId {
                connection,
                inbound,
                outbound: spi,
            } = sa.pair;
            let start = starts.get(name);
            let record = gateway.sad.export_outbound(connection, spi);
            let continued = record
                .zip(start)
                .and_then(|(record, start)| self.continued(node.epoch(), *sa, start, record));
            match continued {
                Some(continued) => outbound.push(continued),
                None => self.doomed.push(inbound),
            }
        }
        let failed = gateway.sad.take_over(Vec::new(), outbound);
        self.doom(gateway, &failed);
    }

    fn take_wanted(&mut self, wanted: &[(String, ConnectionRecord)], gateway: &mut Gateway) {
        for (name, wanted) in wanted {
            let Some(id) = id_of(gateway, name) else {
                continue;
            };
            if wanted.taken_down {
                gateway.taken_down.insert(id);
            } else {
                gateway.taken_down.remove(&id);
            }
        }
    }

    fn take_esp(
        &mut self,
        node: &PairNode,
        gateway: &mut Gateway,
        pairs: Vec<(Vec<u8>, EspRecord)>,
        edges: &BTreeMap<Vec<u8>, Edge>,
    ) {
        let starts = starts(node);
        let (mut opening, mut sealing) = (Vec::new(), Vec::new());
        for (name, record) in pairs {
            let Some(connection) = id_of(gateway, &record.connection) else {
                warn!(
                    connection = record.connection,
                    "an SA of a connection that is not configured here is left out"
                );
                continue;
            };
            let sa = Sa {
                pair: PairId {
                    connection,
                    inbound: record.inbound.params.spi,
                    outbound: record.outbound.params.spi,
                },
                birth: Epoch(record.birth),
                switched: record.switched,
                last: esp_dataplane::sequence::SequenceWidth::from_esn(record.outbound.params.esn)
                    .last(),
            };
            opening.push((connection, at_edge(record.inbound, edges.get(&name))));
            let outbound = OutboundRecord {
                connection,
                order: record.order,
                switched: record.switched,
                state: record.outbound,
            };
            let start = starts.get(&name);
            match start.and_then(|start| self.continued(node.epoch(), sa, start, outbound)) {
                Some(continued) => sealing.push(continued),
                None => self.doomed.push(sa.pair.inbound),
            }
            gateway.adopt(sa.pair);
            self.sas.insert(name, sa);
        }
        // What is left of an earlier role is older than the records.
        gateway.sad.remove_all();
        let failed = gateway.sad.take_over(opening, sealing);
        self.doom(gateway, &failed);
    }

    /// An outbound SA in the IV epoch and with the numbers of this claim.
    fn continued(
        &self,
        claim: Epoch,
        sa: Sa,
        start: &Start,
        mut record: OutboundRecord,
    ) -> Option<(OutboundRecord, Activation)> {
        let above = iv_epoch_below(claim, sa.birth)?;
        if start.first > sa.last {
            return None;
        }
        record.state.next = start.first;
        let activation = Activation {
            member: iv_member(self.config.member),
            above,
            resume: Resume::Exact,
            ceiling: (start.last != u64::MAX).then_some(start.last),
        };
        Some((record, activation))
    }

    fn doom(&mut self, gateway: &Gateway, failed: &[esp_dataplane::table::NotTakenOver]) {
        for lost in failed {
            let name = gateway
                .connection(lost.connection)
                .map_or("(removed)", ResolvedConnection::name);
            warn!(connection = name, spi = %lost.spi, error = %lost.error, "an ESP SA cannot be continued; it is negotiated anew");
            let pair = self.sas.values().find(|sa| {
                sa.pair.connection == lost.connection
                    && (sa.pair.inbound == lost.spi || sa.pair.outbound == lost.spi)
            });
            self.doomed.extend(pair.map(|sa| sa.pair.inbound));
        }
    }

    /// Cold: what the partner knew is worth nothing; the connections that were up are noted.
    pub(super) fn forget(&mut self, now: Duration, node: &PairNode, gateway: &mut Gateway) {
        let memory = Memory::of(node, now);
        self.take_wanted(&memory.wanted, gateway);
        self.revive = memory
            .wanted
            .into_iter()
            .filter(|(_, wanted)| wanted.was_up)
            .map(|(name, _)| name)
            .collect();
        self.be_mute(gateway);
    }

    /// Neither SAs nor a negotiator: a standby.
    pub(super) fn be_mute(&mut self, gateway: &mut Gateway) {
        self.end_grace(gateway);
        self.pending.clear();
        self.sas.clear();
        self.doomed.clear();
        gateway.silent = true;
        gateway.sad.remove_all();
        gateway.forget_pairs();
        gateway.peers_dead = false;
        gateway.ike = Ike::mute(fresh_standby(gateway));
    }

    /// Main mode with INITIAL-CONTACT for every connection at once (RFC 2407 §4.6.3.3), also
    /// for those that their peers began: a peer does not know yet that its SAs are dead.
    pub(super) fn negotiate_all(&mut self, gateway: &mut Gateway) {
        let now = Instant::now();
        let standby = fresh_standby(gateway);
        // A memory without content contradicts nothing.
        let _ = gateway.ike.begin(now, standby, Beginning::Cold);
        gateway.silent = false;
        let revive = core::mem::take(&mut self.revive);
        let connections = gateway.config.connections.iter();
        let again: Vec<ConnectionId> = connections
            .filter(|connection| revive.contains(connection.name()))
            .map(ResolvedConnection::id)
            .filter(|id| !gateway.taken_down.contains(id))
            .collect();
        for connection in again {
            let command = Command::Initiate {
                connection,
                selectors: None,
            };
            gateway.ike.handle_command(now, command);
        }
        for connection in gateway.taken_down.clone() {
            gateway
                .ike
                .handle_command(now, Command::Terminate { connection });
        }
    }
}

fn take_ike(gateway: &mut Gateway, tunnels: Vec<(ExportedTunnel, Duration)>) {
    let instant = Instant::now();
    let mut standby = fresh_standby(gateway);
    for (tunnel, age) in tunnels {
        let name = tunnel.connection().to_owned();
        let written = instant.checked_sub(age).unwrap_or(instant);
        if let Err(error) = standby.put(written, tunnel) {
            warn!(connection = name, %error, "IKE state cannot be continued; the connection begins anew");
        }
    }
    for error in gateway.ike.begin(instant, standby, Beginning::Hot) {
        warn!(%error, "IKE state cannot be continued; the connection begins anew");
    }
    for connection in gateway.taken_down.clone() {
        gateway
            .ike
            .handle_command(instant, Command::Terminate { connection });
    }
}

fn starts(node: &PairNode) -> BTreeMap<Vec<u8>, Start> {
    let starts = node.starts().iter();
    starts
        .map(|start| (start.sa.clone(), start.clone()))
        .collect()
}

/// The window at the newest edge that was replicated; never back (invariant I3).
fn at_edge(mut state: InboundState, edge: Option<&Edge>) -> InboundState {
    if let Some(edge) = edge
        && edge.right >= state.replay.edge
        && let Some(window) = decode_window(&edge.window)
    {
        state.replay = window;
    }
    state
}

fn id_of(gateway: &Gateway, name: &str) -> Option<ConnectionId> {
    let connections = &gateway.config.connections;
    connections
        .iter()
        .find(|connection| connection.name() == name)
        .map(ResolvedConnection::id)
}

fn fresh_standby(gateway: &Gateway) -> Standby {
    let connections = gateway.config.connections.iter();
    Standby::new(
        connections
            .map(|connection| Arc::clone(&connection.ike))
            .collect(),
    )
}
