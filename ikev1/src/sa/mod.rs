//! Established security associations, live and exported.

pub(crate) mod child;
pub(crate) mod export;
pub(crate) mod ike;
mod message_ids;
