//! `vipsec switchover`: change places with the partner, and wait until it is done.

use std::time::{Duration, Instant};

use super::ask::{Daemon, done};
use super::output::{Failure, note, print};
use crate::control::{Command, Refusal};
use crate::status::PairStatus;

/// Between two looks at the status; a switchover takes tens of milliseconds.
const LOOK: Duration = Duration::from_millis(20);

/// Longer than everything in it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Changes places with the partner; only says whether it could be done when `dry_run`.
pub(super) fn switchover(daemon: &Daemon, force: bool, dry_run: bool) -> Result<(), Failure> {
    let command = Command::Switchover { force, dry_run };
    if dry_run {
        return done(daemon, &command);
    }
    let Some(before) = daemon.status(None)?.pair else {
        return Err(Failure::Refused(Refusal::no_partner()));
    };
    let began = Instant::now();
    daemon.ask(&command)?;
    let mut shown = before.state.clone();
    loop {
        let now = daemon.status(None)?.pair;
        let waited = began.elapsed();
        let Some(now) = now else {
            return Err(Failure::wrong("this gateway has no partner any more"));
        };
        match verdict(&before, &now, waited) {
            Verdict::Done(text) => return print(&text),
            Verdict::Failed(why) => {
                return Err(Failure::Wrong {
                    message: format!("no switchover, this node is {} as before: {why}", now.role),
                    hint: Some(
                        "the whole story: vipsec status, and journalctl -u vipsec -e".to_owned(),
                    ),
                });
            }
            Verdict::Waiting if waited >= PATIENCE => {
                return Err(Failure::NotInTime {
                    message: format!(
                        "this node is still {} ({}) after {} s",
                        now.role,
                        now.state,
                        PATIENCE.as_secs()
                    ),
                    hint: "what it waits for: vipsec status on both nodes".to_owned(),
                });
            }
            Verdict::Waiting => {
                if now.state != shown {
                    note(&format!("{:.2} s: {}\n", waited.as_secs_f64(), now.state));
                    shown = now.state;
                }
                std::thread::sleep(LOOK);
            }
        }
    }
}

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The role has changed; the text to print.
    Done(String),
    /// It is off; why.
    Failed(String),
    /// Under way.
    Waiting,
}

fn verdict(before: &PairStatus, now: &PairStatus, waited: Duration) -> Verdict {
    // What happened before we asked is history.
    let last = now
        .transitions
        .last()
        .filter(|last| last.ago_secs <= waited.as_secs_f64());
    if now.role != before.role {
        if now.role == "active" && !now.serving {
            return Verdict::Waiting;
        }
        return Verdict::Done(success(now, waited));
    }
    match last {
        Some(last) if last.to == before.state && now.state == before.state => {
            Verdict::Failed(last.reason.clone())
        }
        _ => Verdict::Waiting,
    }
}

fn success(now: &PairStatus, waited: Duration) -> String {
    // The daemon's clock is finer than our looks at it.
    let last = now.transitions.last();
    let since = last.map_or(0.0, |last| last.ago_secs);
    let took = waited.as_secs_f64() - since;
    let took = if (0.0..=waited.as_secs_f64()).contains(&took) {
        took
    } else {
        waited.as_secs_f64()
    };
    let mut text = format!("this node is {} after {took:.3} s\n", now.role);
    if let Some(ms) = last.and_then(|last| last.serving_after_ms) {
        text += &format!("  the first packet could leave {ms:.1} ms after the decision\n");
    }
    match &now.partner {
        Some(partner) if !partner.dead => {
            text += &format!("  the partner is {}\n", partner.role);
        }
        _ => text += "  the partner is not there\n",
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{PartnerStatus, TakeoverReadiness, TransitionStatus};

    fn pair(role: &str, state: &str) -> PairStatus {
        PairStatus {
            member: "a".to_owned(),
            role: role.to_owned(),
            serving: role == "active",
            state: state.to_owned(),
            since_secs: 0,
            why: String::new(),
            epoch: 1,
            failed: Vec::new(),
            fit: true,
            partner: Some(PartnerStatus {
                role: "active".to_owned(),
                epoch: 2,
                heard_ms_ago: 10,
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
            config_revision_short: String::new(),
            addresses: Vec::new(),
            transitions: Vec::new(),
            last_change: Vec::new(),
        }
    }

    fn moved(mut pair: PairStatus, ago_secs: f64, from: &str, reason: &str) -> PairStatus {
        pair.transitions.push(TransitionStatus {
            ago_secs,
            from: from.to_owned(),
            to: pair.state.clone(),
            reason: reason.to_owned(),
            silence_ms: None,
            serving_after_ms: None,
        });
        pair
    }

    const WAITED: Duration = Duration::from_millis(100);

    #[test]
    fn the_time_is_the_daemons() {
        let before = pair("active", "active");
        let after = moved(pair("standby", "standby"), 0.04, "released", "handed over");
        assert_eq!(
            verdict(&before, &after, WAITED),
            Verdict::Done(
                "this node is standby after 0.060 s\n  the partner is active\n".to_owned()
            )
        );
    }

    #[test]
    fn on_the_way_is_neither_success_nor_failure() {
        let before = moved(pair("active", "active"), 0.2, "standby", "PeerSilent");
        let offering = moved(pair("active", "handing-over"), 0.05, "active", "wanted");
        assert_eq!(verdict(&before, &offering, WAITED), Verdict::Waiting);
        // Nothing has happened yet: the old transition is history.
        let mut still = before.clone();
        still.transitions[0].ago_secs = 0.3;
        assert_eq!(verdict(&before, &still, WAITED), Verdict::Waiting);
        // The role is here, and nothing may be sent yet.
        let mut claiming = moved(pair("active", "active"), 0.01, "taking-over", "released");
        claiming.serving = false;
        let standby = pair("standby", "standby");
        assert_eq!(verdict(&standby, &claiming, WAITED), Verdict::Waiting);
    }

    #[test]
    fn a_switchover_that_is_called_off_says_why() {
        let before = pair("active", "active");
        let back = moved(pair("active", "active"), 0.02, "handing-over", "it is off");
        assert_eq!(
            verdict(&before, &back, WAITED),
            Verdict::Failed("it is off".to_owned())
        );
    }
}
