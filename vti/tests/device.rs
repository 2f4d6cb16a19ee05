//! The device and its routes against the real kernel, each test in a network namespace of its
//! own thread.
//!
//! ```text
//!   [ namespace of one test ]
//!     wan0 192.0.2.1/24 ── default via 192.0.2.254      (a TUN that plays the underlay)
//!     vti0 10.9.0.1/24  ── tunnel routes
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use vti::{
    LinkSettings, MAIN_TABLE, Made, Netlink, Route, SuperPacket, Tun, TunConfig, TunError,
    VirtioHeader,
};

/// Runs `test` in a fresh network namespace, or says why not.
fn in_namespace(name: &str, test: impl FnOnce() + Send + 'static) {
    let skipped = |reason: String| {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "{name} cannot run: {reason}"
        );
        println!("SKIPPED {name}: {reason}");
    };
    if !std::path::Path::new("/dev/net/tun").exists() {
        return skipped("no /dev/net/tun".to_owned());
    }
    let thread = std::thread::spawn(move || {
        if let Err(error) = unshare_network() {
            return Some(format!("no new network namespace ({error}); needs root"));
        }
        test();
        None
    });
    match thread.join() {
        Ok(None) => {}
        Ok(Some(reason)) => skipped(reason),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

#[expect(unsafe_code, reason = "unshare has no safe form")]
fn unshare_network() -> Result<(), rustix::io::Errno> {
    // SAFETY: only CLONE_NEWNET is asked for: file descriptors and memory stay shared, and the calling
    // thread was made for this test alone.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
}

/// For a machine that stands still.
const PATIENCE: Duration = Duration::from_secs(20);

fn tun(name: &str, queues: usize) -> Result<Tun, TunError> {
    Tun::create(&TunConfig {
        name: name.to_owned(),
        queues,
        offload: true,
    })
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

const UP: LinkSettings = LinkSettings {
    mtu: 1400,
    up: true,
    tx_queue_len: Some(1000),
};

fn route(prefix: &str, device: u32) -> Route {
    Route {
        prefix: prefix.parse().unwrap(),
        device,
        metric: 100,
        table: MAIN_TABLE,
    }
}

#[test]
fn a_taken_name_is_a_clear_error_and_the_device_dies_with_its_queues() {
    in_namespace("taken name", || {
        let first = tun("vti0", 2).unwrap();
        assert!(first.offloads().tcp, "this kernel has TSO on TUN");
        assert!(matches!(tun("vti0", 2), Err(TunError::NameTaken(_))));
        assert!(matches!(tun("lo", 1), Err(TunError::NameTaken(_))));
        assert!(matches!(tun("vti1", 0), Err(TunError::NoQueues)));
        let index = first.index();
        let mut queues = first.into_queues();
        assert_eq!(queues.len(), 2);
        queues.pop();
        assert!(matches!(tun("vti0", 2), Err(TunError::NameTaken(_))));
        drop(queues);
        assert!(block_on(vti::is_gone_within(index, PATIENCE)));
        assert!(tun("vti0", 2).is_ok(), "the kernel has removed the device");
    });
}

#[test]
fn a_device_that_somebody_holds_is_waited_for() {
    in_namespace("held device", || {
        let device = tun("vti0", 1).unwrap();
        let index = device.index();
        assert!(!block_on(vti::is_gone_within(index, Duration::ZERO)));
        let waits = async {
            let gone = tokio::spawn(vti::is_gone_within(index, PATIENCE));
            // It has looked at least once when this thread has its next turn.
            tokio::task::yield_now().await;
            drop(device);
            gone.await.unwrap()
        };
        assert!(block_on(waits));
    });
}

#[test]
fn a_device_exists_until_it_is_deleted_whatever_its_name() {
    in_namespace("existence", || {
        let device = tun("vti0", 1).unwrap();
        assert!(vti::exists(device.index()));
        ip(&["link", "set", "vti0", "name", "renamed"]);
        assert!(vti::exists(device.index()));
        ip(&["link", "delete", "renamed"]);
        assert!(!vti::exists(device.index()));
    });
}

#[test]
fn routes_and_addresses_are_made_listed_and_removed() {
    in_namespace("routes", || {
        let device = tun("vti0", 1).unwrap();
        block_on(async {
            let net = Netlink::connect().unwrap();
            net.configure_link(device.index(), UP).await.unwrap();
            let address = "10.9.0.1/24".parse().unwrap();
            net.add_address(device.index(), address).await.unwrap();
            net.add_address(device.index(), address).await.unwrap();
            let wide = route("10.20.0.0/16", device.index());
            let v6 = route("2001:db8::/32", device.index());
            net.add_route(&wide).await.unwrap();
            net.add_route(&wide).await.unwrap();
            net.add_route(&v6).await.unwrap();
            let to: IpAddr = "10.20.3.4".parse().unwrap();
            assert_eq!(
                net.lookup(to).await.unwrap().unwrap().device,
                device.index()
            );
            assert_eq!(net.made().len(), 3);
            net.remove_route(&wide).await.unwrap();
            net.remove_route(&wide).await.unwrap();
            assert_eq!(net.lookup(to).await.unwrap(), None);
            net.remove_all().await.unwrap();
            assert!(net.made().is_empty());
            let inside: IpAddr = "2001:db8::1".parse().unwrap();
            assert_eq!(net.lookup(inside).await.unwrap(), None);
        });
    });
}

#[test]
fn a_default_route_into_the_tunnel_leaves_the_peer_outside() {
    in_namespace("peer pin", || {
        let wan = tun("wan0", 1).unwrap();
        let device = tun("vti0", 1).unwrap();
        let ours = [device.index()];
        let peer: IpAddr = "198.51.100.7".parse().unwrap();
        block_on(async {
            let net = Netlink::connect().unwrap();
            for index in [wan.index(), device.index()] {
                net.configure_link(index, UP).await.unwrap();
            }
            let wan_address = "192.0.2.1/24".parse().unwrap();
            net.add_address(wan.index(), wan_address).await.unwrap();
            ip(&["route", "add", "default", "via", "192.0.2.254"]);

            let pin = net.pin_peer(peer, &ours).await.unwrap().unwrap();
            assert_eq!(pin.via.gateway, Some("192.0.2.254".parse().unwrap()));
            for half in ["0.0.0.0/1", "128.0.0.0/1", "0.0.0.0/0"] {
                net.add_route(&route(half, device.index())).await.unwrap();
            }
            let other: IpAddr = "203.0.113.9".parse().unwrap();
            assert_eq!(
                net.lookup(other).await.unwrap().unwrap().device,
                device.index()
            );
            assert_eq!(net.lookup(peer).await.unwrap().unwrap().device, wan.index());

            // The underlay moves to another router: pinning again follows it.
            ip(&["route", "replace", "default", "via", "192.0.2.253"]);
            let pin = net.pin_peer(peer, &ours).await.unwrap().unwrap();
            assert_eq!(pin.via.gateway, Some("192.0.2.253".parse().unwrap()));
            let hop = net.lookup(peer).await.unwrap().unwrap();
            assert_eq!(hop.gateway, pin.via.gateway);

            // A process that was killed forgets its pin; the next one sweeps it.
            drop(net);
            let net = Netlink::connect().unwrap();
            assert!(net.sweep().await.unwrap() >= 1);
            assert_eq!(net.sweep().await.unwrap(), 0);
            assert_eq!(net.lookup(peer).await.unwrap().unwrap().device, wan.index());
            net.pin_peer(peer, &ours).await.unwrap().unwrap();
            net.unpin_peer(peer).await.unwrap();
            assert!(!net.made().iter().any(|made| matches!(made, Made::Pin(_))));
        });
    });
}

/// The tests of rtnetlink should not set their own scene with it.
fn ip(arguments: &[&str]) {
    let status = std::process::Command::new("ip").args(arguments).status();
    assert!(status.unwrap().success(), "ip {arguments:?}");
}

#[test]
fn a_packet_goes_out_and_its_answer_comes_back() {
    in_namespace("round trip", || {
        let device = tun("vti0", 1).unwrap();
        block_on(async {
            let net = Netlink::connect().unwrap();
            net.configure_link(device.index(), UP).await.unwrap();
            let address = "10.9.0.1/24".parse().unwrap();
            net.add_address(device.index(), address).await.unwrap();
        });
        let queue = device.into_queues().remove(0);
        let socket = UdpSocket::bind("10.9.0.1:7000").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        socket.send_to(&[7; 900], "10.9.0.2:7001").unwrap();

        let mut buffer = vec![0; 66_000];
        let mut out = next_udp(&queue, &mut buffer);
        // Swap addresses and ports: the sums stay what they are.
        for (a, b, len) in [(12, 16, 4), (20, 22, 2)] {
            let from = out[a..a + len].to_vec();
            out.copy_within(b..b + len, a);
            out[b..b + len].copy_from_slice(&from);
        }
        let part = [std::io::IoSlice::new(&out)];
        queue.write(&VirtioHeader::default(), &part).unwrap();
        let mut answer = [0; 1000];
        let (len, from) = socket.recv_from(&mut answer).unwrap();
        assert_eq!((len, from), (900, "10.9.0.2:7001".parse().unwrap()));
    });
}

/// The next UDP packet with its checksum completed; the kernel's own chatter is skipped.
fn next_udp(queue: &vti::TunQueue, buffer: &mut [u8]) -> Vec<u8> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        let Some(received) = queue.read(buffer).unwrap() else {
            std::thread::yield_now();
            continue;
        };
        let packet = &buffer[VirtioHeader::LEN..][..received.len];
        let packet = SuperPacket::parse(&received.header.unwrap(), packet).unwrap();
        let mut out = vec![0; packet.segment_len(0)];
        packet.write_segment(0, &mut out).unwrap();
        if out[0] == 0x45 && out[9] == 17 {
            return out;
        }
    }
    panic!("no packet came out of the TUN");
}
