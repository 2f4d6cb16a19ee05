//! Quick mode as initiator: messages 1 and 3 are ours.

use ipsec_types::{SelectorPair, Spi};

use super::{NewPair, PairParts, host_selectors};
use crate::config::Connection;
use crate::crypto::{DhGroup, DiffieHellman, Iv};
use crate::error::{PeerMisbehaved, Refused};
use crate::exchange::{check, payload, quick_mode};
use crate::negotiator::context::Context;
use crate::proposal::phase2;
use crate::sa::ike::IkeSa;
use crate::wire::{
    Chain, EncapsulationMode, ExchangeType, HashData, Identification, KeyExchange, Message,
    MessageId, Nonce, NotifyType, Payload, ProtocolId,
};

/// We have offered proposals and selectors.
pub(crate) struct AwaitQuick2 {
    /// IV of message 2.
    pub(crate) iv: Iv,
    /// Our inbound SPI.
    pub(crate) our_spi: Spi,
    ni: Nonce,
    group: Option<DhGroup>,
    dh: Option<DiffieHellman>,
    mode: EncapsulationMode,
}

/// Message 1: everything the policy allows in the round of `group`.
pub(crate) fn begin(
    sa: &IkeSa,
    config: &Connection,
    id: MessageId,
    selectors: SelectorPair,
    group: Option<DhGroup>,
    cx: &mut Context,
) -> Result<(AwaitQuick2, Vec<u8>), Refused> {
    let our_spi = cx.draw_spi()?;
    let mode = sa.encapsulation_mode();
    let offer = phase2::offer(&config.phase2, group, mode, our_spi).inspect_err(|_| {
        cx.release_spi(our_spi);
    })?;
    let dh = group.map(|group| cx.generate(group));
    let ni = cx.fresh_nonce();
    let mut payloads: Vec<Payload> = vec![offer.into(), ni.clone().into()];
    payloads.extend(dh.as_ref().map(|dh| KeyExchange::from(dh).into()));
    payloads.push(Identification::from_selector(&selectors.local).into());
    payloads.push(Identification::from_selector(&selectors.remote).into());
    let (datagram, iv) = sa.seal_with_hash_1(ExchangeType::Quick, id, payloads, &sa.first_iv(id));
    let state = AwaitQuick2 {
        iv,
        our_spi,
        ni,
        group,
        dh,
        mode,
    };
    Ok((state, datagram))
}

/// What message 2 leads to.
pub(crate) struct Quick2 {
    pub(crate) new: NewPair,
    /// Message 3.
    pub(crate) answer: Vec<u8>,
    /// IV after message 3.
    pub(crate) iv: Iv,
    /// The responder set the commit bit: wait for CONNECTED.
    pub(crate) commit: bool,
}

impl AwaitQuick2 {
    /// Checks message 2 and derives the pair.
    pub(crate) fn read(
        &self,
        sa: &IkeSa,
        config: &Connection,
        selectors: SelectorPair,
        message: &Message,
        next_iv: &Iv,
        cx: &mut Context,
    ) -> Result<Quick2, Refused> {
        let rule = &quick_mode::MESSAGE_2;
        let id = message.header.message_id;
        check(rule, message)?;
        let Some((hash, rest)) = message.chain.split_hash() else {
            return Err(PeerMisbehaved::BadHash(rule.name).into());
        };
        let expected = sa.keys.hash_2(id.0, self.ni.as_slice(), rest);
        if !expected.matches(hash.as_slice()) {
            return Err(PeerMisbehaved::BadHash(rule.name).into());
        }
        let answer = payload!(message, rule, Sa, SA)?;
        let nr = payload!(message, rule, Nonce, NONCE)?;
        let chosen = phase2::accept(&config.phase2, self.group, self.mode, answer)?;
        check_selectors(sa, selectors, message)?;
        let g_xy = self.shared_secret(message, cx)?;
        let lifetime = message
            .chain
            .payloads()
            .iter()
            .filter_map(responder_lifetime)
            .fold(chosen.lifetime, phase2::shortened_by);
        let new = PairParts {
            connection: config.id,
            proposal: chosen.proposal,
            inbound: self.our_spi,
            outbound: chosen.peer_spi,
            g_xy: g_xy.as_ref(),
            ni: &self.ni,
            nr,
            selectors,
            lifetime,
        }
        .derive(sa);
        let hash_3 = sa.keys.hash_3(id.0, self.ni.as_slice(), nr.as_slice());
        let nothing = Chain::build(Vec::new());
        let hash_3 = HashData::from(&hash_3);
        let (answer, iv) = sa.seal(ExchangeType::Quick, id, &nothing, hash_3, next_iv);
        Ok(Quick2 {
            new,
            answer,
            iv,
            commit: message.header.flags.commit,
        })
    }

    fn shared_secret(
        &self,
        message: &Message,
        cx: &mut Context,
    ) -> Result<Option<ipsec_types::SecretBytes>, Refused> {
        let ke = message
            .chain
            .payloads()
            .iter()
            .find_map(|payload| match payload {
                Payload::KeyExchange(ke) => Some(ke),
                _ => None,
            });
        match (&self.dh, ke) {
            (Some(dh), Some(ke)) => Ok(Some(cx.agree(dh, ke.as_slice())?)),
            (None, None) => Ok(None),
            (Some(_), None) | (None, Some(_)) => Err(PeerMisbehaved::KeyExchangeMismatch.into()),
        }
    }
}

/// Message 2 must repeat our selectors (RFC 2409 §5.5). A peer that leaves them out means
/// the two hosts.
fn check_selectors(sa: &IkeSa, ours: SelectorPair, message: &Message) -> Result<(), Refused> {
    let ids: Vec<&Identification> = message
        .chain
        .payloads()
        .iter()
        .filter_map(|payload| match payload {
            Payload::Id(id) => Some(id),
            _ => None,
        })
        .collect();
    let theirs = match ids.as_slice() {
        [] => Some(host_selectors(sa)),
        [local, remote] => local
            .to_selector()
            .zip(remote.to_selector())
            .map(|(local, remote)| SelectorPair { local, remote }),
        _ => None,
    };
    if theirs == Some(ours) {
        return Ok(());
    }
    Err(PeerMisbehaved::ChangedSelectors {
        ours: ours.to_string(),
        theirs: theirs.map_or_else(|| "something else".to_owned(), |pair| pair.to_string()),
    }
    .into())
}

/// RESPONDER-LIFETIME for ESP.
fn responder_lifetime(payload: &Payload) -> Option<crate::wire::Lifetime> {
    match payload {
        Payload::Notification(n)
            if n.kind() == NotifyType::RESPONDER_LIFETIME && n.protocol() == ProtocolId::ESP =>
        {
            n.lifetime().ok()
        }
        _ => None,
    }
}
