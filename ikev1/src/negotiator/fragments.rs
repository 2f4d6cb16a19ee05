//! Puts fragmented messages together, within bounds that an attacker can know and not exceed.

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use crate::natt::Path;
use crate::wire::{CookiePair, FragmentMessage};

/// Messages in reassembly.
const MAX_MESSAGES: usize = 64;
/// Of them, from one address and port.
const MAX_PER_SOURCE: usize = 4;
/// Fragments of one message; Windows cuts into a handful.
const MAX_FRAGMENTS: usize = 32;
/// Bytes of one message; the largest with 4096-bit certificates stay below 16 KiB.
const MAX_BYTES: usize = 32 * 1024;
/// A message that is not whole by then is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// The fragment is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadFragment;

type Name = (SocketAddr, CookiePair, u16);

#[derive(Debug)]
struct Partial {
    began: Instant,
    /// By number, from 1.
    pieces: BTreeMap<u8, Vec<u8>>,
    /// Number of the last piece, once that has come.
    last: Option<u8>,
    bytes: usize,
}

/// Messages of which some fragments have arrived.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    partials: BTreeMap<Name, Partial>,
}

impl Fragments {
    /// Takes a fragment; gives the whole message when it was the missing one.
    pub(crate) fn accept(
        &mut self,
        from: Path,
        message: &FragmentMessage,
        now: Instant,
    ) -> Result<Option<Vec<u8>>, BadFragment> {
        self.partials
            .retain(|_, partial| now.saturating_duration_since(partial.began) < PATIENCE);
        let fragment = &message.fragment;
        let name = (from.remote, message.header.cookies, fragment.id());
        if !self.partials.contains_key(&name) {
            self.make_room(from.remote);
        }
        let partial = self.partials.entry(name).or_insert_with(|| Partial {
            began: now,
            pieces: BTreeMap::new(),
            last: None,
            bytes: 0,
        });
        if let Err(bad) = partial.add(fragment.number(), fragment.is_last(), fragment.data()) {
            self.partials.remove(&name);
            return Err(bad);
        }
        let Some(whole) = partial.whole() else {
            return Ok(None);
        };
        self.partials.remove(&name);
        Ok(Some(whole))
    }

    /// The oldest of the same source goes first, then the oldest of all.
    fn make_room(&mut self, source: SocketAddr) {
        let of_source = self.partials.keys().filter(|(from, ..)| *from == source);
        if of_source.count() >= MAX_PER_SOURCE {
            self.remove_oldest(|name| name.0 == source);
        }
        if self.partials.len() >= MAX_MESSAGES {
            self.remove_oldest(|_| true);
        }
    }

    fn remove_oldest(&mut self, among: impl Fn(&Name) -> bool) {
        let oldest = self
            .partials
            .iter()
            .filter(|(name, _)| among(name))
            .min_by_key(|(_, partial)| partial.began)
            .map(|(name, _)| *name);
        if let Some(name) = oldest {
            self.partials.remove(&name);
        }
    }
}

impl Partial {
    fn add(&mut self, number: u8, is_last: bool, data: &[u8]) -> Result<(), BadFragment> {
        if usize::from(number) > MAX_FRAGMENTS {
            return Err(BadFragment);
        }
        if let Some(known) = self.pieces.get(&number) {
            // A repeated fragment is fine, a contradicting one is not.
            return if known.as_slice() == data {
                Ok(())
            } else {
                Err(BadFragment)
            };
        }
        self.bytes += data.len();
        if self.bytes > MAX_BYTES {
            return Err(BadFragment);
        }
        if is_last && self.last.replace(number).is_some() {
            return Err(BadFragment);
        }
        self.pieces.insert(number, data.to_vec());
        let highest = self.pieces.keys().next_back().copied().unwrap_or(0);
        if self.last.is_some_and(|last| highest > last) {
            return Err(BadFragment);
        }
        Ok(())
    }

    fn whole(&self) -> Option<Vec<u8>> {
        let last = self.last?;
        if self.pieces.len() != usize::from(last) {
            return None;
        }
        Some(self.pieces.values().flatten().copied().collect())
    }
}
