//! A vipsec configuration as a value, and its TOML text.

use std::fmt::Write as _;
use std::path::Path;

use crate::peer::PSK;

/// One `[[connection]]`. Empty strings and lists leave a key out.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Its name.
    pub name: String,
    /// Own outer address.
    pub local: String,
    /// The peer's outer address.
    pub remote: String,
    /// Own identity.
    pub local_id: String,
    /// The peer's identity.
    pub remote_id: String,
    /// Content of the key file.
    pub psk: String,
    /// `on-start`, `on-traffic` or `respond`.
    pub start: String,
    /// `auto`, `udp` or `esp`.
    pub encapsulation: String,
    /// Permits weak algorithms.
    pub allow_weak: bool,
    /// Phase-1 proposals.
    pub phase1: Vec<String>,
    /// Phase-1 lifetime.
    pub phase1_lifetime: String,
    /// Further keys of `[connection.phase1]`, verbatim.
    pub phase1_extra: String,
    /// Phase-2 proposals.
    pub phase2: Vec<String>,
    /// Phase-2 lifetime.
    pub phase2_lifetime: String,
    /// Further keys of `[connection.phase2]`, verbatim.
    pub phase2_extra: String,
    /// Tunnel interface.
    pub device: String,
    /// Largest inner packet in bytes.
    pub mtu: u16,
    /// Prefixes routed into the tunnel.
    pub routes: Vec<String>,
    /// Policy-based traffic.
    pub selectors: Vec<Selector>,
    /// Further keys of the connection's own table, verbatim.
    pub extra: String,
    /// Further sub-tables, verbatim.
    pub extra_tables: String,
}

/// One `[[connection.selector]]`.
#[derive(Debug, Clone)]
pub struct Selector {
    /// Own prefix.
    pub local: String,
    /// The peer's prefix.
    pub remote: String,
    /// `protocol` and `port` lines, verbatim.
    pub extra: String,
}

impl Connection {
    /// Route-based: what is routed to `routes` goes through, whatever its source. AES-256,
    /// SHA-256, MODP-2048; waits to be told to start.
    #[must_use]
    pub fn route_based(local: &str, remote: &str, routes: &[&str]) -> Self {
        Self {
            name: "site".to_owned(),
            local: local.to_owned(),
            remote: remote.to_owned(),
            local_id: String::new(),
            remote_id: String::new(),
            psk: PSK.to_owned(),
            start: "respond".to_owned(),
            encapsulation: "auto".to_owned(),
            allow_weak: false,
            phase1: vec!["aes256-sha256-modp2048".to_owned()],
            phase1_lifetime: "8h".to_owned(),
            phase1_extra: String::new(),
            phase2: vec!["aes256gcm16".to_owned()],
            phase2_lifetime: "1h".to_owned(),
            phase2_extra: String::new(),
            device: "vti-site".to_owned(),
            mtu: 1400,
            routes: routes.iter().map(|&route| route.to_owned()).collect(),
            selectors: Vec::new(),
            extra: String::new(),
            extra_tables: String::new(),
        }
    }

    /// Policy-based: one quick mode for a pair of prefixes.
    #[must_use]
    pub fn policy_based(local: &str, remote: &str, local_net: &str, remote_net: &str) -> Self {
        Self {
            selectors: vec![Selector::new(local_net, remote_net)],
            ..Self::route_based(local, remote, &[])
        }
    }

    /// The same with other phase-1 proposals, separated by commas.
    #[must_use]
    pub fn proposals(mut self, proposals: &str) -> Self {
        self.phase1 = list(proposals);
        self
    }

    /// The same with other phase-2 proposals, separated by commas.
    #[must_use]
    pub fn esp_proposals(mut self, proposals: &str) -> Self {
        self.phase2 = list(proposals);
        self
    }

    /// The same with another pre-shared key.
    #[must_use]
    pub fn psk(mut self, psk: &str) -> Self {
        psk.clone_into(&mut self.psk);
        self
    }

    /// The same with another start condition.
    #[must_use]
    pub fn start(mut self, start: &str) -> Self {
        start.clone_into(&mut self.start);
        self
    }

    /// The same with another encapsulation.
    #[must_use]
    pub fn encapsulation(mut self, encapsulation: &str) -> Self {
        encapsulation.clone_into(&mut self.encapsulation);
        self
    }

    /// The same under another name, with a tunnel interface named after it.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self.device = format!("vti-{name}");
        self
    }

    /// The same with one more selector.
    #[must_use]
    pub fn selector(mut self, selector: Selector) -> Self {
        self.selectors.push(selector);
        self
    }
}

impl Selector {
    /// Any protocol between two prefixes.
    #[must_use]
    pub fn new(local: &str, remote: &str) -> Self {
        Self {
            local: local.to_owned(),
            remote: remote.to_owned(),
            extra: String::new(),
        }
    }
}

/// The whole file; the key of connection N is read from `N.psk` in `keys`, and `pair` are the
/// tables of a node's part in a pair.
pub(super) fn render(
    name: &str,
    socket: &Path,
    pair: &str,
    keys: &Path,
    connections: &[Connection],
) -> String {
    let mut text = String::new();
    let socket = socket.display();
    line(&mut text, "[gateway]");
    line(&mut text, &format!("name = \"{name}\""));
    line(&mut text, &format!("control_socket = \"{socket}\""));
    line(&mut text, "workers = 1");
    line(&mut text, "log = \"info,ikev1=debug\"");
    text.push_str(pair);
    text + &render_connections(keys, connections)
}

/// The connections alone, as a pair shares them; the keys are named relative to `keys`.
pub(super) fn render_connections(keys: &Path, connections: &[Connection]) -> String {
    let mut text = String::new();
    for (number, connection) in connections.iter().enumerate() {
        let psk = keys.join(format!("{number}.psk"));
        connection_table(&mut text, connection, &psk);
    }
    text
}

fn connection_table(text: &mut String, connection: &Connection, psk: &Path) {
    line(text, "\n[[connection]]");
    word(text, "name", &connection.name);
    word(text, "local", &connection.local);
    word(text, "remote", &connection.remote);
    word(text, "local_id", &connection.local_id);
    word(text, "remote_id", &connection.remote_id);
    word(text, "psk_file", &psk.display().to_string());
    word(text, "start", &connection.start);
    word(text, "encapsulation", &connection.encapsulation);
    if connection.allow_weak {
        line(text, "allow_weak = true");
    }
    line(text, &connection.extra);
    line(text, "[connection.phase1]");
    words(text, "proposals", &connection.phase1);
    word(text, "lifetime", &connection.phase1_lifetime);
    line(text, &connection.phase1_extra);
    line(text, "[connection.phase2]");
    words(text, "proposals", &connection.phase2);
    word(text, "lifetime", &connection.phase2_lifetime);
    line(text, &connection.phase2_extra);
    line(text, "[connection.vti]");
    word(text, "device", &connection.device);
    line(text, &format!("mtu = {}", connection.mtu));
    words(text, "routes", &connection.routes);
    for selector in &connection.selectors {
        line(text, "[[connection.selector]]");
        word(text, "local", &selector.local);
        word(text, "remote", &selector.remote);
        line(text, &selector.extra);
    }
    line(text, &connection.extra_tables);
}

fn list(words: &str) -> Vec<String> {
    words
        .split(',')
        .map(|word| word.trim().to_owned())
        .collect()
}

fn word(text: &mut String, key: &str, value: &str) {
    if !value.is_empty() {
        line(text, &format!("{key} = {value:?}"));
    }
}

fn words(text: &mut String, key: &str, values: &[String]) {
    if !values.is_empty() {
        line(text, &format!("{key} = {values:?}"));
    }
}

fn line(text: &mut String, words: &str) {
    // Writing to a String cannot fail.
    let _always_ok = writeln!(text, "{words}");
}
