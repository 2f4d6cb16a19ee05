//! Who the two ends of a connection are.

use std::net::IpAddr;

use ikev1::Identity;
use ikev1::config::{Phase1Exchange, RemoteAddress, StartMode};
use toml::Spanned;

use super::draft::{Draft, quoted};
use crate::config::document::{Field, Section as _};
use crate::config::explain::Origin;
use crate::config::fault::Fault;
use crate::config::problem::Findings;
use crate::config::raw::RawConnection;
use crate::config::value::unusable_as_endpoint;

/// Addresses and identities of both ends.
pub(super) struct Ends {
    pub(super) local: IpAddr,
    pub(super) remote: RemoteAddress,
    pub(super) local_id: Identity,
    pub(super) remote_id: Identity,
}

pub(super) fn resolve(raw: &RawConnection, draft: &mut Draft<'_>) -> Option<Ends> {
    let addresses = addresses(raw, draft);
    // Both identities are judged even when an address is wrong.
    let local_id = identity("local_id", &raw.local_id, draft.findings);
    let remote_id = identity("remote_id", &raw.remote_id, draft.findings);
    let (local, remote) = addresses?;
    let show = |identity: &Identity| quoted(&identity.to_string());
    let fallback = (Identity::Address(local), Origin::From("local"));
    let local_id = draft.settle("local_id", local_id, fallback, show)?;
    let fallback = match remote {
        RemoteAddress::Address(address) => Identity::Address(address),
        RemoteAddress::Any => Identity::Any,
    };
    let place = remote_id.span_or(&raw.remote.span_or(raw.span()));
    let remote_id = draft.settle(
        "remote_id",
        remote_id,
        (fallback, Origin::From("remote")),
        show,
    )?;
    if remote == RemoteAddress::Any {
        draft.outline.wanderer = Some(Spanned::new(place, (local, remote_id.clone())));
    }
    Some(Ends {
        local,
        remote,
        local_id,
        remote_id,
    })
}

fn addresses(raw: &RawConnection, draft: &mut Draft<'_>) -> Option<(IpAddr, RemoteAddress)> {
    let span = raw.span();
    draft.require(&raw.local, span, "local", "this gateway's outer IP address");
    draft.require(&raw.remote, span, "remote", "the peer's outer IP address");
    let understand = |text: &String| endpoint("local", text);
    let local = raw.local.understand(draft.findings, understand);
    let remote = raw.remote.understand(draft.findings, |text| {
        if text == "any" {
            return Ok(RemoteAddress::Any);
        }
        endpoint("remote", text).map(RemoteAddress::Address)
    });
    draft.outline.local = local.given().cloned();
    if let (Some(local), Some(remote)) = (local.given(), remote.given())
        && let RemoteAddress::Address(address) = *remote.get_ref()
    {
        let local = *local.get_ref();
        match contradiction(local, address) {
            Some(fault) => draft.findings.add(&remote.span(), fault),
            None => draft.outline.peer = Some(Spanned::new(remote.span(), (local, address))),
        }
    }
    let show = |address: &IpAddr| quoted(&address.to_string());
    let local = draft.settle_required("local", local, show);
    let remote = draft.settle_required("remote", remote, |remote| match remote {
        RemoteAddress::Address(address) => show(address),
        RemoteAddress::Any => quoted("any"),
    });
    Some((local?, remote?))
}

pub(super) fn endpoint(key: &str, text: &str) -> Result<IpAddr, Fault> {
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
pub(super) fn refuse_any_peer(
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
