//! The packets: what stands for ESP here, as a payload, as an IPv4 packet and as a frame.

use std::net::Ipv4Addr;

/// Packets of one burst: what a TUN device hands over as one 64 KiB super-packet comes to
/// about as many.
pub(crate) const BURST: usize = 48;

/// The sender's address.
pub(crate) const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The receiver's address.
pub(crate) const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The sender's link address.
pub(crate) const A_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The receiver's link address.
pub(crate) const B_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Ethernet header.
pub(crate) const ETHERNET: usize = 14;
/// IPv4 header without options.
pub(crate) const IPV4: usize = 20;
/// ESP packet, as long as in an IPv4 packet of 1450 bytes.
pub(crate) const ESP: usize = 1430;
/// The whole frame.
pub(crate) const FRAME: usize = ETHERNET + IPV4 + ESP;

/// The SPI that every packet bears and every receiver looks for.
const SPI: [u8; 4] = 0x7769_7265_u32.to_be_bytes();

/// True for the front of an ESP packet of ours.
pub(crate) fn is_ours(front: &[u8]) -> bool {
    front.starts_with(&SPI)
}

/// From the SPI on.
pub(crate) fn esp() -> Vec<u8> {
    let mut packet = SPI.to_vec();
    packet.extend((0_u8..=250).cycle().take(ESP - SPI.len()));
    packet
}

/// From the Ethernet header on.
pub(crate) fn frame() -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend(((IPV4 + ESP) as u16).to_be_bytes());
    header.extend([0, 0, 0, 0, 64, 50, 0, 0]);
    header.extend(A.octets());
    header.extend(B.octets());
    let checksum = checksum(&header).to_be_bytes();
    for (place, byte) in header.iter_mut().skip(10).zip(checksum) {
        *place = byte;
    }
    let mut frame = [B_MAC, A_MAC].concat();
    frame.extend([8, 0]);
    frame.extend(header);
    frame.extend(esp());
    frame
}

/// RFC 1071.
fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks_exact(2).filter_map(|word| word.first_chunk());
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
