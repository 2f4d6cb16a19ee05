//! A strongSwan configuration as a value, and its `swanctl.conf` text.

use std::fmt::Write as _;

use crate::peer::PSK;

/// When a child SA is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// By command or by the other side only.
    None,
    /// As soon as the configuration is loaded.
    Now,
}

/// One `connections` entry. Empty strings leave an option out.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Its name.
    pub name: String,
    /// Own outer address.
    pub local: String,
    /// The other side's outer address; `%any` for any.
    pub remote: String,
    /// Own identity; empty is the address.
    pub local_id: String,
    /// The other side's identity; empty is the address.
    pub remote_id: String,
    /// Pre-shared key.
    pub psk: String,
    /// Phase-1 proposals.
    pub proposals: String,
    /// IKEv1 aggressive mode.
    pub aggressive: bool,
    /// Pretend to be behind a NAT: strongSwan's userspace ESP knows UDP encapsulation only.
    pub encap: bool,
    /// Phase-1 re-authentication (a new main mode) after this time; empty leaves it to
    /// `rekey_time`.
    pub reauth_time: String,
    /// Phase-1 rekeying, which in IKEv1 is re-authentication too; empty is strongSwan's own
    /// default of 4 hours, `0` is never (it then announces a lifetime of zero seconds).
    pub rekey_time: String,
    /// DPD probe interval; empty is none.
    pub dpd_delay: String,
    /// IKEv1's DPD time-out; empty is five retransmissions.
    pub dpd_timeout: String,
    /// Further lines of the connection section, verbatim.
    pub extra: String,
    /// Phase-2 SAs.
    pub children: Vec<Child>,
}

/// One `children` entry.
#[derive(Debug, Clone)]
pub struct Child {
    /// Its name.
    pub name: String,
    /// Own traffic selector.
    pub local_ts: String,
    /// The other side's traffic selector.
    pub remote_ts: String,
    /// Phase-2 proposals.
    pub esp_proposals: String,
    /// Rekey after this time; empty is strongSwan's own default of 1 hour.
    pub rekey_time: String,
    /// Rekey after this volume; empty is never.
    pub rekey_bytes: String,
    /// When it is started.
    pub start: Start,
    /// Further lines of the child section, verbatim.
    pub extra: String,
}

impl Connection {
    /// AES-256, SHA-256, MODP-2048; one child `net` between the selectors, started by command.
    #[must_use]
    pub fn new(local: &str, remote: &str, local_ts: &str, remote_ts: &str) -> Self {
        Self {
            name: "site".to_owned(),
            local: local.to_owned(),
            remote: remote.to_owned(),
            local_id: String::new(),
            remote_id: String::new(),
            psk: PSK.to_owned(),
            proposals: "aes256-sha256-modp2048".to_owned(),
            aggressive: false,
            encap: true,
            reauth_time: String::new(),
            rekey_time: String::new(),
            dpd_delay: String::new(),
            dpd_timeout: String::new(),
            extra: String::new(),
            children: vec![Child::new("net", local_ts, remote_ts)],
        }
    }

    /// As an Azure route-based VPN gateway presents itself: DH group 2 only in phase 1, any
    /// traffic, no PFS, GCM first, 8 hours and 7.5 hours.
    #[must_use]
    pub fn azure(local: &str, remote: &str) -> Self {
        let mut azure = Self::new(local, remote, "0.0.0.0/0", "0.0.0.0/0");
        "aes256-sha256-modp1024,aes256-sha1-modp1024,aes128-sha1-modp1024,3des-sha1-modp1024"
            .clone_into(&mut azure.proposals);
        "28800s".clone_into(&mut azure.reauth_time);
        "45s".clone_into(&mut azure.dpd_delay);
        for child in &mut azure.children {
            "aes256gcm16,aes256-sha256,aes256-sha1".clone_into(&mut child.esp_proposals);
            "27000s".clone_into(&mut child.rekey_time);
            "104857600000".clone_into(&mut child.rekey_bytes);
        }
        azure
    }

    /// The same with other phase-1 proposals.
    #[must_use]
    pub fn proposals(mut self, proposals: &str) -> Self {
        proposals.clone_into(&mut self.proposals);
        self
    }

    /// The same with other phase-2 proposals in every child.
    #[must_use]
    pub fn esp_proposals(mut self, proposals: &str) -> Self {
        for child in &mut self.children {
            proposals.clone_into(&mut child.esp_proposals);
        }
        self
    }

    /// The same with another pre-shared key.
    #[must_use]
    pub fn psk(mut self, psk: &str) -> Self {
        psk.clone_into(&mut self.psk);
        self
    }

    /// The same under another name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Adds a child SA.
    #[must_use]
    pub fn child(mut self, child: Child) -> Self {
        self.children.push(child);
        self
    }
}

impl Child {
    /// AES-256-GCM, started by command.
    #[must_use]
    pub fn new(name: &str, local_ts: &str, remote_ts: &str) -> Self {
        Self {
            name: name.to_owned(),
            local_ts: local_ts.to_owned(),
            remote_ts: remote_ts.to_owned(),
            esp_proposals: "aes256gcm16".to_owned(),
            rekey_time: String::new(),
            rekey_bytes: String::new(),
            start: Start::None,
            extra: String::new(),
        }
    }
}

/// The whole `swanctl.conf`.
pub(super) fn render(connections: &[Connection]) -> String {
    let mut text = String::from("connections {\n");
    for connection in connections {
        render_connection(&mut text, connection);
    }
    text.push_str("}\nsecrets {\n");
    for (number, connection) in connections.iter().enumerate() {
        // Main mode finds the key by address, aggressive mode by identity.
        let own = or(&connection.local_id, &connection.local);
        let other = or(&connection.remote_id, &connection.remote);
        line(&mut text, &format!("ike-{number} {{"));
        line(&mut text, &format!("id-own = {own}"));
        if other != "%any" {
            line(&mut text, &format!("id-other = {other}"));
        }
        line(&mut text, &format!("secret = \"{}\"", connection.psk));
        line(&mut text, "}");
    }
    text.push_str("}\n");
    text
}

fn render_connection(text: &mut String, connection: &Connection) {
    let yes_no = |value| if value { "yes" } else { "no" };
    line(text, &format!("{} {{\nversion = 1", connection.name));
    option(text, "local_addrs", &connection.local);
    option(text, "remote_addrs", &connection.remote);
    option(text, "proposals", &connection.proposals);
    option(text, "aggressive", yes_no(connection.aggressive));
    option(text, "encap", yes_no(connection.encap));
    option(text, "reauth_time", &connection.reauth_time);
    option(text, "rekey_time", &connection.rekey_time);
    option(text, "dpd_delay", &connection.dpd_delay);
    option(text, "dpd_timeout", &connection.dpd_timeout);
    line(text, &connection.extra);
    line(text, "local {\nauth = psk");
    option(text, "id", or(&connection.local_id, &connection.local));
    line(text, "}\nremote {\nauth = psk");
    option(text, "id", or(&connection.remote_id, &connection.remote));
    line(text, "}\nchildren {");
    for child in &connection.children {
        line(text, &format!("{} {{", child.name));
        option(text, "local_ts", &child.local_ts);
        option(text, "remote_ts", &child.remote_ts);
        option(text, "esp_proposals", &child.esp_proposals);
        option(text, "rekey_time", &child.rekey_time);
        option(text, "rekey_bytes", &child.rekey_bytes);
        if child.start == Start::Now {
            option(text, "start_action", "start");
        }
        line(text, &child.extra);
        line(text, "}");
    }
    line(text, "}\n}");
}

fn or<'a>(value: &'a str, default: &'a str) -> &'a str {
    if value.is_empty() { default } else { value }
}

fn option(text: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        line(text, &format!("{name} = {value}"));
    }
}

fn line(text: &mut String, words: &str) {
    // Writing to a String cannot fail.
    let _always_ok = writeln!(text, "{words}");
}
