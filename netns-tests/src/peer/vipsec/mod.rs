//! The program under test.

mod config;
mod daemon;
mod pair;
mod status;

pub use config::{Connection, Selector};
pub use daemon::{Files, Options, UP, Vipsec};
pub use pair::{Member, PairStatus, Takeover};
pub use status::{ConnectionStatus, EspSa, IkeSa, Status};
