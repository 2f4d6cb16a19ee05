//! The outer traffic class (RFC 6040 for ECN, RFC 2983 for DSCP).
//!
//! TTL and hop limit are none of our business: the kernel decrements the inner one when it
//! routes a packet into the tunnel, and the outer header starts with its own.

/// The ECN field of a traffic class octet (RFC 3168 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ecn {
    /// 00: the transport does not know ECN.
    NotEct,
    /// 01.
    Ect1,
    /// 10.
    Ect0,
    /// 11: congestion experienced.
    Ce,
}

impl Ecn {
    /// The low two bits of a ToS or traffic class octet.
    #[must_use]
    pub const fn of(traffic_class: u8) -> Self {
        match traffic_class & 3 {
            0 => Self::NotEct,
            1 => Self::Ect1,
            2 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::NotEct => 0,
            Self::Ect1 => 1,
            Self::Ect0 => 2,
            Self::Ce => 3,
        }
    }
}

/// The outer traffic class for an inner one: RFC 6040 §4.1 "normal mode" and a copied DSCP,
/// so the whole octet is taken over. All packets of a train share it.
#[must_use]
pub const fn outer_traffic_class(inner: u8) -> u8 {
    inner
}

/// What the outer ECN field does to an inner packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decapsulated {
    /// The inner field stays as it is.
    Unchanged,
    /// The inner field becomes this one.
    Set(Ecn),
    /// Congestion was marked on a packet that cannot carry the mark.
    Drop,
}

/// RFC 6040 §4.2, figure 4.
#[inline]
pub(crate) const fn decapsulate(inner: Ecn, outer: Ecn) -> Decapsulated {
    match (inner, outer) {
        (Ecn::NotEct, Ecn::Ce) => Decapsulated::Drop,
        (Ecn::NotEct, Ecn::NotEct | Ecn::Ect0 | Ecn::Ect1) => Decapsulated::Unchanged,
        (Ecn::Ect0 | Ecn::Ect1, Ecn::Ce) => Decapsulated::Set(Ecn::Ce),
        (Ecn::Ect0, Ecn::Ect1) => Decapsulated::Set(Ecn::Ect1),
        (Ecn::Ect0, Ecn::NotEct | Ecn::Ect0) => Decapsulated::Unchanged,
        (Ecn::Ect1, Ecn::NotEct | Ecn::Ect0 | Ecn::Ect1) => Decapsulated::Unchanged,
        (Ecn::Ce, Ecn::NotEct | Ecn::Ect0 | Ecn::Ect1 | Ecn::Ce) => Decapsulated::Unchanged,
    }
}

/// Writes the ECN field of an IPv4 or IPv6 header and repairs the IPv4 header checksum
/// (RFC 1624). `packet` starts with a header of the version its first nibble names.
pub(crate) fn set(packet: &mut [u8], ecn: Ecn) {
    let version = packet.first().copied().unwrap_or(0) >> 4;
    let Some(word) = packet.first_chunk_mut::<2>() else {
        return;
    };
    let old = u16::from_be_bytes(*word);
    let new = match version {
        4 => old & !3 | u16::from(ecn.bits()),
        // The traffic class lies across the first two octets: its low bits are bits 5 and 4.
        6 => old & !0x30 | u16::from(ecn.bits()) << 4,
        _ => return,
    };
    *word = new.to_be_bytes();
    if version == 4
        && let Some(checksum) = packet
            .get_mut(10..12)
            .and_then(<[u8]>::first_chunk_mut::<2>)
    {
        *checksum = updated_checksum(u16::from_be_bytes(*checksum), old, new).to_be_bytes();
    }
}

/// RFC 1624 equation 3: HC' = ~(~HC + ~m + m').
fn updated_checksum(checksum: u16, old: u16, new: u16) -> u16 {
    let mut sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Ecn; 4] = [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce];

    /// RFC 6040 figure 4, rows inner, columns outer, both in the order Not-ECT, ECT(0),
    /// ECT(1), CE; `None` is a drop.
    #[test]
    fn figure_4_of_rfc_6040() {
        let table = [
            [
                Some(Ecn::NotEct),
                Some(Ecn::NotEct),
                Some(Ecn::NotEct),
                None,
            ],
            [
                Some(Ecn::Ect0),
                Some(Ecn::Ect0),
                Some(Ecn::Ect1),
                Some(Ecn::Ce),
            ],
            [
                Some(Ecn::Ect1),
                Some(Ecn::Ect1),
                Some(Ecn::Ect1),
                Some(Ecn::Ce),
            ],
            [Some(Ecn::Ce), Some(Ecn::Ce), Some(Ecn::Ce), Some(Ecn::Ce)],
        ];
        for (inner, row) in ALL.into_iter().zip(table) {
            for (outer, want) in ALL.into_iter().zip(row) {
                let got = match decapsulate(inner, outer) {
                    Decapsulated::Unchanged => Some(inner),
                    Decapsulated::Set(ecn) => Some(ecn),
                    Decapsulated::Drop => None,
                };
                assert_eq!(got, want, "inner {inner:?}, outer {outer:?}");
            }
        }
    }

    /// The checksum over a 20-byte header, from scratch.
    fn checksum(header: &[u8]) -> u16 {
        let mut sum: u32 = header
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn setting_ecn_keeps_the_ipv4_checksum_right() {
        for id in 0..=u16::MAX {
            let mut header = [
                0x45, 0xb8, 0, 84, 0, 0, 0x40, 0, 64, 1, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1,
            ];
            header[4..6].copy_from_slice(&id.to_be_bytes());
            header[1] |= (id % 3 + 1) as u8;
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            set(&mut header, Ecn::Ce);
            assert_eq!(Ecn::of(header[1]), Ecn::Ce);
            assert_eq!(header[1] & 0xfc, 0xb8);
            assert_eq!(checksum(&header), 0, "id {id}");
        }
    }

    #[test]
    fn setting_ecn_in_ipv6_leaves_version_flow_label_and_dscp() {
        let mut header = [0_u8; 40];
        header[..4].copy_from_slice(&0x6b8a_bcde_u32.to_be_bytes());
        set(&mut header, Ecn::Ce);
        assert_eq!(header[..4], 0x6bba_bcde_u32.to_be_bytes());
    }
}
