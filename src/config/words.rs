//! Faults in words. The headline (`Display`) says what was found, [`Fault::expected`] what
//! should stand there, [`Fault::help`] what to do next. `tests/faults.txt` shows them all.

use std::fmt;

use ipnet::IpNet;

use super::fault::Fault;
use super::suggest::nearest;

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
            Self::Ping { address, why } => write!(f, "{address} {why}"),
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
            Self::Ping { .. } => {
                "ping an address that a remote selector (or the peer's network) contains; the ping \
                 leaves from the first of vti.addresses that a local selector contains, or from \
                 ping_from, an address of this machine"
                    .to_owned()
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
            Self::NoConnection => "see docs/config.md, or start from configs/minimal.toml".to_owned(),
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
