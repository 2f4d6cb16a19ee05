//! What a phase-2 ESP transform means (RFC 2407 §4.4.4 and §4.5, RFC 2403, 2451,
//! 3602, 4106, 4304, 4868).

use core::fmt::Write as _;

use ipsec_types::{AesKeyBits, CbcCipher, Encapsulation, EspIntegrity, EspSuite};

use super::attribute::{LifeTypes, LifetimeReader, set_once};
use super::{Attribute, AttributeRefusal, AttributeType, Lifetime, NatDialect, Transform};
use crate::crypto::DhGroup;

const GROUP: AttributeType = AttributeType(3);
const ENCAPSULATION: AttributeType = AttributeType(4);
const AUTHENTICATION: AttributeType = AttributeType(5);
const KEY_LENGTH: AttributeType = AttributeType(6);
const EXTENDED_SEQUENCE: AttributeType = AttributeType(11);
/// Lifetimes of phase 2.
pub(super) const LIFE: LifeTypes = LifeTypes {
    unit: AttributeType(1),
    duration: AttributeType(2),
};

/// 64-bit sequence numbers (RFC 4304 §2); absent means 32 bits.
const SEQUENCE_64_BIT: u16 = 1;

/// An ESP transform id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EspTransformId(pub u8);

impl EspTransformId {
    /// 3DES-CBC (RFC 2451).
    pub const TRIPLE_DES: Self = Self(3);
    /// NULL encryption: known so that it can be named, not offered.
    pub const NULL: Self = Self(11);
    /// AES-CBC (RFC 3602).
    pub const AES_CBC: Self = Self(12);
    /// AES-GCM with an ICV of 8 bytes: likewise.
    pub const AES_GCM_8: Self = Self(18);
    /// AES-GCM with an ICV of 12 bytes: likewise.
    pub const AES_GCM_12: Self = Self(19);
    /// AES-GCM with an ICV of 16 bytes (RFC 4106).
    pub const AES_GCM_16: Self = Self(20);
}

/// How ESP packets are wrapped (RFC 2407 §4.5, RFC 3947 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EncapsulationMode {
    /// 1.
    Tunnel,
    /// 2.
    Transport,
    /// 3, or 61443 in the drafts.
    UdpTunnel(NatDialect),
    /// 4, or 61444 in the drafts.
    UdpTransport(NatDialect),
}

impl EncapsulationMode {
    /// Tunnel mode over protocol 50 or over UDP.
    #[must_use]
    pub const fn tunnel(encapsulation: Encapsulation, dialect: NatDialect) -> Self {
        match encapsulation {
            Encapsulation::Esp => Self::Tunnel,
            Encapsulation::Udp => Self::UdpTunnel(dialect),
        }
    }

    const fn number(self) -> u16 {
        match self {
            Self::Tunnel => 1,
            Self::Transport => 2,
            Self::UdpTunnel(NatDialect::Rfc3947) => 3,
            Self::UdpTransport(NatDialect::Rfc3947) => 4,
            Self::UdpTunnel(NatDialect::Draft) => 61443,
            Self::UdpTransport(NatDialect::Draft) => 61444,
        }
    }

    const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Tunnel,
            2 => Self::Transport,
            3 => Self::UdpTunnel(NatDialect::Rfc3947),
            4 => Self::UdpTransport(NatDialect::Rfc3947),
            61443 => Self::UdpTunnel(NatDialect::Draft),
            61444 => Self::UdpTransport(NatDialect::Draft),
            _ => return None,
        })
    }

    /// Tunnel mode over UDP or not; `None` for transport mode.
    #[must_use]
    pub const fn tunnel_over(self) -> Option<Encapsulation> {
        match self {
            Self::Tunnel => Some(Encapsulation::Esp),
            Self::UdpTunnel(_) => Some(Encapsulation::Udp),
            Self::Transport | Self::UdpTransport(_) => None,
        }
    }
}

impl core::fmt::Display for EncapsulationMode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Tunnel => "tunnel",
            Self::Transport => "transport",
            Self::UdpTunnel(NatDialect::Rfc3947) => "UDP tunnel",
            Self::UdpTunnel(NatDialect::Draft) => "UDP tunnel (draft)",
            Self::UdpTransport(NatDialect::Rfc3947) => "UDP transport",
            Self::UdpTransport(NatDialect::Draft) => "UDP transport (draft)",
        })
    }
}

/// An ESP transform that can be carried out, except that transport mode is still readable
/// here so that the negotiator can say what was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Phase2Transform {
    /// Cipher and integrity.
    pub suite: EspSuite,
    /// Wrapping.
    pub mode: EncapsulationMode,
    /// Perfect forward secrecy; `None` without.
    pub group: Option<DhGroup>,
    /// 64-bit sequence numbers.
    pub esn: bool,
    /// How long the SA may live; RFC 2407 §4.5 takes 28,800 s when nothing is said.
    pub lifetime: Lifetime,
}

/// Why an ESP transform cannot be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Phase2Refusal {
    /// Malformed or contradicting attributes.
    #[error(transparent)]
    Attribute(#[from] AttributeRefusal),
    /// A cipher that is not supported.
    #[error("ESP transform {0} is not supported")]
    Cipher(u8),
    /// AES without its key length (RFC 3602 §5.3, RFC 4106 §8.2).
    #[error("no AES key length")]
    MissingKeyLength,
    /// A key length that AES does not have.
    #[error("an AES key has 128, 192 or 256 bits, not {0}")]
    KeyLength(u16),
    /// A cipher with one key length only, and another one stated (RFC 2407 §4.5).
    #[error("a 3DES key has 192 bits, not {0}")]
    FixedKeyLength(u16),
    /// A cipher that does not authenticate, without an integrity algorithm.
    #[error("no integrity algorithm")]
    MissingIntegrity,
    /// An integrity algorithm that is not supported.
    #[error("integrity algorithm {0} is not supported")]
    Integrity(u16),
    /// AES-GCM authenticates itself (RFC 4106 §8).
    #[error("integrity algorithm {0} beside AES-GCM")]
    IntegrityBesideAead(u16),
    /// A group that is not supported.
    #[error("DH group {0} is not supported")]
    Group(u16),
    /// RFC 2407 §4.5 leaves the default to the host, so nothing can be read into silence.
    #[error("no encapsulation mode")]
    MissingMode,
    /// An encapsulation mode that is not registered.
    #[error("encapsulation mode {0} is unknown")]
    Mode(u16),
    /// RFC 4304 knows one value.
    #[error("extended sequence number value {0} is unknown")]
    ExtendedSequence(u16),
    /// An attribute that changes the SA in a way that is not supported.
    #[error("attribute {0} is not supported")]
    Unsupported(AttributeType),
}

impl Phase2Transform {
    /// The transform as an offer writes it.
    #[must_use]
    pub fn to_transform(&self, number: u8) -> Transform {
        let (id, bits) = match self.suite {
            EspSuite::AesGcm16(bits) => (EspTransformId::AES_GCM_16, Some(bits)),
            EspSuite::CbcHmac(CbcCipher::Aes(bits), _) => (EspTransformId::AES_CBC, Some(bits)),
            EspSuite::CbcHmac(CbcCipher::TripleDes, _) => (EspTransformId::TRIPLE_DES, None),
        };
        let mut attributes = self.lifetime.attributes(LIFE);
        attributes.push(Attribute::short(ENCAPSULATION, self.mode.number()));
        if let Some(integrity) = self.suite.integrity() {
            attributes.push(Attribute::short(
                AUTHENTICATION,
                integrity_number(integrity),
            ));
        }
        if let Some(bits) = bits {
            attributes.push(Attribute::short(KEY_LENGTH, bits.bits()));
        }
        if let Some(group) = self.group {
            attributes.push(Attribute::short(GROUP, group.number()));
        }
        if self.esn {
            attributes.push(Attribute::short(EXTENDED_SEQUENCE, SEQUENCE_64_BIT));
        }
        Transform::of_few(number, id.0, attributes)
    }

    /// Reads an offered or chosen transform of an ESP proposal.
    ///
    /// # Errors
    /// The first attribute that cannot be carried out, by name.
    pub fn from_transform(transform: &Transform) -> Result<Self, Phase2Refusal> {
        let raw = RawPhase2::collect(transform)?;
        if let Some(kind) = raw.unsupported {
            return Err(Phase2Refusal::Unsupported(kind));
        }
        let suite = raw.suite(transform.id())?;
        let mode = raw.mode.ok_or(Phase2Refusal::MissingMode)?;
        let group = raw
            .group
            .map(|number| DhGroup::from_number(number).ok_or(Phase2Refusal::Group(number)));
        let esn = match raw.extended_sequence {
            None => false,
            Some(SEQUENCE_64_BIT) => true,
            Some(other) => return Err(Phase2Refusal::ExtendedSequence(other)),
        };
        Ok(Self {
            suite,
            mode: EncapsulationMode::from_number(mode).ok_or(Phase2Refusal::Mode(mode))?,
            group: group.transpose()?,
            esn,
            lifetime: raw.lifetime,
        })
    }
}

/// The attributes as numbers, before anything is judged.
#[derive(Debug, Default)]
struct RawPhase2 {
    mode: Option<u16>,
    integrity: Option<u16>,
    key_bits: Option<u16>,
    group: Option<u16>,
    extended_sequence: Option<u16>,
    lifetime: Lifetime,
    unsupported: Option<AttributeType>,
}

impl RawPhase2 {
    fn collect(transform: &Transform) -> Result<Self, AttributeRefusal> {
        let mut raw = Self::default();
        let mut lifetime = LifetimeReader::new(LIFE);
        for attribute in transform.attributes() {
            if lifetime.accept(attribute)? {
                continue;
            }
            let kind = attribute.kind();
            let slot = match kind {
                GROUP => &mut raw.group,
                ENCAPSULATION => &mut raw.mode,
                AUTHENTICATION => &mut raw.integrity,
                KEY_LENGTH => &mut raw.key_bits,
                EXTENDED_SEQUENCE => &mut raw.extended_sequence,
                other => {
                    raw.unsupported.get_or_insert(other);
                    continue;
                }
            };
            set_once(slot, attribute.as_basic()?, kind)?;
        }
        raw.lifetime = lifetime.finish()?;
        Ok(raw)
    }

    fn suite(&self, id: u8) -> Result<EspSuite, Phase2Refusal> {
        let cipher = match EspTransformId(id) {
            EspTransformId::AES_GCM_16 => {
                return match self.integrity {
                    None => Ok(EspSuite::AesGcm16(self.aes_bits()?)),
                    Some(other) => Err(Phase2Refusal::IntegrityBesideAead(other)),
                };
            }
            EspTransformId::AES_CBC => CbcCipher::Aes(self.aes_bits()?),
            EspTransformId::TRIPLE_DES => self.triple_des()?,
            _ => return Err(Phase2Refusal::Cipher(id)),
        };
        let number = self.integrity.ok_or(Phase2Refusal::MissingIntegrity)?;
        let integrity = integrity_from_number(number).ok_or(Phase2Refusal::Integrity(number))?;
        Ok(EspSuite::CbcHmac(cipher, integrity))
    }

    /// RFC 2407 §4.5 forbids to state the length of a fixed key; a peer that states the right
    /// one does no harm, as in phase 1.
    fn triple_des(&self) -> Result<CbcCipher, Phase2Refusal> {
        match self.key_bits {
            None | Some(192) => Ok(CbcCipher::TripleDes),
            Some(other) => Err(Phase2Refusal::FixedKeyLength(other)),
        }
    }

    fn aes_bits(&self) -> Result<AesKeyBits, Phase2Refusal> {
        let bits = self.key_bits.ok_or(Phase2Refusal::MissingKeyLength)?;
        AesKeyBits::from_bits(bits).ok_or(Phase2Refusal::KeyLength(bits))
    }
}

const fn integrity_number(integrity: EspIntegrity) -> u16 {
    match integrity {
        EspIntegrity::HmacMd5_96 => 1,
        EspIntegrity::HmacSha1_96 => 2,
        EspIntegrity::HmacSha256_128 => 5,
        EspIntegrity::HmacSha384_192 => 6,
        EspIntegrity::HmacSha512_256 => 7,
    }
}

const fn integrity_from_number(number: u16) -> Option<EspIntegrity> {
    Some(match number {
        1 => EspIntegrity::HmacMd5_96,
        2 => EspIntegrity::HmacSha1_96,
        5 => EspIntegrity::HmacSha256_128,
        6 => EspIntegrity::HmacSha384_192,
        7 => EspIntegrity::HmacSha512_256,
        _ => return None,
    })
}

/// An ESP transform in words, supported or not: `aes256gcm16-modp2048, tunnel, 3600 s`. What
/// a name is missing for appears as a number, for example `esp7-md5`.
#[must_use]
pub fn describe_phase2(transform: &Transform) -> String {
    let raw = match RawPhase2::collect(transform) {
        Ok(raw) => raw,
        Err(refusal) => return refusal.to_string(),
    };
    let mut words = cipher_words(transform.id(), raw.key_bits);
    match raw.integrity {
        None => {}
        Some(1) => words.push_str("-md5"),
        Some(2) => words.push_str("-sha1"),
        Some(5) => words.push_str("-sha256"),
        Some(6) => words.push_str("-sha384"),
        Some(7) => words.push_str("-sha512"),
        Some(other) => _ = write!(words, "-integrity{other}"),
    }
    match raw
        .group
        .map(|number| (number, DhGroup::from_number(number)))
    {
        None => {}
        Some((_, Some(group))) => _ = write!(words, "-{group}"),
        Some((number, None)) => _ = write!(words, "-group{number}"),
    }
    if raw.extended_sequence.is_some() {
        words.push_str("-esn");
    }
    match raw
        .mode
        .map(|number| (number, EncapsulationMode::from_number(number)))
    {
        None => words.push_str(", no mode"),
        Some((_, Some(mode))) => _ = write!(words, ", {mode}"),
        Some((number, None)) => _ = write!(words, ", mode {number}"),
    }
    if raw.lifetime != Lifetime::default() {
        _ = write!(words, ", {}", raw.lifetime);
    }
    words
}

fn cipher_words(id: u8, key_bits: Option<u16>) -> String {
    let bits = key_bits.map_or_else(String::new, |bits| bits.to_string());
    match EspTransformId(id) {
        EspTransformId::TRIPLE_DES => "3des".to_owned(),
        EspTransformId::NULL => "null".to_owned(),
        EspTransformId::AES_CBC => format!("aes{bits}"),
        EspTransformId::AES_GCM_8 => format!("aes{bits}gcm8"),
        EspTransformId::AES_GCM_12 => format!("aes{bits}gcm12"),
        EspTransformId::AES_GCM_16 => format!("aes{bits}gcm16"),
        EspTransformId(other) if bits.is_empty() => format!("esp{other}"),
        EspTransformId(other) => format!("esp{other}/{bits}"),
    }
}
