//! Vendor ids: how a peer announces an extension (RFC 2408 §3.16).

use super::Rule;
use super::payload::checked_body;

/// A vendor id, known or not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VendorId(Vec<u8>);

/// The vendor ids that change what we do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KnownVendor {
    /// Dead peer detection (RFC 3706), version 1.0; another version is read as this one.
    DeadPeerDetection,
    /// NAT traversal (RFC 3947).
    NatT,
    /// NAT traversal, draft 03.
    NatTDraft03,
    /// NAT traversal, draft 02 as most peers spell it: hashed with a line feed at the end.
    NatTDraft02Lf,
    /// NAT traversal, draft 02.
    NatTDraft02,
    /// IKE fragmentation; Cisco peers append 4 bytes of capabilities.
    Fragmentation,
    /// The sender is one of a load-balanced cluster (MS-IKEE).
    NlbsPresent,
}

impl KnownVendor {
    /// Every known vendor id.
    pub const ALL: [Self; 7] = [
        Self::DeadPeerDetection,
        Self::NatT,
        Self::NatTDraft03,
        Self::NatTDraft02Lf,
        Self::NatTDraft02,
        Self::Fragmentation,
        Self::NlbsPresent,
    ];

    /// The bytes we send.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        match self {
            Self::DeadPeerDetection => {
                *b"\xaf\xca\xd7\x13\x68\xa1\xf1\xc9\x6b\x86\x96\xfc\x77\x57\x01\x00"
            }
            Self::NatT => *b"\x4a\x13\x1c\x81\x07\x03\x58\x45\x5c\x57\x28\xf2\x0e\x95\x45\x2f",
            Self::NatTDraft03 => {
                *b"\x7d\x94\x19\xa6\x53\x10\xca\x6f\x2c\x17\x9d\x92\x15\x52\x9d\x56"
            }
            Self::NatTDraft02Lf => {
                *b"\x90\xcb\x80\x91\x3e\xbb\x69\x6e\x08\x63\x81\xb5\xec\x42\x7b\x1f"
            }
            Self::NatTDraft02 => {
                *b"\xcd\x60\x46\x43\x35\xdf\x21\xf8\x7c\xfd\xb2\xfc\x68\xb6\xa4\x48"
            }
            Self::Fragmentation => {
                *b"\x40\x48\xb7\xd5\x6e\xbc\xe8\x85\x25\xe7\xde\x7f\x00\xd6\xc2\xd3"
            }
            Self::NlbsPresent => {
                *b"\x72\x87\x2b\x95\xfc\xda\x2e\xb7\x08\xef\xe3\x22\x11\x9b\x49\x71"
            }
        }
    }

    /// True when `id` announces it: equal, but for the parts that carry a version.
    fn matches(self, id: &[u8]) -> bool {
        let bytes = self.bytes();
        match self {
            // The last two bytes are the major and minor version (RFC 3706 §5.1).
            Self::DeadPeerDetection => {
                id.len() == bytes.len() && bytes.split_at(14).0 == id.split_at(14).0
            }
            Self::Fragmentation => id.starts_with(&bytes),
            Self::NatT
            | Self::NatTDraft03
            | Self::NatTDraft02Lf
            | Self::NatTDraft02
            | Self::NlbsPresent => id == bytes,
        }
    }
}

impl VendorId {
    /// A vendor id.
    ///
    /// # Errors
    /// [`Rule::Empty`] without bytes, [`Rule::TooLong`] when it does not fit a payload.
    pub fn new(id: Vec<u8>) -> Result<Self, Rule> {
        if id.is_empty() {
            return Err(Rule::Empty);
        }
        checked_body(id).map(Self)
    }

    /// What it announces; `None` for those that change nothing.
    #[must_use]
    pub fn known(&self) -> Option<KnownVendor> {
        KnownVendor::ALL
            .into_iter()
            .find(|vendor| vendor.matches(&self.0))
    }

    /// The id.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl From<KnownVendor> for VendorId {
    fn from(vendor: KnownVendor) -> Self {
        Self(vendor.bytes().to_vec())
    }
}
