//! The networks that most scenarios use.

use std::net::IpAddr;

use crate::LabError;
use crate::cpu;
use crate::lab::{Cable, Host, Lab};

/// Two sites and the internet between them.
///
/// ```text
///   host-a ───────── gw-a ═══════════════ gw-b ───────── host-b
///        10.1.0.2  10.1.0.1            10.2.0.1  10.2.0.2
///       fd00:a::2  fd00:a::1          fd00:b::1  fd00:b::2
///                     203.0.113.1   203.0.113.2
///            lan   lan        wan   wan      lan   lan
/// ```
/// The hosts know their gateway only; the gateways know each other, and nothing of the other
/// side's LAN: what arrives there came through a tunnel.
#[derive(Debug)]
pub struct TwoSites {
    /// Behind gateway A.
    pub host_a: Host,
    /// Left gateway, [`A_WAN`].
    pub gw_a: Host,
    /// Right gateway, [`B_WAN`].
    pub gw_b: Host,
    /// Behind gateway B.
    pub host_b: Host,
    /// Between the gateways.
    pub wan: Cable,
    /// Between host A and its gateway.
    pub lan_a: Cable,
    /// Between host B and its gateway.
    pub lan_b: Cable,
}

/// Outer address of gateway A.
pub const A_WAN: &str = "203.0.113.1";
/// Outer address of gateway B.
pub const B_WAN: &str = "203.0.113.2";
/// Site A's prefix.
pub const A_NET: &str = "10.1.0.0/16";
/// Site B's prefix.
pub const B_NET: &str = "10.2.0.0/16";
/// Site A's IPv6 prefix.
pub const A_NET6: &str = "fd00:a::/64";
/// Site B's IPv6 prefix.
pub const B_NET6: &str = "fd00:b::/64";
/// Host A.
pub const HOST_A: IpAddr = v4(10, 1, 0, 2);
/// Host B.
pub const HOST_B: IpAddr = v4(10, 2, 0, 2);
/// Host A's IPv6 address.
pub const HOST_A6: &str = "fd00:a::2";
/// Host B's IPv6 address.
pub const HOST_B6: &str = "fd00:b::2";

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(a, b, c, d))
}

impl TwoSites {
    /// Builds it.
    ///
    /// # Errors
    /// When the lab cannot be built.
    pub fn new(lab: &Lab) -> Result<Self, LabError> {
        let (gw_a, gw_b) = (lab.host("gw-a")?, lab.host("gw-b")?);
        let wan = Cable::plug((&gw_a, "wan"), (&gw_b, "wan"))?;
        gw_a.address("wan", &format!("{A_WAN}/24"))?;
        gw_b.address("wan", &format!("{B_WAN}/24"))?;
        let (host_a, lan_a) = site(lab, &gw_a, "host-a", ["10.1.0", "fd00:a:"])?;
        let (host_b, lan_b) = site(lab, &gw_b, "host-b", ["10.2.0", "fd00:b:"])?;
        Ok(Self {
            host_a,
            gw_a,
            gw_b,
            host_b,
            wan,
            lan_a,
            lan_b,
        })
    }

    /// Gives each site half of the CPUs that this process may use: its gateway and its host share
    /// them, as if the sites were machines of their own. It holds for what is started afterwards.
    ///
    /// # Errors
    /// When there is only one.
    pub fn keep_apart(&self) -> Result<(), LabError> {
        let [a, b] = cpu::halves()?;
        for (host, cpus) in [
            (&self.host_a, a),
            (&self.gw_a, a),
            (&self.host_b, b),
            (&self.gw_b, b),
        ] {
            host.keep_to(cpus);
        }
        Ok(())
    }
}

/// Gateway A behind a router that hides it, as in an office or a cloud network.
///
/// ```text
///   host-a ──── gw-a ───────────── nat ═════════════════ gw-b ──── host-b
///          10.1.0.0/16  192.168.7.2   192.168.7.1  203.0.113.2  10.2.0.0/16
///                                     203.0.113.9 (all that gw-b sees)
/// ```
#[derive(Debug)]
pub struct BehindNat {
    /// Behind gateway A.
    pub host_a: Host,
    /// Left gateway, [`A_HIDDEN`].
    pub gw_a: Host,
    /// The router, [`NAT_WAN`] towards gateway B.
    pub nat: Host,
    /// Right gateway, [`B_WAN`].
    pub gw_b: Host,
    /// Behind gateway B.
    pub host_b: Host,
}

/// Gateway A's address behind the NAT.
pub const A_HIDDEN: &str = "192.168.7.2";
/// The NAT's outer address.
pub const NAT_WAN: &str = "203.0.113.9";

impl BehindNat {
    /// Builds it. The NAT forwards UDP 500 and 4500 to gateway A, so that either side can
    /// start; with `port_mapping` false only gateway A can.
    ///
    /// # Errors
    /// When the lab cannot be built, or `nft` is refused.
    pub fn new(lab: &Lab, port_mapping: bool) -> Result<Self, LabError> {
        let (gw_a, nat, gw_b) = (lab.host("gw-a")?, lab.host("nat")?, lab.host("gw-b")?);
        Cable::plug((&gw_a, "wan"), (&nat, "inside"))?;
        Cable::plug((&nat, "outside"), (&gw_b, "wan"))?;
        gw_a.address("wan", &format!("{A_HIDDEN}/24"))?;
        nat.address("inside", "192.168.7.1/24")?;
        nat.address("outside", &format!("{NAT_WAN}/24"))?;
        gw_b.address("wan", &format!("{B_WAN}/24"))?;
        gw_a.route("default", v4(192, 168, 7, 1))?;
        let forward = if port_mapping {
            format!("iifname inside accept\n udp dport {{ 500, 4500 }} dnat to {A_HIDDEN}")
        } else {
            String::new()
        };
        let rules = format!(
            "table ip hide {{
                chain in {{
                    type nat hook prerouting priority dstnat
                    {forward}
                }}
                chain out {{
                    type nat hook postrouting priority srcnat
                    oifname outside masquerade
                }}
            }}"
        );
        let file = nat.write("nat.nft", &rules)?;
        nat.run(&format!("nft -f {}", file.display()))?;
        let (host_a, _) = site(lab, &gw_a, "host-a", ["10.1.0", "fd00:a:"])?;
        let (host_b, _) = site(lab, &gw_b, "host-b", ["10.2.0", "fd00:b:"])?;
        Ok(Self {
            host_a,
            gw_a,
            nat,
            gw_b,
            host_b,
        })
    }
}

/// A LAN with one host behind `gateway`: addresses `.1` and `.2` of both prefixes.
fn site(
    lab: &Lab,
    gateway: &Host,
    name: &str,
    [v4, v6]: [&str; 2],
) -> Result<(Host, Cable), LabError> {
    let host = lab.host(name)?;
    let lan = Cable::plug((&host, "lan"), (gateway, "lan"))?;
    gateway.address("lan", &format!("{v4}.1/16"))?;
    gateway.address("lan", &format!("{v6}:1/64"))?;
    host.address("lan", &format!("{v4}.2/16"))?;
    host.address("lan", &format!("{v6}:2/64"))?;
    host.ip(&format!("route add default via {v4}.1"))?;
    host.ip(&format!("-6 route add default via {v6}:1"))?;
    Ok((host, lan))
}
