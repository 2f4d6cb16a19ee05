//! The control plane's datagrams on the port that ESP in UDP uses too.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, PoisonError, RwLock};

use ipsec_types::{GateClosed, SendGate};

use super::thread::boot_time;

/// In front of every IKE datagram on this port, where ESP has its SPI (RFC 3948 §2.2).
pub(super) const NON_ESP_MARKER: [u8; 4] = [0; 4];

/// The whole of a NAT keepalive (RFC 3948 §2.3).
pub(super) const KEEPALIVE: u8 = 0xff;

/// Why a datagram was not sent.
#[derive(Debug, thiserror::Error)]
pub enum NatTSendError {
    /// The lease on sending does not hold.
    #[error(transparent)]
    GateClosed(#[from] GateClosed),
    /// Nobody listens on this local address and port.
    #[error("no socket on {0}")]
    NoListener(SocketAddr),
    /// What the kernel said.
    #[error("cannot send from {local} to {remote}: {source}")]
    Io {
        /// The local end.
        local: SocketAddr,
        /// The peer.
        remote: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Sends IKE datagrams from the NAT-T port. Clones share everything.
#[derive(Debug, Clone)]
pub struct NatTSender {
    gate: Arc<SendGate>,
    sockets: Arc<RwLock<Vec<(SocketAddr, UdpSocket)>>>,
}

impl NatTSender {
    pub(super) fn new(gate: Arc<SendGate>) -> Self {
        Self {
            gate,
            sockets: Arc::default(),
        }
    }

    pub(super) fn add(&self, local: SocketAddr, socket: UdpSocket) {
        self.remove(local);
        let mut sockets = self.sockets.write().unwrap_or_else(PoisonError::into_inner);
        sockets.push((local, socket));
    }

    pub(super) fn remove(&self, local: SocketAddr) {
        let mut sockets = self.sockets.write().unwrap_or_else(PoisonError::into_inner);
        sockets.retain(|(other, _)| *other != local);
    }

    /// Sends one IKE datagram; the non-ESP marker is put in front of `payload` here.
    ///
    /// # Errors
    /// [`NatTSendError`]; the datagram was not sent.
    pub fn send(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
        payload: &[u8],
    ) -> Result<(), NatTSendError> {
        let mut datagram = Vec::with_capacity(NON_ESP_MARKER.len() + payload.len());
        datagram.extend_from_slice(&NON_ESP_MARKER);
        datagram.extend_from_slice(payload);
        self.send_raw(local, remote, &datagram)
    }

    /// Keeps the NAT's mapping alive.
    ///
    /// # Errors
    /// [`NatTSendError`]; the keepalive was not sent.
    pub fn send_keepalive(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<(), NatTSendError> {
        self.send_raw(local, remote, &[KEEPALIVE])
    }

    fn send_raw(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), NatTSendError> {
        let sockets = self.sockets.read().unwrap_or_else(PoisonError::into_inner);
        let socket = sockets.iter().find(|(address, _)| *address == local);
        let Some((_, socket)) = socket else {
            return Err(NatTSendError::NoListener(local));
        };
        self.gate.check(boot_time())?;
        match socket.send_to(datagram, remote) {
            Ok(_) => Ok(()),
            Err(source) => Err(NatTSendError::Io {
                local,
                remote,
                source,
            }),
        }
    }
}
