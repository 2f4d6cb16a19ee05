//! One end of a tunnel with fixed keys, for measuring the data plane without IKE. It runs in
//! the network namespace it is started in until its standard input ends, and prints its
//! counters then.
//!
//! ```text
//!   static_gateway a LOCAL REMOTE --esp --cipher aes128gcm16 --mtu 1400 --workers 1 ROUTE...
//! ```
//!
//! Both ends use the same fixed keys: for a laboratory only.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use esp_dataplane::worker::{
    ControlSink, DataPlane, DataPlaneConfig, EspRelay, OffloadPolicy, TunnelSpec, device_queues,
};
use esp_dataplane::{AeadBackends, InstallOptions, Sad, SadConfig};
use ipsec_types::{
    ConnectionId, Direction, Encapsulation, EspSaPair, EspSaParams, EspSuite, SaLifetime,
    SecretBytes, SelectorPair, SendGate, Spi, TrafficSelector,
};
use vti::{MssClamp, Tun, TunConfig};

struct NoControl;

impl ControlSink for NoControl {
    fn nat_t_datagram(&self, _: SocketAddr, _: SocketAddr, _: &[u8]) -> bool {
        false
    }
}

/// The command line.
struct Options {
    is_a: bool,
    local: IpAddr,
    remote: IpAddr,
    encapsulation: Encapsulation,
    /// `None` frames like AES-GCM and protects nothing.
    suite: Option<EspSuite>,
    mtu: u16,
    workers: usize,
    pin: bool,
    busy_poll: Duration,
    offload: bool,
    routes: Vec<String>,
}

impl Options {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut arguments = std::env::args().skip(1);
        let mut next = || arguments.next().ok_or("an argument is missing");
        let mut options = Self {
            is_a: next()? == "a",
            local: next()?.parse()?,
            remote: next()?.parse()?,
            encapsulation: Encapsulation::Udp,
            suite: Some("aes128gcm16".parse()?),
            mtu: 1400,
            workers: 1,
            pin: false,
            busy_poll: Duration::ZERO,
            offload: true,
            routes: Vec::new(),
        };
        while let Ok(argument) = next() {
            match argument.as_str() {
                "--esp" => options.encapsulation = Encapsulation::Esp,
                "--cipher" => {
                    let name = next()?;
                    options.suite = (name != "null").then(|| name.parse()).transpose()?;
                }
                "--mtu" => options.mtu = next()?.parse()?,
                "--workers" => options.workers = next()?.parse()?,
                "--pin" => options.pin = true,
                "--busy-poll-us" => options.busy_poll = Duration::from_micros(next()?.parse()?),
                "--no-offload" => options.offload = false,
                _ => options.routes.push(argument),
            }
        }
        Ok(options)
    }

    fn pair(&self) -> Result<EspSaPair, Box<dyn Error>> {
        let suite = self.suite.unwrap_or(EspSuite::ALL[2]);
        let any = TrafficSelector::net("0.0.0.0/0".parse()?);
        let (spi_a, spi_b) = (Spi::new(0x1001)?, Spi::new(0x2002)?);
        let params = |direction, spi: Spi| EspSaParams {
            spi,
            direction,
            suite,
            // A key for each SPI.
            encryption_key: SecretBytes::new(vec![
                spi.to_be_bytes()[3];
                suite.encryption_key_len()
            ]),
            integrity_key: SecretBytes::new(vec![9; suite.integrity_key_len()]),
            esn: false,
            selectors: SelectorPair {
                local: any,
                remote: any,
            },
            encapsulation: self.encapsulation,
            local: SocketAddr::new(self.local, 4500),
            remote: SocketAddr::new(self.remote, 4500),
        };
        let (mine, theirs) = if self.is_a {
            (spi_a, spi_b)
        } else {
            (spi_b, spi_a)
        };
        Ok(EspSaPair {
            connection: ConnectionId(0),
            inbound: params(Direction::Inbound, mine),
            outbound: params(Direction::Outbound, theirs),
            lifetime: SaLifetime {
                time: Duration::from_secs(3600),
                kilobytes: None,
            },
        })
    }
}

fn ip(arguments: &[&str]) -> Result<(), Box<dyn Error>> {
    let status = Command::new("ip").args(arguments).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("ip {arguments:?} failed").into())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse()?;
    let tun = Tun::create(&TunConfig {
        name: "vti0".to_owned(),
        queues: device_queues(options.workers),
        offload: options.offload,
    })?;
    ip(&["link", "set", "vti0", "mtu", &options.mtu.to_string(), "up"])?;
    for route in &options.routes {
        ip(&["route", "add", route, "dev", "vti0", "metric", "100"])?;
    }

    let (sad, _events) = Sad::new(SadConfig {
        workers: options.workers,
        backends: AeadBackends::default(),
        ..SadConfig::default()
    });
    let pair = options.pair()?;
    if options.suite.is_some() {
        sad.install_pair(&pair, InstallOptions::default())?;
    } else {
        sad.install_null_pair_for_bench(&pair)?;
    }
    sad.switch_outbound(pair.connection, pair.outbound.spi)?;

    let config = DataPlaneConfig {
        workers: options.workers,
        pin: options.pin,
        busy_poll: options.busy_poll,
        offload: OffloadPolicy {
            udp_segment: options.offload,
            udp_gro: options.offload,
            esp_relay: if options.offload {
                EspRelay::Auto
            } else {
                EspRelay::Off
            },
        },
        ..DataPlaneConfig::default()
    };
    let gate = Arc::new(SendGate::always_open());
    let sink: Arc<dyn ControlSink> = Arc::new(NoControl);
    let plane = DataPlane::start(config, &gate, &sad, &sink)?;
    plane.add_tunnel(TunnelSpec {
        connection: pair.connection,
        queues: tun.into_queues(),
        mtu: options.mtu,
        mss: MssClamp::Auto,
    })?;
    plane.add_listener(options.local)?;
    println!("ready");

    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    for (name, value) in plane.counters().iter() {
        println!("{name} {value}");
    }
    let esp = sad.counters();
    println!("sealed {:?} opened {:?}", esp.sealed, esp.opened);
    for (reason, packets) in &esp.drops {
        println!("drop {} {packets}", reason.metric_name());
    }
    Ok(())
}
