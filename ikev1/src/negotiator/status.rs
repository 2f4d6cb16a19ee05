//! What a user sees.

use std::time::Instant;

use super::Negotiator;
use super::timers::Owner;
use super::tunnel::Tunnel;
use crate::api::{ConnectionState, ConnectionStatus, EspSaStatus, IkeSaStatus, TimerName};
use crate::sa::child::{Child, Stage, owner};
use crate::sa::ike::IkeSa;

impl Negotiator {
    pub(super) fn status_of(&self, tunnel: &Tunnel, now: Instant) -> ConnectionStatus {
        let ike_sas: Vec<&IkeSa> = tunnel
            .ike_sas
            .iter()
            .rev()
            .filter_map(|id| self.sas.get(id))
            .collect();
        let mut children: Vec<&Child> = tunnel.children.values().collect();
        children.sort_by_key(|child| child.stage != Stage::InUse);
        let missing: Vec<_> = tunnel
            .config
            .selectors
            .iter()
            .copied()
            .filter(|selectors| tunnel.in_use(*selectors).is_none())
            .collect();
        ConnectionStatus {
            connection: tunnel.id(),
            name: tunnel.config.name.clone(),
            state: self.state_of(tunnel, missing.is_empty()),
            ike_sas: ike_sas
                .iter()
                .map(|sa| self.ike_sa_status(sa, now))
                .collect(),
            esp_sas: children
                .iter()
                .map(|child| self.child_status(tunnel, child, now))
                .collect(),
            missing,
            last_failure: tunnel.last_failure.clone(),
        }
    }

    fn state_of(&self, tunnel: &Tunnel, complete: bool) -> ConnectionState {
        let id = tunnel.id();
        if complete {
            return ConnectionState::Up;
        }
        let has_sa = !tunnel.ike_sas.is_empty();
        let has_traffic = tunnel
            .children
            .values()
            .any(|child| child.stage == Stage::InUse);
        let negotiating = self.initiating_phase1(id) || self.answering_phase1(id);
        match (has_traffic, has_sa || negotiating) {
            (true, _) => ConnectionState::Partial,
            (false, true) => ConnectionState::Connecting,
            (false, false) => ConnectionState::Down,
        }
    }

    fn ike_sa_status(&self, sa: &IkeSa, now: Instant) -> IkeSaStatus {
        let rekey = self
            .cx
            .timers
            .get(Owner::IkeSa(sa.id), TimerName::IkeSaRekey);
        IkeSaStatus {
            id: sa.id,
            role: sa.role,
            suite: sa.suite.to_string(),
            weak: sa.suite.is_weak(),
            local: sa.path.local,
            remote: sa.path.remote,
            nat_local: sa.nat.local,
            nat_remote: sa.nat.remote,
            dpd: sa.peer.dpd,
            age_seconds: now.saturating_duration_since(sa.established).as_secs(),
            rekey_in_seconds: rekey.map(|at| at.saturating_duration_since(now).as_secs()),
            expires_in_seconds: sa.expires.saturating_duration_since(now).as_secs(),
        }
    }

    fn child_status(&self, tunnel: &Tunnel, child: &Child, now: Instant) -> EspSaStatus {
        let rekey = self
            .cx
            .timers
            .get(owner(tunnel.id(), child.inbound), TimerName::EspSaRekey);
        EspSaStatus {
            inbound: child.inbound,
            outbound: child.outbound,
            selectors: child.selectors,
            proposal: child.proposal.to_string(),
            weak: child.proposal.is_weak(),
            encapsulation: child.encapsulation,
            in_use: child.stage == Stage::InUse,
            age_seconds: now.saturating_duration_since(child.established).as_secs(),
            rekey_in_seconds: rekey.map(|at| at.saturating_duration_since(now).as_secs()),
            expires_in_seconds: child.expires.saturating_duration_since(now).as_secs(),
        }
    }
}
