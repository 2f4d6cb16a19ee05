//! The SA table: a snapshot that workers read without a lock, and the control plane's handle
//! that replaces it.
//!
//! ```text
//!   control plane -- Sad --+-- registry (all SAs, behind a mutex)
//!                          |        | derives
//!                          +-- ArcSwap<Snapshot>  <--- read by every Pipeline
//! ```
//!
//! A removed SA lives until the last worker that is busy with it lets go.

mod sad;
mod snapshot;
mod status;
mod takeover;

pub use sad::{InstallOptions, OutboundRecord, Sad, SadConfig, SadError, SadState};
pub use status::{InboundStatus, OutboundStatus, SadStatus};
pub use takeover::NotTakenOver;

pub(crate) use snapshot::{FlowCache, Snapshot};
