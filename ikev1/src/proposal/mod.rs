//! What we offer, what we choose, and one line about why nothing fits.

mod explain;
pub(crate) mod phase1;
pub(crate) mod phase2;

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
