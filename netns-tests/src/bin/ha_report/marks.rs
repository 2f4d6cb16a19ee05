//! What a node may not say any more, counted on the wire.

use std::time::Duration;

use netns_tests::pair::{ADDRESS_LAN, ADDRESS_WAN, Event, Evidence, Node};

/// ESP, IKE and ARP claims that a node has sent for the virtual addresses since a moment, up to
/// the end of the event.
fn spoken<'a>(
    evidence: &'a Evidence,
    node: &Node,
    since: Duration,
    event: &'a Event,
) -> impl Iterator<Item = Duration> + 'a {
    let wan = evidence.wan.spoken(ADDRESS_WAN, node.wan_card);
    let lan = evidence.lan.spoken(ADDRESS_LAN, node.lan_card);
    wan.chain(lan)
        .filter(move |at| *at > since && *at < event.settled)
}

/// How often a node has spoken for the virtual addresses since a moment.
pub(crate) fn words_since(
    evidence: &Evidence,
    node: &Node,
    since: Duration,
    event: &Event,
) -> usize {
    spoken(evidence, node, since, event).count()
}

/// How long after a moment a node last spoke for the virtual addresses; zero if it did not.
pub(crate) fn last_word_after(
    evidence: &Evidence,
    node: &Node,
    moment: Duration,
    event: &Event,
) -> Duration {
    let last = spoken(evidence, node, moment, event).max();
    last.map_or(Duration::ZERO, |last| last.saturating_sub(moment))
}
