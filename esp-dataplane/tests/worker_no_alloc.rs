//! An established tunnel allocates nothing per packet: counted on the worker's own thread,
//! with real devices and sockets; see `gateways` for the topology.
#![expect(unsafe_code, reason = "an allocator is unsafe by its nature")]

mod gateways;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateways::{Scene, WAN_A, WAN_B, eventually};
use ipsec_types::Encapsulation;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTED.try_with(Cell::get).unwrap_or(false) {
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

#[test]
fn an_established_tunnel_allocates_nothing() {
    for encapsulation in [Encapsulation::Udp, Encapsulation::Esp] {
        let scene = Scene {
            encapsulation,
            ..Scene::default()
        };
        let Some((a, b)) = gateways::gateways("no allocation", &scene) else {
            return;
        };
        let echo = b.space.run(|| UdpSocket::bind("10.9.0.2:7").unwrap());
        let client = a.space.run(|| UdpSocket::bind("10.9.0.1:0").unwrap());
        for socket in [&echo, &client] {
            socket
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
        }
        let exchange = |rounds: usize| {
            let mut buffer = [0; 2000];
            for round in 0..rounds {
                // Bursts of mixed sizes, so that trains form and end.
                for piece in 0..8 {
                    let len = if piece % 3 == 2 {
                        100 + round % 700
                    } else {
                        1300
                    };
                    client
                        .send_to(&[1; 1300][..len.min(1300)], "10.9.0.2:7")
                        .unwrap();
                }
                for _ in 0..8 {
                    let (len, from) = echo.recv_from(&mut buffer).unwrap();
                    echo.send_to(&buffer[..len], from).unwrap();
                    client.recv_from(&mut buffer).unwrap();
                }
            }
        };
        exchange(50);
        // The sink is called on the worker's thread: from then on, that one is counted.
        *b.inbox.on_worker.lock().unwrap() = Some(|| COUNTED.set(true));
        let end = |address: &str| format!("{address}:4500").parse().unwrap();
        a.plane
            .nat_t_sender()
            .send(end(WAN_A), end(WAN_B), b"mark")
            .unwrap();
        eventually("the mark", || !b.inbox.datagrams.lock().unwrap().is_empty());
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        exchange(500);
        let made = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!(made, 0, "allocations for 8,000 packets");
        assert!(b.plane.counters().packets_out > 4000);
    }
}
