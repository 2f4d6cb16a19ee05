//! A trial of ways to carry protocol 50: raw sockets, io_uring, packet sockets with rings,
//! AF_XDP, and the relay. See docs/decisions/0006-protocol-50-io.md.
//!
//! Two private network namespaces, a plain veth pair between them; one thread sends bursts of
//! 48 packets of 1450 bytes, another receives them. No cipher. In each round every way has its
//! turn, so that ratios within a round say something on a machine that is not idle.
//!
//! ```text
//!   cargo run --release -p esp-dataplane --example wires [-- ROUNDS [SECONDS [NAME...]]]
//! ```

mod cpu;
mod load;
mod messages;
mod net;
mod packet;
mod relay;
mod rest;
mod sys;
mod table;
mod tap;
mod uring;
mod uring_wires;
mod wires;
mod xdp;
mod xsk;

use std::error::Error;
use std::io;
use std::time::Duration;

use load::{Load, Receiver, Sender, Way};
use net::End;

/// The first is what the others are compared with. Where there are two parts, the first sends.
const WAYS: &[Way] = &[
    way(
        "raw: sendmmsg, recvmmsg",
        wires::raw_sender,
        wires::raw_receiver,
    ),
    way("raw, rested", wires::raw_sender, rest::raw),
    way(
        "io_uring: a call a burst",
        uring_wires::sender,
        uring_wires::batch_receiver,
    ),
    way(
        "io_uring: a call a burst; multishot",
        uring_wires::sender,
        uring_wires::multishot_receiver,
    ),
    way(
        "sendmmsg; multishot",
        wires::raw_sender,
        uring_wires::multishot_receiver,
    ),
    way(
        "sendmmsg; multishot, rested",
        wires::raw_sender,
        uring_wires::rested_multishot_receiver,
    ),
    way(
        "packet: V2 ring, and up the stack",
        tap::message_sender,
        tap::v2_and_stack,
    ),
    way("packet: V2 ring", tap::message_sender, tap::v2),
    way("packet: V2 ring, rested", tap::message_sender, rest::v2),
    way("packet: send ring, V2 ring", tap::ring_sender, tap::v2),
    way("packet: V3 ring", tap::message_sender, tap::v3),
    way("AF_XDP: generic", xsk::sender, xsk::generic_receiver),
    way("AF_XDP: generic, rested", xsk::sender, rest::generic),
    way("AF_XDP: veth driver", xsk::sender, xsk::driver_receiver),
    way(
        "sendmmsg; AF_XDP: generic",
        wires::raw_sender,
        xsk::generic_receiver,
    ),
    way("AF_XDP; recvmmsg", xsk::sender, wires::raw_receiver),
    way(
        "relay; AF_XDP: generic",
        relay::sender,
        xsk::generic_receiver,
    ),
    way("relay; packet: V2 ring", relay::sender, tap::v2),
    way("relay; packet: V3 ring", relay::sender, tap::v3),
    way("AF_XDP; relay", xsk::sender, relay::receiver),
    way("relay", relay::sender, relay::receiver),
    way("UDP 4500", wires::udp_sender, wires::udp_receiver),
    way(
        "UDP 4500 beside AF_XDP",
        wires::udp_sender,
        xsk::udp_receiver_beside,
    ),
];

const fn way(
    name: &'static str,
    sender: fn(&End) -> io::Result<Box<dyn Sender>>,
    receiver: fn(&End) -> io::Result<Box<dyn Receiver>>,
) -> Way {
    Way {
        name,
        sender,
        receiver,
    }
}

/// What is asked for, and how it is called.
const LOADS: [(&str, Load); 3] = [
    (
        "as fast as it goes, 384 packets on the way",
        Load::Window(384),
    ),
    ("96,000 packets a second", Load::Paced(96_000)),
    (
        "9,600 packets a second, a burst each 5 ms",
        Load::Paced(9_600),
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(Ok(5), |word| word.parse())?;
    let seconds: f64 = arguments.next().map_or(Ok(0.5), |word| word.parse())?;
    let names: Vec<String> = arguments.collect();
    let (a, b) = net::pair()?;
    let wanted = |way: &&Way| names.is_empty() || names.iter().any(|name| way.name.contains(name));
    let ways: Vec<&Way> = WAYS.iter().filter(wanted).collect();
    let duration = Duration::from_secs_f64(seconds);
    for (heading, load) in LOADS {
        let mut table = table::Table::new(ways.len());
        for round in 0..rounds {
            for turn in 0..ways.len() {
                let index = (round + turn) % ways.len();
                let Some(way) = ways.get(index) else { continue };
                let outcome = load::measure(way, (&a, &b), load, duration);
                table.add(round, index, outcome);
            }
        }
        let busy = std::fs::read_to_string("/proc/loadavg")?;
        println!("{heading}; load at the end: {busy}");
        table.print(ways.iter().map(|way| way.name));
        println!();
    }
    Ok(())
}
