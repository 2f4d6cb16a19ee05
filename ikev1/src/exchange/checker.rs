//! Enforces the tables.

use super::table::{MessageRule, Protection};
use crate::api::Role;
use crate::error::PeerMisbehaved;
use crate::wire::{ExchangeType, Message, MessageId, PayloadType};

/// Payload numbers from here on are private use (RFC 2408 §3.1): ignored unless a table
/// knows them.
const PRIVATE_USE: u8 = 128;

/// Vendor ids in one message: Windows sends about 10, a stack of drafts up to 20.
const MAX_VENDOR_IDS: usize = 40;
/// Notifications beside the payloads of an exchange.
const MAX_NOTIFICATIONS: usize = 8;

/// Refuses a message that its rule does not describe. After this, every required payload is
/// there once, and nothing else is there that would need an answer.
pub(crate) fn check(rule: &MessageRule, message: &Message) -> Result<(), PeerMisbehaved> {
    check_header(rule, message)?;
    let chain = &message.chain;
    if let Some(&first) = rule.leading.first()
        && chain.first() != first
    {
        return Err(PeerMisbehaved::WrongFirstPayload(first, rule.name));
    }
    for &kind in rule.required {
        if chain.count(kind) == 0 {
            return Err(PeerMisbehaved::MissingPayload(kind, rule.name));
        }
    }
    for (&kind, payload) in rule.leading.iter().zip(chain.payloads()) {
        if payload.kind() != kind {
            return Err(PeerMisbehaved::MisplacedPayload(kind, rule.name));
        }
    }
    for payload in chain.payloads() {
        let kind = payload.kind();
        let limit = times_allowed(rule, kind);
        if limit == 0 {
            return Err(PeerMisbehaved::UnexpectedPayload(kind, rule.name));
        }
        if chain.count(kind) > limit {
            return Err(PeerMisbehaved::DuplicatePayload(kind, rule.name));
        }
    }
    Ok(())
}

fn check_header(rule: &MessageRule, message: &Message) -> Result<(), PeerMisbehaved> {
    let header = &message.header;
    match (rule.protection, header.flags.encryption) {
        (Protection::Clear, true) => return Err(PeerMisbehaved::UntimelyProtection(rule.name)),
        (Protection::Encrypted, false) => return Err(PeerMisbehaved::NotProtected(rule.name)),
        (Protection::Clear, false) | (Protection::Encrypted, true) | (Protection::Either, _) => {}
    }
    if rule.sender == Role::Responder && header.cookies.responder.is_zero() {
        return Err(PeerMisbehaved::NoResponderCookie(rule.name));
    }
    let phase1 = matches!(
        rule.exchange,
        ExchangeType::IdentityProtection | ExchangeType::Aggressive
    );
    if (header.message_id == MessageId::PHASE1) != phase1 {
        return Err(PeerMisbehaved::MessageId(rule.name));
    }
    Ok(())
}

fn times_allowed(rule: &MessageRule, kind: PayloadType) -> usize {
    if let Some(&(_, times)) = rule.allowed.iter().find(|(allowed, _)| *allowed == kind) {
        return times;
    }
    if rule.required.contains(&kind) {
        return 1;
    }
    match kind {
        PayloadType::VENDOR_ID => MAX_VENDOR_IDS,
        PayloadType::NOTIFICATION => MAX_NOTIFICATIONS,
        PayloadType(number) if number >= PRIVATE_USE => usize::MAX,
        _ => 0,
    }
}

/// Finds the one payload of a kind; the checker has seen that it is there.
macro_rules! payload {
    ($message:expr, $rule:expr, $variant:ident, $kind:ident) => {
        $message
            .chain
            .payloads()
            .iter()
            .find_map(|payload| match payload {
                $crate::wire::Payload::$variant(inner) => Some(inner),
                _ => None,
            })
            .ok_or($crate::error::PeerMisbehaved::MissingPayload(
                $crate::wire::PayloadType::$kind,
                $rule.name,
            ))
    };
}
pub(crate) use payload;

#[cfg(test)]
mod tests;
