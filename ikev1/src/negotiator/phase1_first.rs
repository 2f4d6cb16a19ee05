//! The first message of phase 1: ours, and the answer to the peer's.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use ipsec_types::ConnectionId;

use super::Negotiator;
use super::half_open::Evicted;
use super::phase1_flow::fingerprint;
use super::timers::{ExchangeKey, Owner};
use super::tunnel::Tunnel;
use crate::api::{ISAKMP_PORT, Phase, Role, TimerName};
use crate::config::{Connection, Phase1Exchange, RemoteAddress};
use crate::counters::DropReason;
use crate::error::{Mismatch, Refused};
use crate::exchange::{check, main_mode, payload};
use crate::natt::{Path, PeerFeatures};
use crate::phase1::{Exchange, InProgress, State, aggressive, initiator, responder};
use crate::retransmit::Retransmit;
use crate::wire::{
    Cookie, CookiePair, ExchangeType, Header, Incoming, Message, MessageId, Notification,
    NotifyType, ProtocolId, SpiBytes,
};

/// At most one complaint about unacceptable first messages per connection in this time.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(2);

impl Negotiator {
    /// Starts phase 1 as initiator, unless that is under way already.
    pub(super) fn initiate_phase1(&mut self, id: ConnectionId) {
        if self.quiet || self.initiating_phase1(id) {
            return;
        }
        let Some(tunnel) = self.tunnels.get(&id) else {
            return;
        };
        let config = Arc::clone(&tunnel.config);
        let Some(path) = self.path_to(tunnel) else {
            return;
        };
        let bare = tunnel.is_bare();
        let initiator = self.fresh_cookie();
        let exchange = Exchange {
            key: ExchangeKey {
                peer: path.remote.ip(),
                initiator,
                role: Role::Initiator,
            },
            cookies: CookiePair {
                initiator,
                responder: Cookie::ZERO,
            },
            initial_contact: bare,
            ..new_exchange(config, Vec::new(), path, self.cx.now)
        };
        let begun = match exchange.connection.exchange {
            Phase1Exchange::Main => initiator::begin(&exchange),
            Phase1Exchange::Aggressive => aggressive::begin(&exchange, &mut self.cx),
        };
        match begun {
            Ok((state, message)) => self.launch(exchange, state, &message),
            Err(refused) => self.fail_phase1(id, path.remote, refused.to_string()),
        }
    }

    fn launch(&mut self, mut exchange: Exchange, state: State, message: &Message) {
        exchange.last_out = message.encode();
        let wait = exchange.retransmit.first_wait();
        let owner = Owner::Exchange(exchange.key);
        let at = self.cx.now + wait;
        self.cx.timers.set(owner, TimerName::Phase1Retransmit, at);
        self.cx.send(exchange.path, exchange.last_out.clone());
        tracing::debug!(connection = %exchange.connection.name, peer = %exchange.path.remote,
            cookie = %exchange.cookies.initiator, "phase 1 begins");
        self.half_open.put(InProgress { exchange, state });
    }

    /// True while an exchange of ours with this connection is in progress.
    pub(super) fn initiating_phase1(&self, id: ConnectionId) -> bool {
        self.half_open.iter().any(|in_progress| {
            in_progress.exchange.key.role == Role::Initiator
                && in_progress.exchange.connection.id == id
        })
    }

    /// True while the peer is about to finish an exchange that it began.
    pub(super) fn answering_phase1(&self, id: ConnectionId) -> bool {
        self.half_open.iter().any(|in_progress| {
            in_progress.exchange.key.role == Role::Responder
                && in_progress.exchange.connection.id == id
                && !in_progress.state.is_unconfirmed()
        })
    }

    /// A rekey goes where the IKE SA in use goes, if NAT-T has moved that (RFC 3947 §4).
    fn path_to(&self, tunnel: &Tunnel) -> Option<Path> {
        let current = tunnel.ike_sas.iter().rev().find_map(|id| self.sas.get(id));
        if let Some(sa) = current
            && sa.nat.any()
        {
            return Some(sa.path);
        }
        match tunnel.config.remote {
            RemoteAddress::Address(remote) => Some(Path {
                local: SocketAddr::new(tunnel.config.local, ISAKMP_PORT),
                remote: SocketAddr::new(remote, ISAKMP_PORT),
            }),
            RemoteAddress::Any => tunnel.last_path,
        }
    }

    fn fresh_cookie(&mut self) -> Cookie {
        loop {
            let mut bytes = [0; 8];
            self.cx.rng.fill_bytes(&mut bytes);
            let cookie = Cookie(bytes);
            if !cookie.is_zero() {
                return cookie;
            }
        }
    }

    /// The first message of an exchange that the peer begins.
    pub(super) fn answer_phase1(&mut self, incoming: &Incoming, from: Path, raw: &[u8]) {
        let candidates = self.candidates(from, incoming.header().exchange);
        if candidates.is_empty() {
            self.refuse_stranger(from);
            return;
        }
        let Incoming::Clear(message) = incoming else {
            self.cx.drop_because(DropReason::BadStructure);
            return;
        };
        if !self.half_open.admits(from.remote.ip(), self.cx.now) {
            self.cx.drop_because(DropReason::HalfOpenPerSource);
            return;
        }
        let evicted = self.half_open.make_room(from.remote.ip());
        match evicted {
            Evicted::Nobody => {}
            Evicted::SameSource(key) => {
                self.cx.timers.cancel_all(Owner::Exchange(key));
                self.cx.drop_because(DropReason::HalfOpenPerSource);
            }
            Evicted::Oldest(key) => {
                self.cx.timers.cancel_all(Owner::Exchange(key));
                self.cx.drop_because(DropReason::HalfOpenEvicted);
            }
            Evicted::Full => {
                self.cx.drop_because(DropReason::HalfOpenEvicted);
                return;
            }
        }
        if let Err(refused) = self.begin_answer(&candidates, message, from, raw) {
            self.cx.drop_because(refused.reason());
            let connection = candidates.first().map(|connection| connection.id);
            if matches!(refused, Refused::Config(_)) && self.may_complain(connection) {
                self.tell_no_proposal(&refused, message, from, raw.len());
                let text = refused.to_string();
                self.report_failure(connection, from.remote, Phase::Phase1, text);
            }
        }
    }

    /// No connection is for this first message: nothing is answered. A connection with that
    /// address in the other mode is a mistake that its user should hear of.
    fn refuse_stranger(&mut self, from: Path) {
        let mut configs = self.tunnels.values().map(|tunnel| &tunnel.config);
        let near = configs.find(|config| {
            config.local == from.local.ip()
                && config.remote == RemoteAddress::Address(from.remote.ip())
        });
        let Some((id, exchange)) = near.map(|config| (config.id, config.exchange)) else {
            self.cx.drop_because(DropReason::UnknownPeer);
            return;
        };
        let (theirs, ours) = match exchange {
            Phase1Exchange::Main => ("aggressive", "main"),
            Phase1Exchange::Aggressive => ("main", "aggressive"),
        };
        let refused = Refused::from(Mismatch::Mode { theirs, ours });
        self.cx.drop_because(refused.reason());
        if self.may_complain(Some(id)) {
            let text = refused.to_string();
            self.report_failure(Some(id), from.remote, Phase::Phase1, text);
        }
    }

    /// A first message may be forged, and forged again: one complaint per interval, to the
    /// user and to the peer.
    fn may_complain(&mut self, connection: Option<ConnectionId>) -> bool {
        let now = self.cx.now;
        let Some(tunnel) = connection.and_then(|id| self.tunnels.get_mut(&id)) else {
            return false;
        };
        let recently = tunnel
            .last_complaint
            .is_some_and(|last| now.saturating_duration_since(last) < COMPLAINT_INTERVAL);
        if recently {
            self.cx.drop_because(DropReason::RateLimited);
            return false;
        }
        tunnel.last_complaint = Some(now);
        true
    }

    /// Configured connections that a first message from there can be for.
    fn candidates(&self, from: Path, exchange: ExchangeType) -> Vec<Arc<Connection>> {
        let mode = match exchange {
            ExchangeType::Aggressive => Phase1Exchange::Aggressive,
            _ => Phase1Exchange::Main,
        };
        self.tunnels
            .values()
            .map(|tunnel| &tunnel.config)
            .filter(|config| config.local == from.local.ip())
            .filter(|config| match config.remote {
                RemoteAddress::Address(remote) => remote == from.remote.ip(),
                RemoteAddress::Any => mode == Phase1Exchange::Aggressive,
            })
            .filter(|config| config.exchange == mode)
            .cloned()
            .collect()
    }

    fn begin_answer(
        &mut self,
        candidates: &[Arc<Connection>],
        message: &Message,
        from: Path,
        raw: &[u8],
    ) -> Result<(), Refused> {
        let is_aggressive = message.header.exchange == ExchangeType::Aggressive;
        let (connection, chosen) = if is_aggressive {
            aggressive::choose_connection(candidates, message)?
        } else {
            check(&main_mode::MESSAGE_1, message)?;
            let sa = payload!(message, main_mode::MESSAGE_1, Sa, SA)?;
            responder::choose_connection(candidates, sa)?
        };
        if is_aggressive && !self.half_open.affords_aggressive(self.cx.now) {
            self.cx.drop_because(DropReason::RateLimited);
            return Ok(());
        }
        let alternatives = candidates
            .iter()
            .filter(|other| other.id != connection.id && other.psk == connection.psk)
            .cloned()
            .collect();
        let initiator = message.header.cookies.initiator;
        let bare = self
            .tunnels
            .get(&connection.id)
            .is_some_and(Tunnel::is_bare);
        let mut exchange = Exchange {
            key: ExchangeKey {
                peer: from.remote.ip(),
                initiator,
                role: Role::Responder,
            },
            cookies: CookiePair {
                initiator,
                responder: self.fresh_cookie(),
            },
            initial_contact: bare,
            ..new_exchange(connection, alternatives, from, self.cx.now)
        };
        let (state, answer) = if is_aggressive {
            aggressive::answer(&mut exchange, message, chosen, from, &mut self.cx)?
        } else {
            responder::answer(&mut exchange, message, chosen, raw.len())
        };
        exchange.last_out = answer.encode();
        self.advance_phase1(InProgress { exchange, state }, fingerprint(raw));
        Ok(())
    }

    /// The peer's user should see the reason too: one unprotected notification, shorter than
    /// what it answers.
    fn tell_no_proposal(&mut self, refused: &Refused, message: &Message, from: Path, asked: usize) {
        if !matches!(refused, Refused::Config(Mismatch::Phase1Proposal(_))) {
            return;
        }
        let id = MessageId(self.cx.random() | 1);
        let header = Header::new(message.header.cookies, ExchangeType::Informational, id);
        let notification = Notification::plain(
            ProtocolId::ISAKMP,
            SpiBytes::EMPTY,
            NotifyType::NO_PROPOSAL_CHOSEN,
        );
        let datagram = Message::new(header, vec![notification.into()]).encode();
        if datagram.len() <= asked {
            self.cx.send(from, datagram);
        }
    }
}

/// An exchange before its first message; the caller fills in names.
fn new_exchange(
    connection: Arc<Connection>,
    alternatives: Vec<Arc<Connection>>,
    path: Path,
    now: std::time::Instant,
) -> Exchange {
    let nobody = ExchangeKey {
        peer: path.remote.ip(),
        initiator: Cookie::ZERO,
        role: Role::Initiator,
    };
    Exchange {
        key: nobody,
        retransmit: Retransmit::new(connection.retransmit),
        connection,
        alternatives,
        cookies: CookiePair {
            initiator: Cookie::ZERO,
            responder: Cookie::ZERO,
        },
        path,
        started: now,
        peer: PeerFeatures::default(),
        last_in: None,
        last_out: Vec::new(),
        initial_contact: false,
        peer_initial_contact: false,
        hint: None,
        reported: false,
    }
}
