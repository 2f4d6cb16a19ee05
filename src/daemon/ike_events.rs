//! What the negotiator tells, and what becomes of it: SAs installed at once, everything else
//! gathered until it may happen.

use std::time::Instant;

use esp_dataplane::InstallOptions;
use esp_dataplane::replay::ReplayWindowSize;
use ikev1::{Command, DownReason, Event};
use ipsec_types::{EspSaPair, SelectorPair, Spi};
use tracing::{error, info, warn};

use super::batch::{Batch, Change, Effect, PairId};
use super::gateway::Gateway;
use crate::config::ResolvedConnection;

impl Gateway {
    pub(super) fn handle_ike_event(&mut self, now: Instant, event: Event, batch: &mut Batch) {
        match event {
            Event::IkeSaUp { .. } | Event::IkeSaDown { .. } => self.ike_sa_changed(&event),
            Event::EspSaUp { pair, replaces } => {
                if self.install(now, &pair, replaces) {
                    batch.changes.push(Change::EspUp(PairId::of(&pair)));
                }
            }
            Event::OutboundSwitch {
                connection,
                outbound,
                inbound,
                ..
            } => {
                let pair = PairId::new(connection, inbound, outbound);
                batch.changes.push(Change::EspSwitched(pair));
                batch.effects.push(Effect::Switch(pair));
            }
            Event::EspSaDown {
                connection,
                inbound,
                outbound,
                selectors,
                reason,
            } => {
                let pair = PairId::new(connection, inbound, outbound);
                batch.changes.push(Change::EspDown(pair));
                batch.effects.push(Effect::Uninstall(pair));
                info!(connection = self.name(connection), %inbound, %outbound, %selectors, %reason, "ESP SA down");
            }
            Event::NegotiationFailed {
                connection,
                remote,
                phase,
                explanation,
            } => {
                let name = connection.map_or("(none)", |id| self.name(id));
                warn!(connection = name, %remote, ?phase, "{explanation}");
                if let Some(id) = connection {
                    self.history.failed(id, now, explanation);
                }
            }
            Event::PeerMoved {
                connection, remote, ..
            } => {
                info!(connection = self.name(connection), %remote, "peer has moved");
                self.sad.update_peer(connection, remote);
            }
            Event::HoldTraffic {
                connection,
                at_most,
            } => self.holds.hold(connection, now, at_most, &self.data_plane),
            Event::StateChanged { connection } => batch.changes.push(Change::Ike(connection)),
            Event::ProbeThroughTunnel { connection } => self.ping_through_tunnel(connection),
        }
    }

    fn ike_sa_changed(&mut self, event: &Event) {
        match event {
            Event::IkeSaUp {
                connection,
                ike_sa,
                role,
                remote,
            } => {
                info!(connection = self.name(*connection), %ike_sa, %role, %remote, "IKE SA up");
                self.peers_dead = false;
                self.log_ike_key(*ike_sa);
            }
            Event::IkeSaDown {
                connection,
                ike_sa,
                reason,
            } => {
                info!(connection = self.name(*connection), %ike_sa, %reason, "IKE SA down");
                self.peers_dead |= *reason == DownReason::PeerDead;
            }
            _ => {}
        }
    }

    /// False when it cannot be installed; the negotiator knows then.
    fn install(&mut self, now: Instant, pair: &EspSaPair, replaces: Option<Spi>) -> bool {
        let id = pair.connection;
        let Some(connection) = self.connection(id) else {
            warn!(
                connection = id.0,
                "negotiated an ESP SA for a connection that is gone"
            );
            return false;
        };
        let options = InstallOptions {
            replay_window: ReplayWindowSize::new(connection.replay_window).unwrap_or_default(),
            order: selector_order(connection, &pair.inbound.selectors),
            member: self.member,
            ..InstallOptions::default()
        };
        let (inbound, outbound) = (pair.inbound.spi, pair.outbound.spi);
        match self.sad.install_pair(pair, options) {
            Ok(()) => {
                info!(
                    connection = self.name(id), %inbound, %outbound,
                    suite = %pair.inbound.suite, selectors = %pair.inbound.selectors,
                    encapsulation = ?pair.inbound.encapsulation,
                    replaces = replaces.map(tracing::field::display),
                    "ESP SA up",
                );
                self.pair_names.insert((id, outbound), inbound);
                self.history.forget_failure(id);
                self.log_esp_keys(pair);
                true
            }
            Err(error) => {
                error!(connection = self.name(id), %inbound, %outbound, %error, "ESP SA cannot be installed");
                self.ike.handle_command(now, Command::HardLimit { inbound });
                false
            }
        }
    }

    pub(super) fn uninstall(&mut self, pair: PairId) {
        let PairId {
            connection,
            inbound,
            outbound,
        } = pair;
        self.sad.remove_inbound(inbound);
        // The peer may have chosen an SPI that another live pair of ours sends with; that
        // pair was refused at its installation and must not take the other along.
        let key = (connection, outbound);
        if self.pair_names.get(&key) == Some(&inbound) {
            self.sad.remove_outbound(connection, outbound);
            self.pair_names.remove(&key);
        }
    }

    pub(super) fn switch_outbound(&mut self, now: Instant, pair: PairId) {
        let PairId {
            connection: id,
            inbound,
            outbound,
        } = pair;
        let switched = self.sad.switch_outbound(id, outbound);
        self.holds.release(id, &self.data_plane);
        if let Err(error) = switched {
            error!(connection = self.name(id), %outbound, %error, "outbound traffic cannot move to the new ESP SA");
            self.ike.handle_command(now, Command::HardLimit { inbound });
        }
    }
}

/// The place of a selector pair in the config: earlier ones are looked at first.
fn selector_order(connection: &ResolvedConnection, selectors: &SelectorPair) -> u32 {
    connection
        .ike
        .selectors
        .iter()
        .position(|pair| pair == selectors)
        .and_then(|place| u32::try_from(place).ok())
        .unwrap_or(u32::MAX)
}
