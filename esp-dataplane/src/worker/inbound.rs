//! From the sockets to the tunnel devices.

use std::net::SocketAddr;

use ipsec_types::{ConnectionId, Encapsulation};
use vti::Lane;

use super::listener::Inlet;
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
        inlet: Inlet,
        batch: &mut RxBatch,
        tunnels: &[Option<Tunnel>],
    ) {
        let Some(Some(listener)) = self.listeners.get_mut(index) else {
            return;
        };
        let local = listener.nat_t;
        let Some(wire) = listener.wire(inlet) else {
            return;
        };
        let encapsulation = inlet.encapsulation();
        match wire.receive(batch) {
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

    /// Lines up opened packets for the tunnels they came through.
    fn deliver(&mut self, buffer: &mut [u8], tunnels: &[Option<Tunnel>]) {
        let mut homeless = 0;
        // Nearly always, all packets of a run belong to one tunnel.
        let mut last: Option<(ConnectionId, &Tunnel, Lane)> = None;
        for slot in &self.slots {
            let Ok(opened) = &slot.result else {
                continue;
            };
            let again = last.filter(|(connection, ..)| *connection == opened.connection);
            last = again.or_else(|| {
                let tag = *self.homes.get(&opened.connection)?;
                let tunnel = tunnels.get(tag)?.as_ref()?;
                let offloads = tunnel.queue.offloads();
                let lane = Lane {
                    tag,
                    tcp: offloads.tcp,
                    udp: offloads.udp,
                };
                Some((opened.connection, tunnel, lane))
            });
            let Some((_, tunnel, lane)) = &last else {
                homeless += 1;
                continue;
            };
            if let Some(limits) = tunnel.mss
                && let Some(packet) = buffer.get_mut(opened.inner.clone())
            {
                limits.clamp(packet);
            }
            self.coalescer.push(buffer, opened.inner.clone(), lane);
        }
        if homeless > 0 {
            self.refuse(DropReason::TunFull, homeless);
        }
    }

    /// Writes what the coalescer holds.
    fn write_out(&mut self, buffer: &mut [u8], tunnels: &[Option<Tunnel>]) {
        let (mut writes, mut refused) = (0, 0);
        self.coalescer.drain(buffer, |tag, header, parts| {
            let written = match tunnels.get(tag) {
                Some(Some(tunnel)) => tunnel.queue.write(header, parts).is_ok(),
                _ => false,
            };
            if written {
                writes += 1;
            } else {
                refused += parts.len() as u64;
            }
        });
        count(&self.counters.tun_writes, writes);
        if refused > 0 {
            self.refuse(DropReason::TunFull, refused);
        }
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
