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
        pair: Table<RawPair>,
    }
}

section! {
    /// The file of connections that `[pair]` may name.
    RawConnections, "" {
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
        real_time: bool,
        firewall_mark: i64,
        esp_relay: String,
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

section! {
    /// The partner gateway.
    RawPair, "[pair]" {
        member: String,
        secret_file: String,
        priority: i64,
        advert_interval: DurationText,
        preempt: DurationText,
        hold_down: DurationText,
        commit_wait: DurationText,
        grace: DurationText,
        path_check: Vec<Spanned<String>>,
        connections: String,
        path: Tables<RawPath>,
        address: Tables<RawAddress>,
        health: Table<RawHealth>,
        mover: Table<RawMover>,
    }
}

section! {
    /// One way between the two nodes.
    RawPath, "[[pair.path]]" {
        local: String,
        peer: String,
    }
}

section! {
    /// A virtual address.
    RawAddress, "[[pair.address]]" {
        address: String,
        link: String,
        side: String,
        gateway: String,
        virtual_mac: String,
    }
}

section! {
    /// A program that says whether this node is fit.
    RawHealth, "[pair.health]" {
        exec: String,
        interval: DurationText,
        timeout: DurationText,
        failures: i64,
    }
}

section! {
    /// A program that moves the addresses.
    RawMover, "[pair.mover]" {
        exec: String,
        timeout: DurationText,
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
        (RawPair::HEADER, RawPair::KEYS),
        (RawPath::HEADER, RawPath::KEYS),
        (RawAddress::HEADER, RawAddress::KEYS),
        (RawHealth::HEADER, RawHealth::KEYS),
        (RawMover::HEADER, RawMover::KEYS),
    ]
}
