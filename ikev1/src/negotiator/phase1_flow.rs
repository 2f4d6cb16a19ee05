//! Phase 1 from the negotiator's side: who begins, who is answered, and what an established
//! IKE SA sets in motion.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use ipsec_types::ConnectionId;

use super::Negotiator;
use super::half_open::Evicted;
use super::timers::{ExchangeKey, Owner};
use super::tunnel::{Tunnel, rekey_start};
use crate::api::{DownReason, Event, ISAKMP_PORT, Phase, Role, TimerName};
use crate::config::{Connection, Phase1Exchange, RemoteAddress};
use crate::counters::DropReason;
use crate::crypto::HashAlgorithm;
use crate::dpd::Dpd;
use crate::error::{Mismatch, Refused};
use crate::exchange::{check, main_mode, payload};
use crate::natt::{Path, PeerFeatures};
use crate::phase1::{
    Established, Exchange, Fingerprint, InProgress, Received, State, aggressive, initiator,
    responder,
};
use crate::retransmit::Retransmit;
use crate::sa::ike::{IkeSa, LastPhase1};
use crate::wire::{
    Cookie, CookiePair, ExchangeType, Header, Incoming, Message, MessageId, Notification,
    NotifyType, ProtocolId, SpiBytes,
};

/// How long an IKE SA with a successor lives on, for exchanges that are under way.
const IKE_GRACE: Duration = Duration::from_secs(20);

/// A message recognised by its hash, whatever the length of the message.
pub(super) fn fingerprint(datagram: &[u8]) -> Fingerprint {
    HashAlgorithm::Sha256.digest(&[datagram])
}

impl Negotiator {
    /// Starts phase 1 as initiator, unless that is under way already.
    pub(super) fn initiate_phase1(&mut self, id: ConnectionId) {
        if self.initiating_phase1(id) {
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

    /// A main-mode or aggressive-mode message.
    pub(super) fn receive_phase1(&mut self, incoming: &Incoming, from: Path, raw: &[u8]) {
        let cookies = incoming.header().cookies;
        let key = |role| ExchangeKey {
            peer: from.remote.ip(),
            initiator: cookies.initiator,
            role,
        };
        for key in [key(Role::Initiator), key(Role::Responder)] {
            if let Some(in_progress) = self.half_open.take(&key) {
                self.continue_phase1(in_progress, incoming, from, raw);
                return;
            }
        }
        if self.sas.contains_key(&cookies) {
            self.repeat_phase1(cookies, from, raw);
        } else if cookies.responder.is_zero() {
            self.answer_phase1(incoming, from, raw);
        } else {
            self.cx.drop_because(DropReason::UnknownCookies);
        }
    }

    /// A message for an exchange in progress.
    fn continue_phase1(
        &mut self,
        in_progress: InProgress,
        incoming: &Incoming,
        from: Path,
        raw: &[u8],
    ) {
        let header = incoming.header();
        let exchange = &in_progress.exchange;
        let print = fingerprint(raw);
        if exchange.last_in.as_ref() == Some(&print) {
            self.cx.drop_because(DropReason::Duplicate);
            if exchange.key.role == Role::Responder {
                let (path, answer) = (exchange.path, exchange.last_out.clone());
                self.cx.send_again(path, answer);
            }
            self.half_open.put(in_progress);
            return;
        }
        let first_answer = exchange.key.role == Role::Initiator
            && exchange.cookies.responder.is_zero()
            && !header.cookies.responder.is_zero();
        let ours = header.cookies == exchange.cookies || first_answer;
        if !ours || header.exchange != in_progress.state.exchange_type() {
            self.cx.drop_because(DropReason::OutOfOrder);
            self.half_open.put(in_progress);
            return;
        }
        match in_progress.receive(incoming, from, &mut self.cx) {
            Received::Refused(in_progress, refused) => {
                self.refuse_phase1(*in_progress, &refused, from);
            }
            Received::Onward(in_progress) => self.advance_phase1(*in_progress, print),
            Received::Done(exchange, established) => {
                self.finish_phase1(*exchange, *established, print);
            }
        }
    }

    /// The exchange stays as it was; a mismatch of configurations is told to the user once.
    fn refuse_phase1(&mut self, mut in_progress: InProgress, refused: &Refused, from: Path) {
        self.cx.drop_because(refused.reason());
        let exchange = &mut in_progress.exchange;
        let awaited = in_progress.state.awaits();
        tracing::debug!(connection = %exchange.connection.name, peer = %from.remote, awaited,
            %refused, "phase-1 message refused");
        exchange.hint = Some(refused.to_string());
        let tell = matches!(refused, Refused::Config(_)) && !exchange.reported;
        exchange.reported |= tell;
        let connection = exchange.connection.id;
        self.half_open.put(in_progress);
        if tell {
            self.report_failure(
                Some(connection),
                from.remote,
                Phase::Phase1,
                refused.to_string(),
            );
        }
    }

    fn advance_phase1(&mut self, mut in_progress: InProgress, print: Fingerprint) {
        let exchange = &mut in_progress.exchange;
        exchange.last_in = Some(print);
        exchange.hint = None;
        let owner = Owner::Exchange(exchange.key);
        match exchange.key.role {
            Role::Initiator => {
                exchange.retransmit = Retransmit::new(exchange.connection.retransmit);
                let at = self.cx.now + exchange.retransmit.first_wait();
                self.cx.timers.set(owner, TimerName::Phase1Retransmit, at);
            }
            Role::Responder => {
                let at = self.cx.now + exchange.connection.retransmit.patience();
                self.cx.timers.set(owner, TimerName::Phase1Expire, at);
            }
        }
        self.cx.send(exchange.path, exchange.last_out.clone());
        self.half_open.put(in_progress);
    }

    /// A late duplicate of the message that finished phase 1: our answer was lost.
    fn repeat_phase1(&mut self, id: CookiePair, from: Path, raw: &[u8]) {
        let Some(sa) = self.sas.get(&id) else {
            return;
        };
        if sa.last_phase1.received.as_ref() != Some(&fingerprint(raw)) {
            self.cx.drop_because(DropReason::OutOfOrder);
            return;
        }
        self.cx.drop_because(DropReason::Duplicate);
        if sa.path.remote.ip() == from.remote.ip()
            && let Some(answer) = &sa.last_phase1.sent
        {
            self.cx.send_again(sa.path, answer.clone());
        }
    }

    /// The first message of an exchange that the peer begins.
    fn answer_phase1(&mut self, incoming: &Incoming, from: Path, raw: &[u8]) {
        let candidates = self.candidates(from, incoming.header().exchange);
        if candidates.is_empty() {
            self.cx.drop_because(DropReason::UnknownPeer);
            return;
        }
        let Incoming::Clear(message) = incoming else {
            self.cx.drop_because(DropReason::BadStructure);
            return;
        };
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
            self.tell_no_proposal(&refused, message, from, raw.len());
            if matches!(refused, Refused::Config(_)) {
                let connection = candidates.first().map(|connection| connection.id);
                let text = refused.to_string();
                self.report_failure(connection, from.remote, Phase::Phase1, text);
            }
        }
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

    /// Phase 1 is done.
    fn finish_phase1(&mut self, exchange: Exchange, established: Established, print: Fingerprint) {
        self.cx.timers.cancel_all(Owner::Exchange(exchange.key));
        let id = exchange.cookies;
        let connection = exchange.connection.id;
        if let Some(answer) = &established.last_out {
            self.cx.send(exchange.path, answer.clone());
        }
        if exchange.peer_initial_contact {
            self.honour_initial_contact(connection, exchange.started);
        }
        let now = self.cx.now;
        let sa = IkeSa {
            id,
            connection,
            role: exchange.key.role,
            suite: established.suite,
            keys: established.keys,
            last_block: established.last_block,
            path: exchange.path,
            nat: established.nat,
            peer: exchange.peer,
            used: crate::sa::ike::UsedMessageIds::default(),
            quick_modes: std::collections::BTreeMap::new(),
            dpd: Dpd::new(self.cx.random(), now),
            established: now,
            expires: now + established.lifetime,
            rekey_due: false,
            retiring: false,
            last_phase1: LastPhase1 {
                received: established.last_out.as_ref().map(|_| print),
                sent: established.last_out,
            },
            confirmed: false,
        };
        self.cx.counters.totals.ike_sas += 1;
        tracing::info!(connection = %exchange.connection.name, ike_sa = %id, peer = %sa.path.remote,
            role = %sa.role, suite = %sa.suite, "IKE SA established");
        self.cx.emit(Event::IkeSaUp {
            connection,
            ike_sa: id,
            role: sa.role,
            remote: sa.path.remote,
        });
        self.start_ike_timers(&sa, established.lifetime, &exchange.connection);
        self.adopt(sa);
    }

    fn start_ike_timers(&mut self, sa: &IkeSa, lifetime: Duration, config: &Connection) {
        let owner = Owner::IkeSa(sa.id);
        let rekey = rekey_start(sa.role, lifetime, config.phase1.rekey, &mut self.cx);
        let timers = &mut self.cx.timers;
        timers.set(owner, TimerName::IkeSaRekey, sa.established + rekey);
        timers.set(owner, TimerName::IkeSaExpire, sa.expires);
        if let Some(policy) = &config.dpd {
            timers.set(owner, TimerName::Dpd, sa.dpd.first_look(policy));
        }
        if sa.nat.local {
            let at = sa.established + config.nat_keepalive;
            timers.set(owner, TimerName::NatKeepalive, at);
        }
    }

    /// The new IKE SA takes its place among those of its connection.
    fn adopt(&mut self, mut sa: IkeSa) {
        let connection = sa.connection;
        let Some(tunnel) = self.tunnels.get_mut(&connection) else {
            return;
        };
        let id = sa.id;
        let rival = tunnel
            .ike_sas
            .iter()
            .copied()
            .find(|id| self.sas.get(id).is_some_and(|sa| !sa.retiring));
        let mut retired = None;
        if let Some(rival) = rival.and_then(|rival| self.sas.get(&rival)) {
            if sa.supersedes(rival) {
                retired = Some(rival.id);
            } else {
                sa.retiring = true;
                retired = Some(id);
            }
        }
        tunnel.phase1_succeeded();
        tunnel.last_path = Some(sa.path);
        tunnel.ike_sas.push(id);
        let renegotiate = tunnel.suspect || tunnel.config.peer_drops_children;
        if renegotiate && !sa.retiring {
            tunnel.suspect = false;
            for child in tunnel.children.values_mut() {
                child.rekey_due = true;
            }
        }
        self.sas.insert(id, sa);
        if let Some(retired) = retired {
            self.retire_ike_sa(retired);
        }
        self.cx.mark_changed(connection);
        self.upkeep(connection);
    }

    /// Nothing new is started under this IKE SA; it ends after a grace period.
    fn retire_ike_sa(&mut self, id: CookiePair) {
        let Some(sa) = self.sas.get_mut(&id) else {
            return;
        };
        sa.retiring = true;
        sa.rekey_due = false;
        let owner = Owner::IkeSa(id);
        for name in [
            TimerName::IkeSaRekey,
            TimerName::Dpd,
            TimerName::NatKeepalive,
        ] {
            self.cx.timers.cancel(owner, name);
        }
        let end = sa.expires.min(self.cx.now + IKE_GRACE);
        self.cx.timers.set(owner, TimerName::IkeSaExpire, end);
    }

    /// The peer has no memory of anything older than this exchange (RFC 2407 §4.6.3.3). What
    /// was established while the exchange ran is younger and stays: two gateways that start
    /// together say INITIAL-CONTACT to each other.
    pub(super) fn honour_initial_contact(
        &mut self,
        connection: ConnectionId,
        since: std::time::Instant,
    ) {
        let Some(tunnel) = self.tunnels.get_mut(&connection) else {
            return;
        };
        let old_children: Vec<_> = tunnel
            .children
            .values()
            .filter(|child| child.established < since)
            .map(|child| child.inbound)
            .collect();
        for inbound in old_children {
            tunnel.remove(inbound, DownReason::PeerRestarted, &mut self.cx);
        }
        let old: Vec<CookiePair> = tunnel
            .ike_sas
            .iter()
            .copied()
            .filter(|id| self.sas.get(id).is_some_and(|sa| sa.established < since))
            .collect();
        for id in old {
            self.remove_ike_sa(id, DownReason::PeerRestarted);
        }
    }

    /// The answer to our message has not come.
    pub(super) fn phase1_retransmit(&mut self, key: ExchangeKey) {
        let Some(in_progress) = self.half_open.get_mut(&key) else {
            return;
        };
        let exchange = &mut in_progress.exchange;
        if let Some(wait) = exchange.retransmit.next() {
            let at = self.cx.now + wait;
            let owner = Owner::Exchange(key);
            self.cx.timers.set(owner, TimerName::Phase1Retransmit, at);
            self.cx.send_again(exchange.path, exchange.last_out.clone());
            return;
        }
        let Some(given_up) = self.half_open.take(&key) else {
            return;
        };
        let awaited = given_up.state.awaits();
        let exchange = given_up.exchange;
        let text = match exchange.hint {
            Some(hint) => format!("no usable answer ({awaited}); last hint: {hint}"),
            None => no_answer(awaited),
        };
        self.fail_phase1(exchange.connection.id, exchange.path.remote, text);
    }

    /// The peer has gone silent in an exchange that it began.
    pub(super) fn phase1_expire(&mut self, key: ExchangeKey) {
        let Some(in_progress) = self.half_open.take(&key) else {
            return;
        };
        let connection = in_progress.exchange.connection.id;
        if !in_progress.state.is_unconfirmed() {
            self.cx.counters.totals.phase1_failures += 1;
        }
        self.upkeep(connection);
    }

    fn fail_phase1(&mut self, id: ConnectionId, remote: SocketAddr, text: String) {
        self.cx.counters.totals.phase1_failures += 1;
        self.report_failure(Some(id), remote, Phase::Phase1, text);
        self.attempt_failed(id);
    }
}

fn no_answer(awaited: &'static str) -> String {
    match awaited {
        "main mode message 6" => format!(
            "no answer ({awaited}): the peer does not accept our identity or pre-shared key, or \
             UDP port 4500 is blocked"
        ),
        _ => format!("no answer ({awaited}): peer down, unreachable, or not configured for us"),
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
