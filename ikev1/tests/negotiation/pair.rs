//! The fixture: a discrete simulation of two gateways.

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use ikev1::config::Connection;
use ikev1::{Command, Datagram, DropReason, Event, Negotiator, Transmit, TransmitKind};
use ipsec_types::{ConnectionId, EspSaPair, EspSaParams, SelectorPair, Spi};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::config::{ALICE, BOB, address, list};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Alice,
    Bob,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Self::Alice => Self::Bob,
            Self::Bob => Self::Alice,
        }
    }
}

/// What the data plane of one gateway would hold.
#[derive(Default)]
pub struct DataPlane {
    /// By inbound SPI.
    pub pairs: BTreeMap<Spi, EspSaPair>,
    /// The pair that carries outbound packets, by its inbound SPI.
    pub outbound: BTreeMap<SelectorPair, Spi>,
    /// The most pairs that were ever installed at once.
    pub most_pairs: usize,
}

pub struct Node {
    pub negotiator: Negotiator,
    pub data_plane: DataPlane,
    pub events: Vec<Event>,
}

impl Node {
    fn drain_events(&mut self, keep: bool, trace: Option<&str>) {
        while let Some(event) = self.negotiator.poll_event() {
            self.data_plane.obey(&event);
            if let Some(prefix) = trace {
                let text = format!("{event:?}");
                let end = text
                    .char_indices()
                    .nth(170)
                    .map_or(text.len(), |(at, _)| at);
                println!("{prefix} {}", &text[..end]);
            }
            if keep {
                self.events.push(event);
            }
        }
    }

    pub fn failures(&self) -> Vec<String> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::NegotiationFailed { explanation, .. } => Some(explanation.clone()),
                _ => None,
            })
            .collect()
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.negotiator.counters().dropped(reason)
    }
}

impl DataPlane {
    fn obey(&mut self, event: &Event) {
        match event {
            Event::EspSaUp { pair, .. } => {
                let name = pair.inbound.spi;
                let before = self.pairs.insert(name, (**pair).clone());
                assert!(before.is_none(), "inbound SPI {name} is installed twice");
                self.most_pairs = self.most_pairs.max(self.pairs.len());
            }
            Event::OutboundSwitch {
                selectors,
                inbound,
                outbound,
                ..
            } => {
                let pair = &self.pairs[inbound];
                assert_eq!(pair.outbound.spi, *outbound);
                self.outbound.insert(*selectors, *inbound);
            }
            Event::EspSaDown {
                inbound, selectors, ..
            } => {
                assert!(
                    self.pairs.remove(inbound).is_some(),
                    "{inbound} was not there"
                );
                if self.outbound.get(selectors) == Some(inbound) {
                    self.outbound.remove(selectors);
                }
            }
            Event::PeerMoved {
                local,
                remote,
                inbound,
                ..
            } => {
                for spi in inbound {
                    let pair = self.pairs.get_mut(spi).unwrap();
                    for params in [&mut pair.inbound, &mut pair.outbound] {
                        params.local = *local;
                        params.remote = *remote;
                    }
                }
            }
            _ => {}
        }
    }
}

/// A datagram on its way.
#[derive(Debug, Clone)]
pub struct Flight {
    pub from: Side,
    /// Number among all datagrams of the simulation, from 0.
    pub number: usize,
    pub source: SocketAddr,
    pub target: SocketAddr,
    pub kind: TransmitKind,
    pub payload: Vec<u8>,
}

/// What the network does with a datagram.
pub enum Fate {
    Deliver,
    Drop,
    Duplicate,
    Delay(Duration),
    Replace(Vec<u8>),
}

/// A source NAT in front of one side.
pub struct Nat {
    pub side: Side,
    pub inside: IpAddr,
    pub outside: IpAddr,
    /// Added to every inside port; changing it moves the mapping.
    pub port_shift: u16,
}

impl Nat {
    fn outward(&self, address: SocketAddr) -> SocketAddr {
        SocketAddr::new(self.outside, address.port() + self.port_shift)
    }

    /// `None` for a mapping that no longer exists.
    fn inward(&self, address: SocketAddr) -> Option<SocketAddr> {
        let port = address.port().checked_sub(self.port_shift)?;
        (address.ip() == self.outside).then(|| SocketAddr::new(self.inside, port))
    }
}

type Rule = Box<dyn FnMut(&Flight) -> Fate>;

pub struct Pair {
    pub now: Instant,
    pub start: Instant,
    nodes: [Option<Node>; 2],
    in_flight: BinaryHeap<Reverse<(Instant, usize)>>,
    flights: BTreeMap<usize, (Side, Flight)>,
    sequence: usize,
    /// Every datagram that was sent, in order.
    pub sent: Vec<Flight>,
    /// False for long runs: `sent` stays empty.
    pub keep_log: bool,
    /// `VIPSEC_TRACE=1` prints what happens.
    trace: bool,
    count: usize,
    isakmp_count: usize,
    pub latency: Duration,
    pub nat: Option<Nat>,
    /// Packets each way: what the data planes would then report.
    pub traffic: bool,
    /// How often.
    pub traffic_interval: Duration,
    next_traffic: Instant,
    rule: Rule,
    seeds: ChaCha20Rng,
}

#[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
fn origin() -> Instant {
    // Room for exported ages that reach back before the start.
    Instant::now() + Duration::from_hours(24 * 400)
}

impl Pair {
    pub fn new(alice: Connection, bob: Connection) -> Self {
        Self::seeded(1, list(alice), list(bob))
    }

    pub fn seeded(seed: u64, alice: Vec<Arc<Connection>>, bob: Vec<Arc<Connection>>) -> Self {
        let start = origin();
        let mut pair = Self {
            now: start,
            start,
            nodes: [None, None],
            in_flight: BinaryHeap::new(),
            flights: BTreeMap::new(),
            sequence: 0,
            sent: Vec::new(),
            keep_log: true,
            trace: std::env::var_os("VIPSEC_TRACE").is_some(),
            count: 0,
            isakmp_count: 0,
            latency: Duration::from_millis(10),
            nat: None,
            traffic: false,
            traffic_interval: Duration::from_secs(1),
            next_traffic: start,
            rule: Box::new(|_| Fate::Deliver),
            seeds: ChaCha20Rng::seed_from_u64(seed),
        };
        pair.boot(Side::Alice, alice);
        pair.boot(Side::Bob, bob);
        pair
    }

    pub fn rng(&mut self) -> Box<ChaCha20Rng> {
        Box::new(ChaCha20Rng::seed_from_u64(self.seeds.next_u64()))
    }

    /// A gateway starts, or starts again without any memory.
    pub fn boot(&mut self, side: Side, connections: Vec<Arc<Connection>>) {
        let rng = self.rng();
        let negotiator = Negotiator::new(connections, rng, self.now);
        self.install(side, negotiator, DataPlane::default());
    }

    pub fn install(&mut self, side: Side, negotiator: Negotiator, data_plane: DataPlane) {
        self.nodes[side as usize] = Some(Node {
            negotiator,
            data_plane,
            events: Vec::new(),
        });
    }

    /// A gateway loses power: nothing of it is left but what is in flight.
    pub fn take(&mut self, side: Side) -> Node {
        self.nodes[side as usize].take().unwrap()
    }

    pub fn node(&mut self, side: Side) -> &mut Node {
        self.nodes[side as usize].as_mut().unwrap()
    }

    pub fn alice(&mut self) -> &mut Node {
        self.node(Side::Alice)
    }

    pub fn bob(&mut self) -> &mut Node {
        self.node(Side::Bob)
    }

    /// What the network does from now on.
    pub fn network(&mut self, rule: impl FnMut(&Flight) -> Fate + 'static) {
        self.rule = Box::new(rule);
    }

    pub fn reliable(&mut self) {
        self.network(|_| Fate::Deliver);
    }

    /// Drops the datagrams with these numbers.
    pub fn lose(&mut self, numbers: &[usize]) {
        let numbers = numbers.to_vec();
        self.network(move |flight| {
            if numbers.contains(&flight.number) {
                Fate::Drop
            } else {
                Fate::Deliver
            }
        });
    }

    pub fn command(&mut self, side: Side, command: Command) {
        let now = self.now;
        self.node(side).negotiator.handle_command(now, command);
        self.collect();
    }

    /// Hands a datagram to a gateway as if it had come from there.
    pub fn inject(&mut self, to: Side, source: SocketAddr, target: SocketAddr, payload: &[u8]) {
        let now = self.now;
        let datagram = Datagram {
            local: target,
            remote: source,
            payload,
        };
        self.node(to).negotiator.handle_datagram(now, &datagram);
        self.collect();
    }

    fn collect(&mut self) {
        for side in [Side::Alice, Side::Bob] {
            let Some(node) = &mut self.nodes[side as usize] else {
                continue;
            };
            let at = (self.now - self.start).as_secs_f64();
            let prefix = self.trace.then(|| format!("{at:10.3} {side:?}"));
            node.drain_events(self.keep_log, prefix.as_deref());
            let mut transmits = Vec::new();
            while let Some(transmit) = node.negotiator.poll_transmit() {
                transmits.push(transmit);
            }
            for transmit in transmits {
                self.send(side, transmit);
            }
        }
    }

    fn send(&mut self, from: Side, transmit: Transmit) {
        let flight = Flight {
            from,
            number: self.count,
            source: transmit.local,
            target: transmit.remote,
            kind: transmit.kind,
            payload: transmit.payload,
        };
        self.count += 1;
        if self.trace {
            let at = (self.now - self.start).as_secs_f64();
            println!("{at:10.3} {from:?} {}", describe(&flight));
        }
        // Byte 18 is the exchange type; 5 is informational: probes, deletes.
        let negotiates = flight.kind == TransmitKind::Isakmp && flight.payload[18] != 5;
        self.isakmp_count += usize::from(negotiates);
        if self.keep_log {
            self.sent.push(flight.clone());
        }
        let (copies, extra, flight) = match (self.rule)(&flight) {
            Fate::Deliver => (1, Duration::ZERO, flight),
            Fate::Drop => (0, Duration::ZERO, flight),
            Fate::Duplicate => (2, Duration::ZERO, flight),
            Fate::Delay(extra) => (1, extra, flight),
            Fate::Replace(payload) => (1, Duration::ZERO, Flight { payload, ..flight }),
        };
        for _ in 0..copies {
            let at = self.now + self.latency + extra;
            self.sequence += 1;
            self.in_flight.push(Reverse((at, self.sequence)));
            self.flights
                .insert(self.sequence, (from.other(), flight.clone()));
        }
    }

    fn deliver(&mut self, to: Side, flight: &Flight) {
        let (mut source, mut target) = (flight.source, flight.target);
        if let Some(nat) = &self.nat {
            if nat.side == flight.from {
                source = nat.outward(source);
            } else {
                let Some(inside) = nat.inward(target) else {
                    return;
                };
                target = inside;
            }
        }
        let Some(node) = &mut self.nodes[to as usize] else {
            return;
        };
        if flight.kind == TransmitKind::NatKeepalive {
            return;
        }
        let datagram = Datagram {
            local: target,
            remote: source,
            payload: &flight.payload,
        };
        node.negotiator.handle_datagram(self.now, &datagram);
    }

    /// Goes to the next thing that happens, if that is not later than `until`.
    pub fn step(&mut self, until: Instant) -> bool {
        self.collect();
        let arrival = self.in_flight.peek().map(|Reverse((at, _))| *at);
        let timers = self
            .nodes
            .iter()
            .flatten()
            .filter_map(|node| node.negotiator.poll_timeout())
            .map(|(at, _)| at);
        let traffic = self.traffic.then_some(self.next_traffic);
        let events = timers.chain(arrival).chain(traffic);
        let Some(next) = events.min().filter(|next| *next <= until) else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(next);
        if arrival.is_some_and(|at| at <= self.now) {
            let Reverse((_, key)) = self.in_flight.pop().unwrap();
            let (to, flight) = self.flights.remove(&key).unwrap();
            self.deliver(to, &flight);
        } else {
            let now = self.now;
            for node in self.nodes.iter_mut().flatten() {
                node.negotiator.handle_timeout(now);
            }
        }
        if self.traffic && self.next_traffic <= self.now {
            self.next_traffic = self.now + self.traffic_interval;
            self.packets(Side::Alice);
            self.packets(Side::Bob);
        }
        self.collect();
        true
    }

    /// One ESP packet for each pair of selectors, and what its receiver makes of it.
    fn packets(&mut self, from: Side) {
        let Some(sender) = &self.nodes[from as usize] else {
            return;
        };
        let data_plane = &sender.data_plane;
        let packets: Vec<EspSaParams> = data_plane
            .outbound
            .values()
            .map(|name| data_plane.pairs[name].outbound.clone())
            .collect();
        let now = self.now;
        let Some(receiver) = &mut self.nodes[from.other() as usize] else {
            return;
        };
        for packet in packets {
            let command = if receiver.data_plane.pairs.contains_key(&packet.spi) {
                Command::TrafficSeen {
                    connection: ConnectionId(0),
                }
            } else {
                Command::UnknownSpi {
                    remote: packet.local,
                    spi: packet.spi.get(),
                }
            };
            receiver.negotiator.handle_command(now, command);
        }
    }

    pub fn run_for(&mut self, span: Duration) {
        let until = self.now + span;
        while self.step(until) {}
    }

    /// Runs until the tunnel can be used both ways, and says how long that took.
    pub fn run_until_up(&mut self, at_most: Duration) -> Duration {
        let (begin, until) = (self.now, self.now + at_most);
        loop {
            if self.is_up() {
                return self.now - begin;
            }
            assert!(
                self.step(until),
                "not up after {at_most:?}; alice: {:?}, bob: {:?}",
                self.nodes[0].as_ref().map(Node::failures),
                self.nodes[1].as_ref().map(Node::failures),
            );
        }
    }

    /// Runs until each side has exactly one pair for each of its selectors.
    pub fn run_until_settled(&mut self, at_most: Duration) {
        let until = self.now + at_most;
        while !self.is_settled() {
            assert!(self.step(until), "not settled after {at_most:?}");
        }
    }

    fn is_settled(&self) -> bool {
        self.nodes.iter().flatten().all(|node| {
            node.data_plane.pairs.len() == node.data_plane.outbound.len()
                && node.negotiator.load().spis == node.data_plane.pairs.len()
        })
    }

    /// True when each side sends on an SA that the other side opens, with the same keys.
    pub fn is_up(&self) -> bool {
        self.selectors()
            .is_some_and(|all| all.iter().all(|selectors| self.carries(*selectors)))
    }

    fn selectors(&self) -> Option<Vec<SelectorPair>> {
        let alice = self.nodes[0].as_ref()?;
        let status = alice.negotiator.status(self.now);
        let status = status.first()?;
        let live = status.esp_sas.iter().map(|sa| sa.selectors);
        Some(status.missing.iter().copied().chain(live).collect())
    }

    /// As Alice writes the selectors.
    pub fn carries(&self, selectors: SelectorPair) -> bool {
        let (Some(alice), Some(bob)) = (&self.nodes[0], &self.nodes[1]) else {
            return false;
        };
        one_way(&alice.data_plane, &bob.data_plane, selectors)
            && one_way(&bob.data_plane, &alice.data_plane, selectors.reversed())
    }

    /// Everything agrees: no SA that only one side has.
    pub fn assert_consistent(&mut self) {
        let [Some(alice), Some(bob)] = &self.nodes else {
            return;
        };
        for (ours, theirs) in [(alice, bob), (bob, alice)] {
            for pair in ours.data_plane.pairs.values() {
                let partner = theirs.data_plane.pairs.get(&pair.outbound.spi);
                let partner = partner.unwrap_or_else(|| {
                    panic!("the peer has no pair for {}", pair.outbound.spi);
                });
                assert_eq!(partner.outbound.spi, pair.inbound.spi);
                assert_same_keys(pair, partner);
            }
            let load = ours.negotiator.load();
            assert_eq!(load.esp_sas, ours.data_plane.pairs.len());
        }
    }

    /// No SA that shares an SPI between the sides has different keys on them.
    pub fn assert_no_wrong_keys(&self) {
        let (Some(alice), Some(bob)) = (&self.nodes[0], &self.nodes[1]) else {
            return;
        };
        for pair in alice.data_plane.pairs.values() {
            if let Some(partner) = bob.data_plane.pairs.get(&pair.outbound.spi)
                && partner.outbound.spi == pair.inbound.spi
            {
                assert_same_keys(pair, partner);
            }
        }
    }

    /// Datagrams that negotiate: probes, deletes and notifications are not counted.
    pub fn messages(&self) -> usize {
        self.isakmp_count
    }
}

fn assert_same_keys(ours: &EspSaPair, theirs: &EspSaPair) {
    assert_eq!(ours.inbound.encryption_key, theirs.outbound.encryption_key);
    assert_eq!(ours.inbound.integrity_key, theirs.outbound.integrity_key);
    assert_eq!(ours.outbound.encryption_key, theirs.inbound.encryption_key);
    assert_eq!(ours.outbound.integrity_key, theirs.inbound.integrity_key);
    assert_eq!(ours.inbound.suite, theirs.outbound.suite);
    assert_eq!(ours.inbound.esn, theirs.inbound.esn);
    assert_eq!(ours.inbound.encapsulation, theirs.inbound.encapsulation);
    assert_eq!(ours.inbound.selectors.reversed(), theirs.inbound.selectors);
}

fn one_way(sender: &DataPlane, receiver: &DataPlane, selectors: SelectorPair) -> bool {
    let Some(name) = sender.outbound.get(&selectors) else {
        return false;
    };
    let outbound = &sender.pairs[name].outbound;
    receiver
        .pairs
        .get(&outbound.spi)
        .is_some_and(|pair| pair.inbound.encryption_key == outbound.encryption_key)
}

pub fn at(side: Side, port: u16) -> SocketAddr {
    let ip = match side {
        Side::Alice => ALICE,
        Side::Bob => BOB,
    };
    SocketAddr::new(address(ip), port)
}

fn describe(flight: &Flight) -> String {
    let number = flight.number;
    match ikev1::wire::parse(&flight.payload) {
        Ok(incoming) => {
            let header = incoming.header();
            format!(
                "#{number} {}:{} {} {}, {} bytes",
                header.cookies.initiator,
                header.cookies.responder,
                header.exchange,
                header.message_id,
                flight.payload.len()
            )
        }
        Err(_) => format!("#{number} {:?}", flight.kind),
    }
}
