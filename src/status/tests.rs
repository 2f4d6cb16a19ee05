//! The screen, to the letter.

use super::*;
use crate::palette::Palette;

mod pair;

fn esp_sa() -> EspSaStatus {
    EspSaStatus {
        spi_in: "0xc0de0001".to_owned(),
        spi_out: "0x0badf00d".to_owned(),
        suite: "aes256gcm16".to_owned(),
        weak: false,
        esn: false,
        selectors: "0.0.0.0/0 <=> 0.0.0.0/0".to_owned(),
        bytes_in: 12_400_000,
        bytes_out: 1_200_000_000,
        packets_in: 10_123,
        packets_out: 901_223,
        established_secs: 664,
        rekey_in_secs: Some(2_280),
        expires_in_secs: 2_936,
        encapsulation: Encapsulation::Udp,
        seq_out: 901_223,
        replay_edge: 10_130,
        replay_window: 1024,
        draining: false,
    }
}

fn ike_sa() -> IkeSaStatus {
    IkeSaStatus {
        initiator_cookie: "0123456789abcdef".to_owned(),
        responder_cookie: "fedcba9876543210".to_owned(),
        role: Role::Initiator,
        state: "established".to_owned(),
        suite: "aes256-sha256-modp1024".to_owned(),
        weak: true,
        established_secs: Some(11_460),
        rekey_in_secs: Some(16_740),
        nat: NatStatus {
            local: true,
            remote: false,
        },
        local: "203.0.113.1:4500".parse().unwrap(),
        remote: "198.51.100.7:4500".parse().unwrap(),
    }
}

fn connection(name: &str, state: ConnectionState) -> ConnectionStatus {
    ConnectionStatus {
        name: name.to_owned(),
        state,
        state_secs: 11_460,
        local: "203.0.113.1".parse().unwrap(),
        remote: Some("198.51.100.7".parse().unwrap()),
        local_id: "203.0.113.1".to_owned(),
        peer_id: "198.51.100.7".to_owned(),
        ike_sas: Vec::new(),
        esp_sas: Vec::new(),
        liveness: None,
        last_error: None,
        vti: VtiStatus {
            device: format!("vti-{name}"),
            mtu: 1400,
            addresses: Vec::new(),
            routes: vec!["10.20.0.0/16".parse().unwrap()],
            deleted: false,
        },
    }
}

fn status(connections: Vec<ConnectionStatus>) -> Status {
    Status {
        gateway: "gw-a".to_owned(),
        version: "0.1.0".to_owned(),
        uptime_secs: 11_520,
        revision: "3f2a9c1b77de0011223344".to_owned(),
        workers: 2,
        cipher_backends: Vec::new(),
        keylog: None,
        pair: None,
        connections,
        counters: Counters::new(),
    }
}

#[test]
fn a_tunnel_that_is_up() {
    let mut azure = connection("azure", ConnectionState::Up);
    azure.local_id = "fqdn:gw.example.org".to_owned();
    azure.ike_sas.push(ike_sa());
    azure.esp_sas.push(esp_sa());
    azure.liveness = Some(Liveness::Dpd);
    azure.vti.addresses.push("169.254.21.2/30".parse().unwrap());
    azure.last_error = Some(LastError {
        text: "the peer did not answer main mode message 1".to_owned(),
        ago_secs: 11_490,
    });
    let mut status = status(vec![azure]);
    status.counters.insert(
        "esp".to_owned(),
        [
            ("replayed".to_owned(), 1_200),
            ("bad-icv".to_owned(), 1),
            ("malformed".to_owned(), 0),
        ]
        .into(),
    );
    assert_eq!(
        render(&status, Palette::Plain),
        "\
gw-a  vipsec 0.1.0, running for 3h12m, 2 workers, config 3f2a9c1b77de
1 connection: 1 up

azure  UP for 3h11m
  peer  203.0.113.1 <-> 198.51.100.7   as fqdn:gw.example.org, peer is 198.51.100.7
  IKE   aes256-sha256-modp1024 WEAK, established for 3h11m, rekey in 4h39m, we began
        203.0.113.1:4500 -> 198.51.100.7:4500, NAT in front of us, cookies 0123456789abcdef:fedcba9876543210
  ESP   aes256gcm16, 0.0.0.0/0 <=> 0.0.0.0/0, in UDP
        for 11m4s, rekey in 38m, expires in 48m56s
        in  0xc0de0001  12.4 MB   10,123 packets, newest number 10,130 (window 1024)
        out 0x0badf00d  1.20 GB  901,223 packets, last number 901,223
  VTI   vti-azure, mtu 1400, 169.254.21.2/30, routes 10.20.0.0/16
  error 3h11m ago: the peer did not answer main mode message 1

counted by esp: bad-icv 1, replayed 1,200
"
    );
}

#[test]
fn a_deleted_device_is_shown_with_what_to_do() {
    let mut azure = connection("azure", ConnectionState::Up);
    azure.vti.deleted = true;
    let text = render(&status(vec![azure]), Palette::Plain);
    let line =
        "  VTI   vti-azure HAS BEEN DELETED by another program: restart vipsec to make it again\n";
    assert!(text.contains(line), "{text}");
}

#[test]
fn a_peer_that_may_die_unnoticed_is_shown() {
    let shown = |liveness| {
        let mut azure = connection("azure", ConnectionState::Up);
        azure.liveness = liveness;
        let text = render(&status(vec![azure]), Palette::Plain);
        let line = text.lines().find(|line| line.starts_with("  DPD"));
        line.map(str::to_owned)
    };
    assert_eq!(
        shown(Some(Liveness::RekeyOnly)).as_deref(),
        Some(
            "  DPD   the peer announces no DPD and no dpd.ping is configured: a dead peer is \
             noticed only when a rekey goes unanswered"
        )
    );
    assert_eq!(
        shown(Some(Liveness::Off)).as_deref(),
        Some(
            "  DPD   dpd.action is \"off\": a dead peer is noticed only when a rekey goes \
             unanswered"
        )
    );
    for quiet in [None, Some(Liveness::Dpd), Some(Liveness::Ping)] {
        assert_eq!(shown(quiet), None);
    }
    let word = serde_json::to_string(&Liveness::RekeyOnly).unwrap();
    assert_eq!(word, "\"rekey-only\"");
}

#[test]
fn tunnels_that_are_not_up_say_why_first() {
    let mut branch = connection("branch", ConnectionState::Failed);
    branch.state_secs = 12;
    branch.last_error = Some(LastError {
        text: "peer offers DH group 2 only; allow it with allow_weak = true".to_owned(),
        ago_secs: 8,
    });
    let mut roaming = connection("roaming", ConnectionState::Connecting);
    roaming.state_secs = 1;
    roaming.remote = None;
    roaming.peer_id = "key-id:branch-7".to_owned();
    roaming.vti.routes.clear();
    let mut half_open = ike_sa();
    half_open.role = Role::Responder;
    half_open.state = "awaiting main mode message 3".to_owned();
    half_open.suite = String::new();
    half_open.established_secs = None;
    half_open.rekey_in_secs = None;
    half_open.nat = NatStatus::default();
    roaming.ike_sas.push(half_open);
    let mut status = status(vec![branch, roaming]);
    status.keylog = Some("/var/lib/vipsec/keys".into());
    status.cipher_backends.push("aes256gcm16: ring".to_owned());
    assert_eq!(
        render(&status, Palette::Plain),
        "\
gw-a  vipsec 0.1.0, running for 3h12m, 2 workers, config 3f2a9c1b77de
ciphers: aes256gcm16: ring
SESSION KEYS ARE WRITTEN TO /var/lib/vipsec/keys; stop it with: vipsec keylog off
2 connections: 1 connecting, 1 failed

branch  FAILED for 12s
  peer  203.0.113.1 <-> 198.51.100.7
  error 8s ago: peer offers DH group 2 only; allow it with allow_weak = true
  VTI   vti-branch, mtu 1400, routes 10.20.0.0/16

roaming  CONNECTING for 1s
  peer  203.0.113.1 <-> any   as 203.0.113.1, peer is key-id:branch-7
  IKE   awaiting main mode message 3, the peer began
        203.0.113.1:4500 -> 198.51.100.7:4500, no NAT, cookies 0123456789abcdef:fedcba9876543210
  VTI   vti-roaming, mtu 1400, no routes
"
    );
}

#[test]
fn a_replaced_sa_says_so() {
    let mut old = esp_sa();
    old.draining = true;
    old.esn = true;
    old.encapsulation = Encapsulation::Esp;
    old.rekey_in_secs = None;
    let mut azure = connection("azure", ConnectionState::Up);
    azure.esp_sas.push(old);
    let text = render(&status(vec![azure]), Palette::Plain);
    assert!(text.contains(
        "  ESP   aes256gcm16, ESN, 0.0.0.0/0 <=> 0.0.0.0/0, protocol 50, replaced, still receiving\n        for 11m4s, expires in 48m56s\n"
    ));
}

#[test]
fn a_daemon_without_connections() {
    assert_eq!(
        render(&status(Vec::new()), Palette::Plain),
        "gw-a  vipsec 0.1.0, running for 3h12m, 2 workers, config 3f2a9c1b77de\n0 connections\n"
    );
}

#[test]
fn colour_changes_nothing_but_the_escapes() {
    let mut azure = connection("azure", ConnectionState::Up);
    azure.ike_sas.push(ike_sa());
    azure.esp_sas.push(esp_sa());
    let status = status(vec![azure]);
    let coloured = render(&status, Palette::Colour);
    assert!(coloured.contains("\u{1b}[32mUP\u{1b}[0m"));
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some(at) = rest.find('\u{1b}') {
        plain.push_str(&rest[..at]);
        rest = &rest[at + rest[at..].find('m').unwrap() + 1..];
    }
    plain.push_str(rest);
    assert_eq!(plain, render(&status, Palette::Plain));
}

#[test]
fn counters_are_a_table() {
    let counters: Counters = [
        ("esp".to_owned(), [("replayed".to_owned(), 1_200)].into()),
        ("ikev1".to_owned(), [("unknown-peer".to_owned(), 7)].into()),
    ]
    .into();
    assert_eq!(
        render_counters(&counters),
        "esp.replayed        1,200\nikev1.unknown-peer      7\n"
    );
    assert_eq!(render_counters(&Counters::new()), "");
}

#[test]
fn json_is_what_it_was() {
    let mut azure = connection("azure", ConnectionState::Up);
    azure.ike_sas.push(ike_sa());
    azure.esp_sas.push(esp_sa());
    let status = status(vec![azure]);
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["connections"][0]["state"], "up");
    assert_eq!(json["connections"][0]["ike_sas"][0]["role"], "initiator");
    assert_eq!(json["connections"][0]["esp_sas"][0]["encapsulation"], "udp");
    assert_eq!(json["connections"][0]["vti"]["routes"][0], "10.20.0.0/16");
    assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
}

#[test]
fn the_answer_of_an_older_daemon_is_understood() {
    let json = r#"{"gateway":"g","version":"0.1.0","uptime_secs":1,"revision":"","workers":1,"connections":[]}"#;
    let status: Status = serde_json::from_str(json).unwrap();
    assert!(status.counters.is_empty() && status.keylog.is_none());
}
