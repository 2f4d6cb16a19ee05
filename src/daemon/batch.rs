//! What one look at the negotiator brought: state to remember first, then effects, then words.
//!
//! With a partner, nothing in `effects` and `transmits` happens before the standby knows what is
//! in `changes` (the commit point): a takeover never meets an SA, a message id or an IV that it
//! does not know.

use ikev1::Transmit;
use ipsec_types::{ConnectionId, EspSaPair, Spi};

/// A pair of ESP SAs: whose, our SPI (its name), the peer's SPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PairId {
    pub connection: ConnectionId,
    pub inbound: Spi,
    pub outbound: Spi,
}

impl PairId {
    pub(super) const fn new(connection: ConnectionId, inbound: Spi, outbound: Spi) -> Self {
        Self {
            connection,
            inbound,
            outbound,
        }
    }

    pub(super) const fn of(pair: &EspSaPair) -> Self {
        Self::new(pair.connection, pair.inbound.spi, pair.outbound.spi)
    }
}

/// State that a standby must learn of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The IKE state of a connection is another one.
    Ike(ConnectionId),
    /// The pair is installed.
    EspUp(PairId),
    /// The pair is about to carry the traffic of its selectors.
    EspSwitched(PairId),
    /// The pair is gone.
    EspDown(PairId),
}

/// What waits for the commit point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Outbound traffic moves to this pair.
    Switch(PairId),
    /// The pair is removed. In order with the switches: traffic moves away first.
    Uninstall(PairId),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub changes: Vec<Change>,
    pub effects: Vec<Effect>,
    pub transmits: Vec<Transmit>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.effects.is_empty() && self.transmits.is_empty()
    }
}
