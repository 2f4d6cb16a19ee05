//! What a running daemon tells about itself: one model, shown as text or as JSON.
//!
//! The daemon fills the model, the control socket carries it, and [`render`] makes of it the
//! one screen that somebody wants to see at three in the morning. Ages and deadlines are
//! whole seconds relative to the moment of the answer, so that no two clocks have to agree.

mod model;
mod pair;
mod render;
#[cfg(test)]
mod tests;

pub use model::{
    ConnectionState, ConnectionStatus, Counters, Encapsulation, EspSaStatus, IkeSaStatus,
    LagStatus, LastError, Liveness, NatStatus, PairStatus, PartnerStatus, Role, Status, StepStatus,
    TakeoverReadiness, TransitionStatus, VirtualAddressStatus, VtiStatus,
};
pub use render::{render, render_counters};
