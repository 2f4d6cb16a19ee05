//! Everything a user starts from loads: the examples in `configs/`, and the systemd unit.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ipsec_types::SecretBytes;
use vipsec::config::{
    self, ConnectionKind, Files, Profile, RealFiles, ResolvedConfig, SecretFile, Severity,
};

/// The real files, but for the keys: nobody keeps real keys beside examples.
struct WithKeys;

impl Files for WithKeys {
    fn read_config(&self, path: &Path) -> io::Result<String> {
        RealFiles.read_config(path)
    }

    fn read_secret(&self, _: &Path) -> io::Result<SecretFile> {
        Ok(SecretFile {
            content: SecretBytes::from(&b"8f0a5c3be19d2746f0b3d8e5a1c97204e6b1f38d05a7c294\n"[..]),
            mode: 0o600,
            owner: 0,
            regular: true,
            truncated: false,
        })
    }

    fn host_name(&self) -> String {
        "example".to_owned()
    }

    fn user(&self) -> u32 {
        0
    }
}

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

fn load(name: &str) -> ResolvedConfig {
    config::load_with(&configs().join(name), &WithKeys).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn every_example_loads() {
    let mut seen = 0;
    for entry in std::fs::read_dir(configs()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(!load(name).connections.is_empty(), "{name}");
            seen += 1;
        }
    }
    assert_eq!(seen, 8);
}

#[test]
fn the_examples_are_what_they_say() {
    let minimal = load("minimal.toml");
    assert_eq!(minimal.warnings, []);
    assert_eq!(minimal.connections[0].profile, Profile::Generic);

    let route = load("azure-route-based.toml");
    assert_eq!(route.connections[0].profile, Profile::AzureRouteBased);
    // The one warning is the choice that the file explains.
    assert_eq!(route.warnings.len(), 1);
    assert_eq!(route.warnings[0].severity(), Severity::Warning);
    assert!(
        route.warnings[0]
            .headline()
            .contains("without its weak proposals")
    );

    let policy = load("azure-policy-based.toml");
    assert_eq!(policy.connections[0].kind, ConnectionKind::PolicyBased);
    assert_eq!(policy.warnings, []);

    let swan = load("strongswan-peer.toml");
    assert_eq!(swan.connections[0].profile, Profile::StrongSwan);
    assert_eq!(swan.warnings, []);

    let full = load("vipsec.toml");
    let kinds: Vec<ConnectionKind> = full.connections.iter().map(|c| c.kind).collect();
    assert_eq!(
        kinds,
        [ConnectionKind::RouteBased, ConnectionKind::PolicyBased]
    );
    assert_eq!(full.warnings, []);
}

/// The two nodes are each other's partner, and would do the same.
#[test]
fn the_two_nodes_of_the_pair_belong_together() {
    let (a, b) = (load("pair-a.toml"), load("pair-b.toml"));
    assert_eq!((&a.warnings, &b.warnings), (&vec![], &vec![]));
    assert_eq!(a.connections, b.connections);
    assert_eq!(a.revision, load("pair-connections.toml").revision);
    assert_eq!(a.shared, b.shared);
    let (a, b) = (a.pair.unwrap(), b.pair.unwrap());
    assert_eq!(a.member, b.member.other());
    assert_eq!(a.addresses, b.addresses);
    assert_eq!(a.connections, Some(configs().join("pair-connections.toml")));
    for (here, there) in a.paths.iter().zip(&b.paths) {
        assert_eq!((here.local, here.peer), (there.peer, there.local));
    }
}

/// Section, then key, then every value of it, as systemd reads a unit.
fn unit(name: &str) -> BTreeMap<String, BTreeMap<String, Vec<String>>> {
    let text = std::fs::read_to_string(configs().join(name)).unwrap();
    let mut sections: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            section = name.strip_suffix(']').unwrap().to_owned();
            continue;
        }
        let (key, value) = line
            .split_once('=')
            .unwrap_or_else(|| panic!("no setting: {line}"));
        let values = sections.entry(section.clone()).or_default();
        values
            .entry(key.to_owned())
            .or_default()
            .push(value.to_owned());
    }
    sections
}

/// What the relay of protocol 50 needs: its namespace, its programs. The unit's lists are
/// added to, and nothing else of it is touched.
#[test]
fn the_drop_in_permits_the_relay_and_nothing_else() {
    let drop_in = unit("vipsec-esp-relay.conf");
    let expected = [
        ("AmbientCapabilities", "CAP_SYS_ADMIN"),
        ("CapabilityBoundingSet", "CAP_SYS_ADMIN"),
        ("RestrictNamespaces", "net"),
        ("SystemCallFilter", "bpf"),
    ];
    let settings: Vec<(&str, &str)> = drop_in["Service"]
        .iter()
        .flat_map(|(key, values)| values.iter().map(|value| (key.as_str(), value.as_str())))
        .collect();
    assert_eq!(settings, expected);
    assert_eq!(drop_in.len(), 1);
}

#[test]
fn the_systemd_unit_gives_what_the_daemon_needs_and_no_more() {
    let unit = unit("vipsec.service");
    let sections: Vec<&str> = unit.keys().map(String::as_str).collect();
    assert_eq!(sections, ["Install", "Service", "Unit"]);
    let service = &unit["Service"];
    let one = |key: &str| match service.get(key).map(Vec::as_slice) {
        Some([value]) => value.as_str(),
        other => panic!("{key}: {other:?}"),
    };
    // The daemon says when it is ready, and only its main process may.
    assert_eq!((one("Type"), one("NotifyAccess")), ("notify", "main"));
    assert_eq!(one("ExecStart"), "/usr/bin/vipsec run");
    assert_eq!(one("ExecReload"), "/usr/bin/vipsec reload");
    // Interfaces and routes; protocol 50; the ports 500 and 4500; real-time workers. Nothing else.
    let needed = "CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE CAP_SYS_NICE";
    assert_eq!(one("CapabilityBoundingSet"), needed);
    assert_eq!(one("AmbientCapabilities"), needed);
    assert_eq!(one("DeviceAllow"), "/dev/net/tun rw");
    for family in ["AF_INET", "AF_INET6", "AF_NETLINK", "AF_UNIX", "AF_PACKET"] {
        assert!(
            one("RestrictAddressFamilies")
                .split(' ')
                .any(|word| word == family),
            "{family}"
        );
    }
    for hardening in [
        "NoNewPrivileges",
        "ProtectHome",
        "PrivateTmp",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ProtectControlGroups",
        "RestrictSUIDSGID",
        "MemoryDenyWriteExecute",
        "LockPersonality",
    ] {
        assert_eq!(one(hardening), "yes", "{hardening}");
    }
    assert_eq!(one("ProtectSystem"), "strict");
    // The partner's connections are stored beside the main file, and the daemon sets
    // arp_ignore on the links of the virtual addresses.
    let folder = Path::new(config::DEFAULT_PATH).parent().unwrap();
    assert_eq!(Path::new(one("ReadWritePaths")), folder);
    assert!(!service.contains_key("ProtectKernelTunables"));
    // Session keys do not reach a disk by way of a core dump.
    assert_eq!(one("LimitCORE"), "0");
    // The control socket is where the configuration puts it by default.
    let folder = format!("/run/{}", one("RuntimeDirectory"));
    assert_eq!(
        Path::new(config::DEFAULT_CONTROL_SOCKET).parent(),
        Some(Path::new(&folder))
    );
    let folder = format!("/etc/{}", one("ConfigurationDirectory"));
    assert_eq!(
        Path::new(config::DEFAULT_PATH).parent(),
        Some(Path::new(&folder))
    );
}
