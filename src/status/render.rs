//! The status as text.

use super::model::{
    ConnectionState, ConnectionStatus, Counters, Encapsulation, EspSaStatus, IkeSaStatus, Liveness,
    Role, Status,
};
use super::pair;
use crate::palette::{Palette, Tone};

/// The whole story on one screen. Ends with a newline.
#[must_use]
pub fn render(status: &Status, palette: Palette) -> String {
    let mut lines = Vec::new();
    headline(status, palette, &mut lines);
    for connection in &status.connections {
        lines.push(String::new());
        render_connection(connection, palette, &mut lines);
    }
    let refused = counter_lines(&status.counters);
    if !refused.is_empty() {
        lines.push(String::new());
        for (room, reasons) in refused {
            let label = palette.paint(Tone::Dim, &format!("counted by {room}:"));
            lines.push(format!("{label} {reasons}"));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

/// Every counter on a line of its own, for `vipsec status --counters`. Ends with a newline
/// unless there is none.
#[must_use]
pub fn render_counters(counters: &Counters) -> String {
    let rows: Vec<(String, String)> = counters
        .iter()
        .flat_map(|(room, reasons)| {
            reasons
                .iter()
                .map(move |(reason, count)| (format!("{room}.{reason}"), grouped(*count)))
        })
        .collect();
    let names = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let counts = rows.iter().map(|(_, count)| count.len()).max().unwrap_or(0);
    rows.iter()
        .map(|(name, count)| format!("{name:<names$}  {count:>counts$}\n"))
        .collect()
}

fn headline(status: &Status, palette: Palette, lines: &mut Vec<String>) {
    let revision: String = status.revision.chars().take(12).collect();
    lines.push(format!(
        "{}  vipsec {}, running for {}, {}, config {revision}",
        palette.paint(Tone::Strong, &status.gateway),
        status.version,
        age(status.uptime_secs),
        plural(u64::from(status.workers), "worker"),
    ));
    if !status.cipher_backends.is_empty() {
        lines.push(format!("ciphers: {}", status.cipher_backends.join(", ")));
    }
    if let Some(folder) = &status.keylog {
        let text = format!("SESSION KEYS ARE WRITTEN TO {}", folder.display());
        let stop = "stop it with: vipsec keylog off";
        lines.push(format!("{}; {stop}", palette.paint(Tone::Bad, &text)));
    }
    if let Some(pair) = &status.pair {
        pair::render(pair, palette, lines);
    }
    lines.push(summary(&status.connections));
}

/// `3 connections: 2 up, 1 failed`.
fn summary(connections: &[ConnectionStatus]) -> String {
    let counts: Vec<String> = [
        ConnectionState::Up,
        ConnectionState::Connecting,
        ConnectionState::Failed,
        ConnectionState::Down,
        ConnectionState::Standby,
    ]
    .into_iter()
    .map(|state| {
        (
            state,
            connections.iter().filter(|c| c.state == state).count(),
        )
    })
    .filter(|(_, count)| *count > 0)
    .map(|(state, count)| format!("{count} {state}"))
    .collect();
    let total = plural(connections.len() as u64, "connection");
    if counts.is_empty() {
        total
    } else {
        format!("{total}: {}", counts.join(", "))
    }
}

fn render_connection(connection: &ConnectionStatus, palette: Palette, lines: &mut Vec<String>) {
    let tone = match connection.state {
        ConnectionState::Up => Tone::Good,
        ConnectionState::Connecting => Tone::Warn,
        ConnectionState::Failed => Tone::Bad,
        ConnectionState::Down | ConnectionState::Standby => Tone::Dim,
    };
    lines.push(format!(
        "{}  {} for {}",
        palette.paint(Tone::Strong, &connection.name),
        palette.paint(tone, &connection.state.to_string().to_uppercase()),
        age(connection.state_secs),
    ));
    let remote = connection
        .remote
        .map_or_else(|| "any".to_owned(), |remote| remote.to_string());
    let mut ends = format!("{} <-> {remote}", connection.local);
    if connection.local_id != connection.local.to_string() || connection.peer_id != remote {
        ends += &format!(
            "   as {}, peer is {}",
            connection.local_id, connection.peer_id
        );
    }
    row("peer", &ends, palette, lines);
    let trouble = connection.last_error.as_ref().map(|error| {
        let tone = if connection.state == ConnectionState::Up {
            Tone::Dim
        } else {
            Tone::Bad
        };
        palette.paint(
            tone,
            &format!("{} ago: {}", age(error.ago_secs), error.text),
        )
    });
    // What is wrong comes first while it is wrong, and last when it is history.
    let up = connection.state == ConnectionState::Up;
    if let Some(trouble) = trouble.as_ref().filter(|_| !up) {
        row("error", trouble, palette, lines);
    }
    for sa in &connection.ike_sas {
        render_ike(sa, palette, lines);
    }
    for sa in &connection.esp_sas {
        render_esp(sa, palette, lines);
    }
    render_liveness(connection.liveness, palette, lines);
    render_vti(connection, palette, lines);
    if let Some(trouble) = trouble.as_ref().filter(|_| up) {
        row("error", trouble, palette, lines);
    }
}

/// A labelled line; an empty label continues the one before.
fn row(label: &str, text: &str, palette: Palette, lines: &mut Vec<String>) {
    let label = palette.paint(Tone::Dim, &format!("{label:<5}"));
    lines.push(format!("  {label} {text}"));
}

fn render_ike(sa: &IkeSaStatus, palette: Palette, lines: &mut Vec<String>) {
    let mut parts = Vec::new();
    if !sa.suite.is_empty() {
        parts.push(suite(&sa.suite, sa.weak, palette));
    }
    parts.push(match sa.established_secs {
        Some(secs) => format!("{} for {}", sa.state, age(secs)),
        None => sa.state.clone(),
    });
    if let Some(secs) = sa.rekey_in_secs {
        parts.push(format!("rekey in {}", age(secs)));
    }
    parts.push(
        match sa.role {
            Role::Initiator => "we began",
            Role::Responder => "the peer began",
        }
        .to_owned(),
    );
    row("IKE", &parts.join(", "), palette, lines);
    let nat = match (sa.nat.local, sa.nat.remote) {
        (false, false) => "no NAT",
        (true, false) => "NAT in front of us",
        (false, true) => "NAT in front of the peer",
        (true, true) => "NAT on both sides",
    };
    let text = format!(
        "{} -> {}, {nat}, cookies {}:{}",
        sa.local, sa.remote, sa.initiator_cookie, sa.responder_cookie
    );
    row("", &text, palette, lines);
}

fn render_esp(sa: &EspSaStatus, palette: Palette, lines: &mut Vec<String>) {
    let mut parts = vec![suite(&sa.suite, sa.weak, palette)];
    if sa.esn {
        parts.push("ESN".to_owned());
    }
    parts.push(sa.selectors.clone());
    parts.push(
        match sa.encapsulation {
            Encapsulation::Esp => "protocol 50",
            Encapsulation::Udp => "in UDP",
        }
        .to_owned(),
    );
    if sa.draining {
        parts.push("replaced, still receiving".to_owned());
    }
    row("ESP", &parts.join(", "), palette, lines);
    let mut times = vec![format!("for {}", age(sa.established_secs))];
    if let Some(secs) = sa.rekey_in_secs {
        times.push(format!("rekey in {}", age(secs)));
    }
    times.push(format!("expires in {}", age(sa.expires_in_secs)));
    row("", &times.join(", "), palette, lines);
    let (bytes_in, bytes_out) = (bytes(sa.bytes_in), bytes(sa.bytes_out));
    let (packets_in, packets_out) = (grouped(sa.packets_in), grouped(sa.packets_out));
    let wide = bytes_in.len().max(bytes_out.len());
    let long = packets_in.len().max(packets_out.len());
    let inward = format!(
        "in  {}  {bytes_in:>wide$}  {packets_in:>long$} packets, newest number {} (window {})",
        sa.spi_in,
        grouped(sa.replay_edge),
        sa.replay_window,
    );
    let outward = format!(
        "out {}  {bytes_out:>wide$}  {packets_out:>long$} packets, last number {}",
        sa.spi_out,
        grouped(sa.seq_out),
    );
    row("", &inward, palette, lines);
    row("", &outward, palette, lines);
}

/// Says something only where a dead peer may stay unnoticed for long.
fn render_liveness(liveness: Option<Liveness>, palette: Palette, lines: &mut Vec<String>) {
    let (tone, why) = match liveness {
        None | Some(Liveness::Dpd | Liveness::Ping) => return,
        Some(Liveness::RekeyOnly) => (
            Tone::Warn,
            "the peer announces no DPD and no dpd.ping is configured",
        ),
        Some(Liveness::Off) => (Tone::Dim, "dpd.action is \"off\""),
    };
    let text = format!("{why}: a dead peer is noticed only when a rekey goes unanswered");
    row("DPD", &palette.paint(tone, &text), palette, lines);
}

fn render_vti(connection: &ConnectionStatus, palette: Palette, lines: &mut Vec<String>) {
    let vti = &connection.vti;
    let list = |nets: &[ipnet::IpNet]| {
        let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
        nets.join(", ")
    };
    if vti.deleted {
        let text = format!(
            "{} HAS BEEN DELETED by another program: restart vipsec to make it again",
            vti.device
        );
        return row("VTI", &palette.paint(Tone::Bad, &text), palette, lines);
    }
    let mut text = format!("{}, mtu {}", vti.device, vti.mtu);
    if !vti.addresses.is_empty() {
        text += &format!(", {}", list(&vti.addresses));
    }
    if vti.routes.is_empty() {
        text += ", no routes";
    } else {
        text += &format!(", routes {}", list(&vti.routes));
    }
    row("VTI", &text, palette, lines);
}

fn suite(name: &str, weak: bool, palette: Palette) -> String {
    if weak {
        format!("{name} {}", palette.paint(Tone::Warn, "WEAK"))
    } else {
        name.to_owned()
    }
}

/// For each room with a count above zero, its reasons in one line.
fn counter_lines(counters: &Counters) -> Vec<(&str, String)> {
    counters
        .iter()
        .filter_map(|(room, reasons)| {
            let reasons: Vec<String> = reasons
                .iter()
                .filter(|(_, count)| **count > 0)
                .map(|(reason, count)| format!("{reason} {}", grouped(*count)))
                .collect();
            (!reasons.is_empty()).then(|| (room.as_str(), reasons.join(", ")))
        })
        .collect()
}

/// The two leading units: `45s`, `11m4s`, `3h11m`, `2d4h`.
pub(super) fn age(secs: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let mut rest = secs;
    let mut parts: Vec<String> = Vec::new();
    for (unit, size) in UNITS {
        let count = rest / size;
        rest %= size;
        if count > 0 {
            parts.push(format!("{count}{unit}"));
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() {
        "0s".to_owned()
    } else {
        parts.concat()
    }
}

/// Three digits and a decimal unit: `999 B`, `12.4 MB`, `1.20 GB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut divisor: u64 = 1;
    for (index, unit) in UNITS.into_iter().enumerate() {
        let whole = count / divisor;
        if whole >= 1000 && index + 1 < UNITS.len() {
            divisor = divisor.saturating_mul(1000);
            continue;
        }
        if index == 0 {
            return format!("{whole} {unit}");
        }
        let thousandths = u128::from(count % divisor) * 1000 / u128::from(divisor);
        return match whole {
            0..=9 => format!("{whole}.{:02} {unit}", thousandths / 10),
            10..=99 => format!("{whole}.{} {unit}", thousandths / 100),
            _ => format!("{whole} {unit}"),
        };
    }
    format!("{count} B")
}

/// Thousands apart: `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(super) fn plural(count: u64, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_show_two_units() {
        for (secs, text) in [
            (0, "0s"),
            (45, "45s"),
            (664, "11m4s"),
            (11_460, "3h11m"),
            (7_203, "2h"),
            (187_200, "2d4h"),
        ] {
            assert_eq!(age(secs), text);
        }
    }

    #[test]
    fn bytes_show_three_digits() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.00 kB"),
            (12_499_999, "12.4 MB"),
            (123_456_789_000, "123 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn thousands_are_apart() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
