//! What the benches do again and again: packets, and the pipeline in memory that carries them.
//! Public so that `examples/instructions.rs` counts the same work.

pub mod cycle;
mod lookup;
pub mod packets;

pub use super::crypto::Train;
pub use super::loopback::{Loopback, Protection};
pub use cycle::{Cycle, Stages};
pub use lookup::Lookup;
