//! A virtual MAC: an Ethernet address that moves with the virtual addresses of a link.
//!
//! ```text
//!   link (own MAC) ─┬─ what it always had; ARP is heard and answered here
//!                   └─ vmac-LINK, a macvlan: up only while the virtual addresses are here
//!                        └─ its IP packets enter through vip-LINK, a TUN that carries them
//! ```
//! - The TUN dies with the process, and with it the only way in: what a killed node still
//!   receives for the MAC is dropped by its kernel, not forwarded a second time.
//! - The macvlan goes up before the first announcement and down with the addresses. After a
//!   planned switchover it stays up until the partner's announcement is heard on the link: the
//!   switch has sent nothing for the MAC here since then, and everything before it has arrived.
//!   So nothing is lost between the two, and nothing is taken twice.
//! - Frames that we send from the MAC are announcements and answers, under the lease, and the
//!   kernel sends none: a switch never learns the MAC from a node that has not got it. All else
//!   leaves with the link's own.

use std::collections::BTreeMap;
use std::path::Path;

use ha_keepalive::io::arp::Mac;
use ha_keepalive::io::responder::VirtualMac;
use tracing::{debug, info, warn};
use vti::{LinkSettings, Macvlan, NetError, Netlink, Tun, TunConfig, TunQueue};

use super::addresses::AddressError;
use super::watch::{read_sysctl, set_sysctl};
use crate::config::VirtualAddress;

/// The kernel's own limit, without the final 0.
const LONGEST_NAME: usize = 15;

/// The virtual MACs of this node, by their links.
#[derive(Debug, Default)]
pub(super) struct VirtualMacs(BTreeMap<String, Devices>);

#[derive(Debug)]
struct Devices {
    mac: Mac,
    macvlan: u32,
    macvlan_name: String,
    /// Carries the virtual addresses of the link; what comes for the MAC enters here.
    tun: u32,
    /// Keeps the TUN alive.
    _queues: Vec<TunQueue>,
}

/// The end of a link's name tells it from others, as in `enp129s0f1np1` or `bond0.12`.
fn name(prefix: &str, link: &str) -> String {
    let room = LONGEST_NAME - prefix.len();
    let cut = link.len().saturating_sub(room);
    format!("{prefix}{}", link.get(cut..).unwrap_or_default())
}

impl VirtualMacs {
    /// Removes what a killed daemon has left and makes the devices: down, without address.
    ///
    /// # Errors
    /// [`AddressError`].
    pub(super) async fn open(
        net: &Netlink,
        specs: &[VirtualAddress],
        links: &BTreeMap<String, u32>,
    ) -> Result<Self, AddressError> {
        match net.sweep_macvlans().await? {
            0 => {}
            devices => warn!(
                devices,
                "removed the virtual MAC of a daemon that was killed"
            ),
        }
        let mut made = BTreeMap::new();
        for spec in specs {
            let Some((mac, index)) = spec.virtual_mac.zip(links.get(&spec.link)) else {
                continue;
            };
            if !made.contains_key(&spec.link) {
                let devices = Devices::open(net, &spec.link, *index, mac).await?;
                made.insert(spec.link.clone(), devices);
            }
        }
        Ok(Self(made))
    }

    /// The device for the addresses of a link, if it is another one than usual.
    pub(super) fn carrier(&self, link: &str) -> Option<u32> {
        self.0.get(link).map(|devices| devices.tun)
    }

    /// What the responder of a link answers with.
    pub(super) fn of_link(&self, link: &str) -> Option<VirtualMac<'_>> {
        self.0.get(link).map(|devices| VirtualMac {
            mac: devices.mac,
            device: &devices.macvlan_name,
        })
    }

    /// Frames for the MACs are received, on every link.
    ///
    /// # Errors
    /// The first [`NetError`].
    pub(super) async fn raise(&self, net: &Netlink) -> Result<(), NetError> {
        for devices in self.0.values() {
            net.switch(devices.macvlan, true).await?;
        }
        Ok(())
    }

    /// They are not, on any link.
    ///
    /// # Errors
    /// The first [`NetError`]; the other links are done all the same.
    pub(super) async fn lower(&self, net: &Netlink) -> Result<(), NetError> {
        let mut first = Ok(());
        for link in self.0.keys() {
            let lowered = self.lower_link(net, link).await;
            first = first.and(lowered);
        }
        first
    }

    /// They are not, on this one.
    ///
    /// # Errors
    /// [`NetError`].
    pub(super) async fn lower_link(&self, net: &Netlink, link: &str) -> Result<(), NetError> {
        match self.0.get(link) {
            Some(devices) => net.switch(devices.macvlan, false).await,
            None => Ok(()),
        }
    }
}

impl Devices {
    async fn open(net: &Netlink, link: &str, index: u32, mac: Mac) -> Result<Self, AddressError> {
        let tun = Tun::create(&TunConfig {
            name: name("vip-", link),
            queues: 1,
            offload: false,
        })?;
        // Nothing is sent there that anybody wants.
        let settings = LinkSettings {
            mtu: 1500,
            up: true,
            tx_queue_len: Some(1),
        };
        net.configure_link(tun.index(), settings).await?;
        let macvlan_name = name("vmac-", link);
        let macvlan = net
            .add_macvlan(&Macvlan {
                name: macvlan_name.clone(),
                link: index,
                mac: mac.0,
            })
            .await?;
        net.steer(macvlan, mac.0, tun.index()).await?;
        prepare_kernel(link, &macvlan_name, tun.name());
        info!(link, %mac, device = macvlan_name, firewall = tun.name(), "virtual MAC");
        Ok(Self {
            mac,
            macvlan,
            macvlan_name,
            tun: tun.index(),
            _queues: tun.into_queues(),
        })
    }
}

/// The macvlan says nothing by itself, and what enters through the TUN is routed as if it had
/// come in on the link.
fn prepare_kernel(link: &str, macvlan: &str, tun: &str) {
    for (key, value) in [
        ("arp_ignore", "1"),
        ("arp_announce", "2"),
        ("rp_filter", "0"),
        ("send_redirects", "0"),
    ] {
        set_sysctl(&format!("ipv4/conf/{macvlan}/{key}"), value);
    }
    // Its multicast reports, sent up to a second later, would tell the switch that the MAC is
    // here when it is at the partner's already. What comes for us is IPv6 on the TUN.
    if Path::new("/proc/sys/net/ipv6").exists() {
        set_sysctl(&format!("ipv6/conf/{macvlan}/disable_ipv6"), "1");
    }
    for (key, value) in [("rp_filter", "0"), ("send_redirects", "0")] {
        set_sysctl(&format!("ipv4/conf/{tun}/{key}"), value);
    }
    for family in ["ipv4", "ipv6"] {
        let path = |device: &str| format!("/proc/sys/net/{family}/conf/{device}/forwarding");
        let Some(value) = read_sysctl(Path::new(&path(link))) else {
            continue;
        };
        if let Err(error) = std::fs::write(path(tun), value) {
            debug!(tun, family, %error, "forwarding stays as it is");
        }
    }
    let all = Path::new("/proc/sys/net/ipv4/conf/all/rp_filter");
    if read_sysctl(all).as_deref() == Some("1") {
        warn!(
            link,
            "net.ipv4.conf.all.rp_filter is 1: the kernel drops what comes for the virtual MAC (set it to 0 or 2)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_enough_and_keep_what_tells_links_apart() {
        for (link, macvlan, tun) in [
            ("lan0", "vmac-lan0", "vip-lan0"),
            ("enp129s0f1np1", "vmac-129s0f1np1", "vip-p129s0f1np1"),
            ("abcdefghijklm.7", "vmac-fghijklm.7", "vip-efghijklm.7"),
        ] {
            assert_eq!(name("vmac-", link), macvlan);
            assert_eq!(name("vip-", link), tun);
        }
    }
}
