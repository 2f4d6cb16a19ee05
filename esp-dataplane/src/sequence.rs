//! Outbound ESP sequence numbers: a range that is reserved in runs and never passes its
//! ceiling (RFC 4303 §3.3.3, invariant I2).
//!
//! The ceiling is what a partner gateway has acknowledged: after a takeover it continues above
//! it, so no number can be sent twice. A gateway without a partner runs with the ceiling at the
//! end of the number space.

use crate::sync::{AtomicU64, Ordering};

/// Whether an SA counts with 32 or with 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceWidth {
    /// 32-bit numbers, all of them on the wire (RFC 4303 §2.2).
    Bits32,
    /// Extended sequence numbers: the high 32 bits are not sent (RFC 4303 §2.2.1).
    Bits64,
}

impl SequenceWidth {
    /// The width that a negotiated ESN flag stands for.
    #[must_use]
    pub const fn from_esn(esn: bool) -> Self {
        if esn { Self::Bits64 } else { Self::Bits32 }
    }

    /// The last number that may be sent. One number of the 64-bit space stays unused, so that
    /// "the next number" always fits.
    #[must_use]
    pub const fn last(self) -> u64 {
        match self {
            Self::Bits32 => u32::MAX as u64,
            Self::Bits64 => u64::MAX - 1,
        }
    }

    /// From here on the SA asks to be replaced: 7/8 of the number space.
    #[must_use]
    pub const fn soft_limit(self) -> u64 {
        self.last() / 8 * 7
    }
}

/// Consecutive sequence numbers that belong to whoever reserved them.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    /// The first number, 64 bits wide even when only 32 are in use.
    pub first: u64,
    /// How many numbers; at least 1.
    pub count: u32,
}

/// No number may be used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// The partner has not acknowledged more yet; raising the ceiling ends it.
    #[error("the sequence ceiling is reached; the partner has not acknowledged a higher one")]
    Ceiling,
    /// The number space is used up: only a new SA helps (RFC 4303 §3.3.3).
    #[error("the sequence number space is used up")]
    Space,
}

/// The allocator of one SA's sequence numbers, shared by all workers.
#[derive(Debug)]
pub struct SequenceRange {
    next: AtomicU64,
    ceiling: AtomicU64,
    width: SequenceWidth,
}

impl SequenceRange {
    /// Numbers from `next` (0 is never sent and read as 1) up to `ceiling`, inclusive; `None`
    /// opens the whole space, as a gateway without a partner does.
    #[must_use]
    pub fn new(width: SequenceWidth, next: u64, ceiling: Option<u64>) -> Self {
        Self {
            next: AtomicU64::new(next.max(1)),
            ceiling: AtomicU64::new(ceiling.unwrap_or(u64::MAX).min(width.last())),
            width,
        }
    }

    /// Takes up to `wanted` consecutive numbers; fewer when the ceiling is near.
    ///
    /// # Errors
    /// [`Exhausted`] when not a single number may be used.
    pub fn reserve(&self, wanted: u32) -> Result<Run, Exhausted> {
        let mut next = self.next.load(Ordering::Relaxed);
        loop {
            // Acquire: a raised ceiling is the partner's promise; what made it is visible too.
            let ceiling = self.ceiling.load(Ordering::Acquire);
            if next > ceiling {
                return Err(if next > self.width.last() {
                    Exhausted::Space
                } else {
                    Exhausted::Ceiling
                });
            }
            let left = ceiling - next + 1;
            let count = u32::try_from(left).unwrap_or(u32::MAX).min(wanted.max(1));
            match self.next.compare_exchange_weak(
                next,
                next + u64::from(count),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(first) => return Ok(Run { first, count }),
                Err(seen) => next = seen,
            }
        }
    }

    /// Allows numbers up to `ceiling`, inclusive. A lower value than the present one changes
    /// nothing: a promise is not taken back.
    pub fn raise_ceiling(&self, ceiling: u64) {
        self.ceiling
            .fetch_max(ceiling.min(self.width.last()), Ordering::Release);
    }

    /// The last number that may be sent is `last`, also where that is less than before: a
    /// partner begins to count on it. Numbers that were reserved a moment ago may still leave,
    /// so the caller chooses `last` far above [`SequenceRange::next`].
    pub fn limit(&self, last: u64) {
        self.ceiling
            .store(last.min(self.width.last()), Ordering::Release);
    }

    /// The next number that would be handed out.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// The last number that may be handed out.
    #[must_use]
    pub fn ceiling(&self) -> u64 {
        self.ceiling.load(Ordering::Acquire)
    }

    /// 32 or 64 bits.
    #[must_use]
    pub const fn width(&self) -> SequenceWidth {
        self.width
    }

    /// True once so much of the number space is used that the SA should be replaced.
    #[must_use]
    pub fn past_soft_limit(&self) -> bool {
        self.next() > self.width.soft_limit()
    }
}
