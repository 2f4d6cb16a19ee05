//! Two negotiators, a network between them that does what the test says, and virtual time.
//!
//! ```text
//!   alice 192.0.2.1 ---- [ NAT? ] ---- loss, delay, duplicates, tampering ---- bob 198.51.100.2
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]
#![expect(
    unreachable_pub,
    reason = "modules of one test program share the fixture"
)]

mod bad_input;
mod basics;
mod config;
mod extras;
mod faults;
mod handover;
mod hostile;
mod letter;
mod life;
mod manual;
mod mismatches;
mod nat;
mod pair;
mod rekey;
mod replication;
mod simulation;
