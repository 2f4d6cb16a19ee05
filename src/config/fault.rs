//! Every way in which a configuration can be wrong. `words.rs` says it in words.

use std::path::PathBuf;

use ipnet::IpNet;

use super::problem::Severity;

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
    BadDevice { found: String, reason: &'static str },
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

    // --- the pre-shared key ---
    /// A secret in the file itself.
    PskInline,
    /// The key file could not be read.
    PskUnreadable { path: PathBuf, reason: String },
    /// The key file is no regular file or too large.
    PskNotAFile { path: PathBuf, what: &'static str },
    /// Others may read the key file.
    PskPermissions { path: PathBuf, mode: u32 },
    /// Somebody else owns the key file.
    PskOwner { path: PathBuf, owner: u32, us: u32 },
    /// The key file holds nothing.
    PskEmpty { path: PathBuf },
    /// A byte that two ends may encode in different ways.
    PskNotPrintable { path: PathBuf, position: usize },
    /// The key can be guessed.
    PskWeak { path: PathBuf, bits: u32 },
    /// A key that the peer's product refuses.
    PskRefusedByAzure { path: PathBuf, character: char },

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
            Self::BadDevice { .. } => {
                Some("1 to 15 letters, digits, '-', '_' or '.', as in \"vti-azure\"".to_owned())
            }
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
