//! A cursor over received bytes: every read is checked, none can panic.

use super::Rule;

/// The unread rest of a buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that is left.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `N` bytes, a fixed field.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Rule> {
        let Some((head, tail)) = self.rest.split_first_chunk::<N>() else {
            return Err(Rule::PayloadTooShort(self.rest.len()));
        };
        self.rest = tail;
        Ok(*head)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Rule> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Rule> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next `length` bytes, where `length` came off the wire.
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Rule> {
        let Some((head, tail)) = self.rest.split_at_checked(length) else {
            return Err(Rule::LengthPastEnd {
                length,
                available: self.rest.len(),
            });
        };
        self.rest = tail;
        Ok(head)
    }
}

/// One payload as the generic header (RFC 2408 §3.2) delimits it.
pub(super) struct Generic<'a> {
    /// Type of the payload after this one, 0 for none.
    pub(super) next: u8,
    /// The payload without its generic header.
    pub(super) body: &'a [u8],
}

/// Length of the generic payload header.
pub(super) const GENERIC_HEADER_LEN: usize = 4;

/// The longest body that fits the 16-bit length of the generic header.
pub(super) const MAX_BODY_LEN: usize = u16::MAX as usize - GENERIC_HEADER_LEN;

impl<'a> Reader<'a> {
    /// Reads a generic header and the body it announces. RESERVED is checked as RFC 2408
    /// §5.3 asks: no peer is known to set it, and garbage from a wrong key ends here.
    pub(super) fn generic(&mut self) -> Result<Generic<'a>, Rule> {
        let available = self.remaining();
        let [next, reserved] = self.array()?;
        let length = usize::from(self.u16()?);
        if reserved != 0 {
            return Err(Rule::ReservedNotZero(reserved));
        }
        let Some(body_len) = length.checked_sub(GENERIC_HEADER_LEN) else {
            return Err(Rule::PayloadTooShort(length));
        };
        if length > available {
            return Err(Rule::LengthPastEnd { length, available });
        }
        Ok(Generic {
            next,
            body: self.take(body_len)?,
        })
    }
}

/// Appends a generic header and a body. Payload values are capped at construction, so the
/// length always fits; a longer body would be cut, never wrap.
pub(super) fn put_generic(out: &mut Vec<u8>, next: u8, body: &[u8]) {
    let body = body.get(..MAX_BODY_LEN).unwrap_or(body);
    let length = u16::try_from(body.len() + GENERIC_HEADER_LEN).unwrap_or(u16::MAX);
    out.extend_from_slice(&[next, 0]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(body);
}
