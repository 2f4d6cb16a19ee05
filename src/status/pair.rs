//! The pair as text: what somebody wants to know at three in the morning, the most urgent
//! thing first.

use super::model::{PairStatus, PartnerStatus, TransitionStatus};
use super::render::{age, bytes, plural};
use crate::palette::{Palette, Tone};

/// How many transitions are shown.
const SHOWN: usize = 10;

/// The block of lines about the pair.
pub(super) fn render(pair: &PairStatus, palette: Palette, lines: &mut Vec<String>) {
    lines.push(String::new());
    lines.push(headline(pair, palette));
    // A standby's headline says it all.
    if pair.role == "active" {
        row("takeover", &takeover(pair, palette), palette, lines);
    } else {
        row("why", &pair.why, palette, lines);
    }
    if !pair.failed.is_empty() {
        let failed: Vec<&str> = pair.failed.iter().map(|name| condition(name)).collect();
        let failed = palette.paint(Tone::Bad, &failed.join("; "));
        row("failed", &failed, palette, lines);
    }
    row("partner", &partner(pair, palette), palette, lines);
    if let Some(lag) = &pair.lag {
        let text = if lag.records == 0 {
            "nothing waits for the partner".to_owned()
        } else {
            format!(
                "{} ({}) wait for the partner, the oldest for {}",
                plural(lag.records, "record"),
                bytes(lag.bytes),
                millis(lag.ms)
            )
        };
        row("lag", &text, palette, lines);
    }
    let node = format!(
        "member {}, epoch {}, connections {}",
        pair.member, pair.epoch, pair.config_revision_short
    );
    row("node", &node, palette, lines);
    addresses(pair, palette, lines);
    let mut label = "history";
    for transition in pair.transitions.iter().rev().take(SHOWN) {
        row(label, &history(transition), palette, lines);
        label = "";
    }
    last_change(pair, palette, lines);
    lines.push(String::new());
}

/// A labelled line; an empty label continues the one before.
fn row(label: &str, text: &str, palette: Palette, lines: &mut Vec<String>) {
    let label = palette.paint(Tone::Dim, &format!("{label:<8}"));
    lines.push(format!("  {label} {text}"));
}

/// What this node is, for how long, and the one thing to know about it.
fn headline(pair: &PairStatus, palette: Palette) -> String {
    let since = age(pair.since_secs);
    let paint = |tone, text: &str| palette.paint(tone, text);
    match pair.role.as_str() {
        "active" if pair.serving => {
            let word = paint(Tone::Good, "ACTIVE");
            let finer = match pair.state.as_str() {
                "active" => String::new(),
                state => format!(" ({})", state.replace('-', " ")),
            };
            format!("{word}{finer} for {since}: {}", pair.why)
        }
        "active" => {
            let word = paint(Tone::Bad, "ACTIVE, BUT SILENT");
            let state = pair.state.replace('-', " ");
            format!("{word} ({state}) for {since}: {}", pair.why)
        }
        "standby" if !pair.fit => {
            let word = paint(Tone::Bad, "STANDBY, NOT FIT");
            format!("{word} for {since}: it does not take over")
        }
        "standby" if pair.takeover.hot && pair.in_sync => {
            let word = paint(Tone::Good, "STANDBY");
            format!("{word} for {since}, in sync, ready to take over without loss")
        }
        "standby" => {
            let sync = if pair.in_sync {
                "in sync"
            } else {
                "NOT in sync"
            };
            let word = paint(Tone::Warn, &format!("STANDBY, {sync}"));
            format!("{word}, for {since}: {}", cold(pair))
        }
        "init" => {
            let word = paint(Tone::Warn, "STARTING");
            format!("{word} for {since}: listening for the partner")
        }
        other => format!("{} for {since}", paint(Tone::Warn, &other.to_uppercase())),
    }
}

/// What the next takeover costs, and why.
fn cold(pair: &PairStatus) -> String {
    let mut text = "the next takeover renegotiates every tunnel".to_owned();
    if !pair.takeover.reasons.is_empty() {
        text += ", because ";
        text += &pair.takeover.reasons.join("; ");
    }
    text
}

/// What happens if this active node dies now.
fn takeover(pair: &PairStatus, palette: Palette) -> String {
    let alone = pair
        .partner
        .as_ref()
        .is_none_or(|partner| partner.dead || !partner.fit);
    if alone {
        let text = "NOBODY can take over: the partner is not there, or not fit";
        return palette.paint(Tone::Bad, text);
    }
    if !pair.takeover.hot {
        return palette.paint(Tone::Warn, &cold(pair));
    }
    let ready = palette.paint(Tone::Good, "ready");
    if pair.takeover.reasons.is_empty() {
        return format!("{ready}, without loss: vipsec switchover");
    }
    let reasons = pair.takeover.reasons.join("; ");
    format!("{ready} if this node dies; a switchover would lose packets now: {reasons}")
}

fn partner(pair: &PairStatus, palette: Palette) -> String {
    let Some(partner) = &pair.partner else {
        let text = "not heard since this daemon started";
        return palette.paint(Tone::Bad, text);
    };
    let PartnerStatus {
        role,
        epoch,
        heard_ms_ago,
        fit,
        same_config,
        dead,
    } = partner;
    let mut parts = Vec::new();
    if *dead {
        parts.push(palette.paint(Tone::Bad, "its process is DEAD"));
        parts.push(format!("was {role}"));
    } else {
        parts.push(role.clone());
    }
    parts.push(format!("epoch {epoch}"));
    let heard = u32::try_from(*heard_ms_ago).unwrap_or(u32::MAX);
    parts.push(format!("heard {} ago", millis(f64::from(heard))));
    parts.push(if *fit {
        "fit".to_owned()
    } else {
        palette.paint(Tone::Bad, "NOT FIT")
    });
    parts.push(if *same_config {
        "same connections".to_owned()
    } else {
        palette.paint(Tone::Bad, "OTHER CONNECTIONS than here")
    });
    parts.join(", ")
}

fn addresses(pair: &PairStatus, palette: Palette, lines: &mut Vec<String>) {
    let mut label = "address";
    for address in &pair.addresses {
        let whither = if address.here {
            palette.paint(Tone::Good, "here")
        } else {
            palette.paint(Tone::Dim, "not here")
        };
        let text = format!("{} on {}, {whither}", address.address, address.link);
        row(label, &text, palette, lines);
        label = "";
    }
}

/// A condition in words.
fn condition(name: &str) -> &str {
    match name {
        "wan-link" => "a WAN link is down",
        "lan-link" => "a LAN link is down",
        "health" => "the health script fails",
        "peers-reachable" => "the peers cannot be reached from here",
        "takeover" => "the addresses could not be taken",
        "config" => "the connections are not the partner's",
        other => other,
    }
}

fn history(transition: &TransitionStatus) -> String {
    let mut text = format!(
        "{} ago: {} -> {}, {}",
        seconds(transition.ago_secs),
        transition.from,
        transition.to,
        transition.reason
    );
    let times: Vec<String> = [
        ("silent for", transition.silence_ms),
        ("serving after", transition.serving_after_ms),
    ]
    .into_iter()
    .filter_map(|(what, ms)| ms.map(|ms| format!("{what} {}", millis(ms))))
    .collect();
    if !times.is_empty() {
        text += &format!(" ({})", times.join(", "));
    }
    text
}

/// What the last change of role cost, step by step.
fn last_change(pair: &PairStatus, palette: Palette, lines: &mut Vec<String>) {
    if pair.last_change.is_empty() {
        return;
    }
    let steps: Vec<String> = pair
        .last_change
        .iter()
        .map(|step| {
            let name = match step.failure {
                None => step.step.clone(),
                Some(_) => palette.paint(Tone::Bad, &step.step),
            };
            format!("{name} {}", millis(step.took_ms))
        })
        .collect();
    row("steps", &steps.join(", "), palette, lines);
    for step in &pair.last_change {
        if let Some(failure) = &step.failure {
            let text = palette.paint(Tone::Bad, &format!("{} failed: {failure}", step.step));
            row("", &text, palette, lines);
        }
    }
}

/// `0.4 ms`, `302 ms`, `12.3 s`, `3h11m`.
fn millis(ms: f64) -> String {
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else if ms < 1_000.0 {
        format!("{ms:.0} ms")
    } else {
        seconds(ms / 1_000.0)
    }
}

/// `3.2 s` while tenths matter, then as everywhere else.
fn seconds(secs: f64) -> String {
    if secs < 100.0 {
        return format!("{:.1} s", secs.max(0.0));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at least 100, and a cast saturates"
    )]
    let whole = secs as u64;
    age(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_show_what_matters() {
        for (ms, text) in [
            (0.04, "0.0 ms"),
            (4.12, "4.1 ms"),
            (302.4, "302 ms"),
            (12_340.0, "12.3 s"),
            (11_460_000.0, "3h11m"),
        ] {
            assert_eq!(millis(ms), text);
        }
        assert_eq!(seconds(-0.001), "0.0 s");
        assert_eq!(seconds(f64::NAN), "0s");
    }
}
