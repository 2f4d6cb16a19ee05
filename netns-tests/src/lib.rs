//! The lab: whole networks inside one machine, with real peers in them.
//!
//! A scenario draws a network of [`lab::Host`]s and [`lab::Cable`]s, puts a gateway from
//! [`peer`] at each end (the `vipsec` binary, or strongSwan as a stranger's implementation),
//! sends traffic with [`probe`] and looks at what both sides say. It never links to the code
//! under test: it runs the built program as a user does.
//!
//! ```text
//!   #[test] ── scenario() ── unshare: own processes, mounts, network ── the test again, inside
//!                                                                          │
//!        host-a ──── gw-a ════════ gw-b ──── host-b      namespaces held by descriptors only
//!                   vipsec        charon                 processes that die with the scenario
//! ```
//!
//! Nothing has a global name: no entry in `/run/netns`, no fixed path, no shared port. So two
//! labs can run side by side, and nothing is left behind by a panic, Ctrl-C or `kill -9`.
//!
//! ```no_run
//! use netns_tests::{Lab, TwoSites, probe::Ping, scenario, topology::HOST_B};
//!
//! scenario(&[], || {
//!     let sites = TwoSites::new(&Lab::new()?)?;
//!     let report = Ping::to(HOST_B).from(&sites.host_a)?;
//!     assert_eq!(report.received, 0, "there is no tunnel yet");
//!     Ok(())
//! });
//! ```

pub mod cpu;
mod error;
mod isolation;
pub mod lab;
pub mod need;
pub mod pair;
pub mod peer;
pub mod plot;
pub mod probe;
mod scenario;
mod sys;
pub mod topology;
pub mod tunnel;

pub use error::{LabError, Outcome};
pub use lab::Lab;
pub use need::Need;
pub use scenario::{isolated, isolated_for, scenario};
pub use topology::{BehindNat, TwoSites};
