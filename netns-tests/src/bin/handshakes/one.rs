//! One main mode and one quick mode, many times over.

use std::thread::sleep;
use std::time::Duration;

use netns_tests::peer::{Charon, StrongSwan, Vipsec, swan, vipsec};
use netns_tests::probe::{Capture, pcap};
use netns_tests::topology::{A_NET, A_WAN, B_NET, B_WAN};
use netns_tests::tunnel::{mirrored, policy_a, swan_policy_b};
use netns_tests::{Lab, LabError, TwoSites};
use serde_json::{Value, json};

use crate::measure::{cpu, median_ms};

/// What a gateway still does when the initiator calls the tunnel up: the third message of
/// quick mode, installation.
const AFTERWARDS: Duration = Duration::from_millis(60);

const GROUPS: [&str; 3] = ["modp2048", "curve25519", "modp1024"];

/// Who initiates and who answers.
#[derive(Clone, Copy)]
enum Pairing {
    SwanToSwan,
    SwanToOurs,
    OursToOurs,
}

enum End {
    Swan(Charon),
    Ours(Vipsec),
}

pub(crate) fn run(rounds: usize) -> Result<Value, LabError> {
    println!("One main mode and quick mode, {rounds} rounds: medians\n");
    println!(
        "  {:<12} {:<26} {:>14} {:>7} {:>12} {:>7}",
        "group", "initiator - responder", "responder CPU", "ratio", "on the wire", "ratio"
    );
    let mut rows = Vec::new();
    for group in GROUPS {
        let mut yardstick = None;
        for pairing in [
            Pairing::SwanToSwan,
            Pairing::SwanToOurs,
            Pairing::OursToOurs,
        ] {
            let (cpu, wire) = measure(pairing, group, rounds)?;
            let (base_cpu, base_wire) = *yardstick.get_or_insert((cpu, wire));
            let (cpu_ratio, wire_ratio) = (cpu / base_cpu, wire / base_wire);
            let name = pairing.name();
            println!(
                "  {group:<12} {name:<26} {cpu:>11.2} ms {cpu_ratio:>6.2}x {wire:>9.2} ms {wire_ratio:>6.2}x"
            );
            rows.push(json!({
                "group": group, "pair": name, "responder_cpu_ms": cpu, "wire_ms": wire,
                "cpu_ratio": cpu_ratio, "wire_ratio": wire_ratio,
            }));
        }
    }
    println!("\n  the bar: half of strongSwan's, for both");
    Ok(json!(rows))
}

fn measure(pairing: Pairing, group: &str, rounds: usize) -> Result<(f64, f64), LabError> {
    let sites = TwoSites::new(&Lab::new()?)?;
    let (mut responder, initiator) = pairing.start(&sites, group)?;
    let (mut times, mut cpus) = (Vec::new(), Vec::new());
    for _round in 0..rounds {
        let capture = Capture::start(&sites.gw_a, "wan", "udp port 500 or udp port 4500")?;
        let before = cpu(responder.pid())?;
        initiator.up()?;
        times.push(capture.wait_for("a complete negotiation", pcap::negotiation_time)?);
        sleep(AFTERWARDS);
        cpus.push(cpu(responder.pid())?.saturating_sub(before));
        initiator.down()?;
        sleep(AFTERWARDS);
    }
    Ok((median_ms(&cpus), median_ms(&times)))
}

impl Pairing {
    const fn name(self) -> &'static str {
        match self {
            Self::SwanToSwan => "strongSwan - strongSwan",
            Self::SwanToOurs => "strongSwan - vipsec",
            Self::OursToOurs => "vipsec - vipsec",
        }
    }

    /// The responder at gateway B, the initiator at gateway A.
    fn start(self, sites: &TwoSites, group: &str) -> Result<(End, End), LabError> {
        let quiet = StrongSwan {
            log_level: 1,
            ..StrongSwan::default()
        };
        let suite = format!("aes256-sha256-{group}");
        let swan_a = swan::Connection::new(A_WAN, B_WAN, A_NET, B_NET).proposals(&suite);
        let swan_b = swan_policy_b().proposals(&suite);
        let mut ours_a = policy_a().proposals(&suite);
        ours_a.allow_weak = group == "modp1024";
        let ours_b = mirrored(&ours_a);
        let swan = |host, connection| quiet.start(host, &[connection]).map(End::Swan);
        let ours = |host, connection: vipsec::Connection| {
            Vipsec::start(host, &[connection]).map(End::Ours)
        };
        let (gw_a, gw_b) = (&sites.gw_a, &sites.gw_b);
        Ok(match self {
            Self::SwanToSwan => (swan(gw_b, swan_b)?, swan(gw_a, swan_a)?),
            Self::SwanToOurs => (ours(gw_b, ours_b)?, swan(gw_a, swan_a)?),
            Self::OursToOurs => (ours(gw_b, ours_b)?, ours(gw_a, ours_a)?),
        })
    }
}

impl End {
    fn up(&self) -> Result<(), LabError> {
        match self {
            Self::Swan(charon) => charon.initiate("net").map(|_output| ()),
            Self::Ours(vipsec) => vipsec.up("site"),
        }
    }

    fn down(&self) -> Result<(), LabError> {
        match self {
            Self::Swan(charon) => charon.terminate("site"),
            Self::Ours(vipsec) => vipsec.down("site"),
        }
    }

    fn pid(&mut self) -> u32 {
        match self {
            Self::Swan(charon) => charon.process().pid(),
            Self::Ours(vipsec) => vipsec.process().pid(),
        }
    }
}
