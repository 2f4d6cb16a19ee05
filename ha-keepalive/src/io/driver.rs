//! Sockets and time for a [`PairNode`]: adverts over UDP on one or two paths, the sync channel
//! over TCP, and the deadline.
//!
//! ```text
//!   loop {
//!       let input = driver.wait().await;          // cancel-safe: fits into a select!
//!       driver.handle(input, &mut host);          // feeds the node, obeys its orders, sends
//!   }
//! ```
//! Whatever else calls into the node ([`PairDriver::node_mut`]) calls [`PairDriver::flush`]
//! afterwards. The sync connection runs over the first path; [`Member::B`] dials, and tries the
//! second path when the first does not answer.

use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;
use std::net::SocketAddr;

use rand_core::CryptoRng;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};

use super::clock::boot_time;
use super::connection::{Connection, Failure, Progress};
pub use super::host::{PairHost, Performed, StepReporter};
pub use super::path::PathConfig;
use super::path::{Path, is_refused};
use crate::channel::{ChannelError, Rotation};
use crate::node::{Order, PairNode};
use crate::replication::Applied;
use crate::secret::PairSecret;
use crate::takeover::StepId;
use crate::vocabulary::{Member, PathId};

/// Something happened; give it to [`PairDriver::handle`].
#[derive(Debug)]
pub enum Input {
    /// A datagram on an advert socket.
    Datagram(PathId, Vec<u8>),
    /// The partner's kernel says that nobody listens there.
    Refused(PathId),
    /// Somebody dialled us.
    Accepted(TcpStream),
    /// Our own call ended.
    Dialled(io::Result<TcpStream>),
    /// A connection can go on; which one.
    Connection(usize),
    /// A step that took a while is over.
    StepDone(StepId, Result<(), String>),
    /// A deadline has passed.
    Deadline,
}

type Call = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// How long a failed call waits for the next.
const REDIAL: Duration = Duration::from_millis(200);
/// A call that is not answered: the path is cut.
const CALL_LIMIT: Duration = Duration::from_secs(2);
/// Strangers that may shake hands at a time, beside the open connection.
const MAX_CANDIDATES: usize = 4;
/// No deadline is further away than this, so that a clock that jumped is noticed.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What became of sync connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct SyncCounters {
    /// Both ends have shown the secret.
    pub opened: u64,
    /// The other end does not know the secret.
    pub other_secret: u64,
    /// A frame that is not authentic, or cannot be: an attack or a fault on the way.
    pub bad_frames: u64,
    /// An authentic message that is not understood: another version.
    pub bad_messages: u64,
    /// Somebody who dialled and did not finish the handshake in time.
    pub slow_handshakes: u64,
    /// Somebody who dialled from an address that is not the partner's.
    pub strangers: u64,
}

/// See the module.
pub struct PairDriver {
    node: PairNode,
    member: Member,
    secret: PairSecret,
    rng: Box<dyn CryptoRng + Send>,
    paths: Vec<Path>,
    /// The open one, if there is one, first; then those that shake hands.
    connections: Vec<Connection>,
    call: Option<Call>,
    call_again: Duration,
    next_path: usize,
    reports: mpsc::UnboundedReceiver<(StepId, Result<(), String>)>,
    reporter: StepReporter,
    timer: Pin<Box<Sleep>>,
    /// Inputs and the deadline take turns, so that a flood of one does not starve the other.
    deadline_first: bool,
    adverts_first: bool,
    counters: SyncCounters,
}

impl PairDriver {
    /// Opens the sockets. `rng` draws the ephemeral keys of the sync channel.
    ///
    /// # Errors
    /// An address is not here, or taken.
    pub fn bind(
        node: PairNode,
        secret: PairSecret,
        rng: Box<dyn CryptoRng + Send>,
        paths: &[PathConfig],
    ) -> io::Result<Self> {
        let member = node.election().config().member;
        let open = PathId::ALL
            .into_iter()
            .zip(paths)
            .map(|(id, config)| Path::open(id, *config, member))
            .collect::<io::Result<Vec<_>>>()?;
        let (sender, reports) = mpsc::unbounded_channel();
        Ok(Self {
            node,
            member,
            secret,
            rng,
            paths: open,
            connections: Vec::new(),
            call: None,
            call_again: Duration::ZERO,
            next_path: 0,
            reports,
            reporter: StepReporter::new(sender),
            timer: Box::pin(sleep(Duration::ZERO)),
            deadline_first: false,
            adverts_first: false,
            counters: SyncCounters::default(),
        })
    }

    /// The node.
    #[must_use]
    pub const fn node(&self) -> &PairNode {
        &self.node
    }

    /// The node, for the daemon's own calls; [`PairDriver::flush`] afterwards.
    pub const fn node_mut(&mut self) -> &mut PairNode {
        &mut self.node
    }

    /// What became of sync connections.
    #[must_use]
    pub fn sync_counters(&self) -> SyncCounters {
        SyncCounters {
            strangers: self.paths.iter().map(|path| path.strangers).sum(),
            ..self.counters
        }
    }

    /// Tells the ends of steps that take a while.
    #[must_use]
    pub fn reporter(&self) -> StepReporter {
        self.reporter.clone()
    }

    /// Sends the advert that is due, for an active daemon that is busy with something long.
    /// Everything else waits for [`PairDriver::wait`]: a node that is not serving does nothing
    /// here, so that it finds out that it was away and does not take that for silence of its
    /// partner.
    pub fn keep_lease(&mut self) {
        let now = boot_time();
        // An advert may promise what a limit has yet to bring about (invariant I2). Deadlines
        // alone never bind: that takes an acknowledgement.
        if !self.node.election().is_serving(now) || self.node.has_limits() {
            return;
        }
        self.node.handle_timeout(now);
        for path in self.send_adverts() {
            self.node.handle_path_refused(now, path);
        }
    }

    /// The next input. Cancel-safe: nothing is lost when the future is dropped.
    pub async fn wait(&mut self) -> Input {
        self.arm();
        poll_fn(|context| self.poll_input(context)).await
    }

    fn arm(&mut self) {
        let now = boot_time();
        let mut next = now + LONGEST_WAIT;
        if let Some((at, _)) = self.node.poll_timeout() {
            next = next.min(at);
        }
        if self.member == Member::B && self.call.is_none() && !self.is_connected() {
            next = next.min(self.call_again);
        }
        for candidate in self.connections.iter().filter(|one| !one.is_open()) {
            next = next.min(candidate.gives_up_at());
        }
        self.timer
            .as_mut()
            .reset(Instant::now() + next.saturating_sub(now));
    }

    fn is_connected(&self) -> bool {
        self.connections.first().is_some_and(Connection::is_open)
    }

    fn poll_input(&mut self, context: &mut Context<'_>) -> Poll<Input> {
        self.deadline_first = !self.deadline_first;
        if self.deadline_first && self.timer.as_mut().poll(context).is_ready() {
            return Poll::Ready(Input::Deadline);
        }
        if let Poll::Ready(input) = self.poll_sockets(context) {
            return Poll::Ready(input);
        }
        self.timer.as_mut().poll(context).map(|()| Input::Deadline)
    }

    /// Adverts, which anybody on the link can forge in any number, and everything else take
    /// turns too: each input is handled before the next one is looked for.
    fn poll_sockets(&mut self, context: &mut Context<'_>) -> Poll<Input> {
        self.adverts_first = !self.adverts_first;
        if self.adverts_first {
            match self.poll_paths(context) {
                Poll::Pending => self.poll_partner(context),
                ready => ready,
            }
        } else {
            match self.poll_partner(context) {
                Poll::Pending => self.poll_paths(context),
                ready => ready,
            }
        }
    }

    fn poll_paths(&mut self, context: &mut Context<'_>) -> Poll<Input> {
        for path in &mut self.paths {
            if let Poll::Ready(input) = path.poll(context) {
                return Poll::Ready(input);
            }
        }
        Poll::Pending
    }

    /// What comes on the sync connections, and what was begun here and is over.
    fn poll_partner(&mut self, context: &mut Context<'_>) -> Poll<Input> {
        if let Poll::Ready(Some((id, outcome))) = self.reports.poll_recv(context) {
            return Poll::Ready(Input::StepDone(id, outcome));
        }
        for (index, connection) in self.connections.iter().enumerate() {
            if connection.poll_ready(context).is_ready() {
                return Poll::Ready(Input::Connection(index));
            }
        }
        if let Some(call) = &mut self.call
            && let Poll::Ready(outcome) = call.as_mut().poll(context)
        {
            self.call = None;
            return Poll::Ready(Input::Dialled(outcome));
        }
        Poll::Pending
    }

    /// Feeds the node with what happened, and carries out what follows from it.
    pub fn handle(&mut self, input: Input, host: &mut impl PairHost) {
        let now = boot_time();
        match input {
            Input::Datagram(path, bytes) => {
                // Refusals are counted by the node.
                let _ = self.node.handle_datagram(now, path, &bytes);
            }
            Input::Refused(path) => self.node.handle_path_refused(now, path),
            Input::Accepted(stream) => self.shake_hands(now, stream),
            Input::Dialled(Ok(stream)) => self.shake_hands(now, stream),
            Input::Dialled(Err(_)) => self.next_path += 1,
            Input::Connection(index) => self.go_on(now, index),
            Input::StepDone(id, outcome) => self.node.step_done(now, id, outcome),
            Input::Deadline => {
                self.node.handle_timeout(now);
                self.drop_slow_candidates(now);
                self.dial(now);
            }
        }
        self.flush(host);
    }

    fn shake_hands(&mut self, now: Duration, stream: TcpStream) {
        if self.connections.len() > MAX_CANDIDATES {
            // The oldest that has not shown the secret makes room.
            self.connections.remove(usize::from(self.is_connected()));
        }
        let rotation = Rotation::default();
        let rng = self.rng.as_mut();
        self.connections.push(Connection::new(
            stream,
            &self.secret,
            self.member,
            rotation,
            rng,
            now,
        ));
        let index = self.connections.len() - 1;
        self.go_on(now, index);
    }

    /// Lets one connection read and write as far as it can.
    fn go_on(&mut self, now: Duration, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let was_open = connection.is_open();
        let progress = connection.go_on();
        // A candidate that fails goes alone: the connection in use is not its business (I5).
        let index = if connection.is_open() && !was_open {
            self.promote(now, index);
            0
        } else {
            index
        };
        while let Some(connection) = self.connections.get_mut(index)
            && connection.is_open()
            && let Some(message) = connection.poll_message()
        {
            self.node.handle_message(now, message);
        }
        if progress == Progress::Closed {
            self.close(now, index);
        }
    }

    /// Both ends have shown the secret: the connection takes the place of the one before.
    fn promote(&mut self, now: Duration, index: usize) {
        self.counters.opened += 1;
        let connection = self.connections.remove(index);
        if self.is_connected() {
            self.connections.remove(0);
            self.node.handle_sync_down(now);
        }
        self.connections.insert(0, connection);
        self.node.handle_sync_up(now);
    }

    fn close(&mut self, now: Duration, index: usize) {
        if index >= self.connections.len() {
            return;
        }
        let closed = self.connections.remove(index);
        match closed.failure() {
            Some(Failure::Channel(ChannelError::Handshake)) => self.counters.other_secret += 1,
            Some(Failure::Channel(_)) => self.counters.bad_frames += 1,
            Some(Failure::Message) => self.counters.bad_messages += 1,
            None => {}
        }
        if closed.is_open() {
            self.node.handle_sync_down(now);
        }
        // At once, but for a partner that hangs up on every call: another version, perhaps.
        let lasted = now.saturating_sub(closed.began());
        self.call_again = match closed.is_open() && lasted > REDIAL {
            true => now,
            false => now + REDIAL,
        };
    }

    fn drop_slow_candidates(&mut self, now: Duration) {
        let before = self.connections.len();
        self.connections
            .retain(|one| one.is_open() || now < one.gives_up_at());
        self.counters.slow_handshakes += (before - self.connections.len()) as u64;
    }

    fn dial(&mut self, now: Duration) {
        let busy = self.call.is_some() || !self.connections.is_empty();
        if self.member != Member::B || busy || now < self.call_again {
            return;
        }
        self.call_again = now + REDIAL;
        let Some(path) = self.paths.get(self.next_path % self.paths.len().max(1)) else {
            return;
        };
        let PathConfig { local, peer } = path.config;
        self.call = Some(Box::pin(async move {
            let call = async {
                let socket = match local {
                    SocketAddr::V4(_) => TcpSocket::new_v4()?,
                    SocketAddr::V6(_) => TcpSocket::new_v6()?,
                };
                socket.bind(SocketAddr::new(local.ip(), 0))?;
                socket.connect(peer).await
            };
            tokio::time::timeout(CALL_LIMIT, call)
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }));
    }

    /// Carries out the node's orders, then sends what it has to send.
    pub fn flush(&mut self, host: &mut impl PairHost) {
        let now = boot_time();
        loop {
            while let Some(order) = self.node.poll_order() {
                self.obey(now, order, host);
            }
            let refused = self.send_adverts();
            self.send_messages(now);
            for path in &refused {
                self.node.handle_path_refused(now, *path);
            }
            if refused.is_empty() {
                return;
            }
        }
    }

    fn obey(&mut self, now: Duration, order: Order, host: &mut impl PairHost) {
        match order {
            Order::Perform { id, step, change } => {
                let performed = host.perform(&mut self.node, now, id, step, change);
                if let Performed::Done(outcome) = performed {
                    self.node.step_done(boot_time(), id, outcome);
                }
            }
            Order::Apply(change) => {
                let key = match &change {
                    Applied::Put { record, .. } => record.key.clone(),
                    Applied::Delete(key) => key.clone(),
                };
                if let Err(reason) = host.apply(change) {
                    self.node.refuse(now, &key, &reason);
                }
            }
            Order::Limit(limit) => host.limit(limit),
            Order::Committed { position, commit } => host.committed(position, commit),
            Order::Redial(why) => {
                host.notice(&mut self.node, now, Order::Redial(why));
                if self.is_connected() {
                    self.close(now, 0);
                }
            }
            notice @ (Order::Following(_)
            | Order::Moved(_)
            | Order::Finished(_)
            | Order::SwitchoverRefused(_)
            | Order::Proposed(_)
            | Order::PeerRefused { .. }) => host.notice(&mut self.node, now, notice),
        }
    }

    fn send_adverts(&mut self) -> Vec<PathId> {
        let mut refused = Vec::new();
        while let Some((id, datagram)) = self.node.poll_datagram() {
            let Some(path) = self.paths.iter().find(|path| path.id == id) else {
                continue;
            };
            // A link that is down or a full queue: the next advert follows soon.
            if is_refused(&path.send(&datagram)) {
                // The error belongs to an earlier datagram; this one has not left yet.
                refused.push(id);
                let _ = path.send(&datagram);
            }
        }
        refused
    }

    fn send_messages(&mut self, now: Duration) {
        let Some(connection) = self.connections.first_mut().filter(|one| one.is_open()) else {
            return;
        };
        loop {
            let mut moved = false;
            while connection.has_room()
                && let Some(message) = self.node.poll_message(now)
            {
                connection.send(now, &message);
                moved = true;
            }
            if !moved || connection.write() == Progress::Closed {
                return;
            }
        }
    }
}
