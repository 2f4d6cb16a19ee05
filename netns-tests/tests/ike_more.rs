//! What real peers do beyond the ordinary: no dead peer detection, identities of every kind,
//! selectors of one port, volumes, fragments, addresses that change.

use std::time::Duration;

use netns_tests::lab::wait_for;
use netns_tests::need::NFT;
use netns_tests::peer::{StrongSwan, Vipsec, swan, vipsec};
use netns_tests::probe::{Amount, Bulk};
use netns_tests::topology::{A_NET, A_WAN, B_NET, B_WAN, HOST_B};
use netns_tests::tunnel::{
    AGAINST_STRONGSWAN, AgainstStrongSwan, aggressive, expect_pings, policy_a, swan_policy_b,
};
use netns_tests::{Lab, LabError, Need, TwoSites, scenario};

const SOON: Duration = Duration::from_secs(15);

fn with_nft() -> Vec<Need> {
    [AGAINST_STRONGSWAN, &[NFT]].concat()
}

/// strongSwan always announces dead peer detection; on the way its announcement is spoilt, as
/// vendor ids can be: nothing authenticates them.
///
/// ```text
///   vipsec ═══ message 2 with a vendor id that nobody knows ═══ [nft] strongSwan
/// ```
fn hide_dead_peer_detection(sites: &TwoSites) -> Result<(), LabError> {
    let nft = |words: &str| sites.gw_b.run(&format!("nft {words}"));
    nft("add table inet spoil")?;
    nft("add chain inet spoil out { type filter hook output priority -300 ; }")?;
    // AFCAD713... (RFC 3706 §5.1) stands at some multiple of 4 behind UDP and ISAKMP headers.
    for byte in (8 + 28..8 + 28 + 220).step_by(4) {
        let word = format!("@th,{},32", byte * 8);
        nft(&format!(
            "add rule inet spoil out udp sport 500 {word} 0xafcad713 {word} set 0x0"
        ))?;
    }
    Ok(())
}

fn pinging(ping: &str) -> vipsec::Connection {
    let mut connection = policy_a();
    connection.extra_tables = format!(
        "[connection.dpd]\ndelay = \"1s\"\nretry = \"1s\"\nmax_failures = 2\n{ping}\n\
         [connection.retransmit]\nfirst = \"300ms\"\ntries = 4"
    );
    connection
}

fn cookie(pair: &AgainstStrongSwan) -> Result<String, LabError> {
    let status = pair.ours.connection("site")?;
    let newest = status.ike_sas.first();
    Ok(newest.map_or_else(String::new, |sa| sa.initiator_cookie.clone()))
}

/// While something behind the peer answers, the peer lives. When nothing does, phase 1 is
/// negotiated anew, which finds the peer alive: the tunnel never goes down.
#[test]
fn a_peer_without_dpd_is_pinged_through_the_tunnel() {
    scenario(&with_nft(), || {
        let ours = pinging("ping = \"10.2.0.2\"\nping_from = \"10.1.0.1\"");
        let pair = AgainstStrongSwan::start(&ours, &swan_policy_b())?;
        hide_dead_peer_detection(&pair.sites)?;
        pair.we_initiate()?;
        let status = pair.ours.connection("site")?;
        assert_eq!(status.liveness.as_deref(), Some("ping"));
        let first = cookie(&pair)?;
        wait_for("several answered pings", SOON, || {
            let status = pair.ours.connection("site")?;
            // An echo request of 56 bytes each, and its answer.
            let answered = status.in_use().any(|sa| sa.bytes_in >= 4 * 56);
            Ok(answered.then_some(()))
        })?;
        assert_eq!(cookie(&pair)?, first, "a living peer was suspected");
        // Silence: an ICMP error that came back through the tunnel would be a sign of life.
        let nft = |words: &str| pair.sites.host_b.run(&format!("nft {words}"));
        nft("add table ip silent")?;
        nft("add chain ip silent in { type filter hook input priority 0 ; policy drop ; }")?;
        wait_for("a new phase 1", SOON, || {
            assert_eq!(pair.ours.connection("site")?.state, "up");
            Ok((cookie(&pair)? != first).then_some(()))
        })?;
        Ok(())
    });
}

/// Without a ping nobody can know; the log says so, once, and the status as long as it is so.
#[test]
fn a_peer_without_dpd_and_without_a_ping_is_told_of() {
    scenario(&with_nft(), || {
        let mut pair = AgainstStrongSwan::start(&pinging(""), &swan_policy_b())?;
        hide_dead_peer_detection(&pair.sites)?;
        pair.we_initiate()?;
        let words = "does not announce dead peer detection";
        pair.ours.process().wait_for_line(words, SOON)?;
        // Several more looks.
        std::thread::sleep(Duration::from_secs(4));
        let log = pair.ours.process().log();
        assert_eq!(log.matches(words).count(), 1, "{log}");
        let status = pair.ours.connection("site")?;
        assert_eq!(status.state, "up");
        assert_eq!(status.liveness.as_deref(), Some("rekey-only"));
        let shown = pair.ours.run("status")?.stdout;
        assert!(shown.contains("the peer announces no DPD"), "{shown}");
        Ok(())
    });
}

/// Ours, the peer's, and both as strongSwan writes them.
const IDENTITIES: [[&str; 4]; 4] = [
    [
        "fqdn:a.example",
        "fqdn:b.example",
        "fqdn:a.example",
        "fqdn:b.example",
    ],
    [
        "user-fqdn:gw@a.example",
        "user-fqdn:gw@b.example",
        "userfqdn:gw@a.example",
        "userfqdn:gw@b.example",
    ],
    [
        "key-id:site-a",
        "key-id:site-b",
        "keyid:site-a",
        "keyid:site-b",
    ],
    ["192.168.99.1", "any", "192.168.99.1", "fqdn:whatever"],
];

#[test]
fn identities_of_every_kind_in_main_mode() {
    scenario(AGAINST_STRONGSWAN, || {
        for [ours, theirs, swan_ours, swan_theirs] in IDENTITIES {
            let mut a = policy_a();
            ours.clone_into(&mut a.local_id);
            theirs.clone_into(&mut a.remote_id);
            let b = swan::Connection {
                local_id: swan_theirs.to_owned(),
                remote_id: swan_ours.to_owned(),
                ..swan_policy_b()
            };
            let pair = AgainstStrongSwan::start(&a, &b)?;
            pair.we_initiate()?;
            pair.ours.down("site")?;
            pair.theirs.wait_installed(0, vipsec::UP)?;
            pair.they_initiate()?;
        }
        Ok(())
    });
}

/// One selector of a single TCP port, negotiated by either side.
#[test]
fn a_selector_of_one_port() {
    scenario(AGAINST_STRONGSWAN, || {
        let mut ours = vipsec::Connection::policy_based(A_WAN, B_WAN, A_NET, B_NET);
        for selector in &mut ours.selectors {
            "protocol = \"tcp\"\nport = 7000".clone_into(&mut selector.extra);
        }
        let mut theirs = swan_policy_b();
        for child in &mut theirs.children {
            child.local_ts = format!("{B_NET}[tcp/7000]");
            child.remote_ts = format!("{A_NET}[tcp]");
        }
        let pair = AgainstStrongSwan::start(&ours, &theirs)?;
        pair.ours.bring_up("site")?;
        pair.ours.down("site")?;
        pair.ours.wait_state("site", "down", vipsec::UP)?;
        pair.they_initiate()?;
        let status = pair.ours.connection("site")?;
        assert_eq!(status.in_use().count(), 1);
        Ok(())
    });
}

/// A volume that is used up leads to a successor, without a gap.
#[test]
fn a_volume_is_used_up() {
    scenario(AGAINST_STRONGSWAN, || {
        let mut ours = policy_a();
        "lifetime_kilobytes = 4096".clone_into(&mut ours.phase2_extra);
        let pair = AgainstStrongSwan::start(&ours, &swan_policy_b())?;
        let status = pair.we_initiate()?;
        expect_pings(&pair.sites)?;
        let first: Vec<String> = status.in_use().map(|sa| sa.spi_in.clone()).collect();
        // As much as two volumes; the bytes are compared on arrival.
        Bulk::to(HOST_B, Amount::Bytes(8 << 20)).run(&pair.sites.host_a, &pair.sites.host_b)?;
        wait_for("a successor", SOON, || {
            let status = pair.ours.connection("site")?;
            let mut spis = status.in_use().map(|sa| sa.spi_in.clone());
            Ok(spis.all(|spi| !first.contains(&spi)).then_some(()))
        })?;
        expect_pings(&pair.sites)?;
        Ok(())
    });
}

/// IKE fragments (payload 132), as Cisco and Microsoft peers send them too.
#[test]
fn a_peer_that_cuts_its_messages() {
    scenario(AGAINST_STRONGSWAN, || {
        let sites = TwoSites::new(&Lab::new()?)?;
        let cutting = StrongSwan {
            extra: "fragment_size = 240".to_owned(),
            ..StrongSwan::default()
        };
        let suite = "aes256-sha256-modp4096";
        let mut theirs = swan_policy_b().proposals(suite);
        "fragmentation = force".clone_into(&mut theirs.extra);
        let theirs = cutting.start(&sites.gw_b, &[theirs])?;
        let ours = Vipsec::start(&sites.gw_a, &[policy_a().proposals(suite)])?;
        ours.bring_up("site")?;
        theirs.wait_installed(1, vipsec::UP)?;
        expect_pings(&sites)?;
        assert!(
            theirs.log().contains("splitting IKE message"),
            "the peer did not cut anything"
        );
        Ok(())
    });
}

/// A peer whose address nobody knows beforehand: aggressive mode, by its identity.
#[test]
fn a_peer_anywhere_is_known_by_its_identity() {
    scenario(AGAINST_STRONGSWAN, || {
        let (mut ours, theirs) = aggressive();
        "any".clone_into(&mut ours.remote);
        let pair = AgainstStrongSwan::start(&ours, &theirs)?;
        pair.they_initiate()?;
        pair.expect_traffic()?;
        Ok(())
    });
}
