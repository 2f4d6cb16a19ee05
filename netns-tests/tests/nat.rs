//! A NAT in between: found out, floated to port 4500, kept open.
//!
//! ```text
//!   host-a ──── gw-a ──────── nat ════════════ gw-b ──── host-b
//!              192.168.7.2     203.0.113.9   203.0.113.2
//! ```

use netns_tests::peer::{Charon, StrongSwan, Vipsec, swan, vipsec};
use netns_tests::probe::{Amount, Bulk, Ping};
use netns_tests::topology::{A_HIDDEN, A_NET, B_NET, B_WAN, HOST_A, HOST_B, NAT_WAN};
use netns_tests::tunnel::{AGAINST_OURSELVES, AGAINST_STRONGSWAN, expect_ping};
use netns_tests::{BehindNat, Lab, LabError, Need, need, scenario};

fn with_nft(needs: &[Need]) -> Vec<Need> {
    let mut needs = needs.to_vec();
    needs.push(need::NFT);
    needs
}

/// Gateway A, which only knows its hidden address. Identities are names, as they have to be
/// where addresses change on the way.
fn hidden_a() -> vipsec::Connection {
    vipsec::Connection {
        local_id: "fqdn:a.example".to_owned(),
        remote_id: "fqdn:b.example".to_owned(),
        ..vipsec::Connection::policy_based(A_HIDDEN, B_WAN, A_NET, B_NET)
    }
}

/// Gateway B, which only sees the NAT.
fn outside_b() -> vipsec::Connection {
    vipsec::Connection {
        local_id: "fqdn:b.example".to_owned(),
        remote_id: "fqdn:a.example".to_owned(),
        ..vipsec::Connection::policy_based(B_WAN, NAT_WAN, B_NET, A_NET)
    }
}

fn swan_hidden_a() -> swan::Connection {
    swan::Connection {
        local_id: "a.example".to_owned(),
        remote_id: "b.example".to_owned(),
        encap: false,
        ..swan::Connection::new(A_HIDDEN, B_WAN, A_NET, B_NET)
    }
}

fn swan_outside_b() -> swan::Connection {
    swan::Connection {
        local_id: "b.example".to_owned(),
        remote_id: "a.example".to_owned(),
        encap: false,
        ..swan::Connection::new(B_WAN, NAT_WAN, B_NET, A_NET)
    }
}

fn expect_udp(status: &vipsec::ConnectionStatus) {
    let udp = status.in_use().all(|sa| sa.encapsulation == "udp");
    assert!(udp && status.in_use().count() == 1, "{status:?}");
}

fn expect_traffic(net: &BehindNat) -> Result<(), LabError> {
    expect_ping(&net.host_a, HOST_B)?;
    expect_ping(&net.host_b, HOST_A)?;
    let large = Ping::to(HOST_B).size(8000).from(&net.host_a)?;
    assert!(large.is_complete(), "{large:?}");
    let bulk = Bulk::to(HOST_A, Amount::Bytes(5_000_000));
    assert_eq!(bulk.run(&net.host_b, &net.host_a)?.bytes, 5_000_000);
    Ok(())
}

fn we_are_hidden(port_mapping: bool) -> Result<(BehindNat, Vipsec, Charon), LabError> {
    let net = BehindNat::new(&Lab::new()?, port_mapping)?;
    let theirs = StrongSwan::default().start(&net.gw_b, &[swan_outside_b()])?;
    let ours = Vipsec::start(&net.gw_a, &[hidden_a()])?;
    Ok((net, ours, theirs))
}

fn they_are_hidden(port_mapping: bool) -> Result<(BehindNat, Vipsec, Charon), LabError> {
    let net = BehindNat::new(&Lab::new()?, port_mapping)?;
    let theirs = StrongSwan::default().start(&net.gw_a, &[swan_hidden_a()])?;
    let ours = Vipsec::start(&net.gw_b, &[outside_b()])?;
    Ok((net, ours, theirs))
}

#[test]
fn we_are_behind_it_and_initiate() {
    scenario(&with_nft(AGAINST_STRONGSWAN), || {
        let (net, ours, _theirs) = we_are_hidden(false)?;
        expect_udp(&ours.bring_up("site")?);
        expect_traffic(&net)?;
        Ok(())
    });
}

#[test]
fn we_are_behind_it_and_strongswan_initiates() {
    scenario(&with_nft(AGAINST_STRONGSWAN), || {
        let (net, ours, theirs) = we_are_hidden(true)?;
        theirs.initiate("net")?;
        expect_udp(&ours.wait_up("site")?);
        expect_traffic(&net)?;
        Ok(())
    });
}

#[test]
fn strongswan_is_behind_it_and_initiates() {
    scenario(&with_nft(AGAINST_STRONGSWAN), || {
        let (net, ours, theirs) = they_are_hidden(false)?;
        theirs.initiate("net")?;
        expect_udp(&ours.wait_up("site")?);
        expect_traffic(&net)?;
        Ok(())
    });
}

#[test]
fn strongswan_is_behind_it_and_we_initiate() {
    scenario(&with_nft(AGAINST_STRONGSWAN), || {
        let (net, ours, _theirs) = they_are_hidden(true)?;
        expect_udp(&ours.bring_up("site")?);
        expect_traffic(&net)?;
        Ok(())
    });
}

/// Two of us choose UDP by themselves when a NAT is found.
#[test]
fn between_two_of_us() {
    scenario(&with_nft(AGAINST_OURSELVES), || {
        let net = BehindNat::new(&Lab::new()?, false)?;
        let _b = Vipsec::start(&net.gw_b, &[outside_b()])?;
        let a = Vipsec::start(&net.gw_a, &[hidden_a()])?;
        expect_udp(&a.bring_up("site")?);
        expect_traffic(&net)?;
        Ok(())
    });
}
