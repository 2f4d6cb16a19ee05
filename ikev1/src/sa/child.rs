//! An ESP SA pair as the negotiator knows it: names, clocks and its place among its
//! siblings. Keys and packets are the data plane's.

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
    pub(crate) established: Instant,
    pub(crate) expires: Instant,
    pub(crate) stage: Stage,
    /// Its replacement is to be negotiated as soon as possible.
    pub(crate) rekey_due: bool,
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

impl Child {
    pub(crate) fn new(
        pair: &EspSaPair,
        proposal: Phase2Proposal,
        role: Role,
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
            established: now,
            expires: now + pair.lifetime.time,
            stage: Stage::Ready,
            rekey_due: false,
        }
    }

    /// Both sides see the same two SPIs, so both sort two rival pairs alike.
    fn rank(&self) -> (Spi, Spi) {
        let (a, b) = (self.inbound, self.outbound);
        (a.max(b), a.min(b))
    }

    /// Whether a new pair takes over from `current`. Normally the newer one does. When both
    /// sides started a quick mode at about the same time, "newer" is not the same on both;
    /// then the larger pair of SPIs wins on both sides.
    pub(crate) fn supersedes(&self, current: &Self) -> bool {
        let crossed = self.role != current.role
            && self
                .established
                .saturating_duration_since(current.established)
                < COLLISION_WINDOW;
        !crossed || self.rank() > current.rank()
    }
}

/// Two negotiations started by different sides within this time may have crossed each other
/// on the way: as long as a message is resent at all.
pub(crate) const COLLISION_WINDOW: core::time::Duration = core::time::Duration::from_secs(60);

/// The connection and SPI that name a pair among the timers.
pub(crate) fn owner(connection: ConnectionId, inbound: Spi) -> crate::negotiator::timers::Owner {
    crate::negotiator::timers::Owner::Child(connection, inbound)
}
