//! IKE fragmentation as Cisco and Microsoft peers do it: one message cut into payloads of
//! type 132, each in a datagram of its own. There is no RFC; Microsoft's [MS-IKEE] §2.2.3.1
//! describes the format.

use super::Rule;
use super::payload::checked_body;
use super::reader::{MAX_BODY_LEN, Reader};

/// Fixed fields: id, number, flags.
const FIXED_LEN: usize = 4;

/// Bit 0 of the flags.
const LAST: u8 = 1;

/// One piece of an ISAKMP message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fragment {
    id: u16,
    number: u8,
    last: bool,
    data: Vec<u8>,
}

impl Fragment {
    /// Piece `number` (from 1) of the message that `id` names.
    ///
    /// # Errors
    /// [`Rule::FragmentNumber`] for number 0 or no data, [`Rule::TooLong`] when the piece
    /// does not fit a payload.
    pub fn new(id: u16, number: u8, last: bool, data: Vec<u8>) -> Result<Self, Rule> {
        if number == 0 || data.is_empty() {
            return Err(Rule::FragmentNumber);
        }
        if data.len() > MAX_BODY_LEN - FIXED_LEN {
            return Err(Rule::TooLong(data.len()));
        }
        Ok(Self {
            id,
            number,
            last,
            data: checked_body(data)?,
        })
    }

    /// Names the message it is a piece of.
    #[must_use]
    pub const fn id(&self) -> u16 {
        self.id
    }

    /// Its place, from 1.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// True for the piece with the highest number.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.last
    }

    /// Bytes of the whole message, its ISAKMP header included.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, Rule> {
        let mut reader = Reader::new(body);
        let id = reader.u16()?;
        let [number, flags] = reader.array()?;
        Self::new(id, number, flags & LAST != 0, reader.rest().to_vec())
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_LEN + self.data.len());
        out.extend_from_slice(&self.id.to_be_bytes());
        out.extend_from_slice(&[self.number, if self.last { LAST } else { 0 }]);
        out.extend_from_slice(&self.data);
        out
    }
}
