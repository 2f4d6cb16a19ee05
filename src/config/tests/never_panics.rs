//! No text makes the loader panic, and whatever it says points into the text.

use proptest::prelude::*;

use super::machine::load;
use crate::config::Severity;

const KEYS: &str = "name local remote psk_file psk profile start mode allow_weak phase1 selector vti lifetime \
    proposals lifetime_kilobytes mtu mss routes addresses device metric replay_window protocol port workers \
    log dpd delay pair member secret_file priority advert_interval preempt hold_down commit_wait path_check \
    connections path peer address link side gateway health mover exec interval timeout failures rekey_margin rekey_jitter grace remote_id ünbekannt";

const HEADERS: &str = "[gateway] [[connection]] [connection.phase1] [connection.phase2] [connection.dpd] \
    [connection.retransmit] [connection.vti] [[connection.selector]] [connection] [[gateway]] [pair] \
    [[pair.path]] [[pair.address]] [pair.health] [pair.mover] [[pair]] [ünbekannt] [";

const VALUES: [&str; 15] = [
    "\"8h\"",
    "\"203.0.113.1\"",
    "\"any\"",
    "\"good.psk\"",
    "\"azure-policy-based\"",
    "[\"10.0.0.0/8\", \"::/0\"]",
    "[\"aes256gcm16\", \"aes256-sha256-modp2048\"]",
    "[[{}]]",
    "{ a = 1 }",
    "\"a\"",
    "\"pair.secret\"",
    "\"203.0.113.1/24\"",
    "\"[2001:db8::1]:7410\"",
    "\"wan\"",
    "\"/bin/true\"",
];

fn words(list: &'static str) -> impl Strategy<Value = &'static str> {
    prop::sample::select(list.split_whitespace().collect::<Vec<_>>())
}

/// A text that is nearly a configuration: lines that mean something, shuffled and broken.
fn nearly_a_config() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        5 => prop::sample::select(VALUES.to_vec()).prop_map(str::to_owned),
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => any::<f64>().prop_map(|number| format!("{number:?}")),
        1 => any::<bool>().prop_map(|truth| truth.to_string()),
        1 => "\\PC{0,40}".prop_map(|text| format!("{text:?}")),
        1 => "\\PC{0,20}",
    ];
    let line = prop_oneof![
        1 => words(HEADERS).prop_map(str::to_owned),
        4 => (words(KEYS), value).prop_map(|(key, value)| format!("{key} = {value}")),
    ];
    prop::collection::vec(line, 0..30).prop_map(|lines| lines.join("\n"))
}

fn examine(text: &str) {
    match load(text) {
        Ok(config) => assert!(
            config
                .connections
                .iter()
                .all(|c| !c.ike.selectors.is_empty())
        ),
        Err(errors) => {
            assert!(errors.error_count() > 0);
            assert!(
                errors
                    .problems()
                    .iter()
                    .any(|p| p.severity() == Severity::Error)
            );
            assert!(!errors.to_string().contains('\u{1b}'));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text(text in "(?s).{0,300}") {
        examine(&text);
    }

    #[test]
    fn nearly_right_text(text in nearly_a_config()) {
        examine(&text);
    }
}

proptest! {
    #[test]
    fn a_right_file_with_one_byte_changed(
        pair in any::<bool>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let good = if pair {
            concat!(
                include_str!("../../../configs/pair-a.toml"),
                "\n%%% connections.toml\n",
                include_str!("../../../configs/pair-connections.toml"),
            )
        } else {
            include_str!("../../../configs/vipsec.toml")
        };
        let mut bytes = good.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        examine(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn deep_nesting_is_refused_quickly() {
    examine(&format!("a = {}", "[".repeat(100_000)));
    examine(&"[a.".repeat(10_000));
}
