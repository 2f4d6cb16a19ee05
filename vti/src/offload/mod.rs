//! Segmentation offload in both directions.
//!
//! ```text
//!  TUN read:   [virtio header][IP|TCP|            64 KiB payload             ]
//!  split:      [IP|TCP|payload 0] [IP|TCP|payload 1] ...   each into its own slot
//!
//!  coalesce:   [IP|TCP|payload 0] [IP|TCP|payload 1] ...   as they were decrypted
//!  TUN write:  [virtio header][IP|TCP|payload 0][payload 1] ...   gathered, not copied
//! ```
//!
//! Neither direction may change what the receiver sees: the rules are those of the kernel's
//! own GSO and GRO, and `split` after `coalesce` gives the same packets again.

mod coalesce;
mod header;
mod split;
#[cfg(test)]
mod tests;

pub use coalesce::{Coalescer, Lane, MAX_PARTS, MAX_UNCUT};
pub use header::{Gso, GsoKind, VirtioHeader};
pub use split::SuperPacket;

/// A packet from the TUN whose headers do not fit together. It is dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum OffloadError {
    /// Shorter than its own headers say.
    #[error("packet is shorter than its headers")]
    Truncated,
    /// A segmentation type we never offered.
    #[error("unknown segmentation type {0}")]
    UnknownGso(u8),
    /// A super-packet with segments of no bytes.
    #[error("segment size 0")]
    GsoSizeZero,
    /// Segments longer than the whole payload.
    #[error("segment size {size} exceeds the payload of {payload} bytes")]
    GsoSizeTooLarge {
        /// The segment size of the virtio header.
        size: u16,
        /// The bytes behind the headers.
        payload: usize,
    },
    /// The segmentation type does not match the packet's headers.
    #[error("segmentation type does not match the packet")]
    KindMismatch,
    /// The checksum would stand outside of the packet.
    #[error("checksum position outside of the packet")]
    ChecksumOutside,
    /// The slot offered for a segment has another length than the segment.
    #[error("slot does not fit the segment")]
    SlotMismatch,
}
