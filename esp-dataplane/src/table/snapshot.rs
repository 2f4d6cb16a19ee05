//! What workers read: inbound SAs by SPI, outbound SAs by tunnel and selectors.

use core::hash::{BuildHasherDefault, Hasher};
use std::collections::HashMap;
use std::sync::Arc;

use ipsec_types::{ConnectionId, Flow, Spi};

use crate::sa::{InboundSa, OutboundSa};

/// Hashes a 32-bit value by one multiplication. Enough here: we choose the SPIs and the
/// connection numbers, so nobody can aim at a bucket.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WordHasher(u64);

impl Hasher for WordHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        /// 2^64 divided by the golden ratio (Knuth, vol. 3, 6.4).
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let product = (self.0 ^ u64::from(value)).wrapping_mul(GOLDEN);
        // The table uses the low bits, multiplication mixes the high ones.
        self.0 = product ^ product >> 32;
    }
}

pub(super) type WordMap<K, V> = HashMap<K, V, BuildHasherDefault<WordHasher>>;

/// The table at one moment. Never changed, only replaced.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Grows with every replacement, so that cached positions of an older one are not used.
    pub(super) generation: u64,
    pub(super) inbound: WordMap<u32, Arc<InboundSa>>,
    /// For each tunnel the SAs in use, in the order of the policy.
    pub(super) outbound: WordMap<u32, Vec<Arc<OutboundSa>>>,
}

impl Snapshot {
    /// The SA that opens packets with this SPI.
    #[inline]
    pub(crate) fn inbound(&self, spi: Spi) -> Option<&Arc<InboundSa>> {
        self.inbound.get(&spi.get())
    }

    /// The first SA of a tunnel whose selectors permit the flow.
    #[inline]
    pub(crate) fn outbound(
        &self,
        connection: ConnectionId,
        flow: &Flow,
        cache: &mut FlowCache,
    ) -> Option<&Arc<OutboundSa>> {
        /// Walking a list this short is as fast as the cache.
        const SHORT: usize = 2;
        let sas = self.outbound.get(&connection.0)?;
        let permits = |sa: &&Arc<OutboundSa>| sa.selectors().permits_outbound(flow);
        if sas.len() <= SHORT {
            return sas.iter().find(permits);
        }
        let key = FlowKey {
            generation: self.generation,
            connection,
            flow: *flow,
        };
        let slot = cache.slot(&key);
        if let Some((cached, index)) = slot
            && *cached == key
        {
            return sas.get(*index);
        }
        let index = sas.iter().position(|sa| permits(&sa))?;
        *slot = Some((key, index));
        sas.get(index)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FlowKey {
    generation: u64,
    connection: ConnectionId,
    flow: Flow,
}

/// A worker's memory of which SA a flow uses. It holds positions, not SAs, so it keeps no
/// removed key alive; what it forgets is found again by walking the list.
#[derive(Debug)]
pub(crate) struct FlowCache {
    slots: Box<[Option<(FlowKey, usize)>]>,
    fallback: Option<(FlowKey, usize)>,
}

impl FlowCache {
    const SLOTS: usize = 256;

    pub(crate) fn new() -> Self {
        Self {
            slots: vec![None; Self::SLOTS].into_boxed_slice(),
            fallback: None,
        }
    }

    /// The one place where this flow may be remembered.
    fn slot(&mut self, key: &FlowKey) -> &mut Option<(FlowKey, usize)> {
        let mut hasher = WordHasher::default();
        core::hash::Hash::hash(&key.flow, &mut hasher);
        let index = hasher.finish() as usize % Self::SLOTS;
        self.slots.get_mut(index).unwrap_or(&mut self.fallback)
    }
}
