//! Phase-1 proposals: one ISAKMP proposal whose transforms are the alternatives
//! (RFC 2409 §5, Appendix A).

use core::time::Duration;

use super::explain::{Axis, explain};
use super::{DEFAULT_LIFETIME, listed};
use crate::config::Phase1Policy;
use crate::error::{LocalFailure, Mismatch, PeerMisbehaved, Refused};
use crate::suite::Phase1Suite;
use crate::wire::{
    Lifetime, Phase1Transform, Proposal, ProtocolId, SecurityAssociation, SpiBytes, Transform,
    describe_phase1,
};

/// What phase 1 will use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) suite: Phase1Suite,
    /// The shorter of both sides' lifetimes.
    pub(crate) lifetime: Duration,
    /// What a responder answers: the chosen transform, unchanged.
    pub(crate) answer: SecurityAssociation,
}

/// Everything the policy allows, in its order.
pub(crate) fn offer(policy: &Phase1Policy) -> Result<SecurityAssociation, Refused> {
    offer_suites(&policy.proposals, policy.lifetime)
}

/// Aggressive mode fixes the group with its first message (RFC 2409 §5.4): only what shares
/// the group of the first proposal can be offered.
pub(crate) fn offer_one_group(policy: &Phase1Policy) -> Result<SecurityAssociation, Refused> {
    let group = policy.proposals.first().map(|suite| suite.group);
    let suites: Vec<_> = policy
        .proposals
        .iter()
        .copied()
        .filter(|suite| Some(suite.group) == group)
        .collect();
    offer_suites(&suites, policy.lifetime)
}

fn offer_suites(
    suites: &[Phase1Suite],
    lifetime: Duration,
) -> Result<SecurityAssociation, Refused> {
    let lifetime = Lifetime::from_time(lifetime);
    let transforms: Vec<Transform> = suites
        .iter()
        .zip(1_u8..=u8::MAX)
        .map(|(&suite, number)| Phase1Transform { suite, lifetime }.to_transform(number))
        .collect();
    Proposal::new(1, ProtocolId::ISAKMP, SpiBytes::EMPTY, transforms)
        .and_then(|proposal| SecurityAssociation::new(vec![proposal]))
        .map_err(|_| LocalFailure::Inexpressible("the phase-1 proposals").into())
}

/// Every transform that can be understood, with what it means.
fn understood(
    sa: &SecurityAssociation,
) -> impl Iterator<Item = (&Proposal, &Transform, Phase1Transform)> {
    sa.proposals()
        .iter()
        .filter(|proposal| proposal.protocol() == ProtocolId::ISAKMP)
        .flat_map(|proposal| proposal.transforms().iter().map(move |t| (proposal, t)))
        .filter_map(|(proposal, transform)| {
            let meaning = Phase1Transform::from_transform(transform).ok()?;
            Some((proposal, transform, meaning))
        })
}

/// The responder's choice: the first of our proposals that the peer offers.
pub(crate) fn choose(policy: &Phase1Policy, sa: &SecurityAssociation) -> Result<Chosen, Mismatch> {
    let found = policy
        .proposals
        .iter()
        .find_map(|ours| understood(sa).find(|(_, _, theirs)| theirs.suite == *ours));
    let Some((proposal, transform, meaning)) = found else {
        return Err(Mismatch::Phase1Proposal(no_match(policy, sa)));
    };
    Ok(Chosen {
        suite: meaning.suite,
        lifetime: shorter(policy.lifetime, meaning.lifetime),
        answer: SecurityAssociation::chosen(
            proposal.number(),
            ProtocolId::ISAKMP,
            SpiBytes::EMPTY,
            transform.clone(),
        ),
    })
}

/// The initiator's check of the answer: exactly one transform, and one that we offered.
pub(crate) fn accept(policy: &Phase1Policy, sa: &SecurityAssociation) -> Result<Chosen, Refused> {
    let described: Vec<String> = all_transforms(sa).map(describe_phase1).collect();
    let not_offered = || PeerMisbehaved::NotOffered(listed(&described));
    let mut meanings = understood(sa);
    let (Some((_, _, meaning)), None, 1) = (meanings.next(), meanings.next(), described.len())
    else {
        return Err(not_offered().into());
    };
    if !policy.proposals.contains(&meaning.suite) {
        return Err(not_offered().into());
    }
    Ok(Chosen {
        suite: meaning.suite,
        lifetime: shorter(policy.lifetime, meaning.lifetime),
        answer: sa.clone(),
    })
}

/// RFC 2407 §4.5.4 lets either side keep a shorter lifetime than the other thinks; we end at
/// the shorter one. So an answer whose lifetime was changed, as some peers do to shorten it,
/// is not refused (RFC 2409 §5 would have it so): it can do no harm.
fn shorter(ours: Duration, theirs: Lifetime) -> Duration {
    theirs.time().unwrap_or(DEFAULT_LIFETIME).min(ours)
}

fn all_transforms(sa: &SecurityAssociation) -> impl Iterator<Item = &Transform> {
    sa.proposals()
        .iter()
        .flat_map(|proposal| proposal.transforms())
}

fn no_match(policy: &Phase1Policy, sa: &SecurityAssociation) -> String {
    let theirs: Vec<Phase1Suite> = understood(sa)
        .map(|(_, _, meaning)| meaning.suite)
        .collect();
    let ours = &policy.proposals;
    let axes = [
        Axis::new(
            "encryption",
            theirs.iter().map(|suite| suite.cipher.to_string()),
            ours.iter().map(|suite| suite.cipher.to_string()),
        ),
        Axis::new(
            "hash",
            theirs.iter().map(|suite| suite.hash.to_string()),
            ours.iter().map(|suite| suite.hash.to_string()),
        ),
        Axis::new(
            "DH group",
            theirs.iter().map(|suite| suite.group.to_string()),
            ours.iter().map(|suite| suite.group.to_string()),
        ),
    ];
    let described: Vec<String> = all_transforms(sa).map(describe_phase1).collect();
    let ours: Vec<String> = ours.iter().map(ToString::to_string).collect();
    if theirs.is_empty() {
        return format!(
            "no phase-1 proposal in common: nothing the peer offers is supported (peer: {}; \
             here: {})",
            listed(&described),
            listed(&ours)
        );
    }
    explain("phase-1", &axes, &described, &ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RekeyPolicy;

    fn policy(names: &[&str]) -> Phase1Policy {
        Phase1Policy {
            proposals: names.iter().map(|name| name.parse().unwrap()).collect(),
            lifetime: Duration::from_hours(8),
            rekey: RekeyPolicy::for_lifetime(Duration::from_hours(8)),
        }
    }

    #[test]
    fn our_order_of_preference_decides() {
        let theirs = policy(&["aes128-sha1-modp2048", "aes256-sha256-modp2048"]);
        let ours = policy(&["aes256-sha256-modp2048", "aes128-sha1-modp2048"]);
        let chosen = choose(&ours, &offer(&theirs).unwrap()).unwrap();
        assert_eq!(chosen.suite.to_string(), "aes256-sha256-modp2048");
        assert_eq!(accept(&theirs, &chosen.answer).unwrap().suite, chosen.suite);
    }

    #[test]
    fn the_shorter_lifetime_counts() {
        let mut theirs = policy(&["aes256-sha256-ecp256"]);
        theirs.lifetime = Duration::from_secs(600);
        let ours = policy(&["aes256-sha256-ecp256"]);
        let chosen = choose(&ours, &offer(&theirs).unwrap()).unwrap();
        assert_eq!(chosen.lifetime, Duration::from_secs(600));
    }

    #[test]
    fn the_explanation_names_the_attribute_and_the_remedy() {
        let theirs = policy(&["aes256-sha256-modp1024", "aes128-sha1-modp1024"]);
        let ours = policy(&["aes256-sha256-modp2048"]);
        let error = choose(&ours, &offer(&theirs).unwrap()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("peer offers DH group modp1024 only, this connection allows modp2048"),
            "{text}"
        );
        assert!(
            text.contains("add one of the peer's to [connection.phase1]"),
            "{text}"
        );
        assert!(
            !text.contains("encryption"),
            "encryption does match: {text}"
        );
    }

    #[test]
    fn crossed_proposals_are_called_crossed() {
        let theirs = policy(&["aes256-sha1-modp2048", "aes128-sha256-modp2048"]);
        let ours = policy(&["aes256-sha256-modp2048"]);
        let text = choose(&ours, &offer(&theirs).unwrap())
            .unwrap_err()
            .to_string();
        assert!(text.contains("no whole proposal does"), "{text}");
    }

    #[test]
    fn an_answer_beyond_the_offer_is_misbehaviour() {
        let ours = policy(&["aes256-sha256-modp2048"]);
        let theirs = policy(&["aes128-sha1-modp2048"]);
        let two = policy(&["aes256-sha256-modp2048", "aes128-sha1-modp2048"]);
        for answer in [&theirs, &two] {
            let refused = accept(&ours, &offer(answer).unwrap()).unwrap_err();
            assert!(matches!(
                refused,
                Refused::Peer(PeerMisbehaved::NotOffered(_))
            ));
        }
    }

    #[test]
    fn aggressive_mode_offers_one_group() {
        let ours = policy(&[
            "aes256-sha256-ecp256",
            "aes256-sha1-modp2048",
            "aes128-sha1-ecp256",
        ]);
        let sa = offer_one_group(&ours).unwrap();
        assert_eq!(sa.proposals()[0].transforms().len(), 2);
    }
}
