//! Quick mode from the negotiator's side.

use core::time::Duration;

use ipsec_types::{SelectorPair, Spi};

use super::Negotiator;
use super::phase1_flow::fingerprint;
use super::timers::Owner;
use super::tunnel::{COMMIT_PATIENCE, SWITCH_DELAY};
use crate::api::{Phase, Role, TimerName};
use crate::config::RetransmitPolicy;
use crate::counters::DropReason;
use crate::error::{Mismatch, PeerMisbehaved, Refused};
use crate::exchange::{check, quick_mode};
use crate::natt::Path;
use crate::phase1::Fingerprint;
use crate::phase2::{QuickMode, QuickState, host_selectors, initiator, responder};
use crate::proposal::phase2::rounds;
use crate::retransmit::Retransmit;
use crate::sa::child::owner;
use crate::sa::ike::MAX_QUICK_MODES;
use crate::wire::{
    CookiePair, Message, MessageId, Notification, NotifyType, Payload, ProtectedMessage,
    ProtocolId, SpiBytes,
};

/// How long the initiator remembers a finished quick mode, to repeat message 3; and a
/// responder one that it has refused, to repeat the refusal.
const REMEMBER_FINISHED: Duration = Duration::from_secs(60);
/// Refusals are remembered while no more quick modes than this are: the room beyond is for
/// those that may succeed.
const MAX_REFUSALS: usize = MAX_QUICK_MODES / 2;

impl Negotiator {
    /// Starts a quick mode under an IKE SA.
    pub(super) fn start_quick_mode(&mut self, id: CookiePair, selectors: SelectorPair) {
        let Some(sa) = self.sas.get_mut(&id) else {
            return;
        };
        let Some(tunnel) = self.tunnels.get(&sa.connection) else {
            return;
        };
        let rounds = rounds(&tunnel.config.phase2);
        let round = tunnel.rounds.get(&selectors).copied().unwrap_or(0);
        let group = rounds.get(round).copied().flatten();
        let message_id = sa.fresh_message_id(&mut self.cx);
        let begun = initiator::begin(
            sa,
            &tunnel.config,
            message_id,
            selectors,
            group,
            &mut self.cx,
        );
        let (state, datagram) = match begun {
            Ok(begun) => begun,
            Err(refused) => {
                let (connection, remote) = (sa.connection, sa.path.remote);
                self.report_failure(Some(connection), remote, Phase::Phase2, refused.to_string());
                self.attempt_failed(connection);
                return;
            }
        };
        let retransmit = Retransmit::new(tunnel.config.retransmit);
        let at = self.cx.now + retransmit.first_wait();
        let timer = Owner::QuickMode(id, message_id.0);
        self.cx.timers.set(timer, TimerName::Phase2Retransmit, at);
        self.cx.send(sa.path, datagram.clone());
        let quick_mode = QuickMode {
            id: message_id,
            selectors,
            started: self.cx.now,
            state: QuickState::AwaitQuick2(state),
            last_in: None,
            last_out: datagram,
            retransmit,
        };
        sa.quick_modes.insert(message_id.0, quick_mode);
        self.cx.mark_changed(sa.connection);
    }

    /// A quick-mode message under an established IKE SA.
    pub(super) fn receive_quick(
        &mut self,
        id: CookiePair,
        protected: &ProtectedMessage,
        from: Path,
        raw: &[u8],
    ) {
        let message_id = protected.header.message_id;
        let print = fingerprint(raw);
        let Some(sa) = self.sas.get_mut(&id) else {
            return;
        };
        if let Some(quick) = sa.quick_modes.get(&message_id.0) {
            if quick.last_in.as_ref() == Some(&print) {
                self.cx.drop_because(DropReason::Duplicate);
                self.cx.send_again(sa.path, quick.last_out.clone());
                return;
            }
            self.continue_quick(id, protected, from, print);
            return;
        }
        if sa.used.contains(message_id) {
            self.cx.drop_because(DropReason::ReplayedMessageId);
            return;
        }
        if sa.quick_modes.len() >= MAX_QUICK_MODES {
            self.cx.drop_because(DropReason::TooManyQuickModes);
            return;
        }
        if let Err(refused) = self.answer_quick(id, protected, from, print.clone()) {
            self.refuse_quick(id, message_id, from, print, &refused);
        }
    }

    /// Message 1 of a quick mode that the peer begins.
    fn answer_quick(
        &mut self,
        id: CookiePair,
        protected: &ProtectedMessage,
        from: Path,
        print: Fingerprint,
    ) -> Result<(), Refused> {
        let message_id = protected.header.message_id;
        let rule = &quick_mode::MESSAGE_1;
        let Some(sa) = self.sas.get_mut(&id) else {
            return Ok(());
        };
        let iv = sa.first_iv(message_id);
        let (message, next_iv) = sa.open(protected, &iv, rule.name)?;
        sa.verify_hash_1(&message, rule.name)?;
        // Authentic from here on: the id is used up whatever comes of it.
        if sa.commit_message_id(message_id).is_err() {
            self.cx.drop_because(DropReason::ReplayedMessageId);
            return Ok(());
        }
        self.authentic(id, from);
        self.heard(id);
        let Some(sa) = self.sas.get_mut(&id) else {
            return Ok(());
        };
        let Some(tunnel) = self.tunnels.get_mut(&sa.connection) else {
            return Ok(());
        };
        let quick = responder::answer(sa, &tunnel.config, &message, &next_iv, &mut self.cx)?;
        let retransmit = Retransmit::new(tunnel.config.retransmit);
        let at = self.cx.now + retransmit.first_wait();
        let timer = Owner::QuickMode(id, message_id.0);
        self.cx.timers.set(timer, TimerName::Phase2Retransmit, at);
        self.cx.send(sa.path, quick.answer.clone());
        let selectors = quick.new.pair.inbound.selectors;
        let began = self.cx.now;
        tunnel.install(quick.new, Role::Responder, began, &mut self.cx);
        sa.quick_modes.insert(
            message_id.0,
            QuickMode {
                id: message_id,
                selectors,
                started: self.cx.now,
                state: QuickState::AwaitQuick3(quick.state),
                last_in: Some(print),
                last_out: quick.answer,
                retransmit,
            },
        );
        Ok(())
    }

    /// The peer is told why (protected), and so is the user.
    fn refuse_quick(
        &mut self,
        id: CookiePair,
        message_id: MessageId,
        from: Path,
        print: Fingerprint,
        refused: &Refused,
    ) {
        self.cx.drop_because(refused.reason());
        tracing::debug!(ike_sa = %id, %message_id, %refused, "quick mode refused");
        let Refused::Config(mismatch) = refused else {
            return;
        };
        let kind = match mismatch {
            Mismatch::Phase2Proposal(_) => NotifyType::NO_PROPOSAL_CHOSEN,
            Mismatch::Selectors { .. } => NotifyType::INVALID_ID_INFORMATION,
            Mismatch::Phase1Proposal(_)
            | Mismatch::Identity { .. }
            | Mismatch::Undecipherable(_)
            | Mismatch::Unauthenticated(_)
            | Mismatch::NoNatTraversal => return,
        };
        let Some(sa) = self.sas.get_mut(&id) else {
            return;
        };
        let connection = sa.connection;
        let notification = Notification::plain(ProtocolId::ESP, SpiBytes::EMPTY, kind);
        let said = sa.send_informational(vec![notification.into()], &mut self.cx);
        if sa.quick_modes.len() < MAX_REFUSALS {
            let forget = self.cx.now + REMEMBER_FINISHED;
            let timer = Owner::QuickMode(id, message_id.0);
            self.cx.timers.set(timer, TimerName::Phase2Expire, forget);
            let refusal = QuickMode {
                id: message_id,
                selectors: host_selectors(sa),
                started: self.cx.now,
                state: QuickState::Finished,
                last_in: Some(print),
                last_out: said,
                retransmit: Retransmit::new(RetransmitPolicy::default()),
            };
            sa.quick_modes.insert(message_id.0, refusal);
        }
        self.cx.counters.totals.phase2_failures += 1;
        self.report_failure(
            Some(connection),
            from.remote,
            Phase::Phase2,
            refused.to_string(),
        );
    }

    /// A message of a quick mode in progress.
    fn continue_quick(
        &mut self,
        id: CookiePair,
        protected: &ProtectedMessage,
        from: Path,
        print: Fingerprint,
    ) {
        let message_id = protected.header.message_id;
        let outcome = match self.quick_state(id, message_id) {
            Some(QuickState::AwaitQuick2(_)) => self.receive_quick2(id, protected, from, print),
            Some(QuickState::AwaitQuick3(_)) => self.receive_quick3(id, protected, from, print),
            Some(QuickState::AwaitConnected { .. }) => {
                self.receive_connected(id, protected, from, print)
            }
            Some(QuickState::Finished) | None => {
                self.cx.drop_because(DropReason::OutOfOrder);
                Ok(())
            }
        };
        if let Err(refused) = outcome {
            self.cx.drop_because(refused.reason());
            tracing::debug!(ike_sa = %id, %message_id, %refused, "quick-mode message refused");
        }
    }

    fn quick_state(&self, id: CookiePair, message_id: MessageId) -> Option<&QuickState> {
        let quick = self.sas.get(&id)?.quick_modes.get(&message_id.0)?;
        Some(&quick.state)
    }

    /// Message 2: the pair is negotiated.
    fn receive_quick2(
        &mut self,
        id: CookiePair,
        protected: &ProtectedMessage,
        from: Path,
        print: Fingerprint,
    ) -> Result<(), Refused> {
        let message_id = protected.header.message_id;
        let Some(sa) = self.sas.get(&id) else {
            return Ok(());
        };
        let Some(tunnel) = self.tunnels.get(&sa.connection) else {
            return Ok(());
        };
        let Some(quick) = sa.quick_modes.get(&message_id.0) else {
            return Ok(());
        };
        let QuickState::AwaitQuick2(state) = &quick.state else {
            return Ok(());
        };
        let (message, next_iv) = sa.open(protected, &state.iv, quick_mode::MESSAGE_2.name)?;
        let read = state.read(
            sa,
            &tunnel.config,
            quick.selectors,
            &message,
            &next_iv,
            &mut self.cx,
        )?;
        self.authentic(id, from);
        self.heard(id);
        self.finish_quick2(id, message_id, read, print);
        Ok(())
    }

    fn finish_quick2(
        &mut self,
        id: CookiePair,
        message_id: MessageId,
        read: initiator::Quick2,
        print: Fingerprint,
    ) {
        let Some(sa) = self.sas.get_mut(&id) else {
            return;
        };
        let Some(tunnel) = self.tunnels.get_mut(&sa.connection) else {
            return;
        };
        let Some(quick) = sa.quick_modes.get_mut(&message_id.0) else {
            return;
        };
        let inbound = read.new.pair.inbound.spi;
        sa.fruitful = true;
        quick.last_in = Some(print);
        quick.last_out = read.answer;
        quick.state = if read.commit {
            QuickState::AwaitConnected {
                inbound,
                iv: read.iv,
            }
        } else {
            QuickState::Finished
        };
        self.cx.send(sa.path, quick.last_out.clone());
        let timer = Owner::QuickMode(id, message_id.0);
        self.cx.timers.cancel(timer, TimerName::Phase2Retransmit);
        let forget = self.cx.now + REMEMBER_FINISHED;
        self.cx.timers.set(timer, TimerName::Phase2Expire, forget);
        let replaces = tunnel.in_use(quick.selectors).is_some();
        tunnel.install(read.new, Role::Initiator, quick.started, &mut self.cx);
        tunnel.succeed();
        let wait = match (read.commit, replaces) {
            (true, _) => Some(COMMIT_PATIENCE),
            (false, true) => Some(SWITCH_DELAY),
            (false, false) => None,
        };
        if let Some(wait) = wait {
            let timer = owner(tunnel.id(), inbound);
            let at = self.cx.now + wait;
            self.cx.timers.set(timer, TimerName::OutboundSwitch, at);
        } else {
            tunnel.activate(inbound, &mut self.cx);
        }
        let connection = sa.connection;
        self.upkeep(connection);
    }

    /// Message 3: the initiator has both directions.
    fn receive_quick3(
        &mut self,
        id: CookiePair,
        protected: &ProtectedMessage,
        from: Path,
        print: Fingerprint,
    ) -> Result<(), Refused> {
        let message_id = protected.header.message_id;
        let Some(sa) = self.sas.get(&id) else {
            return Ok(());
        };
        let Some(QuickState::AwaitQuick3(state)) = self.quick_state(id, message_id) else {
            return Ok(());
        };
        let (message, _) = sa.open(protected, &state.iv, quick_mode::MESSAGE_3.name)?;
        state.read(sa, &message)?;
        let inbound = state.inbound;
        self.authentic(id, from);
        self.heard(id);
        let Some(sa) = self.sas.get_mut(&id) else {
            return Ok(());
        };
        let connection = sa.connection;
        sa.fruitful = true;
        if let Some(quick) = sa.quick_modes.get_mut(&message_id.0) {
            quick.state = QuickState::Finished;
            quick.last_in = Some(print);
            quick.last_out = Vec::new();
        }
        self.forget_quick(id, message_id);
        if let Some(tunnel) = self.tunnels.get_mut(&connection) {
            tunnel.succeed();
            tunnel.activate(inbound, &mut self.cx);
        }
        self.upkeep(connection);
        Ok(())
    }

    /// CONNECTED after a commit bit (RFC 2408 §3.1).
    fn receive_connected(
        &mut self,
        id: CookiePair,
        protected: &ProtectedMessage,
        from: Path,
        print: Fingerprint,
    ) -> Result<(), Refused> {
        let message_id = protected.header.message_id;
        let rule = &quick_mode::CONNECTED;
        let Some(sa) = self.sas.get(&id) else {
            return Ok(());
        };
        let Some(QuickState::AwaitConnected { inbound, iv }) = self.quick_state(id, message_id)
        else {
            return Ok(());
        };
        let (message, _) = sa.open(protected, iv, rule.name)?;
        check(rule, &message)?;
        sa.verify_hash_1(&message, rule.name)?;
        if !is_connected(&message) {
            return Err(PeerMisbehaved::UnexpectedPayload(
                crate::wire::PayloadType::NOTIFICATION,
                rule.name,
            )
            .into());
        }
        let inbound = *inbound;
        self.authentic(id, from);
        self.heard(id);
        self.connected(id, message_id, inbound, Some(print));
        Ok(())
    }

    /// The responder has its side ready.
    pub(super) fn connected(
        &mut self,
        id: CookiePair,
        message_id: MessageId,
        inbound: Spi,
        print: Option<Fingerprint>,
    ) {
        let Some(sa) = self.sas.get_mut(&id) else {
            return;
        };
        let connection = sa.connection;
        if let Some(quick) = sa.quick_modes.get_mut(&message_id.0) {
            quick.state = QuickState::Finished;
            quick.last_in = print.or(quick.last_in.take());
        }
        if let Some(tunnel) = self.tunnels.get_mut(&connection) {
            tunnel.activate(inbound, &mut self.cx);
        }
        self.upkeep(connection);
    }
}

/// True when it carries CONNECTED.
pub(super) fn is_connected(message: &Message) -> bool {
    message.chain.payloads().iter().any(
        |payload| matches!(payload, Payload::Notification(n) if n.kind() == NotifyType::CONNECTED),
    )
}
