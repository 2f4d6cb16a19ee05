//! An ESP SA pair as the negotiator knows it: names, clocks and its place among its
//! siblings. Keys and packets are the data plane's.

use core::time::Duration;
use std::time::Instant;

use ipsec_types::{ConnectionId, Encapsulation, EspSaPair, SaLifetime, SelectorPair, Spi};

use crate::api::Role;
use crate::suite::Phase2Proposal;

/// One ESP SA pair; its inbound SPI is its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) inbound: Spi,
    pub(crate) outbound: Spi,
    pub(crate) selectors: SelectorPair,
    pub(crate) proposal: Phase2Proposal,
    pub(crate) encapsulation: Encapsulation,
    /// Our part in the quick mode.
    pub(crate) role: Role,
    pub(crate) lifetime: SaLifetime,
    /// When the first message of its quick mode was sent or received.
    pub(crate) began: Instant,
    pub(crate) established: Instant,
    pub(crate) expires: Instant,
    pub(crate) stage: Stage,
    /// Its replacement is to be negotiated as soon as possible.
    pub(crate) rekey_due: bool,
    /// Deletes to send before the last one.
    pub(crate) farewells: u8,
}

/// Where an ESP SA pair stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Stage {
    /// Opens inbound packets; as responder we await message 3, as initiator the moment at
    /// which the peer surely has both directions.
    Ready,
    /// Outbound packets leave on it.
    InUse,
    /// Another one carries the traffic; it still opens what is on the way, until the grace
    /// period ends.
    Retiring,
}

impl Stage {
    /// The order in which a standby needs to know of pairs.
    pub(crate) fn standing(self) -> u8 {
        match self {
            Self::InUse => 0,
            Self::Ready => 1,
            Self::Retiring => 2,
        }
    }
}

impl Child {
    pub(crate) fn new(
        pair: &EspSaPair,
        proposal: Phase2Proposal,
        role: Role,
        began: Instant,
        now: Instant,
    ) -> Self {
        Self {
            inbound: pair.inbound.spi,
            outbound: pair.outbound.spi,
            selectors: pair.inbound.selectors,
            proposal,
            encapsulation: pair.inbound.encapsulation,
            role,
            lifetime: pair.lifetime,
            began,
            established: now,
            expires: now + pair.lifetime.time,
            stage: Stage::Ready,
            rekey_due: false,
            farewells: 0,
        }
    }

    /// Both sides see the same two SPIs, so both sort two rival pairs alike.
    fn rank(&self) -> (Spi, Spi) {
        let (a, b) = (self.inbound, self.outbound);
        (a.max(b), a.min(b))
    }

    /// How a new pair relates to the one that carries the traffic.
    pub(crate) fn follows(&self, current: &Self) -> Succession {
        Succession::of(
            self.role != current.role,
            self.began < current.established,
            self.established
                .saturating_duration_since(current.established),
            self.rank() > current.rank(),
        )
    }
}

/// How a new SA relates to its predecessor, for ESP and IKE SAs alike.
///
/// | began by | new one began | then |
/// | --- | --- | --- |
/// | the same side | | the newer one is used |
/// | different sides | long after | the newer one is used |
/// | different sides | shortly after | the newer one is used; the peer may have seen them cross |
/// | different sides | before the old one was done | they crossed: the larger name is used |
///
/// Everybody lets the newer one win; only when two negotiations cross is "newer" not the same
/// on both sides. Where the peer may see it otherwise, the unused one is kept much longer, goes
/// with more than one delete, and only whoever began it deletes it: so the two sides never
/// delete one each at the same time. If the peer deletes the one in use, the other takes over.
/// What is left over goes with the next plain succession.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Succession {
    /// A plain successor.
    Newer,
    /// A successor that the peer may see as crossed.
    Contested,
    /// Crossed, and the new one is used.
    CrossedWins,
    /// Crossed, and the old one is used.
    CrossedLoses,
}

/// A message is resent for about this long: two negotiations that began further apart than
/// this cannot have crossed.
const CROSSING_WINDOW: Duration = Duration::from_secs(60);

impl Succession {
    pub(crate) fn of(other_side: bool, crossed: bool, apart: Duration, larger: bool) -> Self {
        match (other_side, crossed, larger) {
            (false, _, _) => Self::Newer,
            (true, true, true) => Self::CrossedWins,
            (true, true, false) => Self::CrossedLoses,
            (true, false, _) if apart < CROSSING_WINDOW => Self::Contested,
            (true, false, _) => Self::Newer,
        }
    }

    pub(crate) fn new_one_is_used(self) -> bool {
        match self {
            Self::Newer | Self::Contested | Self::CrossedWins => true,
            Self::CrossedLoses => false,
        }
    }

    /// How many times the usual grace the unused one gets. A side that saw them cross waits
    /// longer than one that did not: the two may disagree, and the second to delete has by
    /// then learned from the first.
    pub(crate) fn grace_factor(self) -> u32 {
        match self {
            Self::Newer => 1,
            Self::Contested => 2,
            Self::CrossedWins | Self::CrossedLoses => 4,
        }
    }

    /// Whether this side deletes the unused one when its grace is over.
    pub(crate) fn deletes(self, role_in_unused: Role) -> bool {
        self == Self::Newer || role_in_unused == Role::Initiator
    }

    /// Deletes are not acknowledged: this many go out before the last one, a few seconds
    /// apart, where the peer may still use what is deleted.
    pub(crate) fn farewells(self) -> u8 {
        match self {
            Self::Newer => 0,
            Self::Contested | Self::CrossedWins | Self::CrossedLoses => 2,
        }
    }
}

/// Between two deletes of the same SA.
pub(crate) const FAREWELL_INTERVAL: Duration = Duration::from_secs(5);

/// The connection and SPI that name a pair among the timers.
pub(crate) fn owner(connection: ConnectionId, inbound: Spi) -> crate::negotiator::timers::Owner {
    crate::negotiator::timers::Owner::Child(connection, inbound)
}
