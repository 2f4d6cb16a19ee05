//! The sync channel: who is at its other end, and what the messages mean here.

use core::time::Duration;

use super::{Order, PairNode, Redial};
use crate::election::Word;
use crate::replication::{Following, Hello, Journal, Key, Message, Record, Unacceptable};

impl PairNode {
    /// The sync channel is open: both ends have shown the pair secret.
    pub fn handle_sync_up(&mut self, now: Duration) {
        self.sync_up = true;
        self.said.clear();
        self.election.handle_sync_up(now);
        self.say_hello();
        self.settle(now);
    }

    pub(super) fn say_hello(&mut self) {
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

    pub(super) fn flush_replica(&mut self) {
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
}
