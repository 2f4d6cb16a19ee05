//! Forged first messages of main mode, while an established tunnel carries data.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use netns_tests::LabError;
use netns_tests::lab::Host;
use netns_tests::peer::vipsec;
use netns_tests::probe::{Amount, Bulk, Noise, Ping};
use netns_tests::topology::{A_WAN, B_WAN, HOST_B};
use netns_tests::tunnel::{AgainstOurselves, policy_a};
use rustix::net::{AddressFamily, Protocol, RawProtocol, SendFlags, SocketType, sendto, socket};
use serde_json::{Value, json};

use crate::measure::{cpu, resident_kib};

/// Forged messages a second.
const RATE: u64 = 50_000;
const TIME: Duration = Duration::from_secs(10);
/// Of ten messages, so many come "from" the configured peer; the others from anywhere.
const AS_THE_PEER: u64 = 5;
const ISAKMP: u16 = 500;
/// Dropped by a filter before anybody looks.
const NOWHERE: u16 = 501;

struct Run {
    gbit: f64,
    forged: u64,
    daemon_cpu: Duration,
    kib: (u64, u64),
}

pub(crate) fn run() -> Result<Value, LabError> {
    println!(
        "{RATE} forged first messages a second for {} s, half of them as the peer\n",
        TIME.as_secs()
    );
    println!(
        "  {:<34} {:>8} {:>7} {:>10} {:>11} {:>20}",
        "", "Gbit/s", "ratio", "forged", "daemon CPU", "its memory, KiB"
    );
    let mut pair = AgainstOurselves::start(&policy_a(), &vipsec::Options::default())?;
    pair.bring_up()?;
    Ping::to(HOST_B).until_answered(&pair.sites.host_a, Duration::from_secs(5))?;
    pair.sites.gw_a.run("nft add table inet flood")?;
    let hook = "{ type filter hook prerouting priority -300 ; }";
    pair.sites
        .gw_a
        .run(&format!("nft add chain inet flood early {hook}"))?;
    pair.sites.gw_a.run(&format!(
        "nft add rule inet flood early udp dport {NOWHERE} drop"
    ))?;
    let mut rows = Vec::new();
    let mut yardstick = None;
    for (name, port) in [
        ("undisturbed", None),
        ("flood to a port that is filtered", Some(NOWHERE)),
        ("flood to port 500", Some(ISAKMP)),
    ] {
        let run = one_run(&mut pair, port)?;
        let ratio = run.gbit / *yardstick.get_or_insert(run.gbit);
        let (before, after) = run.kib;
        println!(
            "  {name:<34} {:>8.2} {ratio:>6.2}x {:>10} {:>9.2} s {before:>9} - {after:>8}",
            run.gbit,
            run.forged,
            run.daemon_cpu.as_secs_f64(),
        );
        rows.push(json!({
            "run": name, "gbit_per_second": run.gbit, "ratio": ratio, "forged": run.forged,
            "daemon_cpu_seconds": run.daemon_cpu.as_secs_f64(),
            "resident_kib_before": before, "resident_kib_after": after,
        }));
        std::io::stdout().flush().map_err(LabError::at("print"))?;
    }
    println!("\n  the bar: 0.9 of the undisturbed throughput; what the flood costs this machine");
    println!("  to make stands in the second line");
    Ok(json!(rows))
}

fn one_run(pair: &mut AgainstOurselves, port: Option<u16>) -> Result<Run, LabError> {
    let pid = pair.a.process().pid();
    let (kib, before) = (resident_kib(pid)?, cpu(pid)?);
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let flood = port.map(|port| {
        let (host, stop, sent) = (
            pair.sites.gw_b.clone(),
            Arc::clone(&stop),
            Arc::clone(&sent),
        );
        thread::spawn(move || flood(&host, port, &stop, &sent))
    });
    let moved = Bulk::to(HOST_B, Amount::For(TIME)).run(&pair.sites.host_a, &pair.sites.host_b);
    stop.store(true, Ordering::Relaxed);
    if let Some(flood) = flood {
        flood
            .join()
            .map_err(|_panic| LabError::Damaged("the flood has ended".to_owned()))??;
    }
    Ok(Run {
        gbit: moved?.gbit_per_second(),
        forged: sent.load(Ordering::Relaxed),
        daemon_cpu: cpu(pid)?.saturating_sub(before),
        kib: (kib, resident_kib(pid)?),
    })
}

/// Sends at the rate until told to stop.
fn flood(host: &Host, port: u16, stop: &AtomicBool, sent: &AtomicU64) -> Result<(), LabError> {
    let raw = host
        .enter(|| {
            // Protocol 255 means that the packets bring their own IP header.
            let protocol = RawProtocol::new(255).map(Protocol::from_raw);
            socket(AddressFamily::INET, SocketType::RAW, protocol)
        })?
        .map_err(LabError::at("open a raw socket"))?;
    let target: Ipv4Addr = A_WAN.parse().unwrap_or(Ipv4Addr::LOCALHOST);
    let peer: Ipv4Addr = B_WAN.parse().unwrap_or(Ipv4Addr::LOCALHOST);
    let to = SocketAddr::V4(SocketAddrV4::new(target, 0));
    let mut noise = Noise::new(1);
    let start = Instant::now();
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX) * RATE / 1_000_000;
        while count < due {
            let random = noise.next_u64();
            let source = if count % 10 < AS_THE_PEER {
                peer
            } else {
                Ipv4Addr::from(0xc612_0000 | u32::try_from(random & 0xffff).unwrap_or(0))
            };
            let packet = first_message(source, target, port, random);
            sendto(&raw, &packet, SendFlags::empty(), &to)
                .map_err(LabError::at("send a forged message"))?;
            count += 1;
        }
        thread::sleep(Duration::from_micros(500));
    }
    sent.store(count, Ordering::Relaxed);
    Ok(())
}

/// IPv4, UDP, and a main mode message 1 with one good transform; the kernel fills in lengths
/// and checksum of the IP header.
fn first_message(source: Ipv4Addr, target: Ipv4Addr, port: u16, random: u64) -> Vec<u8> {
    /// AES-256, SHA-256, pre-shared key, MODP-2048, 28,800 s.
    const TRANSFORM: [u8; 36] = [
        0, 0, 0, 36, 1, 1, 0, 0, 0x80, 1, 0, 7, 0x80, 14, 1, 0, 0x80, 2, 0, 4, 0x80, 3, 0, 1, 0x80,
        4, 0, 14, 0x80, 11, 0, 1, 0x80, 12, 0x70, 0x80,
    ];
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(source.octets());
    packet.extend(target.octets());
    let isakmp = 28 + 12 + 8 + 36;
    for field in [ISAKMP, port, 8 + isakmp, 0] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend((random | 1).to_be_bytes());
    packet.extend([0; 8]);
    // Next payload SA, version 1.0, main mode.
    packet.extend([1, 0x10, 2, 0, 0, 0, 0, 0]);
    packet.extend(u32::from(isakmp).to_be_bytes());
    packet.extend([0, 0, 0, 12 + 8 + 36, 0, 0, 0, 1, 0, 0, 0, 1]);
    packet.extend([0, 0, 0, 8 + 36, 1, 1, 0, 1]);
    packet.extend(TRANSFORM);
    packet
}
