//! What is on the wire, read by tshark with the keys that the gateway exports: an
//! independent implementation agrees with every byte.

use netns_tests::peer::vipsec::Options;
use netns_tests::peer::{StrongSwan, Vipsec};
use netns_tests::probe::{Amount, Bulk, Capture, Keys, Ping, Tshark};
use netns_tests::topology::HOST_B;
use netns_tests::tunnel::{
    AGAINST_OURSELVES, AGAINST_STRONGSWAN, AgainstOurselves, expect_ping, expect_pings, policy_a,
    swan_policy_b,
};
use netns_tests::{Lab, LabError, Need, TwoSites, need, scenario};

const KEYLOG: Options = Options::with_keylog();

fn with_tshark(needs: &[Need]) -> Vec<Need> {
    let mut needs = needs.to_vec();
    needs.extend([need::DUMPCAP, need::TSHARK, need::ETHTOOL]);
    needs
}

/// Protocol 50 between two of us: every packet decrypts, every ICV is good, the sequence
/// numbers run from 1 without a gap, and the inner packets are the pings and the TCP stream.
#[test]
fn protocol_50_esp_is_right_for_others() {
    scenario(&with_tshark(AGAINST_OURSELVES), || {
        let pair = AgainstOurselves::start(&policy_a(), &KEYLOG)?;
        // A capture is to show packets as a wire carries them, not trains of them.
        pair.sites.wan.carry_single_packets(false)?;
        let capture = Capture::start(&pair.sites.gw_b, "wan", "ip proto 50")?;
        pair.bring_up()?;
        expect_pings(&pair.sites)?;
        let bulk = Bulk::to(HOST_B, Amount::Bytes(300_000));
        bulk.run(&pair.sites.host_a, &pair.sites.host_b)?;
        let judge = Tshark::read(&capture.finish()?).decrypt(&Keys::read(pair.a.keylog())?);
        let all = judge.count("esp")?;
        assert!(all > 200, "{all} ESP packets");
        assert_eq!(judge.count("esp.icv_good == 1")?, all);
        assert!(judge.count("icmp.type == 0")? >= 10);
        assert!(judge.count("tcp.dstport && ip.src == 10.1.0.2")? > 200);
        assert_eq!(judge.count("_ws.malformed")?, 0);
        for source in ["203.0.113.1", "203.0.113.2"] {
            let numbers = judge.fields(&format!("esp && ip.src == {source}"), "esp.sequence")?;
            let expected: Vec<String> = (1..=numbers.len()).map(|n| n.to_string()).collect();
            assert_eq!(numbers, expected, "sequence numbers from {source}");
        }
        Ok(())
    });
}

/// No (SPI, IV) pair occurs twice, in either direction (invariant I1).
#[test]
fn no_iv_is_used_twice() {
    scenario(&with_tshark(AGAINST_OURSELVES), || {
        let pair = AgainstOurselves::start(&policy_a(), &KEYLOG)?;
        // A capture is to show packets as a wire carries them, not trains of them.
        pair.sites.wan.carry_single_packets(false)?;
        let capture = Capture::start(&pair.sites.gw_b, "wan", "ip proto 50")?;
        pair.bring_up()?;
        expect_pings(&pair.sites)?;
        let bulk = Bulk::to(HOST_B, Amount::Bytes(1_000_000));
        bulk.run(&pair.sites.host_a, &pair.sites.host_b)?;
        let judge = Tshark::read(&capture.finish()?).decrypt(&Keys::read(pair.a.keylog())?);
        let ivs = judge.fields("esp", "esp.iv")?;
        let spis = judge.fields("esp", "esp.spi")?;
        let pairs: std::collections::HashSet<_> = spis.iter().zip(&ivs).collect();
        assert!(
            ivs.len() > 500 && ivs.iter().all(|iv| iv.len() >= 16),
            "{}",
            ivs.len()
        );
        assert_eq!(pairs.len(), ivs.len());
        Ok(())
    });
}

fn against_strongswan() -> Result<(TwoSites, Vipsec, netns_tests::peer::Charon), LabError> {
    let sites = TwoSites::new(&Lab::new()?)?;
    sites.wan.carry_single_packets(false)?;
    let theirs = StrongSwan::default().start(&sites.gw_b, &[swan_policy_b()])?;
    let ours = Vipsec::start_with(&sites.gw_a, &[policy_a()], &KEYLOG)?;
    Ok((sites, ours, theirs))
}

/// Main mode and quick mode with strongSwan: the encrypted messages decrypt to the payloads
/// that the RFCs ask for, and so do the deletes at the end.
#[test]
fn ike_is_right_for_others() {
    scenario(&with_tshark(AGAINST_STRONGSWAN), || {
        let (sites, mut ours, _theirs) = against_strongswan()?;
        let capture = Capture::start(&sites.gw_b, "wan", "udp port 500 or udp port 4500")?;
        ours.bring_up("site")?;
        expect_ping(&sites.host_a, HOST_B)?;
        ours.stop()?;
        let judge = Tshark::read(&capture.finish()?).decrypt(&Keys::read(ours.keylog())?);
        // Six messages of main mode, three of quick mode.
        assert_eq!(judge.count("isakmp.exchangetype == 2")?, 6);
        assert_eq!(judge.count("isakmp.exchangetype == 32")?, 3);
        let sealed = judge.count("isakmp.flag_e == 1")?;
        assert!(sealed >= 7, "{sealed} encrypted messages");
        assert_eq!(judge.count("isakmp.flag_e == 1 && isakmp.hash")?, sealed);
        assert_eq!(
            judge.count("isakmp.exchangetype == 2 && isakmp.id.type")?,
            2
        );
        assert_eq!(
            judge.count("isakmp.exchangetype == 32 && isakmp.id.type")?,
            2
        );
        assert!(judge.count("isakmp.delete.spi && ip.src == 203.0.113.1")? >= 2);
        assert_eq!(judge.count("_ws.malformed")?, 0);
        Ok(())
    });
}

/// UDP-encapsulated ESP with strongSwan, both directions judged by a third party.
#[test]
fn udp_esp_is_right_for_others() {
    scenario(&with_tshark(AGAINST_STRONGSWAN), || {
        let (sites, ours, _theirs) = against_strongswan()?;
        let capture = Capture::start(&sites.gw_b, "wan", "udp port 4500")?;
        ours.bring_up("site")?;
        expect_pings(&sites)?;
        let report = Ping::to(HOST_B).count(5).size(3000).from(&sites.host_a)?;
        assert!(report.is_complete(), "{report:?}");
        let judge = Tshark::read(&capture.finish()?).decrypt(&Keys::read(ours.keylog())?);
        let all = judge.count("esp")?;
        assert!(all >= 30, "{all} ESP packets");
        assert_eq!(judge.count("esp.icv_good == 1")?, all);
        Ok(())
    });
}
