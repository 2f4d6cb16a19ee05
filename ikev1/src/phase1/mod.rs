//! Phase 1: from nothing to an authenticated IKE SA (RFC 2409 §5).
//!
//! ```text
//!        initiator                      responder
//!                      --- 1: SA --->
//!    AwaitMain2        <-- 2: SA ---    AwaitMain3
//!                      --- 3: KE, Ni, NAT-D --->
//!    AwaitMain4        <-- 4: KE, Nr, NAT-D ---    AwaitMain5
//!                      --- 5: ID, HASH_I --->  (encrypted, port 4500 behind a NAT)
//!    AwaitMain6        <-- 6: ID, HASH_R ---   established
//!    established
//! ```
//!
//! A state is named after the message it awaits and owns what it needs for that message.
//! `read` looks without changing anything; `advance` consumes the state. So a forged or
//! garbled message leaves the exchange as it was (invariant I5).

pub(crate) mod aggressive;
mod authentication;
pub(crate) mod initiator;
pub(crate) mod responder;

use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

pub(crate) use aggressive::{AwaitAggressive2, AwaitAggressive3};
pub(crate) use authentication::Keyed;
pub(crate) use initiator::{AwaitMain2, AwaitMain4, AwaitMain6};
pub(crate) use responder::{AwaitMain3, AwaitMain5};

use crate::config::Connection;
use crate::crypto::{CipherKey, Iv, Phase1Keys, Phase1Suite};
use crate::error::{Mismatch, Refused};
use crate::natt::{NatState, Path, PeerFeatures};
use crate::negotiator::context::Context;
use crate::negotiator::timers::ExchangeKey;
use crate::retransmit::Retransmit;
use crate::wire::{
    CookiePair, ExchangeType, Header, Incoming, Message, MessageId, Payload, VendorId,
};

/// What every state of a phase-1 exchange shares.
pub(crate) struct Exchange {
    /// Its name.
    pub(crate) key: ExchangeKey,
    /// Whose it is. A responder may still turn to one of `alternatives` when it learns the
    /// peer's identity.
    pub(crate) connection: Arc<Connection>,
    /// Connections with the same addresses and the same key.
    pub(crate) alternatives: Vec<Arc<Connection>>,
    /// Both cookies; the responder's is zero until message 2.
    pub(crate) cookies: CookiePair,
    /// Where our next message goes.
    pub(crate) path: Path,
    /// When the first message was sent or received.
    pub(crate) started: Instant,
    /// Vendor ids so far.
    pub(crate) peer: PeerFeatures,
    /// Fingerprint of the last message that moved it forward.
    pub(crate) last_in: Option<Fingerprint>,
    /// Our last message, for duplicates and resending.
    pub(crate) last_out: Vec<u8>,
    /// Resending; used by the initiator only.
    pub(crate) retransmit: Retransmit,
    /// We have no older SA with this peer and shall say so.
    pub(crate) initial_contact: bool,
    /// The peer says so (authenticated with the exchange).
    pub(crate) peer_initial_contact: bool,
    /// What went wrong so far, for the one line when it comes to nothing: an unauthenticated
    /// notification is a hint, nothing more.
    pub(crate) hint: Option<String>,
    /// A failure of this exchange has been reported.
    pub(crate) reported: bool,
}

/// A message recognised by its hash.
pub(crate) type Fingerprint = Vec<u8>;

/// The awaited message, and what is needed for it.
pub(crate) enum State {
    AwaitMain2(AwaitMain2),
    AwaitMain3(AwaitMain3),
    AwaitMain4(AwaitMain4),
    AwaitMain5(AwaitMain5),
    AwaitMain6(AwaitMain6),
    AwaitAggressive2(AwaitAggressive2),
    AwaitAggressive3(AwaitAggressive3),
}

/// An exchange in progress.
pub(crate) struct InProgress {
    pub(crate) exchange: Exchange,
    pub(crate) state: State,
}

/// What both sides have agreed on in the SA payloads.
#[derive(Debug, Clone)]
pub(crate) struct Agreed {
    pub(crate) suite: Phase1Suite,
    pub(crate) lifetime: Duration,
    /// SAi_b.
    pub(crate) sa_i_body: Vec<u8>,
}

/// The result of phase 1.
pub(crate) struct Established {
    pub(crate) suite: Phase1Suite,
    pub(crate) lifetime: Duration,
    pub(crate) keys: Phase1Keys,
    /// The last ciphertext block of phase 1: the root of all later IVs.
    pub(crate) last_block: Iv,
    pub(crate) nat: NatState,
    /// Our last message; repeated for duplicates of the peer's last one. With `send_now` it
    /// has not been sent yet.
    pub(crate) last_out: Option<Vec<u8>>,
}

/// Where a message led.
pub(crate) enum Step {
    /// Our answer, and the state that awaits the next message.
    Next(State, Message),
    /// The same with an answer that is already encrypted.
    NextSealed(State, Vec<u8>),
    /// Phase 1 is done; `last_out` is to be sent where there is one.
    Done(Box<Established>),
}

/// What became of an exchange.
pub(crate) enum Received {
    /// Nothing has changed.
    Refused(Box<InProgress>, Refused),
    /// `last_out` is to be sent.
    Onward(Box<InProgress>),
    /// Phase 1 is done.
    Done(Box<Exchange>, Box<Established>),
}

impl State {
    /// For the log and the status.
    pub(crate) const fn awaits(&self) -> &'static str {
        match self {
            Self::AwaitMain2(_) => "main mode message 2",
            Self::AwaitMain3(_) => "main mode message 3",
            Self::AwaitMain4(_) => "main mode message 4",
            Self::AwaitMain5(_) => "main mode message 5",
            Self::AwaitMain6(_) => "main mode message 6",
            Self::AwaitAggressive2(_) => "aggressive mode message 2",
            Self::AwaitAggressive3(_) => "aggressive mode message 3",
        }
    }

    /// True while the peer has not shown that it receives what we send: such exchanges are
    /// the first to be evicted.
    pub(crate) const fn is_unconfirmed(&self) -> bool {
        matches!(self, Self::AwaitMain3(_) | Self::AwaitAggressive3(_))
    }

    /// The exchange type that this state belongs to.
    pub(crate) const fn exchange_type(&self) -> ExchangeType {
        match self {
            Self::AwaitMain2(_)
            | Self::AwaitMain3(_)
            | Self::AwaitMain4(_)
            | Self::AwaitMain5(_)
            | Self::AwaitMain6(_) => ExchangeType::IdentityProtection,
            Self::AwaitAggressive2(_) | Self::AwaitAggressive3(_) => ExchangeType::Aggressive,
        }
    }

    /// Key and IV for the awaited message, if it comes encrypted.
    fn opener(&self) -> Option<(&CipherKey, &Iv)> {
        match self {
            Self::AwaitMain5(state) => Some(state.keyed.opener()),
            Self::AwaitMain6(state) => Some(state.keyed.opener()),
            Self::AwaitAggressive3(state) => Some(state.keyed.opener()),
            Self::AwaitMain2(_)
            | Self::AwaitMain3(_)
            | Self::AwaitMain4(_)
            | Self::AwaitAggressive2(_) => None,
        }
    }
}

impl InProgress {
    /// A message for this exchange has arrived: the state is consumed, and given back
    /// unchanged when the message is refused.
    pub(crate) fn receive(self, incoming: &Incoming, from: Path, cx: &mut Context) -> Received {
        let Self {
            mut exchange,
            state,
        } = self;
        let opened = match open(incoming, &state) {
            Ok(opened) => opened,
            Err(refused) => return refuse(exchange, state, refused),
        };
        match state.receive(&mut exchange, &opened, from, cx) {
            Ok(Step::Next(state, message)) => {
                exchange.last_out = message.encode();
                Received::Onward(Box::new(Self { exchange, state }))
            }
            Ok(Step::NextSealed(state, datagram)) => {
                exchange.last_out = datagram;
                Received::Onward(Box::new(Self { exchange, state }))
            }
            Ok(Step::Done(established)) => Received::Done(Box::new(exchange), established),
            Err(rejected) => refuse(exchange, rejected.state, rejected.error),
        }
    }
}

impl InProgress {
    /// What a complaint of the peer's most likely means at this point.
    pub(crate) fn hint_at(&self) -> String {
        match &self.state {
            State::AwaitMain2(_) | State::AwaitAggressive2(_) => {
                let proposals = &self.exchange.connection.phase1.proposals;
                let offered: Vec<String> = proposals.iter().map(ToString::to_string).collect();
                format!(" to our offer of {}", offered.join(", "))
            }
            State::AwaitMain6(_) => {
                " to message 5: most likely the pre-shared keys differ, or it does not know our \
                 identity"
                    .to_owned()
            }
            State::AwaitMain3(_)
            | State::AwaitMain4(_)
            | State::AwaitMain5(_)
            | State::AwaitAggressive3(_) => String::new(),
        }
    }
}

fn refuse(exchange: Exchange, state: State, refused: Refused) -> Received {
    Received::Refused(Box::new(InProgress { exchange, state }), refused)
}

/// A message in the clear, or decrypted with the IV that its successor needs.
pub(crate) struct Opened {
    pub(crate) message: Message,
    /// `None` when the message came in the clear.
    pub(crate) next_iv: Option<Iv>,
}

fn open(incoming: &Incoming, state: &State) -> Result<Opened, Refused> {
    use crate::error::PeerMisbehaved::{self, UntimelyProtection};
    match incoming {
        Incoming::Clear(message) => Ok(Opened {
            message: message.clone(),
            next_iv: None,
        }),
        Incoming::Protected(protected) => {
            let Some((key, iv)) = state.opener() else {
                return Err(UntimelyProtection(state.awaits()).into());
            };
            let (message, next_iv) = protected.open(key, iv).map_err(|error| -> Refused {
                if protected.was_garbage(&error) {
                    Mismatch::Undecipherable(state.awaits()).into()
                } else {
                    PeerMisbehaved::Malformed(error).into()
                }
            })?;
            Ok(Opened {
                message,
                next_iv: Some(next_iv),
            })
        }
        Incoming::Fragment(_) => Err(UntimelyProtection(state.awaits()).into()),
    }
}

/// A refused message gives its state back.
pub(crate) struct Rejected {
    pub(crate) state: State,
    pub(crate) error: Refused,
}

impl State {
    fn receive(
        self,
        exchange: &mut Exchange,
        opened: &Opened,
        from: Path,
        cx: &mut Context,
    ) -> Result<Step, Box<Rejected>> {
        /// Reads without changing anything, then advances.
        macro_rules! read_then_advance {
            ($variant:ident, $state:expr) => {
                match $state.read(exchange, opened, from, cx) {
                    Ok(content) => {
                        exchange.path = from;
                        Ok($state.advance(exchange, content, cx))
                    }
                    Err(error) => Err(Box::new(Rejected {
                        state: Self::$variant($state),
                        error,
                    })),
                }
            };
        }
        match self {
            Self::AwaitMain2(state) => read_then_advance!(AwaitMain2, state),
            Self::AwaitMain3(state) => read_then_advance!(AwaitMain3, state),
            Self::AwaitMain4(state) => read_then_advance!(AwaitMain4, state),
            Self::AwaitMain5(state) => read_then_advance!(AwaitMain5, state),
            Self::AwaitMain6(state) => read_then_advance!(AwaitMain6, state),
            Self::AwaitAggressive2(state) => read_then_advance!(AwaitAggressive2, state),
            Self::AwaitAggressive3(state) => read_then_advance!(AwaitAggressive3, state),
        }
    }
}

impl Exchange {
    /// Header of our next phase-1 message.
    fn header(&self, exchange: ExchangeType) -> Header {
        Header::new(self.cookies, exchange, MessageId::PHASE1)
    }

    /// What an initiator announces.
    fn offered_vendors(&self) -> impl Iterator<Item = Payload> {
        PeerFeatures::offered(self.connection.encapsulation, self.connection.fragmentation)
            .map(|vendor| VendorId::from(vendor).into())
    }
}
