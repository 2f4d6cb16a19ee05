//! Phase-1 exchanges in progress, in bounded numbers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use super::timers::ExchangeKey;
use crate::api::Role;
use crate::phase1::InProgress;

/// Exchanges that one address may have open with us as responder. A round trip of 100 ms
/// survives a spoofed flood of 2,500 first messages a second from that address.
const PER_SOURCE: usize = 256;
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
