//! UDP port 500: one socket for each of our outer addresses.
//!
//! Port 4500 carries ESP and belongs to the data plane's workers; what they find there with a
//! non-ESP marker arrives on the same channel as the datagrams read here.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ikev1::ISAKMP_PORT;
use ipsec_types::{GateClosed, SendGate};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::clock::boottime;

/// The largest ISAKMP datagram that is read; a longer one arrives cut and is refused by its
/// length field.
const MAX_DATAGRAM: usize = 16 * 1024;

/// Bytes that wait in the kernel; a small datagram counts for about 1 KiB there.
const RECEIVE_BUFFER: usize = 1 << 20;

/// An ISAKMP message on its way to the negotiator, without non-ESP marker.
#[derive(Debug)]
pub(super) struct IkeDatagram {
    /// Our address and port.
    pub local: SocketAddr,
    /// The sender's.
    pub remote: SocketAddr,
    /// From the ISAKMP header on.
    pub payload: Vec<u8>,
}

/// Why an ISAKMP message did not leave.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// The lease on sending does not hold (invariant I6).
    #[error(transparent)]
    Gate(#[from] GateClosed),
    /// No socket is bound to that address.
    #[error("no socket on {0}")]
    NoSocket(IpAddr),
    /// The kernel refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The sockets on port 500 and the tasks that read them.
pub(super) struct IkeSockets {
    gate: Arc<SendGate>,
    /// Firewall mark of what is sent.
    mark: Option<u32>,
    inbound: mpsc::Sender<IkeDatagram>,
    sockets: BTreeMap<IpAddr, Listener>,
}

struct Listener {
    socket: Arc<UdpSocket>,
    reader: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl IkeSockets {
    /// No socket yet; what they will read goes to `inbound`.
    pub(super) fn new(
        gate: Arc<SendGate>,
        mark: Option<u32>,
        inbound: mpsc::Sender<IkeDatagram>,
    ) -> Self {
        Self {
            gate,
            mark,
            inbound,
            sockets: BTreeMap::new(),
        }
    }

    /// Binds port 500 of `local`, which need not be on an interface yet. Idempotent.
    ///
    /// # Errors
    /// When another program holds the port, or the address family is not there.
    pub(super) fn listen(&mut self, local: IpAddr) -> io::Result<()> {
        if self.sockets.contains_key(&local) {
            return Ok(());
        }
        let socket = Arc::new(bind(SocketAddr::new(local, ISAKMP_PORT), self.mark)?);
        let reader = tokio::task::spawn_local(read(Arc::clone(&socket), self.inbound.clone()));
        self.sockets.insert(local, Listener { socket, reader });
        Ok(())
    }

    /// The addresses that are listened on.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.sockets.keys().copied().collect()
    }

    /// Closes the sockets on addresses that are not in `keep`.
    pub(super) fn retain(&mut self, keep: &[IpAddr]) {
        self.sockets.retain(|local, _| keep.contains(local));
    }

    /// Sends one ISAKMP message from port 500 of `local`.
    ///
    /// # Errors
    /// [`SendError`]; a full socket buffer counts as loss on the way, as for any datagram.
    pub(super) fn send(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
        payload: &[u8],
    ) -> Result<(), SendError> {
        let Some(listener) = self.sockets.get(&local.ip()) else {
            return Err(SendError::NoSocket(local.ip()));
        };
        self.gate.check(boottime())?;
        // Past tokio, which refuses the first send on a socket it has not yet seen ready.
        SockRef::from(&*listener.socket).send_to(payload, &remote.into())?;
        Ok(())
    }
}

fn bind(local: SocketAddr, mark: Option<u32>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if local.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    }
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    // Hundreds of peers may call at the same moment; with the kernel's usual buffer the rest of
    // them would wait for their first resend. Past the system's limit only with its consent.
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    socket.bind(&local.into())?;
    UdpSocket::from_std(socket.into())
}

async fn read(socket: Arc<UdpSocket>, inbound: mpsc::Sender<IkeDatagram>) {
    let Ok(local) = socket.local_addr() else {
        return;
    };
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, remote)) => {
                let payload = buffer.get(..length).unwrap_or_default().to_vec();
                let datagram = IkeDatagram {
                    local,
                    remote,
                    payload,
                };
                // Waiting here leaves the excess of a flood in the kernel's bounded buffer.
                if inbound.send(datagram).await.is_err() {
                    return;
                }
            }
            // ICMP errors of earlier sends surface here; the negotiator's timers deal with a
            // peer that is not there.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                debug!(%local, %error, "peer's host answered with an ICMP error");
            }
            Err(error) => {
                warn!(%local, %error, "reading port 500 failed");
                tokio::time::sleep(core::time::Duration::from_millis(100)).await;
            }
        }
    }
}
