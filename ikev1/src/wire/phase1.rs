//! What a phase-1 transform means (RFC 2409 Appendix A).

use core::fmt::Write as _;

use super::attribute::{LifeTypes, LifetimeReader, set_once};
use super::{Attribute, AttributeRefusal, AttributeType, Lifetime, Transform};
use crate::crypto::{DhGroup, HashAlgorithm, Phase1Cipher, Phase1Suite};
use ipsec_types::AesKeyBits;

const ENCRYPTION: AttributeType = AttributeType(1);
const HASH: AttributeType = AttributeType(2);
const AUTHENTICATION: AttributeType = AttributeType(3);
const GROUP: AttributeType = AttributeType(4);
const KEY_LENGTH: AttributeType = AttributeType(14);
/// Lifetimes of phase 1.
pub(super) const LIFE: LifeTypes = LifeTypes {
    unit: AttributeType(11),
    duration: AttributeType(12),
};

/// The only transform id of protocol ISAKMP (RFC 2407 §4.4.2).
const KEY_IKE: u8 = 1;
const TRIPLE_DES_CBC: u16 = 5;
const AES_CBC: u16 = 7;
const PRE_SHARED_KEY: u16 = 1;

/// A phase-1 transform that can be carried out: always with a pre-shared key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Phase1Transform {
    /// Cipher, hash and group.
    pub suite: Phase1Suite,
    /// How long the IKE SA may live.
    pub lifetime: Lifetime,
}

/// Why a phase-1 transform cannot be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Phase1Refusal {
    /// Malformed or contradicting attributes.
    #[error(transparent)]
    Attribute(#[from] AttributeRefusal),
    /// Not KEY_IKE.
    #[error("transform id {0} is not KEY_IKE")]
    TransformId(u8),
    /// An attribute without which the transform says nothing.
    #[error("no {0}")]
    Missing(&'static str),
    /// A cipher, or a key length, that is not supported.
    #[error("encryption {algorithm}{} is not supported", KeyBits(*.key_bits))]
    Encryption {
        /// Encryption algorithm.
        algorithm: u16,
        /// Key length in bits, if given.
        key_bits: Option<u16>,
    },
    /// A hash that is not supported.
    #[error("hash {0} is not supported")]
    Hash(u16),
    /// An authentication method other than a pre-shared key.
    #[error("authentication method {0} is not pre-shared key")]
    Authentication(u16),
    /// A group that is not supported.
    #[error("DH group {0} is not supported")]
    Group(u16),
    /// A negotiated prf (none is registered), a group by its parameters, or an unknown type.
    #[error("attribute {0} is not supported")]
    Unsupported(AttributeType),
}

struct KeyBits(Option<u16>);

impl core::fmt::Display for KeyBits {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Some(bits) => write!(f, " with a key of {bits} bits"),
            None => Ok(()),
        }
    }
}

impl Phase1Transform {
    /// The transform as an offer writes it.
    #[must_use]
    pub fn to_transform(&self, number: u8) -> Transform {
        let Phase1Suite {
            cipher,
            hash,
            group,
        } = self.suite;
        let mut attributes = vec![
            Attribute::short(ENCRYPTION, cipher.number()),
            Attribute::short(HASH, hash.number()),
            Attribute::short(AUTHENTICATION, PRE_SHARED_KEY),
            Attribute::short(GROUP, group.number()),
        ];
        if let Some(bits) = cipher.key_length_attribute() {
            attributes.push(Attribute::short(KEY_LENGTH, bits));
        }
        attributes.extend(self.lifetime.attributes(LIFE));
        Transform::of_few(number, KEY_IKE, attributes)
    }

    /// Reads an offered or chosen transform.
    ///
    /// # Errors
    /// The first attribute that cannot be carried out, by name.
    pub fn from_transform(transform: &Transform) -> Result<Self, Phase1Refusal> {
        if transform.id() != KEY_IKE {
            return Err(Phase1Refusal::TransformId(transform.id()));
        }
        let raw = RawPhase1::collect(transform)?;
        if let Some(kind) = raw.unsupported {
            return Err(Phase1Refusal::Unsupported(kind));
        }
        let algorithm = raw
            .encryption
            .ok_or(Phase1Refusal::Missing("encryption algorithm"))?;
        let hash = raw.hash.ok_or(Phase1Refusal::Missing("hash algorithm"))?;
        let authentication = raw
            .authentication
            .ok_or(Phase1Refusal::Missing("authentication method"))?;
        let group = raw.group.ok_or(Phase1Refusal::Missing("DH group"))?;
        if authentication != PRE_SHARED_KEY {
            return Err(Phase1Refusal::Authentication(authentication));
        }
        Ok(Self {
            suite: Phase1Suite {
                cipher: cipher(algorithm, raw.key_bits)?,
                hash: HashAlgorithm::from_number(hash).ok_or(Phase1Refusal::Hash(hash))?,
                group: DhGroup::from_number(group).ok_or(Phase1Refusal::Group(group))?,
            },
            lifetime: raw.lifetime,
        })
    }
}

/// The attributes as numbers, before anything is judged.
#[derive(Debug, Default)]
struct RawPhase1 {
    encryption: Option<u16>,
    key_bits: Option<u16>,
    hash: Option<u16>,
    authentication: Option<u16>,
    group: Option<u16>,
    lifetime: Lifetime,
    unsupported: Option<AttributeType>,
}

impl RawPhase1 {
    fn collect(transform: &Transform) -> Result<Self, AttributeRefusal> {
        let mut raw = Self::default();
        let mut lifetime = LifetimeReader::new(LIFE);
        for attribute in transform.attributes() {
            if lifetime.accept(attribute)? {
                continue;
            }
            let kind = attribute.kind();
            let slot = match kind {
                ENCRYPTION => &mut raw.encryption,
                HASH => &mut raw.hash,
                AUTHENTICATION => &mut raw.authentication,
                GROUP => &mut raw.group,
                KEY_LENGTH => &mut raw.key_bits,
                _ => {
                    raw.unsupported.get_or_insert(kind);
                    continue;
                }
            };
            set_once(slot, attribute.as_basic()?, kind)?;
        }
        raw.lifetime = lifetime.finish()?;
        Ok(raw)
    }
}

/// DES is never accepted; AES needs its key length (RFC 3602 §5.3).
const fn cipher(algorithm: u16, key_bits: Option<u16>) -> Result<Phase1Cipher, Phase1Refusal> {
    let refused = Phase1Refusal::Encryption {
        algorithm,
        key_bits,
    };
    match (algorithm, key_bits) {
        (TRIPLE_DES_CBC, None | Some(192)) => Ok(Phase1Cipher::TripleDesCbc),
        (AES_CBC, Some(bits)) => match AesKeyBits::from_bits(bits) {
            Some(bits) => Ok(Phase1Cipher::AesCbc(bits)),
            None => Err(refused),
        },
        (AES_CBC, None) => Err(Phase1Refusal::Missing("AES key length")),
        _ => Err(refused),
    }
}

/// A phase-1 transform in words, supported or not: `aes256-sha1-modp1024, 28800 s`. What a
/// name is missing for appears as a number, for example `encryption1-md5-group22`.
#[must_use]
pub fn describe_phase1(transform: &Transform) -> String {
    let raw = match RawPhase1::collect(transform) {
        Ok(raw) => raw,
        Err(refusal) => return refusal.to_string(),
    };
    let mut words = match (raw.encryption, raw.key_bits) {
        (None, _) => "no encryption".to_owned(),
        (Some(AES_CBC), Some(bits)) => format!("aes{bits}"),
        (Some(TRIPLE_DES_CBC), _) => "3des".to_owned(),
        (Some(other), Some(bits)) => format!("encryption{other}/{bits}"),
        (Some(other), None) => format!("encryption{other}"),
    };
    match raw
        .hash
        .map(|number| (number, HashAlgorithm::from_number(number)))
    {
        None => words.push_str("-no hash"),
        Some((_, Some(hash))) => _ = write!(words, "-{hash}"),
        Some((number, None)) => _ = write!(words, "-hash{number}"),
    }
    match raw
        .group
        .map(|number| (number, DhGroup::from_number(number)))
    {
        None => words.push_str("-no group"),
        Some((_, Some(group))) => _ = write!(words, "-{group}"),
        Some((number, None)) => _ = write!(words, "-group{number}"),
    }
    match raw.authentication {
        None => words.push_str(", no authentication method"),
        Some(PRE_SHARED_KEY) => {}
        Some(other) => _ = write!(words, ", authentication {other}"),
    }
    if raw.lifetime != Lifetime::default() {
        _ = write!(words, ", {}", raw.lifetime);
    }
    words
}
