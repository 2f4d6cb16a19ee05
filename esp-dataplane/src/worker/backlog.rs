//! What a worker has received and not yet opened, for whoever is there first.
//!
//! One worker owns the backlog and lays things out; it and its helpers take the oldest. Every
//! thing bears a ticket, so the short part of the work, which must keep the order, is done in
//! turn.
//!
//! ```text
//!                 written (turn)      taken             laid out
//!   tickets ... ------v-----------------v-----------------v-------
//!   places      spare | out: being worked on | waiting    | spare
//! ```
//!
//! Places form a ring. Nothing is allocated: what was worked on comes back to its place as a
//! spare, and the owner fills it again. Tickets are taken in their order, one compare-exchange
//! each. Hence whoever waits for its turn waits for tickets that somebody is working on, never
//! for one that nobody has taken.

use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::turn::Turnstile;

/// A ring of things with one owner and several takers.
#[derive(Debug)]
pub struct Backlog<T> {
    laid_out: Counter,
    taken: Counter,
    places: Box<[Mutex<Place<T>>]>,
    /// The first part of the work that is done in the order of the tickets.
    pub commits: Turnstile,
    /// The last part of it.
    pub writes: Turnstile,
}

/// On cache lines of its own: the owner writes one, the takers the other.
#[derive(Debug)]
#[repr(align(128))]
struct Counter(AtomicU64);

#[derive(Debug)]
enum Place<T> {
    /// Nobody needs it: the owner may fill it.
    Spare(T),
    /// It is laid out.
    Waiting(T),
    /// Somebody has taken it.
    Out,
}

impl<T> Backlog<T> {
    /// Nothing is laid out; as many places as there are spares.
    #[must_use]
    pub fn new(spares: impl Iterator<Item = T>) -> Self {
        let places = spares.map(|spare| Mutex::new(Place::Spare(spare)));
        Self {
            laid_out: Counter(AtomicU64::new(0)),
            taken: Counter(AtomicU64::new(0)),
            places: places.collect(),
            commits: Turnstile::new(0),
            writes: Turnstile::new(0),
        }
    }

    /// Fills a spare and lays it out; false when there is none. For the owner only.
    pub fn lay_out(&self, fill: impl FnOnce(&mut T)) -> bool {
        let ticket = self.laid_out.0.load(Ordering::Relaxed);
        let Some(place) = self.place(ticket) else {
            return false;
        };
        // Held by somebody who brings it back or takes it at this moment: no spare yet.
        let Ok(mut place) = place.try_lock() else {
            return false;
        };
        *place = match core::mem::replace(&mut *place, Place::Out) {
            Place::Spare(mut thing) => {
                fill(&mut thing);
                Place::Waiting(thing)
            }
            // The ring is full.
            other => {
                *place = other;
                return false;
            }
        };
        drop(place);
        self.laid_out.0.store(ticket + 1, Ordering::Release);
        true
    }

    /// Takes the oldest that nobody has taken, and its ticket. It has to come back by
    /// [`Backlog::give_back`].
    #[must_use]
    pub fn take(&self) -> Option<(u64, T)> {
        let mut ticket = self.taken.0.load(Ordering::Relaxed);
        loop {
            // Acquire: what the owner has filled in.
            if ticket >= self.laid_out.0.load(Ordering::Acquire) {
                return None;
            }
            match self.taken.0.compare_exchange_weak(
                ticket,
                ticket + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(seen) => ticket = seen,
            }
        }
        // Nobody else has this ticket, so nobody holds the lock for longer than the owner needs
        // to see that it is no spare.
        let mut place = self.place(ticket)?.lock().ok()?;
        match core::mem::replace(&mut *place, Place::Out) {
            Place::Waiting(thing) => Some((ticket, thing)),
            Place::Spare(_) | Place::Out => None,
        }
    }

    /// Brings back what was taken with this ticket.
    pub fn give_back(&self, ticket: u64, thing: T) {
        if let Some(place) = self.place(ticket)
            && let Ok(mut place) = place.lock()
        {
            *place = Place::Spare(thing);
        }
    }

    /// How many wait to be taken.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let taken = self.taken.0.load(Ordering::Relaxed);
        let laid_out = self.laid_out.0.load(Ordering::Relaxed);
        laid_out.saturating_sub(taken)
    }

    /// How many are being worked on.
    #[must_use]
    pub fn in_work(&self) -> u64 {
        let taken = self.taken.0.load(Ordering::Relaxed);
        taken.saturating_sub(self.writes.next())
    }

    /// True when everything that was laid out is done. For the owner only: to others it may be
    /// wrong before they know the answer.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.writes.is_open_for(self.end())
    }

    /// The ticket that comes next. For the owner only.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.laid_out.0.load(Ordering::Relaxed)
    }

    fn place(&self, ticket: u64) -> Option<&Mutex<Place<T>>> {
        let places = self.places.len() as u64;
        let index = usize::try_from(ticket.checked_rem(places)?).ok()?;
        self.places.get(index)
    }
}
