//! The long part of a sum, in as wide vectors as the CPU has.

use super::BLOCK;

/// The sum of the blocks' 32-bit words. A lane takes one word of a block, and holds 2^32 of them
/// before it can overflow: a packet has at most 2^10 blocks.
#[inline]
pub(super) fn sum(blocks: &[[u8; BLOCK]]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if let Some(sum) = avx2::sum(blocks) {
        return sum;
    }
    add_up(blocks)
}

/// As many lanes as words, which the compiler keeps in vector registers.
#[inline(always)]
fn add_up(blocks: &[[u8; BLOCK]]) -> u64 {
    let mut lanes = [0_u64; BLOCK / 4];
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    lanes.iter().sum()
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "code for a CPU with AVX2 is called on one")]
mod avx2 {
    use super::{BLOCK, add_up};

    /// [`add_up`] with vectors of four lanes; `None` where the CPU has none.
    #[inline]
    pub(super) fn sum(blocks: &[[u8; BLOCK]]) -> Option<u64> {
        #[target_feature(enable = "avx2")]
        fn wide(blocks: &[[u8; BLOCK]]) -> u64 {
            add_up(blocks)
        }
        if !is_x86_feature_detected!("avx2") {
            return None;
        }
        // SAFETY: the CPU has AVX2, and that is all that `wide` asks for.
        Some(unsafe { wide(blocks) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_sums_the_same() {
        for count in [0, 1, 5, 1023] {
            let mut next = 0_u8;
            let blocks: Vec<[u8; BLOCK]> = (0..count)
                .map(|_| {
                    core::array::from_fn(|_| {
                        next = next.wrapping_mul(5).wrapping_add(0x8b);
                        next
                    })
                })
                .collect();
            let words = blocks.iter().flat_map(|block| block.as_chunks::<4>().0);
            let plain: u64 = words.map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
            assert_eq!((add_up(&blocks), sum(&blocks)), (plain, plain), "{count}");
        }
    }
}
