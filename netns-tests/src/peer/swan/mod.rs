//! strongSwan.

mod charon;
mod config;
mod vici_text;

pub use charon::{Charon, ChildSa, IkeSa, StrongSwan};
pub use config::{Child, Connection, Start};
