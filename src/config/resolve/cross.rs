//! What must hold between connections.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

use ipsec_types::SelectorPair;
use toml::Spanned;

use super::outline::Outline;
use crate::config::fault::Fault;
use crate::config::problem::Findings;

/// Notes every clash between two connections, at the later one.
pub(super) fn check(outlines: &[Outline], findings: &mut Findings) {
    unique(
        outlines,
        |outline| outline.name.as_ref(),
        findings,
        |name, _| Fault::DuplicateConnection { name: name.clone() },
    );
    unique(
        outlines,
        |outline| outline.device.as_ref(),
        findings,
        |device, _| Fault::DuplicateDevice {
            device: device.clone(),
        },
    );
    unique(
        outlines,
        |outline| outline.peer.as_ref(),
        findings,
        |(local, remote), other| Fault::DuplicatePeer {
            local: local.to_string(),
            remote: remote.to_string(),
            other,
        },
    );
    unique(
        outlines,
        |outline| outline.wanderer.as_ref(),
        findings,
        |(local, identity), other| Fault::DuplicatePeer {
            local: local.to_string(),
            remote: format!("any peer that is {identity}"),
            other,
        },
    );
    for (index, later) in outlines.iter().enumerate() {
        for earlier in outlines.iter().take(index) {
            if !overlapping_selectors(earlier, later, findings) {
                same_routes(earlier, later, findings);
            }
        }
    }
}

fn name_of(outline: &Outline) -> String {
    let name = outline.name.as_ref().map(|name| name.get_ref().clone());
    name.unwrap_or_else(|| "(unnamed)".to_owned())
}

/// A part that no two connections may share.
fn unique<T: Eq + Hash>(
    outlines: &[Outline],
    part: impl Fn(&Outline) -> Option<&Spanned<T>>,
    findings: &mut Findings,
    fault: impl Fn(&T, String) -> Fault,
) {
    let mut seen: HashMap<&T, (Range<usize>, &Outline)> = HashMap::new();
    for outline in outlines {
        let Some(value) = part(outline) else { continue };
        match seen.get(value.get_ref()) {
            Some((first, owner)) => findings.add_related(
                &value.span(),
                fault(value.get_ref(), name_of(owner)),
                (first.clone(), "the first one is"),
            ),
            None => {
                seen.insert(value.get_ref(), (value.span(), outline));
            }
        }
    }
}

/// Traffic that both connections claim; true when there is some.
fn overlapping_selectors(earlier: &Outline, later: &Outline, findings: &mut Findings) -> bool {
    let overlap = |a: &SelectorPair, b: &SelectorPair| {
        a.local.overlaps(&b.local) && a.remote.overlaps(&b.remote)
    };
    let mut found = false;
    for mine in &later.selectors {
        let clash = earlier
            .selectors
            .iter()
            .find(|theirs| overlap(theirs.get_ref(), mine.get_ref()));
        let Some(theirs) = clash else { continue };
        found = true;
        findings.add_related(
            &mine.span(),
            Fault::OverlappingSelectors {
                mine: mine.get_ref().to_string(),
                theirs: theirs.get_ref().to_string(),
                other: name_of(earlier),
            },
            (theirs.span(), "the other selector is"),
        );
    }
    found
}

/// The kernel keeps one route per prefix and metric.
fn same_routes(earlier: &Outline, later: &Outline, findings: &mut Findings) {
    let (Some(metric), true) = (later.metric, later.metric == earlier.metric) else {
        return;
    };
    for mine in &later.routes {
        let clash = earlier
            .routes
            .iter()
            .find(|theirs| theirs.get_ref() == mine.get_ref());
        let Some(theirs) = clash else { continue };
        findings.add_related(
            &mine.span(),
            Fault::DuplicateRoute {
                route: *mine.get_ref(),
                metric,
                other: name_of(earlier),
            },
            (theirs.span(), "the other route is"),
        );
    }
}
