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
mod promise;
mod rival;
mod status;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use ipsec_types::SendGate;
use rand_core::CryptoRng;
use serde::Serialize;

use crate::advert::{Advert, Inbox, Outbox, Refusal, Role, Sealer, SyncReport};
use crate::election::{
    Abilities, Change, Condition, Config, Election, Output, Peer, State, Timer, Transition, Word,
};
use crate::replication::{
    Applied, Commit, Edges, Following, Hello, Journal, Key, Ledger, Limit, Limits, Message, Record,
    Replica, Supported, Unacceptable,
};
use crate::secret::PairSecret;
use crate::takeover::{Run, Step, StepId};
use crate::vocabulary::{Epoch, PathId, Revision, SessionId};
pub use active::{NotActive, Start};
use promise::Promise;
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

/// What stands against a planned switchover without loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Blocker {
    /// This node is not active, or a change is under way.
    #[error("this node is not active, or a change is under way")]
    NotActive,
    /// The standby is not heard.
    #[error("the standby is not heard")]
    PeerUnheard,
    /// A tracked condition failed at the standby.
    #[error("a tracked condition failed at the standby")]
    PeerUnfit,
    /// The standby does not hold everything.
    #[error("the standby is not in sync")]
    NotInSync,
    /// The two nodes run different configurations.
    #[error("the two nodes run different configuration revisions")]
    Revision,
    /// A negotiation is in flight; it would have to be repeated.
    #[error("a negotiation is in flight")]
    Negotiating,
}

/// What the daemon shall do, or should know. In order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Perform one step and report it with [`PairNode::step_done`]. One at a time.
    Perform {
        /// For the report.
        id: StepId,
        /// What to do.
        step: Step,
        /// What it is part of.
        change: Change,
    },
    /// Standby: apply a replicated change to the mute copy; [`PairNode::refuse`] if impossible.
    Apply(Applied),
    /// Active: the last sequence number an SA may send. Applied before the next poll.
    Limit(Limit),
    /// Active: a commit point is decided.
    Committed {
        /// The log position that was waited for.
        position: u64,
        /// How it ended.
        commit: Commit,
    },
    /// Active: the standby follows differently now.
    Following(Following),
    /// The state of the election changed.
    Moved(Transition),
    /// A change of role is complete, or has failed; every step with its time.
    Finished(Run),
    /// A planned switchover was asked for and cannot be done.
    SwitchoverRefused(Vec<Blocker>),
    /// Active: the standby proposes an edit of the configuration.
    Proposed(Record),
    /// Active: the standby cannot apply a record; it is not in sync until that is mended. Standby:
    /// the active node did not take a proposal.
    PeerRefused {
        /// Which record.
        key: Key,
        /// Why.
        reason: String,
    },
    /// This node left the role, and the partner serves now: its gate is open and its addresses
    /// are announced. Once for every time that the role is left.
    PartnerServes,
    /// The sync connection is of no use: close it and dial again.
    Redial(Redial),
}

/// Why the sync connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Redial {
    /// It made no progress for the stall limit.
    #[error("the sync connection makes no progress")]
    Stalled,
    /// The run at its other end is over; its kernel had no chance to say so.
    #[error("the partner has restarted")]
    OldRun,
    /// Both ends are configured as the same member.
    #[error("both nodes are configured as the same member")]
    SameMember,
}

/// Which part of the node wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deadline {
    /// The election.
    Election(Timer),
    /// A commit point, or an acknowledgement that is late.
    Replication,
    /// The standby stops counting on our ceilings.
    Promise,
    /// A change of role that failed is tried again.
    Retry,
}

/// A slow advert interval must not slow the challenge of a new session down.
const LONGEST_GREETING_PAUSE: Duration = Duration::from_millis(50);
/// How long a failed change of role waits before it is tried again.
const RETRY: Duration = Duration::from_secs(1);

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
    /// A claim whose gate has not been opened yet.
    unfinished: Option<Change>,
    /// The role was left, and the partner has not said yet that it serves.
    awaits_successor: bool,
    retry: Option<(Duration, Change)>,
    orders: VecDeque<Order>,
    following: Following,
    was_hot: bool,
    revision: Revision,
    negotiating: bool,
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
            awaits_successor: false,
            retry: None,
            orders: VecDeque::new(),
            following: Following::Alone,
            was_hot: false,
            revision: Revision::default(),
            negotiating: false,
            ignored: Ignored::default(),
            config,
        };
        // Whatever a former run left behind goes first.
        node.waiting.push_back(Change::Demote);
        node.settle(now);
        node
    }

    /// A datagram arrived on an advert port.
    ///
    /// # Errors
    /// The counted [`Refusal`]; the election has not moved.
    pub fn handle_datagram(
        &mut self,
        now: Duration,
        path: PathId,
        datagram: &[u8],
    ) -> Result<(), Refusal> {
        let accepted = match self.inbox.accept(path, datagram, self.outbox.last()) {
            Ok(accepted) => accepted,
            Err(refusal) => {
                self.settle(now);
                if refusal == Refusal::Unproven {
                    self.greet(now);
                }
                return Err(refusal);
            }
        };
        let heard = accepted.advert.has_heard(self.session);
        let answered = heard.and_then(|counter| Some((counter, self.outbox.sent_at(counter)?)));
        let mut rival_since = None;
        if accepted.newest {
            let sent_at = answered.map(|(_, at)| at);
            self.judge_replica(&accepted.advert, sent_at);
            rival_since = self.rival_heard(now, &accepted);
            self.promise_heard(heard, accepted.restarted);
            if let Some(sent_at) = sent_at {
                self.rival_follows(&accepted, sent_at);
            }
            let session = accepted.advert.session;
            if accepted.restarted && self.peer_session.is_some_and(|other| other != session) {
                self.orders.push_back(Order::Redial(Redial::OldRun));
            }
        }
        let abilities = Abilities {
            rival_since,
            ..self.abilities(now)
        };
        self.election
            .handle_advert(now, &accepted, answered, abilities);
        self.settle(now);
        self.look_for_successor();
        Ok(())
    }

    fn look_for_successor(&mut self) {
        let serves = |peer: &Peer| peer.role == Role::Active && peer.serving;
        if self.awaits_successor && self.election.peer().is_some_and(serves) {
            self.awaits_successor = false;
            self.orders.push_back(Order::PartnerServes);
        }
    }

    /// Challenges a new session without waiting for the next interval, but not at any rate.
    fn greet(&mut self, now: Duration) {
        let pause = (self.config.election.interval.get() / 4).min(LONGEST_GREETING_PAUSE);
        if self
            .greeted
            .is_none_or(|last| now.saturating_sub(last) >= pause)
        {
            self.greeted = Some(now);
            self.send_advert(now, false, false);
        }
    }

    /// The partner says whether its ceilings may be counted on. It said so after it had heard
    /// the advert of ours that left at `sent_at`; when it said so is not known, for its advert
    /// may have waited in our socket while this process was stopped.
    fn judge_replica(&mut self, advert: &Advert, sent_at: Option<Duration>) {
        match advert.role {
            Role::Active | Role::Asking => {
                let current =
                    advert.sync.in_sync && advert.sync.stream == self.replica.position().0;
                let lifetime = promise::lifetime(self.slower_interval());
                let until = sent_at.map(|at| at + lifetime);
                self.hot_until = until.max(self.hot_until).filter(|_| current);
            }
            // On its way out of a planned switchover; the word comes on the sync channel.
            Role::Standby | Role::Init => {}
        }
    }

    fn slower_interval(&self) -> Duration {
        let ours = self.config.election.interval.get();
        self.election
            .peer()
            .map_or(ours, |peer| peer.interval.get().max(ours))
    }

    /// True when a takeover now would be hot: the replica is complete, and the active node has
    /// just said that its ceilings may be counted on.
    #[must_use]
    pub fn is_hot(&self, now: Duration) -> bool {
        self.journal.is_none()
            && self.replica.is_complete()
            && self.hot_until.is_some_and(|until| now < until)
    }

    fn abilities(&self, now: Duration) -> Abilities {
        Abilities {
            hot: self.is_hot(now),
            handover: self.blockers(now).next().is_none(),
            rival_since: None,
        }
    }

    /// What stands against a planned switchover; empty when it would lose nothing.
    #[must_use]
    pub fn readiness(&self, now: Duration) -> Vec<Blocker> {
        self.blockers(now).collect()
    }

    fn blockers(&self, now: Duration) -> impl Iterator<Item = Blocker> {
        let peer = self.election.peer();
        let stands = [
            (
                self.election.state() != State::Active || self.unfinished.is_some(),
                Blocker::NotActive,
            ),
            (!self.election.peer_is_heard(now), Blocker::PeerUnheard),
            (!peer.is_some_and(|peer| peer.fit), Blocker::PeerUnfit),
            (
                !self.promise.is_in_sync() || !peer.is_some_and(|peer| peer.sync.in_sync),
                Blocker::NotInSync,
            ),
            (
                peer.is_some_and(|peer| peer.revision != self.revision),
                Blocker::Revision,
            ),
            (self.negotiating, Blocker::Negotiating),
        ];
        stands
            .into_iter()
            .filter_map(|(stands, blocker)| stands.then_some(blocker))
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

    /// The sync channel is open: both ends have shown the pair secret.
    pub fn handle_sync_up(&mut self, now: Duration) {
        self.sync_up = true;
        self.said.clear();
        self.election.handle_sync_up(now);
        self.say_hello();
        self.settle(now);
    }

    fn say_hello(&mut self) {
        let (stream, position) = self.replica.position();
        self.said.push_back(Message::Hello(Hello {
            member: self.config.election.member,
            session: self.session,
            floor: self.election.epochs().1,
            revision: self.revision,
            stream,
            position,
        }));
    }

    /// The sync channel is gone.
    pub fn handle_sync_down(&mut self, now: Duration) {
        if !self.sync_up {
            return;
        }
        self.sync_up = false;
        self.peer_session = None;
        self.said.clear();
        self.replica.disconnected();
        if let Some(journal) = &mut self.journal {
            journal.standby_gone(now);
        }
        let abilities = self.abilities(now);
        self.election.handle_sync_closed(now, abilities);
        self.settle(now);
    }

    /// A message arrived on the sync channel.
    pub fn handle_message(&mut self, now: Duration, message: Message) {
        self.ignored.out_of_place += u64::from(!self.is_in_place(&message));
        match message {
            Message::Hello(hello) => self.handle_hello(now, &hello),
            Message::Word(word) => {
                // What stands before the word in the stream must have been applied.
                self.flush_replica();
                let word = self.without_gaps(word);
                let abilities = self.abilities(now);
                self.election.handle_word(now, word, abilities);
            }
            Message::Ack { stream, position } => self.handle_ack(now, stream, position),
            Message::Resync => {
                if let Some(journal) = &mut self.journal {
                    journal.begin_snapshot(now);
                }
            }
            Message::Refuse { key, reason } => {
                if let Some(journal) = &mut self.journal {
                    journal.refused(now);
                }
                self.orders.push_back(Order::PeerRefused { key, reason });
            }
            Message::Propose(record) => {
                if self.journal.is_some() {
                    self.orders.push_back(Order::Proposed(record));
                }
            }
            Message::SnapshotBegin { .. }
            | Message::SnapshotEnd { .. }
            | Message::Resume { .. }
            | Message::Delta { .. } => {
                // Two that hold a claim do not replicate to each other; adverts will decide.
                if self.journal.is_none() {
                    self.replica.handle(now, message);
                    self.flush_replica();
                }
            }
        }
        self.settle(now);
    }

    /// True when the message means something to a node in this role.
    const fn is_in_place(&self, message: &Message) -> bool {
        match message {
            Message::Hello(_) | Message::Word(_) | Message::Refuse { .. } => true,
            Message::Ack { .. } | Message::Resync | Message::Propose(_) => self.journal.is_some(),
            Message::SnapshotBegin { .. }
            | Message::SnapshotEnd { .. }
            | Message::Resume { .. }
            | Message::Delta { .. } => self.journal.is_none(),
        }
    }

    /// A release is good for exact numbers only: with a record missing it is declined.
    fn without_gaps(&mut self, word: Word) -> Word {
        match word {
            Word::Release { token } if self.journal.is_none() && !self.replica.is_complete() => {
                self.said.push_back(Message::Word(Word::Decline { token }));
                Word::CallOff { token }
            }
            word => word,
        }
    }

    fn flush_replica(&mut self) {
        while let Some(change) = self.replica.poll_change() {
            self.orders.push_back(Order::Apply(change));
        }
    }

    fn handle_hello(&mut self, now: Duration, hello: &Hello) {
        if hello.member == self.config.election.member {
            self.orders.push_back(Order::Redial(Redial::SameMember));
            return;
        }
        self.peer_session = Some(hello.session);
        self.election.handle_floor(now, hello.floor);
        if let Some(journal) = &mut self.journal {
            journal.standby_connected(now, hello.stream, hello.position);
        }
    }

    /// The daemon cannot apply what [`Order::Apply`] brought.
    pub fn refuse(&mut self, now: Duration, key: &Key, reason: &str) {
        let reason = Unacceptable::Host(reason.to_owned());
        if self.journal.is_none() {
            self.replica.refuse(key, &reason);
        }
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

    /// Tells whether a negotiation is in flight.
    pub const fn set_negotiating(&mut self, negotiating: bool) {
        self.negotiating = negotiating;
    }

    /// Proposes an edit of the configuration that was made on this, the standby, node.
    pub fn propose(&mut self, record: Record) {
        if self.sync_up {
            self.said.push_back(Message::Propose(record));
        }
    }

    /// Says why a proposal, or a record, was not taken.
    pub fn decline_proposal(&mut self, key: Key, reason: String) {
        if self.sync_up {
            self.said.push_back(Message::Refuse { key, reason });
        }
    }

    /// The step is over.
    pub fn step_done(&mut self, now: Duration, id: StepId, outcome: Result<(), String>) {
        if self.outstanding == Some(id) {
            self.outstanding = None;
            self.finish_step(now, id, outcome);
            self.settle(now);
        }
    }

    fn finish_step(&mut self, now: Duration, id: StepId, outcome: Result<(), String>) {
        let Some(run) = &mut self.run else {
            return;
        };
        let Some(going_on) = run.report(now, id, outcome) else {
            return;
        };
        let change = run.change();
        if run.is_over() {
            self.orders.extend(self.run.take().map(Order::Finished));
        }
        if !going_on {
            self.change_failed(now, change);
        }
    }

    fn change_failed(&mut self, now: Duration, change: Change) {
        let abilities = self.abilities(now);
        self.election.handle_change_failed(now, change, abilities);
        let claims = matches!(
            change,
            Change::Claim { .. } | Change::ClaimHanded | Change::Reclaim | Change::Resume
        );
        if claims && self.election.state() == State::Active {
            // Once the gate has opened, the SAs are in use: they are not activated twice.
            let again = match self.unfinished {
                Some(unfinished) => unfinished,
                None => Change::Resume,
            };
            self.retry = Some((now + RETRY, again));
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

    fn begin_run(&mut self, now: Duration, change: Change) {
        // A change that supersedes another goes on from wherever that one was: steps are
        // idempotent, and the one being performed is waited for.
        self.waiting.clear();
        self.retry = None;
        self.orders.extend(self.run.take().map(Order::Finished));
        self.run = Some(Run::new(change, now));
    }

    /// Starts the next step; true if something happened.
    fn next_step(&mut self, now: Duration) -> bool {
        if self.outstanding.is_some() {
            return false;
        }
        if self.run.is_none()
            && let Some(change) = self.waiting.pop_front()
        {
            self.run = Some(Run::new(change, now));
        }
        let id = StepId(self.last_step.0 + 1);
        let Some(run) = &mut self.run else {
            return false;
        };
        let Some(step) = run.next(now, id) else {
            return false;
        };
        self.last_step = id;
        let change = run.change();
        if step == Step::ActivateSas && self.election.is_serving(now) {
            // They are in use from here on: to activate them once more under the same claim
            // would repeat IVs (I1).
            self.unfinished = None;
        }
        if step.is_internal() {
            self.perform(now, step);
            self.finish_step(now, id, Ok(()));
        } else {
            self.outstanding = Some(id);
            self.orders.push_back(Order::Perform { id, step, change });
        }
        true
    }

    fn perform(&mut self, now: Duration, step: Step) {
        match step {
            Step::OpenGate => {
                self.election.open_gate(now);
                if self.election.is_serving(now) {
                    self.unfinished = None;
                }
            }
            Step::Drained => {
                let abilities = self.abilities(now);
                let follows = |journal: &Journal| journal.following(now) == Following::InSync;
                if self.journal.as_ref().is_some_and(follows) {
                    self.election.handle_drained(now, abilities);
                } else {
                    // The last records would not arrive, and old numbers are not exact ones.
                    self.election
                        .handle_change_failed(now, Change::Drain, abilities);
                }
            }
            Step::Accept => self.election.handle_prepared(now),
            Step::Release => self.election.handle_left(now),
            _ => {}
        }
    }

    fn send_advert(&mut self, now: Duration, wants_answer: bool, resigned: bool) {
        let counter = self.outbox.next(now);
        self.election.advert_sent(now, counter);
        self.promise_told(counter);
        let (epoch, floor) = self.election.epochs();
        let config = &self.config.election;
        for path in config.paths.ids() {
            let advert = Advert {
                member: config.member,
                path: *path,
                role: self.election.role(),
                resigned,
                wants_answer,
                fit: self.election.is_fit(now) && self.election.state() != State::Stopped,
                serving: self.election.is_serving(now),
                priority: config.priority,
                interval: config.interval,
                session: self.session,
                counter,
                epoch,
                floor,
                revision: self.revision,
                echo: self.inbox.echo(),
                greeting: self.inbox.greeting(),
                sync: self.sync_report(now),
            };
            self.datagrams.push_back((*path, self.sealer.seal(&advert)));
        }
    }

    fn sync_report(&self, now: Duration) -> SyncReport {
        let Some(journal) = &self.journal else {
            let (stream, position) = self.replica.position();
            return SyncReport {
                in_sync: self.is_hot(now),
                stream,
                position,
                ..SyncReport::default()
            };
        };
        let (stream, _, acked) = journal.positions();
        let lag = journal.lag(now);
        SyncReport {
            in_sync: self.promise.is_in_sync(),
            stream,
            position: acked,
            lag_records: u32::try_from(lag.records).unwrap_or(u32::MAX),
            lag_bytes: lag.bytes,
            lag_ms: u32::try_from(lag.age.as_millis()).unwrap_or(u32::MAX),
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

    /// True while the sync channel is open.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.sync_up
    }

    /// What stood against taking the partner's records is mended: asks for all of them again.
    pub fn follow_anew(&mut self, now: Duration) {
        if self.sync_up && self.journal.is_none() && !self.replica.is_complete() {
            self.say_hello();
        }
        self.settle(now);
    }

    /// What stood against the partner taking our records is mended: offers all of them again.
    pub fn offer_anew(&mut self, now: Duration) {
        let refused = |journal: &&mut Journal| journal.following(now) == Following::Refused;
        if let Some(journal) = self.journal.as_mut().filter(refused) {
            journal.begin_snapshot(now);
        }
        self.settle(now);
    }

    /// The next advert, and the path it leaves on.
    pub fn poll_datagram(&mut self) -> Option<(PathId, Vec<u8>)> {
        self.datagrams.pop_front()
    }

    /// The next message for the sync channel; ask only while the channel has room.
    pub fn poll_message(&mut self, now: Duration) -> Option<Message> {
        if !self.sync_up {
            return None;
        }
        let releases = matches!(
            self.said.front(),
            Some(Message::Word(crate::election::Word::Release { .. }))
        );
        let behind = self.journal.as_ref().is_some_and(Journal::has_queued);
        if !(releases && behind)
            && let Some(message) = self.said.pop_front()
        {
            return Some(message);
        }
        match &mut self.journal {
            Some(journal) => journal.poll_message(now),
            None => self.replica.poll_message(),
        }
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
