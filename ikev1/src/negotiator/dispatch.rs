//! From a datagram to the exchange it belongs to.

use super::Negotiator;
use super::informational_flow::hint_of;
use super::timers::ExchangeKey;
use crate::api::{Datagram, Phase, Role};
use crate::counters::DropReason;
use crate::natt::Path;
use crate::wire::{self, ExchangeType, Incoming, Message, ProtectedMessage};

impl Negotiator {
    pub(super) fn dispatch(&mut self, datagram: &Datagram<'_>) {
        self.cx.counters.totals.datagrams_received += 1;
        let from = Path {
            local: datagram.local,
            remote: datagram.remote,
        };
        let incoming = match wire::parse(datagram.payload) {
            Ok(incoming) => incoming,
            Err(error) => {
                tracing::trace!(peer = %from.remote, %error, "malformed");
                self.cx.drop_because(DropReason::from(&error));
                return;
            }
        };
        let Incoming::Fragment(fragment) = &incoming else {
            self.route(&incoming, from, datagram.payload);
            return;
        };
        if !self.is_known_source(from) {
            self.cx.drop_because(DropReason::UnknownPeer);
            return;
        }
        let whole = match self.fragments.accept(from, fragment, self.cx.now) {
            Ok(Some(whole)) => whole,
            Ok(None) => return,
            Err(_) => {
                self.cx.drop_because(DropReason::BadFragment);
                return;
            }
        };
        match wire::parse(&whole) {
            Ok(Incoming::Fragment(_)) => self.cx.drop_because(DropReason::BadFragment),
            Ok(incoming) => self.route(&incoming, from, &whole),
            Err(error) => self.cx.drop_because(DropReason::from(&error)),
        }
    }

    /// True when a connection has this address, or an SA speaks with it.
    fn is_known_source(&self, from: Path) -> bool {
        use crate::config::RemoteAddress;
        let ip = from.remote.ip();
        self.tunnels
            .values()
            .any(|tunnel| match tunnel.config.remote {
                RemoteAddress::Address(remote) => remote == ip,
                RemoteAddress::Any => tunnel.last_path.is_some_and(|path| path.remote.ip() == ip),
            })
    }

    fn route(&mut self, incoming: &Incoming, from: Path, raw: &[u8]) {
        match incoming.header().exchange {
            ExchangeType::IdentityProtection | ExchangeType::Aggressive => {
                self.receive_phase1(incoming, from, raw);
            }
            ExchangeType::Quick => match incoming {
                Incoming::Protected(protected) => self.route_protected(protected, from, raw),
                Incoming::Clear(_) | Incoming::Fragment(_) => {
                    self.cx.drop_because(DropReason::BadStructure);
                }
            },
            ExchangeType::Informational => match incoming {
                Incoming::Protected(protected) => self.route_protected(protected, from, raw),
                Incoming::Clear(message) => self.remember_hint(message, from),
                Incoming::Fragment(_) => self.cx.drop_because(DropReason::BadFragment),
            },
            ExchangeType::Base
            | ExchangeType::AuthenticationOnly
            | ExchangeType::Transaction
            | ExchangeType::NewGroup => {
                self.cx.drop_because(DropReason::UnsupportedExchange);
            }
        }
    }

    /// Quick mode and informational messages belong to an established IKE SA.
    fn route_protected(&mut self, protected: &ProtectedMessage, from: Path, raw: &[u8]) {
        let id = protected.header.cookies;
        let Some(sa) = self.sas.get(&id) else {
            let reason = if self
                .exchange_of(protected.header.cookies.initiator, from)
                .is_some()
            {
                DropReason::PhaseTwoTooEarly
            } else {
                DropReason::UnknownCookies
            };
            self.cx.drop_because(reason);
            return;
        };
        let moved = sa.path.remote.ip() != from.remote.ip();
        if moved && !sa.nat.any() {
            self.cx.drop_because(DropReason::WrongAddress);
            return;
        }
        if protected.header.message_id == wire::MessageId::PHASE1 {
            self.cx.drop_because(DropReason::BadStructure);
            return;
        }
        if protected.header.exchange == ExchangeType::Quick {
            self.receive_quick(id, protected, from, raw);
        } else {
            self.receive_informational(id, protected, from);
        }
    }

    fn exchange_of(&self, initiator: wire::Cookie, from: Path) -> Option<ExchangeKey> {
        [Role::Initiator, Role::Responder]
            .map(|role| ExchangeKey {
                peer: from.remote.ip(),
                initiator,
                role,
            })
            .into_iter()
            .find(|key| self.half_open.get(key).is_some())
    }

    /// An unprotected notification changes nothing (invariant I5). For an exchange of ours
    /// that is still unanswered it is a hint: the user sees it at once, and we go on trying.
    fn remember_hint(&mut self, message: &Message, from: Path) {
        self.cx
            .drop_because(DropReason::UnauthenticatedInformational);
        let Some(key) = self.exchange_of(message.header.cookies.initiator, from) else {
            return;
        };
        if key.role != Role::Initiator {
            return;
        }
        let Some(in_progress) = self.half_open.get_mut(&key) else {
            return;
        };
        let Some(said) = hint_of(message) else {
            return;
        };
        let hint = format!(
            "peer says {said} (not authenticated){}",
            in_progress.hint_at()
        );
        let tell = !in_progress.exchange.reported;
        in_progress.exchange.reported = true;
        in_progress.exchange.hint = Some(hint.clone());
        let connection = in_progress.exchange.connection.id;
        if tell {
            self.report_failure(Some(connection), from.remote, Phase::Phase1, hint);
        }
    }
}
