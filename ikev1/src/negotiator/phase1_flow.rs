//! Phase 1 after its first message, and what an established IKE SA sets in motion.

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use ipsec_types::{ConnectionId, Spi};

use super::Negotiator;
use super::timers::{ExchangeKey, Owner};
use super::tunnel::{Tunnel, rekey_start};
use crate::api::{DownReason, Event, Phase, Role, TimerName};
use crate::config::{Connection, Phase1Exchange};
use crate::counters::DropReason;
use crate::crypto::HashAlgorithm;
use crate::dpd::Dpd;
use crate::error::Refused;
use crate::natt::Path;
use crate::phase1::{Established, Exchange, Fingerprint, InProgress, Received};
use crate::retransmit::Retransmit;
use crate::sa::child::Succession;
use crate::sa::ike::{IkeSa, LastPhase1, UsedMessageIds};
use crate::wire::{CookiePair, Incoming, Notification};

/// How long an IKE SA with a successor lives on, for exchanges that are under way.
const IKE_GRACE: Duration = Duration::from_secs(10);

/// An SA younger than this may have crossed, on the way, a message that knows nothing of it.
const CROSSING_WINDOW: Duration = Duration::from_secs(60);

/// A message recognised by its hash, whatever the length of the message.
pub(super) fn fingerprint(datagram: &[u8]) -> Fingerprint {
    HashAlgorithm::Sha256.digest(&[datagram])
}

impl Negotiator {
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
        let mut in_progress = in_progress;
        // Said only while it is true: an exchange that crossed ours may have made an SA since.
        let connection = in_progress.exchange.connection.id;
        in_progress.exchange.initial_contact =
            self.tunnels.get(&connection).is_some_and(Tunnel::is_bare);
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

    pub(super) fn advance_phase1(&mut self, mut in_progress: InProgress, print: Fingerprint) {
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
        let mut sa = IkeSa {
            id,
            connection,
            role: exchange.key.role,
            suite: established.suite,
            keys: established.keys,
            last_block: established.last_block,
            path: exchange.path,
            nat: established.nat,
            peer: exchange.peer,
            used: UsedMessageIds::default(),
            quick_modes: BTreeMap::new(),
            dpd: Dpd::new(self.cx.random(), now),
            began: exchange.started,
            established: now,
            expires: now + established.lifetime,
            rekey_due: false,
            retiring: false,
            farewells: 0,
            last_phase1: LastPhase1 {
                received: established.last_out.as_ref().map(|_| print),
                sent: established.last_out,
            },
            fruitful: false,
            confirmed: false,
        };
        self.cx.counters.totals.ike_sas += 1;
        tracing::debug!(connection = %exchange.connection.name, ike_sa = %id, peer = %sa.path.remote,
            role = %sa.role, suite = %sa.suite, "IKE SA established");
        self.cx.emit(Event::IkeSaUp {
            connection,
            ike_sa: id,
            role: sa.role,
            remote: sa.path.remote,
        });
        self.start_ike_timers(&sa, &exchange.connection);
        // Main mode says it in message 5; aggressive mode must not (RFC 2407 §4.6.3).
        let aggressive = exchange.connection.exchange == Phase1Exchange::Aggressive;
        if aggressive && sa.role == Role::Initiator && exchange.initial_contact {
            let news = Notification::initial_contact(id);
            sa.send_informational(vec![news.into()], &mut self.cx);
        }
        self.adopt(sa);
    }

    /// The deadlines of an IKE SA that is in use from now on.
    pub(super) fn start_ike_timers(&mut self, sa: &IkeSa, config: &Connection) {
        let owner = Owner::IkeSa(sa.id);
        let left = sa.expires.saturating_duration_since(self.cx.now);
        let rekey = rekey_start(sa.role, left, config.phase1.rekey, &mut self.cx);
        let now = self.cx.now;
        let timers = &mut self.cx.timers;
        timers.set(owner, TimerName::IkeSaRekey, now + rekey);
        timers.set(owner, TimerName::IkeSaExpire, sa.expires);
        if let Some(policy) = &config.dpd {
            timers.set(owner, TimerName::Dpd, sa.dpd.first_look(policy));
        }
        if sa.nat.local {
            timers.set(owner, TimerName::NatKeepalive, now + config.nat_keepalive);
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
        let mut retired = Vec::new();
        if let Some(rival) = rival.and_then(|rival| self.sas.get(&rival)) {
            let succession = sa.follows(rival);
            sa.retiring = !succession.new_one_is_used();
            let loser = if sa.retiring { id } else { rival.id };
            retired.push((loser, succession));
            if succession == Succession::Newer {
                // What earlier crossings have left goes too.
                let left = tunnel
                    .ike_sas
                    .iter()
                    .copied()
                    .filter(|other| *other != loser);
                retired.extend(left.map(|other| (other, succession)));
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
        for (retired, succession) in retired {
            self.retire_ike_sa(retired, succession);
        }
        self.cx.mark_changed(connection);
        self.upkeep(connection);
    }

    /// Nothing new is started under this IKE SA; it ends after a grace period.
    fn retire_ike_sa(&mut self, id: CookiePair, succession: Succession) {
        let Some(sa) = self.sas.get_mut(&id) else {
            return;
        };
        sa.retiring = true;
        sa.rekey_due = false;
        sa.farewells = succession.farewells();
        let owner = Owner::IkeSa(id);
        for name in [
            TimerName::IkeSaRekey,
            TimerName::Dpd,
            TimerName::NatKeepalive,
        ] {
            self.cx.timers.cancel(owner, name);
        }
        let end = if succession.deletes(sa.role) {
            sa.expires
                .min(self.cx.now + IKE_GRACE * succession.grace_factor())
        } else {
            sa.expires
        };
        self.cx.timers.set(owner, TimerName::IkeSaExpire, end);
    }

    /// The peer has no memory of anything older than this exchange (RFC 2407 §4.6.3.3). What
    /// was established while the exchange ran is younger and stays: two gateways that start
    /// together say INITIAL-CONTACT to each other.
    pub(super) fn honour_initial_contact(&mut self, connection: ConnectionId, since: Instant) {
        let Some(tunnel) = self.tunnels.get(&connection) else {
            return;
        };
        let old_children: Vec<(Spi, Instant)> = tunnel
            .children
            .values()
            .filter(|child| child.established < since)
            .map(|child| (child.inbound, child.established))
            .collect();
        let old_sas: Vec<(CookiePair, Instant)> = tunnel
            .ike_sas
            .iter()
            .filter_map(|id| self.sas.get(id))
            .filter(|sa| sa.established < since)
            .map(|sa| (sa.id, sa.established))
            .collect();
        // A peer that has really restarted cannot read a delete. One that has crossed us
        // with an older exchange can, and must not go on with what we forget here.
        let now = self.cx.now;
        let crossed = |at: Instant| now.saturating_duration_since(at) < CROSSING_WINDOW;
        let reason = DownReason::PeerRestarted;
        for (inbound, at) in old_children {
            if crossed(at) {
                self.delete_child(connection, inbound, reason);
            } else if let Some(tunnel) = self.tunnels.get_mut(&connection) {
                tunnel.remove(inbound, reason, &mut self.cx);
            }
        }
        for (id, at) in old_sas {
            if crossed(at) {
                self.delete_ike_sa(id, reason);
            } else {
                self.remove_ike_sa(id, reason);
            }
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

    pub(super) fn fail_phase1(&mut self, id: ConnectionId, remote: SocketAddr, text: String) {
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
