//! Traffic through the lab and what came of it.

mod capture;
mod forge;
mod numbered;
pub mod pcap;
mod ping;
mod tcp;
mod tshark;
pub mod wire;

pub use capture::Capture;
pub use forge::{Forger, Noise};
pub use numbered::{Arrival, Numbered, NumberedReport, Trace};
pub use ping::{Ping, PingReport};
pub use tcp::{Amount, Bulk, CONGESTION_CONTROL, Transfer, connect};
pub use tshark::{Keys, Tshark};
pub use wire::Wire;
