//! Carries a cell of the table out: state, timers, lease, history and outputs.

use core::time::Duration;

use super::{Abilities, Act, Change, Election, Event, Output, State, Transition, Word};
use crate::vocabulary::Epoch;

impl Election {
    /// Looks the event up and does what the cell says.
    pub(super) fn fire(&mut self, now: Duration, event: Event, abilities: Abilities) {
        let from = self.state;
        let cell = from.on(event);
        self.state = cell.next;
        if !cell.next.may_speak() {
            // Before anything else: I6.
            if let Some(until) = self.lease.ends_at() {
                self.lapsed_at = Some(until.min(now));
            }
            self.lease.close();
        }
        if matches!(cell.act, Act::Claim | Act::ClaimHanded | Act::Reclaim) {
            self.take_claim(from, event);
        }
        if from != cell.next {
            self.since = now;
            self.set_timers(now);
        }
        // A role taken anew is news, even where the state is the same.
        if from != cell.next || cell.act == Act::Reclaim {
            self.note(now, from, event);
        }
        self.act(now, cell.act, from, abilities);
    }

    fn take_claim(&mut self, from: State, event: Event) {
        let lapsed = self.lapsed_at.filter(|_| !from.may_speak());
        self.lapsed_at = [lapsed, self.rival_since.take()]
            .into_iter()
            .flatten()
            .min();
        self.rivalled = matches!(event, Event::PeerSilent | Event::AskUnanswered);
        self.floor = self.floor.max(self.claim).successor();
        self.claim = self.floor;
        self.claims_alone += 1;
    }

    fn note(&mut self, now: Duration, from: State, event: Event) {
        let transition = Transition {
            at: now,
            from,
            to: self.state,
            reason: event,
            condition: match event {
                Event::Unfit => self.track.last_failure(),
                _ => None,
            },
            epoch: self.claim,
            silence: self.active_heard.map(|heard| now.saturating_sub(heard)),
            serving_after: None,
        };
        self.history.note(transition.clone());
        self.outputs.push_back(Output::Moved(transition));
    }

    /// Which deadlines run in which state.
    fn set_timers(&mut self, now: Duration) {
        self.ask = None;
        self.deferred = false;
        let limit = now + self.config.handover_limit;
        let silence = now + self.patience();
        (self.silence, self.handover) = match self.state {
            State::Init | State::Standby => (Some(silence), None),
            State::TakingOver | State::HandingOver => (Some(silence), Some(limit)),
            State::Released => (None, Some(limit)),
            State::Active | State::Asking | State::Stopped => (None, None),
        };
    }

    fn act(&mut self, now: Duration, act: Act, from: State, abilities: Abilities) {
        let token = self.token;
        match act {
            Act::Stay => {}
            Act::Answer => self.advert(false),
            // It had made ready and has nothing else to leave.
            Act::Follow if from == State::TakingOver => {}
            Act::Follow => self.begin(Change::Demote),
            Act::Claim => {
                // A process that has claimed that often without meeting its partner has used
                // up what the partner would grant its next run: its SAs end here.
                let hot = abilities.hot && self.claims_alone < Epoch::GRANT;
                self.begin(Change::Claim { hot });
            }
            Act::ClaimHanded => self.begin(Change::ClaimHanded),
            Act::Reclaim => {
                if from == State::HandingOver {
                    self.say(Word::CallOff { token });
                }
                self.begin(match self.claims_alone < Epoch::GRANT {
                    true => Change::Reclaim,
                    false => Change::Claim { hot: false },
                });
            }
            Act::Resume => self.begin(Change::Resume),
            Act::Ask => {
                self.begin(Change::Mute);
                self.ask(now);
            }
            Act::Yield => self.begin(Change::Demote),
            Act::Resign => {
                self.outputs.push_back(Output::SendAdvert {
                    wants_answer: false,
                    resigned: true,
                });
                self.outputs.push_back(Output::Begin(Change::Demote));
            }
            Act::Leave => {}
            Act::Request => self.say(Word::Request),
            Act::Refuse => self
                .outputs
                .push_back(Output::SwitchoverRefused(self.state)),
            Act::Offer => {
                self.token = self.token.wrapping_add(1);
                let token = self.token;
                self.say(Word::Offer { token });
            }
            Act::Prepare => self.begin(Change::Prepare),
            Act::Decline => self.say(Word::Decline { token }),
            Act::CallOff => {
                self.say(Word::CallOff { token });
                if from == State::HandingOver {
                    self.begin(Change::CallOff);
                }
            }
            Act::Drain => self.begin(Change::Drain),
            Act::Release => self.begin(Change::Release),
        }
        if from == State::TakingOver && self.state == State::Standby {
            self.begin(Change::Unprepare);
        }
        if self.state == State::Stopped && from != State::Stopped {
            self.begin(Change::Stop);
        }
    }

    /// Every change of role is told at once, not at the next interval.
    fn begin(&mut self, change: Change) {
        match change {
            Change::Prepare | Change::Drain | Change::CallOff => {}
            Change::Claim { .. }
            | Change::ClaimHanded
            | Change::Reclaim
            | Change::Resume
            | Change::Mute
            | Change::Demote
            | Change::Unprepare
            | Change::Release
            | Change::Stop => self.advert(false),
        }
        self.outputs.push_back(Output::Begin(change));
    }

    fn say(&mut self, word: Word) {
        self.outputs.push_back(Output::Say(word));
    }
}
