//! The exchanges of IKEv1 as data, and the one checker that enforces them.

mod checker;
mod table;

pub(crate) use checker::{check, payload};
pub(crate) use table::{aggressive, informational, main_mode, quick_mode};
