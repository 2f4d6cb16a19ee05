//! Traffic through the lab and what came of it.

mod ping;

pub use ping::{Ping, PingReport};
