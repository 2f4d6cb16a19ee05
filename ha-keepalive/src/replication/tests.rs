use core::time::Duration;

use ipsec_types::SecretBytes;
use proptest::prelude::*;

use super::*;
use crate::election::Word;
use crate::vocabulary::{Epoch, Member, Revision, SessionId};

const MS: Duration = Duration::from_millis(1);

fn key(name: &str) -> Key {
    Key::new(Kind::IkeSa, name).unwrap()
}

fn record(name: &str, body: &[u8]) -> Record {
    Record::new(key(name), 1, SecretBytes::from(body)).unwrap()
}

fn one(_: Kind) -> u16 {
    1
}

/// A journal and a replica with a perfect connection between them.
struct Pair {
    journal: Journal,
    replica: Replica,
    now: Duration,
}

impl Pair {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self {
            journal: Journal::new(Epoch(1), limits),
            replica: Replica::new(Supported::new(one)),
            now: Duration::ZERO,
        }
    }

    fn connect(&mut self) {
        let (stream, position) = self.replica.position();
        self.journal.standby_connected(self.now, stream, position);
    }

    fn disconnect(&mut self) {
        self.journal.standby_gone(self.now);
        self.replica.disconnected();
    }

    /// Sends at most `count` messages; true if there were fewer.
    fn send(&mut self, count: usize) -> bool {
        for _ in 0..count {
            let Some(message) = self.journal.poll_message(self.now) else {
                return true;
            };
            let wire = message.encode();
            let message = Message::decode(wire.expose()).unwrap();
            self.replica.handle(self.now, message);
        }
        false
    }

    fn answer(&mut self) {
        while self.replica.poll_change().is_some() {}
        while let Some(message) = self.replica.poll_message() {
            match message {
                Message::Ack { stream, position } => {
                    self.journal.acknowledged(self.now, stream, position);
                }
                Message::Resync => self.journal.begin_snapshot(self.now),
                Message::Refuse { .. } => self.journal.refused(self.now),
                other => panic!("a standby does not say {other:?}"),
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            let done = self.send(usize::MAX);
            self.answer();
            let in_sync = self.journal.following(self.now) == Following::InSync;
            if done && in_sync && self.journal.lag(self.now).records == 0 {
                return;
            }
        }
        panic!("never settles");
    }

    fn assert_same(&self) {
        let at = self.now;
        let theirs: Vec<_> = self.journal.values(at).map(|(record, _)| record).collect();
        let ours: Vec<_> = self.replica.values(at).map(|(record, _)| record).collect();
        assert_eq!(ours, theirs);
    }
}

#[test]
fn a_snapshot_then_deltas() {
    let mut pair = Pair::new();
    pair.journal.put(pair.now, record("a", b"1"));
    pair.journal.put(pair.now, record("b", b"2"));
    pair.connect();
    assert_eq!(pair.journal.following(pair.now), Following::Snapshot);
    pair.settle();
    assert_eq!(pair.journal.following(pair.now), Following::InSync);
    pair.journal.put(pair.now, record("a", b"3"));
    pair.journal.delete(pair.now, &key("b"));
    pair.settle();
    pair.assert_same();
    assert_eq!(pair.replica.value(&key("a")), Some(&record("a", b"3")));
    assert_eq!(pair.replica.value(&key("b")), None);
    assert_eq!(pair.journal.snapshots(), 1);
}

#[test]
fn an_empty_snapshot_is_a_snapshot() {
    let mut pair = Pair::new();
    pair.connect();
    pair.settle();
    assert!(pair.replica.is_complete());
    assert_eq!(pair.journal.following(pair.now), Following::InSync);
}

#[test]
fn changes_during_a_snapshot_are_not_lost() {
    let mut pair = Pair::new();
    for name in ["a", "b", "c", "d"] {
        pair.journal.put(pair.now, record(name, b"old"));
    }
    pair.connect();
    pair.send(3);
    pair.journal.put(pair.now, record("a", b"new"));
    pair.journal.put(pair.now, record("d", b"new"));
    pair.journal.delete(pair.now, &key("c"));
    pair.settle();
    pair.assert_same();
}

#[test]
fn a_broken_snapshot_leaves_the_replica_before_it() {
    let mut pair = Pair::new();
    pair.journal.put(pair.now, record("a", b"1"));
    pair.connect();
    pair.settle();
    pair.journal.begin_snapshot(pair.now);
    pair.send(1);
    pair.disconnect();
    assert_eq!(pair.replica.value(&key("a")), Some(&record("a", b"1")));
}

#[test]
fn a_reconnect_resumes_without_a_snapshot() {
    let mut pair = Pair::new();
    for name in ["a", "b", "c"] {
        pair.journal.put(pair.now, record(name, b"1"));
    }
    pair.connect();
    pair.settle();
    pair.disconnect();
    pair.journal.put(pair.now, record("b", b"2"));
    pair.journal.delete(pair.now, &key("c"));
    pair.connect();
    pair.settle();
    pair.assert_same();
    assert_eq!(pair.journal.snapshots(), 1);
}

#[test]
fn another_stream_is_never_resumed() {
    let mut pair = Pair::new();
    pair.connect();
    pair.settle();
    pair.journal = Journal::new(Epoch(2), Limits::default());
    pair.journal.put(pair.now, record("z", b"1"));
    pair.connect();
    pair.settle();
    pair.assert_same();
    assert_eq!(pair.replica.position().0, Epoch(2));
}

#[test]
fn a_gap_heals_by_a_snapshot() {
    let mut pair = Pair::new();
    pair.journal.put(pair.now, record("a", b"1"));
    pair.connect();
    pair.settle();
    pair.journal.put(pair.now, record("a", b"2"));
    let lost = pair.journal.poll_message(pair.now);
    assert!(lost.is_some());
    pair.journal.put(pair.now, record("b", b"2"));
    pair.settle();
    pair.assert_same();
    assert_eq!(pair.replica.counters().gaps, 1);
    assert_eq!(pair.journal.snapshots(), 2);
}

#[test]
fn a_stalled_standby_costs_one_entry_a_key_and_no_waiting() {
    let mut pair = Pair::new();
    pair.journal.put(pair.now, record("a", b"0"));
    pair.connect();
    pair.send(1);
    for round in 0..100_000u32 {
        pair.journal
            .put(pair.now, record("a", &round.to_be_bytes()));
        pair.journal
            .put(pair.now, record("b", &round.to_be_bytes()));
    }
    assert!(pair.journal.lag(pair.now).records <= 2);
    assert_eq!(pair.journal.following(pair.now), Following::Snapshot);
    pair.now += Duration::from_secs(6);
    assert!(pair.journal.is_stalled(pair.now));
    pair.settle();
    pair.assert_same();
}

#[test]
fn more_deletions_than_remembered_force_a_snapshot() {
    let mut pair = Pair::with(Limits {
        max_tombstones: 4,
        ..Limits::default()
    });
    let names: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    for name in &names {
        pair.journal.put(pair.now, record(name, b"x"));
    }
    pair.connect();
    pair.settle();
    for name in &names {
        pair.journal.delete(pair.now, &key(name));
    }
    assert_eq!(pair.journal.snapshots(), 2);
    pair.settle();
    pair.assert_same();
    // And while nobody is connected: the position before the loss cannot be resumed.
    for name in &names {
        pair.journal.put(pair.now, record(name, b"y"));
    }
    pair.settle();
    pair.disconnect();
    for name in &names {
        pair.journal.delete(pair.now, &key(name));
    }
    pair.connect();
    pair.settle();
    pair.assert_same();
}

#[test]
fn a_commit_point_is_acknowledged_or_bounded() {
    let mut pair = Pair::new();
    let position = pair.journal.put(pair.now, record("a", b"1"));
    pair.journal.commit(pair.now, position);
    assert_eq!(
        pair.journal.poll_commit(pair.now),
        Some((position, Commit::OutOfSync))
    );
    pair.connect();
    pair.settle();

    let position = pair.journal.put(pair.now, record("a", b"2"));
    pair.journal.commit(pair.now, position);
    assert_eq!(pair.journal.poll_commit(pair.now), None);
    pair.settle();
    assert_eq!(
        pair.journal.poll_commit(pair.now),
        Some((position, Commit::Acknowledged))
    );

    let position = pair.journal.put(pair.now, record("a", b"3"));
    pair.journal.commit(pair.now, position);
    assert_eq!(pair.journal.poll_timeout(), Some(50 * MS));
    pair.now += 50 * MS;
    assert_eq!(
        pair.journal.poll_commit(pair.now),
        Some((position, Commit::TimedOut))
    );
    assert_eq!(pair.journal.following(pair.now), Following::Behind);
    pair.settle();
    assert_eq!(pair.journal.following(pair.now), Following::InSync);
}

#[test]
fn silence_of_the_standby_is_noticed() {
    let mut pair = Pair::new();
    pair.connect();
    pair.settle();
    pair.journal.put(pair.now, record("a", b"1"));
    pair.send(10);
    let due = pair.journal.poll_timeout().unwrap();
    assert_eq!(pair.journal.following(due), Following::Behind);
    assert_eq!(pair.journal.following(due - 2 * MS), Following::InSync);
}

#[test]
fn an_unknown_version_is_refused_with_a_reason() {
    let mut pair = Pair::new();
    let newer = Record {
        version: 2,
        ..record("a", b"1")
    };
    pair.journal.put(pair.now, newer);
    pair.connect();
    pair.send(2);
    let refusal = pair.replica.poll_message();
    let Some(Message::Refuse { key: which, reason }) = refusal else {
        panic!("no refusal: {refusal:?}");
    };
    assert_eq!(which, key("a"));
    assert_eq!(reason, "version 2 of IkeSa records is not known here");
    pair.journal.refused(pair.now);
    assert_eq!(pair.journal.following(pair.now), Following::Refused);
    assert!(!pair.replica.is_complete());
}

#[test]
fn i2_a_ceiling_never_comes_down_at_the_standby() {
    let mut pair = Pair::new();
    let high = Ceiling {
        ceiling: 1000,
        used: 10,
        last: u64::from(u32::MAX),
    };
    let low = Ceiling {
        ceiling: 900,
        used: 20,
        ..high
    };
    pair.journal.put(pair.now, high.record(b"sa").unwrap());
    pair.connect();
    pair.settle();
    pair.journal.put(pair.now, low.record(b"sa").unwrap());
    pair.settle();
    let key = Key::new(Kind::SequenceCeiling, *b"sa").unwrap();
    // What was really sent is where a planned switchover goes on: it comes through.
    let held = Ceiling { used: 20, ..high };
    assert_eq!(Ceiling::of(pair.replica.value(&key).unwrap()), Some(held));
    assert_eq!(pair.replica.counters().ceilings_back, 1);
}

#[test]
fn i3_a_replay_edge_never_moves_back_at_the_standby() {
    let mut pair = Pair::new();
    let edge = |right| Edge {
        right,
        window: vec![1, 2, 3],
    };
    pair.journal.put(pair.now, edge(500).record(b"sa").unwrap());
    pair.connect();
    pair.settle();
    pair.journal.put(pair.now, edge(499).record(b"sa").unwrap());
    pair.settle();
    pair.journal.begin_snapshot(pair.now);
    pair.settle();
    let key = Key::new(Kind::ReplayEdge, *b"sa").unwrap();
    let held = pair.replica.value(&key).unwrap();
    assert_eq!(Edge::of(held), Some(edge(500)));
    assert_eq!(pair.replica.counters().edges_back, 2);
}

#[test]
fn i3_the_exposure_is_what_one_interval_lets_through() {
    let mut edges = Edges::new(20 * MS);
    let mut position = 0;
    for ms in 0..1000u64 {
        let now = Duration::from_millis(ms);
        let right = ms * 10;
        if edges.report(now, b"sa", right) {
            position += 1;
            edges.written(now, b"sa", right, position);
            edges.acknowledged(position);
        }
    }
    let (_, most) = edges.exposure();
    assert_eq!(most, 200, "10 packets a ms, 20 ms");
}

#[test]
fn ceilings_are_raised_long_before_they_are_reached() {
    let mut ledger = Ledger::new(Duration::from_millis(250));
    let first = ledger.add(Duration::ZERO, b"sa", 0, u64::from(u32::MAX));
    ledger.hold();
    let mut limit = first.ceiling;
    let mut position = 0;
    let mut due = None;
    let mut used = 0;
    for ms in 0..2000u64 {
        let now = Duration::from_millis(ms);
        // The rate goes from nothing to 150 packets a ms at once.
        used += if ms < 500 { 0 } else { 150 };
        assert!(used < limit, "a packet would have waited at {ms} ms");
        if let Some(ceiling) = ledger.report(now, b"sa", used) {
            position += 1;
            ledger.asked(b"sa", ceiling, position);
            due = Some(ms + 40);
        }
        if due.is_some_and(|due| ms >= due) {
            due = None;
            ledger.acknowledged(position);
            limit = ledger.poll_limits().pop().unwrap().last;
        }
    }
    assert!(position > 1);
}

#[test]
fn binding_is_complete_when_every_ceiling_is_acknowledged() {
    let mut ledger = Ledger::new(Duration::from_millis(250));
    ledger.add(Duration::ZERO, b"a", 0, u64::from(u32::MAX));
    ledger.add(Duration::ZERO, b"b", 77, u64::from(u32::MAX));
    assert_eq!(ledger.running(), Running::Free);
    ledger.poll_limits();
    for (position, (name, ceiling)) in (1..).zip(ledger.bind()) {
        ledger.asked(&name, ceiling, position);
    }
    ledger.acknowledged(1);
    assert_eq!(ledger.running(), Running::Binding);
    assert!(ledger.poll_limits().is_empty(), "still free");
    ledger.acknowledged(2);
    assert_eq!(ledger.running(), Running::Bound);
    assert_eq!(ledger.poll_limits().len(), 2);
    ledger.free();
    assert!(
        ledger
            .poll_limits()
            .iter()
            .all(|limit| limit.last == u64::MAX)
    );
}

#[test]
fn keys_print_names_and_never_values() {
    assert_eq!(format!("{:?}", key("azure-weu")), "IkeSa:azure-weu");
    let hidden = format!("{:?}", record("a", b"hunter2"));
    assert!(hidden.contains("redacted") && !hidden.contains("hunter2"));
}

fn any_key() -> impl Strategy<Value = Key> {
    let name = proptest::collection::vec(any::<u8>(), 0..40);
    (0..Kind::ALL.len(), name).prop_map(|(kind, name)| Key::new(Kind::ALL[kind], name).unwrap())
}

fn any_record() -> impl Strategy<Value = Record> {
    let body = proptest::collection::vec(any::<u8>(), 0..200);
    (any_key(), any::<u16>(), body)
        .prop_map(|(key, version, body)| Record::new(key, version, SecretBytes::new(body)).unwrap())
}

fn any_message() -> impl Strategy<Value = Message> {
    let n = any::<u64>;
    let micros = 0..u64::MAX / 2;
    prop_oneof![
        (any::<bool>(), 1..=u64::MAX, n(), n(), n(), n()).prop_map(
            |(b, session, floor, revision, stream, position)| Message::Hello(Hello {
                member: if b { Member::B } else { Member::A },
                session: SessionId::from_wire(session).unwrap(),
                floor: Epoch(floor),
                revision: Revision(revision),
                stream: Epoch(stream),
                position,
            })
        ),
        n().prop_map(|stream| Message::SnapshotBegin {
            stream: Epoch(stream)
        }),
        (n(), n()).prop_map(|(index, position)| Message::SnapshotEnd { index, position }),
        n().prop_map(|stream| Message::Resume {
            stream: Epoch(stream)
        }),
        (n(), n(), any_record(), micros).prop_map(|(index, position, record, age)| {
            Message::Delta {
                index,
                position,
                change: Change::Put {
                    record,
                    age: Duration::from_micros(age),
                },
            }
        }),
        (n(), n(), any_key()).prop_map(|(index, position, key)| Message::Delta {
            index,
            position,
            change: Change::Delete(key)
        }),
        (n(), n()).prop_map(|(stream, position)| Message::Ack {
            stream: Epoch(stream),
            position
        }),
        Just(Message::Resync),
        (any_key(), ".{0,50}").prop_map(|(key, reason)| Message::Refuse { key, reason }),
        any_record().prop_map(Message::Propose),
        Just(Message::Word(Word::Request)),
        (0..5u8, any::<u32>()).prop_map(|(which, token)| Message::Word(match which {
            0 => Word::Offer { token },
            1 => Word::Accept { token },
            2 => Word::Release { token },
            3 => Word::Decline { token },
            _ => Word::CallOff { token },
        })),
    ]
}

proptest! {
    #[test]
    fn encode_then_decode_is_the_identity(message in any_message()) {
        let bytes = message.encode();
        prop_assert_eq!(Message::decode(bytes.expose()), Ok(message));
    }

    #[test]
    fn decode_then_encode_is_the_identity(noise in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(message) = Message::decode(&noise) {
            let bytes = message.encode();
            // A reason that is not UTF-8 is the one thing that is not kept as it was.
            if !matches!(message, Message::Refuse { .. }) {
                prop_assert_eq!(bytes.expose(), &noise[..]);
            }
        }
    }

    #[test]
    fn a_truncated_message_is_refused(message in any_message(), cut in any::<proptest::sample::Index>()) {
        let bytes = message.encode();
        let cut = cut.index(bytes.len());
        prop_assert!(Message::decode(&bytes.expose()[..cut]).is_err());
    }

    /// Whatever is written, deleted, cut off and resumed: once it settles, both sides agree.
    #[test]
    fn the_replica_converges(actions in proptest::collection::vec((0..6u8, 0..5u8, 0..4usize), 1..60)) {
        let mut pair = Pair::with(Limits { max_tombstones: 3, window: 4, ..Limits::default() });
        let mut connected = false;
        for (index, (action, name, count)) in actions.into_iter().enumerate() {
            pair.now += MS;
            let name = name.to_string();
            match action {
                0 | 1 => {
                    pair.journal.put(pair.now, record(&name, &index.to_be_bytes()));
                }
                2 => {
                    pair.journal.delete(pair.now, &key(&name));
                }
                3 if connected => {
                    pair.disconnect();
                    connected = false;
                }
                3 => {
                    pair.connect();
                    connected = true;
                }
                4 => {
                    pair.send(count);
                }
                _ => pair.answer(),
            }
        }
        if connected {
            pair.disconnect();
        }
        pair.connect();
        pair.settle();
        pair.assert_same();
        prop_assert_eq!(pair.journal.following(pair.now), Following::InSync);
    }
}
