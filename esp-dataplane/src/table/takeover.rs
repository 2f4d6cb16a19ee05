//! SAs one by one, as a gateway of a pair replicates them and takes them over.

use std::sync::Arc;

use ipsec_types::{ConnectionId, Spi};

use super::sad::{OutboundRecord, Sad, SadError};
use crate::sa::{Activation, InboundSa, InboundState, OutboundSa};

/// What a takeover could not continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotTakenOver {
    /// Whose SA.
    pub connection: ConnectionId,
    /// Which one.
    pub spi: Spi,
    /// Why.
    pub error: SadError,
}

impl Sad {
    /// One inbound SA as a value.
    #[must_use]
    pub fn export_inbound(&self, spi: Spi) -> Option<InboundState> {
        Some(self.inbound(spi)?.export())
    }

    /// One outbound SA as a value, with its place in the table.
    #[must_use]
    pub fn export_outbound(&self, connection: ConnectionId, spi: Spi) -> Option<OutboundRecord> {
        let registry = self.registry();
        let entry = registry.outbound.get(&(connection, spi))?;
        Some(OutboundRecord {
            connection,
            order: entry.order,
            switched: entry.switched,
            state: entry.sa.export(),
        })
    }

    /// Takes over the SAs of another gateway, each outbound one as its own activation says, in
    /// one change of the table. An SA that is here already is replaced. What cannot be
    /// continued is left out, without harm to the others, and returned.
    pub fn take_over(
        &self,
        inbound: Vec<(ConnectionId, InboundState)>,
        outbound: Vec<(OutboundRecord, Activation)>,
    ) -> Vec<NotTakenOver> {
        let mut failed = Vec::new();
        let mut opening = Vec::with_capacity(inbound.len());
        for (connection, state) in inbound {
            let spi = state.params.spi;
            match InboundSa::import(connection, state, self.backends) {
                Ok(sa) => opening.push(Arc::new(sa)),
                Err(error) => failed.push(NotTakenOver {
                    connection,
                    spi,
                    error: error.into(),
                }),
            }
        }
        let mut sealing = Vec::with_capacity(outbound.len());
        for (record, activation) in outbound {
            let (connection, spi) = (record.connection, record.state.params.spi);
            match OutboundSa::import(connection, record.state, activation, self.backends) {
                Ok(sa) => sealing.push((Arc::new(sa), record.order, record.switched)),
                Err(error) => failed.push(NotTakenOver {
                    connection,
                    spi,
                    error: error.into(),
                }),
            }
        }
        let taken = self.change(|registry| {
            for sa in opening {
                registry.inbound.insert(sa.spi(), sa);
            }
            for (sa, order, switched) in sealing {
                registry.insert_outbound(sa, order, switched);
            }
            Ok(())
        });
        debug_assert_eq!(taken, Ok(()), "this change refuses nothing");
        failed
    }

    /// Stops sealing with every SA and goes on opening, as the old active gateway does after a
    /// planned hand-over; returns how many sealed.
    pub fn remove_all_outbound(&self) -> usize {
        self.change(|registry| {
            let before = registry.outbound.len();
            registry.outbound.clear();
            Ok(before)
        })
        .unwrap_or(0)
    }
}
