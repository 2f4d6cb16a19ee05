//! The table: what happens, to whom, how often, and what it may cost.

use std::time::Duration;

/// Who it happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// vipsec on both gateways.
    Ours,
    /// keepalived and strongSwan.
    Theirs,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Switchover,
    KillActive,
    HostGone,
    WanDown,
    LanDown,
    Suspend,
    Split,
    KillStandby,
}

/// What a row may cost. Repeated IVs, replay drops and negotiations are never allowed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bar {
    /// The median gap is under this, in milliseconds.
    pub(crate) median: Option<f64>,
    /// So is every gap.
    pub(crate) worst: Option<f64>,
    /// Nothing is lost and nothing comes twice.
    pub(crate) lossless: bool,
    /// Not even an informational message.
    pub(crate) no_ike: bool,
    /// Both believe to be active for a while: ARP is contested, and nobody can help it.
    pub(crate) two_actives: bool,
}

/// One row of the table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Short, for options and file names.
    pub(crate) name: String,
    /// In words.
    pub(crate) event: String,
    pub(crate) subject: Subject,
    pub(crate) action: Action,
    pub(crate) advert: Duration,
    /// How often.
    pub(crate) runs: usize,
    /// How often to one and the same pair, before a new network is built.
    pub(crate) batch: usize,
    pub(crate) bar: Bar,
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The whole table.
pub(crate) fn table() -> Vec<Row> {
    let mut rows = vec![switchover()];
    rows.extend([ms(1000), ms(50), ms(10)].map(kill));
    rows.extend([(ms(50), 200.0, Some(500.0)), (ms(10), 60.0, None)].map(gone));
    rows.extend([
        link("wan-down", "WAN link of the active down", Action::WanDown),
        link("lan-down", "LAN link of the active down", Action::LanDown),
    ]);
    rows.extend([suspend(), split(), standby()]);
    rows.extend([ms(1000), ms(100), ms(20)].map(theirs));
    rows
}

fn ours(name: &str, event: &str, action: Action, runs: usize) -> Row {
    Row {
        name: name.to_owned(),
        event: event.to_owned(),
        subject: Subject::Ours,
        action,
        advert: ms(50),
        runs,
        batch: 10,
        bar: Bar::default(),
    }
}

fn switchover() -> Row {
    Row {
        bar: Bar {
            median: Some(20.0),
            lossless: true,
            no_ike: true,
            ..Bar::default()
        },
        ..ours("switchover", "planned switchover", Action::Switchover, 100)
    }
}

fn kill(advert: Duration) -> Row {
    let name = format!("kill-{}ms", advert.as_millis());
    let event = format!("`kill -9` of the active daemon, advert {}", words(advert));
    Row {
        advert,
        bar: Bar {
            median: Some(30.0),
            worst: Some(150.0),
            ..Bar::default()
        },
        ..ours(&name, &event, Action::KillActive, 100)
    }
}

fn gone((advert, median, worst): (Duration, f64, Option<f64>)) -> Row {
    let name = format!("gone-{}ms", advert.as_millis());
    let event = format!("active host gone, advert {}", words(advert));
    Row {
        advert,
        bar: Bar {
            median: Some(median),
            worst,
            ..Bar::default()
        },
        ..ours(&name, &event, Action::HostGone, 100)
    }
}

fn link(name: &str, event: &str, action: Action) -> Row {
    Row {
        bar: Bar {
            median: Some(100.0),
            ..Bar::default()
        },
        ..ours(name, event, action, 50)
    }
}

fn suspend() -> Row {
    Row {
        batch: 5,
        ..ours(
            "suspend",
            "SIGSTOP of the active for 5 s, then SIGCONT",
            Action::Suspend,
            20,
        )
    }
}

fn split() -> Row {
    Row {
        batch: 3,
        bar: Bar {
            two_actives: true,
            ..Bar::default()
        },
        ..ours(
            "split",
            "both links between the nodes cut for 10 s, then healed",
            Action::Split,
            20,
        )
    }
}

fn standby() -> Row {
    Row {
        bar: Bar {
            lossless: true,
            ..Bar::default()
        },
        ..ours(
            "standby",
            "standby killed and restarted under load",
            Action::KillStandby,
            50,
        )
    }
}

fn theirs(advert: Duration) -> Row {
    Row {
        subject: Subject::Theirs,
        advert,
        batch: 1,
        ..ours(
            &format!("keepalived-{}ms", advert.as_millis()),
            &format!(
                "keepalived + strongSwan: active host gone, advert {}",
                words(advert)
            ),
            Action::HostGone,
            10,
        )
    }
}

fn words(time: Duration) -> String {
    if time >= ms(1000) {
        format!("{} s", time.as_secs())
    } else {
        format!("{} ms", time.as_millis())
    }
}
