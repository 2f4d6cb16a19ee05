//! The pair on the screen, to the letter.

use super::super::*;
use super::status;
use crate::palette::Palette;

fn started() -> TransitionStatus {
    TransitionStatus {
        ago_secs: 86_400.0,
        from: "init".to_owned(),
        to: "standby".to_owned(),
        reason: "the partner is active and its claim outranks ours".to_owned(),
        silence_ms: None,
        serving_after_ms: None,
    }
}

fn pair(role: &str) -> PairStatus {
    PairStatus {
        member: "a".to_owned(),
        role: role.to_owned(),
        serving: role == "active",
        state: role.to_owned(),
        since_secs: 7_380,
        why: "nothing was heard from an active partner for the whole patience".to_owned(),
        epoch: 7,
        failed: Vec::new(),
        fit: true,
        partner: Some(PartnerStatus {
            role: if role == "active" {
                "standby"
            } else {
                "active"
            }
            .to_owned(),
            epoch: 6,
            heard_ms_ago: 40,
            fit: true,
            same_config: true,
            dead: false,
        }),
        in_sync: true,
        lag: None,
        takeover: TakeoverReadiness {
            hot: true,
            reasons: Vec::new(),
        },
        config_revision_short: "3f2a9c1b77de".to_owned(),
        addresses: vec![
            VirtualAddressStatus {
                address: "203.0.113.1/24".to_owned(),
                link: "wan0".to_owned(),
                here: role == "active",
            },
            VirtualAddressStatus {
                address: "10.1.0.1/24".to_owned(),
                link: "lan0".to_owned(),
                here: role == "active",
            },
        ],
        transitions: vec![
            started(),
            TransitionStatus {
                ago_secs: 7_380.2,
                from: "standby".to_owned(),
                to: "active".to_owned(),
                reason: "nothing was heard from an active partner for the whole patience"
                    .to_owned(),
                silence_ms: Some(302.4),
                serving_after_ms: Some(4.12),
            },
        ],
        last_change: Vec::new(),
    }
}

fn of_pair(pair: PairStatus) -> String {
    let mut status = status(Vec::new());
    status.pair = Some(pair);
    render(&status, Palette::Plain)
}

#[test]
fn an_active_node_tells_its_whole_story() {
    let mut pair = pair("active");
    pair.lag = Some(LagStatus {
        records: 3,
        bytes: 1_200,
        ms: 2.51,
    });
    pair.last_change = vec![
        StepStatus {
            step: "activate-sas".to_owned(),
            took_ms: 0.31,
            failure: None,
        },
        StepStatus {
            step: "announce".to_owned(),
            took_ms: 12.0,
            failure: Some("lan0 is down".to_owned()),
        },
    ];
    assert_eq!(
        of_pair(pair),
        "\
gw-a  vipsec 0.1.0, running for 3h12m, 2 workers, config 3f2a9c1b77de

ACTIVE for 2h3m: nothing was heard from an active partner for the whole patience
  takeover ready, without loss: vipsec switchover
  partner  standby, epoch 6, heard 40 ms ago, fit, same connections
  lag      3 records (1.20 kB) wait for the partner, the oldest for 2.5 ms
  node     member a, epoch 7, connections 3f2a9c1b77de
  address  203.0.113.1/24 on wan0, here
           10.1.0.1/24 on lan0, here
  history  2h3m ago: standby -> active, nothing was heard from an active partner for the whole patience (silent for 302 ms, serving after 4.1 ms)
           1d ago: init -> standby, the partner is active and its claim outranks ours
  steps    activate-sas 0.3 ms, announce 12 ms
           announce failed: lan0 is down

0 connections
"
    );
}

#[test]
fn a_standby_says_whether_it_is_ready() {
    let ready = of_pair(pair("standby"));
    assert!(
        ready.contains("\nSTANDBY for 2h3m, in sync, ready to take over without loss\n"),
        "{ready}"
    );
    assert!(ready.contains("203.0.113.1/24 on wan0, not here\n"));

    let mut behind = pair("standby");
    behind.in_sync = false;
    behind.takeover.hot = false;
    behind.takeover.reasons = vec!["the snapshot is not complete".to_owned()];
    let behind = of_pair(behind);
    assert!(
        behind.contains(
            "\nSTANDBY, NOT in sync, for 2h3m: the next takeover renegotiates every tunnel, because the snapshot is not complete\n"
        ),
        "{behind}"
    );

    let mut unfit = pair("standby");
    unfit.fit = false;
    unfit.failed = vec!["wan-link".to_owned(), "health".to_owned(), "new".to_owned()];
    let unfit = of_pair(unfit);
    assert!(unfit.contains("\nSTANDBY, NOT FIT for 2h3m: it does not take over\n"));
    assert!(
        unfit.contains("  failed   a WAN link is down; the health script fails; new\n"),
        "{unfit}"
    );

    let starting = of_pair(pair("init"));
    assert!(starting.contains("\nSTARTING for 2h3m: listening for the partner\n"));
}

/// At three in the morning the worst must not look like the best.
#[test]
fn an_active_node_without_a_standby_says_so() {
    let nobody = "  takeover NOBODY can take over: the partner is not there, or not fit\n";
    let mut alone = pair("active");
    alone.partner = None;
    let alone = of_pair(alone);
    assert!(alone.contains(nobody), "{alone}");
    assert!(alone.contains("  partner  not heard since this daemon started\n"));

    let mut dead = pair("active");
    if let Some(partner) = &mut dead.partner {
        partner.dead = true;
        partner.fit = false;
        partner.same_config = false;
        partner.heard_ms_ago = 12_340;
    }
    let dead = of_pair(dead);
    assert!(dead.contains(nobody));
    assert!(
        dead.contains(
            "  partner  its process is DEAD, was standby, epoch 6, heard 12.3 s ago, NOT FIT, OTHER CONNECTIONS than here\n"
        ),
        "{dead}"
    );

    let mut cold = pair("active");
    cold.takeover.hot = false;
    cold.takeover.reasons = vec!["the standby is not in sync".to_owned()];
    assert!(of_pair(cold).contains(
        "  takeover the next takeover renegotiates every tunnel, because the standby is not in sync\n"
    ));

    let mut busy = pair("active");
    busy.takeover.reasons = vec!["the standby is not in sync".to_owned()];
    assert!(of_pair(busy).contains(
        "  takeover ready if this node dies; a switchover would lose packets now: the standby is not in sync\n"
    ));
}

#[test]
fn an_active_node_that_may_not_speak_says_so() {
    let mut asking = pair("active");
    asking.serving = false;
    asking.state = "asking".to_owned();
    asking.since_secs = 2;
    asking.why = "this process was stopped for longer than its lease".to_owned();
    assert!(of_pair(asking).contains(
        "\nACTIVE, BUT SILENT (asking) for 2s: this process was stopped for longer than its lease\n"
    ));
    let mut leaving = pair("active");
    leaving.state = "handing-over".to_owned();
    leaving.since_secs = 0;
    leaving.why = "a planned switchover was asked for".to_owned();
    assert!(
        of_pair(leaving)
            .contains("\nACTIVE (handing over) for 0s: a planned switchover was asked for\n")
    );
}

#[test]
fn only_the_last_ten_transitions_are_shown() {
    let mut pair = pair("active");
    pair.transitions = (0..12_u32)
        .rev()
        .map(|ago| TransitionStatus {
            ago_secs: f64::from(ago),
            ..started()
        })
        .collect();
    let text = of_pair(pair);
    assert_eq!(text.matches("init -> standby").count(), 10);
    assert!(text.contains("  history  0.0 s ago") && !text.contains("10.0 s ago"));
}

#[test]
fn the_pair_in_json() {
    let mut status = status(Vec::new());
    status.pair = Some(pair("active"));
    let json = serde_json::to_value(&status).unwrap();
    for (pointer, value) in [
        ("/pair/role", "active".into()),
        ("/pair/serving", true.into()),
        ("/pair/epoch", 7.into()),
        ("/pair/partner/heard_ms_ago", 40.into()),
        ("/pair/takeover/hot", true.into()),
        ("/pair/addresses/0/here", true.into()),
        ("/pair/transitions/1/serving_after_ms", 4.12.into()),
    ] {
        let expected: serde_json::Value = value;
        assert_eq!(json.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
}
