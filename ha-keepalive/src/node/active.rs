//! The active half of a node: taking a claim over, writing records, ceilings and edges.

use core::time::Duration;

use super::promise::Promise;
use super::rival::Rival;
use super::{Change, Order, PairNode};
use crate::replication::{
    Ceiling, Commit, Edge, Following, Journal, Key, Kind, Record, Running, TooLarge,
};
use crate::vocabulary::Epoch;

/// Only the active node writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotActive {
    /// This node holds no claim.
    #[error("this node is not active")]
    Standby,
    /// The record cannot be replicated.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// Where an outbound SA goes on after an activation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Name of the SA.
    pub sa: Vec<u8>,
    /// The first sequence number to send. Above the end of the number space: the SA cannot be
    /// continued and must be replaced.
    pub first: u64,
    /// The last number it may send before an [`Order::Limit`] says otherwise; `u64::MAX` when
    /// its numbers run free.
    pub last: u64,
}

impl PairNode {
    /// A change of role begins: what this node keeps, and as what.
    pub(super) fn begin(&mut self, now: Duration, change: Change) {
        let change = self.resolve(change);
        match change {
            Change::Claim { hot: true } | Change::ClaimHanded => self.take_over(now, change),
            Change::Claim { hot: false } => self.start_cold(now),
            Change::Reclaim => self.reclaim(now),
            Change::Demote | Change::Stop => self.step_down(now),
            Change::Release
            | Change::Resume
            | Change::Mute
            | Change::Prepare
            | Change::Unprepare
            | Change::Drain
            | Change::CallOff => {}
        }
        self.begin_run(now, change);
    }

    /// A claim whose gate never opened is begun again where another one would go on.
    fn resolve(&mut self, change: Change) -> Change {
        let resolved = match (change, self.unfinished) {
            (Change::Resume, Some(unfinished)) => return unfinished,
            (Change::Reclaim, Some(Change::Claim { hot: false })) => Change::Claim { hot: false },
            (change, _) => change,
        };
        match resolved {
            Change::Claim { .. } | Change::ClaimHanded | Change::Reclaim => {
                self.unfinished = Some(resolved);
            }
            Change::Demote | Change::Stop => self.unfinished = None,
            Change::Resume
            | Change::Mute
            | Change::Prepare
            | Change::Unprepare
            | Change::Drain
            | Change::Release
            | Change::CallOff => {}
        }
        resolved
    }

    fn new_journal(&mut self, now: Duration, values: Vec<(Record, Duration)>) {
        let mut journal = Journal::new(self.epoch(), self.config.limits);
        journal.adopt(now, values);
        if self.sync_up && self.peer_session.is_some() {
            journal.standby_connected(now, Epoch::NONE, 0);
        }
        self.journal = Some(journal);
        self.hot_until = None;
        // Until the new stream is in place nobody can follow it.
        self.following = Following::Alone;
    }

    fn take_over(&mut self, now: Duration, change: Change) {
        let handed = change == Change::ClaimHanded;
        let values = match self.journal.take() {
            // Begun before, and its gate never opened: nothing was sent since.
            Some(journal) => journal.into_values(now),
            None => self.replica.take_values(now),
        };
        self.ledger.clear();
        self.starts.clear();
        for (record, _) in &values {
            let Some(left) = Ceiling::of(record) else {
                continue;
            };
            let used = if handed {
                left.used
            } else {
                left.ceiling.max(left.used)
            };
            let sa = record.key.name();
            self.ledger.inherit(now, sa, Ceiling { used, ..left });
            self.starts.push(Start {
                sa: sa.to_vec(),
                first: used.saturating_add(1),
                last: if handed { left.ceiling } else { u64::MAX },
            });
        }
        self.new_journal(now, values);
        let served = self.election.partner_served_at().unwrap_or(now);
        self.rival_left_behind(now, served);
        if handed {
            // The partner may still take the role back, above the ceilings it knows: they are
            // kept until it has heard that they do not count any more.
            self.ledger.hold();
            self.promise = Promise::Leaving {
                since: now,
                told: None,
            };
            self.rival = Rival::Follower { from: served };
        } else {
            self.break_promise();
        }
    }

    fn start_cold(&mut self, now: Duration) {
        let values = match self.journal.take() {
            Some(journal) => journal.into_values(now),
            None => self.replica.take_values(now),
        };
        let kept = values
            .into_iter()
            .filter(|(record, _)| matches!(record.key.kind(), Kind::Config | Kind::Connection))
            .collect();
        self.ledger.clear();
        self.edges.clear();
        self.starts.clear();
        self.break_promise();
        self.forget_rival();
        self.new_journal(now, kept);
    }

    fn reclaim(&mut self, now: Duration) {
        // Nobody else can have served before our lease was over.
        let since = self.election.lapsed_at().unwrap_or(now);
        let absence = now.saturating_sub(since) + self.unheard_of();
        self.starts = self
            .ledger
            .far_above(absence)
            .map(|(sa, first)| Start {
                sa: sa.to_vec(),
                first,
                last: u64::MAX,
            })
            .collect();
        for start in &self.starts {
            self.ledger.jump(&start.sa, start.first.saturating_sub(1));
        }
        self.break_promise();
        self.rival_left_behind(now, since);
        let values = match self.journal.take() {
            Some(mut journal) => {
                // A claim that is taken again while serving: nobody will acknowledge these.
                self.orders
                    .extend(journal.give_commits_up().map(|position| {
                        let commit = Commit::OutOfSync;
                        Order::Committed { position, commit }
                    }));
                journal.into_values(now)
            }
            None => Vec::new(),
        };
        self.new_journal(now, values);
    }

    /// What a jump must make good for besides the time that has passed: numbers that the data
    /// plane had not reported yet; and where the other one is known to be mute, so that this
    /// jump is the last, as much for each of its own jumps, and the network's delay.
    fn unheard_of(&self) -> Duration {
        const UNREPORTED: Duration = Duration::from_millis(20);
        const JUMPS: u32 = Epoch::GRANT as u32;
        match self.election.is_rivalled() {
            true => UNREPORTED,
            false => UNREPORTED * JUMPS + self.slower_interval() * 4,
        }
    }

    /// What was written here is the partner's business now.
    fn step_down(&mut self, now: Duration) {
        let Some(journal) = self.journal.take() else {
            return;
        };
        let written = journal.into_values(now).into_iter();
        // Where numbers ran free, what stands in the journal is long passed.
        let written = written.map(|(record, _)| {
            let standing = self.ledger.standing(record.key.name());
            let standing = standing.filter(|_| record.key.kind() == Kind::SequenceCeiling);
            let raised = standing.and_then(|standing| standing.record(record.key.name()).ok());
            raised.unwrap_or(record)
        });
        self.replica.begin_anew(written);
        self.forget_rival();
        self.ledger.clear();
        self.edges.clear();
        self.starts.clear();
        self.promise = Promise::Free;
        self.hot_until = None;
        self.following = Following::Alone;
        if self.sync_up {
            // Asks for a snapshot, also where the partner has sent one already and we did not
            // take it.
            self.say_hello();
        }
    }

    /// Where every outbound SA goes on: for [`crate::takeover::Step::ActivateSas`].
    #[must_use]
    pub fn starts(&self) -> &[Start] {
        &self.starts
    }

    /// The replicated values, on whichever side this node is, with the time since each was
    /// written.
    pub fn values(&self, now: Duration) -> Vec<(&Record, Duration)> {
        match &self.journal {
            Some(journal) => journal.values(now).collect(),
            None => self.replica.values(now).collect(),
        }
    }

    /// Writes a value and returns its log position.
    ///
    /// # Errors
    /// [`NotActive::Standby`] without a claim.
    pub fn put(&mut self, now: Duration, record: Record) -> Result<u64, NotActive> {
        let journal = self.journal.as_mut().ok_or(NotActive::Standby)?;
        let position = journal.put(now, record);
        self.settle(now);
        Ok(position)
    }

    /// Removes a value and returns the log position of the removal.
    ///
    /// # Errors
    /// [`NotActive::Standby`] without a claim.
    pub fn delete(&mut self, now: Duration, key: &Key) -> Result<u64, NotActive> {
        let journal = self.journal.as_mut().ok_or(NotActive::Standby)?;
        let position = journal.delete(now, key);
        self.settle(now);
        Ok(position)
    }

    /// Asks for [`Order::Committed`] once the standby has everything up to `position`, or the
    /// bounded wait is over.
    ///
    /// # Errors
    /// [`NotActive::Standby`] without a claim.
    pub fn commit(&mut self, now: Duration, position: u64) -> Result<(), NotActive> {
        let journal = self.journal.as_mut().ok_or(NotActive::Standby)?;
        journal.commit(now, position);
        self.settle(now);
        Ok(())
    }

    /// A new outbound SA: numbers used so far (0 for none), and the last of its number space.
    /// Write its [`Kind::EspSa`] record, call this, then [`PairNode::commit`] the position
    /// returned. An [`Order::Limit`] follows if its numbers are bound.
    ///
    /// # Errors
    /// [`NotActive`].
    pub fn add_outbound(
        &mut self,
        now: Duration,
        sa: &[u8],
        used: u64,
        last: u64,
    ) -> Result<u64, NotActive> {
        if self.journal.is_none() {
            return Err(NotActive::Standby);
        }
        let ceiling = self.ledger.add(now, sa, used, last);
        let position = self.put(now, ceiling.record(sa)?)?;
        if self.ledger.running() == Running::Binding {
            self.ledger.asked(sa, ceiling, position);
        }
        Ok(position)
    }

    /// An outbound SA is gone.
    ///
    /// # Errors
    /// [`NotActive`].
    pub fn remove_outbound(&mut self, now: Duration, sa: &[u8]) -> Result<u64, NotActive> {
        self.ledger.remove(sa);
        self.delete(now, &Key::new(Kind::SequenceCeiling, sa)?)
    }

    /// The data plane has sent numbers up to `used`. Tell it often: every few milliseconds.
    ///
    /// # Errors
    /// [`NotActive`].
    pub fn report_sequence(
        &mut self,
        now: Duration,
        sa: &[u8],
        used: u64,
    ) -> Result<(), NotActive> {
        if self.journal.is_none() {
            return Err(NotActive::Standby);
        }
        if let Some(ceiling) = self.ledger.report(now, sa, used) {
            self.write_ceiling(now, sa, ceiling)?;
        }
        self.settle(now);
        Ok(())
    }

    /// Part of [`crate::takeover::Step::WriteLastRecords`]: the exact last number sent.
    ///
    /// # Errors
    /// [`NotActive`].
    pub fn write_exact(&mut self, now: Duration, sa: &[u8], used: u64) -> Result<(), NotActive> {
        self.report_sequence(now, sa, used)?;
        let Some(standing) = self.ledger.standing(sa) else {
            return Ok(());
        };
        let exact = Ceiling { used, ..standing };
        self.put(now, exact.record(sa)?)?;
        Ok(())
    }

    fn write_ceiling(
        &mut self,
        now: Duration,
        sa: &[u8],
        ceiling: Ceiling,
    ) -> Result<(), NotActive> {
        let journal = self.journal.as_mut().ok_or(NotActive::Standby)?;
        let position = journal.put(now, ceiling.record(sa)?);
        self.ledger.asked(sa, ceiling, position);
        Ok(())
    }

    /// A standby follows: ceilings for all SAs.
    pub(super) fn ask_ceilings(&mut self, now: Duration) {
        for (sa, ceiling) in self.ledger.bind() {
            // The names were accepted when the SAs were added.
            let _ = self.write_ceiling(now, &sa, ceiling);
        }
    }

    /// The replay window of an inbound SA stands at `right`; `window` exports it if it is time
    /// to write it.
    ///
    /// # Errors
    /// [`NotActive`].
    pub fn report_edge(
        &mut self,
        now: Duration,
        sa: &[u8],
        right: u64,
        window: impl FnOnce() -> Vec<u8>,
    ) -> Result<(), NotActive> {
        if self.journal.is_none() {
            return Err(NotActive::Standby);
        }
        if self.edges.report(now, sa, right) {
            let window = window();
            let record = Edge { right, window }.record(sa)?;
            let position = self.put(now, record)?;
            self.edges.written(now, sa, right, position);
        }
        Ok(())
    }

    /// An inbound SA is gone.
    ///
    /// # Errors
    /// [`NotActive`].
    pub fn remove_inbound(&mut self, now: Duration, sa: &[u8]) -> Result<u64, NotActive> {
        self.edges.remove(sa);
        self.delete(now, &Key::new(Kind::ReplayEdge, sa)?)
    }

    pub(super) fn handle_ack(&mut self, now: Duration, stream: Epoch, position: u64) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        journal.acknowledged(now, stream, position);
        if stream == journal.positions().0 {
            self.ledger.acknowledged(position);
            self.edges.acknowledged(position);
        }
    }

    /// Gathers what the parts have to tell the daemon.
    pub(super) fn collect(&mut self, now: Duration) {
        for limit in self.ledger.poll_limits() {
            self.orders.push_back(Order::Limit(limit));
        }
        let Some(journal) = &mut self.journal else {
            return;
        };
        while let Some((position, commit)) = journal.poll_commit(now) {
            self.orders.push_back(Order::Committed { position, commit });
        }
        let following = journal.following(now);
        if following != self.following {
            self.following = following;
            self.orders.push_back(Order::Following(following));
        }
    }
}
