//! The gateway's state as `status` shows it.

use std::time::Instant;

use esp_dataplane::{AeadBackends, SadStatus};
use ipsec_types::Spi;

use super::gateway::Gateway;
use super::tunnels::peer_address;
use crate::config::ResolvedConnection;
use crate::status::{
    ConnectionState, ConnectionStatus, Counters, EspSaStatus, IkeSaStatus, LastError, Liveness,
    NatStatus, Status, VtiStatus,
};

impl Gateway {
    /// Everything `vipsec status` tells; only one connection when `only` names it.
    pub(super) fn status(&mut self, now: Instant, started: Instant, only: Option<&str>) -> Status {
        let sad = self.sad.status();
        let negotiations = self.ike.status(now);
        let connections = self
            .config
            .connections
            .clone()
            .iter()
            .filter(|connection| only.is_none_or(|name| name == connection.name()))
            .map(|connection| {
                let negotiation = negotiations
                    .iter()
                    .find(|negotiation| negotiation.connection == connection.id());
                self.connection_status(now, connection, negotiation, &sad)
            })
            .collect();
        Status {
            gateway: self.config.gateway.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_secs: (now - started).as_secs(),
            revision: self.config.revision.to_string(),
            workers: u32::try_from(self.config.gateway.workers).unwrap_or(u32::MAX),
            cipher_backends: in_words(sad.backends),
            keylog: self
                .keylog
                .as_ref()
                .map(|keylog| keylog.directory().to_owned()),
            pair: None,
            connections,
            counters: self.counters(),
        }
    }

    /// Notes in which state every connection is, so that `status` can say since when.
    pub(super) fn observe_states(&mut self, now: Instant) {
        for negotiation in self.ike.status(now) {
            let id = negotiation.connection;
            let state = state_of(Some(&negotiation), self.history.failure(id).is_some());
            self.history.observe(id, state, now);
        }
    }

    fn connection_status(
        &mut self,
        now: Instant,
        connection: &ResolvedConnection,
        negotiation: Option<&ikev1::ConnectionStatus>,
        sad: &SadStatus,
    ) -> ConnectionStatus {
        let failure = self.history.failure(connection.id()).cloned();
        let state = if self.silent {
            ConnectionState::Standby
        } else {
            state_of(negotiation, failure.is_some())
        };
        let since = self.history.observe(connection.id(), state, now);
        ConnectionStatus {
            name: connection.name().to_owned(),
            state,
            state_secs: (now - since).as_secs(),
            local: connection.ike.local,
            remote: peer_address(connection),
            local_id: connection.ike.local_id.to_string(),
            peer_id: connection.ike.remote_id.to_string(),
            ike_sas: negotiation
                .map(|negotiation| negotiation.ike_sas.iter().map(ike_sa_status).collect())
                .unwrap_or_default(),
            esp_sas: negotiation
                .map(|negotiation| {
                    negotiation
                        .esp_sas
                        .iter()
                        .map(|pair| esp_sa_status(connection, pair, sad))
                        .collect()
                })
                .unwrap_or_default(),
            liveness: negotiation.and_then(|negotiation| liveness(connection, negotiation)),
            last_error: failure.map(|failure| LastError {
                text: failure.text,
                ago_secs: (now - failure.at).as_secs(),
            }),
            vti: VtiStatus {
                device: connection.vti.device.clone(),
                mtu: connection.vti.mtu,
                addresses: connection.vti.addresses.clone(),
                routes: connection.vti.routes.clone(),
                // The devices are not the gateway's; who has them looks.
                deleted: false,
            },
        }
    }

    /// Every counter that is not zero, by room and reason (invariant I8).
    pub(super) fn counters(&self) -> Counters {
        let mut rooms = Counters::new();
        let mut note = |room: &str, reason: &str, count: u64| {
            if count > 0 {
                rooms
                    .entry(room.to_owned())
                    .or_default()
                    .insert(reason.to_owned(), count);
            }
        };
        for (reason, count) in self.ike.drops() {
            note("ikev1", reason, count);
        }
        for (reason, count) in &self.sad.counters().drops {
            note("esp", &reason.metric_name(), *count);
        }
        for (reason, count) in self.data_plane.counters().iter() {
            note("io", reason, count);
        }
        note("control", "ike_message_not_sent", self.unsent);
        note("control", "worker_events_lost", self.worker_events_lost());
        rooms
    }
}

/// Which library runs what; in one word where it is the same for all key lengths.
fn in_words(backends: AeadBackends) -> Vec<String> {
    let AeadBackends {
        aes128,
        aes192,
        aes256,
    } = backends;
    if aes128 == aes192 && aes192 == aes256 {
        return vec![format!("AES-GCM by {aes128}")];
    }
    vec![
        format!("AES-128-GCM by {aes128}"),
        format!("AES-192-GCM by {aes192}"),
        format!("AES-256-GCM by {aes256}"),
    ]
}

fn state_of(negotiation: Option<&ikev1::ConnectionStatus>, failed: bool) -> ConnectionState {
    let Some(negotiation) = negotiation else {
        return ConnectionState::Down;
    };
    match negotiation.state {
        ikev1::ConnectionState::Up => ConnectionState::Up,
        // Some tunnels work: what is missing is shown by the list of ESP SAs and the error.
        ikev1::ConnectionState::Partial if !negotiation.esp_sas.is_empty() => ConnectionState::Up,
        ikev1::ConnectionState::Partial | ikev1::ConnectionState::Connecting => {
            ConnectionState::Connecting
        }
        ikev1::ConnectionState::Down if failed => ConnectionState::Failed,
        ikev1::ConnectionState::Down => ConnectionState::Down,
    }
}

fn liveness(
    connection: &ResolvedConnection,
    negotiation: &ikev1::ConnectionStatus,
) -> Option<Liveness> {
    let peer_announces_dpd = negotiation.ike_sas.first()?.dpd;
    Some(match (connection.ike.dpd, connection.ping) {
        (None, _) => Liveness::Off,
        (Some(_), _) if peer_announces_dpd => Liveness::Dpd,
        (Some(_), Some(_)) => Liveness::Ping,
        (Some(_), None) => Liveness::RekeyOnly,
    })
}

fn ike_sa_status(sa: &ikev1::IkeSaStatus) -> IkeSaStatus {
    IkeSaStatus {
        initiator_cookie: sa.id.initiator.to_string(),
        responder_cookie: sa.id.responder.to_string(),
        role: sa.role.into(),
        state: "established".to_owned(),
        suite: sa.suite.clone(),
        weak: sa.weak,
        established_secs: Some(sa.age_seconds),
        rekey_in_secs: sa.rekey_in_seconds,
        nat: NatStatus {
            local: sa.nat_local,
            remote: sa.nat_remote,
        },
        local: sa.local,
        remote: sa.remote,
    }
}

fn esp_sa_status(
    connection: &ResolvedConnection,
    pair: &ikev1::EspSaStatus,
    sad: &SadStatus,
) -> EspSaStatus {
    let inbound = sad.inbound.iter().find(|sa| sa.spi == pair.inbound);
    let outbound = sad
        .outbound
        .iter()
        .find(|sa| sa.connection == connection.id() && sa.spi == pair.outbound);
    EspSaStatus {
        spi_in: hex(pair.inbound),
        spi_out: hex(pair.outbound),
        suite: pair.proposal.clone(),
        weak: pair.weak,
        esn: inbound.is_some_and(|sa| sa.esn),
        selectors: pair.selectors.to_string(),
        bytes_in: inbound.map_or(0, |sa| sa.traffic.bytes),
        bytes_out: outbound.map_or(0, |sa| sa.traffic.bytes),
        packets_in: inbound.map_or(0, |sa| sa.traffic.packets),
        packets_out: outbound.map_or(0, |sa| sa.traffic.packets),
        established_secs: pair.age_seconds,
        rekey_in_secs: pair.rekey_in_seconds,
        expires_in_secs: pair.expires_in_seconds,
        encapsulation: pair.encapsulation.into(),
        seq_out: outbound.map_or(0, |sa| sa.sequence_next.saturating_sub(1)),
        replay_edge: inbound.map_or(0, |sa| sa.replay_edge),
        replay_window: connection.replay_window,
        draining: !pair.in_use,
    }
}

fn hex(spi: Spi) -> String {
    spi.to_string()
}

#[cfg(test)]
mod tests {
    use esp_dataplane::AeadBackend;

    use super::*;

    #[test]
    fn libraries_are_named_once_or_by_key_length() {
        let same = AeadBackends::all(AeadBackend::AwsLc);
        assert_eq!(in_words(same), ["AES-GCM by AWS-LC"]);
        let differ = AeadBackends::all(AeadBackend::Ring);
        assert_eq!(
            in_words(differ),
            [
                "AES-128-GCM by ring",
                "AES-192-GCM by AWS-LC",
                "AES-256-GCM by ring"
            ]
        );
    }
}
