//! `[pair]` of a node's configuration, and what `vipsec status` says about the pair.

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

use super::daemon::SHARED_CONNECTIONS;

/// `[pair]` with its paths and addresses. Times are words such as `50ms`.
#[derive(Debug, Clone)]
pub struct Member {
    /// `a` or `b`.
    pub member: char,
    /// Content of the secret file.
    pub secret: String,
    /// Who begins, when nobody is active yet.
    pub priority: u8,
    /// How often adverts are sent.
    pub advert_interval: String,
    /// `off`, or after which time.
    pub preempt: String,
    /// How long a failed condition must have been good again.
    pub hold_down: String,
    /// How long a new SA waits for the standby.
    pub commit_wait: String,
    /// How long the old active forwards after a planned switchover.
    pub grace: String,
    /// Own and the partner's address of every way between the nodes.
    pub paths: Vec<(String, String)>,
    /// `ADDRESS/LENGTH`, device, and `wan` or `lan`.
    pub addresses: Vec<(String, String, String)>,
    /// The connections stand in a file that the pair keeps the same.
    pub shared: bool,
    /// Their virtual MACs, in the same order; an empty one, or none, is left out.
    pub virtual_macs: Vec<String>,
    /// Routers behind them, in the same order; an empty one, or none, is left out.
    pub gateways: Vec<String>,
    /// Further lines of the `[pair]` table, verbatim.
    pub extra: String,
    /// Further tables, verbatim.
    pub extra_tables: String,
}

impl Member {
    pub(super) fn render(&self, secret_file: &Path) -> String {
        let mut text = format!(
            "\n[pair]\nmember = \"{}\"\nsecret_file = {:?}\npriority = {}\n",
            self.member, secret_file, self.priority
        );
        for (key, value) in [
            ("advert_interval", &self.advert_interval),
            ("preempt", &self.preempt),
            ("hold_down", &self.hold_down),
            ("commit_wait", &self.commit_wait),
            ("grace", &self.grace),
        ] {
            if !value.is_empty() {
                add(&mut text, &format!("{key} = {value:?}"));
            }
        }
        if self.shared {
            add(&mut text, &format!("connections = {SHARED_CONNECTIONS:?}"));
        }
        add(&mut text, &self.extra);
        for (local, peer) in &self.paths {
            add(
                &mut text,
                &format!("[[pair.path]]\nlocal = {local:?}\npeer = {peer:?}"),
            );
        }
        for (index, (address, link, side)) in self.addresses.iter().enumerate() {
            add(
                &mut text,
                &format!(
                    "[[pair.address]]\naddress = {address:?}\nlink = {link:?}\nside = {side:?}"
                ),
            );
            if let Some(mac) = self.virtual_macs.get(index).filter(|mac| !mac.is_empty()) {
                add(&mut text, &format!("virtual_mac = {mac:?}"));
            }
            let gateway = self.gateways.get(index).filter(|router| !router.is_empty());
            if let Some(router) = gateway {
                add(&mut text, &format!("gateway = {router:?}"));
            }
        }
        add(&mut text, &self.extra_tables);
        text
    }
}

fn add(text: &mut String, words: &str) {
    // Writing to a String cannot fail.
    let _always_ok = writeln!(text, "{words}");
}

/// `.pair` of `vipsec status --json`.
#[derive(Debug, Clone, Deserialize)]
pub struct PairStatus {
    /// `active`, `standby` or `init`.
    pub role: String,
    /// It carries traffic now.
    #[serde(default)]
    pub serving: bool,
    /// Number of the activation in force.
    #[serde(default)]
    pub epoch: u64,
    /// Conditions that are bad here.
    #[serde(default)]
    pub failed: Vec<String>,
    /// The node may be active.
    #[serde(default)]
    pub fit: bool,
    /// The standby knows everything.
    #[serde(default)]
    pub in_sync: bool,
    /// Whether the next takeover is a hot one.
    #[serde(default)]
    pub takeover: Takeover,
    /// Why it is in this state, in one sentence.
    #[serde(default)]
    pub why: String,
    /// The last changes of state.
    #[serde(default)]
    pub transitions: Vec<Transition>,
}

/// A change of state.
#[derive(Debug, Clone, Deserialize)]
pub struct Transition {
    /// The state before.
    pub from: String,
    /// The state after.
    pub to: String,
}

/// What a takeover would be like now.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Takeover {
    /// Nothing would be negotiated anew.
    #[serde(default)]
    pub hot: bool,
    /// What stands in the way of it.
    #[serde(default)]
    pub reasons: Vec<String>,
}
