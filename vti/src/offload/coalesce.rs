//! From decrypted packets to as few TUN writes as the receiver cannot tell from the originals.
//!
//! The rules are those of the kernel's generic receive offload: same addresses, ports, TTL,
//! ToS (ECN included), "don't fragment"; for TCP the same acknowledgement, window, flags and
//! options, consecutive sequence numbers; for UDP the same length; IPv4 identifications that
//! count up, or stay equal where "don't fragment" makes them meaningless (RFC 6864 §4.1).
//! A packet whose checksum does not verify is never merged and keeps its bad checksum.

mod candidate;

use core::ops::Range;
use std::io::IoSlice;

use super::{Gso, GsoKind, VirtioHeader};
use crate::wire::{
    self, CWR, DONT_FRAGMENT, FIN, PSH, TCP, TCP_CHECKSUM, TCP_HEADER, UDP, UDP_CHECKSUM,
};
use candidate::Candidate;

/// The most pieces one write gathers: the head and 63 further payloads, which is also the
/// kernel's limit for UDP trains.
pub const MAX_PARTS: usize = 64;

/// The longest super-packet, IP header included, that an Ethernet device takes uncut: usually less
/// than 65,536 bytes (`gso_max_size`) with the Ethernet header and two VLAN tags. What is longer
/// the kernel cuts in software.
pub const MAX_UNCUT: usize = 65_535 - (14 + 8);

/// No further member.
const END: usize = usize::MAX;

/// Gathers packets that lie in one buffer and hands them out as TUN writes. Reused for batch
/// after batch: it allocates when it grows beyond the largest batch so far, and then no more.
#[derive(Debug)]
pub struct Coalescer {
    groups: Vec<Group>,
    members: Vec<Member>,
    /// Groups that may still grow, newest last.
    open: Vec<usize>,
}

/// The queue that a packet is for, and what that takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// Names the queue to the caller; packets of different lanes are never merged.
    pub tag: usize,
    /// It takes TCP super-packets.
    pub tcp: bool,
    /// It takes UDP super-packets.
    pub udp: bool,
}

/// Whether the TUN may be told that a checksum was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verified {
    /// TCP or UDP with a correct checksum.
    Yes,
    /// Another protocol, or a checksum that is wrong: the receiver looks for itself.
    No,
}

#[derive(Debug)]
struct Group {
    tag: usize,
    head: Range<usize>,
    candidate: Option<Candidate>,
    verified: Verified,
    /// Payload pieces behind the head.
    first: usize,
    last: usize,
    parts: usize,
    total: usize,
    next_sequence: u32,
    next_id: u16,
    /// Identifications do not count: `None` while there is only the head.
    ids_fixed: Option<bool>,
    /// FIN and PSH of the members, which the super-packet shows.
    flags: u8,
}

#[derive(Debug)]
struct Member {
    payload: Range<usize>,
    next: usize,
}

/// The most flows that grow at the same time; beyond it the oldest is closed.
const OPEN_FLOWS: usize = 32;

impl Coalescer {
    /// With memory for `packets` packets between two calls of [`Coalescer::drain`].
    #[must_use]
    pub fn with_capacity(packets: usize) -> Self {
        Self {
            groups: Vec::with_capacity(packets),
            members: Vec::with_capacity(packets),
            open: Vec::with_capacity(OPEN_FLOWS + 1),
        }
    }

    /// True when nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Adds the packet at `range` of `buffer`. Packets of one flow leave in the order in
    /// which they were added; a range outside of the buffer is ignored.
    pub fn push(&mut self, buffer: &[u8], range: Range<usize>, lane: &Lane) {
        let Some(packet) = buffer.get(range.clone()) else {
            return;
        };
        let parsed = Candidate::parse(packet);
        let intact = parsed.is_some_and(|candidate| candidate.checksum_is_intact(packet));
        let allowed = |candidate: &Candidate| match candidate.kind {
            GsoKind::TcpV4 | GsoKind::TcpV6 => lane.tcp,
            GsoKind::Udp => lane.udp,
        };
        let Some(candidate) = parsed.filter(allowed) else {
            self.close_flow_of_unknown(parsed);
            self.start(lane, range, parsed, intact, false);
            return;
        };
        let Some(place) = self.find(buffer, packet, &candidate, lane) else {
            self.start(
                lane,
                range,
                Some(candidate),
                intact,
                intact && candidate.may_grow(),
            );
            return;
        };
        let Some(index) = self.open.get(place).copied() else {
            return;
        };
        if intact && self.merge(buffer, packet, index, &candidate, &range) {
            let group = self.groups.get(index);
            let closes = group.is_none_or(|group| group.is_closed_by(&candidate));
            if closes {
                self.open.remove(place);
            }
            return;
        }
        // The same flow, but not its next piece: what came before must leave first.
        self.open.remove(place);
        self.start(
            lane,
            range,
            Some(candidate),
            intact,
            intact && candidate.may_grow(),
        );
    }

    /// Hands out every write in order: its lane's tag, the virtio header and the pieces. The
    /// heads of super-packets are rewritten in `buffer`, the same that `push` saw.
    pub fn drain(
        &mut self,
        buffer: &mut [u8],
        mut write: impl FnMut(usize, &VirtioHeader, &[IoSlice<'_>]),
    ) {
        for group in &self.groups {
            let header = if group.parts > 1 {
                group.finish(buffer)
            } else {
                Some(VirtioHeader {
                    checksum_valid: group.verified == Verified::Yes,
                    ..VirtioHeader::default()
                })
            };
            let (Some(header), Some(head)) = (header, buffer.get(group.head.clone())) else {
                continue;
            };
            let mut parts = [IoSlice::new(&[]); MAX_PARTS];
            let mut used = 0;
            let mut next = group.first;
            let mut piece = Some(head);
            for part in &mut parts {
                let Some(bytes) = piece else { break };
                *part = IoSlice::new(bytes);
                used += 1;
                let member = self.members.get(next);
                piece = member.and_then(|member| buffer.get(member.payload.clone()));
                next = member.map_or(END, |member| member.next);
            }
            write(group.tag, &header, parts.get(..used).unwrap_or_default());
        }
        self.clear();
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.groups.clear();
        self.members.clear();
        self.open.clear();
    }

    fn start(
        &mut self,
        lane: &Lane,
        head: Range<usize>,
        candidate: Option<Candidate>,
        intact: bool,
        may_grow: bool,
    ) {
        let index = self.groups.len();
        let (sequence, id, flags) =
            candidate.map_or((0, 0, 0), |c| (c.next_sequence(), c.id, c.flags));
        self.groups.push(Group {
            tag: lane.tag,
            total: head.len(),
            head,
            candidate,
            verified: if intact { Verified::Yes } else { Verified::No },
            first: END,
            last: END,
            parts: 1,
            next_sequence: sequence,
            next_id: id.wrapping_add(1),
            ids_fixed: None,
            flags: flags & (FIN | PSH),
        });
        if may_grow {
            if self.open.len() == OPEN_FLOWS {
                self.open.remove(0);
            }
            self.open.push(index);
        }
    }

    /// A packet that shows no ports (a fragment, an odd header) may belong to any open flow
    /// of its addresses: closing all keeps the order, and such packets are rare.
    fn close_flow_of_unknown(&mut self, parsed: Option<Candidate>) {
        if parsed.is_none() {
            self.open.clear();
        }
    }

    fn find(
        &self,
        buffer: &[u8],
        packet: &[u8],
        candidate: &Candidate,
        lane: &Lane,
    ) -> Option<usize> {
        // The newest first: packets of a flow come in runs.
        self.open.iter().rposition(|&index| {
            let Some(group) = self.groups.get(index) else {
                return false;
            };
            let (Some(head), Some(other)) = (buffer.get(group.head.clone()), &group.candidate)
            else {
                return false;
            };
            group.tag == lane.tag
                && other.kind == candidate.kind
                && other.is_ipv6 == candidate.is_ipv6
                && other.hint == candidate.hint
                && candidate.same_flow(packet, other, head)
        })
    }

    /// Appends the packet to group `index` if every rule holds.
    fn merge(
        &mut self,
        buffer: &[u8],
        packet: &[u8],
        index: usize,
        candidate: &Candidate,
        range: &Range<usize>,
    ) -> bool {
        let member = self.members.len();
        let Some(group) = self.groups.get_mut(index) else {
            return false;
        };
        let Some(head) = buffer.get(group.head.clone()) else {
            return false;
        };
        if !group.accepts(head, packet, candidate) {
            return false;
        }
        group.parts += 1;
        group.total += candidate.payload;
        group.next_sequence = candidate.next_sequence();
        group.ids_fixed = group.ids_fixed.or(Some(candidate.id != group.next_id));
        group.next_id = candidate.id.wrapping_add(1);
        group.flags |= candidate.flags & (FIN | PSH);
        let previous = core::mem::replace(&mut group.last, member);
        if previous == END {
            group.first = member;
        } else if let Some(previous) = self.members.get_mut(previous) {
            previous.next = member;
        }
        self.members.push(Member {
            payload: range.start + candidate.headers..range.end,
            next: END,
        });
        true
    }
}

impl Group {
    /// Was this packet, just merged, the last that the group takes?
    fn is_closed_by(&self, candidate: &Candidate) -> bool {
        self.candidate
            .is_none_or(|head| candidate.payload < head.payload)
            || candidate.is_tcp() && candidate.flags & (FIN | PSH) != 0
    }

    /// Every rule of the module's head, for the next packet of the same flow.
    fn accepts(&self, head: &[u8], packet: &[u8], candidate: &Candidate) -> bool {
        let Some(first) = &self.candidate else {
            return false;
        };
        candidate.headers == first.headers
            && candidate.payload > 0
            && candidate.payload <= first.payload
            && self.parts < MAX_PARTS
            && self.total + candidate.payload <= MAX_UNCUT
            && same_network_header(head, packet, first.is_ipv6)
            && self.id_continues(head, candidate, first)
            && (!first.is_tcp() || self.tcp_continues(head, packet, candidate, first))
    }

    /// RFC 6864: without "don't fragment" the identification counts up; with it, it may also
    /// stay as it is, but not change its manner within one super-packet.
    fn id_continues(&self, head: &[u8], candidate: &Candidate, first: &Candidate) -> bool {
        if first.is_ipv6 {
            return true;
        }
        let atomic = wire::be16(head, 6).is_some_and(|word| word & DONT_FRAGMENT != 0);
        let counts = candidate.id == self.next_id;
        let fixed = atomic && candidate.id == first.id;
        match self.ids_fixed {
            None => counts || fixed,
            Some(true) => fixed,
            Some(false) => counts,
        }
    }

    fn tcp_continues(
        &self,
        head: &[u8],
        packet: &[u8],
        candidate: &Candidate,
        first: &Candidate,
    ) -> bool {
        let upper = first.upper;
        let may_differ = FIN | PSH | CWR;
        let options = upper + TCP_HEADER..first.headers;
        candidate.sequence == self.next_sequence
            && candidate.flags & CWR == 0
            && (candidate.flags ^ first.flags) & !may_differ == 0
            // Acknowledgement, header length with the reserved bits, window.
            && wire::be32(packet, upper + 8) == wire::be32(head, upper + 8)
            && wire::byte(packet, upper + 12) == wire::byte(head, upper + 12)
            && wire::be16(packet, upper + 14) == wire::be16(head, upper + 14)
            && packet.get(options.clone()) == head.get(options)
    }

    /// Turns the head into the head of a super-packet and describes it.
    fn finish(&self, buffer: &mut [u8]) -> Option<VirtioHeader> {
        let first = self.candidate?;
        let head = buffer.get_mut(self.head.clone())?;
        let upper_len = self.total - first.upper;
        if first.is_ipv6 {
            let len = u16::try_from(upper_len).ok()?;
            wire::put(head, 4, &len.to_be_bytes())?;
        } else {
            let total = u16::try_from(self.total).ok()?;
            wire::put(head, 2, &total.to_be_bytes())?;
            wire::fill_ipv4_checksum(head, first.upper)?;
        }
        let (protocol, offset) = if first.is_tcp() {
            let flags = wire::byte(head, first.upper + 13)? | self.flags;
            wire::put(head, first.upper + 13, &[flags])?;
            (TCP, TCP_CHECKSUM)
        } else {
            let len = u16::try_from(upper_len).ok()?;
            wire::put(head, first.upper + 4, &len.to_be_bytes())?;
            (UDP, UDP_CHECKSUM)
        };
        let partial = wire::pseudo_header(head, protocol, upper_len)?.folded();
        wire::put(head, first.upper + offset, &partial)?;
        Some(VirtioHeader {
            needs_checksum: true,
            checksum_valid: false,
            gso: Some(Gso {
                kind: first.kind,
                ecn: first.is_tcp() && first.flags & CWR != 0,
                size: u16::try_from(first.payload).ok()?,
            }),
            header_len: u16::try_from(first.headers).ok()?,
            checksum_start: u16::try_from(first.upper).ok()?,
            checksum_offset: u16::try_from(offset).ok()?,
        })
    }
}

/// Version, ToS or traffic class, flow label, TTL or hop limit, "don't fragment".
fn same_network_header(head: &[u8], packet: &[u8], is_ipv6: bool) -> bool {
    if is_ipv6 {
        wire::be32(head, 0) == wire::be32(packet, 0) && wire::byte(head, 7) == wire::byte(packet, 7)
    } else {
        wire::byte(head, 1) == wire::byte(packet, 1)
            && wire::be16(head, 6) == wire::be16(packet, 6)
            && wire::byte(head, 8) == wire::byte(packet, 8)
    }
}
