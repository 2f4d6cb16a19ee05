//! An established IKE SA: keys, counters and the exchanges that run under it.

use std::collections::BTreeMap;
use std::time::Instant;

use ipsec_types::{ConnectionId, Encapsulation};

use super::child::Succession;
pub(crate) use super::message_ids::UsedMessageIds;
use crate::api::Role;
use crate::counters::DropReason;
use crate::crypto::{Iv, Phase1Keys, Phase1Suite};
use crate::dpd::Dpd;
use crate::error::{PeerMisbehaved, Refused};
use crate::natt::{NatState, Path, PeerFeatures};
use crate::negotiator::context::Context;
use crate::phase1::Fingerprint;
use crate::phase2::QuickMode;
use crate::wire::{
    Chain, CookiePair, EncapsulationMode, ExchangeType, HashData, Header, Message, MessageId,
    NatDialect, Payload, ProtectedMessage,
};

/// Quick modes that may run at once under one IKE SA.
pub(crate) const MAX_QUICK_MODES: usize = 64;

/// One IKE SA. The ESP SAs negotiated under it belong to the connection, not to it: so its
/// successor has nothing to adopt.
pub(crate) struct IkeSa {
    pub(crate) id: CookiePair,
    pub(crate) connection: ConnectionId,
    /// Our part in phase 1.
    pub(crate) role: Role,
    pub(crate) suite: Phase1Suite,
    pub(crate) keys: Phase1Keys,
    /// The last ciphertext block of phase 1 (RFC 2409 Appendix B).
    pub(crate) last_block: Iv,
    pub(crate) path: Path,
    pub(crate) nat: NatState,
    pub(crate) peer: PeerFeatures,
    pub(crate) used: UsedMessageIds,
    pub(crate) quick_modes: BTreeMap<u32, QuickMode>,
    pub(crate) dpd: Dpd,
    /// When the first message of its phase 1 was sent or received.
    pub(crate) began: Instant,
    pub(crate) established: Instant,
    pub(crate) expires: Instant,
    /// Its successor is to be negotiated as soon as possible.
    pub(crate) rekey_due: bool,
    /// A successor is there: nothing new is started under this one.
    pub(crate) retiring: bool,
    /// Deletes to send before the last one.
    pub(crate) farewells: u8,
    /// The peer's last phase-1 message and our answer, for duplicates.
    pub(crate) last_phase1: LastPhase1,
    /// A quick mode has succeeded under this SA.
    pub(crate) fruitful: bool,
    /// An authentic message has come under this SA: the peer has it too.
    pub(crate) confirmed: bool,
}

/// The end of phase 1, to answer duplicates.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastPhase1 {
    pub(crate) received: Option<Fingerprint>,
    pub(crate) sent: Option<Vec<u8>>,
}

impl IkeSa {
    /// A message id that was never used under this SA; used up now. Random, because message
    /// ids must not collide with the peer's (RFC 2408 §3.1).
    pub(crate) fn fresh_message_id(&mut self, cx: &mut Context) -> MessageId {
        // The memory holds at most 2^15 of 2^32 ids: a second draw is rare, a tenth absurd.
        for _ in 0..16 {
            let id = MessageId(cx.random());
            if id != MessageId::PHASE1 && self.used.commit(id) {
                return id;
            }
        }
        MessageId(cx.random() | 1)
    }

    /// IV of the first message of an exchange.
    pub(crate) fn first_iv(&self, id: MessageId) -> Iv {
        self.keys.phase2_iv(&self.last_block, id.0)
    }

    /// Decrypts a message and parses it; nothing is authenticated yet.
    pub(crate) fn open(
        &self,
        protected: &ProtectedMessage,
        iv: &Iv,
        name: &'static str,
    ) -> Result<(Message, Iv), Refused> {
        protected.open(self.keys.cipher_key(), iv).map_err(|error| {
            if protected.was_garbage(&error) {
                PeerMisbehaved::Undecipherable(name).into()
            } else {
                PeerMisbehaved::Malformed(error).into()
            }
        })
    }

    /// HASH(1) over the rest of a message (RFC 2409 §5.5, §5.7).
    pub(crate) fn verify_hash_1(
        &self,
        message: &Message,
        name: &'static str,
    ) -> Result<(), Refused> {
        let Some((hash, rest)) = message.chain.split_hash() else {
            return Err(PeerMisbehaved::BadHash(name).into());
        };
        if self
            .keys
            .hash_1(message.header.message_id.0, rest)
            .matches(hash.as_slice())
        {
            Ok(())
        } else {
            Err(PeerMisbehaved::BadHash(name).into())
        }
    }

    /// A protected message of one exchange: HASH(1), then `payloads`.
    pub(crate) fn seal_with_hash_1(
        &self,
        exchange: ExchangeType,
        id: MessageId,
        payloads: Vec<Payload>,
        iv: &Iv,
    ) -> (Vec<u8>, Iv) {
        let rest = Chain::build(payloads);
        let hash = self.keys.hash_1(id.0, rest.bytes());
        self.seal(exchange, id, &rest, HashData::from(&hash), iv)
    }

    /// A protected message: `hash` in front of `rest`.
    pub(crate) fn seal(
        &self,
        exchange: ExchangeType,
        id: MessageId,
        rest: &Chain,
        hash: HashData,
        iv: &Iv,
    ) -> (Vec<u8>, Iv) {
        let message = Message {
            header: Header::new(self.id, exchange, id),
            chain: rest.behind_hash(hash),
        };
        message.seal(self.keys.cipher_key(), iv)
    }

    /// Sends an informational message under its own message id; what was sent is returned.
    pub(crate) fn send_informational(
        &mut self,
        payloads: Vec<Payload>,
        cx: &mut Context,
    ) -> Vec<u8> {
        let id = self.fresh_message_id(cx);
        let iv = self.first_iv(id);
        let (datagram, _) = self.seal_with_hash_1(ExchangeType::Informational, id, payloads, &iv);
        cx.send(self.path, datagram.clone());
        cx.mark_changed(self.connection);
        datagram
    }

    /// How ESP travels under this SA.
    pub(crate) fn encapsulation(&self) -> Encapsulation {
        if self.nat.any() {
            Encapsulation::Udp
        } else {
            Encapsulation::Esp
        }
    }

    /// The same as an attribute.
    pub(crate) fn encapsulation_mode(&self) -> EncapsulationMode {
        let dialect = self.peer.nat_dialect().unwrap_or(NatDialect::Rfc3947);
        EncapsulationMode::tunnel(self.encapsulation(), dialect)
    }

    /// How a new IKE SA relates to the one in use.
    pub(crate) fn follows(&self, current: &Self) -> Succession {
        Succession::of(
            self.role != current.role,
            self.began < current.established,
            self.established
                .saturating_duration_since(current.established),
            self.id > current.id,
        )
    }

    /// Counts a message id as used up, or says why the message must be refused.
    pub(crate) fn commit_message_id(&mut self, id: MessageId) -> Result<(), DropReason> {
        if self.used.commit(id) {
            Ok(())
        } else {
            Err(DropReason::ReplayedMessageId)
        }
    }
}
