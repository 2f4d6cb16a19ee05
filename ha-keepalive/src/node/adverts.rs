//! Adverts in and out.

use core::time::Duration;

use super::{Order, PairNode, Redial, promise};
use crate::advert::{Advert, Refusal, Role, SyncReport};
use crate::election::{Abilities, State};
use crate::vocabulary::PathId;

/// A slow advert interval must not slow the challenge of a new session down.
const LONGEST_GREETING_PAUSE: Duration = Duration::from_millis(50);
impl PairNode {
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
        Ok(())
    }

    /// Challenges a new session without waiting for the next interval, but not at any rate.
    pub(super) fn greet(&mut self, now: Duration) {
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

    pub(super) fn slower_interval(&self) -> Duration {
        let ours = self.config.election.interval.get();
        self.election
            .peer()
            .map_or(ours, |peer| peer.interval.get().max(ours))
    }

    pub(super) fn send_advert(&mut self, now: Duration, wants_answer: bool, resigned: bool) {
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

    /// The next advert, and the path it leaves on.
    pub fn poll_datagram(&mut self) -> Option<(PathId, Vec<u8>)> {
        self.datagrams.pop_front()
    }
}
