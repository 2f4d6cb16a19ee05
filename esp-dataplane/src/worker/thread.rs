//! One worker: its epoll loop, its commands, and what it owns.

use core::time::Duration;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Instant;

use ipsec_types::{ConnectionId, SendGate};
use rustix::event::{Timespec, epoll};
use vti::{Coalescer, VirtioHeader};

use super::ControlSink;
use super::bursts::Bursts;
use super::crew::Crew;
use super::listener::{Inlet, Listener};
use super::outbox::Outbox;
use super::ports::{Port, Ports};
use super::precedence::{Precedence, Streamed};
use super::rest::{Rest, Round};
use super::schedule::pin_to;
use super::tunnel::{Service, Tunnel};
use super::turns::{Source, arrange};
use crate::io::{IoCounters, RxBatch, Train, TxScratch, count};
use crate::packet::OpenSlot;
use crate::pipeline::Pipeline;
use crate::pipeline::stages::Stages;

/// What a worker is started with.
pub(super) struct Setup {
    pub(super) busy_poll: Duration,
    pub(super) real_time: bool,
    pub(super) cpu: Option<usize>,
    pub(super) wake: Arc<OwnedFd>,
    pub(super) inbox: Receiver<Command>,
    pub(super) core: CoreSetup,
}

/// What both directions are started with.
pub(super) struct CoreSetup {
    pub(super) gate: Arc<SendGate>,
    pub(super) sink: Arc<dyn ControlSink>,
    pub(super) counters: Arc<IoCounters>,
    pub(super) pipeline: Pipeline,
    pub(super) crew: Arc<Crew>,
    /// Its place in the crew.
    pub(super) number: usize,
}

/// A change, and whom to tell that it is done.
pub(super) enum Command {
    AddTunnel(Box<Tunnel>, Sender<()>),
    RemoveTunnel(ConnectionId, Sender<()>),
    /// What to do from now on with the packets of a tunnel's queue.
    /// One tunnel, or all of them.
    Serve(Option<ConnectionId>, Service, Sender<()>),
    AddListener(Box<Listener>, Sender<()>),
    RemoveListener(IpAddr, Sender<()>),
    Stop,
}

/// Events taken from epoll at once.
const EVENTS: usize = 64;

/// Packets of one receive call: 32 trains of 64.
const BATCH: usize = 2048;

/// A super-packet with its virtio header.
const READ_BUFFER: usize = VirtioHeader::LEN + 65_536;

pub(super) struct Worker {
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    inbox: Receiver<Command>,
    busy_poll: Duration,
    tunnels: Vec<Option<Tunnel>>,
    /// Tunnels and their queues in the order in which they have their turns this round.
    turns: Vec<(usize, usize)>,
    read_buffer: Box<[u8]>,
    batch: RxBatch,
    core: Core,
}

/// What both directions work with.
pub(super) struct Core {
    pub(super) listeners: Vec<Option<Listener>>,
    pub(super) gate: Arc<SendGate>,
    pub(super) sink: Arc<dyn ControlSink>,
    pub(super) counters: Arc<IoCounters>,
    pub(super) pipeline: Pipeline,
    pub(super) outbox: Outbox,
    pub(super) bursts: Bursts,
    pub(super) trains: Vec<Train>,
    pub(super) scratch: TxScratch,
    pub(super) slots: Vec<OpenSlot>,
    pub(super) stages: Stages,
    pub(super) coalescer: Coalescer,
    pub(super) ports: Arc<Ports>,
    pub(super) crew: Arc<Crew>,
    /// This worker's place in the crew.
    pub(super) number: usize,
    /// Receive calls in a row that brought as much as they asked for.
    pub(super) pressed: u32,
    /// Bytes received and laid out for sending in this round.
    pub(super) moved: usize,
    /// Bytes of super-packets read from and written to tunnel devices in this round.
    pub(super) streamed: usize,
    /// Packets, super-packets and trains read and received in this round.
    pub(super) taken: usize,
    /// Behind a queue's first packet there is hardly another one in this round.
    pub(super) finds_one: bool,
    /// Packets that are no part of a stream came of late, before this round.
    pub(super) beside_singles: bool,
}

impl Core {
    pub(super) fn new(setup: CoreSetup) -> Self {
        Self {
            listeners: Vec::new(),
            gate: setup.gate,
            sink: setup.sink,
            counters: setup.counters,
            pipeline: setup.pipeline,
            outbox: Outbox::new(),
            bursts: Bursts::default(),
            trains: Vec::with_capacity(512),
            scratch: TxScratch::default(),
            slots: Vec::with_capacity(BATCH),
            stages: Stages::with_capacity(BATCH),
            coalescer: Coalescer::with_capacity(BATCH),
            ports: Arc::default(),
            crew: setup.crew,
            number: setup.number,
            pressed: 0,
            moved: 0,
            streamed: 0,
            taken: 0,
            finds_one: false,
            beside_singles: false,
        }
    }
}

impl Worker {
    /// The thread's whole life.
    pub(super) fn run(setup: Setup) {
        if let Some(cpu) = setup.cpu {
            pin_to(cpu);
        }
        let precedence = Precedence::take(setup.real_time);
        let worker = epoll::create(epoll::CreateFlags::CLOEXEC).map(|epoll| Self {
            epoll,
            wake: setup.wake,
            inbox: setup.inbox,
            busy_poll: setup.busy_poll,
            tunnels: Vec::new(),
            turns: Vec::with_capacity(EVENTS),
            read_buffer: vec![0; READ_BUFFER].into_boxed_slice(),
            batch: RxBatch::new(),
            core: Core::new(setup.core),
        });
        match worker {
            Ok(mut worker) => {
                if let Err(error) = worker.serve(precedence) {
                    tracing::error!(%error, "a data-plane worker cannot go on");
                }
            }
            Err(error) => tracing::error!(%error, "a data-plane worker has no epoll"),
        }
    }

    fn serve(&mut self, mut precedence: Option<Precedence>) -> io::Result<()> {
        self.watch(&Arc::clone(&self.wake), Source::Wake)?;
        let mut events = Vec::with_capacity(EVENTS);
        let mut rest = Rest::new(self.busy_poll);
        loop {
            let has_work = self.core.crew.has_work();
            let looks = !has_work && rest.looks();
            let timeout = (looks || has_work).then(Timespec::default);
            events.clear();
            let spare = rustix::buffer::spare_capacity(&mut events);
            self.core.crew.set_rest(self.core.number, !has_work);
            match epoll::wait(&self.epoll, spare, timeout.as_ref()) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            self.core.crew.set_rest(self.core.number, false);
            if looks && events.is_empty() {
                continue;
            }
            let now = rest.ends(timeout.is_none());
            self.core.finds_one = rest.finds_one();
            self.core.beside_singles = self.core.bursts.are_beside_singles(boot_time());
            if let Some(precedence) = &mut precedence {
                precedence.found(now);
            }
            let (woken, received) = self.serve_ready(&events);
            // Whoever receives has the next burst of its own to look after first.
            if !received && self.core.crew.has_work() {
                self.core.help();
            }
            let now = Instant::now();
            let round = Round {
                bytes: core::mem::take(&mut self.core.moved),
                packets: core::mem::take(&mut self.core.taken),
            };
            rest.begins(now, round);
            let streamed = core::mem::take(&mut self.core.streamed);
            if let Some(precedence) = &mut precedence {
                let moved = Streamed {
                    bytes: streamed,
                    beside_singles: self.core.beside_singles,
                };
                precedence.done(now, moved, rest.defers(now), &self.core.counters);
            }
            // Commands come last: an event of this round never meets a source that took the
            // place of the one it was for.
            if woken && self.obey() {
                return Ok(());
            }
        }
    }

    /// One burst from every source that is ready; whether there are commands, and whether
    /// anything was received. Sockets have their turn after each queue: however many flows go
    /// out, what comes in has half of the time.
    fn serve_ready(&mut self, events: &[epoll::Event]) -> (bool, bool) {
        let sources = || events.iter().map(|event| Source::of(event.data));
        let woken = sources().any(|source| source == Source::Wake);
        let mut received = false;
        let mut inbound = |worker: &mut Self| {
            for source in sources() {
                if let Source::Listener(index, inlet) = source {
                    received = true;
                    worker.core.inbound_burst(index, inlet, &mut worker.batch);
                }
            }
        };
        let tunnels = &self.tunnels;
        let had_train = |index: usize, queue| {
            let tunnel = tunnels.get(index).and_then(Option::as_ref);
            tunnel.is_some_and(|tunnel| tunnel.had_train(queue))
        };
        arrange(&mut self.turns, sources(), had_train);
        for turn in 0..self.turns.len() {
            if let Some((index, queue)) = self.turns.get(turn).copied() {
                self.outbound_burst(index, queue);
                inbound(self);
            }
        }
        if self.turns.is_empty() {
            inbound(self);
        }
        (woken, received)
    }

    fn outbound_burst(&mut self, index: usize, queue: usize) {
        let Some(Some(tunnel)) = self.tunnels.get_mut(index) else {
            return;
        };
        let (core, buffer) = (&mut self.core, &mut self.read_buffer);
        let moved = core.moved;
        let result = match tunnel.service {
            // Events from before it was lost, or before the command.
            _ if tunnel.is_lost => return,
            Service::Hold => return,
            Service::Carry => core.outbound_burst(tunnel, queue, buffer),
            Service::Reflect => core.reflect_burst(tunnel, queue, buffer),
        };
        tunnel.note_turn(queue, core.moved - moved);
        let Err(error) = result else {
            return;
        };
        // A device that is gone would be ready for ever. The tunnel stays known, so that
        // removing it works as usual.
        tunnel.is_lost = true;
        count(&self.core.counters.tun_errors, 1);
        let device = tunnel.queues.get(queue).map_or("", |queue| queue.device());
        tracing::error!(
            device,
            %error,
            "a tunnel's device cannot be read any more: its packets are dropped until vipsec is \
             restarted"
        );
        // It fails only when the kernel has forgotten the device already.
        for (_, queue) in tunnel.queues.of_worker(&tunnel.own) {
            let _forgotten = epoll::delete(&self.epoll, queue);
        }
    }

    /// Carries out what waits; true when the worker is to end.
    fn obey(&mut self) -> bool {
        let mut count = [0; 8];
        // Level-triggered: it must be read to become quiet. Its value does not matter.
        let _read = rustix::io::read(&self.wake, &mut count);
        // A helper is woken this way too. Others see the tunnels only until a change.
        self.core.call_helpers_home();
        loop {
            let done = match self.inbox.try_recv() {
                Ok(Command::AddTunnel(tunnel, done)) => {
                    self.add_tunnel(*tunnel);
                    done
                }
                Ok(Command::RemoveTunnel(connection, done)) => {
                    let is_it = |tunnel: &Tunnel| tunnel.connection == connection;
                    take(&mut self.tunnels, is_it);
                    Arc::make_mut(&mut self.core.ports).remove(connection);
                    done
                }
                Ok(Command::Serve(connection, service, done)) => {
                    match connection {
                        Some(connection) => self.set_service(connection, service),
                        None => self.set_service_of_all(service),
                    }
                    done
                }
                Ok(Command::AddListener(listener, done)) => {
                    self.add_listener(*listener);
                    done
                }
                Ok(Command::RemoveListener(local, done)) => {
                    take(&mut self.core.listeners, |listener: &Listener| {
                        listener.nat_t.ip() == local
                    });
                    done
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return true,
                Err(TryRecvError::Empty) => return false,
            };
            // Nobody waits any more: then nobody needs to know.
            let _told = done.send(());
        }
    }

    fn add_tunnel(&mut self, tunnel: Tunnel) {
        let index = free_place(&mut self.tunnels);
        for (number, queue) in tunnel.queues.of_worker(&tunnel.own) {
            if let Err(error) = self.watch(queue, Source::Tunnel(index, number)) {
                tracing::error!(%error, "cannot wait for a tunnel device");
            }
        }
        let port = Port {
            queues: Arc::clone(&tunnel.queues),
            own: tunnel.own.clone(),
            mss: tunnel.mss,
        };
        Arc::make_mut(&mut self.core.ports).add(index, tunnel.connection, port);
        if let Some(place) = self.tunnels.get_mut(index) {
            *place = Some(tunnel);
        }
    }

    fn set_service_of_all(&mut self, service: Service) {
        let all: Vec<ConnectionId> = self.core.ports.connections().collect();
        for connection in all {
            self.set_service(connection, service);
        }
    }

    fn set_service(&mut self, connection: ConnectionId, service: Service) {
        let Some(index) = self.core.ports.tag_of(connection) else {
            return;
        };
        let Some(Some(tunnel)) = self.tunnels.get_mut(index) else {
            return;
        };
        tunnel.service = service;
        if tunnel.is_lost {
            return;
        }
        let interest = match service {
            Service::Hold => epoll::EventFlags::empty(),
            Service::Carry | Service::Reflect => epoll::EventFlags::IN,
        };
        for (number, queue) in tunnel.queues.of_worker(&tunnel.own) {
            let token = Source::Tunnel(index, number).token();
            if let Err(error) = epoll::modify(&self.epoll, queue, token, interest) {
                tracing::error!(%error, ?service, "cannot hold or release a tunnel device");
            }
        }
    }

    fn add_listener(&mut self, mut listener: Listener) {
        let index = free_place(&mut self.core.listeners);
        for inlet in Inlet::ALL {
            let source = Source::Listener(index, inlet);
            let Some(wire) = listener.wire(inlet) else {
                continue;
            };
            if let Err(error) = self.watch(&wire.fd(), source) {
                tracing::error!(%error, "cannot wait for a socket");
            }
        }
        if let Some(place) = self.core.listeners.get_mut(index) {
            *place = Some(listener);
        }
    }

    fn watch(&self, source: &impl AsFd, name: Source) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            source,
            name.token(),
            epoll::EventFlags::IN,
        )?)
    }
}

/// Index of an empty place, made if there is none.
fn free_place<T>(places: &mut Vec<Option<T>>) -> usize {
    if let Some(index) = places.iter().position(Option::is_none) {
        return index;
    }
    places.push(None);
    places.len() - 1
}

/// Drops what answers to the description, and so closes it; epoll forgets closed descriptors.
fn take<T>(places: &mut [Option<T>], is_it: impl Fn(&T) -> bool) {
    for place in places {
        if place.as_ref().is_some_and(&is_it) {
            *place = None;
        }
    }
}

/// The lease's clock: it runs through suspend.
pub(super) fn boot_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again() {
        let mut places = vec![Some(1), Some(2)];
        take(&mut places, |value| *value == 1);
        assert_eq!(free_place(&mut places), 0);
        assert_eq!(free_place(&mut vec![Some(1)]), 1);
    }
}
