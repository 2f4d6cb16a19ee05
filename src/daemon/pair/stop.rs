//! The daemon of a pair stops: the role is handed over first if the partner is ready for it, so
//! that stopping a gateway for an upgrade loses nothing.

use core::time::Duration;
use std::time::Instant;

use ha_keepalive::election::{self, Change};
use ha_keepalive::io::clock::boot_time;
use ikev1::Command;
use tracing::info;

use super::{Pair, State};
use crate::daemon::gateway::Gateway;
use crate::daemon::tunnels::Tunnels;

/// How long the hand-over may take before the node just leaves.
const HANDOVER_LIMIT: Duration = Duration::from_secs(3);
/// What is on its way when the role has moved is still opened and forwarded.
const LAST_GRACE: Duration = Duration::from_millis(500);
/// How long leaving may take: the mover is not waited for.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// How far stopping has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopping {
    /// A switchover was asked for first.
    HandingOver(Duration),
    /// The partner has the role; only the grace is left.
    Grace(Duration),
    /// Addresses and timers go.
    Leaving(Duration),
    /// Nothing is left.
    Left,
}

impl Pair {
    /// Begins to stop.
    pub(in crate::daemon) fn begin_stop(&mut self, gateway: &mut Gateway, tunnels: &mut Tunnels) {
        let now = boot_time();
        let node = self.driver.node_mut();
        if node.readiness(now).is_empty() {
            info!("handing the role over before stopping");
            node.switchover(now);
            self.state.stopping = Some(Stopping::HandingOver(now + HANDOVER_LIMIT));
            self.flush(gateway, tunnels);
        } else {
            self.leave(now, gateway, tunnels);
        }
    }

    /// True when the daemon may end. Ask after every event once stopping has begun.
    pub(in crate::daemon) fn is_stopped(
        &mut self,
        gateway: &mut Gateway,
        tunnels: &mut Tunnels,
    ) -> bool {
        let now = boot_time();
        match self.state.stopping {
            None => false,
            Some(Stopping::HandingOver(until)) => {
                use election::State::{Active, HandingOver, Released};
                let state = self.driver.node().election().state();
                if !matches!(state, Active | HandingOver | Released) {
                    self.state.stopping = Some(Stopping::Grace(now + LAST_GRACE));
                } else if now >= until {
                    self.leave(now, gateway, tunnels);
                }
                false
            }
            Some(Stopping::Grace(until)) => {
                if now >= until {
                    self.leave(now, gateway, tunnels);
                }
                false
            }
            Some(Stopping::Leaving(until)) => now >= until,
            Some(Stopping::Left) => true,
        }
    }

    /// A last active node tells its peers; one with a partner leaves the SAs to it.
    fn leave(&mut self, now: Duration, gateway: &mut Gateway, tunnels: &mut Tunnels) {
        let node = self.driver.node_mut();
        let alone = !node.election().peer_is_heard(now);
        if alone && node.election().is_serving(now) {
            let instant = Instant::now();
            gateway.ike.handle_command(instant, Command::Shutdown);
            let batch = gateway.gather(instant);
            gateway.carry_out(instant, &batch);
        }
        self.driver.node_mut().stop(now);
        self.state.stopping = Some(Stopping::Leaving(now + LEAVE_LIMIT));
        self.flush(gateway, tunnels);
    }
}

impl State {
    /// A change is complete.
    pub(super) fn note_stopped(&mut self, change: Change) {
        if change == Change::Stop {
            self.stopping = Some(Stopping::Left);
        }
    }
}
