//! An event line by line, for whoever wants to know why a packet was lost: what each gateway
//! said on the wire and what became of the packets, with milliseconds from the event.

use std::fmt::Write as _;
use std::time::Duration;

use netns_tests::pair::{ADDRESS_LAN, ADDRESS_WAN, Event, Evidence, Node};
use netns_tests::probe::pcap::Mac;
use netns_tests::probe::{Trace, Wire};

/// A packet that takes longer is worth a line.
const SLOW: Duration = Duration::from_millis(5);
/// A gateway that says nothing for longer has paused.
const PAUSE: Duration = Duration::from_millis(5);

/// The event as text.
pub(crate) fn story(event: &Event, evidence: &Evidence, nodes: [&Node; 2]) -> String {
    let mut lines = Lines {
        zero: event.at,
        event,
        lines: Vec::new(),
    };
    lines.add(event.at, "the event begins".to_owned());
    lines.add(event.acted, "it has been done".to_owned());
    lines.packets("out", &evidence.out);
    lines.packets("back", &evidence.back);
    for node in nodes {
        lines.esp(node, evidence);
        lines.ike(node, &evidence.wan);
        lines.claims(node, &evidence.wan, node.wan_card, "WAN");
        lines.claims(node, &evidence.lan, node.lan_card, "LAN");
    }
    lines.finish()
}

struct Lines<'a> {
    zero: Duration,
    event: &'a Event,
    lines: Vec<(Duration, String)>,
}

impl Lines<'_> {
    fn add(&mut self, at: Duration, words: String) {
        if self.event.window().contains(&at) {
            self.lines.push((at, words));
        }
    }

    fn packets(&mut self, way: &str, trace: &Trace) {
        for number in trace.missing() {
            let sent = usize::try_from(number).ok().and_then(|n| trace.sent.get(n));
            if let Some(sent) = sent {
                self.add(*sent, format!("{way} #{number} is sent and lost"));
            }
        }
        for arrival in &trace.arrivals {
            let took = arrival.at.saturating_sub(arrival.sent);
            if took > SLOW {
                let number = arrival.number;
                let words = format!("{way} #{number} is sent and takes {took:.1?}");
                self.add(arrival.sent, words);
            }
        }
    }

    fn esp(&mut self, node: &Node, evidence: &Evidence) {
        let name = node.host.name();
        let sent = evidence.wan.esp.iter();
        let of_node = |esp: &&netns_tests::probe::wire::Esp| {
            esp.source == ADDRESS_WAN && esp.from == node.wan_card
        };
        let sent: Vec<_> = sent.filter(of_node).collect();
        for (index, esp) in sent.iter().enumerate() {
            let words = |what: &str| format!("{name} {what} ESP {:#x} {}", esp.spi, esp.sequence);
            let before = index.checked_sub(1).and_then(|index| sent.get(index));
            if before.is_none_or(|before| esp.at.saturating_sub(before.at) > PAUSE) {
                self.add(esp.at, words("begins with"));
            }
            let after = sent.get(index + 1);
            if after.is_none_or(|after| after.at.saturating_sub(esp.at) > PAUSE) {
                self.add(esp.at, words("ends with"));
            }
        }
    }

    fn ike(&mut self, node: &Node, wire: &Wire) {
        for message in wire.ike.iter().filter(|ike| ike.from == node.wan_card) {
            let words = format!(
                "{} sends IKE, exchange {}",
                node.host.name(),
                message.exchange
            );
            self.add(message.at, words);
        }
    }

    fn claims(&mut self, node: &Node, wire: &Wire, card: Mac, side: &str) {
        for claim in wire.claims.iter().filter(|c| c.arp.sender_mac == card) {
            let address = claim.arp.sender;
            if address == ADDRESS_WAN || address == ADDRESS_LAN {
                let kind = if claim.arp.request {
                    "announces"
                } else {
                    "answers for"
                };
                let words = format!("{} {kind} {address} on the {side}", node.host.name());
                self.add(claim.at, words);
            }
        }
    }

    fn finish(mut self) -> String {
        self.lines.sort();
        let mut text = String::new();
        for (at, words) in &self.lines {
            let ms = (at.as_secs_f64() - self.zero.as_secs_f64()) * 1000.0;
            // Writing to a String cannot fail.
            let _always_ok = writeln!(text, "{ms:10.3} ms  {words}");
        }
        text
    }
}
