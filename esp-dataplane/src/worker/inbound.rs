//! From the sockets to the tunnel devices.

use core::ops::Range;
use std::net::SocketAddr;

use ipsec_types::Encapsulation;

use super::nat_t::{KEEPALIVE, NON_ESP_MARKER};
use super::thread::{Core, Tunnel, boot_time};
use crate::counters::DropReason;
use crate::io::{RxBatch, RxMessage, count};
use crate::packet::OpenSlot;

/// What a datagram on the NAT-T port is (RFC 3948 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Esp,
    /// The non-ESP marker and an IKE message.
    Ike,
    Keepalive,
    /// Too short for any of them.
    Neither,
}

impl Kind {
    fn of(datagram: &[u8], encapsulation: Encapsulation) -> Self {
        match (encapsulation, datagram) {
            (Encapsulation::Esp, _) => Self::Esp,
            (Encapsulation::Udp, [KEEPALIVE]) => Self::Keepalive,
            (Encapsulation::Udp, _) => match datagram.first_chunk() {
                Some(&NON_ESP_MARKER) => Self::Ike,
                Some(_) => Self::Esp,
                None => Self::Neither,
            },
        }
    }
}

impl Core {
    /// Opens what waits in a socket, at most one burst.
    pub(super) fn inbound_burst(
        &mut self,
        index: usize,
        encapsulation: Encapsulation,
        batch: &mut RxBatch,
        tunnels: &mut [Option<Tunnel>],
    ) {
        let Some(Some(listener)) = self.listeners.get_mut(index) else {
            return;
        };
        let local = listener.nat_t;
        match listener.wire(encapsulation).receive(batch) {
            Ok(0) => return,
            Ok(_) => count(&self.counters.receive_calls, 1),
            Err(_) => {
                // Such as an ICMP error that came for an earlier packet: asking again clears it.
                count(&self.counters.receive_errors, 1);
                return;
            }
        }
        if batch.truncated() > 0 {
            self.refuse(DropReason::ReceiveTruncated, batch.truncated());
        }
        self.pipeline.begin_batch(boot_time());
        let (messages, buffer) = batch.parts();
        for run in messages.chunk_by(|a, b| a.from == b.from) {
            let Some(first) = run.first() else { continue };
            self.slots.clear();
            for message in run {
                self.sort(message, buffer, local, encapsulation);
            }
            count(&self.counters.packets_in, self.slots.len() as u64);
            self.pipeline
                .open_train(buffer, &mut self.slots, first.from, encapsulation);
            self.deliver(buffer, tunnels);
        }
        self.write_out(buffer, tunnels);
    }

    /// Sorts the datagrams of one message into ESP, for opening, and everything else.
    fn sort(
        &mut self,
        message: &RxMessage,
        buffer: &[u8],
        local: SocketAddr,
        encapsulation: Encapsulation,
    ) {
        let end = message.start + message.len;
        for start in (message.start..end).step_by(message.stride) {
            let stop = end.min(start + message.stride);
            let datagram = buffer.get(start..stop).unwrap_or_default();
            match Kind::of(datagram, encapsulation) {
                Kind::Esp => {
                    let slot = OpenSlot::new(start, stop - start, message.traffic_class);
                    self.slots.push(slot);
                }
                Kind::Ike => self.hand_over(local, message.from, datagram),
                Kind::Keepalive => self.refuse(DropReason::NatKeepalive, 1),
                Kind::Neither => self.refuse(DropReason::NotEsp, 1),
            }
        }
    }

    fn hand_over(&self, local: SocketAddr, remote: SocketAddr, datagram: &[u8]) {
        let payload = datagram.get(NON_ESP_MARKER.len()..).unwrap_or_default();
        if self.sink.nat_t_datagram(local, remote, payload) {
            count(&self.counters.control_datagrams, 1);
        } else {
            self.refuse(DropReason::ControlQueueFull, 1);
        }
    }

    /// Gives opened packets to the tunnels they came through.
    fn deliver(&mut self, buffer: &mut [u8], tunnels: &mut [Option<Tunnel>]) {
        let mut homeless = 0;
        // Nearly always, all packets of a run belong to one tunnel.
        let mut last = None;
        for slot in &self.slots {
            let Ok(opened) = &slot.result else {
                continue;
            };
            let is_it = |tunnel: &Option<Tunnel>| {
                tunnel
                    .as_ref()
                    .is_some_and(|tunnel| tunnel.connection == opened.connection)
            };
            let again = last.filter(|index| tunnels.get(*index).is_some_and(is_it));
            last = again.or_else(|| tunnels.iter().position(is_it));
            match last.and_then(|index| tunnels.get_mut(index)?.as_mut()) {
                Some(tunnel) => tunnel.take_in(buffer, opened.inner.clone()),
                None => homeless += 1,
            }
        }
        if homeless > 0 {
            self.refuse(DropReason::TunFull, homeless);
        }
    }

    /// Writes what the tunnels' coalescers hold.
    fn write_out(&self, buffer: &mut [u8], tunnels: &mut [Option<Tunnel>]) {
        for tunnel in tunnels.iter_mut().flatten() {
            if tunnel.coalescer.is_empty() {
                continue;
            }
            let Tunnel {
                queue, coalescer, ..
            } = tunnel;
            let (mut writes, mut refused) = (0, 0);
            coalescer.drain(buffer, |header, parts| match queue.write(header, parts) {
                Ok(()) => writes += 1,
                Err(_full_or_gone) => refused += parts.len() as u64,
            });
            count(&self.counters.tun_writes, writes);
            if refused > 0 {
                self.refuse(DropReason::TunFull, refused);
            }
        }
    }
}

impl Tunnel {
    fn take_in(&mut self, buffer: &mut [u8], inner: Range<usize>) {
        if let Some(limits) = self.mss
            && let Some(packet) = buffer.get_mut(inner.clone())
        {
            limits.clamp(packet);
        }
        self.coalescer.push(buffer, inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nat_t_port_carries_three_kinds() {
        let of = |datagram: &[u8]| Kind::of(datagram, Encapsulation::Udp);
        assert_eq!(of(&[0xff]), Kind::Keepalive);
        assert_eq!(of(&[0, 0, 0, 0, 1, 2]), Kind::Ike);
        assert_eq!(of(&[0, 0, 1, 0, 1, 2]), Kind::Esp);
        assert_eq!(of(&[0xff, 0xff, 0xff, 0xff]), Kind::Esp);
        assert_eq!(of(&[0, 0]), Kind::Neither);
        assert_eq!(of(&[]), Kind::Neither);
        assert_eq!(Kind::of(&[0; 8], Encapsulation::Esp), Kind::Esp);
    }
}
