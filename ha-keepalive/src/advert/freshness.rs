//! Which authentic adverts are also fresh.
//!
//! The MAC shows that the pair secret was there when the advert was made; it does not show when
//! that was. Within a session a strictly increasing counter does. For a session not seen before
//! there is a challenge:
//!
//! ```text
//!   partner, new session S                    we, session M
//!        advert(S, 1) ------------------------->  unproven; remember: S, challenged after c
//!                     <-------------------------  advert(M, c+1, greeting S)
//!        advert(S, 2, echo or greeting M/c+1) -->  c+1 > c: alive now; S is believed, the
//!                                                  session before S is over
//! ```
//! The recording of a dead session cannot contain an answer to a challenge that was sent after
//! the recording reappeared, and M is drawn anew at every start, so a restarted node believes
//! no recording either. Sessions under challenge live in a table of fixed size.

use core::time::Duration;
use std::collections::VecDeque;

use super::Advert;
use crate::vocabulary::SessionId;

/// One advert of the partner that was heard: a session and the counter within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Whose run.
    pub session: SessionId,
    /// Which advert of it.
    pub counter: u64,
}

/// Sessions that may be under challenge at a time. An attacker with more recordings than this
/// can delay a restarted partner's recognition, and nothing else.
const CANDIDATES: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Fresh { newest: bool, restarted: bool },
    Replayed,
    Unproven,
}

/// The session that is believed.
#[derive(Debug, Clone, Copy)]
struct Believed {
    newest: Heard,
    /// Last counter per path: the second path's copy of an advert is not a replay.
    on_path: [Option<u64>; 2],
}

/// A session under challenge.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    newest: Heard,
    /// An answer must echo an advert of ours above this one.
    challenged_after: u64,
}

#[derive(Debug)]
pub(super) struct Freshness {
    ours: SessionId,
    believed: Option<Believed>,
    candidates: VecDeque<Candidate>,
}

impl Freshness {
    pub(super) const fn new(ours: SessionId) -> Self {
        Self {
            ours,
            believed: None,
            candidates: VecDeque::new(),
        }
    }

    pub(super) fn judge(&mut self, advert: &Advert, sent: u64) -> Verdict {
        match &mut self.believed {
            Some(believed) if believed.newest.session == advert.session => believed.judge(advert),
            Some(_) | None => self.judge_stranger(advert, sent),
        }
    }

    fn judge_stranger(&mut self, advert: &Advert, sent: u64) -> Verdict {
        let heard = Heard {
            session: advert.session,
            counter: advert.counter,
        };
        let known = self
            .candidates
            .iter()
            .position(|candidate| candidate.newest.session == advert.session);
        let Some(candidate) = known.and_then(|index| self.candidates.remove(index)) else {
            self.challenge(Candidate {
                newest: heard,
                challenged_after: sent,
            });
            return Verdict::Unproven;
        };
        let answered = advert
            .has_heard(self.ours)
            .is_some_and(|counter| counter > candidate.challenged_after && counter <= sent);
        if !answered || heard.counter <= candidate.newest.counter {
            let newest = match heard.counter > candidate.newest.counter {
                true => heard,
                false => candidate.newest,
            };
            self.challenge(Candidate {
                newest,
                ..candidate
            });
            return Verdict::Unproven;
        }
        let restarted = self.believed.is_some();
        self.believed = Some(Believed::new(heard, advert));
        Verdict::Fresh {
            newest: true,
            restarted,
        }
    }

    /// The newest candidate stands last; the oldest makes room.
    fn challenge(&mut self, candidate: Candidate) {
        if self.candidates.len() >= CANDIDATES {
            self.candidates.pop_front();
        }
        self.candidates.push_back(candidate);
    }

    pub(super) const fn echo(&self) -> Option<Heard> {
        match self.believed {
            Some(believed) => Some(believed.newest),
            None => None,
        }
    }

    pub(super) fn greeting(&self) -> Option<Heard> {
        self.candidates.back().map(|candidate| candidate.newest)
    }
}

impl Believed {
    fn new(newest: Heard, advert: &Advert) -> Self {
        let mut believed = Self {
            newest,
            on_path: [None; 2],
        };
        believed.note(advert);
        believed
    }

    fn judge(&mut self, advert: &Advert) -> Verdict {
        let last = self.on_path.get(advert.path.index()).copied().flatten();
        if last.is_some_and(|last| advert.counter <= last) {
            return Verdict::Replayed;
        }
        self.note(advert);
        let newest = advert.counter > self.newest.counter;
        if newest {
            self.newest.counter = advert.counter;
        }
        Verdict::Fresh {
            newest,
            restarted: false,
        }
    }

    fn note(&mut self, advert: &Advert) {
        if let Some(last) = self.on_path.get_mut(advert.path.index()) {
            *last = Some(advert.counter);
        }
    }
}

/// How many of our adverts we remember the sending time of: an answer older than this many
/// intervals renews no lease.
const REMEMBERED: usize = 16;

/// Numbers our own adverts, and remembers when the last few were sent.
#[derive(Debug)]
pub struct Outbox {
    counter: u64,
    sent_at: VecDeque<(u64, Duration)>,
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Outbox {
    /// Nothing sent yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            counter: 0,
            sent_at: VecDeque::with_capacity(REMEMBERED),
        }
    }

    /// The counter of the next advert, sent at `now`.
    pub fn next(&mut self, now: Duration) -> u64 {
        self.counter = self.counter.saturating_add(1);
        if self.sent_at.len() >= REMEMBERED {
            self.sent_at.pop_front();
        }
        self.sent_at.push_back((self.counter, now));
        self.counter
    }

    /// The counter of the last advert; 0 before the first.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.counter
    }

    /// When the advert with this counter left, if it is among the last few.
    #[must_use]
    pub fn sent_at(&self, counter: u64) -> Option<Duration> {
        self.sent_at
            .iter()
            .find(|(sent, _)| *sent == counter)
            .map(|(_, at)| *at)
    }
}
