//! A worker's sockets on one local address.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipsec_types::Encapsulation;

use crate::io::{
    EspRelay, EspWire, RelayWire, Sent, SocketOptions, Train, TxScratch, UdpWire, Wire, relay,
};

/// This worker's sockets on one local address.
pub(super) struct Listener {
    pub(super) nat_t: SocketAddr,
    udp: UdpWire,
    esp: EspWire,
    relay: Option<RelayWire>,
}

/// Where packets come in at a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inlet {
    /// UDP on the NAT-T port.
    Udp,
    /// The raw socket for protocol 50.
    Esp,
    /// Protocol 50 in trains.
    Relay,
}

impl Inlet {
    pub(super) const ALL: [Self; 3] = [Self::Udp, Self::Esp, Self::Relay];

    pub(super) const fn encapsulation(self) -> Encapsulation {
        match self {
            Self::Udp => Encapsulation::Udp,
            Self::Esp | Self::Relay => Encapsulation::Esp,
        }
    }
}

impl Listener {
    pub(super) const fn new(
        nat_t: SocketAddr,
        udp: UdpWire,
        esp: EspWire,
        relay: Option<RelayWire>,
    ) -> Self {
        Self {
            nat_t,
            udp,
            esp,
            relay,
        }
    }

    pub(super) fn wire(&mut self, inlet: Inlet) -> Option<&mut dyn Wire> {
        match inlet {
            Inlet::Udp => Some(&mut self.udp),
            Inlet::Esp => Some(&mut self.esp),
            Inlet::Relay => self.relay.as_mut().map(|relay| relay as &mut dyn Wire),
        }
    }

    /// Sends trains the fastest way that takes them.
    pub(super) fn send(
        &mut self,
        encapsulation: Encapsulation,
        scratch: &mut TxScratch,
        arena: &[u8],
        trains: &[Train],
    ) -> Sent {
        let relay = match (encapsulation, &mut self.relay) {
            (Encapsulation::Udp, _) => return self.udp.send(scratch, arena, trains),
            (Encapsulation::Esp, None) => return self.esp.send(scratch, arena, trains),
            (Encapsulation::Esp, Some(relay)) => relay,
        };
        let mut sent = Sent::default();
        let mut rest = trains;
        while let Some(first) = rest.first() {
            let taken = relay.takes(first);
            let same = rest.iter().take_while(|train| relay.takes(train) == taken);
            let (group, others) = rest.split_at(same.count().max(1));
            sent.add(&if taken {
                relay.send(scratch, arena, group)
            } else {
                self.esp.send(scratch, arena, group)
            });
            rest = others;
        }
        sent
    }
}

const RELAY_NEEDS: &str = "trains of it need Linux 6.6, CAP_SYS_ADMIN, CAP_NET_ADMIN and \
                           CAP_BPF, IPv4, no firewall mark and outer packets that may be fragmented";

/// A relay's end for each worker; none where the raw sockets have to do.
pub(super) fn open_relay(
    local: IpAddr,
    workers: u32,
    options: &SocketOptions,
) -> io::Result<Vec<RelayWire>> {
    let (IpAddr::V4(address), EspRelay::Auto | EspRelay::On) = (local, options.offload.esp_relay)
    else {
        return Ok(Vec::new());
    };
    let opened = relay::open(address, workers, options);
    if options.offload.esp_relay == EspRelay::On {
        return opened.map_err(|error| {
            let advice = "with esp_relay = \"auto\" protocol 50 goes packet by packet instead";
            io::Error::new(error.kind(), format!("{error}; {RELAY_NEEDS}; {advice}"))
        });
    }
    Ok(opened.unwrap_or_else(|error| {
        tracing::info!(%local, %error, "protocol 50 goes packet by packet; {RELAY_NEEDS}");
        Vec::new()
    }))
}
