//! The SA payload with its proposals and transforms (RFC 2408 §3.4 to §3.6).

use super::reader::{GENERIC_HEADER_LEN, MAX_BODY_LEN, Reader, put_generic};
use super::{
    Attribute, Doi, MAX_ATTRIBUTES, MAX_PROPOSALS, MAX_TRANSFORMS, ParseError, PayloadType, Place,
    ProtocolId, Rule, SpiBytes,
};

/// SIT_IDENTITY_ONLY (RFC 2407 §4.2.1), the only situation without labels.
const SIT_IDENTITY_ONLY: u32 = 1;

const SA: Place = Place::Payload(PayloadType::SA);
const PROPOSAL: Place = Place::Payload(PayloadType::PROPOSAL);
const TRANSFORM: Place = Place::Payload(PayloadType::TRANSFORM);

/// An SA payload of the IPsec DOI: at least one proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityAssociation {
    proposals: Vec<Proposal>,
}

impl SecurityAssociation {
    /// An SA payload of these proposals.
    ///
    /// # Errors
    /// [`Rule::NoProposals`], [`Rule::TooManyProposals`], [`Rule::TooManyTransforms`], or
    /// [`Rule::TooLong`] when the whole does not fit a payload.
    pub fn new(proposals: Vec<Proposal>) -> Result<Self, Rule> {
        if proposals.is_empty() {
            return Err(Rule::NoProposals);
        }
        if proposals.len() > MAX_PROPOSALS {
            return Err(Rule::TooManyProposals);
        }
        let transforms: usize = proposals.iter().map(|p| p.transforms.len()).sum();
        if transforms > MAX_TRANSFORMS {
            return Err(Rule::TooManyTransforms);
        }
        let sa = Self { proposals };
        let len = sa.body().len();
        if len > MAX_BODY_LEN {
            return Err(Rule::TooLong(len));
        }
        Ok(sa)
    }

    /// The answer to an offer: one proposal with one transform.
    #[must_use]
    pub fn chosen(number: u8, protocol: ProtocolId, spi: SpiBytes, transform: Transform) -> Self {
        Self {
            proposals: vec![Proposal {
                number,
                protocol,
                spi,
                transforms: vec![transform],
            }],
        }
    }

    /// The proposals in order of preference. Equal numbers belong together (AH and ESP).
    #[must_use]
    pub fn proposals(&self) -> &[Proposal] {
        &self.proposals
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        let refused = |rule| SA.broke(rule);
        match Doi::from_number(reader.u32().map_err(refused)?).map_err(refused)? {
            Doi::Ipsec => {}
            Doi::Isakmp => return Err(refused(Rule::Doi(Doi::Isakmp.number()))),
        }
        let situation = reader.u32().map_err(refused)?;
        if situation != SIT_IDENTITY_ONLY {
            return Err(refused(Rule::Situation(situation)));
        }
        let mut proposals = Vec::new();
        let mut transforms_left = MAX_TRANSFORMS;
        while !reader.is_empty() {
            if proposals.len() == MAX_PROPOSALS {
                return Err(refused(Rule::TooManyProposals));
            }
            let generic = reader.generic().map_err(|rule| PROPOSAL.broke(rule))?;
            check_next(generic.next, PayloadType::PROPOSAL, reader.is_empty())
                .map_err(|rule| PROPOSAL.broke(rule))?;
            proposals.push(Proposal::parse(generic.body, &mut transforms_left)?);
        }
        Self::new(proposals).map_err(refused)
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&Doi::Ipsec.number().to_be_bytes());
        out.extend_from_slice(&SIT_IDENTITY_ONLY.to_be_bytes());
        let last = self.proposals.len().saturating_sub(1);
        for (index, proposal) in self.proposals.iter().enumerate() {
            let next = next_or_none(PayloadType::PROPOSAL, index == last);
            put_generic(&mut out, next.0, &proposal.body());
        }
        out
    }
}

/// One proposal: a protocol, its SPI and alternatives for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    number: u8,
    protocol: ProtocolId,
    spi: SpiBytes,
    transforms: Vec<Transform>,
}

impl Proposal {
    /// A proposal with its alternatives in order of preference.
    ///
    /// # Errors
    /// [`Rule::NoTransforms`], or [`Rule::TooManyTransforms`] past 255,
    /// [`Rule::TooLong`] when they do not fit a payload.
    pub fn new(
        number: u8,
        protocol: ProtocolId,
        spi: SpiBytes,
        transforms: Vec<Transform>,
    ) -> Result<Self, Rule> {
        if transforms.is_empty() {
            return Err(Rule::NoTransforms);
        }
        if transforms.len() > usize::from(u8::MAX) {
            return Err(Rule::TooManyTransforms);
        }
        let proposal = Self {
            number,
            protocol,
            spi,
            transforms,
        };
        let len = proposal.body().len();
        if len > MAX_BODY_LEN {
            return Err(Rule::TooLong(len));
        }
        Ok(proposal)
    }

    /// Its number; a chosen proposal keeps it.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// ISAKMP in phase 1, ESP (or what we do not speak) in phase 2.
    #[must_use]
    pub const fn protocol(&self) -> ProtocolId {
        self.protocol
    }

    /// The sender's inbound SPI; in phase 1 anything, and ignored.
    #[must_use]
    pub const fn spi(&self) -> &SpiBytes {
        &self.spi
    }

    /// The SPI of an ESP proposal.
    ///
    /// # Errors
    /// [`Rule::SpiLength`] unless it has 4 bytes, [`Rule::ReservedSpi`] below 256.
    pub fn esp_spi(&self) -> Result<ipsec_types::Spi, Rule> {
        let bytes = self.spi.as_slice();
        let Ok(bytes) = <[u8; 4]>::try_from(bytes) else {
            return Err(Rule::SpiLength(bytes.len()));
        };
        ipsec_types::Spi::new(u32::from_be_bytes(bytes))
            .map_err(|reserved| Rule::ReservedSpi(reserved.0))
    }

    /// The alternatives in order of preference.
    #[must_use]
    pub fn transforms(&self) -> &[Transform] {
        &self.transforms
    }

    fn parse(body: &[u8], transforms_left: &mut usize) -> Result<Self, ParseError> {
        let refused = |rule| PROPOSAL.broke(rule);
        let mut reader = Reader::new(body);
        let [number, protocol, spi_len, announced] = reader.array().map_err(refused)?;
        let spi = reader.take(usize::from(spi_len)).map_err(refused)?;
        let spi = SpiBytes::new(spi).map_err(refused)?;
        let mut transforms = Vec::new();
        while !reader.is_empty() {
            if *transforms_left == 0 || transforms.len() == usize::from(u8::MAX) {
                return Err(refused(Rule::TooManyTransforms));
            }
            *transforms_left -= 1;
            let generic = reader.generic().map_err(|rule| TRANSFORM.broke(rule))?;
            check_next(generic.next, PayloadType::TRANSFORM, reader.is_empty())
                .map_err(|rule| TRANSFORM.broke(rule))?;
            let transform = Transform::parse(generic.body).map_err(|rule| TRANSFORM.broke(rule))?;
            transforms.push(transform);
        }
        if transforms.len() != usize::from(announced) {
            return Err(refused(Rule::TransformCountMismatch {
                announced,
                found: transforms.len(),
            }));
        }
        Self::new(number, ProtocolId(protocol), spi, transforms).map_err(refused)
    }

    fn body(&self) -> Vec<u8> {
        let count = u8::try_from(self.transforms.len()).unwrap_or(u8::MAX);
        let mut out = vec![self.number, self.protocol.0, self.spi.len(), count];
        out.extend_from_slice(self.spi.as_slice());
        let last = self.transforms.len().saturating_sub(1);
        for (index, transform) in self.transforms.iter().enumerate() {
            let next = next_or_none(PayloadType::TRANSFORM, index == last);
            put_generic(&mut out, next.0, &transform.body());
        }
        out
    }
}

/// One alternative of a proposal: a transform id and attributes, exactly as on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transform {
    number: u8,
    id: u8,
    attributes: Vec<Attribute>,
}

impl Transform {
    /// A transform of these attributes.
    ///
    /// # Errors
    /// [`Rule::TooManyAttributes`].
    pub fn new(number: u8, id: u8, attributes: Vec<Attribute>) -> Result<Self, Rule> {
        if attributes.len() > MAX_ATTRIBUTES {
            return Err(Rule::TooManyAttributes);
        }
        Ok(Self {
            number,
            id,
            attributes,
        })
    }

    /// For the typed views, whose attributes are few.
    pub(super) fn of_few(number: u8, id: u8, mut attributes: Vec<Attribute>) -> Self {
        attributes.truncate(MAX_ATTRIBUTES);
        Self {
            number,
            id,
            attributes,
        }
    }

    /// Its number within the proposal; a chosen transform keeps it.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// KEY_IKE (1) in phase 1, the ESP transform in phase 2.
    #[must_use]
    pub const fn id(&self) -> u8 {
        self.id
    }

    /// The attributes in the order and form of the wire.
    #[must_use]
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// RESERVED2 is ignored, as every peer's parser does: nothing hangs on it.
    fn parse(body: &[u8]) -> Result<Self, Rule> {
        let mut reader = Reader::new(body);
        let [number, id, _reserved2 @ ..]: [u8; 4] = reader.array()?;
        Self::new(number, id, Attribute::parse_list(reader.rest())?)
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(GENERIC_HEADER_LEN + 4 * self.attributes.len());
        out.extend_from_slice(&[self.number, self.id, 0, 0]);
        for attribute in &self.attributes {
            attribute.encode(&mut out);
        }
        out
    }
}

/// A chain of equals: `kind` while more follow, 0 at the end, and nothing else.
fn check_next(next: u8, kind: PayloadType, is_last: bool) -> Result<(), Rule> {
    if PayloadType(next) == next_or_none(kind, is_last) {
        Ok(())
    } else {
        Err(Rule::NestedPayload(next))
    }
}

const fn next_or_none(kind: PayloadType, is_last: bool) -> PayloadType {
    if is_last { PayloadType::NONE } else { kind }
}
