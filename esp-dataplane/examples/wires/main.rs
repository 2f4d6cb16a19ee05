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
mod sys;
mod table;
mod tap;
mod uring;
mod uring_wires;
mod wires;
mod xdp;
mod xsk;

use std::error::Error;
use std::time::Duration;

use load::{Load, Way};

/// The first is what the others are compared with.
const WAYS: &[Way] = &[
    Way {
        name: "raw: sendmmsg, recvmmsg",
        sender: wires::raw_sender,
        receiver: wires::raw_receiver,
    },
    Way {
        name: "io_uring: a call a burst",
        sender: uring_wires::sender,
        receiver: uring_wires::batch_receiver,
    },
    Way {
        name: "io_uring: a call a burst, multishot receive",
        sender: uring_wires::sender,
        receiver: uring_wires::multishot_receiver,
    },
    Way {
        name: "io_uring multishot receive, sendmmsg",
        sender: wires::raw_sender,
        receiver: uring_wires::multishot_receiver,
    },
    Way {
        name: "packet: sendmmsg, V2 ring, and up the stack",
        sender: tap::message_sender,
        receiver: tap::v2_and_stack,
    },
    Way {
        name: "packet: sendmmsg, V2 ring",
        sender: tap::message_sender,
        receiver: tap::v2,
    },
    Way {
        name: "packet: send ring, V2 ring",
        sender: tap::ring_sender,
        receiver: tap::v2,
    },
    Way {
        name: "packet: sendmmsg, V3 ring",
        sender: tap::message_sender,
        receiver: tap::v3,
    },
    Way {
        name: "AF_XDP: copy, generic",
        sender: xsk::sender,
        receiver: xsk::generic_receiver,
    },
    Way {
        name: "AF_XDP: copy, veth driver",
        sender: xsk::sender,
        receiver: xsk::driver_receiver,
    },
    Way {
        name: "relay",
        sender: relay::sender,
        receiver: relay::receiver,
    },
];

/// What is asked for, and how it is called.
const LOADS: [(&str, Load); 2] = [
    (
        "as fast as it goes, 384 packets on the way",
        Load::Window(384),
    ),
    ("96,000 packets a second", Load::Paced(96_000)),
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(Ok(5), |word| word.parse())?;
    let seconds: f64 = arguments.next().map_or(Ok(1.0), |word| word.parse())?;
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
        println!("{heading}\n");
        table.print(ways.iter().map(|way| way.name));
        println!();
    }
    Ok(())
}
