//! One TCP connection with the Noise channel on it.

use core::task::{Context, Poll};
use core::time::Duration;
use std::io;

use rand_core::CryptoRng;
use tokio::net::TcpStream;

use crate::channel::{Channel, ChannelError, Rotation};
use crate::replication::Message;
use crate::secret::PairSecret;
use crate::vocabulary::Member;

/// How long a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(2);
/// How long the kernel tries to deliver before it gives the connection up.
const USER_TIMEOUT_MS: u32 = 3000;
/// Read in one go.
const CHUNK: usize = 64 * 1024;

/// What became of an attempt to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Open,
    Closed,
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    channel: Channel,
    began: Duration,
    broken: bool,
    failure: Option<Failure>,
}

/// Why a connection is given up, when its other end is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The bytes are not of somebody who knows the secret.
    Channel(ChannelError),
    /// Authentic, and no message of this version.
    Message,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        secret: &PairSecret,
        member: Member,
        rotation: Rotation,
        rng: &mut dyn CryptoRng,
        now: Duration,
    ) -> Self {
        // Best effort: without them the connection is slower to send and to give up.
        let _ = stream.set_nodelay(true);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, USER_TIMEOUT_MS);
        Self {
            stream,
            channel: Channel::new(secret, member, rotation, rng, now),
            began: now,
            broken: false,
            failure: None,
        }
    }

    pub(super) const fn failure(&self) -> Option<Failure> {
        self.failure
    }

    pub(super) const fn is_open(&self) -> bool {
        self.channel.is_open()
    }

    pub(super) const fn began(&self) -> Duration {
        self.began
    }

    pub(super) fn gives_up_at(&self) -> Duration {
        self.began + HANDSHAKE_LIMIT
    }

    /// Ready when there is something to read, or something waits that can be written.
    pub(super) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.broken || self.stream.poll_read_ready(context).is_ready() {
            return Poll::Ready(());
        }
        if !self.channel.outgoing().is_empty() && self.stream.poll_write_ready(context).is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Reads and writes as far as possible without waiting.
    pub(super) fn go_on(&mut self) -> Progress {
        let mut buffer = vec![0; CHUNK];
        loop {
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return Progress::Closed,
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    if let Err(error) = self.channel.receive(bytes) {
                        self.failure.get_or_insert(Failure::Channel(error));
                        return Progress::Closed;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Progress::Closed,
            }
        }
        if self.broken {
            return Progress::Closed;
        }
        self.write()
    }

    pub(super) fn write(&mut self) -> Progress {
        while !self.channel.outgoing().is_empty() {
            match self.stream.try_write(self.channel.outgoing()) {
                Ok(count) => self.channel.written(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    // What was received before is still to be read.
                    self.broken = true;
                    return Progress::Closed;
                }
            }
        }
        Progress::Open
    }

    pub(super) const fn has_room(&self) -> bool {
        !self.broken && self.channel.has_room()
    }

    pub(super) fn send(&mut self, now: Duration, message: &Message) {
        // Records are bounded so that every message fits, and the channel is open.
        if self.channel.send(now, message.encode().expose()).is_err() {
            self.broken = true;
        }
    }

    /// The next message; one that does not parse ends the connection.
    pub(super) fn poll_message(&mut self) -> Option<Message> {
        let frame = self.channel.poll_message()?;
        match Message::decode(frame.expose()) {
            Ok(message) => Some(message),
            Err(_) => {
                self.failure.get_or_insert(Failure::Message);
                self.broken = true;
                None
            }
        }
    }
}
