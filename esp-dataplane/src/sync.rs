//! The one switch between the real atomics and a model checker's.
//!
//! The lock-free files ([`crate::replay`], [`crate::sequence`], [`crate::iv`], `turn`,
//! `worker::backlog`) take their atomics from here. `tests/loom_*.rs` include those files a
//! second time beside a `sync` module of their own that re-exports loom's atomics, so that every
//! interleaving is tried by a plain `cargo test`, without a build flag that other crates would
//! see.

pub(crate) use core::sync::atomic::{AtomicU64, Ordering};
pub(crate) use std::sync::Mutex;
