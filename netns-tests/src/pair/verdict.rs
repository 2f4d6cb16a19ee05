//! What an event may have cost.

use std::time::Duration;

use super::Cost;

/// A gap that no busy machine explains.
pub const SANE: Duration = Duration::from_secs(5);

/// What every event has to leave behind: the peer noticed nothing.
///
/// # Panics
/// When it has, with what it noticed.
pub fn unnoticed(cost: &Cost) {
    assert_eq!(
        cost.negotiation, 0,
        "the peer was asked to negotiate: {cost:?}"
    );
    assert_eq!(cost.new_spis, 0, "an SA was replaced: {cost:?}");
    assert_eq!(cost.repeated_ivs, 0, "I1: {cost:?}");
    assert_eq!(cost.not_above, 0, "I2: {cost:?}");
    assert_eq!(cost.replay_drops, 0, "I2: {cost:?}");
    assert_eq!(cost.contested, 0, "I7: {cost:?}");
    assert_eq!(cost.duplicates(), 0, "{cost:?}");
    assert!(cost.gap() < SANE, "{cost:?}");
}

/// Nothing was lost either, and nothing at all was said to the peer.
///
/// # Panics
/// When it was.
pub fn lossless(cost: &Cost) {
    unnoticed(cost);
    assert_eq!(cost.lost(), 0, "{cost:?}");
    assert_eq!(cost.ike, 0, "{cost:?}");
}
