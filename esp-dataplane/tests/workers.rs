//! Two data planes with fixed keys against each other over real TUN devices and sockets; see
//! `gateways` for the topology.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod gateways;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use esp_dataplane::DropReason;
use esp_dataplane::io::{SocketOptions, Train, TxScratch, UdpWire, Wire};
use esp_dataplane::iv::{Epoch, Member};
use esp_dataplane::sa::{Activation, Resume};
use esp_dataplane::worker::{DataPlaneConfig, EspRelay, NatTSendError, OffloadPolicy};
use gateways::{CONNECTION, Gateway, Scene, WAN_A, WAN_B, eventually, gateways};
use ipsec_types::Encapsulation;

const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes that show where they belong.
fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24).to_le_bytes()[0]
        })
        .collect()
}

/// Moves `len` bytes each way at the same time over one TCP connection through the tunnel.
fn tcp_both_ways(from: &Gateway, to: &Gateway, server: &str, len: usize) {
    let address: SocketAddr = server.parse().unwrap();
    let listener = to.space.run(move || TcpListener::bind(address).unwrap());
    let exchange = move |mut stream: TcpStream, mine: u32, theirs: u32| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut writer = stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            writer.write_all(&pattern(len, mine)).unwrap();
        });
        let mut received = vec![0; len];
        stream.read_exact(&mut received).unwrap();
        sending.join().unwrap();
        assert!(received == pattern(len, theirs), "bytes changed on the way");
    };
    let answer = to.space.start(move || {
        let (stream, _) = listener.accept().unwrap();
        exchange(stream, 2, 1);
    });
    from.space.run(move || {
        exchange(
            TcpStream::connect_timeout(&address, PATIENCE).unwrap(),
            1,
            2,
        );
    });
    answer.recv_timeout(PATIENCE).unwrap();
}

/// Sends datagrams of many sizes, some of which the host has to fragment, and waits for each.
fn udp_sizes(from: &Gateway, to: &Gateway, server: &'static str, sizes: &'static [usize]) {
    let socket = to.space.run(move || UdpSocket::bind(server).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let source = if server.starts_with('[') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let sender = from.space.run(move || UdpSocket::bind(source).unwrap());
    let mut buffer = vec![0; 66_000];
    for size in sizes {
        let payload = pattern(*size, 77);
        sender.send_to(&payload, server).unwrap();
        let (len, _) = socket.recv_from(&mut buffer).unwrap();
        assert!(
            buffer[..len] == payload,
            "a datagram of {size} bytes changed"
        );
    }
}

const SIZES: &[usize] = &[0, 1, 17, 64, 1000, 1371, 1372, 1373, 2800, 9000, 60_000];

fn carries_everything(name: &str, scene: &Scene) {
    let Some((a, b)) = gateways(name, scene) else {
        return;
    };
    // Answered pings: what the kernels said before has arrived or is lost.
    a.space.command("ping", "-c 20 -i 0.002 -w 5 10.9.0.2");
    let (before_a, before_b) = (a.drops_so_far(), b.drops_so_far());
    let lost = |from: &Gateway, to: &Gateway| {
        let came = to.plane.counters().packets_in;
        from.plane.counters().packets_out.checked_sub(came)
    };
    // A packet may be counted here before the other worker has counted that it left.
    eventually("settled counters", || lost(&a, &b).is_some());
    let lost_before = lost(&a, &b);
    tcp_both_ways(&a, &b, "10.9.0.2:5000", 8 << 20);
    tcp_both_ways(&b, &a, "[fd09::1]:5000", 2 << 20);
    udp_sizes(&a, &b, "10.9.0.2:6000", SIZES);
    udp_sizes(&b, &a, "[fd09::1]:6000", SIZES);
    b.space
        .command("ping", "-c 3 -i 0.002 -w 5 -s 4000 fd09::1");
    a.assert_no_drops_since(&before_a);
    b.assert_no_drops_since(&before_b);
    // TCP's last words may still be on the way.
    eventually("all that left has come", || lost(&a, &b) <= lost_before);
    assert_eq!(a.plane.counters().receive_errors, 0);
    assert_eq!(a.plane.failed_worker(), None);
}

#[test]
fn udp_carries_tcp_udp_and_ping_without_a_drop() {
    carries_everything("UDP", &Scene::default());
}

#[test]
fn protocol_50_carries_tcp_udp_and_ping_without_a_drop() {
    carries_everything(
        "protocol 50",
        &Scene {
            encapsulation: Encapsulation::Esp,
            ..Scene::default()
        },
    );
}

#[test]
fn outer_ipv6_carries_the_same_in_both_forms() {
    for encapsulation in [Encapsulation::Udp, Encapsulation::Esp] {
        carries_everything(
            "outer IPv6",
            &Scene {
                encapsulation,
                outer_ipv6: true,
                ..Scene::default()
            },
        );
    }
}

/// A path that is narrower than our packets: the kernel does not cut trains for it, but it
/// fragments single packets.
#[test]
fn a_narrow_path_costs_speed_and_not_the_tunnel() {
    let Some((a, b)) = gateways("narrow path", &Scene::default()) else {
        return;
    };
    for space in [&a.space, &b.space] {
        space.ip("link set wan mtu 1300");
    }
    tcp_both_ways(&a, &b, "10.9.0.2:5000", 1 << 20);
    udp_sizes(&b, &a, "10.9.0.1:6000", SIZES);
    assert!(a.plane.counters().uncut_trains > 0);
    assert_eq!(a.drops(DropReason::TooBig), 0);
}

#[test]
fn a_device_that_disappears_is_let_go_and_the_others_go_on() {
    let Some((a, b)) = gateways("lost device", &Scene::default()) else {
        return;
    };
    tcp_both_ways(&a, &b, "10.9.0.2:5000", 1 << 20);
    b.space.ip("link del vti0");
    eventually("the worker notices", || b.plane.counters().tun_errors == 1);
    // What still comes is counted, and the worker serves its other sources.
    let sender = a.space.run(|| UdpSocket::bind("10.9.0.1:0").unwrap());
    sender.send_to(b"x", "10.9.0.2:9").unwrap();
    eventually("a counted loss", || b.drops(DropReason::TunFull) > 0);
    let (local, remote) = ends();
    let ike = a.plane.nat_t_sender();
    ike.send(local, remote, b"still there?").unwrap();
    eventually("the control plane's datagram", || {
        !b.inbox.datagrams.lock().unwrap().is_empty()
    });
    assert_eq!(b.plane.counters().tun_errors, 1, "no busy loop");
    b.plane.remove_tunnel(CONNECTION).unwrap();
}

#[test]
fn two_workers_carry_the_same() {
    for encapsulation in [Encapsulation::Udp, Encapsulation::Esp] {
        carries_everything(
            "two workers",
            &Scene {
                encapsulation,
                ..with_two_workers("aes128-sha256")
            },
        );
    }
}

fn with_two_workers(suite: &'static str) -> Scene {
    Scene {
        suite,
        config: DataPlaneConfig {
            workers: 2,
            // Two gateways on two CPUs: workers that go first leave no CPU to who might help.
            real_time: false,
            ..Scene::default().config
        },
        ..Scene::default()
    }
}

/// One peer's packets come by one socket; when there are more than one worker can take, another
/// opens a part of them. The host sees every datagram of the flow in its place.
#[test]
fn a_flow_stays_in_order_whoever_opens_it() {
    // A slow suite, so that the receiving worker does not keep pace.
    let Some((a, b)) = gateways("helpers", &with_two_workers("aes256-sha1")) else {
        return;
    };
    tcp_both_ways(&a, &b, "10.9.0.2:5000", 1 << 20);
    let receiver = b.space.run(|| UdpSocket::bind("10.9.0.2:6000").unwrap());
    let sender = a.space.run(|| UdpSocket::bind("10.9.0.1:0").unwrap());
    sender.connect("10.9.0.2:6000").unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let reading = std::thread::spawn(move || {
        let (mut buffer, mut last, mut came) = ([0; 1400], 0, 0_u32);
        while let Ok(len) = receiver.recv(&mut buffer) {
            let number = u32::from_be_bytes(*buffer[..len].first_chunk().unwrap());
            assert!(number > last, "{number} came behind {last}");
            last = number;
            came += 1;
        }
        came
    });
    let helped = || b.plane.counters().bursts_helped;
    let mut number = 0_u32;
    let deadline = std::time::Instant::now() + PATIENCE;
    while (helped() < 20 || number < 20_000) && std::time::Instant::now() < deadline {
        number += 1;
        let mut datagram = [7; 1300];
        datagram[..4].copy_from_slice(&number.to_be_bytes());
        // A full queue loses some: that is another test's business.
        let _full = sender.send(&datagram);
    }
    let came = reading.join().unwrap();
    assert!(came > 1000, "{came} of {number}");
    let counters = b.plane.counters();
    assert!(counters.bursts_helped >= 20, "{counters:?}");
    assert!(counters.bursts_helped <= counters.bursts_shared);
    assert_eq!(counters.turns_given_up, 0);
    for reason in [DropReason::Replayed, DropReason::TooOld, DropReason::BadIcv] {
        assert_eq!(b.drops(reason), 0, "{reason}");
    }
}

#[test]
fn without_any_offload_the_same_arrives() {
    carries_everything(
        "no offload",
        &Scene {
            config: DataPlaneConfig {
                offload: OffloadPolicy {
                    udp_segment: false,
                    udp_gro: false,
                    esp_relay: EspRelay::Off,
                },
                ..Scene::default().config
            },
            ..Scene::default()
        },
    );
}

/// Super-packets leave as trains, and trains arrive as super-packets: the point of it all.
#[test]
fn bulk_tcp_needs_few_system_calls() {
    let Some((a, b)) = gateways("few calls", &Scene::default()) else {
        return;
    };
    tcp_both_ways(&a, &b, "10.9.0.2:5000", 16 << 20);
    let counters = a.plane.counters();
    let packets = counters.packets_out + counters.packets_in;
    let calls =
        counters.tun_reads + counters.tun_writes + counters.send_calls + counters.receive_calls;
    assert!(calls * 3 < packets, "{calls} calls for {packets} packets");
    assert_eq!(counters.uncut_trains, 0);
}

/// Where streams only are waiting, several super-packets are sealed and sent in one go.
#[test]
fn streams_leave_in_long_bursts() {
    const SUPER_PACKETS: u64 = 8;
    let Some((a, b)) = gateways("long bursts", &Scene::default()) else {
        return;
    };
    tcp_both_ways(&a, &b, "10.9.0.2:5000", 1 << 20);
    let train = Train {
        start: 0,
        len: 40 * 1300,
        stride: 1300,
        remote: "10.9.0.2:6000".parse().unwrap(),
        traffic_class: 0,
    };
    let host = "10.9.0.1:0".parse().unwrap();
    let mut host = a
        .space
        .run(move || UdpWire::open(host, 1, &SocketOptions::default()).unwrap());
    // Whoever has sent single packets is not waited for any more.
    std::thread::sleep(Duration::from_millis(100));
    let before = a.plane.counters();
    a.plane.hold_tunnel(CONNECTION).unwrap();
    for _ in 0..SUPER_PACKETS {
        let sent = host[0].send(&mut TxScratch::default(), &[7; 40 * 1300], &[train]);
        assert_eq!((sent.packets, sent.uncut), (40, 0));
    }
    a.plane.release_tunnel(CONNECTION).unwrap();
    eventually("all super-packets are out", || {
        a.plane.counters().packets_out >= before.packets_out + 40 * SUPER_PACKETS
    });
    let counters = a.plane.counters();
    assert_eq!(counters.tun_reads - before.tun_reads, SUPER_PACKETS);
    let calls = counters.send_calls - before.send_calls;
    assert!(calls <= SUPER_PACKETS / 4, "{calls} calls");
}

/// The SA is gone and coming back: what hosts send meanwhile arrives afterwards, in order.
#[test]
fn held_packets_wait_for_the_sa_and_arrive_in_order() {
    let Some((a, b)) = gateways("hold", &Scene::default()) else {
        return;
    };
    tcp_both_ways(&a, &b, "10.9.0.2:5000", 1 << 20);
    let before = a.drops(DropReason::NoSa);
    a.plane.hold_tunnel(CONNECTION).unwrap();
    let state = a.sad.export();
    a.sad.remove_connection(CONNECTION);
    let receiver = b.space.run(|| UdpSocket::bind("10.9.0.2:6000").unwrap());
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let sender = a.space.run(|| UdpSocket::bind("10.9.0.1:0").unwrap());
    for number in 0_u8..100 {
        sender.send_to(&[number], "10.9.0.2:6000").unwrap();
    }
    let activation = Activation {
        member: Member::A,
        above: Epoch::FIRST,
        resume: Resume::Exact,
        ceiling: None,
    };
    a.sad.import(state, activation).unwrap();
    assert_eq!(a.drops(DropReason::NoSa), before, "nothing was read");
    a.plane.release_tunnel(CONNECTION).unwrap();
    let mut buffer = [0; 8];
    for number in 0_u8..100 {
        let (length, _) = receiver.recv_from(&mut buffer).unwrap();
        assert_eq!(buffer[..length], [number]);
    }
    a.plane.remove_tunnel(CONNECTION).unwrap();
    assert!(a.plane.hold_tunnel(CONNECTION).is_err());
}

/// A queue is first in, first out, and a flow has one of several: what is sent after many large
/// packets of another flow need not arrive after them.
#[test]
fn small_packets_do_not_wait_behind_another_flow() {
    const LARGE: usize = 150;
    const FLOWS: usize = 16;
    let Some((a, b)) = gateways("fair queues", &Scene::default()) else {
        return;
    };
    tcp_both_ways(&a, &b, "10.9.0.2:5000", 1 << 20);
    let receiver = b.space.run(|| UdpSocket::bind("10.9.0.2:6000").unwrap());
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    // All of them wait in its buffer until they are read.
    rustix::net::sockopt::set_socket_recv_buffer_size(&receiver, 1 << 20).unwrap();
    let socket = || a.space.run(|| UdpSocket::bind("10.9.0.1:0").unwrap());
    a.plane.hold_tunnel(CONNECTION).unwrap();
    let bulk = socket();
    // What is held counts against its sender's buffer.
    rustix::net::sockopt::set_socket_send_buffer_size(&bulk, 1 << 20).unwrap();
    for _ in 0..LARGE {
        bulk.send_to(&[0; 1300], "10.9.0.2:6000").unwrap();
    }
    for _ in 0..FLOWS {
        socket().send_to(b"small", "10.9.0.2:6000").unwrap();
    }
    a.plane.release_tunnel(CONNECTION).unwrap();
    let mut buffer = [0; 1500];
    let mut arrived = || receiver.recv_from(&mut buffer).unwrap().0;
    let lengths: Vec<usize> = (0..LARGE + FLOWS).map(|_| arrived()).collect();
    let early = lengths
        .iter()
        .take(LARGE * 2 / 3)
        .filter(|length| **length == 5)
        .count();
    assert!(early >= FLOWS / 2, "only {early} of {FLOWS}: {lengths:?}");
}

/// An answer must not move a flow to another queue while packets wait in the first.
#[test]
fn an_answer_does_not_let_later_packets_overtake() {
    let one_worker = Scene::default();
    for scene in [one_worker, with_two_workers("aes128gcm16")] {
        if let Some((a, b)) = gateways("answers and order", &scene) {
            answers_keep_the_order(&a, &b);
        }
    }
}

/// One flow after the other: two at a time could share one of the groups of flows for which a
/// worker notes by which queue they come.
fn answers_keep_the_order(a: &Gateway, b: &Gateway) {
    const FLOWS: usize = 8;
    tcp_both_ways(a, b, "10.9.0.2:5000", 1 << 20);
    let host_b = b.space.run(|| UdpSocket::bind("10.9.0.2:6000").unwrap());
    host_b.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 8];
    for _ in 0..FLOWS {
        let flow = a.space.run(|| UdpSocket::bind("10.9.0.1:0").unwrap());
        flow.set_read_timeout(Some(PATIENCE)).unwrap();
        let say = |number: u8| assert_eq!(flow.send_to(&[number], "10.9.0.2:6000").unwrap(), 1);
        say(0);
        let (_, from) = host_b.recv_from(&mut buffer).unwrap();
        a.plane.hold_tunnel(CONNECTION).unwrap();
        (1..10).for_each(say);
        host_b.send_to(b"answer", from).unwrap();
        assert_eq!(flow.recv(&mut buffer).unwrap(), 6);
        (10..20).for_each(say);
        a.plane.release_tunnel(CONNECTION).unwrap();
        for expected in 1..20 {
            host_b.recv_from(&mut buffer).unwrap();
            assert_eq!(buffer[0], expected, "from {from}");
        }
    }
}

#[test]
fn a_closed_gate_lets_nothing_out() {
    let scene = Scene {
        gate_open: false,
        ..Scene::default()
    };
    let Some((a, b)) = gateways("closed gate", &scene) else {
        return;
    };
    let sender = a.space.run(|| UdpSocket::bind("10.9.0.1:0").unwrap());
    for _ in 0..5 {
        sender.send_to(b"x", "10.9.0.2:9").unwrap();
    }
    eventually("five refusals", || a.drops(DropReason::GateClosed) >= 5);
    let (local, remote) = ends();
    let refused = a.plane.nat_t_sender().send(local, remote, b"ike");
    assert!(matches!(refused, Err(NatTSendError::GateClosed(_))));
    assert_eq!(a.plane.counters().packets_out, 0);
    assert_eq!(b.plane.counters().packets_in, 0);
}

fn ends() -> (SocketAddr, SocketAddr) {
    let end = |address: &str| SocketAddr::new(address.parse().unwrap(), 4500);
    (end(WAN_A), end(WAN_B))
}

#[test]
fn ike_on_the_nat_t_port_reaches_the_control_plane() {
    let Some((a, b)) = gateways("NAT-T", &Scene::default()) else {
        return;
    };
    let (local, remote) = ends();
    let sender = a.plane.nat_t_sender();
    sender.send(local, remote, b"an IKE message").unwrap();
    sender.send_keepalive(local, remote).unwrap();
    eventually("the datagram", || {
        !b.inbox.datagrams.lock().unwrap().is_empty()
    });
    let came = b.inbox.datagrams.lock().unwrap()[0].clone();
    assert_eq!(came, (remote, local, b"an IKE message".to_vec()));
    eventually("the keepalive", || b.drops(DropReason::NatKeepalive) == 1);
    // A control plane that does not keep up loses datagrams, and that is counted.
    for _ in 0..150 {
        sender.send(local, remote, b"flood").unwrap();
    }
    eventually("a full queue", || b.drops(DropReason::ControlQueueFull) > 0);
    let elsewhere = "192.0.2.77:4500".parse().unwrap();
    let refused = sender.send(elsewhere, remote, b"x");
    assert!(matches!(refused, Err(NatTSendError::NoListener(_))));
    tcp_both_ways(&a, &b, "10.9.0.2:5000", 1 << 20);
}

#[test]
fn tunnels_and_listeners_come_and_go_at_run_time() {
    let Some((a, b)) = gateways("run time", &Scene::default()) else {
        return;
    };
    tcp_both_ways(&a, &b, "10.9.0.2:5000", 1 << 20);
    let local = WAN_B.parse().unwrap();
    b.plane.remove_listener(local).unwrap();
    assert!(b.plane.remove_listener(local).is_err());
    let b = {
        let Gateway {
            plane,
            sad,
            gate,
            inbox,
            space,
        } = b;
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
    };
    tcp_both_ways(&a, &b, "10.9.0.2:5001", 1 << 20);
    a.plane.remove_tunnel(CONNECTION).unwrap();
    assert!(a.plane.remove_tunnel(CONNECTION).is_err());
    // Programs that other tests start hold copies of the queues until they run.
    eventually("the device goes with its queues", || {
        a.space.run(|| {
            !std::process::Command::new("ip")
                .args(["link", "show", "vti0"])
                .output()
                .unwrap()
                .status
                .success()
        })
    });
}

#[test]
fn packets_above_the_inner_mtu_are_answered_or_fragmented() {
    let scene = Scene {
        device_mtu: 1400,
        mtu: 1000,
        ..Scene::default()
    };
    let Some((a, b)) = gateways("too big", &scene) else {
        return;
    };
    // TCP asks for "don't fragment" and learns the MTU from our ICMP answer (the clamped MSS
    // alone would do for TCP, so the datagram below asks for it too).
    tcp_both_ways(&a, &b, "10.9.0.2:5000", 1 << 20);
    // Linux sets "don't fragment" on UDP until told otherwise.
    let sender = a.space.run(|| UdpSocket::bind("10.9.0.1:0").unwrap());
    sender.connect("10.9.0.2:9").unwrap();
    sender.send(&[1; 1300]).unwrap();
    eventually("an ICMP answer", || a.plane.counters().icmp_answers > 0);
    eventually("the host learns the MTU", || {
        sender.send(&[1; 1300]).is_ok()
    });
    assert!(a.drops(DropReason::TooBig) > 0);
    // Without it, the gateway fragments (to an address whose path nobody has asked about).
    b.space.ip("addr add 10.9.0.22/24 dev vti0");
    a.space
        .command("ping", "-c 3 -i 0.01 -w 5 -M dont -s 1300 10.9.0.22");
    let counters = a.plane.counters();
    assert!(counters.fragmented >= 3, "{counters:?}");
    b.space.command("ping", "-c 3 -i 0.01 -w 5 -s 500 fd09::1");
}
