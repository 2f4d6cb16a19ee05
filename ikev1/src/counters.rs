//! Every refused message has a reason, and every reason a counter (invariant I8).

use core::fmt;

use serde::Serialize;

use crate::wire::{ParseError, Rule};

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident => $name:literal,)+) => {
        /// Why a datagram, or a part of one, had no effect.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in metrics and status: lower case, underscores.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

drop_reasons! {
    /// Not an ISAKMP message: header or payload chain does not parse.
    Malformed => "malformed",
    /// No connection has this source address.
    UnknownPeer => "unknown_peer",
    /// Cookies that name no IKE SA and no exchange in progress.
    UnknownCookies => "unknown_cookies",
    /// An exchange type that we do not speak or that the connection does not allow.
    UnsupportedExchange => "unsupported_exchange",
    /// The table of the exchange forbids this message here: a payload missing, twice or
    /// foreign, or clear where it must be protected.
    BadStructure => "bad_structure",
    /// A message that the exchange does not await in its present state.
    OutOfOrder => "out_of_order",
    /// Seen before; answered from store where an answer is due.
    Duplicate => "duplicate",
    /// A message id that this IKE SA has already used up.
    ReplayedMessageId => "replayed_message_id",
    /// Decryption gave nonsense: another key (wrong PSK) or a tampered message.
    DecryptionFailed => "decryption_failed",
    /// A HASH that does not fit.
    BadHash => "bad_hash",
    /// A public value outside the group, or of the wrong length.
    BadPublicValue => "bad_public_value",
    /// A nonce shorter than 8 or longer than 256 bytes.
    BadNonce => "bad_nonce",
    /// The peer's identity is not the configured one.
    WrongIdentity => "wrong_identity",
    /// Nothing in common among the proposals.
    NoProposalChosen => "no_proposal_chosen",
    /// The peer chose something that we have not offered.
    NotOffered => "not_offered",
    /// Selectors that are not configured.
    InvalidSelectors => "invalid_selectors",
    /// An informational without protection: no effect (invariant I5).
    UnauthenticatedInformational => "unauthenticated_informational",
    /// A notification or delete that does not concern a live SA.
    UnknownSpi => "unknown_spi",
    /// A DPD sequence number that is not the expected one.
    BadDpdSequence => "bad_dpd_sequence",
    /// Too many half-open exchanges from this source.
    HalfOpenPerSource => "half_open_per_source",
    /// Too many half-open exchanges in total; the oldest was evicted.
    HalfOpenEvicted => "half_open_evicted",
    /// A fragment that fits no message in reassembly, or too much of it.
    BadFragment => "bad_fragment",
    /// Too many quick modes at once on one IKE SA.
    TooManyQuickModes => "too_many_quick_modes",
    /// The message came from another address than its exchange.
    WrongAddress => "wrong_address",
    /// A phase-2 message on an IKE SA that is not established.
    PhaseTwoTooEarly => "phase_two_too_early",
    /// The answer would break a local limit (a rate limit, a full table).
    RateLimited => "rate_limited",
}

impl From<&ParseError> for DropReason {
    fn from(error: &ParseError) -> Self {
        match error.rule {
            Rule::NonceLength(_) => Self::BadNonce,
            _ => Self::Malformed,
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the negotiator has counted since it was made.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    drops: Vec<u64>,
    /// Sums that are not refusals.
    pub totals: Totals,
}

/// Counted work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Datagrams handed in.
    pub datagrams_received: u64,
    /// Datagrams handed out, keepalives excluded.
    pub datagrams_sent: u64,
    /// Datagrams that were sent again.
    pub retransmits: u64,
    /// IKE SAs established.
    pub ike_sas: u64,
    /// ESP SA pairs established.
    pub esp_sas: u64,
    /// Phase-1 exchanges that came to nothing.
    pub phase1_failures: u64,
    /// Quick modes that came to nothing.
    pub phase2_failures: u64,
    /// Modular exponentiations and scalar multiplications.
    pub diffie_hellman: u64,
}

impl Counters {
    /// How often a message was refused for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or(0)
    }

    /// Every reason with its count, zeros included.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason, self.dropped(reason)))
    }

    pub(crate) fn count(&mut self, reason: DropReason) {
        let index = reason as usize;
        if self.drops.len() <= index {
            self.drops.resize(DropReason::ALL.len(), 0);
        }
        if let Some(count) = self.drops.get_mut(index) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
    }

    #[test]
    fn each_reason_has_its_own_count() {
        let mut counters = Counters::default();
        counters.count(DropReason::BadHash);
        counters.count(DropReason::BadHash);
        assert_eq!(counters.dropped(DropReason::BadHash), 2);
        assert_eq!(counters.drops().map(|(_, n)| n).sum::<u64>(), 2);
    }
}
