//! `[[pair.path]]` and `[[pair.address]]`: the ways between the nodes, and what moves.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use toml::Spanned;

use super::{
    Draft, Fault, Field, Findings, RawPair, Section, macs, missing, one_of, unusable_as_endpoint,
};
use crate::config::document::Tables;
use crate::config::explain::Origin;
use crate::config::pair::{PairPath, Side, VirtualAddress};
use crate::config::raw::{RawAddress, RawPath};
use crate::config::value::refuse_device;

/// Adverts (UDP) and the sync channel (TCP).
const DEFAULT_PORT: u16 = 7410;

const SIDE: [(&str, Side); 2] = [("wan", Side::Wan), ("lan", Side::Lan)];

/// Tables of the same kind, each with its place.
pub(super) struct Several<T> {
    /// Those that are right.
    pub(super) right: Vec<Spanned<T>>,
    /// There are some, and these are all.
    pub(super) complete: bool,
}

impl<T> Several<T> {
    /// Reads every table of `field` with `read`; an empty list is noted.
    fn read<S>(
        field: &Field<Tables<S>>,
        key: &str,
        draft: &mut Draft<'_>,
        mut read: impl FnMut(&S, &mut Draft<'_>) -> Option<Spanned<T>>,
    ) -> Self {
        let tables = field.given().map_or(&[][..], |given| &given.get_ref().0);
        if let (Some(given), []) = (field.given(), tables) {
            let key = key.to_owned();
            draft.findings.add(&given.span(), Fault::EmptyList { key });
        }
        let right: Vec<_> = tables.iter().filter_map(|raw| read(raw, draft)).collect();
        Self {
            complete: !tables.is_empty() && right.len() == tables.len(),
            right,
        }
    }

    /// The values, unless one is wrong or there is none.
    pub(super) fn all(self) -> Option<Vec<T>> {
        let values = self.right.into_iter().map(Spanned::into_inner);
        self.complete.then(|| values.collect())
    }
}

/// The `[[pair.path]]`.
pub(super) fn paths(raw: &RawPair, draft: &mut Draft<'_>) -> Several<PairPath> {
    let expected = "one or two [[pair.path]] with local and peer";
    draft.require(&raw.path, raw.span(), "path", expected);
    let mut paths = Several::read(&raw.path, "path", draft, path);
    let given = raw.path.given().map_or(&[][..], |given| &given.get_ref().0);
    match given {
        [only] => draft.findings.add(only.span(), Fault::OnePath),
        // A path has a number in every advert, 0 or 1.
        [_, _, third, ..] => {
            let count = given.len();
            let fault = Fault::TooManyPaths { count };
            draft.findings.add(third.span(), fault);
            paths.complete = false;
        }
        _ => {}
    }
    paths
}

fn path(raw: &RawPath, draft: &mut Draft<'_>) -> Option<Spanned<PairPath>> {
    let header = RawPath::HEADER;
    let findings = &mut *draft.findings;
    let expected = "this node's own address on this link, never a virtual one";
    missing(
        &raw.local,
        (header, raw.span()),
        "local",
        expected,
        findings,
    );
    let expected = "the partner's own address on this link";
    missing(&raw.peer, (header, raw.span()), "peer", expected, findings);
    let local = raw
        .local
        .understand(findings, |text| endpoint("local", text));
    let peer = raw.peer.understand(findings, |text| endpoint("peer", text));
    let (local, peer) = (local.given()?, peer.given()?);
    let path = PairPath {
        local: *local.get_ref(),
        peer: *peer.get_ref(),
    };
    if let Some(fault) = contradiction(path) {
        findings.add(&peer.span(), fault);
        return None;
    }
    let line = draft.source.position(raw.span().start).line;
    draft.note(
        "path",
        format!("\"{}\" <-> \"{}\"", path.local, path.peer),
        Origin::Line(line),
    );
    Some(Spanned::new(raw.span().clone(), path))
}

fn contradiction(path: PairPath) -> Option<Fault> {
    let (local, peer) = (path.local.ip(), path.peer.ip());
    if local == peer {
        return Some(Fault::PathToItself { address: local });
    }
    (local.is_ipv4() != peer.is_ipv4()).then(|| Fault::MixedFamilies {
        what: "the path",
        local: local.to_string(),
        remote: peer.to_string(),
    })
}

/// `ADDRESS` or `ADDRESS:PORT`; an IPv6 address with a port stands in brackets.
fn endpoint(key: &str, text: &str) -> Result<SocketAddr, Fault> {
    if let Ok(endpoint) = text.parse::<SocketAddr>() {
        if endpoint.port() == 0 {
            return Err(Fault::Malformed {
                key: key.to_owned(),
                found: text.to_owned(),
                expected: "a port from 1 to 65535",
                help: None,
            });
        }
        return usable(key, text, endpoint.ip()).map(|()| endpoint);
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    address(key, bare.unwrap_or(text)).map(|address| SocketAddr::new(address, DEFAULT_PORT))
}

/// One address of a host.
pub(super) fn address(key: &str, text: &str) -> Result<IpAddr, Fault> {
    let Ok(address) = text.parse::<IpAddr>() else {
        let help = if text.contains('/') {
            Some("leave the prefix length away".to_owned())
        } else if text.chars().any(|c| c.is_ascii_alphabetic()) && !text.contains(':') {
            Some("names are not looked up: the pair must not depend on DNS".to_owned())
        } else {
            None
        };
        return Err(Fault::Malformed {
            key: key.to_owned(),
            found: text.to_owned(),
            expected: match key {
                "local" | "peer" => "an address, or an address and a port as in \"192.0.2.1:7410\"",
                _ => "an IPv4 or IPv6 address",
            },
            help,
        });
    };
    usable(key, text, address).map(|()| address)
}

fn usable(key: &str, text: &str, address: IpAddr) -> Result<(), Fault> {
    match unusable_as_endpoint(address) {
        None => Ok(()),
        Some(why) => Err(Fault::UnusableAddress {
            key: key.to_owned(),
            found: text.to_owned(),
            why,
        }),
    }
}

/// The `[[pair.address]]`.
pub(super) fn addresses(raw: &RawPair, draft: &mut Draft<'_>) -> Several<VirtualAddress> {
    let expected = "at least one [[pair.address]] with address, link and side";
    draft.require(&raw.address, raw.span(), "address", expected);
    Several::read(&raw.address, "address", draft, virtual_address)
}

fn virtual_address(raw: &RawAddress, draft: &mut Draft<'_>) -> Option<Spanned<VirtualAddress>> {
    let place = (RawAddress::HEADER, raw.span());
    let findings = &mut *draft.findings;
    missing(&raw.address, place, "address", EXPECTED_PREFIX, findings);
    let expected = "the network interface that the address is on, such as \"eth0\"";
    missing(&raw.link, place, "link", expected, findings);
    let expected = "\"wan\" towards the peers, \"lan\" towards the hosts";
    missing(&raw.side, place, "side", expected, findings);
    let address = raw.address.understand(findings, |text| with_prefix(text));
    let link = raw.link.understand(findings, |link| judge_link(link));
    let side = one_of(&raw.side, "side", &SIDE, findings);
    let gateway = raw
        .gateway
        .understand(findings, |text| self::address("gateway", text));
    let gateway = gateway.some();
    let virtual_mac = raw
        .virtual_mac
        .understand(findings, |text| macs::judge(text));
    if let (Some(address), Field::Given(gateway)) = (address.given(), &gateway)
        && let Some(hop) = *gateway.get_ref()
    {
        let address = *address.get_ref();
        if !address.contains(&hop) || hop == address.addr() {
            let fault = Fault::GatewayOutside {
                gateway: hop,
                address,
            };
            findings.add(&gateway.span(), fault);
            return None;
        }
    }
    let resolved = VirtualAddress {
        address: *address.given()?.get_ref(),
        link: link.given()?.get_ref().clone(),
        side: *side.given()?.get_ref(),
        gateway: match gateway {
            Field::Missing => None,
            Field::Invalid => return None,
            Field::Given(gateway) => gateway.into_inner(),
        },
        virtual_mac: match virtual_mac {
            Field::Missing => None,
            Field::Invalid => return None,
            Field::Given(mac) => Some(mac.into_inner()),
        },
    };
    let line = draft.source.position(raw.span().start).line;
    draft.note("address", resolved.to_string(), Origin::Line(line));
    let place = raw.address.span_or(raw.span());
    Some(Spanned::new(place, resolved))
}

const EXPECTED_PREFIX: &str =
    "an address with the prefix length of its link, such as \"203.0.113.1/24\"";

fn with_prefix(text: &str) -> Result<IpNet, Fault> {
    let Ok(net) = text.parse::<IpNet>() else {
        let alone = text.parse::<IpAddr>().is_ok();
        return Err(Fault::Malformed {
            key: "address".to_owned(),
            found: text.to_owned(),
            expected: EXPECTED_PREFIX,
            help: alone.then(|| "the prefix length is missing".to_owned()),
        });
    };
    usable("address", text, net.addr())?;
    let why = match net {
        IpNet::V4(v4) if v4.prefix_len() < 31 && v4.addr() == v4.network() => {
            "the network's own address"
        }
        IpNet::V4(v4) if v4.prefix_len() < 31 && v4.addr() == v4.broadcast() => {
            "the broadcast address of its network"
        }
        IpNet::V4(_) | IpNet::V6(_) => return Ok(net),
    };
    Err(Fault::UnusableAddress {
        key: "address".to_owned(),
        found: text.to_owned(),
        why,
    })
}

fn judge_link(link: &str) -> Result<String, Fault> {
    let reason = match link {
        "lo" => Some("nobody can be reached over it"),
        _ => refuse_device(link),
    };
    match reason {
        None => Ok(link.to_owned()),
        Some(reason) => Err(Fault::BadDevice {
            key: "link",
            found: link.to_owned(),
            reason,
        }),
    }
}

/// The virtual addresses that peers know; `None` when it is not certain.
pub(super) fn wan(addresses: &Several<VirtualAddress>) -> Option<Vec<IpAddr>> {
    let wan = addresses.right.iter().map(Spanned::get_ref);
    let wan = wan
        .filter(|address| address.side == Side::Wan)
        .map(|address| address.address.addr())
        .collect();
    addresses.complete.then_some(wan)
}

/// What must hold between paths and addresses.
pub(super) fn cross_check(
    paths: &[Spanned<PairPath>],
    addresses: &[Spanned<VirtualAddress>],
    findings: &mut Findings,
) {
    let ends = |path: PairPath| [("local", path.local.ip()), ("peer", path.peer.ip())];
    if let [first, second, ..] = paths {
        let clash = ends(*first.get_ref())
            .into_iter()
            .zip(ends(*second.get_ref()))
            .find(|(one, other)| one == other);
        if let Some(((key, address), _)) = clash {
            let related = (first.span(), "the first path is");
            findings.add_related(&second.span(), Fault::PathTwice { key, address }, related);
        }
    }
    for path in paths {
        for (key, address) in ends(*path.get_ref()) {
            let virtual_one = addresses
                .iter()
                .find(|other| other.get_ref().address.addr() == address);
            if let Some(other) = virtual_one {
                let fault = Fault::PathOnVirtualAddress { key, address };
                findings.add_related(
                    &path.span(),
                    fault,
                    (other.span(), "the virtual address is"),
                );
            }
        }
    }
    for (index, later) in addresses.iter().enumerate() {
        let address = later.get_ref().address.addr();
        let mut earlier = addresses.iter().take(index);
        let first = earlier.find(|other| other.get_ref().address.addr() == address);
        if let Some(first) = first {
            let related = (first.span(), "the first one is");
            findings.add_related(
                &later.span(),
                Fault::DuplicateVirtualAddress { address },
                related,
            );
        }
    }
}
