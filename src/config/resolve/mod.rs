//! From the raw file to the configuration that the program uses, in one step. Nothing is
//! returned unless everything is right (invariant I9); everything that is wrong is noted.

mod connection;
mod consent;
mod cross;
mod draft;
mod ends;
mod gateway;
mod outline;
mod phases;
mod ping;
mod proposal;
mod selectors;
mod traffic;

use super::document::{Field, Table};
use super::explain::{Explanation, revision};
use super::fault::Fault;
use super::files::Files;
use super::problem::Findings;
use super::raw::RawFile;
use super::resolved::{ResolvedConfig, ResolvedConnection};
use super::source::Source;

/// What the resolution of every part needs.
struct Context<'a> {
    source: &'a Source,
    files: &'a dyn Files,
    findings: &'a mut Findings,
}

/// Resolves `raw`. `None` when there is an error in `findings`. The warnings of the result
/// are still to be filled in.
pub(super) fn resolve(
    raw: &RawFile,
    source: &Source,
    files: &dyn Files,
    findings: &mut Findings,
) -> Option<ResolvedConfig> {
    let mut context = Context {
        source,
        files,
        findings,
    };
    let gateway = gateway::resolve(&section(&raw.gateway), &mut context);
    let raw_connections = match &raw.connection {
        Field::Given(tables) => tables.get_ref().0.as_slice(),
        Field::Missing | Field::Invalid => &[],
    };
    if raw_connections.is_empty() && !matches!(raw.connection, Field::Invalid) {
        context.findings.add_without_place(Fault::NoConnection);
    }
    let mut outlines = Vec::new();
    let mut connections: Vec<Option<(ResolvedConnection, Explanation)>> = Vec::new();
    for (index, raw) in (0_u32..).zip(raw_connections) {
        let (outline, resolved) = connection::resolve(index, raw, &mut context);
        outlines.push(outline);
        connections.push(resolved);
    }
    cross::check(&outlines, context.findings);
    if findings.has_errors() {
        return None;
    }
    let connections: Option<Vec<_>> = connections.into_iter().collect();
    let (connections, explanations): (Vec<_>, Vec<_>) = connections?.into_iter().unzip();
    Some(ResolvedConfig {
        gateway: gateway?,
        connections,
        pair: None,
        revision: revision(&explanations),
        warnings: Vec::new(),
        explanations,
    })
}

/// A section's fields; all missing when the section is.
fn section<S: Clone + Default>(field: &Field<Table<S>>) -> S {
    field
        .given()
        .map(|table| table.get_ref().0.clone())
        .unwrap_or_default()
}
