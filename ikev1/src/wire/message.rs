//! Whole messages: from a datagram and into one.

use core::fmt;

use super::chain::Tail;
use super::{Chain, Fragment, Header, ParseError, Payload, PayloadType, Place, Rule};
use crate::crypto::{CipherKey, Iv, PartialBlock};

/// A datagram after the checks that need no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// All payloads are readable.
    Clear(Message),
    /// Ciphertext follows the header.
    Protected(ProtectedMessage),
    /// A piece of a message. The whole, once put together, goes through [`parse`] again.
    Fragment(FragmentMessage),
}

impl Incoming {
    /// The header, which every form has.
    #[must_use]
    pub const fn header(&self) -> &Header {
        match self {
            Self::Clear(message) => &message.header,
            Self::Protected(message) => &message.header,
            Self::Fragment(message) => &message.header,
        }
    }
}

/// Checks a datagram (without the non-ESP marker of port 4500).
///
/// A fragment is never encrypted itself, whatever the E bit of its header says: some peers
/// copy the bit from the message they cut.
///
/// # Errors
/// The first rule that the header or a payload breaks.
pub fn parse(datagram: &[u8]) -> Result<Incoming, ParseError> {
    let (header, first, body) = Header::split(datagram)?;
    if first == PayloadType::FRAGMENT {
        return FragmentMessage::parse(header, body).map(Incoming::Fragment);
    }
    if header.flags.encryption {
        if body.is_empty() {
            return Err(Place::Header.broke(Rule::Empty));
        }
        let protected = ProtectedMessage::new(header, first, body.to_vec());
        return Ok(Incoming::Protected(protected));
    }
    let chain = Chain::parse(first, body, Tail::Exact)?;
    Ok(Incoming::Clear(Message { header, chain }))
}

/// A message whose payloads can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The header. E tells how it arrived; it is set anew when the message is encoded.
    pub header: Header,
    /// The payloads with their bytes.
    pub chain: Chain,
}

impl Message {
    /// A message of these payloads.
    #[must_use]
    pub fn new(header: Header, payloads: Vec<Payload>) -> Self {
        Self {
            header,
            chain: Chain::build(payloads),
        }
    }

    /// The datagram, in the clear.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut header = self.header;
        header.flags.encryption = false;
        let body = self.chain.bytes();
        let mut out = header.encode(self.chain.first(), body.len());
        out.extend_from_slice(body);
        out
    }

    /// The datagram, encrypted, and the IV for the next message of the exchange: the last
    /// ciphertext block (RFC 2409 Appendix B). The chain is padded with zeros to whole
    /// blocks, and the length in the header counts them.
    #[must_use]
    pub fn seal(&self, key: &CipherKey, iv: &Iv) -> (Vec<u8>, Iv) {
        let mut header = self.header;
        header.flags.encryption = true;
        let mut body = self.chain.bytes().to_vec();
        let next_iv = key.encrypt(iv, &mut body);
        let mut out = header.encode(self.chain.first(), body.len());
        out.extend_from_slice(&body);
        (out, next_iv)
    }
}

/// `quick mode 5a17c0de [HASH, SA, NONCE]`, for the log.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Header {
            exchange,
            message_id,
            ..
        } = self.header;
        write!(f, "{exchange} {message_id} [{}]", self.chain)
    }
}

/// A message that waits for its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtectedMessage {
    /// The header, readable by anyone.
    pub header: Header,
    first: PayloadType,
    ciphertext: Vec<u8>,
}

impl ProtectedMessage {
    pub(super) const fn new(header: Header, first: PayloadType, ciphertext: Vec<u8>) -> Self {
        Self {
            header,
            first,
            ciphertext,
        }
    }

    /// Everything after the header.
    #[must_use]
    pub fn ciphertext(&self) -> &[u8] {
        &self.ciphertext
    }

    /// Decrypts and parses; on success also the IV for the next message of the exchange.
    ///
    /// Nothing here is authenticated yet: the caller keeps the next IV only after it has
    /// checked the HASH payload.
    ///
    /// # Errors
    /// [`Rule::PartialBlock`], or what the plaintext breaks. Garbage in the plaintext most
    /// often means a wrong key, in main mode a wrong pre-shared key.
    pub fn open(&self, key: &CipherKey, iv: &Iv) -> Result<(Message, Iv), ParseError> {
        let mut body = self.ciphertext.clone();
        let next_iv = key
            .decrypt(iv, &mut body)
            .map_err(|PartialBlock(len)| Place::Chain.broke(Rule::PartialBlock(len)))?;
        Ok((self.parse_plaintext(&body)?, next_iv))
    }

    /// True when not even the first payload of the plaintext made sense: another key, or damage
    /// on the way. What breaks a rule behind it was written by somebody who has the key.
    pub(crate) fn was_garbage(&self, error: &ParseError) -> bool {
        error.place == Place::Payload(self.first) || matches!(error.rule, Rule::PartialBlock(_))
    }

    /// Parses a plaintext that was decrypted elsewhere; padding may follow the payloads.
    ///
    /// # Errors
    /// The first rule that a payload breaks.
    pub fn parse_plaintext(&self, plaintext: &[u8]) -> Result<Message, ParseError> {
        Ok(Message {
            header: self.header,
            chain: Chain::parse(self.first, plaintext, Tail::Padding)?,
        })
    }
}

/// A datagram with one fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FragmentMessage {
    /// The header; exchange and message id are those of the message that was cut.
    pub header: Header,
    /// The piece.
    pub fragment: Fragment,
}

impl FragmentMessage {
    fn parse(header: Header, body: &[u8]) -> Result<Self, ParseError> {
        let chain = Chain::parse(PayloadType::FRAGMENT, body, Tail::Exact)?;
        let [Payload::Fragment(fragment)] = chain.payloads() else {
            return Err(Place::Chain.broke(Rule::TooManyPayloads));
        };
        Ok(Self {
            header,
            fragment: fragment.clone(),
        })
    }

    /// The datagram.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let chain = Chain::build(vec![self.fragment.clone().into()]);
        let mut out = self.header.encode(chain.first(), chain.bytes().len());
        out.extend_from_slice(chain.bytes());
        out
    }
}
