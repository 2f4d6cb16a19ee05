//! One node of the pair: election, lease, adverts, replication and takeover, put together.
//!
//! ```text
//!   handle_datagram(path, bytes)  --.                      .-->  poll_order()     for the daemon
//!   handle_path_refused(path)       |                      |-->  poll_datagram()  adverts, per path
//!   handle_sync_up / message / down +-->  PairNode  -------+-->  poll_message()   sync channel
//!   handle_timeout(now)             |                      '-->  poll_timeout()   deadline and name
//!   put / delete / commit / report--'
//! ```
//! The driver loop: feed one input, then poll **orders first** (they tighten what the adverts
//! then promise), then datagrams and messages, then the deadline. Times are [`Duration`]s on one
//! clock that runs through suspend (`CLOCK_BOOTTIME`).

mod active;
mod adverts;
mod order;
mod promise;
mod readiness;
mod rival;
mod status;
mod steps;
mod sync;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use ipsec_types::SendGate;
use rand_core::CryptoRng;

use crate::advert::{Inbox, Outbox, Sealer};
use crate::election::{Abilities, Change, Condition, Config, Election, Output, State};
use crate::replication::{Edges, Following, Journal, Ledger, Limits, Message, Replica, Supported};
use crate::secret::PairSecret;
use crate::takeover::{Run, StepId};
use crate::vocabulary::{Epoch, PathId, Revision, SessionId};
pub use active::{NotActive, Start};
pub use order::{Deadline, Order, Redial};
use promise::Promise;
pub use readiness::Blocker;
use rival::Rival;
pub use status::{Ignored, Obstacle, PeerStatus, Status};

/// Everything a node needs to know of itself.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Election and timing.
    pub election: Config,
    /// Bounds of replication.
    pub limits: Limits,
    /// How often a replay edge may be written.
    pub edge_interval: Duration,
    /// Which record versions the daemon reads.
    pub supported: Supported,
}

impl NodeConfig {
    /// The defaults for everything but the election.
    #[must_use]
    pub fn new(election: Config, supported: Supported) -> Self {
        Self {
            election,
            limits: Limits::default(),
            edge_interval: Edges::INTERVAL,
            supported,
        }
    }
}

/// One node of the pair.
#[derive(Debug)]
pub struct PairNode {
    config: NodeConfig,
    session: SessionId,
    sealer: Sealer,
    inbox: Inbox,
    outbox: Outbox,
    election: Election,
    datagrams: VecDeque<(PathId, Vec<u8>)>,
    greeted: Option<Duration>,
    /// `Some` while this node holds a claim or has just handed it over.
    journal: Option<Journal>,
    replica: Replica,
    ledger: Ledger,
    edges: Edges,
    promise: Promise,
    rival: Rival,
    /// Since when this node serves with SAs that the partner has, or had.
    continued: Option<Duration>,
    /// When the last claim was made.
    claimed_at: Duration,
    hot_until: Option<Duration>,
    starts: Vec<Start>,
    sync_up: bool,
    /// The run at the other end of the sync connection.
    peer_session: Option<SessionId>,
    said: VecDeque<Message>,
    run: Option<Run>,
    waiting: VecDeque<Change>,
    outstanding: Option<StepId>,
    last_step: StepId,
    /// A claim whose gate has not been opened yet or, if it is a cold one, that has not yet
    /// asked for negotiations.
    unfinished: Option<Change>,
    retry: Option<(Duration, Change)>,
    orders: VecDeque<Order>,
    following: Following,
    was_hot: bool,
    revision: Revision,
    ignored: Ignored,
}

impl PairNode {
    /// A node that has just started: mute. `gate` stands in front of every socket that speaks
    /// for the virtual address and is closed here.
    #[must_use]
    pub fn new(
        config: NodeConfig,
        secret: &PairSecret,
        gate: Arc<SendGate>,
        rng: &mut dyn CryptoRng,
        now: Duration,
    ) -> Self {
        let session = SessionId::draw(rng);
        let sealer = Sealer::new(secret);
        let election = config.election;
        let horizon = promise::lifetime(election.interval.get()) + config.limits.ack_patience;
        let mut node = Self {
            session,
            inbox: Inbox::new(election.member, election.paths, session, sealer.clone()),
            sealer,
            outbox: Outbox::new(),
            election: Election::new(election, gate, now),
            datagrams: VecDeque::new(),
            greeted: None,
            journal: None,
            replica: Replica::new(config.supported),
            ledger: Ledger::new(horizon),
            edges: Edges::new(config.edge_interval),
            promise: Promise::Free,
            rival: Rival::Impossible,
            continued: None,
            claimed_at: now,
            hot_until: None,
            starts: Vec::new(),
            sync_up: false,
            peer_session: None,
            said: VecDeque::new(),
            run: None,
            waiting: VecDeque::new(),
            outstanding: None,
            last_step: StepId(0),
            unfinished: None,
            retry: None,
            orders: VecDeque::new(),
            following: Following::Alone,
            was_hot: false,
            revision: Revision::default(),
            ignored: Ignored::default(),
            config,
        };
        // Whatever a former run left behind goes first.
        node.waiting.push_back(Change::Demote);
        node.settle(now);
        node
    }

    /// A datagram to the partner came back as port unreachable.
    pub fn handle_path_refused(&mut self, now: Duration, path: PathId) {
        self.ignored.unreachable_while_connected += u64::from(self.sync_up);
        self.election.handle_path_refused(now, path);
        self.settle(now);
    }

    /// A tracked condition changed.
    pub fn handle_condition(&mut self, now: Duration, condition: Condition, good: bool) {
        let abilities = self.abilities(now);
        self.election
            .handle_condition(now, condition, good, abilities);
        self.settle(now);
    }

    /// Runs every deadline that has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        let abilities = Abilities {
            rival_since: self.rival_if_dead(now),
            ..self.abilities(now)
        };
        let was_dead = self.election.peer_is_dead();
        self.election.handle_timeout(now, abilities);
        if self.election.peer_is_dead() && !was_dead {
            self.rival = Rival::Impossible;
        }
        if let Some((_, change)) = self.retry.take_if(|(at, _)| *at <= now)
            && self.election.state() == State::Active
        {
            self.begin_run(now, change);
        }
        if self
            .journal
            .as_ref()
            .is_some_and(|journal| journal.is_stalled(now))
            && self.sync_up
        {
            self.orders.push_back(Order::Redial(Redial::Stalled));
        }
        self.settle(now);
    }

    /// The next deadline and its name.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Duration, Deadline)> {
        let election = self.election.poll_timeout();
        let journal = self.journal.as_ref().and_then(Journal::poll_timeout);
        [
            election.map(|(at, timer)| (at, Deadline::Election(timer))),
            journal.map(|at| (at, Deadline::Replication)),
            self.promise_ends().map(|at| (at, Deadline::Promise)),
            self.retry.map(|(at, _)| (at, Deadline::Retry)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The operator wants a planned switchover: on the active node it is done or refused with
    /// reasons, on the standby the active node is asked for it.
    pub fn switchover(&mut self, now: Duration) {
        let blockers = self.readiness(now);
        if self.election.state() == State::Active && !blockers.is_empty() {
            self.orders.push_back(Order::SwitchoverRefused(blockers));
        } else {
            let abilities = self.abilities(now);
            self.election.handle_switchover(now, abilities);
        }
        self.settle(now);
    }

    /// The operator wants this node to leave whatever it costs. False when there is nobody to
    /// leave to.
    pub fn force_switchover(&mut self, now: Duration) -> bool {
        let abilities = self.abilities(now);
        let left = self.election.handle_resign(now, abilities);
        self.settle(now);
        left
    }

    /// The daemon stops: [`Order::Finished`] of [`Change::Stop`] says when everything is undone.
    pub fn stop(&mut self, now: Duration) {
        self.election.handle_stop(now);
        self.settle(now);
    }

    /// Tells which configuration is in force.
    pub fn set_revision(&mut self, now: Duration, revision: Revision) {
        let changed = core::mem::replace(&mut self.revision, revision) != revision;
        self.settle(now);
        if changed {
            // Not at the next interval: the partner shows whether both run the same.
            self.send_advert(now, false, false);
        }
    }

    /// Carries on with everything that follows from an input.
    fn settle(&mut self, now: Duration) {
        self.election.enter(now);
        let mut advert = None;
        // Outputs of one part are inputs of another; each round is finite and they converge.
        loop {
            while let Some(output) = self.election.poll_output() {
                self.obey(now, output, &mut advert);
            }
            self.keep_promise(now, &mut advert);
            if !self.next_step(now) {
                break;
            }
        }
        self.collect(now);
        if self.was_hot != self.is_hot(now) {
            // Whether it could hand over is the active node's business at once.
            self.was_hot = !self.was_hot;
            advert.get_or_insert_default();
        }
        if let Some((wants_answer, resigned)) = advert {
            self.send_advert(now, wants_answer, resigned);
        }
    }

    fn obey(&mut self, now: Duration, output: Output, advert: &mut Option<(bool, bool)>) {
        match output {
            Output::SendAdvert {
                wants_answer,
                resigned,
            } => {
                let (wants, resigns) = advert.unwrap_or_default();
                *advert = Some((wants || wants_answer, resigns || resigned));
            }
            Output::Begin(change) => self.begin(now, change),
            Output::Say(word) => {
                if self.sync_up {
                    self.said.push_back(Message::Word(word));
                }
            }
            Output::SwitchoverRefused(_) => {
                let blockers = vec![Blocker::NotActive];
                self.orders.push_back(Order::SwitchoverRefused(blockers));
            }
            Output::Moved(transition) => self.orders.push_back(Order::Moved(transition)),
        }
    }

    /// The next order for the daemon.
    pub fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// True while an [`Order::Limit`] waits: obey it before adverts leave.
    #[must_use]
    pub fn has_limits(&self) -> bool {
        let limits = |order: &Order| matches!(order, Order::Limit(_));
        self.orders.iter().any(limits)
    }

    /// The election, for its state, its history and what it knows of the partner.
    #[must_use]
    pub const fn election(&self) -> &Election {
        &self.election
    }

    /// The epoch of the claim in force: on the active node, the epoch of its IVs
    /// ([`Epoch::for_iv`]).
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.election.epochs().0
    }

    /// Advert refusals and acceptances.
    #[must_use]
    pub const fn advert_counters(&self) -> &crate::advert::Counters {
        self.inbox.counters()
    }
}
