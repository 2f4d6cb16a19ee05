//! Phase 2: quick mode, which makes ESP SA pairs under an IKE SA (RFC 2409 §5.5).
//!
//! ```text
//!        initiator                            responder
//!                  --- 1: HASH(1), SA, Ni [, KE], IDci, IDcr --->
//!    AwaitQuick2   <-- 2: HASH(2), SA, Nr [, KE], IDci, IDcr ---    AwaitQuick3 (inbound open)
//!    established   --- 3: HASH(3) --->                              established
//! ```
//!
//! Both sides may resend here: the initiator message 1 until 2 arrives, the responder
//! message 2 until 3 arrives. The latter is not the amplification that phase 1 has to avoid,
//! because message 1 was authenticated; without it a lost message 3 would leave the initiator
//! with an SA that the responder never uses.

pub(crate) mod initiator;
pub(crate) mod responder;

use std::time::Instant;

use ipsec_types::{
    ConnectionId, Direction, EspSaPair, EspSaParams, SaLifetime, SecretBytes, SelectorPair, Spi,
};

use crate::crypto::Iv;
use crate::phase1::Fingerprint;
use crate::retransmit::Retransmit;
use crate::sa::ike::IkeSa;
use crate::suite::Phase2Proposal;
use crate::wire::{MessageId, Nonce};

pub(crate) use initiator::AwaitQuick2;
pub(crate) use responder::AwaitQuick3;

/// One run of quick mode.
pub(crate) struct QuickMode {
    pub(crate) id: MessageId,
    pub(crate) selectors: SelectorPair,
    /// When message 1 was sent or received.
    pub(crate) started: Instant,
    pub(crate) state: QuickState,
    /// The last message that moved it forward.
    pub(crate) last_in: Option<Fingerprint>,
    /// Our last message, for duplicates and resending.
    pub(crate) last_out: Vec<u8>,
    pub(crate) retransmit: Retransmit,
}

/// The awaited message, and what is needed for it.
pub(crate) enum QuickState {
    AwaitQuick2(AwaitQuick2),
    AwaitQuick3(AwaitQuick3),
    /// As initiator, after a commit bit: the pair `inbound` may be used when CONNECTED comes.
    AwaitConnected {
        inbound: Spi,
        iv: Iv,
    },
    /// Done; kept for a while to answer duplicates.
    Finished,
}

/// What a finished negotiation of one pair comes to.
pub(crate) struct NewPair {
    pub(crate) pair: EspSaPair,
    pub(crate) proposal: Phase2Proposal,
}

/// All that KEYMAT and the installation need.
pub(crate) struct PairParts<'a> {
    pub(crate) connection: ConnectionId,
    pub(crate) proposal: Phase2Proposal,
    pub(crate) inbound: Spi,
    pub(crate) outbound: Spi,
    pub(crate) g_xy: Option<&'a SecretBytes>,
    pub(crate) ni: &'a Nonce,
    pub(crate) nr: &'a Nonce,
    pub(crate) selectors: SelectorPair,
    pub(crate) lifetime: SaLifetime,
}

impl PairParts<'_> {
    /// Derives both directions' keys: each from the SPI of its receiver (RFC 2409 §5.5).
    pub(crate) fn derive(&self, sa: &IkeSa) -> NewPair {
        let direction = |spi: Spi, direction: Direction| {
            let keys = sa.keys.esp_keys(
                self.proposal.suite,
                self.g_xy,
                spi,
                self.ni.as_slice(),
                self.nr.as_slice(),
            );
            EspSaParams {
                spi,
                direction,
                suite: self.proposal.suite,
                encryption_key: keys.encryption_key,
                integrity_key: keys.integrity_key,
                esn: self.proposal.esn,
                selectors: self.selectors,
                encapsulation: sa.encapsulation(),
                local: sa.path.local,
                remote: sa.path.remote,
            }
        };
        NewPair {
            pair: EspSaPair {
                connection: self.connection,
                inbound: direction(self.inbound, Direction::Inbound),
                outbound: direction(self.outbound, Direction::Outbound),
                lifetime: self.lifetime,
            },
            proposal: self.proposal,
        }
    }
}

/// The selectors that a pair of identities means; `local` and `remote` as we see them.
/// Without identities the SA is for the two hosts themselves (RFC 2409 §5.5).
pub(crate) fn host_selectors(sa: &IkeSa) -> SelectorPair {
    use ipsec_types::TrafficSelector;
    SelectorPair {
        local: TrafficSelector::net(sa.path.local.ip().into()),
        remote: TrafficSelector::net(sa.path.remote.ip().into()),
    }
}
