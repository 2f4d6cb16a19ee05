//! `[pair.health]` and `[pair.mover]`: programs of the user's.

use std::path::PathBuf;
use std::time::Duration;

use super::{
    Draft, Fault, Field, Findings, Origin, RawPair, Section, duration, missing, number, quoted,
};
use crate::config::pair::{HealthCheck, MoverConfig};
use crate::config::raw::{RawHealth, RawMover};
use crate::config::value::format_duration;

const HEALTH_INTERVAL: Duration = Duration::from_secs(2);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
const HEALTH_FAILURES: u32 = 2;
/// A cloud's API answers within seconds.
const MOVER_TIMEOUT: Duration = Duration::from_secs(10);

/// `None` when the section is wrong, `Some(None)` when there is none.
pub(super) fn health(raw: &RawPair, draft: &mut Draft<'_>) -> Option<Option<HealthCheck>> {
    let Some(table) = raw.health.given() else {
        return raw.health.is_missing().then_some(None);
    };
    let raw = &table.get_ref().0;
    let exec = program(
        &raw.exec,
        "health.exec",
        (RawHealth::HEADER, raw.span()),
        draft,
    );
    let bounds = Duration::from_millis(100)..=Duration::from_hours(1);
    let field = duration(&raw.interval, "interval", bounds, draft.findings);
    let fallback = (HEALTH_INTERVAL, Origin::Default);
    let interval = draft.settle_duration("health.interval", field, fallback);
    let bounds = Duration::from_millis(10)..=Duration::from_hours(1);
    let field = duration(&raw.timeout, "timeout", bounds, draft.findings);
    let place = field.span_or(raw.span());
    let fallback = match interval {
        Some(interval) if interval < HEALTH_TIMEOUT => (interval, Origin::From("interval")),
        _ => (HEALTH_TIMEOUT, Origin::Default),
    };
    let timeout = draft.settle_duration("health.timeout", field, fallback);
    if let (Some(interval), Some(timeout)) = (interval, timeout)
        && timeout > interval
    {
        let fault = Fault::HealthTimeoutTooLong {
            timeout: format_duration(timeout),
            interval: format_duration(interval),
        };
        draft.findings.add(&place, fault);
    }
    let field = number(&raw.failures, "failures", 1..=100, draft.findings);
    let fallback = (HEALTH_FAILURES, Origin::Default);
    let failures = draft.settle("health.failures", field, fallback, u32::to_string);
    Some(Some(HealthCheck {
        exec: exec?,
        interval: interval?,
        timeout: timeout?,
        failures: failures?,
    }))
}

/// `None` when the section is wrong, `Some(None)` when there is none.
pub(super) fn mover(raw: &RawPair, draft: &mut Draft<'_>) -> Option<Option<MoverConfig>> {
    let Some(table) = raw.mover.given() else {
        return raw.mover.is_missing().then_some(None);
    };
    let raw = &table.get_ref().0;
    let exec = program(
        &raw.exec,
        "mover.exec",
        (RawMover::HEADER, raw.span()),
        draft,
    );
    let bounds = Duration::from_millis(100)..=Duration::from_mins(10);
    let field = duration(&raw.timeout, "timeout", bounds, draft.findings);
    let fallback = (MOVER_TIMEOUT, Origin::Default);
    let timeout = draft.settle_duration("mover.timeout", field, fallback);
    Some(Some(MoverConfig {
        exec: exec?,
        timeout: timeout?,
    }))
}

fn program(
    field: &Field<String>,
    key: &'static str,
    section: (&'static str, &std::ops::Range<usize>),
    draft: &mut Draft<'_>,
) -> Option<PathBuf> {
    let findings: &mut Findings = draft.findings;
    missing(field, section, "exec", EXPECTED_PROGRAM, findings);
    let exec = field.understand(findings, |path| {
        if path.starts_with('/') {
            return Ok(path.clone());
        }
        Err(Fault::Malformed {
            key: "exec".to_owned(),
            found: path.clone(),
            expected: EXPECTED_PROGRAM,
            help: path
                .contains(' ')
                .then(|| "there is no shell and there are no arguments".to_owned()),
        })
    });
    let exec = draft.settle_required(key, exec, |path| quoted(path))?;
    Some(PathBuf::from(exec))
}

const EXPECTED_PROGRAM: &str = "the absolute path of a program, without arguments";
