//! NAT discovery and original address (RFC 3947 §3 and §5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::reader::Reader;
use super::{CookiePair, PayloadType, Rule};
use crate::crypto::HashAlgorithm;

/// Which payload numbers, and which encapsulation modes in phase 2, a peer uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum NatDialect {
    /// Payloads 20 and 21, modes 3 and 4.
    Rfc3947,
    /// Drafts 02 and 03: payloads 130 and 131, modes 61443 and 61444.
    Draft,
}

impl NatDialect {
    pub(super) const fn of(kind: PayloadType) -> Self {
        match kind {
            PayloadType::NAT_D_DRAFT | PayloadType::NAT_OA_DRAFT => Self::Draft,
            _ => Self::Rfc3947,
        }
    }

    pub(super) const fn nat_d(self) -> PayloadType {
        match self {
            Self::Rfc3947 => PayloadType::NAT_D,
            Self::Draft => PayloadType::NAT_D_DRAFT,
        }
    }

    pub(super) const fn nat_oa(self) -> PayloadType {
        match self {
            Self::Rfc3947 => PayloadType::NAT_OA,
            Self::Draft => PayloadType::NAT_OA_DRAFT,
        }
    }
}

/// NAT-D: the hash of an address and port as one end sees them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NatDiscovery {
    /// How it is numbered.
    pub dialect: NatDialect,
    hash: Vec<u8>,
}

impl NatDiscovery {
    /// A received hash.
    ///
    /// # Errors
    /// [`Rule::HashLength`] outside 16 to 64 bytes.
    pub fn new(dialect: NatDialect, hash: Vec<u8>) -> Result<Self, Rule> {
        match hash.len() {
            16..=64 => Ok(Self { dialect, hash }),
            len => Err(Rule::HashLength(len)),
        }
    }

    /// HASH(CKY-I | CKY-R | address | port), RFC 3947 §3.2.
    #[must_use]
    pub fn of(
        dialect: NatDialect,
        algorithm: HashAlgorithm,
        cookies: CookiePair,
        address: SocketAddr,
    ) -> Self {
        let port = address.port().to_be_bytes();
        let cookies = cookies.to_bytes();
        let (v4, v6);
        let ip: &[u8] = match address.ip() {
            IpAddr::V4(ip) => {
                v4 = ip.octets();
                &v4
            }
            IpAddr::V6(ip) => {
                v6 = ip.octets();
                &v6
            }
        };
        let hash = algorithm.digest(&[&cookies, ip, &port]);
        Self { dialect, hash }
    }

    /// The hash; not secret.
    #[must_use]
    pub fn hash(&self) -> &[u8] {
        &self.hash
    }
}

/// NAT-OA: an address before translation. Used with transport mode only; parsed so that a
/// peer that sends it in tunnel mode is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NatOriginalAddress {
    /// How it is numbered.
    pub dialect: NatDialect,
    /// The address.
    pub address: IpAddr,
}

/// ID_IPV4_ADDR and ID_IPV6_ADDR of RFC 2407 §4.6.2.1.
const IPV4: u8 = 1;
const IPV6: u8 = 5;

impl NatOriginalAddress {
    /// The three reserved bytes are ignored.
    pub(super) fn parse(dialect: NatDialect, body: &[u8]) -> Result<Self, Rule> {
        let mut reader = Reader::new(body);
        let [kind, _reserved @ ..]: [u8; 4] = reader.array()?;
        let address = match kind {
            IPV4 => IpAddr::from(Ipv4Addr::from(reader.array::<4>()?)),
            IPV6 => IpAddr::from(Ipv6Addr::from(reader.array::<16>()?)),
            _ => return Err(Rule::NatOaAddress),
        };
        if !reader.is_empty() {
            return Err(Rule::NatOaAddress);
        }
        Ok(Self { dialect, address })
    }

    pub(super) fn body(self) -> Vec<u8> {
        match self.address {
            IpAddr::V4(ip) => [&[IPV4, 0, 0, 0][..], &ip.octets()].concat(),
            IpAddr::V6(ip) => [&[IPV6, 0, 0, 0][..], &ip.octets()].concat(),
        }
    }
}
