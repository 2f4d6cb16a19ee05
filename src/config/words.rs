//! Faults in words. The headline (`Display`) says what was found, [`Fault::expected`] what
//! should stand there, [`Fault::help`] what to do next. `tests/faults.txt` shows them all.

use std::fmt;

use ipnet::IpNet;

use super::fault::{Fault, SecretKind};
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
            Self::BadDevice { key, found, reason }
            | Self::BadName { key, found, reason } => {
                write!(f, "{key} cannot be \"{found}\": {reason}")
            }
            Self::MssAboveMtu { mss, mtu, .. } => {
                write!(f, "mss {mss} does not fit into the mtu of {mtu}")
            }
            Self::PortWithoutProtocol { port } => {
                write!(f, "port {port} without a protocol that has ports")
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
            Self::PskInline { kind } => write!(f, "a {kind} stands in the configuration file"),
            Self::PskUnreadable { kind, path, reason } => {
                write!(f, "cannot read the {kind} {}: {reason}", path.display())
            }
            Self::PskNotAFile { kind, path, what } => {
                write!(f, "the {kind} {} is {what}", path.display())
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
            Self::PskWeak { kind, path, bits } => {
                write!(
                    f,
                    "the {kind} {} has about {bits} bits of entropy",
                    path.display()
                )
            }
            Self::PairSecretTooShort { reason, .. } => reason.fmt(f),
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
            Self::ConnectionsUnreadable { path, reason } => {
                let path = path.display();
                write!(f, "cannot read the file of connections {path}: {reason}")
            }
            Self::ConnectionsTwice => f.write_str(
                "a [[connection]] stands here, and [pair] says that they stand in a file of their own",
            ),
            Self::PskNotShared { found } => write!(
                f,
                "psk_file \"{found}\" cannot be kept the same on both nodes"
            ),
            Self::TooManyPaths { count } => write!(f, "there are {count} [[pair.path]]"),
            Self::PathToItself { address } => {
                write!(f, "local and peer of this path are both {address}")
            }
            Self::PathTwice { key, address } => {
                write!(f, "both paths have the {key} address {address}")
            }
            Self::PathOnVirtualAddress { key, address } => {
                write!(f, "{key} {address} of this path is a virtual address")
            }
            Self::DuplicateVirtualAddress { address } => {
                write!(f, "a second [[pair.address]] with {address}")
            }
            Self::GatewayOutside { gateway, address } => {
                write!(f, "gateway {gateway} cannot be reached from {address}")
            }
            Self::UnusableMac { found, why } => write!(f, "virtual_mac cannot be {found}: {why}"),
            Self::VirtualMacDiffers { link } => write!(
                f,
                "the addresses on {link} do not have the same virtual_mac"
            ),
            Self::VirtualMacTwice { mac, link } => {
                write!(f, "virtual_mac {mac} is the one of {link} already")
            }
            Self::LocalNotVirtual { local, wan } => {
                let wan: Vec<String> = wan.iter().map(ToString::to_string).collect();
                let wan = match wan.as_slice() {
                    [] => "there is none".to_owned(),
                    some => some.join(", "),
                };
                write!(
                    f,
                    "local {local} is no virtual address on the WAN side ({wan}): this tunnel would not move to the partner"
                )
            }
            Self::HealthTimeoutTooLong { timeout, interval } => write!(
                f,
                "timeout {timeout} of the health check is longer than its interval {interval}"
            ),
            Self::OnePath => f.write_str(
                "there is one [[pair.path]] only: a cut of this one cable makes two active nodes",
            ),
        }
    }
}

impl SecretKind {
    /// The key that names its file.
    fn key(self) -> &'static str {
        match self {
            Self::PreSharedKey => "psk_file",
            Self::PairSecret => "secret_file",
        }
    }
}

impl fmt::Display for SecretKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PreSharedKey => "pre-shared key",
            Self::PairSecret => "pair secret",
        })
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
            Self::UnknownKey { key, known, .. } => match nearest(key, known.iter().copied()) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None if known == &["connection"] => {
                    "the file of connections has nothing else: the rest stands in the main file"
                        .to_owned()
                }
                None => return None,
            },
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
            Self::PskInline { kind } => {
                let key = kind.key();
                format!("put it into a file of its own (chmod 600) and name that with {key}")
            }
            Self::PskUnreadable { path, .. } => format!("check that it exists: sudo ls -l {}", path.display()),
            Self::PskNotAFile { kind, .. } => {
                format!("{} names a small file with the secret alone", kind.key())
            }
            Self::PskPermissions { path, .. } => format!("sudo chmod 600 {}", path.display()),
            Self::PskOwner { path, .. } => format!("sudo chown root {}", path.display()),
            Self::PskEmpty { path }
            | Self::PskWeak {
                kind: SecretKind::PreSharedKey,
                path,
                ..
            } => {
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
            Self::PairSecretTooShort { path, .. }
            | Self::PskWeak {
                kind: SecretKind::PairSecret,
                path,
                ..
            } => format!(
                "openssl rand -hex 32 > {}, and the same file on the partner",
                path.display()
            ),
            Self::ConnectionsUnreadable { path, .. } => format!(
                "both nodes have the same one: write {}, or copy it from the partner",
                path.display()
            ),
            Self::ConnectionsTwice => {
                "move it there, or remove connections from [pair] and keep the two main files the same yourself"
                    .to_owned()
            }
            Self::PskNotShared { .. } => {
                "the key travels to the partner with the connections and is stored beside them"
                    .to_owned()
            }
            Self::TooManyPaths { .. } => {
                "keep the two that fail apart from each other: the sync link and the LAN".to_owned()
            }
            Self::PathToItself { .. } => {
                "local is this node's own address on that link, peer the partner's".to_owned()
            }
            Self::PathTwice { .. } => {
                "a second path helps only if it is another link with addresses of its own".to_owned()
            }
            Self::PathOnVirtualAddress { .. } => {
                "use the own addresses of the two nodes: this one moves between them".to_owned()
            }
            Self::DuplicateVirtualAddress { .. } => "remove one of them".to_owned(),
            Self::GatewayOutside { address, .. } => format!(
                "write a router's address within {}, and not the address itself",
                address.trunc()
            ),
            Self::UnusableMac { .. } => {
                "use a locally administered one such as \"02:00:5e:00:01:0a\", or one of VRRP, 00:00:5e:00:01:01 to ff"
                    .to_owned()
            }
            Self::VirtualMacDiffers { .. } => {
                "a link has one virtual MAC: write the same into each of its [[pair.address]], or into none"
                    .to_owned()
            }
            Self::VirtualMacTwice { .. } => {
                "give each link its own: a switch that both lead to would send to one of them only"
                    .to_owned()
            }
            Self::LocalNotVirtual { .. } => {
                "use a virtual address, or add it as [[pair.address]] with side = \"wan\"".to_owned()
            }
            Self::HealthTimeoutTooLong { .. } => {
                "a run must end before the next one begins".to_owned()
            }
            Self::OnePath => {
                "add a second [[pair.path]] over another link, such as the LAN".to_owned()
            }
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
