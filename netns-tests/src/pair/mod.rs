//! Two gateways behind one address, everything that can happen to them, and what it cost.
//!
//! [`Pair`] is the network, with ways to break it. [`Ours`] is vipsec on both gateways and
//! strongSwan as the peer; [`Baseline`] is what people have today, keepalived and strongSwan.
//! [`Watch`] sends numbered packets both ways and captures; [`Event`]s are done to a pair, and
//! [`Evidence`] says what each of them cost on the wire.
//!
//! ```text
//!   let pair = Ours::start(&lab, &settings)?;      // both nodes in sync, the tunnel up
//!   let watch = Watch::start(pair.net())?;         // 1,000 packets a second, both ways
//!   let done = watch.during(Kind::Kill, || …)?;    // what is done, and until it flows again
//!   let evidence = watch.finish()?;                // captures read, everything counted
//!   evidence.cost(&done)                           // lost, gap, IKE messages, IVs, ARP
//! ```

mod baseline;
mod ours;
mod topology;
mod verdict;
mod watch;

pub use baseline::{BASELINE_NEEDS, Baseline};
pub use ours::{OURS_NEEDS, Ours, Settings};
pub use topology::{
    ADDRESS_LAN, ADDRESS_WAN, ADDRESS6_LAN, ADDRESS6_WAN, HOST_LAN, HOST_PEER, NODE_LAN, NODE_WAN,
    Node, PEER_FAR, PEER_WAN, PEER6_WAN, Pair, ROUTER_WAN,
};
pub use verdict::{SANE, lossless, unnoticed};
pub use watch::{Cost, Event, Evidence, RATE, Watch};
