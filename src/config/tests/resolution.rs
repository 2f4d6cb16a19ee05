//! What a right file comes to.

use std::time::Duration;

use esp_dataplane::worker::EspRelay;
use ikev1::config::{DpdAction, EncapsulationPolicy, Phase1Exchange, RemoteAddress, StartMode};
use ikev1::{Identity, Phase1Suite, Phase2Proposal};

use super::machine::{GOOD_KEY, load};
use crate::config::{ConnectionKind, Mss, Origin, Profile, ResolvedConfig, ResolvedConnection};

const MINIMAL: &str = "\
[[connection]]
name = \"azure\"
local = \"203.0.113.1\"
remote = \"198.51.100.7\"
psk_file = \"newline.psk\"
";

fn config(text: &str) -> ResolvedConfig {
    load(text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn one(text: &str) -> ResolvedConnection {
    config(text).connections.remove(0)
}

fn with(more: &str) -> ResolvedConnection {
    one(&format!("{MINIMAL}{more}"))
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

#[test]
fn five_lines_are_enough() {
    let config = config(MINIMAL);
    assert_eq!(config.warnings, []);
    let gateway = &config.gateway;
    assert_eq!(
        (gateway.name.as_str(), gateway.workers, gateway.pin_workers),
        ("paper", 1, true)
    );
    assert_eq!(
        gateway.control_socket.to_str(),
        Some("/run/vipsec/vipsec.sock")
    );
    assert_eq!(
        (gateway.log.as_str(), gateway.firewall_mark),
        ("info", None)
    );

    let azure = &config.connections[0];
    assert_eq!((azure.name(), azure.id().0), ("azure", 0));
    assert_eq!(
        (azure.profile, azure.kind),
        (Profile::Generic, ConnectionKind::RouteBased)
    );
    let ike = &azure.ike;
    assert_eq!(
        ike.psk.expose(),
        GOOD_KEY.as_bytes(),
        "the newline is not part of the key"
    );
    assert_eq!(
        ike.local_id,
        Identity::Address("203.0.113.1".parse().unwrap())
    );
    assert_eq!(
        ike.remote_id,
        Identity::Address("198.51.100.7".parse().unwrap())
    );
    assert_eq!(
        ike.remote,
        RemoteAddress::Address("198.51.100.7".parse().unwrap())
    );
    assert_eq!(ike.start, StartMode::OnStart);
    assert_eq!(ike.exchange, Phase1Exchange::Main);
    assert_eq!(ike.encapsulation, EncapsulationPolicy::Auto);
    assert_eq!(ike.phase1.lifetime, Duration::from_hours(8));
    assert_eq!(ike.phase2.lifetime, Duration::from_hours(1));
    assert_eq!(ike.phase2.lifetime_kilobytes, None);
    assert_eq!(ike.dpd.map(|dpd| dpd.action), Some(DpdAction::Restart));
    assert_eq!(texts(&ike.selectors), ["0.0.0.0/0 <=> 0.0.0.0/0"]);
    assert_eq!(azure.replay_window, 1024);
    assert_eq!(azure.vti.device, "vti-azure");
    assert_eq!(
        (azure.vti.mtu, azure.vti.mss, azure.vti.metric),
        (1400, Mss::Auto, 100)
    );
    assert!(azure.vti.routes.is_empty() && azure.vti.addresses.is_empty());
}

/// A file that leaves nothing to a default.
fn everything_said() -> ResolvedConfig {
    let text = format!(
        "[gateway]\nname = \"gw-a\"\nworkers = 2\npin_workers = false\nbusy_poll = \"50us\"\nreal_time = false\n\
         firewall_mark = 0x42\nesp_relay = \"off\"\ncontrol_socket = \"/tmp/v.sock\"\nlog = \"info,ikev1=debug\"\n{MINIMAL}\
         profile = \"azure-route-based\"\nlocal_id = \"fqdn:gw.example.org\"\nremote_id = \"any\"\n\
         start = \"respond\"\nmode = \"main\"\nencapsulation = \"udp\"\nfragmentation = false\n\
         nat_keepalive = \"10s\"\nallow_weak = true\npeer_drops_children = false\n\
         [connection.phase1]\nproposals = [\"3des-md5-modp1024\"]\nlifetime = \"1h\"\n\
         rekey_margin = \"2m\"\nrekey_jitter = \"1m\"\n\
         [connection.phase2]\nproposals = [\"aes128gcm16-ecp256-esn\"]\nlifetime = \"30m\"\n\
         lifetime_kilobytes = 0\nrekey_margin = \"90s\"\nrekey_jitter = \"0s\"\ngrace = \"5s\"\n\
         replay_window = 64\n[connection.dpd]\naction = \"clear\"\ndelay = \"10s\"\nretry = \"2s\"\n\
         max_failures = 5\n[connection.retransmit]\nfirst = \"1s\"\ngrowth_percent = 200\n\
         ceiling = \"8s\"\ntries = 4\n[connection.vti]\ndevice = \"tun9\"\nmtu = 1300\nmss = \"off\"\n\
         metric = 7\naddresses = [\"169.254.21.2/30\"]\nroutes = [\"10.20.0.0/16\", \"2001:db8::/32\"]\n"
    );
    config(&text)
}

#[test]
fn every_value_can_be_overridden() {
    let config = everything_said();
    let gateway = &config.gateway;
    assert_eq!(
        (gateway.name.as_str(), gateway.workers, gateway.pin_workers),
        ("gw-a", 2, false)
    );
    assert_eq!(gateway.busy_poll, Duration::from_micros(50));
    assert!(!gateway.real_time);
    assert_eq!(gateway.firewall_mark, Some(0x42));
    assert_eq!(gateway.esp_relay, EspRelay::Off);
    assert_eq!(gateway.log, "info,ikev1=debug");
    // Nothing was left to the profile.
    for setting in &config.explanations[0].settings {
        let derived = setting.key == "selectors";
        assert!(
            derived || matches!(setting.origin, Origin::Line(_)),
            "{setting:?}"
        );
    }
}

#[test]
fn every_value_of_a_connection_can_be_overridden() {
    let azure = &everything_said().connections[0];
    let ike = &azure.ike;
    assert_eq!(ike.local_id, Identity::Fqdn("gw.example.org".to_owned()));
    assert_eq!(ike.remote_id, Identity::Any);
    assert_eq!(ike.start, StartMode::Respond);
    assert_eq!(ike.encapsulation, EncapsulationPolicy::Udp);
    assert!(!ike.fragmentation && !ike.peer_drops_children);
    assert_eq!(ike.nat_keepalive, Duration::from_secs(10));
    assert_eq!(texts(&ike.phase1.proposals), ["3des-md5-modp1024"]);
    assert_eq!(ike.phase1.lifetime, Duration::from_hours(1));
    assert_eq!(ike.phase1.rekey.margin, Duration::from_mins(2));
    assert_eq!(ike.phase1.rekey.jitter, Duration::from_mins(1));
    assert_eq!(texts(&ike.phase2.proposals), ["aes128gcm16-ecp256-esn"]);
    assert_eq!(ike.phase2.lifetime_kilobytes, None);
    assert_eq!(ike.phase2.rekey.margin, Duration::from_secs(90));
    assert_eq!(ike.phase2.rekey.jitter, Duration::ZERO);
    assert_eq!(ike.phase2.grace, Duration::from_secs(5));
    assert_eq!(azure.replay_window, 64);
    let dpd = ike.dpd.unwrap();
    assert_eq!((dpd.action, dpd.max_failures), (DpdAction::Clear, 5));
    assert_eq!(
        (dpd.delay, dpd.retry),
        (Duration::from_secs(10), Duration::from_secs(2))
    );
    assert_eq!(
        (ike.retransmit.tries, ike.retransmit.factor_percent),
        (4, 200)
    );
    assert_eq!(ike.retransmit.initial, Duration::from_secs(1));
    assert_eq!(ike.retransmit.ceiling, Duration::from_secs(8));
    assert_eq!(
        texts(&ike.selectors),
        ["0.0.0.0/0 <=> 0.0.0.0/0", "::/0 <=> ::/0"]
    );
    assert_eq!(azure.vti.device, "tun9");
    assert_eq!(
        (azure.vti.mtu, azure.vti.mss, azure.vti.metric),
        (1300, Mss::Off, 7)
    );
    assert_eq!(texts(&azure.vti.addresses), ["169.254.21.2/30"]);
}

#[test]
fn policy_based_routes_follow_the_selectors() {
    let branch = with(
        "[[connection.selector]]\nlocal = \"10.1.0.0/16\"\nremote = \"10.2.0.0/16\"\nprotocol = \"tcp\"\nport = 443\n\
         [[connection.selector]]\nlocal = \"10.1.0.0/16\"\nremote = \"10.2.0.0/16\"\nprotocol = 17\nlocal_port = 53\n\
         [[connection.selector]]\nlocal = \"10.1.0.5\"\nremote = \"10.3.0.0/16\"\n",
    );
    assert_eq!(branch.kind, ConnectionKind::PolicyBased);
    assert_eq!(
        texts(&branch.ike.selectors),
        [
            "10.1.0.0/16[6] <=> 10.2.0.0/16[6/443]",
            "10.1.0.0/16[17/53] <=> 10.2.0.0/16[17]",
            "10.1.0.5/32 <=> 10.3.0.0/16",
        ]
    );
    assert_eq!(texts(&branch.vti.routes), ["10.2.0.0/16", "10.3.0.0/16"]);
    let narrower = with(
        "[connection.vti]\nroutes = [\"10.2.7.0/24\"]\n\
         [[connection.selector]]\nlocal = \"10.1.0.0/16\"\nremote = \"10.2.0.0/16\"\n",
    );
    assert_eq!(texts(&narrower.vti.routes), ["10.2.7.0/24"]);
}

#[test]
fn an_ipv6_tunnel_asks_for_ipv6_selectors_only() {
    let v6 = with("[connection.vti]\nroutes = [\"2001:db8::/32\"]\n");
    assert_eq!(texts(&v6.ike.selectors), ["::/0 <=> ::/0"]);
}

#[test]
fn azure_profiles_hold_the_gateways_facts() {
    let route = with("profile = \"azure-route-based\"\nallow_weak = true\n");
    let modp1024: Phase1Suite = "aes256-sha256-modp1024".parse().unwrap();
    assert!(route.ike.phase1.proposals.contains(&modp1024));
    let gcm256: Phase2Proposal = "aes256gcm16".parse().unwrap();
    assert_eq!(route.ike.phase2.proposals.first(), Some(&gcm256));
    assert_eq!(route.ike.phase1.lifetime, Duration::from_secs(28_800));
    assert_eq!(route.ike.phase2.lifetime, Duration::from_secs(27_000));
    assert_eq!(route.ike.phase2.lifetime_kilobytes, Some(102_400_000));
    assert_eq!((route.vti.mtu, route.vti.mss), (1400, Mss::Fixed(1350)));
    assert!(route.ike.peer_drops_children);

    let strict = with("profile = \"azure-route-based\"\n");
    assert!(
        !strict.ike.phase1.proposals.contains(&modp1024),
        "weak only by consent"
    );

    let policy = with(
        "profile = \"azure-policy-based\"\n\
         [[connection.selector]]\nlocal = \"10.1.0.0/16\"\nremote = \"10.2.0.0/16\"\n",
    );
    assert_eq!(policy.ike.phase2.lifetime, Duration::from_secs(3_600));
    assert_eq!(
        (policy.ike.dpd, policy.ike.start),
        (None, StartMode::OnTraffic)
    );
    assert!(
        policy
            .ike
            .phase2
            .proposals
            .iter()
            .all(|proposal| proposal.pfs.is_none())
    );
}

#[test]
fn a_ping_leaves_from_an_address_that_may_use_the_tunnel() {
    let ping = |more: &str| with(more).ping.map(|ping| ping.source.to_string());
    assert_eq!(ping(""), None);
    let route_based = "[connection.dpd]\nping = \"10.2.0.1\"\n\
         [connection.vti]\naddresses = [\"2001:db8::1/64\", \"169.254.1.1/30\"]\n";
    assert_eq!(ping(route_based).unwrap(), "169.254.1.1");
    assert!(with(route_based).ike.dpd_by_ping);
    let policy_based = "[connection.dpd]\nping = \"10.2.0.1\"\nping_from = \"10.1.0.9\"\n\
         [[connection.selector]]\nlocal = \"10.1.0.0/16\"\nremote = \"10.2.0.0/16\"\n";
    assert_eq!(ping(policy_based).unwrap(), "10.1.0.9");
}

#[test]
fn a_smaller_mtu_wins_over_a_profiles_clamp() {
    let azure = with("profile = \"azure-route-based\"\n[connection.vti]\nmtu = 1300\n");
    assert_eq!(azure.vti.mss, Mss::Auto);
}

#[test]
fn explain_says_where_each_value_comes_from() {
    let text = format!(
        "{MINIMAL}profile = \"azure-route-based\"\nallow_weak = true\n\
         [connection.phase2]\nlifetime = \"1h\"\n[connection.vti]\nroutes = [\"10.20.0.0/16\"]\n"
    );
    let config = config(&text);
    assert_eq!(
        config.explanations[0].render(crate::palette::Palette::Plain),
        include_str!("explained.txt").trim_end()
    );
}

#[test]
fn the_revision_names_what_the_tunnels_do() {
    let revision = |text: &str| config(text).revision;
    let base = revision(MINIMAL);
    assert_eq!(base.to_string().len(), 64);
    assert_eq!(base.short(), base.to_string()[..12]);
    let same = [
        format!("# a comment\n\n{MINIMAL}"),
        format!("{MINIMAL}profile = \"generic\"\n"),
        format!("{MINIMAL}[connection.phase1]\nlifetime = \"480m\"\n"),
        MINIMAL.replace("newline.psk", "good.psk"),
        format!("[gateway]\nworkers = 1\nlog = \"debug\"\n{MINIMAL}"),
    ];
    for text in &same {
        assert_eq!(revision(text), base, "{text}");
    }
    let other = [
        MINIMAL.replace("azure", "branch"),
        MINIMAL.replace("198.51.100.7", "198.51.100.8"),
        format!("{MINIMAL}start = \"respond\"\n"),
        format!("{MINIMAL}[connection.phase1]\nlifetime = \"7h\"\n"),
        format!("{MINIMAL}[connection.phase2]\nreplay_window = 64\n"),
        format!("{MINIMAL}[connection.dpd]\naction = \"off\"\n"),
        format!("{MINIMAL}[connection.vti]\nroutes = [\"10.0.0.0/8\"]\n"),
        format!("{MINIMAL}[connection.vti]\nmetric = 101\n"),
    ];
    let mut seen = vec![base];
    for text in &other {
        let revision = revision(text);
        assert!(!seen.contains(&revision), "{text}");
        seen.push(revision);
    }
}

#[test]
fn a_comment_changes_no_connection_and_a_key_does() {
    let before = one(MINIMAL);
    assert_eq!(one(&format!("# moved\n{MINIMAL}")), before);
    assert_ne!(with("[connection.vti]\nmtu = 1399\n"), before);
}

#[test]
fn secrets_do_not_print_themselves() {
    let text = format!("{:?}", config(MINIMAL));
    assert!(!text.contains(GOOD_KEY) && text.contains("redacted"));
}

#[test]
fn keys_are_found_beside_the_file() {
    struct Asked(std::cell::RefCell<Vec<std::path::PathBuf>>);
    impl crate::config::Files for Asked {
        fn read_config(&self, _: &std::path::Path) -> std::io::Result<String> {
            Ok(format!(
                "{MINIMAL}{}",
                MINIMAL.replace("newline.psk", "/keys/b.psk")
            ))
        }
        fn read_secret(
            &self,
            path: &std::path::Path,
        ) -> std::io::Result<crate::config::SecretFile> {
            self.0.borrow_mut().push(path.to_owned());
            Err(std::io::ErrorKind::NotFound.into())
        }
        fn host_name(&self) -> String {
            String::new()
        }
        fn user(&self) -> u32 {
            0
        }
    }
    let machine = Asked(std::cell::RefCell::default());
    let path = std::path::Path::new("/etc/vipsec/vipsec.toml");
    assert!(crate::config::load_with(path, &machine).is_err());
    let asked = texts(
        &machine
            .0
            .borrow()
            .iter()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>(),
    );
    assert_eq!(asked, ["/etc/vipsec/newline.psk", "/keys/b.psk"]);
}
