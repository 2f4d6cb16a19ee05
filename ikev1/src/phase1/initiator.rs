//! Main mode as initiator: messages 1, 3 and 5 are ours.

use super::authentication::{Exchanged, connection_for, our_identification, says_initial_contact};
use super::{Agreed, Exchange, Keyed, Opened, State, Step};
use crate::api::Role;
use crate::config::EncapsulationPolicy;
use crate::crypto::{DiffieHellman, Iv};
use crate::error::{Mismatch, PeerMisbehaved, Refused};
use crate::exchange::{check, main_mode, payload};
use crate::natt::{NatState, Path, PeerFeatures, discovery_payloads};
use crate::negotiator::context::Context;
use crate::proposal::phase1::{self, Chosen};
use crate::wire::{
    Cookie, CookiePair, ExchangeType, Identification, KeyExchange, Message, Nonce, Payload,
    PayloadType,
};

/// We have offered proposals.
pub(crate) struct AwaitMain2 {
    /// SAi_b.
    sa_i_body: Vec<u8>,
}

/// We have sent our public value and nonce.
pub(crate) struct AwaitMain4 {
    agreed: Agreed,
    dh: DiffieHellman,
    ni: Nonce,
}

/// We have proved who we are.
pub(crate) struct AwaitMain6 {
    pub(crate) keyed: Keyed,
}

/// Message 1.
pub(crate) fn begin(exchange: &Exchange) -> Result<(State, Message), Refused> {
    let sa = phase1::offer(&exchange.connection.phase1)?;
    let mut payloads = vec![sa.into()];
    payloads.extend(exchange.offered_vendors());
    let message = Message::new(exchange.header(ExchangeType::IdentityProtection), payloads);
    let sa_i_body = message.chain.body(0).to_vec();
    Ok((State::AwaitMain2(AwaitMain2 { sa_i_body }), message))
}

/// What message 2 says.
pub(super) struct Main2 {
    chosen: Chosen,
    responder: Cookie,
    peer: PeerFeatures,
}

impl AwaitMain2 {
    pub(super) fn read(
        &self,
        exchange: &Exchange,
        opened: &Opened,
        _from: Path,
        _cx: &mut Context,
    ) -> Result<Main2, Refused> {
        let message = &opened.message;
        check(&main_mode::MESSAGE_2, message)?;
        let sa = payload!(message, main_mode::MESSAGE_2, Sa, SA)?;
        let chosen = phase1::accept(&exchange.connection.phase1, sa)?;
        let mut peer = exchange.peer;
        peer.learn(message, exchange.connection.encapsulation);
        Ok(Main2 {
            chosen,
            responder: message.header.cookies.responder,
            peer,
        })
    }

    pub(super) fn advance(self, exchange: &mut Exchange, content: Main2, cx: &mut Context) -> Step {
        exchange.cookies.responder = content.responder;
        exchange.peer = content.peer;
        let agreed = Agreed {
            suite: content.chosen.suite,
            lifetime: content.chosen.lifetime,
            sa_i_body: self.sa_i_body,
        };
        let dh = cx.generate(agreed.suite.group);
        let ni = cx.fresh_nonce();
        let mut payloads: Vec<Payload> = vec![KeyExchange::from(&dh).into()];
        payloads.push(ni.clone().into());
        payloads.extend(nat_discovery(exchange, &agreed));
        let header = exchange.header(ExchangeType::IdentityProtection);
        Step::Next(
            State::AwaitMain4(AwaitMain4 { agreed, dh, ni }),
            Message::new(header, payloads),
        )
    }
}

/// Our NAT-D payloads, if NAT-T is in common.
pub(super) fn nat_discovery(
    exchange: &Exchange,
    agreed: &Agreed,
) -> impl Iterator<Item = crate::wire::Payload> {
    let policy = exchange.connection.encapsulation;
    exchange
        .peer
        .nat_dialect()
        .map(|dialect| {
            discovery_payloads(
                dialect,
                agreed.suite.hash,
                exchange.cookies,
                exchange.path,
                policy,
            )
        })
        .into_iter()
        .flatten()
}

/// What the peer's NAT-D payloads and our policy say together.
pub(super) fn nat_state(
    exchange: &Exchange,
    agreed: &Agreed,
    peer: PeerFeatures,
    message: &Message,
    cookies: CookiePair,
    from: Path,
) -> Result<NatState, Mismatch> {
    let forced = exchange.connection.encapsulation == EncapsulationPolicy::Udp;
    let Some(dialect) = peer.nat_dialect() else {
        return if forced {
            Err(Mismatch::NoNatTraversal)
        } else {
            Ok(NatState::default())
        };
    };
    let mut nat = NatState::discover(message, dialect, agreed.suite.hash, cookies, from);
    nat.local |= forced;
    Ok(nat)
}

/// What message 4 leads to.
pub(super) struct Main4 {
    keyed: Keyed,
    peer: PeerFeatures,
    id: Identification,
}

impl AwaitMain4 {
    pub(super) fn read(
        &self,
        exchange: &Exchange,
        opened: &Opened,
        from: Path,
        cx: &mut Context,
    ) -> Result<Main4, Refused> {
        let message = &opened.message;
        check(&main_mode::MESSAGE_4, message)?;
        let ke = payload!(message, main_mode::MESSAGE_4, KeyExchange, KEY_EXCHANGE)?;
        let nr = payload!(message, main_mode::MESSAGE_4, Nonce, NONCE)?;
        let mut peer = exchange.peer;
        peer.learn(message, exchange.connection.encapsulation);
        let nat = nat_state(
            exchange,
            &self.agreed,
            peer,
            message,
            exchange.cookies,
            from,
        )?;
        let id = our_identification(&exchange.connection)?;
        let g_xy = cx.agree(&self.dh, ke.as_slice())?;
        let exchanged = Exchanged {
            g_xi: self.dh.public_value(),
            g_xr: ke.as_slice(),
            ni: &self.ni,
            nr,
        };
        let keyed = Keyed::derive(
            exchange,
            exchange.cookies,
            self.agreed.clone(),
            &exchanged,
            &g_xy,
            nat,
        );
        Ok(Main4 { keyed, peer, id })
    }

    pub(super) fn advance(
        self,
        exchange: &mut Exchange,
        content: Main4,
        _cx: &mut Context,
    ) -> Step {
        let Main4 {
            mut keyed,
            peer,
            id,
        } = content;
        exchange.peer = peer;
        if keyed.nat.any() {
            // RFC 3947 §4: from message 5 on, both ports are 4500.
            exchange.path = exchange.path.floated();
        }
        let payloads = keyed.proof(exchange, Role::Initiator, &id);
        let header = exchange.header(ExchangeType::IdentityProtection);
        let datagram = keyed.seal(&Message::new(header, payloads));
        Step::NextSealed(State::AwaitMain6(AwaitMain6 { keyed }), datagram)
    }
}

/// What message 6 says.
pub(super) struct Main6 {
    next_iv: Option<Iv>,
    initial_contact: bool,
}

impl AwaitMain6 {
    pub(super) fn read(
        &self,
        exchange: &Exchange,
        opened: &Opened,
        _from: Path,
        _cx: &mut Context,
    ) -> Result<Main6, Refused> {
        let message = &opened.message;
        let rule = &main_mode::MESSAGE_6;
        check(rule, message)?;
        let id = payload!(message, rule, Id, ID)?;
        let id_body = message
            .chain
            .body_of(PayloadType::ID)
            .ok_or(PeerMisbehaved::MissingPayload(PayloadType::ID, rule.name))?;
        self.keyed.verify(
            exchange.cookies,
            Role::Responder,
            id_body,
            message,
            rule.name,
        )?;
        connection_for(exchange, id)?;
        Ok(Main6 {
            next_iv: opened.next_iv,
            initial_contact: says_initial_contact(message),
        })
    }

    pub(super) fn advance(
        mut self,
        exchange: &mut Exchange,
        content: Main6,
        _cx: &mut Context,
    ) -> Step {
        exchange.peer_initial_contact = content.initial_contact;
        self.keyed.received(content.next_iv);
        Step::Done(self.keyed.finish(None))
    }
}
