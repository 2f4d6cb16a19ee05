//! The control plane's one loop: wait for whatever comes first, hand it to the gateway, let it
//! settle.

use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use ikev1::{Command, TimerName};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tracing::{info, trace, warn};

use super::DaemonError;
use super::gateway::Gateway;
use super::ike_socket::IkeDatagram;
use super::pair::{Pair, PairInput};
use super::tunnels::Tunnels;
use crate::cli::RunOptions;
use crate::config::ResolvedConnection;
use crate::control::{Call, Command as Request, Refusal, RefusalKind, Reply};
use crate::status::Counters;

/// How often the negotiator hears which peers are alive: finer than any DPD delay.
const LIFE_INTERVAL: Duration = Duration::from_secs(1);

/// So many inputs of the pair in a row, then somebody else has a turn: adverts can be forged in
/// any number.
const PAIR_TURNS: u32 = 8;

/// So many more ISAKMP messages are taken in one turn of the loop.
const DATAGRAMS_A_TURN: usize = 32;

/// A turn ends after this time: a few Diffie-Hellman computations, and far below any lease.
const LONGEST_TURN: Duration = Duration::from_millis(5);

/// A running daemon.
pub(super) struct Daemon {
    pub(super) gateway: Gateway,
    pub(super) tunnels: Tunnels,
    /// The partner, if there is one.
    pub(super) pair: Option<Pair>,
    pub(super) options: RunOptions,
    pub(super) started: Instant,
    /// From port 500, where anybody can fill it, and from port 4500: apart, so that a flood
    /// on the one does not shut out the other.
    pub(super) ike_inboxes: [mpsc::Receiver<IkeDatagram>; 2],
    pub(super) calls: mpsc::Receiver<Call>,
    /// Above every connection id that was ever used in this process.
    pub(super) next_connection_id: u32,
    /// The workers have something to tell.
    pub(super) wake: Arc<Notify>,
}

/// Why the loop woke up.
enum Wake {
    Datagram(IkeDatagram),
    Call(Call),
    Workers,
    Timer(Option<TimerName>),
    Pair(PairInput),
    /// The pair has had enough turns, and nobody else wants one.
    Nothing,
    Life,
    Reload,
    Stop(&'static str),
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self, DaemonError> {
        let listen = |kind| signal(kind).map_err(DaemonError::Signals);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }
}

impl Daemon {
    /// Runs until a signal says stop, then takes everything down.
    ///
    /// # Errors
    /// When signals cannot be heard; the daemon has cleaned up then too.
    pub(super) async fn run(mut self) -> Result<(), DaemonError> {
        let outcome = self.serve().await;
        self.stop().await;
        outcome
    }

    async fn serve(&mut self) -> Result<(), DaemonError> {
        let mut signals = Signals::listen()?;
        let mut life = interval(LIFE_INTERVAL);
        life.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turns = 0;
        loop {
            self.settle();
            let deadline = self.deadline();
            let wake = tokio::select! {
                biased;
                _ = signals.terminate.recv() => Wake::Stop("SIGTERM"),
                _ = signals.interrupt.recv() => Wake::Stop("SIGINT"),
                _ = signals.hangup.recv() => Wake::Reload,
                // Before all that peers and users can send: the lease hangs on it.
                input = pair_input(&mut self.pair), if turns < PAIR_TURNS => Wake::Pair(input),
                Some(call) = self.calls.recv() => Wake::Call(call),
                () = timer(deadline.map(|(at, _)| at)) => Wake::Timer(deadline.and_then(|(_, name)| name)),
                () = self.wake.notified() => Wake::Workers,
                _ = life.tick() => Wake::Life,
                Some(datagram) = next_datagram(&mut self.ike_inboxes) => Wake::Datagram(datagram),
                () = core::future::ready(()), if turns == PAIR_TURNS => Wake::Nothing,
            };
            turns = match wake {
                Wake::Pair(_) => turns + 1,
                _ => 0,
            };
            if self.handle(wake).await? {
                return Ok(());
            }
        }
    }

    /// True when the daemon is to end.
    async fn handle(&mut self, wake: Wake) -> Result<bool, DaemonError> {
        let now = Instant::now();
        match wake {
            Wake::Nothing => {}
            Wake::Datagram(datagram) => self.take_datagrams(now, &datagram),
            Wake::Call(call) => self.answer(now, call).await,
            Wake::Workers => {}
            Wake::Pair(input) => {
                if let Some(pair) = &mut self.pair {
                    pair.handle(input, &mut self.gateway, &mut self.tunnels);
                }
                self.take_shared(now).await;
            }
            Wake::Timer(name) => {
                trace!(?name, "timer");
                let gateway = &mut self.gateway;
                gateway.holds.release_overdue(now, &gateway.data_plane);
                if !gateway.silent {
                    gateway.ike.handle_timeout(now);
                }
            }
            Wake::Life => self.look_after(now)?,
            Wake::Reload => match self.reload(now).await {
                Ok(summary) => info!("{summary}"),
                Err(refusal) => warn!("{}", refusal.message),
            },
            Wake::Stop(signal) => {
                info!(signal, "stopping");
                let Some(pair) = self.pair.as_mut().filter(|pair| !pair.is_stopping()) else {
                    return Ok(true);
                };
                pair.begin_stop(&mut self.gateway, &mut self.tunnels);
            }
        }
        let pair = self.pair.as_mut();
        Ok(pair.is_some_and(|pair| pair.is_stopped(&mut self.gateway, &mut self.tunnels)))
    }

    /// Carries out all that the negotiator and the workers have to say; with a partner, once
    /// the standby knows.
    pub(super) fn settle(&mut self) {
        let Some(pair) = &mut self.pair else {
            return self.gateway.settle(Instant::now());
        };
        loop {
            let batch = self.gateway.gather(Instant::now());
            let idle = batch.is_empty();
            if !idle {
                pair.replicate(Instant::now(), &mut self.gateway, batch);
            }
            pair.flush(&mut self.gateway, &mut self.tunnels);
            if idle && !pair.take_worked() {
                return;
            }
        }
    }

    /// One datagram, and a number of those that wait behind it: a turn of the loop costs more
    /// than most of them.
    fn take_datagrams(&mut self, now: Instant, first: &IkeDatagram) {
        self.gateway.handle_datagram(now, first);
        for more in 0..DATAGRAMS_A_TURN {
            if now.elapsed() > LONGEST_TURN {
                return;
            }
            let [isakmp, nat_t] = &mut self.ike_inboxes;
            let (one, other) = if more % 2 == 0 {
                (nat_t, isakmp)
            } else {
                (isakmp, nat_t)
            };
            let Ok(datagram) = one.try_recv().or_else(|_nothing| other.try_recv()) else {
                return;
            };
            self.settle();
            self.gateway.handle_datagram(now, &datagram);
        }
    }

    /// What must be looked at now and then.
    fn look_after(&mut self, now: Instant) -> Result<(), DaemonError> {
        self.gateway.report_life(now);
        self.gateway.observe_states(now);
        if let Some(pair) = &mut self.pair {
            pair.log_refusals();
        }
        self.store_again_when_due();
        if let Some(worker) = self.gateway.data_plane.failed_worker() {
            return Err(DaemonError::WorkerEnded(worker));
        }
        self.tunnels.repin_when_due(now);
        Ok(())
    }

    /// The next instant at which something is due: by the negotiator, with the timer's name,
    /// or the end of a hold.
    fn deadline(&self) -> Option<(Instant, Option<TimerName>)> {
        // A silent negotiator's timers wait.
        let speaks = !self.gateway.silent;
        let negotiator = self.gateway.ike.poll_timeout().filter(|_| speaks);
        let hold = self.gateway.holds.deadline();
        negotiator
            .map(|(at, name)| (at, Some(name)))
            .into_iter()
            .chain(hold.map(|at| (at, None)))
            .min_by_key(|(at, _)| *at)
    }

    async fn answer(&mut self, now: Instant, call: Call) {
        let reply = match call.command {
            Request::Status { connection } => self.status(now, connection.as_deref()),
            Request::Counters => Reply::Counters(self.counters()),
            Request::Up { connection } => self.want(now, &connection, true),
            Request::Down { connection } => self.want(now, &connection, false),
            Request::Reload => match self.reload(now).await {
                Ok(summary) => {
                    info!("{summary}");
                    Reply::Done(summary)
                }
                Err(refusal) => Reply::Refused(refusal),
            },
            Request::Switchover { force, dry_run } => self.switchover(force, dry_run),
            Request::KeylogOn { directory } => match self.gateway.start_keylog(&directory) {
                Ok(()) => Reply::Done(format!(
                    "keys of every SA from now on go to {}",
                    directory.display()
                )),
                Err(error) => Reply::Refused(Refusal {
                    kind: RefusalKind::Failed,
                    message: format!("cannot write keys to {}: {error}", directory.display()),
                    hint: None,
                }),
            },
            Request::KeylogOff => {
                self.gateway.keylog = None;
                Reply::Done("no more keys are written; remove the files yourself".to_owned())
            }
        };
        // The caller may have gone away; that is his right.
        let _ = call.reply.send(reply);
    }

    fn status(&mut self, now: Instant, only: Option<&str>) -> Reply {
        if let Some(name) = only
            && let Err(refusal) = self.find(name)
        {
            return Reply::Refused(refusal);
        }
        let mut status = self.gateway.status(now, self.started, only);
        for connection in &mut status.connections {
            connection.vti.deleted = self.tunnels.is_deleted(&connection.vti.device);
        }
        if let Some(pair) = &self.pair {
            status.pair = Some(pair.status(&self.gateway));
            status.counters = self.counters();
        }
        Reply::Status(Box::new(status))
    }

    /// Every counter that is not zero, by room and reason (invariant I8).
    fn counters(&self) -> Counters {
        let mut rooms = self.gateway.counters();
        if let Some(pair) = &self.pair {
            let counts = pair.counters().into_iter().filter(|(_, count)| *count > 0);
            let counts = counts.map(|(reason, count)| (reason.to_owned(), count));
            let counts: std::collections::BTreeMap<_, _> = counts.collect();
            if !counts.is_empty() {
                rooms.insert("pair".to_owned(), counts);
            }
        }
        rooms
    }

    fn switchover(&mut self, force: bool, dry_run: bool) -> Reply {
        let Some(pair) = &mut self.pair else {
            return Reply::Refused(Refusal::no_partner());
        };
        let outcome = pair.switchover(force, dry_run);
        pair.flush(&mut self.gateway, &mut self.tunnels);
        match outcome {
            Ok(line) => Reply::Done(line),
            Err(refusal) => Reply::Refused(refusal),
        }
    }

    /// Up or down: the active node's business, which its standby remembers.
    fn want(&mut self, now: Instant, name: &str, up: bool) -> Reply {
        if let Some(reason) = self.pair.as_ref().and_then(Pair::not_active) {
            let refusal = Refusal::new(RefusalKind::Failed, reason)
                .with_hint("ask the active node; `vipsec status` tells which it is");
            return Reply::Refused(refusal);
        }
        if self.pair.is_some() && self.gateway.ike.speaking().is_none() {
            let refusal = Refusal::new(
                RefusalKind::Busy,
                "this node is just becoming the active one",
            )
            .with_hint("try again in a second");
            return Reply::Refused(refusal);
        }
        let reply = if up {
            self.initiate(now, name)
        } else {
            self.terminate(now, name)
        };
        let id = self.find(name);
        if let (Some(pair), Ok(id)) = (&mut self.pair, id) {
            pair.note_wanted(&self.gateway, id);
        }
        reply
    }

    fn initiate(&mut self, now: Instant, name: &str) -> Reply {
        match self.find(name) {
            Ok(connection) => {
                self.gateway.taken_down.remove(&connection);
                self.gateway.ike.handle_command(
                    now,
                    Command::Initiate {
                        connection,
                        selectors: None,
                    },
                );
                Reply::Done(format!("{name}: initiating"))
            }
            Err(refusal) => Reply::Refused(refusal),
        }
    }

    fn terminate(&mut self, now: Instant, name: &str) -> Reply {
        match self.find(name) {
            Ok(connection) => {
                self.gateway
                    .ike
                    .handle_command(now, Command::Terminate { connection });
                self.gateway.history.forget_failure(connection);
                self.gateway.taken_down.insert(connection);
                Reply::Done(format!("{name}: terminated"))
            }
            Err(refusal) => Reply::Refused(refusal),
        }
    }

    fn find(&self, name: &str) -> Result<ipsec_types::ConnectionId, Refusal> {
        let connections = &self.gateway.config.connections;
        connections
            .iter()
            .find(|connection| connection.name() == name)
            .map(ResolvedConnection::id)
            .ok_or_else(|| {
                let known: Vec<_> = connections.iter().map(ResolvedConnection::name).collect();
                Refusal {
                    kind: RefusalKind::UnknownConnection,
                    message: format!("there is no connection \"{name}\""),
                    hint: Some(format!("configured: {}", known.join(", "))),
                }
            })
    }

    /// Deletes go out, then routes and devices go, then the workers.
    async fn stop(mut self) {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        let now = Instant::now();
        // The SAs of a pair belong to the pair: see `Pair::begin_stop`.
        if self.pair.is_none() {
            self.gateway.ike.handle_command(now, Command::Shutdown);
            self.gateway.settle(now);
        }
        self.tunnels.remove_all(&self.gateway.data_plane).await;
        self.gateway.data_plane.stop();
        info!("stopped");
    }
}

/// The next datagram from either inbox, in fair turns.
async fn next_datagram(inboxes: &mut [mpsc::Receiver<IkeDatagram>; 2]) -> Option<IkeDatagram> {
    let [first, second] = inboxes;
    tokio::select! {
        Some(datagram) = first.recv() => Some(datagram),
        Some(datagram) = second.recv() => Some(datagram),
        else => None,
    }
}

/// What the pair has to handle; for ever nothing without a partner.
async fn pair_input(pair: &mut Option<Pair>) -> PairInput {
    match pair {
        Some(pair) => pair.wait().await,
        None => core::future::pending().await,
    }
}

/// Sleeps until the deadline, or for ever when there is none.
async fn timer(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at.into()).await,
        None => core::future::pending().await,
    }
}
