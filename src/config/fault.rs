//! Every way in which a configuration can be wrong, with its words.
//!
//! The headline (`Display`) says what was found; [`Fault::expected`] what should stand
//! there; [`Fault::help`] what to do next.

use std::fmt;
use std::path::PathBuf;

use ipnet::IpNet;

use super::problem::Severity;
use super::suggest::nearest;

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

impl fmt::Display for Fault {
    #[expect(clippy::too_many_lines, reason = "one line of text for each fault")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileUnreadable { reason } => write!(f, "cannot read the file: {reason}"),
            Self::FileTooLarge { limit } => write!(f, "the file is larger than {limit} bytes"),
            Self::Syntax { message } => write!(f, "not TOML: {message}"),
            Self::UnknownKey { section, key, .. } => match *section {
                "" => write!(f, "unknown section or key \"{key}\""),
                section => write!(f, "unknown key \"{key}\" in {section}"),
            },
            Self::WrongType { key, found, .. } => write!(f, "{key} is {found}"),
            Self::MissingKey { section, key, .. } => write!(f, "{section} has no {key}"),
            Self::NoConnection => f.write_str("no [[connection]] is configured"),
            Self::NotOneOf { key, found, .. }
            | Self::Malformed { key, found, .. }
            | Self::BadProposal {
                key,
                found,
                reason: _,
                ..
            } => {
                write!(f, "{key} cannot be \"{found}\"")?;
                match self {
                    Self::BadProposal { reason, .. } => write!(f, ": {reason}"),
                    _ => Ok(()),
                }
            }
            Self::OutOfRange { key, found, .. } => write!(f, "{key} cannot be {found}"),
            Self::NotPowerOfTwo { key, found } => write!(f, "{key} cannot be {found}"),
            Self::DurationWithoutUnit { key, number } => {
                write!(f, "{key} is the number {number}, without a unit")
            }
            Self::HostBits { key, found } => {
                let length = found.prefix_len();
                write!(f, "{key} {found} has bits set behind its first {length}")
            }
            Self::RepeatedValue { key, found } => write!(f, "{key} lists \"{found}\" twice"),
            Self::EmptyList { key } => write!(f, "{key} is empty"),
            Self::WeakAlgorithm {
                proposal,
                algorithm,
                why,
                ..
            } => {
                write!(f, "\"{proposal}\" uses {algorithm}: {why}")
            }
            Self::BadDevice { found, reason } => {
                write!(f, "device cannot be \"{found}\": {reason}")
            }
            Self::MssAboveMtu { mss, mtu, .. } => {
                write!(f, "mss {mss} does not fit into the mtu of {mtu}")
            }
            Self::PortWithoutProtocol { port } => {
                write!(f, "port {port} without a protocol that has ports")
            }
            Self::BadName { key, found, reason } => {
                write!(f, "{key} cannot be \"{found}\": {reason}")
            }
            Self::MtuTooSmallForIpv6 { mtu } => {
                write!(f, "mtu {mtu} is too small for the IPv6 in this tunnel")
            }
            Self::RekeyTooEarly {
                phase,
                early,
                lifetime,
            } => {
                write!(
                    f,
                    "{phase} would be replaced {early} before its end, and lives {lifetime}"
                )
            }
            Self::AnyPeer { why } => write!(f, "remote = \"any\" {why}"),
            Self::AggressiveMode => f.write_str(
                "aggressive mode shows everybody on the way a hash of the pre-shared key",
            ),
            Self::LocalIsRemote { address } => write!(f, "local and remote are both {address}"),
            Self::MixedFamilies {
                what,
                local,
                remote,
            } => {
                write!(
                    f,
                    "{what}: local {local} and remote {remote} are of different IP versions"
                )
            }
            Self::UnusableAddress { key, found, why } => {
                write!(f, "{key} cannot be {found}, {why}")
            }
            Self::DuplicateConnection { name } => {
                write!(f, "a second connection with the name \"{name}\"")
            }
            Self::DuplicateDevice { device } => {
                write!(f, "a second connection with the device \"{device}\"")
            }
            Self::DuplicatePeer {
                local,
                remote,
                other,
            } => {
                write!(
                    f,
                    "connection \"{other}\" already joins {local} and {remote}"
                )
            }
            Self::OverlappingSelectors {
                mine,
                theirs,
                other,
            } => {
                write!(
                    f,
                    "selector {mine} overlaps {theirs} of connection \"{other}\""
                )
            }
            Self::DuplicateRoute {
                route,
                metric,
                other,
            } => {
                write!(
                    f,
                    "route {route} metric {metric} belongs to connection \"{other}\" already"
                )
            }
            Self::PolicyWithoutSelectors { profile } => {
                write!(
                    f,
                    "profile \"{profile}\" is policy-based, and there is no selector"
                )
            }
            Self::RouteBasedWithSelectors { profile } => {
                write!(
                    f,
                    "profile \"{profile}\" is route-based, and there is a selector"
                )
            }
            Self::RouteOutsideSelectors { route } => {
                write!(
                    f,
                    "route {route} leads into the tunnel, and no selector lets it through"
                )
            }
            Self::Phase1Shorter { phase1, phase2 } => {
                write!(
                    f,
                    "phase 1 ends after {phase1}, before phase 2 with {phase2}"
                )
            }
            Self::PskInline => f.write_str("a pre-shared key stands in the configuration file"),
            Self::PskUnreadable { path, reason } => {
                write!(
                    f,
                    "cannot read the pre-shared key {}: {reason}",
                    path.display()
                )
            }
            Self::PskNotAFile { path, what } => {
                write!(f, "the pre-shared key {} is {what}", path.display())
            }
            Self::PskPermissions { path, mode } => {
                write!(
                    f,
                    "{} may be read by others (mode {mode:04o})",
                    path.display()
                )
            }
            Self::PskOwner { path, owner, us } => {
                let path = path.display();
                write!(f, "{path} belongs to user {owner}, and we run as user {us}")
            }
            Self::PskEmpty { path } => write!(f, "{} is empty", path.display()),
            Self::PskNotPrintable { path, position } => {
                write!(
                    f,
                    "byte {position} of {} is not printable ASCII",
                    path.display()
                )
            }
            Self::PskWeak { path, bits } => {
                write!(
                    f,
                    "the pre-shared key {} has about {bits} bits of entropy",
                    path.display()
                )
            }
            Self::PskRefusedByAzure { path, character } => {
                write!(
                    f,
                    "{} contains {character:?}, which Azure refuses",
                    path.display()
                )
            }
            Self::ProfileNeedsWeak { profile, left_out } => {
                write!(
                    f,
                    "profile \"{profile}\" without its weak proposals {left_out}"
                )
            }
            Self::AllowWeakUnused => f.write_str("allow_weak is true, and no proposal needs it"),
        }
    }
}

impl Fault {
    /// What to do next.
    #[expect(clippy::too_many_lines, reason = "one piece of advice for each fault")]
    pub(super) fn help(&self) -> Option<String> {
        let help = match self {
            Self::FileUnreadable { .. } => {
                "name the file with -c FILE, or run as root: sudo vipsec ...".to_owned()
            }
            Self::UnknownKey { key, known, .. } => {
                let meant = nearest(key, known.iter().copied())?;
                format!("did you mean \"{meant}\"?")
            }
            Self::NotOneOf { found, allowed, .. } => {
                let meant = nearest(found, allowed.iter().copied())?;
                format!("did you mean \"{meant}\"?")
            }
            Self::WrongType { key, found, expected } => type_help(key, found, expected)?,
            Self::Malformed { help, .. } => help.clone()?,
            Self::DurationWithoutUnit { number, .. } => format!("if seconds are meant: \"{number}s\""),
            Self::HostBits { found, .. } => {
                let host = IpNet::from(found.addr());
                format!("write \"{}\", or \"{host}\" for the host alone", found.trunc())
            }
            Self::RepeatedValue { .. } => "remove one of them".to_owned(),
            Self::WeakAlgorithm { .. } => {
                "ask the peer for a better proposal, or set allow_weak = true in its [[connection]]"
                    .to_owned()
            }
            Self::MssAboveMtu { .. } => "mss = \"auto\" follows the mtu".to_owned(),
            Self::PortWithoutProtocol { .. } => "add protocol = \"tcp\" or \"udp\"".to_owned(),
            Self::MtuTooSmallForIpv6 { .. } => {
                "RFC 8200 asks for 1280; remove the IPv6 prefixes or raise the mtu".to_owned()
            }
            Self::RekeyTooEarly { .. } => {
                "rekey_margin and rekey_jitter together must be shorter than the lifetime".to_owned()
            }
            Self::AnyPeer { .. } => {
                "a peer with a changing address needs mode = \"aggressive\", start = \"respond\" and a remote_id".to_owned()
            }
            Self::AggressiveMode => {
                "use main mode unless the peer's address changes; if it does, use a long random key".to_owned()
            }
            Self::LocalIsRemote { .. } => {
                "local is this gateway's outer address, remote the peer's".to_owned()
            }
            Self::MixedFamilies { .. } => "use IPv4 on both sides or IPv6 on both sides".to_owned(),
            Self::UnusableAddress { .. } => "write the address that the peer knows".to_owned(),
            Self::DuplicateConnection { .. } => "give every connection its own name".to_owned(),
            Self::DuplicateDevice { .. } => "give every connection its own device".to_owned(),
            Self::DuplicatePeer { .. } => {
                "main mode knows a peer by its address: use one connection with several selectors"
                    .to_owned()
            }
            Self::OverlappingSelectors { .. } => {
                "narrow one of them: a packet must belong to one connection".to_owned()
            }
            Self::DuplicateRoute { .. } => {
                "remove one, or give one of the two a higher metric as a backup".to_owned()
            }
            Self::PolicyWithoutSelectors { .. } => {
                "add [[connection.selector]] with local and remote, or choose another profile".to_owned()
            }
            Self::RouteBasedWithSelectors { .. } => {
                "remove the selectors and use routes in [connection.vti], or choose another profile".to_owned()
            }
            Self::RouteOutsideSelectors { .. } => {
                "add a selector for it or remove it: routes default to the remote prefixes".to_owned()
            }
            Self::Phase1Shorter { .. } => {
                "most peers expect phase 1 to outlive phase 2, as with \"8h\" and \"1h\"".to_owned()
            }
            Self::PskInline => {
                "put the key into a file of its own (chmod 600) and name it with psk_file".to_owned()
            }
            Self::PskUnreadable { path, .. } => format!("check that it exists: sudo ls -l {}", path.display()),
            Self::PskNotAFile { .. } => "psk_file names a small file with the key alone".to_owned(),
            Self::PskPermissions { path, .. } => format!("sudo chmod 600 {}", path.display()),
            Self::PskOwner { path, .. } => format!("sudo chown root {}", path.display()),
            Self::PskEmpty { path } | Self::PskWeak { path, .. } => {
                format!("for example: openssl rand -hex 32 > {}", path.display())
            }
            Self::PskRefusedByAzure { .. } => {
                "Azure takes printable ASCII without space, hyphen and tilde".to_owned()
            }
            Self::ProfileNeedsWeak { .. } => {
                "fine for a custom policy at the peer; its default policy needs allow_weak = true".to_owned()
            }
            Self::AllowWeakUnused => "remove it".to_owned(),
            Self::PskNotPrintable { .. } => {
                "encode a binary key as text at both ends, as with base64".to_owned()
            }
            Self::NoConnection => "see vipsec.toml(5), or configs/minimal.toml".to_owned(),
            Self::FileTooLarge { .. }
            | Self::Syntax { .. }
            | Self::MissingKey { .. }
            | Self::OutOfRange { .. }
            | Self::NotPowerOfTwo { .. }
            | Self::BadProposal { .. }
            | Self::EmptyList { .. }
            | Self::BadName { .. }
            | Self::BadDevice { .. } => return None,
        };
        Some(help)
    }
}

/// The two slips of type that have a plain correction.
fn type_help(key: &str, found: &str, expected: &str) -> Option<String> {
    if found == "a table" && expected.starts_with("an array of tables") {
        return Some(format!("write [[{key}]] with double brackets"));
    }
    if found == "a string" && expected.starts_with("a list") {
        return Some("put it in brackets: [\"...\"]".to_owned());
    }
    None
}
