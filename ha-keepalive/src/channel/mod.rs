//! The sync channel: Noise with the pair secret over a byte stream (invariant I4).
//!
//! ```text
//!   messages --> seal --> frames: length 2 | Noise message --> TCP --> open --> messages
//! ```
//! The pattern is `NNpsk0` (X25519, ChaCha20-Poly1305, SHA-256). The pair secret is all that is
//! configured, so there are no static keys to pin and patterns that want them would add nothing;
//! the ephemeral exchange gives forward secrecy: who learns the secret later cannot read a
//! recording. With the PSK mixed in before the first message (`psk0`), a stranger's first byte
//! fails authentication, before any Diffie-Hellman is computed for it.
//!
//! A recorded first message can be replayed to the listener, which cannot tell; so the listener
//! counts a connection as open only when the dialler has used the new keys once. Until then it
//! displaces nothing.
//!
//! Keys are rotated by Noise's `REKEY` after a number of messages or a time, announced in band.
//! A frame that does not authenticate ends the connection and nothing else.

mod randomness;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::VecDeque;

use ipsec_types::SecretBytes;
use rand_core::CryptoRng;
use snow::{Builder, HandshakeState, TransportState};
use zeroize::Zeroizing;

use crate::secret::PairSecret;
use crate::vocabulary::Member;
use randomness::Drawn;

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";
const PROLOGUE: &[u8] = b"vipsec pair sync v1";
/// ChaCha20-Poly1305 tag.
const TAG_LEN: usize = 16;
/// Noise §3: a message has at most 65535 bytes.
const MAX_FRAME: usize = 65_535;
/// e, psk: 32 bytes of public key and a tag.
const HANDSHAKE_LEN: usize = 32 + TAG_LEN;
/// The longest message that fits into one frame, in bytes.
pub const MAX_MESSAGE: usize = MAX_FRAME - TAG_LEN - 1;
/// What may wait to be written to the stream before [`Channel::has_room`] says no.
const HIGH_WATER: usize = 256 * 1024;

const FRAME_DATA: u8 = 0;
const FRAME_REKEY: u8 = 1;

/// When keys are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// After this many messages in one direction.
    pub messages: u64,
    /// After this time, with the next message.
    pub age: Duration,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            messages: 1 << 16,
            age: Duration::from_mins(10),
        }
    }
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ChannelError {
    /// The first messages do not authenticate: another secret, another protocol, or a stranger.
    #[error("the other end does not know the pair secret")]
    Handshake,
    /// A frame does not authenticate, or is too short to.
    #[error("a frame on the sync connection is not authentic")]
    Frame,
    /// A length that no honest sender writes.
    #[error("a frame on the sync connection has an impossible length")]
    Length,
    /// An authentic frame of unknown type.
    #[error("a frame on the sync connection has an unknown type")]
    Type,
    /// The connection has failed before.
    #[error("the sync connection is closed")]
    Closed,
}

/// The message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SendError {
    /// The handshake is not complete.
    #[error("the sync connection is not open")]
    NotOpen,
    /// Longer than [`MAX_MESSAGE`].
    #[error("the message does not fit into one frame")]
    TooLong,
}

enum State {
    Handshake(Box<HandshakeState>),
    /// The handshake is complete on our side.
    Transport(Box<TransportState>),
    Closed(ChannelError),
}

/// One connection, from its first byte to its last. Bytes in, bytes out.
pub struct Channel {
    state: State,
    dialler: bool,
    confirmed: bool,
    incoming: Zeroizing<Vec<u8>>,
    outgoing: Vec<u8>,
    messages: VecDeque<SecretBytes>,
    rotation: Rotation,
    sent: u64,
    rotated_at: Duration,
    rotations: u64,
}

impl core::fmt::Debug for Channel {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Channel")
            .field("dialler", &self.dialler)
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}

impl Channel {
    /// A new connection of the given member: [`Member::B`] dials, [`Member::A`] listens. The RNG
    /// is used here and never again.
    #[must_use]
    pub fn new(
        secret: &PairSecret,
        member: Member,
        rotation: Rotation,
        rng: &mut dyn CryptoRng,
        now: Duration,
    ) -> Self {
        let dialler = member == Member::B;
        let state = match handshake(secret, dialler, rng) {
            Ok(handshake) => State::Handshake(Box::new(handshake)),
            Err(_) => State::Closed(ChannelError::Handshake),
        };
        let mut channel = Self {
            state,
            dialler,
            confirmed: false,
            incoming: Zeroizing::new(Vec::new()),
            outgoing: Vec::new(),
            messages: VecDeque::new(),
            rotation,
            sent: 0,
            rotated_at: now,
            rotations: 0,
        };
        if dialler {
            channel.shake();
        }
        channel
    }

    /// True once both ends have shown the pair secret in this very connection.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Transport(_)) && (self.dialler || self.confirmed)
    }

    /// True while the stream is not far behind; ask before [`Channel::send`].
    #[must_use]
    pub const fn has_room(&self) -> bool {
        self.outgoing.len() < HIGH_WATER
    }

    /// Bytes arrived from the stream.
    ///
    /// # Errors
    /// [`ChannelError`]: close the connection. Messages that arrived before the error remain.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), ChannelError> {
        if let State::Closed(error) = self.state {
            return Err(error);
        }
        self.incoming.extend_from_slice(bytes);
        let received = self.take_frames();
        if let Err(error) = received {
            self.state = State::Closed(error);
        }
        received
    }

    fn take_frames(&mut self) -> Result<(), ChannelError> {
        let incoming = core::mem::take(&mut self.incoming);
        let mut rest = incoming.as_slice();
        while let Some((length, tail)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            self.check_length(length)?;
            let Some((frame, tail)) = tail.split_at_checked(length) else {
                break;
            };
            self.take_frame(frame)?;
            rest = tail;
        }
        self.incoming = Zeroizing::new(rest.to_vec());
        Ok(())
    }

    /// Before the other end is authenticated it may not make us buffer more than a handshake.
    const fn check_length(&self, length: usize) -> Result<(), ChannelError> {
        match self.state {
            State::Handshake(_) if length != HANDSHAKE_LEN => Err(ChannelError::Handshake),
            State::Transport(_) if length <= TAG_LEN => Err(ChannelError::Length),
            State::Handshake(_) | State::Transport(_) => Ok(()),
            State::Closed(error) => Err(error),
        }
    }

    fn take_frame(&mut self, frame: &[u8]) -> Result<(), ChannelError> {
        let mut plain = Zeroizing::new(vec![0; frame.len()]);
        match &mut self.state {
            State::Closed(error) => Err(*error),
            State::Handshake(handshake) => {
                handshake
                    .read_message(frame, &mut plain)
                    .map_err(|_| ChannelError::Handshake)?;
                self.shake();
                Ok(())
            }
            State::Transport(transport) => {
                let length = transport
                    .read_message(frame, &mut plain)
                    .map_err(|_| ChannelError::Frame)?;
                let plain = plain.get(..length).unwrap_or_default();
                self.confirmed = true;
                match plain.split_first() {
                    Some((&FRAME_DATA, message)) => {
                        self.messages.push_back(SecretBytes::from(message));
                        Ok(())
                    }
                    Some((&FRAME_REKEY, [])) => {
                        transport.rekey_incoming();
                        Ok(())
                    }
                    Some(_) | None => Err(ChannelError::Type),
                }
            }
        }
    }

    /// Goes on with the handshake as far as it is our turn.
    fn shake(&mut self) {
        let State::Handshake(handshake) = &mut self.state else {
            return;
        };
        if !handshake.is_handshake_finished() && handshake.is_my_turn() {
            let mut frame = [0; HANDSHAKE_LEN];
            let Ok(length) = handshake.write_message(&[], &mut frame) else {
                self.state = State::Closed(ChannelError::Handshake);
                return;
            };
            push_frame(&mut self.outgoing, frame.get(..length).unwrap_or_default());
        }
        if handshake.is_handshake_finished() {
            let failed = State::Closed(ChannelError::Handshake);
            let State::Handshake(done) = core::mem::replace(&mut self.state, failed) else {
                return;
            };
            if let Ok(transport) = done.into_transport_mode() {
                self.state = State::Transport(Box::new(transport));
            }
        }
    }

    /// The next message that arrived.
    pub fn poll_message(&mut self) -> Option<SecretBytes> {
        self.messages.pop_front()
    }

    /// Seals one message into the outgoing bytes.
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent.
    pub fn send(&mut self, now: Duration, message: &[u8]) -> Result<(), SendError> {
        if message.len() > MAX_MESSAGE {
            return Err(SendError::TooLong);
        }
        if !self.is_open() {
            return Err(SendError::NotOpen);
        }
        let age = now.saturating_sub(self.rotated_at);
        if self.sent >= self.rotation.messages || age >= self.rotation.age {
            self.rotate(now)?;
        }
        self.sent += 1;
        let mut plain = Zeroizing::new(Vec::with_capacity(message.len() + 1));
        plain.push(FRAME_DATA);
        plain.extend_from_slice(message);
        self.seal(&plain)
    }

    fn rotate(&mut self, now: Duration) -> Result<(), SendError> {
        self.seal(&[FRAME_REKEY])?;
        if let State::Transport(transport) = &mut self.state {
            transport.rekey_outgoing();
        }
        self.sent = 0;
        self.rotated_at = now;
        self.rotations += 1;
        Ok(())
    }

    fn seal(&mut self, plain: &[u8]) -> Result<(), SendError> {
        let State::Transport(transport) = &mut self.state else {
            return Err(SendError::NotOpen);
        };
        let mut frame = vec![0; plain.len() + TAG_LEN];
        // Fails only when 2^64 messages were sent under one key.
        let length = transport
            .write_message(plain, &mut frame)
            .map_err(|_| SendError::NotOpen)?;
        push_frame(&mut self.outgoing, frame.get(..length).unwrap_or_default());
        Ok(())
    }

    /// Bytes for the stream.
    #[must_use]
    pub fn outgoing(&self) -> &[u8] {
        &self.outgoing
    }

    /// The stream has taken the first `count` of [`Channel::outgoing`].
    pub fn written(&mut self, count: usize) {
        self.outgoing.drain(..count.min(self.outgoing.len()));
    }

    /// Key rotations of our sending direction so far.
    #[must_use]
    pub const fn rotations(&self) -> u64 {
        self.rotations
    }
}

fn handshake(
    secret: &PairSecret,
    dialler: bool,
    rng: &mut dyn CryptoRng,
) -> Result<HandshakeState, snow::Error> {
    let psk = secret.derive(b"vipsec sync channel v1");
    let builder = Builder::with_resolver(PATTERN.parse()?, Box::new(Drawn::from(rng)))
        .psk(0, &psk)?
        .prologue(PROLOGUE)?;
    if dialler {
        builder.build_initiator()
    } else {
        builder.build_responder()
    }
}

fn push_frame(outgoing: &mut Vec<u8>, frame: &[u8]) {
    let length = u16::try_from(frame.len()).unwrap_or(u16::MAX);
    outgoing.extend_from_slice(&length.to_be_bytes());
    outgoing.extend_from_slice(frame);
}
