//! The proposals of a connection, and the user's consent to weak ones.

use std::str::FromStr;

use ikev1::{Phase1Suite, Phase2Proposal};
use toml::Spanned;

use super::draft::{Draft, quoted_list};
use super::proposal::{Proposal, weakness};
use crate::config::document::{Field, Section as _};
use crate::config::explain::Origin;
use crate::config::fault::Fault;
use crate::config::problem::Findings;
use crate::config::raw::{RawConnection, RawPhase1, RawPhase2};

/// A message with more proposals would not fit one UDP datagram on every path.
const MAX_PROPOSALS: usize = 32;

/// The user's consent to weak algorithms, and what follows from it.
pub(super) struct Consent {
    /// Weak proposals of the file are accepted.
    given: bool,
}

impl Consent {
    pub(super) fn new(raw: &RawConnection, draft: &mut Draft<'_>) -> Self {
        let settled = draft.settle(
            "allow_weak",
            raw.allow_weak.clone(),
            (false, Origin::Default),
            bool::to_string,
        );
        Self {
            // A wrong value has been noted; what it meant must not be guessed at twice.
            given: settled.unwrap_or(true),
        }
    }

    pub(super) fn phase1(
        &self,
        raw: &RawPhase1,
        connection: &RawConnection,
        draft: &mut Draft<'_>,
    ) -> Option<Vec<Phase1Suite>> {
        let values = draft.profile.values();
        let mut names = values.phase1.to_vec();
        let left_out = values.phase1_weak;
        if self.given {
            names.extend(left_out);
        } else if !left_out.is_empty() && raw.proposals.is_missing() && draft.profile_known {
            let fault = Fault::ProfileNeedsWeak {
                profile: draft.profile.name(),
                left_out: left_out.join(", "),
            };
            draft
                .findings
                .add(&connection.profile.span_or(connection.span()), fault);
        }
        let (_, origin) = draft.profile_value(|values| values.phase1);
        let fallback = (known(&names), origin);
        let field = self.list(&raw.proposals, "phase1.proposals", draft.findings);
        draft.settle("phase1.proposals", field, fallback, |list| {
            quoted_list(list)
        })
    }

    pub(super) fn phase2(
        &self,
        raw: &RawPhase2,
        draft: &mut Draft<'_>,
    ) -> Option<Vec<Phase2Proposal>> {
        let (names, origin) = draft.profile_value(|values| values.phase2);
        let fallback = (known(names), origin);
        let field = self.list(&raw.proposals, "phase2.proposals", draft.findings);
        draft.settle("phase2.proposals", field, fallback, |list| {
            quoted_list(list)
        })
    }

    /// Proposals of the file, each understood by itself so that every fault is noted.
    fn list<T: Proposal>(
        &self,
        field: &Field<Vec<Spanned<String>>>,
        key: &str,
        findings: &mut Findings,
    ) -> Field<Vec<T>> {
        let Some(given) = field.given() else {
            return field.understand(findings, |_| Ok(Vec::new()));
        };
        let mut list: Vec<T> = Vec::new();
        let mut good = true;
        for item in given.get_ref() {
            match self.proposal(item.get_ref(), key, &list) {
                Ok(proposal) => list.push(proposal),
                Err(fault) => {
                    findings.add(&item.span(), fault);
                    good = false;
                }
            }
        }
        let fault = match given.get_ref().len() {
            0 => Some(Fault::EmptyList {
                key: key.to_owned(),
            }),
            1..=MAX_PROPOSALS => None,
            count => Some(Fault::OutOfRange {
                key: key.to_owned(),
                found: format!("a list of {count}"),
                expected: format!("at most {MAX_PROPOSALS} proposals"),
            }),
        };
        if let Some(fault) = fault {
            findings.add(&given.span(), fault);
            good = false;
        }
        if good {
            Field::Given(Spanned::new(given.span(), list))
        } else {
            Field::Invalid
        }
    }

    fn proposal<T: Proposal>(&self, name: &str, key: &str, before: &[T]) -> Result<T, Fault> {
        let Ok(proposal) = name.parse::<T>() else {
            return Err(Fault::BadProposal {
                key: key.to_owned(),
                found: name.to_owned(),
                reason: T::unknown_part(name),
                examples: T::EXAMPLES,
            });
        };
        if before.contains(&proposal) {
            return Err(Fault::RepeatedValue {
                key: key.to_owned(),
                found: name.to_owned(),
            });
        }
        if !proposal.is_weak() || self.given {
            return Ok(proposal);
        }
        let (algorithm, why) = weakness(name).unwrap_or(("a weak algorithm", "it is out of date"));
        Err(Fault::WeakAlgorithm {
            key: key.to_owned(),
            proposal: name.to_owned(),
            algorithm,
            why,
        })
    }

    pub(super) fn warn_if_unused(
        &self,
        raw: &RawConnection,
        phase1: Option<&[Phase1Suite]>,
        phase2: Option<&[Phase2Proposal]>,
        findings: &mut Findings,
    ) {
        let (Some(given), Some(phase1), Some(phase2)) = (raw.allow_weak.given(), phase1, phase2)
        else {
            return;
        };
        let used = phase1.iter().any(Proposal::is_weak) || phase2.iter().any(Proposal::is_weak);
        if *given.get_ref() && !used {
            findings.add(&given.span(), Fault::AllowWeakUnused);
        }
    }
}

/// Proposals from our own tables; a test holds every one of them to its name.
fn known<T: FromStr>(names: &[&str]) -> Vec<T> {
    names.iter().filter_map(|name| name.parse().ok()).collect()
}
