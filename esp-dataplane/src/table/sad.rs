//! The control plane's handle: install, switch, remove, export, import.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use ipsec_types::{ConnectionId, EspSaPair, Spi};
use serde::{Deserialize, Serialize};

use super::snapshot::Snapshot;
use super::status::{InboundStatus, OutboundStatus, SadStatus};
use crate::counters::{CounterSnapshot, WorkerCounters};
use crate::crypto::AeadBackends;
use crate::events::{self, EventQueue, EventReceiver, EventSender, Notify};
use crate::iv::Member;
use crate::pipeline::Pipeline;
use crate::replay::ReplayWindowSize;
use crate::sa::{
    Activation, BadSa, ByteLimits, ImportError, InboundSa, InboundState, OutboundSa, OutboundState,
};

/// What the table is built with.
#[derive(Clone)]
pub struct SadConfig {
    /// How many workers will ask for a [`Pipeline`].
    pub workers: usize,
    /// Which library runs AES-GCM; [`AeadBackends::measure`] finds the faster.
    pub backends: AeadBackends,
    /// How many events may wait for the control plane.
    pub event_capacity: usize,
    /// Called after an event was queued; must not block.
    pub notify: Option<Notify>,
}

impl Default for SadConfig {
    fn default() -> Self {
        Self {
            workers: 1,
            backends: AeadBackends::default(),
            event_capacity: 1024,
            notify: None,
        }
    }
}

/// How a negotiated pair of SAs is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstallOptions {
    /// Which gateway of the pair this is; [`Member::A`] without a partner.
    pub member: Member,
    /// The last outbound sequence number that may be sent for now; `None` without a partner.
    pub ceiling: Option<u64>,
    /// Size of the inbound replay window.
    pub replay_window: ReplayWindowSize,
    /// Place of the selectors in the connection's policy: lower is tried first.
    pub order: u32,
}

impl Default for InstallOptions {
    fn default() -> Self {
        Self {
            member: Member::A,
            ceiling: None,
            replay_window: ReplayWindowSize::default(),
            order: 0,
        }
    }
}

/// The table refuses a change; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SadError {
    /// The parameters do not make an SA.
    #[error(transparent)]
    BadSa(#[from] BadSa),
    /// The state cannot be continued.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// An inbound SA, or an outbound one of the same tunnel, has this SPI.
    #[error("SPI {0} is already installed")]
    DuplicateSpi(Spi),
    /// No such SA.
    #[error("no SA with SPI {0} is installed")]
    UnknownSa(Spi),
}

/// Every SA as a value; what a partner needs to take over. Contains keys (invariant I4).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SadState {
    /// Inbound SAs with the tunnel each belongs to.
    pub inbound: Vec<(ConnectionId, InboundState)>,
    /// Outbound SAs.
    pub outbound: Vec<OutboundRecord>,
}

/// An outbound SA with its place in the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboundRecord {
    /// The tunnel it belongs to.
    pub connection: ConnectionId,
    /// Place of its selectors in the policy.
    pub order: u32,
    /// Higher is newer among those that ever carried traffic; `None` waits for its switch.
    pub switched: Option<u64>,
    /// The SA.
    pub state: OutboundState,
}

/// The security association database (RFC 4301 §4.4.2). Its methods are for the control
/// plane: they take a mutex that no worker ever touches.
pub struct Sad {
    table: Arc<ArcSwap<Snapshot>>,
    registry: Mutex<Registry>,
    workers: Vec<Arc<WorkerCounters>>,
    events: EventQueue,
    pub(super) backends: AeadBackends,
}

/// Every SA, in use or not.
#[derive(Default)]
pub(super) struct Registry {
    pub(super) inbound: BTreeMap<Spi, Arc<InboundSa>>,
    pub(super) outbound: BTreeMap<(ConnectionId, Spi), OutboundEntry>,
    /// Numbers the switches, so that the newest of equal selectors is known.
    switches: u64,
    generation: u64,
}

pub(super) struct OutboundEntry {
    pub(super) sa: Arc<OutboundSa>,
    pub(super) order: u32,
    pub(super) switched: Option<u64>,
}

impl Sad {
    /// An empty table and the reading end of its events.
    #[must_use]
    pub fn new(config: SadConfig) -> (Arc<Self>, EventReceiver) {
        let (events, receiver) = events::channel(config.event_capacity, config.notify);
        let workers = (0..config.workers.max(1))
            .map(|_| Arc::new(WorkerCounters::default()))
            .collect();
        let sad = Self {
            table: Arc::new(ArcSwap::from_pointee(Snapshot::default())),
            registry: Mutex::new(Registry::default()),
            workers,
            events,
            backends: config.backends,
        };
        (Arc::new(sad), receiver)
    }

    /// The view of one worker. Workers beyond the configured number share counters.
    #[must_use]
    pub fn pipeline(&self, worker: usize) -> Pipeline {
        let counters = self
            .workers
            .get(worker % self.workers.len().max(1))
            .map(Arc::clone)
            .unwrap_or_default();
        let events = EventSender::new(self.events.clone());
        Pipeline::new(Arc::clone(&self.table), counters, events)
    }

    /// Installs both directions of a freshly negotiated phase 2. Inbound packets are opened at
    /// once; outbound traffic waits for [`Sad::switch_outbound`].
    ///
    /// # Errors
    /// [`SadError`]; then neither direction is installed.
    pub fn install_pair(&self, pair: &EspSaPair, options: InstallOptions) -> Result<(), SadError> {
        let limits = ByteLimits::of(&pair.lifetime);
        let inbound = InboundSa::new(
            pair.connection,
            pair.inbound.clone(),
            limits,
            options.replay_window,
            self.backends,
        )?;
        let outbound = OutboundSa::new(
            pair.connection,
            pair.outbound.clone(),
            limits,
            options.member,
            options.ceiling,
            self.backends,
        )?;
        self.install(inbound, outbound, options.order)
    }

    /// Like [`Sad::install_pair`], but without any protection: the ceiling that benchmarks
    /// compare with.
    #[doc(hidden)]
    pub fn install_null_pair_for_bench(&self, pair: &EspSaPair) -> Result<(), SadError> {
        let inbound = InboundSa::with_null_cipher(pair.connection, pair.inbound.clone())?;
        let outbound = OutboundSa::with_null_cipher(pair.connection, pair.outbound.clone())?;
        self.install(inbound, outbound, 0)
    }

    fn install(
        &self,
        inbound: InboundSa,
        outbound: OutboundSa,
        order: u32,
    ) -> Result<(), SadError> {
        self.change(|registry| {
            registry.refuse_duplicates(inbound.spi(), &outbound)?;
            registry.inbound.insert(inbound.spi(), Arc::new(inbound));
            registry.insert_outbound(Arc::new(outbound), order, None);
            Ok(())
        })
    }

    /// Lets an outbound SA carry the traffic of its selectors from now on, instead of the one
    /// that did.
    ///
    /// # Errors
    /// [`SadError::UnknownSa`].
    pub fn switch_outbound(&self, connection: ConnectionId, spi: Spi) -> Result<(), SadError> {
        self.change(|registry| {
            let switched = registry.switches + 1;
            let entry = registry
                .outbound
                .get_mut(&(connection, spi))
                .ok_or(SadError::UnknownSa(spi))?;
            entry.switched = Some(switched);
            registry.switches = switched;
            Ok(())
        })
    }

    /// Stops opening with an inbound SA. False when there is none.
    pub fn remove_inbound(&self, spi: Spi) -> bool {
        self.change(|registry| Ok(registry.inbound.remove(&spi).is_some()))
            .unwrap_or(false)
    }

    /// Stops sealing with an outbound SA. Its traffic goes to the newest one that carried the
    /// same selectors before, if that is still there. False when there is none.
    pub fn remove_outbound(&self, connection: ConnectionId, spi: Spi) -> bool {
        self.change(|registry| Ok(registry.outbound.remove(&(connection, spi)).is_some()))
            .unwrap_or(false)
    }

    /// Removes every SA of a tunnel; returns how many.
    pub fn remove_connection(&self, connection: ConnectionId) -> usize {
        self.change(|registry| {
            let before = registry.inbound.len() + registry.outbound.len();
            registry
                .inbound
                .retain(|_, sa| sa.connection() != connection);
            registry.outbound.retain(|(of, _), _| *of != connection);
            Ok(before - registry.inbound.len() - registry.outbound.len())
        })
        .unwrap_or(0)
    }

    /// Removes every SA, as a gateway does that stops being the active one; returns how many.
    pub fn remove_all(&self) -> usize {
        self.change(|registry| {
            let before = registry.inbound.len() + registry.outbound.len();
            registry.inbound.clear();
            registry.outbound.clear();
            Ok(before)
        })
        .unwrap_or(0)
    }

    /// Sends to, and expects, the peer of a tunnel at another outer address.
    pub fn update_peer(&self, connection: ConnectionId, remote: SocketAddr) {
        let registry = self.registry();
        for sa in registry.inbound.values() {
            if sa.connection() == connection {
                sa.move_peer(remote);
            }
        }
        for entry in registry.outbound.values() {
            if entry.sa.connection() == connection {
                entry.sa.move_peer(remote);
            }
        }
    }

    /// An inbound SA.
    #[must_use]
    pub fn inbound(&self, spi: Spi) -> Option<Arc<InboundSa>> {
        self.registry().inbound.get(&spi).cloned()
    }

    /// An outbound SA, in use or not; among others for raising its sequence ceiling.
    #[must_use]
    pub fn outbound(&self, connection: ConnectionId, spi: Spi) -> Option<Arc<OutboundSa>> {
        let registry = self.registry();
        let entry = registry.outbound.get(&(connection, spi))?;
        Some(Arc::clone(&entry.sa))
    }

    /// Every SA as a value.
    #[must_use]
    pub fn export(&self) -> SadState {
        let registry = self.registry();
        let inbound = registry
            .inbound
            .values()
            .map(|sa| (sa.connection(), sa.export()));
        let outbound = registry.outbound.values().map(|entry| OutboundRecord {
            connection: entry.sa.connection(),
            order: entry.order,
            switched: entry.switched,
            state: entry.sa.export(),
        });
        SadState {
            inbound: inbound.collect(),
            outbound: outbound.collect(),
        }
    }

    /// Takes over all SAs of another gateway or process at once.
    ///
    /// # Errors
    /// [`SadError`] of the first SA that cannot be continued; then none was imported.
    pub fn import(&self, state: SadState, activation: Activation) -> Result<(), SadError> {
        let inbound: Vec<_> = state
            .inbound
            .into_iter()
            .map(|(connection, state)| InboundSa::import(connection, state, self.backends))
            .collect::<Result<_, _>>()?;
        let outbound: Vec<_> = state
            .outbound
            .into_iter()
            .map(|r| {
                let sa = OutboundSa::import(r.connection, r.state, activation, self.backends)?;
                Ok((sa, r.order, r.switched))
            })
            .collect::<Result<_, ImportError>>()?;
        self.change(|registry| {
            for sa in &inbound {
                if registry.inbound.contains_key(&sa.spi()) {
                    return Err(SadError::DuplicateSpi(sa.spi()));
                }
            }
            for (sa, _, _) in &outbound {
                registry.refuse_duplicate_outbound(sa)?;
            }
            for sa in inbound {
                registry.inbound.insert(sa.spi(), Arc::new(sa));
            }
            for (sa, order, switched) in outbound {
                registry.insert_outbound(Arc::new(sa), order, switched);
            }
            Ok(())
        })
    }

    /// Every SA for a human or a metrics page.
    #[must_use]
    pub fn status(&self) -> SadStatus {
        let registry = self.registry();
        let table = self.table.load();
        let in_use = |sa: &Arc<OutboundSa>| {
            table
                .outbound
                .get(&sa.connection().0)
                .is_some_and(|sas| sas.iter().any(|other| Arc::ptr_eq(other, sa)))
        };
        SadStatus {
            inbound: registry
                .inbound
                .values()
                .map(|sa| InboundStatus::of(sa))
                .collect(),
            outbound: registry
                .outbound
                .values()
                .map(|entry| OutboundStatus::of(&entry.sa, in_use(&entry.sa)))
                .collect(),
            backends: self.backends,
        }
    }

    /// What all workers have counted.
    #[must_use]
    pub fn counters(&self) -> CounterSnapshot {
        CounterSnapshot::sum(&self.workers)
    }

    /// Changes the registry and shows the workers the result, unless the change is refused.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut Registry) -> Result<T, SadError>,
    ) -> Result<T, SadError> {
        let mut registry = self.registry();
        let changed = change(&mut registry)?;
        registry.generation += 1;
        self.table.store(Arc::new(registry.snapshot()));
        Ok(changed)
    }

    /// A panic elsewhere does not make the SAs wrong: each change is complete or not begun.
    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl core::fmt::Debug for Sad {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sad")
            .field("workers", &self.workers.len())
            .field("backends", &self.backends)
            .finish_non_exhaustive()
    }
}

impl Registry {
    fn refuse_duplicates(&self, inbound: Spi, outbound: &OutboundSa) -> Result<(), SadError> {
        if self.inbound.contains_key(&inbound) {
            return Err(SadError::DuplicateSpi(inbound));
        }
        self.refuse_duplicate_outbound(outbound)
    }

    /// The peers choose these SPIs: two peers may choose the same.
    fn refuse_duplicate_outbound(&self, sa: &OutboundSa) -> Result<(), SadError> {
        if self.outbound.contains_key(&(sa.connection(), sa.spi())) {
            return Err(SadError::DuplicateSpi(sa.spi()));
        }
        Ok(())
    }

    pub(super) fn insert_outbound(
        &mut self,
        sa: Arc<OutboundSa>,
        order: u32,
        switched: Option<u64>,
    ) {
        self.switches = self.switches.max(switched.unwrap_or(0));
        let key = (sa.connection(), sa.spi());
        let entry = OutboundEntry {
            sa,
            order,
            switched,
        };
        self.outbound.insert(key, entry);
    }

    /// What the workers shall see: every inbound SA, and of the outbound SAs with equal
    /// selectors the one that was switched to last.
    fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            generation: self.generation,
            ..Snapshot::default()
        };
        for (spi, sa) in &self.inbound {
            snapshot.inbound.insert(spi.get(), Arc::clone(sa));
        }
        let mut switched: Vec<_> = self
            .outbound
            .values()
            .filter_map(|entry| Some((entry.switched?, entry)))
            .collect();
        // Newest first, so that an older SA with the same selectors finds its place taken.
        switched.sort_by_key(|(serial, _)| core::cmp::Reverse(*serial));
        let mut chosen: Vec<&OutboundEntry> = Vec::with_capacity(switched.len());
        let mut taken = std::collections::BTreeSet::new();
        for (_, entry) in switched {
            if taken.insert((entry.sa.connection(), *entry.sa.selectors())) {
                chosen.push(entry);
            }
        }
        chosen.sort_by_key(|entry| (entry.order, entry.sa.spi()));
        for entry in chosen {
            snapshot
                .outbound
                .entry(entry.sa.connection().0)
                .or_default()
                .push(Arc::clone(&entry.sa));
        }
        snapshot
    }
}
