//! Two gateways without sockets: their negotiators, what their data planes would hold, and
//! the datagrams between them.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ikev1::config::{
    Connection, DpdPolicy, EncapsulationPolicy, Phase1Exchange, Phase1Policy, Phase2Policy,
    RekeyPolicy, RemoteAddress, RetransmitPolicy, StartMode,
};
use ikev1::{Beginning, Command, Datagram, Event, ISAKMP_PORT, Identity, Negotiator, TransmitKind};
use ipsec_types::{ConnectionId, EspSaPair, SecretBytes, SelectorPair, Spi, TrafficSelector};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

/// The pre-shared key of both.
pub const PSK: &[u8] = b"correct horse battery staple";
/// Alice and Bob.
pub const ADDRESSES: [&str; 2] = ["192.0.2.1", "198.51.100.2"];
/// More datagrams or events than this in answer to one input is a loop.
const BURST: usize = 1000;

/// The bytes of a fuzz input, used up from the front.
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// A script from its first byte on.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte; `None` at the end.
    pub fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    /// Up to `len` bytes.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head
    }

    /// A length byte and as many bytes.
    pub fn field(&mut self) -> &'a [u8] {
        let len = self.next().unwrap_or(0);
        self.take(usize::from(len))
    }
}

/// Where side 0 (Alice) or 1 (Bob) is.
pub fn endpoint(side: usize) -> SocketAddr {
    SocketAddr::new(address(side), ISAKMP_PORT)
}

fn address(side: usize) -> IpAddr {
    ADDRESSES[side].parse().expect("a literal address")
}

fn connection(side: usize, start: StartMode) -> Connection {
    let everything = TrafficSelector::net("0.0.0.0/0".parse().expect("a literal prefix"));
    let rekey = |lifetime| RekeyPolicy::for_lifetime(lifetime);
    let (hours_8, hour) = (Duration::from_secs(8 * 3600), Duration::from_secs(3600));
    Connection {
        id: ConnectionId(0),
        name: "fuzz".to_owned(),
        local: address(side),
        remote: RemoteAddress::Address(address(1 - side)),
        local_id: Identity::Address(address(side)),
        remote_id: Identity::Address(address(1 - side)),
        psk: SecretBytes::from(PSK),
        start,
        encapsulation: EncapsulationPolicy::Auto,
        exchange: Phase1Exchange::Main,
        phase1: Phase1Policy {
            proposals: vec!["aes128-sha256-curve25519".parse().expect("a literal suite")],
            lifetime: hours_8,
            rekey: rekey(hours_8),
        },
        phase2: Phase2Policy {
            proposals: vec!["aes128gcm16".parse().expect("a literal suite")],
            lifetime: hour,
            lifetime_kilobytes: None,
            rekey: rekey(hour),
            grace: Duration::from_secs(30),
        },
        selectors: vec![SelectorPair {
            local: everything,
            remote: everything,
        }],
        retransmit: RetransmitPolicy::default(),
        dpd: Some(DpdPolicy::default()),
        nat_keepalive: Duration::from_secs(20),
        fragmentation: true,
        peer_drops_children: false,
        dpd_by_ping: false,
    }
}

/// A datagram between the two, or from somewhere else.
#[derive(Debug, Clone)]
pub struct Flight {
    /// Who gets it.
    pub to: usize,
    /// Where it says it comes from.
    pub source: SocketAddr,
    /// Where it goes.
    pub target: SocketAddr,
    /// ISAKMP.
    pub payload: Vec<u8>,
}

/// One gateway.
pub struct Node {
    /// Always there between two inputs.
    negotiator: Option<Negotiator>,
    /// Installed SAs by inbound SPI.
    pub pairs: BTreeMap<Spi, EspSaPair>,
}

/// Both gateways and what is on its way.
pub struct Lab {
    /// Virtual time.
    pub now: Instant,
    nodes: [Node; 2],
    /// Sent and not yet delivered.
    pub queue: VecDeque<Flight>,
    /// The last datagrams that were sent, for replays.
    pub history: VecDeque<Flight>,
    seed: u64,
}

impl Lab {
    /// Two gateways; Alice starts by herself if `alice` says so.
    pub fn new(alice: StartMode) -> Self {
        // Imported ages reach back before the start.
        let now = Instant::now() + Duration::from_secs(400 * 24 * 3600);
        let node = |side: usize, start| Node {
            negotiator: Some(Negotiator::new(
                vec![Arc::new(connection(side, start))],
                Box::new(ChaCha20Rng::seed_from_u64(side as u64)),
                now,
            )),
            pairs: BTreeMap::new(),
        };
        let mut lab = Self {
            now,
            nodes: [node(0, alice), node(1, StartMode::Respond)],
            queue: VecDeque::new(),
            history: VecDeque::new(),
            seed: 2,
        };
        lab.drain();
        lab
    }

    /// What one gateway has installed.
    pub fn pairs(&self, side: usize) -> &BTreeMap<Spi, EspSaPair> {
        &self.nodes[side].pairs
    }

    fn with(&mut self, side: usize, input: impl FnOnce(&mut Negotiator, Instant)) {
        let now = self.now;
        input(self.negotiator(side), now);
        self.drain();
    }

    fn negotiator(&mut self, side: usize) -> &mut Negotiator {
        self.nodes[side]
            .negotiator
            .as_mut()
            .expect("always there between two inputs")
    }

    /// Hands a datagram to its target.
    pub fn deliver(&mut self, flight: &Flight) {
        self.with(flight.to, |negotiator, now| {
            let datagram = Datagram {
                local: flight.target,
                remote: flight.source,
                payload: &flight.payload,
            };
            negotiator.handle_datagram(now, &datagram);
        });
    }

    /// The daemon of one side wants something.
    pub fn command(&mut self, side: usize, command: Command) {
        self.with(side, |negotiator, now| {
            negotiator.handle_command(now, command)
        });
    }

    /// The next deadline of either side.
    pub fn deadline(&mut self) -> Option<Instant> {
        let deadlines = [0, 1].map(|side| self.negotiator(side).poll_timeout());
        deadlines.into_iter().flatten().map(|(at, _)| at).min()
    }

    /// Time goes by; whatever is due fires.
    pub fn advance_to(&mut self, instant: Instant) {
        self.now = self.now.max(instant);
        for side in 0..2 {
            self.with(side, Negotiator::handle_timeout);
        }
    }

    /// A standby takes over with everything the active knew.
    pub fn hand_over(&mut self, side: usize) {
        self.seed += 1;
        let rng = Box::new(ChaCha20Rng::seed_from_u64(self.seed));
        let active = self.nodes[side].negotiator.take().expect("always there");
        let standby = active.stand_down(self.now);
        let (negotiator, errors) = standby.activate(self.now, rng, Beginning::Hot);
        assert!(errors.is_empty(), "exported state was refused: {errors:?}");
        self.nodes[side].negotiator = Some(negotiator);
        self.drain();
    }

    /// Takes everything that the negotiators have to say, and checks it.
    fn drain(&mut self) {
        for side in 0..2 {
            let mut sent = 0;
            while let Some(transmit) = self.negotiator(side).poll_transmit() {
                sent += 1;
                assert!(sent < BURST, "side {side} does not stop sending");
                // I5: whoever is not configured gets no answer.
                assert_eq!(
                    transmit.remote.ip(),
                    address(1 - side),
                    "an answer to a stranger"
                );
                assert_eq!(transmit.local.ip(), address(side));
                if transmit.kind == TransmitKind::NatKeepalive {
                    continue;
                }
                let flight = Flight {
                    to: 1 - side,
                    source: transmit.local,
                    target: transmit.remote,
                    payload: transmit.payload,
                };
                self.history.push_back(flight.clone());
                self.queue.push_back(flight);
            }
            for _ in 0..BURST {
                match self.negotiator(side).poll_event() {
                    Some(event) => self.nodes[side].obey(event),
                    None => break,
                }
            }
            let load = self.negotiator(side).load();
            assert_eq!(load.esp_sas, self.nodes[side].pairs.len(), "an SA was lost");
            assert!(
                load.esp_sas <= 64 && load.ike_sas <= 64,
                "SAs pile up: {load:?}"
            );
            assert!(
                load.half_open <= 4096,
                "half-open exchanges pile up: {load:?}"
            );
        }
        while self.history.len() > 64 {
            self.history.pop_front();
        }
    }
}

impl Node {
    /// What a data plane would do, with its complaints.
    fn obey(&mut self, event: Event) {
        match event {
            Event::EspSaUp { pair, .. } => {
                let before = self.pairs.insert(pair.inbound.spi, *pair);
                assert!(before.is_none(), "an inbound SPI is installed twice");
            }
            Event::EspSaDown { inbound, .. } => {
                let removed = self.pairs.remove(&inbound);
                assert!(
                    removed.is_some(),
                    "an SA is removed that was never installed"
                );
            }
            Event::OutboundSwitch { inbound, .. } => {
                assert!(self.pairs.contains_key(&inbound), "outbound moves to no SA");
            }
            Event::NegotiationFailed { explanation, .. } => {
                assert!(!explanation.contains('\n'), "an explanation is one line");
            }
            Event::IkeSaUp { .. }
            | Event::IkeSaDown { .. }
            | Event::PeerMoved { .. }
            | Event::StateChanged { .. }
            | Event::ProbeThroughTunnel { .. }
            | Event::HoldTraffic { .. } => {}
        }
    }
}
