//! What `status` tells about the past of each connection.

use std::collections::HashMap;
use std::time::Instant;

use ipsec_types::ConnectionId;

/// The last failure and the last change of state of every connection.
#[derive(Debug, Default)]
pub(super) struct History {
    connections: HashMap<ConnectionId, Past>,
}

#[derive(Debug, Default)]
struct Past {
    failure: Option<Failure>,
    state: Option<(crate::status::ConnectionState, Instant)>,
}

/// A negotiation that came to nothing.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// When it ended.
    pub at: Instant,
    /// One line for the operator.
    pub text: String,
}

impl History {
    /// A negotiation has failed.
    pub(super) fn failed(&mut self, connection: ConnectionId, at: Instant, text: String) {
        self.connections.entry(connection).or_default().failure = Some(Failure { at, text });
    }

    /// An ESP SA has come up, or the operator took the connection down: whatever failed before
    /// is of no interest any more.
    pub(super) fn forget_failure(&mut self, connection: ConnectionId) {
        self.connections.entry(connection).or_default().failure = None;
    }

    /// The last failure, unless a success came later.
    pub(super) fn failure(&self, connection: ConnectionId) -> Option<&Failure> {
        self.connections.get(&connection)?.failure.as_ref()
    }

    /// Notes the state a connection is in and returns since when it has been in it.
    pub(super) fn observe(
        &mut self,
        connection: ConnectionId,
        state: crate::status::ConnectionState,
        now: Instant,
    ) -> Instant {
        let past = self.connections.entry(connection).or_default();
        match past.state {
            Some((before, since)) if before == state => since,
            _ => {
                past.state = Some((state, now));
                now
            }
        }
    }

    /// Forgets connections that are not in the config any more.
    pub(super) fn retain(&mut self, keep: impl Fn(ConnectionId) -> bool) {
        self.connections.retain(|connection, _| keep(*connection));
    }
}
