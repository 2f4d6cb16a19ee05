//! Protocol 50 through the kernel's relay: what goes through it, and what goes past it; see
//! `gateways` for the topology.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod gateways;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use esp_dataplane::DropReason;
use esp_dataplane::worker::DataPlaneConfig;
use gateways::{Gateway, Scene, Space, WAN_A, WAN_B, eventually, gateways};
use ipsec_types::Encapsulation;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(20);

/// Both gateways with a relay each.
fn relayed(name: &str) -> Option<(Gateway, Gateway)> {
    let scene = Scene {
        encapsulation: Encapsulation::Esp,
        ..Scene::default()
    };
    let (a, b) = gateways(name, &scene)?;
    for gateway in [&a, &b] {
        // Where nothing is forwarded, the relay leaves what comes to the raw socket.
        gateway
            .space
            .run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
        assert!(has_relay(gateway), "this kernel has all that a relay needs");
    }
    Some((a, b))
}

fn has_relay(gateway: &Gateway) -> bool {
    gateway.space.run(shows_relay)
}

fn shows_relay() -> bool {
    let output = std::process::Command::new("ip")
        .args(["-o", "link", "show"])
        .output();
    String::from_utf8_lossy(&output.unwrap().stdout).contains("esp-relay")
}

/// `len` bytes from A to B over TCP.
fn tcp(a: &Gateway, b: &Gateway, server: &str, len: usize) {
    let address: SocketAddr = server.parse().unwrap();
    let listener = b.space.run(move || TcpListener::bind(address).unwrap());
    let byte = |at: usize| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0];
    let intact = b.space.start(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes.len() == len && bytes.iter().enumerate().all(|(at, b)| *b == byte(at))
    });
    a.space.run(move || {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        let bytes: Vec<u8> = (0..len).map(byte).collect();
        stream.write_all(&bytes).unwrap();
    });
    assert!(intact.recv_timeout(PATIENCE).unwrap(), "bytes changed");
}

#[test]
fn trains_of_protocol_50_take_few_calls() {
    let Some((a, b)) = relayed("trains") else {
        return;
    };
    tcp(&a, &b, "10.9.0.2:5000", 16 << 20);
    let (out, back) = (a.plane.counters(), b.plane.counters());
    assert!(out.packets_out > 8 * out.send_calls, "{out:?}");
    assert!(back.packets_in > 8 * back.receive_calls, "{back:?}");
}

/// The peer sees protocol 50 with a right header checksum, the ToS of the inner packet, and
/// sequence numbers in order.
#[test]
fn what_leaves_is_plain_protocol_50() {
    let Some((a, b)) = relayed("wire format") else {
        return;
    };
    let local = WAN_B.parse().unwrap();
    let Gateway { plane, space, .. } = b;
    plane.remove_listener(local).unwrap();
    let raw = space.run(|| {
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(50))).unwrap();
        raw.set_read_timeout(Some(PATIENCE)).unwrap();
        raw
    });
    let sender = a.space.run(|| UdpSocket::bind("10.9.0.1:0").unwrap());
    socket2::SockRef::from(&sender).set_tos_v4(0xb8).unwrap();
    let mut last = 0;
    for round in 0..20_u8 {
        sender.send_to(&[round; 100], "10.9.0.2:9").unwrap();
        let mut packet = [0; 2000];
        let packet = loop {
            let len = (&raw).read(&mut packet).unwrap();
            // The kernel says something of its own by the other SA, which carries IPv6.
            if packet[20..24] != [0, 0, 0x10, 2] {
                break &packet[..len];
            }
        };
        let len = packet.len();
        assert_eq!((packet[0], packet[9]), (0x45, 50));
        assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), len);
        assert!(vti::checksum::Sum::ZERO.bytes(&packet[..20]).is_intact());
        assert_eq!(packet[1], 0xb8, "ToS");
        assert_eq!(packet[12..16], [192, 0, 2, 1]);
        assert_eq!(packet[20..24], [0, 0, 0x10, 0], "SPI");
        let number = u32::from_be_bytes(packet[24..28].try_into().unwrap());
        assert!(number > last, "{number} after {last}");
        last = number;
    }
}

/// What is too long for a link is left to the raw socket, which fragments, and fragments come
/// in by the raw socket.
#[test]
fn a_narrow_link_gets_fragments() {
    let Some((a, b)) = relayed("narrow link") else {
        return;
    };
    let receiver = b.space.run(|| UdpSocket::bind("10.9.0.2:6000").unwrap());
    receiver
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let sender = a.space.run(|| UdpSocket::bind("10.9.0.1:0").unwrap());
    for space in [&a.space, &b.space] {
        space.ip("link set wan mtu 1000");
    }
    // Sealed a little longer than the link takes: nothing else lies between, such as a stream's
    // last segment, which would be refused and learned from in its turn.
    let long = [7; 960];
    let mut buffer = [0; 2000];
    eventually("a long packet arrives in fragments", || {
        sender.send_to(&long, "10.9.0.2:6000").unwrap();
        receiver.recv_from(&mut buffer).is_ok()
    });
    // The program counts what it has refused behind our back; the next packet tells.
    eventually("a second one", || {
        sender.send_to(&long, "10.9.0.2:6000").unwrap();
        receiver.recv_from(&mut buffer).is_ok()
    });
    assert!(a.drops(DropReason::TooBig) >= 1, "the first was counted");
    let before = a.drops(DropReason::TooBig);
    tcp(&a, &b, "10.9.0.2:5000", 1 << 20);
    assert_eq!(a.drops(DropReason::TooBig), before);
}

/// After a switchover packets still come to this machine for an address that is elsewhere now:
/// they are forwarded, and not opened here.
#[test]
fn packets_for_an_address_that_is_not_ours_go_their_way() {
    let Some((a, b)) = relayed("not ours") else {
        return;
    };
    tcp(&a, &b, "10.9.0.2:5000", 1 << 20);
    let partner = Space::new().unwrap();
    let tid = partner.tid;
    b.space.ip(&format!(
        "link add sync type veth peer name sync netns {tid}"
    ));
    b.space.ip("link set sync up");
    partner.ip("link set sync up");
    partner.ip(&format!("addr add {WAN_B}/32 dev sync"));
    let raw = partner.run(|| {
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(50))).unwrap();
        let any: SocketAddr = "0.0.0.0:0".parse().unwrap();
        raw.bind(&SockAddr::from(any)).unwrap();
        raw.set_read_timeout(Some(PATIENCE)).unwrap();
        raw
    });
    partner.run(|| {
        for device in ["all", "sync"] {
            let path = format!("/proc/sys/net/ipv4/conf/{device}/rp_filter");
            std::fs::write(path, "0").unwrap();
        }
    });
    let mac = b
        .space
        .run(|| std::fs::read_to_string("/sys/class/net/wan/address"));
    let _sysfs_may_be_of_another_namespace = mac;
    // A keeps sending to B's link address.
    a.space.command("ping", &format!("-c 1 -w 5 {WAN_B}"));
    b.space.ip(&format!("addr del {WAN_B}/24 dev wan"));
    b.space.ip(&format!("route add {WAN_A}/32 dev wan"));
    b.space.ip(&format!("route add {WAN_B}/32 dev sync"));
    let before = b.plane.counters().packets_in;
    let sender = a.space.run(|| UdpSocket::bind("10.9.0.1:0").unwrap());
    for _packet in 0..10 {
        sender.send_to(&[1; 500], "10.9.0.2:6000").unwrap();
    }
    let mut packet = [0; 2000];
    for _packet in 0..10 {
        let len = (&raw).read(&mut packet).unwrap();
        assert!(len > 500);
        assert_eq!(packet[16..20], [192, 0, 2, 2]);
    }
    assert_eq!(b.plane.counters().packets_in, before);
}

#[test]
fn no_route_is_counted_as_a_refusal() {
    let Some((a, _b)) = relayed("no route") else {
        return;
    };
    let before = a.drops(DropReason::SocketError);
    a.space.ip(&format!("addr add {WAN_A}/32 dev lo"));
    a.space.ip(&format!("addr del {WAN_A}/24 dev wan"));
    let sender = a.space.run(|| UdpSocket::bind("10.9.0.1:0").unwrap());
    for _packet in 0..5 {
        sender.send_to(&[1; 500], "10.9.0.2:6000").unwrap();
    }
    eventually("five refusals", || {
        a.drops(DropReason::SocketError) >= before + 5
    });
}

#[test]
fn the_relay_goes_with_its_listener_and_comes_again() {
    let Some((a, _b)) = relayed("comes and goes") else {
        return;
    };
    let local = WAN_A.parse().unwrap();
    a.plane.remove_listener(local).unwrap();
    eventually("the device is gone", || !has_relay(&a));
    let Gateway { plane, space, .. } = a;
    let plane = space
        .run(move || plane.add_listener(local).map(|()| plane))
        .unwrap();
    assert!(space.run(shows_relay));
    drop(plane);
}

/// Two workers seal for one SA at the same time; what leaves is in the order of its numbers,
/// so the distance in a peer's replay window is 0.
#[test]
fn several_workers_send_one_sa_in_order() {
    let scene = Scene {
        config: DataPlaneConfig {
            workers: 2,
            ..Scene::default().config
        },
        ..Scene::default()
    };
    let Some((a, b)) = gateways("two workers", &scene) else {
        return;
    };
    let Gateway { plane, space, .. } = b;
    plane.remove_listener(WAN_B.parse().unwrap()).unwrap();
    // Another test's child process may have the closed socket until it runs its program.
    let mut peer = None;
    eventually("a free port", || {
        peer = space.run(|| UdpSocket::bind((WAN_B, 4500)).ok());
        peer.is_some()
    });
    let peer = peer.unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket2::SockRef::from(&peer)
        .set_recv_buffer_size(4 << 20)
        .unwrap();
    const SENDERS: u8 = 8;
    const PACKETS: u16 = 2000;
    let senders: Vec<_> = (0..SENDERS)
        .map(|number| {
            a.space.start(move || {
                let socket = UdpSocket::bind(("10.9.0.1", 0)).unwrap();
                for packet in 0..PACKETS {
                    let to = ("10.9.0.2", 6000 + u16::from(number));
                    socket.send_to(&[number; 1000], to).unwrap();
                    if packet % 16 == 0 {
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let (mut last, mut came, mut buffer) = (0, 0_u32, [0; 2000]);
    while let Ok((len, _from)) = peer.recv_from(&mut buffer) {
        if len < 100 {
            continue;
        }
        let number = u32::from_be_bytes(buffer[4..8].try_into().unwrap());
        assert!(number > last, "{number} came after {last}");
        last = number;
        came += 1;
    }
    for sender in senders {
        sender.recv().unwrap();
    }
    let counters = a.plane.counters();
    // The device drops what the workers cannot take; enough for both of them has to remain.
    assert!(came > 500, "{came} came, {counters:?}");
    assert_eq!(counters.turns_given_up, 0);
}
