//! The connections of a pair: edited on either node, checked, applied and replicated.
//!
//! The active node's are in force. An edit on the standby is proposed to it; what it applies
//! comes back as a record, and only then the standby applies and keeps it (invariant I9).

use std::time::Instant;

use tracing::{error, info, warn};

use super::event_loop::Daemon;
use super::pair::{Incoming, News, Pair};
use crate::config::{ResolvedConfig, SharedConfig};
use crate::control::{Refusal, RefusalKind};

impl Daemon {
    /// On a standby with shared connections, a reload is a proposal. `None` when this node may
    /// apply the file itself.
    pub(super) fn propose(&mut self, new: &ResolvedConfig) -> Result<Option<String>, Refusal> {
        let (Some(pair), Some(shared)) = (&mut self.pair, &new.shared) else {
            return Ok(None);
        };
        if pair.not_active().is_none() {
            return Ok(None);
        }
        if Some(shared) == self.gateway.config.shared.as_ref() {
            return Ok(Some("nothing has changed".to_owned()));
        }
        if pair.is_unstored() {
            // Its file is the one before: proposed, it would undo an edit on both nodes.
            let reason =
                "the file of connections here is older than what runs: it could not be written";
            return Err(Refusal::new(RefusalKind::Failed, reason)
                .with_hint("make room on the disk; it is written again by itself"));
        }
        match pair.propose(shared) {
            Ok(()) => Ok(Some(
                "proposed to the active node, which applies it and sends it back; see `vipsec status`"
                    .to_owned(),
            )),
            Err(reason) => Err(Refusal::new(RefusalKind::Failed, reason)
                .with_hint("nothing was changed; try again when the partner is there")),
        }
    }

    /// Tells the partner which connections are in force here.
    pub(super) fn share_config(&mut self) {
        if let Some(pair) = &mut self.pair {
            pair.share_config(&self.gateway);
            pair.note_revision(&self.gateway);
            pair.flush(&mut self.gateway, &mut self.tunnels);
        }
    }

    /// The VTIs that a reload has made need their ways if this node is the active one.
    pub(super) async fn open_ways(&self) {
        let Some(pair) = &self.pair else {
            return;
        };
        if let Err(error) = pair.open_ways(&self.tunnels).await {
            warn!(error, "not every route could be made");
        }
        pair.route_to_partner(&self.gateway).await;
    }

    /// Connections that came from the partner.
    pub(super) async fn take_shared(&mut self, now: Instant) {
        let Some(incoming) = self
            .pair
            .as_mut()
            .and_then(super::pair::Pair::take_incoming)
        else {
            return;
        };
        let Incoming {
            shared,
            mut config,
            proposed,
        } = incoming;
        // [gateway] and [pair] are this node's own.
        config.gateway = self.gateway.config.gateway.clone();
        config.pair = self.gateway.config.pair.clone();
        match self.apply_config(now, &mut config).await {
            Ok(summary) => {
                info!("{summary}: the partner's connections");
                self.store_shared(&shared, false);
                if proposed {
                    self.share_config();
                } else if let Some(pair) = &mut self.pair {
                    pair.note_revision(&self.gateway);
                }
            }
            Err(refusal) => {
                error!("the partner's connections cannot be applied: {refusal}");
                if let Some(pair) = &mut self.pair {
                    pair.refuse_shared(proposed, &refusal.message);
                }
            }
        }
        self.settle();
    }

    /// What could not be written is tried again: there may be room now.
    pub(super) fn store_again_when_due(&mut self) {
        let due = self.pair.as_mut().is_some_and(Pair::store_is_due);
        if due && let Some(shared) = &self.gateway.config.shared {
            self.store_shared(shared, true);
        }
    }

    /// A full disk harms no tunnel: what runs is what was agreed.
    fn store_shared(&self, shared: &SharedConfig, again: bool) {
        let pair = self.gateway.config.pair.as_ref();
        let Some(path) = pair.and_then(|pair| pair.connections.as_ref()) else {
            return;
        };
        let (path, shared) = (path.clone(), shared.clone());
        let told = self.pair.as_ref().map(Pair::news);
        // Disks are slow, and the lease runs.
        tokio::task::spawn_blocking(move || {
            let stored = shared.store(&path);
            match &stored {
                Err(error) if !again => {
                    error!(file = %path.display(), %error, "the partner's connections run here but are not on disk; a restart would begin with the old ones until the partner is heard");
                }
                Ok(()) if again => info!(file = %path.display(), "the connections are on disk now"),
                _ => {}
            }
            if let Some(told) = told {
                // The event loop ends only with the process.
                let _ = told.send(News::Stored(stored.is_ok()));
            }
        });
    }
}
