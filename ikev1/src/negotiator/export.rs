//! Takes a connection's state out of a negotiator, and puts it into another.

use core::time::Duration;
use std::collections::BTreeMap;
use std::time::Instant;

use ipsec_types::ConnectionId;

use super::Negotiator;
use super::context::Context;
use super::standby::ImportError;
use super::timers::Owner;
use crate::api::TimerName;
use crate::config::{Connection, RetransmitPolicy};
use crate::dpd::Dpd;
use crate::phase2::{AwaitQuick3, QuickMode, QuickState};
use crate::retransmit::Retransmit;
use crate::sa::child::{Child, owner};
use crate::sa::export::{
    ExportedChild, ExportedIkeSa, ExportedQuick, ExportedQuickState, ExportedTunnel, Upcoming,
    VERSION,
};
use crate::sa::ike::{IkeSa, LastPhase1, UsedMessageIds};
use crate::wire::MessageId;

impl Negotiator {
    pub(super) fn export_tunnel(&self, now: Instant, id: ConnectionId) -> Option<ExportedTunnel> {
        let tunnel = self.tunnels.get(&id)?;
        let taken_down = tunnel.is_taken_down() && !self.shut;
        if tunnel.is_bare() && !taken_down {
            return None;
        }
        let mut children: Vec<&Child> = tunnel.children.values().collect();
        children.sort_by_key(|child| child.stage.standing());
        let mut exported = ExportedTunnel {
            version: VERSION,
            connection: tunnel.config.name.clone(),
            taken_down,
            wanted: tunnel.wanted.iter().copied().collect(),
            last_path: tunnel.last_path,
            ike_sas: tunnel
                .ike_sas
                .iter()
                .rev()
                .filter_map(|id| self.sas.get(id))
                .map(|sa| self.export_ike_sa(sa, now))
                .collect(),
            children: children
                .into_iter()
                .map(|child| self.export_child(id, child, now))
                .collect(),
        };
        let left_out = exported.fit();
        if left_out > 0 {
            tracing::debug!(connection = %tunnel.config.name, left_out,
                "too many ESP SAs for one export: the standby will negotiate these anew");
        }
        Some(exported)
    }

    fn remaining(&self, owner: Owner, name: TimerName, now: Instant) -> Option<Duration> {
        let at = self.cx.timers.get(owner, name)?;
        Some(at.saturating_duration_since(now))
    }

    fn export_ike_sa(&self, sa: &IkeSa, now: Instant) -> ExportedIkeSa {
        let owner = Owner::IkeSa(sa.id);
        let expires_in = self.remaining(owner, TimerName::IkeSaExpire, now);
        ExportedIkeSa {
            id: sa.id,
            role: sa.role,
            suite: sa.suite,
            keys: sa.keys.clone(),
            last_block: sa.last_block,
            path: sa.path,
            nat: sa.nat,
            peer: sa.peer,
            used_message_ids: sa.used.export(),
            dpd: sa.dpd.sequences(),
            age: now.saturating_duration_since(sa.established),
            expires_in: expires_in.unwrap_or(Duration::ZERO),
            rekey_in: self.remaining(owner, TimerName::IkeSaRekey, now),
            retiring: sa.retiring,
            confirmed: sa.confirmed,
            fruitful: sa.fruitful,
            last_received: sa.last_phase1.received.clone(),
            last_sent: sa.last_phase1.sent.clone(),
            quick_modes: self.export_quick_modes(sa, now),
        }
    }

    fn export_quick_modes(&self, sa: &IkeSa, now: Instant) -> Vec<ExportedQuick> {
        let mut quick_modes: Vec<&QuickMode> = sa.quick_modes.values().collect();
        quick_modes.sort_by_key(|quick| core::cmp::Reverse(quick.started));
        quick_modes
            .into_iter()
            .filter_map(|quick| {
                let timer = Owner::QuickMode(sa.id, quick.id.0);
                let forget_in = self.remaining(timer, TimerName::Phase2Expire, now);
                export_quick(quick, forget_in.unwrap_or(Duration::ZERO))
            })
            .collect()
    }

    fn export_child(&self, id: ConnectionId, child: &Child, now: Instant) -> ExportedChild {
        let timer = owner(id, child.inbound);
        let expires_in = self.remaining(timer, TimerName::EspSaExpire, now);
        let switch_in = self.remaining(timer, TimerName::OutboundSwitch, now);
        let rekey_in = self.remaining(timer, TimerName::EspSaRekey, now);
        ExportedChild {
            inbound: child.inbound,
            outbound: child.outbound,
            selectors: child.selectors,
            proposal: child.proposal,
            encapsulation: child.encapsulation,
            role: child.role,
            lifetime: child.lifetime,
            age: now.saturating_duration_since(child.established),
            expires_in: expires_in.unwrap_or(Duration::ZERO),
            upcoming: switch_in
                .map(Upcoming::Switch)
                .or(rekey_in.map(Upcoming::Rekey)),
            stage: child.stage,
            rekey_due: child.rekey_due,
        }
    }

    /// Takes over what another negotiator exported `elapsed` ago. Nothing is sent.
    pub(super) fn import_tunnel(
        &mut self,
        exported: ExportedTunnel,
        elapsed: Duration,
    ) -> Result<(), ImportError> {
        let Some(id) = self
            .tunnels
            .values()
            .find(|tunnel| tunnel.config.name == exported.connection)
            .map(super::tunnel::Tunnel::id)
        else {
            return Err(ImportError::UnknownConnection(exported.connection));
        };
        let name = exported.connection.clone();
        let inconsistent = |what| ImportError::Inconsistent {
            connection: name.clone(),
            what,
        };
        for child in exported.children {
            self.import_child(id, child, elapsed)
                .ok_or_else(|| inconsistent("an inbound SPI twice"))?;
        }
        for sa in exported.ike_sas.into_iter().rev() {
            self.import_ike_sa(id, sa, elapsed)
                .ok_or_else(|| inconsistent("an IKE SA twice, or too many message ids"))?;
        }
        if let Some(tunnel) = self.tunnels.get_mut(&id) {
            if exported.taken_down {
                tunnel.wanted.clear();
            }
            tunnel.wanted.extend(exported.wanted);
            tunnel.last_path = exported.last_path;
        }
        self.cx.mark_changed(id);
        Ok(())
    }

    fn import_child(
        &mut self,
        id: ConnectionId,
        exported: ExportedChild,
        elapsed: Duration,
    ) -> Option<()> {
        if !self.cx.claim_spi(exported.inbound) {
            return None;
        }
        let now = self.cx.now;
        let age = exported.age + elapsed;
        let end = now + exported.expires_in.saturating_sub(elapsed);
        let timer = owner(id, exported.inbound);
        let timers = &mut self.cx.timers;
        timers.set(timer, TimerName::EspSaExpire, end);
        let upcoming = exported.upcoming.map(|upcoming| match upcoming {
            Upcoming::Switch(left) => (TimerName::OutboundSwitch, left),
            Upcoming::Rekey(left) => (TimerName::EspSaRekey, left),
        });
        if let Some((name, left)) = upcoming {
            timers.set(timer, name, now + left.saturating_sub(elapsed));
        }
        let established = now.checked_sub(age).unwrap_or(now);
        let child = Child {
            inbound: exported.inbound,
            outbound: exported.outbound,
            selectors: exported.selectors,
            proposal: exported.proposal,
            encapsulation: exported.encapsulation,
            role: exported.role,
            lifetime: exported.lifetime,
            began: established,
            established,
            expires: end,
            stage: exported.stage,
            rekey_due: exported.rekey_due,
            farewells: 0,
        };
        self.tunnels
            .get_mut(&id)?
            .children
            .insert(child.inbound, child);
        Some(())
    }

    fn import_ike_sa(
        &mut self,
        connection: ConnectionId,
        exported: ExportedIkeSa,
        elapsed: Duration,
    ) -> Option<()> {
        let now = self.cx.now;
        let id = exported.id;
        let used = UsedMessageIds::import(exported.used_message_ids.as_deref())?;
        let due = exported.rekey_in.is_none() || used.is_nearly_full();
        if self.sas.contains_key(&id) {
            return None;
        }
        let tunnel = self.tunnels.get_mut(&connection)?;
        let policy = tunnel.config.retransmit;
        let dpd = Dpd::resumed(exported.dpd, now);
        let end = now + exported.expires_in.saturating_sub(elapsed);
        resume_ike_timers(&mut self.cx, &tunnel.config, &exported, &dpd, elapsed);
        let mut quick_modes = BTreeMap::new();
        for exported in exported.quick_modes {
            let timer = Owner::QuickMode(id, exported.message_id);
            let quick = import_quick(&mut self.cx, timer, exported, policy, elapsed);
            quick_modes.insert(quick.id.0, quick);
        }
        tunnel.ike_sas.push(id);
        let age = exported.age + elapsed;
        let established = now.checked_sub(age).unwrap_or(now);
        let sa = IkeSa {
            id,
            connection,
            role: exported.role,
            suite: exported.suite,
            keys: exported.keys,
            last_block: exported.last_block,
            path: exported.path,
            nat: exported.nat,
            peer: exported.peer,
            used,
            quick_modes,
            dpd,
            began: established,
            established,
            expires: end,
            rekey_due: due && !exported.retiring,
            retiring: exported.retiring,
            farewells: 0,
            last_phase1: LastPhase1 {
                received: exported.last_received,
                sent: exported.last_sent,
            },
            fruitful: exported.fruitful,
            confirmed: exported.confirmed,
        };
        self.sas.insert(id, sa);
        Some(())
    }
}

/// The deadlines of an imported IKE SA.
fn resume_ike_timers(
    cx: &mut Context,
    config: &Connection,
    exported: &ExportedIkeSa,
    dpd: &Dpd,
    elapsed: Duration,
) {
    let owner = Owner::IkeSa(exported.id);
    let now = cx.now;
    let left = |then: Duration| now + then.saturating_sub(elapsed);
    let timers = &mut cx.timers;
    timers.set(owner, TimerName::IkeSaExpire, left(exported.expires_in));
    if let Some(rekey_in) = exported.rekey_in {
        timers.set(owner, TimerName::IkeSaRekey, left(rekey_in));
    }
    if exported.retiring {
        return;
    }
    if let Some(policy) = &config.dpd {
        timers.set(owner, TimerName::Dpd, dpd.first_look(policy));
    }
    if exported.nat.local {
        timers.set(owner, TimerName::NatKeepalive, now);
    }
}

fn export_quick(quick: &QuickMode, forget_in: Duration) -> Option<ExportedQuick> {
    let state = match &quick.state {
        QuickState::AwaitQuick2(_) => return None,
        QuickState::AwaitQuick3(state) => ExportedQuickState::AwaitQuick3 {
            inbound: state.inbound,
            iv: state.iv,
            ni: state.ni.clone(),
            nr: state.nr.clone(),
        },
        &QuickState::AwaitConnected { inbound, iv } => ExportedQuickState::AwaitConnected {
            inbound,
            iv,
            forget_in,
        },
        QuickState::Finished => ExportedQuickState::Finished { forget_in },
    };
    Some(ExportedQuick {
        message_id: quick.id.0,
        selectors: quick.selectors,
        state,
        last_in: quick.last_in.clone(),
        last_out: quick.last_out.clone(),
    })
}

fn import_quick(
    cx: &mut Context,
    timer: Owner,
    exported: ExportedQuick,
    policy: RetransmitPolicy,
    elapsed: Duration,
) -> QuickMode {
    let retransmit = Retransmit::new(policy);
    let now = cx.now;
    let mut forget = |left: Duration| {
        let at = now + left.saturating_sub(elapsed);
        cx.timers.set(timer, TimerName::Phase2Expire, at);
    };
    let state = match exported.state {
        ExportedQuickState::AwaitQuick3 {
            inbound,
            iv,
            ni,
            nr,
        } => {
            let at = now + retransmit.first_wait();
            cx.timers.set(timer, TimerName::Phase2Retransmit, at);
            QuickState::AwaitQuick3(AwaitQuick3 {
                iv,
                inbound,
                ni,
                nr,
            })
        }
        ExportedQuickState::AwaitConnected {
            inbound,
            iv,
            forget_in,
        } => {
            forget(forget_in);
            QuickState::AwaitConnected { inbound, iv }
        }
        ExportedQuickState::Finished { forget_in } => {
            forget(forget_in);
            QuickState::Finished
        }
    };
    QuickMode {
        id: MessageId(exported.message_id),
        selectors: exported.selectors,
        started: now,
        state,
        last_in: exported.last_in,
        last_out: exported.last_out,
        retransmit,
    }
}
