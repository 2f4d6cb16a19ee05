//! AES-CBC encryption of several packets at once.
//!
//! Within a packet CBC is serial: each block waits for the one before, and the AES unit stands
//! idle for most of its latency. Packets do not wait for each other, so eight of them advance
//! side by side, one block each per step:
//!
//! ```text
//!   step      1     2     3    ...
//!   lane 0   A.0   A.1   A.2        A is done: the next packet takes its lane
//!   lane 1   B.0   B.1   B.2
//!    ...
//!   lane 7   H.0   H.1   H.2
//! ```
//!
//! Decryption needs none of this: there each block depends on ciphertext only.

use aes::cipher::{
    Array, Block, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser,
    consts::U16,
};

/// Packets in flight. Eight hide the latency of the AES unit on current CPUs, and their chain
/// values fit into the vector registers.
pub(crate) const LANES: usize = 8;
/// AES block length in bytes.
const BLOCK: usize = 16;

/// One packet to encrypt: where its IV and, right behind it, its plaintext stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CbcJob {
    /// Offset of the IV, one block of the cipher; it is read and stays.
    pub(crate) iv: usize,
    /// Number of blocks that follow the IV.
    pub(crate) blocks: usize,
}

/// Encrypts the packets in `buf` in place. A job that does not lie within `buf` is left alone.
/// Jobs must not overlap; if they do, their ciphertexts are garbage and nothing else.
#[inline]
pub(crate) fn encrypt<C>(cipher: &C, buf: &mut [u8], jobs: impl Iterator<Item = CbcJob>)
where
    C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    cipher.encrypt_with_backend(Interleaved { buf, jobs });
}

/// The work as the cipher crate wants it: called once with the fastest implementation.
struct Interleaved<'a, J> {
    buf: &'a mut [u8],
    jobs: J,
}

impl<J> BlockSizeUser for Interleaved<'_, J> {
    type BlockSize = U16;
}

impl<J: Iterator<Item = CbcJob>> BlockCipherEncClosure for Interleaved<'_, J> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let Self { buf, jobs } = self;
        let buf_len = buf.len();
        let mut jobs = jobs.filter(|job| job.blocks > 0 && fits(job, buf_len));
        let mut lanes = [Lane::IDLE; LANES];
        loop {
            // Idle lanes sink to the end, where the next packets wake them.
            let mut busy = 0;
            for i in 0..LANES {
                let lane = match lanes.get(i) {
                    Some(lane) if lane.left > 0 => *lane,
                    Some(_) | None => match jobs.next() {
                        Some(job) => Lane::start(job, buf),
                        None => continue,
                    },
                };
                if let Some(slot) = lanes.get_mut(i) {
                    slot.left = 0;
                }
                if let Some(slot) = lanes.get_mut(busy) {
                    *slot = lane;
                    busy += 1;
                }
            }
            let Some(active) = lanes.get_mut(..busy) else {
                return;
            };
            let Some(steps) = active.iter().map(|lane| lane.left).min() else {
                return;
            };
            match active.first_chunk_mut::<LANES>() {
                // The width is a constant here, so the loop over lanes unrolls.
                Some(all) => advance(backend, buf, all, steps),
                None => advance(backend, buf, active, steps),
            }
        }
    }
}

/// A packet under way.
#[derive(Clone, Copy)]
struct Lane {
    /// Offset of the next block.
    at: usize,
    /// Blocks left; 0 is an idle lane.
    left: usize,
    /// The last ciphertext block, at first the IV.
    chain: Block<BlockWidth>,
}

/// Names the block length for [`Block`].
#[derive(Clone, Copy)]
struct BlockWidth;

impl BlockSizeUser for BlockWidth {
    type BlockSize = U16;
}

impl Lane {
    const IDLE: Self = Self {
        at: 0,
        left: 0,
        chain: Array([0; BLOCK]),
    };

    #[inline(always)]
    fn start(job: CbcJob, buf: &[u8]) -> Self {
        let iv = buf
            .get(job.iv..)
            .and_then(<[u8]>::first_chunk::<BLOCK>)
            .copied()
            .unwrap_or_default();
        Self {
            at: job.iv + BLOCK,
            left: job.blocks,
            chain: Array(iv),
        }
    }
}

/// True when IV and blocks lie within the buffer.
fn fits(job: &CbcJob, buf_len: usize) -> bool {
    job.blocks
        .checked_add(1)
        .and_then(|blocks| blocks.checked_mul(BLOCK))
        .and_then(|len| len.checked_add(job.iv))
        .is_some_and(|end| end <= buf_len)
}

/// Encrypts `steps` blocks in every lane.
#[inline(always)]
fn advance<B: BlockCipherEncBackend<BlockSize = U16>>(
    backend: &B,
    buf: &mut [u8],
    lanes: &mut [Lane],
    steps: usize,
) {
    for _ in 0..steps {
        for lane in lanes.iter_mut() {
            let Some(block) = buf
                .get_mut(lane.at..)
                .and_then(<[u8]>::first_chunk_mut::<BLOCK>)
            else {
                continue;
            };
            let mixed = u128::from_ne_bytes(*block) ^ u128::from_ne_bytes(lane.chain.0);
            lane.chain = Array(mixed.to_ne_bytes());
            backend.encrypt_block_inplace(&mut lane.chain);
            *block = lane.chain.0;
            lane.at += BLOCK;
        }
    }
    for lane in lanes {
        lane.left = lane.left.saturating_sub(steps);
    }
}
