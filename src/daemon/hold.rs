//! Tunnels whose outbound packets wait for an SA that is coming back at once, instead of being
//! dropped; never longer than the negotiator allows.

use core::time::Duration;
use std::collections::HashMap;
use std::time::Instant;

use esp_dataplane::worker::DataPlane;
use ipsec_types::ConnectionId;
use tracing::{debug, warn};

/// The held tunnels and until when each may be.
#[derive(Debug, Default)]
pub(super) struct Holds {
    until: HashMap<ConnectionId, Instant>,
}

impl Holds {
    /// Holds a tunnel from now on, for `at_most`.
    pub(super) fn hold(
        &mut self,
        connection: ConnectionId,
        now: Instant,
        at_most: Duration,
        data_plane: &DataPlane,
    ) {
        match data_plane.hold_tunnel(connection) {
            Ok(()) => {
                debug!(connection = connection.0, ?at_most, "outbound packets wait");
                self.until.insert(connection, now + at_most);
            }
            Err(error) => warn!(connection = connection.0, %error, "cannot hold a tunnel"),
        }
    }

    /// Whoever changes the role holds and releases all tunnels by himself.
    pub(super) fn forget(&mut self) {
        self.until.clear();
    }

    /// Lets a tunnel's packets go; nothing happens when it is not held.
    pub(super) fn release(&mut self, connection: ConnectionId, data_plane: &DataPlane) {
        if self.until.remove(&connection).is_none() {
            return;
        }
        debug!(connection = connection.0, "outbound packets go on");
        if let Err(error) = data_plane.release_tunnel(connection) {
            warn!(connection = connection.0, %error, "cannot release a tunnel");
        }
    }

    /// Releases what has waited long enough; the packets are then dropped and counted.
    pub(super) fn release_overdue(&mut self, now: Instant, data_plane: &DataPlane) {
        let overdue: Vec<_> = self
            .until
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(connection, _)| *connection)
            .collect();
        for connection in overdue {
            self.release(connection, data_plane);
        }
    }

    /// When [`Holds::release_overdue`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until.values().min().copied()
    }
}
