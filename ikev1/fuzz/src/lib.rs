//! What the fuzz targets for the whole negotiator have in common. The codec's own targets
//! live in [`ikev1::wire::fuzz`].
//!
//! ```text
//!   hostile_network   Alice <--[ the script drops, doubles, changes, forges ]--> Bob
//!   hostile_peer      a peer with the right key, but the script writes its payloads --> Bob
//! ```
//!
//! Everything is deterministic: randomness is seeded, time is virtual, so an input that fails
//! once fails always.

pub mod lab;
pub mod network;
pub mod peer;
