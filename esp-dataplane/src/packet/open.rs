//! Opening: everything that RFC 4303 §3.4 and RFC 4301 §5.2 ask of a receiver, in their order.

use core::ops::Range;

use ipsec_types::{ConnectionId, Encapsulation, Spi};

use super::{EsnHigh, esn_aad};
use crate::counters::{DropReason, Traffic};
use crate::crypto::SaCipher;
use crate::ecn::{self, Decapsulated, Ecn};
use crate::inner::{InnerHeader, IpVersion};
use crate::replay::ReplayRefusal;
use crate::sa::{ESP_HEADER, ESP_TRAILER, InboundSa};

/// Next header of a packet that only hides how much is sent (RFC 4303 §2.6).
const NO_NEXT_HEADER: u8 = 59;

/// One received ESP packet of a train.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSlot {
    /// Where the ESP packet stands in the train's buffer.
    pub start: usize,
    /// Its length in bytes, header to ICV.
    pub len: usize,
    /// ToS or traffic class octet of the outer header.
    pub outer_traffic_class: u8,
    /// After opening: the inner packet, or why there is none.
    pub result: Result<Opened, DropReason>,
}

impl OpenSlot {
    /// A slot that nobody has opened yet.
    #[must_use]
    pub const fn new(start: usize, len: usize, outer_traffic_class: u8) -> Self {
        Self {
            start,
            len,
            outer_traffic_class,
            result: Err(DropReason::UnknownSpi),
        }
    }
}

/// An inner packet that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Where the inner packet stands in the buffer, as long as its IP header says.
    pub inner: Range<usize>,
    /// IPv4 or IPv6.
    pub version: IpVersion,
    /// The tunnel it came through.
    pub connection: ConnectionId,
    /// The SA's SPI.
    pub spi: Spi,
    /// The sequence number, all 64 bits of it with ESN.
    pub seq: u64,
    /// It took over a congestion mark from the outer header (RFC 6040).
    pub ecn_marked: bool,
}

/// The SPI of an ESP packet.
///
/// # Errors
/// [`DropReason::Truncated`] without an ESP header, [`DropReason::ReservedSpi`] below 256.
#[inline]
pub fn spi_of(packet: &[u8]) -> Result<Spi, DropReason> {
    let header: &[u8; ESP_HEADER] = packet.first_chunk().ok_or(DropReason::Truncated)?;
    let [s0, s1, s2, s3, ..] = *header;
    Spi::new(u32::from_be_bytes([s0, s1, s2, s3])).map_err(|_| DropReason::ReservedSpi)
}

/// What became of a train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenedTrain {
    /// The packets that passed, in inner bytes.
    pub traffic: Traffic,
    /// How many of them took over a congestion mark.
    pub ecn_marked: u64,
    /// The newest packet of the SA so far is among them.
    pub moved_edge: bool,
}

/// Opens one ESP packet in place. The caller has found the SA by the packet's SPI.
///
/// # Errors
/// Why the packet must be dropped. Nothing changed in the SA unless the packet was authentic.
pub fn open(
    sa: &InboundSa,
    packet: &mut [u8],
    outer_traffic_class: u8,
    encapsulation: Encapsulation,
) -> Result<Opened, DropReason> {
    let mut slots = [OpenSlot::new(0, packet.len(), outer_traffic_class)];
    open_train(sa, packet, &mut slots, encapsulation);
    let [slot] = slots;
    slot.result
}

/// Opens the packets of a train in place; the caller has found their SA by their SPI. Every
/// slot gets its own result: one bad packet does not harm the others.
pub fn open_train(
    sa: &InboundSa,
    buf: &mut [u8],
    slots: &mut [OpenSlot],
    encapsulation: Encapsulation,
) -> OpenedTrain {
    /// Packets that are authenticated before the replay window hears of them; on the stack.
    const STRETCH: usize = 32;
    let mut total = OpenedTrain::default();
    for stretch in slots.chunks_mut(STRETCH) {
        let mut seqs = [const { Err(DropReason::Truncated) }; STRETCH];
        let seqs = seqs.get_mut(..stretch.len()).unwrap_or_default();
        authenticate_train(sa, buf, stretch, encapsulation, seqs);
        total.moved_edge |= sa.replay.commit_train_after_auth(seqs).is_some();
        check_train(sa, buf, stretch, seqs, &mut total);
    }
    total
}

/// The first third of [`open_train`]: early replay check, ICV, decryption. Each authentic
/// packet's sequence number goes to its place in `seqs`; the replay window does not know of it
/// yet.
#[inline]
pub(crate) fn authenticate_train(
    sa: &InboundSa,
    buf: &mut [u8],
    slots: &[OpenSlot],
    encapsulation: Encapsulation,
    seqs: &mut [Result<u64, DropReason>],
) {
    for (seq, slot) in seqs.iter_mut().zip(slots) {
        *seq = match bytes_of(buf, slot) {
            Some(bytes) => authenticate(sa, bytes, encapsulation),
            None => Err(DropReason::Truncated),
        };
    }
}

/// The last third of [`open_train`], for the numbers that the replay window has accepted:
/// padding, inner packet, selectors, ECN. Every slot gets its result.
#[inline]
pub(crate) fn check_train(
    sa: &InboundSa,
    buf: &mut [u8],
    slots: &mut [OpenSlot],
    seqs: &[Result<u64, DropReason>],
    total: &mut OpenedTrain,
) {
    for (slot, seq) in slots.iter_mut().zip(seqs) {
        slot.result = match (*seq, bytes_of(buf, slot)) {
            (Ok(seq), Some(bytes)) => check_plaintext(sa, bytes, slot, seq),
            (Err(reason), _) => Err(reason),
            (Ok(_), None) => Err(DropReason::Truncated),
        };
        if let Ok(opened) = &slot.result {
            total.traffic.packets += 1;
            total.traffic.bytes += opened.inner.len() as u64;
            total.ecn_marked += u64::from(opened.ecn_marked);
        }
    }
}

fn bytes_of<'buf>(buf: &'buf mut [u8], slot: &OpenSlot) -> Option<&'buf mut [u8]> {
    buf.get_mut(slot.start..slot.start.checked_add(slot.len)?)
}

/// Everything up to the replay window's decision: lengths, early replay check, ICV. Returns the
/// authentic sequence number; the body is decrypted then.
#[inline(always)]
fn authenticate(
    sa: &InboundSa,
    bytes: &mut [u8],
    encapsulation: Encapsulation,
) -> Result<u64, DropReason> {
    let framing = &sa.framing;
    if encapsulation != sa.params().encapsulation {
        return Err(DropReason::WrongEncapsulation);
    }
    // The shortest packet has a body of one block or aligned word.
    if bytes.len() < framing.header + framing.body(0) + framing.icv {
        return Err(DropReason::Truncated);
    }
    let header: &[u8; ESP_HEADER] = bytes.first_chunk().ok_or(DropReason::Truncated)?;
    let [_, _, _, _, q0, q1, q2, q3] = *header;
    let seq = sa
        .replay
        .check_before_auth(u32::from_be_bytes([q0, q1, q2, q3]))?;
    decrypt(sa, bytes, seq)?;
    Ok(seq)
}

/// Everything after it: padding, next header, inner packet, selectors, ECN.
#[inline(always)]
fn check_plaintext(
    sa: &InboundSa,
    bytes: &mut [u8],
    slot: &OpenSlot,
    seq: u64,
) -> Result<Opened, DropReason> {
    let framing = &sa.framing;
    let body_end = bytes.len().saturating_sub(framing.icv);
    let body = bytes
        .get_mut(framing.header..body_end)
        .ok_or(DropReason::Truncated)?;
    let (payload_len, next_header) = strip_trailer(body)?;
    let payload = body.get_mut(..payload_len).ok_or(DropReason::BadPadding)?;

    let version = announced_version(next_header)?;
    if IpVersion::of(payload) != Some(version) {
        return Err(DropReason::InnerVersion);
    }
    let Some(inner) = InnerHeader::read(version, payload) else {
        return Err(DropReason::InnerLength);
    };
    let Some(packet) = payload.get_mut(..inner.total_len) else {
        return Err(DropReason::InnerLength);
    };
    sa.check_selectors(version, packet)?;
    let ecn_marked = fold_in_ecn(packet, inner.traffic_class, slot.outer_traffic_class)?;
    let start = slot.start + framing.header;
    Ok(Opened {
        inner: start..start + inner.total_len,
        version,
        connection: sa.connection(),
        spi: sa.spi(),
        seq,
        ecn_marked,
    })
}

/// Checks the ICV, then decrypts; afterwards the body is plaintext and nothing but.
#[inline]
fn decrypt(sa: &InboundSa, bytes: &mut [u8], seq: u64) -> Result<(), DropReason> {
    let framing = &sa.framing;
    let esn = sa.params().esn;
    match &sa.cipher {
        SaCipher::Gcm(key) => {
            let (clear, body) = bytes
                .split_at_mut_checked(framing.header)
                .ok_or(DropReason::Truncated)?;
            let iv = *clear.last_chunk().ok_or(DropReason::Truncated)?;
            let header: &[u8; ESP_HEADER] = clear.first_chunk().ok_or(DropReason::Truncated)?;
            if esn {
                key.open(iv, &esn_aad(sa.spi(), seq), body)
            } else {
                key.open(iv, header, body)
            }
            .map_err(|_| DropReason::BadIcv)
        }
        SaCipher::Cbc(keys) => {
            let (authenticated, icv) = bytes
                .split_at_mut_checked(bytes.len() - framing.icv)
                .ok_or(DropReason::Truncated)?;
            let body = authenticated
                .get(framing.header..)
                .ok_or(DropReason::Truncated)?;
            if body.len() % framing.alignment != 0 {
                return Err(DropReason::BadBlockLength);
            }
            let esn_high = EsnHigh::new(seq, esn);
            let want = keys.icv(authenticated, esn_high.as_bytes());
            if !want.matches(icv) {
                return Err(DropReason::BadIcv);
            }
            let (clear, body) = authenticated
                .split_at_mut_checked(framing.header)
                .ok_or(DropReason::Truncated)?;
            let iv = clear.get(ESP_HEADER..).ok_or(DropReason::Truncated)?;
            keys.decrypt(iv, body)
                .map_err(|_| DropReason::BadBlockLength)
        }
        SaCipher::Null => Ok(()),
    }
}

/// Checks the padding (RFC 4303 §2.4) and returns payload length and next header.
#[inline(always)]
fn strip_trailer(body: &[u8]) -> Result<(usize, u8), DropReason> {
    let (padded, &[pad_len, next_header]) = body
        .split_last_chunk::<ESP_TRAILER>()
        .ok_or(DropReason::BadPadding)?;
    let payload_len = padded
        .len()
        .checked_sub(usize::from(pad_len))
        .ok_or(DropReason::BadPadding)?;
    let padding = padded.get(payload_len..).unwrap_or_default();
    if padding
        .iter()
        .zip(1..=u8::MAX)
        .any(|(byte, want)| *byte != want)
    {
        return Err(DropReason::BadPadding);
    }
    Ok((payload_len, next_header))
}

/// The IP version that the next header announces (RFC 4303 §2.6).
#[inline(always)]
fn announced_version(next_header: u8) -> Result<IpVersion, DropReason> {
    match next_header {
        4 => Ok(IpVersion::V4),
        41 => Ok(IpVersion::V6),
        NO_NEXT_HEADER => Err(DropReason::Dummy),
        _ => Err(DropReason::UnknownNextHeader),
    }
}

/// RFC 6040 §4.2; true when the inner field changed.
#[inline(always)]
fn fold_in_ecn(
    packet: &mut [u8],
    inner_traffic_class: u8,
    outer_traffic_class: u8,
) -> Result<bool, DropReason> {
    match ecn::decapsulate(Ecn::of(inner_traffic_class), Ecn::of(outer_traffic_class)) {
        Decapsulated::Unchanged => Ok(false),
        Decapsulated::Set(mark) => {
            ecn::set(packet, mark);
            Ok(true)
        }
        Decapsulated::Drop => Err(DropReason::EcnNotCapable),
    }
}

impl From<ReplayRefusal> for DropReason {
    fn from(refusal: ReplayRefusal) -> Self {
        match refusal {
            ReplayRefusal::Replayed => Self::Replayed,
            ReplayRefusal::TooOld => Self::TooOld,
            ReplayRefusal::Illegal => Self::SequenceIllegal,
        }
    }
}
