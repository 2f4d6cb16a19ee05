//! Two drivers on the loopback interface of one process: real sockets, real time, real kernel
//! news.
//!
//! ```text
//!      gateway A  127.0.0.1:p --- path First (and the sync connection) --- 127.0.0.2:p  gateway B
//!                 127.0.0.3:p --- path Second ---------------------------- 127.0.0.4:p
//! ```
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops loudly")]
#![expect(clippy::disallowed_types, reason = "looks for free ports")]

use core::time::Duration;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use ha_keepalive::election::{Change, Config, State};
use ha_keepalive::io::clock::boot_time;
use ha_keepalive::io::driver::{Input, PairDriver, PairHost, PathConfig, Performed};
use ha_keepalive::node::{NodeConfig, Order, PairNode};
use ha_keepalive::replication::{Applied, Commit, Key, Kind, Limit, Record, Supported};
use ha_keepalive::takeover::{Step, StepId};
use ha_keepalive::{AdvertInterval, Member, PairSecret};
use ipsec_types::{SecretBytes, SendGate};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A daemon that does everything at once and remembers what it was told.
#[derive(Default)]
struct Host {
    applied: Vec<Applied>,
    committed: Vec<(u64, Commit)>,
    steps: Vec<(Change, Step)>,
    notices: Vec<Order>,
}

impl PairHost for Host {
    fn perform(
        &mut self,
        _: &mut PairNode,
        _: Duration,
        _: StepId,
        step: Step,
        change: Change,
    ) -> Performed {
        self.steps.push((change, step));
        Performed::Done(Ok(()))
    }

    fn apply(&mut self, change: Applied) -> Result<(), String> {
        self.applied.push(change);
        Ok(())
    }

    fn limit(&mut self, _: Limit) {}

    fn committed(&mut self, position: u64, commit: Commit) {
        self.committed.push((position, commit));
    }

    fn notice(&mut self, _: &mut PairNode, _: Duration, notice: Order) {
        self.notices.push(notice);
    }
}

struct Gateway {
    driver: PairDriver,
    host: Host,
    gate: Arc<SendGate>,
}

impl Gateway {
    fn start(member: Member, secret: u8, interval: Duration, paths: &[PathConfig]) -> Self {
        let secret = PairSecret::new(SecretBytes::new(vec![secret; 32])).unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(boot_time().as_nanos() as u64);
        let gate = Arc::new(SendGate::closed());
        let config = Config::new(member, AdvertInterval::new(interval).unwrap());
        let config = NodeConfig::new(config, Supported::new(|_| 1));
        let node = PairNode::new(config, &secret, Arc::clone(&gate), &mut rng, boot_time());
        let driver = PairDriver::bind(node, secret, Box::new(rng), paths).unwrap();
        Self {
            driver,
            host: Host::default(),
            gate,
        }
    }

    fn handle(&mut self, input: Input) {
        self.driver.handle(input, &mut self.host);
    }

    fn state(&self) -> State {
        self.driver.node().election().state()
    }

    fn serves(&self) -> bool {
        self.gate.is_open(boot_time())
    }

    /// Serves, and could hand over without loss.
    fn is_ready(&self) -> bool {
        self.driver.node().readiness(boot_time()).is_empty()
    }

    fn is_hot(&self) -> bool {
        self.driver.node().is_hot(boot_time())
    }
}

/// Addresses with a port that is free on all of them, for adverts and for the sync channel.
fn cables(net: u8) -> (Vec<PathConfig>, Vec<PathConfig>) {
    let at = |host: u8, port| SocketAddr::from(([127, 0, net, host], port));
    for _ in 0..100 {
        let probe = TcpListener::bind(at(1, 0)).unwrap();
        let port = probe.local_addr().unwrap().port();
        let free = (1..=4).all(|host| UdpSocket::bind(at(host, port)).is_ok());
        if free && TcpListener::bind(at(3, port)).is_ok() {
            let path = |local, peer| PathConfig {
                local: at(local, port),
                peer: at(peer, port),
            };
            return (vec![path(1, 2), path(3, 4)], vec![path(2, 1), path(4, 3)]);
        }
    }
    panic!("no free port");
}

/// Runs both until the condition holds; ten seconds are an answer too.
async fn until(
    a: &mut Gateway,
    b: &mut Gateway,
    what: &str,
    done: impl Fn(&Gateway, &Gateway) -> bool,
) {
    let limit = tokio::time::sleep(Duration::from_secs(10));
    tokio::pin!(limit);
    while !done(a, b) {
        tokio::select! {
            input = a.driver.wait() => a.handle(input),
            input = b.driver.wait() => b.handle(input),
            () = &mut limit => panic!("never: {what}; A {:?}, B {:?}", a.state(), b.state()),
        }
    }
}

async fn alone(one: &mut Gateway, what: &str, done: impl Fn(&Gateway) -> bool) {
    let limit = tokio::time::sleep(Duration::from_secs(10));
    tokio::pin!(limit);
    while !done(one) {
        tokio::select! {
            input = one.driver.wait() => one.handle(input),
            () = &mut limit => panic!("never: {what}; {:#?}", one.driver.node().status(boot_time())),
        }
    }
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

fn record(name: &str) -> Record {
    let key = Key::new(Kind::Connection, name).unwrap();
    Record::new(key, 1, SecretBytes::new(b"some keys".to_vec())).unwrap()
}

async fn pair_in_sync(net: u8, interval: Duration) -> (Gateway, Gateway, Vec<PathConfig>) {
    let (paths_a, paths_b) = cables(net);
    let mut a = Gateway::start(Member::A, 1, interval, &paths_a);
    alone(&mut a, "A serves alone", Gateway::serves).await;
    let mut b = Gateway::start(Member::B, 1, interval, &paths_b);
    until(&mut a, &mut b, "B is ready", |a, b| {
        a.is_ready() && b.is_hot()
    })
    .await;
    (a, b, paths_a)
}

#[test]
fn a_record_is_acknowledged_and_applied() {
    block_on(async {
        let (mut a, mut b, _) = pair_in_sync(10, Duration::from_millis(50)).await;
        let now = boot_time();
        let position = a.driver.node_mut().put(now, record("azure")).unwrap();
        a.driver.node_mut().commit(now, position).unwrap();
        a.driver.flush(&mut a.host);
        until(&mut a, &mut b, "committed", |a, _| {
            !a.host.committed.is_empty()
        })
        .await;
        assert_eq!(a.host.committed, [(position, Commit::Acknowledged)]);
        assert!(
            matches!(&b.host.applied[..], [Applied::Put { record: applied, .. }] if *applied == record("azure"))
        );
    });
}

/// Adverts come every second, so patience would take more than three: only the kernel's news
/// can be this quick.
#[test]
fn a_dead_process_is_known_at_once() {
    block_on(async {
        let (a, mut b, _) = pair_in_sync(11, Duration::from_secs(1)).await;
        let killed = boot_time();
        drop(a);
        alone(&mut b, "B takes over", Gateway::serves).await;
        let gap = boot_time() - killed;
        println!("served again after {gap:?}");
        assert!(gap < Duration::from_secs(1), "{gap:?}");
        let hot = Change::Claim { hot: true };
        assert!(b.host.steps.contains(&(hot, Step::ActivateSas)));
    });
}

#[test]
fn a_planned_switchover_moves_the_role_and_back() {
    block_on(async {
        let (mut a, mut b, _) = pair_in_sync(12, Duration::from_millis(50)).await;
        let begun = boot_time();
        a.driver.node_mut().switchover(begun);
        a.driver.flush(&mut a.host);
        until(&mut a, &mut b, "B serves", |_, b| b.serves()).await;
        println!("handed over after {:?}", boot_time() - begun);
        assert!(!a.serves());
        until(&mut a, &mut b, "A is ready", |_, b| b.is_ready()).await;
        // Ordered on the standby, it asks the active node.
        a.driver.node_mut().switchover(boot_time());
        a.driver.flush(&mut a.host);
        until(&mut a, &mut b, "A serves again", |a, _| a.serves()).await;
        assert!(!b.serves());
    });
}

#[test]
fn a_restarted_partner_joins_again() {
    block_on(async {
        let interval = Duration::from_millis(50);
        let (a, mut b, paths_a) = pair_in_sync(13, interval).await;
        drop(a);
        alone(&mut b, "B takes over", Gateway::serves).await;
        let mut a = Gateway::start(Member::A, 1, interval, &paths_a);
        until(&mut a, &mut b, "A is ready", |a, b| {
            a.is_hot() && b.serves()
        })
        .await;
        assert_eq!(a.state(), State::Standby);
    });
}

#[test]
fn a_stranger_with_another_secret_moves_nothing() {
    block_on(async {
        let interval = Duration::from_millis(20);
        let (paths_a, paths_b) = cables(14);
        let mut a = Gateway::start(Member::A, 1, interval, &paths_a);
        alone(&mut a, "A serves", Gateway::serves).await;
        let mut stranger = Gateway::start(Member::B, 2, interval, &paths_b);
        let enough = |gateway: &Gateway| gateway.driver.node().advert_counters().mac > 20;
        until(&mut a, &mut stranger, "refusals", |a, b| {
            enough(a) && enough(b)
        })
        .await;
        assert!(a.serves());
        assert_eq!(a.driver.node().advert_counters().accepted, 0);
        assert!(stranger.host.applied.is_empty());
    });
}

#[test]
fn i5_a_caller_without_the_secret_does_not_end_the_connection_in_use() {
    block_on(async {
        let (mut a, mut b, paths_a) = pair_in_sync(15, Duration::from_millis(50)).await;
        a.host.notices.clear();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        let path = paths_a.first().unwrap();
        socket.bind(SocketAddr::new(path.peer.ip(), 0)).unwrap();
        let mut caller = socket.connect(path.local).await.unwrap();
        caller.write_all(&[7; 200]).await.unwrap();
        let mut answer = [0; 16];
        let hung_up =
            async { while caller.read(&mut answer).await.is_ok_and(|count| count > 0) {} };
        tokio::pin!(hung_up);
        loop {
            tokio::select! {
                input = a.driver.wait() => a.handle(input),
                input = b.driver.wait() => b.handle(input),
                () = &mut hung_up => break,
            }
        }
        assert!(a.is_ready() && b.is_hot());
        assert_eq!(a.host.notices, [], "the standby follows as before");
    });
}
