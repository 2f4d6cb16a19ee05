//! Numbered packets both ways and captures of both networks, and what they say about an event.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use super::topology::{ADDRESS_LAN, ADDRESS_WAN, HOST_LAN, HOST_PEER, Pair};
use crate::LabError;
use crate::lab::now;
use crate::probe::pcap::Mac;
use crate::probe::{Capture, Numbered, NumberedReport, Trace, Wire};

/// Packets a second in each direction.
pub const RATE: u32 = 1000;

/// What counts as a steady stream: nearly everything arrives for this long.
const STEADY: Duration = Duration::from_millis(500);

/// The part of an event's window that lies before it.
const BEFORE: Duration = Duration::from_millis(200);

/// All that matters on the WAN; raw sockets of other programs are left out.
const WAN_FILTER: &str = "arp or udp port 500 or udp port 4500 or ip proto 50";

/// Two probes and two captures, running.
#[derive(Debug)]
pub struct Watch {
    out: Numbered,
    back: Numbered,
    wan: Capture,
    lan: Capture,
    patience: Duration,
}

/// Something that was done to a pair. Times are since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it was, for reports.
    pub what: String,
    /// Just before it was done.
    pub at: Duration,
    /// When it had been done.
    pub acted: Duration,
    /// When both directions had been steady again for half a second.
    pub settled: Duration,
}

/// All that the probes and the captures hold.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// From the pair's LAN to the peer's.
    pub out: Trace,
    /// From the peer's LAN to the pair's.
    pub back: Trace,
    /// What crossed the WAN's switch.
    pub wan: Wire,
    /// What crossed the LAN's switch (ARP).
    pub lan: Wire,
}

/// What an event cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cost {
    /// From the pair's LAN to the peer's.
    pub out: NumberedReport,
    /// From the peer's LAN to the pair's.
    pub back: NumberedReport,
    /// IKE messages between the pair's address and the peer.
    pub ike: usize,
    /// Those of them that negotiate: main, aggressive and quick mode.
    pub negotiation: usize,
    /// ESP packets whose SPI and IV were there before, anywhere in the capture.
    pub repeated_ivs: usize,
    /// ESP packets that the peer's replay window refuses.
    pub replay_drops: usize,
    /// ESP packets not above all that the other gateway had sent before.
    pub not_above: usize,
    /// ARP claims by a gateway that another had relieved already, on WAN and LAN.
    pub contested: usize,
    /// SPIs towards the peer that were first used in it.
    pub new_spis: usize,
}

impl Watch {
    /// Starts everything; the tunnel has to be up. An event must be over within `patience`.
    ///
    /// # Errors
    /// When a probe or a capture does not start, or nothing comes through.
    pub fn start(pair: &Pair, patience: Duration) -> Result<Self, LabError> {
        let wan = Capture::start(pair.wan.host(), "wan", WAN_FILTER)?;
        let lan = Capture::start(pair.lan.host(), "lan", "arp")?;
        let out = Numbered::start(&pair.lan_host, &pair.peer_host, HOST_PEER, RATE)?;
        let back = Numbered::start(&pair.peer_host, &pair.lan_host, HOST_LAN, RATE)?;
        let watch = Self {
            out,
            back,
            wan,
            lan,
            patience,
        };
        watch.wait_steady(now())?;
        Ok(watch)
    }

    /// Waits until both directions have been steady for half a second that began after `since`.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn wait_steady(&self, since: Duration) -> Result<Duration, LabError> {
        let patience = self.patience;
        self.out.wait_flowing(since, STEADY, patience)?;
        self.back.wait_flowing(since, STEADY, patience)
    }

    /// Does something to the pair and waits until traffic flows again.
    ///
    /// # Errors
    /// What the action says, or [`LabError::Timeout`].
    pub fn during(
        &self,
        what: &str,
        act: impl FnOnce() -> Result<(), LabError>,
    ) -> Result<Event, LabError> {
        // A packet that is on its way now must not become a victim of the event: whoever asks
        // what the time until now has cost, asks for what happened before it.
        self.wait_steady(now())?;
        let at = now();
        act()?;
        let acted = now();
        Ok(Event {
            what: what.to_owned(),
            at,
            acted,
            settled: self.wait_steady(at)?,
        })
    }

    /// What an event cost, while everything goes on; ARP on the LAN may be told too early.
    ///
    /// # Errors
    /// When the capture does not reach the end of the event.
    pub fn cost_so_far(&self, event: &Event) -> Result<Cost, LabError> {
        self.wan.wait_until(event.settled)?;
        let evidence = Evidence {
            out: self.out.so_far(),
            back: self.back.so_far(),
            wan: Wire::read(self.wan.file())?,
            lan: Wire::read(self.lan.file())?,
        };
        Ok(evidence.cost(event))
    }

    /// Ends probes and captures.
    ///
    /// # Errors
    /// When a capture is not complete.
    pub fn finish(self) -> Result<Evidence, LabError> {
        let (out, back) = (self.out.finish_trace()?, self.back.finish_trace()?);
        Ok(Evidence {
            out,
            back,
            wan: Wire::read(&self.wan.finish_busy()?)?,
            lan: Wire::read(&self.lan.finish_busy()?)?,
        })
    }
}

impl Event {
    /// From a little before it until traffic was steady again.
    #[must_use]
    pub fn window(&self) -> Range<Duration> {
        self.at.saturating_sub(BEFORE)..self.settled
    }
}

impl Evidence {
    /// What one event cost.
    #[must_use]
    pub fn cost(&self, event: &Event) -> Cost {
        self.within(&event.window())
    }

    /// The cost of everything from the first packet to the last.
    #[must_use]
    pub fn whole(&self) -> Cost {
        self.within(&(Duration::ZERO..Duration::MAX))
    }

    /// What any part of the time cost.
    #[must_use]
    pub fn within(&self, when: &Range<Duration>) -> Cost {
        let inside = |packets: Vec<crate::probe::wire::Esp>| {
            let packets = packets.iter();
            packets.filter(|packet| when.contains(&packet.at)).count()
        };
        Cost {
            out: self.out.between(when.start, when.end),
            back: self.back.between(when.start, when.end),
            ike: self.wan.ike_of(ADDRESS_WAN, when.clone()).count(),
            negotiation: self
                .wan
                .ike_of(ADDRESS_WAN, when.clone())
                .filter(|message| message.negotiates())
                .count(),
            repeated_ivs: inside(self.wan.repeated_ivs(ADDRESS_WAN)),
            replay_drops: inside(self.wan.replay_drops(ADDRESS_WAN)),
            not_above: inside(self.wan.not_above(ADDRESS_WAN)),
            contested: contested(&self.wan, ADDRESS_WAN, when)
                + contested(&self.lan, ADDRESS_LAN, when),
            new_spis: self.new_spis(when),
        }
    }

    fn new_spis(&self, when: &Range<Duration>) -> usize {
        let sent = self.wan.esp.iter().filter(|esp| esp.source == ADDRESS_WAN);
        let mut seen = std::collections::HashSet::new();
        sent.filter(|esp| seen.insert(esp.spi) && when.contains(&esp.at))
            .count()
    }
}

/// Claims of `address` by a card after another card has claimed it later than this one had.
fn contested(wire: &Wire, address: Ipv4Addr, when: &Range<Duration>) -> usize {
    let mut relieved: Vec<Mac> = Vec::new();
    let mut holder: Option<Mac> = None;
    let mut count = 0;
    let claims = wire.claims.iter();
    for claim in claims.filter(|c| c.arp.sender == address && when.contains(&c.at)) {
        let card = claim.arp.sender_mac;
        if relieved.contains(&card) {
            count += 1;
        } else if holder != Some(card) {
            relieved.extend(holder);
            holder = Some(card);
        }
    }
    count
}

impl Cost {
    /// Packets that never came, both directions.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.out.lost() + self.back.lost()
    }

    /// Packets that came more than once, both directions.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.out.duplicates + self.back.duplicates
    }

    /// Packets that a later one overtook, both directions.
    #[must_use]
    pub fn reordered(&self) -> u64 {
        self.out.reordered + self.back.reordered
    }

    /// The longest time in which nothing came, in the worse direction.
    #[must_use]
    pub fn gap(&self) -> Duration {
        self.out.longest_gap.max(self.back.longest_gap)
    }

    /// The longest pause of a sender: the machine's share in [`Cost::gap`].
    #[must_use]
    pub fn sender_pause(&self) -> Duration {
        self.out.sender_pause.max(self.back.sender_pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::pcap::Arp;
    use crate::probe::wire::Claim;

    #[test]
    fn an_address_that_moves_once_is_not_contested() {
        let [old, new] = [Mac([1; 6]), Mac([2; 6])];
        let count = |cards: &[Mac]| {
            let claims = cards.iter().enumerate().map(|(at, &card)| Claim {
                at: Duration::from_secs(at as u64),
                from: card,
                arp: Arp {
                    request: false,
                    sender: ADDRESS_WAN,
                    sender_mac: card,
                    target: ADDRESS_WAN,
                },
            });
            let wire = Wire {
                claims: claims.collect(),
                ..Wire::default()
            };
            contested(&wire, ADDRESS_WAN, &(Duration::ZERO..Duration::MAX))
        };
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[old, old, new, new]), 0);
        assert_eq!(count(&[old, new, old, new]), 1);
        assert_eq!(count(&[old, new, old, old]), 2);
    }
}
