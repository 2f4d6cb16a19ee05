//! Is this node fit to be active? Its links, the user's health script, and whether the peers
//! could be reached from here.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::sync::Arc;

use core::time::Duration;

use ha_keepalive::election::{self, Condition};
use tokio::process::Command;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};
use vti::{Link, LinkEvent, Netlink, watch_links};

use ha_keepalive::node::PairNode;

use super::{News, State, ping};
use crate::config::{HealthCheck, PairConfig, Side, VirtualAddress};
use crate::daemon::gateway::Gateway;

/// Time between two path checks of the standby, and the wait for each answer.
const PATH_CHECK: Duration = Duration::from_secs(1);
/// Unanswered checks in a row that count.
const PATH_FAILURES: u32 = 3;

type Sender = mpsc::UnboundedSender<News>;

/// Begins to watch; what changes arrives as [`News`].
///
/// # Errors
/// The kernel cannot be listened to.
pub(super) async fn start(
    config: &PairConfig,
    net: Arc<Netlink>,
    may_ping: &Rc<Cell<bool>>,
    news: &Sender,
) -> io::Result<()> {
    let mut sides: BTreeMap<String, Side> = BTreeMap::new();
    for address in &config.addresses {
        sides.insert(address.link.clone(), address.side);
    }
    let (mut events, connection) = watch_links()?;
    tokio::spawn(connection);
    let mut links = LinkStates {
        sides,
        running: BTreeMap::new(),
        indices: BTreeMap::new(),
        news: news.clone(),
    };
    // After the watch has begun, so that no change in between is missed.
    for name in links.sides.keys().cloned().collect::<Vec<_>>() {
        let found = net.link(&name).await.ok().flatten();
        let index = found.as_ref().map(|link| link.index);
        links
            .indices
            .extend(index.map(|index| (name.clone(), index)));
        links.set(&name, found.is_some_and(|link| link.running));
    }
    tokio::task::spawn_local(async move {
        while let Some(event) = events.next().await {
            match event {
                LinkEvent::Is(link) => {
                    let running = link.running && links.is_the_same(&link);
                    links.set(&link.name, running);
                }
                LinkEvent::Gone(link) => links.set(&link.name, false),
            }
        }
        warn!("the kernel does not tell of links any more");
    });
    if let Some(health) = config.health.clone() {
        tokio::task::spawn_local(watch_health(health, news.clone()));
    }
    if !config.path_check.is_empty() {
        let check = watch_paths(config.path_check.clone(), Rc::clone(may_ping), news.clone());
        tokio::task::spawn_local(check);
    }
    Ok(())
}

struct LinkStates {
    sides: BTreeMap<String, Side>,
    running: BTreeMap<String, bool>,
    /// The links at the start: sockets and routes belong to these.
    indices: BTreeMap<String, u32>,
    news: Sender,
}

impl LinkStates {
    /// False for a link that was deleted and made anew under the same name.
    fn is_the_same(&self, link: &Link) -> bool {
        let known = self.indices.get(&link.name);
        let same = known.is_none_or(|index| *index == link.index);
        if !same {
            warn!(
                link = link.name,
                "the link is another one than at the start: this node is not fit to be active until the daemon is started anew"
            );
        }
        same
    }

    fn set(&mut self, name: &str, running: bool) {
        let Some(side) = self.sides.get(name).copied() else {
            return;
        };
        if self.running.insert(name.to_owned(), running) == Some(running) {
            return;
        }
        if running {
            info!(link = name, "link is up");
        } else {
            warn!(link = name, "link is down");
        }
        let good = self
            .sides
            .iter()
            .filter(|(_, of)| **of == side)
            .all(|(link, _)| self.running.get(link).copied().unwrap_or(true));
        let condition = match side {
            Side::Wan => Condition::WanLink,
            Side::Lan => Condition::LanLink,
        };
        tell(&self.news, News::Condition(condition, good));
    }
}

/// The event loop ends only with the process.
fn tell(news: &Sender, what: News) {
    let _ = news.send(what);
}

async fn watch_health(check: HealthCheck, news: Sender) {
    let mut failures = 0;
    loop {
        match run_health(&check).await {
            Ok(()) => {
                if failures >= check.failures {
                    tell(&news, News::Condition(Condition::Health, true));
                }
                failures = 0;
            }
            Err(reason) => {
                failures += 1;
                debug!(failures, reason, "health script");
                if failures == check.failures {
                    warn!(script = %check.exec.display(), failures, reason, "the health script fails");
                    tell(&news, News::Condition(Condition::Health, false));
                }
            }
        }
        tokio::time::sleep(check.interval).await;
    }
}

async fn run_health(check: &HealthCheck) -> Result<(), String> {
    let mut child = Command::new(&check.exec)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    match tokio::time::timeout(check.timeout, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(status.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {:?}", check.timeout)),
    }
}

/// From this node's own addresses: a standby never speaks for the virtual one.
async fn watch_paths(targets: Vec<IpAddr>, may_ping: Rc<Cell<bool>>, news: Sender) {
    let mut failures = 0;
    loop {
        if !may_ping.get() {
            tokio::time::sleep(PATH_CHECK).await;
            continue;
        }
        let answered = ping::any_answers(&targets, PATH_CHECK).await;
        failures = if answered { 0 } else { failures + 1 };
        tell(&news, News::PathCheck(failures < PATH_FAILURES));
        tokio::time::sleep(PATH_CHECK).await;
    }
}

/// Keeps the kernel from speaking for the virtual addresses by itself, on the links that we
/// answer on:
///
/// - `arp_ignore = 1`: it answers ARP only for addresses of the link itself;
/// - `arp_announce = 2`: it asks with an address of the link itself;
/// - `send_redirects = 0`: hosts keep the virtual address as their next hop, also while the
///   standby forwards for them;
/// - `retrans_time_ms = 200`: a neighbour whose first ARP request is lost, as happens on a link
///   that has just come up, is asked again before anybody notices.
pub(super) fn quiet_kernel(addresses: &[VirtualAddress]) {
    let mut links: Vec<&str> = addresses.iter().map(|spec| spec.link.as_str()).collect();
    links.sort_unstable();
    links.dedup();
    for link in links {
        for (key, value) in [
            ("arp_ignore", "1"),
            ("arp_announce", "2"),
            ("send_redirects", "0"),
        ] {
            set_sysctl(&format!("ipv4/conf/{link}/{key}"), value);
        }
        set_sysctl(&format!("ipv4/neigh/{link}/retrans_time_ms"), "200");
    }
    // The kernel takes the larger of the two.
    set_sysctl("ipv4/conf/all/send_redirects", "0");
    if read_sysctl(Path::new("/proc/sys/net/ipv4/ip_forward")).as_deref() == Some("0") {
        warn!(
            "net.ipv4.ip_forward is 0: this node does not route between LAN and tunnels (sysctl -w net.ipv4.ip_forward=1)"
        );
    }
}

/// What the VTIs need so that packets can be given back to the kernel.
pub(super) fn open_vti(device: &str) {
    set_sysctl(&format!("ipv4/conf/{device}/rp_filter"), "0");
    let all = PathBuf::from("/proc/sys/net/ipv4/conf/all/rp_filter");
    if read_sysctl(&all).as_deref() == Some("1") {
        warn!(
            "net.ipv4.conf.all.rp_filter is 1: packets that wait in a tunnel are lost at a switchover (set it to 0 or 2)"
        );
    }
}

pub(super) fn read_sysctl(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

/// `key` below `net`, with slashes.
pub(super) fn set_sysctl(key: &str, value: &str) {
    let path = format!("/proc/sys/net/{key}");
    let before = read_sysctl(Path::new(&path));
    if before.as_deref() == Some(value) {
        return;
    }
    match std::fs::write(&path, value) {
        Ok(()) => info!(key, value, before, "kernel setting"),
        Err(error) => {
            warn!(key, value, %error, "kernel setting cannot be made; set it yourself");
        }
    }
}

impl State {
    /// On the active node, dead peer detection has a say too: with a path check configured, a
    /// node whose peers are all silent leaves to a partner that could reach them.
    pub(super) fn judge_peers(&mut self, now: Duration, node: &mut PairNode, gateway: &Gateway) {
        if self.config.path_check.is_empty() {
            return;
        }
        let serves = node.election().is_serving(now);
        // While the address is here without a lease, the kernel might ask from it (invariant I6).
        let follows = node.election().state() == election::State::Standby;
        self.may_ping
            .set(serves || (follows && self.grace.is_none()));
        // One peer among others is that peer's trouble.
        let all_dead = gateway.peers_dead && !gateway.ike.has_ike_sas();
        let reachable = self.path_ok && !(serves && all_dead);
        if self.peers_reachable == reachable {
            return;
        }
        self.peers_reachable = reachable;
        if reachable {
            info!("the peers can be reached from here again");
        } else {
            warn!(
                path_check = self.path_ok,
                all_peers_dead = all_dead,
                "the peers cannot be reached from here"
            );
        }
        node.handle_condition(now, Condition::PeersReachable, reachable);
    }
}
