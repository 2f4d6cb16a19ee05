//! `make demo`: a tunnel against a stranger's implementation, and then the same tunnel on two
//! gateways that take it over from each other, told as a short story.
//!
//! Everything happens in namespaces of this process; the machine's own network is not
//! touched, and nothing is left when it ends, however it ends.

mod pair;
mod story;
mod tunnel;

use std::process::ExitCode;

use netns_tests::need::PING;
use netns_tests::pair::OURS_NEEDS;
use netns_tests::{Need, Outcome, isolated};

use story::Story;

fn main() -> ExitCode {
    isolated(&[PING, Need::Tun, Need::Vipsec], demo)
}

fn demo() -> Outcome {
    let story =
        Story::begin("vipsec: one IKEv1 tunnel, end to end, in a private lab on this machine");
    tunnel::tell(&story)?;
    match OURS_NEEDS.iter().find_map(|need| need.missing()) {
        None => pair::tell(&story)?,
        Some(reason) => story.chapter(&format!("The story of the pair cannot be told: {reason}")),
    }
    story.end("Done. Nothing of this is left on the machine.");
    Ok(())
}
