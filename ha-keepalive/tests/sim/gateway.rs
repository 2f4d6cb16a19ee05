//! One gateway: the node under test, and a model of the daemon around it.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use ha_keepalive::election::{Change, Config, State};
use ha_keepalive::node::{NodeConfig, Order, PairNode};
use ha_keepalive::replication::{Applied, Edge, Key, Kind, Record, Supported};
use ha_keepalive::takeover::{Step, StepId};
use ha_keepalive::{Epoch, PairSecret};
use ipsec_types::{SecretBytes, SendGate};

use super::dice::Dice;

/// An ESP SA pair as the model knows it.
#[derive(Debug, Clone)]
pub(crate) struct Sa {
    pub(crate) birth: Epoch,
    /// `None` while mute.
    pub(crate) iv_epoch: Option<u16>,
    pub(crate) activation: u64,
    pub(crate) next: u64,
    pub(crate) limit: u64,
    pub(crate) edge: u64,
    /// Outbound use waits for the commit point at this log position.
    pub(crate) commit: Option<u64>,
}

pub(crate) struct Gateway {
    /// Replay edges as they were applied.
    pub(crate) edges: Vec<(u64, u64)>,
    pub(crate) incarnation: u64,
    pub(crate) node: PairNode,
    pub(crate) gate: Arc<SendGate>,
    pub(crate) sas: BTreeMap<u64, Sa>,
    pub(crate) addresses: bool,
    pub(crate) sealing: bool,
    pub(crate) activations: u64,
    pub(crate) negotiate: bool,
    pub(crate) hot_claims: u64,
    pub(crate) next_report: Duration,
    /// What its clock is ahead of the world's: two machines' clocks have nothing in common.
    clock: Duration,
}

/// What the world must do for a gateway.
pub(crate) enum Effect {
    StepDone(StepId, Duration),
    Redial,
    /// An activation: for the checks at that moment.
    Activated {
        hot: bool,
    },
}

fn newest(_: Kind) -> u16 {
    1
}

pub(crate) fn name(sa: u64) -> Vec<u8> {
    sa.to_be_bytes().to_vec()
}

fn number(name: &[u8]) -> u64 {
    u64::from_be_bytes(name.try_into().unwrap())
}

const LAST: u64 = u32::MAX as u64;

impl Gateway {
    pub(crate) fn new(
        config: Config,
        incarnation: u64,
        clock: Duration,
        dice: &mut Dice,
        now: Duration,
    ) -> Self {
        let secret = PairSecret::new(SecretBytes::new(vec![7; 32])).unwrap();
        let gate = Arc::new(SendGate::closed());
        let node = PairNode::new(
            NodeConfig::new(config, Supported::new(newest)),
            &secret,
            Arc::clone(&gate),
            &mut dice.0,
            now + clock,
        );
        Self {
            edges: Vec::new(),
            incarnation,
            node,
            gate,
            sas: BTreeMap::new(),
            addresses: false,
            sealing: true,
            activations: 0,
            negotiate: false,
            hot_claims: 0,
            next_report: now,
            clock,
        }
    }

    /// The world's time on the clock of this machine.
    pub(crate) fn local(&self, now: Duration) -> Duration {
        now + self.clock
    }

    /// When the node wants to be woken, on the world's clock.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let (at, _) = self.node.poll_timeout()?;
        Some(at.saturating_sub(self.clock))
    }

    /// True when this gateway may speak for the virtual address right now.
    pub(crate) fn may_send(&self, now: Duration) -> bool {
        self.gate.is_open(self.local(now))
    }

    pub(crate) fn state(&self) -> State {
        self.node.election().state()
    }

    /// True when this gateway answers for the virtual address right now.
    pub(crate) fn answers(&self, now: Duration) -> bool {
        self.addresses && self.may_send(now)
    }

    pub(crate) fn obey(&mut self, now: Duration, order: Order, dice: &mut Dice) -> Option<Effect> {
        match order {
            Order::Perform { id, step, change } => {
                let effect = self.perform(now, step, change);
                if let Some(activated) = effect {
                    // Steps that change SAs are synchronous in the daemon too.
                    self.node.step_done(self.local(now), id, Ok(()));
                    return Some(activated);
                }
                return Some(Effect::StepDone(id, dice.micros(50, 2500)));
            }
            Order::Apply(Applied::Put { record, .. }) => self.put(&record),
            Order::Apply(Applied::Delete(key)) => {
                if key.kind() == Kind::EspSa {
                    self.sas.remove(&number(key.name()));
                }
            }
            Order::Limit(limit) => {
                if let Some(sa) = self.sas.get_mut(&number(&limit.sa)) {
                    sa.limit = limit.last;
                }
            }
            Order::Committed { position, .. } => {
                for sa in self.sas.values_mut() {
                    sa.commit = sa.commit.filter(|waits| *waits > position);
                }
            }
            Order::Redial(_) => return Some(Effect::Redial),
            Order::Following(_)
            | Order::Moved(_)
            | Order::Finished(_)
            | Order::SwitchoverRefused(_)
            | Order::Proposed(_)
            | Order::PeerRefused { .. } => {}
        }
        None
    }

    fn put(&mut self, record: &Record) {
        let sa = number(record.key.name());
        match record.key.kind() {
            Kind::EspSa => {
                let birth = Epoch(u64::from_be_bytes(record.body.expose().try_into().unwrap()));
                self.sas.entry(sa).or_insert(Sa {
                    birth,
                    iv_epoch: None,
                    activation: 0,
                    next: 0,
                    limit: 0,
                    edge: 0,
                    commit: None,
                });
            }
            Kind::ReplayEdge => {
                let edge = Edge::of(record).unwrap().right;
                self.edges.push((sa, edge));
                if let Some(sa) = self.sas.get_mut(&sa) {
                    sa.edge = sa.edge.max(edge);
                }
            }
            _ => {}
        }
    }

    fn perform(&mut self, now: Duration, step: Step, change: Change) -> Option<Effect> {
        match step {
            Step::ActivateSas => {
                self.activate();
                let hot = !matches!(change, Change::Claim { hot: false });
                return Some(Effect::Activated { hot });
            }
            Step::ForgetSas => self.sas.clear(),
            Step::AddAddresses => self.addresses = true,
            Step::RemoveAddresses => self.addresses = false,
            Step::NegotiateAll => self.negotiate = true,
            Step::StopSealing => self.sealing = false,
            Step::StartSealing => self.sealing = true,
            Step::WriteLastRecords => self.write_last(self.local(now)),
            _ => {}
        }
        None
    }

    fn activate(&mut self) {
        self.activations += 1;
        self.sealing = true;
        self.hot_claims += 1;
        let epoch = self.node.epoch();
        let starts: BTreeMap<u64, (u64, u64)> = self
            .node
            .starts()
            .iter()
            .map(|start| (number(&start.sa), (start.first, start.last)))
            .collect();
        // An SA whose ceiling never arrived cannot be continued.
        self.sas.retain(|sa, _| starts.contains_key(sa));
        for (number, sa) in &mut self.sas {
            sa.iv_epoch = sa.birth_to(epoch);
            sa.activation = self.activations;
            (sa.next, sa.limit) = starts[number];
            sa.commit = None;
        }
    }

    fn write_last(&mut self, now: Duration) {
        let used: Vec<(u64, u64, u64)> = self
            .sas
            .iter()
            .map(|(number, sa)| (*number, sa.next - 1, sa.edge))
            .collect();
        for (sa, used, edge) in used {
            self.node.write_exact(now, &name(sa), used).unwrap();
            let record = Edge {
                right: edge,
                window: Vec::new(),
            };
            self.node
                .put(now, record.record(&name(sa)).unwrap())
                .unwrap();
        }
    }

    /// A phase 2 is complete: a new SA, made before the oldest is broken.
    pub(crate) fn new_sa(&mut self, now: Duration, sa: u64, keep: usize) {
        let now = self.local(now);
        let birth = self.node.epoch();
        let body = SecretBytes::new(birth.0.to_be_bytes().to_vec());
        let key = Key::new(Kind::EspSa, name(sa)).unwrap();
        let Ok(_) = self.node.put(now, Record::new(key, 1, body).unwrap()) else {
            return;
        };
        let position = self.node.add_outbound(now, &name(sa), 0, LAST).unwrap();
        self.node.commit(now, position).unwrap();
        self.sas.insert(
            sa,
            Sa {
                birth,
                iv_epoch: Some(0),
                activation: self.activations,
                next: 1,
                limit: u64::MAX,
                edge: 0,
                commit: Some(position),
            },
        );
        while self.sas.len() > keep {
            let (oldest, _) = self.sas.pop_first().unwrap();
            let key = Key::new(Kind::EspSa, name(oldest)).unwrap();
            self.node.delete(now, &key).unwrap();
            self.node.remove_outbound(now, &name(oldest)).unwrap();
            self.node.remove_inbound(now, &name(oldest)).unwrap();
        }
    }

    /// The data plane's periodic report.
    pub(crate) fn report(&mut self, now: Duration) {
        if now < self.next_report {
            return;
        }
        self.next_report = now + Duration::from_millis(5);
        let now = self.local(now);
        let standing: Vec<(u64, u64, u64)> = self
            .sas
            .iter()
            .filter(|(_, sa)| sa.next > 0)
            .map(|(number, sa)| (*number, sa.next - 1, sa.edge))
            .collect();
        for (sa, used, edge) in standing {
            let _ = self.node.report_sequence(now, &name(sa), used);
            let _ = self.node.report_edge(now, &name(sa), edge, Vec::new);
        }
    }
}

impl Sa {
    fn birth_to(&self, epoch: Epoch) -> Option<u16> {
        epoch.for_iv(self.birth)
    }
}
