//! `vipsec bench gateway`: one end of a tunnel without IKE. The data plane is the daemon's; the
//! SAs are installed with keys that everybody knows, or without a cipher.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use esp_dataplane::worker::{
    ControlSink, DataPlane, DataPlaneConfig, EspRelay, OffloadPolicy, TunnelSpec, device_queues,
};
use esp_dataplane::{AeadBackends, Sad, SadConfig};
use ipsec_types::{Encapsulation, EspSuite, SendGate, Spi};
use netns_tests::topology::{A_WAN, B_WAN};
use vti::{MssClamp, Tun, TunConfig};

use super::tunnels::DEVICE;
use crate::bench::loopback::{self, CONNECTION, Ends, Protection};

/// Which gateway, and how.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::bench) struct GatewayArgs {
    /// `a` or `b`
    #[arg(long)]
    side: Side,
    /// An ESP suite, or `null`
    #[arg(long)]
    protection: String,
    /// `udp`, `esp` or `esp-raw`
    #[arg(long)]
    encapsulation: Carrier,
    /// Data-plane threads
    #[arg(long)]
    workers: usize,
    /// Spin for so long before sleeping
    #[arg(long, default_value_t = DataPlaneConfig::BUSY_POLL.as_micros() as u64)]
    busy_poll_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Side {
    A,
    B,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Carrier {
    Udp,
    Esp,
    /// Protocol 50 over raw sockets only
    EspRaw,
}

/// Nobody speaks IKE here.
struct NoControl;

impl ControlSink for NoControl {
    fn nat_t_datagram(&self, _local: SocketAddr, _remote: SocketAddr, _payload: &[u8]) -> bool {
        false
    }
}

/// Runs until it is killed.
///
/// # Errors
/// When it cannot start.
pub(in crate::bench) fn run(args: &GatewayArgs) -> Result<(), Box<dyn std::error::Error>> {
    let protection = match args.protection.as_str() {
        "null" => Protection::Null,
        suite => Protection::Suite(suite.parse::<EspSuite>()?),
    };
    let (sad, _events) = Sad::new(SadConfig {
        workers: args.workers,
        backends: AeadBackends::measure(),
        ..SadConfig::default()
    });
    let ends = ends(args)?;
    loopback::install_between(&sad, protection, CONNECTION, &ends)?;
    let config = DataPlaneConfig {
        workers: args.workers,
        // Two gateways and two hosts share this machine: the kernel places the threads.
        pin: false,
        busy_poll: Duration::from_micros(args.busy_poll_us),
        offload: OffloadPolicy {
            esp_relay: match args.encapsulation {
                Carrier::Esp => EspRelay::Auto,
                _ => EspRelay::Off,
            },
            ..OffloadPolicy::default()
        },
        ..DataPlaneConfig::default()
    };
    let gate = Arc::new(SendGate::always_open());
    let sink: Arc<dyn ControlSink> = Arc::new(NoControl);
    let plane = DataPlane::start(config, &gate, &sad, &sink)?;
    plane.add_listener(ends.local.ip())?;
    let tun = Tun::create(&TunConfig {
        name: DEVICE.to_owned(),
        queues: device_queues(args.workers),
        offload: true,
    })?;
    plane.add_tunnel(TunnelSpec {
        connection: CONNECTION,
        queues: tun.into_queues(),
        mtu: 1400,
        mss: MssClamp::Auto,
    })?;
    crate::stdout::write("ready\n")?;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let mut out = std::io::stdout().lock();
        for (reason, count) in sad.counters().drops {
            writeln!(out, "dropped {reason}: {count}")?;
        }
        for (name, count) in plane.counters().iter() {
            writeln!(out, "{name}: {count}")?;
        }
    }
}

fn ends(args: &GatewayArgs) -> Result<Ends, Box<dyn std::error::Error>> {
    let [a, b]: [SocketAddr; 2] = [
        SocketAddr::new(A_WAN.parse()?, 4500),
        SocketAddr::new(B_WAN.parse()?, 4500),
    ];
    let [to_a, to_b] = [Spi::new(0xa000)?, Spi::new(0xb000)?];
    let encapsulation = match args.encapsulation {
        Carrier::Udp => Encapsulation::Udp,
        Carrier::Esp | Carrier::EspRaw => Encapsulation::Esp,
    };
    Ok(match args.side {
        Side::A => Ends {
            local: a,
            remote: b,
            inbound: to_a,
            outbound: to_b,
            encapsulation,
        },
        Side::B => Ends {
            local: b,
            remote: a,
            inbound: to_b,
            outbound: to_a,
            encapsulation,
        },
    })
}
