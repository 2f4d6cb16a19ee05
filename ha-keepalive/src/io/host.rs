//! The daemon, as its [`super::driver`] sees it: what it is asked to do, and how it answers.

use core::time::Duration;

use tokio::sync::mpsc;

use crate::election::Change;
use crate::node::{Order, PairNode};
use crate::replication::{Applied, Commit, Limit};
use crate::takeover::{Step, StepId};

/// How a step went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Performed {
    /// It is over.
    Done(Result<(), String>),
    /// It takes a while; a [`StepReporter`] tells its end.
    Later,
}

/// Tells the end of a step that took a while.
#[derive(Debug, Clone)]
pub struct StepReporter(mpsc::UnboundedSender<(StepId, Result<(), String>)>);

impl StepReporter {
    pub(super) const fn new(sender: mpsc::UnboundedSender<(StepId, Result<(), String>)>) -> Self {
        Self(sender)
    }

    /// The step is over. A driver that is gone does not mind.
    pub fn done(&self, id: StepId, outcome: Result<(), String>) {
        let _ = self.0.send((id, outcome));
    }
}

/// The daemon, as the pair sees it.
pub trait PairHost {
    /// Performs one step of a change of role. It may write records into the node.
    fn perform(
        &mut self,
        node: &mut PairNode,
        now: Duration,
        id: StepId,
        step: Step,
        change: Change,
    ) -> Performed;

    /// Standby: applies a replicated change to the mute copy.
    ///
    /// # Errors
    /// The reason, which the active node is told; the pair is then not in sync.
    fn apply(&mut self, change: Applied) -> Result<(), String>;

    /// Active: the last sequence number an SA may send.
    fn limit(&mut self, limit: Limit);

    /// Active: a commit point is decided; the SA may carry traffic.
    fn committed(&mut self, position: u64, commit: Commit);

    /// Everything else: for the log, the status and the operator.
    fn notice(&mut self, node: &mut PairNode, now: Duration, notice: Order);
}
