//! SAs as values: what a gateway hands to its partner, or to the next process.
//!
//! These values contain keys. They may be serialised for the authenticated, encrypted pair
//! channel only (invariant I4).

use ipsec_types::EspSaParams;
use serde::{Deserialize, Serialize};

use super::{BadSa, ByteLimits};
use crate::counters::Traffic;
use crate::iv::{Epoch, EpochExhausted, Member};
use crate::replay::{ReplayState, ReplayWindowSize};

/// An outbound SA at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboundState {
    /// Keys, SPI, suite, selectors and outer addresses.
    pub params: EspSaParams,
    /// How many bytes it may carry.
    pub limits: ByteLimits,
    /// The next sequence number that was not handed out yet.
    pub next: u64,
    /// The last sequence number that may have been handed out by now.
    pub ceiling: u64,
    /// Who sealed with it.
    pub member: Member,
    /// The highest IV epoch in use.
    pub epoch: Epoch,
    /// What it has carried.
    pub traffic: Traffic,
}

/// An inbound SA at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundState {
    /// Keys, SPI, suite, selectors and outer addresses.
    pub params: EspSaParams,
    /// How many bytes it may carry.
    pub limits: ByteLimits,
    /// Size of the replay window.
    pub window: ReplayWindowSize,
    /// What was accepted.
    pub replay: ReplayState,
    /// What it has carried.
    pub traffic: Traffic,
}

/// Where an imported SA continues its sequence numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// After a failover: the state may be old, so above every number that the other gateway
    /// was allowed to send (invariant I2).
    AboveCeiling,
    /// After a planned hand-over: the other gateway has stopped, and the state is exact.
    Exact,
}

impl Resume {
    pub(super) fn next(self, state: &OutboundState) -> Result<u64, ImportError> {
        match self {
            Self::Exact => Ok(state.next),
            // A reservation never passes the ceiling, but a state may carry a `next` above a
            // ceiling that was replicated earlier.
            Self::AboveCeiling => state
                .ceiling
                .checked_add(1)
                .map(|above| above.max(state.next))
                .ok_or(ImportError::SequenceExhausted),
        }
    }
}

/// How a gateway takes over outbound SAs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activation {
    /// Which gateway of the pair this is.
    pub member: Member,
    /// The highest epoch this gateway has used or heard of for any SA; the SA continues above
    /// it and above the epoch in its state (invariant I1).
    pub above: Epoch,
    /// Where the sequence numbers continue.
    pub resume: Resume,
    /// The last sequence number that may be sent for now; `None` without a partner.
    pub ceiling: Option<u64>,
}

/// The state cannot be continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The parameters do not make an SA.
    #[error(transparent)]
    BadSa(#[from] BadSa),
    /// The SA was activated too often; it must be replaced.
    #[error(transparent)]
    EpochExhausted(#[from] EpochExhausted),
    /// No sequence number is left above what may have been sent; the SA must be replaced.
    #[error("no sequence number is left above what may have been sent")]
    SequenceExhausted,
}
