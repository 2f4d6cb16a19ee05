//! An outbound SA: we seal, the peer opens.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipsec_types::{ConnectionId, Direction, EspSaParams, SelectorPair, Spi};

use super::{
    Activation, BadSa, ByteLimits, Endpoints, Framing, ImportError, OutboundState, SaTraffic,
};
use crate::counters::{DropReason, Traffic};
use crate::crypto::{AeadBackends, SaCipher};
use crate::events::SoftLimitKind;
use crate::iv::{Epoch, IvPartition, Member};
use crate::sequence::{Exhausted, SequenceRange, SequenceWidth};
use crate::turn::Turnstile;

/// From here on an SA asks to be replaced: 7/8 of an epoch's IVs.
const IV_SOFT_LIMIT: u64 = (1 << 48) / 8 * 7;

/// An SA that seals. Shared by all workers.
#[derive(Debug)]
pub struct OutboundSa {
    connection: ConnectionId,
    params: EspSaParams,
    pub(crate) framing: Framing,
    pub(crate) cipher: SaCipher,
    limits: ByteLimits,
    /// The peer may move behind a NAT while the SA lives.
    endpoints: ArcSwap<Endpoints>,
    numbers: Numbers,
    /// Which worker sends next.
    pub(crate) turns: Turnstile,
    pub(crate) traffic: SaTraffic,
}

/// What every train takes from; on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Numbers {
    sequence: SequenceRange,
    ivs: IvPartition,
}

/// Sequence numbers and IVs for some packets of one SA. Not `Clone`: whoever holds it is the
/// only one who may use them (invariants I1 and I2).
#[derive(Debug)]
pub struct SealRun<'sa> {
    pub(crate) sa: &'sa OutboundSa,
    pub(crate) first_seq: u64,
    pub(crate) first_iv: u64,
    pub(crate) count: u32,
}

impl SealRun<'_> {
    /// The first sequence number.
    #[must_use]
    pub const fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// How many packets it is good for; at least 1.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Never true: an empty reservation is an error instead.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl OutboundSa {
    /// Expands the keys of a freshly negotiated SA, whose IVs and sequence numbers were never
    /// used. `ceiling` is the last sequence number that may be sent for now; `None` for a
    /// gateway without a partner.
    ///
    /// # Errors
    /// [`BadSa`] when the parameters are inbound ones or the keys have the wrong length.
    pub fn new(
        connection: ConnectionId,
        params: EspSaParams,
        limits: ByteLimits,
        member: Member,
        ceiling: Option<u64>,
        backends: AeadBackends,
    ) -> Result<Self, BadSa> {
        let width = SequenceWidth::from_esn(params.esn);
        let numbers = Numbers {
            sequence: SequenceRange::new(width, 1, ceiling),
            ivs: IvPartition::new(member, Epoch::FIRST),
        };
        let cipher = SaCipher::new(&params, backends)?;
        Self::assemble(connection, params, limits, numbers, cipher)
    }

    /// An SA that frames packets like AES-GCM and protects nothing: the ceiling that
    /// benchmarks compare with. No negotiated value leads here.
    #[doc(hidden)]
    pub fn with_null_cipher(connection: ConnectionId, params: EspSaParams) -> Result<Self, BadSa> {
        let numbers = Numbers {
            sequence: SequenceRange::new(SequenceWidth::from_esn(params.esn), 1, None),
            ivs: IvPartition::new(Member::A, Epoch::FIRST),
        };
        let limits = ByteLimits::UNLIMITED;
        Self::assemble(connection, params, limits, numbers, SaCipher::Null)
    }

    /// Takes an SA over from the state of another gateway or process: in a fresh IV epoch, and
    /// with sequence numbers above everything that gateway may have sent.
    ///
    /// # Errors
    /// [`ImportError`] when the parameters are bad, or no epoch or sequence number is left.
    pub fn import(
        connection: ConnectionId,
        state: OutboundState,
        activation: Activation,
        backends: AeadBackends,
    ) -> Result<Self, ImportError> {
        let epoch = state.epoch.max(activation.above).successor()?;
        let width = SequenceWidth::from_esn(state.params.esn);
        let next = activation.resume.next(&state)?;
        if next > width.last() {
            return Err(ImportError::SequenceExhausted);
        }
        let numbers = Numbers {
            sequence: SequenceRange::new(width, next, activation.ceiling),
            ivs: IvPartition::new(activation.member, epoch),
        };
        let cipher = SaCipher::new(&state.params, backends).map_err(BadSa::from)?;
        let mut sa = Self::assemble(connection, state.params, state.limits, numbers, cipher)?;
        sa.traffic = SaTraffic::new(state.traffic);
        Ok(sa)
    }

    fn assemble(
        connection: ConnectionId,
        params: EspSaParams,
        limits: ByteLimits,
        numbers: Numbers,
        cipher: SaCipher,
    ) -> Result<Self, BadSa> {
        if params.direction != Direction::Outbound {
            return Err(BadSa::Direction);
        }
        Ok(Self {
            connection,
            framing: Framing::of(params.suite),
            cipher,
            limits,
            endpoints: ArcSwap::from_pointee(Endpoints::of(&params)),
            turns: Turnstile::new(numbers.sequence.next()),
            numbers,
            traffic: SaTraffic::new(Traffic::default()),
            params,
        })
    }

    /// The SA as a value. The sequence numbers and the epoch in it may be used up to the
    /// moment of this call; an import continues above them.
    #[must_use]
    pub fn export(&self) -> OutboundState {
        let endpoints = self.endpoints();
        let mut params = self.params.clone();
        (params.local, params.remote) = (endpoints.local, endpoints.remote);
        OutboundState {
            params,
            limits: self.limits,
            next: self.numbers.sequence.next(),
            ceiling: self.numbers.sequence.ceiling(),
            member: self.numbers.ivs.member(),
            epoch: self.numbers.ivs.epoch(),
            traffic: self.traffic.load(),
        }
    }

    /// Takes sequence numbers and IVs for up to `packets` packets; fewer when the sequence
    /// ceiling is near.
    ///
    /// # Errors
    /// The reason why not even one packet may be sealed.
    #[inline]
    pub fn reserve(&self, packets: u32) -> Result<SealRun<'_>, DropReason> {
        if self.traffic.bytes() >= self.limits.hard {
            return Err(DropReason::LifetimeExhausted);
        }
        let run = self
            .numbers
            .sequence
            .reserve(packets)
            .map_err(|e| match e {
                Exhausted::Ceiling => DropReason::SequenceCeiling,
                Exhausted::Space => DropReason::SequenceExhausted,
            })?;
        let ivs = self
            .numbers
            .ivs
            .draw(run.count)
            .map_err(|_| DropReason::SequenceExhausted)?;
        Ok(SealRun {
            sa: self,
            first_seq: run.first,
            first_iv: ivs.first,
            count: run.count,
        })
    }

    /// Counts a sealed train; tells each soft limit to exactly one caller.
    pub(crate) fn account(&self, traffic: Traffic, now: Duration) -> Option<SoftLimitKind> {
        let bytes = self.traffic.add(traffic, now);
        let reached = [
            (bytes >= self.limits.soft, SoftLimitKind::Bytes),
            (
                self.numbers.sequence.past_soft_limit(),
                SoftLimitKind::Sequence,
            ),
            (self.numbers.ivs.used() > IV_SOFT_LIMIT, SoftLimitKind::Ivs),
        ];
        reached
            .into_iter()
            .find(|(reached, kind)| *reached && self.traffic.tell_once(*kind))
            .map(|(_, kind)| kind)
    }

    /// The peer's SPI.
    #[must_use]
    pub const fn spi(&self) -> Spi {
        self.params.spi
    }

    /// The tunnel it belongs to.
    #[must_use]
    pub const fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// What it was installed with.
    #[must_use]
    pub const fn params(&self) -> &EspSaParams {
        &self.params
    }

    /// Inner packets it may carry.
    #[must_use]
    pub const fn selectors(&self) -> &SelectorPair {
        &self.params.selectors
    }

    /// The outer addresses at this moment.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        **self.endpoints.load()
    }

    /// Sends to the peer's new address from now on.
    pub fn move_peer(&self, remote: SocketAddr) {
        let moved = Endpoints {
            remote,
            ..self.endpoints()
        };
        self.endpoints.store(Arc::new(moved));
    }

    /// Bytes that [`crate::packet::seal_train`] writes in front of an inner packet: ESP header
    /// and IV.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        self.framing.header
    }

    /// Length of the ESP packet around `inner` bytes, header to ICV.
    #[must_use]
    pub const fn sealed_len(&self, inner: usize) -> usize {
        self.framing.sealed(inner)
    }

    /// The largest inner packet whose ESP packet takes at most `budget` bytes.
    #[must_use]
    pub const fn max_inner_len(&self, budget: usize) -> usize {
        self.framing.max_inner(budget)
    }

    /// The sequence numbers, for raising the ceiling and for status.
    #[must_use]
    pub const fn sequence(&self) -> &SequenceRange {
        &self.numbers.sequence
    }

    /// The IVs, for status.
    #[must_use]
    pub const fn ivs(&self) -> &IvPartition {
        &self.numbers.ivs
    }

    /// What it has sealed.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic.load()
    }

    /// When it last sealed, on the workers' clock.
    #[must_use]
    pub fn last_used(&self) -> Option<Duration> {
        self.traffic.last_used()
    }
}
