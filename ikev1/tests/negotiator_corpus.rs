//! Replays the scripts of the negotiator's fuzz targets (`ikev1/fuzz`): those that they start
//! from, and every one that ever broke something.
#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and its clock has to start somewhere"
)]

#[path = "../fuzz/src/lab.rs"]
mod lab;
#[path = "../fuzz/src/network.rs"]
mod network;
#[path = "../fuzz/src/peer.rs"]
mod peer;

use std::fs;
use std::path::Path;

fn replay(target: &str, at_least: usize, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut replayed = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let script = fs::read(&path).unwrap();
        if std::panic::catch_unwind(|| run(&script)).is_err() {
            panic!("{} breaks {target}", path.display());
        }
        replayed += 1;
    }
    assert!(replayed >= at_least, "the corpus of {target} is incomplete");
}

#[test]
fn a_hostile_network_replays_its_corpus() {
    replay("hostile_network", 10, network::hostile_network);
}

#[test]
fn a_hostile_peer_replays_its_corpus() {
    replay("hostile_peer", 10, peer::hostile_peer);
}

/// The check at the end of every script can fail: two gateways that wait for each other have
/// no tunnel.
#[test]
fn a_dead_tunnel_is_noticed() {
    let mut lab = lab::Lab::new(ikev1::config::StartMode::Respond);
    let checked = std::panic::AssertUnwindSafe(|| network::assert_recovers(&mut lab));
    assert!(std::panic::catch_unwind(checked).is_err());
}
