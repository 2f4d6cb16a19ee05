//! One table of named deadlines.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use ipsec_types::{ConnectionId, Spi};

use crate::api::{IkeSaId, Role, TimerName};
use crate::wire::Cookie;

/// Whose deadline it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// A phase-1 exchange in progress.
    Exchange(ExchangeKey),
    /// An established IKE SA.
    IkeSa(IkeSaId),
    /// A quick mode in progress, by its message id.
    QuickMode(IkeSaId, u32),
    /// An ESP SA pair, by our SPI.
    Child(ConnectionId, Spi),
    /// A connection.
    Tunnel(ConnectionId),
}

/// A phase-1 exchange: one initiator cookie from one address is one exchange (RFC 2408 §2.5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ExchangeKey {
    /// The peer's address.
    pub(crate) peer: IpAddr,
    /// The initiator's cookie.
    pub(crate) initiator: Cookie,
    /// Our part.
    pub(crate) role: Role,
}

/// Deadlines by owner and name; setting one again moves it.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_owner: BTreeMap<(Owner, TimerName), Instant>,
    by_time: BTreeSet<(Instant, Owner, TimerName)>,
}

impl Timers {
    pub(crate) fn set(&mut self, owner: Owner, name: TimerName, at: Instant) {
        if let Some(old) = self.by_owner.insert((owner, name), at) {
            self.by_time.remove(&(old, owner, name));
        }
        self.by_time.insert((at, owner, name));
    }

    /// Sets the timer unless it is already due earlier.
    pub(crate) fn set_at_latest(&mut self, owner: Owner, name: TimerName, at: Instant) {
        if self.get(owner, name).is_none_or(|due| due > at) {
            self.set(owner, name, at);
        }
    }

    pub(crate) fn get(&self, owner: Owner, name: TimerName) -> Option<Instant> {
        self.by_owner.get(&(owner, name)).copied()
    }

    pub(crate) fn cancel(&mut self, owner: Owner, name: TimerName) {
        if let Some(at) = self.by_owner.remove(&(owner, name)) {
            self.by_time.remove(&(at, owner, name));
        }
    }

    /// Every timer of an owner that is gone.
    pub(crate) fn cancel_all(&mut self, owner: Owner) {
        let names: Vec<_> = self
            .by_owner
            .range((owner, TimerName::FIRST)..=(owner, TimerName::LAST))
            .map(|(&(_, name), _)| name)
            .collect();
        for name in names {
            self.cancel(owner, name);
        }
    }

    pub(crate) fn next(&self) -> Option<(Instant, TimerName)> {
        self.by_time.first().map(|&(at, _, name)| (at, name))
    }

    /// Takes the earliest timer that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Owner, TimerName)> {
        let &(at, owner, name) = self.by_time.first()?;
        if at > now {
            return None;
        }
        self.cancel(owner, name);
        Some((owner, name))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_owner.len()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn timers_fire_in_order_and_once() {
        let start = origin();
        let (a, b) = (
            Owner::Tunnel(ConnectionId(1)),
            Owner::Tunnel(ConnectionId(2)),
        );
        let mut timers = Timers::default();
        timers.set(a, TimerName::Dpd, start + Duration::from_secs(2));
        timers.set(b, TimerName::Dpd, start + Duration::from_secs(1));
        timers.set(a, TimerName::Dpd, start + Duration::from_secs(3));
        assert_eq!(
            timers.next(),
            Some((start + Duration::from_secs(1), TimerName::Dpd))
        );
        assert_eq!(timers.pop_due(start), None);
        let late = start + Duration::from_secs(9);
        assert_eq!(timers.pop_due(late), Some((b, TimerName::Dpd)));
        assert_eq!(timers.pop_due(late), Some((a, TimerName::Dpd)));
        assert_eq!(timers.pop_due(late), None);
        assert_eq!(timers.len(), 0);
    }

    #[test]
    fn cancel_all_spares_other_owners() {
        let start = origin();
        let (a, b) = (
            Owner::Tunnel(ConnectionId(1)),
            Owner::Tunnel(ConnectionId(2)),
        );
        let mut timers = Timers::default();
        for name in [TimerName::FIRST, TimerName::Dpd, TimerName::LAST] {
            timers.set(a, name, start);
            timers.set(b, name, start);
        }
        timers.cancel_all(a);
        assert_eq!(timers.len(), 3);
        assert_eq!(timers.pop_due(start).map(|(owner, _)| owner), Some(b));
    }
}
