//! The pair in virtual time: two nodes, two paths, a sync connection, a peer, and thousands of
//! seeded schedules of crashes, power cuts, pauses, partitions, loss, delay, reordering, stalls,
//! failing links, switchovers, rekeys, replays and forgeries. After every single event the
//! invariants are checked; each has a test here that carries its name.
//!
//! ```text
//!                    path First (and the sync connection)
//!      gateway A ====================================== gateway B
//!        |  node + model of daemon   path Second          |
//!        |  ==============================================  |
//!        '----------- virtual address ----- peer -----------'
//! ```
//! `VIPSEC_SIM_SCHEDULES=n` runs n schedules instead of 10,000, `VIPSEC_SIM_FIRST=s` begins with
//! seed s instead of 0, and `VIPSEC_SIM_SEED=s` replays one and prints every event of it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a simulation that goes wrong must stop loudly"
)]

mod sim;

use std::sync::OnceLock;

use sim::world::{Violation, Weather, World};

struct Outcome {
    violations: Vec<Violation>,
    schedules: u64,
    hot_takeovers: u64,
    served: u64,
    ticks: u64,
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Even seeds: one path is always clean. Odd seeds: anything. Every third is attacked as well.
fn world(seed: u64) -> World {
    let weather = match seed % 2 {
        0 => Weather::OnePathClean,
        _ => Weather::Anything,
    };
    World::new(seed, weather, seed.is_multiple_of(3))
}

fn run(seeds: impl Iterator<Item = u64>) -> Outcome {
    let mut outcome = Outcome {
        violations: Vec::new(),
        schedules: 0,
        hot_takeovers: 0,
        served: 0,
        ticks: 0,
    };
    for seed in seeds {
        let mut world = world(seed);
        world.trace = number("VIPSEC_SIM_SEED").is_some();
        world.run();
        outcome.violations.append(&mut world.violations);
        outcome.schedules += 1;
        outcome.hot_takeovers += world.hot_takeovers;
        outcome.served += world.served_ticks;
        outcome.ticks += world.ticks;
    }
    outcome
}

/// All schedules, run once for all tests of this file.
#[expect(
    clippy::disallowed_methods,
    reason = "how long the whole run took is for the reader, not for the nodes"
)]
fn outcome() -> &'static Outcome {
    static OUTCOME: OnceLock<Outcome> = OnceLock::new();
    OUTCOME.get_or_init(|| {
        if let Some(seed) = number("VIPSEC_SIM_SEED") {
            return run(core::iter::once(seed));
        }
        let first = number("VIPSEC_SIM_FIRST").unwrap_or(0);
        let schedules = number("VIPSEC_SIM_SCHEDULES").unwrap_or(10_000);
        let begun = std::time::Instant::now();
        let mut parts = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2)
                .map(|part| {
                    let seeds = first..first.saturating_add(schedules);
                    scope.spawn(move || run(seeds.filter(move |s| s / 2 % 2 == part)))
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect::<Vec<_>>()
        });
        let mut all = parts.pop().unwrap();
        for mut part in parts {
            all.violations.append(&mut part.violations);
            all.schedules += part.schedules;
            all.hot_takeovers += part.hot_takeovers;
            all.served += part.served;
            all.ticks += part.ticks;
        }
        println!(
            "seeds {first} and up: {} schedules in {:.1?}",
            all.schedules,
            begun.elapsed()
        );
        all
    })
}

fn assert_held(invariant: &str) {
    let broken: Vec<_> = outcome()
        .violations
        .iter()
        .filter(|violation| violation.invariant == invariant)
        .collect();
    if let Some(first) = broken.first() {
        panic!(
            "{} schedules broke {invariant}; the first: VIPSEC_SIM_SEED={} cargo test -p ha-keepalive --test simulation {invariant} -- --nocapture\n{}\nseeds: {:?}",
            broken.len(),
            first.seed,
            first.what,
            broken
                .iter()
                .map(|violation| violation.seed)
                .take(20)
                .collect::<Vec<_>>()
        );
    }
}

#[test]
fn i1_no_key_and_iv_are_used_twice() {
    assert_held("i1");
}

#[test]
fn i2_after_a_hot_takeover_numbers_continue_above_all_that_was_sent() {
    assert_held("i2");
}

#[test]
fn i3_replay_windows_never_move_back() {
    assert_held("i3");
}

#[test]
fn i6_a_node_without_a_lease_is_silent() {
    assert_held("i6");
}

#[test]
fn i7_with_one_clean_path_one_node_answers() {
    assert_held("i7");
}

#[test]
fn after_the_faults_one_serves_and_the_other_is_ready() {
    assert_held("settled");
}

#[test]
fn the_schedules_are_worth_something() {
    let outcome = outcome();
    println!(
        "{} schedules, {} hot takeovers, served {:.1} % of the time",
        outcome.schedules,
        outcome.hot_takeovers,
        100.0 * outcome.served as f64 / outcome.ticks as f64
    );
    if number("VIPSEC_SIM_SEED").is_none() {
        assert!(
            outcome.hot_takeovers > outcome.schedules,
            "hardly anything was taken over"
        );
        assert!(
            outcome.served * 10 > outcome.ticks * 7,
            "hardly anything was served"
        );
    }
}
