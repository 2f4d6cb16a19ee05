//! How an active node keeps a standby up to date, change by change, and hands over in peace.

use core::time::Duration;
use std::sync::Arc;

use ikev1::config::{Connection, DpdAction, DpdPolicy, RekeyPolicy, StartMode};
use ikev1::{
    Beginning, Command, ConnectionState, DropReason, Event, ExportedTunnel, Load, Negotiator,
    Standby, TransmitKind,
};
use ipsec_types::ConnectionId;

use super::config::{both, list, selectors};
use super::pair::{Fate, Node, Pair, Side};

const SOON: Duration = Duration::from_secs(3);
const ID: ConnectionId = ConnectionId(0);

fn lively(mut connection: Connection) -> Connection {
    connection.dpd = Some(DpdPolicy {
        delay: Duration::from_secs(20),
        retry: Duration::from_secs(3),
        max_failures: 3,
        action: DpdAction::Restart,
    });
    connection.phase2.lifetime = Duration::from_mins(10);
    connection.phase2.rekey = RekeyPolicy::for_lifetime(connection.phase2.lifetime);
    connection.phase1.lifetime = Duration::from_mins(35);
    connection.phase1.rekey = RekeyPolicy::for_lifetime(connection.phase1.lifetime);
    connection
}

/// Runs one side with a standby that learns of nothing but what the events announce.
struct Replicated {
    pair: Pair,
    side: Side,
    standby: Standby,
    seen: usize,
    puts: usize,
}

impl Replicated {
    fn new(pair: Pair, side: Side, config: Vec<Arc<Connection>>) -> Self {
        Self {
            pair,
            side,
            standby: Standby::new(config),
            seen: 0,
            puts: 0,
        }
    }

    fn run_for(&mut self, span: Duration) {
        let until = self.pair.now + span;
        loop {
            let more = self.pair.step(until);
            self.replicate();
            if !more {
                return;
            }
        }
    }

    fn replicate(&mut self) {
        let now = self.pair.now;
        let node = self.pair.node(self.side);
        let changed = node.events[self.seen..]
            .iter()
            .any(|event| matches!(event, Event::StateChanged { connection } if *connection == ID));
        self.seen = node.events.len();
        if changed {
            self.puts += 1;
            match node.negotiator.export(now, ID) {
                Some(exported) => self.standby.put(now, exported).unwrap(),
                None => self.standby.remove("test"),
            }
        }
    }

    /// The active loses power.
    fn take_over(mut self) -> Pair {
        let old = self.pair.take(self.side);
        let rng = self.pair.rng();
        let (negotiator, errors) = self.standby.activate(self.pair.now, rng, Beginning::Hot);
        assert!(errors.is_empty(), "{errors:?}");
        self.pair.install(self.side, negotiator, old.data_plane);
        self.pair
    }
}

#[test]
fn what_each_change_announces_is_all_that_a_standby_needs() {
    for (side, minutes) in [
        (Side::Alice, 7),
        (Side::Bob, 7),
        (Side::Alice, 41),
        (Side::Bob, 41),
    ] {
        let (alice, bob) = both();
        let (alice, bob) = (lively(alice), lively(bob));
        let config = list(if side == Side::Alice {
            alice.clone()
        } else {
            bob.clone()
        });
        let mut run = Replicated::new(Pair::new(alice, bob), side, config);
        run.run_for(Duration::from_mins(minutes));
        let mut pair = run.take_over();
        // Whatever the peer has ever sent comes again: nothing of it is new.
        let recorded: Vec<_> = pair
            .sent
            .iter()
            .filter(|flight| flight.from == side.other())
            .cloned()
            .collect();
        let sent = pair.sent.len();
        let load = pair.node(side).negotiator.load();
        for flight in &recorded {
            pair.inject(side, flight.source, flight.target, &flight.payload);
        }
        // But for first messages of phase 1, which anybody can send.
        let half_open = pair.node(side).negotiator.load().half_open;
        let expected = Load { half_open, ..load };
        assert_eq!(pair.node(side).negotiator.load(), expected);
        let answers = pair.sent[sent..]
            .iter()
            .filter(|flight| flight.payload[18] == 5)
            .count();
        assert_eq!(answers, 0, "a replayed probe was answered");
        // And it goes on as if nothing had been.
        for _ in 0..120 {
            pair.run_for(Duration::from_secs(30));
            assert!(pair.is_up(), "{side:?} at {:?}", pair.now - pair.start);
        }
        for side in [Side::Alice, Side::Bob] {
            assert_eq!(pair.node(side).dropped(DropReason::BadDpdSequence), 0);
        }
        pair.assert_consistent();
    }
}

#[test]
fn idle_traffic_and_forgeries_announce_nothing() {
    let (alice, bob) = both();
    let config = list(alice.clone());
    let mut run = Replicated::new(Pair::new(alice, bob), Side::Alice, config);
    run.run_for(Duration::from_mins(1));
    let puts = run.puts;
    assert!(puts > 0);
    run.pair.traffic = true;
    let recorded = run.pair.sent.clone();
    for flight in recorded.iter().filter(|flight| flight.from == Side::Bob) {
        run.pair
            .inject(Side::Alice, flight.source, flight.target, &flight.payload);
    }
    run.run_for(Duration::from_mins(5));
    assert_eq!(run.puts, puts);
}

#[test]
fn a_lost_message_3_is_repeated_by_the_other_node() {
    let (alice, bob) = both();
    let config = list(alice.clone());
    let mut pair = Pair::new(alice, bob);
    // Quick mode is 32; its third message is the second that Alice sends.
    let mut quick = 0;
    pair.network(move |flight| {
        if flight.from == Side::Alice && flight.payload[18] == 32 {
            quick += 1;
            if quick == 2 {
                return Fate::Drop;
            }
        }
        Fate::Deliver
    });
    let mut run = Replicated::new(pair, Side::Alice, config);
    run.run_for(Duration::from_millis(300));
    assert!(!run.pair.is_up(), "Bob has not seen message 3");
    let mut pair = run.take_over();
    pair.run_for(Duration::from_secs(2));
    assert!(pair.is_up());
    pair.assert_consistent();
    assert_eq!(pair.bob().negotiator.load().quick_modes, 0);
}

#[test]
fn what_was_taken_down_stays_down() {
    let (alice, bob) = both();
    let config = list(alice.clone());
    let mut run = Replicated::new(Pair::new(alice, bob), Side::Alice, config);
    run.run_for(SOON);
    run.pair
        .command(Side::Alice, Command::Terminate { connection: ID });
    run.run_for(SOON);
    let mut pair = run.take_over();
    let sent = pair.sent.len();
    pair.run_for(Duration::from_mins(5));
    assert_eq!(pair.sent.len(), sent);
    pair.command(
        Side::Alice,
        Command::Initiate {
            connection: ID,
            selectors: None,
        },
    );
    pair.run_until_up(SOON);
}

#[test]
fn a_gateway_that_shuts_down_leaves_nothing_to_the_standby() {
    let (alice, bob) = both();
    let config = list(alice.clone());
    let mut run = Replicated::new(Pair::new(alice, bob), Side::Alice, config);
    run.run_for(SOON);
    run.pair.command(Side::Alice, Command::Shutdown);
    run.run_for(SOON);
    assert_eq!(run.standby.connections().count(), 0);
    let mut pair = run.take_over();
    pair.run_until_up(SOON);
}

#[test]
fn forgotten_state_is_not_taken_over() {
    let (alice, bob) = both();
    let config = list(alice.clone());
    let mut run = Replicated::new(Pair::new(alice, bob), Side::Alice, config);
    run.run_for(SOON);
    run.standby.remove("test");
    let mut pair = run.take_over();
    assert_eq!(pair.alice().negotiator.load().ike_sas, 0);
}

#[test]
fn the_largest_export_of_a_real_connection_fits_into_one_record() {
    let (mut alice, mut bob) = both();
    alice.selectors = (0..200)
        .map(|n| selectors(&format!("2001:db8:1:{n:x}::/64"), "2001:db8:2::/64"))
        .collect();
    bob.selectors = alice.selectors.iter().map(|pair| pair.reversed()).collect();
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(Duration::from_secs(30));
    for side in [Side::Alice, Side::Bob] {
        let now = pair.now;
        let exported = pair.node(side).negotiator.export(now, ID).unwrap();
        let length = postcard::to_stdvec(&exported).unwrap().len();
        println!("{side:?}: 200 ESP SA pairs, {length} bytes");
        assert!(length <= ExportedTunnel::MAX_ENCODED);
    }
    // All of them came along.
    let now = pair.now;
    let exported = pair.alice().negotiator.export(now, ID).unwrap();
    assert_eq!(exported.esp_sas(), 200);
}

#[test]
fn a_connection_in_service_takes_few_bytes() {
    let (alice, bob) = both();
    let mut pair = Pair::new(lively(alice), lively(bob));
    pair.run_for(Duration::from_mins(30));
    let now = pair.now;
    let exported = pair.alice().negotiator.export(now, ID).unwrap();
    let length = postcard::to_stdvec(&exported).unwrap().len();
    println!("one ESP SA pair after half an hour: {length} bytes");
    assert!(length < 3000, "{length}");
}

#[test]
fn standing_down_tells_nobody() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    let sent = pair.sent.len();
    let Node {
        negotiator,
        data_plane,
        ..
    } = pair.take(Side::Alice);
    let standby = negotiator.stand_down(pair.now);
    pair.run_for(Duration::from_mins(5));
    assert_eq!(pair.sent.len(), sent);
    let rng = pair.rng();
    let (again, _): (Negotiator, _) = standby.activate(pair.now, rng, Beginning::Hot);
    pair.install(Side::Alice, again, data_plane);
    pair.run_for(Duration::from_mins(1));
    assert_eq!(pair.sent.len(), sent);
    assert!(pair.is_up());
}

#[test]
fn while_quiet_nothing_is_started_and_the_peer_is_answered() {
    let (mut alice, bob) = both();
    alice = lively(alice);
    let mut bob = lively(bob);
    bob.phase1.rekey.margin = Duration::ZERO;
    bob.phase2.rekey.margin = Duration::ZERO;
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    let now = pair.now;
    pair.alice().negotiator.quiesce(now, true);
    let before = pair.sent.len();
    pair.run_for(Duration::from_mins(9));
    let sent = &pair.sent[before..];
    let from = |side| {
        sent.iter()
            .filter(move |flight| flight.from == side)
            .count()
    };
    assert!(from(Side::Bob) > 10, "Bob probes");
    assert_eq!(
        from(Side::Alice),
        from(Side::Bob),
        "each probe is answered, nothing else"
    );
    assert!(pair.is_up());
    let now = pair.now;
    assert!(!pair.alice().negotiator.is_negotiating());
    pair.alice().negotiator.quiesce(now, false);
    pair.run_for(Duration::from_secs(5));
    let quick = pair.sent[before..]
        .iter()
        .filter(|flight| flight.kind == TransmitKind::Isakmp && flight.payload[18] == 32);
    assert_eq!(quick.count(), 3, "the rekey that was due");
    assert!(pair.is_up());
}

#[test]
fn an_exchange_under_way_is_seen_and_ends_in_spite_of_quiet() {
    let (alice, bob) = both();
    let mut pair = Pair::new(alice, bob);
    pair.run_for(Duration::from_millis(25));
    let now = pair.now;
    for side in [Side::Alice, Side::Bob] {
        assert!(pair.node(side).negotiator.is_negotiating() || side == Side::Bob);
        pair.node(side).negotiator.quiesce(now, true);
    }
    pair.run_for(SOON);
    for side in [Side::Alice, Side::Bob] {
        let node = pair.node(side);
        assert!(!node.negotiator.is_negotiating());
        assert_eq!(node.negotiator.load().ike_sas, 1, "phase 1 came to its end");
        assert_eq!(node.negotiator.load().esp_sas, 0, "phase 2 was not begun");
    }
    let now = pair.now;
    pair.alice().negotiator.quiesce(now, false);
    pair.run_until_up(SOON);
}

#[test]
fn first_messages_from_anybody_do_not_count_as_negotiating() {
    let (alice, mut bob) = both();
    bob.start = StartMode::Respond;
    let mut pair = Pair::new(alice, bob);
    pair.network(|flight| {
        if flight.from == Side::Bob {
            Fate::Drop
        } else {
            Fate::Deliver
        }
    });
    pair.run_for(SOON);
    assert!(pair.bob().negotiator.load().half_open > 0);
    assert!(!pair.bob().negotiator.is_negotiating());
    let now = pair.now;
    let status = pair.bob().negotiator.status(now);
    assert_ne!(status[0].state, ConnectionState::Up);
}

#[test]
fn a_probe_of_ours_is_no_message_of_the_peers_for_the_other_node() {
    let (alice, bob) = both();
    let alice = lively(alice);
    let config = list(alice.clone());
    let mut run = Replicated::new(Pair::new(alice, bob), Side::Alice, config);
    run.run_for(SOON);
    run.pair.network(|flight| match flight.from {
        Side::Alice => Fate::Deliver,
        Side::Bob => Fate::Drop,
    });
    run.run_for(Duration::from_secs(21));
    let mut pair = run.take_over();
    // HASH(1) is the same both ways: somebody may send our own probe back to us.
    let probe = pair.sent.iter().rfind(|flight| flight.from == Side::Alice);
    let probe = probe.unwrap().clone();
    assert_eq!(probe.payload[18], 5);
    let sent = pair.sent.len();
    pair.inject(Side::Alice, probe.target, probe.source, &probe.payload);
    assert_eq!(pair.sent.len(), sent, "it was answered");
    assert_eq!(pair.alice().dropped(DropReason::ReplayedMessageId), 1);
}

#[test]
fn while_quiet_there_is_no_probe_and_no_delete() {
    let (alice, mut bob) = both();
    let mut alice = lively(alice);
    bob.phase2.lifetime = Duration::from_hours(8);
    alice.phase1.lifetime = Duration::from_mins(5);
    let mut pair = Pair::new(alice, bob);
    pair.run_until_up(SOON);
    pair.run_for(SOON);
    let now = pair.now;
    pair.alice().negotiator.quiesce(now, true);
    let sent = pair.sent.len();
    // Past the ends of both SAs.
    pair.run_for(Duration::from_mins(11));
    let alices = pair.sent[sent..].iter().filter(|flight| {
        // But for the answers to what Bob begins.
        flight.from == Side::Alice && flight.payload[18] == 5
    });
    assert_eq!(alices.count(), 0);
    assert_eq!(pair.alice().negotiator.load().ike_sas, 1);
    let now = pair.now;
    pair.alice().negotiator.quiesce(now, false);
    pair.run_until_up(SOON);
}
