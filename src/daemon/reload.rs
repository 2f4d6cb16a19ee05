//! Taking over a changed file without touching what did not change (invariant I9).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use ikev1::Command;
use ipsec_types::ConnectionId;
use tracing::warn;

use super::event_loop::Daemon;
use super::pair::Pair;
use super::start::listen;
use super::tunnels::Tunnels;
use crate::config::{self, ResolvedConfig, ResolvedConnection};
use crate::control::{Refusal, RefusalKind};

impl Daemon {
    /// Reads the file again and makes the gateway what it says. Returns one line about what
    /// changed. On a refusal everything runs on as before.
    pub(super) async fn reload(&mut self, now: Instant) -> Result<String, Refusal> {
        let mut new = config::load(&self.options.config_path).map_err(|errors| Refusal {
            kind: RefusalKind::Config,
            message: errors.to_string(),
            hint: Some("nothing was changed".to_owned()),
        })?;
        if new.gateway != self.gateway.config.gateway {
            return Err(only_by_restart("[gateway]"));
        }
        if new.pair != self.gateway.config.pair {
            return Err(only_by_restart("[pair]"));
        }
        if let Some(proposed) = self.propose(&new)? {
            return Ok(proposed);
        }
        let summary = self.apply_config(now, &mut new).await?;
        self.share_config();
        Ok(summary)
    }

    /// Makes the gateway what a resolved config says. On a refusal everything runs on as before.
    pub(super) async fn apply_config(
        &mut self,
        now: Instant,
        new: &mut ResolvedConfig,
    ) -> Result<String, Refusal> {
        self.keep_ids(new);
        let replaced = match self.open_listeners(new) {
            Ok(()) => self.replace_tunnels(new).await,
            Err(refusal) => Err(refusal),
        };
        let changed = match replaced {
            Ok(changed) => changed,
            Err(refusal) => {
                self.open_ways().await;
                self.close_listeners_but(&self.gateway.config.clone());
                return Err(refusal);
            }
        };
        let summary = summary(&self.gateway.config, new, changed);
        self.gateway.ike.handle_command(
            now,
            Command::Reload {
                connections: new
                    .connections
                    .iter()
                    .map(|connection| Arc::clone(&connection.ike))
                    .collect(),
            },
        );
        // Deletes for removed connections leave before their sockets close.
        self.settle();
        if let Some(pair) = &mut self.pair {
            pair.carry_out_pending(&mut self.gateway);
        }
        self.close_what_is_gone(new);
        self.gateway.config = new.clone();
        self.open_ways().await;
        Ok(summary)
    }

    /// Closes the listeners that `config` has no connection for.
    fn close_listeners_but(&mut self, config: &ResolvedConfig) {
        let locals: Vec<_> = config
            .connections
            .iter()
            .map(|connection| connection.ike.local)
            .collect();
        for address in self.gateway.ike_sockets.addresses() {
            if !locals.contains(&address)
                && let Err(error) = self.gateway.data_plane.remove_listener(address)
            {
                warn!(%address, %error, "listener could not be closed");
            }
        }
        self.gateway.ike_sockets.retain(&locals);
    }

    /// Closes listeners and forgets connections that the new config does not know.
    fn close_what_is_gone(&mut self, new: &ResolvedConfig) {
        self.close_listeners_but(new);
        let is_kept = |id| {
            new.connections
                .iter()
                .any(|connection| connection.id() == id)
        };
        for old in &self.gateway.config.connections {
            if !is_kept(old.id()) {
                self.gateway.sad.remove_connection(old.id());
            }
        }
        self.gateway.taken_down.retain(|id| is_kept(*id));
        self.gateway.history.retain(is_kept);
    }

    /// A connection keeps its id across reloads by its name, because SAs, tunnels and counters
    /// hang on the id; a new connection gets one that was never used in this process.
    fn keep_ids(&mut self, new: &mut ResolvedConfig) {
        let known: HashMap<&str, ConnectionId> = self
            .gateway
            .config
            .connections
            .iter()
            .map(|connection| (connection.name(), connection.id()))
            .collect();
        for connection in &mut new.connections {
            let id = known.get(connection.name()).copied().unwrap_or_else(|| {
                let fresh = ConnectionId(self.next_connection_id);
                self.next_connection_id += 1;
                fresh
            });
            rename(connection, id);
        }
    }

    fn open_listeners(&mut self, new: &ResolvedConfig) -> Result<(), Refusal> {
        for connection in &new.connections {
            listen(
                &mut self.gateway.ike_sockets,
                &self.gateway.data_plane,
                connection.ike.local,
            )
            .map_err(|error| Refusal {
                kind: RefusalKind::Failed,
                message: error.to_string(),
                hint: Some("nothing was changed".to_owned()),
            })?;
        }
        Ok(())
    }

    /// Removes the VTIs that are gone or changed, then makes the new ones: in this order,
    /// because names and prefixes may move from one connection to another. When one cannot be
    /// made, all are as they were before, as far as the kernel permits. Returns how many were made.
    async fn replace_tunnels(&mut self, new: &ResolvedConfig) -> Result<usize, Refusal> {
        let stays = |id: &ConnectionId, tunnels: &Tunnels| {
            new.connections
                .iter()
                .any(|connection| connection.id() == *id && tunnels.is_as_configured(connection))
        };
        let removed: Vec<_> = self
            .tunnels
            .connections()
            .filter(|id| !stays(id, &self.tunnels))
            .collect();
        let wanted: Vec<_> = new
            .connections
            .iter()
            .filter(|connection| !self.tunnels.is_as_configured(connection))
            .collect();
        let data_plane = &self.gateway.data_plane;
        for id in &removed {
            self.tunnels.remove(*id, data_plane).await;
            keep_lease(&mut self.pair);
        }
        for connection in &wanted {
            let created = self.tunnels.create(connection, data_plane).await;
            keep_lease(&mut self.pair);
            if let Err(error) = created {
                for made in &wanted {
                    self.tunnels.remove(made.id(), data_plane).await;
                }
                let lost = self.restore_tunnels(&removed).await;
                return Err(Refusal {
                    kind: RefusalKind::Failed,
                    message: error.to_string(),
                    hint: Some(what_became_of_the_tunnels(&lost)),
                });
            }
        }
        Ok(wanted.len())
    }

    /// Makes VTIs again as they were; returns the names of those connections that have none now.
    async fn restore_tunnels(&mut self, removed: &[ConnectionId]) -> Vec<String> {
        let mut lost = Vec::new();
        for id in removed {
            let Some(old) = self.gateway.connection(*id).cloned() else {
                continue;
            };
            if let Err(error) = self.tunnels.create(&old, &self.gateway.data_plane).await {
                warn!(connection = old.name(), %error, "the VTI from before the reload could not be made again");
                lost.push(old.name().to_owned());
            }
        }
        lost
    }
}

/// What an operator hears of a reload that a tunnel has failed; `lost` have no VTI any more.
fn what_became_of_the_tunnels(lost: &[String]) -> String {
    if lost.is_empty() {
        return "the tunnels are as they were before".to_owned();
    }
    format!(
        "without a tunnel now: {}; remove what is in the way, then reload again",
        lost.join(", ")
    )
}

fn only_by_restart(table: &str) -> Refusal {
    Refusal {
        kind: RefusalKind::Config,
        message: format!("the {table} table has changed, which only a restart can apply"),
        hint: Some("nothing was changed".to_owned()),
    }
}

/// Making devices takes a while, and the lease on sending runs.
fn keep_lease(pair: &mut Option<Pair>) {
    if let Some(pair) = pair {
        pair.keep_lease();
    }
}

fn rename(connection: &mut ResolvedConnection, id: ConnectionId) {
    Arc::make_mut(&mut connection.ike).id = id;
}

fn summary(old: &ResolvedConfig, new: &ResolvedConfig, devices: usize) -> String {
    let names = |config: &ResolvedConfig| -> Vec<String> {
        config
            .connections
            .iter()
            .map(|connection| connection.name().to_owned())
            .collect()
    };
    let (before, after) = (names(old), names(new));
    let added = after.iter().filter(|name| !before.contains(name)).count();
    let removed = before.iter().filter(|name| !after.contains(name)).count();
    let changed = new
        .connections
        .iter()
        .filter(|connection| {
            old.connections
                .iter()
                .any(|before| before.name() == connection.name() && before != *connection)
        })
        .count();
    format!(
        "reloaded: {added} added, {removed} removed, {changed} changed ({devices} VTIs made anew)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_that_could_not_be_made_again_is_named() {
        let words = what_became_of_the_tunnels(&["lab".to_owned(), "azure".to_owned()]);
        assert!(words.contains("lab, azure"), "{words}");
        assert!(what_became_of_the_tunnels(&[]).contains("as they were"));
    }
}
