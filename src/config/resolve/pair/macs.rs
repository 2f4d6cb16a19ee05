//! `virtual_mac`: an Ethernet address that moves with the virtual addresses of a link.

use std::collections::BTreeMap;

use ha_keepalive::io::arp::Mac;
use toml::Spanned;

use super::{Fault, Findings};
use crate::config::pair::VirtualAddress;

/// RFC 9568 §7.3: what VRRP forms for IPv4 and IPv6; the last byte is the virtual router's number.
const VRRP: [[u8; 5]; 2] = [[0, 0, 0x5e, 0, 1], [0, 0, 0x5e, 0, 2]];

/// An address that no other machine has of its own.
pub(super) fn judge(text: &str) -> Result<Mac, Fault> {
    let mac: Mac = text.parse().map_err(|_| Fault::Malformed {
        key: "virtual_mac".to_owned(),
        found: text.to_owned(),
        expected: "an Ethernet address, such as \"02:00:5e:00:01:0a\"",
        help: None,
    })?;
    let unusable = |why| Err(Fault::UnusableMac { found: mac, why });
    let Mac([first @ .., last]) = mac;
    // IEEE 802 §8.2: the lowest bit of the first byte is for groups, the next one for addresses
    // that nobody has given out.
    match first {
        [kind, ..] if kind & 1 != 0 => unusable("it is a group's"),
        [kind, ..] if kind & 2 != 0 => Ok(mac),
        prefix if VRRP.contains(&prefix) && last == 0 => {
            unusable("virtual routers have numbers from 1 to 255")
        }
        prefix if VRRP.contains(&prefix) => Ok(mac),
        _ => unusable("it may be the card of another machine"),
    }
}

/// A link has one or none, and no two links have the same.
pub(super) fn cross_check(addresses: &[Spanned<VirtualAddress>], findings: &mut Findings) {
    let mut of_link: BTreeMap<&str, &Spanned<VirtualAddress>> = BTreeMap::new();
    for address in addresses {
        let VirtualAddress {
            link, virtual_mac, ..
        } = address.get_ref();
        if let Some(first) = of_link.get(link.as_str()) {
            if first.get_ref().virtual_mac != *virtual_mac {
                let related = (first.span(), "the first one on this link is");
                let fault = Fault::VirtualMacDiffers { link: link.clone() };
                findings.add_related(&address.span(), fault, related);
            }
            continue;
        }
        let mut others = of_link.values();
        let twice = virtual_mac.and_then(|mac| {
            others.find_map(|other| {
                (other.get_ref().virtual_mac == Some(mac)).then_some((mac, *other))
            })
        });
        if let Some((mac, other)) = twice {
            let link = other.get_ref().link.clone();
            let related = (other.span(), "that address is");
            findings.add_related(
                &address.span(),
                Fault::VirtualMacTwice { mac, link },
                related,
            );
        }
        of_link.insert(link, address);
    }
}
