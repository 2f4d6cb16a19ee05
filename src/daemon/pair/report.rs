//! The pair as `status` shows it, and the operator's switchover.

use core::time::Duration;

use ha_keepalive::election;
use ha_keepalive::io::clock::boot_time;
use ha_keepalive::node::PairNode;
use ha_keepalive::replication::Following;
use serde::Serialize;

use super::Pair;
use crate::control::{Refusal, RefusalKind};
use crate::daemon::gateway::Gateway;
use crate::status::{
    LagStatus, PairStatus, PartnerStatus, StepStatus, TakeoverReadiness, TransitionStatus,
    VirtualAddressStatus,
};

/// One sentence: why this node is what it is.
pub(super) fn why(node: &PairNode) -> String {
    let history = node.election().history();
    history
        .last()
        .map_or_else(|| "just started".to_owned(), |last| last.reason.to_string())
}

/// The word for a value that is a word: a state, a step, a condition.
fn word(value: impl Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| Some(value.as_str()?.to_owned()))
        .unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Pair {
    /// Everything about the pair that `vipsec status` tells.
    pub(in crate::daemon) fn status(&self, gateway: &Gateway) -> PairStatus {
        let now = boot_time();
        let node = self.driver.node();
        let status = node.status(now);
        let here = status.serving || self.state.grace.is_some();
        PairStatus {
            member: word(self.state.config.member).to_lowercase(),
            role: word(status.role),
            serving: status.serving,
            state: word(status.state),
            since_secs: status.for_time.as_secs(),
            why: status.why.clone(),
            epoch: status.epoch.0,
            failed: status.failed.iter().map(word).collect(),
            fit: status.fit,
            partner: status.peer.as_ref().map(|peer| PartnerStatus {
                role: word(peer.said.role),
                epoch: peer.said.epoch.0,
                heard_ms_ago: u64::try_from(peer.silent_for.as_millis()).unwrap_or(u64::MAX),
                fit: peer.said.fit,
                same_config: peer.said.revision == status.revision,
                dead: peer.dead,
            }),
            in_sync: status.in_sync || status.hot,
            lag: status.lag.map(|lag| LagStatus {
                records: lag.records as u64,
                bytes: lag.bytes,
                ms: millis(lag.age),
            }),
            takeover: self.readiness(now, status.following),
            config_revision_short: gateway.config.revision.short(),
            addresses: self
                .state
                .addresses
                .specs()
                .iter()
                .map(|spec| VirtualAddressStatus {
                    address: spec.address.to_string(),
                    link: spec.link.clone(),
                    here,
                })
                .collect(),
            transitions: status
                .transitions
                .iter()
                .map(|moved| transition(now, moved))
                .collect(),
            last_change: self.last_change(),
        }
    }

    fn last_change(&self) -> Vec<StepStatus> {
        let reports = self.state.last_run.iter().flat_map(|run| run.reports());
        reports
            .map(|report| StepStatus {
                step: word(report.step),
                took_ms: millis(report.took),
                failure: report.failure.clone(),
            })
            .collect()
    }

    /// What a takeover now would be like, seen from this node.
    fn readiness(&self, now: Duration, following: Option<Following>) -> TakeoverReadiness {
        let node = self.driver.node();
        let mut reasons: Vec<String> = if following.is_some() {
            let blockers = node.readiness(now);
            blockers.iter().map(ToString::to_string).collect()
        } else {
            let obstacles = node.obstacles(now);
            obstacles.iter().map(ToString::to_string).collect()
        };
        if let Some((at, reason)) = self.state.refusals.last()
            && following == Some(Following::Refused)
        {
            let ago = at.elapsed().as_secs();
            reasons.push(format!("the standby said {ago} s ago: {reason}"));
        }
        TakeoverReadiness {
            hot: node.obstacles(now).is_empty(),
            reasons,
        }
    }

    /// The operator wants the role to move. Returns a line for him.
    ///
    /// # Errors
    /// What stands against it.
    pub(in crate::daemon) fn switchover(
        &mut self,
        force: bool,
        dry_run: bool,
    ) -> Result<String, Refusal> {
        let now = boot_time();
        let following = self.driver.node().status(now).following;
        let reasons = self.readiness(now, following).reasons;
        let active = self.not_active().is_none();
        if dry_run {
            return match reasons.as_slice() {
                [] => Ok("ready: a switchover now would lose nothing".to_owned()),
                reasons => Err(Refusal::not_ready(reasons)),
            };
        }
        let node = self.driver.node_mut();
        match (active, reasons.is_empty()) {
            (true, true) => {
                node.switchover(now);
                Ok("handing the role over to the partner".to_owned())
            }
            (false, true) => {
                node.switchover(now);
                Ok("asking the active node for its role".to_owned())
            }
            (true, false) if force => match node.force_switchover(now) {
                true => Ok("left the role to the partner, which negotiates what it does not know".to_owned()),
                false => Err(Refusal::new(
                    RefusalKind::NotReady,
                    "there is no partner that could be active",
                )
                .with_hint("vipsec status tells what the partner lacks")),
            },
            (false, false) if force => Err(Refusal::new(
                RefusalKind::NotReady,
                "this node is not the active one, and cannot take the role by force",
            )
            .with_hint("run vipsec switchover --force on the active node; if that is dead, this one takes over by itself")),
            (_, false) => Err(Refusal::not_ready(reasons)),
        }
    }
}

fn transition(now: Duration, moved: &election::Transition) -> TransitionStatus {
    let mut reason = moved.reason.to_string();
    if let Some(condition) = moved.condition {
        reason = format!("{reason} ({})", word(condition));
    }
    TransitionStatus {
        ago_secs: now.saturating_sub(moved.at).as_secs_f64(),
        from: word(moved.from),
        to: word(moved.to),
        reason,
        silence_ms: moved.silence.map(millis),
        serving_after_ms: moved.serving_after.map(millis),
    }
}
