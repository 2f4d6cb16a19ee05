//! From the sockets to the tunnel devices.

use std::net::SocketAddr;
use std::sync::Arc;

use ipsec_types::{ConnectionId, Encapsulation};
use vti::Lane;

use super::crew::{Origin, Taken};
use super::listener::Inlet;
use super::nat_t::{KEEPALIVE, NON_ESP_MARKER};
use super::ports::{Port, Ports};
use super::thread::{Core, boot_time};
use crate::counters::DropReason;
use crate::io::{Burst, RxBatch, RxMessage, count};
use crate::packet::OpenSlot;
use crate::pipeline::Pipeline;
use crate::turn::Turnstile;

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

/// What to do with a burst that was just received.
enum Next {
    /// Open it here and now: nobody else is asked.
    Open,
    /// It is laid out for helpers, and there is room for another.
    Receive,
    /// It is laid out; now one of those that wait is to be opened.
    OpenOne,
    /// The rush is over: all that wait are to be opened.
    OpenAll,
}

/// So many receive calls in a row brought as much as they asked for: the socket has more than
/// this worker can take.
const PRESSED: u32 = 4;

impl Core {
    /// Opens what waits in a socket, at most one burst; under pressure with the other workers'
    /// help.
    pub(super) fn inbound_burst(&mut self, index: usize, inlet: Inlet, batch: &mut RxBatch) {
        let next = loop {
            let Some(origin) = self.receive(index, inlet, batch) else {
                self.pressed = 0;
                break Next::OpenAll;
            };
            match self.next(batch, origin) {
                Next::Open => return self.open_here(batch.burst(), origin),
                Next::Receive => {}
                next => break next,
            }
        };
        while let Some(taken) = self.crew.take_own(self.number) {
            self.open_in_turn(taken);
            if matches!(next, Next::OpenOne) {
                break;
            }
        }
    }

    /// One receive call; where the burst came in, if there is one.
    fn receive(&mut self, index: usize, inlet: Inlet, batch: &mut RxBatch) -> Option<Origin> {
        let listener = self.listeners.get_mut(index)?.as_mut()?;
        let origin = Origin {
            local: listener.nat_t,
            encapsulation: inlet.encapsulation(),
        };
        batch.be_strict(self.beside_singles);
        match listener.wire(inlet)?.receive(batch) {
            Ok(0) => return None,
            Ok(messages) => {
                self.taken += messages;
                count(&self.counters.receive_calls, 1);
            }
            Err(_) => {
                // Such as an ICMP error that came for an earlier packet: asking again clears it.
                count(&self.counters.receive_errors, 1);
                return None;
            }
        }
        self.moved += batch.bytes();
        if batch.truncated() > 0 {
            self.refuse(DropReason::ReceiveTruncated, batch.truncated());
        }
        Some(origin)
    }

    /// Decides about a burst, and lays it out if others are to have a chance.
    fn next(&mut self, batch: &mut RxBatch, origin: Origin) -> Next {
        let Some(backlog) = self.crew.backlog(self.number) else {
            return Next::Open;
        };
        self.pressed = if batch.is_filled() {
            self.pressed.saturating_add(1)
        } else {
            0
        };
        let is_pressed = self.pressed >= PRESSED;
        if backlog.is_done() && !(is_pressed && self.crew.has_helper(self.number)) {
            return Next::Open;
        }
        let in_work = backlog.in_work();
        if !self
            .crew
            .lay_out(self.number, batch.burst(), origin, &self.ports)
        {
            self.call_helpers_home();
            return Next::Open;
        }
        count(&self.counters.bursts_shared, 1);
        if !is_pressed {
            return Next::OpenAll;
        }
        // One in stock for everybody who helps, so that nobody has to rest in between.
        if self.crew.wake_one(self.number) || backlog.waiting() <= in_work {
            Next::Receive
        } else {
            Next::OpenOne
        }
    }

    /// Opens one parcel that waits, of whomever, if there is one.
    pub(super) fn help(&mut self) {
        if let Some(taken) = self.crew.take_any(self.number) {
            self.open_in_turn(taken);
        }
    }

    /// Opens what is laid out and waits for those who help: afterwards nobody works on what
    /// this worker has received.
    pub(super) fn call_helpers_home(&mut self) {
        while let Some(taken) = self.crew.take_own(self.number) {
            self.open_in_turn(taken);
        }
        let crew = Arc::clone(&self.crew);
        if let Some(backlog) = crew.backlog(self.number) {
            for turns in [&backlog.commits, &backlog.writes] {
                self.wait_for_turn(turns, backlog.end());
                turns.pass(backlog.end());
            }
        }
    }

    /// Whoever is slower than [`Turnstile::wait_for`] is patient is not waited for again: its
    /// packets come out of order then.
    fn wait_for_turn(&self, turns: &Turnstile, ticket: u64) {
        if !turns.wait_for(ticket) {
            count(&self.counters.turns_given_up, 1);
        }
    }

    /// Opens a burst that nobody else has a hand in.
    fn open_here(&mut self, burst: &mut Burst, origin: Origin) {
        self.pipeline.begin_batch(boot_time());
        let ports = Arc::clone(&self.ports);
        let (messages, buffer) = burst.parts();
        for run in messages.chunk_by(|a, b| a.from == b.from) {
            let Some(first) = run.first() else { continue };
            self.slots.clear();
            for message in run {
                self.sort(message, buffer, origin);
            }
            count(&self.counters.packets_in, self.slots.len() as u64);
            self.pipeline
                .open_train(buffer, &mut self.slots, first.from, origin.encapsulation);
            self.deliver(buffer, &ports);
        }
        self.write_out(buffer, &ports);
    }

    /// Opens a parcel while others may open those before and behind it: the replay window and
    /// the device see them in the order in which they came.
    fn open_in_turn(&mut self, taken: Taken) {
        let Taken {
            owner,
            ticket,
            mut parcel,
        } = taken;
        let crew = Arc::clone(&self.crew);
        let Some(backlog) = crew.backlog(owner) else {
            return;
        };
        if owner != self.number {
            count(&self.counters.bursts_helped, 1);
        }
        self.pipeline.begin_batch(boot_time());
        let (messages, buffer) = parcel.burst.parts();
        self.slots.clear();
        if let Some(origin) = parcel.origin {
            self.authenticate(messages, buffer, origin);
        }

        self.wait_for_turn(&backlog.commits, ticket);
        Pipeline::commit(&mut self.stages);
        backlog.commits.pass(ticket + 1);

        self.pipeline.check(buffer, &mut self.slots, &self.stages);
        self.stages.clear();
        let ports = parcel.ports.take().unwrap_or_default();
        self.deliver(buffer, &ports);

        self.wait_for_turn(&backlog.writes, ticket);
        self.write_out(buffer, &ports);
        drop(ports);
        backlog.give_back(ticket, parcel);
        backlog.writes.pass(ticket + 1);
    }

    fn authenticate(&mut self, messages: &[RxMessage], buffer: &mut [u8], origin: Origin) {
        for run in messages.chunk_by(|a, b| a.from == b.from) {
            let Some(first) = run.first() else { continue };
            for message in run {
                self.sort(message, buffer, origin);
            }
            self.pipeline.authenticate(
                buffer,
                &mut self.slots,
                first.from,
                origin.encapsulation,
                &mut self.stages,
            );
        }
        count(&self.counters.packets_in, self.slots.len() as u64);
    }

    /// Sorts the datagrams of one message into ESP, for opening, and everything else.
    fn sort(&mut self, message: &RxMessage, buffer: &[u8], origin: Origin) {
        if message.len == 0 {
            // It has no bytes to step over, and is one all the same.
            return self.refuse(DropReason::NotEsp, 1);
        }
        let end = message.start + message.len;
        for start in (message.start..end).step_by(message.stride) {
            let stop = end.min(start + message.stride);
            let datagram = buffer.get(start..stop).unwrap_or_default();
            match Kind::of(datagram, origin.encapsulation) {
                Kind::Esp => {
                    let slot = OpenSlot::new(start, stop - start, message.traffic_class);
                    self.slots.push(slot);
                }
                Kind::Ike => self.hand_over(origin.local, message.from, datagram),
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
    fn deliver(&mut self, buffer: &mut [u8], ports: &Ports) {
        let mut homeless = 0;
        // Nearly always, all packets of a run belong to one tunnel.
        let mut last: Option<(ConnectionId, &Port, Lane)> = None;
        for slot in &self.slots {
            let Ok(opened) = &slot.result else {
                continue;
            };
            let again = last.filter(|(connection, ..)| *connection == opened.connection);
            last = again.or_else(|| {
                let (port, lane) = ports.of(opened.connection)?;
                Some((opened.connection, port, lane))
            });
            let Some((_, port, lane)) = &last else {
                homeless += 1;
                continue;
            };
            if let Some(limits) = port.mss
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
    fn write_out(&mut self, buffer: &mut [u8], ports: &Ports) {
        let (mut writes, mut refused, mut streamed) = (0, 0, 0);
        self.coalescer.drain(buffer, |tag, header, parts| {
            if parts.len() > 1 {
                streamed += parts.iter().map(|part| part.len()).sum::<usize>();
            }
            let port = ports.get(tag);
            let head = parts.first().map_or(&[][..], |head| head);
            let queue = port.and_then(|port| port.queues.of_flow(head, &port.own));
            if queue.is_some_and(|queue| queue.write(header, parts).is_ok()) {
                writes += 1;
            } else {
                refused += parts.len() as u64;
            }
        });
        self.streamed += streamed;
        count(&self.counters.tun_writes, writes);
        if refused > 0 {
            self.refuse(DropReason::TunFull, refused);
        }
    }
}

#[cfg(test)]
mod tests;
