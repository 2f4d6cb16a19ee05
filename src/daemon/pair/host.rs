//! What each step of a change of role does here. The steps and their order are decided in
//! `ha_keepalive::takeover`.

use core::time::Duration;
use std::net::IpAddr;

use ha_keepalive::election::{self, Change};
use ha_keepalive::io::driver::{PairHost, Performed};
use ha_keepalive::io::mover::{Move, Mover, MoverEvent};
use ha_keepalive::node::{Order, PairNode};
use ha_keepalive::replication::{Applied, Commit, Following, Kind, Limit};
use ha_keepalive::takeover::{Step, StepId};
use ikev1::Command;
use tracing::{debug, info, warn};

use super::{News, QUIESCE_LIMIT, State, records};
use crate::daemon::gateway::Gateway;
use crate::daemon::tunnels::Tunnels;

/// The gateway as the pair's node sees it.
pub(super) struct Host<'a> {
    state: &'a mut State,
    gateway: &'a mut Gateway,
    tunnels: &'a mut Tunnels,
}

impl<'a> Host<'a> {
    pub(super) const fn new(
        state: &'a mut State,
        gateway: &'a mut Gateway,
        tunnels: &'a mut Tunnels,
    ) -> Self {
        Self {
            state,
            gateway,
            tunnels,
        }
    }

    /// Runs a step of the network in a task of its own; the node hears how it ended.
    fn later(
        &self,
        id: StepId,
        step: impl Future<Output = Result<(), String>> + 'static,
    ) -> Performed {
        let reporter = self.state.reporter.clone();
        tokio::task::spawn_local(async move { reporter.done(id, step.await) });
        Performed::Later
    }

    fn remove_addresses(&mut self, id: StepId, change: Change) -> Performed {
        self.state.links.rest();
        let addresses = self.state.addresses.clone();
        let ways = self.tunnels.ways();
        // During the grace after a planned switchover the address stays, unanswered: what still
        // comes here is opened.
        let keeps = change == Change::Release || self.state.grace.is_some();
        if change == Change::Demote && !keeps {
            self.state.be_mute(self.gateway);
        }
        self.later(id, async move {
            let closed = addresses.close_ways(&ways).await;
            if keeps {
                return closed;
            }
            addresses.leave().await.and(closed)
        })
    }

    fn add_addresses(&mut self, id: StepId, change: Change) -> Performed {
        let (addresses, ways) = (self.state.addresses.clone(), self.tunnels.ways());
        let goes_on = matches!(change, Change::Reclaim | Change::Resume);
        if !(goes_on && addresses.are_held()) {
            // What comes as soon as the ways are open waits for the gate.
            if let Err(error) = self.hold_tunnels() {
                return Performed::Done(Err(error));
            }
            return self.later(id, async move { addresses.take(ways).await });
        }
        // It was silent for a moment and has left nothing: the kernel is asked, but not waited
        // for, since it may have no time (see `vti::Netlink::connect`).
        tokio::task::spawn_local(async move {
            if let Err(error) = addresses.take(ways).await {
                warn!(
                    error,
                    "not everything of the virtual addresses is here any more"
                );
            }
        });
        Performed::Done(Ok(()))
    }

    /// Opens what still arrives, gives what waits in the tunnels back to the kernel, which by
    /// now routes it to the partner, and originates nothing.
    fn forward_for_grace(&mut self) {
        self.gateway.silent = true;
        // The SAs stay: if the partner does not take the role after all, this node goes on.
        self.reflect_tunnels();
        let news = self.state.news.clone();
        let grace = self.state.config.grace;
        self.state.grace = Some(tokio::task::spawn_local(async move {
            tokio::time::sleep(grace).await;
            // The daemon may be gone by then.
            let _ = news.send(News::GraceOver);
        }));
    }

    fn hold_tunnels(&mut self) -> Result<(), String> {
        self.gateway.holds.forget();
        let held = self.gateway.data_plane.hold_all();
        held.map_err(|error| error.to_string())
    }

    fn reflect_tunnels(&self) {
        if let Err(error) = self.gateway.data_plane.reflect_all() {
            warn!(%error, "what waits in the tunnels is not forwarded");
        }
    }

    fn release_tunnels(&self) {
        if let Err(error) = self.gateway.data_plane.release_all() {
            warn!(%error, "cannot release the tunnels");
        }
    }

    fn resume_timers(&mut self) {
        self.gateway.silent = false;
        self.gateway.ike.quiesce(false);
        for inbound in core::mem::take(&mut self.state.doomed) {
            let command = Command::HardLimit { inbound };
            self.gateway
                .ike
                .handle_command(std::time::Instant::now(), command);
        }
        self.state.worked = true;
    }

    /// The program of the user's own runs beside the steps: it must not hold IKE up.
    fn run_mover(&mut self, node: &PairNode, event: MoverEvent) {
        let Some(config) = &self.state.config.mover else {
            return;
        };
        if let Some(before) = self.state.mover.take() {
            before.abort();
        }
        let mover = Mover {
            program: config.exec.clone(),
            arguments: Vec::new(),
            timeout: config.timeout,
        };
        let what = Move {
            event,
            node: self.state.name.clone(),
            epoch: node.epoch(),
            addresses: virtual_addresses(self.state),
            reason: super::report::why(node),
        };
        self.state.mover = Some(tokio::task::spawn_local(async move {
            match mover.run(&what).await {
                Ok(()) => info!(?event, "the mover has run"),
                Err(error) => warn!(?event, %error, "the addresses may not have moved"),
            }
        }));
    }

    /// The partner does not seal any more once its offer is accepted; what it sends on must
    /// find its way here, and waits until this node may seal.
    fn open_ways(&mut self, id: StepId) -> Performed {
        if let Err(error) = self.hold_tunnels() {
            return Performed::Done(Err(error));
        }
        let (addresses, ways) = (self.state.addresses.clone(), self.tunnels.ways());
        self.later(id, async move { addresses.prepare(ways).await })
    }

    /// A switchover that this node had made ready for does not come.
    fn close_ways(&self, id: StepId) -> Performed {
        let (addresses, ways) = (self.state.addresses.clone(), self.tunnels.ways());
        self.later(id, async move { addresses.close_ways(&ways).await })
    }

    fn perform_step(
        &mut self,
        node: &mut PairNode,
        now: Duration,
        id: StepId,
        step: Step,
        change: Change,
    ) -> Performed {
        match step {
            Step::ActivateSas if change == Change::Reclaim => {
                self.state.reclaim(node, self.gateway);
            }
            Step::ActivateSas => {
                self.state.take_over(now, node, self.gateway);
                self.gateway.silent = true;
            }
            Step::ForgetSas => self.state.forget(now, node, self.gateway),
            Step::ProbeAddresses => {
                let probe = self.state.links.probe();
                return self.later(id, probe);
            }
            Step::AddAddresses => {
                // Whatever was to be given up after a switchover stays here.
                self.state.end_grace();
                return self.add_addresses(id, change);
            }
            Step::Announce => {
                self.release_tunnels();
                self.state.links.announce();
            }
            Step::MoveHere => self.run_mover(node, MoverEvent::Active),
            Step::MoveAway => self.run_mover(node, MoverEvent::Standby),
            Step::ResumeTimers => self.resume_timers(),
            Step::NegotiateAll => {
                self.state.negotiate_all(self.gateway);
                self.state.worked = true;
            }
            Step::OpenWays => return self.open_ways(id),
            Step::CloseWays => return self.close_ways(id),
            Step::Quiesce => {
                self.state.quiescing = Some((id, now + QUIESCE_LIMIT));
                self.gateway.ike.quiesce(true);
                self.state.look_at_quiesce(now, self.gateway);
                return Performed::Later;
            }
            Step::StopSealing => return Performed::Done(self.hold_tunnels()),
            Step::StartSealing => {
                self.release_tunnels();
            }
            Step::WriteLastRecords => {
                let written = self.state.write_last(now, node, self.gateway);
                return Performed::Done(written);
            }
            Step::StopTimers => self.gateway.silent = true,
            Step::RemoveAddresses => return self.remove_addresses(id, change),
            Step::ForwardForGrace => self.forward_for_grace(),
            Step::ForwardToPartner => {
                // The routes are there since the start; what waited in the tunnels goes too.
                self.reflect_tunnels();
            }
            // The node does these itself.
            Step::OpenGate | Step::Accept | Step::Drained | Step::Release => {}
        }
        Performed::Done(Ok(()))
    }
}

impl PairHost for Host<'_> {
    fn perform(
        &mut self,
        node: &mut PairNode,
        now: Duration,
        id: StepId,
        step: Step,
        change: Change,
    ) -> Performed {
        debug!(?change, ?step, "step");
        self.perform_step(node, now, id, step, change)
    }

    fn apply(&mut self, change: Applied) -> Result<(), String> {
        let Applied::Put { record, .. } = change else {
            return Ok(());
        };
        if record.key.kind() == Kind::Config {
            return self.state.receive_config(&record, self.gateway);
        }
        let incoming = self.state.incoming.as_ref();
        let config = incoming.map_or(&self.gateway.config, |incoming| &incoming.config);
        records::check(&record, |name| {
            config
                .connections
                .iter()
                .any(|connection| connection.name() == name)
        })
    }

    fn limit(&mut self, limit: Limit) {
        let Some(sa) = self.state.sas.get(&limit.sa) else {
            return;
        };
        if let Some(sa) = self
            .gateway
            .sad
            .outbound(sa.pair.connection, sa.pair.outbound)
        {
            sa.sequence().limit(limit.last);
        }
    }

    fn committed(&mut self, position: u64, commit: Commit) {
        if commit == Commit::TimedOut {
            warn!(
                "the standby did not acknowledge in time; it is not in sync, and a takeover now would be a cold one"
            );
        }
        while let Some((at, _)) = self.state.pending.front()
            && *at <= position
            && let Some((_, batch)) = self.state.pending.pop_front()
        {
            self.gateway.carry_out(std::time::Instant::now(), &batch);
            self.state.worked = true;
        }
    }

    fn notice(&mut self, node: &mut PairNode, _now: Duration, notice: Order) {
        match notice {
            Order::Moved(moved) => {
                info!(from = ?moved.from, to = ?moved.to, epoch = moved.epoch.0, silence = ?moved.silence, condition = ?moved.condition, "{}", moved.reason);
                if moved.to == election::State::Active {
                    self.state.share_config(node, self.gateway);
                }
            }
            Order::Finished(run) => {
                let failures = run
                    .reports()
                    .iter()
                    .filter_map(|report| report.failure.as_deref());
                for failure in failures {
                    warn!(change = ?run.change(), failure, "a step failed");
                }
                let took = run
                    .reports()
                    .iter()
                    .map(|report| report.took)
                    .sum::<Duration>();
                info!(change = ?run.change(), ?took, "done");
                self.state.note_stopped(run.change());
                self.state.last_run = Some(run);
            }
            Order::Following(following) => {
                info!(?following, "the standby follows");
                if following == Following::InSync {
                    // After a split, neighbours may have learned the other one.
                    self.state.links.announce();
                }
            }
            Order::Proposed(record) => {
                self.state.receive_proposal(node, &record, self.gateway);
            }
            Order::SwitchoverRefused(blockers) => {
                let reasons: Vec<String> = blockers.iter().map(ToString::to_string).collect();
                warn!(reasons = reasons.join("; "), "switchover refused");
            }
            Order::PeerRefused { key, reason } => {
                warn!(
                    ?key,
                    reason, "the partner does not take a record; the pair is not in sync"
                );
                self.state
                    .refusals
                    .push((std::time::Instant::now(), reason));
                let excess = self.state.refusals.len().saturating_sub(8);
                self.state.refusals.drain(..excess);
            }
            Order::Redial(why) => info!(%why, "the sync connection is given up and dialled again"),
            other => debug!(?other, "order"),
        }
    }
}

impl State {
    /// A switchover waits until nothing is being negotiated, but not for long: a negotiation
    /// that breaks costs no packet (its old SAs live on), and a peer that is silent must not
    /// keep the role here.
    pub(super) fn look_at_quiesce(&mut self, now: Duration, gateway: &Gateway) {
        let Some((id, until)) = self.quiescing else {
            return;
        };
        // What waits for a commit point must leave before the gate closes.
        let negotiating = gateway.ike.is_negotiating() || !self.pending.is_empty();
        let outcome = if !negotiating {
            Ok(())
        } else if now >= until {
            Err("a negotiation did not come to its end".to_owned())
        } else {
            return;
        };
        self.quiescing = None;
        self.reporter.done(id, outcome);
    }

    /// This node does not leave after all, or has left already.
    pub(super) fn end_grace(&mut self) {
        if let Some(grace) = self.grace.take() {
            grace.abort();
        }
    }

    /// What a takeover of this node's own does afterwards comes after this.
    pub(super) fn leave_mac(&self, link: String) {
        let addresses = self.addresses.clone();
        tokio::task::spawn_local(async move {
            match addresses.leave_mac(&link).await {
                Ok(()) => debug!(link, "the partner has the virtual MAC"),
                Err(error) => warn!(link, error, "a virtual MAC is left behind the closed gate"),
            }
        });
    }

    /// The grace has run out by itself: the address goes, and everything it was kept for. A node
    /// that has a claim again keeps it.
    pub(super) fn grace_over(&mut self, state: election::State, gateway: &mut Gateway) {
        use election::State::{Active, Asking, HandingOver, TakingOver};
        if self.grace.take().is_none() || matches!(state, Active | Asking | HandingOver) {
            return;
        }
        self.be_mute(gateway);
        if state != TakingOver
            && let Err(error) = gateway.data_plane.release_all()
        {
            warn!(%error, "cannot release the tunnels");
        }
        let addresses = self.addresses.clone();
        tokio::task::spawn_local(async move {
            if let Err(error) = addresses.leave().await {
                warn!(error, "a virtual address is left behind the closed gate");
            }
        });
        info!("the grace after the switchover is over");
    }
}

fn virtual_addresses(state: &State) -> Vec<IpAddr> {
    let specs = state.addresses.specs().iter();
    specs.map(|spec| spec.address.addr()).collect()
}
