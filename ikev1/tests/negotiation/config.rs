//! Connections for tests.

use core::time::Duration;
use std::net::IpAddr;
use std::sync::Arc;

use ikev1::Identity;
use ikev1::config::{
    Connection, EncapsulationPolicy, Phase1Exchange, Phase1Policy, Phase2Policy, RekeyPolicy,
    RemoteAddress, RetransmitPolicy, StartMode,
};
use ipsec_types::{ConnectionId, SecretBytes, SelectorPair, TrafficSelector};

pub const ALICE: &str = "192.0.2.1";
pub const BOB: &str = "198.51.100.2";

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn selectors(local: &str, remote: &str) -> SelectorPair {
    SelectorPair {
        local: TrafficSelector::net(local.parse().unwrap()),
        remote: TrafficSelector::net(remote.parse().unwrap()),
    }
}

pub fn everything() -> SelectorPair {
    selectors("0.0.0.0/0", "0.0.0.0/0")
}

/// A route-based connection with short, cheap handshakes.
pub fn connection(local: &str, remote: &str) -> Connection {
    Connection {
        id: ConnectionId(0),
        name: "test".to_owned(),
        local: address(local),
        remote: RemoteAddress::Address(address(remote)),
        local_id: Identity::Address(address(local)),
        remote_id: Identity::Address(address(remote)),
        psk: SecretBytes::from(&b"correct horse battery staple"[..]),
        start: StartMode::Respond,
        encapsulation: EncapsulationPolicy::Auto,
        exchange: Phase1Exchange::Main,
        phase1: Phase1Policy {
            proposals: vec!["aes128-sha256-curve25519".parse().unwrap()],
            lifetime: Duration::from_hours(8),
            rekey: RekeyPolicy::for_lifetime(Duration::from_hours(8)),
        },
        phase2: Phase2Policy {
            proposals: vec!["aes128gcm16".parse().unwrap()],
            lifetime: Duration::from_hours(1),
            lifetime_kilobytes: None,
            rekey: RekeyPolicy::for_lifetime(Duration::from_hours(1)),
            grace: Duration::from_secs(30),
        },
        selectors: vec![everything()],
        retransmit: RetransmitPolicy::default(),
        dpd: None,
        nat_keepalive: Duration::from_secs(20),
        fragmentation: true,
        peer_drops_children: false,
        dpd_by_ping: false,
    }
}

/// Both ends; Alice starts.
pub fn both() -> (Connection, Connection) {
    let mut alice = connection(ALICE, BOB);
    alice.start = StartMode::OnStart;
    (alice, connection(BOB, ALICE))
}

/// Both ends with these proposals.
pub fn both_with(phase1: &str, phase2: &str) -> (Connection, Connection) {
    let (mut alice, mut bob) = both();
    for side in [&mut alice, &mut bob] {
        side.phase1.proposals = vec![phase1.parse().unwrap()];
        side.phase2.proposals = vec![phase2.parse().unwrap()];
    }
    (alice, bob)
}

pub fn list(connection: Connection) -> Vec<Arc<Connection>> {
    vec![Arc::new(connection)]
}
