//! Takeover as data: which steps, in which order, and what each of them cost.
//!
//! The election decides on a [`Change`]; [`steps`] turns it into an ordered list; the daemon
//! performs the steps one by one and reports each. The order is the design, so it stands here and
//! not in the daemon:
//!
//! ```text
//!   hot       SAs above the ceilings | addresses | gate | announce | mover | timers
//!   cold      forget SAs | probe for a third user | addresses | gate | announce | mover | negotiate
//!   prepare   ways from inside, held | accept
//!   hand over quiesce | drain | last records  -->  no addresses | release | forward
//!   rejoin    mute | no addresses | (snapshot follows)
//! ```
//! Everything is installed before the address answers, and the gate opens after it: the first
//! packet the node sends finds its SA, and the peers see no gap longer than these steps.

use core::time::Duration;

use serde::Serialize;

use crate::election::Change;

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Give every SA its new IV epoch and its first sequence number, and let it seal once the
    /// gate opens. The numbers are in `PairNode::starts`.
    ActivateSas,
    /// Drop every SA and half-open exchange: they cannot be continued.
    ForgetSas,
    /// Ask the links whether a third machine uses the addresses (RFC 5227 probe).
    ProbeAddresses,
    /// Put the virtual addresses on their device; already there is success.
    AddAddresses,
    /// Open the send gate. The node does this itself.
    OpenGate,
    /// Gratuitous ARP and unsolicited neighbour advertisements, now and refreshed for a while.
    Announce,
    /// Run the `exec` mover, if one is configured: this node is active.
    MoveHere,
    /// Run the `exec` mover, if one is configured: this node is standby.
    MoveAway,
    /// Start the IKE timers: DPD, rekey, retransmission.
    ResumeTimers,
    /// Start every connection at once, main mode with INITIAL-CONTACT (RFC 2407 §4.6.3.3).
    NegotiateAll,
    /// Open the ways from inside and hold what comes on them: the partner will send on what it
    /// does not seal any more.
    OpenWays,
    /// Accept the partner's offer. The node does this itself.
    Accept,
    /// Close the ways from inside: what comes on them goes to the partner again.
    CloseWays,
    /// Start no new negotiation and wait for the ones under way, bounded.
    Quiesce,
    /// Stop sealing: what arrives from inside waits.
    StopSealing,
    /// Seal again.
    StartSealing,
    /// Write the exact sequence numbers, replay edges and clocks as records.
    WriteLastRecords,
    /// Report that draining is done. The node does this itself.
    Drained,
    /// Stop the IKE timers; nothing initiates, probes or retransmits from here on.
    StopTimers,
    /// Take the virtual addresses off their device; not there is success.
    RemoveAddresses,
    /// Tell the partner that the addresses are free. The node does this itself.
    Release,
    /// Keep opening inbound ESP and forward what comes out of it, and LAN traffic to the
    /// partner, for a grace period.
    ForwardForGrace,
    /// Forward LAN traffic that still comes here to the partner.
    ForwardToPartner,
}

impl Step {
    /// Steps without which the change has failed. The others are tried, measured and logged.
    #[must_use]
    pub const fn is_vital(self) -> bool {
        match self {
            Self::ActivateSas
            | Self::ForgetSas
            | Self::ProbeAddresses
            | Self::AddAddresses
            | Self::OpenGate
            | Self::OpenWays
            | Self::Accept
            | Self::StopSealing
            | Self::StartSealing
            | Self::WriteLastRecords
            | Self::Drained
            | Self::Release => true,
            // An address that cannot be removed is still behind a closed gate.
            Self::RemoveAddresses
            | Self::Announce
            | Self::MoveHere
            | Self::MoveAway
            | Self::ResumeTimers
            | Self::NegotiateAll
            | Self::CloseWays
            | Self::Quiesce
            | Self::StopTimers
            | Self::ForwardForGrace
            | Self::ForwardToPartner => false,
        }
    }

    /// Steps that the node performs itself.
    pub(crate) const fn is_internal(self) -> bool {
        matches!(
            self,
            Self::OpenGate | Self::Accept | Self::Drained | Self::Release
        )
    }
}

/// The ordered steps of a change.
#[must_use]
pub const fn steps(change: Change) -> &'static [Step] {
    match change {
        Change::Claim { hot: true } | Change::ClaimHanded | Change::Reclaim => &[
            Step::ActivateSas,
            Step::AddAddresses,
            Step::OpenGate,
            Step::Announce,
            Step::MoveHere,
            Step::ResumeTimers,
        ],
        Change::Claim { hot: false } => &[
            Step::ForgetSas,
            Step::ProbeAddresses,
            Step::AddAddresses,
            Step::OpenGate,
            Step::Announce,
            Step::MoveHere,
            Step::ResumeTimers,
            Step::NegotiateAll,
        ],
        Change::Resume => &[
            Step::AddAddresses,
            Step::OpenGate,
            Step::StartSealing,
            Step::Announce,
            // The claim may have been interrupted before it.
            Step::MoveHere,
            Step::ResumeTimers,
        ],
        Change::Mute => &[Step::StopTimers],
        Change::Demote => &[
            Step::StopTimers,
            Step::RemoveAddresses,
            Step::MoveAway,
            Step::ForwardToPartner,
        ],
        Change::Prepare => &[Step::OpenWays, Step::Accept],
        Change::Unprepare => &[Step::CloseWays, Step::ForwardToPartner],
        Change::Drain => &[
            Step::Quiesce,
            Step::StopSealing,
            Step::WriteLastRecords,
            Step::Drained,
        ],
        Change::CallOff => &[Step::StartSealing, Step::ResumeTimers],
        Change::Release => &[
            Step::StopTimers,
            Step::RemoveAddresses,
            Step::Release,
            Step::ForwardForGrace,
        ],
        Change::Stop => &[Step::StopTimers, Step::RemoveAddresses, Step::MoveAway],
    }
}

/// Names one step of one run; a late report of an abandoned run is recognised by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct StepId(pub u64);

/// How one step went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Which step.
    pub step: Step,
    /// How long it took.
    #[serde(rename = "took_ms", serialize_with = "crate::millis::serialize")]
    pub took: Duration,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// One change being carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    change: Change,
    #[serde(skip)]
    left: &'static [Step],
    #[serde(skip)]
    current: Option<(StepId, Step, Duration)>,
    #[serde(rename = "begun_at_ms", serialize_with = "crate::millis::serialize")]
    begun: Duration,
    reports: Vec<Report>,
    failed: bool,
}

impl Run {
    /// Begins at `now`.
    #[must_use]
    pub const fn new(change: Change, now: Duration) -> Self {
        Self {
            change,
            left: steps(change),
            current: None,
            begun: now,
            reports: Vec::new(),
            failed: false,
        }
    }

    /// The next step, unless one is being performed or the run is over.
    pub fn next(&mut self, now: Duration, id: StepId) -> Option<Step> {
        if self.current.is_some() || self.failed {
            return None;
        }
        let (step, left) = self.left.split_first()?;
        self.left = left;
        self.current = Some((id, *step, now));
        Some(*step)
    }

    /// The step `id` is over. `None` when it does not belong to this run; otherwise whether the
    /// run can go on.
    pub fn report(
        &mut self,
        now: Duration,
        id: StepId,
        outcome: Result<(), String>,
    ) -> Option<bool> {
        let (_, step, since) = self.current.take_if(|(current, _, _)| *current == id)?;
        let failure = outcome.err();
        self.failed |= failure.is_some() && step.is_vital();
        self.reports.push(Report {
            step,
            took: now.saturating_sub(since),
            failure,
        });
        Some(!self.failed)
    }

    /// What is being carried out.
    #[must_use]
    pub const fn change(&self) -> Change {
        self.change
    }

    /// When it began, on the boot-time clock.
    #[must_use]
    pub const fn begun(&self) -> Duration {
        self.begun
    }

    /// The steps that are over.
    #[must_use]
    pub fn reports(&self) -> &[Report] {
        &self.reports
    }

    /// True when every step is over or one that matters has failed.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.failed || (self.left.is_empty() && self.current.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    const CHANGES: [Change; 13] = [
        Change::Claim { hot: true },
        Change::Claim { hot: false },
        Change::ClaimHanded,
        Change::Reclaim,
        Change::Resume,
        Change::Mute,
        Change::Demote,
        Change::Prepare,
        Change::Unprepare,
        Change::Drain,
        Change::Release,
        Change::CallOff,
        Change::Stop,
    ];

    fn place(change: Change, step: Step) -> Option<usize> {
        steps(change).iter().position(|other| *other == step)
    }

    #[test]
    fn the_gate_opens_after_sas_and_addresses_and_before_anything_is_announced() {
        for change in CHANGES {
            let Some(gate) = place(change, Step::OpenGate) else {
                continue;
            };
            for before in [Step::ActivateSas, Step::ForgetSas, Step::AddAddresses] {
                assert!(
                    place(change, before).is_none_or(|at| at < gate),
                    "{change:?}"
                );
            }
            for after in [Step::Announce, Step::ResumeTimers, Step::NegotiateAll] {
                assert!(
                    place(change, after).is_none_or(|at| at > gate),
                    "{change:?}"
                );
            }
        }
    }

    #[test]
    fn the_partner_is_told_only_after_the_addresses_are_gone() {
        let change = Change::Release;
        assert!(place(change, Step::RemoveAddresses) < place(change, Step::Release));
        let change = Change::Drain;
        assert!(place(change, Step::StopSealing) < place(change, Step::WriteLastRecords));
    }

    #[test]
    fn initial_contact_is_never_sent_after_a_hot_takeover() {
        for change in CHANGES {
            let cold = change == Change::Claim { hot: false };
            assert_eq!(
                place(change, Step::NegotiateAll).is_some(),
                cold,
                "{change:?}"
            );
        }
    }

    #[test]
    fn steps_run_in_order_and_are_measured() {
        let mut run = Run::new(Change::Demote, 10 * MS);
        assert_eq!(run.next(10 * MS, StepId(1)), Some(Step::StopTimers));
        assert_eq!(run.next(10 * MS, StepId(2)), None, "one at a time");
        assert_eq!(
            run.report(11 * MS, StepId(9), Ok(())),
            None,
            "another run's"
        );
        assert_eq!(run.report(12 * MS, StepId(1), Ok(())), Some(true));
        assert_eq!(run.next(12 * MS, StepId(2)), Some(Step::RemoveAddresses));
        let failure = Err("no such device".to_owned());
        assert_eq!(run.report(15 * MS, StepId(2), failure), Some(true));
        assert_eq!(run.reports()[0].took, 2 * MS);
        assert!(run.reports()[1].failure.is_some());
    }

    #[test]
    fn a_vital_step_that_fails_ends_the_run() {
        let mut run = Run::new(Change::ClaimHanded, MS);
        assert_eq!(run.next(MS, StepId(1)), Some(Step::ActivateSas));
        assert_eq!(
            run.report(MS, StepId(1), Err("gone".to_owned())),
            Some(false)
        );
        assert_eq!(run.next(MS, StepId(2)), None);
        assert!(run.is_over());
    }
}
