//! Phase-2 proposals: ESP in tunnel mode (RFC 2407 §4.4, §4.5, RFC 2409 §5.5).

use core::time::Duration;

use ipsec_types::{Encapsulation, SaLifetime, Spi};

use super::explain::{Axis, explain};
use super::{DEFAULT_LIFETIME, listed};
use crate::config::Phase2Policy;
use crate::error::{LocalFailure, Mismatch, PeerMisbehaved, Refused};
use crate::suite::{DhGroup, Phase2Proposal};
use crate::wire::{
    EncapsulationMode, Lifetime, Phase2Transform, Proposal, ProtocolId, SecurityAssociation,
    Transform, describe_phase2,
};

/// What phase 2 will use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) proposal: Phase2Proposal,
    /// The peer's inbound SPI.
    pub(crate) peer_spi: Spi,
    /// The shorter of both sides' lifetimes.
    pub(crate) lifetime: SaLifetime,
    /// We keep a shorter lifetime than the initiator offered: it is to be told
    /// (RESPONDER-LIFETIME, RFC 2407 §4.6.3.1).
    pub(crate) shortened: bool,
    /// Number of the chosen proposal.
    number: u8,
    /// The chosen transform, unchanged.
    transform: Transform,
}

impl Chosen {
    /// What a responder answers.
    pub(crate) fn answer(&self, our_spi: Spi) -> SecurityAssociation {
        SecurityAssociation::chosen(
            self.number,
            ProtocolId::ESP,
            our_spi.into(),
            self.transform.clone(),
        )
    }
}

/// The distinct groups of a policy in its order: one quick mode can offer only one of them
/// (RFC 2409 §5.5), so each is a round of its own.
pub(crate) fn rounds(policy: &Phase2Policy) -> Vec<Option<DhGroup>> {
    let mut groups = Vec::new();
    for proposal in &policy.proposals {
        if !groups.contains(&proposal.pfs) {
            groups.push(proposal.pfs);
        }
    }
    groups
}

/// What is offered in the round of `group`.
pub(crate) fn offered(
    policy: &Phase2Policy,
    group: Option<DhGroup>,
) -> impl Iterator<Item = Phase2Proposal> {
    policy
        .proposals
        .iter()
        .copied()
        .filter(move |proposal| proposal.pfs == group)
}

/// One ESP proposal whose transforms are the alternatives.
pub(crate) fn offer(
    policy: &Phase2Policy,
    group: Option<DhGroup>,
    mode: EncapsulationMode,
    our_spi: Spi,
) -> Result<SecurityAssociation, Refused> {
    let lifetime = Lifetime {
        seconds: Some(policy.lifetime.as_secs()),
        kilobytes: policy.lifetime_kilobytes,
    };
    let transforms: Vec<Transform> = offered(policy, group)
        .zip(1_u8..=u8::MAX)
        .map(|(proposal, number)| {
            Phase2Transform {
                suite: proposal.suite,
                mode,
                group: proposal.pfs,
                esn: proposal.esn,
                lifetime,
            }
            .to_transform(number)
        })
        .collect();
    Proposal::new(1, ProtocolId::ESP, our_spi.into(), transforms)
        .and_then(|proposal| SecurityAssociation::new(vec![proposal]))
        .map_err(|_| LocalFailure::Inexpressible("the phase-2 proposals").into())
}

/// One understood alternative of the peer's.
struct Alternative<'a> {
    proposal: &'a Proposal,
    transform: &'a Transform,
    meaning: Phase2Transform,
}

impl Alternative<'_> {
    fn as_proposal(&self) -> Phase2Proposal {
        Phase2Proposal {
            suite: self.meaning.suite,
            pfs: self.meaning.group,
            esn: self.meaning.esn,
        }
    }
}

/// ESP alternatives that stand alone: a proposal that shares its number with another
/// protocol is a bundle (RFC 2408 §4.2), which we do not do.
fn alternatives(sa: &SecurityAssociation) -> impl Iterator<Item = Alternative<'_>> {
    sa.proposals()
        .iter()
        .filter(|proposal| {
            let bundled = sa.proposals().iter().any(|other| {
                other.number() == proposal.number() && other.protocol() != proposal.protocol()
            });
            proposal.protocol() == ProtocolId::ESP && !bundled && proposal.esp_spi().is_ok()
        })
        .flat_map(|proposal| proposal.transforms().iter().map(move |t| (proposal, t)))
        .filter_map(|(proposal, transform)| {
            Some(Alternative {
                proposal,
                transform,
                meaning: Phase2Transform::from_transform(transform).ok()?,
            })
        })
}

/// The responder's choice: the first of our proposals that the peer offers, with the
/// encapsulation that NAT-T led to. A group counts only with a KE payload beside it.
pub(crate) fn choose(
    policy: &Phase2Policy,
    sa: &SecurityAssociation,
    encapsulation: Encapsulation,
    has_key_exchange: bool,
) -> Result<Chosen, Mismatch> {
    let fits = |theirs: &Alternative<'_>| {
        theirs.meaning.mode.tunnel_over() == Some(encapsulation)
            && theirs.meaning.group.is_some() == has_key_exchange
    };
    let found = policy.proposals.iter().find_map(|ours| {
        alternatives(sa).find(|theirs| fits(theirs) && theirs.as_proposal() == *ours)
    });
    let Some(found) = found else {
        return Err(Mismatch::Phase2Proposal(no_match(
            policy,
            sa,
            encapsulation,
        )));
    };
    let Some(chosen) = chosen(policy, &found) else {
        return Err(Mismatch::Phase2Proposal(no_match(
            policy,
            sa,
            encapsulation,
        )));
    };
    Ok(chosen)
}

/// The initiator's check of the answer: exactly one transform, and one that we offered.
pub(crate) fn accept(
    policy: &Phase2Policy,
    group: Option<DhGroup>,
    mode: EncapsulationMode,
    sa: &SecurityAssociation,
) -> Result<Chosen, Refused> {
    let described: Vec<String> = all_transforms(sa).map(describe_phase2).collect();
    let not_offered = || PeerMisbehaved::NotOffered(listed(&described));
    let mut answers = alternatives(sa);
    let (Some(answer), None, 1) = (answers.next(), answers.next(), described.len()) else {
        return Err(not_offered().into());
    };
    let ours = offered(policy, group).any(|proposal| proposal == answer.as_proposal());
    if !ours || answer.meaning.mode.tunnel_over() != mode.tunnel_over() {
        return Err(not_offered().into());
    }
    chosen(policy, &answer).ok_or_else(|| PeerMisbehaved::BadSpi.into())
}

fn chosen(policy: &Phase2Policy, theirs: &Alternative<'_>) -> Option<Chosen> {
    let lifetime = shorter(policy, theirs.meaning.lifetime);
    Some(Chosen {
        proposal: theirs.as_proposal(),
        peer_spi: theirs.proposal.esp_spi().ok()?,
        shortened: lifetime.time < stated(theirs.meaning.lifetime),
        lifetime,
        number: theirs.proposal.number(),
        transform: theirs.transform.clone(),
    })
}

/// A peer that states nothing means the default.
fn stated(theirs: Lifetime) -> Duration {
    theirs.time().unwrap_or(DEFAULT_LIFETIME)
}

/// The shorter of our policy and what the peer says, in time and in volume.
pub(crate) fn shorter(policy: &Phase2Policy, theirs: Lifetime) -> SaLifetime {
    SaLifetime {
        time: stated(theirs).min(policy.lifetime),
        kilobytes: match (policy.lifetime_kilobytes, theirs.kilobytes) {
            (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
            (one, other) => one.or(other),
        },
    }
}

/// RESPONDER-LIFETIME and its kind: shortens, never lengthens.
pub(crate) fn shortened_by(lifetime: SaLifetime, notified: Lifetime) -> SaLifetime {
    let time: Option<Duration> = notified.time();
    SaLifetime {
        time: time.map_or(lifetime.time, |time| time.min(lifetime.time)),
        kilobytes: match (lifetime.kilobytes, notified.kilobytes) {
            (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
            (one, other) => one.or(other),
        },
    }
}

fn all_transforms(sa: &SecurityAssociation) -> impl Iterator<Item = &Transform> {
    sa.proposals()
        .iter()
        .flat_map(|proposal| proposal.transforms())
}

fn no_match(
    policy: &Phase2Policy,
    sa: &SecurityAssociation,
    encapsulation: Encapsulation,
) -> String {
    let theirs: Vec<Phase2Transform> = alternatives(sa).map(|theirs| theirs.meaning).collect();
    let ours = &policy.proposals;
    let group = |group: Option<DhGroup>| group.map_or("none".to_owned(), |g| g.to_string());
    let esn = |esn: bool| if esn { "on" } else { "off" }.to_owned();
    let transport = |mode: EncapsulationMode| match mode.tunnel_over() {
        Some(encapsulation) => encapsulation_words(encapsulation),
        None => "transport mode".to_owned(),
    };
    let axes = [
        Axis::new(
            "ESP suite",
            theirs.iter().map(|t| t.suite.to_string()),
            ours.iter().map(|p| p.suite.to_string()),
        ),
        Axis::new(
            "PFS group",
            theirs.iter().map(|t| group(t.group)),
            ours.iter().map(|p| group(p.pfs)),
        ),
        Axis::new(
            "ESN",
            theirs.iter().map(|t| esn(t.esn)),
            ours.iter().map(|p| esn(p.esn)),
        ),
        Axis::new(
            "encapsulation",
            theirs.iter().map(|t| transport(t.mode)),
            core::iter::once(encapsulation_words(encapsulation)),
        ),
    ];
    let described: Vec<String> = all_transforms(sa).map(describe_phase2).collect();
    let ours: Vec<String> = ours.iter().map(ToString::to_string).collect();
    if theirs.is_empty() {
        return format!(
            "no phase-2 proposal in common: nothing the peer offers is supported (peer: {}; \
             here: {})",
            listed(&described),
            listed(&ours)
        );
    }
    explain("phase-2", &axes, &described, &ours)
}

fn encapsulation_words(encapsulation: Encapsulation) -> String {
    match encapsulation {
        Encapsulation::Esp => "tunnel mode (protocol 50)".to_owned(),
        Encapsulation::Udp => "tunnel mode in UDP".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RekeyPolicy;

    fn policy(names: &[&str]) -> Phase2Policy {
        Phase2Policy {
            proposals: names.iter().map(|name| name.parse().unwrap()).collect(),
            lifetime: Duration::from_hours(1),
            lifetime_kilobytes: None,
            rekey: RekeyPolicy::for_lifetime(Duration::from_hours(1)),
            grace: Duration::from_secs(30),
        }
    }

    const MODE: EncapsulationMode = EncapsulationMode::Tunnel;

    fn spi(value: u32) -> Spi {
        Spi::new(value).unwrap()
    }

    #[test]
    fn each_group_is_a_round_of_its_own() {
        let ours = policy(&["aes256gcm16", "aes256gcm16-modp2048", "aes256-sha256"]);
        let rounds = rounds(&ours);
        assert_eq!(rounds, [None, Some(DhGroup::Modp2048)]);
        let sa = offer(&ours, rounds[0], MODE, spi(256)).unwrap();
        assert_eq!(sa.proposals()[0].transforms().len(), 2);
    }

    #[test]
    fn choice_and_answer_agree() {
        let theirs = policy(&["aes256-sha256", "aes128gcm16-esn"]);
        let ours = policy(&["aes128gcm16-esn", "aes256-sha256"]);
        let sa = offer(&theirs, None, MODE, spi(300)).unwrap();
        let chosen = choose(&ours, &sa, Encapsulation::Esp, false).unwrap();
        assert_eq!(chosen.proposal.to_string(), "aes128gcm16-esn");
        assert_eq!(chosen.peer_spi, spi(300));
        let accepted = accept(&theirs, None, MODE, &chosen.answer(spi(400))).unwrap();
        assert_eq!(accepted.proposal, chosen.proposal);
        assert_eq!(accepted.peer_spi, spi(400));
    }

    #[test]
    fn a_group_needs_its_key_exchange_payload() {
        let both = policy(&["aes256gcm16-modp2048"]);
        let sa = offer(&both, Some(DhGroup::Modp2048), MODE, spi(300)).unwrap();
        assert!(choose(&both, &sa, Encapsulation::Esp, false).is_err());
        assert!(choose(&both, &sa, Encapsulation::Esp, true).is_ok());
    }

    #[test]
    fn pfs_mismatch_is_explained() {
        let theirs = policy(&["aes256gcm16"]);
        let ours = policy(&["aes256gcm16-modp2048"]);
        let sa = offer(&theirs, None, MODE, spi(300)).unwrap();
        let text = choose(&ours, &sa, Encapsulation::Esp, false)
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("peer offers PFS group none only, this connection allows modp2048"),
            "{text}"
        );
    }

    #[test]
    fn encapsulation_must_be_the_one_that_nat_t_found() {
        let both = policy(&["aes256gcm16"]);
        let sa = offer(&both, None, MODE, spi(300)).unwrap();
        let text = choose(&both, &sa, Encapsulation::Udp, false)
            .unwrap_err()
            .to_string();
        assert!(text.contains("encapsulation"), "{text}");
    }

    #[test]
    fn a_shorter_own_lifetime_is_to_be_notified() {
        let mut theirs = policy(&["aes256gcm16"]);
        theirs.lifetime = Duration::from_hours(2);
        theirs.lifetime_kilobytes = Some(1000);
        let ours = policy(&["aes256gcm16"]);
        let sa = offer(&theirs, None, MODE, spi(300)).unwrap();
        let chosen = choose(&ours, &sa, Encapsulation::Esp, false).unwrap();
        assert!(chosen.shortened);
        assert_eq!(chosen.lifetime.time, Duration::from_hours(1));
        assert_eq!(chosen.lifetime.kilobytes, Some(1000));
    }
}
