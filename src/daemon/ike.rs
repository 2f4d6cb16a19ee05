//! The negotiator, or its memory: a node of a pair that is not active holds a value that cannot
//! speak (invariant I6).

use std::time::Instant;

use ikev1::{
    Beginning, Command, ConnectionStatus, Datagram, Event, IkeSaId, Negotiator, Standby, TimerName,
    Transmit,
};
use ipsec_types::SecretBytes;

/// What stands behind the ISAKMP sockets.
pub(super) enum Ike {
    /// It negotiates.
    Speaking(Box<Negotiator>),
    /// It remembers; `heard` counts the messages that came all the same.
    Mute { standby: Standby, heard: u64 },
}

impl Ike {
    /// A memory.
    pub(super) const fn mute(standby: Standby) -> Self {
        Self::Mute { standby, heard: 0 }
    }

    pub(super) fn handle_datagram(&mut self, now: Instant, datagram: &Datagram<'_>) {
        match self {
            Self::Speaking(negotiator) => negotiator.handle_datagram(now, datagram),
            Self::Mute { heard, .. } => *heard += 1,
        }
    }

    /// A memory takes no commands: whoever becomes active begins with what is configured.
    pub(super) fn handle_command(&mut self, now: Instant, command: Command) {
        match (self, command) {
            (Self::Speaking(negotiator), command) => negotiator.handle_command(now, command),
            (Self::Mute { standby, .. }, Command::Reload { connections }) => {
                standby.reload(connections);
            }
            (Self::Mute { .. }, _) => {}
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Self::Speaking(negotiator) = self {
            negotiator.handle_timeout(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, TimerName)> {
        self.speaking()?.poll_timeout()
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        match self {
            Self::Speaking(negotiator) => negotiator.poll_event(),
            Self::Mute { .. } => None,
        }
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Transmit> {
        match self {
            Self::Speaking(negotiator) => negotiator.poll_transmit(),
            Self::Mute { .. } => None,
        }
    }

    pub(super) fn speaking(&self) -> Option<&Negotiator> {
        match self {
            Self::Speaking(negotiator) => Some(negotiator),
            Self::Mute { .. } => None,
        }
    }

    pub(super) fn status(&self, now: Instant) -> Vec<ConnectionStatus> {
        self.speaking()
            .map(|negotiator| negotiator.status(now))
            .unwrap_or_default()
    }

    /// True while an exchange is under way that a change of role would break.
    pub(super) fn is_negotiating(&self) -> bool {
        self.speaking().is_some_and(Negotiator::is_negotiating)
    }

    /// Starts no exchange of its own while `quiet`.
    pub(super) fn quiesce(&mut self, quiet: bool) {
        if let Self::Speaking(negotiator) = self {
            negotiator.quiesce(Instant::now(), quiet);
        }
    }

    /// What was refused, by reason.
    pub(super) fn drops(&self) -> Vec<(&'static str, u64)> {
        match self {
            Self::Speaking(negotiator) => negotiator
                .counters()
                .drops()
                .map(|(reason, count)| (reason.name(), count))
                .collect(),
            Self::Mute { heard, .. } => vec![("not_active", *heard)],
        }
    }

    pub(super) fn phase1_key(&self, ike_sa: IkeSaId) -> Option<SecretBytes> {
        self.speaking()?.phase1_key(ike_sa)
    }

    /// Begins to speak with what `standby` knows, or with nothing ([`Beginning::Cold`]).
    /// Returns why a connection's state could not be taken over.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        standby: Standby,
        beginning: Beginning,
    ) -> Vec<ikev1::ImportError> {
        let (negotiator, errors) = standby.activate(now, super::clock::entropy(), beginning);
        *self = Self::Speaking(Box::new(negotiator));
        errors
    }
}
