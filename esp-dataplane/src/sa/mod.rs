//! Security associations: what the workers share, one value per direction.
//!
//! Everything that does not change is laid out together and read only; what the workers write
//! stands on cache lines of its own. Nothing here takes a lock.

mod inbound;
mod outbound;
mod state;

pub use inbound::InboundSa;
pub use outbound::{OutboundSa, SealRun};
pub use state::{Activation, ImportError, InboundState, OutboundState, Resume};

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::net::SocketAddr;

use ipsec_types::{Encapsulation, EspSaParams, EspSuite, SaLifetime};
use serde::{Deserialize, Serialize};

use crate::counters::Traffic;
use crate::crypto::BadKey;
use crate::events::SoftLimitKind;

/// The parameters do not make an SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSa {
    /// Key material of the wrong length.
    #[error(transparent)]
    Key(#[from] BadKey),
    /// Inbound parameters where outbound ones belong, or the other way round.
    #[error("the SA parameters are for the other direction")]
    Direction,
}

/// The outer addresses of an SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoints {
    /// Ours.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// Protocol 50 or UDP.
    pub encapsulation: Encapsulation,
}

impl Endpoints {
    fn of(params: &EspSaParams) -> Self {
        Self {
            local: params.local,
            remote: params.remote,
            encapsulation: params.encapsulation,
        }
    }
}

/// The lengths of an ESP packet's parts, in bytes (RFC 4303 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Framing {
    /// SPI, sequence number and IV.
    pub(crate) header: usize,
    /// The encrypted part is a multiple of this; a power of two.
    pub(crate) alignment: usize,
    /// The integrity check value.
    pub(crate) icv: usize,
}

/// SPI and sequence number.
pub(crate) const ESP_HEADER: usize = 8;
/// Pad length and next header.
pub(crate) const ESP_TRAILER: usize = 2;

impl Framing {
    pub(crate) const fn of(suite: EspSuite) -> Self {
        Self {
            header: ESP_HEADER + suite.iv_len(),
            alignment: suite.alignment(),
            icv: suite.icv_len(),
        }
    }

    /// Length of the encrypted part: payload, padding and trailer.
    #[inline]
    pub(crate) const fn body(&self, inner: usize) -> usize {
        (inner + ESP_TRAILER + self.alignment - 1) & !(self.alignment - 1)
    }

    /// Length of the whole ESP packet.
    #[inline]
    pub(crate) const fn sealed(&self, inner: usize) -> usize {
        self.header + self.body(inner) + self.icv
    }

    /// The largest inner packet whose ESP packet takes at most `budget` bytes.
    pub(crate) const fn max_inner(&self, budget: usize) -> usize {
        let body = budget.saturating_sub(self.header + self.icv);
        (body & !(self.alignment - 1)).saturating_sub(ESP_TRAILER)
    }
}

/// How many bytes an SA may carry. `u64::MAX` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteLimits {
    /// From here on the SA asks to be replaced.
    pub soft: u64,
    /// From here on the SA does not seal any more (RFC 2407 §4.5).
    pub hard: u64,
}

impl ByteLimits {
    /// No limit.
    pub const UNLIMITED: Self = Self {
        soft: u64::MAX,
        hard: u64::MAX,
    };

    /// The limits of a negotiated lifetime. The SA asks for its replacement at 7/8: with the
    /// rest, a rekey of a second has room at eight times the rate that used the first part in
    /// a minute.
    #[must_use]
    pub const fn of(lifetime: &SaLifetime) -> Self {
        match lifetime.kilobytes {
            None => Self::UNLIMITED,
            Some(kilobytes) => {
                let hard = kilobytes.saturating_mul(1024);
                Self {
                    soft: hard / 8 * 7,
                    hard,
                }
            }
        }
    }
}

/// What an SA has carried. Written once per train, on a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct SaTraffic {
    packets: AtomicU64,
    bytes: AtomicU64,
    /// Nanoseconds on the caller's clock; 0 is never.
    last_used: AtomicU64,
    /// One bit for each [`SoftLimitKind`] that was told.
    told: AtomicU64,
}

impl SaTraffic {
    fn new(traffic: Traffic) -> Self {
        Self {
            packets: AtomicU64::new(traffic.packets),
            bytes: AtomicU64::new(traffic.bytes),
            last_used: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }
    }

    /// Adds a train and returns the bytes carried in total.
    pub(crate) fn add(&self, traffic: Traffic, now: Duration) -> u64 {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.last_used.store(now, Ordering::Relaxed);
        self.packets.fetch_add(traffic.packets, Ordering::Relaxed);
        self.bytes.fetch_add(traffic.bytes, Ordering::Relaxed) + traffic.bytes
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Packets and bytes carried.
    pub(crate) fn load(&self) -> Traffic {
        Traffic {
            packets: self.packets.load(Ordering::Relaxed),
            bytes: self.bytes(),
        }
    }

    /// When the last packet passed.
    pub(crate) fn last_used(&self) -> Option<Duration> {
        match self.last_used.load(Ordering::Relaxed) {
            0 => None,
            ns => Some(Duration::from_nanos(ns)),
        }
    }

    /// True for exactly one caller per kind.
    pub(crate) fn tell_once(&self, kind: SoftLimitKind) -> bool {
        let bit = 1 << kind as u32;
        self.told.load(Ordering::Relaxed) & bit == 0
            && self.told.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_agrees_with_the_suite() {
        for suite in EspSuite::ALL {
            let framing = Framing::of(suite);
            for inner in 1..3000 {
                assert_eq!(framing.sealed(inner), inner + suite.overhead(inner));
            }
        }
    }

    #[test]
    fn max_inner_is_the_largest_that_fits() {
        for suite in EspSuite::ALL {
            let framing = Framing::of(suite);
            for budget in 120..1600 {
                let inner = framing.max_inner(budget);
                assert!(framing.sealed(inner) <= budget, "{suite} {budget}");
                assert!(framing.sealed(inner + 1) > budget, "{suite} {budget}");
            }
        }
    }
}
