//! A second Ethernet address on a link, and where the frames for it go.
//!
//! ```text
//!   link ── macvlan (the address) ── tc ingress: IP to us ──> a TUN, as if it had come in there
//!                                               other IP ──> nowhere; the link itself has it too
//! ```
//! A macvlan outlives the process that made it, and a TUN that is not persistent does not. So the
//! macvlan only lets frames in; into the IP stack they come through the TUN. When the process
//! dies, the kernel removes the TUN and drops what is still steered there.

use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage, MacVlanMode};
use rtnetlink::packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirror, TcActionMirrorOption, TcActionOption,
    TcActionType, TcFilterU32Option, TcMirror, TcMirrorActionType, TcU32Key, TcU32Selector,
    TcU32SelectorFlags,
};
use rtnetlink::{LinkMacVlan, LinkUnspec};

use futures_util::TryStreamExt;

use super::{Made, NetError, Netlink, is_gone, refused};

/// Marks our macvlans, for the next process.
const ALIAS: &str = "virtual MAC of vipsec";

/// The ingress qdisc's handle; a device has one.
const INGRESS: u32 = 0xffff_0000;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// A macvlan to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Macvlan {
    /// Its name, 1 to 15 bytes.
    pub name: String,
    /// Index of the link below.
    pub link: u32,
    /// Its Ethernet address.
    pub mac: [u8; 6],
}

impl Netlink {
    /// Makes a macvlan. It is down, and frames for its address are not received.
    ///
    /// Its mode is "bridge": what others send from the same address (a partner that has taken it
    /// over) then still reaches the link below; in mode "private" the kernel would take it for
    /// ours and keep it from there. And other macvlans on the link can reach it.
    ///
    /// # Errors
    /// [`NetError`]; `EEXIST` when the name is taken.
    pub async fn add_macvlan(&self, macvlan: &Macvlan) -> Result<u32, NetError> {
        let Macvlan { name, link, mac } = macvlan;
        let message = LinkMacVlan::new(name, *link, MacVlanMode::Bridge)
            .address(mac.to_vec())
            .down()
            .build();
        let action = format!("make the device \"{name}\"");
        let made = self.handle.link().add(message).execute().await;
        made.map_err(refused(&*action))?;
        let missing = || NetError {
            action: action.clone(),
            source: std::io::ErrorKind::NotFound.into(),
        };
        let index = self.link(name).await?.ok_or_else(missing)?.index;
        self.remember(Made::Device(index));
        let alias = LinkUnspec::new_with_index(index).alias(ALIAS).build();
        let marked = self.handle.link().set(alias).execute().await;
        marked.map_err(refused(action))?;
        self.keep_link_quiet(index).await;
        Ok(index)
    }

    /// What `device`, a macvlan, receives for its own address `mac` enters the IP stack through
    /// `into`; the rest of its IP packets is dropped. ARP is left alone, and packet sockets for
    /// all protocols (not those for IP alone) hear everything. When `into` goes, nothing enters any more.
    ///
    /// # Errors
    /// [`NetError`]; `ENOENT` from a kernel without ingress qdisc, u32 classifier or mirred.
    pub async fn steer(&self, device: u32, mac: [u8; 6], into: u32) -> Result<(), NetError> {
        let action = "steer frames (kernel modules sch_ingress, cls_u32 and act_mirred)";
        let index = i32::try_from(device).unwrap_or(i32::MAX);
        let qdisc = self.handle.qdisc().add(index).ingress().execute().await;
        qdisc.map_err(refused(action))?;
        let for_us = addressed_to(mac);
        let any = vec![TcU32Key::default()];
        // Nobody reads what leaves through the TUN: its short queue is where packets end.
        let (enter, end) = (
            TcMirrorActionType::IngressRedir,
            TcMirrorActionType::EgressRedir,
        );
        let rules = [
            (ETHERTYPE_IPV4, for_us.clone(), enter),
            (ETHERTYPE_IPV6, for_us, enter),
            (ETHERTYPE_IPV4, any.clone(), end),
            (ETHERTYPE_IPV6, any, end),
        ];
        for (priority, (ethertype, keys, what)) in (1..).zip(rules) {
            let mut filter = self.handle.traffic_filter(index);
            let filter = filter
                .add()
                .parent(INGRESS)
                .priority(priority)
                .protocol(ethertype.to_be())
                .u32(&redirect(keys, what, into))
                .map_err(refused(action))?;
            filter.execute().await.map_err(refused(action))?;
        }
        Ok(())
    }

    /// Switches a device on or off.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn switch(&self, device: u32, on: bool) -> Result<(), NetError> {
        let message = LinkUnspec::new_with_index(device);
        let message = if on { message.up() } else { message.down() };
        let word = if on { "on" } else { "off" };
        let set = self.handle.link().set(message.build()).execute().await;
        set.map_err(refused(format!("switch device {device} {word}")))
    }

    /// Removes the macvlans that an earlier process of ours, killed, has left behind. Returns
    /// how many there were.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn sweep_macvlans(&self) -> Result<usize, NetError> {
        let all = self.handle.link().get().execute();
        let all: Vec<LinkMessage> = Box::pin(all)
            .try_collect()
            .await
            .map_err(refused("list the network devices"))?;
        let mut swept = 0;
        for left in all.iter().filter(|message| is_ours(message)) {
            self.delete_device(left.header.index).await?;
            swept += 1;
        }
        Ok(swept)
    }

    pub(super) async fn delete_device(&self, index: u32) -> Result<(), NetError> {
        let deleted = self.handle.link().del(index).execute().await;
        match deleted.map_err(refused(format!("remove device {index}"))) {
            Err(error) if !is_gone(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

fn is_ours(message: &LinkMessage) -> bool {
    let (mut macvlan, mut marked) = (false, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfAlias(alias) => marked = alias == ALIAS,
            LinkAttribute::LinkInfo(about) => {
                macvlan = about.contains(&LinkInfo::Kind(InfoKind::MacVlan));
            }
            _ => {}
        }
    }
    macvlan && marked
}

/// The Ethernet destination, which stands 14 bytes in front of the IP header. Keys are words;
/// the library puts them into network byte order.
fn addressed_to(mac: [u8; 6]) -> Vec<TcU32Key> {
    let [a, b, c, d, e, f] = mac;
    let mut first = TcU32Key::default();
    first.mask = 0x0000_ffff;
    first.val = u32::from_be_bytes([0, 0, a, b]);
    first.off = -16;
    let mut rest = TcU32Key::default();
    rest.mask = u32::MAX;
    rest.val = u32::from_be_bytes([c, d, e, f]);
    rest.off = -12;
    vec![first, rest]
}

fn redirect(keys: Vec<TcU32Key>, how: TcMirrorActionType, to: u32) -> [TcFilterU32Option; 2] {
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    selector.nkeys = u8::try_from(keys.len()).unwrap_or(u8::MAX);
    selector.keys = keys;
    let mut mirror = TcMirror::default();
    mirror.generic.action = TcActionType::Stolen;
    mirror.eaction = how;
    mirror.ifindex = to;
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(
            mirror,
        ))]),
    ];
    [
        TcFilterU32Option::Selector(selector),
        TcFilterU32Option::Action(vec![action]),
    ]
}
