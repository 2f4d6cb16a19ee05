//! The notification payload (RFC 2408 §3.14, RFC 2407 §4.6.3, RFC 3706 §5.2).

use core::fmt;

use super::attribute::{LifeTypes, LifetimeReader};
use super::phase2;
use super::reader::{MAX_BODY_LEN, Reader};
use super::{Attribute, AttributeRefusal, CookiePair, Doi, Lifetime, ProtocolId, Rule, SpiBytes};

/// Fixed fields: DOI, protocol, SPI size, type.
const FIXED_LEN: usize = 8;

/// Notify message type: errors below 16384, status from there on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NotifyType(pub u16);

/// Declares the types with their registered names.
macro_rules! notify_types {
    ($($constant:ident = $number:literal, $name:literal;)+) => {
        impl NotifyType {
            $(#[doc = $name] pub const $constant: Self = Self($number);)+

            /// The registered name; `None` for a number that has none here.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$constant => Some($name),)+
                    _ => None,
                }
            }
        }
    };
}

notify_types! {
    INVALID_PAYLOAD_TYPE = 1, "INVALID-PAYLOAD-TYPE";
    DOI_NOT_SUPPORTED = 2, "DOI-NOT-SUPPORTED";
    SITUATION_NOT_SUPPORTED = 3, "SITUATION-NOT-SUPPORTED";
    INVALID_COOKIE = 4, "INVALID-COOKIE";
    INVALID_MAJOR_VERSION = 5, "INVALID-MAJOR-VERSION";
    INVALID_MINOR_VERSION = 6, "INVALID-MINOR-VERSION";
    INVALID_EXCHANGE_TYPE = 7, "INVALID-EXCHANGE-TYPE";
    INVALID_FLAGS = 8, "INVALID-FLAGS";
    INVALID_MESSAGE_ID = 9, "INVALID-MESSAGE-ID";
    INVALID_PROTOCOL_ID = 10, "INVALID-PROTOCOL-ID";
    INVALID_SPI = 11, "INVALID-SPI";
    INVALID_TRANSFORM_ID = 12, "INVALID-TRANSFORM-ID";
    ATTRIBUTES_NOT_SUPPORTED = 13, "ATTRIBUTES-NOT-SUPPORTED";
    NO_PROPOSAL_CHOSEN = 14, "NO-PROPOSAL-CHOSEN";
    BAD_PROPOSAL_SYNTAX = 15, "BAD-PROPOSAL-SYNTAX";
    PAYLOAD_MALFORMED = 16, "PAYLOAD-MALFORMED";
    INVALID_KEY_INFORMATION = 17, "INVALID-KEY-INFORMATION";
    INVALID_ID_INFORMATION = 18, "INVALID-ID-INFORMATION";
    INVALID_CERT_ENCODING = 19, "INVALID-CERT-ENCODING";
    INVALID_CERTIFICATE = 20, "INVALID-CERTIFICATE";
    CERT_TYPE_UNSUPPORTED = 21, "CERT-TYPE-UNSUPPORTED";
    INVALID_CERT_AUTHORITY = 22, "INVALID-CERT-AUTHORITY";
    INVALID_HASH_INFORMATION = 23, "INVALID-HASH-INFORMATION";
    AUTHENTICATION_FAILED = 24, "AUTHENTICATION-FAILED";
    INVALID_SIGNATURE = 25, "INVALID-SIGNATURE";
    ADDRESS_NOTIFICATION = 26, "ADDRESS-NOTIFICATION";
    NOTIFY_SA_LIFETIME = 27, "NOTIFY-SA-LIFETIME";
    CERTIFICATE_UNAVAILABLE = 28, "CERTIFICATE-UNAVAILABLE";
    UNSUPPORTED_EXCHANGE_TYPE = 29, "UNSUPPORTED-EXCHANGE-TYPE";
    UNEQUAL_PAYLOAD_LENGTHS = 30, "UNEQUAL-PAYLOAD-LENGTHS";
    CONNECTED = 16384, "CONNECTED";
    RESPONDER_LIFETIME = 24576, "RESPONDER-LIFETIME";
    REPLAY_STATUS = 24577, "REPLAY-STATUS";
    INITIAL_CONTACT = 24578, "INITIAL-CONTACT";
    R_U_THERE = 36136, "R-U-THERE";
    R_U_THERE_ACK = 36137, "R-U-THERE-ACK";
}

impl NotifyType {
    /// True for errors (RFC 2408 §3.14.1).
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 < 16384
    }
}

impl fmt::Display for NotifyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "notification {}", self.0),
        }
    }
}

impl fmt::Debug for NotifyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NotifyType({}, {self})", self.0)
    }
}

/// A status or an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    doi: Doi,
    protocol: ProtocolId,
    spi: SpiBytes,
    kind: NotifyType,
    data: Vec<u8>,
}

impl Notification {
    /// A notification of the IPsec DOI.
    ///
    /// # Errors
    /// [`Rule::TooLong`] when the data does not fit a payload.
    pub fn new(
        protocol: ProtocolId,
        spi: SpiBytes,
        kind: NotifyType,
        data: Vec<u8>,
    ) -> Result<Self, Rule> {
        Self::checked(Doi::Ipsec, protocol, spi, kind, data)
    }

    fn checked(
        doi: Doi,
        protocol: ProtocolId,
        spi: SpiBytes,
        kind: NotifyType,
        data: Vec<u8>,
    ) -> Result<Self, Rule> {
        if data.len() > MAX_BODY_LEN - FIXED_LEN - SpiBytes::MAX_LEN {
            return Err(Rule::TooLong(data.len()));
        }
        Ok(Self {
            doi,
            protocol,
            spi,
            kind,
            data,
        })
    }

    /// A notification without data.
    #[must_use]
    pub const fn plain(protocol: ProtocolId, spi: SpiBytes, kind: NotifyType) -> Self {
        Self {
            doi: Doi::Ipsec,
            protocol,
            spi,
            kind,
            data: Vec::new(),
        }
    }

    /// INITIAL-CONTACT (RFC 2407 §4.6.3.3): the sender has no older SA with this peer.
    #[must_use]
    pub fn initial_contact(cookies: CookiePair) -> Self {
        Self::plain(
            ProtocolId::ISAKMP,
            cookies.to_bytes().into(),
            NotifyType::INITIAL_CONTACT,
        )
    }

    /// R-U-THERE or R-U-THERE-ACK with its sequence number (RFC 3706 §5.3).
    #[must_use]
    pub fn dead_peer_detection(kind: NotifyType, cookies: CookiePair, sequence: u32) -> Self {
        let mut notification = Self::plain(ProtocolId::ISAKMP, cookies.to_bytes().into(), kind);
        notification.data = sequence.to_be_bytes().to_vec();
        notification
    }

    /// The sequence number of a DPD notification; `None` unless the data is 4 bytes.
    #[must_use]
    pub fn dead_peer_detection_sequence(&self) -> Option<u32> {
        let bytes = self.data.as_slice().try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    }

    /// RESPONDER-LIFETIME (RFC 2407 §4.6.3.1): the lifetime that will be kept, for an ESP SA
    /// or, with protocol ISAKMP, the IKE SA.
    #[must_use]
    pub fn responder_lifetime(protocol: ProtocolId, spi: SpiBytes, lifetime: Lifetime) -> Self {
        let mut notification = Self::plain(protocol, spi, NotifyType::RESPONDER_LIFETIME);
        for attribute in lifetime.attributes(life_types(protocol)) {
            attribute.encode(&mut notification.data);
        }
        notification
    }

    /// The lifetime that a RESPONDER-LIFETIME carries.
    ///
    /// # Errors
    /// [`AttributeRefusal`] when the data is not a list of lifetime attributes.
    pub fn lifetime(&self) -> Result<Lifetime, AttributeRefusal> {
        let attributes =
            Attribute::parse_list(&self.data).map_err(|_| AttributeRefusal::LifeUnpaired)?;
        let mut reader = LifetimeReader::new(life_types(self.protocol));
        for attribute in &attributes {
            reader.accept(attribute)?;
        }
        reader.finish()
    }

    /// ISAKMP or IPsec.
    #[must_use]
    pub const fn doi(&self) -> Doi {
        self.doi
    }

    /// What the SPI belongs to.
    #[must_use]
    pub const fn protocol(&self) -> ProtocolId {
        self.protocol
    }

    /// Which SA; empty when the notification is about none in particular.
    #[must_use]
    pub const fn spi(&self) -> &SpiBytes {
        &self.spi
    }

    /// What it says.
    #[must_use]
    pub const fn kind(&self) -> NotifyType {
        self.kind
    }

    /// What goes with it.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, Rule> {
        let mut reader = Reader::new(body);
        let doi = Doi::from_number(reader.u32()?)?;
        let [protocol, spi_len] = reader.array()?;
        let kind = NotifyType(reader.u16()?);
        let spi = SpiBytes::new(reader.take(usize::from(spi_len))?)?;
        let data = reader.rest().to_vec();
        Self::checked(doi, ProtocolId(protocol), spi, kind, data)
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_LEN + SpiBytes::MAX_LEN + self.data.len());
        out.extend_from_slice(&self.doi.number().to_be_bytes());
        out.extend_from_slice(&[self.protocol.0, self.spi.len()]);
        out.extend_from_slice(&self.kind.0.to_be_bytes());
        out.extend_from_slice(self.spi.as_slice());
        out.extend_from_slice(&self.data);
        out
    }
}

/// RESPONDER-LIFETIME uses the attribute numbers of the phase it is about.
fn life_types(protocol: ProtocolId) -> LifeTypes {
    match protocol {
        ProtocolId::ISAKMP => super::phase1::LIFE,
        _ => phase2::LIFE,
    }
}
