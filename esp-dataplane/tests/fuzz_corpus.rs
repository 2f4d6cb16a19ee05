//! Replays the committed inputs of the fuzz target `esp_open`, without a fuzzer.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "public for the fuzz target")]
mod harness;

use std::path::Path;

#[test]
fn the_corpus_of_esp_open_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/esp_open");
    let mut inputs = 0;
    for entry in corpus.read_dir().unwrap() {
        harness::esp_open(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs >= 60, "only {inputs} inputs in {}", corpus.display());
}
