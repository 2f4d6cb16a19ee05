//! A reflected tunnel: what its queue holds goes back to the kernel and on to the partner.
//!
//! ```text
//!   [ host ]                 [ gateway A, old active ]            [ partner B ]
//!    lan 10.30.0.2 -- veth -- lan 10.30.0.1
//!                             vti0 <- 10.20.0.0/16
//!                             what comes out of vti0
//!                             goes by the partner -- wan veth --- lo 10.20.0.9
//! ```
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod gateways;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use gateways::{CONNECTION, Gateway, Scene, Space, WAN_A, WAN_B, eventually, gateways};

const PATIENCE: Duration = Duration::from_secs(20);

fn host_of(a: &Gateway, b: &Gateway) -> Space {
    let host = Space::new().unwrap();
    let tid = host.tid;
    a.space
        .ip(&format!("link add lan type veth peer name lan netns {tid}"));
    host.ip("addr add 10.30.0.2/24 dev lan");
    host.ip("link set lan up");
    host.ip("route add default via 10.30.0.1");
    a.space.ip("addr add 10.30.0.1/24 dev lan");
    a.space.ip("link set lan up");
    a.space.ip("route add 10.20.0.0/16 dev vti0");
    a.space.ip("rule add iif vti0 table 100");
    a.space
        .ip(&format!("route add 10.20.0.0/16 via {WAN_B} table 100"));
    a.space.run(|| {
        for (name, value) in [
            ("ip_forward", "1"),
            ("conf/all/rp_filter", "0"),
            ("conf/vti0/rp_filter", "2"),
            ("conf/lan/rp_filter", "0"),
            ("conf/wan/rp_filter", "0"),
        ] {
            std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).unwrap();
        }
    });
    b.space.ip("addr add 10.20.0.9/32 dev lo");
    b.space.ip(&format!("route add 10.30.0.0/24 via {WAN_A}"));
    // The kernel keeps about a hundred packets for a neighbour that it does not know yet.
    a.space.command("ping", "-c 1 -w 5 192.0.2.2");
    host
}

#[test]
fn reflected_packets_reach_the_partner_unsealed_and_in_order() {
    let Some((a, b)) = gateways("reflect", &Scene::default()) else {
        return;
    };
    let host = host_of(&a, &b);
    let receiver = b.space.run(|| UdpSocket::bind("10.20.0.9:6000").unwrap());
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let sender = host.run(|| UdpSocket::bind("10.30.0.2:0").unwrap());
    let send = |numbers: core::ops::Range<u16>| {
        for number in numbers {
            let to = "10.20.0.9:6000";
            sender.send_to(&number.to_be_bytes(), to).unwrap();
        }
    };
    let expect = |numbers: core::ops::Range<u16>| {
        let mut buffer = [0; 2];
        for number in numbers {
            receiver.recv_from(&mut buffer).unwrap();
            assert_eq!(u16::from_be_bytes(buffer), number);
        }
    };

    a.plane.hold_tunnel(CONNECTION).unwrap();
    send(0..150);
    let before = a.plane.counters();
    a.plane.reflect_tunnel(CONNECTION).unwrap();
    expect(0..150);
    send(150..200);
    expect(150..200);
    // A burst is counted when it is over.
    eventually("all are counted", || {
        a.plane.counters().reflected >= before.reflected + 200
    });
    let after = a.plane.counters();
    assert_eq!(after.packets_out, before.packets_out, "nothing was sealed");

    a.plane.release_tunnel(CONNECTION).unwrap();
    send(200..230);
    expect(200..230);
    let last = a.plane.counters();
    assert_eq!(last.reflected, after.reflected);
    eventually("they went through the SA", || {
        a.plane.counters().packets_out >= after.packets_out + 30
    });
}

/// Super-packets go back with the virtio header they came with: the kernel cuts them for the
/// next device, or passes them on whole.
#[test]
fn a_whole_tcp_stream_can_be_reflected() {
    let Some((a, b)) = gateways("reflect TCP", &Scene::default()) else {
        return;
    };
    let host = host_of(&a, &b);
    a.plane.reflect_tunnel(CONNECTION).unwrap();
    let listener = b.space.run(|| TcpListener::bind("10.20.0.9:7000").unwrap());
    const LEN: usize = 8 << 20;
    let sum = b.space.start(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes.iter().enumerate().all(|(at, byte)| *byte == of(at)) && bytes.len() == LEN
    });
    host.run(|| {
        let to = "10.20.0.9:7000".parse().unwrap();
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
        let bytes: Vec<u8> = (0..LEN).map(of).collect();
        stream.write_all(&bytes).unwrap();
    });
    assert!(sum.recv_timeout(PATIENCE).unwrap(), "bytes changed");
    let counters = a.plane.counters();
    let single_packets = LEN as u64 / 1200;
    assert!(
        counters.reflected < single_packets / 2,
        "super-packets stayed whole: {counters:?}"
    );
}

fn of(at: usize) -> u8 {
    (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]
}
