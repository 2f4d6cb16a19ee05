//! Every message of every exchange: who sends it, what it must and may carry, and whether it
//! is encrypted. RFC 2409 §5.4 (pre-shared key), §5.5, §5.7; NAT-D by RFC 3947 §3.2.
//!
//! Vendor ids and notifications may stand in any message (RFC 2408 §3.14, §3.16), and
//! private-use payloads are ignored; the tables do not repeat that.

use crate::api::Role;
use crate::wire::{ExchangeType, PayloadType};

/// What is prescribed for one message.
#[derive(Debug)]
pub(crate) struct MessageRule {
    /// For the log.
    pub(crate) name: &'static str,
    /// The exchange type in its header.
    pub(crate) exchange: ExchangeType,
    /// Who sends it: a responder's message always carries the responder's cookie.
    pub(crate) sender: Role,
    /// Clear or encrypted.
    pub(crate) protection: Protection,
    /// Payloads that must come first, in this order, where the RFC prescribes it.
    pub(crate) leading: &'static [PayloadType],
    /// Each exactly once, unless `allowed` gives it more.
    pub(crate) required: &'static [PayloadType],
    /// Further payloads with the number of times they may stand in all.
    pub(crate) allowed: &'static [(PayloadType, usize)],
}

/// Clear or encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protection {
    /// Without the encryption bit.
    Clear,
    /// With it.
    Encrypted,
    /// Both are seen in the field (message 3 of aggressive mode).
    Either,
}

const SA: PayloadType = PayloadType::SA;
const KE: PayloadType = PayloadType::KEY_EXCHANGE;
const NONCE: PayloadType = PayloadType::NONCE;
const ID: PayloadType = PayloadType::ID;
const HASH: PayloadType = PayloadType::HASH;
const NOTIFICATION: PayloadType = PayloadType::NOTIFICATION;
const DELETE: PayloadType = PayloadType::DELETE;

/// NAT-D in both numberings: the remote end once, the local end for each address that the
/// sender may have (RFC 3947 §3.2); 16 is far beyond any host seen.
const NAT_D: [(PayloadType, usize); 2] = [(PayloadType::NAT_D, 16), (PayloadType::NAT_D_DRAFT, 16)];
const CERTREQ: (PayloadType, usize) = (PayloadType::CERTIFICATE_REQUEST, 8);

/// Main mode with a pre-shared key, messages 1 to 6.
pub(crate) mod main_mode {
    use super::*;

    const fn rule(name: &'static str, sender: Role, protection: Protection) -> MessageRule {
        MessageRule {
            name,
            exchange: ExchangeType::IdentityProtection,
            sender,
            protection,
            leading: &[],
            required: &[],
            allowed: &[],
        }
    }

    /// HDR, SA -->
    pub(crate) static MESSAGE_1: MessageRule = MessageRule {
        leading: &[SA],
        required: &[SA],
        ..rule("main mode message 1", Role::Initiator, Protection::Clear)
    };
    /// <-- HDR, SA
    pub(crate) static MESSAGE_2: MessageRule = MessageRule {
        leading: &[SA],
        required: &[SA],
        ..rule("main mode message 2", Role::Responder, Protection::Clear)
    };
    /// HDR, KE, Ni \[, NAT-D...\] -->
    pub(crate) static MESSAGE_3: MessageRule = MessageRule {
        required: &[KE, NONCE],
        allowed: &[NAT_D[0], NAT_D[1], CERTREQ],
        ..rule("main mode message 3", Role::Initiator, Protection::Clear)
    };
    /// <-- HDR, KE, Nr \[, NAT-D...\]
    pub(crate) static MESSAGE_4: MessageRule = MessageRule {
        required: &[KE, NONCE],
        allowed: &[NAT_D[0], NAT_D[1], CERTREQ],
        ..rule("main mode message 4", Role::Responder, Protection::Clear)
    };
    /// HDR*, IDii, HASH_I -->
    pub(crate) static MESSAGE_5: MessageRule = MessageRule {
        required: &[ID, HASH],
        ..rule(
            "main mode message 5",
            Role::Initiator,
            Protection::Encrypted,
        )
    };
    /// <-- HDR*, IDir, HASH_R
    pub(crate) static MESSAGE_6: MessageRule = MessageRule {
        required: &[ID, HASH],
        ..rule(
            "main mode message 6",
            Role::Responder,
            Protection::Encrypted,
        )
    };
}

/// Aggressive mode with a pre-shared key, messages 1 to 3.
pub(crate) mod aggressive {
    use super::*;

    /// HDR, SA, KE, Ni, IDii -->
    pub(crate) static MESSAGE_1: MessageRule = MessageRule {
        name: "aggressive mode message 1",
        exchange: ExchangeType::Aggressive,
        sender: Role::Initiator,
        protection: Protection::Clear,
        leading: &[SA],
        required: &[SA, KE, NONCE, ID],
        allowed: &[CERTREQ],
    };
    /// <-- HDR, SA, KE, Nr, IDir, HASH_R \[, NAT-D...\]
    pub(crate) static MESSAGE_2: MessageRule = MessageRule {
        name: "aggressive mode message 2",
        exchange: ExchangeType::Aggressive,
        sender: Role::Responder,
        protection: Protection::Clear,
        leading: &[SA],
        required: &[SA, KE, NONCE, ID, HASH],
        allowed: &[NAT_D[0], NAT_D[1], CERTREQ],
    };
    /// HDR\[*\], HASH_I \[, NAT-D...\] -->
    pub(crate) static MESSAGE_3: MessageRule = MessageRule {
        name: "aggressive mode message 3",
        exchange: ExchangeType::Aggressive,
        sender: Role::Initiator,
        protection: Protection::Either,
        leading: &[],
        required: &[HASH],
        allowed: &[NAT_D[0], NAT_D[1]],
    };
}

/// Quick mode, messages 1 to 3, and the CONNECTED that may follow a commit bit.
pub(crate) mod quick_mode {
    use super::*;

    /// NAT-OA belongs to transport mode; tolerated and ignored.
    const NAT_OA: [(PayloadType, usize); 2] =
        [(PayloadType::NAT_OA, 2), (PayloadType::NAT_OA_DRAFT, 2)];

    /// HDR*, HASH(1), SA, Ni \[, KE\] \[, IDci, IDcr\] -->
    pub(crate) static MESSAGE_1: MessageRule = MessageRule {
        name: "quick mode message 1",
        exchange: ExchangeType::Quick,
        sender: Role::Initiator,
        protection: Protection::Encrypted,
        leading: &[HASH, SA],
        required: &[HASH, SA, NONCE],
        allowed: &[(KE, 1), (ID, 2), NAT_OA[0], NAT_OA[1]],
    };
    /// <-- HDR*, HASH(2), SA, Nr \[, KE\] \[, IDci, IDcr\]
    pub(crate) static MESSAGE_2: MessageRule = MessageRule {
        name: "quick mode message 2",
        exchange: ExchangeType::Quick,
        sender: Role::Responder,
        protection: Protection::Encrypted,
        leading: &[HASH, SA],
        required: &[HASH, SA, NONCE],
        allowed: &[(KE, 1), (ID, 2), NAT_OA[0], NAT_OA[1]],
    };
    /// HDR*, HASH(3) -->
    pub(crate) static MESSAGE_3: MessageRule = MessageRule {
        name: "quick mode message 3",
        exchange: ExchangeType::Quick,
        sender: Role::Initiator,
        protection: Protection::Encrypted,
        leading: &[HASH],
        required: &[HASH],
        allowed: &[],
    };
    /// <-- HDR*, HASH, N(CONNECTED): the responder had set the commit bit (RFC 2408 §3.1).
    pub(crate) static CONNECTED: MessageRule = MessageRule {
        name: "connected notification",
        exchange: ExchangeType::Quick,
        sender: Role::Responder,
        protection: Protection::Encrypted,
        leading: &[HASH],
        required: &[HASH, NOTIFICATION],
        allowed: &[],
    };
}

/// The informational exchange: one message, either way.
pub(crate) mod informational {
    use super::*;

    /// HDR*, HASH(1), N/D... --> A nonce beside a delete is what Windows sends.
    pub(crate) static PROTECTED: MessageRule = MessageRule {
        name: "informational",
        exchange: ExchangeType::Informational,
        sender: Role::Initiator,
        protection: Protection::Encrypted,
        leading: &[HASH],
        required: &[HASH],
        allowed: &[(NOTIFICATION, 16), (DELETE, 16), (NONCE, 1)],
    };
}
