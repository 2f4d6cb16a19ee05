//! Informational exchanges: deletes, DPD and notifications (RFC 2409 §5.7). Only protected
//! ones have an effect (invariant I5).

use ipsec_types::Spi;

use super::Negotiator;
use super::phase2_flow::is_connected;
use crate::api::{DownReason, TimerName};
use crate::counters::DropReason;
use crate::error::Refused;
use crate::exchange::{check, informational};
use crate::natt::Path;
use crate::phase2::QuickState;
use crate::proposal::phase2::shortened_by;
use crate::sa::child::owner;
use crate::wire::{
    CookiePair, Delete, DeletedSas, Message, MessageId, Notification, NotifyType, Payload,
    ProtectedMessage, ProtocolId,
};

impl Negotiator {
    /// A protected informational message under an established IKE SA.
    pub(super) fn receive_informational(
        &mut self,
        id: CookiePair,
        protected: &ProtectedMessage,
        from: Path,
    ) {
        let message_id = protected.header.message_id;
        match self.open_informational(id, protected) {
            Ok(Some(message)) => {
                self.authentic(id, from);
                // A DPD message that somebody held back proves nothing about now: its number
                // decides (RFC 3706 §6).
                if !is_dead_peer_detection(&message) {
                    self.heard(id);
                }
                self.obey(id, &message);
            }
            Ok(None) => self.cx.drop_because(DropReason::ReplayedMessageId),
            Err(refused) => {
                self.cx.drop_because(refused.reason());
                tracing::debug!(ike_sa = %id, %message_id, %refused, "informational refused");
            }
        }
    }

    /// `None` for a replay.
    fn open_informational(
        &mut self,
        id: CookiePair,
        protected: &ProtectedMessage,
    ) -> Result<Option<Message>, Refused> {
        let message_id = protected.header.message_id;
        let rule = &informational::PROTECTED;
        let Some(sa) = self.sas.get_mut(&id) else {
            return Ok(None);
        };
        // The id of a quick mode is used up, but CONNECTED comes under it (RFC 2408 §3.1).
        let connected = sa
            .quick_modes
            .get(&message_id.0)
            .is_some_and(|quick| matches!(quick.state, QuickState::AwaitConnected { .. }));
        if sa.used.contains(message_id) && !connected {
            return Ok(None);
        }
        let (message, _) = sa.open(protected, &sa.first_iv(message_id), rule.name)?;
        check(rule, &message)?;
        sa.verify_hash_1(&message, rule.name)?;
        if connected {
            return Ok(is_connected(&message).then_some(message));
        }
        Ok(sa.commit_message_id(message_id).ok().map(|()| message))
    }

    /// Does what an authentic message says. Deletes come last: they may take the IKE SA away.
    fn obey(&mut self, id: CookiePair, message: &Message) {
        for payload in message.chain.payloads() {
            if let Payload::Notification(notification) = payload {
                self.obey_notification(id, message.header.message_id, notification);
            }
        }
        for payload in message.chain.payloads() {
            if let Payload::Delete(delete) = payload {
                self.obey_delete(id, delete);
            }
        }
    }

    fn obey_notification(
        &mut self,
        id: CookiePair,
        message_id: MessageId,
        notification: &Notification,
    ) {
        tracing::debug!(ike_sa = %id, kind = %notification.kind(), "notification");
        match notification.kind() {
            NotifyType::R_U_THERE => self.answer_probe(id, notification),
            NotifyType::R_U_THERE_ACK => self.probe_answered(id, notification),
            NotifyType::INITIAL_CONTACT => self.late_initial_contact(id),
            NotifyType::RESPONDER_LIFETIME => self.shorten_lifetime(id, notification),
            NotifyType::CONNECTED => self.late_connected(id, message_id, notification),
            NotifyType::INVALID_SPI => self.peer_lost_sa(id, notification),
            kind if kind.is_error() => self.quick_refused(id, spi_of(notification), kind),
            _ => {}
        }
    }

    fn answer_probe(&mut self, id: CookiePair, notification: &Notification) {
        let Some(sequence) = probe_sequence(id, notification) else {
            self.cx.drop_because(DropReason::BadDpdSequence);
            return;
        };
        let Some(sa) = self.sas.get_mut(&id) else {
            return;
        };
        if !sa.dpd.accepts_probe(sequence) {
            self.cx.drop_because(DropReason::BadDpdSequence);
            return;
        }
        sa.dpd.heard(self.cx.now);
        let kind = NotifyType::R_U_THERE_ACK;
        let answer = Notification::dead_peer_detection(kind, id, sequence);
        sa.send_informational(vec![answer.into()], &mut self.cx);
    }

    fn probe_answered(&mut self, id: CookiePair, notification: &Notification) {
        let sequence = probe_sequence(id, notification);
        let Some(sa) = self.sas.get_mut(&id) else {
            return;
        };
        let now = self.cx.now;
        if !sequence.is_some_and(|sequence| sa.dpd.acknowledged(sequence, now)) {
            self.cx.drop_because(DropReason::BadDpdSequence);
        }
    }

    /// INITIAL-CONTACT in a message of its own: what is older than this IKE SA is gone.
    fn late_initial_contact(&mut self, id: CookiePair) {
        let Some(sa) = self.sas.get(&id) else {
            return;
        };
        let (connection, since) = (sa.connection, sa.established);
        self.honour_initial_contact(connection, since);
        self.upkeep(connection);
    }

    fn shorten_lifetime(&mut self, id: CookiePair, notification: &Notification) {
        let Ok(lifetime) = notification.lifetime() else {
            return;
        };
        if notification.protocol() == ProtocolId::ISAKMP {
            self.shorten_ike_lifetime(id, lifetime);
            return;
        }
        let Some(sa) = self.sas.get(&id) else {
            return;
        };
        let Some(tunnel) = self.tunnels.get_mut(&sa.connection) else {
            return;
        };
        let spi = spi_of(notification);
        let connection = tunnel.id();
        let child = tunnel
            .children
            .values_mut()
            .find(|child| Some(child.inbound) == spi || Some(child.outbound) == spi);
        let Some(child) = child else {
            self.cx.drop_because(DropReason::UnknownSpi);
            return;
        };
        let shorter = shortened_by(child.lifetime, lifetime);
        if shorter.time < child.lifetime.time {
            let cut = child.lifetime.time - shorter.time;
            child.lifetime = shorter;
            child.expires = child.established + shorter.time;
            let timer = owner(connection, child.inbound);
            let timers = &mut self.cx.timers;
            timers.set_at_latest(timer, TimerName::EspSaExpire, child.expires);
            if let Some(rekey) = timers.get(timer, TimerName::EspSaRekey) {
                let earlier = rekey.checked_sub(cut).unwrap_or(self.cx.now);
                timers.set(timer, TimerName::EspSaRekey, earlier);
            }
        }
    }

    /// CONNECTED in an informational exchange: under the message id of its quick mode, or, as
    /// some peers send it, under one of its own; then the SPI tells which one is meant.
    fn late_connected(
        &mut self,
        id: CookiePair,
        message_id: MessageId,
        notification: &Notification,
    ) {
        let spi = spi_of(notification);
        let Some(sa) = self.sas.get(&id) else {
            return;
        };
        let meant = |quick: MessageId, inbound: Spi| {
            if sa.quick_modes.contains_key(&message_id.0) {
                return quick == message_id;
            }
            spi.is_none_or(|spi| spi == inbound)
        };
        let awaiting = sa
            .quick_modes
            .values()
            .find_map(|quick| match &quick.state {
                QuickState::AwaitConnected { inbound, .. } if meant(quick.id, *inbound) => {
                    Some((quick.id, *inbound))
                }
                QuickState::AwaitConnected { .. }
                | QuickState::AwaitQuick2(_)
                | QuickState::AwaitQuick3(_)
                | QuickState::Finished => None,
            });
        if let Some((message_id, inbound)) = awaiting {
            self.connected(id, message_id, inbound, None);
        }
    }

    /// INVALID-SPI: the peer has no SA for what we send. A fresh quick mode replaces it.
    fn peer_lost_sa(&mut self, id: CookiePair, notification: &Notification) {
        let spi = spi_of(notification).or_else(|| {
            let bytes = notification.data().try_into().ok()?;
            Spi::new(u32::from_be_bytes(bytes)).ok()
        });
        let Some(sa) = self.sas.get(&id) else {
            return;
        };
        let connection = sa.connection;
        let Some(tunnel) = self.tunnels.get_mut(&connection) else {
            return;
        };
        let lost = tunnel
            .children
            .values_mut()
            .find(|child| Some(child.outbound) == spi);
        match lost {
            // A pair that was made a moment ago may simply not be installed there yet.
            Some(child) if self.cx.now.saturating_duration_since(child.established) > GRACE => {
                child.rekey_due = true;
                self.upkeep(connection);
            }
            Some(_) => {}
            None => self.cx.drop_because(DropReason::UnknownSpi),
        }
    }

    fn obey_delete(&mut self, id: CookiePair, delete: &Delete) {
        match delete.sas() {
            DeletedSas::Isakmp(cookies) => {
                for &deleted in cookies {
                    self.peer_deleted_ike_sa(id, deleted);
                }
            }
            DeletedSas::Esp(spis) => {
                for &spi in spis {
                    self.peer_deleted_child(id, spi);
                }
            }
            DeletedSas::Other(..) => self.cx.drop_because(DropReason::UnknownSpi),
        }
    }

    /// An IKE SA may be deleted under itself or under another one with the same peer.
    fn peer_deleted_ike_sa(&mut self, under: CookiePair, deleted: CookiePair) {
        let connection = self.sas.get(&deleted).map(|sa| sa.connection);
        let same_peer = match (connection, self.sas.get(&under)) {
            (Some(connection), Some(under)) => under.connection == connection,
            // It was deleted by the same message just before.
            (Some(_), None) | (None, _) => false,
        };
        let Some(connection) = connection.filter(|_| same_peer) else {
            self.cx.drop_because(DropReason::UnknownSpi);
            return;
        };
        self.remove_ike_sa(deleted, DownReason::DeletedByPeer);
        self.ike_sa_deleted(connection);
    }

    fn peer_deleted_child(&mut self, id: CookiePair, spi: u32) {
        let Some(sa) = self.sas.get(&id) else {
            return;
        };
        let connection = sa.connection;
        let Some(tunnel) = self.tunnels.get_mut(&connection) else {
            return;
        };
        // The peer names its inbound SPI, which is our outbound one.
        let child = tunnel
            .children
            .values()
            .find(|child| child.outbound.get() == spi)
            .map(|child| (child.inbound, child.selectors, child.established));
        let Some((inbound, selectors, established)) = child else {
            self.cx.drop_because(DropReason::UnknownSpi);
            return;
        };
        tunnel.remove(inbound, DownReason::DeletedByPeer, &mut self.cx);
        let young = self.cx.now.saturating_duration_since(established) < GRACE;
        self.child_deleted(connection, selectors, young);
    }
}

/// A pair younger than this is deleted or unknown because something crossed on the way.
const GRACE: core::time::Duration = core::time::Duration::from_secs(5);

/// True when a message carries nothing but DPD.
fn is_dead_peer_detection(message: &Message) -> bool {
    message
        .chain
        .payloads()
        .iter()
        .all(|payload| match payload {
            Payload::Hash(_) => true,
            Payload::Notification(notification) => matches!(
                notification.kind(),
                NotifyType::R_U_THERE | NotifyType::R_U_THERE_ACK
            ),
            _ => false,
        })
}

fn spi_of(notification: &Notification) -> Option<Spi> {
    let bytes = notification.spi().as_slice().try_into().ok()?;
    Spi::new(u32::from_be_bytes(bytes)).ok()
}

/// RFC 3706 §5.3: the SPI is both cookies. A peer that leaves it out is understood too.
fn probe_sequence(id: CookiePair, notification: &Notification) -> Option<u32> {
    let spi = notification.spi();
    let fits = spi.is_empty() || spi.as_slice() == id.to_bytes();
    fits.then(|| notification.dead_peer_detection_sequence())
        .flatten()
}

/// What a message in the clear may leave behind: words for the user, nothing else.
pub(super) fn hint_of(message: &Message) -> Option<String> {
    let kinds: Vec<String> = message
        .chain
        .payloads()
        .iter()
        .filter_map(|payload| match payload {
            Payload::Notification(n) => Some(n.kind().to_string()),
            _ => None,
        })
        .take(3)
        .collect();
    (!kinds.is_empty()).then(|| kinds.join(", "))
}
