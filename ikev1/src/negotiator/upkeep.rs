//! Keeps each connection as it should be: after every change, whatever is missing or due is
//! started, one step at a time.

use core::time::Duration;
use std::net::SocketAddr;
use std::time::Instant;

use ipsec_types::{ConnectionId, SelectorPair};

use super::Negotiator;
use super::timers::Owner;
use crate::api::{Event, Phase, Role, TimerName};
use crate::config::StartMode;
use crate::natt::Path;
use crate::phase2::{QuickMode, QuickState};
use crate::wire::{CookiePair, MessageId};

/// A peer that wants a tunnel begins quick mode within a round trip of phase 1.
const INITIATORS_TURN: Duration = Duration::from_secs(1);

impl Negotiator {
    /// Starts what is due for a connection, if anything.
    pub(super) fn upkeep(&mut self, id: ConnectionId) {
        let now = self.cx.now;
        let Some(tunnel) = self.tunnels.get_mut(&id) else {
            return;
        };
        if self.shut || self.quiet {
            return;
        }
        let due = tunnel.due();
        let wants_ike_sa = !due.is_empty() || !tunnel.wanted.is_empty();
        if let Some(at) = tunnel.retry_at.filter(|at| *at > now)
            && wants_ike_sa
        {
            let timers = &mut self.cx.timers;
            timers.set(Owner::Tunnel(id), TimerName::Reconnect, at);
            return;
        }
        let Some(current) = self.current_ike_sa(id) else {
            if wants_ike_sa && !self.answering_phase1(id) {
                self.initiate_phase1(id);
            }
            return;
        };
        if self.sas.get(&current).is_some_and(|sa| sa.rekey_due) {
            self.initiate_phase1(id);
        }
        let negotiating = self.negotiated_selectors(id);
        let next = due
            .into_iter()
            .find(|selectors| !negotiating.contains(selectors));
        // One quick mode of ours at a time: not every peer can follow several.
        let Some(selectors) = next.filter(|_| !self.initiating_quick(id)) else {
            return;
        };
        match self.initiators_turn(current).filter(|until| *until > now) {
            Some(until) => {
                let timers = &mut self.cx.timers;
                timers.set(Owner::Tunnel(id), TimerName::Reconnect, until);
            }
            None => self.start_quick_mode(current, selectors),
        }
    }

    /// Until when the peer that began phase 1 is expected to begin quick mode as well: two
    /// at once would leave each side to choose, and peers choose by rules of their own.
    fn initiators_turn(&self, current: CookiePair) -> Option<Instant> {
        let sa = self.sas.get(&current)?;
        (sa.role == Role::Responder).then(|| sa.established + INITIATORS_TURN)
    }

    /// The IKE SA under which new exchanges are started.
    pub(super) fn current_ike_sa(&self, id: ConnectionId) -> Option<CookiePair> {
        let tunnel = self.tunnels.get(&id)?;
        tunnel
            .ike_sas
            .iter()
            .rev()
            .copied()
            .find(|id| self.sas.get(id).is_some_and(|sa| !sa.retiring))
    }

    /// Selectors that some quick mode of this connection is about, whoever began it.
    fn negotiated_selectors(&self, id: ConnectionId) -> Vec<SelectorPair> {
        self.quick_modes(id)
            .filter(|quick| {
                matches!(
                    quick.state,
                    QuickState::AwaitQuick2(_) | QuickState::AwaitQuick3(_)
                )
            })
            .map(|quick| quick.selectors)
            .collect()
    }

    fn initiating_quick(&self, id: ConnectionId) -> bool {
        self.quick_modes(id)
            .any(|quick| matches!(quick.state, QuickState::AwaitQuick2(_)))
    }

    fn quick_modes(&self, id: ConnectionId) -> impl Iterator<Item = &QuickMode> {
        let sas = self.tunnels.get(&id).map(|tunnel| tunnel.ike_sas.iter());
        sas.into_iter()
            .flatten()
            .filter_map(|id| self.sas.get(id))
            .flat_map(|sa| sa.quick_modes.values())
    }

    /// Tells the user, and remembers for the status.
    pub(super) fn report_failure(
        &mut self,
        connection: Option<ConnectionId>,
        remote: SocketAddr,
        phase: Phase,
        explanation: String,
    ) {
        tracing::debug!(?connection, peer = %remote, ?phase, "negotiation failed: {explanation}");
        if let Some(tunnel) = connection.and_then(|id| self.tunnels.get_mut(&id)) {
            tunnel.last_failure = Some(explanation.clone());
        }
        self.cx.emit(Event::NegotiationFailed {
            connection,
            remote,
            phase,
            explanation,
        });
    }

    /// An attempt of ours has come to nothing: wait before the next; on-traffic connections
    /// wait for traffic.
    pub(super) fn attempt_failed(&mut self, id: ConnectionId) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else {
            return;
        };
        tunnel.back_off(&mut self.cx);
        if tunnel.config.start != StartMode::OnStart {
            let alive: Vec<SelectorPair> = tunnel
                .wanted
                .iter()
                .copied()
                .filter(|selectors| tunnel.in_use(*selectors).is_some())
                .collect();
            tunnel.wanted = alive.into_iter().collect();
        }
        self.upkeep(id);
    }

    /// An authentic message has come under an IKE SA: the peer lives, and behind a NAT it may
    /// have moved (RFC 3947 §4: only authenticated packets are followed).
    pub(super) fn authentic(&mut self, id: CookiePair, from: Path) {
        let Some(sa) = self.sas.get_mut(&id) else {
            return;
        };
        sa.confirmed = true;
        let connection = sa.connection;
        if sa.used.is_nearly_full() {
            sa.rekey_due = true;
        }
        if sa.nat.remote && sa.path != from && sa.path.local.ip() == from.local.ip() {
            self.move_peer(connection, from);
        }
        self.cx.mark_changed(connection);
    }

    /// The peer has shown that it lives now.
    pub(super) fn heard(&mut self, id: CookiePair) {
        let now = self.cx.now;
        if let Some(sa) = self.sas.get_mut(&id) {
            sa.dpd.heard(now);
        }
    }

    /// The peer is reached by another path from now on.
    pub(super) fn move_peer(&mut self, connection: ConnectionId, path: Path) {
        let Some(tunnel) = self.tunnels.get_mut(&connection) else {
            return;
        };
        let mut encapsulation = None;
        for id in &tunnel.ike_sas {
            if let Some(sa) = self.sas.get_mut(id)
                && sa.nat.any()
            {
                sa.path = path;
                encapsulation = Some(sa.encapsulation());
            }
        }
        tunnel.last_path = Some(path);
        let Some(encapsulation) = encapsulation else {
            return;
        };
        self.cx.emit(Event::PeerMoved {
            connection,
            local: path.local,
            remote: path.remote,
            encapsulation,
            inbound: tunnel.children.keys().copied().collect(),
        });
        self.cx.mark_changed(connection);
    }

    /// A finished quick mode is old enough to be forgotten.
    pub(super) fn phase2_expire(&mut self, id: CookiePair, message_id: u32) {
        self.forget_quick(id, MessageId(message_id));
    }
}
