//! Data attributes of a transform (RFC 2408 §3.3), and what phases 1 and 2 read them with.

use core::fmt;
use core::time::Duration;

use super::reader::Reader;
use super::{MAX_ATTRIBUTES, Rule};

/// The AF bit: the value follows in place of a length.
const SHORT: u16 = 0x8000;

/// An attribute type, without the AF bit. The meaning differs between phase 1 (RFC 2409
/// Appendix A) and phase 2 (RFC 2407 §4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttributeType(pub u16);

impl fmt::Display for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The value in one of the two forms of the wire; the form is kept, because a responder
/// returns the chosen transform exactly as it was offered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AttributeValue {
    /// AF = 1: two bytes in place.
    Short(u16),
    /// AF = 0: length and value.
    Long(Vec<u8>),
}

/// Type and value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attribute {
    kind: AttributeType,
    value: AttributeValue,
}

impl Attribute {
    /// The longest value of a variable-length attribute; a MODP-8192 prime of new group mode.
    pub const MAX_LEN: usize = 1024;

    /// An attribute in either form.
    ///
    /// # Errors
    /// [`Rule::AttributeType`] when the type takes the place of the AF bit,
    /// [`Rule::EmptyAttribute`] and [`Rule::TooLong`] for a long form of 0 or more than
    /// 1,024 bytes.
    pub fn new(kind: AttributeType, value: AttributeValue) -> Result<Self, Rule> {
        if kind.0 & SHORT != 0 {
            return Err(Rule::AttributeType(kind.0));
        }
        if let AttributeValue::Long(bytes) = &value {
            match bytes.len() {
                0 => return Err(Rule::EmptyAttribute(kind.0)),
                1..=Self::MAX_LEN => {}
                len => return Err(Rule::TooLong(len)),
            }
        }
        Ok(Self { kind, value })
    }

    /// The short form, for types this crate knows.
    pub(super) const fn short(kind: AttributeType, value: u16) -> Self {
        Self {
            kind: AttributeType(kind.0 & !SHORT),
            value: AttributeValue::Short(value),
        }
    }

    /// A number in the short form if it fits, else in the long form of 4 or 8 bytes.
    pub(super) fn number(kind: AttributeType, number: u64) -> Self {
        let value = if let Ok(short) = u16::try_from(number) {
            AttributeValue::Short(short)
        } else if let Ok(word) = u32::try_from(number) {
            AttributeValue::Long(word.to_be_bytes().to_vec())
        } else {
            AttributeValue::Long(number.to_be_bytes().to_vec())
        };
        Self { kind, value }
    }

    /// The type.
    #[must_use]
    pub const fn kind(&self) -> AttributeType {
        self.kind
    }

    /// The value in the form it has on the wire.
    #[must_use]
    pub const fn value(&self) -> &AttributeValue {
        &self.value
    }

    /// The value as a number; `None` when it needs more than 64 bits.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match &self.value {
            AttributeValue::Short(value) => Some(u64::from(*value)),
            AttributeValue::Long(bytes) => bytes.iter().try_fold(0_u64, |number, byte| {
                let shifted = number.checked_mul(256)?;
                Some(shifted | u64::from(*byte))
            }),
        }
    }

    /// The value of an attribute that the RFCs call basic, which has the short form only.
    pub(super) const fn as_basic(&self) -> Result<u16, AttributeRefusal> {
        match self.value {
            AttributeValue::Short(value) => Ok(value),
            AttributeValue::Long(_) => Err(AttributeRefusal::NotBasic(self.kind)),
        }
    }

    fn parse(reader: &mut Reader<'_>) -> Result<Self, Rule> {
        let kind = reader.u16()?;
        let field = reader.u16()?;
        let value = if kind & SHORT == 0 {
            AttributeValue::Long(reader.take(usize::from(field))?.to_vec())
        } else {
            AttributeValue::Short(field)
        };
        Self::new(AttributeType(kind & !SHORT), value)
    }

    pub(super) fn parse_list(bytes: &[u8]) -> Result<Vec<Self>, Rule> {
        let mut reader = Reader::new(bytes);
        let mut attributes = Vec::new();
        while !reader.is_empty() {
            if attributes.len() == MAX_ATTRIBUTES {
                return Err(Rule::TooManyAttributes);
            }
            attributes.push(Self::parse(&mut reader)?);
        }
        Ok(attributes)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match &self.value {
            AttributeValue::Short(value) => {
                out.extend_from_slice(&(self.kind.0 | SHORT).to_be_bytes());
                out.extend_from_slice(&value.to_be_bytes());
            }
            AttributeValue::Long(bytes) => {
                let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
                out.extend_from_slice(&self.kind.0.to_be_bytes());
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(bytes);
            }
        }
    }
}

/// Attributes of one transform that contradict each other or their own definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AttributeRefusal {
    /// RFC 2409 Appendix A, RFC 2407 §4.5: basic attributes have the short form.
    #[error("attribute {0} is basic but has a variable length")]
    NotBasic(AttributeType),
    /// Twice, with different values (RFC 2407 §4.5.3).
    #[error("attribute {0} appears twice with different values")]
    Conflicting(AttributeType),
    /// A life type that is neither seconds nor kilobytes.
    #[error("life type {0} is neither seconds nor kilobytes")]
    LifeType(u16),
    /// A life type without its duration, or a duration without its type.
    #[error("life type and life duration do not come in pairs")]
    LifeUnpaired,
    /// A duration that needs more than 64 bits.
    #[error("the life duration is beyond 64 bits")]
    LifeDuration,
}

/// Unit of a life duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LifetimeUnit {
    /// 1.
    Seconds,
    /// 2: units of 1,024 bytes.
    Kilobytes,
}

impl LifetimeUnit {
    const fn number(self) -> u16 {
        match self {
            Self::Seconds => 1,
            Self::Kilobytes => 2,
        }
    }

    const fn from_number(number: u16) -> Result<Self, AttributeRefusal> {
        match number {
            1 => Ok(Self::Seconds),
            2 => Ok(Self::Kilobytes),
            other => Err(AttributeRefusal::LifeType(other)),
        }
    }
}

/// What a transform says about its life; `None` where it says nothing, or 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Lifetime {
    /// In seconds.
    pub seconds: Option<u64>,
    /// In units of 1,024 bytes.
    pub kilobytes: Option<u64>,
}

impl Lifetime {
    /// A lifetime in seconds only; parts of a second are cut off.
    #[must_use]
    pub const fn from_time(time: Duration) -> Self {
        Self {
            seconds: Some(time.as_secs()),
            kilobytes: None,
        }
    }

    /// The lifetime in seconds as a duration.
    #[must_use]
    pub fn time(&self) -> Option<Duration> {
        self.seconds.map(Duration::from_secs)
    }

    /// The (type, duration) pairs of a notification or transform, with the given types.
    pub(super) fn attributes(&self, types: LifeTypes) -> Vec<Attribute> {
        let units = [
            (LifetimeUnit::Seconds, self.seconds),
            (LifetimeUnit::Kilobytes, self.kilobytes),
        ];
        let mut attributes = Vec::new();
        for (unit, duration) in units {
            if let Some(duration) = duration {
                attributes.push(Attribute::short(types.unit, unit.number()));
                attributes.push(Attribute::number(types.duration, duration));
            }
        }
        attributes
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.seconds, self.kilobytes) {
            (None, None) => f.write_str("no lifetime"),
            (Some(seconds), None) => write!(f, "{seconds} s"),
            (None, Some(kilobytes)) => write!(f, "{kilobytes} kB"),
            (Some(seconds), Some(kilobytes)) => write!(f, "{seconds} s, {kilobytes} kB"),
        }
    }
}

/// The attribute types that carry lifetimes: 11 and 12 in phase 1, 1 and 2 in phase 2.
#[derive(Debug, Clone, Copy)]
pub(super) struct LifeTypes {
    pub(super) unit: AttributeType,
    pub(super) duration: AttributeType,
}

/// Collects (type, duration) pairs in the order in which they come.
#[derive(Debug)]
pub(super) struct LifetimeReader {
    types: LifeTypes,
    open_unit: Option<LifetimeUnit>,
    lifetime: Lifetime,
}

impl LifetimeReader {
    pub(super) fn new(types: LifeTypes) -> Self {
        Self {
            types,
            open_unit: None,
            lifetime: Lifetime::default(),
        }
    }

    /// Takes the attribute if it belongs to a lifetime; false when it does not.
    pub(super) fn accept(&mut self, attribute: &Attribute) -> Result<bool, AttributeRefusal> {
        if attribute.kind() == self.types.unit {
            if self.open_unit.is_some() {
                return Err(AttributeRefusal::LifeUnpaired);
            }
            self.open_unit = Some(LifetimeUnit::from_number(attribute.as_basic()?)?);
            return Ok(true);
        }
        if attribute.kind() != self.types.duration {
            return Ok(false);
        }
        let Some(unit) = self.open_unit.take() else {
            return Err(AttributeRefusal::LifeUnpaired);
        };
        let duration = attribute.as_u64().ok_or(AttributeRefusal::LifeDuration)?;
        if duration == 0 {
            // strongSwan without a lifetime of its own says "0 seconds" and means no limit.
            return Ok(true);
        }
        let slot = match unit {
            LifetimeUnit::Seconds => &mut self.lifetime.seconds,
            LifetimeUnit::Kilobytes => &mut self.lifetime.kilobytes,
        };
        set_once(slot, duration, self.types.duration)?;
        Ok(true)
    }

    pub(super) fn finish(self) -> Result<Lifetime, AttributeRefusal> {
        match self.open_unit {
            Some(_) => Err(AttributeRefusal::LifeUnpaired),
            None => Ok(self.lifetime),
        }
    }
}

/// Fills a slot; the same value twice is harmless, two values are not (RFC 2407 §4.5.3).
pub(super) fn set_once<T: PartialEq>(
    slot: &mut Option<T>,
    value: T,
    kind: AttributeType,
) -> Result<(), AttributeRefusal> {
    match slot {
        Some(old) if *old != value => Err(AttributeRefusal::Conflicting(kind)),
        Some(_) => Ok(()),
        None => {
            *slot = Some(value);
            Ok(())
        }
    }
}
