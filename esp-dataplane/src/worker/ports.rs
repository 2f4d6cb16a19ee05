//! A worker's ends of the tunnels, as opened packets need them.

use core::ops::Range;
use std::collections::HashMap;
use std::sync::Arc;

use ipsec_types::ConnectionId;
use vti::{Lane, MssLimits};

use super::queues::Queues;

/// A tunnel device, for writing.
#[derive(Debug, Clone)]
pub(super) struct Port {
    pub(super) queues: Arc<Queues>,
    /// The queues that the worker reads.
    pub(super) own: Range<usize>,
    pub(super) mss: Option<MssLimits>,
}

/// The devices as one worker has them, found by connection, named by tag. Never changed while somebody
/// else looks at it: the worker calls its helpers home first.
#[derive(Debug, Clone, Default)]
pub(super) struct Ports {
    by_tag: Vec<Option<Port>>,
    tags: HashMap<ConnectionId, usize>,
}

impl Ports {
    /// The port of a tag, if there still is one.
    pub(super) fn get(&self, tag: usize) -> Option<&Port> {
        self.by_tag.get(tag)?.as_ref()
    }

    /// The port of a connection and its lane for coalescing.
    pub(super) fn of(&self, connection: ConnectionId) -> Option<(&Port, Lane)> {
        let tag = *self.tags.get(&connection)?;
        let port = self.get(tag)?;
        let offloads = port.queues.offloads();
        let lane = Lane {
            tag,
            tcp: offloads.tcp,
            udp: offloads.udp,
        };
        Some((port, lane))
    }

    pub(super) fn add(&mut self, tag: usize, connection: ConnectionId, port: Port) {
        if self.by_tag.len() <= tag {
            self.by_tag.resize(tag + 1, None);
        }
        if let Some(place) = self.by_tag.get_mut(tag) {
            *place = Some(port);
            self.tags.insert(connection, tag);
        }
    }

    pub(super) fn remove(&mut self, connection: ConnectionId) {
        let tag = self.tags.remove(&connection);
        if let Some(place) = tag.and_then(|tag| self.by_tag.get_mut(tag)) {
            *place = None;
        }
    }

    /// Where a connection's tunnel stands in the worker's list.
    pub(super) fn tag_of(&self, connection: ConnectionId) -> Option<usize> {
        self.tags.get(&connection).copied()
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        self.tags.keys().copied()
    }
}
