//! A chain of payloads together with its bytes.

use core::fmt;
use core::ops::Range;

use super::reader::{GENERIC_HEADER_LEN, Reader, put_generic};
use super::{HashData, MAX_PADDING, MAX_PAYLOADS, ParseError, Payload, PayloadType, Place, Rule};

/// What may follow the last payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing: the message is in the clear.
    Exact,
    /// Up to [`MAX_PADDING`] bytes of any value, which no hash covers (RFC 2409 Appendix B).
    Padding,
}

/// Payloads and the bytes they stand in, exactly as received or as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    payloads: Vec<Payload>,
    /// Where each body, without its generic header, lies in `bytes`.
    bodies: Vec<Range<usize>>,
    bytes: Vec<u8>,
}

impl Chain {
    /// Lays out payloads one after the other.
    ///
    /// Payloads past [`MAX_PAYLOADS`] are left out: no exchange of ours comes near.
    #[must_use]
    pub fn build(mut payloads: Vec<Payload>) -> Self {
        payloads.truncate(MAX_PAYLOADS);
        let mut bytes = Vec::new();
        let mut bodies = Vec::with_capacity(payloads.len());
        for (index, payload) in payloads.iter().enumerate() {
            let next = payloads
                .get(index + 1)
                .map_or(PayloadType::NONE, Payload::kind);
            let start = bytes.len() + GENERIC_HEADER_LEN;
            put_generic(&mut bytes, next.0, &payload.body());
            bodies.push(start..bytes.len());
        }
        Self {
            payloads,
            bodies,
            bytes,
        }
    }

    /// Parses a chain whose first payload is of type `first`.
    pub(super) fn parse(first: PayloadType, bytes: &[u8], tail: Tail) -> Result<Self, ParseError> {
        let mut payloads = Vec::new();
        let mut bodies = Vec::new();
        let mut reader = Reader::new(bytes);
        let mut kind = first;
        while kind != PayloadType::NONE {
            if payloads.len() == MAX_PAYLOADS {
                return Err(Place::Chain.broke(Rule::TooManyPayloads));
            }
            let generic = reader
                .generic()
                .map_err(|rule| Place::Payload(kind).broke(rule))?;
            payloads.push(Payload::parse(kind, generic.body)?);
            let end = bytes.len() - reader.remaining();
            bodies.push(end - generic.body.len()..end);
            kind = PayloadType(generic.next);
        }
        if payloads.is_empty() {
            return Err(Place::Chain.broke(Rule::Empty));
        }
        check_tail(tail, reader.remaining())?;
        let used = bytes.len() - reader.remaining();
        Ok(Self {
            payloads,
            bodies,
            bytes: bytes.get(..used).unwrap_or_default().to_vec(),
        })
    }

    /// Puts a HASH payload in front, as quick mode and informational messages want it; the
    /// hash was computed over [`Chain::bytes`].
    #[must_use]
    pub fn behind_hash(&self, hash: HashData) -> Self {
        let mut payloads = vec![Payload::Hash(hash)];
        payloads.extend_from_slice(&self.payloads);
        Self::build(payloads)
    }

    /// The payloads in their order.
    #[must_use]
    pub fn payloads(&self) -> &[Payload] {
        &self.payloads
    }

    /// The whole chain with its generic headers, without padding.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Type of the first payload, as the ISAKMP header announces it.
    #[must_use]
    pub fn first(&self) -> PayloadType {
        self.payloads
            .first()
            .map_or(PayloadType::NONE, Payload::kind)
    }

    /// The body of payload `index` without its generic header, as it was on the wire: SAi_b,
    /// IDii_b and the like of RFC 2409 §5. Empty when there is no such payload.
    #[must_use]
    pub fn body(&self, index: usize) -> &[u8] {
        self.bodies
            .get(index)
            .and_then(|range| self.bytes.get(range.clone()))
            .unwrap_or_default()
    }

    /// The body of the first payload of type `kind`, as it was on the wire.
    #[must_use]
    pub fn body_of(&self, kind: PayloadType) -> Option<&[u8]> {
        let index = self.payloads.iter().position(|p| p.kind() == kind)?;
        Some(self.body(index))
    }

    /// The HASH payload that comes first, and every byte after it with generic headers: what
    /// HASH(1) and HASH(2) of RFC 2409 §5.5 and §5.7 are taken over. `None` when the first
    /// payload is not a HASH.
    #[must_use]
    pub fn split_hash(&self) -> Option<(&HashData, &[u8])> {
        let Some(Payload::Hash(hash)) = self.payloads.first() else {
            return None;
        };
        let end = self.bodies.first()?.end;
        Some((hash, self.bytes.get(end..)?))
    }

    /// How many payloads of type `kind` there are.
    #[must_use]
    pub fn count(&self, kind: PayloadType) -> usize {
        self.payloads.iter().filter(|p| p.kind() == kind).count()
    }
}

/// `HASH, SA, NONCE`.
impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, payload) in self.payloads.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{}", payload.kind())?;
        }
        Ok(())
    }
}

fn check_tail(tail: Tail, left: usize) -> Result<(), ParseError> {
    match tail {
        Tail::Exact if left > 0 => Err(Place::Chain.broke(Rule::TrailingBytes(left))),
        Tail::Padding if left > MAX_PADDING => Err(Place::Chain.broke(Rule::PaddingTooLong(left))),
        Tail::Exact | Tail::Padding => Ok(()),
    }
}
