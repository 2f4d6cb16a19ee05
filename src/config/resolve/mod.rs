//! From the raw file to the configuration that the program uses, in one step. Nothing is
//! returned unless everything is right (invariant I9); everything that is wrong is noted.

mod connection;
mod consent;
mod cross;
mod draft;
mod ends;
mod gateway;
mod outline;
mod pair;
mod phases;
mod ping;
mod proposal;

pub(super) use proposal::weakness;
mod selectors;
mod traffic;

use toml::Spanned;

use super::document::{Field, Table, Tables};
use super::explain::{Explanation, revision};
use super::fault::Fault;
use super::files::Files;
use super::problem::Findings;
use super::raw::{RawConnection, RawFile};
use super::resolved::{ResolvedConfig, ResolvedConnection};
use super::shared::SharedConfig;
use super::source::{InFile, Source, Sources};

/// What the resolution of every part needs.
struct Context<'a> {
    source: &'a Source,
    files: &'a dyn Files,
    findings: &'a mut Findings,
    /// The connections are those of both nodes.
    shared: bool,
}

/// What has been read, and whence.
pub(super) struct Read<'a> {
    pub(super) sources: &'a Sources,
    pub(super) main: &'a RawFile,
    /// The connections of their own file, when `[pair]` names one.
    pub(super) shared: Option<&'a Field<Tables<RawConnection>>>,
}

/// Resolves what has been read. `None` when there is an error in `findings`. The warnings of
/// the result are still to be filled in.
pub(super) fn resolve(
    read: &Read<'_>,
    files: &dyn Files,
    findings: &mut Findings,
) -> Option<ResolvedConfig> {
    let mut context = Context {
        source: &read.sources.main,
        files,
        findings,
        shared: read.shared.is_some(),
    };
    let gateway = gateway::resolve(&section(&read.main.gateway), &mut context);
    let pair = match &read.main.pair {
        Field::Given(table) => Some(pair::resolve(&table.get_ref().0, &mut context)),
        Field::Missing | Field::Invalid => None,
    };
    let (file, connections) = match read.shared {
        Some(connections) => (InFile::Connections, connections),
        None => (InFile::Main, &read.main.connection),
    };
    context.source = read.sources.get(file);
    context.findings.enter(file);
    let raw_connections = match connections {
        Field::Given(tables) => tables.get_ref().0.as_slice(),
        Field::Missing | Field::Invalid => &[],
    };
    if raw_connections.is_empty() && !matches!(connections, Field::Invalid) {
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
    if let Some((outline, _)) = &pair {
        let locals = outlines.iter().filter_map(|outline| outline.local.clone());
        pair::refuse_fixed_local(outline, locals, context.findings);
    }
    if context.findings.has_errors() {
        return None;
    }
    let connections: Option<Vec<_>> = connections.into_iter().collect();
    let (connections, explanations): (Vec<_>, Vec<_>) = connections?.into_iter().unzip();
    // No error was found: a pair that is there has been resolved.
    let (pair, pair_explanation) = pair.and_then(|(_, pair)| pair).unzip();
    let shared = read
        .shared
        .map(|_| share(context.source.text(), raw_connections, &connections));
    Some(ResolvedConfig {
        gateway: gateway?,
        connections,
        pair,
        shared,
        revision: revision(&explanations),
        warnings: Vec::new(),
        explanations,
        pair_explanation,
    })
}

/// What the partner needs to make the same connections.
fn share(text: &str, raw: &[RawConnection], connections: &[ResolvedConnection]) -> SharedConfig {
    let mut shared = SharedConfig {
        text: text.to_owned(),
        psk_files: Vec::new(),
    };
    for (raw, connection) in raw.iter().zip(connections) {
        let Some(name) = raw.psk_file.given().map(Spanned::get_ref) else {
            continue;
        };
        if !shared.psk_files.iter().any(|(known, _)| known == name) {
            let key = connection.ike.psk.clone();
            shared.psk_files.push((name.clone(), key));
        }
    }
    shared
}

/// A section's fields; all missing when the section is.
fn section<S: Clone + Default>(field: &Field<Table<S>>) -> S {
    field
        .given()
        .map(|table| table.get_ref().0.clone())
        .unwrap_or_default()
}
