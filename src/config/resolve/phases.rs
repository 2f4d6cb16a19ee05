//! Both phases of a connection, and what keeps their SAs alive.

use std::ops::RangeInclusive;
use std::time::Duration;

use ikev1::config::{
    DpdAction, DpdPolicy, Phase1Policy, Phase2Policy, RekeyPolicy, RetransmitPolicy,
};
use toml::Spanned;

use super::consent::Consent;
use super::draft::{Draft, duration, number, one_of, word_for};
use super::section;
use crate::config::document::{DurationText, Field, Section as _};
use crate::config::explain::Origin;
use crate::config::fault::Fault;
use crate::config::profile::Values;
use crate::config::raw::{RawConnection, RawDpd, RawPhase1, RawPhase2, RawRetransmit};
use crate::config::value::format_duration;

/// Shorter and the gateways do nothing but negotiate; longer and a key sees too much.
const LIFETIME: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_hours(30 * 24);

/// One mebibyte to what four bytes of the attribute can say (RFC 2407 §4.5).
const KILOBYTES: RangeInclusive<i64> = 1024..=u32::MAX as i64;

/// Packets that were on their way when the outbound SA was switched.
const GRACE: Duration = Duration::from_secs(30);

const DPD_ACTION: [(&str, Option<DpdAction>); 4] = [
    ("restart", Some(DpdAction::Restart)),
    ("hold", Some(DpdAction::Hold)),
    ("clear", Some(DpdAction::Clear)),
    ("off", None),
];

/// What this file settles.
pub(super) struct Phases {
    pub(super) phase1: Phase1Policy,
    pub(super) phase2: Phase2Policy,
    pub(super) replay_window: u32,
    pub(super) dpd: Option<DpdPolicy>,
    pub(super) retransmit: RetransmitPolicy,
}

pub(super) fn resolve(raw: &RawConnection, draft: &mut Draft<'_>) -> Option<Phases> {
    let raw1: RawPhase1 = section(&raw.phase1);
    let raw2: RawPhase2 = section(&raw.phase2);
    let consent = Consent::new(raw, draft);
    let proposals1 = consent.phase1(&raw1, raw, draft);
    let life1 = lifetime(&raw1.lifetime, &PHASE1, draft);
    let early1 = (&raw1.rekey_margin, &raw1.rekey_jitter);
    let rekey1 = rekey(early1, &PHASE1, life1, draft);
    let proposals2 = consent.phase2(&raw2, draft);
    let life2 = lifetime(&raw2.lifetime, &PHASE2, draft);
    let kilobytes = kilobytes(&raw2, draft);
    let early2 = (&raw2.rekey_margin, &raw2.rekey_jitter);
    let rekey2 = rekey(early2, &PHASE2, life2, draft);
    let bounds = Duration::ZERO..=Duration::from_mins(10);
    let grace = duration(&raw2.grace, "phase2.grace", bounds, draft.findings);
    let grace = draft.settle_duration("phase2.grace", grace, (GRACE, Origin::Default));
    let replay_window = replay_window(&raw2, draft);
    let dpd = dpd(&section(&raw.dpd), draft);
    let retransmit = retransmit(&section(&raw.retransmit), draft);
    consent.warn_if_unused(
        raw,
        proposals1.as_deref(),
        proposals2.as_deref(),
        draft.findings,
    );

    if let (Some(one), Some(two)) = (life1, life2)
        && one < two
    {
        let fault = Fault::Phase1Shorter {
            phase1: format_duration(one),
            phase2: format_duration(two),
        };
        let place = raw1.lifetime.span_or(&raw2.lifetime.span_or(raw.span()));
        draft.findings.add(&place, fault);
    }
    Some(Phases {
        phase1: Phase1Policy {
            proposals: proposals1?,
            lifetime: life1?,
            rekey: rekey1?,
        },
        phase2: Phase2Policy {
            proposals: proposals2?,
            lifetime: life2?,
            lifetime_kilobytes: kilobytes?,
            rekey: rekey2?,
            grace: grace?,
        },
        replay_window: replay_window?,
        dpd: dpd?,
        retransmit: retransmit?,
    })
}

/// What differs between the two phases in the words for their settings.
struct Words {
    name: &'static str,
    lifetime: &'static str,
    margin: &'static str,
    jitter: &'static str,
    profile_lifetime: fn(&Values) -> Duration,
}

const PHASE1: Words = Words {
    name: "phase 1",
    lifetime: "phase1.lifetime",
    margin: "phase1.rekey_margin",
    jitter: "phase1.rekey_jitter",
    profile_lifetime: |values| values.phase1_lifetime,
};
const PHASE2: Words = Words {
    name: "phase 2",
    lifetime: "phase2.lifetime",
    margin: "phase2.rekey_margin",
    jitter: "phase2.rekey_jitter",
    profile_lifetime: |values| values.phase2_lifetime,
};

fn lifetime(raw: &Field<DurationText>, words: &Words, draft: &mut Draft<'_>) -> Option<Duration> {
    let field = duration(raw, words.lifetime, LIFETIME, draft.findings);
    // IKEv1 counts whole seconds.
    let field = field.understand(draft.findings, |lifetime| {
        if lifetime.subsec_micros() == 0 {
            return Ok(*lifetime);
        }
        Err(Fault::OutOfRange {
            key: words.lifetime.to_owned(),
            found: format!("\"{}\"", format_duration(*lifetime)),
            expected: "whole seconds".to_owned(),
        })
    });
    draft.settle_duration(
        words.lifetime,
        field,
        draft.profile_value(words.profile_lifetime),
    )
}

/// When the successor is negotiated.
fn rekey(
    (margin, jitter): (&Field<DurationText>, &Field<DurationText>),
    words: &Words,
    lifetime: Option<Duration>,
    draft: &mut Draft<'_>,
) -> Option<RekeyPolicy> {
    let bounds = Duration::ZERO..=*LIFETIME.end();
    let margin_field = duration(margin, words.margin, bounds.clone(), draft.findings);
    let jitter_field = duration(jitter, words.jitter, bounds, draft.findings);
    let lifetime = lifetime?;
    let usual = RekeyPolicy::for_lifetime(lifetime);
    let from = Origin::From("the lifetime");
    let place = jitter_field
        .given()
        .or(margin_field.given())
        .map(Spanned::span);
    let margin = draft.settle_duration(words.margin, margin_field, (usual.margin, from));
    let jitter = draft.settle_duration(words.jitter, jitter_field, (usual.jitter, from));
    let policy = RekeyPolicy {
        margin: margin?,
        jitter: jitter?,
    };
    let early = policy.margin + policy.jitter;
    if early >= lifetime
        && let Some(place) = place
    {
        let fault = Fault::RekeyTooEarly {
            phase: words.name,
            early: format_duration(early),
            lifetime: format_duration(lifetime),
        };
        draft.findings.add(&place, fault);
        return None;
    }
    Some(policy)
}

fn kilobytes(raw: &RawPhase2, draft: &mut Draft<'_>) -> Option<Option<u64>> {
    let field = raw.lifetime_kilobytes.understand(draft.findings, |&found| {
        if found == 0 {
            return Ok(None);
        }
        let fits = KILOBYTES
            .contains(&found)
            .then(|| u64::try_from(found).ok());
        fits.flatten().map(Some).ok_or_else(|| Fault::OutOfRange {
            key: "lifetime_kilobytes".to_owned(),
            found: found.to_string(),
            expected: format!(
                "{} to {}, or 0 for no limit",
                KILOBYTES.start(),
                KILOBYTES.end()
            ),
        })
    });
    let fallback = draft.profile_value(|values| values.phase2_kilobytes);
    draft.settle("phase2.lifetime_kilobytes", field, fallback, |kilobytes| {
        kilobytes.unwrap_or(0).to_string()
    })
}

fn replay_window(raw: &RawPhase2, draft: &mut Draft<'_>) -> Option<u32> {
    let field = raw.replay_window.understand(draft.findings, |&found| {
        let window = u32::try_from(found)
            .ok()
            .filter(|window| (64..=4096).contains(window));
        match window {
            Some(window) if window.is_power_of_two() => Ok(window),
            Some(window) => Err(Fault::NotPowerOfTwo {
                key: "replay_window".to_owned(),
                found: u64::from(window),
            }),
            None => Err(Fault::OutOfRange {
                key: "replay_window".to_owned(),
                found: found.to_string(),
                expected: "64 to 4096 packets, a power of two".to_owned(),
            }),
        }
    });
    draft.settle(
        "phase2.replay_window",
        field,
        (1024, Origin::Default),
        u32::to_string,
    )
}

fn dpd(raw: &RawDpd, draft: &mut Draft<'_>) -> Option<Option<DpdPolicy>> {
    let usual = draft.profile.values().dpd.unwrap_or_default();
    let action = one_of(&raw.action, "dpd.action", &DPD_ACTION, draft.findings);
    let bounds = Duration::from_secs(1)..=Duration::from_hours(1);
    let delay = duration(&raw.delay, "dpd.delay", bounds.clone(), draft.findings);
    let retry = duration(&raw.retry, "dpd.retry", bounds, draft.findings);
    let failures = number(
        &raw.max_failures,
        "dpd.max_failures",
        1..=100,
        draft.findings,
    );

    let fallback = draft.profile_value(|values| values.dpd.map(|dpd| dpd.action));
    let action = draft.settle("dpd.action", action, fallback, |action| {
        word_for(&DPD_ACTION, action)
    });
    if action == Some(None) {
        return Some(None);
    }
    let delay = draft.settle_duration("dpd.delay", delay, (usual.delay, Origin::Default));
    let retry = draft.settle_duration("dpd.retry", retry, (usual.retry, Origin::Default));
    let fallback = (usual.max_failures, Origin::Default);
    let max_failures = draft.settle("dpd.max_failures", failures, fallback, u32::to_string);
    Some(Some(DpdPolicy {
        delay: delay?,
        retry: retry?,
        max_failures: max_failures?,
        action: action??,
    }))
}

fn retransmit(raw: &RawRetransmit, draft: &mut Draft<'_>) -> Option<RetransmitPolicy> {
    let usual = RetransmitPolicy::default();
    let bounds = Duration::from_millis(100)..=Duration::from_mins(1);
    let first = duration(
        &raw.first,
        "retransmit.first",
        bounds.clone(),
        draft.findings,
    );
    let growth = number(
        &raw.growth_percent,
        "retransmit.growth_percent",
        100..=400,
        draft.findings,
    );
    let ceiling = duration(&raw.ceiling, "retransmit.ceiling", bounds, draft.findings);
    let tries = number(&raw.tries, "retransmit.tries", 0..=50, draft.findings);
    let default = Origin::Default;
    let first = draft.settle_duration("retransmit.first", first, (usual.initial, default));
    let growth = draft.settle(
        "retransmit.growth_percent",
        growth,
        (usual.factor_percent, default),
        u32::to_string,
    );
    let ceiling = draft.settle_duration("retransmit.ceiling", ceiling, (usual.ceiling, default));
    let tries = draft.settle(
        "retransmit.tries",
        tries,
        (usual.tries, default),
        u32::to_string,
    );
    Some(RetransmitPolicy {
        initial: first?,
        factor_percent: growth?,
        ceiling: ceiling?,
        tries: tries?,
    })
}
