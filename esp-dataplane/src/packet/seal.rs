//! Sealing: header, padding, trailer, cipher, ICV.

use core::ops::Range;

use super::{EsnHigh, esn_aad};
use crate::counters::{DropReason, Traffic};
use crate::crypto::{CbcHmac, CbcJob, GcmKey, MAX_IV_LEN, SaCipher};
use crate::inner::IpVersion;
use crate::sa::{ESP_HEADER, ESP_TRAILER, OutboundSa, SealRun};

/// An IP packet cannot be longer.
const MAX_INNER: usize = 0xffff;

/// One packet of a train to be sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealSlot {
    /// Where the inner packet stands in the train's buffer.
    pub inner_start: usize,
    /// Its length in bytes.
    pub inner_len: usize,
    /// After sealing: where the ESP packet stands in the buffer, or why there is none.
    pub result: Result<Range<usize>, DropReason>,
}

impl SealSlot {
    /// A slot that nobody has sealed yet.
    #[must_use]
    pub const fn new(inner_start: usize, inner_len: usize) -> Self {
        Self {
            inner_start,
            inner_len,
            result: Err(DropReason::NoSa),
        }
    }
}

/// What became of a train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sealed {
    /// The packets that were sealed, in inner bytes.
    pub traffic: Traffic,
}

/// Seals the packets of a train in place with the numbers of a run. Packet `i` takes the
/// `i`-th number; packets beyond the run are refused with [`DropReason::SequenceCeiling`].
///
/// No slot may overlap another, headers and trailers included. Every slot gets its own result:
/// one bad slot does not harm the others.
pub fn seal_train(run: SealRun<'_>, buf: &mut [u8], slots: &mut [SealSlot]) -> Sealed {
    let (slots, beyond) = slots.split_at_mut(slots.len().min(run.len()));
    for slot in beyond {
        slot.result = Err(DropReason::SequenceCeiling);
    }
    match &run.sa.cipher {
        SaCipher::Gcm(key) => seal_gcm(&run, key, buf, slots),
        SaCipher::Cbc(keys) => seal_cbc(&run, keys, buf, slots),
        SaCipher::Null => seal_null(&run, buf, slots),
    }
    let mut traffic = Traffic::default();
    for slot in slots.iter().filter(|slot| slot.result.is_ok()) {
        traffic.packets += 1;
        traffic.bytes += slot.inner_len as u64;
    }
    Sealed { traffic }
}

/// AES-GCM: each packet is framed and encrypted while it is in the cache.
fn seal_gcm(run: &SealRun<'_>, key: &GcmKey, buf: &mut [u8], slots: &mut [SealSlot]) {
    let numbers = (run.first_seq..).zip(run.first_iv..);
    for (slot, (seq, iv)) in slots.iter_mut().zip(numbers) {
        slot.result = seal_one_gcm(run.sa, key, buf, slot, seq, iv);
    }
}

#[inline]
fn seal_one_gcm(
    sa: &OutboundSa,
    key: &GcmKey,
    buf: &mut [u8],
    slot: &SealSlot,
    seq: u64,
    iv: u64,
) -> Result<Range<usize>, DropReason> {
    let (range, packet) = frame(sa, buf, slot, seq)?;
    let body_end = packet.len() - sa.framing.icv;
    let (clear, body) = packet
        .split_at_mut_checked(ESP_HEADER + 8)
        .ok_or(DropReason::NoHeadroom)?;
    let (body, icv) = body
        .split_at_mut_checked(body_end - clear.len())
        .ok_or(DropReason::NoHeadroom)?;
    let iv = iv.to_be_bytes();
    if let Some(field) = clear.last_chunk_mut() {
        *field = iv;
    }
    let tag = if sa.params().esn {
        key.seal(iv, &esn_aad(sa.spi(), seq), body)
    } else {
        let header: &[u8; ESP_HEADER] = clear.first_chunk().ok_or(DropReason::NoHeadroom)?;
        key.seal(iv, header, body)
    }
    .map_err(|_| DropReason::CipherFailure)?;
    icv.copy_from_slice(&tag);
    Ok(range)
}

/// CBC: first all frames and IVs, then all packets through the cipher side by side, then
/// the ICV of each.
fn seal_cbc(run: &SealRun<'_>, keys: &CbcHmac, buf: &mut [u8], slots: &mut [SealSlot]) {
    /// IVs are made this many at a time, on the stack.
    const IVS: usize = 16;
    let sa = run.sa;
    let numbers = (run.first_seq..)
        .step_by(IVS)
        .zip((run.first_iv..).step_by(IVS));
    for (chunk, (first_seq, first_iv)) in slots.chunks_mut(IVS).zip(numbers) {
        let mut ivs = [[0; MAX_IV_LEN]; IVS];
        keys.ivs(first_iv, ivs.get_mut(..chunk.len()).unwrap_or_default());
        for ((slot, iv), seq) in chunk.iter_mut().zip(&ivs).zip(first_seq..) {
            slot.result = frame(sa, buf, slot, seq).map(|(range, packet)| {
                let field = packet.get_mut(ESP_HEADER..sa.framing.header);
                for (to, from) in field.into_iter().flatten().zip(iv) {
                    *to = *from;
                }
                range
            });
        }
    }
    let jobs = slots.iter().filter_map(|slot| {
        let range = slot.result.as_ref().ok()?;
        Some(CbcJob {
            iv: range.start + ESP_HEADER,
            blocks: sa.framing.body(slot.inner_len) / sa.framing.alignment,
        })
    });
    keys.encrypt(buf, jobs);
    for (slot, seq) in slots.iter().zip(run.first_seq..) {
        let Ok(range) = &slot.result else {
            continue;
        };
        let Some(packet) = buf.get_mut(range.clone()) else {
            continue;
        };
        let Some((authenticated, field)) =
            packet.split_at_mut_checked(range.len() - sa.framing.icv)
        else {
            continue;
        };
        let esn_high = EsnHigh::new(seq, sa.params().esn);
        let icv = keys.icv(authenticated, esn_high.as_bytes());
        field.copy_from_slice(icv.as_bytes());
    }
}

/// No cipher: what the framing alone costs.
fn seal_null(run: &SealRun<'_>, buf: &mut [u8], slots: &mut [SealSlot]) {
    for (slot, seq) in slots.iter_mut().zip(run.first_seq..) {
        slot.result = frame(run.sa, buf, slot, seq).map(|(range, _)| range);
    }
}

/// Writes everything but IV, ciphertext and ICV, and returns where the ESP packet stands.
#[inline(always)]
fn frame<'buf>(
    sa: &OutboundSa,
    buf: &'buf mut [u8],
    slot: &SealSlot,
    seq: u64,
) -> Result<(Range<usize>, &'buf mut [u8]), DropReason> {
    let framing = &sa.framing;
    if slot.inner_len > MAX_INNER {
        return Err(DropReason::TooBig);
    }
    let Some(start) = slot.inner_start.checked_sub(framing.header) else {
        return Err(DropReason::NoHeadroom);
    };
    let range = start..start.saturating_add(framing.sealed(slot.inner_len));
    let Some(packet) = buf.get_mut(range.clone()) else {
        return Err(DropReason::NoHeadroom);
    };
    let inner = packet
        .get(framing.header..framing.header + slot.inner_len)
        .ok_or(DropReason::NoHeadroom)?;
    let version = IpVersion::of(inner).ok_or(DropReason::NotIp)?;

    if let Some(header) = packet.first_chunk_mut() {
        let spi = u64::from(sa.spi().get());
        *header = (spi << 32 | seq & 0xffff_ffff).to_be_bytes();
    }
    let body_len = framing.body(slot.inner_len);
    let trailer = packet
        .get_mut(framing.header + slot.inner_len..framing.header + body_len)
        .ok_or(DropReason::NoHeadroom)?;
    let pad_len = trailer.len() - ESP_TRAILER;
    // RFC 4303 §2.4: the padding is 1, 2, 3, …; the two bytes after it are the trailer.
    for (byte, value) in trailer.iter_mut().zip(1_u8..) {
        *byte = value;
    }
    if let Some(fields) = trailer.last_chunk_mut() {
        *fields = [pad_len as u8, version.next_header()];
    }
    Ok((range, packet))
}
