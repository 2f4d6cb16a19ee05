//! Every interleaving of the lock-free parts: two workers on one replay window, one sequence
//! range, one IV partition, one backlog of received bursts.
//!
//! The files under test are included a second time, with loom's atomics in the place of the
//! real ones; nothing else differs.

/// Loom's atomics under the names that the included files ask for.
mod sync {
    pub(crate) use loom::sync::Mutex;
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}

#[path = "../src/worker/backlog.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "only a part of the file is used here"
)]
mod backlog;
#[path = "../src/iv.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "only a part of the file is used here"
)]
mod iv;
#[path = "../src/replay.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "only a part of the file is used here"
)]
mod replay;
#[path = "../src/sequence.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "only a part of the file is used here"
)]
mod sequence;

#[path = "../src/turn.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "only a part of the file is used here"
)]
mod turn;

use loom::sync::{Arc, Mutex};
use loom::thread;

use backlog::Backlog;
use iv::{Epoch, IvPartition, Member};
use replay::ReplayWindow;
use sequence::{SequenceRange, SequenceWidth};

/// Tries every order of two threads' steps, up to three switches that no operation forces.
fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn window(packets: u32) -> Arc<ReplayWindow> {
    Arc::new(ReplayWindow::with_packets(packets, SequenceWidth::Bits64))
}

#[test]
fn the_same_number_is_accepted_once() {
    explore(|| {
        let window = window(8);
        let other = Arc::clone(&window);
        let there = thread::spawn(move || other.commit_after_auth(5).is_ok());
        let here = window.commit_after_auth(5).is_ok();
        assert!(here ^ there.join().unwrap());
        assert_eq!(window.edge(), 5);
    });
}

#[test]
fn neighbours_in_one_word_are_both_accepted() {
    explore(|| {
        let window = window(8);
        let other = Arc::clone(&window);
        let there = thread::spawn(move || other.commit_after_auth(9).is_ok());
        assert!(window.commit_after_auth(10).is_ok());
        assert!(there.join().unwrap());
        assert!(window.commit_after_auth(9).is_err());
        assert!(window.commit_after_auth(10).is_err());
    });
}

/// 3 and 3 + 512 share a word: one worker slides the window while the other holds an old number.
#[test]
fn an_old_number_never_survives_a_slide_twice() {
    explore(|| {
        let window = window(8);
        let other = Arc::clone(&window);
        let there = thread::spawn(move || {
            let first = other.commit_after_auth(3).is_ok();
            let again = other.commit_after_auth(3).is_ok();
            assert!(!again);
            first
        });
        assert!(window.commit_after_auth(3 + 512).is_ok());
        let _ = there.join().unwrap();
        assert!(window.commit_after_auth(3).is_err());
        assert!(window.commit_after_auth(3 + 512).is_err());
        assert_eq!(window.edge(), 3 + 512);
    });
}

/// Two workers hold trains that overlap, across a border of words.
#[test]
fn overlapping_trains_share_each_number_once() {
    fn accepted(window: &ReplayWindow, train: &[u64]) -> Vec<u64> {
        let mut results: Vec<Result<u64, replay::ReplayRefusal>> =
            train.iter().copied().map(Ok).collect();
        window.commit_train_after_auth(&mut results);
        results.into_iter().flatten().collect()
    }
    explore(|| {
        let window = window(16);
        let other = Arc::clone(&window);
        let there = thread::spawn(move || accepted(&other, &[6, 7, 8, 9]));
        let here = accepted(&window, &[7, 5, 7, 8]);
        let mut all: Vec<u64> = there.join().unwrap().into_iter().chain(here).collect();
        all.sort_unstable();
        assert_eq!(all, [5, 6, 7, 8, 9]);
        assert_eq!(window.edge(), 9);
    });
}

#[test]
fn an_export_holds_whatever_was_accepted_before_it() {
    explore(|| {
        let window = window(8);
        let other = Arc::clone(&window);
        assert!(window.commit_after_auth(2).is_ok());
        let there = thread::spawn(move || {
            let _ = other.commit_after_auth(4);
        });
        let state = window.export();
        there.join().unwrap();
        let copy = self::window(8);
        copy.import(&state);
        assert!(copy.commit_after_auth(2).is_err());
        assert!(copy.edge() >= 2);
    });
}

#[test]
fn runs_never_overlap_and_never_pass_the_ceiling() {
    explore(|| {
        let range = Arc::new(SequenceRange::new(SequenceWidth::Bits32, 1, Some(4)));
        let other = Arc::clone(&range);
        let there = thread::spawn(move || other.reserve(3));
        let here = range.reserve(3);
        let mut numbers: Vec<u64> = [here, there.join().unwrap()]
            .into_iter()
            .flatten()
            .flat_map(|run| run.first..run.first + u64::from(run.count))
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3, 4]);
    });
}

#[test]
fn a_raised_ceiling_never_falls() {
    explore(|| {
        let range = Arc::new(SequenceRange::new(SequenceWidth::Bits32, 1, Some(1)));
        let other = Arc::clone(&range);
        let there = thread::spawn(move || other.raise_ceiling(10));
        range.raise_ceiling(20);
        there.join().unwrap();
        assert_eq!(range.ceiling(), 20);
    });
}

#[test]
fn i1_two_workers_never_draw_the_same_iv() {
    explore(|| {
        let ivs = Arc::new(IvPartition::new(Member::B, Epoch::FIRST));
        ivs.skip_to((1 << 48) - 4);
        let other = Arc::clone(&ivs);
        let there = thread::spawn(move || other.draw(3));
        let here = ivs.draw(3);
        let there = there.join().unwrap();
        assert!(here.is_ok() ^ there.is_ok());
        assert!(ivs.draw(1).is_err());
    });
}

/// Does the ordered part of the work for one thing: its number goes to the log.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
fn work(backlog: &Backlog<u64>, log: &Mutex<Vec<u64>>, (ticket, thing): (u64, u64)) {
    while !backlog.writes.is_open_for(ticket) {
        thread::yield_now();
    }
    log.lock().unwrap().push(thing);
    backlog.give_back(ticket, 0);
    backlog.writes.pass(ticket + 1);
}

/// The owner and a helper work on what the owner lays out: each thing once, in order, and all
/// spares come back.
#[test]
fn a_backlog_is_worked_off_once_and_in_order() {
    explore(|| {
        let backlog = Arc::new(Backlog::new([0, 0].into_iter()));
        let log = Arc::new(Mutex::new(Vec::new()));
        assert!(backlog.lay_out(|thing| *thing = 7));
        let helper = {
            let (backlog, log) = (Arc::clone(&backlog), Arc::clone(&log));
            thread::spawn(move || {
                if let Some(taken) = backlog.take() {
                    work(&backlog, &log, taken);
                }
            })
        };
        assert!(backlog.lay_out(|thing| *thing = 8));
        while let Some(taken) = backlog.take() {
            work(&backlog, &log, taken);
        }
        helper.join().unwrap();
        assert!(backlog.is_done());
        assert_eq!(*log.lock().unwrap(), [7, 8]);
        assert!(backlog.lay_out(|_| {}) && backlog.lay_out(|_| {}));
        assert!(!backlog.lay_out(|_| {}), "two places only");
    });
}

/// The ring is full while a helper takes, works and brings back: the owner never fills what is
/// not a spare.
#[test]
fn what_somebody_has_is_not_filled_again() {
    explore(|| {
        let backlog = Arc::new(Backlog::new([0].into_iter()));
        let log = Arc::new(Mutex::new(Vec::new()));
        assert!(backlog.lay_out(|thing| *thing = 7));
        let helper = {
            let (backlog, log) = (Arc::clone(&backlog), Arc::clone(&log));
            thread::spawn(move || {
                if let Some(taken) = backlog.take() {
                    work(&backlog, &log, taken);
                }
            })
        };
        let was_laid_out = backlog.lay_out(|thing| {
            assert_eq!(*thing, 0, "not a spare");
            *thing = 8;
        });
        while let Some(taken) = backlog.take() {
            work(&backlog, &log, taken);
        }
        helper.join().unwrap();
        let expected: &[u64] = if was_laid_out { &[7, 8] } else { &[7] };
        assert_eq!(*log.lock().unwrap(), expected);
        assert_eq!(backlog.waiting() + backlog.in_work(), 0);
    });
}
