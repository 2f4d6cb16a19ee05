//! The anti-replay window of an inbound SA (RFC 4303 §3.4.3), shared by all receiving workers
//! without a lock.
//!
//! ```text
//!   sequence number = block (seq / 8) : bit (seq % 8)
//!   word[block % words] = tag: block / words (56 bits) | seen: one bit per number (8 bits)
//! ```
//!
//! A word says which block it speaks for, so nobody ever has to clear words while the window
//! slides: the first number of a newer block replaces the tag and the bits in one
//! compare-exchange. That single operation is also what decides between two workers that hold
//! the same number: one of them sees the other's bit. A word never goes back to an older
//! block, hence a number that was accepted once is refused for ever, whatever the edge says at
//! that moment; the edge only adds RFC 4303's rule that old numbers are not accepted at all.
//!
//! ```text
//!   check_before_auth(low 32 bits) -> full number   cheap, refuses most replays unauthenticated
//!   ... ICV ...
//!   commit_after_auth(full number)                  the decision; moves the right edge
//! ```

use serde::{Deserialize, Serialize};

use crate::sequence::SequenceWidth;
use crate::sync::{AtomicU64, Ordering};

/// Numbers per word; the other 56 bits are the tag.
const BITS_PER_WORD: u64 = 8;
/// 3 bits within a word, 6 bits of word index and a 56-bit tag make 65 bits: the tag of no
/// 64-bit number overflows.
const MIN_WORDS: u64 = 64;

/// How far behind the right edge a packet may arrive: 64 to 4096 packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct ReplayWindowSize(u32);

/// The size is not within 64..=4096.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a replay window of {0} packets is not within 64 to 4096")]
pub struct BadReplayWindowSize(pub u32);

impl ReplayWindowSize {
    /// The smallest that RFC 4303 §3.4.3 recommends for fast links.
    pub const MIN: u32 = 64;
    /// Larger buys nothing but memory.
    pub const MAX: u32 = 4096;

    /// Checks the size, in packets.
    ///
    /// # Errors
    /// [`BadReplayWindowSize`] outside 64..=4096.
    pub const fn new(packets: u32) -> Result<Self, BadReplayWindowSize> {
        if packets < Self::MIN || packets > Self::MAX {
            Err(BadReplayWindowSize(packets))
        } else {
            Ok(Self(packets))
        }
    }

    /// The size in packets.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for ReplayWindowSize {
    /// 1024: several workers reorder by whole trains of 64 packets.
    fn default() -> Self {
        Self(1024)
    }
}

impl TryFrom<u32> for ReplayWindowSize {
    type Error = BadReplayWindowSize;

    fn try_from(packets: u32) -> Result<Self, BadReplayWindowSize> {
        Self::new(packets)
    }
}

impl From<ReplayWindowSize> for u32 {
    fn from(size: ReplayWindowSize) -> Self {
        size.0
    }
}

/// Why a sequence number is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayRefusal {
    /// It was accepted before.
    #[error("sequence number already seen")]
    Replayed,
    /// It lies left of the window: it may have been seen, nobody knows any more.
    #[error("sequence number is older than the replay window")]
    TooOld,
    /// 0, or a number that no sender may reach (RFC 4303 §3.3.3).
    #[error("sequence number 0 or beyond the number space")]
    Illegal,
}

/// A number was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// It is the highest so far. Only such a packet may teach us a peer's new address.
    pub moved_edge: bool,
}

/// A replay window as a value: what one gateway hands to the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayState {
    /// The highest number accepted; 0 when there is none.
    pub edge: u64,
    /// Bit `i % 64` of word `i / 64` says that `edge - i` was accepted. Numbers beyond the
    /// last word are not accepted any more.
    pub seen: Vec<u64>,
}

/// The window of one inbound SA.
#[derive(Debug)]
pub struct ReplayWindow {
    edge: AtomicU64,
    words: Box<[AtomicU64]>,
    /// log2 of the number of words.
    words_log2: u32,
    size: u64,
    width: SequenceWidth,
}

impl ReplayWindow {
    /// An empty window.
    #[must_use]
    pub fn new(size: ReplayWindowSize, width: SequenceWidth) -> Self {
        Self::with_packets(size.get(), width)
    }

    /// An empty window of any size. Apart from the model checker, whose state space grows
    /// with the words, callers use [`ReplayWindow::new`].
    #[doc(hidden)]
    #[must_use]
    pub fn with_packets(packets: u32, width: SequenceWidth) -> Self {
        let size = u64::from(packets.max(1));
        // A window that is not aligned to words touches one word more than it fills.
        let words = (size.div_ceil(BITS_PER_WORD) + 1)
            .next_power_of_two()
            .max(MIN_WORDS);
        Self {
            edge: AtomicU64::new(0),
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            words_log2: words.trailing_zeros(),
            size,
            width,
        }
    }

    /// The window's size in packets.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The highest number accepted; 0 when there is none.
    #[must_use]
    pub fn edge(&self) -> u64 {
        self.edge.load(Ordering::Acquire)
    }

    /// Completes the number on the wire to 64 bits and refuses it early if it cannot be
    /// accepted. Changes nothing (invariant I5): the packet is not authenticated yet.
    ///
    /// # Errors
    /// [`ReplayRefusal`]; the packet must be dropped without looking at its ICV.
    #[inline]
    pub fn check_before_auth(&self, low: u32) -> Result<u64, ReplayRefusal> {
        let edge = self.edge.load(Ordering::Acquire);
        let seq = match self.width {
            SequenceWidth::Bits32 => u64::from(low),
            SequenceWidth::Bits64 => infer_high_bits(edge, low, self.size)?,
        };
        self.check_range(seq, edge)?;
        let (index, tag) = self.place(seq);
        let word = self.word(index)?.load(Ordering::Acquire);
        match (word >> BITS_PER_WORD).cmp(&tag) {
            core::cmp::Ordering::Equal if word & bit_of(seq) != 0 => Err(ReplayRefusal::Replayed),
            core::cmp::Ordering::Greater => Err(ReplayRefusal::TooOld),
            core::cmp::Ordering::Equal | core::cmp::Ordering::Less => Ok(seq),
        }
    }

    /// Accepts an authenticated number exactly once, among all workers, and moves the right
    /// edge forward if it is the highest.
    ///
    /// # Errors
    /// [`ReplayRefusal`] when another worker was faster or the window has moved on.
    pub fn commit_after_auth(&self, seq: u64) -> Result<Accepted, ReplayRefusal> {
        let mut train = [Ok(seq)];
        let moved = self.commit_train_after_auth(&mut train);
        let [result] = train;
        result.map(|_| Accepted {
            moved_edge: moved.is_some(),
        })
    }

    /// [`ReplayWindow::commit_after_auth`] for the numbers of a train, in their order; each
    /// number that must not be accepted becomes an error. Returns the new right edge if the
    /// train has moved it.
    ///
    /// A locked operation waits until all earlier stores are done, and those of a train are
    /// many. So numbers that count up within a word share its compare-exchange, and the edge moves
    /// once.
    #[inline]
    pub fn commit_train_after_auth<E: From<ReplayRefusal>>(
        &self,
        train: &mut [Result<u64, E>],
    ) -> Option<u64> {
        let edge_before = self.edge.load(Ordering::Acquire);
        let mut edge = edge_before;
        let mut at = 0;
        while let Some(entry) = train.get_mut(at) {
            let Ok(seq) = *entry else {
                at += 1;
                continue;
            };
            if let Err(refusal) = self.check_range(seq, edge) {
                *entry = Err(refusal.into());
                at += 1;
                continue;
            }
            let rest = train.get_mut(at..).unwrap_or_default();
            let run = self.run_at_front(rest, seq);
            at += run;
            let bits = ((1 << run) - 1) << (seq % BITS_PER_WORD);
            let fresh = self.mark(seq, bits);
            // As a rule, all of them are new.
            if fresh == Ok(bits) {
                edge = edge.max(seq + (run as u64 - 1));
                continue;
            }
            for result in rest.iter_mut().take(run) {
                let Ok(seq) = *result else {
                    continue;
                };
                match fresh {
                    Ok(fresh) if fresh & bit_of(seq) != 0 => edge = edge.max(seq),
                    Ok(_) => *result = Err(ReplayRefusal::Replayed.into()),
                    Err(refusal) => *result = Err(refusal.into()),
                }
            }
        }
        if edge == edge_before {
            return None;
        }
        // The bits first, then the edge: whoever exports an edge also finds the bits behind it.
        let other = self.edge.fetch_max(edge, Ordering::AcqRel);
        (other < edge).then_some(edge)
    }

    /// How many entries at the front of a train, the first of them `seq`, count up and share a
    /// word; at least 1. What is in range stays so while it counts up, but for the last number.
    #[inline]
    fn run_at_front<E>(&self, train: &[Result<u64, E>], seq: u64) -> usize {
        let end = (seq | (BITS_PER_WORD - 1)).min(self.width.last());
        let mut run = 1;
        while run as u64 <= end - seq
            && let Some(Ok(next)) = train.get(run)
            && *next == seq + run as u64
        {
            run += 1;
        }
        run
    }

    /// Refuses what may not be accepted whatever the words say.
    #[inline]
    fn check_range(&self, seq: u64, edge: u64) -> Result<(), ReplayRefusal> {
        if seq == 0 || seq > self.width.last() {
            return Err(ReplayRefusal::Illegal);
        }
        if seq.saturating_add(self.size) <= edge {
            return Err(ReplayRefusal::TooOld);
        }
        Ok(())
    }

    /// Sets bits in the word of `seq`; returns those that were not set before.
    #[inline]
    fn mark(&self, seq: u64, bits: u64) -> Result<u64, ReplayRefusal> {
        let (index, tag) = self.place(seq);
        let slot = self.word(index)?;
        let mut word = slot.load(Ordering::Relaxed);
        loop {
            let (marked, fresh) = match (word >> BITS_PER_WORD).cmp(&tag) {
                core::cmp::Ordering::Greater => return Err(ReplayRefusal::TooOld),
                core::cmp::Ordering::Equal => (word | bits, bits & !word),
                core::cmp::Ordering::Less => (tag << BITS_PER_WORD | bits, bits),
            };
            if fresh == 0 {
                return Ok(0);
            }
            match slot.compare_exchange_weak(word, marked, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok(fresh),
                Err(seen) => word = seen,
            }
        }
    }

    /// The window as a value. Whatever was accepted before this call is in it; a number that
    /// is accepted while the call runs may be missing.
    #[must_use]
    pub fn export(&self) -> ReplayState {
        let edge = self.edge();
        let words = usize::try_from(self.size.div_ceil(64)).unwrap_or(0);
        let mut seen = vec![0_u64; words];
        for back in 0..self.size.min(edge) {
            if self.was_seen(edge - back)
                && let Some(word) = usize::try_from(back / 64)
                    .ok()
                    .and_then(|i| seen.get_mut(i))
            {
                *word |= 1 << (back % 64);
            }
        }
        ReplayState { edge, seen }
    }

    /// Takes over what another gateway has accepted. Both windows' refusals stay in force:
    /// the edge moves to the higher of the two and never back (invariant I3).
    pub fn import(&self, state: &ReplayState) {
        for back in 0..self.size.min(state.edge) {
            let word = usize::try_from(back / 64)
                .ok()
                .and_then(|i| state.seen.get(i));
            // Beyond the exported words nothing is known: what is not known counts as seen.
            if word.is_none_or(|word| word >> (back % 64) & 1 == 1) {
                let _ = self.commit_after_auth(state.edge - back);
            }
        }
        self.edge
            .fetch_max(state.edge.min(self.width.last()), Ordering::AcqRel);
    }

    /// True when `seq` must count as accepted.
    fn was_seen(&self, seq: u64) -> bool {
        let (index, tag) = self.place(seq);
        let Ok(slot) = self.word(index) else {
            return true;
        };
        let word = slot.load(Ordering::Acquire);
        match (word >> BITS_PER_WORD).cmp(&tag) {
            core::cmp::Ordering::Greater => true,
            core::cmp::Ordering::Equal => word & bit_of(seq) != 0,
            core::cmp::Ordering::Less => false,
        }
    }

    /// Word index and tag of a number. Tags start at 1, so that a zeroed word is older than
    /// any block.
    #[inline]
    const fn place(&self, seq: u64) -> (usize, u64) {
        let block = seq / BITS_PER_WORD;
        let index = block & ((1 << self.words_log2) - 1);
        (index as usize, (block >> self.words_log2) + 1)
    }

    /// The word at an index of [`ReplayWindow::place`], which is always there.
    #[inline]
    fn word(&self, index: usize) -> Result<&AtomicU64, ReplayRefusal> {
        self.words.get(index).ok_or(ReplayRefusal::TooOld)
    }
}

/// The number's bit in its word.
#[inline]
const fn bit_of(seq: u64) -> u64 {
    1 << (seq % BITS_PER_WORD)
}

/// Finds the high 32 bits that the sender did not send: the only value for which the number
/// lies inside the window or less than 2^32 in front of it (RFC 4303 App. A2.2).
fn infer_high_bits(edge: u64, low: u32, size: u64) -> Result<u64, ReplayRefusal> {
    let edge_low = edge & u64::from(u32::MAX);
    let edge_high = edge >> 32;
    let low = u64::from(low);
    let high = if edge_low >= size - 1 {
        // Case A: the window lies within one subspace of 2^32 numbers.
        if low + size > edge_low {
            Some(edge_high)
        } else {
            edge_high.checked_add(1)
        }
    } else if low + size > edge_low + (1 << 32) {
        // Case B: the window reaches back into the previous subspace, and this number too.
        edge_high.checked_sub(1)
    } else {
        Some(edge_high)
    };
    match high {
        Some(high) if high <= u64::from(u32::MAX) => Ok(high << 32 | low),
        Some(_) | None => Err(ReplayRefusal::Illegal),
    }
}
