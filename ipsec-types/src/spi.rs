//! Security Parameters Index (RFC 4303 §2.1).

use core::fmt;

use serde::{Deserialize, Serialize};

/// A Security Parameters Index that may name an SA: never 0 ("no SA exists") and never
/// 1 to 255 (reserved by IANA, RFC 4303 §2.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Spi(u32);

/// The value lies in 0..=255, which RFC 4303 §2.1 reserves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("SPI {0} is reserved (RFC 4303 section 2.1 allows 256 and above)")]
pub struct ReservedSpi(pub u32);

impl Spi {
    /// The smallest SPI an SA may have.
    pub const MIN: Self = Self(256);

    /// Checks a value from the wire or from a random source.
    ///
    /// # Errors
    /// [`ReservedSpi`] when the value is below 256.
    pub const fn new(value: u32) -> Result<Self, ReservedSpi> {
        if value < 256 {
            Err(ReservedSpi(value))
        } else {
            Ok(Self(value))
        }
    }

    /// The value in host byte order.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The four bytes as they stand in an ESP header or an ISAKMP proposal.
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }
}

impl TryFrom<u32> for Spi {
    type Error = ReservedSpi;

    fn try_from(value: u32) -> Result<Self, ReservedSpi> {
        Self::new(value)
    }
}

impl From<Spi> for u32 {
    fn from(spi: Spi) -> Self {
        spi.0
    }
}

impl fmt::Debug for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spi({self})")
    }
}

impl fmt::Display for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_values_are_refused() {
        assert_eq!(Spi::new(0), Err(ReservedSpi(0)));
        assert_eq!(Spi::new(255), Err(ReservedSpi(255)));
        assert_eq!(Spi::new(256), Ok(Spi::MIN));
    }

    #[test]
    fn display_is_what_tshark_prints() {
        assert_eq!(Spi::new(0xc0de).unwrap().to_string(), "0x0000c0de");
    }
}
