//! What we offer, what we choose, and one line about why nothing fits.

use core::time::Duration;

mod explain;
pub(crate) mod phase1;
pub(crate) mod phase2;

/// What a peer means that states no lifetime (RFC 2407 §4.5).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(28_800);

/// Words for the log: `a, b and 3 more` at most.
fn listed(items: &[String]) -> String {
    const SHOWN: usize = 6;
    let mut words = items
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if let Some(more) = items.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        words.push_str(&format!(" and {more} more"));
    }
    words
}
