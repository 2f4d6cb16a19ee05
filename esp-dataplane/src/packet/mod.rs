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
pub(crate) use open::{authenticate_train, check_train};
pub use seal::{SealSlot, Sealed, seal_train};

use ipsec_types::Spi;

/// SPI and all 64 bits of an extended sequence number: what an AEAD authenticates with ESN
/// (RFC 4106 §5). Without ESN it authenticates the ESP header as it stands.
#[inline(always)]
fn esn_aad(spi: Spi, seq: u64) -> [u8; 12] {
    let aad = u128::from(spi.get()) << 96 | u128::from(seq) << 32;
    let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = aad.to_be_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l]
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
