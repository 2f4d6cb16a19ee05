//! Aggressive mode, both roles (RFC 2409 §5.4): three messages, identities in the clear, and
//! a hash of the pre-shared key for anybody who asks. Spoken only where the config says so.

use std::sync::Arc;

use super::authentication::{
    Exchanged, connection_for, identity_fits, our_identification, says_initial_contact,
};
use super::initiator::{nat_discovery, nat_state};
use super::{Agreed, Exchange, Keyed, Opened, State, Step};
use crate::api::Role;
use crate::config::Connection;
use crate::crypto::{DiffieHellman, Iv};
use crate::error::{Mismatch, PeerMisbehaved, Refused};
use crate::exchange::{aggressive, check, payload};
use crate::natt::{NatState, Path, PeerFeatures};
use crate::negotiator::context::Context;
use crate::proposal::phase1;
use crate::wire::{
    Cookie, ExchangeType, HashData, Identification, KeyExchange, Message, Nonce, Payload,
    PayloadType, VendorId,
};

/// We have sent everything but our proof.
pub(crate) struct AwaitAggressive2 {
    sa_i_body: Vec<u8>,
    id_body: Vec<u8>,
    dh: DiffieHellman,
    ni: Nonce,
}

/// We have sent our proof.
pub(crate) struct AwaitAggressive3 {
    pub(crate) keyed: Keyed,
    agreed: Agreed,
    /// IDii_b, from message 1.
    peer_id_body: Vec<u8>,
}

/// Message 1.
pub(crate) fn begin(exchange: &Exchange, cx: &mut Context) -> Result<(State, Message), Refused> {
    let policy = &exchange.connection.phase1;
    let sa = phase1::offer_one_group(policy)?;
    let id = our_identification(&exchange.connection)?;
    let Some(first) = policy.proposals.first() else {
        return Err(Mismatch::Phase1Proposal("no phase-1 proposals".to_owned()).into());
    };
    let dh = cx.generate(first.group);
    let ni = cx.fresh_nonce();
    let id_body = id.body();
    let mut payloads = vec![sa.into()];
    payloads.push(KeyExchange::from(&dh).into());
    payloads.push(ni.clone().into());
    payloads.push(id.into());
    payloads.extend(exchange.offered_vendors());
    let message = Message::new(exchange.header(ExchangeType::Aggressive), payloads);
    let state = AwaitAggressive2 {
        sa_i_body: message.chain.body(0).to_vec(),
        id_body,
        dh,
        ni,
    };
    Ok((State::AwaitAggressive2(state), message))
}

/// What message 2 leads to.
pub(super) struct Aggressive2 {
    responder: Cookie,
    keyed: Keyed,
    agreed: Agreed,
    peer: PeerFeatures,
}

impl AwaitAggressive2 {
    pub(super) fn read(
        &self,
        exchange: &Exchange,
        opened: &Opened,
        from: Path,
        cx: &mut Context,
    ) -> Result<Aggressive2, Refused> {
        let message = &opened.message;
        let rule = &aggressive::MESSAGE_2;
        check(rule, message)?;
        let sa = payload!(message, rule, Sa, SA)?;
        let ke = payload!(message, rule, KeyExchange, KEY_EXCHANGE)?;
        let nr = payload!(message, rule, Nonce, NONCE)?;
        let id = payload!(message, rule, Id, ID)?;
        let chosen = phase1::accept(&exchange.connection.phase1, sa)?;
        let agreed = Agreed {
            suite: chosen.suite,
            lifetime: chosen.lifetime,
            sa_i_body: self.sa_i_body.clone(),
        };
        let mut peer = exchange.peer;
        peer.learn(message, exchange.connection.encapsulation);
        let cookies = message.header.cookies;
        let nat = nat_state(exchange, &agreed, peer, message, cookies, from)?;
        let g_xy = cx.agree(&self.dh, ke.as_slice())?;
        let exchanged = Exchanged {
            g_xi: self.dh.public_value(),
            g_xr: ke.as_slice(),
            ni: &self.ni,
            nr,
        };
        let keyed = Keyed::derive(exchange, cookies, agreed.clone(), &exchanged, &g_xy, nat);
        let id_body = body_of(message, PayloadType::ID, rule.name)?;
        keyed.verify(cookies, Role::Responder, id_body, message, rule.name)?;
        connection_for(exchange, id)?;
        Ok(Aggressive2 {
            responder: cookies.responder,
            keyed,
            agreed,
            peer,
        })
    }

    pub(super) fn advance(
        self,
        exchange: &mut Exchange,
        content: Aggressive2,
        _cx: &mut Context,
    ) -> Step {
        let Aggressive2 {
            responder,
            mut keyed,
            agreed,
            peer,
        } = content;
        exchange.cookies.responder = responder;
        exchange.peer = peer;
        // Message 2 is in the clear and HASH_R does not cover notifications: an INITIAL-CONTACT
        // in it may be anybody's (RFC 2407 §4.6.3 asks for protection; invariant I5).
        exchange.peer_initial_contact = false;
        let nat_d: Vec<Payload> = nat_discovery(exchange, &agreed).collect();
        if keyed.nat.any() {
            exchange.path = exchange.path.floated();
        }
        let hash = keyed.hash_of(exchange.cookies, Role::Initiator, &self.id_body);
        let mut payloads: Vec<Payload> = vec![HashData::from(&hash).into()];
        payloads.extend(nat_d);
        let header = exchange.header(ExchangeType::Aggressive);
        let datagram = keyed.seal(&Message::new(header, payloads));
        Step::Done(keyed.finish(Some(datagram)))
    }
}

/// The first connection that a message 1 can belong to: by the identity in it, because the
/// address may be anything.
pub(crate) fn choose_connection(
    candidates: &[Arc<Connection>],
    message: &Message,
) -> Result<(Arc<Connection>, phase1::Chosen), Refused> {
    let rule = &aggressive::MESSAGE_1;
    check(rule, message)?;
    let id = payload!(message, rule, Id, ID)?;
    let sa = payload!(message, rule, Sa, SA)?;
    let Some(connection) = candidates
        .iter()
        .find(|connection| identity_fits(&connection.remote_id, id))
    else {
        let expected: Vec<_> = candidates.iter().map(|c| c.remote_id.to_string()).collect();
        return Err(Mismatch::Identity {
            claimed: id.to_string(),
            expected: expected.join(" or "),
        }
        .into());
    };
    let chosen = phase1::choose(&connection.phase1, sa)?;
    Ok((Arc::clone(connection), chosen))
}

/// The answer to message 1: message 2, which costs two exponentiations. That, and its size,
/// is why the mode is off unless configured.
pub(crate) fn answer(
    exchange: &mut Exchange,
    message: &Message,
    chosen: phase1::Chosen,
    from: Path,
    cx: &mut Context,
) -> Result<(State, Message), Refused> {
    let rule = &aggressive::MESSAGE_1;
    let ke = payload!(message, rule, KeyExchange, KEY_EXCHANGE)?;
    let ni = payload!(message, rule, Nonce, NONCE)?;
    let id: Identification = our_identification(&exchange.connection)?;
    exchange
        .peer
        .learn(message, exchange.connection.encapsulation);
    exchange.path = from;
    let agreed = Agreed {
        suite: chosen.suite,
        lifetime: chosen.lifetime,
        sa_i_body: body_of(message, PayloadType::SA, rule.name)?.to_vec(),
    };
    let dh = cx.generate(agreed.suite.group);
    let g_xy = cx.agree(&dh, ke.as_slice())?;
    let nr = cx.fresh_nonce();
    let exchanged = Exchanged {
        g_xi: ke.as_slice(),
        g_xr: dh.public_value(),
        ni,
        nr: &nr,
    };
    let cookies = exchange.cookies;
    let nat = NatState::default();
    let keyed = Keyed::derive(exchange, cookies, agreed.clone(), &exchanged, &g_xy, nat);
    let hash = keyed.hash_of(cookies, Role::Responder, &id.body());
    let mut payloads: Vec<Payload> = vec![chosen.answer.into()];
    payloads.push(KeyExchange::from(&dh).into());
    payloads.push(nr.into());
    payloads.push(id.into());
    payloads.push(HashData::from(&hash).into());
    payloads.extend(nat_discovery(exchange, &agreed));
    let vendors = exchange.peer.answered(exchange.connection.fragmentation);
    payloads.extend(vendors.map(|vendor| VendorId::from(vendor).into()));
    let state = AwaitAggressive3 {
        keyed,
        agreed,
        peer_id_body: body_of(message, PayloadType::ID, rule.name)?.to_vec(),
    };
    let header = exchange.header(ExchangeType::Aggressive);
    Ok((
        State::AwaitAggressive3(state),
        Message::new(header, payloads),
    ))
}

/// What message 3 says.
pub(super) struct Aggressive3 {
    next_iv: Option<Iv>,
    nat: NatState,
    initial_contact: bool,
}

impl AwaitAggressive3 {
    pub(super) fn read(
        &self,
        exchange: &Exchange,
        opened: &Opened,
        from: Path,
        _cx: &mut Context,
    ) -> Result<Aggressive3, Refused> {
        let message = &opened.message;
        let rule = &aggressive::MESSAGE_3;
        check(rule, message)?;
        let cookies = exchange.cookies;
        self.keyed.verify(
            cookies,
            Role::Initiator,
            &self.peer_id_body,
            message,
            rule.name,
        )?;
        // The ports have floated already: what NAT-D says is about the ports before that.
        let before = unfloated(from, exchange.path);
        let nat = nat_state(
            exchange,
            &self.agreed,
            exchange.peer,
            message,
            cookies,
            before,
        )?;
        Ok(Aggressive3 {
            next_iv: opened.next_iv,
            nat,
            initial_contact: opened.next_iv.is_some() && says_initial_contact(message),
        })
    }

    pub(super) fn advance(
        mut self,
        exchange: &mut Exchange,
        content: Aggressive3,
        _cx: &mut Context,
    ) -> Step {
        exchange.peer_initial_contact = content.initial_contact;
        self.keyed.received(content.next_iv);
        self.keyed.nat = content.nat;
        Step::Done(self.keyed.finish(None))
    }
}

/// Peers hash the ports that messages 1 and 2 used.
fn unfloated(from: Path, earlier: Path) -> Path {
    if from.local.port() == earlier.local.port() {
        from
    } else {
        earlier
    }
}

fn body_of<'a>(
    message: &'a Message,
    kind: PayloadType,
    name: &'static str,
) -> Result<&'a [u8], PeerMisbehaved> {
    message
        .chain
        .body_of(kind)
        .ok_or(PeerMisbehaved::MissingPayload(kind, name))
}
