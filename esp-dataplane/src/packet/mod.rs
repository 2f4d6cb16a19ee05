//! ESP packets in tunnel mode (RFC 4303 §2), sealed and opened in place.
//!
//! ```text
//!   | SPI 4 | sequence 4 | IV 8 or 16 | inner packet | padding | pad len 1 | next hdr 1 | ICV |
//!   |<------ header_len ------------->|<------------ encrypted ---------------------->|
//!   |<----------------------- authenticated ----------------------------------------->|
//! ```
//!
//! The unit of work is a **train**: packets that lie in one buffer, each in a slot of its own,
//! and share an SA. The caller leaves [`crate::OutboundSa::header_len`] bytes in front of each
//! inner packet and room for padding, trailer and ICV behind it; nothing is ever moved.

mod open;
mod seal;

pub use open::{OpenSlot, Opened, OpenedTrain, open, open_train, spi_of};
pub use seal::{SealSlot, Sealed, seal_train};

use ipsec_types::Spi;

/// What is authenticated in front of the ciphertext of an AEAD (RFC 4106 §5): SPI and sequence
/// number, with ESN all 64 bits of it.
#[derive(Clone, Copy)]
struct Aad {
    bytes: [u8; 12],
    len: usize,
}

impl Aad {
    #[inline(always)]
    fn new(spi: Spi, seq: u64, esn: bool) -> Self {
        let [s0, s1, s2, s3] = spi.to_be_bytes();
        let [h0, h1, h2, h3, l0, l1, l2, l3] = seq.to_be_bytes();
        if esn {
            Self {
                bytes: [s0, s1, s2, s3, h0, h1, h2, h3, l0, l1, l2, l3],
                len: 12,
            }
        } else {
            Self {
                bytes: [s0, s1, s2, s3, l0, l1, l2, l3, 0, 0, 0, 0],
                len: 8,
            }
        }
    }

    #[inline(always)]
    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The part of an ESN that a separate integrity transform authenticates behind the ciphertext
/// (RFC 4303 §2.2.1); empty without ESN.
#[derive(Clone, Copy)]
struct EsnHigh {
    bytes: [u8; 4],
    len: usize,
}

impl EsnHigh {
    #[inline(always)]
    fn new(seq: u64, esn: bool) -> Self {
        Self {
            bytes: ((seq >> 32) as u32).to_be_bytes(),
            len: if esn { 4 } else { 0 },
        }
    }

    #[inline(always)]
    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
