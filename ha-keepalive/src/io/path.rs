//! The sockets of one path between the nodes: adverts over UDP, callers for the sync channel.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::net::SendFlags;
use tokio::io::{Interest, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};

use super::driver::Input;
use crate::advert::ADVERT_LEN;
use crate::vocabulary::{Member, PathId};

/// One path between the nodes. Adverts (UDP) and the sync channel (TCP) use the same addresses
/// and port numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathConfig {
    /// Our end.
    pub local: SocketAddr,
    /// The partner's end.
    pub peer: SocketAddr,
}

/// The sockets of one path.
pub(super) struct Path {
    pub(super) id: PathId,
    pub(super) config: PathConfig,
    socket: Arc<UdpSocket>,
    /// Resolves when the kernel has news. Waiting for data alone does not see an error.
    news: News,
    listener: Option<TcpListener>,
    /// Callers from other addresses than the partner's.
    pub(super) strangers: u64,
}

type News = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Nobody listens there, says its kernel.
pub(super) fn is_refused<T>(outcome: &io::Result<T>) -> bool {
    let kind = outcome.as_ref().err().map(io::Error::kind);
    kind == Some(io::ErrorKind::ConnectionRefused)
}

impl Path {
    pub(super) fn open(id: PathId, config: PathConfig, member: Member) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(config.local),
            socket2::Type::DGRAM,
            None,
        )?;
        socket.set_nonblocking(true)?;
        socket.bind(&config.local.into())?;
        // Connected: the kernel drops strangers, and reports port unreachable to us.
        socket.connect(&config.peer.into())?;
        let socket = Arc::new(UdpSocket::from_std(socket.into())?);
        let listener = match member {
            Member::A => Some(listen(config.local)?),
            Member::B => None,
        };
        Ok(Self {
            id,
            config,
            news: news_of(&socket),
            socket,
            listener,
            strangers: 0,
        })
    }

    /// Not by tokio, which sends nothing before it has seen the socket writable once.
    pub(super) fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT;
        Ok(rustix::net::send(&*self.socket, datagram, flags)?)
    }

    /// "Port unreachable", which Linux reports as an error of the socket and not as data.
    fn poll_news(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        while self.news.as_mut().poll(context).is_ready() {
            self.news = news_of(&self.socket);
            let error = self.socket.try_io(Interest::ERROR, || {
                let error = self.socket.take_error()?;
                // Without an error the readiness is stale: this clears it.
                error.ok_or_else(|| io::ErrorKind::WouldBlock.into())
            });
            if let Ok(error) = error {
                return Poll::Ready(error);
            }
        }
        Poll::Pending
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Input> {
        if let Poll::Ready(error) = self.poll_news(context)
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            return Poll::Ready(Input::Refused(self.id));
        }
        // One byte more than an advert has: a longer datagram is seen to be longer.
        let mut bytes = [0; ADVERT_LEN + 1];
        let mut buffer = ReadBuf::new(&mut bytes);
        match self.socket.poll_recv(context, &mut buffer) {
            Poll::Ready(Ok(())) => {
                let datagram = buffer.filled().to_vec();
                return Poll::Ready(Input::Datagram(self.id, datagram));
            }
            Poll::Ready(outcome @ Err(_)) if is_refused(&outcome) => {
                return Poll::Ready(Input::Refused(self.id));
            }
            // Network or host unreachable: says nothing about the process.
            Poll::Ready(Err(_)) => context.waker().wake_by_ref(),
            Poll::Pending => {}
        }
        if let Some(listener) = &self.listener
            && let Poll::Ready(Ok((stream, from))) = listener.poll_accept(context)
        {
            if from.ip() == self.config.peer.ip() {
                return Poll::Ready(Input::Accepted(stream));
            }
            self.strangers += 1;
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

fn news_of(socket: &Arc<UdpSocket>) -> News {
    let socket = Arc::clone(socket);
    Box::pin(async move {
        // An error of the event loop itself shows up in everything else too.
        let _ = socket.ready(Interest::ERROR).await;
    })
}

fn listen(local: SocketAddr) -> io::Result<TcpListener> {
    let socket = match local {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(local)?;
    socket.listen(4)
}
