//! What goes into a [`Negotiator`](crate::Negotiator) and what comes out of it.

use core::fmt;
use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use ipsec_types::{ConnectionId, Encapsulation, EspSaPair, SelectorPair, Spi};
use serde::{Deserialize, Serialize};

use crate::config::Connection;

/// An ISAKMP message as it arrived. On port 4500 the driver has already taken the four
/// zero bytes of the non-ESP marker off (RFC 3948 §2.2).
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// Where it arrived.
    pub local: SocketAddr,
    /// Where it came from.
    pub remote: SocketAddr,
    /// From the ISAKMP header on.
    pub payload: &'a [u8],
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// From this address and port.
    pub local: SocketAddr,
    /// To this address and port.
    pub remote: SocketAddr,
    /// ISAKMP or a bare keepalive: decides whether the driver puts a marker in front.
    pub kind: TransmitKind,
    /// The bytes, without any marker.
    pub payload: Vec<u8>,
}

/// What a [`Transmit`] carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransmitKind {
    /// An ISAKMP message: gets the non-ESP marker when the local port is the NAT-T port.
    Isakmp,
    /// The single byte 0xFF (RFC 3948 §2.3): never gets a marker.
    NatKeepalive,
}

/// UDP port of ISAKMP (RFC 2408 §2.5.1).
pub const ISAKMP_PORT: u16 = 500;
/// UDP port of ISAKMP and ESP behind a NAT (RFC 3947 §4).
pub const NATT_PORT: u16 = 4500;

/// Who sent the first message of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// We did.
    Initiator,
    /// The peer did.
    Responder,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Initiator => "initiator",
            Self::Responder => "responder",
        })
    }
}

/// An IKE SA by its two cookies (RFC 2408 §3.1).
pub use crate::wire::CookiePair as IkeSaId;

/// What the rest of the daemon asks of the negotiator.
#[derive(Debug, Clone)]
pub enum Command {
    /// Bring a connection up, or only the SA for one pair of selectors (first packet).
    /// Does nothing for what is already up or on its way.
    Initiate {
        /// Which connection.
        connection: ConnectionId,
        /// One configured pair, or `None` for all of them.
        selectors: Option<SelectorPair>,
    },
    /// Delete all SAs of a connection, tell the peer, and do not start again by ourselves.
    Terminate {
        /// Which connection.
        connection: ConnectionId,
    },
    /// [`Command::Terminate`] for every connection; afterwards the negotiator stays quiet.
    Shutdown,
    /// The data plane has come near the end of an SA: kilobytes or sequence numbers. Starts
    /// its replacement.
    SoftLimit {
        /// The inbound SPI of the pair.
        inbound: Spi,
    },
    /// The data plane has come to the hard end of an SA (kilobytes, sequence numbers or IV
    /// epoch) and will not use it any more.
    HardLimit {
        /// The inbound SPI of the pair.
        inbound: Spi,
    },
    /// Authenticated ESP has come from the peer: it is alive (RFC 3706 §5.5). To be given
    /// at most about once a second and connection.
    TrafficSeen {
        /// Which connection.
        connection: ConnectionId,
    },
    /// Authenticated ESP comes from a new address or port: the peer's NAT has moved it.
    PeerMoved {
        /// The inbound SPI that it was authenticated with.
        inbound: Spi,
        /// Where the peer is now.
        remote: SocketAddr,
    },
    /// ESP with an SPI that the data plane does not know has come from a configured peer.
    /// Answered, under rate limit, by INVALID-SPI if an IKE SA is there.
    UnknownSpi {
        /// Where it came from.
        remote: SocketAddr,
        /// The SPI on the wire.
        spi: u32,
    },
    /// A new set of connections. SAs of connections whose negotiated settings are unchanged
    /// live on; the others are terminated.
    Reload {
        /// Every connection that shall exist from now on.
        connections: Vec<Arc<Connection>>,
    },
}

/// What the negotiator tells the rest of the daemon.
#[derive(Debug, Clone)]
pub enum Event {
    /// Phase 1 is done and authenticated.
    IkeSaUp {
        /// Whose.
        connection: ConnectionId,
        /// Which.
        ike_sa: IkeSaId,
        /// Our part in it.
        role: Role,
        /// Where the peer is.
        remote: SocketAddr,
    },
    /// An IKE SA is gone.
    IkeSaDown {
        /// Whose.
        connection: ConnectionId,
        /// Which.
        ike_sa: IkeSaId,
        /// Why.
        reason: DownReason,
    },
    /// Install this pair. Inbound is to be open at once. Outbound traffic moves to it only
    /// with the [`Event::OutboundSwitch`] that follows (at once or later).
    EspSaUp {
        /// Both directions with their keys.
        pair: Box<EspSaPair>,
        /// The inbound SPI of the pair it replaces.
        replaces: Option<Spi>,
    },
    /// Outbound packets for these selectors leave on this SA from now on. With a standby in
    /// sync, the daemon holds this back until the standby has acknowledged the SA.
    OutboundSwitch {
        /// Whose.
        connection: ConnectionId,
        /// Which packets.
        selectors: SelectorPair,
        /// The inbound SPI of the pair (its name).
        inbound: Spi,
        /// The SPI that the packets will carry.
        outbound: Spi,
    },
    /// Remove this pair.
    EspSaDown {
        /// Whose.
        connection: ConnectionId,
        /// Our SPI.
        inbound: Spi,
        /// The peer's SPI.
        outbound: Spi,
        /// Which packets it carried.
        selectors: SelectorPair,
        /// Why.
        reason: DownReason,
    },
    /// A negotiation has come to nothing. One line that says what each side wanted and what
    /// to change.
    NegotiationFailed {
        /// Whose; `None` when it never got that far.
        connection: Option<ConnectionId>,
        /// The peer.
        remote: SocketAddr,
        /// Which phase.
        phase: Phase,
        /// What to tell the user.
        explanation: String,
    },
    /// The peer is somewhere else now: send ESP of these SAs there.
    PeerMoved {
        /// Whose.
        connection: ConnectionId,
        /// Our address and port for it.
        local: SocketAddr,
        /// The peer's address and port.
        remote: SocketAddr,
        /// How ESP travels.
        encapsulation: Encapsulation,
        /// The inbound SPIs of the pairs concerned.
        inbound: Vec<Spi>,
    },
    /// Something in the connection's state that a standby must know has changed: export and
    /// replicate it. At most one waits per connection.
    StateChanged {
        /// Whose.
        connection: ConnectionId,
    },
    /// The peer does not announce DPD and has been silent: send something through the tunnel
    /// that it will answer. [`Command::TrafficSeen`] tells us of the answer.
    ProbeThroughTunnel {
        /// Whose.
        connection: ConnectionId,
    },
    /// The tunnel is down but is coming back at once (the peer dropped it at a rekey, DPD
    /// restarts it): hold outbound packets until `EspSaUp`, but not longer than this.
    HoldTraffic {
        /// Whose.
        connection: ConnectionId,
        /// How long at most.
        at_most: Duration,
    },
}

/// The phase of a negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Main or aggressive mode.
    Phase1,
    /// Quick mode.
    Phase2,
}

/// Why an SA is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownReason {
    /// A successor has taken over.
    Replaced,
    /// Two were negotiated at once; this one lost by the collision rule.
    Redundant,
    /// Its time or volume is used up.
    Expired,
    /// The peer deleted it.
    DeletedByPeer,
    /// Somebody here asked for it.
    Terminated,
    /// The peer does not answer any more.
    PeerDead,
    /// The peer has restarted (INITIAL-CONTACT).
    PeerRestarted,
    /// The configuration that it was negotiated under is gone.
    ConfigChanged,
    /// The peer refuses every quick mode under this IKE SA: phase 1 may have gone wrong in a
    /// way that only a new one heals (a tampered NAT-D payload).
    Unusable,
    /// The IKE SA that it hung on is gone and the peer takes its ESP SAs with it.
    IkeSaGone,
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replaced => "replaced",
            Self::Redundant => "redundant after a collision",
            Self::Expired => "lifetime used up",
            Self::DeletedByPeer => "deleted by the peer",
            Self::Terminated => "terminated here",
            Self::PeerDead => "peer does not answer",
            Self::PeerRestarted => "peer has restarted",
            Self::ConfigChanged => "configuration changed",
            Self::Unusable => "no ESP SA can be negotiated under it",
            Self::IkeSaGone => "its IKE SA is gone",
        })
    }
}

/// Which deadline will wake the negotiator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerName {
    /// Resend an unanswered phase-1 message.
    Phase1Retransmit,
    /// Forget a phase-1 exchange in which the peer went silent.
    Phase1Expire,
    /// Resend an unanswered quick-mode message.
    Phase2Retransmit,
    /// Forget a quick mode in which the peer went silent.
    Phase2Expire,
    /// Start the successor of an IKE SA.
    IkeSaRekey,
    /// The IKE SA ends.
    IkeSaExpire,
    /// Start the successor of an ESP SA pair.
    EspSaRekey,
    /// The ESP SA pair ends.
    EspSaExpire,
    /// Probe the peer, or count a probe as unanswered.
    Dpd,
    /// Keep the NAT's mapping alive.
    NatKeepalive,
    /// Outbound traffic moves to a new ESP SA pair.
    OutboundSwitch,
    /// Bring up what is missing of a connection.
    Reconnect,
}

impl TimerName {
    pub(crate) const FIRST: Self = Self::Phase1Retransmit;
    pub(crate) const LAST: Self = Self::Reconnect;
}

/// Everything a driver or a test needs to see of one connection; no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectionStatus {
    /// Its place in the config.
    pub connection: ConnectionId,
    /// Its configured name.
    pub name: String,
    /// Short word for what is going on.
    pub state: ConnectionState,
    /// Established IKE SAs, the one in use first.
    pub ike_sas: Vec<IkeSaStatus>,
    /// Live ESP SA pairs, those in use first.
    pub esp_sas: Vec<EspSaStatus>,
    /// Configured selector pairs without an SA in use.
    pub missing: Vec<SelectorPair>,
    /// Why the last negotiation failed; cleared by the next success.
    pub last_failure: Option<String>,
}

/// The state of a connection in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionState {
    /// Nothing is there and nothing is under way.
    Down,
    /// Phase 1 or the first quick modes are under way.
    Connecting,
    /// Every selector pair that is wanted has an SA.
    Up,
    /// An IKE SA, but not all ESP SAs.
    Partial,
}

/// One established IKE SA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IkeSaStatus {
    /// Cookies.
    pub id: IkeSaId,
    /// Our part.
    pub role: Role,
    /// Transforms, as the config writes them.
    pub suite: String,
    /// The suite was allowed only by explicit consent.
    pub weak: bool,
    /// Our address and port.
    pub local: SocketAddr,
    /// The peer's address and port.
    pub remote: SocketAddr,
    /// NAT-T found us behind a NAT.
    pub nat_local: bool,
    /// NAT-T found the peer behind a NAT.
    pub nat_remote: bool,
    /// The peer announced DPD.
    pub dpd: bool,
    /// Seconds since it was established.
    pub age_seconds: u64,
    /// Seconds until its successor is started; `None` when it has one.
    pub rekey_in_seconds: Option<u64>,
    /// Seconds until it ends.
    pub expires_in_seconds: u64,
}

/// One live ESP SA pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EspSaStatus {
    /// Our SPI.
    pub inbound: Spi,
    /// The peer's SPI.
    pub outbound: Spi,
    /// What it carries.
    pub selectors: SelectorPair,
    /// Proposal as the config writes it.
    pub proposal: String,
    /// The proposal was allowed only by explicit consent.
    pub weak: bool,
    /// Protocol 50 or UDP.
    pub encapsulation: Encapsulation,
    /// Outbound packets leave on it.
    pub in_use: bool,
    /// Seconds since it was established.
    pub age_seconds: u64,
    /// Seconds until its successor is started; `None` when it has one.
    pub rekey_in_seconds: Option<u64>,
    /// Seconds until it ends.
    pub expires_in_seconds: u64,
}
