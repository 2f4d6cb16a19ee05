//! Every algorithm at least once, against strongSwan and against ourselves.

use netns_tests::peer::vipsec::{self, Options};
use netns_tests::probe::{Capture, Keys, Ping, Tshark};
use netns_tests::topology::HOST_B;
use netns_tests::tunnel::{
    AGAINST_OURSELVES, AGAINST_STRONGSWAN, AgainstOurselves, AgainstStrongSwan, expect_ping,
    mirrored, policy_a, swan_policy_b,
};
use netns_tests::{LabError, need, scenario};

/// Phase-2 proposals and the words strongSwan has for what was installed; the last four need
/// consent.
const ESP: [(&str, &str); 19] = [
    ("aes256gcm16", "AES_GCM_16-256"),
    ("aes192gcm16", "AES_GCM_16-192"),
    ("aes128gcm16", "AES_GCM_16-128"),
    ("aes256-sha512", "AES_CBC-256-HMAC_SHA2_512_256"),
    ("aes256-sha384", "AES_CBC-256-HMAC_SHA2_384_192"),
    ("aes256-sha256", "AES_CBC-256-HMAC_SHA2_256_128"),
    ("aes256-sha1", "AES_CBC-256-HMAC_SHA1_96"),
    ("aes192-sha512", "AES_CBC-192-HMAC_SHA2_512_256"),
    ("aes192-sha384", "AES_CBC-192-HMAC_SHA2_384_192"),
    ("aes192-sha256", "AES_CBC-192-HMAC_SHA2_256_128"),
    ("aes192-sha1", "AES_CBC-192-HMAC_SHA1_96"),
    ("aes128-sha512", "AES_CBC-128-HMAC_SHA2_512_256"),
    ("aes128-sha384", "AES_CBC-128-HMAC_SHA2_384_192"),
    ("aes128-sha256", "AES_CBC-128-HMAC_SHA2_256_128"),
    ("aes128-sha1", "AES_CBC-128-HMAC_SHA1_96"),
    ("3des-md5", "3DES_CBC-HMAC_MD5_96"),
    ("3des-sha1", "3DES_CBC-HMAC_SHA1_96"),
    ("3des-sha256", "3DES_CBC-HMAC_SHA2_256_128"),
    ("aes256-md5", "AES_CBC-256-HMAC_MD5_96"),
];

/// Groups 14 to 18, 19 to 21 and 31, and with consent 2, 5, 1 and 24.
const GROUPS: [&str; 13] = [
    "modp2048",
    "modp3072",
    "modp4096",
    "modp6144",
    "modp8192",
    "ecp256",
    "ecp384",
    "ecp521",
    "curve25519",
    "modp1024",
    "modp1536",
    "modp768",
    "modp2048s256",
];

/// Phase-1 ciphers and hashes; the last two need consent.
const PHASE_1: [&str; 9] = [
    "aes128-sha1",
    "aes192-sha1",
    "aes256-sha1",
    "aes128-sha256",
    "aes192-sha384",
    "aes256-sha384",
    "aes256-sha512",
    "3des-sha1",
    "aes128-md5",
];

impl Bench {
    fn start() -> Result<Self, LabError> {
        let pair = AgainstStrongSwan::start(&policy_a(), &swan_policy_b())?;
        Ok(Self { pair, rows: 0 })
    }

    /// Both sides get a new configuration with these proposals; every other row is started by
    /// strongSwan, so that each role is seen with most algorithms.
    fn row(&mut self, phase1: &str, phase2: &str) -> Result<vipsec::ConnectionStatus, LabError> {
        let mut ours = policy_a().proposals(phase1).esp_proposals(phase2);
        ours.allow_weak = true;
        self.pair.ours.reload(&[ours])?;
        let theirs = swan_policy_b().proposals(phase1).esp_proposals(phase2);
        self.pair.theirs.load(&[theirs])?;
        self.rows += 1;
        let status = if self.rows.is_multiple_of(2) {
            self.pair.they_initiate()?
        } else {
            self.pair.we_initiate()?
        };
        self.pair.expect_traffic()?;
        Ok(status)
    }

    fn down(&self) -> Result<(), LabError> {
        self.pair.ours.down("site")?;
        self.pair.theirs.wait_installed(0, vipsec::UP)?;
        Ok(())
    }
}

/// One pair of daemons that goes through a table.
struct Bench {
    pair: AgainstStrongSwan,
    rows: u32,
}

#[test]
fn every_esp_suite() {
    scenario(AGAINST_STRONGSWAN, || {
        let mut bench = Bench::start()?;
        for (proposal, theirs) in ESP {
            let named = |error| format!("{proposal}: {error}");
            let status = bench.row("aes256-sha256-ecp256", proposal).map_err(named)?;
            let sa = status.in_use().next().unwrap();
            assert_eq!(sa.suite, proposal);
            let weak = proposal.starts_with("3des") || proposal.ends_with("md5");
            assert_eq!(sa.weak, weak, "{proposal}");
            assert_eq!(bench.pair.theirs.installed()?[0].suite, theirs);
            bench.down().map_err(named)?;
        }
        Ok(())
    });
}

#[test]
fn every_group_in_phase_1() {
    scenario(AGAINST_STRONGSWAN, || {
        let mut bench = Bench::start()?;
        for group in GROUPS {
            let named = |error| format!("{group}: {error}");
            let phase1 = format!("aes256-sha256-{group}");
            let status = bench.row(&phase1, "aes256gcm16").map_err(named)?;
            assert_eq!(status.ike_sas[0].suite, phase1);
            bench.down().map_err(named)?;
        }
        Ok(())
    });
}

/// Perfect forward secrecy: a group in quick mode.
#[test]
fn every_group_in_phase_2() {
    scenario(AGAINST_STRONGSWAN, || {
        let mut bench = Bench::start()?;
        for group in GROUPS {
            let named = |error| format!("{group}: {error}");
            let phase2 = format!("aes128gcm16-{group}");
            bench.row("aes128-sha256-ecp256", &phase2).map_err(named)?;
            bench.down().map_err(named)?;
        }
        Ok(())
    });
}

#[test]
fn every_phase_1_cipher_and_hash() {
    scenario(AGAINST_STRONGSWAN, || {
        let mut bench = Bench::start()?;
        for transforms in PHASE_1 {
            let named = |error| format!("{transforms}: {error}");
            let phase1 = format!("{transforms}-modp2048");
            let status = bench.row(&phase1, "aes256gcm16").map_err(named)?;
            assert_eq!(status.ike_sas[0].suite, phase1);
            bench.down().map_err(named)?;
        }
        Ok(())
    });
}

/// The peer's choice wins over our order, and the first of ours that it offers over its own.
#[test]
fn a_later_proposal_is_found() {
    scenario(AGAINST_STRONGSWAN, || {
        let ours = policy_a()
            .proposals("aes256-sha512-ecp521,aes256-sha384-ecp384,aes128-sha256-modp2048")
            .esp_proposals("aes192gcm16,aes256-sha512,aes128-sha256");
        let theirs = swan_policy_b()
            .proposals("aes192-sha256-modp3072,aes128-sha256-modp2048")
            .esp_proposals("aes256-sha384,aes128-sha256");
        let pair = AgainstStrongSwan::start(&ours, &theirs)?;
        for they_start in [false, true] {
            let status = if they_start {
                pair.they_initiate()?
            } else {
                pair.we_initiate()?
            };
            assert_eq!(status.ike_sas[0].suite, "aes128-sha256-modp2048");
            assert_eq!(status.in_use().next().unwrap().suite, "aes128-sha256");
            pair.expect_traffic()?;
            pair.ours.down("site")?;
            pair.theirs.wait_installed(0, vipsec::UP)?;
        }
        Ok(())
    });
}

/// Every suite in protocol 50, judged by tshark: each packet decrypts to a ping and each ICV
/// is right, in code that is not ours.
#[test]
fn every_esp_suite_is_read_by_tshark() {
    let mut needs = AGAINST_OURSELVES.to_vec();
    needs.extend([need::DUMPCAP, need::TSHARK]);
    scenario(&needs, || {
        let pair = AgainstOurselves::start(&policy_a(), &Options::with_keylog())?;
        let capture = Capture::start(&pair.sites.gw_b, "wan", "ip proto 50")?;
        let pings = 5;
        for (proposal, _) in ESP {
            let named = |error| format!("{proposal}: {error}");
            let mut connection = policy_a().esp_proposals(proposal);
            connection.allow_weak = true;
            pair.a
                .reload(std::slice::from_ref(&connection))
                .map_err(named)?;
            pair.b.reload(&[mirrored(&connection)]).map_err(named)?;
            pair.bring_up().map_err(named)?;
            expect_ping(&pair.sites.host_a, HOST_B).map_err(named)?;
            let report = Ping::to(HOST_B)
                .count(pings)
                .size(100)
                .from(&pair.sites.host_a)?;
            assert!(report.is_complete(), "{proposal}: {report:?}");
            pair.a.down("site")?;
            pair.b
                .wait_state("site", "down", vipsec::UP)
                .map_err(named)?;
        }
        let file = capture.finish()?;
        let judge = Tshark::read(&file).decrypt(&Keys::read(pair.a.keylog())?);
        let all = judge.count("esp")?;
        assert_eq!(judge.count("esp.icv_good == 1")?, all);
        assert_eq!(judge.count("icmp")?, all);
        // 100 bytes of payload with ICMP and IP header, both ways, for each suite.
        let counted = judge.count("icmp && ip.len == 128")?;
        assert_eq!(counted, ESP.len() * 2 * pings as usize);
        let mut spis = judge.fields("esp", "esp.spi")?;
        spis.sort();
        spis.dedup();
        assert_eq!(spis.len(), ESP.len() * 2);
        Ok(())
    });
}
