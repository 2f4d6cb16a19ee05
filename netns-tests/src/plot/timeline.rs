//! One event in time: both probes packet by packet, and what each gateway said on the wire.
//!
//! ```text
//!   lan-host → peer-host   ||||||||||||||      |||||||||||   height: time on the way; red: lost
//!   peer-host → lan-host   ||||||||||||||      |||||||||||
//!   gw-a speaks            |||||||||||||||                   ESP; ▲ ARP claim; ● IKE message
//!   gw-b speaks                           ▲    |||||||||||
//! ```

use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use super::svg::{Anchor, BAD, Canvas, GOOD, OTHER, QUIET, TEXT};
use crate::pair::{ADDRESS_LAN, ADDRESS_WAN, Evidence, Node};
use crate::probe::pcap::Mac;
use crate::probe::{Trace, Wire};

const WIDTH: f64 = 1000.0;
const LABELS: f64 = 190.0;
const RIGHT: f64 = 20.0;
const LANE: f64 = 64.0;
const GAP: f64 = 14.0;
const HEAD: f64 = 64.0;
/// The full height of a lane, in milliseconds on the way (logarithmic from a tenth).
const FULL_HEIGHT_MS: f64 = 1000.0;

/// Time as a horizontal place.
struct Axis {
    from: Duration,
    to: Duration,
}

/// Draws a part of the evidence; `marks` are what was done and when, the first one is zero on
/// the scale, and `nodes` are gw-a and gw-b.
#[must_use]
pub fn timeline(
    title: &str,
    when: &Range<Duration>,
    marks: &[(Duration, String)],
    evidence: &Evidence,
    nodes: [&Node; 2],
) -> String {
    let axis = Axis {
        from: when.start,
        to: when.end,
    };
    let bottom = HEAD + 4.0 * (LANE + GAP);
    let mut canvas = Canvas::new(WIDTH, bottom + 44.0);
    canvas.text((10.0, 20.0), Anchor::Start, "black", title);
    for (index, (at, what)) in marks.iter().enumerate() {
        let x = axis.place(*at);
        // Neighbours stand at different heights, so that they do not cover each other.
        let above = if index % 2 == 0 { 8.0 } else { 22.0 };
        canvas.line((x, HEAD - above - 10.0), (x, bottom), BAD, true);
        canvas.text((x + 4.0, HEAD - above), Anchor::Start, BAD, what);
    }
    let lanes = [
        ("lan-host → peer-host", &evidence.out),
        ("peer-host → lan-host", &evidence.back),
    ];
    for (index, (name, trace)) in lanes.into_iter().enumerate() {
        let top = HEAD + index as f64 * (LANE + GAP);
        label(&mut canvas, top, name);
        probe(&mut canvas, &axis, top, trace);
    }
    for (index, node) in nodes.into_iter().enumerate() {
        let top = HEAD + (index + 2) as f64 * (LANE + GAP);
        label(&mut canvas, top, &format!("{} speaks", node.host.name()));
        let fill = if index == 0 { GOOD } else { OTHER };
        speech(&mut canvas, &axis, top, fill, evidence, node);
    }
    let zero = marks.first().map_or(when.start, |(at, _)| *at);
    ticks(&mut canvas, &axis, zero, bottom);
    let legend = "packets: height is the time on the way (0.1 ms to 1 s), red is lost   |   \
                  gateways: bars ESP, black ARP claims (up WAN, down LAN), red dots IKE";
    canvas.text((10.0, bottom + 36.0), Anchor::Start, "#777", legend);
    canvas.finish()
}

fn label(canvas: &mut Canvas, top: f64, words: &str) {
    canvas.line(
        (LABELS, top + LANE),
        (WIDTH - RIGHT, top + LANE),
        "#ddd",
        false,
    );
    let at = (LABELS - 10.0, top + LANE / 2.0 + 4.0);
    canvas.text(at, Anchor::End, TEXT, words);
}

/// One column a pixel: the slowest packet that was sent in it, or a loss.
fn probe(canvas: &mut Canvas, axis: &Axis, top: f64, trace: &Trace) {
    let mut columns: Vec<Option<f64>> = vec![None; axis.pixels()];
    for arrival in &trace.arrivals {
        let way = arrival.at.saturating_sub(arrival.sent).as_secs_f64() * 1000.0;
        if let Some(column) = axis.column(&mut columns, arrival.sent) {
            *column = Some(column.unwrap_or(0.0).max(way));
        }
    }
    for (index, way) in columns.iter().enumerate() {
        let Some(way) = way else { continue };
        let height = (way / 0.1).max(1.2).log10() / (FULL_HEIGHT_MS / 0.1).log10();
        let height = height.min(1.0) * LANE;
        let x = LABELS + index as f64;
        canvas.rect((x, top + LANE - height), (1.0, height), GOOD);
    }
    let mut lost = vec![None; axis.pixels()];
    for number in trace.missing() {
        let sent = usize::try_from(number).ok().and_then(|n| trace.sent.get(n));
        if let Some(column) = sent.and_then(|at| axis.column(&mut lost, *at)) {
            *column = Some(());
        }
    }
    stripes(canvas, (top, LANE), &lost, BAD);
}

/// Neighbouring columns as one rectangle.
fn stripes(canvas: &mut Canvas, lane: (f64, f64), columns: &[Option<()>], fill: &str) {
    let (top, height) = lane;
    let mut index = 0;
    while index < columns.len() {
        let run = columns
            .iter()
            .skip(index)
            .take_while(|column| column.is_some())
            .count();
        if run > 0 {
            let x = LABELS + index as f64;
            canvas.rect((x, top), (run as f64, height), fill);
        }
        index += run + 1;
    }
}

fn speech(
    canvas: &mut Canvas,
    axis: &Axis,
    top: f64,
    fill: &str,
    evidence: &Evidence,
    node: &Node,
) {
    let mut columns = vec![None; axis.pixels()];
    let sent = evidence.wan.esp.iter();
    for esp in sent.filter(|esp| esp.source == ADDRESS_WAN && esp.from == node.wan_card) {
        if let Some(column) = axis.column(&mut columns, esp.at) {
            *column = Some(());
        }
    }
    stripes(canvas, (top + LANE * 0.35, LANE * 0.3), &columns, fill);
    for (x, up) in claims(axis, &evidence.wan, ADDRESS_WAN, node.wan_card, true).chain(claims(
        axis,
        &evidence.lan,
        ADDRESS_LAN,
        node.lan_card,
        false,
    )) {
        let (from, to) = if up { (0.05, 0.33) } else { (0.67, 0.95) };
        canvas.line((x, top + LANE * from), (x, top + LANE * to), "black", false);
    }
    let messages = evidence.wan.ike.iter();
    for ike in messages.filter(|ike| ike.from == node.wan_card && axis.holds(ike.at)) {
        let words = format!("IKE, exchange type {}", ike.exchange);
        canvas.dot((axis.place(ike.at), top + LANE * 0.5), 4.0, BAD, &words);
    }
}

fn claims(
    axis: &Axis,
    wire: &Wire,
    address: Ipv4Addr,
    card: Mac,
    up: bool,
) -> impl Iterator<Item = (f64, bool)> {
    wire.claims
        .iter()
        .filter(move |claim| claim.arp.sender == address && claim.arp.sender_mac == card)
        .filter(|claim| axis.holds(claim.at))
        .map(move |claim| (axis.place(claim.at), up))
}

fn ticks(canvas: &mut Canvas, axis: &Axis, zero: Duration, bottom: f64) {
    let length = axis.to.saturating_sub(axis.from).as_secs_f64();
    let steps = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
    let step = steps.into_iter().find(|step| length / step <= 14.0);
    let step = step.unwrap_or(30.0);
    let before = zero.saturating_sub(axis.from).as_secs_f64();
    let first = -((before / step).floor() as i32);
    for number in first.. {
        let tick = f64::from(number) * step;
        if tick > length - before {
            break;
        }
        let x = LABELS + (tick + before) / length * axis.width();
        canvas.line((x, bottom - GAP), (x, bottom - GAP + 5.0), QUIET, false);
        let words = if step < 1.0 {
            format!("{:.0} ms", tick * 1000.0)
        } else {
            format!("{tick:.0} s")
        };
        canvas.text((x, bottom + 8.0), Anchor::Middle, TEXT, &words);
    }
}

impl Axis {
    fn width(&self) -> f64 {
        WIDTH - LABELS - RIGHT
    }

    fn pixels(&self) -> usize {
        self.width() as usize
    }

    fn holds(&self, at: Duration) -> bool {
        (self.from..self.to).contains(&at)
    }

    fn part(&self, at: Duration) -> f64 {
        let length = self.to.saturating_sub(self.from).as_secs_f64();
        at.saturating_sub(self.from).as_secs_f64() / length.max(f64::MIN_POSITIVE)
    }

    fn place(&self, at: Duration) -> f64 {
        LABELS + self.part(at) * self.width()
    }

    fn column<'a, T>(&self, columns: &'a mut [T], at: Duration) -> Option<&'a mut T> {
        if !self.holds(at) {
            return None;
        }
        columns.get_mut((self.part(at) * self.width()) as usize)
    }
}
