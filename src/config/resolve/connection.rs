//! One `[[connection]]`.

use std::sync::Arc;
use std::time::Duration;

use ikev1::config::{Connection, EncapsulationPolicy, Phase1Exchange, StartMode};
use ipsec_types::{ConnectionId, SecretBytes};

use super::draft::{Draft, duration, one_of, quoted, word_for};
use super::outline::Outline;
use super::{Context, ends, phases, ping, section, traffic};
use crate::config::document::Section as _;
use crate::config::explain::{Explanation, Origin};
use crate::config::fault::{Fault, SecretKind};
use crate::config::profile::Profile;
use crate::config::raw::RawConnection;
use crate::config::resolved::ResolvedConnection;
use crate::config::secret;
use crate::config::shared::is_shareable;
use crate::config::value::refuse_name;

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

/// Resolves the connection at `index` of the file.
pub(super) fn resolve(
    index: u32,
    raw: &RawConnection,
    context: &mut Context<'_>,
) -> (Outline, Option<(ResolvedConnection, Explanation)>) {
    let shared = context.shared;
    let mut draft = Draft::new(context, RawConnection::HEADER);
    let resolved = resolve_parts(index, raw, shared, &mut draft);
    let (outline, explanation) = draft.finish();
    (outline, resolved.map(|resolved| (resolved, explanation)))
}

/// Every part is judged before any missing one ends the resolution.
fn resolve_parts(
    index: u32,
    raw: &RawConnection,
    shared: bool,
    draft: &mut Draft<'_>,
) -> Option<ResolvedConnection> {
    let name = name(raw, draft);
    profile(raw, draft);
    let start = one_of(&raw.start, "start", &START, draft.findings);
    let fallback = draft.profile_value(|values| values.start);
    let start = draft.settle("start", start, fallback, |start| word_for(&START, start));
    let exchange = exchange(raw, draft);
    let ends = ends::resolve(raw, draft);
    if let Some(ends) = &ends {
        ends::refuse_any_peer(raw, ends, start, exchange, draft.findings);
    }
    let psk = psk(raw, shared, draft);
    let wire = wire(raw, draft);
    let phases = phases::resolve(raw, draft);
    let traffic = traffic::resolve(raw, &section(&raw.vti), name.as_deref(), draft);

    let (ends, phases, traffic, wire) = (ends?, phases?, traffic?, wire?);
    let ping = ping::resolve(&section(&raw.dpd), raw, &traffic, draft)?;
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
        dpd_by_ping: ping.is_some(),
    };
    Some(ResolvedConnection {
        ike: Arc::new(ike),
        profile: draft.profile,
        kind: traffic.kind,
        replay_window: phases.replay_window,
        vti: traffic.vti,
        ping,
    })
}

fn name(raw: &RawConnection, draft: &mut Draft<'_>) -> Option<String> {
    let expected = "a name of your choice, such as \"azure-weu\"";
    draft.require(&raw.name, raw.span(), "name", expected);
    let name = raw
        .name
        .understand(draft.findings, |name| match refuse_name(name) {
            None => Ok(name.clone()),
            Some(reason) => Err(Fault::BadName {
                key: "name",
                found: name.clone(),
                reason,
            }),
        });
    draft.outline.name = name.given().cloned();
    draft.settle_required("name", name, |name| quoted(name))
}

fn profile(raw: &RawConnection, draft: &mut Draft<'_>) {
    let profile = one_of(&raw.profile, "profile", &Profile::NAMES, draft.findings);
    let fallback = (Profile::Generic, Origin::Default);
    let settled = draft.settle("profile", profile, fallback, |profile| {
        quoted(profile.name())
    });
    draft.profile_known = settled.is_some();
    draft.profile = settled.unwrap_or_default();
}

fn exchange(raw: &RawConnection, draft: &mut Draft<'_>) -> Option<Phase1Exchange> {
    let mode = one_of(&raw.mode, "mode", &MODE, draft.findings);
    if let Some(given) = mode.given()
        && *given.get_ref() == Phase1Exchange::Aggressive
    {
        draft.findings.add(&given.span(), Fault::AggressiveMode);
    }
    let fallback = (Phase1Exchange::Main, Origin::Default);
    draft.settle("mode", mode, fallback, |mode| word_for(&MODE, mode))
}

fn psk(raw: &RawConnection, shared: bool, draft: &mut Draft<'_>) -> Option<SecretBytes> {
    let expected = "the path of a file with the pre-shared key alone, mode 0600";
    draft.require(&raw.psk_file, raw.span(), "psk_file", expected);
    draft.settle_required("psk_file", raw.psk_file.clone(), |path| quoted(path))?;
    let given = raw.psk_file.given()?;
    if shared && !is_shareable(given.get_ref()) {
        let found = given.get_ref().clone();
        let fault = Fault::PskNotShared { found };
        draft.findings.add(&given.span(), fault);
        return None;
    }
    let path = draft.beside_the_file(given.get_ref());
    let kind = SecretKind::PreSharedKey;
    let key = secret::load(kind, &path, draft.files, &given.span(), draft.findings)?;
    if draft.profile.is_azure() {
        let refused = key
            .expose()
            .iter()
            .find(|byte| matches!(byte, b' ' | b'-' | b'~'));
        if let Some(&byte) = refused {
            let character = char::from(byte);
            let fault = Fault::PskRefusedByAzure { path, character };
            draft.findings.add(&given.span(), fault);
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

fn wire(raw: &RawConnection, draft: &mut Draft<'_>) -> Option<Wire> {
    let field = one_of(
        &raw.encapsulation,
        "encapsulation",
        &ENCAPSULATION,
        draft.findings,
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
    let field = duration(&raw.nat_keepalive, "nat_keepalive", bounds, draft.findings);
    let nat_keepalive =
        draft.settle_duration("nat_keepalive", field, (NAT_KEEPALIVE, Origin::Default));
    let fallback = draft.profile_value(|values| values.peer_drops_children);
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
