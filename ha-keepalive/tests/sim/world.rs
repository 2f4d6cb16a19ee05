//! Virtual time, two gateways, two paths, one sync connection, a peer, and everything that can
//! go wrong between them.

use core::time::Duration;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use ha_keepalive::election::{Condition, Config, State};
use ha_keepalive::node::Order;
use ha_keepalive::replication::Message;
use ha_keepalive::{AdvertInterval, Member, PathId, Priority};
use ipsec_types::SecretBytes;

use super::dice::Dice;
use super::gateway::{Effect, Gateway};

pub(crate) const MS: Duration = Duration::from_millis(1);
/// Packets per second of the fastest tunnels; no node is faster than four million.
const FASTEST: u64 = 3_000_000;

/// What a schedule may contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// At any time at least one path is clean: whatever happens, one node serves at a time.
    OnePathClean,
    /// Everything, also both paths cut at once: two may serve, and nothing else may go wrong.
    Anything,
}

/// Something that broke a rule, with the invariant's name.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) invariant: &'static str,
    pub(crate) seed: u64,
    pub(crate) what: String,
}

#[derive(Debug)]
enum Input {
    Datagram(PathId, Vec<u8>),
    Refused(PathId),
    SyncUp(u64),
    SyncDown(u64),
    Message(u64, SecretBytes),
    StepDone(ha_keepalive::takeover::StepId),
    Condition(Condition, bool),
    Switchover,
}

#[derive(Debug)]
enum Event {
    /// For one incarnation of one gateway.
    Input(usize, u64, Input),
    Wake(usize, u64),
    Timer(usize, u64),
    Traffic,
    Dial,
    Restart(usize),
    Fault,
    SyncDeliver(u64, usize),
    SyncTimeout(u64),
    PathHeals(usize),
}

struct Scheduled {
    at: Duration,
    order: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// One machine.
struct Host {
    gateway: Option<Box<Gateway>>,
    incarnation: u64,
    /// How often it was powered on: each time its clock starts anew.
    boots: u64,
    /// The machine itself runs: its kernel answers for a dead process.
    powered: bool,
    paused: bool,
    pending: VecDeque<Input>,
    timer: Option<Duration>,
    /// The sync connection that the process knows of.
    sync: Option<u64>,
    fit: bool,
    config: Config,
    /// Edges ever applied or used, by SA, in this incarnation (I3).
    edges: HashMap<u64, u64>,
}

impl Host {
    fn new(member: Member, interval: Duration, dice: &mut Dice) -> Self {
        let mut config = Config::new(member, AdvertInterval::new(interval).unwrap());
        config.priority = Priority::new(dice.range(50, 53) as u8 * 2).unwrap();
        config.hold_down = interval * dice.range(2, 20) as u32;
        config.preempt = dice.chance(20).then(|| interval * 10);
        config.handover_limit = Duration::from_millis(200).max(interval);
        Self {
            gateway: None,
            incarnation: 0,
            boots: 1,
            powered: true,
            paused: false,
            pending: VecDeque::new(),
            timer: None,
            sync: None,
            fit: true,
            config,
            edges: HashMap::new(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Path {
    up: bool,
    loss: u64,
    slow: bool,
}

struct Connection {
    id: u64,
    /// Messages under way, per receiver.
    queue: [VecDeque<SecretBytes>; 2],
    /// Whether each end has seen it come up and not yet go down.
    ends: [bool; 2],
    /// Whether each process has been told: what it reads comes after that.
    told: [bool; 2],
    stalled_until: Duration,
}

/// The peer gateway and what all packets on the WAN have shown.
#[derive(Default)]
struct Peer {
    /// Highest number ever sent by anybody, per SA.
    highest: HashMap<u64, u64>,
    /// Owner of each (SA, member, IV epoch): incarnation and activation.
    ivs: HashMap<(u64, Member, u16), (u64, u64)>,
    /// Inbound numbers the peer has sent, per SA.
    inbound: HashMap<u64, u64>,
    /// Highest inbound number any gateway accepted, per SA, and when.
    accepted: HashMap<u64, u64>,
    sent: u64,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) weather: Weather,
    pub(crate) now: Duration,
    pub(crate) violations: Vec<Violation>,
    pub(crate) trace: bool,
    pub(crate) moves: Vec<(usize, State, State)>,
    pub(crate) hot_takeovers: u64,
    pub(crate) served_ticks: u64,
    pub(crate) ticks: u64,
    dice: Dice,
    attacker: Option<Dice>,
    recordings: Vec<(usize, PathId, Vec<u8>)>,
    interval: Duration,
    /// Most numbers that one SA sends per tick.
    burst: u64,
    queue: BinaryHeap<Scheduled>,
    order: u64,
    hosts: [Host; 2],
    paths: [Path; 2],
    connection: Option<Connection>,
    connections: u64,
    peer: Peer,
    next_sa: u64,
    faults: bool,
    ends_at: Duration,
}

const fn member(host: usize) -> Member {
    if host == 0 { Member::A } else { Member::B }
}

impl World {
    pub(crate) fn new(seed: u64, weather: Weather, attacked: bool) -> Self {
        let mut dice = Dice::new(seed);
        let interval =
            Duration::from_millis([10, 20, 50, 50, 100, 1000][dice.range(0, 6) as usize]);
        // Every fifth schedule is so fast that a node without a partner outruns its last block.
        let burst = match seed % 5 {
            4 => FASTEST * interval.as_millis() as u64 / 6 / 1000,
            _ => 40,
        };
        let hosts = [Member::A, Member::B].map(|member| Host::new(member, interval, &mut dice));
        let path = Path {
            up: true,
            loss: 0,
            slow: false,
        };
        let mut world = Self {
            seed,
            weather,
            now: Duration::from_secs(1000),
            violations: Vec::new(),
            trace: false,
            moves: Vec::new(),
            hot_takeovers: 0,
            served_ticks: 0,
            ticks: 0,
            attacker: attacked.then(|| Dice::new(!seed)),
            recordings: Vec::new(),
            interval,
            burst,
            queue: BinaryHeap::new(),
            order: 0,
            hosts,
            paths: [path; 2],
            connection: None,
            connections: 0,
            peer: Peer::default(),
            next_sa: 1,
            faults: true,
            ends_at: Duration::ZERO,
            dice,
        };
        let late = world.dice.time(Duration::ZERO, interval * 4);
        world.schedule(Duration::ZERO, Event::Restart(0));
        world.schedule(late, Event::Restart(1));
        world.schedule(Duration::ZERO, Event::Traffic);
        world.schedule(MS, Event::Dial);
        let first = world.dice.time(interval * 8, interval * 16);
        world.schedule(first, Event::Fault);
        world
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.order += 1;
        self.queue.push(Scheduled {
            at: self.now + after,
            order: self.order,
            event,
        });
    }

    fn violate(&mut self, invariant: &'static str, what: String) {
        if self.trace {
            println!("{:?} !!! {invariant}: {what}", self.now);
        }
        self.violations.push(Violation {
            invariant,
            seed: self.seed,
            what: format!("at {:?}: {what}", self.now),
        });
    }

    fn log(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>12?} {}", self.now - Duration::from_secs(1000), what());
        }
    }

    /// Faults for a while, then peace: the pair must settle.
    pub(crate) fn run(&mut self) {
        self.run_until(self.now + self.interval * 60);
        self.faults = false;
        self.make_peace();
        let deadline = self.now + self.interval * 40 + Duration::from_secs(3);
        self.run_until(self.now + self.interval * 12);
        while !self.is_settled() && self.now < deadline && self.violations.is_empty() {
            self.run_until(self.now + self.interval * 4);
        }
        if !self.is_settled() {
            self.violate("settled", format!("{:?}", self.states()));
        }
        self.check_numbers();
    }

    pub(crate) fn run_until(&mut self, end: Duration) {
        self.ends_at = end;
        while let Some(next) = self.queue.peek()
            && next.at <= end
            && self.violations.len() < 3
        {
            let Some(next) = self.queue.pop() else { break };
            self.now = next.at;
            self.happen(next.event);
            self.check_always();
        }
        self.now = self.now.max(end);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Input(host, incarnation, input) => self.deliver(host, incarnation, input),
            Event::Wake(host, incarnation) => self.wake(host, incarnation),
            Event::Timer(host, incarnation) => self.timer(host, incarnation),
            Event::Traffic => self.traffic(),
            Event::Dial => self.dial(),
            Event::Restart(host) => self.restart(host),
            Event::Fault => self.fault(),
            Event::SyncDeliver(id, to) => self.sync_deliver(id, to),
            Event::SyncTimeout(id) => self.sync_timeout(id),
            Event::PathHeals(path) => {
                self.log(|| format!("path {path} heals"));
                self.paths[path] = Path {
                    up: true,
                    loss: 0,
                    slow: false,
                };
            }
        }
    }

    // --- processes -------------------------------------------------------------------------

    fn restart(&mut self, host: usize) {
        if self.hosts[host].gateway.is_some() {
            return;
        }
        self.log(|| format!("{} starts", name(host)));
        let config = self.hosts[host].config;
        if self
            .connection
            .as_ref()
            .is_some_and(|connection| !connection.ends[host])
        {
            // The new kernel knows nothing of the connection and says so.
            self.close_connection();
        }
        self.hosts[host].incarnation += 1;
        self.hosts[host].boots += u64::from(!self.hosts[host].powered);
        self.hosts[host].powered = true;
        self.hosts[host].sync = None;
        self.hosts[host].edges.clear();
        let incarnation = self.hosts[host].incarnation;
        let clock = self.clock(host);
        let gateway = Gateway::new(config, incarnation, clock, &mut self.dice, self.now);
        self.hosts[host].gateway = Some(Box::new(gateway));
        if !self.hosts[host].fit {
            self.hosts[host].fit = true;
        }
        self.drive(host);
    }

    /// What the clock of a machine is ahead of the world's: up to a year, and different on each.
    fn clock(&self, host: usize) -> Duration {
        let boot = self.hosts[host].boots * 2 + host as u64;
        let mut dice = Dice::new(self.seed ^ (boot << 40));
        dice.time(Duration::ZERO, Duration::from_hours(366 * 24))
    }

    fn crash(&mut self, host: usize, power: bool) {
        if self.hosts[host].gateway.take().is_none() {
            return;
        }
        self.log(|| {
            format!(
                "{} {}",
                name(host),
                if power { "loses power" } else { "is killed" }
            )
        });
        let this = &mut self.hosts[host];
        this.powered = !power;
        this.paused = false;
        this.pending.clear();
        this.timer = None;
        if let Some(connection) = &mut self.connection {
            connection.ends[host] = false;
            let id = connection.id;
            if !power {
                // The kernel says so, as soon as it can.
                let after = self.dice.micros(100, 2000);
                self.schedule(after, Event::SyncTimeout(id));
            } else {
                let after = self.dice.time(100 * MS, 1500 * MS);
                self.schedule(after, Event::SyncTimeout(id));
            }
        }
    }

    fn wake(&mut self, host: usize, incarnation: u64) {
        let this = &mut self.hosts[host];
        if this.incarnation != incarnation || !this.paused {
            return;
        }
        this.paused = false;
        self.log(|| format!("{} wakes", name(host)));
        let early = self.dice.chance(50);
        if early {
            self.timer_now(host);
        }
        while let Some(input) = self.hosts[host].pending.pop_front() {
            self.feed(host, input);
        }
        self.timer_now(host);
    }

    fn timer(&mut self, host: usize, incarnation: u64) {
        let this = &self.hosts[host];
        let due = this.timer.is_some_and(|at| at <= self.now);
        if this.incarnation == incarnation && !this.paused && due {
            self.timer_now(host);
        }
    }

    fn timer_now(&mut self, host: usize) {
        self.hosts[host].timer = None;
        let now = self.now;
        if let Some(gateway) = &mut self.hosts[host].gateway {
            gateway.node.handle_timeout(gateway.local(now));
        }
        self.drive(host);
    }

    fn deliver(&mut self, host: usize, incarnation: u64, input: Input) {
        let this = &mut self.hosts[host];
        if this.incarnation != incarnation || this.gateway.is_none() {
            return;
        }
        if let (Input::SyncUp(id), Some(connection)) = (&input, &mut self.connection)
            && connection.id == *id
        {
            connection.told[host] = true;
        }
        if this.paused {
            // The socket buffer is not endless.
            if this.pending.len() < 200 || !matches!(input, Input::Datagram(..)) {
                this.pending.push_back(input);
            }
            return;
        }
        self.feed(host, input);
    }

    fn feed(&mut self, host: usize, input: Input) {
        let now = self.now;
        self.log_input(host, &input);
        let Host { gateway, sync, .. } = &mut self.hosts[host];
        let Some(gateway) = gateway else {
            return;
        };
        let now = gateway.local(now);
        let current = self.connection.as_ref().map(|connection| connection.id);
        match input {
            Input::Datagram(path, bytes) => {
                let _ = gateway.node.handle_datagram(now, path, &bytes);
            }
            Input::Refused(path) => gateway.node.handle_path_refused(now, path),
            Input::SyncUp(id) if current == Some(id) => {
                if sync.replace(id).is_some() {
                    gateway.node.handle_sync_down(now);
                }
                gateway.node.handle_sync_up(now);
            }
            Input::SyncDown(id) if *sync == Some(id) => {
                *sync = None;
                gateway.node.handle_sync_down(now);
            }
            Input::Message(id, bytes) if *sync == Some(id) => {
                let message = Message::decode(bytes.expose()).unwrap();
                gateway.node.handle_message(now, message);
            }
            // Of a connection that is over, or that nobody hears of any more.
            Input::SyncUp(_) | Input::SyncDown(_) | Input::Message(..) => {}
            Input::StepDone(id) => gateway.node.step_done(now, id, Ok(())),
            Input::Condition(condition, good) => {
                gateway.node.handle_condition(now, condition, good);
            }
            Input::Switchover => gateway.node.switchover(now),
        }
        self.drive(host);
    }

    /// What the sync connection and the kernel say; adverts are too many.
    fn log_input(&self, host: usize, input: &Input) {
        match input {
            Input::Message(_, bytes) => self.log(|| {
                let message = Message::decode(bytes.expose()).unwrap();
                format!("{} < {message:?}", name(host))
            }),
            Input::SyncUp(_) | Input::SyncDown(_) | Input::Refused(_) => {
                self.log(|| format!("{} < {input:?}", name(host)));
            }
            Input::Datagram(..) | Input::StepDone(_) | Input::Condition(..) | Input::Switchover => {
            }
        }
    }

    /// Orders first, then what leaves, then the next deadline.
    fn drive(&mut self, host: usize) {
        while let Some(mut gateway) = self.hosts[host].gateway.take() {
            let order = gateway.node.poll_order();
            let Some(order) = order else {
                self.hosts[host].gateway = Some(gateway);
                break;
            };
            if let Order::Moved(transition) = &order {
                self.moves.push((host, transition.from, transition.to));
            }
            self.log(|| format!("{}   {order:?}", name(host)));
            let effect = gateway.obey(self.now, order, &mut self.dice);
            self.hosts[host].gateway = Some(gateway);
            self.note_edges(host);
            match effect {
                Some(Effect::StepDone(id, after)) => {
                    let input =
                        Event::Input(host, self.hosts[host].incarnation, Input::StepDone(id));
                    self.schedule(after, input);
                }
                Some(Effect::Redial) => self.close_connection(),
                Some(Effect::Activated { hot }) => self.check_activation(host, hot),
                None => {}
            }
        }
        self.negotiate(host);
        self.send_adverts(host);
        self.send_messages(host);
        self.arm(host);
    }

    fn arm(&mut self, host: usize) {
        let now = self.now;
        let Some(gateway) = &self.hosts[host].gateway else {
            return;
        };
        let Some(at) = gateway.deadline() else {
            return;
        };
        let at = at.max(now);
        if self.hosts[host].timer.is_none_or(|armed| at < armed) {
            self.hosts[host].timer = Some(at);
            let incarnation = self.hosts[host].incarnation;
            // An event loop is never exactly on time.
            let late = self.dice.micros(0, 300);
            self.schedule(at - now + late, Event::Timer(host, incarnation));
        }
    }

    fn negotiate(&mut self, host: usize) {
        let now = self.now;
        let Some(gateway) = &mut self.hosts[host].gateway else {
            return;
        };
        if gateway.negotiate && gateway.answers(now) {
            gateway.negotiate = false;
            let sa = self.next_sa;
            self.next_sa += 1;
            gateway.new_sa(now, sa, 2);
        }
    }

    // --- the network -----------------------------------------------------------------------

    fn send_adverts(&mut self, host: usize) {
        while let Some(gateway) = &mut self.hosts[host].gateway
            && let Some((path, bytes)) = gateway.node.poll_datagram()
        {
            if self.attacker.is_some() {
                self.recordings.push((1 - host, path, bytes.clone()));
            }
            self.carry(host, path, bytes);
        }
    }

    fn carry(&mut self, from: usize, path: PathId, bytes: Vec<u8>) {
        let to = 1 - from;
        let cable = self.paths[path.index()];
        if !cable.up || self.dice.chance(cable.loss) || !self.hosts[to].powered {
            return;
        }
        let delay = match cable.slow {
            true => self.dice.micros(100, 30_000),
            false => self.dice.micros(50, 800),
        };
        let event = if self.hosts[to].gateway.is_some() {
            Event::Input(to, self.hosts[to].incarnation, Input::Datagram(path, bytes))
        } else {
            // The kernel of the living host answers for its dead process.
            Event::Input(from, self.hosts[from].incarnation, Input::Refused(path))
        };
        self.schedule(delay, event);
    }

    fn dial(&mut self) {
        self.schedule(20 * MS, Event::Dial);
        let ready = self
            .hosts
            .iter()
            .all(|host| host.gateway.is_some() && !host.paused);
        if self.connection.is_some() || !ready || !self.paths[0].up {
            return;
        }
        self.connections += 1;
        let id = self.connections;
        self.log(|| format!("sync connection {id} opens"));
        self.connection = Some(Connection {
            id,
            queue: [VecDeque::new(), VecDeque::new()],
            ends: [true, true],
            told: [false, false],
            stalled_until: self.now,
        });
        for host in 0..2 {
            let after = self.dice.micros(200, 1500);
            let input = Event::Input(host, self.hosts[host].incarnation, Input::SyncUp(id));
            self.schedule(after, input);
        }
    }

    fn send_messages(&mut self, host: usize) {
        let now = self.now;
        let Some(connection) = &mut self.connection else {
            return;
        };
        let to = 1 - host;
        let id = connection.id;
        let Host { gateway, sync, .. } = &mut self.hosts[host];
        let Some(gateway) = gateway.as_mut().filter(|_| *sync == Some(id)) else {
            return;
        };
        let mut sent = 0;
        while connection.queue[to].len() < 64 {
            let Some(message) = gateway.node.poll_message(gateway.local(now)) else {
                break;
            };
            connection.queue[to].push_back(message.encode());
            sent += 1;
        }
        for _ in 0..sent {
            let after = self.dice.micros(50, 900);
            self.schedule(after, Event::SyncDeliver(id, to));
        }
    }

    /// One message in order; a cut cable makes TCP try again.
    fn sync_deliver(&mut self, id: u64, to: usize) {
        let up = self.paths[0].up && self.hosts[to].powered;
        let Some(connection) = self.connection.as_mut().filter(|c| c.id == id) else {
            return;
        };
        if !up || self.now < connection.stalled_until {
            self.schedule(10 * MS, Event::SyncDeliver(id, to));
            return;
        }
        if !connection.told[to] {
            self.schedule(Duration::from_micros(100), Event::SyncDeliver(id, to));
            return;
        }
        let Some(bytes) = connection.queue[to].pop_front() else {
            return;
        };
        let incarnation = self.hosts[to].incarnation;
        self.deliver(to, incarnation, Input::Message(id, bytes));
        let from = 1 - to;
        if !self.hosts[from].paused {
            self.send_messages(from);
        }
    }

    fn sync_timeout(&mut self, id: u64) {
        let alive = self.hosts.iter().all(|host| host.gateway.is_some());
        if self.connection.as_ref().is_some_and(|c| c.id == id) && (!self.paths[0].up || !alive) {
            self.close_connection();
        }
    }

    /// What was sent may still arrive, in order, and then the end.
    fn close_connection(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        self.log(|| "sync connection closes".to_owned());
        for host in 0..2 {
            let incarnation = self.hosts[host].incarnation;
            let mut after = self.dice.micros(10, 300);
            if self.paths[0].up && self.dice.chance(50) {
                for bytes in connection.queue[host].drain(..) {
                    let input = Input::Message(connection.id, bytes);
                    self.schedule(after, Event::Input(host, incarnation, input));
                    after += Duration::from_micros(20);
                }
            }
            let input = Input::SyncDown(connection.id);
            self.schedule(after, Event::Input(host, incarnation, input));
        }
    }

    // --- traffic ---------------------------------------------------------------------------

    fn traffic(&mut self) {
        self.schedule(self.interval / 6, Event::Traffic);
        for host in 0..2 {
            if self.hosts[host].paused {
                continue;
            }
            self.outbound(host);
            self.inbound(host);
            let now = self.now;
            if let Some(gateway) = &mut self.hosts[host].gateway {
                gateway.report(now);
                self.drive(host);
            }
        }
        self.ticks += 1;
        let now = self.now;
        let serves = |host: &Host| {
            !host.paused
                && host
                    .gateway
                    .as_ref()
                    .is_some_and(|gateway| gateway.answers(now))
        };
        self.served_ticks += u64::from(self.hosts.iter().any(serves));
        self.attack();
    }

    /// Every gateway tries to send through every SA, whatever it is: only the gate, the limits
    /// and the commit points stand between it and the peer.
    fn outbound(&mut self, host: usize) {
        let now = self.now;
        let burst = self.dice.range(1, self.burst);
        let Some(gateway) = &mut self.hosts[host].gateway else {
            return;
        };
        let state = gateway.state();
        if !gateway.may_send(now) || !gateway.sealing {
            return;
        }
        let speaks = state.may_speak();
        let mut sent = Vec::new();
        for (number, sa) in &mut gateway.sas {
            let Some(iv_epoch) = sa.iv_epoch.filter(|_| sa.commit.is_none()) else {
                continue;
            };
            let count =
                burst.min((sa.limit + u64::from(sa.limit < u64::MAX)).saturating_sub(sa.next));
            if count > 0 {
                sa.next += count;
                sent.push((*number, sa.next - 1, iv_epoch, sa.activation));
            }
        }
        let incarnation = gateway.incarnation;
        if !speaks && !sent.is_empty() {
            self.violate("i6", format!("{} sends as {state:?}", name(host)));
        }
        for (sa, last, iv_epoch, activation) in sent {
            self.peer.sent += 1;
            let highest = self.peer.highest.entry(sa).or_default();
            *highest = (*highest).max(last);
            let owner = (incarnation, activation);
            let known = *self
                .peer
                .ivs
                .entry((sa, member(host), iv_epoch))
                .or_insert(owner);
            if known != owner {
                let what = format!(
                    "{} reuses IV epoch {iv_epoch} of SA {sa}: {known:?} {owner:?}",
                    name(host)
                );
                self.violate("i1", what);
            }
        }
    }

    /// The peer sends to whoever answers for the address.
    fn inbound(&mut self, host: usize) {
        let now = self.now;
        let Some(gateway) = &mut self.hosts[host].gateway else {
            return;
        };
        if !gateway.answers(now) {
            return;
        }
        for (number, sa) in &mut gateway.sas {
            let sent = self.peer.inbound.entry(*number).or_default();
            *sent += self.dice.range(0, 20);
            sa.edge = sa.edge.max(*sent);
            let accepted = self.peer.accepted.entry(*number).or_default();
            *accepted = (*accepted).max(sa.edge);
        }
    }

    /// Edges that reach the standby's copy never go back within one run of a gateway.
    fn note_edges(&mut self, host: usize) {
        let Host { gateway, edges, .. } = &mut self.hosts[host];
        let Some(gateway) = gateway else {
            return;
        };
        let mut back = None;
        for (sa, edge) in gateway.edges.drain(..) {
            let before = edges.entry(sa).or_default();
            if edge < *before {
                back = Some((sa, *before, edge));
            }
            *before = (*before).max(edge);
        }
        if let Some((sa, before, after)) = back {
            let what = format!(
                "{}: window of SA {sa} went from {before} to {after}",
                name(host)
            );
            self.violate("i3", what);
        }
    }

    // --- faults ----------------------------------------------------------------------------

    fn fault(&mut self) {
        if !self.faults {
            return;
        }
        let next = self.dice.time(self.interval, self.interval * 12);
        self.schedule(next, Event::Fault);
        let host = self.dice.range(0, 2) as usize;
        match self.dice.range(0, 100) {
            0..12 => {
                self.crash(host, false);
                let after = self.dice.time(self.interval / 4, self.interval * 15);
                self.schedule(after, Event::Restart(host));
            }
            12..18 => {
                self.crash(host, true);
                let after = self.dice.time(self.interval * 2, self.interval * 15);
                self.schedule(after, Event::Restart(host));
            }
            18..38 => self.pause(host),
            38..58 => self.break_path(),
            58..66 => self.condition(host),
            66..80 => {
                self.log(|| format!("{} switchover ordered", name(host)));
                let input = Event::Input(host, self.hosts[host].incarnation, Input::Switchover);
                self.schedule(Duration::ZERO, input);
            }
            80..86 => self.close_connection(),
            86..92 => {
                let until = self.now + self.dice.time(self.interval, self.interval * 8);
                if let Some(connection) = &mut self.connection {
                    connection.stalled_until = until;
                }
            }
            _ => self.rekey(),
        }
    }

    fn pause(&mut self, host: usize) {
        let this = &mut self.hosts[host];
        if this.gateway.is_none() || this.paused {
            return;
        }
        this.paused = true;
        let incarnation = this.incarnation;
        let longest = self.interval * 10;
        let after = self.dice.time(self.interval / 4, longest);
        self.log(|| format!("{} is stopped for {after:?}", name(host)));
        self.schedule(after, Event::Wake(host, incarnation));
    }

    fn break_path(&mut self) {
        let path = self.dice.range(0, 2) as usize;
        if self.weather == Weather::OnePathClean {
            let other = self.paths[1 - path];
            if !other.up || other.loss > 0 || other.slow {
                return;
            }
        }
        let loss = self.dice.range(10, 80);
        self.paths[path] = match self.dice.range(0, 3) {
            0 => Path {
                up: false,
                loss: 0,
                slow: false,
            },
            1 => Path {
                up: true,
                loss,
                slow: false,
            },
            _ => Path {
                up: true,
                loss: loss / 4,
                slow: true,
            },
        };
        let state = self.paths[path];
        self.log(|| format!("path {path}: {state:?}"));
        let heals = self.dice.time(self.interval, self.interval * 14);
        self.schedule(heals, Event::PathHeals(path));
        if path == 0
            && !state.up
            && let Some(connection) = &self.connection
        {
            let id = connection.id;
            let after = self.dice.time(50 * MS, 1000 * MS);
            self.schedule(after, Event::SyncTimeout(id));
        }
    }

    fn condition(&mut self, host: usize) {
        let good = !self.hosts[host].fit;
        self.hosts[host].fit = good;
        self.log(|| {
            format!(
                "{} WAN link {}",
                name(host),
                if good { "up" } else { "down" }
            )
        });
        let input = Input::Condition(Condition::WanLink, good);
        let incarnation = self.hosts[host].incarnation;
        self.schedule(Duration::ZERO, Event::Input(host, incarnation, input));
    }

    fn rekey(&mut self) {
        let now = self.now;
        for host in 0..2 {
            let sa = self.next_sa;
            if let Some(gateway) = &mut self.hosts[host].gateway
                && gateway.answers(now)
                && !self.hosts[host].paused
            {
                self.next_sa += 1;
                gateway.new_sa(now, sa, 2);
                self.drive(host);
            }
        }
    }

    /// Replays, noise and forged news from a stranger who sees and sends everything and lacks
    /// the secret.
    fn attack(&mut self) {
        let Some(attacker) = &mut self.attacker else {
            return;
        };
        if self.recordings.is_empty() || !attacker.chance(30) {
            return;
        }
        let pick = attacker.range(0, self.recordings.len() as u64) as usize;
        let (to, path, mut bytes) = self.recordings[pick].clone();
        let kind = attacker.range(0, 5);
        let place = attacker.range(0, bytes.len() as u64) as usize;
        match kind {
            0 => bytes[place] ^= 1,
            1 => bytes.truncate(place),
            _ => {}
        }
        let input = match kind {
            3 => Input::Refused(path),
            _ => Input::Datagram(path, bytes),
        };
        let incarnation = self.hosts[to].incarnation;
        self.schedule(Duration::ZERO, Event::Input(to, incarnation, input));
    }

    fn make_peace(&mut self) {
        for path in 0..2 {
            self.happen(Event::PathHeals(path));
        }
        for host in 0..2 {
            let incarnation = self.hosts[host].incarnation;
            self.wake(host, incarnation);
            self.restart(host);
            if !self.hosts[host].fit {
                self.condition(host);
            }
        }
        if let Some(connection) = &mut self.connection {
            connection.stalled_until = self.now;
        }
    }

    // --- rules -----------------------------------------------------------------------------

    /// I2 and I3 at the moment a gateway becomes active with SAs it continues.
    fn check_activation(&mut self, host: usize, hot: bool) {
        let Some(gateway) = &self.hosts[host].gateway else {
            return;
        };
        if !hot {
            return;
        }
        self.hot_takeovers += 1;
        let mut broken = Vec::new();
        for (number, sa) in &gateway.sas {
            let highest = self.peer.highest.get(number).copied().unwrap_or(0);
            if sa.next <= highest {
                broken.push((
                    "i2",
                    format!("SA {number} goes on at {} below {highest}", sa.next),
                ));
            }
            let accepted = self.peer.accepted.get(number).copied().unwrap_or(0);
            if hot && accepted.saturating_sub(sa.edge) > self.exposure() {
                let what = format!("SA {number}: {} of {accepted} known", sa.edge);
                broken.push(("i3", what));
            }
        }
        for (invariant, what) in broken {
            self.violate(invariant, format!("{}: {what}", name(host)));
        }
    }

    /// I2 in the end: whoever serves sends above all that anybody ever sent, also after two have
    /// served at a time.
    fn check_numbers(&mut self) {
        let now = self.now;
        let mut below = Vec::new();
        for gateway in self.hosts.iter().filter_map(|host| host.gateway.as_ref()) {
            if !gateway.answers(now) {
                continue;
            }
            for (number, sa) in &gateway.sas {
                let highest = self.peer.highest.get(number).copied().unwrap_or(0);
                if sa.next <= highest {
                    below.push(format!("SA {number} is at {} below {highest}", sa.next));
                }
            }
        }
        for what in below {
            self.violate("i2", what);
        }
    }

    /// What may be replayed at most after a hot takeover: the packets of a report, a replication
    /// interval, and the age at which a record puts the pair out of sync, until the standby has
    /// heard that; at 20 packets a tick.
    fn exposure(&self) -> u64 {
        let time = 25 * MS + 500 * MS + self.interval * 8;
        let ticks = time.as_micros() / (self.interval / 6).as_micros() + 2;
        20 * ticks as u64
    }

    fn check_always(&mut self) {
        let now = self.now;
        let answering = |host: &Host| {
            !host.paused
                && host
                    .gateway
                    .as_ref()
                    .is_some_and(|gateway| gateway.answers(now))
        };
        if self.weather == Weather::OnePathClean && self.hosts.iter().all(answering) {
            self.violate("i7", "both answer for the virtual address".to_owned());
        }
        let mut open = Vec::new();
        for host in 0..2 {
            if let Some(gateway) = &self.hosts[host].gateway
                && gateway.may_send(now)
                && !gateway.state().may_speak()
            {
                open.push((host, gateway.state()));
            }
        }
        for (host, state) in open {
            self.violate("i6", format!("{}: gate open as {state:?}", name(host)));
        }
    }

    /// After the faults: one serves, the other follows, and the next takeover would be hot.
    fn is_settled(&self) -> bool {
        let states = self.states();
        let active = states
            .iter()
            .filter(|(state, serves, _)| *state == State::Active && *serves);
        let standby = states
            .iter()
            .filter(|(state, _, hot)| *state == State::Standby && *hot);
        active.count() == 1 && standby.count() == 1
    }

    /// State, whether it answers, whether a takeover would be hot.
    fn states(&self) -> Vec<(State, bool, bool)> {
        let now = self.now;
        let gateways = self.hosts.iter().filter_map(|host| host.gateway.as_ref());
        gateways
            .map(|gateway| {
                (
                    gateway.state(),
                    gateway.answers(now),
                    gateway.node.is_hot(gateway.local(now)),
                )
            })
            .collect()
    }
}

pub(crate) const fn name(host: usize) -> &'static str {
    if host == 0 { "A" } else { "B" }
}
