//! An inbound SA: the peer seals, we open.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use ipsec_types::{
    ConnectionId, Direction, Encapsulation, EspSaParams, SelectorPair, Spi, TrafficSelector,
};

use super::{BadSa, ByteLimits, Endpoints, Framing, ImportError, InboundState, SaTraffic};
use crate::counters::{DropReason, Traffic};
use crate::crypto::{AeadBackends, SaCipher};
use crate::events::SoftLimitKind;
use crate::inner::{self, IpVersion};
use crate::replay::{ReplayWindow, ReplayWindowSize};
use crate::sequence::SequenceWidth;

/// An SA that opens. Shared by all workers.
#[derive(Debug)]
pub struct InboundSa {
    connection: ConnectionId,
    params: EspSaParams,
    pub(crate) framing: Framing,
    pub(crate) cipher: SaCipher,
    limits: ByteLimits,
    endpoints: ArcSwap<Endpoints>,
    /// The one IP version whose every packet the selectors permit, if they are that wide.
    permits_all_of: Option<IpVersion>,
    pub(crate) replay: ReplayWindow,
    pub(crate) traffic: SaTraffic,
}

impl InboundSa {
    /// Expands the keys of a freshly negotiated SA.
    ///
    /// # Errors
    /// [`BadSa`] when the parameters are outbound ones or the keys have the wrong length.
    pub fn new(
        connection: ConnectionId,
        params: EspSaParams,
        limits: ByteLimits,
        window: ReplayWindowSize,
        backends: AeadBackends,
    ) -> Result<Self, BadSa> {
        let cipher = SaCipher::new(&params, backends)?;
        Self::assemble(connection, params, limits, window, cipher)
    }

    /// The counterpart of [`super::OutboundSa::with_null_cipher`], for benchmarks only.
    #[doc(hidden)]
    pub fn with_null_cipher(connection: ConnectionId, params: EspSaParams) -> Result<Self, BadSa> {
        let window = ReplayWindowSize::default();
        let limits = ByteLimits::UNLIMITED;
        Self::assemble(connection, params, limits, window, SaCipher::Null)
    }

    /// Takes an SA over from the state of another gateway or process. Its replay window starts
    /// where the other's was (invariant I3).
    ///
    /// # Errors
    /// [`ImportError`] when the parameters are bad.
    pub fn import(
        connection: ConnectionId,
        state: InboundState,
        backends: AeadBackends,
    ) -> Result<Self, ImportError> {
        let cipher = SaCipher::new(&state.params, backends).map_err(BadSa::from)?;
        let mut sa = Self::assemble(connection, state.params, state.limits, state.window, cipher)?;
        sa.replay.import(&state.replay);
        sa.traffic = SaTraffic::new(state.traffic);
        Ok(sa)
    }

    fn assemble(
        connection: ConnectionId,
        params: EspSaParams,
        limits: ByteLimits,
        window: ReplayWindowSize,
        cipher: SaCipher,
    ) -> Result<Self, BadSa> {
        if params.direction != Direction::Inbound {
            return Err(BadSa::Direction);
        }
        Ok(Self {
            connection,
            framing: Framing::of(params.suite),
            cipher,
            limits,
            endpoints: ArcSwap::from_pointee(Endpoints::of(&params)),
            permits_all_of: permits_all_of(&params.selectors),
            replay: ReplayWindow::new(window, SequenceWidth::from_esn(params.esn)),
            traffic: SaTraffic::new(Traffic::default()),
            params,
        })
    }

    /// The SA as a value. Whatever was accepted before this call is in its replay window.
    #[must_use]
    pub fn export(&self) -> InboundState {
        let endpoints = self.endpoints();
        let mut params = self.params.clone();
        (params.local, params.remote) = (endpoints.local, endpoints.remote);
        InboundState {
            params,
            limits: self.limits,
            window: self.window_size(),
            replay: self.replay.export(),
            traffic: self.traffic.load(),
        }
    }

    fn window_size(&self) -> ReplayWindowSize {
        u32::try_from(self.replay.size())
            .ok()
            .and_then(|packets| ReplayWindowSize::new(packets).ok())
            .unwrap_or_default()
    }

    /// Refuses an inner packet that the selectors do not permit (RFC 4301 §5.2 step 4).
    #[inline]
    pub(crate) fn check_selectors(
        &self,
        version: IpVersion,
        packet: &[u8],
    ) -> Result<(), DropReason> {
        if self.permits_all_of == Some(version) {
            return Ok(());
        }
        let flow = inner::flow_of(packet)?;
        if self.params.selectors.permits_inbound(&flow) {
            Ok(())
        } else {
            Err(DropReason::SelectorMismatch)
        }
    }

    /// True when a packet from `from` is where the peer is expected. Protocol 50 has no ports.
    #[inline]
    pub(crate) fn expects(&self, from: SocketAddr) -> bool {
        let endpoints = self.endpoints.load();
        match endpoints.encapsulation {
            Encapsulation::Udp => endpoints.remote == from,
            Encapsulation::Esp => endpoints.remote.ip() == from.ip(),
        }
    }

    /// Counts an opened train; tells the soft limit to exactly one caller.
    pub(crate) fn account(&self, traffic: Traffic, now: Duration) -> Option<SoftLimitKind> {
        let bytes = self.traffic.add(traffic, now);
        let kind = SoftLimitKind::Bytes;
        (bytes >= self.limits.soft && self.traffic.tell_once(kind)).then_some(kind)
    }

    /// Our SPI.
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

    /// The outer addresses at this moment.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        **self.endpoints.load()
    }

    /// Expects the peer at its new address from now on.
    pub fn move_peer(&self, remote: SocketAddr) {
        let moved = Endpoints {
            remote,
            ..self.endpoints()
        };
        self.endpoints.store(Arc::new(moved));
    }

    /// The replay window, for status and for taking over a partner's.
    #[must_use]
    pub const fn replay(&self) -> &ReplayWindow {
        &self.replay
    }

    /// What it has opened.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic.load()
    }

    /// When it last opened a packet, on the workers' clock.
    #[must_use]
    pub fn last_used(&self) -> Option<Duration> {
        self.traffic.last_used()
    }
}

/// Route-based tunnels permit everything of one version; they need not look at addresses.
fn permits_all_of(selectors: &SelectorPair) -> Option<IpVersion> {
    let sides = [&selectors.local, &selectors.remote];
    let all = |net: IpNet| sides.iter().all(|side| **side == TrafficSelector::net(net));
    if all(IpNet::V4(ipnet::Ipv4Net::default())) {
        Some(IpVersion::V4)
    } else if all(IpNet::V6(ipnet::Ipv6Net::default())) {
        Some(IpVersion::V6)
    } else {
        None
    }
}
