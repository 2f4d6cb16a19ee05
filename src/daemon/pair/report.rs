//! The pair as `status` shows it.

use ha_keepalive::node::PairNode;

/// One sentence: why this node is what it is.
pub(super) fn why(node: &PairNode) -> String {
    let history = node.election().history();
    history
        .last()
        .map_or_else(|| "just started".to_owned(), ToString::to_string)
}
