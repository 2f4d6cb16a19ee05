use std::collections::VecDeque;

use ipsec_types::SecretBytes;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::advert::ADVERT_LEN;
use crate::advert::Role;
use crate::election::Event;
use crate::replication::{Commit, Key, Kind, Lag, Record};
use crate::takeover::Step;
use crate::vocabulary::{AdvertInterval, Member, Paths, Priority};

const MS: Duration = Duration::from_millis(1);
const INTERVAL: Duration = Duration::from_millis(100);

/// Two nodes over perfect cables, one of which may be cut or stopped.
struct Duo {
    nodes: [Option<PairNode>; 2],
    gates: [Arc<SendGate>; 2],
    interval: Duration,
    now: Duration,
    cut: bool,
    /// Adverts reach the other one only.
    deaf: Option<usize>,
    stopped: [bool; 2],
    sync: bool,
    moves: Vec<(usize, Event, State)>,
    steps: Vec<(usize, Change, Step)>,
    committed: Vec<Commit>,
    refused: Vec<Blocker>,
    redials: Vec<(usize, Redial)>,
    recordings: Vec<(usize, PathId, Vec<u8>)>,
    /// This step takes its time.
    slow: Option<Step>,
    performing: Vec<(usize, StepId)>,
}

fn supported(_: Kind) -> u16 {
    1
}

impl Duo {
    fn new() -> Self {
        Self::paced(INTERVAL)
    }

    fn paced(interval: Duration) -> Self {
        let gate = || Arc::new(SendGate::closed());
        let mut duo = Self {
            nodes: [None, None],
            gates: [gate(), gate()],
            interval,
            now: Duration::from_secs(100),
            cut: false,
            deaf: None,
            stopped: [false; 2],
            sync: false,
            moves: Vec::new(),
            steps: Vec::new(),
            committed: Vec::new(),
            refused: Vec::new(),
            redials: Vec::new(),
            recordings: Vec::new(),
            slow: None,
            performing: Vec::new(),
        };
        duo.start(0, 1);
        duo.start(1, 2);
        duo
    }

    /// A pair in sync, with the first node active.
    fn in_sync() -> Self {
        Self::in_sync_paced(INTERVAL)
    }

    fn in_sync_paced(interval: Duration) -> Self {
        let mut duo = Self::paced(interval);
        duo.run(interval * 6);
        duo.connect();
        duo.run(interval * 3);
        assert!(duo.gates[0].is_open(duo.now) && duo.is_hot(1));
        duo.moves.clear();
        duo.steps.clear();
        duo
    }

    fn start(&mut self, index: usize, seed: u64) {
        let member = if index == 0 { Member::A } else { Member::B };
        let interval = AdvertInterval::new(self.interval).unwrap();
        let mut config = Config::new(member, interval);
        config.priority = Priority::new(if index == 0 { 200 } else { 100 }).unwrap();
        config.paths = Paths::One;
        let secret = PairSecret::new(SecretBytes::new(vec![9; 32])).unwrap();
        let config = NodeConfig::new(config, Supported::new(supported));
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let gate = Arc::clone(&self.gates[index]);
        self.nodes[index] = Some(PairNode::new(config, &secret, gate, &mut rng, self.now));
    }

    fn node(&mut self, index: usize) -> &mut PairNode {
        self.nodes[index].as_mut().unwrap()
    }

    fn connect(&mut self) {
        self.sync = true;
        let now = self.now;
        for index in 0..2 {
            self.node(index).handle_sync_up(now);
        }
        self.settle();
    }

    fn disconnect(&mut self) {
        self.sync = false;
        let now = self.now;
        for node in self.nodes.iter_mut().flatten() {
            node.handle_sync_down(now);
        }
        self.settle();
    }

    fn kill(&mut self, index: usize) {
        self.nodes[index] = None;
        self.disconnect();
    }

    /// Lets time pass, millisecond by millisecond.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += MS;
            for index in 0..2 {
                let now = self.now;
                if !self.stopped[index]
                    && let Some(node) = &mut self.nodes[index]
                    && node.poll_timeout().is_some_and(|(at, _)| at <= now)
                {
                    node.handle_timeout(now);
                }
            }
            self.settle();
        }
    }

    /// Carries everything between the nodes until nothing moves.
    fn settle(&mut self) {
        let mut queue = VecDeque::new();
        loop {
            for index in 0..2 {
                self.drain(index, &mut queue);
            }
            let Some((to, carried)) = queue.pop_front() else {
                return;
            };
            let now = self.now;
            let Some(node) = &mut self.nodes[to] else {
                if let Carried::Datagram(path, _) = carried {
                    let sender = self.nodes[1 - to].as_mut().unwrap();
                    sender.handle_path_refused(now, path);
                }
                continue;
            };
            match carried {
                Carried::Datagram(path, bytes) => {
                    let _ = node.handle_datagram(now, path, &bytes);
                }
                Carried::Message(message) => node.handle_message(now, message),
            }
        }
    }

    fn drain(&mut self, index: usize, queue: &mut VecDeque<(usize, Carried)>) {
        let now = self.now;
        let sync = self.sync;
        if self.stopped[index] {
            return;
        }
        let Some(node) = &mut self.nodes[index] else {
            return;
        };
        while let Some(order) = node.poll_order() {
            match order {
                Order::Perform { id, step, change } => {
                    self.steps.push((index, change, step));
                    match self.slow == Some(step) {
                        true => self.performing.push((index, id)),
                        false => node.step_done(now, id, Ok(())),
                    }
                }
                Order::Moved(moved) => self.moves.push((index, moved.reason, moved.to)),
                Order::Committed { commit, .. } => self.committed.push(commit),
                Order::Redial(why) => self.redials.push((index, why)),
                Order::SwitchoverRefused(blockers) => self.refused.extend(blockers),
                _ => {}
            }
        }
        while let Some((path, bytes)) = node.poll_datagram() {
            self.recordings.push((1 - index, path, bytes.clone()));
            let deaf = self.deaf == Some(1 - index);
            if !self.cut && !deaf && !self.stopped[1 - index] {
                queue.push_back((1 - index, Carried::Datagram(path, bytes)));
            }
        }
        while sync && let Some(message) = node.poll_message(now) {
            queue.push_back((1 - index, Carried::Message(message)));
        }
    }

    fn slow_steps_end(&mut self) {
        self.slow = None;
        let now = self.now;
        for (index, id) in core::mem::take(&mut self.performing) {
            self.node(index).step_done(now, id, Ok(()));
        }
        self.settle();
    }

    fn is_hot(&self, index: usize) -> bool {
        self.nodes[index].as_ref().unwrap().is_hot(self.now)
    }

    fn states(&self) -> [Option<State>; 2] {
        [0, 1].map(|index| Some(self.nodes[index].as_ref()?.election().state()))
    }
}

enum Carried {
    Datagram(PathId, Vec<u8>),
    Message(Message),
}

fn record(name: &str) -> Record {
    let key = Key::new(Kind::IkeSa, name).unwrap();
    Record::new(key, 1, SecretBytes::new(b"keys".to_vec())).unwrap()
}

#[test]
fn the_better_of_two_that_start_together_becomes_active() {
    let mut duo = Duo::new();
    duo.run(INTERVAL * 5);
    assert_eq!(duo.states(), [Some(State::Active), Some(State::Standby)]);
    assert!(duo.gates[0].is_open(duo.now) && !duo.gates[1].is_open(duo.now));
}

#[test]
fn a_silent_host_is_given_its_missed_adverts() {
    let mut duo = Duo::in_sync();
    duo.cut = true;
    let begun = duo.now;
    while !duo.gates[1].is_open(duo.now) {
        duo.run(MS);
    }
    let waited = duo.now - begun;
    let patience = crate::advert::patience(
        Priority::new(100).unwrap(),
        AdvertInterval::new(INTERVAL).unwrap(),
    );
    assert!(
        waited > patience - INTERVAL && waited <= patience + 2 * MS,
        "{waited:?}"
    );
    assert_eq!(duo.moves, [(1, Event::PeerSilent, State::Active)]);
    assert!(
        duo.steps
            .contains(&(1, Change::Claim { hot: true }, Step::ActivateSas))
    );
}

/// The budget of the election's documentation: from the last advert to the open gate.
#[test]
fn a_silent_host_is_replaced_within_the_budget() {
    for (interval, budget) in [(50 * MS, 200 * MS), (10 * MS, 60 * MS)] {
        let mut duo = Duo::in_sync_paced(interval);
        let heard = duo.node(1).election().peer().unwrap().heard_at;
        duo.cut = true;
        while !duo.gates[1].is_open(duo.now) {
            duo.run(MS);
        }
        let gap = duo.now - heard;
        assert!(gap < budget, "{gap:?} at {interval:?}");
        let adverts = AdvertInterval::new(interval).unwrap();
        let lease = crate::advert::lease_length(adverts);
        assert!(gap > lease + interval / 2, "I6: {gap:?} at {interval:?}");
    }
}

#[test]
fn a_dead_process_is_replaced_within_the_budget_whatever_the_interval() {
    for interval in [10 * MS, 50 * MS, 1000 * MS, 10_000 * MS] {
        let mut duo = Duo::in_sync_paced(interval);
        let killed = duo.now;
        duo.kill(0);
        while !duo.gates[1].is_open(duo.now) {
            duo.run(MS);
        }
        let gap = duo.now - killed;
        assert!(gap < 30 * MS, "{gap:?} at {interval:?}");
    }
}

#[test]
fn after_a_split_the_newer_claim_stays_and_the_other_leaves_at_the_first_advert() {
    let mut duo = Duo::in_sync();
    duo.cut = true;
    duo.run(INTERVAL * 10);
    assert_eq!(duo.states(), [Some(State::Active); 2]);
    duo.cut = false;
    duo.run(INTERVAL);
    assert_eq!(duo.states(), [Some(State::Standby), Some(State::Active)]);
    assert!(!duo.gates[0].is_open(duo.now));
}

#[test]
fn a_stopped_process_finds_its_lease_expired_and_leaves() {
    let mut duo = Duo::in_sync();
    duo.stopped[0] = true;
    duo.run(INTERVAL * 50);
    assert_eq!(duo.states()[1], Some(State::Active));
    assert!(!duo.gates[0].is_open(duo.now), "before it has run at all");
    duo.stopped[0] = false;
    duo.run(MS);
    assert!(!duo.gates[0].is_open(duo.now));
    duo.run(INTERVAL);
    assert_eq!(duo.states(), [Some(State::Standby), Some(State::Active)]);
    let (_, first, state) = duo.moves[1];
    assert_eq!((first, state), (Event::LeaseLost, State::Asking));
}

#[test]
fn a_short_stop_is_asked_and_answered_within_a_round_trip() {
    let mut duo = Duo::in_sync();
    duo.stopped[0] = true;
    duo.run(INTERVAL * 5 / 2 + MS);
    duo.stopped[0] = false;
    duo.run(2 * MS);
    assert_eq!(duo.states(), [Some(State::Active), Some(State::Standby)]);
    assert!(duo.gates[0].is_open(duo.now));
    let events: Vec<Event> = duo.moves.iter().map(|(_, event, _)| *event).collect();
    assert_eq!(events, [Event::LeaseLost, Event::PeerFollows]);
}

/// How long a node is silent that was stopped for longer than its lease and finds nobody.
fn silent_after_a_stop(duo: &mut Duo, index: usize) -> Duration {
    duo.stopped[index] = true;
    duo.run(INTERVAL * 6);
    duo.stopped[index] = false;
    let woken = duo.now;
    while !duo.gates[index].is_open(duo.now) {
        duo.run(MS);
        assert!(duo.now < woken + INTERVAL * 10, "it never serves again");
    }
    duo.now - woken
}

#[test]
fn i6_a_lone_node_asks_for_as_long_as_a_living_partner_could_need_and_no_longer() {
    let mut duo = Duo::in_sync();
    duo.kill(0);
    duo.run(INTERVAL * 20);
    let silent = silent_after_a_stop(&mut duo, 1);
    assert!(
        silent >= INTERVAL && silent <= INTERVAL + 2 * MS,
        "{silent:?}"
    );
    // A host that vanished proves nothing, but it had its whole patience to be heard.
    let mut duo = Duo::in_sync();
    duo.cut = true;
    duo.nodes[0] = None;
    duo.run(INTERVAL * 20);
    let silent = silent_after_a_stop(&mut duo, 1);
    assert!(
        silent >= INTERVAL && silent <= INTERVAL + 2 * MS,
        "{silent:?}"
    );
}

#[test]
fn a_cold_claim_that_is_interrupted_behind_its_gate_negotiates_all_the_same() {
    for slow in [Step::Announce, Step::MoveHere, Step::ResumeTimers] {
        let mut duo = Duo::paced(INTERVAL);
        duo.slow = Some(slow);
        duo.nodes[1] = None;
        duo.run(INTERVAL * 6);
        assert!(duo.gates[0].is_open(duo.now), "{slow:?} is being performed");
        duo.stopped[0] = true;
        duo.run(INTERVAL * 6);
        duo.stopped[0] = false;
        duo.run(MS);
        duo.slow_steps_end();
        duo.run(INTERVAL * 10);
        assert!(duo.gates[0].is_open(duo.now));
        let negotiated = |(_, _, step): &&(usize, Change, Step)| *step == Step::NegotiateAll;
        let count = duo.steps.iter().filter(negotiated).count();
        assert_eq!(count, 1, "{slow:?}: {:?}", duo.steps);
    }
}

#[test]
fn i6_a_partner_that_was_heard_before_the_stop_gets_its_whole_patience() {
    let mut duo = Duo::in_sync();
    // Nobody sees the partner vanish: it does so while this one is stopped.
    duo.stopped[0] = true;
    duo.run(INTERVAL);
    duo.cut = true;
    duo.nodes[1] = None;
    duo.run(INTERVAL * 5);
    duo.stopped[0] = false;
    let woken = duo.now;
    while !duo.gates[0].is_open(duo.now) {
        duo.run(MS);
    }
    assert!(duo.now - woken > INTERVAL * 3, "{:?}", duo.now - woken);
}

#[test]
fn a_dead_process_is_replaced_in_milliseconds() {
    let mut duo = Duo::in_sync();
    let killed = duo.now;
    duo.kill(0);
    while !duo.gates[1].is_open(duo.now) {
        duo.run(MS);
    }
    assert!(duo.now - killed < 15 * MS, "{:?}", duo.now - killed);
    assert_eq!(duo.moves, [(1, Event::PeerDead, State::Active)]);
}

#[test]
fn i5_forged_news_of_a_death_start_a_question_and_nothing_else() {
    let mut duo = Duo::in_sync();
    for _ in 0..50 {
        let now = duo.now;
        duo.node(1).handle_sync_down(now);
        duo.node(1).handle_path_refused(now, PathId::First);
        duo.settle();
        duo.run(3 * MS);
        let now = duo.now;
        duo.node(1).handle_path_refused(now, PathId::First);
        duo.run(10 * MS);
        let now = duo.now;
        duo.node(1).handle_sync_up(now);
    }
    assert_eq!(duo.moves, []);
    assert_eq!(duo.states(), [Some(State::Active), Some(State::Standby)]);
}

#[test]
fn i5_noise_replays_and_truncations_move_nothing() {
    let mut quiet = Duo::in_sync();
    let mut loud = Duo::in_sync();
    let recordings = loud.recordings.clone();
    for round in 0..INTERVAL.as_millis() as usize * 20 {
        let now = loud.now;
        let (to, path, mut bytes) = recordings[round % recordings.len()].clone();
        match round % 4 {
            0 => bytes[round % ADVERT_LEN] ^= 0x10,
            1 => bytes.truncate(round % ADVERT_LEN),
            _ => {}
        }
        assert!(loud.node(to).handle_datagram(now, path, &bytes).is_err());
        loud.settle();
        loud.run(MS);
        quiet.run(MS);
    }
    assert_eq!((&quiet.moves[..], &loud.moves[..]), (&[][..], &[][..]));
    for index in 0..2 {
        let (one, two) = (quiet.node(index).epoch(), loud.node(index).epoch());
        assert_eq!(one, two);
        assert!(loud.node(index).advert_counters().replayed > 0);
    }
}

#[test]
fn i5_a_restarted_standby_believes_no_recording_of_its_dead_partner() {
    let mut duo = Duo::in_sync();
    let recordings = core::mem::take(&mut duo.recordings);
    duo.kill(0);
    duo.nodes[1] = None;
    duo.start(1, 77);
    for (to, path, bytes) in recordings.iter().rev().cycle().take(500) {
        let now = duo.now;
        if *to == 1 {
            let _ = duo.node(1).handle_datagram(now, *path, bytes);
        }
        duo.run(MS);
    }
    assert_eq!(duo.node(1).advert_counters().accepted, 0);
    assert_eq!(
        duo.states()[1],
        Some(State::Active),
        "recordings of an active node hold nobody back"
    );
}

#[test]
fn a_planned_switchover_goes_through_all_its_steps_in_order() {
    let mut duo = Duo::in_sync();
    assert_eq!(
        duo.node(0)
            .readiness(Duration::from_secs(100) + INTERVAL * 9),
        []
    );
    let now = duo.now;
    duo.node(0).switchover(now);
    duo.settle();
    assert_eq!(duo.states(), [Some(State::Standby), Some(State::Active)]);
    let place = |wanted| duo.steps.iter().position(|step| *step == wanted).unwrap();
    let order = [
        place((1, Change::Prepare, Step::OpenWays)),
        place((0, Change::Drain, Step::StopSealing)),
        place((0, Change::Drain, Step::WriteLastRecords)),
        place((0, Change::Release, Step::RemoveAddresses)),
        place((1, Change::ClaimHanded, Step::ActivateSas)),
        place((1, Change::ClaimHanded, Step::AddAddresses)),
    ];
    assert!(order.is_sorted(), "{:?}", duo.steps);
    assert!(!duo.gates[0].is_open(duo.now) && duo.gates[1].is_open(duo.now));
}

#[test]
fn an_offer_is_accepted_once_the_standby_is_ready_to_take_what_is_sent_on() {
    let mut duo = Duo::in_sync();
    duo.slow = Some(Step::OpenWays);
    let now = duo.now;
    duo.node(0).switchover(now);
    duo.settle();
    duo.run(INTERVAL * 3);
    let states = [Some(State::HandingOver), Some(State::TakingOver)];
    assert_eq!(duo.states(), states);
    let drains = |(_, change, _): &(usize, Change, Step)| *change == Change::Drain;
    assert!(!duo.steps.iter().any(drains), "it seals: {:?}", duo.steps);
    duo.slow_steps_end();
    assert_eq!(duo.states(), [Some(State::Standby), Some(State::Active)]);
}

#[test]
fn a_standby_that_cannot_make_ready_declines() {
    let mut duo = Duo::in_sync();
    duo.slow = Some(Step::OpenWays);
    let now = duo.now;
    duo.node(0).switchover(now);
    duo.settle();
    let (standby, id) = duo.performing.remove(0);
    let failed = Err("no such route".to_owned());
    duo.node(standby).step_done(now, id, failed);
    duo.settle();
    assert_eq!(duo.states(), [Some(State::Active), Some(State::Standby)]);
    assert!(duo.gates[0].is_open(duo.now));
    let reasons: Vec<_> = duo.moves.iter().map(|(who, why, _)| (*who, *why)).collect();
    assert!(reasons.contains(&(1, Event::OfferedUnready)), "{reasons:?}");
    let undone: Vec<Step> = duo
        .steps
        .iter()
        .filter(|(who, change, _)| (*who, *change) == (1, Change::Unprepare))
        .map(|(.., step)| *step)
        .collect();
    assert_eq!(undone, [Step::CloseWays, Step::ForwardToPartner]);
}

#[test]
fn a_switchover_that_would_lose_packets_is_refused_with_reasons() {
    let mut duo = Duo::in_sync();
    let now = duo.now;
    duo.node(0).set_revision(now, Revision(2));
    duo.node(0).switchover(now);
    duo.settle();
    assert_eq!(duo.refused, [Blocker::Revision]);
    assert_eq!(duo.moves, []);
    let now = duo.now;
    assert!(duo.node(0).force_switchover(now), "unless it is forced");
    duo.settle();
    assert_eq!(duo.states(), [Some(State::Standby), Some(State::Active)]);
}

#[test]
fn i2_a_switchover_continues_at_the_very_next_number() {
    let mut duo = Duo::in_sync();
    let now = duo.now;
    let node = duo.node(0);
    node.put(now, record("sa")).unwrap();
    let position = node
        .add_outbound(now, b"sa", 0, u64::from(u32::MAX))
        .unwrap();
    node.commit(now, position).unwrap();
    duo.settle();
    assert_eq!(duo.committed, [Commit::Acknowledged]);
    let now = duo.now;
    duo.node(0).write_exact(now, b"sa", 12_345).unwrap();
    duo.node(0).switchover(now);
    duo.settle();
    let starts = duo.node(1).starts();
    assert_eq!(starts[0].first, 12_346);
    assert!(
        starts[0].last < u64::MAX,
        "and keeps the ceiling the other knows"
    );
}

#[test]
fn i2_a_standby_that_was_not_told_lately_takes_over_cold() {
    let mut duo = Duo::in_sync();
    // The connection breaks, so the promise is broken; then the active host is gone as well.
    duo.disconnect();
    duo.run(INTERVAL * 2);
    duo.cut = true;
    duo.run(INTERVAL * 10);
    assert!(
        duo.steps
            .contains(&(1, Change::Claim { hot: false }, Step::NegotiateAll))
    );
}

/// Its SA is `sa`; the standby has acknowledged it.
fn with_an_sa() -> Duo {
    let mut duo = Duo::in_sync();
    let now = duo.now;
    let node = duo.node(0);
    node.put(now, record("sa")).unwrap();
    node.add_outbound(now, b"sa", 0, u64::from(u32::MAX))
        .unwrap();
    duo.settle();
    duo
}

#[test]
fn i2_who_stays_after_a_split_goes_on_above_all_that_the_other_sent() {
    let mut duo = with_an_sa();
    duo.cut = true;
    duo.disconnect();
    duo.run(INTERVAL * 10);
    assert_eq!(duo.states(), [Some(State::Active); 2]);
    // Without a standby its numbers run free, far beyond the ceiling that the other started at.
    let now = duo.now;
    duo.node(0).report_sequence(now, b"sa", 2_000_000).unwrap();
    assert!(duo.node(1).starts()[0].first < 1_000_000);
    duo.cut = false;
    duo.run(INTERVAL);
    assert_eq!(duo.states(), [Some(State::Standby), Some(State::Active)]);
    assert!(duo.moves.contains(&(1, Event::PeerServed, State::Active)));
    assert!(duo.node(1).starts()[0].first > 2_000_000);
    duo.run(INTERVAL * 10);
    let reclaimed = duo.moves.iter().filter(|(index, ..)| *index == 1).count();
    assert_eq!(reclaimed, 2, "once, and not with every advert");
}

#[test]
fn i2_a_standby_that_served_unheard_and_died_is_left_far_behind() {
    let mut duo = with_an_sa();
    duo.cut = true;
    duo.disconnect();
    duo.run(INTERVAL * 10);
    let theirs = duo.node(1).starts()[0].first;
    duo.kill(1);
    duo.start(1, 3);
    duo.cut = false;
    duo.run(INTERVAL * 2);
    assert_eq!(duo.states(), [Some(State::Active), Some(State::Standby)]);
    assert!(duo.moves.contains(&(0, Event::PeerServed, State::Active)));
    assert!(duo.node(0).starts()[0].first > theirs + 1_000_000);
}

#[test]
fn i2_a_standby_that_served_and_was_stopped_is_left_far_behind() {
    let mut duo = with_an_sa();
    duo.cut = true;
    duo.disconnect();
    duo.run(INTERVAL * 10);
    let theirs = duo.node(1).starts()[0].first;
    duo.stopped[1] = true;
    duo.run(INTERVAL * 4);
    duo.cut = false;
    duo.stopped[1] = false;
    duo.run(INTERVAL);
    assert_eq!(duo.states(), [Some(State::Active), Some(State::Standby)]);
    assert!(duo.moves.contains(&(0, Event::PeerServed, State::Active)));
    assert!(duo.node(0).starts()[0].first > theirs + 1_000_000);
}

#[test]
fn i2_who_takes_a_role_over_goes_on_above_one_that_took_it_back() {
    let mut duo = with_an_sa();
    let now = duo.now;
    duo.node(0).switchover(now);
    duo.run(INTERVAL * 3);
    assert_eq!(duo.states(), [Some(State::Standby), Some(State::Active)]);
    assert!(duo.is_hot(0));
    // The old active node never hears that the new one is there.
    duo.deaf = Some(1);
    let now = duo.now;
    duo.node(1).switchover(now);
    duo.settle();
    duo.run(INTERVAL);
    duo.disconnect();
    duo.run(INTERVAL * 10);
    assert_eq!(duo.states(), [Some(State::Active); 2]);
    let theirs = duo.node(1).starts()[0].first;
    let back = duo.node(1).election().history().last().unwrap().clone();
    assert_eq!(back.reason, Event::AskUnanswered);
    duo.deaf = None;
    duo.run(INTERVAL);
    assert_eq!(duo.states(), [Some(State::Active), Some(State::Standby)]);
    assert!(duo.moves.contains(&(0, Event::PeerServed, State::Active)));
    // Both jumped for the same absence; the other one may have sent since, four million a second.
    let mine = duo.node(0).election().history().last().unwrap().clone();
    let served = (mine.at - back.at).as_micros() as u64 * 4;
    assert!(duo.node(0).starts()[0].first > theirs + served);
}

#[test]
fn i1_a_claim_taken_while_serving_activates_its_sas_once() {
    let mut duo = with_an_sa();
    duo.cut = true;
    duo.disconnect();
    duo.run(INTERVAL * 10);
    duo.slow = Some(Step::AddAddresses);
    duo.cut = false;
    duo.run(INTERVAL);
    assert!(duo.moves.contains(&(1, Event::PeerServed, State::Active)));
    assert!(duo.gates[1].is_open(duo.now), "and goes on serving");
    duo.stopped[1] = true;
    duo.run(INTERVAL * 5 / 2);
    duo.stopped[1] = false;
    duo.run(INTERVAL);
    duo.slow_steps_end();
    duo.run(INTERVAL);
    assert_eq!(duo.states()[1], Some(State::Active));
    assert!(duo.gates[1].is_open(duo.now));
    let again = (1, Change::Reclaim, Step::ActivateSas);
    let activated = duo.steps.iter().filter(|step| **step == again).count();
    assert_eq!(activated, 1);
}

#[test]
fn i2_a_woken_node_does_not_resume_below_a_standby_that_served_and_died() {
    let mut duo = with_an_sa();
    duo.stopped[0] = true;
    duo.run(INTERVAL * 5);
    assert_eq!(duo.states()[1], Some(State::Active));
    let theirs = duo.node(1).starts()[0].first;
    duo.kill(1);
    duo.start(1, 3);
    duo.run(INTERVAL);
    duo.stopped[0] = false;
    duo.run(INTERVAL);
    assert_eq!(duo.states(), [Some(State::Active), Some(State::Standby)]);
    let back = duo
        .moves
        .iter()
        .find(|(index, _, to)| (*index, *to) == (0, State::Active));
    assert_eq!(back, Some(&(0, Event::PeerServed, State::Active)));
    assert!(duo.node(0).starts()[0].first > theirs + 1_000_000);
}

#[test]
fn i2_a_promise_that_waited_in_the_socket_of_a_stopped_standby_is_void() {
    let mut duo = with_an_sa();
    duo.stopped[1] = true;
    duo.run(INTERVAL * 2);
    let (_, path, promise) = duo.recordings.last().unwrap().clone();
    duo.run(INTERVAL * 10);
    duo.stopped[1] = false;
    let now = duo.now;
    duo.node(1).handle_datagram(now, path, &promise).unwrap();
    assert!(!duo.is_hot(1));
}

#[test]
fn a_released_node_that_answers_the_question_of_its_successor_follows_it() {
    let mut duo = Duo::in_sync();
    duo.cut = true;
    let now = duo.now;
    duo.node(0).switchover(now);
    duo.settle();
    assert_eq!(duo.states(), [Some(State::Released), Some(State::Active)]);
    duo.stopped[1] = true;
    duo.run(INTERVAL * 3);
    duo.stopped[1] = false;
    duo.cut = false;
    duo.run(INTERVAL * 3);
    assert_eq!(duo.states(), [Some(State::Standby), Some(State::Active)]);
    assert!(duo.moves.contains(&(0, Event::PeerAsks, State::Standby)));
    assert!(duo.is_hot(0));
}

#[test]
fn a_link_that_fails_moves_the_role_at_once_and_does_not_move_it_back() {
    let mut duo = Duo::in_sync();
    let now = duo.now;
    duo.node(0).handle_condition(now, Condition::WanLink, false);
    duo.settle();
    assert_eq!(duo.states(), [Some(State::Standby), Some(State::Active)]);
    duo.run(INTERVAL);
    let now = duo.now;
    duo.node(0).handle_condition(now, Condition::WanLink, true);
    duo.run(Duration::from_secs(10));
    assert_eq!(duo.states(), [Some(State::Standby), Some(State::Active)]);
}

#[test]
fn a_standby_whose_link_is_down_does_not_take_over() {
    let mut duo = Duo::in_sync();
    let now = duo.now;
    duo.node(1).handle_condition(now, Condition::LanLink, false);
    duo.kill(0);
    duo.run(Duration::from_secs(5));
    assert_eq!(duo.states()[1], Some(State::Standby));
    let now = duo.now;
    duo.node(1).handle_condition(now, Condition::LanLink, true);
    duo.run(Duration::from_secs(5));
    assert_eq!(duo.states()[1], Some(State::Active));
}

#[test]
fn a_connection_that_stalls_in_the_middle_of_a_snapshot_harms_nobody() {
    let mut duo = Duo::in_sync();
    duo.kill(1);
    duo.start(1, 9);
    duo.run(INTERVAL * 2);
    duo.moves.clear();
    for index in 0..200 {
        let now = duo.now;
        duo.node(0)
            .put(now, record(&format!("sa {index}")))
            .unwrap();
    }
    // Up, and then nothing goes through any more.
    for index in 0..2 {
        let now = duo.now;
        duo.node(index).handle_sync_up(now);
    }
    let now = duo.now;
    let hello = duo.node(1).poll_message(now).unwrap();
    duo.node(0).handle_message(now, hello);
    for _ in 0..50 {
        let now = duo.now;
        let _ = duo.node(0).poll_message(now);
    }
    // A commit point does not wait for it, and the role does not move.
    let now = duo.now;
    let position = duo.node(0).put(now, record("new")).unwrap();
    duo.node(0).commit(now, position).unwrap();
    duo.run(MS);
    assert_eq!(duo.committed, [Commit::OutOfSync]);
    duo.run(Duration::from_secs(4));
    assert_eq!(duo.moves, []);
    assert!(duo.gates[0].is_open(duo.now) && !duo.is_hot(1));
    assert_eq!(duo.redials, []);
    duo.run(Duration::from_secs(2));
    assert_eq!(duo.redials.first(), Some(&(0, Redial::Stalled)));
    // Dialled again, everything arrives.
    duo.disconnect();
    duo.connect();
    duo.run(INTERVAL);
    assert!(duo.is_hot(1));
    assert_eq!(
        {
            let now = duo.now;
            duo.node(1).values(now).len()
        },
        201
    );
}

#[test]
fn fifty_restarts_of_the_standby_change_nothing_for_the_active_node() {
    let mut duo = Duo::in_sync();
    for round in 0..50 {
        duo.kill(1);
        duo.run(INTERVAL);
        duo.start(1, 1000 + round);
        duo.run(INTERVAL);
        duo.connect();
        duo.run(INTERVAL * 2);
        assert!(duo.is_hot(1), "round {round}");
    }
    assert!(duo.moves.iter().all(|(index, ..)| *index == 1));
    let epoch = duo.node(0).epoch();
    assert_eq!(epoch, Epoch(1), "the claim is the same");
    let (_, floor) = duo.node(1).election().epochs();
    assert!(
        floor.for_iv(epoch).is_some(),
        "and 50 grants fit into the IV's epoch"
    );
}

#[test]
fn status_tells_either_node_the_whole_story() {
    let mut duo = Duo::in_sync();
    let now = duo.now;
    let status = duo.node(0).status(now);
    assert_eq!((status.role, status.in_sync), (Role::Active, true));
    assert_eq!((status.blockers, status.obstacles), (vec![], vec![]));
    assert!(status.transitions[0].serving_after.is_some());
    let status = duo.node(1).status(now);
    assert_eq!((status.role, status.hot), (Role::Standby, true));
    assert_eq!(status.obstacles, []);
    assert_eq!(status.lag, Some(Lag::default()));
    assert_eq!(
        status.why,
        "the partner is active and its claim outranks ours"
    );
}

#[test]
fn either_node_says_why_a_takeover_would_be_cold() {
    let mut duo = Duo::in_sync();
    duo.disconnect();
    duo.run(INTERVAL);
    let now = duo.now;
    let obstacles = [0, 1].map(|index| duo.node(index).obstacles(now));
    assert_eq!(obstacles, [[Obstacle::NoSync], [Obstacle::NoSync]]);
    duo.connect();
    let now = duo.now;
    duo.node(1).handle_condition(now, Condition::Health, false);
    let (key, no) = (record("sa").key, "cannot be read");
    duo.node(1).refuse(now, &key, no);
    duo.run(INTERVAL);
    let now = duo.now;
    let both = [Obstacle::StandbyUnfit, Obstacle::Refused];
    let obstacles = [0, 1].map(|index| duo.node(index).obstacles(now));
    assert_eq!(obstacles, [both, both]);
}

#[test]
fn status_is_json_with_times_in_milliseconds() {
    let mut duo = Duo::in_sync();
    duo.run(INTERVAL);
    let now = duo.now;
    let status = serde_json::to_value(duo.node(0).status(now)).unwrap();
    let at = |path: &str| status.pointer(path).unwrap().clone();
    assert_eq!(at("/role"), "active");
    assert_eq!(at("/serving"), true);
    assert_eq!(at("/epoch"), 1);
    assert_eq!(at("/following"), "in-sync");
    assert_eq!(
        at("/lag"),
        serde_json::json!({"records": 0, "bytes": 0, "ms": 0.0})
    );
    assert_eq!(at("/obstacles"), serde_json::json!([]));
    assert_eq!(at("/peer/role"), "standby");
    assert!(at("/peer/silent_for_ms").as_f64().unwrap() <= 100.0);
    assert!(at("/for_ms").as_f64().unwrap() > 100.0);
    let first = at("/transitions/0");
    assert_eq!(first["to"], "active");
    assert_eq!(first["reason"], "peer-silent");
    assert!(
        first["why"]
            .as_str()
            .unwrap()
            .contains("the whole patience")
    );
    assert!(first["serving_after_ms"].is_number());
}

#[test]
fn i8_every_refusal_has_a_counter_with_a_name() {
    let mut duo = Duo::in_sync();
    let now = duo.now;
    let node = duo.node(0);
    let _ = node.handle_datagram(now, PathId::First, b"noise");
    node.handle_path_refused(now, PathId::First);
    node.handle_message(now, Message::SnapshotBegin { stream: Epoch(9) });
    let counts: Vec<_> = node.counts().collect();
    for name in [
        "advert_length",
        "path_unreachable_while_connected",
        "sync_out_of_place",
    ] {
        assert!(counts.contains(&(name, 1)), "{name}: {counts:?}");
    }
    let mut names: Vec<_> = counts.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), counts.len(), "no name stands for two");
}
