//! Values that users write as text.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

/// Units of a duration, longest first.
const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// `8h`, `90m`, `27000s`, `1h30m`, `500ms`: numbers, each with its unit, nothing between.
/// `None` for anything else, and for what does not fit 64 bits of microseconds.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| !c.is_ascii_lowercase())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let number: u64 = number.parse().ok()?;
        let (_, micros) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.checked_mul(micros)?)?;
        rest = tail;
    }
    Some(Duration::from_micros(total))
}

/// The inverse of [`parse_duration`]: `7h30m`, `45s`; `0s` for nothing.
pub(super) fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, micros) in UNITS {
        if rest >= micros {
            let _ = write!(text, "{}{unit}", rest / micros);
            rest %= micros;
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

/// Why an address cannot be one end of a tunnel.
pub(super) fn unusable_as_endpoint(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some("which is no address of a host");
    }
    if address.is_multicast() {
        return Some("a multicast address");
    }
    match address {
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("an IPv4 address in IPv6 form"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            Some("a link-local address, which needs an interface to mean anything")
        }
        _ => None,
    }
}

/// A prefix, or a single address as its host prefix; host bits are left as written.
pub(super) fn parse_prefix(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// IP protocols that users name.
pub(super) const PROTOCOLS: [(&str, u8); 8] = [
    ("any", 0),
    ("icmp", 1),
    ("tcp", 6),
    ("udp", 17),
    ("gre", 47),
    ("icmpv6", 58),
    ("ospf", 89),
    ("sctp", 132),
];

/// True for protocols whose packets carry ports.
pub(super) fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 132)
}

/// Why the kernel, or a shell, would stumble over an interface name.
pub(super) fn refuse_device(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > 15 {
        return Some("it is longer than the 15 bytes that the kernel allows");
    }
    if matches!(name, "." | ".." | "lo" | "all" | "default") {
        return Some("the name is taken");
    }
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.chars().all(fine) {
        return Some("it has a character that interface names must not have");
    }
    if name.starts_with('-') {
        return Some("it begins with a hyphen");
    }
    None
}

/// Why a text cannot name a connection or a gateway: it appears in commands, logs and file
/// names.
pub(super) fn refuse_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > 63 {
        return Some("it is longer than 63 bytes");
    }
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.chars().all(fine) || name.starts_with(['-', '.']) {
        return Some("use letters, digits, '-', '_' and '.', and begin with a letter or digit");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let seconds = |text| parse_duration(text).map(|duration| duration.as_secs());
        assert_eq!(seconds("8h"), Some(28_800));
        assert_eq!(seconds("90m"), Some(5_400));
        assert_eq!(seconds("27000s"), Some(27_000));
        assert_eq!(seconds("1h30m"), Some(5_400));
        assert_eq!(seconds("2d"), Some(172_800));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("50us"), Some(Duration::from_micros(50)));
        for wrong in [
            "",
            "8",
            "h",
            "8 h",
            "8H",
            "-8h",
            "+8h",
            "8.5h",
            "8h ",
            " 8h",
            "8hours",
            "8h30",
            "1w",
            "99999999999999999999s",
            "18446744073709551615d",
            "8h²",
        ] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_round_trip() {
        for text in [
            "8h",
            "1h30m",
            "7h30m",
            "45s",
            "500ms",
            "50us",
            "1d2h3m4s5ms6us",
            "0s",
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(format_duration(duration), text);
        }
        assert_eq!(format_duration(Duration::from_secs(27_000)), "7h30m");
    }

    #[test]
    fn device_names() {
        assert_eq!(refuse_device("vti-azure"), None);
        assert_eq!(refuse_device("abcdefghijklmno"), None);
        for wrong in [
            "",
            "abcdefghijklmnop",
            "a b",
            "a/b",
            "lo",
            ".",
            "-a",
            "vti:1",
            "ü",
        ] {
            assert!(refuse_device(wrong).is_some(), "{wrong}");
        }
    }

    #[test]
    fn a_bare_address_is_its_host_prefix() {
        assert_eq!(
            parse_prefix("10.0.0.1"),
            Some("10.0.0.1/32".parse().unwrap())
        );
        assert_eq!(
            parse_prefix("10.0.0.1/8"),
            Some("10.0.0.1/8".parse().unwrap())
        );
        assert_eq!(parse_prefix("10.0.0.0/33"), None);
    }
}
