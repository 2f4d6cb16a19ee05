//! The active node's gateway becomes records, and what must not happen before the standby knows
//! waits for it (the commit point).

use core::time::Duration;
use std::time::Instant;

use esp_dataplane::sequence::SequenceWidth;
use ha_keepalive::election;
use ha_keepalive::node::{NotActive, PairNode};
use ha_keepalive::replication::{Edge, Key, Kind, Record};
use ipsec_types::ConnectionId;
use tracing::{debug, error};

use super::records::{ConnectionRecord, EspRecord, RecordError, encode, encode_window, sa_name};
use super::{Pair, REFRESH, Sa, State};
use crate::config::ResolvedConnection;
use crate::daemon::batch::{Batch, Change, PairId};
use crate::daemon::gateway::Gateway;

/// Traffic that was seen keeps the looks short for so long.
const BUSY_FOR: Duration = Duration::from_millis(200);

/// Why something is not replicated.
#[derive(Debug, thiserror::Error)]
enum NotReplicated {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Node(#[from] NotActive),
    #[error(transparent)]
    Key(#[from] ha_keepalive::replication::TooLarge),
}

impl Pair {
    /// Writes what changed, and lets the rest of the batch happen when the standby knows it: at
    /// once without one.
    pub(in crate::daemon) fn replicate(
        &mut self,
        now: Instant,
        gateway: &mut Gateway,
        batch: Batch,
    ) {
        let boot = ha_keepalive::io::clock::boot_time();
        let node = self.driver.node_mut();
        let mut position = None;
        for change in &batch.changes {
            match self.state.record(boot, node, gateway, *change) {
                Ok(Some(at)) => position = Some(at),
                Ok(None) => {}
                Err(error) => {
                    error!(?change, %error, "not replicated; the standby could not continue it")
                }
            }
        }
        let after = self.state.pending.back().map(|(position, _)| *position);
        let Some(position) = position.or(after) else {
            gateway.carry_out(now, &batch);
            return;
        };
        match node.commit(boot, position) {
            Ok(()) => self.state.pending.push_back((position, batch)),
            // Not active any more: the gate is closed, and nothing of it counts.
            Err(error) => debug!(%error, "a commit point without a claim"),
        }
    }

    /// Notes what the operator wants of a connection.
    pub(in crate::daemon) fn note_wanted(&mut self, gateway: &Gateway, id: ConnectionId) {
        let boot = ha_keepalive::io::clock::boot_time();
        let node = self.driver.node_mut();
        if let Err(error) = self.state.record_wanted(boot, node, gateway, id) {
            debug!(%error, "not replicated");
        }
    }
}

impl State {
    /// Writes one change; returns its log position.
    fn record(
        &mut self,
        now: Duration,
        node: &mut PairNode,
        gateway: &Gateway,
        change: Change,
    ) -> Result<Option<u64>, NotReplicated> {
        if !holds_claim(node) {
            return Ok(None);
        }
        match change {
            Change::Ike(id) => self.record_ike(now, node, gateway, id),
            Change::EspUp(pair) => self.record_new(now, node, gateway, pair),
            Change::EspSwitched(pair) => {
                let Some(name) = name_of(gateway, pair) else {
                    return Ok(None);
                };
                self.switches += 1;
                // Above every switch of an earlier claim: claims count up.
                let serial = node.epoch().0 << 32 | u64::from(self.switches);
                let Some(sa) = self.sas.get_mut(&name) else {
                    return Ok(None);
                };
                sa.switched = Some(serial);
                let sa = *sa;
                self.record_esp(now, node, gateway, &name, sa)
            }
            Change::EspDown(pair) => self.record_gone(now, node, gateway, pair),
        }
    }

    fn record_ike(
        &mut self,
        now: Duration,
        node: &mut PairNode,
        gateway: &Gateway,
        id: ConnectionId,
    ) -> Result<Option<u64>, NotReplicated> {
        let Some(connection) = gateway.connection(id) else {
            return Ok(None);
        };
        let name = connection.name().as_bytes();
        let exported = gateway
            .ike
            .speaking()
            .and_then(|negotiator| negotiator.export(Instant::now(), id));
        let position = match exported {
            Some(exported) => node.put(now, encode(Kind::IkeSa, name, &exported)?)?,
            None => node.delete(now, &Key::new(Kind::IkeSa, name)?)?,
        };
        Ok(Some(position))
    }

    fn record_new(
        &mut self,
        now: Duration,
        node: &mut PairNode,
        gateway: &Gateway,
        pair: PairId,
    ) -> Result<Option<u64>, NotReplicated> {
        let (Some(name), Some(outbound)) = (
            name_of(gateway, pair),
            gateway.sad.outbound(pair.connection, pair.outbound),
        ) else {
            return Ok(None);
        };
        let sa = Sa {
            pair,
            birth: node.epoch(),
            switched: None,
            last: SequenceWidth::from_esn(outbound.params().esn).last(),
        };
        self.sas.insert(name.clone(), sa);
        self.record_esp(now, node, gateway, &name, sa)?;
        self.record_wanted(now, node, gateway, pair.connection)?;
        let used = outbound.sequence().next().saturating_sub(1);
        Ok(Some(node.add_outbound(now, &name, used, sa.last)?))
    }

    fn record_esp(
        &self,
        now: Duration,
        node: &mut PairNode,
        gateway: &Gateway,
        name: &[u8],
        sa: Sa,
    ) -> Result<Option<u64>, NotReplicated> {
        let Some(record) = esp_record(gateway, name, sa)? else {
            return Ok(None);
        };
        Ok(Some(node.put(now, record)?))
    }

    fn record_gone(
        &mut self,
        now: Duration,
        node: &mut PairNode,
        gateway: &Gateway,
        pair: PairId,
    ) -> Result<Option<u64>, NotReplicated> {
        let Some(name) = name_of(gateway, pair) else {
            return Ok(None);
        };
        self.sas.remove(&name);
        node.remove_inbound(now, &name)?;
        node.remove_outbound(now, &name)?;
        let key = Key::new(Kind::EspSa, name)?;
        Ok(Some(node.delete(now, &key)?))
    }

    fn record_wanted(
        &self,
        now: Duration,
        node: &mut PairNode,
        gateway: &Gateway,
        id: ConnectionId,
    ) -> Result<(), NotReplicated> {
        let Some(connection) = gateway.connection(id) else {
            return Ok(());
        };
        let taken_down = gateway.taken_down.contains(&id);
        let wanted = ConnectionRecord {
            taken_down,
            was_up: !taken_down,
        };
        let record = encode(Kind::Connection, connection.name().as_bytes(), &wanted)?;
        node.put(now, record)?;
        Ok(())
    }

    /// Looks at sequence numbers and replay windows (invariants I2 and I3).
    pub(super) fn look(&mut self, now: Duration, node: &mut PairNode, gateway: &Gateway) {
        self.look_at_quiesce(now, gateway);
        if !holds_claim(node) {
            return;
        }
        let mut moved = 0;
        for (name, sa) in &self.sas {
            let PairId {
                connection,
                inbound,
                outbound,
            } = sa.pair;
            if let Some(sa) = gateway.sad.outbound(connection, outbound) {
                let used = sa.sequence().next().saturating_sub(1);
                moved += used;
                // Both fail only without a claim, which was just looked at.
                let _ = node.report_sequence(now, name, used);
            }
            if let Some(sa) = gateway.sad.inbound(inbound) {
                let right = sa.replay().edge();
                moved += right;
                let _ = node.report_edge(now, name, right, || encode_window(&sa.replay().export()));
            }
        }
        if self.moved != moved {
            self.moved = moved;
            self.busy_until = now + BUSY_FOR;
        }
        if now.saturating_sub(self.refreshed) >= REFRESH {
            self.refreshed = now;
            self.refresh(now, node, gateway);
        }
    }

    /// Byte counters travel with the whole record.
    fn refresh(&mut self, now: Duration, node: &mut PairNode, gateway: &Gateway) {
        for (name, sa) in self.sas.clone() {
            if let Err(error) = self.record_esp(now, node, gateway, &name, sa) {
                debug!(%error, "not refreshed");
            }
        }
    }

    /// Exact numbers, windows, clocks: the last records before the role is handed over.
    pub(super) fn write_last(
        &mut self,
        now: Duration,
        node: &mut PairNode,
        gateway: &Gateway,
    ) -> Result<(), String> {
        let connections = gateway.config.connections.iter();
        let ids: Vec<ConnectionId> = connections.map(ResolvedConnection::id).collect();
        for id in ids {
            self.record_ike(now, node, gateway, id)
                .map_err(|error| error.to_string())?;
        }
        for (name, sa) in self.sas.clone() {
            self.write_last_of(now, node, gateway, &name, sa)
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn write_last_of(
        &self,
        now: Duration,
        node: &mut PairNode,
        gateway: &Gateway,
        name: &[u8],
        sa: Sa,
    ) -> Result<(), NotReplicated> {
        self.record_esp(now, node, gateway, name, sa)?;
        if let Some(outbound) = gateway.sad.outbound(sa.pair.connection, sa.pair.outbound) {
            node.write_exact(now, name, outbound.sequence().next().saturating_sub(1))?;
        }
        if let Some(inbound) = gateway.sad.inbound(sa.pair.inbound) {
            let replay = inbound.replay();
            let edge = Edge {
                right: replay.edge(),
                window: encode_window(&replay.export()),
            };
            node.put(now, edge.record(name)?)?;
        }
        Ok(())
    }
}

/// This node writes records.
fn holds_claim(node: &PairNode) -> bool {
    use election::State;
    matches!(
        node.election().state(),
        State::Active | State::Asking | State::HandingOver
    )
}

/// Both directions as they are now; `None` when they are gone.
fn esp_record(gateway: &Gateway, name: &[u8], sa: Sa) -> Result<Option<Record>, RecordError> {
    let PairId {
        connection,
        inbound,
        outbound,
    } = sa.pair;
    let (Some(configured), Some(inbound), Some(outbound)) = (
        gateway.connection(connection),
        gateway.sad.export_inbound(inbound),
        gateway.sad.export_outbound(connection, outbound),
    ) else {
        return Ok(None);
    };
    let record = EspRecord {
        birth: sa.birth.0,
        connection: configured.name().to_owned(),
        inbound,
        outbound: outbound.state,
        order: outbound.order,
        switched: sa.switched,
    };
    encode(Kind::EspSa, name, &record).map(Some)
}

/// The name of a pair in the records; `None` when its connection is gone.
fn name_of(gateway: &Gateway, pair: PairId) -> Option<Vec<u8>> {
    let connection = gateway.connection(pair.connection)?;
    Some(sa_name(connection.name(), pair.inbound))
}
