//! Each deadline and what it leads to.

use super::Negotiator;
use super::timers::Owner;
use crate::api::TimerName;

impl Negotiator {
    pub(super) fn fire_timers(&mut self) {
        while let Some((owner, name)) = self.cx.timers.pop_due(self.cx.now) {
            tracing::trace!(?owner, ?name, "timer");
            match self.postponed(name) {
                Some(later) => self.cx.timers.set(owner, name, later),
                None => self.fire(owner, name),
            }
        }
    }

    fn fire(&mut self, owner: Owner, name: TimerName) {
        match owner {
            Owner::Exchange(key) => match name {
                TimerName::Phase1Retransmit => self.phase1_retransmit(key),
                _ => self.phase1_expire(key),
            },
            Owner::QuickMode(id, message_id) => match name {
                TimerName::Phase2Retransmit => self.phase2_retransmit(id, message_id),
                _ => self.phase2_expire(id, message_id),
            },
            Owner::IkeSa(id) => match name {
                TimerName::IkeSaRekey => self.ike_sa_rekey(id),
                TimerName::Dpd => self.dpd_timer(id),
                TimerName::NatKeepalive => self.nat_keepalive(id),
                _ => self.ike_sa_expired(id),
            },
            Owner::Child(connection, inbound) => match name {
                TimerName::EspSaRekey => self.child_rekey(connection, inbound),
                TimerName::OutboundSwitch => self.child_switch(connection, inbound),
                _ => self.child_expired(connection, inbound),
            },
            Owner::Tunnel(id) => self.upkeep(id),
        }
    }

    fn ike_sa_rekey(&mut self, id: crate::api::IkeSaId) {
        if let Some(sa) = self.sas.get_mut(&id) {
            sa.rekey_due = true;
            let connection = sa.connection;
            self.upkeep(connection);
        }
    }

    fn nat_keepalive(&mut self, id: crate::api::IkeSaId) {
        let Some(sa) = self.sas.get(&id) else {
            return;
        };
        let Some(tunnel) = self.tunnels.get(&sa.connection) else {
            return;
        };
        let at = self.cx.now + tunnel.config.nat_keepalive;
        self.cx.send_keepalive(sa.path);
        let owner = Owner::IkeSa(id);
        self.cx.timers.set(owner, TimerName::NatKeepalive, at);
    }

    /// The pair is near its end: its replacement is due.
    pub(super) fn child_rekey(
        &mut self,
        connection: ipsec_types::ConnectionId,
        inbound: ipsec_types::Spi,
    ) {
        if let Some(tunnel) = self.tunnels.get_mut(&connection)
            && let Some(child) = tunnel.children.get_mut(&inbound)
        {
            child.rekey_due = true;
            self.upkeep(connection);
        }
    }

    fn child_switch(&mut self, connection: ipsec_types::ConnectionId, inbound: ipsec_types::Spi) {
        if let Some(tunnel) = self.tunnels.get_mut(&connection) {
            tunnel.activate(inbound, &mut self.cx);
            self.upkeep(connection);
        }
    }
}
