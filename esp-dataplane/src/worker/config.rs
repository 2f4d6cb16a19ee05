//! What the workers are started with.

use core::time::Duration;

use crate::io::{OffloadPolicy, OuterDf};

/// How the workers run.
#[derive(Debug, Clone)]
pub struct DataPlaneConfig {
    /// Threads; at least 1.
    pub workers: usize,
    /// Bind worker `i` to the `i`-th CPU this process may use.
    pub pin: bool,
    /// Look for packets at most so long before going to sleep, where that has paid of late.
    pub busy_poll: Duration,
    /// Go before ordinary programs beside streams, where the kernel permits it.
    pub real_time: bool,
    /// UDP port of NAT traversal, normally 4500 (RFC 3948 §2).
    pub nat_t_port: u16,
    /// Firewall mark of outer packets.
    pub mark: Option<u32>,
    /// Socket buffers in bytes.
    pub socket_buffer: usize,
    /// "Don't fragment" of outer packets.
    pub outer_df: OuterDf,
    /// Segmentation offload of the sockets.
    pub offload: OffloadPolicy,
}

impl DataPlaneConfig {
    /// Long enough for the answer of a host next door, short enough not to be noticed.
    pub const BUSY_POLL: Duration = Duration::from_micros(50);
}

impl Default for DataPlaneConfig {
    fn default() -> Self {
        Self {
            workers: 1,
            pin: true,
            busy_poll: Self::BUSY_POLL,
            real_time: true,
            nat_t_port: 4500,
            mark: None,
            socket_buffer: 8 << 20,
            outer_df: OuterDf::default(),
            offload: OffloadPolicy::default(),
        }
    }
}
