//! What `[pair]` comes to, and what the two nodes keep the same.

use std::path::Path;
use std::time::Duration;

use ha_keepalive::Member;

use super::machine::{GOOD_KEY, Machine, SECOND_FILE, load};
use crate::config::{
    NotShared, PairConfig, PairPath, ResolvedConfig, SharedConfig, Side, load_with,
};
use crate::palette::Palette;

const PAIR: &str = "\
[pair]
member = \"b\"
secret_file = \"pair.secret\"

[[pair.path]]
local = \"192.0.2.2\"
peer = \"192.0.2.1:7411\"

[[pair.path]]
local = \"[2001:db8::2]:9000\"
peer = \"2001:db8::1\"

[[pair.address]]
address = \"203.0.113.1/24\"
link = \"wan0\"
side = \"wan\"
gateway = \"203.0.113.254\"
";

const CONNECTIONS: &str = "\
[[connection]]
name = \"azure\"
local = \"203.0.113.1\"
remote = \"198.51.100.7\"
psk_file = \"good.psk\"

[[connection]]
name = \"branch\"
local = \"203.0.113.1\"
remote = \"198.51.100.8\"
psk_file = \"newline.psk\"
[connection.vti]
routes = [\"10.3.0.0/16\"]
[[connection.selector]]
local = \"10.1.0.0/16\"
remote = \"10.3.0.0/16\"
";

fn config(text: &str) -> ResolvedConfig {
    load(text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn pair(text: &str) -> PairConfig {
    config(text).pair.unwrap()
}

/// The main file names the connections of the other.
fn two_files(connections: &str) -> String {
    let named = PAIR.replacen(
        "secret_file",
        "connections = \"connections.toml\"\nsecret_file",
        1,
    );
    format!("{named}{SECOND_FILE}{connections}")
}

/// `CONNECTIONS` without the clash of a route-based and a policy-based tunnel.
fn connections() -> String {
    CONNECTIONS.replacen(
        "psk_file = \"good.psk\"\n",
        "psk_file = \"good.psk\"\n[[connection.selector]]\nlocal = \"10.1.0.0/16\"\nremote = \"10.2.0.0/16\"\n",
        1,
    )
}

#[test]
fn the_defaults() {
    let pair = pair(&format!("{PAIR}{}", connections()));
    assert_eq!(pair.member, Member::B);
    assert_eq!(pair.priority.get(), 100);
    assert_eq!(pair.advert_interval.get(), Duration::from_millis(100));
    assert_eq!(pair.preempt, None);
    assert_eq!(pair.hold_down, Duration::from_secs(3));
    assert_eq!(pair.commit_wait, Duration::from_millis(50));
    assert_eq!(pair.grace, Duration::from_secs(5));
    assert_eq!(
        pair.paths,
        [
            PairPath {
                local: "192.0.2.2:7410".parse().unwrap(),
                peer: "192.0.2.1:7411".parse().unwrap(),
            },
            PairPath {
                local: "[2001:db8::2]:9000".parse().unwrap(),
                peer: "[2001:db8::1]:7410".parse().unwrap(),
            },
        ]
    );
    let [address] = pair.addresses.as_slice() else {
        panic!("{:?}", pair.addresses);
    };
    assert_eq!((address.link.as_str(), address.side), ("wan0", Side::Wan));
    assert_eq!(address.gateway, Some("203.0.113.254".parse().unwrap()));
    assert!(pair.health.is_none() && pair.mover.is_none() && pair.path_check.is_empty());
    assert_eq!(pair.connections, None);
}

#[test]
fn everything_that_can_be_said() {
    let text = format!(
        "{PAIR}\n[pair.health]\nexec = \"/bin/healthy\"\ninterval = \"500ms\"\n[pair.mover]\nexec = \"/bin/move\"\n{}",
        connections()
    );
    let text = text.replacen(
        "member",
        "preempt = \"1m\"\npath_check = [\"198.51.100.7\"]\npriority = 1\nadvert_interval = \"10ms\"\nmember",
        1,
    );
    let text = text.replacen(
        "side = \"wan\"",
        "side = \"wan\"\nvirtual_mac = \"00:00:5E:00:01:0a\"",
        1,
    );
    let pair = pair(&text);
    let mac = pair.addresses[0].virtual_mac.unwrap();
    assert_eq!(mac.to_string(), "00:00:5e:00:01:0a");
    assert_eq!(pair.preempt, Some(Duration::from_mins(1)));
    assert_eq!((pair.priority.get(), pair.path_check.len()), (1, 1));
    let health = pair.health.unwrap();
    assert_eq!(health.exec, Path::new("/bin/healthy"));
    // The default of the timeout yields to a shorter interval.
    assert_eq!(health.timeout, Duration::from_millis(500));
    assert_eq!(health.failures, 2);
    assert_eq!(pair.mover.unwrap().timeout, Duration::from_secs(10));
}

#[test]
fn explain_shows_the_pair() {
    let config = config(&two_files(&connections()));
    assert_eq!(
        config.pair_explanation.unwrap().render(Palette::Plain),
        include_str!("pair_explained.txt").trim_end()
    );
}

/// The two nodes compare their revisions: it must not matter in which file a connection is,
/// nor what is node-local.
#[test]
fn two_nodes_with_the_same_connections_have_the_same_revision() {
    let alone = config(&connections());
    let inside = config(&format!("{PAIR}{}", connections()));
    let apart = config(&two_files(&connections()));
    assert_eq!(inside.revision, alone.revision);
    assert_eq!(apart.revision, alone.revision);
    let first = &alone.revision.to_string()[..16];
    assert_eq!(format!("{:016x}", alone.revision.as_u64()), first);
}

#[test]
fn the_secret_does_not_print_itself() {
    let config = config(&two_files(&connections()));
    let text = format!("{config:?}");
    assert!(!text.contains(GOOD_KEY) && text.contains("redacted"));
}

#[test]
fn a_file_of_its_own_is_found_beside_the_main_file() {
    let pair = pair(&two_files(&connections()));
    assert_eq!(
        pair.connections.as_deref(),
        Some(Path::new("connections.toml"))
    );
    assert!(config(&format!("{PAIR}{}", connections())).shared.is_none());
}

#[test]
fn what_is_shared_survives_the_way_to_the_partner() {
    let here = config(&two_files(&connections()));
    let shared = here.shared.unwrap();
    assert_eq!(shared.text, connections());
    let names: Vec<&str> = shared
        .psk_files
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["good.psk", "newline.psk"]);
    let bytes = shared.encode();
    assert_eq!(SharedConfig::decode(bytes.expose()).unwrap(), shared);

    // The partner has an older file, and not even the keys.
    let older = connections().replace("good.psk", "missing.psk");
    let partner = Machine::with(&two_files(&older));
    assert!(load_with(Path::new("vipsec.toml"), &partner).is_err());
    let mut arrived = SharedConfig::decode(bytes.expose()).unwrap();
    arrived.text = arrived.text.replace("newline.psk", "new/only-here.psk");
    arrived.psk_files[1].0 = "new/only-here.psk".to_owned();
    let overlay = arrived.overlay(Path::new("connections.toml"), partner);
    let there = load_with(Path::new("vipsec.toml"), &overlay).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(there.revision, here.revision);
    assert_eq!(there.connections, here.connections);
    assert_eq!(there.shared.unwrap(), arrived);
}

#[test]
fn a_wrong_copy_is_refused_with_its_own_file_and_line() {
    let shared = SharedConfig {
        text: connections().replace("198.51.100.8", "198.51.100"),
        psk_files: Vec::new(),
    };
    let partner = Machine::with(&two_files(&connections()));
    let overlay = shared.overlay(Path::new("connections.toml"), partner);
    let errors = load_with(Path::new("vipsec.toml"), &overlay).unwrap_err();
    let lines: Vec<String> = errors.problems().iter().map(|p| p.one_line()).collect();
    assert_eq!(
        lines,
        ["connections.toml:13:10: remote cannot be \"198.51.100\""]
    );
}

#[test]
fn damaged_bytes_are_refused() {
    let shared = SharedConfig {
        text: "x".to_owned(),
        psk_files: vec![("a.psk".to_owned(), GOOD_KEY.as_bytes().into())],
    };
    let bytes = shared.encode();
    let bytes = bytes.expose();
    for end in 0..bytes.len() {
        assert_eq!(SharedConfig::decode(&bytes[..end]), Err(NotShared::Damaged));
    }
    let longer = [bytes, &[0]].concat();
    assert_eq!(SharedConfig::decode(&longer), Err(NotShared::Damaged));
    let newer = [&[2], &bytes[1..]].concat();
    assert_eq!(SharedConfig::decode(&newer), Err(NotShared::Format));
    for name in ["../a.psk", "/etc/shadow", "", ".", "a/../../b", "./a"] {
        let mut outside = shared.clone();
        outside.psk_files[0].0 = name.to_owned();
        let bytes = outside.encode();
        assert_eq!(
            SharedConfig::decode(bytes.expose()),
            Err(NotShared::Outside)
        );
    }
    let mut large = shared;
    large.psk_files[0].1 = vec![b'x'; 5_000].as_slice().into();
    assert_eq!(
        SharedConfig::decode(large.encode().expose()),
        Err(NotShared::TooLarge)
    );
}

#[test]
fn a_stored_copy_is_what_the_next_start_loads() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = std::env::temp_dir().join(format!("vipsec-shared-{}", std::process::id()));
    let path = folder.join("connections.toml");
    let shared = SharedConfig {
        text: "# new\n".to_owned(),
        psk_files: vec![("keys/a.psk".to_owned(), GOOD_KEY.as_bytes().into())],
    };
    for _ in 0..2 {
        // Over what is there, too.
        shared.store(&path).unwrap();
    }
    let key = folder.join("keys/a.psk");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "# new\n");
    assert_eq!(std::fs::read_to_string(&key).unwrap(), GOOD_KEY);
    let mode = std::fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let entries = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
    assert_eq!((entries(&folder), entries(&folder.join("keys"))), (2, 1));

    // A folder in the way of the key: the text stays as it was.
    std::fs::remove_file(&key).unwrap();
    std::fs::create_dir(&key).unwrap();
    let mut newer = shared;
    newer.text = "# newer\n".to_owned();
    let error = newer.store(&path).unwrap_err();
    assert!(error.to_string().contains("keys/a.psk"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "# new\n");
    assert_eq!(entries(&folder.join("keys")), 1);
    std::fs::remove_dir_all(&folder).unwrap();
}
