//! Pictures of what happened, as SVG: the timeline of an event, and how gaps are distributed.

mod dots;
mod svg;
mod timeline;

pub use dots::{Series, dots};
pub use timeline::timeline;
