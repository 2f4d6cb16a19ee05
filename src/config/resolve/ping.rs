//! `dpd.ping`: the address behind the peer that is pinged when the peer speaks no DPD.

use std::net::IpAddr;
use std::ops::Range;

use ipsec_types::SelectorPair;

use super::draft::{Draft, quoted};
use super::ends::endpoint;
use super::traffic::Traffic;
use crate::config::document::{Field, Section as _};
use crate::config::fault::Fault;
use crate::config::raw::{RawConnection, RawDpd};
use crate::config::resolved::TunnelPing;

/// `Some(None)` when no ping is configured, `None` when what is configured is wrong.
pub(super) fn resolve(
    raw: &RawDpd,
    connection: &RawConnection,
    traffic: &Traffic,
    draft: &mut Draft<'_>,
) -> Option<Option<TunnelPing>> {
    let field = |key, field: &Field<String>, draft: &mut Draft<'_>| {
        field.understand(draft.findings, |text| endpoint(key, text))
    };
    let target = field("ping", &raw.ping, draft);
    let source = field("ping_from", &raw.ping_from, draft);
    let place = target.span_or(connection.span());
    let source_place = source.span_or(connection.span());
    let (wanted, from) = (plain(&target), plain(&source));
    let show = |address: &IpAddr| quoted(&address.to_string());
    if !target.is_missing() {
        draft.settle_required("dpd.ping", target, show)?;
    }
    if !source.is_missing() {
        draft.settle_required("dpd.ping_from", source, show)?;
    }
    let Some(target) = wanted else {
        return match from {
            None => Some(None),
            Some(source) => refuse(&source_place, source, "is of no use without ping", draft),
        };
    };
    let Some(carrier) = carrier(&traffic.selectors, target) else {
        return refuse(&place, target, "is not behind the peer", draft);
    };
    let own = traffic.vti.addresses.iter().map(ipnet::IpNet::addr);
    let source = match from {
        Some(source) if inside(carrier, source) => Some(source),
        Some(source) => {
            let why = "may not use the tunnel: no local selector contains it";
            return refuse(&source_place, source, why, draft);
        }
        None => own.into_iter().find(|own| inside(carrier, *own)),
    };
    match source {
        Some(source) => Some(Some(TunnelPing { target, source })),
        None => refuse(&place, target, "cannot be pinged from here", draft),
    }
}

fn plain(field: &Field<IpAddr>) -> Option<IpAddr> {
    field.given().map(|given| *given.get_ref())
}

fn refuse<T>(
    place: &Range<usize>,
    address: IpAddr,
    why: &'static str,
    draft: &mut Draft<'_>,
) -> Option<T> {
    let address = address.to_string();
    draft.findings.add(place, Fault::Ping { address, why });
    None
}

/// The selectors that carry ICMP to the target.
fn carrier(selectors: &[SelectorPair], target: IpAddr) -> Option<&SelectorPair> {
    selectors
        .iter()
        .find(|pair| pair.remote.contains(target, icmp(target), None))
}

fn inside(pair: &SelectorPair, source: IpAddr) -> bool {
    pair.local.contains(source, icmp(source), None)
}

const fn icmp(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 1,
        IpAddr::V6(_) => 58,
    }
}
