//! `[pair]`: this node's part in the pair.

mod links;
mod macs;
mod programs;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ha_keepalive::{AdvertInterval, Member, PairSecret, Priority};
use toml::Spanned;

use super::Context;
use super::draft::{Draft, duration, missing, number, one_of, quoted, quoted_list, word_for};
use crate::config::document::{Field, Section};
use crate::config::explain::{Explanation, Origin};
use crate::config::fault::{Fault, SecretKind};
use crate::config::pair::PairConfig;
use crate::config::problem::Findings;
use crate::config::raw::RawPair;
use crate::config::secret;
use crate::config::value::{format_duration, parse_duration, unusable_as_endpoint};

const MEMBER: [(&str, Member); 2] = [("a", Member::A), ("b", Member::B)];

/// Ten adverts a second; a silent host is given about three of them.
const ADVERT_INTERVAL: Duration = Duration::from_millis(100);
/// Longer than a link needs to settle after it came back.
const HOLD_DOWN: Duration = Duration::from_secs(3);
/// Many round trips between two neighbours, and nothing a user notices.
const COMMIT_WAIT: Duration = Duration::from_millis(50);
/// Packets on their way to the old node arrive within it.
const GRACE: Duration = Duration::from_secs(5);
const EXPECTED_PREEMPT: &str = "\"off\" or a duration of at most \"1d\", such as \"30s\"";

/// What the connections must agree with.
pub(super) struct PairOutline {
    /// The virtual addresses on the WAN side; `None` when some address is wrong, and it is
    /// not known what it should have been.
    pub(super) wan: Option<Vec<IpAddr>>,
}

/// Resolves `[pair]` of the main file.
pub(super) fn resolve(
    raw: &RawPair,
    context: &mut Context<'_>,
) -> (PairOutline, Option<(PairConfig, Explanation)>) {
    let mut draft = Draft::new(context, RawPair::HEADER);
    let mut outline = PairOutline { wan: None };
    let pair = resolve_parts(raw, &mut outline, &mut draft);
    let (_, explanation) = draft.finish();
    (outline, pair.map(|pair| (pair, explanation)))
}

/// Every part is judged before any missing one ends the resolution.
fn resolve_parts(
    raw: &RawPair,
    outline: &mut PairOutline,
    draft: &mut Draft<'_>,
) -> Option<PairConfig> {
    let expected = "\"a\" on one node and \"b\" on the other";
    draft.require(&raw.member, raw.span(), "member", expected);
    let member = one_of(&raw.member, "member", &MEMBER, draft.findings);
    let member = draft.settle_required("member", member, |member| word_for(&MEMBER, member));
    let secret = secret(raw, draft);
    let election = election(raw, draft);
    let moves = moves(raw, draft);
    let path_check = path_check(raw, draft);
    let connections = connections(raw, draft);
    let paths = links::paths(raw, draft);
    let addresses = links::addresses(raw, draft);
    links::cross_check(&paths.right, &addresses.right, draft.findings);
    macs::cross_check(&addresses.right, draft.findings);
    outline.wan = links::wan(&addresses);
    let health = programs::health(raw, draft);
    let mover = programs::mover(raw, draft);
    let (election, moves) = (election?, moves?);
    Some(PairConfig {
        member: member?,
        priority: election.priority,
        advert_interval: election.advert_interval,
        preempt: election.preempt,
        hold_down: election.hold_down,
        commit_wait: moves.commit_wait,
        grace: moves.grace,
        secret: secret?,
        paths: paths.all()?,
        addresses: addresses.all()?,
        health: health?,
        mover: mover?,
        path_check: path_check?,
        connections: connections?,
    })
}

fn secret(raw: &RawPair, draft: &mut Draft<'_>) -> Option<PairSecret> {
    let expected = "the path of a file with what only the two nodes know, mode 0600";
    draft.require(&raw.secret_file, raw.span(), "secret_file", expected);
    draft.settle_required("secret_file", raw.secret_file.clone(), |path| quoted(path))?;
    let given = raw.secret_file.given()?;
    let path = draft.beside_the_file(given.get_ref());
    let place = given.span();
    let kind = SecretKind::PairSecret;
    let content = secret::load(kind, &path, draft.files, &place, draft.findings)?;
    match PairSecret::new(content) {
        Ok(secret) => Some(secret),
        Err(reason) => {
            let fault = Fault::PairSecretTooShort { path, reason };
            draft.findings.add(&place, fault);
            None
        }
    }
}

/// Who leads, and when.
struct Election {
    priority: Priority,
    advert_interval: AdvertInterval,
    preempt: Option<Duration>,
    hold_down: Duration,
}

fn election(raw: &RawPair, draft: &mut Draft<'_>) -> Option<Election> {
    let field: Field<u8> = number(&raw.priority, "priority", 1..=254, draft.findings);
    let fallback = (Priority::DEFAULT.get(), Origin::Default);
    let priority = draft.settle("priority", field, fallback, u8::to_string);
    let bounds = AdvertInterval::MIN..=AdvertInterval::MAX;
    let field = duration(
        &raw.advert_interval,
        "advert_interval",
        bounds,
        draft.findings,
    );
    let fallback = (ADVERT_INTERVAL, Origin::Default);
    let advert_interval = draft.settle_duration("advert_interval", field, fallback);
    let preempt = preempt(raw, draft.findings);
    let preempt = draft.settle("preempt", preempt, (None, Origin::Default), |delay| {
        quoted(&delay.map_or_else(|| "off".to_owned(), format_duration))
    });
    let bounds = Duration::ZERO..=Duration::from_mins(10);
    let field = duration(&raw.hold_down, "hold_down", bounds, draft.findings);
    let hold_down = draft.settle_duration("hold_down", field, (HOLD_DOWN, Origin::Default));
    Some(Election {
        // The bounds above are those of the types.
        priority: Priority::new(priority?).ok()?,
        advert_interval: AdvertInterval::new(advert_interval?).ok()?,
        preempt: preempt?,
        hold_down: hold_down?,
    })
}

fn preempt(raw: &RawPair, findings: &mut Findings) -> Field<Option<Duration>> {
    raw.preempt.understand(findings, |text| {
        if text.0 == "off" {
            return Ok(None);
        }
        let delay = parse_duration(&text.0).filter(|delay| *delay <= Duration::from_hours(24));
        delay.map(Some).ok_or_else(|| Fault::Malformed {
            key: "preempt".to_owned(),
            found: text.0.clone(),
            expected: EXPECTED_PREEMPT,
            help: None,
        })
    })
}

/// What a change of role may take.
struct Moves {
    commit_wait: Duration,
    grace: Duration,
}

fn moves(raw: &RawPair, draft: &mut Draft<'_>) -> Option<Moves> {
    let bounds = Duration::ZERO..=Duration::from_secs(1);
    let field = duration(&raw.commit_wait, "commit_wait", bounds, draft.findings);
    let commit_wait = draft.settle_duration("commit_wait", field, (COMMIT_WAIT, Origin::Default));
    let bounds = Duration::ZERO..=Duration::from_secs(60);
    let field = duration(&raw.grace, "grace", bounds, draft.findings);
    let grace = draft.settle_duration("grace", field, (GRACE, Origin::Default));
    Some(Moves {
        commit_wait: commit_wait?,
        grace: grace?,
    })
}

fn path_check(raw: &RawPair, draft: &mut Draft<'_>) -> Option<Vec<IpAddr>> {
    let mut wrong = Vec::new();
    let field = raw.path_check.understand(draft.findings, |given| {
        let mut targets: Vec<IpAddr> = Vec::new();
        for item in given {
            match target(item.get_ref(), &targets) {
                Ok(address) => targets.push(address),
                Err(fault) => wrong.push((item.span(), fault)),
            }
        }
        Ok(targets)
    });
    let good = wrong.is_empty();
    for (span, fault) in wrong {
        draft.findings.add(&span, fault);
    }
    let nothing = (Vec::new(), Origin::Default);
    let targets = draft.settle("path_check", field, nothing, |targets| quoted_list(targets));
    targets.filter(|_| good)
}

fn target(text: &str, known: &[IpAddr]) -> Result<IpAddr, Fault> {
    let key = "path_check".to_owned();
    let address = links::address(&key, text)?;
    if known.contains(&address) {
        let found = text.to_owned();
        return Err(Fault::RepeatedValue { key, found });
    }
    Ok(address)
}

fn connections(raw: &RawPair, draft: &mut Draft<'_>) -> Option<Option<PathBuf>> {
    let fallback = (None, Origin::Default);
    let show = |path: &Option<String>| path.as_ref().map_or("none".to_owned(), |path| quoted(path));
    let path = draft.settle(
        "connections",
        raw.connections.clone().some(),
        fallback,
        show,
    )?;
    Some(path.map(|path| draft.beside_the_file(&path)))
}

/// The tunnels end at an address that moves, or they would stay behind.
pub(super) fn refuse_fixed_local(
    outline: &PairOutline,
    locals: impl Iterator<Item = Spanned<IpAddr>>,
    findings: &mut Findings,
) {
    let Some(wan) = &outline.wan else { return };
    for local in locals {
        let place = local.span();
        let local = local.into_inner();
        if !wan.contains(&local) {
            let wan = wan.clone();
            findings.add(&place, Fault::LocalNotVirtual { local, wan });
        }
    }
}
