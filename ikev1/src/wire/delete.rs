//! The delete payload (RFC 2408 §3.15, RFC 2407 §4.6).

use super::reader::Reader;
use super::{CookiePair, Doi, ProtocolId, Rule, SpiBytes};

/// SAs that the sender no longer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    doi: Doi,
    sas: DeletedSas,
}

/// Which SAs, by protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeletedSas {
    /// IKE SAs.
    Isakmp(Vec<CookiePair>),
    /// ESP SAs by the sender's inbound SPIs. A plain number each: a peer may name one that
    /// RFC 4303 reserves, which then simply is not found.
    Esp(Vec<u32>),
    /// SAs of a protocol that we do not speak; all SPIs have the same length.
    Other(ProtocolId, Vec<SpiBytes>),
}

impl Delete {
    /// A delete of the IPsec DOI.
    ///
    /// # Errors
    /// [`Rule::NoSpis`] for an empty list; [`Rule::TooLong`] when the list does not fit a
    /// payload; [`Rule::SpiLength`] when the SPIs of another protocol differ in length, and
    /// [`Rule::NotOpaque`] when that protocol is ISAKMP or ESP.
    pub fn new(sas: DeletedSas) -> Result<Self, Rule> {
        Self::checked(Doi::Ipsec, sas)
    }

    fn checked(doi: Doi, sas: DeletedSas) -> Result<Self, Rule> {
        let count = sas.len();
        if count == 0 {
            return Err(Rule::NoSpis);
        }
        let size = usize::from(sas.spi_size());
        if count * size > super::reader::MAX_BODY_LEN - 8 {
            return Err(Rule::TooLong(count * size));
        }
        if let DeletedSas::Other(protocol, spis) = &sas {
            if matches!(*protocol, ProtocolId::ISAKMP | ProtocolId::ESP) {
                return Err(Rule::NotOpaque(protocol.0));
            }
            if size == 0 || spis.iter().any(|spi| usize::from(spi.len()) != size) {
                return Err(Rule::SpiLength(size));
            }
        }
        Ok(Self { doi, sas })
    }

    /// Deletes one IKE SA.
    #[must_use]
    pub fn isakmp(cookies: CookiePair) -> Self {
        Self {
            doi: Doi::Ipsec,
            sas: DeletedSas::Isakmp(vec![cookies]),
        }
    }

    /// Deletes the ESP SA with our inbound SPI.
    #[must_use]
    pub fn esp(spi: ipsec_types::Spi) -> Self {
        Self {
            doi: Doi::Ipsec,
            sas: DeletedSas::Esp(vec![spi.get()]),
        }
    }

    /// Which SAs.
    #[must_use]
    pub const fn sas(&self) -> &DeletedSas {
        &self.sas
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, Rule> {
        let mut reader = Reader::new(body);
        let doi = Doi::from_number(reader.u32()?)?;
        let [protocol, size] = reader.array()?;
        let count = reader.u16()?;
        let spis = reader.rest();
        if usize::from(count) * usize::from(size) != spis.len() {
            return Err(Rule::SpiCountMismatch {
                count,
                size,
                len: spis.len(),
            });
        }
        if spis.is_empty() {
            return Err(Rule::NoSpis);
        }
        let wrong_size = Rule::SpiLength(usize::from(size));
        let spis = spis.chunks_exact(usize::from(size));
        let sas = match ProtocolId(protocol) {
            ProtocolId::ISAKMP => {
                let pairs = spis.map(CookiePair::from_bytes).collect::<Option<_>>();
                DeletedSas::Isakmp(pairs.ok_or(wrong_size)?)
            }
            ProtocolId::ESP => {
                let spis = spis.map(|spi| spi.try_into().map(u32::from_be_bytes));
                DeletedSas::Esp(spis.collect::<Result<_, _>>().map_err(|_| wrong_size)?)
            }
            other => DeletedSas::Other(other, spis.map(SpiBytes::new).collect::<Result<_, _>>()?),
        };
        Self::checked(doi, sas)
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.doi.number().to_be_bytes());
        out.extend_from_slice(&[self.sas.protocol().0, self.sas.spi_size()]);
        let count = u16::try_from(self.sas.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        match &self.sas {
            DeletedSas::Isakmp(pairs) => {
                pairs
                    .iter()
                    .for_each(|pair| out.extend_from_slice(&pair.to_bytes()));
            }
            DeletedSas::Esp(spis) => {
                spis.iter()
                    .for_each(|spi| out.extend_from_slice(&spi.to_be_bytes()));
            }
            DeletedSas::Other(_, spis) => {
                spis.iter()
                    .for_each(|spi| out.extend_from_slice(spi.as_slice()));
            }
        }
        out
    }
}

impl DeletedSas {
    /// The protocol field.
    #[must_use]
    pub const fn protocol(&self) -> ProtocolId {
        match self {
            Self::Isakmp(_) => ProtocolId::ISAKMP,
            Self::Esp(_) => ProtocolId::ESP,
            Self::Other(protocol, _) => *protocol,
        }
    }

    const fn len(&self) -> usize {
        match self {
            Self::Isakmp(pairs) => pairs.len(),
            Self::Esp(spis) => spis.len(),
            Self::Other(_, spis) => spis.len(),
        }
    }

    fn spi_size(&self) -> u8 {
        match self {
            Self::Isakmp(_) => 16,
            Self::Esp(_) => 4,
            Self::Other(_, spis) => spis.first().map_or(0, SpiBytes::len),
        }
    }
}
