//! The file as users write it: every key, nothing resolved.
//!
//! This is the only list of keys. Unknown keys are refused by it, corrections are suggested
//! from it, and a test holds `docs/config.md` to it.

use toml::Spanned;

use super::document::{DurationText, Table, Tables, WordOrNumber, section};

section! {
    /// The whole file.
    RawFile, "" {
        gateway: Table<RawGateway>,
        connection: Tables<RawConnection>,
    }
}

section! {
    /// The daemon itself.
    RawGateway, "[gateway]" {
        name: String,
        workers: i64,
        pin_workers: bool,
        busy_poll: DurationText,
        firewall_mark: i64,
        control_socket: String,
        log: String,
    }
}

section! {
    /// A peer and the tunnel to it.
    RawConnection, "[[connection]]" {
        name: String,
        profile: String,
        local: String,
        remote: String,
        local_id: String,
        remote_id: String,
        psk_file: String,
        start: String,
        mode: String,
        encapsulation: String,
        fragmentation: bool,
        nat_keepalive: DurationText,
        allow_weak: bool,
        peer_drops_children: bool,
        phase1: Table<RawPhase1>,
        phase2: Table<RawPhase2>,
        dpd: Table<RawDpd>,
        retransmit: Table<RawRetransmit>,
        vti: Table<RawVti>,
        selector: Tables<RawSelector>,
    }
}

section! {
    /// The IKE SA.
    RawPhase1, "[connection.phase1]" {
        proposals: Vec<Spanned<String>>,
        lifetime: DurationText,
        rekey_margin: DurationText,
        rekey_jitter: DurationText,
    }
}

section! {
    /// The ESP SAs.
    RawPhase2, "[connection.phase2]" {
        proposals: Vec<Spanned<String>>,
        lifetime: DurationText,
        lifetime_kilobytes: i64,
        rekey_margin: DurationText,
        rekey_jitter: DurationText,
        grace: DurationText,
        replay_window: i64,
    }
}

section! {
    /// Dead peer detection.
    RawDpd, "[connection.dpd]" {
        action: String,
        delay: DurationText,
        retry: DurationText,
        max_failures: i64,
        ping: String,
        ping_from: String,
    }
}

section! {
    /// Resending of unanswered IKE messages.
    RawRetransmit, "[connection.retransmit]" {
        first: DurationText,
        growth_percent: i64,
        ceiling: DurationText,
        tries: i64,
    }
}

section! {
    /// The tunnel interface.
    RawVti, "[connection.vti]" {
        device: String,
        mtu: i64,
        mss: WordOrNumber,
        metric: i64,
        addresses: Vec<Spanned<String>>,
        routes: Vec<Spanned<String>>,
    }
}

section! {
    /// Traffic of a policy-based connection.
    RawSelector, "[[connection.selector]]" {
        local: String,
        remote: String,
        protocol: WordOrNumber,
        local_port: i64,
        port: i64,
    }
}

/// Every section of the file with its keys, for the reference page.
#[cfg(test)]
pub(super) fn sections() -> Vec<(&'static str, &'static [super::document::Key])> {
    use super::document::Section;
    vec![
        (RawGateway::HEADER, RawGateway::KEYS),
        (RawConnection::HEADER, RawConnection::KEYS),
        (RawPhase1::HEADER, RawPhase1::KEYS),
        (RawPhase2::HEADER, RawPhase2::KEYS),
        (RawDpd::HEADER, RawDpd::KEYS),
        (RawRetransmit::HEADER, RawRetransmit::KEYS),
        (RawVti::HEADER, RawVti::KEYS),
        (RawSelector::HEADER, RawSelector::KEYS),
    ]
}
