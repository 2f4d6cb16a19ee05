//! The whole way of packets in memory: what a TUN delivers goes through split, seal, open and
//! coalesce, and comes out as what would be written to the other TUN.

use std::hint::black_box;

use esp_dataplane::{OpenSlot, SealSlot};
use ipsec_types::{Encapsulation, Flow};
use vti::{Coalescer, Lane, SuperPacket, VirtioHeader};

use super::packets::FromTun;
use crate::bench::BenchError;
use crate::bench::loopback::{self, CONNECTION, Loopback, OUTER, Protection};
use crate::bench::ticks::{self, Laps};

/// The one tunnel device, which takes super-packets of both kinds.
const LANE: Lane = Lane {
    tag: 0,
    tcp: true,
    udp: true,
};

/// Two workers joined back to back, without sockets between them.
///
/// ```text
///   FromTun -> split -> slots -> seal -> (the wire would be here) -> open -> coalesce -> writes
/// ```
pub struct Cycle {
    tunnel: Loopback,
    what: String,
    input: Vec<FromTun>,
    buffer: Vec<u8>,
    flow: Option<Flow>,
    seal: Vec<SealSlot>,
    open: Vec<OpenSlot>,
    coalescer: Coalescer,
}

/// Ticks by stage of one time through, the median of several, and what went through.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stages {
    /// Virtio header, segments with their headers and checksums.
    pub split: u64,
    /// SA lookup, numbers, framing, cipher.
    pub seal: u64,
    /// SA lookup, replay window, cipher, checks.
    pub open: u64,
    /// Checksums, merging, heads of super-packets.
    pub coalesce: u64,
    /// ESP packets.
    pub packets: u64,
    /// Bytes of all inner packets.
    pub bytes: u64,
}

impl Stages {
    /// Ticks of all stages.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.split + self.seal + self.open + self.coalesce
    }
}

impl Cycle {
    /// The way of these packets, all of one flow.
    ///
    /// # Errors
    /// When the SA cannot be installed, or when what comes out is not what went in.
    pub fn new(protection: Protection, input: Vec<FromTun>) -> Result<Self, BenchError> {
        let tunnel = Loopback::new(protection, 1)?;
        let mut cycle = Self {
            what: protection.to_string(),
            tunnel,
            input,
            // The longest super-packet, cut into the smallest pieces a bench asks for.
            buffer: vec![0; 2 * 65_536],
            flow: None,
            seal: Vec::new(),
            open: Vec::new(),
            coalescer: Coalescer::with_capacity(256),
        };
        cycle.verify()?;
        Ok(cycle)
    }

    /// Stage 1: reads the packets as from a TUN and writes their segments into the buffer.
    pub fn split(&mut self) -> Option<()> {
        let sa = &self.tunnel.sa;
        self.seal.clear();
        let mut at = 0;
        for from_tun in &self.input {
            let header = VirtioHeader::parse(&from_tun.header).ok()?;
            let packet = SuperPacket::parse(&header, &from_tun.packet).ok()?;
            let flow = loopback::flow_of(packet.packet()).ok()?;
            self.flow = Some(flow);
            for index in 0..packet.segments() {
                let (start, len) = (at + sa.header_len(), packet.segment_len(index));
                let slot = self.buffer.get_mut(start..start + len)?;
                packet.write_segment(index, slot).ok()?;
                self.seal.push(SealSlot::new(start, len));
                at += sa.sealed_len(len);
            }
        }
        Some(())
    }

    /// Stage 2: seals the segments.
    pub fn seal(&mut self) -> Option<usize> {
        let pipeline = &mut self.tunnel.pipeline;
        let packets = self.seal.len() as u64;
        let sa = pipeline.outbound(CONNECTION, &self.flow?, packets)?;
        Some(pipeline.seal_train(&sa, &mut self.buffer, &mut self.seal))
    }

    /// Stage 3: opens what was sealed.
    pub fn open(&mut self) -> usize {
        self.open.clear();
        let sealed = self
            .seal
            .iter()
            .filter_map(|slot| slot.result.as_ref().ok());
        self.open
            .extend(sealed.map(|range| OpenSlot::new(range.start, range.len(), 0)));
        let pipeline = &mut self.tunnel.pipeline;
        pipeline.open_train(&mut self.buffer, &mut self.open, OUTER, Encapsulation::Udp)
    }

    /// Stage 4: merges what was opened, and counts the bytes that a TUN would be given.
    pub fn coalesce(&mut self) -> usize {
        for slot in &self.open {
            if let Ok(opened) = &slot.result {
                self.coalescer
                    .push(&self.buffer, opened.inner.clone(), &LANE);
            }
        }
        let mut bytes = 0;
        self.coalescer
            .drain(&mut self.buffer, |_tag, header, parts| {
                bytes += parts.iter().map(|part| part.len()).sum::<usize>();
                black_box((header, parts));
            });
        bytes
    }

    /// All stages some times.
    ///
    /// # Errors
    /// When a packet was refused on the way.
    pub fn run(&mut self, times: u32) -> Result<Stages, BenchError> {
        let mut laps: [Laps; 4] = core::array::from_fn(|_| Laps::with_capacity(times));
        for _time in 0..times {
            let start = ticks::now();
            let split = self.split();
            let after_split = ticks::now();
            let sealed = self.seal();
            let after_seal = ticks::now();
            let opened = self.open();
            let after_open = ticks::now();
            black_box(self.coalesce());
            let marks = [start, after_split, after_seal, after_open, ticks::now()];
            for (lap, pair) in laps.iter_mut().zip(marks.array_windows()) {
                let [from, to] = *pair;
                lap.add(from, to);
            }
            if split.is_none() || sealed != Some(self.seal.len()) || opened != self.seal.len() {
                return Err(BenchError::Wrong(self.what.clone()));
            }
        }
        let [split, seal, open, coalesce] = laps.map(Laps::median);
        Ok(Stages {
            split,
            seal,
            open,
            coalesce,
            packets: self.seal.len() as u64,
            bytes: self.seal.iter().map(|slot| slot.inner_len as u64).sum(),
        })
    }

    /// Cut again, what comes out must be the same packets as what went in, byte by byte.
    fn verify(&mut self) -> Result<(), BenchError> {
        let wrong = || BenchError::Wrong(self.what.clone());
        let mut sent = Vec::new();
        for from_tun in &self.input {
            segments(&from_tun.header, &from_tun.packet, &mut sent).ok_or_else(wrong)?;
        }
        let through = self.split().and_then(|()| self.seal()).map(|_| self.open());
        for slot in &self.open {
            let opened = slot.result.as_ref();
            let opened = opened.map_err(|_| BenchError::Wrong(self.what.clone()))?;
            self.coalescer
                .push(&self.buffer, opened.inner.clone(), &LANE);
        }
        let mut received = Vec::new();
        let mut intact = through.is_some();
        self.coalescer
            .drain(&mut self.buffer, |_tag, header, parts| {
                let packet: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
                intact &= segments(&header.emit(), &packet, &mut received).is_some();
            });
        if intact && sent == received {
            Ok(())
        } else {
            Err(BenchError::Wrong(self.what.clone()))
        }
    }
}

fn segments(header: &[u8], packet: &[u8], out: &mut Vec<Vec<u8>>) -> Option<()> {
    let header = VirtioHeader::parse(header).ok()?;
    let packet = SuperPacket::parse(&header, packet).ok()?;
    for index in 0..packet.segments() {
        let mut segment = vec![0; packet.segment_len(index)];
        packet.write_segment(index, &mut segment).ok()?;
        out.push(segment);
    }
    Some(())
}
