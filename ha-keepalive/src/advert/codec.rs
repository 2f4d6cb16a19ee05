//! The advert on the wire.
//!
//! ```text
//!  0       4    5      6    7    8     9        10        14
//! +--------+----+------+----+----+-----+--------+---------+---------+---------+
//! | "VPAD" | v1 |member|path|role|flags|priority|interval |session 8|counter 8|
//! +--------+----+------+----+----+-----+--------+---------+---------+---------+
//! | epoch 8 | floor 8 | revision 8 | echo 8+8 | greeting 8+8 |
//! +---------+---------+------------+----------+--------------+
//! | stream 8 | position 8 | lag: records 4, bytes 8, ms 4 | HMAC-SHA-256 32 |
//! +----------+------------+-------------------------------+-----------------+
//! ```
//! All numbers are big-endian; the interval is in microseconds. A session of 0 is "none". The
//! MAC covers every byte before it.

use core::time::Duration;

use subtle::ConstantTimeEq;

use super::{Advert, Heard, Refusal, Role, SyncReport};
use crate::secret::{Key, PairSecret, hmac_sha256};
use crate::vocabulary::{AdvertInterval, Epoch, Member, PathId, Priority, Revision, SessionId};
use crate::wire::{Reader, Truncated, Writer};

const MAGIC: &[u8; 4] = b"VPAD";
const VERSION: u8 = 1;
const BODY_LEN: usize = 118;
const MAC_LEN: usize = 32;
/// Every advert has exactly this many bytes.
pub const ADVERT_LEN: usize = BODY_LEN + MAC_LEN;

const FLAG_WANTS_ANSWER: u8 = 1;
const FLAG_FIT: u8 = 2;
const FLAG_IN_SYNC: u8 = 4;
const FLAG_SERVING: u8 = 8;
const FLAGS: u8 = FLAG_WANTS_ANSWER | FLAG_FIT | FLAG_IN_SYNC | FLAG_SERVING;
/// RFC 9568 §5.2.4: "priority 0 has special meaning": the active node has left. The priority
/// the node would have is of no interest any more.
const PRIORITY_RESIGNED: u8 = 0;

/// Seals and opens adverts with the key that is drawn from the pair secret.
#[derive(Clone)]
pub struct Sealer {
    key: Key,
}

impl core::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Sealer(redacted)")
    }
}

impl Sealer {
    /// Draws the advert key.
    #[must_use]
    pub fn new(secret: &PairSecret) -> Self {
        Self {
            key: secret.derive(b"vipsec advert v1"),
        }
    }

    /// The datagram for one advert; always [`ADVERT_LEN`] bytes.
    #[must_use]
    pub fn seal(&self, advert: &Advert) -> Vec<u8> {
        self.with_mac(encode(advert).finish())
    }

    /// Any body with its MAC.
    pub(crate) fn with_mac(&self, mut body: Vec<u8>) -> Vec<u8> {
        let mac = hmac_sha256(self.key.as_slice(), &[&body]);
        body.extend_from_slice(mac.as_slice());
        body
    }

    /// Parses and authenticates. The cheap checks that need no key come first, so that noise
    /// costs no hash; nothing is read from the body before the MAC has been verified.
    ///
    /// # Errors
    /// The first reason that applies, in the order of [`Refusal`].
    pub fn open(&self, datagram: &[u8]) -> Result<Advert, Refusal> {
        if datagram.len() != ADVERT_LEN {
            return Err(Refusal::Length);
        }
        let (body, mac) = datagram.split_at(BODY_LEN);
        let mut reader = Reader::new(body);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(Refusal::Foreign);
        }
        if reader.u8()? != VERSION {
            return Err(Refusal::Version);
        }
        let expected = hmac_sha256(self.key.as_slice(), &[body]);
        if !bool::from(expected.as_slice().ct_eq(mac)) {
            return Err(Refusal::Mac);
        }
        decode(&mut reader)
    }
}

fn encode(advert: &Advert) -> Writer {
    let mut flags = 0;
    for (set, flag) in [
        (advert.wants_answer, FLAG_WANTS_ANSWER),
        (advert.fit, FLAG_FIT),
        (advert.sync.in_sync, FLAG_IN_SYNC),
        (advert.serving, FLAG_SERVING),
    ] {
        if set {
            flags |= flag;
        }
    }
    let mut out = Writer::with_capacity(ADVERT_LEN);
    out.bytes(MAGIC)
        .u8(VERSION)
        .u8(advert.member.to_wire())
        .u8(if advert.path == PathId::First { 0 } else { 1 })
        .u8(role_to_wire(advert.role))
        .u8(flags)
        .u8(if advert.resigned {
            PRIORITY_RESIGNED
        } else {
            advert.priority.get()
        })
        .u32(advert.interval.as_micros())
        .u64(advert.session.to_wire())
        .u64(advert.counter)
        .u64(advert.epoch.0)
        .u64(advert.floor.0)
        .u64(advert.revision.0);
    for heard in [advert.echo, advert.greeting] {
        out.u64(heard.map_or(0, |heard| heard.session.to_wire()))
            .u64(heard.map_or(0, |heard| heard.counter));
    }
    out.u64(advert.sync.stream.0)
        .u64(advert.sync.position)
        .u32(advert.sync.lag_records)
        .u64(advert.sync.lag_bytes)
        .u32(advert.sync.lag_ms);
    out
}

fn decode(reader: &mut Reader<'_>) -> Result<Advert, Refusal> {
    let member = Member::from_wire(reader.u8()?).ok_or(Refusal::Field)?;
    let path = PathId::from_wire(reader.u8()?).ok_or(Refusal::Field)?;
    let role = role_from_wire(reader.u8()?).ok_or(Refusal::Field)?;
    let flags = reader.u8()?;
    if flags & !FLAGS != 0 {
        return Err(Refusal::Field);
    }
    let priority = reader.u8()?;
    let resigned = priority == PRIORITY_RESIGNED;
    let priority = match resigned {
        true => Priority::DEFAULT,
        false => Priority::new(priority).map_err(|_| Refusal::Field)?,
    };
    let interval = AdvertInterval::new(Duration::from_micros(reader.u32()?.into()))
        .map_err(|_| Refusal::Field)?;
    let session = SessionId::from_wire(reader.u64()?).ok_or(Refusal::Field)?;
    Ok(Advert {
        member,
        path,
        role,
        resigned,
        wants_answer: flags & FLAG_WANTS_ANSWER != 0,
        fit: flags & FLAG_FIT != 0,
        serving: flags & FLAG_SERVING != 0,
        priority,
        interval,
        session,
        counter: reader.u64()?,
        epoch: Epoch(reader.u64()?),
        floor: Epoch(reader.u64()?),
        revision: Revision(reader.u64()?),
        echo: heard(reader)?,
        greeting: heard(reader)?,
        sync: SyncReport {
            in_sync: flags & FLAG_IN_SYNC != 0,
            stream: Epoch(reader.u64()?),
            position: reader.u64()?,
            lag_records: reader.u32()?,
            lag_bytes: reader.u64()?,
            lag_ms: reader.u32()?,
        },
    })
}

fn heard(reader: &mut Reader<'_>) -> Result<Option<Heard>, Truncated> {
    let session = SessionId::from_wire(reader.u64()?);
    let counter = reader.u64()?;
    Ok(session.map(|session| Heard { session, counter }))
}

const fn role_to_wire(role: Role) -> u8 {
    match role {
        Role::Init => 0,
        Role::Standby => 1,
        Role::Active => 2,
        Role::Asking => 3,
    }
}

const fn role_from_wire(byte: u8) -> Option<Role> {
    match byte {
        0 => Some(Role::Init),
        1 => Some(Role::Standby),
        2 => Some(Role::Active),
        3 => Some(Role::Asking),
        _ => None,
    }
}
