//! An established tunnel allocates nothing per packet: counted on the workers' own threads,
//! with real devices and sockets; see `gateways` for the topology.
#![expect(unsafe_code, reason = "an allocator is unsafe by its nature")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod gateways;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use esp_dataplane::worker::DataPlaneConfig;
use gateways::{Gateway, Scene, gateways};
use ipsec_types::Encapsulation;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_WORKER: Cell<Option<bool>> = const { Cell::new(None) };
}

/// True on the threads of data planes, which go by their name. Allocates nothing itself.
fn is_worker() -> bool {
    let known = IS_WORKER.try_with(Cell::get).ok().flatten();
    known.unwrap_or_else(|| {
        let mut name = [0_u8; 16];
        // SAFETY: PR_GET_NAME writes at most 16 bytes, the length of `name`.
        unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
        let is_named = name.starts_with(b"vipsec-w");
        // A thread has its name before it does anything; it may not be there yet on others.
        if is_named {
            let _ending = IS_WORKER.try_with(|known| known.set(Some(true)));
        }
        is_named
    })
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_worker() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A client behind A and an echo behind B.
struct Ends {
    client: UdpSocket,
    echo: UdpSocket,
}

impl Ends {
    fn new(a: &Gateway, b: &Gateway) -> Self {
        let echo = b.space.run(|| UdpSocket::bind("10.9.0.2:7").unwrap());
        let client = a.space.run(|| UdpSocket::bind("10.9.0.1:0").unwrap());
        client.connect("10.9.0.2:7").unwrap();
        for socket in [&echo, &client] {
            let patience = Some(Duration::from_secs(10));
            socket.set_read_timeout(patience).unwrap();
        }
        Self { client, echo }
    }

    /// Bursts of mixed sizes there and back, so that trains form and end.
    fn exchange(&self, rounds: usize) {
        let mut buffer = [0; 2000];
        for round in 0..rounds {
            for piece in 0..8 {
                let len = if piece % 3 == 2 {
                    100 + round % 700
                } else {
                    1300
                };
                self.client.send(&[1; 1300][..len.min(1300)]).unwrap();
            }
            for _ in 0..8 {
                let (len, from) = self.echo.recv_from(&mut buffer).unwrap();
                self.echo.send_to(&buffer[..len], from).unwrap();
                self.client.recv(&mut buffer).unwrap();
            }
        }
    }

    /// More than one worker can open, until helpers have opened so many bursts.
    fn flood(&self, to: &Gateway, bursts: u64) {
        let helped = || to.plane.counters().bursts_helped;
        let (before, start) = (helped(), Instant::now());
        while helped() < before + bursts {
            assert!(start.elapsed() < Duration::from_secs(20), "nobody helps");
            for _ in 0..100 {
                let _full = self.client.send(&[1; 1300]);
            }
        }
    }
}

#[test]
fn an_established_tunnel_allocates_nothing() {
    for encapsulation in [Encapsulation::Udp, Encapsulation::Esp] {
        let scene = Scene {
            encapsulation,
            ..Scene::default()
        };
        let Some((a, b)) = gateways("no allocation", &scene) else {
            return;
        };
        let ends = Ends::new(&a, &b);
        ends.exchange(50);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        ends.exchange(500);
        let made = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!(made, 0, "allocations for 8,000 packets");
        assert!(b.plane.counters().packets_out > 4000);
    }
    workers_that_help_allocate_nothing();
}

fn workers_that_help_allocate_nothing() {
    let scene = Scene {
        suite: "aes256-sha1",
        config: DataPlaneConfig {
            workers: 2,
            // Two gateways on two CPUs: workers that go first leave no CPU to who might help.
            real_time: false,
            ..Scene::default().config
        },
        ..Scene::default()
    };
    let Some((a, b)) = gateways("no allocation by helpers", &scene) else {
        return;
    };
    let ends = Ends::new(&a, &b);
    ends.flood(&b, 20);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    ends.flood(&b, 20);
    let made = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(made, 0, "allocations for bursts that helpers opened");
}
