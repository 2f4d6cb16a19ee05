//! From the tunnel device to the sockets.

use core::ops::Range;
use std::io::{self, IoSlice};
use std::sync::Arc;

use vti::fragment::Fragments;
use vti::{SuperPacket, VirtioHeader, icmp};

use super::outbox::Ready;
use super::thread::{Core, boot_time};
use super::tunnel::Tunnel;
use crate::counters::DropReason;
use crate::ecn::outer_traffic_class;
use crate::inner::{flow_of, is_bare_ack};
use crate::io::{Sent, count};

/// Reads from a tunnel device before other sources have their turn.
const READS: usize = 64;

impl Core {
    /// Sends what waits in a queue of a tunnel, at most one burst.
    ///
    /// # Errors
    /// When the device cannot be read any more.
    pub(super) fn outbound_burst(
        &mut self,
        tunnel: &mut Tunnel,
        number: usize,
        read_buffer: &mut [u8],
    ) -> io::Result<()> {
        let queues = Arc::clone(&tunnel.queues);
        let Some(queue) = queues.get(number) else {
            return Ok(());
        };
        let now = boot_time();
        self.pipeline.begin_batch(now);
        let limit = self.bursts.limit(now);
        let streamed = self.streamed;
        // Asking for a second packet first, in vain, would keep the one waiting. If there is a
        // second one, epoll says so, and the next round comes without a gap.
        let expects_one = self.finds_one && tunnel.had_one(number);
        let mut has_single = false;
        let mut reads = 0;
        let mut result = Ok(());
        while reads < READS && self.outbox.used() < limit {
            let received = match queue.read(read_buffer) {
                Ok(Some(received)) => received,
                Ok(None) => break,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            };
            reads += 1;
            let end = VirtioHeader::LEN + received.len;
            let packet = read_buffer.get(VirtioHeader::LEN..end).unwrap_or_default();
            let parsed = received
                .header
                .and_then(|header| SuperPacket::parse(&header, packet));
            match parsed {
                Ok(packet) => {
                    has_single |= packet.segments() == 1 && !is_bare_ack(packet.packet());
                    self.carry(tunnel, number, &packet);
                }
                Err(_named) => self.refuse(DropReason::BadOffloadHeader, 1),
            }
            if expects_one && has_single {
                break;
            }
        }
        tunnel.note_one(number, reads == 1 && has_single);
        let of_stream = self.streamed > streamed || tunnel.had_train(number);
        self.bursts.note_turn(now, has_single, of_stream);
        self.flush();
        self.outbox.release_sa();
        self.taken += reads;
        count(&self.counters.tun_reads, reads as u64);
        result
    }

    /// Gives what waits in a queue of a tunnel back to the kernel, at most one burst.
    ///
    /// # Errors
    /// When the device cannot be read any more.
    pub(super) fn reflect_burst(
        &mut self,
        tunnel: &Tunnel,
        number: usize,
        read_buffer: &mut [u8],
    ) -> io::Result<()> {
        let Some(queue) = tunnel.queues.get(number) else {
            return Ok(());
        };
        let (mut reads, mut reflected) = (0, 0);
        let mut result = Ok(());
        while reads < READS {
            let received = match queue.read(read_buffer) {
                Ok(Some(received)) => received,
                Ok(None) => break,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            };
            reads += 1;
            let frame = read_buffer.get(..VirtioHeader::LEN + received.len);
            match queue.write_back(frame.unwrap_or_default()) {
                Ok(()) => reflected += 1,
                Err(_full_or_refused) => self.refuse(DropReason::TunFull, 1),
            }
        }
        count(&self.counters.tun_reads, reads as u64);
        count(&self.counters.reflected, reflected);
        result
    }

    /// Lays out the segments of one packet from the tunnel device.
    fn carry(&mut self, tunnel: &mut Tunnel, number: usize, packet: &SuperPacket<'_>) {
        let segments = packet.segments();
        let Ok(flow) = flow_of(packet.packet()) else {
            return self.refuse(DropReason::NotIp, segments as u64);
        };
        tunnel.queues.note(packet.packet(), &flow, number);
        let sa = self
            .pipeline
            .outbound(tunnel.connection, &flow, segments as u64);
        let Some(sa) = sa else {
            return;
        };
        self.outbox.use_sa(sa, &mut self.pipeline);
        if segments > 1 {
            self.streamed += packet.packet().len();
        }
        let class = outer_traffic_class(traffic_class(packet.packet()));
        if packet.segment_len(0) > usize::from(tunnel.mtu) {
            return self.carry_too_big(tunnel, packet, class);
        }
        for index in 0..segments {
            let len = packet.segment_len(index);
            self.make_room(len);
            let Some(slot) = self.outbox.reserve(len, class) else {
                return self.refuse(DropReason::NoHeadroom, (segments - index) as u64);
            };
            if packet.write_segment(index, slot).is_err() {
                self.outbox.take_back();
                return self.refuse(DropReason::BadOffloadHeader, (segments - index) as u64);
            }
            // Only a single packet can be a SYN.
            if segments == 1
                && let Some(limits) = tunnel.mss
            {
                limits.clamp(slot);
            }
        }
    }

    /// RFC 4301 §8.2: what may be fragmented is fragmented before it is sealed, and whoever
    /// forbids that hears of the MTU.
    #[cold]
    fn carry_too_big(&mut self, tunnel: &mut Tunnel, packet: &SuperPacket<'_>, class: u8) {
        let mut whole = vec![0; packet.segment_len(0)];
        for index in 0..packet.segments() {
            whole.resize(packet.segment_len(index), 0);
            if packet.write_segment(index, &mut whole).is_err() {
                return self.refuse(DropReason::BadOffloadHeader, 1);
            }
            if icmp::refuses_fragmentation(&whole) {
                self.answer_too_big(tunnel, &whole);
                let rest = packet.segments() - index;
                return self.refuse(DropReason::TooBig, rest as u64);
            }
            let Some(fragments) = Fragments::of(&whole, tunnel.mtu) else {
                self.refuse(DropReason::TooBig, 1);
                continue;
            };
            count(&self.counters.fragmented, 1);
            for number in 0..fragments.count() {
                let len = fragments.len_of(number);
                self.make_room(len);
                let Some(slot) = self.outbox.reserve(len, class) else {
                    return self.refuse(DropReason::NoHeadroom, 1);
                };
                if fragments.write(number, slot).is_none() {
                    self.outbox.take_back();
                    return self.refuse(DropReason::TooBig, 1);
                }
            }
        }
    }

    fn answer_too_big(&mut self, tunnel: &mut Tunnel, packet: &[u8]) {
        let mut answer = [0; icmp::MAX_ANSWER];
        let len = icmp::too_big(packet, tunnel.mtu, &mut answer)
            .filter(|_| tunnel.answers.allow(boot_time()));
        let Some(answer) = len.and_then(|len| answer.get(..len)) else {
            return;
        };
        let header = VirtioHeader::default();
        let queue = tunnel.queues.of_flow(answer, &tunnel.own);
        match queue.map(|queue| queue.write(&header, &[IoSlice::new(answer)])) {
            Some(Ok(())) => count(&self.counters.icmp_answers, 1),
            _ => self.refuse(DropReason::TunFull, 1),
        }
    }

    /// Sends what is laid out if `len` further bytes would not fit.
    fn make_room(&mut self, len: usize) {
        if !self.outbox.has_room(len) {
            self.flush();
        }
    }

    /// Seals and sends what is laid out.
    pub(super) fn flush(&mut self) {
        self.outbox.seal(&mut self.pipeline);
        self.moved += self.outbox.used();
        let mut outcome = Outcome::default();
        let mut at = 0;
        while let Some(turn) = self.outbox.take_turn(at) {
            if turn.gave_up {
                count(&self.counters.turns_given_up, 1);
            }
            self.send_ready(turn.ready.clone(), &mut outcome);
            at = self.outbox.pass_turn(&turn);
        }
        self.outbox.clear();
        self.count_sent(&outcome);
    }

    fn send_ready(&mut self, range: Range<usize>, outcome: &mut Outcome) {
        let (ready, arena) = self.outbox.ready();
        let ready = ready.get(range).unwrap_or_default();
        // Read the clock now: the process may have been paused since the burst began, and the
        // lease may have run out (invariant I6).
        let open = self.gate.is_open(boot_time());
        for group in ready.chunk_by(same_socket) {
            let packets = || group.iter().map(|r| r.train.packets() as u64).sum::<u64>();
            let Some(first) = group.first().filter(|_| open) else {
                outcome.closed += packets();
                continue;
            };
            let listener = self
                .listeners
                .iter_mut()
                .flatten()
                .find(|listener| listener.nat_t.ip() == first.local.ip());
            let Some(listener) = listener else {
                outcome.unroutable += packets();
                continue;
            };
            self.trains.clear();
            self.trains.extend(group.iter().map(|ready| ready.train));
            let scratch = &mut self.scratch;
            let sent = listener.send(first.encapsulation, scratch, arena, &self.trains);
            outcome.sent.add(&sent);
        }
    }

    fn count_sent(&self, outcome: &Outcome) {
        let sent = &outcome.sent;
        count(&self.counters.packets_out, sent.packets);
        count(&self.counters.send_calls, sent.calls);
        for (reason, packets) in [
            (DropReason::GateClosed, outcome.closed),
            (DropReason::SocketError, outcome.unroutable + sent.refused),
            (DropReason::SocketFull, sent.full),
            (DropReason::TooBig, sent.too_big),
        ] {
            if packets > 0 {
                self.refuse(reason, packets);
            }
        }
        if sent.uncut > 0 {
            count(&self.counters.uncut_trains, sent.uncut);
        }
    }

    pub(super) fn refuse(&self, reason: DropReason, packets: u64) {
        self.pipeline.counters().count(reason, packets);
    }
}

/// What became of a flush.
#[derive(Debug, Default)]
struct Outcome {
    sent: Sent,
    /// Packets that no socket is for.
    unroutable: u64,
    /// Packets that met a closed gate.
    closed: u64,
}

fn same_socket(a: &Ready, b: &Ready) -> bool {
    a.local == b.local && a.encapsulation == b.encapsulation
}

/// The ToS or traffic class octet of an IP header.
fn traffic_class(packet: &[u8]) -> u8 {
    match packet.first_chunk::<2>() {
        Some([first, second]) if first >> 4 == 6 => first << 4 | second >> 4,
        Some([_, second]) => *second,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_class_of_both_versions() {
        assert_eq!(traffic_class(&[0x45, 0xb8]), 0xb8);
        assert_eq!(traffic_class(&[0x6b, 0x8f]), 0xb8);
        assert_eq!(traffic_class(&[]), 0);
    }
}
