//! Keeps each connection as it should be: after every change, whatever is missing or due is
//! started, one step at a time.

use core::time::Duration;
use std::net::SocketAddr;

use ipsec_types::{ConnectionId, SelectorPair, Spi};

use super::Negotiator;
use super::timers::Owner;
use crate::api::{DownReason, Event, Phase, Role, TimerName};
use crate::config::{DpdAction, StartMode};
use crate::dpd::DpdStep;
use crate::natt::Path;
use crate::phase2::QuickState;
use crate::sa::child::Stage;
use crate::wire::{CookiePair, Delete, MessageId, Notification, NotifyType};

/// How long a daemon may hold packets for a tunnel that is coming back at once.
const HOLD: Duration = Duration::from_secs(5);

impl Negotiator {
    /// Starts what is due for a connection, if anything.
    pub(super) fn upkeep(&mut self, id: ConnectionId) {
        let now = self.cx.now;
        let Some(tunnel) = self.tunnels.get_mut(&id) else {
            return;
        };
        if self.shut {
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
        if let Some(selectors) = next
            && !self.initiating_quick(id)
        {
            self.start_quick_mode(current, selectors);
        }
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

    fn quick_modes(&self, id: ConnectionId) -> impl Iterator<Item = &crate::phase2::QuickMode> {
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
        tracing::warn!(?connection, peer = %remote, ?phase, "negotiation failed: {explanation}");
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
        let now = self.cx.now;
        let Some(sa) = self.sas.get_mut(&id) else {
            return;
        };
        sa.dpd.heard(now);
        sa.confirmed = true;
        let connection = sa.connection;
        if sa.used.is_nearly_full() {
            sa.rekey_due = true;
        }
        if sa.nat.any() && sa.path != from && sa.path.local.ip() == from.local.ip() {
            self.move_peer(connection, from);
        }
        self.cx.mark_changed(connection);
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

    /// Takes an IKE SA out. Its quick modes end with it; the ESP SAs do not.
    pub(super) fn remove_ike_sa(&mut self, id: CookiePair, reason: DownReason) {
        let Some(sa) = self.sas.remove(&id) else {
            return;
        };
        self.cx.timers.cancel_all(Owner::IkeSa(id));
        let Some(tunnel) = self.tunnels.get_mut(&sa.connection) else {
            return;
        };
        tunnel.ike_sas.retain(|other| *other != id);
        for quick in sa.quick_modes.into_values() {
            self.cx.timers.cancel_all(Owner::QuickMode(id, quick.id.0));
            match quick.state {
                QuickState::AwaitQuick2(state) => self.cx.release_spi(state.our_spi),
                QuickState::AwaitQuick3(state) => {
                    tunnel.remove(state.inbound, reason, &mut self.cx);
                }
                QuickState::AwaitConnected { .. } | QuickState::Finished => {}
            }
        }
        tracing::info!(connection = %tunnel.config.name, ike_sa = %id, %reason, "IKE SA down");
        self.cx.emit(Event::IkeSaDown {
            connection: sa.connection,
            ike_sa: id,
            reason,
        });
        self.cx.mark_changed(sa.connection);
    }

    /// [`Negotiator::remove_ike_sa`], and the peer is told.
    pub(super) fn delete_ike_sa(&mut self, id: CookiePair, reason: DownReason) {
        if let Some(sa) = self.sas.get_mut(&id) {
            sa.send_informational(vec![Delete::isakmp(id).into()], &mut self.cx);
        }
        self.remove_ike_sa(id, reason);
    }

    /// Takes an ESP SA pair out and tells the peer, under whatever IKE SA there is.
    pub(super) fn delete_child(
        &mut self,
        connection: ConnectionId,
        inbound: Spi,
        reason: DownReason,
    ) {
        if let Some(id) = self.any_ike_sa(connection)
            && let Some(sa) = self.sas.get_mut(&id)
        {
            sa.send_informational(vec![Delete::esp(inbound).into()], &mut self.cx);
        }
        if let Some(tunnel) = self.tunnels.get_mut(&connection) {
            tunnel.remove(inbound, reason, &mut self.cx);
        }
    }

    fn any_ike_sa(&self, connection: ConnectionId) -> Option<CookiePair> {
        let tunnel = self.tunnels.get(&connection)?;
        self.current_ike_sa(connection)
            .or_else(|| tunnel.ike_sas.last().copied())
    }

    /// As quick-mode responder we never got message 3: nobody is to use this pair.
    pub(super) fn withdraw(&mut self, id: CookiePair, inbound: Spi) {
        let Some(connection) = self.sas.get(&id).map(|sa| sa.connection) else {
            return;
        };
        self.delete_child(connection, inbound, DownReason::Expired);
        self.upkeep(connection);
    }

    /// A quick mode of ours was never answered: the peer may have lost the IKE SA, and then
    /// the ESP SAs too. A new phase 1 finds out, before anything that works is torn down.
    pub(super) fn ike_sa_unanswered(&mut self, id: CookiePair, selectors: SelectorPair) {
        let Some(sa) = self.sas.get(&id) else {
            return;
        };
        let (connection, remote) = (sa.connection, sa.path.remote);
        let text = format!("no answer to quick mode for {selectors}: negotiating phase 1 anew");
        self.report_failure(Some(connection), remote, Phase::Phase2, text);
        self.delete_ike_sa(id, DownReason::PeerDead);
        if let Some(tunnel) = self.tunnels.get_mut(&connection) {
            tunnel.suspect = true;
        }
        self.upkeep(connection);
    }

    /// The peer has deleted an IKE SA.
    pub(super) fn ike_sa_deleted(&mut self, connection: ConnectionId) {
        let successor = self.current_ike_sa(connection).is_some();
        let Some(tunnel) = self.tunnels.get_mut(&connection) else {
            return;
        };
        if tunnel.config.peer_drops_children && !successor {
            tunnel.suspect = true;
            self.cx.emit(Event::HoldTraffic {
                connection,
                at_most: HOLD,
            });
        }
        self.upkeep(connection);
    }

    /// The peer has deleted an ESP SA pair.
    pub(super) fn child_deleted(
        &mut self,
        connection: ConnectionId,
        selectors: SelectorPair,
        young: bool,
    ) {
        let Some(tunnel) = self.tunnels.get_mut(&connection) else {
            return;
        };
        if tunnel.in_use(selectors).is_some() {
            return;
        }
        if tunnel.config.start != StartMode::OnStart {
            tunnel.wanted.remove(&selectors);
        } else if young {
            // Deleted as soon as made: not in a hurry to make the next.
            tunnel.back_off(&mut self.cx);
        } else {
            self.cx.emit(Event::HoldTraffic {
                connection,
                at_most: HOLD,
            });
        }
        self.upkeep(connection);
    }

    /// The DPD timer of an IKE SA has fired.
    pub(super) fn dpd_timer(&mut self, id: CookiePair) {
        let now = self.cx.now;
        let Some(sa) = self.sas.get_mut(&id) else {
            return;
        };
        let connection = sa.connection;
        let Some(tunnel) = self.tunnels.get(&connection) else {
            return;
        };
        let Some(policy) = tunnel.config.dpd else {
            return;
        };
        let again = match sa.dpd.step(&policy, now) {
            DpdStep::Wait(at) => at,
            DpdStep::Probe { sequence, again } if sa.peer.dpd => {
                let kind = NotifyType::R_U_THERE;
                let probe = Notification::dead_peer_detection(kind, id, sequence);
                sa.send_informational(vec![probe.into()], &mut self.cx);
                again
            }
            DpdStep::Probe { again, .. } => {
                self.cx.emit(Event::ProbeThroughTunnel { connection });
                again
            }
            DpdStep::Dead if sa.peer.dpd => {
                self.peer_dead(connection);
                return;
            }
            DpdStep::Dead => {
                // No DPD in common, and a ping has not come back: that proves little. The
                // answer to a phase 1 will tell, and nothing is torn down before that.
                sa.dpd.heard(now);
                let again = sa.dpd.first_look(&policy);
                if tunnel.config.dpd_by_ping {
                    self.suspect_peer(connection);
                }
                again
            }
        };
        let owner = Owner::IkeSa(id);
        self.cx.timers.set(owner, TimerName::Dpd, again);
    }

    fn suspect_peer(&mut self, connection: ConnectionId) {
        if let Some(tunnel) = self.tunnels.get_mut(&connection) {
            tunnel.suspect = true;
            self.initiate_phase1(connection);
        }
    }

    /// The peer does not answer: forget it all, and act as the config says.
    pub(super) fn peer_dead(&mut self, connection: ConnectionId) {
        let Some(tunnel) = self.tunnels.get(&connection) else {
            return;
        };
        let Some(policy) = tunnel.config.dpd else {
            return;
        };
        let lost: Vec<SelectorPair> = tunnel
            .children
            .values()
            .filter(|child| child.stage == Stage::InUse)
            .map(|child| child.selectors)
            .collect();
        let remote = tunnel.ike_sas.iter().find_map(|id| self.sas.get(id));
        let remote = remote.map(|sa| sa.path.remote);
        tracing::warn!(connection = %tunnel.config.name, "peer does not answer DPD");
        self.drop_everything(connection, DownReason::PeerDead);
        let Some(tunnel) = self.tunnels.get_mut(&connection) else {
            return;
        };
        match policy.action {
            DpdAction::Restart => {
                tunnel.wanted.extend(lost);
                self.cx.emit(Event::HoldTraffic {
                    connection,
                    at_most: HOLD,
                });
            }
            DpdAction::Hold | DpdAction::Clear => tunnel.wanted.clear(),
        }
        if let Some(remote) = remote {
            let text = "dead peer detection: no answer to any probe".to_owned();
            self.report_failure(Some(connection), remote, Phase::Phase1, text);
        }
        self.upkeep(connection);
    }

    /// Every SA of a connection goes, without a word to the peer.
    pub(super) fn drop_everything(&mut self, connection: ConnectionId, reason: DownReason) {
        let Some(tunnel) = self.tunnels.get_mut(&connection) else {
            return;
        };
        tunnel.remove_all(reason, &mut self.cx);
        let sas = tunnel.ike_sas.clone();
        for id in sas {
            self.remove_ike_sa(id, reason);
        }
    }

    /// Every SA of a connection goes, and the peer is told; exchanges in progress end.
    pub(super) fn terminate(&mut self, connection: ConnectionId, reason: DownReason) {
        let Some(tunnel) = self.tunnels.get_mut(&connection) else {
            return;
        };
        tunnel.wanted.clear();
        tunnel.rounds.clear();
        tunnel.succeed();
        let children: Vec<Spi> = tunnel.children.keys().copied().collect();
        for child in tunnel.children.values_mut() {
            child.stage = Stage::Retiring;
        }
        for inbound in children {
            self.delete_child(connection, inbound, reason);
        }
        let sas = self
            .tunnels
            .get(&connection)
            .map(|tunnel| tunnel.ike_sas.clone())
            .unwrap_or_default();
        for id in sas {
            self.delete_ike_sa(id, reason);
        }
        self.abandon_exchanges(connection);
        let owner = Owner::Tunnel(connection);
        self.cx.timers.cancel_all(owner);
    }

    /// Phase-1 exchanges in progress end without a word.
    pub(super) fn abandon_exchanges(&mut self, connection: ConnectionId) {
        let keys: Vec<_> = self
            .half_open
            .iter()
            .filter(|in_progress| in_progress.exchange.connection.id == connection)
            .map(|in_progress| in_progress.exchange.key)
            .collect();
        for key in keys {
            self.half_open.take(&key);
            self.cx.timers.cancel_all(Owner::Exchange(key));
        }
    }

    /// The IKE SA has reached its end.
    pub(super) fn ike_sa_expired(&mut self, id: CookiePair) {
        let Some(sa) = self.sas.get(&id) else {
            return;
        };
        let connection = sa.connection;
        let reason = if sa.retiring {
            DownReason::Replaced
        } else {
            DownReason::Expired
        };
        self.delete_ike_sa(id, reason);
        self.upkeep(connection);
    }

    /// The ESP SA pair has reached its end.
    pub(super) fn child_expired(&mut self, connection: ConnectionId, inbound: Spi) {
        let Some(tunnel) = self.tunnels.get_mut(&connection) else {
            return;
        };
        let Some(child) = tunnel.children.get(&inbound) else {
            return;
        };
        let reason = match child.stage {
            Stage::Retiring => DownReason::Replaced,
            Stage::Ready | Stage::InUse => DownReason::Expired,
        };
        self.delete_child(connection, inbound, reason);
        self.upkeep(connection);
    }

    /// RESPONDER-LIFETIME for phase 1.
    pub(super) fn shorten_ike_lifetime(&mut self, id: CookiePair, lifetime: crate::wire::Lifetime) {
        let Some(sa) = self.sas.get_mut(&id) else {
            return;
        };
        let Some(time) = lifetime.time() else {
            return;
        };
        let end = sa.established + time;
        if end >= sa.expires || sa.role == Role::Responder {
            return;
        }
        let cut = sa.expires - end;
        sa.expires = end;
        let owner = Owner::IkeSa(id);
        let timers = &mut self.cx.timers;
        timers.set_at_latest(owner, TimerName::IkeSaExpire, end);
        if let Some(rekey) = timers.get(owner, TimerName::IkeSaRekey) {
            let earlier = rekey.checked_sub(cut).unwrap_or(self.cx.now);
            timers.set(owner, TimerName::IkeSaRekey, earlier);
        }
    }

    /// A finished quick mode is old enough to be forgotten.
    pub(super) fn phase2_expire(&mut self, id: CookiePair, message_id: u32) {
        self.forget_quick(id, MessageId(message_id));
    }
}
