//! What cannot work is refused, with words that say what to change.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use netns_tests::lab::{Host, Output, wait_for};
use netns_tests::peer::{Vipsec, vipsec};
use netns_tests::topology::{A_NET, B_NET};
use netns_tests::tunnel::{
    AGAINST_OURSELVES, AGAINST_STRONGSWAN, AgainstStrongSwan, policy_a, swan_policy_b,
};
use netns_tests::{Lab, LabError, scenario};

/// How long a failed negotiation may take to say so.
const VERDICT: Duration = Duration::from_secs(15);

/// Gives up after three seconds instead of half a minute.
fn impatient(mut connection: vipsec::Connection) -> vipsec::Connection {
    "[connection.retransmit]\nfirst = \"200ms\"\ntries = 4"
        .clone_into(&mut connection.extra_tables);
    connection
}

/// Waits for our side's account of the failure, in lower case, and asserts that nothing came up.
fn verdict(pair: &AgainstStrongSwan) -> Result<String, LabError> {
    let words = wait_for("the reason in vipsec status", VERDICT, || {
        let status = pair.ours.connection("site")?;
        Ok((!status.error().is_empty()).then(|| status.error().to_lowercase()))
    })?;
    assert!(pair.theirs.installed()?.is_empty(), "a tunnel came up");
    assert_ne!(pair.ours.connection("site")?.state, "up");
    assert!(!words.contains('\n'), "more than one line: {words}");
    Ok(words)
}

/// At least one of the words must be there.
fn assert_names(words: &str, any_of: &[&str]) {
    let found = any_of
        .iter()
        .any(|name| words.contains(&name.to_lowercase()));
    assert!(found, "\"{words}\" names none of {any_of:?}");
}

#[test]
fn wrong_key_when_we_initiate() {
    scenario(AGAINST_STRONGSWAN, || {
        let ours = impatient(policy_a()).psk("a-key-that-the-peer-does-not-have-5");
        let pair = AgainstStrongSwan::start(&ours, &swan_policy_b())?;
        pair.ours.up("site")?;
        assert_names(&verdict(&pair)?, &["pre-shared key"]);
        Ok(())
    });
}

#[test]
fn wrong_key_when_strongswan_initiates() {
    scenario(AGAINST_STRONGSWAN, || {
        let ours = policy_a().psk("a-key-that-the-peer-does-not-have-5");
        let pair = AgainstStrongSwan::start(&ours, &swan_policy_b())?;
        assert!(!pair.theirs.try_initiate("net", 5)?.status.success());
        assert_names(&verdict(&pair)?, &["pre-shared key"]);
        Ok(())
    });
}

#[test]
fn no_common_phase_1_proposal_when_we_initiate() {
    scenario(AGAINST_STRONGSWAN, || {
        let theirs = swan_policy_b().proposals("aes128-sha1-modp3072");
        let pair = AgainstStrongSwan::start(&impatient(policy_a()), &theirs)?;
        pair.ours.up("site")?;
        let words = verdict(&pair)?;
        assert_names(&words, &["NO-PROPOSAL-CHOSEN", "proposal"]);
        assert_names(&words, &["aes256-sha256-modp2048"]);
        Ok(())
    });
}

/// As responder we see what the peer offers, and say which attribute did not match.
#[test]
fn no_common_phase_1_proposal_when_strongswan_initiates() {
    scenario(AGAINST_STRONGSWAN, || {
        let theirs = swan_policy_b().proposals("aes256-sha256-modp3072");
        let pair = AgainstStrongSwan::start(&policy_a(), &theirs)?;
        assert!(!pair.theirs.try_initiate("net", 5)?.status.success());
        assert!(
            pair.theirs.log().contains("NO_PROP"),
            "the peer was told why"
        );
        let words = verdict(&pair)?;
        assert_names(&words, &["modp3072", "group 15"]);
        Ok(())
    });
}

#[test]
fn no_common_phase_2_proposal_when_we_initiate() {
    scenario(AGAINST_STRONGSWAN, || {
        let theirs = swan_policy_b().esp_proposals("aes128-sha1");
        let pair = AgainstStrongSwan::start(&policy_a(), &theirs)?;
        pair.ours.up("site")?;
        assert_names(&verdict(&pair)?, &["NO-PROPOSAL-CHOSEN", "proposal"]);
        Ok(())
    });
}

#[test]
fn no_common_phase_2_proposal_when_strongswan_initiates() {
    scenario(AGAINST_STRONGSWAN, || {
        let theirs = swan_policy_b().esp_proposals("aes128-sha1");
        let pair = AgainstStrongSwan::start(&policy_a(), &theirs)?;
        assert!(!pair.theirs.try_initiate("net", 5)?.status.success());
        assert_names(&verdict(&pair)?, &["aes128-sha1"]);
        Ok(())
    });
}

#[test]
fn selectors_that_do_not_match_when_we_initiate() {
    scenario(AGAINST_STRONGSWAN, || {
        let ours = vipsec::Connection {
            selectors: vec![vipsec::Selector::new("10.77.0.0/16", B_NET)],
            ..policy_a()
        };
        let pair = AgainstStrongSwan::start(&ours, &swan_policy_b())?;
        pair.ours.up("site")?;
        assert_names(&verdict(&pair)?, &["INVALID-ID-INFORMATION", "selector"]);
        Ok(())
    });
}

#[test]
fn selectors_that_do_not_match_when_strongswan_initiates() {
    scenario(AGAINST_STRONGSWAN, || {
        let ours = vipsec::Connection {
            selectors: vec![vipsec::Selector::new("10.77.0.0/16", B_NET)],
            ..policy_a()
        };
        let pair = AgainstStrongSwan::start(&ours, &swan_policy_b())?;
        assert!(!pair.theirs.try_initiate("net", 5)?.status.success());
        assert!(
            pair.theirs.log().contains("INVAL_ID"),
            "the peer was told why"
        );
        assert_names(&verdict(&pair)?, &[A_NET]);
        Ok(())
    });
}

#[test]
fn an_identity_that_is_not_the_configured_one() {
    scenario(AGAINST_STRONGSWAN, || {
        let mut ours = policy_a();
        "fqdn:somebody.else.example".clone_into(&mut ours.remote_id);
        let pair = AgainstStrongSwan::start(&ours, &swan_policy_b())?;
        pair.ours.up("site")?;
        assert_names(&verdict(&pair)?, &["somebody.else.example"]);
        Ok(())
    });
}

/// A peer that does not answer at all is named as such.
#[test]
fn a_silent_peer() {
    scenario(AGAINST_OURSELVES, || {
        let sites = netns_tests::TwoSites::new(&Lab::new()?)?;
        let ours = Vipsec::start(&sites.gw_a, &[impatient(policy_a())])?;
        ours.up("site")?;
        let words = wait_for("the reason in vipsec status", VERDICT, || {
            let status = ours.connection("site")?;
            Ok((!status.error().is_empty()).then(|| status.error().to_lowercase()))
        })?;
        assert_names(&words, &["answer", "response", "reply"]);
        Ok(())
    });
}

/// `run` must end at once with a message and without having touched anything.
fn refused(host: &Host, files: &vipsec::Files) -> Result<Output, LabError> {
    refused_under(host, files, &[])
}

/// The same under another program, such as one that takes capabilities away.
fn refused_under(host: &Host, files: &vipsec::Files, outer: &[&str]) -> Result<Output, LabError> {
    let before = host.ip("address")?.stdout;
    let binary = files.binary.as_os_str();
    let mut words = outer.iter().map(OsStr::new).chain([binary]);
    let mut command = host.command(words.next().unwrap_or(binary));
    command.args(words);
    command.arg("run").arg("-c").arg(&files.config);
    let mut process = host.spawn("vipsec", command)?;
    let status = process.wait(Duration::from_secs(5))?;
    let output = Output {
        status,
        stdout: String::new(),
        stderr: process.log(),
    };
    assert!(!output.status.success(), "it ran: {}", output.stderr);
    assert_eq!(before, host.ip("address")?.stdout);
    assert!(!files.socket.exists(), "the control socket was left behind");
    Ok(output)
}

#[test]
fn a_typo_in_a_key_is_shown_with_its_place() {
    scenario(AGAINST_OURSELVES, || {
        let host = Lab::new()?.host("gw")?;
        let files = Vipsec::prepare(&host, &[policy_a()])?;
        let text = fs::read_to_string(&files.config)?.replace("encapsulation", "encapsulatoin");
        fs::write(&files.config, &text)?;
        let line = 1 + text
            .lines()
            .position(|l| l.contains("encapsulatoin"))
            .unwrap();
        let output = refused(&host, &files)?;
        let place = format!("vipsec.toml:{line}:1");
        assert!(
            output.stderr.contains(&place),
            "no {place} in {}",
            output.stderr
        );
        assert!(
            output.stderr.contains("\"encapsulation\"") || output.stderr.contains("encapsulation")
        );
        Ok(())
    });
}

#[test]
fn a_wrong_value_is_shown_with_its_place() {
    scenario(AGAINST_OURSELVES, || {
        let host = Lab::new()?.host("gw")?;
        let files = Vipsec::prepare(&host, &[policy_a().encapsulation("tcp")])?;
        let text = fs::read_to_string(&files.config)?;
        let line = 1 + text
            .lines()
            .position(|l| l.starts_with("encapsulation"))
            .unwrap();
        let output = refused(&host, &files)?;
        let place = format!("vipsec.toml:{line}:17");
        assert!(
            output.stderr.contains(&place),
            "no {place} in {}",
            output.stderr
        );
        assert_names(&output.stderr, &["\"udp\""]);
        Ok(())
    });
}

#[test]
fn duplicate_connections_are_refused() {
    scenario(AGAINST_OURSELVES, || {
        let host = Lab::new()?.host("gw")?;
        let files = Vipsec::prepare(&host, &[policy_a(), policy_a()])?;
        assert_names(&refused(&host, &files)?.stderr, &["\"site\""]);
        Ok(())
    });
}

#[test]
fn overlapping_selectors_are_refused() {
    scenario(AGAINST_OURSELVES, || {
        let host = Lab::new()?.host("gw")?;
        let mut other = policy_a().name("other");
        "203.0.113.77".clone_into(&mut other.remote);
        let files = Vipsec::prepare(&host, &[policy_a(), other])?;
        assert_names(&refused(&host, &files)?.stderr, &["overlap", "already"]);
        Ok(())
    });
}

#[test]
fn weak_algorithms_need_consent() {
    scenario(AGAINST_OURSELVES, || {
        let host = Lab::new()?.host("gw")?;
        let files = Vipsec::prepare(&host, &[policy_a().proposals("3des-sha1-modp1024")])?;
        assert_names(&refused(&host, &files)?.stderr, &["allow_weak"]);
        let files = Vipsec::prepare(&host, &[policy_a().esp_proposals("3des-md5")])?;
        assert_names(&refused(&host, &files)?.stderr, &["allow_weak"]);
        Ok(())
    });
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    scenario(AGAINST_OURSELVES, || {
        let host = Lab::new()?.host("gw")?;
        let files = Vipsec::prepare(&host, &[policy_a()])?;
        let key = host.directory().join("0.psk");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?;
        let output = refused(&host, &files)?;
        assert_names(&output.stderr, &["chmod"]);
        assert!(output.stderr.contains("0.psk"), "{}", output.stderr);
        Ok(())
    });
}

#[test]
fn a_missing_key_file_is_refused() {
    scenario(AGAINST_OURSELVES, || {
        let host = Lab::new()?.host("gw")?;
        let files = Vipsec::prepare(&host, &[policy_a()])?;
        fs::remove_file(host.directory().join("0.psk"))?;
        assert_names(&refused(&host, &files)?.stderr, &["0.psk"]);
        Ok(())
    });
}

/// Whoever insists on the relay hears at once that the kernel does not let the daemon have it,
/// and what to do.
#[test]
fn an_esp_relay_that_cannot_be_had_is_refused() {
    scenario(AGAINST_OURSELVES, || {
        let host = Lab::new()?.host("gw")?;
        let files = Vipsec::prepare(&host, &[policy_a().encapsulation("esp")])?;
        let text = fs::read_to_string(&files.config)?;
        let text = text.replace("[gateway]\n", "[gateway]\nesp_relay = \"on\"\n");
        fs::write(&files.config, text)?;
        let without_bpf = ["setpriv", "--bounding-set", "-bpf,-sys_admin"];
        let output = refused_under(&host, &files, &without_bpf)?;
        for word in ["ESP relay", "CAP_BPF", "esp_relay = \"auto\""] {
            assert!(output.stderr.contains(word), "{}", output.stderr);
        }
        Ok(())
    });
}

/// The key itself never shows up in what the daemon prints.
#[test]
fn the_key_is_never_printed() {
    scenario(AGAINST_STRONGSWAN, || {
        let pair = AgainstStrongSwan::start(&policy_a(), &swan_policy_b())?;
        pair.we_initiate()?;
        let status = pair.ours.attempt("status --json")?.text();
        for text in [pair.ours.log(), status] {
            assert!(!text.contains(netns_tests::peer::PSK));
        }
        Ok(())
    });
}
