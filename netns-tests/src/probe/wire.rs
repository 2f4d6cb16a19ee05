//! What a capture says about two gateways behind one address: the ESP packets, the IKE
//! messages and the ARP claims, each with the card that sent it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use super::pcap::{self, Arp, Content, Frame, IpPacket, Mac};
use crate::LabError;

/// How far behind the highest number strongSwan's userspace ESP still accepts a packet.
pub const STRONGSWAN_WINDOW: u32 = 128;

const PROTOCOL_ESP: u8 = 50;
const IKE_PORT: u16 = 500;
const NAT_T_PORT: u16 = 4500;
/// RFC 3948 §2.2: what precedes an IKE message on port 4500.
const NON_ESP_MARKER: [u8; 4] = [0; 4];

/// One ESP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Esp {
    /// When it passed, since the epoch.
    pub at: Duration,
    /// The card that sent it.
    pub from: Mac,
    /// Source address.
    pub source: Ipv4Addr,
    /// Its SA.
    pub spi: u32,
    /// Its number.
    pub sequence: u32,
    /// The eight bytes after it: the explicit IV of AES-GCM (RFC 4106 §3.1).
    pub iv: u64,
}

/// One IKE message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ike {
    /// When it passed, since the epoch.
    pub at: Duration,
    /// The card that sent it.
    pub from: Mac,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// 2 main mode, 4 aggressive mode, 5 informational, 32 quick mode.
    pub exchange: u8,
}

impl Ike {
    /// It is not merely informational.
    #[must_use]
    pub fn negotiates(&self) -> bool {
        matches!(self.exchange, 2 | 4 | 32)
    }
}

/// One claim of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// When it passed, since the epoch.
    pub at: Duration,
    /// The card that sent it.
    pub from: Mac,
    /// What it says.
    pub arp: Arp,
}

/// Everything of interest in one or more captures, in the order of time.
#[derive(Debug, Clone, Default)]
pub struct Wire {
    /// ESP, in UDP or bare.
    pub esp: Vec<Esp>,
    /// IKE on ports 500 and 4500.
    pub ike: Vec<Ike>,
    /// ARP answers and announcements; questions for others are left out.
    pub claims: Vec<Claim>,
}

impl Wire {
    /// Reads a capture.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(file: &Path) -> Result<Self, LabError> {
        let mut wire = Self::default();
        for frame in pcap::frames(file)? {
            wire.add(&frame);
        }
        Ok(wire)
    }

    fn add(&mut self, frame: &Frame) {
        let &Frame { at, from, .. } = frame;
        match &frame.content {
            Content::Arp(arp) if arp.claims(arp.sender) => {
                self.claims.push(Claim {
                    at,
                    from,
                    arp: *arp,
                });
            }
            Content::Arp(_question) => {}
            Content::Ip(packet) => match carried(packet) {
                Some(Carried::Esp([spi, sequence], iv)) => self.esp.push(Esp {
                    at,
                    from,
                    source: packet.source,
                    spi,
                    sequence,
                    iv,
                }),
                Some(Carried::Ike(exchange)) => self.ike.push(Ike {
                    at,
                    from,
                    source: packet.source,
                    destination: packet.destination,
                    exchange,
                }),
                None => {}
            },
        }
    }

    /// IKE messages to or from an address within a time.
    pub fn ike_of(&self, address: Ipv4Addr, when: Range<Duration>) -> impl Iterator<Item = &Ike> {
        self.ike.iter().filter(move |message| {
            let ours = message.source == address || message.destination == address;
            ours && when.contains(&message.at)
        })
    }

    /// The cards that claimed an address within a time, with the number of claims.
    #[must_use]
    pub fn claimants(&self, address: Ipv4Addr, when: Range<Duration>) -> BTreeMap<Mac, usize> {
        let mut found = BTreeMap::new();
        for claim in &self.claims {
            if claim.arp.sender == address && when.contains(&claim.at) {
                *found.entry(claim.arp.sender_mac).or_default() += 1;
            }
        }
        found
    }

    /// The last time that a card sent ESP, IKE or an ARP claim for an address.
    #[must_use]
    pub fn last_spoken(&self, address: Ipv4Addr, card: Mac) -> Option<Duration> {
        self.spoken(address, card).max()
    }

    /// Every time that a card sent ESP, IKE or an ARP claim for an address.
    pub fn spoken(&self, address: Ipv4Addr, card: Mac) -> impl Iterator<Item = Duration> {
        let esp = self.esp.iter().map(|p| (p.from, p.source, p.at));
        let ike = self.ike.iter().map(|m| (m.from, m.source, m.at));
        let claims = self.claims.iter().map(|c| (c.from, c.arp.sender, c.at));
        esp.chain(ike)
            .chain(claims)
            .filter(move |(from, source, _)| *from == card && *source == address)
            .map(|(_, _, at)| at)
    }

    /// ESP packets whose SPI and IV another packet had before: invariant I1 broken.
    #[must_use]
    pub fn repeated_ivs(&self, source: Ipv4Addr) -> Vec<Esp> {
        let mut seen = HashSet::new();
        let sent = self.esp.iter().filter(|packet| packet.source == source);
        sent.filter(|packet| !seen.insert((packet.spi, packet.iv)))
            .copied()
            .collect()
    }

    /// ESP packets that a receiver with strongSwan's window refuses as replayed or too old.
    #[must_use]
    pub fn replay_drops(&self, source: Ipv4Addr) -> Vec<Esp> {
        let mut windows: HashMap<u32, (u32, HashSet<u32>)> = HashMap::new();
        let mut drops = Vec::new();
        for packet in self.esp.iter().filter(|packet| packet.source == source) {
            let (highest, seen) = windows.entry(packet.spi).or_default();
            let too_old = packet.sequence.saturating_add(STRONGSWAN_WINDOW) <= *highest;
            if too_old || !seen.insert(packet.sequence) {
                drops.push(*packet);
            }
            *highest = (*highest).max(packet.sequence);
        }
        drops
    }

    /// ESP packets of one card that are not above everything another card sent before on the
    /// same SA: invariant I2 broken, unless both were active.
    #[must_use]
    pub fn not_above(&self, source: Ipv4Addr) -> Vec<Esp> {
        let mut highest: HashMap<u32, HashMap<Mac, u32>> = HashMap::new();
        let mut found = Vec::new();
        for packet in self.esp.iter().filter(|packet| packet.source == source) {
            let cards = highest.entry(packet.spi).or_default();
            let others = cards.iter().filter(|(card, _)| **card != packet.from);
            if others.into_iter().any(|(_, top)| packet.sequence <= *top) {
                found.push(*packet);
            }
            let own = cards.entry(packet.from).or_default();
            *own = (*own).max(packet.sequence);
        }
        found
    }

    /// Different SPIs in use towards one side.
    #[must_use]
    pub fn spis(&self, source: Ipv4Addr) -> HashSet<u32> {
        let sent = self.esp.iter().filter(|packet| packet.source == source);
        sent.map(|packet| packet.spi).collect()
    }
}

enum Carried {
    Esp([u32; 2], u64),
    Ike(u8),
}

fn carried(packet: &IpPacket) -> Option<Carried> {
    if packet.protocol == PROTOCOL_ESP {
        return esp(&packet.payload);
    }
    let datagram = packet.udp()?;
    let ports = [datagram.source_port, datagram.destination_port];
    if ports.contains(&NAT_T_PORT) {
        match datagram.payload.strip_prefix(&NON_ESP_MARKER) {
            Some(message) => ike(message),
            None => esp(&datagram.payload),
        }
    } else if ports.contains(&IKE_PORT) {
        ike(&datagram.payload)
    } else {
        None
    }
}

fn ike(message: &[u8]) -> Option<Carried> {
    // RFC 2408 §3.1: two cookies, next payload, version, exchange type.
    message.get(18).copied().map(Carried::Ike)
}

/// A keepalive of one byte (RFC 3948 §2.3) is too short for it.
fn esp(packet: &[u8]) -> Option<Carried> {
    let word = |at: usize| -> Option<u32> {
        let four: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(four))
    };
    let iv: [u8; 8] = packet.get(8..16)?.try_into().ok()?;
    Some(Carried::Esp([word(0)?, word(4)?], u64::from_be_bytes(iv)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
    const OLD: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const NEW: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn wire(packets: &[(Mac, u32, u64)]) -> Wire {
        let mut wire = Wire::default();
        for (at, &(from, sequence, iv)) in packets.iter().enumerate() {
            let mut payload = vec![0, 0, 0, 7];
            payload.extend(sequence.to_be_bytes());
            payload.extend(iv.to_be_bytes());
            let at = Duration::from_millis(at as u64);
            wire.add(&Frame {
                at,
                from,
                to: NEW,
                content: Content::Ip(IpPacket {
                    at,
                    source: PAIR,
                    destination: Ipv4Addr::LOCALHOST,
                    protocol: PROTOCOL_ESP,
                    payload,
                }),
            });
        }
        wire
    }

    #[test]
    fn a_takeover_above_everything_is_clean() {
        let wire = wire(&[(OLD, 5, 5), (OLD, 6, 6), (NEW, 1000, 1 << 63)]);
        assert_eq!(wire.esp.len(), 3);
        assert!(wire.repeated_ivs(PAIR).is_empty());
        assert!(wire.replay_drops(PAIR).is_empty());
        assert!(wire.not_above(PAIR).is_empty());
        assert_eq!(wire.last_spoken(PAIR, OLD), Some(Duration::from_millis(1)));
        assert_eq!(wire.spis(PAIR).len(), 1);
    }

    #[test]
    fn each_fault_is_seen_by_its_own_eye() {
        let repeated = wire(&[(OLD, 5, 5), (NEW, 6, 5)]);
        assert_eq!(repeated.repeated_ivs(PAIR).len(), 1);
        assert!(repeated.replay_drops(PAIR).is_empty());
        assert!(repeated.not_above(PAIR).is_empty());
        let behind = wire(&[(OLD, 5, 5), (NEW, 4, 6)]);
        assert_eq!(behind.not_above(PAIR).len(), 1);
        assert!(behind.replay_drops(PAIR).is_empty(), "within the window");
        let replayed = wire(&[(OLD, 5, 5), (OLD, 5, 6), (OLD, 300, 7), (OLD, 172, 8)]);
        assert_eq!(replayed.replay_drops(PAIR).len(), 2);
        assert!(replayed.not_above(PAIR).is_empty(), "one card only");
    }

    #[test]
    fn ike_and_esp_on_port_4500_are_told_apart() {
        let datagram = |payload: &[u8]| {
            let mut bytes = [4500_u16, 4500, 0, 0].map(u16::to_be_bytes).concat();
            bytes.extend(payload);
            carried(&IpPacket {
                at: Duration::ZERO,
                source: PAIR,
                destination: PAIR,
                protocol: 17,
                payload: bytes,
            })
        };
        let mut quick_mode = vec![0; 32];
        quick_mode[22] = 32;
        assert!(matches!(datagram(&quick_mode), Some(Carried::Ike(32))));
        let esp = [[0, 0, 0, 7, 0, 0, 0, 9], [1; 8]].concat();
        assert!(matches!(datagram(&esp), Some(Carried::Esp([7, 9], _))));
        assert!(datagram(&[0xff]).is_none(), "a keepalive is neither");
    }
}
