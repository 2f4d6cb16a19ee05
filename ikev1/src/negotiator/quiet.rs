//! Before a planned switchover: nothing new is begun, what is under way comes to its end.

use core::time::Duration;
use std::time::Instant;

use super::Negotiator;
use crate::api::{Role, TimerName};
use crate::phase2::QuickState;

/// A deadline that comes while nothing may be started is looked at again after this time.
const POSTPONED: Duration = Duration::from_millis(500);

impl Negotiator {
    /// While `quiet`, starts no exchange of its own: no rekey, no probe, no reconnection, no
    /// delete of what is at its end (it lives on); such deadlines are put off by half a second
    /// at a time. The peer is still answered, exchanges under way go on to their end (resends
    /// included), NAT keepalives go out. What was held back follows when it is over. Commands
    /// to terminate or to shut down are obeyed nevertheless.
    pub fn quiesce(&mut self, now: Instant, quiet: bool) {
        self.cx.now = now;
        self.quiet = quiet;
        self.upkeep_all();
    }

    /// True while an exchange is under way that a takeover would break: phase 1 or quick mode,
    /// whoever began it. A phase 1 of which only the first message has come does not count:
    /// anybody can send that, and would hold up a switchover for ever. Under a peer that goes
    /// silent it stays true for [`patience`](crate::config::RetransmitPolicy::patience): wait
    /// for a bounded time.
    #[must_use]
    pub fn is_negotiating(&self) -> bool {
        let phase1 = self.half_open.iter().any(|in_progress| {
            in_progress.exchange.key.role == Role::Initiator || !in_progress.state.is_unconfirmed()
        });
        phase1
            || self
                .sas
                .values()
                .flat_map(|sa| sa.quick_modes.values())
                .any(|quick| match quick.state {
                    QuickState::AwaitQuick2(_) | QuickState::AwaitQuick3(_) => true,
                    // What is still to come here finds its state on the other node.
                    QuickState::AwaitConnected { .. } | QuickState::Finished => false,
                })
    }

    /// The instant to which a deadline is put off, if it is one that would start something.
    pub(super) fn postponed(&self, name: TimerName) -> Option<Instant> {
        let starts = match name {
            TimerName::IkeSaRekey
            | TimerName::IkeSaExpire
            | TimerName::EspSaRekey
            | TimerName::EspSaExpire
            | TimerName::Dpd
            | TimerName::Reconnect => true,
            TimerName::Phase1Retransmit
            | TimerName::Phase1Expire
            | TimerName::Phase2Retransmit
            | TimerName::Phase2Expire
            | TimerName::NatKeepalive
            | TimerName::OutboundSwitch => false,
        };
        (self.quiet && starts).then(|| self.cx.now + POSTPONED)
    }
}
