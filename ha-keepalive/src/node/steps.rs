//! A change of role, step by step.

use core::time::Duration;

use super::{Order, PairNode};
use crate::election::{Change, State};
use crate::replication::{Following, Journal};
use crate::takeover::{Run, Step, StepId};

/// How long a failed change of role waits before it is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl PairNode {
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

    pub(super) fn begin_run(&mut self, now: Duration, change: Change) {
        // A change that supersedes another goes on from wherever that one was: steps are
        // idempotent, and the one being performed is waited for.
        self.waiting.clear();
        self.retry = None;
        self.orders.extend(self.run.take().map(Order::Finished));
        self.run = Some(Run::new(change, now));
    }

    /// Starts the next step; true if something happened.
    pub(super) fn next_step(&mut self, now: Duration) -> bool {
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
        // A cold claim that is interrupted before this point leaves a node that serves without
        // an SA, and that nobody would ask for one.
        if step == Step::NegotiateAll {
            self.unfinished = None;
        }
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
                let cold = Change::Claim { hot: false };
                if self.election.is_serving(now) && self.unfinished != Some(cold) {
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
}
