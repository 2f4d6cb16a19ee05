//! The Internet checksum (RFC 1071) and how to change a field under it (RFC 1624).
//!
//! Sums run over native-endian words: the ones-complement sum is the same in either byte
//! order as long as it is stored the way it was read (RFC 1071 §2(B)).

mod lanes;

/// Bytes that [`lanes`] take at a time.
const BLOCK: usize = 64;

/// A running ones-complement sum. Order of additions does not matter, but every slice except
/// the last one must have an even length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The empty sum.
    pub const ZERO: Self = Self(0);

    /// Adds `bytes`; an odd last byte is padded with zero (RFC 1071 §1).
    #[must_use]
    #[inline]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        let mut total = self.0;
        if !blocks.is_empty() {
            total += lanes::sum(blocks);
        }
        let (words, rest) = rest.as_chunks::<4>();
        for word in words {
            total += u64::from(u32::from_ne_bytes(*word));
        }
        let (pairs, odd) = rest.as_chunks::<2>();
        for pair in pairs {
            total += u64::from(u16::from_ne_bytes(*pair));
        }
        if let [last] = odd {
            total += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        Self((total & 0xffff_ffff) + (total >> 32))
    }

    /// Adds one 16-bit value given in host order, as it would stand on the wire.
    #[must_use]
    pub fn word(self, value: u16) -> Self {
        Self(self.0 + u64::from(u16::from_ne_bytes(value.to_be_bytes())))
    }

    /// Adds another sum, whose bytes begin at an even offset of the same coverage.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        // Both are below 2^40: `bytes` folds to 33 bits, `word` adds 16.
        Self(self.0 + other.0)
    }

    /// The folded sum, not complemented, as two wire bytes: what a partial checksum holds.
    #[must_use]
    pub fn folded(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        // Folding leaves at most 16 bits.
        u16::try_from(sum).unwrap_or(0).to_ne_bytes()
    }

    /// The checksum field: the complement of the folded sum, as two wire bytes.
    #[must_use]
    pub fn complement(self) -> [u8; 2] {
        let [a, b] = self.folded();
        [!a, !b]
    }

    /// True when a sum that included the checksum field shows an intact packet.
    #[must_use]
    pub fn is_intact(self) -> bool {
        self.folded() == [0xff, 0xff]
    }
}

/// New value of a checksum field after one 16-bit field below it changed (RFC 1624 §3, eqn. 3).
#[must_use]
pub fn adjust(checksum: [u8; 2], old: [u8; 2], new: [u8; 2]) -> [u8; 2] {
    let complement = |[a, b]: [u8; 2]| [!a, !b];
    Sum::ZERO
        .bytes(&complement(checksum))
        .bytes(&complement(old))
        .bytes(&new)
        .complement()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Straight from RFC 1071 §4.1, one word at a time.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    proptest! {
        #[test]
        fn lanes_agree_with_the_plain_sum(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let sum = u16::from_be_bytes(Sum::ZERO.bytes(&bytes).folded());
            prop_assert_eq!(sum, plain(&bytes));
        }

        #[test]
        fn adjusting_is_recomputing(mut bytes in proptest::collection::vec(any::<u8>(), 8..64), new: [u8; 2]) {
            bytes.truncate(bytes.len() & !1);
            let before = Sum::ZERO.bytes(&bytes).complement();
            let old = [bytes[4], bytes[5]];
            bytes[4..6].copy_from_slice(&new);
            let adjusted = adjust(before, old, new);
            // Both representations of zero are fine; what counts is that the packet verifies.
            prop_assert!(Sum::ZERO.bytes(&bytes).bytes(&adjusted).is_intact()
                || Sum::ZERO.bytes(&bytes).complement() == adjusted);
        }
    }

    #[test]
    fn a_word_is_added_in_wire_order() {
        assert_eq!(Sum::ZERO.word(0x1234), Sum::ZERO.bytes(&[0x12, 0x34]));
    }
}
