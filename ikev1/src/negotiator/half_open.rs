//! Phase-1 exchanges in progress, in bounded numbers.

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use super::timers::ExchangeKey;
use crate::api::Role;
use crate::phase1::InProgress;

/// Exchanges that one address may have open with us as responder.
const PER_SOURCE: usize = 256;
/// What is admitted lives at least this long, whatever comes behind it: a peer with a round
/// trip of 100 ms gets its message 3 in during a spoofed flood from its own address. The rest
/// of the flood is dropped before it costs anything; a peer resends until it is let in.
const LIFE_IN_A_FLOOD: Duration = Duration::from_millis(100);
/// Between two first messages that are admitted, once the burst is used up.
const ADMISSION: Duration = Duration::from_nanos(100_000_000 / 256);
/// Between two first messages of aggressive mode that are answered, from all sources together,
/// once the burst of a second is used up: each costs two exponentiations before its sender has
/// shown that it is there, some 2 ms with MODP-2048, so this is a fifth of a core at most.
const AGGRESSIVE_ADMISSION: Duration = Duration::from_millis(10);
const AGGRESSIVE_BURST: Duration = Duration::from_secs(1);
/// Addresses whose first messages are counted. Only a connection for a peer at any address
/// lets them be more than there are connections.
const SOURCES: usize = 1024;
/// Exchanges in total; each takes about 1 KiB before message 3.
const TOTAL: usize = 4096;

/// What had to go to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evicted {
    /// Nothing.
    Nobody,
    /// The oldest unconfirmed exchange of the same source.
    SameSource(ExchangeKey),
    /// The oldest unconfirmed exchange of all.
    Oldest(ExchangeKey),
    /// Every exchange is confirmed: the new one is refused.
    Full,
}

/// The table. Only configured peers get into it at all, so the sources are few.
#[derive(Default)]
pub(crate) struct HalfOpen {
    exchanges: BTreeMap<ExchangeKey, InProgress>,
    /// Unconfirmed responder exchanges, oldest first, per source.
    unconfirmed: BTreeMap<IpAddr, BTreeMap<(Instant, ExchangeKey), ()>>,
    /// Until when each source has used up what it is granted.
    spent: BTreeMap<IpAddr, Instant>,
    /// Until when aggressive mode has used up what it is granted.
    spent_on_aggressive: Option<Instant>,
}

impl HalfOpen {
    pub(crate) fn get(&self, key: &ExchangeKey) -> Option<&InProgress> {
        self.exchanges.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &ExchangeKey) -> Option<&mut InProgress> {
        self.exchanges.get_mut(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &InProgress> {
        self.exchanges.values()
    }

    /// Takes an exchange out, to be handled and perhaps put back.
    pub(crate) fn take(&mut self, key: &ExchangeKey) -> Option<InProgress> {
        let exchange = self.exchanges.remove(key)?;
        self.forget_unconfirmed(&exchange);
        Some(exchange)
    }

    pub(crate) fn put(&mut self, in_progress: InProgress) {
        let key = in_progress.exchange.key;
        if key.role == Role::Responder && in_progress.state.is_unconfirmed() {
            self.unconfirmed
                .entry(key.peer)
                .or_default()
                .insert((in_progress.exchange.started, key), ());
        }
        self.exchanges.insert(key, in_progress);
    }

    /// Whether a first message from `source` is looked at now.
    pub(crate) fn admits(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.spent.len() >= SOURCES && !self.spent.contains_key(&source) {
            self.spent.retain(|_, until| *until > now);
            if self.spent.len() >= SOURCES {
                return false;
            }
        }
        let until = self.spent.entry(source).or_insert(now);
        grant(until, now, ADMISSION, LIFE_IN_A_FLOOD)
    }

    /// Whether the exponentiations of one more aggressive mode are spent now.
    pub(crate) fn affords_aggressive(&mut self, now: Instant) -> bool {
        let until = self.spent_on_aggressive.get_or_insert(now);
        grant(until, now, AGGRESSIVE_ADMISSION, AGGRESSIVE_BURST)
    }

    /// Makes room for a new responder exchange from `source`. The evicted one is gone from
    /// the table; its timers are the caller's to cancel.
    pub(crate) fn make_room(&mut self, source: IpAddr) -> Evicted {
        let of_source = self.unconfirmed.get(&source);
        if of_source.is_some_and(|list| list.len() >= PER_SOURCE) {
            let oldest = of_source.and_then(|list| list.keys().next().copied());
            if let Some((_, key)) = oldest {
                self.take(&key);
                return Evicted::SameSource(key);
            }
        }
        if self.exchanges.len() < TOTAL {
            return Evicted::Nobody;
        }
        let oldest = self
            .unconfirmed
            .values()
            .filter_map(|list| list.keys().next().copied())
            .min();
        match oldest {
            Some((_, key)) => {
                self.take(&key);
                Evicted::Oldest(key)
            }
            None => Evicted::Full,
        }
    }

    /// Exchanges in the table.
    pub(crate) fn len(&self) -> usize {
        self.exchanges.len()
    }

    fn forget_unconfirmed(&mut self, in_progress: &InProgress) {
        let key = in_progress.exchange.key;
        if let Some(list) = self.unconfirmed.get_mut(&key.peer) {
            list.remove(&(in_progress.exchange.started, key));
            if list.is_empty() {
                self.unconfirmed.remove(&key.peer);
            }
        }
    }
}

/// One of what comes every `interval`, and up to a `burst` of it at once; `until` is when the
/// account is even.
fn grant(until: &mut Instant, now: Instant, interval: Duration, burst: Duration) -> bool {
    let begins = (*until).max(now);
    if begins + interval > now + burst {
        return false;
    }
    *until = begins + interval;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_source_gets_a_burst_and_then_its_rate() {
        let mut table = HalfOpen::default();
        let source = "192.0.2.1".parse().unwrap();
        let mut now = origin();
        let admitted = |table: &mut HalfOpen, now, tries: usize| {
            (0..tries).filter(|_| table.admits(source, now)).count()
        };
        assert_eq!(admitted(&mut table, now, 1000), PER_SOURCE);
        let mut count = 0;
        for _millisecond in 0..1000 {
            now += Duration::from_millis(1);
            count += admitted(&mut table, now, 50);
        }
        assert!((2_500..=2_600).contains(&count), "{count} in a second");
        now += LIFE_IN_A_FLOOD;
        assert_eq!(admitted(&mut table, now, 1000), PER_SOURCE);
    }

    #[test]
    fn sources_are_counted_in_bounded_number() {
        let mut table = HalfOpen::default();
        let now = origin();
        let source = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..10_000 {
            table.admits(source(n), now);
        }
        assert_eq!(table.spent.len(), SOURCES);
        assert!(table.admits(source(0), now), "a known one is not shut out");
        let later = now + Duration::from_secs(1);
        assert!(table.admits(source(20_000), later));
        assert_eq!(table.spent.len(), 1);
    }
}
