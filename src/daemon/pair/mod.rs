//! This node's part in the pair: joins the election and the replication to the gateway.
//!
//! ```text
//!   partner <== adverts, records ==> PairDriver (ha-keepalive)
//!                                      |  orders: steps, records, limits, commits
//!                                      v
//!   host.rs      what each step does to gateway, addresses, links
//!   replicate.rs what the gateway does becomes records; what waits for the standby
//!   takeover.rs  records become SAs and a negotiator again
//!   link.rs      ARP and neighbour discovery under the lease, one task a link
//!   addresses.rs the virtual addresses, and the routes that come and go with them
//!   forward.rs   what reaches the standby goes to the partner
//!   virtual_mac.rs an Ethernet address that moves with them
//!   watch.rs     links, health script, path check: is this node fit to be active?
//! ```
//! Nothing here decides who is active, and nothing here speaks to a peer.

mod addresses;
mod counted;
mod forward;
mod host;
mod link;
mod ping;
mod records;
mod replicate;
mod report;
mod shared;
mod stop;
mod takeover;
mod virtual_mac;
mod watch;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use core::time::Duration;

use ha_keepalive::election::Condition;
use ha_keepalive::io::clock::boot_time;
use ha_keepalive::io::driver::{Input, PairDriver, PathConfig, StepReporter};
use ha_keepalive::node::{NodeConfig, PairNode};
use ha_keepalive::replication::Limits;
use ha_keepalive::takeover::{Run, StepId};
use ha_keepalive::{Epoch, Member, Paths, Revision, election};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{info, warn};

pub use addresses::AddressError;
pub(super) use shared::Incoming;

use super::batch::{Batch, PairId};
use super::clock::entropy;
use super::gateway::Gateway;
use super::tunnels::Tunnels;
use crate::config::PairConfig;
use addresses::Addresses;
use link::Links;

/// How often sequence numbers and replay edges are looked at while there is traffic. A block of
/// numbers lasts far longer, so no packet waits for it.
const BUSY_LOOK: Duration = Duration::from_millis(5);
/// The same while there is none.
const IDLE_LOOK: Duration = Duration::from_millis(25);
/// How often whole ESP records are written again, for their byte counters.
const REFRESH: Duration = Duration::from_secs(5);
/// How long a switchover waits for negotiations that are under way.
const QUIESCE_LIMIT: Duration = Duration::from_millis(1500);

/// Why this node cannot take part in its pair.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// A path's socket.
    #[error(
        "[[pair.path]] {local}: {source}; the address must be one of this node's own (ip addr)"
    )]
    Path {
        /// The configured local end.
        local: std::net::SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The virtual addresses.
    #[error(transparent)]
    Addresses(#[from] AddressError),
    /// The packet sockets.
    #[error("[[pair.address]] link \"{link}\": {source}")]
    Link {
        /// Which.
        link: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The link watch.
    #[error("cannot listen for link events: {0}")]
    Watch(#[source] io::Error),
}

/// What the tasks of the pair tell the event loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// A tracked condition is good or bad.
    Condition(Condition, bool),
    /// The path check: a target answers from here, or none does.
    PathCheck(bool),
    /// A third machine claims a virtual address.
    Conflict,
    /// The partner's connections run, and are on disk or could not be written.
    Stored(bool),
    /// The partner announces the virtual MAC on a link while this node is silent.
    MacMoved(String),
    /// The grace after a planned switchover is over.
    GraceOver,
}

/// What woke the pair.
#[derive(Debug)]
pub(super) enum PairInput {
    /// Adverts, records, deadlines.
    Driver(Input),
    /// Something about this node.
    News(News),
    /// Time to look at sequence numbers and replay windows.
    Look,
}

/// A node of a pair.
pub(super) struct Pair {
    pub(super) driver: PairDriver,
    pub(super) state: State,
    news: mpsc::UnboundedReceiver<News>,
    look_at: tokio::time::Instant,
    /// What the log said of each refusal: how many, and when.
    logged: BTreeMap<&'static str, (u64, Duration)>,
}

/// What the host of the node keeps.
pub(super) struct State {
    config: PairConfig,
    /// The main file.
    config_path: PathBuf,
    name: String,
    addresses: Addresses,
    links: Links,
    reporter: StepReporter,
    news: mpsc::UnboundedSender<News>,
    /// The replicated pairs of SAs, on the active node.
    sas: BTreeMap<Vec<u8>, Sa>,
    /// Numbers the switches of this activation.
    switches: u32,
    /// What waits for a commit point: the log position, and what to do then.
    pending: VecDeque<(u64, Batch)>,
    /// Something was carried out that may have led to more.
    worked: bool,
    /// A switchover that waits for negotiations: the step, and when it gives them up.
    quiescing: Option<(StepId, Duration)>,
    /// Pairs that could not be continued: they are renegotiated once this node speaks.
    doomed: Vec<ipsec_types::Spi>,
    /// Connections that were up before a cold takeover.
    revive: BTreeSet<String>,
    /// The old active node after a planned switchover: opens, and forwards.
    grace: Option<JoinHandle<()>>,
    mover: Option<JoinHandle<()>>,
    refreshed: Duration,
    busy_until: Duration,
    /// Sum of sequence numbers and edges at the last look.
    moved: u64,
    last_run: Option<Run>,
    /// The path check may ask now.
    may_ping: Rc<Cell<bool>>,
    /// What the path check says.
    path_ok: bool,
    /// What the node was told of the peers.
    peers_reachable: bool,
    conflicts: u64,
    refusals: Vec<(Instant, String)>,
    /// Connections of the partner that wait to be applied.
    incoming: Option<Incoming>,
    /// Connections that run and could not be written to disk.
    not_stored: u64,
    /// When the connections in force could not be written, until they can.
    unstored: Option<Duration>,
    stopping: Option<stop::Stopping>,
}

/// A replicated pair of SAs.
#[derive(Debug, Clone, Copy)]
struct Sa {
    pair: PairId,
    birth: Epoch,
    switched: Option<u64>,
    /// The last number of its number space.
    last: u64,
}

/// What a [`State`] begins with.
struct Parts {
    config: PairConfig,
    config_path: PathBuf,
    name: String,
    addresses: Addresses,
    links: Links,
    reporter: StepReporter,
    news: mpsc::UnboundedSender<News>,
    may_ping: Rc<Cell<bool>>,
}

impl State {
    fn new(parts: Parts) -> Self {
        let now = boot_time();
        Self {
            config: parts.config,
            config_path: parts.config_path,
            name: parts.name,
            addresses: parts.addresses,
            links: parts.links,
            reporter: parts.reporter,
            news: parts.news,
            may_ping: parts.may_ping,
            sas: BTreeMap::new(),
            switches: 0,
            pending: VecDeque::new(),
            worked: false,
            quiescing: None,
            doomed: Vec::new(),
            revive: BTreeSet::new(),
            grace: None,
            mover: None,
            refreshed: now,
            busy_until: now,
            moved: 0,
            last_run: None,
            path_ok: true,
            peers_reachable: true,
            conflicts: 0,
            refusals: Vec::new(),
            incoming: None,
            not_stored: 0,
            unstored: None,
            stopping: None,
        }
    }
}

impl Pair {
    /// Opens the sockets and the device. The node is mute, and its addresses are absent.
    ///
    /// # Errors
    /// [`PairError`]; nothing is left behind.
    pub(super) async fn open(
        config: &PairConfig,
        config_path: &Path,
        gateway: &Gateway,
        tunnels: &Tunnels,
    ) -> Result<Self, PairError> {
        let gate = &gateway.gate;
        let (sender, news) = mpsc::unbounded_channel();
        let addresses = Addresses::open(tunnels.net(), config.addresses.clone()).await?;
        watch::quiet_kernel(&config.addresses);
        let links = Links::open(&config.addresses, addresses.macs(), gate, &sender)
            .map_err(|(link, source)| PairError::Link { link, source })?;
        let mut rng = entropy();
        let now = boot_time();
        let mut node = PairNode::new(
            node_config(config),
            &config.secret,
            Arc::clone(gate),
            &mut *rng,
            now,
        );
        node.set_revision(now, Revision(gateway.config.revision.as_u64()));
        let driver = bind(node, config, rng)?;
        let may_ping = Rc::new(Cell::new(false));
        watch::start(config, tunnels.net(), &may_ping, &sender)
            .await
            .map_err(PairError::Watch)?;
        info!(
            member = ?config.member,
            interval = ?config.advert_interval.get(),
            paths = config.paths.len(),
            addresses = config.addresses.len(),
            "this node is one of a pair; it is mute until the pair has agreed who is active",
        );
        let state = State::new(Parts {
            config: config.clone(),
            config_path: config_path.to_owned(),
            name: gateway.config.gateway.name.clone(),
            addresses,
            links,
            reporter: driver.reporter(),
            news: sender,
            may_ping,
        });
        Ok(Self {
            driver,
            state,
            news,
            look_at: tokio::time::Instant::now(),
            logged: BTreeMap::new(),
        })
    }

    /// The next thing to handle. Cancel-safe.
    pub(super) async fn wait(&mut self) -> PairInput {
        // In no order: whoever floods one of them does not shut out the others.
        tokio::select! {
            input = self.driver.wait() => PairInput::Driver(input),
            Some(news) = self.news.recv() => PairInput::News(news),
            () = tokio::time::sleep_until(self.look_at) => PairInput::Look,
        }
    }

    /// Handles it, and carries out what follows.
    pub(super) fn handle(
        &mut self,
        input: PairInput,
        gateway: &mut Gateway,
        tunnels: &mut Tunnels,
    ) {
        let now = boot_time();
        match input {
            PairInput::Driver(input) => {
                let mut host = host::Host::new(&mut self.state, gateway, tunnels);
                self.driver.handle(input, &mut host);
                return;
            }
            PairInput::News(News::Condition(condition, good)) => {
                if good {
                    info!(?condition, "good again");
                    self.mend_routes(gateway, tunnels);
                } else {
                    warn!(?condition, "not fit to be active");
                }
                self.driver
                    .node_mut()
                    .handle_condition(now, condition, good);
            }
            PairInput::News(News::PathCheck(good)) => self.state.path_ok = good,
            PairInput::News(News::Conflict) => self.state.conflicts += 1,
            PairInput::News(News::Stored(true)) => self.state.unstored = None,
            PairInput::News(News::Stored(false)) => {
                self.state.not_stored += 1;
                self.state.unstored = Some(now);
            }
            PairInput::News(News::GraceOver) => {
                let state = self.driver.node().election().state();
                self.state.grace_over(state, gateway);
            }
            // Old news on a node that has taken over since.
            PairInput::News(News::MacMoved(link)) => {
                if self.not_active().is_some() {
                    self.state.leave_mac(link);
                }
            }
            PairInput::Look => {
                self.state.look(now, self.driver.node_mut(), gateway);
                self.state.judge_peers(now, self.driver.node_mut(), gateway);
                let busy = now < self.state.busy_until;
                let pause = if busy { BUSY_LOOK } else { IDLE_LOOK };
                self.look_at = tokio::time::Instant::now() + pause;
            }
        }
        self.flush(gateway, tunnels);
    }

    /// Carries out what the node wants.
    pub(super) fn flush(&mut self, gateway: &mut Gateway, tunnels: &mut Tunnels) {
        let mut host = host::Host::new(&mut self.state, gateway, tunnels);
        self.driver.flush(&mut host);
    }

    /// True when something was done since the last call that may have led to more.
    pub(super) fn take_worked(&mut self) -> bool {
        core::mem::take(&mut self.state.worked)
    }

    /// Why this node takes no orders about connections; `None` on the active one.
    pub(super) fn not_active(&self) -> Option<&'static str> {
        match self.driver.node().election().state() {
            election::State::Active => None,
            election::State::HandingOver
            | election::State::Released
            | election::State::TakingOver => Some("a switchover is under way"),
            election::State::Asking => Some("this node has lost its lease and asks its partner"),
            election::State::Init | election::State::Standby | election::State::Stopped => {
                Some("this node is not the active one")
            }
        }
    }
}

/// Opens the sockets of the paths.
fn bind(
    node: PairNode,
    config: &PairConfig,
    rng: Box<dyn rand_core::CryptoRng + Send>,
) -> Result<PairDriver, PairError> {
    let paths: Vec<PathConfig> = config
        .paths
        .iter()
        .map(|path| PathConfig {
            local: path.local,
            peer: path.peer,
        })
        .collect();
    PairDriver::bind(node, config.secret.clone(), rng, &paths).map_err(|source| PairError::Path {
        local: config
            .paths
            .first()
            .map_or_else(unspecified, |path| path.local),
        source,
    })
}

fn unspecified() -> std::net::SocketAddr {
    (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
}

fn node_config(config: &PairConfig) -> NodeConfig {
    let mut election = election::Config::new(config.member, config.advert_interval);
    election.priority = config.priority;
    election.preempt = config.preempt;
    election.hold_down = config.hold_down;
    election.paths = match config.paths.len() {
        1 => Paths::One,
        _ => Paths::Two,
    };
    let mut node = NodeConfig::new(election, records::supported());
    node.limits = Limits {
        commit_wait: config.commit_wait,
        ..Limits::default()
    };
    node
}

/// The half of the IV space that belongs to a member (invariant I1).
pub(super) const fn iv_member(member: Member) -> esp_dataplane::iv::Member {
    match member {
        Member::A => esp_dataplane::iv::Member::A,
        Member::B => esp_dataplane::iv::Member::B,
    }
}
