//! `[[connection.selector]]`: the traffic of a policy-based connection.

use ipsec_types::{SelectorPair, TrafficSelector};
use toml::Spanned;

use super::draft::{Draft, number};
use super::traffic::prefix;
use crate::config::document::{Field, Section as _, WordOrNumber};
use crate::config::fault::Fault;
use crate::config::problem::Findings;
use crate::config::profile::Profile;
use crate::config::raw::{RawConnection, RawSelector};
use crate::config::value::{PROTOCOLS, has_ports};

/// The selectors of a policy-based connection, empty for a route-based one; `None` when one
/// of them is wrong.
pub(super) fn resolve(
    raw: &RawConnection,
    draft: &mut Draft<'_>,
) -> Option<Vec<Spanned<SelectorPair>>> {
    let (profile, findings) = (draft.profile, &mut *draft.findings);
    let given: &[RawSelector] = match &raw.selector {
        Field::Missing => &[],
        Field::Invalid => return None,
        Field::Given(given) => &given.get_ref().0,
    };
    let place = raw.profile.span_or(raw.span());
    match (profile, given.first()) {
        (Profile::AzurePolicyBased, None) => {
            let profile = profile.name();
            findings.add(&place, Fault::PolicyWithoutSelectors { profile });
            return None;
        }
        (Profile::AzureRouteBased, Some(first)) => {
            let profile = profile.name();
            findings.add(first.span(), Fault::RouteBasedWithSelectors { profile });
        }
        _ => {}
    }
    let mut list: Vec<Spanned<SelectorPair>> = Vec::new();
    let mut good = true;
    for raw in given {
        match selector(raw, findings) {
            Some(pair) if list.iter().any(|known| *known.get_ref() == pair) => {
                let fault = Fault::RepeatedValue {
                    key: "selector".to_owned(),
                    found: pair.to_string(),
                };
                findings.add(raw.span(), fault);
                good = false;
            }
            Some(pair) => list.push(Spanned::new(raw.span().clone(), pair)),
            None => good = false,
        }
    }
    good.then_some(list)
}

fn selector(raw: &RawSelector, findings: &mut Findings) -> Option<SelectorPair> {
    for (field, key) in [(&raw.local, "local"), (&raw.remote, "remote")] {
        if field.is_missing() {
            let fault = Fault::MissingKey {
                section: "[[connection.selector]]",
                key,
                expected: "a prefix such as \"10.1.0.0/16\"",
            };
            findings.add(raw.span(), fault);
        }
    }
    let local = raw
        .local
        .understand(findings, |text| prefix(text, "local", true));
    let remote = raw
        .remote
        .understand(findings, |text| prefix(text, "remote", true));
    let protocol = protocol(raw, findings);
    let local_port = number(&raw.local_port, "local_port", 1..=65_535, findings);
    let port = number(&raw.port, "port", 1..=65_535, findings);
    let mut good = true;
    if let Some(protocol) = protocol
        && !has_ports(protocol)
    {
        for given in [local_port.given(), port.given()].into_iter().flatten() {
            let given: &Spanned<u16> = given;
            let port = i64::from(*given.get_ref());
            findings.add(&given.span(), Fault::PortWithoutProtocol { port });
            good = false;
        }
    }
    let number = |field: &Field<u16>| match field {
        Field::Missing => Some(0),
        Field::Invalid => None,
        Field::Given(given) => Some(*given.get_ref()),
    };
    let (local_port, port) = (number(&local_port), number(&port));
    let (local, remote) = (local.given()?, remote.given()?);
    let (mine, theirs) = (*local.get_ref(), *remote.get_ref());
    if mine.network().is_ipv4() != theirs.network().is_ipv4() {
        let fault = Fault::MixedFamilies {
            what: "the selector",
            local: mine.to_string(),
            remote: theirs.to_string(),
        };
        findings.add(&remote.span(), fault);
        return None;
    }
    let (protocol, local_port, port) = (protocol?, local_port?, port?);
    good.then(|| SelectorPair {
        local: TrafficSelector::new(mine, protocol, local_port),
        remote: TrafficSelector::new(theirs, protocol, port),
    })
}

/// The protocol number of a selector, 0 for any; `None` when it is wrong.
fn protocol(raw: &RawSelector, findings: &mut Findings) -> Option<u8> {
    let field = raw.protocol.understand(findings, |found| match found {
        WordOrNumber::Word(word) => PROTOCOLS
            .into_iter()
            .find(|(name, _)| name == word)
            .map(|(_, number)| number)
            .ok_or_else(|| Fault::NotOneOf {
                key: "protocol".to_owned(),
                found: word.clone(),
                allowed: PROTOCOLS.iter().map(|(name, _)| *name).collect(),
            }),
        WordOrNumber::Number(number) => u8::try_from(*number).map_err(|_| Fault::OutOfRange {
            key: "protocol".to_owned(),
            found: number.to_string(),
            expected: "0 to 255".to_owned(),
        }),
    });
    match field {
        Field::Missing => Some(0),
        Field::Invalid => None,
        Field::Given(given) => Some(given.into_inner()),
    }
}
