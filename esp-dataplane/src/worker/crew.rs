//! The workers as helpers of each other: one peer's packets come by one socket, and so to one
//! worker, but several may open them.
//!
//! ```text
//!   worker 1   receive 7 | receive 8 | open 7 ....... commit 7 . write 7 | receive 9 | open 9 ...
//!   worker 2   (rests)     woken       open 8 ................ commit 8 . write 8 | (rests)
//! ```
//!
//! Only a worker whose socket has more than it can take lays bursts out ([`Backlog`]), and only
//! when another one rests; otherwise it opens what it receives itself, at once, and nothing here
//! costs it more than a look. A helper that is late is no loss: the owner takes what still
//! waits.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ipsec_types::Encapsulation;

use super::backlog::Backlog;
use super::ports::Ports;
use crate::io::Burst;

/// Where a burst came in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// Our address on the NAT-T port.
    pub(super) local: SocketAddr,
    pub(super) encapsulation: Encapsulation,
}

/// A burst with all that another worker needs to open it.
pub(super) struct Parcel {
    pub(super) burst: Burst,
    pub(super) origin: Option<Origin>,
    /// The owner's ends of the tunnels: a flow keeps its queue whoever opens it.
    pub(super) ports: Option<Arc<Ports>>,
}

impl Parcel {
    fn spare() -> Box<Self> {
        Box::new(Self {
            burst: Burst::default(),
            origin: None,
            ports: None,
        })
    }
}

/// All workers of a data plane.
pub(super) struct Crew {
    members: Box<[Member]>,
    /// Parcels that wait to be taken, of all backlogs: one line to look at.
    waiting: Waiting,
}

#[repr(align(128))]
struct Waiting(AtomicU64);

struct Member {
    backlog: Backlog<Box<Parcel>>,
    rest: Rest,
    wake: Arc<OwnedFd>,
}

/// Set while its worker sleeps, or spins for want of work.
#[repr(align(128))]
struct Rest(AtomicBool);

/// A parcel that a worker has taken.
pub(super) struct Taken {
    /// Whose backlog it is from.
    pub(super) owner: usize,
    pub(super) ticket: u64,
    pub(super) parcel: Box<Parcel>,
}

impl Crew {
    /// The workers, by what wakes them.
    pub(super) fn new(wakes: impl Iterator<Item = Arc<OwnedFd>>, workers: usize) -> Arc<Self> {
        // One in work for each worker and as many that wait; more helpers than this have
        // nothing to do, because receiving and writing are not divided.
        let places = match workers {
            0 | 1 => 0,
            _ => (2 * workers).clamp(4, 8),
        };
        let member = |wake| Member {
            backlog: Backlog::new((0..places).map(|_| Parcel::spare())),
            rest: Rest(AtomicBool::new(false)),
            wake,
        };
        Arc::new(Self {
            members: wakes.map(member).collect(),
            waiting: Waiting(AtomicU64::new(0)),
        })
    }

    /// One member's backlog.
    pub(super) fn backlog(&self, member: usize) -> Option<&Backlog<Box<Parcel>>> {
        self.members.get(member).map(|member| &member.backlog)
    }

    /// Says whether a member has nothing to do.
    pub(super) fn set_rest(&self, member: usize, rests: bool) {
        if let Some(member) = self.members.get(member) {
            // Relaxed: who sees it late loses a helper for one burst.
            member.rest.0.store(rests, Ordering::Relaxed);
        }
    }

    /// True when something waits to be opened.
    pub(super) fn has_work(&self) -> bool {
        self.waiting.0.load(Ordering::Relaxed) > 0
    }

    /// True when somebody other than this member rests.
    pub(super) fn has_helper(&self, member: usize) -> bool {
        self.others(member)
            .any(|(_, other)| other.rest.0.load(Ordering::Relaxed))
    }

    /// Wakes one of the others, if one rests.
    pub(super) fn wake_one(&self, member: usize) -> bool {
        let rests = |other: &&Member| {
            other.rest.0.load(Ordering::Relaxed) && other.rest.0.swap(false, Ordering::Relaxed)
        };
        let woken = self.others(member).map(|(_, other)| other).find(rests);
        if let Some(other) = woken {
            // It fails only when the counter is full, and then the worker is awake.
            let _written = rustix::io::write(&other.wake, &1_u64.to_ne_bytes());
        }
        woken.is_some()
    }

    /// Lays a burst of this member out; false when its ring is full.
    pub(super) fn lay_out(
        &self,
        member: usize,
        burst: &mut Burst,
        origin: Origin,
        ports: &Arc<Ports>,
    ) -> bool {
        let Some(backlog) = self.backlog(member) else {
            return false;
        };
        // Before it can be taken, so that the number never goes below 0.
        self.waiting.0.fetch_add(1, Ordering::Relaxed);
        let is_out = backlog.lay_out(|parcel| {
            core::mem::swap(&mut parcel.burst, burst);
            parcel.origin = Some(origin);
            parcel.ports = Some(Arc::clone(ports));
        });
        if !is_out {
            self.waiting.0.fetch_sub(1, Ordering::Relaxed);
        }
        is_out
    }

    /// Takes the oldest parcel from a member's own backlog.
    pub(super) fn take_own(&self, member: usize) -> Option<Taken> {
        let (ticket, parcel) = self.backlog(member)?.take()?;
        self.waiting.0.fetch_sub(1, Ordering::Relaxed);
        Some(Taken {
            owner: member,
            ticket,
            parcel,
        })
    }

    /// Takes the oldest parcel from a member's own backlog, or from another one's.
    pub(super) fn take_any(&self, member: usize) -> Option<Taken> {
        self.take_own(member).or_else(|| {
            self.others(member)
                .find_map(|(number, _)| self.take_own(number))
        })
    }

    /// The members behind this one, then those in front: not all look at the first one first.
    fn others(&self, member: usize) -> impl Iterator<Item = (usize, &Member)> {
        let all = || self.members.iter().enumerate();
        let behind = all().skip(member.saturating_add(1));
        behind.chain(all().take(member))
    }
}
