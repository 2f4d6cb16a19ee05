//! What goes into a tunnel: its interface, its routes and its selectors.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use ipsec_types::{SelectorPair, TrafficSelector};
use toml::Spanned;

use super::connection::Outline;
use super::draft::{Draft, number, quoted, quoted_list};
use super::phases::from_profile;
use crate::config::document::{Field, Section as _, WordOrNumber};
use crate::config::explain::Origin;
use crate::config::fault::Fault;
use crate::config::problem::Findings;
use crate::config::profile::Profile;
use crate::config::raw::{RawConnection, RawSelector, RawVti};
use crate::config::resolved::{ConnectionKind, Mss, VtiConfig};
use crate::config::suggest::nearest;
use crate::config::value::{PROTOCOLS, has_ports, parse_prefix, refuse_device};

/// 576 is what every IPv4 host takes (RFC 791); 9216 is the largest common jumbo frame.
const MTU: std::ops::RangeInclusive<i64> = 576..=9216;
/// What every IPv6 link carries (RFC 8200 §5).
const MIN_MTU_IPV6: u16 = 1280;
/// The default of RFC 9293 §3.7.1.
const MIN_MSS: i64 = 536;
/// IPv4 and TCP headers without options.
const MSS_OVERHEAD: u16 = 40;

/// What this file settles.
pub(super) struct Traffic {
    pub(super) kind: ConnectionKind,
    pub(super) selectors: Vec<SelectorPair>,
    pub(super) vti: VtiConfig,
}

pub(super) fn resolve(
    raw: &RawConnection,
    vti: &RawVti,
    profile: Profile,
    name: Option<&str>,
    draft: &mut Draft<'_>,
    findings: &mut Findings,
    outline: &mut Outline,
) -> Option<Traffic> {
    let device = device(vti, name, draft, findings, outline, raw);
    let mtu = number(&vti.mtu, "mtu", MTU, findings);
    let mtu_span = mtu.span_or(raw.span());
    let mtu = draft.settle(
        "vti.mtu",
        mtu,
        from_profile(profile, |values| values.mtu),
        u16::to_string,
    );
    let mss = mss(vti, mtu, profile, draft, findings);
    let metric = number(&vti.metric, "metric", 1..=i64::from(u32::MAX), findings);
    let metric = draft.settle("vti.metric", metric, (100, Origin::Default), u32::to_string);
    outline.metric = metric;
    let addresses = prefixes(&vti.addresses, "addresses", false, findings);
    let addresses = settle_prefixes(
        "vti.addresses",
        addresses,
        (Vec::new(), Origin::Default),
        draft,
    );
    let routes = prefixes(&vti.routes, "routes", true, findings);

    let selectors = selectors(raw, profile, findings);
    if let Some(selectors) = &selectors {
        outline.selectors.clone_from(selectors);
        if let Some(routes) = routes.given() {
            refuse_stray_routes(routes.get_ref(), selectors, findings);
        }
    }
    if let Some(routes) = routes.given() {
        outline.routes.clone_from(routes.get_ref());
    }
    let policy_based = selectors
        .as_ref()
        .is_none_or(|selectors| !selectors.is_empty());
    let remote_prefixes = distinct_remote_prefixes(selectors.as_deref().unwrap_or_default());
    if routes.is_missing() {
        outline.routes.clone_from(&remote_prefixes);
    }
    let fallback = if policy_based {
        (remote_prefixes, Origin::From("the remote prefixes"))
    } else {
        (Vec::new(), Origin::Default)
    };
    let routes = settle_prefixes("vti.routes", routes, fallback, draft);
    let (device, mtu, addresses, routes) = (device?, mtu?, addresses?, routes?);
    refuse_small_mtu(mtu, &mtu_span, addresses.iter().chain(&routes), findings);

    let selectors = plain(selectors?);
    let (kind, pairs, origin) = if selectors.is_empty() {
        let pairs = everything(addresses.iter().chain(&routes));
        (ConnectionKind::RouteBased, pairs, Origin::Default)
    } else {
        (
            ConnectionKind::PolicyBased,
            selectors,
            Origin::From("[[connection.selector]]"),
        )
    };
    let pairs = draft.settle("selectors", Field::Missing, (pairs, origin), |pairs| {
        quoted_list(pairs)
    })?;
    Some(Traffic {
        kind,
        selectors: pairs,
        vti: VtiConfig {
            device,
            mtu,
            mss: mss?,
            metric: metric?,
            addresses,
            routes,
        },
    })
}

fn plain<T>(values: Vec<Spanned<T>>) -> Vec<T> {
    values.into_iter().map(Spanned::into_inner).collect()
}

fn settle_prefixes(
    key: &'static str,
    field: Field<Vec<Spanned<IpNet>>>,
    fallback: (Vec<Spanned<IpNet>>, Origin),
    draft: &mut Draft<'_>,
) -> Option<Vec<IpNet>> {
    let show = |list: &Vec<Spanned<IpNet>>| {
        let list: Vec<IpNet> = list.iter().map(|item| *item.get_ref()).collect();
        quoted_list(&list)
    };
    draft.settle(key, field, fallback, show).map(plain)
}

/// The interface's name; `vti-NAME` unless configured.
fn device(
    vti: &RawVti,
    name: Option<&str>,
    draft: &mut Draft<'_>,
    findings: &mut Findings,
    outline: &mut Outline,
    raw: &RawConnection,
) -> Option<String> {
    let judge = |device: &String| match refuse_device(device) {
        None => Ok(device.clone()),
        Some(reason) => Err(Fault::BadDevice {
            found: device.clone(),
            reason,
        }),
    };
    let field = vti.device.understand(findings, judge);
    let fallback = match (&field, name) {
        (Field::Missing, Some(name)) => {
            let device = format!("vti-{name}");
            match judge(&device) {
                Ok(device) => {
                    outline.device =
                        Some(Spanned::new(raw.name.span_or(raw.span()), device.clone()));
                    device
                }
                Err(_) => {
                    let fault = Fault::MissingKey {
                        section: "[connection.vti]",
                        key: "device",
                        expected: "a name of at most 15 bytes; \"vti-\" and the connection's name is too long",
                    };
                    findings.add(&vti_place(raw, vti), fault);
                    return None;
                }
            }
        }
        (Field::Missing, None) => return None,
        _ => String::new(),
    };
    if let Some(given) = field.given() {
        outline.device = Some(given.clone());
    }
    draft.settle(
        "vti.device",
        field,
        (fallback, Origin::From("name")),
        |device| quoted(device),
    )
}

/// The place of `[connection.vti]`, or of the connection when there is none.
fn vti_place(raw: &RawConnection, vti: &RawVti) -> std::ops::Range<usize> {
    if raw.vti.is_missing() {
        raw.span().clone()
    } else {
        vti.span().clone()
    }
}

fn mss(
    vti: &RawVti,
    mtu: Option<u16>,
    profile: Profile,
    draft: &mut Draft<'_>,
    findings: &mut Findings,
) -> Option<Mss> {
    // When the MTU is wrong, the MSS is judged by itself.
    let limit = mtu.unwrap_or(u16::MAX).saturating_sub(MSS_OVERHEAD);
    let field = vti.mss.understand(findings, |found| match found {
        WordOrNumber::Word(word) => match word.as_str() {
            "auto" => Ok(Mss::Auto),
            "off" => Ok(Mss::Off),
            _ => Err(Fault::Malformed {
                key: "mss".to_owned(),
                found: word.clone(),
                expected: "\"auto\", \"off\" or a number of bytes without quotes",
                help: nearest(word, ["auto", "off"])
                    .map(|meant| format!("did you mean \"{meant}\"?")),
            }),
        },
        WordOrNumber::Number(number) => {
            let bytes = u16::try_from(*number).ok().filter(|_| *number >= MIN_MSS);
            let bytes = bytes.ok_or_else(|| Fault::OutOfRange {
                key: "mss".to_owned(),
                found: number.to_string(),
                expected: format!("{MIN_MSS} to the mtu less {MSS_OVERHEAD}"),
            })?;
            match mtu {
                Some(mtu) if bytes > limit => Err(Fault::MssAboveMtu {
                    mss: bytes,
                    mtu,
                    limit,
                }),
                _ => Ok(Mss::Fixed(bytes)),
            }
        }
    });
    let (usual, origin) = from_profile(profile, |values| values.mss);
    // A profile's clamp was chosen for the profile's MTU.
    let fallback = match usual {
        Mss::Fixed(bytes) if bytes > limit => (Mss::Auto, Origin::From("the mtu")),
        usual => (usual, origin),
    };
    draft.settle("vti.mss", field, fallback, |mss| match mss {
        Mss::Fixed(bytes) => bytes.to_string(),
        word => quoted(&word.to_string()),
    })
}

/// A list of prefixes. Addresses of the interface may have host bits, routes must not.
fn prefixes(
    field: &Field<Vec<Spanned<String>>>,
    key: &str,
    truncated: bool,
    findings: &mut Findings,
) -> Field<Vec<Spanned<IpNet>>> {
    let Some(given) = field.given() else {
        return field.understand(findings, |_| Ok(Vec::new()));
    };
    let mut list: Vec<Spanned<IpNet>> = Vec::new();
    let mut good = true;
    for item in given.get_ref() {
        let result = prefix(item.get_ref(), key, truncated).and_then(|net| {
            if list.iter().any(|known| *known.get_ref() == net) {
                return Err(Fault::RepeatedValue {
                    key: key.to_owned(),
                    found: item.get_ref().clone(),
                });
            }
            Ok(net)
        });
        match result {
            Ok(net) => list.push(Spanned::new(item.span(), net)),
            Err(fault) => {
                findings.add(&item.span(), fault);
                good = false;
            }
        }
    }
    if good {
        Field::Given(Spanned::new(given.span(), list))
    } else {
        Field::Invalid
    }
}

fn prefix(text: &str, key: &str, truncated: bool) -> Result<IpNet, Fault> {
    let Some(net) = parse_prefix(text) else {
        return Err(Fault::Malformed {
            key: key.to_owned(),
            found: text.to_owned(),
            expected: "a prefix such as \"10.1.0.0/16\" or \"2001:db8::/32\"",
            help: None,
        });
    };
    if truncated && net != net.trunc() {
        return Err(Fault::HostBits {
            key: key.to_owned(),
            found: net,
        });
    }
    Ok(net)
}

/// The selectors of a policy-based connection, empty for a route-based one; `None` when one
/// of them is wrong.
fn selectors(
    raw: &RawConnection,
    profile: Profile,
    findings: &mut Findings,
) -> Option<Vec<Spanned<SelectorPair>>> {
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

/// The remote prefixes of `selectors`, each once, where it first stands.
fn distinct_remote_prefixes(selectors: &[Spanned<SelectorPair>]) -> Vec<Spanned<IpNet>> {
    let mut list: Vec<Spanned<IpNet>> = Vec::new();
    for pair in selectors {
        let net = pair.get_ref().remote.prefix();
        if !list.iter().any(|known| *known.get_ref() == net) {
            list.push(Spanned::new(pair.span(), net));
        }
    }
    list
}

/// A route that no selector covers would lead packets into a tunnel that drops them.
fn refuse_stray_routes(
    routes: &[Spanned<IpNet>],
    selectors: &[Spanned<SelectorPair>],
    findings: &mut Findings,
) {
    if selectors.is_empty() {
        return;
    }
    for route in routes {
        let net = route.get_ref();
        let covered = selectors
            .iter()
            .any(|pair| pair.get_ref().remote.prefix().contains(net));
        if !covered {
            findings.add(&route.span(), Fault::RouteOutsideSelectors { route: *net });
        }
    }
}

fn refuse_small_mtu<'a>(
    mtu: u16,
    place: &std::ops::Range<usize>,
    mut inside: impl Iterator<Item = &'a IpNet>,
    findings: &mut Findings,
) {
    if mtu < MIN_MTU_IPV6 && inside.any(|net| matches!(net, IpNet::V6(_))) {
        findings.add(place, Fault::MtuTooSmallForIpv6 { mtu });
    }
}

/// The selectors of a route-based connection: everything, for each IP version that is used
/// inside; IPv4 when nothing says.
fn everything<'a>(inside: impl Iterator<Item = &'a IpNet> + Clone) -> Vec<SelectorPair> {
    let v6 = inside.clone().any(|net| matches!(net, IpNet::V6(_)));
    let v4 = inside.clone().any(|net| matches!(net, IpNet::V4(_))) || !v6;
    let mut pairs = Vec::new();
    for (used, all) in [
        (v4, IpNet::V4(Ipv4Net::default())),
        (v6, IpNet::V6(Ipv6Net::default())),
    ] {
        if used {
            let all = TrafficSelector::net(all);
            pairs.push(SelectorPair {
                local: all,
                remote: all,
            });
        }
    }
    pairs
}
