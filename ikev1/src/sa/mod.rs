//! Established security associations, live and exported.

pub(crate) mod export;
