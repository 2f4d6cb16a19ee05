//! The election: which of the two nodes is active, and since when it may speak.
//!
//! ```text
//!   adverts, news, timers, commands                     the daemon, the sync channel
//!        |                                                        ^
//!        v                                                        |
//!   judge: who outranks whom,        table: (state, event)     act: timers, lease,
//!   who is fit, who is alive   --->  -> (state, act)     --->  history, outputs
//! ```
//! The table ([`State::on`]) has no conditions and no wildcard; what surrounds it has no states.
//!
//! Two nodes without a third cannot tell a dead partner from a cut network. This election prefers
//! to serve: a node that hears nothing on any path takes over. Two paths make a cut of both
//! unlikely, the IV scheme makes it harmless (I1), and on healing the older claim leaves at the
//! first advert: the higher epoch stays, then the higher priority, then [`Member::B`].

//!
//! How long nobody serves when the active node is lost, with an advert interval of I:
//!
//! | what is lost | known after | by | at 10 ms | at 50 ms | at 10 s |
//! | --- | --- | --- | --- | --- | --- |
//! | its process | a round trip, at most 15 ms while the kernel tears it down, and 5 ms of grace | [`evidence`] | 6 to 20 ms | 6 to 20 ms | 6 to 20 ms |
//! | its WAN or LAN link | a round trip | an advert of priority 0 | 1 ms | 1 ms | 1 ms |
//! | its host, or all its cables | 3 I + (256 - priority) / 256 I after its last advert | [`patience`] | 36 ms | 181 ms | 36 s |
//! | its clock's time (SIGSTOP, VM) | as its host; its lease ended 2.5 I after its last advert | [`patience`], [`lease_length`] | 36 ms | 181 ms | 36 s |
//!
//! The columns are for priority 100; 254 waits 3.01 I and 1 waits 4 I. A host that is lost halfway
//! between two adverts, as it is at the median, leaves half an interval less. To each of them the
//! steps of a hot takeover are added ([`crate::takeover`]). The lease is shorter than any
//! patience by more than half an interval, from two points that only the network's delay can
//! move apart further (invariant I6): there is nothing to be gained from a shorter patience but
//! by a shorter interval.

mod act;
mod evidence;
mod history;
mod judge;
mod table;
#[cfg(test)]
mod tests;
mod track;

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use ipsec_types::SendGate;
use serde::Serialize;

use crate::advert::{Role, SyncReport, lease_length, patience};
use crate::lease::Lease;
use crate::vocabulary::{AdvertInterval, Epoch, Member, Paths, Priority, Revision, SessionId};
use evidence::Evidence;
pub use history::{History, REMEMBERED, Transition};
pub use table::{Act, Cell, Event, State};
pub use track::{Condition, Track};

/// How this node stands for election. Node-local: the partner has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Which of the two.
    pub member: Member,
    /// The higher one leads when nobody leads yet.
    pub priority: Priority,
    /// How often adverts are sent.
    pub interval: AdvertInterval,
    /// One path between the nodes, or two.
    pub paths: Paths,
    /// With `Some`, a standby of higher priority asks for a planned switchover once it has been
    /// ready for this long. Off by default: every move is a risk.
    pub preempt: Option<Duration>,
    /// How long conditions must have been good again before they count.
    pub hold_down: Duration,
    /// How long a probe may stay unanswered after the kernel's news, see [`evidence`].
    pub proof_grace: Duration,
    /// How long each half of a planned switchover may take before it is called off.
    pub handover_limit: Duration,
}

impl Config {
    /// The documented defaults for one member.
    #[must_use]
    pub fn new(member: Member, interval: AdvertInterval) -> Self {
        Self {
            member,
            priority: Priority::DEFAULT,
            interval,
            paths: Paths::Two,
            preempt: None,
            hold_down: Duration::from_secs(3),
            proof_grace: Duration::from_millis(5),
            handover_limit: Duration::from_secs(2),
        }
    }
}

/// What the rest of this node can do right now. The election asks before it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Abilities {
    /// The replica is complete and current: a takeover would be hot.
    pub hot: bool,
    /// A planned switchover would lose nothing.
    pub handover: bool,
    /// What was just learnt means that the partner may have served since then, above numbers
    /// that this node goes on from.
    pub rival_since: Option<Duration>,
}

/// What the partner's adverts say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// What it is.
    pub role: Role,
    /// It could be active.
    pub fit: bool,
    /// Its gate is open: it answers for the address.
    pub serving: bool,
    /// Its priority.
    #[serde(skip)]
    pub priority: Priority,
    /// Its advert interval.
    #[serde(skip)]
    pub interval: AdvertInterval,
    /// Its run.
    #[serde(skip)]
    pub session: SessionId,
    /// The claim it knows of, its own if it is active.
    pub epoch: Epoch,
    /// Its configuration.
    pub revision: Revision,
    /// Its view of replication.
    pub sync: SyncReport,
    /// When it was last heard, on the boot-time clock.
    #[serde(rename = "heard_at_ms", serialize_with = "crate::millis::serialize")]
    pub heard_at: Duration,
}

/// Every deadline has a name, and the log says which one woke us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// The next advert.
    Advert,
    /// The lease runs out.
    Lease,
    /// The active partner has been silent for the whole patience.
    Silence,
    /// Our question has been unanswered for the whole patience.
    Ask,
    /// A planned switchover takes too long.
    Handover,
    /// A better standby has been ready for the whole preempt delay.
    Preempt,
    /// The next probe for a partner that may be dead.
    Probe,
    /// Nothing contradicted the proof of death.
    Proof,
    /// Conditions have been good for the whole hold-down.
    HoldDown,
}

/// A word of a planned switchover, spoken on the sync channel in order with the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Word {
    /// Standby to active: please hand over.
    Request,
    /// Active to standby: take my role. The token names this attempt.
    Offer {
        /// Names the attempt.
        token: u32,
    },
    /// Standby to active: I am ready and wait for the release.
    Accept {
        /// Of the offer.
        token: u32,
    },
    /// Active to standby: all records are with you, my addresses are gone, I am silent.
    Release {
        /// Of the offer.
        token: u32,
    },
    /// Standby to active: no, or no longer.
    Decline {
        /// Of the offer or the release.
        token: u32,
    },
    /// Active to standby: forget it.
    CallOff {
        /// Of the offer.
        token: u32,
    },
}

/// A change of what this node does; [`crate::takeover`] turns it into ordered steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Become active: above the ceilings if `hot`, else from nothing.
    Claim {
        /// A complete and current replica is here.
        hot: bool,
    },
    /// Become active with exact numbers.
    ClaimHanded,
    /// Become active again, far above the ceilings: the partner may have served meanwhile.
    Reclaim,
    /// Serve again under the same claim.
    Resume,
    /// Silent, addresses kept, waiting for an answer.
    Mute,
    /// Standby.
    Demote,
    /// Standby: make ready for the role, and speak [`Word::Accept`].
    Prepare,
    /// Undo [`Change::Prepare`].
    Unprepare,
    /// Stop originating, write the last records.
    Drain,
    /// Leave the addresses, speak [`Word::Release`], forward what still comes.
    Release,
    /// Undo [`Change::Drain`].
    CallOff,
    /// Leave everything, for good.
    Stop,
}

/// What the election wants done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// One advert on every path, now; its sender reports it with [`Election::advert_sent`].
    SendAdvert {
        /// The partner should answer at once.
        wants_answer: bool,
        /// This node has just left on purpose (priority 0).
        resigned: bool,
    },
    /// Begin a change of role.
    Begin(Change),
    /// Speak on the sync channel.
    Say(Word),
    /// An operator's switchover cannot be done in this state.
    SwitchoverRefused(State),
    /// For the log.
    Moved(Transition),
}

/// What a living partner needs for an answer at most: if it has just started, both have to show
/// first that they are of now, which takes two round trips and two turns of each.
const ANSWER: Duration = Duration::from_millis(20);

/// One node's side of the election.
#[derive(Debug)]
pub struct Election {
    config: Config,
    state: State,
    since: Duration,
    /// The claim in force: ours if we hold one, else the last one heard of.
    claim: Epoch,
    floor: Epoch,
    claims_alone: u64,
    lapsed_at: Option<Duration>,
    /// See [`Abilities::rival_since`]; until the next claim.
    rival_since: Option<Duration>,
    /// The last claim was made without a word of the partner: it may serve as well.
    rivalled: bool,
    peer: Option<Peer>,
    peer_dead: bool,
    track: Track,
    evidence: Evidence,
    lease: Lease,
    history: History,
    outputs: VecDeque<Output>,
    last_input: Duration,
    next_advert: Duration,
    last_advert: Duration,
    sent: u64,
    silence: Option<Duration>,
    deferred: bool,
    active_heard: Option<Duration>,
    /// When the partner was last heard as active, and not only asking.
    serving_heard: Option<Duration>,
    ask: Option<Duration>,
    ask_after: u64,
    handover: Option<Duration>,
    preempt: Option<Duration>,
    token: u32,
}

impl Election {
    /// A node that has just started at `now`: mute, listening. `gate` stands in front of its
    /// sockets; it is closed here.
    #[must_use]
    pub fn new(config: Config, gate: Arc<SendGate>, now: Duration) -> Self {
        let mut election = Self {
            config,
            state: State::Init,
            since: now,
            claim: Epoch::NONE,
            floor: Epoch::NONE,
            claims_alone: 0,
            lapsed_at: None,
            rival_since: None,
            rivalled: false,
            peer: None,
            peer_dead: false,
            track: Track::new(config.hold_down),
            evidence: Evidence::new(config.paths, config.proof_grace),
            lease: Lease::new(gate, lease_length(config.interval)),
            history: History::default(),
            outputs: VecDeque::new(),
            last_input: now,
            next_advert: now,
            last_advert: now,
            sent: 0,
            silence: None,
            deferred: false,
            active_heard: None,
            serving_heard: None,
            ask: None,
            ask_after: 0,
            handover: None,
            preempt: None,
            token: 0,
        };
        election.silence = Some(now + election.patience());
        election
    }

    /// Runs every deadline that has passed, by name and in a fixed order.
    pub fn handle_timeout(&mut self, now: Duration, abilities: Abilities) {
        self.enter(now);
        if self.is_due(Timer::Probe, now) {
            self.evidence.probed();
            self.advert(true);
        }
        if self.is_due(Timer::Proof, now) {
            self.evidence.clear();
            self.peer_dead = true;
            let event = match self.suspect_rival(abilities) {
                true => Event::PeerServed,
                false => Event::PeerDead,
            };
            self.fire_if_fit(now, event, abilities);
        }
        if self.is_due(Timer::Silence, now) {
            self.silence_is_over(now, abilities);
        }
        if self.is_due(Timer::Ask, now) {
            self.fire(now, Event::AskUnanswered, abilities);
        }
        if self.is_due(Timer::Preempt, now) {
            self.preempt = None;
            self.fire(now, Event::SwitchoverWanted, abilities);
        }
        self.review(now, abilities);
        if self.is_due(Timer::Advert, now) {
            self.advert(self.state == State::Asking);
            self.next_advert = now + self.config.interval.get();
        }
    }

    /// What every input does first: the deadlines that end a right must be seen before anything
    /// can be done with it, and a process that was stopped must know.
    pub fn enter(&mut self, now: Duration) {
        let stopped = now.saturating_sub(self.last_input) > self.config.interval.get() * 2;
        self.last_input = self.last_input.max(now);
        if self.is_due(Timer::Lease, now) {
            self.fire(now, Event::LeaseLost, Abilities::default());
        }
        if self.is_due(Timer::Handover, now) || (stopped && self.state == State::TakingOver) {
            self.fire(now, Event::HandoverOff, Abilities::default());
        }
        if stopped {
            self.was_stopped(now);
        }
    }

    /// Our own absence is not the partner's silence, and what waits in our socket buffers may
    /// be from long ago.
    fn was_stopped(&mut self, now: Duration) {
        self.evidence.clear();
        if self.silence.is_some() {
            self.silence = Some(now + self.patience());
        }
        if self.state == State::Asking {
            self.ask(now);
        }
    }

    fn ask(&mut self, now: Duration) {
        self.ask = Some(now + self.ask_patience());
        self.ask_after = self.sent;
        self.advert(true);
    }

    /// How long a question waits. A partner that was heard until shortly before our lease ran
    /// out may have taken over since, and gets the whole patience to say so. One that had not
    /// been heard for so long while we still served could serve beside us all that time: to be
    /// silent any longer than a living one needs for an answer protects nobody from it, and
    /// every stall of a busy machine would cost a lone node the patience on top.
    fn ask_patience(&self) -> Duration {
        let patience = self.patience();
        let lease = lease_length(self.config.interval);
        let renewed = self.lapsed_at.map(|lapsed| lapsed.saturating_sub(lease));
        let alone = self.peer_dead
            || self.peer.is_none_or(|peer| {
                renewed.is_some_and(|renewed| peer.heard_at + patience <= renewed)
            });
        match alone {
            true => self.config.interval.get().max(ANSWER).min(patience),
            false => patience,
        }
    }

    fn advert(&mut self, wants_answer: bool) {
        self.outputs.push_back(Output::SendAdvert {
            wants_answer,
            resigned: false,
        });
    }

    fn is_due(&self, timer: Timer, now: Duration) -> bool {
        self.deadline(timer).is_some_and(|at| at <= now)
    }

    fn deadline(&self, timer: Timer) -> Option<Duration> {
        if self.state == State::Stopped {
            return None;
        }
        match timer {
            Timer::Advert => Some(self.next_advert),
            Timer::Lease if self.state.may_speak() => self.lease.ends_at(),
            Timer::Lease => None,
            Timer::Silence => self.silence,
            Timer::Ask => self.ask,
            Timer::Handover => self.handover,
            Timer::Preempt => self.preempt,
            Timer::Probe => self.evidence.probe_at(),
            Timer::Proof => self.evidence.proof_at(),
            Timer::HoldDown => self.track.hold_down_ends(self.last_input),
        }
    }

    /// The next deadline and its name.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Duration, Timer)> {
        const TIMERS: [Timer; 9] = [
            Timer::Advert,
            Timer::Lease,
            Timer::Silence,
            Timer::Ask,
            Timer::Handover,
            Timer::Preempt,
            Timer::Probe,
            Timer::Proof,
            Timer::HoldDown,
        ];
        TIMERS
            .into_iter()
            .filter_map(|timer| Some((self.deadline(timer)?, timer)))
            .min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The advert with this counter left at `now`: it renews the lease.
    pub fn advert_sent(&mut self, now: Duration, counter: u64) {
        self.sent = self.sent.max(counter);
        self.last_advert = now;
        // A lease that has run out is not renewed but asked for (I6).
        if self.state.may_speak() && !self.lease.has_run_out(now) {
            self.lease.renew(now);
        }
    }

    /// The addresses and SAs are in place: the gate may open, for as long as the lease holds.
    pub fn open_gate(&mut self, now: Duration) {
        self.enter(now);
        if self.state.may_speak() {
            self.lease.open();
            self.history.serving(now);
            // Whoever left the role to us waits for this.
            self.advert(false);
        }
    }

    /// RFC 9568's Active_Down_Interval, with the slower of the two intervals.
    #[must_use]
    pub fn patience(&self) -> Duration {
        let interval = self.peer.map_or(self.config.interval, |peer| {
            peer.interval.max(self.config.interval)
        });
        patience(self.config.priority, interval)
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// When it was entered, on the boot-time clock.
    #[must_use]
    pub const fn since(&self) -> Duration {
        self.since
    }

    /// What adverts say this node is.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.state.role()
    }

    /// The claim in force, and the floor for the next one.
    #[must_use]
    pub const fn epochs(&self) -> (Epoch, Epoch) {
        (self.claim, self.floor)
    }

    /// True when links, health and reachability allow this node to be active.
    #[must_use]
    pub fn is_fit(&self, now: Duration) -> bool {
        self.track.is_fit(now)
    }

    /// The tracked conditions.
    #[must_use]
    pub const fn track(&self) -> &Track {
        &self.track
    }

    /// True while the gate is open.
    #[must_use]
    pub fn is_serving(&self, now: Duration) -> bool {
        self.lease.is_open(now)
    }

    /// What is known of the partner, from its adverts.
    #[must_use]
    pub const fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// True from the proof of the partner's death until it is heard again.
    #[must_use]
    pub const fn peer_is_dead(&self) -> bool {
        self.peer_dead
    }

    /// True when the partner was heard within our patience.
    #[must_use]
    pub fn peer_is_heard(&self, now: Duration) -> bool {
        !self.peer_dead
            && self
                .peer
                .is_some_and(|peer| now.saturating_sub(peer.heard_at) <= self.patience())
    }

    /// The last transitions.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Since when somebody else may have served before the last [`Change::Reclaim`]: since the
    /// end of our last lease, or since the partner may have taken over beside us.
    #[must_use]
    pub const fn lapsed_at(&self) -> Option<Duration> {
        self.lapsed_at
    }

    /// When the partner was last heard as active: it has not left or lost the role before.
    #[must_use]
    pub const fn partner_served_at(&self) -> Option<Duration> {
        self.serving_heard
    }

    /// True when the last claim was made because nothing was heard of the partner: it may be
    /// dead, and it may just as well be serving.
    #[must_use]
    pub const fn is_rivalled(&self) -> bool {
        self.rivalled
    }

    /// The configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }
}

impl State {
    /// What a node in this state shows to others.
    #[must_use]
    pub const fn role(self) -> Role {
        match self {
            Self::Init => Role::Init,
            Self::Standby | Self::TakingOver | Self::Released | Self::Stopped => Role::Standby,
            Self::Active | Self::HandingOver => Role::Active,
            Self::Asking => Role::Asking,
        }
    }
}
