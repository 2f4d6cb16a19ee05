//! Looking SAs up in a table with many connections.

use std::sync::Arc;

use esp_dataplane::{Pipeline, Sad, SadConfig};
use ipsec_types::{ConnectionId, Flow, Spi};

use super::packets;
use crate::bench::BenchError;
use crate::bench::loopback::{self, Protection};

/// A table with some connections of one SA pair each.
pub struct Lookup {
    pipeline: Pipeline,
    flow: Flow,
    connections: u32,
    next: u32,
    /// The table outlives the worker's view of it.
    _sad: Arc<Sad>,
}

impl Lookup {
    /// A table with `connections` connections, at least 1.
    ///
    /// # Errors
    /// When a pair cannot be installed.
    pub fn new(connections: u32) -> Result<Self, BenchError> {
        let (sad, _events) = Sad::new(SadConfig::default());
        for (number, spi) in (0..connections.max(1)).zip(Spi::MIN.get()..) {
            if let Ok(spi) = Spi::new(spi) {
                loopback::install(&sad, Protection::Null, spi, ConnectionId(number))?;
            }
        }
        let mut inner = [0; 64];
        packets::fill_udp(&mut inner);
        Ok(Self {
            pipeline: sad.pipeline(0),
            flow: loopback::flow_of(&inner)?,
            connections: connections.max(1),
            next: 0,
            _sad: sad,
        })
    }

    /// Looks up `times` packets, each of another connection than the one before.
    pub fn run(&mut self, times: u32) -> u32 {
        let mut found = 0;
        for _time in 0..times {
            // Not in the order of installation: a step that meets every connection.
            self.next = (self.next + 389) % self.connections;
            let connection = ConnectionId(self.next);
            found += u32::from(self.pipeline.outbound(connection, &self.flow, 1).is_some());
        }
        found
    }
}
