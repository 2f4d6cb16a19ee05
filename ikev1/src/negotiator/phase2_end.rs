//! Quick modes that are resent, refused or given up.

use ipsec_types::Spi;

use super::Negotiator;
use super::timers::Owner;
use crate::api::{DownReason, Phase, TimerName};
use crate::counters::DropReason;
use crate::phase2::{QuickMode, QuickState};
use crate::proposal::phase2::rounds;
use crate::wire::{CookiePair, MessageId, NotifyType};

/// Refusals in a row, without any success under it, after which an IKE SA is given up.
const REFUSALS_TO_DOUBT: u32 = 3;

impl Negotiator {
    /// Resends message 1 or 2, or gives up.
    pub(super) fn phase2_retransmit(&mut self, id: CookiePair, message_id: u32) {
        let Some(sa) = self.sas.get_mut(&id) else {
            return;
        };
        let Some(quick) = sa.quick_modes.get_mut(&message_id) else {
            return;
        };
        if let Some(wait) = quick.retransmit.next() {
            let timer = Owner::QuickMode(id, message_id);
            let at = self.cx.now + wait;
            self.cx.timers.set(timer, TimerName::Phase2Retransmit, at);
            self.cx.send_again(sa.path, quick.last_out.clone());
            if !sa.confirmed
                && let Some(last) = &sa.last_phase1.sent
            {
                // The peer may lack the end of phase 1 (message 3 of aggressive mode).
                self.cx.send_again(sa.path, last.clone());
            }
            return;
        }
        self.give_up_quick(id, MessageId(message_id));
    }

    fn give_up_quick(&mut self, id: CookiePair, message_id: MessageId) {
        let Some(quick) = self.forget_quick(id, message_id) else {
            return;
        };
        self.cx.counters.totals.phase2_failures += 1;
        match quick.state {
            QuickState::AwaitQuick2(state) => {
                self.cx.release_spi(state.our_spi);
                self.ike_sa_unanswered(id, quick.selectors);
            }
            QuickState::AwaitQuick3(state) => self.withdraw(id, state.inbound),
            QuickState::AwaitConnected { .. } | QuickState::Finished => {}
        }
    }

    /// Takes a quick mode out, with its timers.
    pub(super) fn forget_quick(
        &mut self,
        id: CookiePair,
        message_id: MessageId,
    ) -> Option<QuickMode> {
        self.cx
            .timers
            .cancel_all(Owner::QuickMode(id, message_id.0));
        self.sas.get_mut(&id)?.quick_modes.remove(&message_id.0)
    }

    /// A protected notification says that our offer is refused. Notifications do not name the
    /// quick mode: the SPI does, where the peer fills it in; otherwise it is the only one.
    pub(super) fn quick_refused(&mut self, id: CookiePair, spi: Option<Spi>, kind: NotifyType) {
        let Some(sa) = self.sas.get(&id) else {
            return;
        };
        let mut awaiting = sa
            .quick_modes
            .values()
            .filter_map(|quick| match &quick.state {
                QuickState::AwaitQuick2(state) => Some((quick.id, state.our_spi, quick.selectors)),
                QuickState::AwaitQuick3(_)
                | QuickState::AwaitConnected { .. }
                | QuickState::Finished => None,
            });
        let found = match spi {
            Some(spi) => awaiting.find(|(_, ours, _)| *ours == spi),
            None => awaiting.next(),
        };
        let Some((message_id, our_spi, selectors)) = found else {
            self.cx.drop_because(DropReason::UnknownSpi);
            return;
        };
        let (connection, remote) = (sa.connection, sa.path.remote);
        self.forget_quick(id, message_id);
        self.cx.release_spi(our_spi);
        self.cx.counters.totals.phase2_failures += 1;
        let Some(tunnel) = self.tunnels.get_mut(&connection) else {
            return;
        };
        let policy = &tunnel.config.phase2;
        let round = tunnel.rounds.get(&selectors).copied().unwrap_or(0);
        if kind == NotifyType::NO_PROPOSAL_CHOSEN && round + 1 < rounds(policy).len() {
            tunnel.rounds.insert(selectors, round + 1);
            self.upkeep(connection);
            return;
        }
        tunnel.rounds.remove(&selectors);
        let offered: Vec<String> = policy.proposals.iter().map(ToString::to_string).collect();
        let text = match kind {
            NotifyType::INVALID_ID_INFORMATION => format!(
                "peer refuses the selectors {selectors}: configure the same pair, mirrored, on the peer"
            ),
            _ => format!(
                "peer refuses every phase-2 proposal of ours with {kind} (offered: {}): compare with the peer's phase 2 settings, PFS group included",
                offered.join(", ")
            ),
        };
        self.report_failure(Some(connection), remote, Phase::Phase2, text);
        self.doubt(id);
        self.attempt_failed(connection);
    }

    /// An IKE SA under which nothing but refusals comes back is given up after a while: what
    /// was not authenticated in phase 1 (NAT-D, vendor ids) may have been tampered with.
    fn doubt(&mut self, id: CookiePair) {
        let Some(sa) = self.sas.get(&id) else {
            return;
        };
        let refusals = self
            .tunnels
            .get(&sa.connection)
            .map_or(0, |tunnel| tunnel.failures + 1);
        let hopeless = !sa.fruitful && refusals >= REFUSALS_TO_DOUBT;
        if hopeless {
            self.delete_ike_sa(id, DownReason::Unusable);
        }
    }
}
