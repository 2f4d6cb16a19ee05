//! Two gateways with fixed keys, each in a network namespace of its own thread.
//!
//! ```text
//!   [ namespace A ]                                   [ namespace B ]
//!    vti0 10.9.0.1/24 fd09::1/64                       vti0 10.9.0.2/24 fd09::2/64
//!    wan  192.0.2.1/24 ------------ veth ------------- wan  192.0.2.2/24
//!         fd00::1/64                                        fd00::2/64
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "each test binary uses its share")]

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use esp_dataplane::worker::{ControlSink, DataPlane, DataPlaneConfig, TunnelSpec, device_queues};
use esp_dataplane::{CounterSnapshot, DropReason, InstallOptions, Sad, SadConfig};
use ipsec_types::{
    ConnectionId, Direction, Encapsulation, EspSaPair, EspSaParams, EspSuite, SaLifetime,
    SecretBytes, SelectorPair, SendGate, Spi, TrafficSelector,
};
use vti::{MssClamp, Offloads, Tun, TunConfig, TunQueue};

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own that runs what it is given.
pub(crate) struct Space {
    jobs: Option<Sender<Job>>,
    pub(crate) tid: i32,
    thread: Option<JoinHandle<()>>,
}

impl Space {
    pub(crate) fn new() -> Result<Self, String> {
        let (jobs, inbox): (Sender<Job>, Receiver<Job>) = channel();
        let (ready, answer) = channel();
        let thread = std::thread::spawn(move || {
            let tid = rustix::thread::gettid().as_raw_nonzero().get();
            let unshared = unshare_network().map(|()| tid);
            let is_ok = unshared.is_ok();
            ready.send(unshared).unwrap();
            if is_ok {
                for job in inbox {
                    job();
                }
            }
        });
        let tid = answer
            .recv()
            .unwrap()
            .map_err(|error| format!("no new network namespace ({error}); needs root"))?;
        Ok(Self {
            jobs: Some(jobs),
            tid,
            thread: Some(thread),
        })
    }

    /// Runs `job` in the namespace and returns what it returns.
    pub(crate) fn run<R: Send + 'static>(&self, job: impl FnOnce() -> R + Send + 'static) -> R {
        self.start(job)
            .recv()
            .unwrap_or_else(|_| panic!("a job in a namespace panicked"))
    }

    /// Starts `job` on a further thread of the namespace: the receiver gets its result.
    pub(crate) fn start<R: Send + 'static>(
        &self,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Receiver<R> {
        let (done, result) = channel();
        let job: Job = Box::new(move || {
            // A thread inherits the namespace of the one that starts it.
            std::thread::spawn(move || {
                let _nobody_waits = done.send(job());
            });
        });
        self.jobs.as_ref().unwrap().send(job).unwrap();
        result
    }

    /// `ip ARGUMENTS` in the namespace.
    pub(crate) fn ip(&self, arguments: &str) {
        self.command("ip", arguments);
    }

    pub(crate) fn command(&self, program: &'static str, arguments: &str) {
        let words: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        let ok = self.run(move || Command::new(program).args(words).output().unwrap());
        assert!(
            ok.status.success(),
            "{program} {arguments}: {}",
            String::from_utf8_lossy(&ok.stderr)
        );
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _already_failed = thread.join();
        }
    }
}

#[expect(unsafe_code, reason = "unshare has no safe form")]
fn unshare_network() -> Result<(), rustix::io::Errno> {
    // SAFETY: only CLONE_NEWNET is asked for: file descriptors and memory stay shared, and the calling
    // thread was made for this namespace alone.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
}

/// Keeps what came for the control plane; when full, refuses.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) datagrams: Mutex<Vec<(SocketAddr, SocketAddr, Vec<u8>)>>,
    pub(crate) on_worker: Mutex<Option<fn()>>,
}

impl ControlSink for Inbox {
    fn nat_t_datagram(&self, local: SocketAddr, remote: SocketAddr, payload: &[u8]) -> bool {
        if let Some(hook) = *self.on_worker.lock().unwrap() {
            hook();
        }
        let mut datagrams = self.datagrams.lock().unwrap();
        datagrams.push((local, remote, payload.to_vec()));
        datagrams.len() < 100
    }
}

/// How both gateways are made.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) encapsulation: Encapsulation,
    pub(crate) outer_ipv6: bool,
    pub(crate) suite: &'static str,
    pub(crate) config: DataPlaneConfig,
    /// MTU of the TUN devices.
    pub(crate) device_mtu: u16,
    /// Inner MTU that the data plane is told.
    pub(crate) mtu: u16,
    pub(crate) gate_open: bool,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            encapsulation: Encapsulation::Udp,
            outer_ipv6: false,
            suite: "aes256gcm16",
            config: DataPlaneConfig {
                pin: false,
                ..DataPlaneConfig::default()
            },
            device_mtu: 1400,
            mtu: 1400,
            gate_open: true,
        }
    }
}

pub(crate) struct Gateway {
    pub(crate) plane: DataPlane,
    pub(crate) sad: Arc<Sad>,
    pub(crate) gate: Arc<SendGate>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) space: Space,
}

pub(crate) const CONNECTION: ConnectionId = ConnectionId(3);
pub(crate) const WAN_A: &str = "192.0.2.1";
pub(crate) const WAN_B: &str = "192.0.2.2";

/// Both gateways, connected; `None`, after a word about it, where that is not possible.
pub(crate) fn gateways(name: &str, scene: &Scene) -> Option<(Gateway, Gateway)> {
    let skipped = |reason: String| {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "{name} cannot run: {reason}"
        );
        println!("SKIPPED {name}: {reason}");
    };
    if !std::path::Path::new("/dev/net/tun").exists() {
        skipped("no /dev/net/tun".to_owned());
        return None;
    }
    let (a, b) = match (Space::new(), Space::new()) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(reason), _) | (_, Err(reason)) => {
            skipped(reason);
            return None;
        }
    };
    a.ip(&format!(
        "link add wan type veth peer name wan netns {}",
        b.tid
    ));
    for (space, address, host) in [(&a, WAN_A, 1), (&b, WAN_B, 2)] {
        space.ip("link set lo up");
        space.ip(&format!("addr add {address}/24 dev wan"));
        space.ip(&format!("addr add fd00::{host}/64 dev wan nodad"));
        space.ip("link set wan up");
    }
    let (a, b) = (gateway(a, true, scene), gateway(b, false, scene));
    a.add_device(1, scene);
    b.add_device(2, scene);
    Some((a, b))
}

fn gateway(space: Space, is_a: bool, scene: &Scene) -> Gateway {
    let (sad, _events) = Sad::new(SadConfig {
        workers: scene.config.workers,
        ..SadConfig::default()
    });
    for (number, net) in [(0, "0.0.0.0/0"), (1, "::/0")] {
        let pair = pair(is_a, number, net, scene);
        sad.install_pair(&pair, InstallOptions::default()).unwrap();
        sad.switch_outbound(CONNECTION, pair.outbound.spi).unwrap();
    }
    let gate = Arc::new(if scene.gate_open {
        SendGate::always_open()
    } else {
        SendGate::closed()
    });
    let inbox = Arc::new(Inbox::default());
    let sink: Arc<dyn ControlSink> = Arc::<Inbox>::clone(&inbox);
    let plane = DataPlane::start(scene.config.clone(), &gate, &sad, &sink).unwrap();
    let local = outer(is_a, scene);
    let plane = space
        .run(move || plane.add_listener(local).map(|()| plane))
        .unwrap();
    Gateway {
        plane,
        sad,
        gate,
        inbox,
        space,
    }
}

fn outer(is_a: bool, scene: &Scene) -> IpAddr {
    let address = match (is_a, scene.outer_ipv6) {
        (true, false) => WAN_A,
        (false, false) => WAN_B,
        (true, true) => "fd00::1",
        (false, true) => "fd00::2",
    };
    address.parse().unwrap()
}

fn pair(is_a: bool, number: u32, net: &str, scene: &Scene) -> EspSaPair {
    let suite: EspSuite = scene.suite.parse().unwrap();
    let any = TrafficSelector::net(net.parse().unwrap());
    let params = |direction, to_a: bool| {
        let spi = 0x1000 + number * 2 + u32::from(to_a);
        let byte = u8::try_from(spi & 0xff).unwrap();
        EspSaParams {
            spi: Spi::new(spi).unwrap(),
            direction,
            suite,
            encryption_key: SecretBytes::new(vec![byte; suite.encryption_key_len()]),
            integrity_key: SecretBytes::new(vec![byte; suite.integrity_key_len()]),
            esn: false,
            selectors: SelectorPair {
                local: any,
                remote: any,
            },
            encapsulation: scene.encapsulation,
            local: SocketAddr::new(outer(is_a, scene), 4500),
            remote: SocketAddr::new(outer(!is_a, scene), 4500),
        }
    };
    EspSaPair {
        connection: CONNECTION,
        inbound: params(Direction::Inbound, is_a),
        outbound: params(Direction::Outbound, !is_a),
        lifetime: SaLifetime {
            time: Duration::from_secs(3600),
            kilobytes: None,
        },
    }
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::yield_now();
    }
}

impl Gateway {
    fn add_device(&self, host: u8, scene: &Scene) {
        let config = TunConfig {
            name: "vti0".to_owned(),
            queues: device_queues(scene.config.workers),
            offload: true,
        };
        let tun = self.space.run(move || Tun::create(&config)).unwrap();
        let spec = TunnelSpec {
            connection: CONNECTION,
            queues: tun.into_queues(),
            mtu: scene.mtu,
            mss: MssClamp::Auto,
        };
        self.plane.add_tunnel(spec).unwrap();
        let mtu = scene.device_mtu;
        self.space.ip(&format!("link set vti0 mtu {mtu} up"));
        self.space
            .ip(&format!("addr add 10.9.0.{host}/24 dev vti0"));
        self.space
            .ip(&format!("addr add fd09::{host}/64 dev vti0 nodad"));
    }

    /// Puts a socket pair in the place of the tunnel device; the result is the host's end.
    pub(crate) fn play_device(&self) -> OwnedFd {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let _there_was_none = self.plane.remove_tunnel(CONNECTION);
        let (host, worker) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .unwrap();
        let offloads = Offloads {
            virtio_header: true,
            tcp: true,
            udp: true,
        };
        let spec = TunnelSpec {
            connection: CONNECTION,
            queues: vec![TunQueue::from_parts(worker, &"vti0".into(), offloads)],
            mtu: 1400,
            mss: MssClamp::Off,
        };
        self.plane.add_tunnel(spec).unwrap();
        host
    }

    /// Packets dropped for one reason.
    pub(crate) fn drops(&self, reason: DropReason) -> u64 {
        self.sad.counters().get(reason)
    }

    /// What was dropped until now: the kernel says something on a device as soon as it is up,
    /// whether or not the other end is.
    pub(crate) fn drops_so_far(&self) -> CounterSnapshot {
        self.sad.counters()
    }

    /// Nothing was dropped since.
    pub(crate) fn assert_no_drops_since(&self, before: &CounterSnapshot) {
        assert_eq!(self.sad.counters().drops, before.drops);
    }
}
