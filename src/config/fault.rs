//! Every way in which a configuration can be wrong. `words.rs` says it in words.

use std::net::IpAddr;
use std::path::PathBuf;

use ha_keepalive::SecretTooShort;
use ha_keepalive::io::arp::Mac;
use ipnet::IpNet;

use super::problem::Severity;

/// Which secret a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecretKind {
    /// Of one connection, shared with the peer.
    PreSharedKey,
    /// Of the two nodes.
    PairSecret,
}

/// Something wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    // --- the file itself ---
    /// The file could not be read.
    FileUnreadable { reason: String },
    /// The file is larger than any configuration.
    FileTooLarge { limit: u64 },
    /// Not TOML.
    Syntax { message: String },
    /// A key that the section does not have.
    UnknownKey {
        section: &'static str,
        key: String,
        known: Vec<&'static str>,
    },
    /// A value of another TOML type.
    WrongType {
        key: String,
        found: &'static str,
        expected: &'static str,
    },
    /// A key without which the section means nothing.
    MissingKey {
        section: &'static str,
        key: &'static str,
        expected: &'static str,
    },
    /// The file has no `[[connection]]`.
    NoConnection,

    // --- single values ---
    /// A word that is none of the words allowed there.
    NotOneOf {
        key: String,
        found: String,
        allowed: Vec<&'static str>,
    },
    /// A value that does not parse.
    Malformed {
        key: String,
        found: String,
        expected: &'static str,
        help: Option<String>,
    },
    /// A number outside its bounds.
    OutOfRange {
        key: String,
        found: String,
        expected: String,
    },
    /// A replay window that is not a power of two.
    NotPowerOfTwo { key: String, found: u64 },
    /// A duration without its unit.
    DurationWithoutUnit { key: String, number: i64 },
    /// A prefix with bits set behind its length.
    HostBits { key: String, found: IpNet },
    /// A proposal that is no known combination.
    BadProposal {
        key: String,
        found: String,
        reason: String,
        examples: &'static str,
    },
    /// The same proposal twice in a list.
    RepeatedValue { key: String, found: String },
    /// An empty list where at least one value is needed.
    EmptyList { key: String },
    /// An algorithm that needs `allow_weak`.
    WeakAlgorithm {
        key: String,
        proposal: String,
        algorithm: &'static str,
        why: &'static str,
    },
    /// An interface name that the kernel would refuse.
    BadDevice {
        key: &'static str,
        found: String,
        reason: &'static str,
    },
    /// An MSS that does not fit the MTU.
    MssAboveMtu { mss: u16, mtu: u16, limit: u16 },
    /// A port without a protocol that has ports.
    PortWithoutProtocol { port: i64 },
    /// A name that commands, logs or file names would stumble over.
    BadName {
        key: &'static str,
        found: String,
        reason: &'static str,
    },
    /// An MTU below what every IPv6 link must carry.
    MtuTooSmallForIpv6 { mtu: u16 },
    /// A rekey that would begin before the SA does.
    RekeyTooEarly {
        phase: &'static str,
        early: String,
        lifetime: String,
    },

    // --- values that contradict each other ---
    /// Both ends are the same address.
    LocalIsRemote { address: String },
    /// An IPv4 and an IPv6 address where both must be of one family.
    MixedFamilies {
        what: &'static str,
        local: String,
        remote: String,
    },
    /// An unspecified, multicast or loopback-broadcast address as an endpoint.
    UnusableAddress {
        key: String,
        found: String,
        why: &'static str,
    },
    /// Two connections with one name.
    DuplicateConnection { name: String },
    /// Two connections with one interface.
    DuplicateDevice { device: String },
    /// Two connections between the same two addresses.
    DuplicatePeer {
        local: String,
        remote: String,
        other: String,
    },
    /// Traffic that two connections claim.
    OverlappingSelectors {
        mine: String,
        theirs: String,
        other: String,
    },
    /// The same route on two connections.
    DuplicateRoute {
        route: IpNet,
        metric: u32,
        other: String,
    },
    /// A policy-based profile without selectors.
    PolicyWithoutSelectors { profile: &'static str },
    /// A route-based profile with selectors.
    RouteBasedWithSelectors { profile: &'static str },
    /// A route that no selector would let through.
    RouteOutsideSelectors { route: IpNet },
    /// A peer without a known address, where one is needed.
    AnyPeer { why: &'static str },
    /// A ping through the tunnel that cannot work.
    Ping { address: String, why: &'static str },
    /// Phase 1 ends before phase 2.
    Phase1Shorter { phase1: String, phase2: String },

    // --- the pre-shared key and the pair secret ---
    /// A secret in the file itself.
    PskInline { kind: SecretKind },
    /// The key file could not be read.
    PskUnreadable {
        kind: SecretKind,
        path: PathBuf,
        reason: String,
    },
    /// The key file is no regular file or too large.
    PskNotAFile {
        kind: SecretKind,
        path: PathBuf,
        what: &'static str,
    },
    /// Others may read the key file.
    PskPermissions { path: PathBuf, mode: u32 },
    /// Somebody else owns the key file.
    PskOwner { path: PathBuf, owner: u32, us: u32 },
    /// The key file holds nothing.
    PskEmpty { path: PathBuf },
    /// A byte that two ends may encode in different ways.
    PskNotPrintable { path: PathBuf, position: usize },
    /// The key can be guessed.
    PskWeak {
        kind: SecretKind,
        path: PathBuf,
        bits: u32,
    },
    /// A pair secret that could be guessed from one captured advert.
    PairSecretTooShort {
        path: PathBuf,
        reason: SecretTooShort,
    },
    /// A key that the peer's product refuses.
    PskRefusedByAzure { path: PathBuf, character: char },

    // --- the pair ---
    /// The file of connections could not be read.
    ConnectionsUnreadable { path: PathBuf, reason: String },
    /// Connections in the main file beside a file of connections.
    ConnectionsTwice,
    /// A key file that cannot be kept the same on two nodes.
    PskNotShared { found: String },
    /// More ways between the nodes than the protocol has room for.
    TooManyPaths { count: usize },
    /// Both ends of a path are the same address.
    PathToItself { address: IpAddr },
    /// Two paths with an end in common.
    PathTwice { key: &'static str, address: IpAddr },
    /// A path that would move with what it decides on.
    PathOnVirtualAddress { key: &'static str, address: IpAddr },
    /// The same virtual address twice.
    DuplicateVirtualAddress { address: IpAddr },
    /// A next hop that is not on the address's link.
    GatewayOutside { gateway: IpAddr, address: IpNet },
    /// An Ethernet address that two machines must not share, or that is no single machine's.
    UnusableMac { found: Mac, why: &'static str },
    /// Two addresses of one link that do not have the same virtual MAC.
    VirtualMacDiffers { link: String },
    /// One virtual MAC on two links.
    VirtualMacTwice { mac: Mac, link: String },
    /// A tunnel that would stay behind when the addresses move.
    LocalNotVirtual { local: IpAddr, wan: Vec<IpAddr> },
    /// A health check that would overtake itself.
    HealthTimeoutTooLong { timeout: String, interval: String },
    /// One cut cable makes two active nodes.
    OnePath,

    // --- worth a look ---
    /// A profile's own proposals are weak and were left out.
    ProfileNeedsWeak {
        profile: &'static str,
        left_out: String,
    },
    /// Aggressive mode shows a hash of the key.
    AggressiveMode,
    /// Weak algorithms were allowed and none is used.
    AllowWeakUnused,
}

impl Fault {
    /// Whether the file can still be used.
    pub(super) fn severity(&self) -> Severity {
        match self {
            Self::NoConnection
            | Self::Phase1Shorter { .. }
            | Self::PskWeak { .. }
            | Self::PskRefusedByAzure { .. }
            | Self::ProfileNeedsWeak { .. }
            | Self::AggressiveMode
            | Self::OnePath
            | Self::AllowWeakUnused => Severity::Warning,
            _ => Severity::Error,
        }
    }

    /// What should stand there.
    pub(super) fn expected(&self) -> Option<String> {
        match self {
            Self::UnknownKey { known, .. } => Some(format!("one of {}", known.join(", "))),
            Self::WrongType { expected, .. }
            | Self::MissingKey { expected, .. }
            | Self::Malformed { expected, .. } => Some((*expected).to_owned()),
            Self::NotOneOf { allowed, .. } => Some(alternatives(allowed)),
            Self::OutOfRange { expected, .. } => Some(expected.clone()),
            Self::NotPowerOfTwo { .. } => {
                Some("64, 128, 256, 512, 1024, 2048 or 4096 packets".to_owned())
            }
            Self::DurationWithoutUnit { .. } => Some(EXPECTED_DURATION.to_owned()),
            Self::HostBits { .. } => Some("a prefix whose host bits are zero".to_owned()),
            Self::BadProposal { examples, .. } => Some(format!("for example {examples}")),
            Self::EmptyList { .. } => Some("at least one value".to_owned()),
            Self::BadDevice { key, .. } => {
                let example = if *key == "link" { "eth0" } else { "vti-azure" };
                Some(format!(
                    "1 to 15 letters, digits, '-', '_' or '.', as in \"{example}\""
                ))
            }
            Self::PskNotShared { .. } => {
                Some("a name below the folder of this file, as in \"azure.psk\"".to_owned())
            }
            Self::TooManyPaths { .. } => Some("one or two".to_owned()),
            Self::MssAboveMtu { limit, .. } => Some(format!("at most {limit}")),
            Self::PskNotPrintable { .. } => Some(EXPECTED_PSK.to_owned()),
            _ => None,
        }
    }
}

/// The words for a duration, wherever one is expected.
pub(super) const EXPECTED_DURATION: &str = "a duration such as \"8h\", \"90m\" or \"27000s\"";
const EXPECTED_PSK: &str = "printable ASCII in one line; a newline at the end is ignored";

/// `"a", "b" or "c"`.
fn alternatives(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
