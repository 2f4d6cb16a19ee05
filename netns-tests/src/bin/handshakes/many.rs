//! Many tunnels at once, from as many addresses of one gateway to one address of another.

use std::time::Duration;

use netns_tests::lab::wait_for;
use netns_tests::peer::swan::Start;
use netns_tests::peer::{StrongSwan, Vipsec, swan, vipsec};
use netns_tests::probe::{Capture, pcap};
use netns_tests::topology::A_WAN;
use netns_tests::{Lab, LabError, TwoSites};
use serde_json::{Value, json};

use crate::measure::{cpu, resident_kib};

/// All of them have to be up within this time.
const PATIENCE: Duration = Duration::from_secs(60);
const SUITE: &str = "aes256-sha256-curve25519";

struct Outcome {
    /// From the first to the last message of main and quick mode.
    wire: Duration,
    responder_cpu: Duration,
    responder_kib: u64,
}

pub(crate) fn run(tunnels: usize) -> Result<Value, LabError> {
    println!("{tunnels} tunnels brought up together, {SUITE}\n");
    println!(
        "  {:<26} {:>10} {:>12} {:>7} {:>14} {:>12}",
        "", "all up in", "a second", "ratio", "responder CPU", "its memory"
    );
    let mut rows = Vec::new();
    let mut yardstick = None;
    for (name, outcome) in [
        ("strongSwan - strongSwan", strongswan(tunnels)?),
        ("vipsec - vipsec", ours(tunnels)?),
    ] {
        let wire = outcome.wire.as_secs_f64();
        let ratio = wire / *yardstick.get_or_insert(wire);
        let a_second = f64::from(u32::try_from(tunnels).unwrap_or(u32::MAX)) / wire;
        let cpu = outcome.responder_cpu.as_secs_f64();
        let mib = outcome.responder_kib / 1024;
        println!(
            "  {name:<26} {wire:>8.2} s {a_second:>12.0} {ratio:>6.2}x {cpu:>12.2} s {mib:>8} MiB"
        );
        rows.push(json!({
            "pair": name, "tunnels": tunnels, "seconds": wire, "ratio": ratio,
            "responder_cpu_seconds": cpu, "responder_kib": outcome.responder_kib,
        }));
    }
    println!("\n  the bar: a third of strongSwan's time");
    Ok(json!(rows))
}

/// Gateway B's addresses, and a network behind each gateway for each tunnel.
fn prepare(tunnels: usize) -> Result<TwoSites, LabError> {
    let sites = TwoSites::new(&Lab::new()?)?;
    for n in 0..tunnels {
        sites.gw_b.address("wan", &format!("{}/24", peer(n)))?;
        sites.gw_a.address("lan", &format!("10.3.{n}.1/24"))?;
        sites.gw_b.address("lan", &format!("10.4.{n}.1/24"))?;
    }
    Ok(sites)
}

fn peer(n: usize) -> String {
    format!("203.0.113.{}", n + 3)
}

fn finish(capture: Capture, responder: u32, before: Duration) -> Result<Outcome, LabError> {
    let responder_cpu = cpu(responder)?.saturating_sub(before);
    let packets = pcap::ipv4_packets(&capture.finish()?)?;
    let (first, last) = (packets.first(), packets.last());
    let wire = first.zip(last).map(|(first, last)| last.at - first.at);
    Ok(Outcome {
        wire: wire.unwrap_or_default(),
        responder_cpu,
        responder_kib: resident_kib(responder)?,
    })
}

fn strongswan(tunnels: usize) -> Result<Outcome, LabError> {
    let sites = prepare(tunnels)?;
    let quiet = StrongSwan {
        log_level: 0,
        ..StrongSwan::default()
    };
    let connection = |n: usize, initiates: bool| {
        let (here, there) = (format!("10.3.{n}.0/24"), format!("10.4.{n}.0/24"));
        let other = peer(n);
        let mut one = if initiates {
            swan::Connection::new(&other, A_WAN, &there, &here)
        } else {
            swan::Connection::new(A_WAN, &other, &here, &there)
        };
        one = one.proposals(SUITE).name(&format!("site{n}"));
        for child in &mut one.children {
            child.name = format!("net{n}");
            child.start = if initiates { Start::Now } else { Start::None };
        }
        one
    };
    let all = |initiates| {
        (0..tunnels)
            .map(|n| connection(n, initiates))
            .collect::<Vec<_>>()
    };
    let mut responder = quiet.start(&sites.gw_a, &all(false))?;
    let mut initiator = quiet.start(&sites.gw_b, &[])?;
    let before = cpu(responder.process().pid())?;
    let capture = Capture::start(&sites.gw_a, "wan", "udp port 500 or udp port 4500")?;
    initiator.load(&all(true))?;
    // The responder is not asked: that would be work for it.
    initiator.wait_installed(tunnels, PATIENCE)?;
    finish(capture, responder.process().pid(), before)
}

fn ours(tunnels: usize) -> Result<Outcome, LabError> {
    let sites = prepare(tunnels)?;
    let connection = |n: usize, initiates: bool| {
        let (here, there) = (format!("10.3.{n}.0/24"), format!("10.4.{n}.0/24"));
        let other = peer(n);
        let one = if initiates {
            vipsec::Connection::policy_based(&other, A_WAN, &there, &here).start("on-start")
        } else {
            vipsec::Connection::policy_based(A_WAN, &other, &here, &there)
        };
        one.proposals(SUITE).name(&format!("s{n}"))
    };
    let all = |initiates| {
        (0..tunnels)
            .map(|n| connection(n, initiates))
            .collect::<Vec<_>>()
    };
    let mut responder = Vipsec::start(&sites.gw_a, &all(false))?;
    let before = cpu(responder.process().pid())?;
    let capture = Capture::start(&sites.gw_a, "wan", "udp port 500 or udp port 4500")?;
    let initiator = Vipsec::start(&sites.gw_b, &all(true))?;
    wait_for("all tunnels", PATIENCE, || {
        let status = initiator.status()?;
        let up = status.connections.iter().filter(|one| one.state == "up");
        Ok((up.count() == tunnels).then_some(()))
    })?;
    finish(capture, responder.process().pid(), before)
}
