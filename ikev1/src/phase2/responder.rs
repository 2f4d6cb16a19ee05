//! Quick mode as responder: message 2 is ours.

use ipsec_types::{SelectorPair, Spi};

use super::{NewPair, PairParts, host_selectors};
use crate::config::Connection;
use crate::crypto::Iv;
use crate::error::{Mismatch, PeerMisbehaved, Refused};
use crate::exchange::{check, payload, quick_mode};
use crate::negotiator::context::Context;
use crate::proposal::phase2;
use crate::sa::ike::IkeSa;
use crate::wire::{
    Chain, ExchangeType, HashData, Identification, KeyExchange, Lifetime, Message, MessageId,
    Nonce, Notification, Payload, ProtocolId,
};

/// We have chosen; the pair already opens inbound packets.
pub(crate) struct AwaitQuick3 {
    /// IV of message 3.
    pub(crate) iv: Iv,
    /// The pair's name.
    pub(crate) inbound: Spi,
    pub(crate) ni: Nonce,
    pub(crate) nr: Nonce,
}

/// What message 1 leads to.
pub(crate) struct Quick1 {
    pub(crate) state: AwaitQuick3,
    pub(crate) new: NewPair,
    /// Message 2.
    pub(crate) answer: Vec<u8>,
}

/// The selectors that message 1 proposes, as we would write them. The initiator's own side
/// comes first on the wire, which is our remote side.
pub(crate) fn proposed_selectors(sa: &IkeSa, message: &Message) -> Result<SelectorPair, Refused> {
    let ids = identities(message);
    match ids.as_slice() {
        [] => Ok(host_selectors(sa)),
        [theirs, ours] => match (ours.to_selector(), theirs.to_selector()) {
            (Some(local), Some(remote)) => Ok(SelectorPair { local, remote }),
            _ => Err(Mismatch::Selectors {
                proposed: format!("{ours} <=> {theirs}"),
                configured: "address prefixes only".to_owned(),
            }
            .into()),
        },
        _ => Err(PeerMisbehaved::MissingPayload(
            crate::wire::PayloadType::ID,
            quick_mode::MESSAGE_1.name,
        )
        .into()),
    }
}

fn identities(message: &Message) -> Vec<&Identification> {
    message
        .chain
        .payloads()
        .iter()
        .filter_map(|payload| match payload {
            Payload::Id(id) => Some(id),
            _ => None,
        })
        .collect()
}

/// Selectors must be exactly a configured pair: we neither narrow nor widen.
pub(crate) fn check_configured(
    config: &Connection,
    proposed: SelectorPair,
) -> Result<(), Mismatch> {
    if config.selectors.contains(&proposed) {
        return Ok(());
    }
    let configured: Vec<String> = config.selectors.iter().map(ToString::to_string).collect();
    Err(Mismatch::Selectors {
        proposed: proposed.to_string(),
        configured: configured.join(", "),
    })
}

/// Checks message 1, whose HASH(1) is known to be right, and makes message 2.
pub(crate) fn answer(
    sa: &IkeSa,
    config: &Connection,
    message: &Message,
    next_iv: &Iv,
    cx: &mut Context,
) -> Result<Quick1, Refused> {
    let rule = &quick_mode::MESSAGE_1;
    let id = message.header.message_id;
    check(rule, message)?;
    let offered = payload!(message, rule, Sa, SA)?;
    let ni = payload!(message, rule, Nonce, NONCE)?;
    let ke = message
        .chain
        .payloads()
        .iter()
        .find_map(|payload| match payload {
            Payload::KeyExchange(ke) => Some(ke),
            _ => None,
        });
    let selectors = proposed_selectors(sa, message)?;
    check_configured(config, selectors)?;
    let chosen = phase2::choose(&config.phase2, offered, sa.encapsulation(), ke.is_some())?;
    let dh = match (chosen.proposal.pfs, ke) {
        (Some(group), Some(ke)) => {
            let dh = cx.generate(group);
            let g_xy = cx.agree(&dh, ke.as_slice())?;
            Some((dh, g_xy))
        }
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err(PeerMisbehaved::KeyExchangeMismatch.into());
        }
    };
    let our_spi = cx.draw_spi()?;
    let nr = cx.fresh_nonce();
    let new = PairParts {
        connection: config.id,
        proposal: chosen.proposal,
        inbound: our_spi,
        outbound: chosen.peer_spi,
        g_xy: dh.as_ref().map(|(_, g_xy)| g_xy),
        ni,
        nr: &nr,
        selectors,
        lifetime: chosen.lifetime,
    }
    .derive(sa);
    let mut payloads: Vec<Payload> = vec![chosen.answer(our_spi).into(), nr.clone().into()];
    payloads.extend(dh.as_ref().map(|(dh, _)| KeyExchange::from(dh).into()));
    payloads.extend(identities(message).into_iter().cloned().map(Payload::Id));
    payloads.extend(shortened_lifetime(&chosen, our_spi));
    let rest = Chain::build(payloads);
    let hash = HashData::from(&sa.keys.hash_2(id.0, ni.as_slice(), rest.bytes()));
    let (answer, iv) = sa.seal(ExchangeType::Quick, id, &rest, hash, next_iv);
    Ok(Quick1 {
        state: AwaitQuick3 {
            iv,
            inbound: our_spi,
            ni: ni.clone(),
            nr,
        },
        new,
        answer,
    })
}

/// The initiator is told when we keep a shorter lifetime than it offered; the SPI is that of
/// our inbound SA (RFC 2407 §4.6.3.1).
fn shortened_lifetime(chosen: &phase2::Chosen, our_spi: Spi) -> Option<Payload> {
    if !chosen.shortened {
        return None;
    }
    let lifetime = Lifetime {
        kilobytes: chosen.lifetime.kilobytes,
        ..Lifetime::from_time(chosen.lifetime.time)
    };
    let notification = Notification::responder_lifetime(ProtocolId::ESP, our_spi.into(), lifetime);
    Some(notification.into())
}

impl AwaitQuick3 {
    /// Checks message 3: the initiator is alive and has our nonce.
    pub(crate) fn read(&self, sa: &IkeSa, message: &Message) -> Result<(), Refused> {
        let rule = &quick_mode::MESSAGE_3;
        check(rule, message)?;
        let Some((hash, _)) = message.chain.split_hash() else {
            return Err(PeerMisbehaved::BadHash(rule.name).into());
        };
        let MessageId(id) = message.header.message_id;
        let expected = sa.keys.hash_3(id, self.ni.as_slice(), self.nr.as_slice());
        if expected.matches(hash.as_slice()) {
            Ok(())
        } else {
            Err(PeerMisbehaved::BadHash(rule.name).into())
        }
    }
}
