//! What goes into a tunnel: its interface, its routes and its selectors.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use ipsec_types::{SelectorPair, TrafficSelector};
use toml::Spanned;

use super::draft::{Draft, number, quoted, quoted_list};
use super::selectors;
use crate::config::document::{Field, Section as _, WordOrNumber};
use crate::config::explain::Origin;
use crate::config::fault::Fault;
use crate::config::problem::Findings;
use crate::config::raw::{RawConnection, RawVti};
use crate::config::resolved::{ConnectionKind, Mss, VtiConfig};
use crate::config::suggest::nearest;
use crate::config::value::{parse_prefix, refuse_device};

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
    name: Option<&str>,
    draft: &mut Draft<'_>,
) -> Option<Traffic> {
    let device = device(raw, vti, name, draft);
    let mtu = number(&vti.mtu, "mtu", MTU, draft.findings);
    let mtu_place = mtu.span_or(raw.span());
    let fallback = draft.profile_value(|values| values.mtu);
    let mtu = draft.settle("vti.mtu", mtu, fallback, u16::to_string);
    let mss = mss(vti, mtu, draft);
    let metric = number(
        &vti.metric,
        "metric",
        1..=i64::from(u32::MAX),
        draft.findings,
    );
    let metric = draft.settle("vti.metric", metric, (100, Origin::Default), u32::to_string);
    draft.outline.metric = metric;
    let addresses = prefixes(&vti.addresses, "addresses", false, draft.findings);
    let nothing = (Vec::new(), Origin::Default);
    let addresses = settle_prefixes("vti.addresses", addresses, nothing, draft);
    let selectors = selectors::resolve(raw, draft);
    let routes = routes(vti, selectors.as_deref(), draft);

    let (device, mtu, addresses, routes) = (device?, mtu?, addresses?, routes?);
    let inside = addresses.iter().chain(&routes);
    refuse_small_mtu(mtu, &mtu_place, inside.clone(), draft.findings);
    let given = plain(selectors?);
    let (kind, pairs, origin) = if given.is_empty() {
        (
            ConnectionKind::RouteBased,
            everything(inside),
            Origin::Default,
        )
    } else {
        let origin = Origin::From("[[connection.selector]]");
        (ConnectionKind::PolicyBased, given, origin)
    };
    let selectors = draft.settle("selectors", Field::Missing, (pairs, origin), |pairs| {
        quoted_list(pairs)
    })?;
    Some(Traffic {
        kind,
        selectors,
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

/// What is routed into the tunnel: as the file says, else the remote prefixes of the
/// selectors. `None` for the selectors when one of them is wrong.
fn routes(
    vti: &RawVti,
    selectors: Option<&[Spanned<SelectorPair>]>,
    draft: &mut Draft<'_>,
) -> Option<Vec<IpNet>> {
    let routes = prefixes(&vti.routes, "routes", true, draft.findings);
    let known = selectors.unwrap_or_default();
    draft.outline.selectors = known.to_vec();
    let remote_prefixes = distinct_remote_prefixes(known);
    match &routes {
        Field::Given(given) => {
            refuse_stray_routes(given.get_ref(), known, draft.findings);
            draft.outline.routes.clone_from(given.get_ref());
        }
        Field::Missing => draft.outline.routes.clone_from(&remote_prefixes),
        Field::Invalid => {}
    }
    let fallback = if selectors.is_some_and(<[_]>::is_empty) {
        (Vec::new(), Origin::Default)
    } else {
        (remote_prefixes, Origin::From("the remote prefixes"))
    };
    settle_prefixes("vti.routes", routes, fallback, draft)
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
    raw: &RawConnection,
    vti: &RawVti,
    name: Option<&str>,
    draft: &mut Draft<'_>,
) -> Option<String> {
    let judge = |device: &String| match refuse_device(device) {
        None => Ok(device.clone()),
        Some(reason) => Err(Fault::BadDevice {
            key: "device",
            found: device.clone(),
            reason,
        }),
    };
    let field = vti.device.understand(draft.findings, judge);
    let fallback = match (&field, name) {
        (Field::Missing, Some(name)) => {
            let device = format!("vti-{name}");
            match judge(&device) {
                Ok(device) => {
                    draft.outline.device =
                        Some(Spanned::new(raw.name.span_or(raw.span()), device.clone()));
                    device
                }
                Err(_) => {
                    let fault = Fault::MissingKey {
                        section: "[connection.vti]",
                        key: "device",
                        expected: "a name of at most 15 bytes; \"vti-\" and the connection's name is too long",
                    };
                    draft.findings.add(&vti_place(raw, vti), fault);
                    return None;
                }
            }
        }
        (Field::Missing, None) => return None,
        _ => String::new(),
    };
    if let Some(given) = field.given() {
        draft.outline.device = Some(given.clone());
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

fn mss(vti: &RawVti, mtu: Option<u16>, draft: &mut Draft<'_>) -> Option<Mss> {
    // When the MTU is wrong, the MSS is judged by itself.
    let limit = mtu.unwrap_or(u16::MAX).saturating_sub(MSS_OVERHEAD);
    let field = vti.mss.understand(draft.findings, |found| match found {
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
    let (usual, origin) = draft.profile_value(|values| values.mss);
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

pub(super) fn prefix(text: &str, key: &str, truncated: bool) -> Result<IpNet, Fault> {
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
