//! One `[[connection]]`.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ikev1::Identity;
use ikev1::config::{Connection, EncapsulationPolicy, Phase1Exchange, RemoteAddress, StartMode};
use ipnet::IpNet;
use ipsec_types::{ConnectionId, SecretBytes, SelectorPair};
use toml::Spanned;

use super::draft::{Draft, duration, one_of, quoted, word_for};
use super::{Context, phases, section, traffic};
use crate::config::document::{Field, Section as _};
use crate::config::explain::{Explanation, Origin};
use crate::config::fault::Fault;
use crate::config::problem::Findings;
use crate::config::profile::Profile;
use crate::config::raw::RawConnection;
use crate::config::resolved::ResolvedConnection;
use crate::config::secret;
use crate::config::value::{refuse_name, unusable_as_endpoint};

const START: [(&str, StartMode); 3] = [
    ("on-start", StartMode::OnStart),
    ("on-traffic", StartMode::OnTraffic),
    ("respond", StartMode::Respond),
];
const MODE: [(&str, Phase1Exchange); 2] = [
    ("main", Phase1Exchange::Main),
    ("aggressive", Phase1Exchange::Aggressive),
];
const ENCAPSULATION: [(&str, EncapsulationPolicy); 3] = [
    ("auto", EncapsulationPolicy::Auto),
    ("udp", EncapsulationPolicy::Udp),
    ("esp", EncapsulationPolicy::Esp),
];

/// RFC 3948 §4 recommends 20 s.
const NAT_KEEPALIVE: Duration = Duration::from_secs(20);

/// The parts of a connection that must agree with the other connections, with their places.
/// What is wrong by itself is left out.
#[derive(Debug, Default)]
pub(super) struct Outline {
    pub(super) name: Option<Spanned<String>>,
    pub(super) device: Option<Spanned<String>>,
    pub(super) peer: Option<Spanned<(IpAddr, IpAddr)>>,
    /// Our address and the identity of a peer that may come from anywhere.
    pub(super) wanderer: Option<Spanned<(IpAddr, Identity)>>,
    /// Empty when the connection is route-based.
    pub(super) selectors: Vec<Spanned<SelectorPair>>,
    pub(super) routes: Vec<Spanned<IpNet>>,
    pub(super) metric: Option<u32>,
}

/// Who the two ends are.
struct Ends {
    local: IpAddr,
    remote: RemoteAddress,
    local_id: Identity,
    remote_id: Identity,
}

/// Resolves the connection at `index` of the file.
pub(super) fn resolve(
    index: u32,
    raw: &RawConnection,
    context: &mut Context<'_>,
) -> (Outline, Option<(ResolvedConnection, Explanation)>) {
    let mut outline = Outline::default();
    let resolved = resolve_parts(index, raw, context, &mut outline);
    (outline, resolved)
}

fn resolve_parts(
    index: u32,
    raw: &RawConnection,
    context: &mut Context<'_>,
    outline: &mut Outline,
) -> Option<(ResolvedConnection, Explanation)> {
    let mut draft = Draft::new(context.source);
    let name = name(raw, context.findings);
    outline.name.clone_from(&name);
    let field = name.clone().map_or(Field::Invalid, Field::Given);
    draft.settle("name", field, (String::new(), Origin::Default), |name| {
        quoted(name)
    });
    let name = name.map(Spanned::into_inner);

    let profile = one_of(&raw.profile, "profile", &Profile::NAMES, context.findings);
    // A profile that is not understood must not judge the rest of the connection.
    let known_profile = !matches!(profile, Field::Invalid);
    let profile = draft
        .settle(
            "profile",
            profile,
            (Profile::Generic, Origin::Default),
            |profile| quoted(profile.name()),
        )
        .unwrap_or_default();

    let start = start(raw, profile, &mut draft, context.findings);
    let mode = one_of(&raw.mode, "mode", &MODE, context.findings);
    if let Some(given) = mode.given()
        && *given.get_ref() == Phase1Exchange::Aggressive
    {
        context.findings.add(&given.span(), Fault::AggressiveMode);
    }
    let exchange = draft.settle(
        "mode",
        mode,
        (Phase1Exchange::Main, Origin::Default),
        |mode| word_for(&MODE, mode),
    );
    let ends = ends(raw, &mut draft, context.findings, outline);
    if let Some(ends) = &ends {
        refuse_any_peer(raw, ends, start, exchange, context.findings);
    }
    let psk = psk(raw, profile, &mut draft, context);
    let wire = wire(raw, profile, &mut draft, context.findings);
    let phases = phases::resolve(raw, profile, known_profile, &mut draft, context.findings);
    let vti = section(&raw.vti);
    let traffic = traffic::resolve(
        raw,
        &vti,
        profile,
        name.as_deref(),
        &mut draft,
        context.findings,
        outline,
    );

    let (ends, phases, traffic, wire) = (ends?, phases?, traffic?, wire?);
    let ike = Connection {
        id: ConnectionId(index),
        name: name?,
        local: ends.local,
        remote: ends.remote,
        local_id: ends.local_id,
        remote_id: ends.remote_id,
        psk: psk?,
        start: start?,
        encapsulation: wire.encapsulation,
        exchange: exchange?,
        phase1: phases.phase1,
        phase2: phases.phase2,
        selectors: traffic.selectors,
        retransmit: phases.retransmit,
        dpd: phases.dpd,
        nat_keepalive: wire.nat_keepalive,
        fragmentation: wire.fragmentation,
        peer_drops_children: wire.peer_drops_children,
        dpd_by_ping: false,
    };
    let resolved = ResolvedConnection {
        ike: Arc::new(ike),
        profile,
        kind: traffic.kind,
        replay_window: phases.replay_window,
        vti: traffic.vti,
    };
    Some((resolved, draft.into_explanation()))
}

fn name(raw: &RawConnection, findings: &mut Findings) -> Option<Spanned<String>> {
    required(
        &raw.name,
        raw.span(),
        "name",
        "a name of your choice, such as \"azure-weu\"",
        findings,
    );
    let name = raw
        .name
        .understand(findings, |name| match refuse_name(name) {
            None => Ok(name.clone()),
            Some(reason) => Err(Fault::BadName {
                key: "name",
                found: name.clone(),
                reason,
            }),
        });
    name.given().cloned()
}

/// Notes a key that must be there and is not.
fn required<T>(
    field: &Field<T>,
    section: &Range<usize>,
    key: &'static str,
    expected: &'static str,
    findings: &mut Findings,
) {
    if field.is_missing() {
        findings.add(
            section,
            Fault::MissingKey {
                section: "[[connection]]",
                key,
                expected,
            },
        );
    }
}

fn start(
    raw: &RawConnection,
    profile: Profile,
    draft: &mut Draft<'_>,
    findings: &mut Findings,
) -> Option<StartMode> {
    let field = one_of(&raw.start, "start", &START, findings);
    let fallback = phases::from_profile(profile, |values| values.start);
    draft.settle("start", field, fallback, |start| word_for(&START, start))
}

/// Addresses and identities of both ends.
fn ends(
    raw: &RawConnection,
    draft: &mut Draft<'_>,
    findings: &mut Findings,
    outline: &mut Outline,
) -> Option<Ends> {
    required(
        &raw.local,
        raw.span(),
        "local",
        "this gateway's outer IP address",
        findings,
    );
    required(
        &raw.remote,
        raw.span(),
        "remote",
        "the peer's outer IP address",
        findings,
    );
    let local = raw
        .local
        .understand(findings, |text| endpoint("local", text));
    let remote = raw.remote.understand(findings, |text| {
        if text == "any" {
            return Ok(RemoteAddress::Any);
        }
        endpoint("remote", text).map(RemoteAddress::Address)
    });
    if let (Some(local), Some(remote)) = (local.given(), remote.given())
        && let RemoteAddress::Address(address) = *remote.get_ref()
    {
        match contradiction(*local.get_ref(), address) {
            Some(fault) => findings.add(&remote.span(), fault),
            None => {
                outline.peer = Some(Spanned::new(remote.span(), (*local.get_ref(), address)));
            }
        }
    }
    let nothing = (IpAddr::from([0, 0, 0, 0]), Origin::Default);
    let local = draft.settle("local", required_field(local), nothing, |address| {
        quoted(&address.to_string())
    });
    let nothing = (RemoteAddress::Any, Origin::Default);
    let remote = draft.settle(
        "remote",
        required_field(remote),
        nothing,
        |remote| match remote {
            RemoteAddress::Address(address) => quoted(&address.to_string()),
            RemoteAddress::Any => quoted("any"),
        },
    );
    // Both identities are judged even when an address is wrong.
    let local_id = identity("local_id", &raw.local_id, findings);
    let remote_id = identity("remote_id", &raw.remote_id, findings);
    let (local, remote) = (local?, remote?);
    let show = |identity: &Identity| quoted(&identity.to_string());
    let fallback = (Identity::Address(local), Origin::From("local"));
    let local_id = draft.settle("local_id", local_id, fallback, show)?;
    let fallback = match remote {
        RemoteAddress::Address(address) => (Identity::Address(address), Origin::From("remote")),
        RemoteAddress::Any => (Identity::Any, Origin::From("remote")),
    };
    let place = remote_id.span_or(&raw.remote.span_or(raw.span()));
    let remote_id = draft.settle("remote_id", remote_id, fallback, show)?;
    if remote == RemoteAddress::Any {
        outline.wanderer = Some(Spanned::new(place, (local, remote_id.clone())));
    }
    Some(Ends {
        local,
        remote,
        local_id,
        remote_id,
    })
}

/// A required key that is missing has been noted: no fallback may stand in for it.
fn required_field<T>(field: Field<T>) -> Field<T> {
    match field {
        Field::Missing | Field::Invalid => Field::Invalid,
        given @ Field::Given(_) => given,
    }
}

fn endpoint(key: &str, text: &str) -> Result<IpAddr, Fault> {
    let Ok(address) = text.parse::<IpAddr>() else {
        let help = if text.contains('/') {
            Some("leave the prefix length away".to_owned())
        } else if text.chars().any(|c| c.is_ascii_alphabetic()) && !text.contains(':') {
            Some("names are not looked up: a tunnel must not depend on DNS".to_owned())
        } else {
            None
        };
        return Err(Fault::Malformed {
            key: key.to_owned(),
            found: text.to_owned(),
            expected: "an IPv4 or IPv6 address",
            help,
        });
    };
    match unusable_as_endpoint(address) {
        None => Ok(address),
        Some(why) => Err(Fault::UnusableAddress {
            key: key.to_owned(),
            found: text.to_owned(),
            why,
        }),
    }
}

fn contradiction(local: IpAddr, remote: IpAddr) -> Option<Fault> {
    if local == remote {
        return Some(Fault::LocalIsRemote {
            address: local.to_string(),
        });
    }
    (local.is_ipv4() != remote.is_ipv4()).then(|| Fault::MixedFamilies {
        what: "the outer addresses",
        local: local.to_string(),
        remote: remote.to_string(),
    })
}

fn identity(key: &'static str, field: &Field<String>, findings: &mut Findings) -> Field<Identity> {
    field.understand(findings, |text| {
        let malformed = |expected, help| Fault::Malformed {
            key: key.to_owned(),
            found: text.clone(),
            expected,
            help,
        };
        match text.parse::<Identity>() {
            Ok(Identity::Any) if key == "local_id" => Err(malformed(
                "an IP address, \"fqdn:NAME\", \"user-fqdn:NAME@DOMAIN\" or \"key-id:TEXT\"",
                None,
            )),
            Ok(identity) => Ok(identity),
            Err(_) => {
                let kind = if text.contains('@') { "user-fqdn" } else { "fqdn" };
                let bare = !text.is_empty() && !text.contains(':');
                Err(malformed(
                    "an IP address, \"fqdn:NAME\", \"user-fqdn:NAME@DOMAIN\", \"key-id:TEXT\" or \"any\"",
                    bare.then(|| format!("if a name is meant: \"{kind}:{text}\"")),
                ))
            }
        }
    })
}

/// A peer that may come from anywhere is told apart by its identity alone, which main mode
/// with a pre-shared key cannot see in time (RFC 2409 §5.4).
fn refuse_any_peer(
    raw: &RawConnection,
    ends: &Ends,
    start: Option<StartMode>,
    exchange: Option<Phase1Exchange>,
    findings: &mut Findings,
) {
    if ends.remote != RemoteAddress::Any {
        return;
    }
    let (Some(start), Some(exchange)) = (start, exchange) else {
        return;
    };
    let why = if exchange == Phase1Exchange::Main {
        "does not work in main mode, where the address chooses the key"
    } else if start != StartMode::Respond {
        "leaves nobody to call: the peer must begin"
    } else if ends.remote_id == Identity::Any {
        "and no remote_id would let everybody with the key in"
    } else {
        return;
    };
    findings.add(&raw.remote.span_or(raw.span()), Fault::AnyPeer { why });
}

fn psk(
    raw: &RawConnection,
    profile: Profile,
    draft: &mut Draft<'_>,
    context: &mut Context<'_>,
) -> Option<SecretBytes> {
    let expected = "the path of a file with the pre-shared key alone, mode 0600";
    required(
        &raw.psk_file,
        raw.span(),
        "psk_file",
        expected,
        context.findings,
    );
    let nothing = (String::new(), Origin::Default);
    let field = required_field(raw.psk_file.clone());
    draft.settle("psk_file", field, nothing, |path| quoted(path))?;
    let given = raw.psk_file.given()?;
    let path = context.beside_the_file(given.get_ref());
    let key = secret::load(&path, context.files, &given.span(), context.findings)?;
    if profile.is_azure() {
        let refused = key
            .expose()
            .iter()
            .find(|byte| matches!(byte, b' ' | b'-' | b'~'));
        if let Some(&byte) = refused {
            let character = char::from(byte);
            context
                .findings
                .add(&given.span(), Fault::PskRefusedByAzure { path, character });
        }
    }
    Some(key)
}

/// How IKE and ESP travel.
struct Wire {
    encapsulation: EncapsulationPolicy,
    fragmentation: bool,
    nat_keepalive: Duration,
    peer_drops_children: bool,
}

fn wire(
    raw: &RawConnection,
    profile: Profile,
    draft: &mut Draft<'_>,
    findings: &mut Findings,
) -> Option<Wire> {
    let field = one_of(
        &raw.encapsulation,
        "encapsulation",
        &ENCAPSULATION,
        findings,
    );
    let fallback = (EncapsulationPolicy::Auto, Origin::Default);
    let encapsulation = draft.settle("encapsulation", field, fallback, |policy| {
        word_for(&ENCAPSULATION, policy)
    });
    let fallback = (true, Origin::Default);
    let fragmentation = draft.settle(
        "fragmentation",
        raw.fragmentation.clone(),
        fallback,
        bool::to_string,
    );
    let bounds = Duration::from_secs(1)..=Duration::from_mins(10);
    let field = duration(&raw.nat_keepalive, "nat_keepalive", bounds, findings);
    let nat_keepalive =
        draft.settle_duration("nat_keepalive", field, (NAT_KEEPALIVE, Origin::Default));
    let fallback = phases::from_profile(profile, |values| values.peer_drops_children);
    let peer_drops_children = draft.settle(
        "peer_drops_children",
        raw.peer_drops_children.clone(),
        fallback,
        bool::to_string,
    );
    Some(Wire {
        peer_drops_children: peer_drops_children?,
        encapsulation: encapsulation?,
        fragmentation: fragmentation?,
        nat_keepalive: nat_keepalive?,
    })
}
