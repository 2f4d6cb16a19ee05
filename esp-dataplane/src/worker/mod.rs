//! Pinned threads that move batches between tunnel devices and sockets.
//!
//! Worker `i` owns some queues of every tunnel device and a socket of its own on every local
//! address; nothing on the packet path is shared but the SA table, which is read without a
//! lock. The kernel keeps a flow on one queue and a peer on one socket, so order is kept. When
//! one peer sends more than a worker can open, others help: see `crew`.
//!
//! ```text
//!              +------------------- worker i, one epoll ------------------+
//!   TUN queues |  read -> split -> SA -> seal train -> gate -> sendmmsg   | UDP socket i
//!              |  write <- coalesce <- MSS <- open train <- recvmmsg      | ESP socket i
//!              +----------------------------------------------------------+
//!                 ^ commands (eventfd): tunnels and listeners come and go
//! ```
//!
//! One round of the loop:
//!
//! ```text
//!   wait(epoll)                        nothing to do: sleep
//!   for each ready source: one bounded burst, so that no direction waits for the other;
//!                          queues that moved trains last
//!   commands, if any
//! ```
//!
//! A burst takes what is there and never waits for more.

#[doc(hidden)]
pub mod backlog;
mod bursts;
mod busy_poll;
mod config;
mod crew;
mod deference;
mod inbound;
mod listener;
mod nat_t;
mod offers;
mod outbound;
mod outbox;
mod ports;
mod precedence;
mod queues;
mod rest;
mod schedule;
mod thread;
mod trains;
mod tunnel;
mod turns;
mod waits;

use core::time::Duration;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use ipsec_types::{ConnectionId, SendGate};
use rustix::event::{EventfdFlags, eventfd};
use vti::{MssClamp, TunQueue};

use crate::io::{EspWire, IoCounterSnapshot, IoCounters, SocketOptions, UdpWire};
use crate::table::Sad;
use crew::Crew;
use listener::{Listener, open_relay};
use queues::Queues;
use thread::{Command, CoreSetup, Setup, Worker};
use tunnel::{Service, Tunnel};

pub use crate::io::{EspRelay, OffloadPolicy, OuterDf};
pub use config::DataPlaneConfig;
pub use nat_t::{NatTSendError, NatTSender};
pub use queues::device_queues;

/// Takes what is not ESP. Called on worker threads: it must not block.
pub trait ControlSink: Send + Sync {
    /// An IKE datagram from the NAT-T port, its non-ESP marker cut off. False when there is no
    /// room for it; it is dropped and counted then.
    fn nat_t_datagram(&self, local: SocketAddr, remote: SocketAddr, payload: &[u8]) -> bool;
}

/// A tunnel device to serve.
#[derive(Debug)]
pub struct TunnelSpec {
    /// The connection whose SAs carry its packets.
    pub connection: ConnectionId,
    /// As many for each worker: [`device_queues`] says how many are good.
    pub queues: Vec<TunQueue>,
    /// The largest inner packet in bytes.
    pub mtu: u16,
    /// What to do with the MSS of TCP SYNs.
    pub mss: MssClamp,
}

/// Why a tunnel or listener was not added or removed.
#[derive(Debug, thiserror::Error)]
pub enum DataPlaneError {
    /// Each worker needs queues of its own.
    #[error(
        "a tunnel needs as many queues for each of the {workers} workers: {queues} is no multiple"
    )]
    QueueCount {
        /// Workers of the data plane.
        workers: usize,
        /// Queues of the tunnel.
        queues: usize,
    },
    /// A socket could not be opened.
    #[error("cannot open the {what} socket on {local}: {source}")]
    Socket {
        /// "UDP", "ESP" or "ESP relay".
        what: &'static str,
        /// The local address.
        local: IpAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The same connection has a tunnel already.
    #[error("the connection has a tunnel device already")]
    TunnelExists,
    /// There is no such tunnel.
    #[error("the connection has no tunnel device")]
    NoSuchTunnel,
    /// There is no such listener.
    #[error("no listener on {0}")]
    NoSuchListener(IpAddr),
    /// A worker thread has ended; this is a bug, and the process should be restarted.
    #[error("worker {0} does not run any more")]
    WorkerGone(usize),
}

/// The running workers. Dropping it stops them; tunnel devices vanish with their queues.
#[derive(Debug)]
pub struct DataPlane {
    config: DataPlaneConfig,
    workers: Vec<Handle>,
    counters: Vec<Arc<IoCounters>>,
    sender: NatTSender,
    /// What there is, for errors that name it.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    tunnels: Vec<ConnectionId>,
    listeners: Vec<IpAddr>,
}

#[derive(Debug)]
struct Handle {
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// No command takes longer than one burst; this is for a machine that stands still.
const PATIENCE: Duration = Duration::from_secs(10);

impl DataPlane {
    /// Starts the workers; they have nothing to do yet.
    ///
    /// # Errors
    /// When the kernel gives no thread, epoll or eventfd.
    pub fn start(
        config: DataPlaneConfig,
        gate: &Arc<SendGate>,
        sad: &Arc<Sad>,
        sink: &Arc<dyn ControlSink>,
    ) -> io::Result<Self> {
        let cpus = if config.pin {
            schedule::allowed_cpus()
        } else {
            Vec::new()
        };
        let mut plane = Self {
            sender: NatTSender::new(Arc::clone(gate)),
            workers: Vec::with_capacity(config.workers),
            counters: Vec::with_capacity(config.workers),
            config,
            known: Mutex::default(),
        };
        let workers = plane.config.workers.max(1);
        let wakes: Vec<Arc<OwnedFd>> = (0..workers)
            .map(|_| eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let crew = Crew::new(wakes.iter().cloned(), workers);
        for (number, wake) in wakes.into_iter().enumerate() {
            let (commands, inbox) = channel();
            let counters = Arc::new(IoCounters::default());
            let setup = Setup {
                busy_poll: plane.config.busy_poll,
                real_time: plane.config.real_time,
                cpu: cpus.get(number % cpus.len().max(1)).copied(),
                wake: Arc::clone(&wake),
                inbox,
                core: CoreSetup {
                    gate: Arc::clone(gate),
                    sink: Arc::clone(sink),
                    counters: Arc::clone(&counters),
                    pipeline: sad.pipeline(number),
                    crew: Arc::clone(&crew),
                    number,
                },
            };
            let thread = std::thread::Builder::new()
                .name(format!("vipsec-w{number}"))
                .spawn(move || Worker::run(setup))?;
            plane.counters.push(counters);
            plane.workers.push(Handle {
                commands,
                wake,
                thread: Some(thread),
            });
        }
        Ok(plane)
    }

    /// Serves a tunnel device; the workers own its queues when this returns.
    ///
    /// # Errors
    /// [`DataPlaneError`]; then no worker serves it, and the device is gone.
    pub fn add_tunnel(&self, spec: TunnelSpec) -> Result<(), DataPlaneError> {
        let (workers, queues) = (self.workers.len(), spec.queues.len());
        if queues == 0 || queues % workers != 0 {
            return Err(DataPlaneError::QueueCount { workers, queues });
        }
        let mut known = self.known();
        if known.tunnels.contains(&spec.connection) {
            return Err(DataPlaneError::TunnelExists);
        }
        let mss = spec.mss.resolve(spec.mtu);
        let share = queues / workers;
        let queues = Arc::new(Queues::new(spec.queues));
        self.all(|number, done| {
            let own = number * share..(number + 1) * share;
            let queues = Arc::clone(&queues);
            let tunnel = Tunnel::new(spec.connection, queues, own, spec.mtu, mss);
            Some(Command::AddTunnel(Box::new(tunnel), done))
        })?;
        known.tunnels.push(spec.connection);
        Ok(())
    }

    /// Stops serving a tunnel device; its queues are closed when this returns, so a device
    /// that nobody else holds is gone. A program that another thread starts at this moment holds
    /// copies of them until it runs.
    ///
    /// # Errors
    /// [`DataPlaneError::NoSuchTunnel`], [`DataPlaneError::WorkerGone`].
    pub fn remove_tunnel(&self, connection: ConnectionId) -> Result<(), DataPlaneError> {
        let mut known = self.known();
        if !known.tunnels.contains(&connection) {
            return Err(DataPlaneError::NoSuchTunnel);
        }
        self.all(|_, done| Some(Command::RemoveTunnel(connection, done)))?;
        known.tunnels.retain(|other| *other != connection);
        Ok(())
    }

    /// Leaves the outbound packets of a tunnel where they are, in the kernel's queue of its
    /// device, until [`DataPlane::release_tunnel`]: the queue's length bounds them, and what
    /// it drops the kernel counts.
    ///
    /// # Errors
    /// [`DataPlaneError::NoSuchTunnel`], [`DataPlaneError::WorkerGone`].
    pub fn hold_tunnel(&self, connection: ConnectionId) -> Result<(), DataPlaneError> {
        self.set_service(connection, Service::Hold)
    }

    /// Gives the outbound packets of a tunnel, those that wait and those that follow, back to
    /// the kernel as they came (counted as `reflected`), until [`DataPlane::release_tunnel`].
    /// The kernel routes them anew, as received on the device: after a planned switchover that
    /// takes them to the partner, without a packet lost and in order.
    ///
    /// The kernel's rules for received packets hold. It forwards them only where forwarding is
    /// on; packets from this machine's own addresses are martians to it; reverse-path
    /// filtering on the device must be off or loose (`rp_filter` 0 or 2). A route that still
    /// leads into the device brings a packet here again until its TTL ends. And the partner's
    /// link address should be known: the kernel keeps about a hundred packets while it asks.
    ///
    /// # Errors
    /// [`DataPlaneError::NoSuchTunnel`], [`DataPlaneError::WorkerGone`].
    pub fn reflect_tunnel(&self, connection: ConnectionId) -> Result<(), DataPlaneError> {
        self.set_service(connection, Service::Reflect)
    }

    /// Ends holding and reflecting: sends what was held, in order, and whatever follows.
    /// Nothing held is no error.
    ///
    /// # Errors
    /// [`DataPlaneError::NoSuchTunnel`], [`DataPlaneError::WorkerGone`].
    pub fn release_tunnel(&self, connection: ConnectionId) -> Result<(), DataPlaneError> {
        self.set_service(connection, Service::Carry)
    }

    fn set_service(
        &self,
        connection: ConnectionId,
        service: Service,
    ) -> Result<(), DataPlaneError> {
        let known = self.known();
        if !known.tunnels.contains(&connection) {
            return Err(DataPlaneError::NoSuchTunnel);
        }
        self.all(|_, done| Some(Command::Serve(Some(connection), service, done)))
    }

    /// [`DataPlane::hold_tunnel`] for every tunnel, in one go: what was sealed before this
    /// returns has left, and nothing else will be.
    ///
    /// # Errors
    /// [`DataPlaneError::WorkerGone`].
    pub fn hold_all(&self) -> Result<(), DataPlaneError> {
        self.all(|_, done| Some(Command::Serve(None, Service::Hold, done)))
    }

    /// [`DataPlane::reflect_tunnel`] for every tunnel.
    ///
    /// # Errors
    /// [`DataPlaneError::WorkerGone`].
    pub fn reflect_all(&self) -> Result<(), DataPlaneError> {
        self.all(|_, done| Some(Command::Serve(None, Service::Reflect, done)))
    }

    /// [`DataPlane::release_tunnel`] for every tunnel.
    ///
    /// # Errors
    /// [`DataPlaneError::WorkerGone`].
    pub fn release_all(&self) -> Result<(), DataPlaneError> {
        self.all(|_, done| Some(Command::Serve(None, Service::Carry, done)))
    }

    /// Sends from and receives on a local address: UDP on the NAT-T port, and protocol 50. The
    /// sockets belong to the network namespace of the calling thread, and the address need not
    /// be on this machine yet. A second call for the same address changes nothing.
    ///
    /// # Errors
    /// [`DataPlaneError`]; then no worker listens there.
    pub fn add_listener(&self, local: IpAddr) -> Result<(), DataPlaneError> {
        let mut known = self.known();
        if known.listeners.contains(&local) {
            return Ok(());
        }
        let options = SocketOptions {
            mark: self.config.mark,
            buffer: self.config.socket_buffer,
            outer_df: self.config.outer_df,
            offload: self.config.offload,
        };
        let nat_t = SocketAddr::new(local, self.config.nat_t_port);
        let failed = |what| {
            move |source| DataPlaneError::Socket {
                what,
                local,
                source,
            }
        };
        let workers = u32::try_from(self.workers.len()).unwrap_or(u32::MAX);
        let relays = open_relay(local, workers, &options).map_err(failed("ESP relay"))?;
        let mut relays = relays.into_iter();
        let udps = UdpWire::open(nat_t, workers, &options).map_err(failed("UDP"))?;
        let mut listeners = Vec::with_capacity(self.workers.len());
        for (number, udp) in (0..workers).zip(udps) {
            let esp = EspWire::open(local, (number, workers), &options).map_err(failed("ESP"))?;
            if number == 0 {
                let socket = udp.try_clone().map_err(failed("UDP"))?;
                self.sender.add(nat_t, socket);
            }
            listeners.push(Listener::new(nat_t, udp, esp, relays.next()));
        }
        let mut listeners = listeners.into_iter();
        self.all(|_, done| Some(Command::AddListener(Box::new(listeners.next()?), done)))?;
        known.listeners.push(local);
        Ok(())
    }

    /// Closes the sockets of a local address.
    ///
    /// # Errors
    /// [`DataPlaneError::NoSuchListener`], [`DataPlaneError::WorkerGone`].
    pub fn remove_listener(&self, local: IpAddr) -> Result<(), DataPlaneError> {
        let mut known = self.known();
        if !known.listeners.contains(&local) {
            return Err(DataPlaneError::NoSuchListener(local));
        }
        self.sender
            .remove(SocketAddr::new(local, self.config.nat_t_port));
        self.all(|_, done| Some(Command::RemoveListener(local, done)))?;
        known.listeners.retain(|other| *other != local);
        Ok(())
    }

    /// Sends the control plane's datagrams from the NAT-T port.
    #[must_use]
    pub fn nat_t_sender(&self) -> NatTSender {
        self.sender.clone()
    }

    /// What all workers have done. Drops are counted in [`Sad::counters`].
    #[must_use]
    pub fn counters(&self) -> IoCounterSnapshot {
        let mut total = IoCounterSnapshot::default();
        for counters in &self.counters {
            counters.add_to(&mut total);
        }
        total
    }

    /// The first worker whose thread has ended, which none does by itself.
    #[must_use]
    pub fn failed_worker(&self) -> Option<usize> {
        self.workers.iter().position(|worker| {
            worker
                .thread
                .as_ref()
                .is_none_or(|thread| thread.is_finished())
        })
    }

    /// Stops the workers after their current burst and waits for them.
    pub fn stop(self) {
        drop(self);
    }

    /// Gives every worker its command and waits until all have carried it out.
    fn all(
        &self,
        mut command: impl FnMut(usize, Sender<()>) -> Option<Command>,
    ) -> Result<(), DataPlaneError> {
        let mut answers: Vec<Receiver<()>> = Vec::with_capacity(self.workers.len());
        for (number, worker) in self.workers.iter().enumerate() {
            let (done, answer) = channel();
            let Some(command) = command(number, done) else {
                continue;
            };
            let sent = worker.commands.send(command);
            sent.map_err(|_| DataPlaneError::WorkerGone(number))?;
            worker.wake();
            answers.push(answer);
        }
        for (number, answer) in answers.into_iter().enumerate() {
            answer
                .recv_timeout(PATIENCE)
                .map_err(|_| DataPlaneError::WorkerGone(number))?;
        }
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // Lists of plain values are usable after a panic elsewhere.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        for worker in &self.workers {
            // An error means that the thread has ended, which is what we want.
            let _ended = worker.commands.send(Command::Stop);
            worker.wake();
        }
        for (number, worker) in self.workers.iter_mut().enumerate() {
            let Some(thread) = worker.thread.take() else {
                continue;
            };
            if thread.join().is_err() {
                tracing::error!(worker = number, "a data-plane worker had panicked");
            }
        }
    }
}

impl Handle {
    fn wake(&self) {
        // It fails only when the counter is full, and then the worker is awake.
        let _written = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}
