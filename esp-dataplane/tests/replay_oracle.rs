//! The replay window against the definition of one: a set of everything ever accepted.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use esp_dataplane::replay::{ReplayRefusal, ReplayWindow, ReplayWindowSize};
use esp_dataplane::sequence::SequenceWidth;
use proptest::prelude::*;

fn size(packets: u32) -> ReplayWindowSize {
    ReplayWindowSize::new(packets).unwrap()
}

/// RFC 4303 §3.4.3 in its simplest form.
struct Oracle {
    accepted: HashSet<u64>,
    edge: u64,
    size: u64,
    last: u64,
}

impl Oracle {
    fn new(size: u32, width: SequenceWidth) -> Self {
        Self {
            accepted: HashSet::new(),
            edge: 0,
            size: u64::from(size),
            last: width.last(),
        }
    }

    fn commit(&mut self, seq: u64) -> Result<(), ReplayRefusal> {
        if seq == 0 || seq > self.last {
            return Err(ReplayRefusal::Illegal);
        }
        if u128::from(seq) + u128::from(self.size) <= u128::from(self.edge) {
            return Err(ReplayRefusal::TooOld);
        }
        if !self.accepted.insert(seq) {
            return Err(ReplayRefusal::Replayed);
        }
        self.edge = self.edge.max(seq);
        Ok(())
    }
}

/// Where the next number lies, seen from the edge.
#[derive(Debug, Clone, Copy)]
enum Step {
    Back(u64),
    Ahead(u64),
    Anywhere(u64),
}

fn step(window: u32) -> impl Strategy<Value = Step> {
    let window = u64::from(window);
    prop_oneof![
        6 => (0..window * 2).prop_map(Step::Back),
        6 => (1..20_u64).prop_map(Step::Ahead),
        2 => (1..window * 9).prop_map(Step::Ahead),
        1 => (0..1_u64 << 40).prop_map(Step::Ahead),
        1 => any::<u64>().prop_map(Step::Anywhere),
    ]
}

fn walk(window_size: u32, width: SequenceWidth, start: u64, steps: &[Step]) {
    let window = ReplayWindow::new(size(window_size), width);
    let mut oracle = Oracle::new(window_size, width);
    for (i, step) in std::iter::once(&Step::Anywhere(start))
        .chain(steps)
        .enumerate()
    {
        let seq = match step {
            Step::Back(n) => oracle.edge.saturating_sub(*n),
            Step::Ahead(n) => oracle.edge.saturating_add(*n),
            Step::Anywhere(seq) => *seq,
        };
        let want = oracle.commit(seq);
        let early = match width {
            SequenceWidth::Bits32 => u32::try_from(seq)
                .ok()
                .map(|low| window.check_before_auth(low)),
            SequenceWidth::Bits64 => None,
        };
        if let Some(early) = early {
            assert_eq!(early.map(|_| ()), want, "early, step {i}: {seq}");
        }
        let got = window.commit_after_auth(seq).map(|_| ());
        assert_eq!(got, want, "step {i}: {seq}, edge {}", oracle.edge);
        assert_eq!(window.edge(), oracle.edge);
    }
}

proptest! {
    #[test]
    fn agrees_with_a_set_of_everything_accepted(
        (window, steps) in prop::sample::select(vec![64_u32, 100, 128, 1000, 1024, 4095, 4096])
            .prop_flat_map(|w| (Just(w), prop::collection::vec(step(w), 1..400))),
        start in prop_oneof![Just(1_u64), any::<u64>(), (u64::MAX - 5000..u64::MAX - 1)],
        esn: bool,
    ) {
        let width = SequenceWidth::from_esn(esn);
        walk(window, width, start.min(width.last()), &steps);
    }

    /// A train is accepted as if its numbers came one by one.
    #[test]
    fn a_train_is_accepted_like_its_numbers_one_by_one(
        trains in prop::collection::vec(prop::collection::vec(0..400_u64, 1..80), 1..12),
        stride in 0..300_u64,
        window in prop::sample::select(vec![64_u32, 100, 1024]),
    ) {
        let replay = ReplayWindow::new(size(window), SequenceWidth::Bits32);
        let mut oracle = Oracle::new(window, SequenceWidth::Bits32);
        for (i, train) in trains.iter().enumerate() {
            // Neighbours mostly, duplicates often, and one entry that was refused before.
            let numbers = train.iter().map(|n| n + i as u64 * stride);
            let mut batch: Vec<Result<u64, ReplayRefusal>> = numbers.clone().map(Ok).collect();
            batch.insert(batch.len() / 2, Err(ReplayRefusal::Illegal));
            let edge_before = oracle.edge;
            let mut want: Vec<_> = numbers.map(|n| oracle.commit(n).map(|()| n)).collect();
            want.insert(want.len() / 2, Err(ReplayRefusal::Illegal));
            let moved = replay.commit_train_after_auth(&mut batch);
            prop_assert_eq!(batch, want);
            prop_assert_eq!(moved, (oracle.edge > edge_before).then_some(oracle.edge));
            prop_assert_eq!(replay.edge(), oracle.edge);
        }
    }

    /// A sender's 64-bit number is recovered from its low half whenever the receiver's edge is
    /// near enough, across every border of 2^32 (RFC 4303 App. A2).
    #[test]
    fn the_high_half_is_inferred(
        edge in prop_oneof![1..1_u64 << 34, (0..1_u64 << 10).prop_map(|d| (3_u64 << 32) - 512 + d)],
        window in prop::sample::select(vec![64_u32, 1024, 4096]),
        back in 0..4096_u64,
        ahead in prop_oneof![1..(1_u64 << 32) - 4096, Just(u64::MAX)],
    ) {
        let replay = ReplayWindow::new(size(window), SequenceWidth::Bits64);
        replay.commit_after_auth(edge).unwrap();
        // The farthest number that is still ahead: one further would be the window's left end.
        let later = edge + ahead.min((1 << 32) - u64::from(window));
        prop_assert_eq!(replay.check_before_auth(later as u32), Ok(later));
        let back = back % u64::from(window);
        if back > 0 && back < edge {
            let earlier = edge - back;
            prop_assert_eq!(replay.check_before_auth(earlier as u32), Ok(earlier));
        }
    }

    #[test]
    fn i3_an_imported_window_refuses_what_the_other_accepted(
        numbers in prop::collection::vec(1..6000_u64, 1..500),
        own in prop::collection::vec(1..6000_u64, 0..50),
        window in prop::sample::select(vec![64_u32, 1024, 4096]),
    ) {
        let active = ReplayWindow::new(size(window), SequenceWidth::Bits64);
        for seq in &numbers {
            let _ = active.commit_after_auth(*seq);
        }
        let standby = ReplayWindow::new(size(window), SequenceWidth::Bits64);
        for seq in &own {
            let _ = standby.commit_after_auth(*seq);
        }
        let own_edge = standby.edge();
        standby.import(&active.export());
        prop_assert_eq!(standby.edge(), own_edge.max(active.edge()));
        for seq in numbers.iter().chain(&own) {
            prop_assert!(standby.commit_after_auth(*seq).is_err(), "{} again", seq);
        }
        // What neither has seen is still welcome inside the window.
        let edge = standby.edge();
        for seq in (edge + 1).saturating_sub(u64::from(window)).max(1)..edge {
            let seen = numbers.contains(&seq) || own.contains(&seq);
            let beyond_state = seq + u64::from(window) <= active.edge();
            prop_assert_eq!(
                standby.check_before_auth(seq as u32).is_err(),
                seen || beyond_state
            );
        }
    }
}

#[test]
fn i3_an_older_state_never_moves_the_window_back() {
    let window = ReplayWindow::new(size(64), SequenceWidth::Bits32);
    window.commit_after_auth(10).unwrap();
    let old = window.export();
    for seq in 100..200 {
        window.commit_after_auth(seq).unwrap();
    }
    window.import(&old);
    assert_eq!(window.edge(), 199);
    assert_eq!(window.commit_after_auth(150), Err(ReplayRefusal::Replayed));
    assert_eq!(window.commit_after_auth(10), Err(ReplayRefusal::TooOld));
}

/// A state from a gateway with a smaller window says nothing about older numbers.
#[test]
fn i3_what_a_smaller_window_does_not_know_counts_as_seen() {
    let small = ReplayWindow::new(size(64), SequenceWidth::Bits32);
    for seq in 1..=500 {
        small.commit_after_auth(seq).unwrap();
    }
    let large = ReplayWindow::new(size(1024), SequenceWidth::Bits32);
    large.import(&small.export());
    for seq in 1..=500 {
        assert!(large.check_before_auth(seq).is_err(), "{seq}");
    }
}

#[test]
fn zero_and_the_end_of_the_number_space() {
    let window = ReplayWindow::new(size(64), SequenceWidth::Bits32);
    assert_eq!(window.check_before_auth(0), Err(ReplayRefusal::Illegal));
    assert_eq!(window.check_before_auth(u32::MAX), Ok(u64::from(u32::MAX)));
    window.commit_after_auth(u64::from(u32::MAX)).unwrap();
    assert_eq!(
        window.commit_after_auth(u64::from(u32::MAX) + 1),
        Err(ReplayRefusal::Illegal)
    );
    let esn = ReplayWindow::new(size(64), SequenceWidth::Bits64);
    // Before the first packet there is no subspace below.
    assert_eq!(esn.check_before_auth(u32::MAX), Err(ReplayRefusal::Illegal));
    let mut last: [Result<u64, ReplayRefusal>; 3] = [u64::MAX - 2, u64::MAX - 1, u64::MAX].map(Ok);
    assert_eq!(
        esn.commit_train_after_auth(&mut last),
        Some(u64::MAX - 1),
        "the edge stops at the last number"
    );
    assert_eq!(last[1..], [Ok(u64::MAX - 1), Err(ReplayRefusal::Illegal)]);
    // The next number would need a 65th bit.
    assert_eq!(esn.check_before_auth(5), Err(ReplayRefusal::Illegal));
}

/// Numbers that share a word of the ring in different rounds do not join in one operation.
#[test]
fn a_train_that_jumps_by_whole_rounds_of_the_ring() {
    let window = ReplayWindow::new(size(64), SequenceWidth::Bits32);
    let mut train: Vec<Result<u64, ReplayRefusal>> = [5, 5 + 512, 6 + 1024, 6].map(Ok).to_vec();
    window.commit_train_after_auth(&mut train);
    assert_eq!(
        train,
        [Ok(5), Ok(517), Ok(1030), Err(ReplayRefusal::TooOld)]
    );
    for seq in [517, 1030] {
        assert!(window.commit_after_auth(seq).is_err());
    }
    assert!(window.commit_after_auth(1029).is_ok());
}

#[test]
fn checking_changes_nothing() {
    let window = ReplayWindow::new(size(64), SequenceWidth::Bits32);
    for seq in 1..=2000 {
        let _ = window.check_before_auth(seq);
    }
    assert_eq!(window.edge(), 0);
    assert_eq!(window.commit_after_auth(1).map(|a| a.moved_edge), Ok(true));
}

/// Several workers get the same packets in different orders; together they accept each once.
#[test]
fn workers_accept_each_number_once() {
    const WORKERS: u64 = 4;
    const NUMBERS: u64 = 60_000;
    let window = Arc::new(ReplayWindow::new(size(4096), SequenceWidth::Bits64));
    let accepted: Arc<Vec<AtomicU64>> =
        Arc::new((0..=NUMBERS).map(|_| AtomicU64::new(0)).collect());
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (window, accepted) = (Arc::clone(&window), Arc::clone(&accepted));
            thread::spawn(move || {
                for block in 0..NUMBERS / 100 {
                    for i in 0..100 {
                        // Each worker walks each hundred in its own order.
                        let seq = block * 100 + (i * (2 * worker + 1) + worker) % 100 + 1;
                        if window.commit_after_auth(seq).is_ok() {
                            accepted[seq as usize].fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    for (seq, count) in accepted.iter().enumerate() {
        assert!(count.load(Ordering::Relaxed) <= 1, "{seq} accepted twice");
    }
    assert_eq!(window.edge(), NUMBERS);
}
