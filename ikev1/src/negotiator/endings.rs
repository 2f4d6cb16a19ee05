//! How SAs end: deleted by either side, expired, or with a peer that is dead.

use core::time::Duration;
use std::sync::Arc;

use ipsec_types::{ConnectionId, SelectorPair, Spi};

use super::Negotiator;
use super::timers::Owner;
use crate::api::{DownReason, Event, Phase, Role, TimerName};
use crate::config::{DpdAction, StartMode};
use crate::dpd::DpdStep;
use crate::phase2::QuickState;
use crate::sa::child::{FAREWELL_INTERVAL, Stage, owner};
use crate::wire::{CookiePair, Delete, Lifetime, Notification, NotifyType};

/// How long a daemon may hold packets for a tunnel that is coming back at once.
const HOLD: Duration = Duration::from_secs(5);

impl Negotiator {
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
        tracing::debug!(connection = %tunnel.config.name, ike_sa = %id, %reason, "IKE SA down");
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
        self.send_delete(connection, inbound);
        if let Some(tunnel) = self.tunnels.get_mut(&connection) {
            tunnel.remove(inbound, reason, &mut self.cx);
        }
    }

    fn send_delete(&mut self, connection: ConnectionId, inbound: Spi) {
        if let Some(id) = self.any_ike_sa(connection)
            && let Some(sa) = self.sas.get_mut(&id)
        {
            sa.send_informational(vec![Delete::esp(inbound).into()], &mut self.cx);
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
        if self.current_ike_sa(connection).is_none() {
            self.revive(connection);
        }
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
        self.cx.mark_changed(connection);
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
        if sa.farewells > 0 {
            self.say_farewell(id);
            return;
        }
        let Some(sa) = self.sas.get(&id) else {
            return;
        };
        let reason = if sa.retiring {
            DownReason::Replaced
        } else {
            DownReason::Expired
        };
        self.delete_ike_sa(id, reason);
        self.upkeep(connection);
    }

    /// A delete of an IKE SA that the peer may see as the one in use; it lives on for a moment.
    fn say_farewell(&mut self, id: CookiePair) {
        if let Some(sa) = self.sas.get_mut(&id) {
            sa.farewells -= 1;
            sa.send_informational(vec![Delete::isakmp(id).into()], &mut self.cx);
            let at = self.cx.now + FAREWELL_INTERVAL;
            let owner = Owner::IkeSa(id);
            self.cx.timers.set(owner, TimerName::IkeSaExpire, at);
        }
    }

    /// The peer has deleted the IKE SA that we used. One that we had put aside, because the
    /// two crossed, is what the peer uses then.
    fn revive(&mut self, connection: ConnectionId) {
        let Some(tunnel) = self.tunnels.get(&connection) else {
            return;
        };
        let config = Arc::clone(&tunnel.config);
        let aside = tunnel.ike_sas.iter().rev().copied().find(|id| {
            self.sas
                .get(id)
                .is_some_and(|sa| sa.farewells > 0 && sa.expires > self.cx.now)
        });
        let Some(mut sa) = aside.and_then(|id| self.sas.remove(&id)) else {
            return;
        };
        sa.retiring = false;
        sa.farewells = 0;
        self.start_ike_timers(&sa, &config);
        self.sas.insert(sa.id, sa);
    }

    /// The ESP SA pair has reached its end.
    pub(super) fn child_expired(&mut self, connection: ConnectionId, inbound: Spi) {
        let Some(tunnel) = self.tunnels.get_mut(&connection) else {
            return;
        };
        let Some(child) = tunnel.children.get_mut(&inbound) else {
            return;
        };
        if child.farewells > 0 {
            child.farewells -= 1;
            let at = self.cx.now + FAREWELL_INTERVAL;
            let timer = owner(connection, inbound);
            self.cx.timers.set(timer, TimerName::EspSaExpire, at);
            self.send_delete(connection, inbound);
            return;
        }
        let reason = match child.stage {
            Stage::Retiring => DownReason::Replaced,
            Stage::Ready | Stage::InUse => DownReason::Expired,
        };
        self.delete_child(connection, inbound, reason);
        self.upkeep(connection);
    }

    /// RESPONDER-LIFETIME for phase 1.
    pub(super) fn shorten_ike_lifetime(&mut self, id: CookiePair, lifetime: Lifetime) {
        let Some(sa) = self.sas.get_mut(&id) else {
            return;
        };
        let Some(time) = lifetime.time() else {
            return;
        };
        // The peer's number may be beyond any clock: it is compared before it is added.
        let granted = sa.expires.saturating_duration_since(sa.established);
        if time >= granted || sa.role == Role::Responder {
            return;
        }
        let cut = granted - time;
        let end = sa.established + time;
        sa.expires = end;
        let owner = Owner::IkeSa(id);
        let timers = &mut self.cx.timers;
        timers.set_at_latest(owner, TimerName::IkeSaExpire, end);
        if let Some(rekey) = timers.get(owner, TimerName::IkeSaRekey) {
            let earlier = rekey.checked_sub(cut).unwrap_or(self.cx.now);
            timers.set(owner, TimerName::IkeSaRekey, earlier);
        }
    }
}
