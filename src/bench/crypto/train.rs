//! A train of packets that is sealed and opened in its place, again and again.

use esp_dataplane::{AeadBackends, OpenSlot, SealSlot};
use ipsec_types::Encapsulation;

use super::Spent;
use crate::bench::loopback::{self, Loopback, OUTER, Protection};
use crate::bench::ticks::{self, Laps};
use crate::bench::{BenchError, work::packets};

/// Packets of one length, as they stand in a worker's buffer.
pub struct Train {
    tunnel: Loopback,
    what: String,
    buffer: Vec<u8>,
    seal: Vec<SealSlot>,
    open: Vec<OpenSlot>,
}

impl Train {
    /// `count` inner packets of `len` bytes, AES-GCM by these libraries.
    ///
    /// # Errors
    /// When the SA cannot be installed.
    pub fn new(
        backends: AeadBackends,
        protection: Protection,
        len: usize,
        count: usize,
    ) -> Result<Self, BenchError> {
        let tunnel = Loopback::by(backends, protection, 1)?;
        let (seal, total) = loopback::lay_out(&tunnel.sa, len, count);
        let mut buffer = vec![0; total];
        let sealed = tunnel.sa.sealed_len(len);
        let mut open = Vec::with_capacity(count);
        for slot in &seal {
            let inner = buffer.get_mut(slot.inner_start..slot.inner_start + len);
            packets::fill_udp(inner.unwrap_or_default());
            open.push(OpenSlot::new(
                slot.inner_start - tunnel.sa.header_len(),
                sealed,
                0,
            ));
        }
        Ok(Self {
            what: format!("{protection}, {len} bytes"),
            tunnel,
            buffer,
            seal,
            open,
        })
    }

    /// Seals the train, and leaves it sealed.
    pub fn seal(&mut self) -> usize {
        self.tunnel
            .pipeline
            .seal_train(&self.tunnel.sa, &mut self.buffer, &mut self.seal)
    }

    /// Opens the sealed train, which then can be sealed again.
    pub fn open(&mut self) -> usize {
        self.tunnel
            .pipeline
            .open_train(&mut self.buffer, &mut self.open, OUTER, Encapsulation::Udp)
    }

    /// Seals and opens the train some times.
    ///
    /// # Errors
    /// When a packet was refused: then the figure is none.
    pub(crate) fn run(&mut self, trains: u32) -> Result<Spent, BenchError> {
        let (mut seal, mut open) = (Laps::with_capacity(trains), Laps::with_capacity(trains));
        let count = self.seal.len();
        for _train in 0..trains {
            let start = ticks::now();
            let sealed = self.seal();
            let between = ticks::now();
            let opened = self.open();
            open.add(between, ticks::now());
            seal.add(start, between);
            if sealed != count || opened != count {
                return Err(BenchError::Wrong(self.what.clone()));
            }
        }
        Ok(Spent {
            seal: seal.median(),
            open: open.median(),
            packets: count as u64,
        })
    }

    #[cfg(test)]
    pub(super) fn body_len(&self) -> usize {
        let suite = self.tunnel.sa.params().suite;
        let sealed = self.open.first().map_or(0, |slot| slot.len);
        sealed - self.tunnel.sa.header_len() - suite.icv_len()
    }
}
