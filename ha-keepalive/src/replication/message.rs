//! The words on the sync channel, and their encoding. One message is one Noise frame.

use core::time::Duration;

use ipsec_types::SecretBytes;

use super::record::{Key, Kind, Record};
use crate::election::Word;
use crate::vocabulary::{Epoch, Member, Revision, SessionId};
use crate::wire::{Reader, Truncated, Writer};

/// Version of the messages; the connection is refused when it differs.
pub const PROTOCOL: u16 = 1;
/// Longest reason text in bytes.
const MAX_REASON: usize = 1024;

/// Who is at the other end and what it holds. Sent first, and again on becoming standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The sender.
    pub member: Member,
    /// Its run.
    pub session: SessionId,
    /// Nobody may claim an epoch at or below this.
    pub floor: Epoch,
    /// Its configuration.
    pub revision: Revision,
    /// The stream whose replica it holds completely; [`Epoch::NONE`] for nothing.
    pub stream: Epoch,
    /// How far it has applied that stream.
    pub position: u64,
}

/// One change of the replicated state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The record is now this. `age` is how long ago it was written.
    Put {
        /// The new value.
        record: Record,
        /// Time since the active node wrote it.
        age: Duration,
    },
    /// The record is gone.
    Delete(Key),
}

/// One message on the sync channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// See [`Hello`].
    Hello(Hello),
    /// A snapshot begins: what follows replaces everything.
    SnapshotBegin {
        /// The stream it starts.
        stream: Epoch,
    },
    /// All records have been sent; the replica stands at `position`.
    SnapshotEnd {
        /// Messages of this stream on this connection since it (re)started, this one included.
        index: u64,
        /// Log position reached.
        position: u64,
    },
    /// The standby's replica of `stream` is still good: changes after its position follow.
    Resume {
        /// The stream.
        stream: Epoch,
    },
    /// One change.
    Delta {
        /// Messages of this stream on this connection since it (re)started, this one included:
        /// contiguous, so a gap shows.
        index: u64,
        /// Log position of the change.
        position: u64,
        /// The change.
        change: Change,
    },
    /// Everything up to `position` is applied.
    Ack {
        /// The stream.
        stream: Epoch,
        /// Log position.
        position: u64,
    },
    /// Something was missing or out of order: send a snapshot.
    Resync,
    /// A record cannot be applied; replication stops until something changes.
    Refuse {
        /// Which record.
        key: Key,
        /// Why, for the log of the active node.
        reason: String,
    },
    /// Standby to active: an edit of the configuration made here. The active node checks it,
    /// applies it and replicates it, or refuses it.
    Propose(Record),
    /// A word of a planned switchover.
    Word(Word),
}

/// A message that does not parse; the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// It ended too early.
    #[error("truncated message")]
    Truncated,
    /// It goes on after its end.
    #[error("trailing bytes after a message")]
    Trailing,
    /// Unknown type.
    #[error("unknown message type {0}")]
    Type(u8),
    /// A field outside its range.
    #[error("illegal field in a message")]
    Field,
    /// The partner speaks another version.
    #[error("the partner speaks version {0} of the sync protocol, we speak {PROTOCOL}")]
    Protocol(u16),
}

impl From<Truncated> for BadMessage {
    fn from(_: Truncated) -> Self {
        Self::Truncated
    }
}

mod tag {
    pub(super) const HELLO: u8 = 1;
    pub(super) const SNAPSHOT_BEGIN: u8 = 2;
    pub(super) const SNAPSHOT_END: u8 = 3;
    pub(super) const RESUME: u8 = 4;
    pub(super) const PUT: u8 = 5;
    pub(super) const DELETE: u8 = 6;
    pub(super) const ACK: u8 = 7;
    pub(super) const RESYNC: u8 = 8;
    pub(super) const REFUSE: u8 = 9;
    pub(super) const PROPOSE: u8 = 10;
    pub(super) const REQUEST: u8 = 20;
    pub(super) const OFFER: u8 = 21;
    pub(super) const ACCEPT: u8 = 22;
    pub(super) const RELEASE: u8 = 23;
    pub(super) const DECLINE: u8 = 24;
    pub(super) const CALL_OFF: u8 = 25;
}

impl Message {
    /// The bytes of one frame. They hold keys: they go into the Noise channel and nowhere else.
    #[must_use]
    pub fn encode(&self) -> SecretBytes {
        let mut out = Writer::with_capacity(64);
        match self {
            Self::Hello(hello) => encode_hello(&mut out, hello),
            Self::SnapshotBegin { stream } => {
                out.u8(tag::SNAPSHOT_BEGIN).u64(stream.0);
            }
            Self::SnapshotEnd { index, position } => {
                out.u8(tag::SNAPSHOT_END).u64(*index).u64(*position);
            }
            Self::Resume { stream } => {
                out.u8(tag::RESUME).u64(stream.0);
            }
            Self::Delta {
                index,
                position,
                change,
            } => encode_delta(&mut out, *index, *position, change),
            Self::Ack { stream, position } => {
                out.u8(tag::ACK).u64(stream.0).u64(*position);
            }
            Self::Resync => {
                out.u8(tag::RESYNC);
            }
            Self::Refuse { key, reason } => {
                let reason = reason.as_bytes();
                put_key(out.u8(tag::REFUSE), key)
                    .short_bytes(reason.get(..MAX_REASON).unwrap_or(reason));
            }
            Self::Propose(record) => put_record(out.u8(tag::PROPOSE), record),
            Self::Word(word) => encode_word(&mut out, *word),
        }
        SecretBytes::new(out.finish())
    }

    /// Parses one frame.
    ///
    /// # Errors
    /// [`BadMessage`]; the frame was authentic, so this is a bug or another release.
    pub fn decode(frame: &[u8]) -> Result<Self, BadMessage> {
        let mut reader = Reader::new(frame);
        let message = decode(&mut reader)?;
        if !reader.is_empty() {
            return Err(BadMessage::Trailing);
        }
        Ok(message)
    }
}

fn encode_hello(out: &mut Writer, hello: &Hello) {
    out.u8(tag::HELLO)
        .u16(PROTOCOL)
        .u8(hello.member.to_wire())
        .u64(hello.session.to_wire())
        .u64(hello.floor.0)
        .u64(hello.revision.0)
        .u64(hello.stream.0)
        .u64(hello.position);
}

fn encode_delta(out: &mut Writer, index: u64, position: u64, change: &Change) {
    match change {
        Change::Put { record, age } => {
            let age = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
            out.u8(tag::PUT).u64(index).u64(position).u64(age);
            put_record(out, record);
        }
        Change::Delete(key) => {
            put_key(out.u8(tag::DELETE).u64(index).u64(position), key);
        }
    }
}

fn encode_word(out: &mut Writer, word: Word) {
    match word {
        Word::Request => out.u8(tag::REQUEST),
        Word::Offer { token } => out.u8(tag::OFFER).u32(token),
        Word::Accept { token } => out.u8(tag::ACCEPT).u32(token),
        Word::Release { token } => out.u8(tag::RELEASE).u32(token),
        Word::Decline { token } => out.u8(tag::DECLINE).u32(token),
        Word::CallOff { token } => out.u8(tag::CALL_OFF).u32(token),
    };
}

fn put_key<'a>(out: &'a mut Writer, key: &Key) -> &'a mut Writer {
    out.u8(key.kind().to_wire()).short_bytes(key.name())
}

fn put_record(out: &mut Writer, record: &Record) {
    put_key(out, &record.key)
        .u16(record.version)
        .long_bytes(record.body.expose());
}

fn get_key(reader: &mut Reader<'_>) -> Result<Key, BadMessage> {
    let kind = Kind::from_wire(reader.u8()?).ok_or(BadMessage::Field)?;
    Key::new(kind, reader.short_bytes()?).map_err(|_| BadMessage::Field)
}

fn get_record(reader: &mut Reader<'_>) -> Result<Record, BadMessage> {
    let key = get_key(reader)?;
    let version = reader.u16()?;
    let body = SecretBytes::from(reader.long_bytes()?);
    Record::new(key, version, body).map_err(|_| BadMessage::Field)
}

fn decode(reader: &mut Reader<'_>) -> Result<Message, BadMessage> {
    let message = match reader.u8()? {
        tag::HELLO => Message::Hello(decode_hello(reader)?),
        tag::SNAPSHOT_BEGIN => Message::SnapshotBegin {
            stream: Epoch(reader.u64()?),
        },
        tag::SNAPSHOT_END => Message::SnapshotEnd {
            index: reader.u64()?,
            position: reader.u64()?,
        },
        tag::RESUME => Message::Resume {
            stream: Epoch(reader.u64()?),
        },
        tag::PUT => Message::Delta {
            index: reader.u64()?,
            position: reader.u64()?,
            change: {
                let age = Duration::from_micros(reader.u64()?);
                let record = get_record(reader)?;
                Change::Put { record, age }
            },
        },
        tag::DELETE => Message::Delta {
            index: reader.u64()?,
            position: reader.u64()?,
            change: Change::Delete(get_key(reader)?),
        },
        tag::ACK => Message::Ack {
            stream: Epoch(reader.u64()?),
            position: reader.u64()?,
        },
        tag::RESYNC => Message::Resync,
        tag::REFUSE => Message::Refuse {
            key: get_key(reader)?,
            reason: String::from_utf8_lossy(reader.short_bytes()?).into_owned(),
        },
        tag::PROPOSE => Message::Propose(get_record(reader)?),
        other => Message::Word(decode_word(other, reader)?),
    };
    Ok(message)
}

fn decode_hello(reader: &mut Reader<'_>) -> Result<Hello, BadMessage> {
    let protocol = reader.u16()?;
    if protocol != PROTOCOL {
        return Err(BadMessage::Protocol(protocol));
    }
    Ok(Hello {
        member: Member::from_wire(reader.u8()?).ok_or(BadMessage::Field)?,
        session: SessionId::from_wire(reader.u64()?).ok_or(BadMessage::Field)?,
        floor: Epoch(reader.u64()?),
        revision: Revision(reader.u64()?),
        stream: Epoch(reader.u64()?),
        position: reader.u64()?,
    })
}

fn decode_word(tag: u8, reader: &mut Reader<'_>) -> Result<Word, BadMessage> {
    let word = match tag {
        tag::REQUEST => Word::Request,
        tag::OFFER => Word::Offer {
            token: reader.u32()?,
        },
        tag::ACCEPT => Word::Accept {
            token: reader.u32()?,
        },
        tag::RELEASE => Word::Release {
            token: reader.u32()?,
        },
        tag::DECLINE => Word::Decline {
            token: reader.u32()?,
        },
        tag::CALL_OFF => Word::CallOff {
            token: reader.u32()?,
        },
        unknown => return Err(BadMessage::Type(unknown)),
    };
    Ok(word)
}
