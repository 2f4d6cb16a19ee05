//! From what is heard to an [`Event`] of the table: who outranks whom, who is fit, who lives.

use core::time::Duration;

use super::{Abilities, Change, Condition, Election, Event, Output, Peer, State, Word};
use crate::advert::{Accepted, Advert, Role};
use crate::vocabulary::{Epoch, Member, PathId, Priority};

/// A claim to be active; the greater one stays.
type Claim = (Epoch, Priority, Member);

impl Election {
    /// An authentic, fresh advert arrived. `answered_at` is when the advert of ours that it
    /// echoes was sent, with that advert's counter, if it is recent.
    pub fn handle_advert(
        &mut self,
        now: Duration,
        accepted: &Accepted,
        answered: Option<(u64, Duration)>,
        abilities: Abilities,
    ) {
        self.enter(now);
        if self.state == State::Stopped || !accepted.newest {
            return;
        }
        let advert = &accepted.advert;
        let before = self.peer;
        self.learn(now, accepted);
        self.suspect_rival(abilities);
        if let Some(event) = self.judge(now, accepted, before, answered) {
            self.fire(now, event, abilities);
        }
        if advert.wants_answer {
            self.advert(false);
        }
        self.review(now, abilities);
    }

    fn learn(&mut self, now: Duration, accepted: &Accepted) {
        let advert = &accepted.advert;
        self.evidence.alive();
        self.peer_dead = false;
        self.claims_alone = 0;
        self.floor = self.floor.max(advert.floor).max(advert.epoch);
        if accepted.restarted {
            // Its former run may have used epochs that nobody heard of.
            self.floor = self.floor.granted();
        }
        self.peer = Some(Peer {
            role: advert.role,
            fit: advert.fit && !advert.resigned,
            serving: advert.serving && !advert.resigned,
            priority: advert.priority,
            interval: advert.interval,
            session: advert.session,
            epoch: advert.epoch,
            revision: advert.revision,
            sync: advert.sync,
            heard_at: now,
        });
        let leads = matches!(advert.role, Role::Active | Role::Asking) && !advert.resigned;
        if self.silence.is_some() && (leads || self.state == State::HandingOver) {
            self.silence = Some(now + self.patience());
            self.deferred = false;
        }
        if leads {
            self.active_heard = Some(now);
            if advert.role == Role::Active {
                self.serving_heard = Some(now);
            }
            if !self.state.holds_claim() {
                self.claim = self.claim.max(advert.epoch);
            }
        }
    }

    fn judge(
        &self,
        now: Duration,
        accepted: &Accepted,
        before: Option<Peer>,
        answered: Option<(u64, Duration)>,
    ) -> Option<Event> {
        let advert = &accepted.advert;
        let serves = advert.role == Role::Active && !advert.resigned;
        if self.rival_since.is_some() && self.state.may_speak() && !serves {
            return Some(Event::PeerServed);
        }
        if advert.resigned {
            return self.if_able(now, Event::PeerResigned);
        }
        match advert.role {
            Role::Active => Some(self.judge_active(advert)),
            Role::Asking if self.state != State::Asking => Some(Event::PeerAsks),
            Role::Asking if self.claim_of(advert) > self.own_claim() => Some(Event::PeerLeads),
            Role::Asking => self.if_it_answers(now, self.follows(), answered),
            Role::Init | Role::Standby => self.judge_mute(now, accepted, before, answered),
        }
    }

    fn judge_active(&self, advert: &Advert) -> Event {
        if self.state.holds_claim() && self.own_claim() > self.claim_of(advert) {
            Event::PeerTrails
        } else {
            Event::PeerLeads
        }
    }

    fn judge_mute(
        &self,
        now: Duration,
        accepted: &Accepted,
        before: Option<Peer>,
        answered: Option<(u64, Duration)>,
    ) -> Option<Event> {
        let advert = &accepted.advert;
        let led = before.is_some_and(|peer| matches!(peer.role, Role::Active | Role::Asking));
        match self.state {
            State::Asking if advert.epoch > self.claim => {
                self.if_it_answers(now, Event::PeerResigned, answered)
            }
            State::Asking => self.if_it_answers(now, self.follows(), answered),
            // The run that led is over; this one has never led.
            State::Init | State::Standby | State::TakingOver if accepted.restarted && led => {
                self.if_able(now, Event::PeerDead)
            }
            // It led and does no longer: its resignation was lost.
            State::Init | State::Standby if led => self.if_able(now, Event::PeerResigned),
            State::HandingOver | State::Released if accepted.restarted => Some(Event::PeerStarts),
            State::Active if advert.role == Role::Init => Some(Event::PeerStarts),
            State::Init
            | State::Standby
            | State::TakingOver
            | State::Active
            | State::HandingOver
            | State::Released
            | State::Stopped => Some(Event::PeerFollows),
        }
    }

    /// Notes that the partner may have served beside us; true when this node serves.
    pub(super) fn suspect_rival(&mut self, abilities: Abilities) -> bool {
        if self.state.holds_claim() {
            self.rival_since = [self.rival_since, abilities.rival_since]
                .into_iter()
                .flatten()
                .min();
        }
        self.rival_since.is_some() && self.state.may_speak()
    }

    /// The partner is mute and lets us go on: as before, or above what it may have sent.
    const fn follows(&self) -> Event {
        match self.rival_since {
            Some(_) => Event::PeerServed,
            None => Event::PeerFollows,
        }
    }

    /// Only an advert that was sent after our question was heard is an answer to it, and only
    /// while the lease that the question stands for would still hold.
    fn if_it_answers(
        &self,
        now: Duration,
        event: Event,
        answered: Option<(u64, Duration)>,
    ) -> Option<Event> {
        let (counter, sent_at) = answered?;
        let in_time = now < sent_at + crate::advert::lease_length(self.config.interval);
        (counter > self.ask_after && in_time).then_some(event)
    }

    fn if_able(&self, now: Duration, event: Event) -> Option<Event> {
        (self.state.holds_claim() || self.is_fit(now)).then_some(event)
    }

    fn claim_of(&self, advert: &Advert) -> Claim {
        (advert.epoch, advert.priority, self.config.member.other())
    }

    fn own_claim(&self) -> Claim {
        (self.claim, self.config.priority, self.config.member)
    }

    /// Nobody active was heard for the whole patience. If a better node is there and just as
    /// mute, it goes first, once.
    pub(super) fn silence_is_over(&mut self, now: Duration, abilities: Abilities) {
        let better = self
            .peer
            .filter(|_| self.peer_is_heard(now))
            .is_some_and(|peer| {
                let its = (peer.sync.in_sync, peer.priority, self.config.member.other());
                let ours = (abilities.hot, self.config.priority, self.config.member);
                peer.fit && matches!(peer.role, Role::Init | Role::Standby) && its > ours
            });
        if better && !self.deferred && !self.state.may_speak() {
            self.deferred = true;
            self.silence = Some(now + self.patience());
            return;
        }
        self.silence = Some(now + self.patience());
        self.fire_if_fit(now, Event::PeerSilent, abilities);
    }

    pub(super) fn fire_if_fit(&mut self, now: Duration, event: Event, abilities: Abilities) {
        if let Some(event) = self.if_able(now, event) {
            self.fire(now, event, abilities);
        }
    }

    /// A tracked condition changed.
    pub fn handle_condition(
        &mut self,
        now: Duration,
        condition: Condition,
        good: bool,
        abilities: Abilities,
    ) {
        self.enter(now);
        let was_fit = self.is_fit(now);
        self.track.set(now, condition, good);
        self.review(now, abilities);
        if was_fit != self.is_fit(now) && self.state != State::Stopped {
            // The partner must not count on us, or may again.
            self.advert(false);
        }
    }

    /// Looks at what changes with the rest of the node rather than with one input: fitness, and
    /// the preempt delay.
    pub(super) fn review(&mut self, now: Duration, abilities: Abilities) {
        let heard = self.peer.filter(|_| self.peer_is_heard(now));
        if !self.is_fit(now) {
            let better_there = heard.is_some_and(|peer| peer.fit && peer.role == Role::Standby);
            if (better_there && self.state.holds_claim()) || self.state == State::TakingOver {
                self.fire(now, Event::Unfit, abilities);
            }
        }
        let wanted = self.config.preempt.filter(|_| {
            self.state == State::Standby
                && abilities.hot
                && self.is_fit(now)
                && heard.is_some_and(|peer| {
                    peer.role == Role::Active && peer.priority < self.config.priority
                })
        });
        match (wanted, self.preempt) {
            (Some(delay), None) => self.preempt = Some(now + delay),
            (Some(_), Some(_)) | (None, None) => {}
            (None, Some(_)) => self.preempt = None,
        }
    }

    /// The sync connection is up and the partner on it has shown the pair secret.
    pub fn handle_sync_up(&mut self, now: Duration) {
        self.enter(now);
        self.evidence.connected();
    }

    /// The sync connection is gone: perhaps the process behind it too.
    pub fn handle_sync_closed(&mut self, now: Duration, abilities: Abilities) {
        self.enter(now);
        self.evidence.closed(now);
        if matches!(
            self.state,
            State::HandingOver | State::TakingOver | State::Released
        ) {
            self.fire(now, Event::HandoverOff, abilities);
        }
    }

    /// A datagram to the partner came back as port unreachable on this path.
    pub fn handle_path_refused(&mut self, now: Duration, path: PathId) {
        self.enter(now);
        if self.state != State::Stopped && !self.peer_dead {
            self.evidence.refused(now, path);
        }
    }

    /// The partner spoke a word of a planned switchover. `abilities.handover` says whether our
    /// side would lose nothing.
    pub fn handle_word(&mut self, now: Duration, word: Word, abilities: Abilities) {
        self.enter(now);
        let ready = abilities.hot && self.is_fit(now);
        let event = match word {
            Word::Request if abilities.handover => Event::SwitchoverWanted,
            Word::Request => {
                let token = self.token;
                self.outputs.push_back(Output::Say(Word::CallOff { token }));
                return;
            }
            Word::Offer { token } => {
                self.token = token;
                match ready {
                    true => Event::Offered,
                    false => Event::OfferedUnready,
                }
            }
            Word::Release { token } if token == self.token => Event::ReleasedToUs,
            Word::Release { token } => {
                self.outputs.push_back(Output::Say(Word::Decline { token }));
                return;
            }
            Word::Accept { token } if token == self.token => Event::Accepted,
            Word::Decline { token } | Word::CallOff { token } if token == self.token => {
                Event::HandoverOff
            }
            // Of an attempt that is over on our side already.
            Word::Accept { .. } | Word::Decline { .. } | Word::CallOff { .. } => return,
        };
        self.fire(now, event, abilities);
    }

    /// The operator wants a planned switchover; the caller has checked readiness or was told to
    /// force it.
    pub fn handle_switchover(&mut self, now: Duration, abilities: Abilities) {
        self.enter(now);
        self.fire(now, Event::SwitchoverWanted, abilities);
    }

    /// The partner said on the sync channel that nobody may claim an epoch up to `floor`.
    pub fn handle_floor(&mut self, now: Duration, floor: Epoch) {
        self.enter(now);
        self.floor = self.floor.max(floor);
    }

    /// The operator wants this node to leave at once, loss or not. False when there is nobody
    /// fit to leave to, or nothing to leave.
    pub fn handle_resign(&mut self, now: Duration, abilities: Abilities) -> bool {
        self.enter(now);
        let heard = self.peer.filter(|_| self.peer_is_heard(now));
        let can = self.state.holds_claim() && heard.is_some_and(|peer| peer.fit);
        if can {
            self.fire(now, Event::Unfit, abilities);
        }
        can && !self.state.holds_claim()
    }

    /// [`Change::Prepare`] is done: from here on the partner may send on what it does not seal.
    pub fn handle_prepared(&mut self, now: Duration) {
        self.enter(now);
        if self.state == State::TakingOver {
            let token = self.token;
            self.outputs.push_back(Output::Say(Word::Accept { token }));
        }
    }

    /// [`Change::Drain`] is done: all records are written.
    pub fn handle_drained(&mut self, now: Duration, abilities: Abilities) {
        self.enter(now);
        self.fire(now, Event::Drained, abilities);
    }

    /// [`Change::Release`] has left the addresses: the partner may take them.
    pub fn handle_left(&mut self, now: Duration) {
        self.enter(now);
        if self.state == State::Released {
            let token = self.token;
            self.outputs.push_back(Output::Say(Word::Release { token }));
        }
    }

    /// A vital step failed. Of becoming active: this node is not fit, and leaves if it can.
    pub fn handle_change_failed(&mut self, now: Duration, change: Change, abilities: Abilities) {
        match change {
            Change::Claim { .. } | Change::ClaimHanded | Change::Reclaim | Change::Resume => {
                self.handle_condition(now, Condition::Takeover, false, abilities);
                // Bad news counts at once; after the hold-down this node may try again.
                self.handle_condition(now, Condition::Takeover, true, abilities);
            }
            Change::Drain | Change::Release => {
                self.enter(now);
                self.fire(now, Event::HandoverOff, abilities);
            }
            Change::Prepare => {
                self.enter(now);
                if self.state == State::TakingOver {
                    self.fire(now, Event::OfferedUnready, abilities);
                }
            }
            Change::Mute | Change::Demote | Change::Unprepare | Change::CallOff | Change::Stop => {
                self.enter(now)
            }
        }
    }

    /// The daemon stops.
    pub fn handle_stop(&mut self, now: Duration) {
        self.enter(now);
        self.fire(now, Event::Stop, Abilities::default());
    }
}

impl State {
    /// True for the states whose claim counts, whether or not they may speak now.
    pub(super) const fn holds_claim(self) -> bool {
        match self {
            Self::Active | Self::Asking | Self::HandingOver => true,
            Self::Init | Self::Standby | Self::TakingOver | Self::Released | Self::Stopped => false,
        }
    }
}
