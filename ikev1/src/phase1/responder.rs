//! Main mode as responder: messages 2, 4 and 6 are ours. Nothing is ever sent that was not
//! asked for, and there is no Diffie-Hellman before message 3 has shown that the peer
//! receives what we send to its address.

use std::sync::Arc;

use super::authentication::{Exchanged, connection_for, our_identification, says_initial_contact};
use super::initiator::{nat_discovery, nat_state};
use super::{Agreed, Exchange, Keyed, Opened, State, Step};
use crate::api::Role;
use crate::config::Connection;
use crate::crypto::{DiffieHellman, Iv};
use crate::error::{Mismatch, PeerMisbehaved, Refused};
use crate::exchange::{check, main_mode, payload};
use crate::natt::{Path, PeerFeatures};
use crate::negotiator::context::Context;
use crate::proposal::phase1::{self, Chosen};
use crate::wire::{
    ExchangeType, Identification, KeyExchange, Message, Nonce, Payload, PayloadType,
    SecurityAssociation, VendorId,
};

/// We have chosen a proposal.
pub(crate) struct AwaitMain3 {
    agreed: Agreed,
}

/// Keys exist.
pub(crate) struct AwaitMain5 {
    pub(crate) keyed: Keyed,
}

/// Among the connections for a pair of addresses, the first that has a proposal in common
/// with the peer; the explanation comes from the first of all.
pub(crate) fn choose_connection(
    candidates: &[Arc<Connection>],
    sa: &SecurityAssociation,
) -> Result<(Arc<Connection>, Chosen), Mismatch> {
    let mut first_error = None;
    for connection in candidates {
        match phase1::choose(&connection.phase1, sa) {
            Ok(chosen) => return Ok((Arc::clone(connection), chosen)),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    Err(first_error.unwrap_or(Mismatch::Phase1Proposal(
        "no connection for this peer".to_owned(),
    )))
}

/// The answer to message 1: message 2. It is never longer than the question, so a spoofed
/// source gains nothing; vendor ids that would make it longer are left out.
pub(crate) fn answer(
    exchange: &mut Exchange,
    message: &Message,
    chosen: Chosen,
    asked_len: usize,
) -> (State, Message) {
    exchange
        .peer
        .learn(message, exchange.connection.encapsulation);
    let agreed = Agreed {
        suite: chosen.suite,
        lifetime: chosen.lifetime,
        sa_i_body: message
            .chain
            .body_of(PayloadType::SA)
            .unwrap_or_default()
            .to_vec(),
    };
    let mut payloads: Vec<Payload> = vec![chosen.answer.into()];
    let header = exchange.header(ExchangeType::IdentityProtection);
    for vendor in exchange.peer.answered(exchange.connection.fragmentation) {
        let mut longer = payloads.clone();
        longer.push(VendorId::from(vendor).into());
        if Message::new(header, longer.clone()).encode().len() > asked_len {
            break;
        }
        payloads = longer;
    }
    (
        State::AwaitMain3(AwaitMain3 { agreed }),
        Message::new(header, payloads),
    )
}

/// What message 3 leads to.
pub(super) struct Main3 {
    dh: DiffieHellman,
    nr: Nonce,
    keyed: Keyed,
    peer: PeerFeatures,
}

impl AwaitMain3 {
    pub(super) fn read(
        &self,
        exchange: &Exchange,
        opened: &Opened,
        from: Path,
        cx: &mut Context,
    ) -> Result<Main3, Refused> {
        let message = &opened.message;
        check(&main_mode::MESSAGE_3, message)?;
        let ke = payload!(message, main_mode::MESSAGE_3, KeyExchange, KEY_EXCHANGE)?;
        let ni = payload!(message, main_mode::MESSAGE_3, Nonce, NONCE)?;
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
        let dh = cx.generate(self.agreed.suite.group);
        let g_xy = cx.agree(&dh, ke.as_slice())?;
        let nr = cx.fresh_nonce();
        let exchanged = Exchanged {
            g_xi: ke.as_slice(),
            g_xr: dh.public_value(),
            ni,
            nr: &nr,
        };
        let keyed = Keyed::derive(
            exchange,
            exchange.cookies,
            self.agreed.clone(),
            &exchanged,
            &g_xy,
            nat,
        );
        Ok(Main3 {
            dh,
            nr,
            keyed,
            peer,
        })
    }

    pub(super) fn advance(
        self,
        exchange: &mut Exchange,
        content: Main3,
        _cx: &mut Context,
    ) -> Step {
        exchange.peer = content.peer;
        let mut payloads: Vec<Payload> = vec![KeyExchange::from(&content.dh).into()];
        payloads.push(content.nr.into());
        payloads.extend(nat_discovery(exchange, &self.agreed));
        let header = exchange.header(ExchangeType::IdentityProtection);
        Step::Next(
            State::AwaitMain5(AwaitMain5 {
                keyed: content.keyed,
            }),
            Message::new(header, payloads),
        )
    }
}

/// What message 5 says.
pub(super) struct Main5 {
    next_iv: Option<Iv>,
    connection: Arc<Connection>,
    our_id: Identification,
    initial_contact: bool,
}

impl AwaitMain5 {
    pub(super) fn read(
        &self,
        exchange: &Exchange,
        opened: &Opened,
        _from: Path,
        _cx: &mut Context,
    ) -> Result<Main5, Refused> {
        let message = &opened.message;
        let rule = &main_mode::MESSAGE_5;
        check(rule, message)?;
        let id = payload!(message, rule, Id, ID)?;
        let id_body = message
            .chain
            .body_of(PayloadType::ID)
            .ok_or(PeerMisbehaved::MissingPayload(PayloadType::ID, rule.name))?;
        self.keyed.verify(
            exchange.cookies,
            Role::Initiator,
            id_body,
            message,
            rule.name,
        )?;
        let connection = connection_for(exchange, id)?;
        Ok(Main5 {
            next_iv: opened.next_iv,
            our_id: our_identification(&connection)?,
            connection,
            initial_contact: says_initial_contact(message),
        })
    }

    pub(super) fn advance(
        mut self,
        exchange: &mut Exchange,
        content: Main5,
        _cx: &mut Context,
    ) -> Step {
        exchange.connection = content.connection;
        exchange.peer_initial_contact = content.initial_contact;
        self.keyed.received(content.next_iv);
        let payloads = self.keyed.proof(exchange, Role::Responder, &content.our_id);
        let header = exchange.header(ExchangeType::IdentityProtection);
        let datagram = self.keyed.seal(&Message::new(header, payloads));
        Step::Done(self.keyed.finish(Some(datagram)))
    }
}
