//! The two programs of the relay, for the tcx ingress hook (a classifier's context and return
//! codes, `linux/bpf.h`). Both look at IPv4 packets without options and without fragments.

use std::net::Ipv4Addr;

use super::assembler::{
    Assembler,
    Reg::{R0, R1, R2, R3, R4, R6, R7, R8, R9, Stack},
    When::{Greater, Negative, NotEqual},
    Width::{Eight, Four, One, Two},
};

/// UDP port on the private link; it never appears on another.
pub(super) const PORT: u16 = 50;

/// Counters in the map, by index: packets that no route takes, and packets larger than the
/// device that the route names.
pub(super) const COUNTERS: usize = 2;
const NO_ROUTE: i16 = 0;
const TOO_BIG: i16 = 8;

/// `struct __sk_buff`.
mod context {
    pub(super) const PACKET_TYPE: i16 = 4;
    pub(super) const VLAN_PRESENT: i16 = 20;
    pub(super) const INTERFACE: i16 = 40;
    pub(super) const DATA: i16 = 76;
    pub(super) const DATA_END: i16 = 80;
}

/// Ethernet and IPv4 header.
mod packet {
    pub(super) const ETHER_TYPE: i16 = 12;
    pub(super) const VERSION: i16 = 14;
    pub(super) const TOS: i16 = 15;
    pub(super) const LENGTH: i16 = 16;
    pub(super) const ID_AND_FRAGMENT: i16 = 18;
    pub(super) const FRAGMENT: i16 = 20;
    pub(super) const TTL: i16 = 22;
    pub(super) const PROTOCOL: i16 = 23;
    pub(super) const CHECKSUM: i16 = 24;
    pub(super) const SOURCE: i16 = 26;
    pub(super) const DESTINATION: i16 = 30;
    pub(super) const PAYLOAD: i16 = 34;
}

mod helper {
    pub(super) const REDIRECT: i32 = 23;
    pub(super) const LOAD_BYTES: i32 = 26;
    pub(super) const ADJUST_ROOM: i32 = 50;
    pub(super) const FIB_LOOKUP: i32 = 69;
    pub(super) const CHECKSUM_LEVEL: i32 = 135;
    pub(super) const REDIRECT_NEIGHBOUR: i32 = 152;
}

/// `struct bpf_fib_lookup`, on the stack.
mod fib {
    pub(super) const START: i16 = -64;
    pub(super) const LEN: i32 = 64;
    pub(super) const FAMILY: i16 = START;
    pub(super) const PROTOCOL: i16 = START + 1;
    pub(super) const INTERFACE: i16 = START + 8;
    pub(super) const TOS: i16 = START + 12;
    pub(super) const SOURCE: i16 = START + 16;
    pub(super) const DESTINATION: i16 = START + 32;
    /// The neighbour is looked up by whoever sends.
    pub(super) const SKIP_NEIGHBOUR: i32 = 4;
    /// Local addresses and unknown ones.
    pub(super) const NOT_FORWARDED: i32 = 4;
    pub(super) const TOO_BIG: i32 = 8;
}

/// `struct bpf_redir_neigh`, on the stack below the other.
mod neighbour {
    pub(super) const START: i16 = -88;
    pub(super) const LEN: i32 = 20;
    pub(super) const FAMILY: i16 = START;
    pub(super) const ADDRESS: i16 = START + 4;
}

const TCX_NEXT: i32 = -1;
const TC_ACT_SHOT: i32 = 2;

const UDP_HEADER: i32 = 8;
const ESP: i32 = 50;
const UDP: i32 = 17;

/// What a UDP checksum of a packet that nobody will check may be; 0 would keep the kernel from
/// putting trains together.
const ANY_CHECKSUM: i32 = 0xffff;

/// From the private link to the world: UDP header off, protocol 50, then by the routing table.
/// `map` is the array of [`COUNTERS`].
pub(super) fn to_wire(map: i32) -> Option<Vec<u64>> {
    let mut a = Assembler::default();
    begin(&mut a, UDP);
    a.copy(R1, R6).set(R2, -UDP_HEADER).set(R3, 0).set(R4, 0);
    a.call(helper::ADJUST_ROOM)
        .jump_if_value(R0, NotEqual, 0, "refused");
    reload(&mut a, i32::from(packet::PAYLOAD), "refused");
    a.put(One, R7, packet::PROTOCOL, ESP);
    add_to_length(&mut a, -UDP_HEADER);
    fill_in_checksum(&mut a);
    look_up_route(&mut a);
    a.jump_if_value(R0, NotEqual, 0, "no route");
    // The next hop's family may differ from the packet's, and its address is longer then.
    for offset in [0, 8] {
        let whole = neighbour::START + offset;
        a.put(Eight, Stack, whole, 0);
    }
    a.put(Four, Stack, neighbour::START + 16, 0)
        .load(One, R2, Stack, fib::FAMILY)
        .store(Four, Stack, neighbour::FAMILY, R2);
    for word in [0, 4, 8, 12] {
        a.load(Four, R2, Stack, fib::DESTINATION + word).store(
            Four,
            Stack,
            neighbour::ADDRESS + word,
            R2,
        );
    }
    a.load(Four, R1, Stack, fib::INTERFACE)
        .copy(R2, Stack)
        .add_value(R2, i32::from(neighbour::START))
        .set(R3, neighbour::LEN)
        .set(R4, 0)
        .call(helper::REDIRECT_NEIGHBOUR)
        .exit();
    a.label("no route")
        .jump_if_value(R0, NotEqual, fib::TOO_BIG, "refused");
    count(&mut a, map, TOO_BIG);
    a.jump("not ours").label("refused");
    count(&mut a, map, NO_ROUTE);
    // Nothing but our own UDP has any business on the private link.
    a.label("not ours").set(R0, TC_ACT_SHOT).exit();
    a.finish()
}

/// The private link, as [`from_wire`] needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PrivateLink {
    /// Index of the end in the gateway's namespace.
    pub(super) outer: u32,
    /// Link address of the end in the private namespace.
    pub(super) inner_mac: [u8; 6],
}

/// From the world to the private link: protocol 50 for `local`, while that is an address of
/// this machine, gets a UDP header; everything else goes its usual way.
pub(super) fn from_wire(local: Ipv4Addr, link: PrivateLink) -> Option<Vec<u64>> {
    let mut a = Assembler::default();
    begin(&mut a, ESP);
    a.load(Four, R2, R6, context::PACKET_TYPE)
        .jump_if_value(R2, NotEqual, 0, "not ours")
        .load(Four, R2, R6, context::VLAN_PRESENT)
        .jump_if_value(R2, NotEqual, 0, "not ours")
        .set_u32(R2, u32::from_ne_bytes(local.octets()))
        .load(Four, R3, R7, packet::DESTINATION)
        .jump_if(R3, NotEqual, R2, "not ours");
    look_up_route(&mut a);
    a.jump_if_value(R0, NotEqual, fib::NOT_FORWARDED, "not ours");
    // The SPI becomes the source port: an SA is a flow, with trains and a worker of its own.
    a.copy(R1, R6)
        .set(R2, i32::from(packet::PAYLOAD))
        .copy(R3, Stack)
        .add_value(R3, -8)
        .set(R4, 4)
        .call(helper::LOAD_BYTES)
        .jump_if_value(R0, NotEqual, 0, "not ours");
    a.copy(R1, R6).set(R2, UDP_HEADER).set(R3, 0).set(R4, 0);
    a.call(helper::ADJUST_ROOM)
        .jump_if_value(R0, NotEqual, 0, "not ours");
    // Nobody knows the checksum, and nobody needs it: ESP has its own. Where the kernel cannot
    // be told so, because the network card has summed up the packet that it was before, the
    // packet goes without one.
    a.copy(R1, R6).set(R2, 1).call(helper::CHECKSUM_LEVEL);
    a.copy(R1, R6).set(R2, 0).call(helper::CHECKSUM_LEVEL);
    a.set(R9, ANY_CHECKSUM)
        .jump_if_value(R0, Negative, 0, "no checksum")
        .jump("checksum")
        .label("no checksum")
        .set(R9, 0)
        .label("checksum");
    reload(&mut a, i32::from(packet::PAYLOAD) + UDP_HEADER, "lost");
    address_frame(&mut a, link.inner_mac);
    // "Don't fragment" and no id: then the ids of a train do not matter.
    a.put(One, R7, packet::TTL, 64)
        .put(One, R7, packet::PROTOCOL, UDP)
        .put(Four, R7, packet::ID_AND_FRAGMENT, network(0x0000_4000));
    add_to_length(&mut a, UDP_HEADER);
    let udp = packet::PAYLOAD;
    a.load(Two, R2, R7, packet::LENGTH)
        .swap_u16(R2)
        .add_value(R2, -20)
        .swap_u16(R2)
        .store(Two, R7, udp + 4, R2)
        .store(Two, R7, udp + 6, R9)
        .put(Two, R7, udp + 2, i32::from(PORT.to_be()))
        .load(Two, R2, Stack, -6)
        .store(Two, R7, udp, R2);
    fill_in_checksum(&mut a);
    a.set_u32(R1, link.outer)
        .set(R2, 0)
        .call(helper::REDIRECT)
        .exit();
    a.label("not ours").set(R0, TCX_NEXT).exit();
    a.label("lost").set(R0, TC_ACT_SHOT).exit();
    a.finish()
}

/// A 32-bit word in network byte order, as a value to store.
fn network(word: u32) -> i32 {
    i32::from_ne_bytes(word.to_be_bytes())
}

/// r6 = context, r7 = packet; on only with an unfragmented IPv4 packet of `protocol`.
fn begin(a: &mut Assembler, protocol: i32) {
    a.copy(R6, R1);
    reload(a, i32::from(packet::PAYLOAD), "not ours");
    a.load(Two, R2, R7, packet::ETHER_TYPE)
        .jump_if_value(R2, NotEqual, i32::from(0x0800_u16.to_be()), "not ours")
        .load(One, R2, R7, packet::PROTOCOL)
        .jump_if_value(R2, NotEqual, protocol, "not ours")
        .load(One, R2, R7, packet::VERSION)
        .jump_if_value(R2, NotEqual, 0x45, "not ours")
        .load(Two, R2, R7, packet::FRAGMENT)
        .and(R2, i32::from(0x3fff_u16.to_be()))
        .jump_if_value(R2, NotEqual, 0, "not ours");
}

/// r7 = packet, of which at least `len` bytes can be read.
fn reload(a: &mut Assembler, len: i32, short: &'static str) {
    a.load(Four, R7, R6, context::DATA)
        .load(Four, R8, R6, context::DATA_END)
        .copy(R2, R7)
        .add_value(R2, len)
        .jump_if(R2, Greater, R8, short);
}

/// r0 = what the routing table says about the packet at r7, and the answer on the stack.
fn look_up_route(a: &mut Assembler) {
    for offset in (0..64).step_by(8) {
        a.put(Eight, Stack, fib::START + offset, 0);
    }
    a.put(One, Stack, fib::FAMILY, 2)
        .put(One, Stack, fib::PROTOCOL, ESP)
        .load(One, R2, R7, packet::TOS)
        .store(One, Stack, fib::TOS, R2)
        .load(Four, R2, R6, context::INTERFACE)
        .store(Four, Stack, fib::INTERFACE, R2)
        .load(Four, R2, R7, packet::SOURCE)
        .store(Four, Stack, fib::SOURCE, R2)
        .load(Four, R2, R7, packet::DESTINATION)
        .store(Four, Stack, fib::DESTINATION, R2);
    a.copy(R1, R6)
        .copy(R2, Stack)
        .add_value(R2, i32::from(fib::START))
        .set(R3, fib::LEN)
        .set(R4, fib::SKIP_NEIGHBOUR)
        .call(helper::FIB_LOOKUP);
}

fn address_frame(a: &mut Assembler, mac: [u8; 6]) {
    for (offset, byte) in (0..).zip(mac) {
        a.put(One, R7, offset, i32::from(byte));
    }
}

/// The IPv4 header's length field grows by `by`.
fn add_to_length(a: &mut Assembler, by: i32) {
    a.load(Two, R2, R7, packet::LENGTH)
        .swap_u16(R2)
        .add_value(R2, by)
        .swap_u16(R2)
        .store(Two, R7, packet::LENGTH, R2);
}

/// The checksum of the IPv4 header (RFC 1071).
fn fill_in_checksum(a: &mut Assembler) {
    a.put(Two, R7, packet::CHECKSUM, 0).set(R2, 0);
    for offset in (packet::VERSION..packet::PAYLOAD).step_by(2) {
        a.load(Two, R3, R7, offset).add(R2, R3);
    }
    for _carry in 0..2 {
        a.copy(R3, R2)
            .shift_right(R3, 16)
            .and(R2, 0xffff)
            .add(R2, R3);
    }
    a.not(R2).store(Two, R7, packet::CHECKSUM, R2);
}

fn count(a: &mut Assembler, map: i32, counter: i16) {
    a.address_of_map(R1, map)
        .set(R2, 1)
        .atomic_add(R1, counter, R2);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_labels_are_there_and_near() {
        let link = PrivateLink {
            outer: 7,
            inner_mac: [2, 0, 0, 0, 0, 1],
        };
        assert!(to_wire(3).is_some());
        assert!(from_wire(Ipv4Addr::new(192, 0, 2, 1), link).is_some());
    }
}
