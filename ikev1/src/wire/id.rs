//! The identification payload (RFC 2407 §4.6.2): who a peer is in phase 1, which packets an
//! SA carries in phase 2.

use core::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use ipsec_types::TrafficSelector;

use super::Rule;
use super::reader::Reader;

const IPV4_ADDR: u8 = 1;
const FQDN: u8 = 2;
const USER_FQDN: u8 = 3;
const IPV4_ADDR_SUBNET: u8 = 4;
const IPV6_ADDR: u8 = 5;
const IPV6_ADDR_SUBNET: u8 = 6;
const IPV4_ADDR_RANGE: u8 = 7;
const IPV6_ADDR_RANGE: u8 = 8;
const KEY_ID: u8 = 11;

/// An identity with the protocol and port it is limited to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identification {
    /// Who, or which addresses.
    pub identity: Identity,
    /// IP protocol; 0 is any. In phase 1 it is 0 or UDP.
    pub protocol: u8,
    /// Port; 0 is any. In phase 1 it is 0 or an IKE port.
    pub port: u16,
}

/// Identification data by type. Names and opaque ids are 1 to 255 bytes long.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// ID_IPV4_ADDR or ID_IPV6_ADDR.
    Address(IpAddr),
    /// ID_IPV4_ADDR_SUBNET or ID_IPV6_ADDR_SUBNET; host bits stay as they were sent.
    Subnet(IpNet),
    /// ID_IPV4_ADDR_RANGE, both ends included.
    RangeV4(Ipv4Addr, Ipv4Addr),
    /// ID_IPV6_ADDR_RANGE, both ends included.
    RangeV6(Ipv6Addr, Ipv6Addr),
    /// ID_FQDN.
    Fqdn(IdName),
    /// ID_USER_FQDN: `user@host`.
    UserFqdn(IdName),
    /// ID_KEY_ID and every type this enum does not name.
    Opaque(OpaqueIdentity),
}

/// Printable ASCII, 1 to 255 bytes: what may safely stand in a log line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdName(String);

impl IdName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`Rule::IdName`] when it is empty, longer than 255 bytes or not printable ASCII
    /// without spaces.
    pub fn new(name: &str) -> Result<Self, Rule> {
        let printable = name.bytes().all(|byte| byte.is_ascii_graphic());
        if printable && (1..=255).contains(&name.len()) {
            Ok(Self(name.to_owned()))
        } else {
            Err(Rule::IdName)
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Identification data that is compared byte by byte and never interpreted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OpaqueIdentity {
    kind: u8,
    data: Vec<u8>,
}

impl OpaqueIdentity {
    /// Longest accepted data: room for a distinguished name.
    pub const MAX_LEN: usize = 2048;

    /// Identification data of a type that [`Identity`] has no other variant for.
    ///
    /// # Errors
    /// [`Rule::NotOpaque`] for such a type, [`Rule::IdLength`] outside 1 to 2,048 bytes.
    pub fn new(kind: u8, data: Vec<u8>) -> Result<Self, Rule> {
        if (IPV4_ADDR..=IPV6_ADDR_RANGE).contains(&kind) {
            return Err(Rule::NotOpaque(kind));
        }
        if !(1..=Self::MAX_LEN).contains(&data.len()) {
            return Err(Rule::IdLength {
                kind,
                len: data.len(),
            });
        }
        Ok(Self { kind, data })
    }

    /// ID_KEY_ID.
    ///
    /// # Errors
    /// [`Rule::IdLength`] outside 1 to 2,048 bytes.
    pub fn key_id(data: Vec<u8>) -> Result<Self, Rule> {
        Self::new(KEY_ID, data)
    }

    /// The identification type.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        self.kind
    }

    /// The identification data.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }
}

impl Identity {
    /// The identification type on the wire.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Address(IpAddr::V4(_)) => IPV4_ADDR,
            Self::Address(IpAddr::V6(_)) => IPV6_ADDR,
            Self::Subnet(IpNet::V4(_)) => IPV4_ADDR_SUBNET,
            Self::Subnet(IpNet::V6(_)) => IPV6_ADDR_SUBNET,
            Self::RangeV4(..) => IPV4_ADDR_RANGE,
            Self::RangeV6(..) => IPV6_ADDR_RANGE,
            Self::Fqdn(_) => FQDN,
            Self::UserFqdn(_) => USER_FQDN,
            Self::Opaque(opaque) => opaque.kind,
        }
    }

    fn parse(kind: u8, data: &[u8]) -> Result<Self, Rule> {
        let wrong_length = Rule::IdLength {
            kind,
            len: data.len(),
        };
        let mut reader = Reader::new(data);
        let identity = match kind {
            IPV4_ADDR => Self::Address(v4(&mut reader, wrong_length)?.into()),
            IPV6_ADDR => Self::Address(v6(&mut reader, wrong_length)?.into()),
            IPV4_ADDR_SUBNET => {
                let address = v4(&mut reader, wrong_length)?;
                let mask = v4(&mut reader, wrong_length)?;
                let net = Ipv4Net::with_netmask(address, mask).map_err(|_| Rule::IdMask)?;
                Self::Subnet(net.into())
            }
            IPV6_ADDR_SUBNET => {
                let address = v6(&mut reader, wrong_length)?;
                let mask = v6(&mut reader, wrong_length)?;
                let net = Ipv6Net::with_netmask(address, mask).map_err(|_| Rule::IdMask)?;
                Self::Subnet(net.into())
            }
            IPV4_ADDR_RANGE => {
                let start = v4(&mut reader, wrong_length)?;
                Self::range_v4(start, v4(&mut reader, wrong_length)?)?
            }
            IPV6_ADDR_RANGE => {
                let start = v6(&mut reader, wrong_length)?;
                Self::range_v6(start, v6(&mut reader, wrong_length)?)?
            }
            FQDN => return name(data).map(Self::Fqdn),
            USER_FQDN => return name(data).map(Self::UserFqdn),
            other => return OpaqueIdentity::new(other, data.to_vec()).map(Self::Opaque),
        };
        if reader.is_empty() {
            Ok(identity)
        } else {
            Err(wrong_length)
        }
    }

    /// A range of IPv4 addresses.
    ///
    /// # Errors
    /// [`Rule::IdRange`] when it ends before it starts.
    pub fn range_v4(start: Ipv4Addr, end: Ipv4Addr) -> Result<Self, Rule> {
        if end < start {
            return Err(Rule::IdRange);
        }
        Ok(Self::RangeV4(start, end))
    }

    /// A range of IPv6 addresses.
    ///
    /// # Errors
    /// [`Rule::IdRange`] when it ends before it starts.
    pub fn range_v6(start: Ipv6Addr, end: Ipv6Addr) -> Result<Self, Rule> {
        if end < start {
            return Err(Rule::IdRange);
        }
        Ok(Self::RangeV6(start, end))
    }

    fn data(&self) -> Vec<u8> {
        match self {
            Self::Address(IpAddr::V4(ip)) => ip.octets().to_vec(),
            Self::Address(IpAddr::V6(ip)) => ip.octets().to_vec(),
            Self::Subnet(IpNet::V4(net)) => [net.addr().octets(), net.netmask().octets()].concat(),
            Self::Subnet(IpNet::V6(net)) => [net.addr().octets(), net.netmask().octets()].concat(),
            Self::RangeV4(start, end) => [start.octets(), end.octets()].concat(),
            Self::RangeV6(start, end) => [start.octets(), end.octets()].concat(),
            Self::Fqdn(name) | Self::UserFqdn(name) => name.0.as_bytes().to_vec(),
            Self::Opaque(opaque) => opaque.data.clone(),
        }
    }

    /// The prefix that the identity stands for; `None` for names, opaque ids and ranges that
    /// are no prefix. A host is a prefix of full length.
    #[must_use]
    pub fn prefix(&self) -> Option<IpNet> {
        match self {
            Self::Address(ip) => Some(IpNet::from(*ip)),
            Self::Subnet(net) => Some(net.trunc()),
            Self::RangeV4(start, end) => {
                let len = (start.to_bits() ^ end.to_bits()).leading_zeros();
                let net = Ipv4Net::new(*start, u8::try_from(len).ok()?).ok()?;
                (net.network() == *start && net.broadcast() == *end).then_some(net.into())
            }
            Self::RangeV6(start, end) => {
                let len = (start.to_bits() ^ end.to_bits()).leading_zeros();
                let net = Ipv6Net::new(*start, u8::try_from(len).ok()?).ok()?;
                (net.network() == *start && net.broadcast() == *end).then_some(net.into())
            }
            Self::Fqdn(_) | Self::UserFqdn(_) | Self::Opaque(_) => None,
        }
    }
}

fn v4(reader: &mut Reader<'_>, wrong_length: Rule) -> Result<Ipv4Addr, Rule> {
    let bytes = reader.array::<4>().map_err(|_| wrong_length)?;
    Ok(Ipv4Addr::from(bytes))
}

fn v6(reader: &mut Reader<'_>, wrong_length: Rule) -> Result<Ipv6Addr, Rule> {
    let bytes = reader.array::<16>().map_err(|_| wrong_length)?;
    Ok(Ipv6Addr::from(bytes))
}

fn name(data: &[u8]) -> Result<IdName, Rule> {
    IdName::new(core::str::from_utf8(data).map_err(|_| Rule::IdName)?)
}

impl Identification {
    /// An identity of phase 1, for any protocol and port.
    #[must_use]
    pub const fn any_port(identity: Identity) -> Self {
        Self {
            identity,
            protocol: 0,
            port: 0,
        }
    }

    /// A traffic selector of phase 2: hosts as addresses, everything else as subnets, as RFC
    /// 2407 §4.6.2 distinguishes them.
    #[must_use]
    pub fn from_selector(selector: &TrafficSelector) -> Self {
        let prefix = selector.prefix();
        let identity = if prefix.prefix_len() == prefix.max_prefix_len() {
            Identity::Address(prefix.addr())
        } else {
            Identity::Subnet(prefix)
        };
        Self {
            identity,
            protocol: selector.protocol(),
            port: selector.port(),
        }
    }

    /// The traffic selector it stands for; `None` when it is no prefix.
    #[must_use]
    pub fn to_selector(&self) -> Option<TrafficSelector> {
        let prefix = self.identity.prefix()?;
        Some(TrafficSelector::new(prefix, self.protocol, self.port))
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, Rule> {
        let mut reader = Reader::new(body);
        let [kind, protocol] = reader.array()?;
        let port = reader.u16()?;
        Ok(Self {
            identity: Identity::parse(kind, reader.rest())?,
            protocol,
            port,
        })
    }

    /// The body of the payload: IDii_b and IDir_b of RFC 2409 §5 for an identity of ours.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let mut out = vec![self.identity.kind(), self.protocol];
        out.extend_from_slice(&self.port.to_be_bytes());
        out.extend_from_slice(&self.identity.data());
        out
    }
}

/// `203.0.113.1`, `10.0.0.0/8`, `fqdn:gw.example.org`, `key-id:616263`: as the config
/// writes identities, except that opaque data is always hexadecimal.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => write!(f, "{ip}"),
            Self::Subnet(net) => write!(f, "{net}"),
            Self::RangeV4(start, end) => write!(f, "{start}-{end}"),
            Self::RangeV6(start, end) => write!(f, "{start}-{end}"),
            Self::Fqdn(name) => write!(f, "fqdn:{}", name.0),
            Self::UserFqdn(name) => write!(f, "user-fqdn:{}", name.0),
            Self::Opaque(opaque) => {
                match opaque.kind {
                    KEY_ID => f.write_str("key-id:")?,
                    other => write!(f, "id-type-{other}:")?,
                }
                opaque
                    .data
                    .iter()
                    .try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl fmt::Display for Identification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.identity)?;
        match (self.protocol, self.port) {
            (0, 0) => Ok(()),
            (protocol, 0) => write!(f, "[{protocol}]"),
            (protocol, port) => write!(f, "[{protocol}/{port}]"),
        }
    }
}
