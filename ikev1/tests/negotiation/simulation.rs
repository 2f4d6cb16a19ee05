//! Days of virtual time with loss, reordering, duplicates and restarts, from a seed.
//!
//! `VIPSEC_SIM_RUNS` and `VIPSEC_SIM_DAYS` make it as long as wanted; `VIPSEC_SIM_SEED` repeats
//! one run. `make simulation` is the full length, 1,000 runs of 30 days, and writes
//! `docs/simulation.md` by `VIPSEC_SIM_REPORT`.

use core::time::Duration;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use ikev1::config::{Connection, DpdPolicy, RekeyPolicy, StartMode};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::config::{both, everything, list};
use super::pair::{DataPlane, Fate, Pair, Side};

/// SA pairs that may be alive at once on one side for one pair of selectors: in use, its
/// successor, one more from a collision, and those whose grace runs.
const MOST_PAIRS: usize = 6;

/// IKE SAs that may be alive at once on one side of one connection, by the same count; each
/// restart of the peer leaves one more until it is known to be dead.
const MOST_IKE_SAS: usize = 6;

struct Outcome {
    seed: u64,
    loss_percent: u64,
    up: Duration,
    span: Duration,
    longest_gap: Duration,
    restarts: u32,
    messages: usize,
    rekeys: u64,
    most_pairs: usize,
    most_ike_sas: usize,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn chance(rng: &mut ChaCha20Rng, percent: u64) -> bool {
    rng.next_u64() % 100 < percent
}

fn pick(rng: &mut ChaCha20Rng, from: u64, to: u64) -> u64 {
    from + rng.next_u64() % (to - from + 1)
}

/// Two gateways as an operator might configure them.
fn scenario(rng: &mut ChaCha20Rng) -> (Connection, Connection) {
    let (mut alice, mut bob) = both();
    let exact = chance(rng, 30);
    let phase1 = Duration::from_hours(pick(rng, 1, 8));
    let phase2 = Duration::from_mins(pick(rng, 20, 120));
    for side in [&mut alice, &mut bob] {
        side.phase1.lifetime = phase1;
        side.phase2.lifetime = phase2;
        for (policy, lifetime) in [
            (&mut side.phase1.rekey, phase1),
            (&mut side.phase2.rekey, phase2),
        ] {
            *policy = RekeyPolicy::for_lifetime(lifetime);
            if exact {
                policy.jitter = Duration::ZERO;
            }
        }
        side.dpd = Some(DpdPolicy::default());
    }
    if chance(rng, 20) {
        alice.peer_drops_children = true;
        bob.peer_drops_children = true;
    }
    if chance(rng, 30) {
        for side in [&mut alice, &mut bob] {
            side.phase2.proposals = vec!["aes128gcm16-curve25519".parse().unwrap()];
        }
    }
    if chance(rng, 70) {
        bob.start = StartMode::OnStart;
    }
    (alice, bob)
}

/// Loss as given, every tenth datagram late by up to two seconds, a few twice.
fn rough(pair: &mut Pair, seed: u64, loss_percent: u64) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed ^ 0x6e65_7477_6f72_6b00);
    pair.network(move |_| {
        if chance(&mut rng, loss_percent) {
            Fate::Drop
        } else if loss_percent > 0 && chance(&mut rng, 10) {
            Fate::Delay(Duration::from_millis(rng.next_u64() % 2000))
        } else if loss_percent > 0 && chance(&mut rng, 3) {
            Fate::Duplicate
        } else {
            Fate::Deliver
        }
    });
}

/// Adds up the time in which both directions carry, and keeps what was seen at worst.
struct Availability {
    up: Duration,
    gap_since: Option<Instant>,
    longest_gap: Duration,
    /// The most IKE SAs that one side had at once.
    most_ike_sas: usize,
}

impl Availability {
    fn advance(&mut self, pair: &mut Pair, until: Instant) {
        loop {
            let (before, was_up) = (pair.now, pair.carries(everything()));
            let more = pair.step(until);
            let passed = pair.now - before;
            if was_up {
                self.up += passed;
                self.gap_since = None;
            } else {
                let since = *self.gap_since.get_or_insert(before);
                self.longest_gap = self.longest_gap.max(pair.now - since);
            }
            for side in [Side::Alice, Side::Bob] {
                let ike_sas = pair.node(side).negotiator.load().ike_sas;
                self.most_ike_sas = self.most_ike_sas.max(ike_sas);
            }
            if !more {
                return;
            }
        }
    }
}

fn restart(pair: &mut Pair, side: Side, config: &Arc<Connection>) {
    pair.take(side);
    let rng = pair.rng();
    let negotiator = ikev1::Negotiator::new(vec![Arc::clone(config)], rng, pair.now);
    pair.install(side, negotiator, DataPlane::default());
}

fn run(seed: u64, days: u64, loss_percent: u64, restarts: u32) -> Outcome {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let (alice, bob) = scenario(&mut rng);
    let configs = [Arc::new(alice.clone()), Arc::new(bob.clone())];
    let mut pair = Pair::seeded(seed, list(alice), list(bob));
    pair.keep_log = false;
    pair.traffic = true;
    // Often enough for dead peer detection; each packet is a step of the simulation.
    pair.traffic_interval = Duration::from_secs(5);
    rough(&mut pair, seed, loss_percent);
    let mut availability = Availability {
        up: Duration::ZERO,
        gap_since: None,
        longest_gap: Duration::ZERO,
        most_ike_sas: 0,
    };
    let span = Duration::from_hours(24 * days);
    let end = pair.start + span;
    let mut rekeys = 0;
    let mut most_pairs = 0;
    for _ in 0..restarts {
        let at = pair.start + span / 1000 * u32::try_from(pick(&mut rng, 1, 999)).unwrap();
        let at = at.max(pair.now);
        availability.advance(&mut pair, at);
        let side = if chance(&mut rng, 50) {
            Side::Alice
        } else {
            Side::Bob
        };
        most_pairs = most_pairs.max(pair.node(side).data_plane.most_pairs);
        rekeys += pair.node(side).negotiator.counters().totals.esp_sas;
        restart(&mut pair, side, &configs[side as usize]);
    }
    availability.advance(&mut pair, end);
    for side in [Side::Alice, Side::Bob] {
        let node = pair.node(side);
        most_pairs = most_pairs.max(node.data_plane.most_pairs);
        rekeys += node.negotiator.counters().totals.esp_sas;
    }
    let outcome = Outcome {
        seed,
        loss_percent,
        up: availability.up,
        span,
        longest_gap: availability.longest_gap,
        restarts,
        messages: pair.messages(),
        rekeys,
        most_pairs,
        most_ike_sas: availability.most_ike_sas,
    };
    heals(&mut pair, seed);
    outcome
}

/// Whatever has happened: on a good network the tunnel comes up, and both agree.
fn heals(pair: &mut Pair, seed: u64) {
    pair.reliable();
    pair.run_for(Duration::from_mins(5));
    assert!(pair.is_up(), "seed {seed}: dead for ever");
    pair.run_for(Duration::from_mins(15));
    assert!(pair.is_up(), "seed {seed}: up and down");
    pair.assert_no_wrong_keys();
    for side in [Side::Alice, Side::Bob] {
        let load = pair.node(side).negotiator.load();
        assert!(
            load.esp_sas <= 3,
            "seed {seed}: {} pairs left",
            load.esp_sas
        );
        assert!(
            load.ike_sas <= 2,
            "seed {seed}: {} IKE SAs left",
            load.ike_sas
        );
        assert!(load.spis <= load.esp_sas + 1, "seed {seed}: an SPI leaks");
        assert!(load.half_open <= 2, "seed {seed}");
    }
}

fn campaign(runs: u64, days: u64, loss: impl Fn(u64) -> u64, restarts: u32) -> Vec<Outcome> {
    let first = number("VIPSEC_SIM_SEED", 1);
    let runs = if std::env::var_os("VIPSEC_SIM_SEED").is_some() {
        1
    } else {
        number("VIPSEC_SIM_RUNS", runs)
    };
    let days = number("VIPSEC_SIM_DAYS", days);
    (first..first + runs)
        .map(|seed| {
            let outcome = run(seed, days, loss(seed), restarts);
            assert!(
                outcome.most_pairs <= MOST_PAIRS,
                "seed {seed}: {} pairs at once",
                outcome.most_pairs
            );
            outcome
        })
        .collect()
}

/// One line for each range of loss, printed and put into the report.
fn report(title: &str, outcomes: &[Outcome]) {
    let ranges = [(0, 0), (1, 10), (11, 20), (21, 30)];
    let lines: Vec<String> = ranges
        .into_iter()
        .filter_map(|(from, to)| {
            let of_range = |o: &&Outcome| (from..=to).contains(&o.loss_percent);
            let part: Vec<&Outcome> = outcomes.iter().filter(of_range).collect();
            (!part.is_empty()).then(|| line(title, from, to, &part))
        })
        .collect();
    println!("{HEAD}\n{}", lines.join("\n"));
    if let Some(path) = std::env::var_os("VIPSEC_SIM_REPORT") {
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        writeln!(file, "{}", lines.join("\n")).unwrap();
    }
}

/// The same head stands in `scripts/simulation.sh`.
const HEAD: &str = "| campaign | loss, % | runs | days a run | restarts a run | time with a \
    usable pair, % | worst run, % | longest gap (seed) | most ESP SA pairs | most IKE SAs | \
    negotiating messages a pair and side, mean and worst run |";

fn line(title: &str, from: u64, to: u64, part: &[&Outcome]) -> String {
    let share = |o: &Outcome| 100.0 * o.up.as_secs_f64() / o.span.as_secs_f64();
    let up: Duration = part.iter().map(|o| o.up).sum();
    let span: Duration = part.iter().map(|o| o.span).sum();
    let worst = part.iter().max_by_key(|o| o.longest_gap).unwrap();
    let number = |n: usize| f64::from(u32::try_from(n).unwrap());
    let rekeys = |o: &Outcome| usize::try_from(o.rekeys).unwrap();
    let messages: usize = part.iter().map(|o| o.messages).sum();
    let pairs: usize = part.iter().map(|o| rekeys(o)).sum();
    let most_messages = part
        .iter()
        .map(|o| number(o.messages) / number(rekeys(o)))
        .fold(0.0, f64::max);
    format!(
        "| {title} | {from} to {to} | {} | {} | {} | {:.5} | {:.5} | {:.1} s ({}) | {} | {} | {:.1}, {:.1} |",
        part.len(),
        worst.span.as_secs() / 86_400,
        worst.restarts,
        100.0 * up.as_secs_f64() / span.as_secs_f64(),
        part.iter().map(|o| share(o)).fold(100.0, f64::min),
        worst.longest_gap.as_secs_f64(),
        worst.seed,
        part.iter().map(|o| o.most_pairs).max().unwrap(),
        part.iter().map(|o| o.most_ike_sas).max().unwrap(),
        number(messages) / number(pairs),
        most_messages,
    )
}

#[test]
fn without_loss_the_tunnel_is_always_there() {
    let outcomes = campaign(10, 3, |_| 0, 0);
    report("no restarts", &outcomes);
    for outcome in outcomes {
        let down = outcome.span - outcome.up;
        assert!(
            down.as_secs_f64() <= outcome.span.as_secs_f64() * 0.0001,
            "seed {}: down for {down:?} of {:?}, longest {:?}",
            outcome.seed,
            outcome.span,
            outcome.longest_gap
        );
    }
}

#[test]
fn restarts_are_healed() {
    let outcomes = campaign(10, 3, |_| 0, 6);
    report("restarts", &outcomes);
    for outcome in outcomes {
        assert!(
            outcome.longest_gap < Duration::from_mins(2),
            "seed {}: {:?}",
            outcome.seed,
            outcome.longest_gap
        );
    }
}

#[test]
fn loss_alone_is_outlasted() {
    let outcomes = campaign(20, 3, |seed| seed % 31, 0);
    report("loss, reordering, duplicates, no restarts", &outcomes);
    outcomes.iter().for_each(assert_it_lived);
}

#[test]
fn loss_and_restarts_never_kill_it_for_good() {
    let outcomes = campaign(20, 3, |seed| seed % 31, 4);
    report("loss, reordering, duplicates, restarts", &outcomes);
    outcomes.iter().for_each(assert_it_lived);
}

/// What holds at any loss: no long gap, no storm of messages; and without loss, no gap at all.
fn assert_it_lived(outcome: &Outcome) {
    let seed = outcome.seed;
    let down = outcome.span - outcome.up;
    assert!(
        outcome.loss_percent > 0 || down.as_secs_f64() <= outcome.span.as_secs_f64() * 0.0001,
        "seed {seed}: without loss down for {down:?} of {:?}",
        outcome.span,
    );
    let per_rekey = outcome.messages as u64 / outcome.rekeys;
    assert!(per_rekey < 30, "seed {seed}: {per_rekey} messages a rekey");
    assert!(
        outcome.longest_gap < Duration::from_mins(20),
        "seed {seed}, loss {} %: down for {:?}",
        outcome.loss_percent,
        outcome.longest_gap
    );
    assert!(
        outcome.most_ike_sas <= MOST_IKE_SAS,
        "seed {seed}: {} IKE SAs at once",
        outcome.most_ike_sas
    );
}
