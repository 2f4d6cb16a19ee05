//! Trains over loopback: what one socket sends, the other receives.

use super::*;
use crate::io::{EspRelay, MAX_TRAIN_BYTES, OffloadPolicy, RX_MESSAGES};

fn pair(offload: OffloadPolicy) -> (UdpWire, UdpWire, SocketAddr) {
    let options = SocketOptions {
        offload,
        ..SocketOptions::default()
    };
    let any = "127.0.0.1:0".parse().unwrap();
    let open = || UdpWire::open(any, 1, &options).unwrap().remove(0);
    let receiver = open();
    let to = receiver.socket.local_addr().unwrap();
    (open(), receiver, to)
}

/// 20 packets of 1,000 bytes and a last one of 300, each filled with its number.
fn arena() -> Vec<u8> {
    (0..20_300)
        .map(|at| u8::try_from(at / 1000).unwrap())
        .collect()
}

fn receive_all(wire: &mut UdpWire, wanted: usize) -> (Vec<Vec<u8>>, Vec<RxMessage>) {
    let mut batch = RxBatch::new();
    let (mut packets, mut messages) = (Vec::new(), Vec::new());
    for _ in 0..1000 {
        wire.receive(&mut batch).unwrap();
        let (received, buffer) = batch.parts();
        for message in received {
            let bytes = &buffer[message.start..message.start + message.len];
            packets.extend(bytes.chunks(message.stride).map(<[u8]>::to_vec));
            messages.push(*message);
        }
        if packets.len() >= wanted {
            break;
        }
        std::thread::yield_now();
    }
    (packets, messages)
}

fn send_and_compare(offload: OffloadPolicy) -> (Sent, Vec<RxMessage>) {
    let (mut sender, mut receiver, remote) = pair(offload);
    let arena = arena();
    let train = Train {
        start: 0,
        len: arena.len(),
        stride: 1000,
        remote,
        traffic_class: 0x2a,
    };
    let sent = sender.send(&mut TxScratch::default(), &arena, &[train]);
    assert_eq!(sent.packets, 21);
    let (packets, messages) = receive_all(&mut receiver, 21);
    let expected: Vec<Vec<u8>> = arena.chunks(1000).map(<[u8]>::to_vec).collect();
    assert_eq!(packets, expected);
    assert!(messages.iter().all(|message| message.traffic_class == 0x2a));
    assert!(
        messages
            .iter()
            .all(|m| Some(m.from) == sender.socket.local_addr().ok())
    );
    (sent, messages)
}

#[test]
fn a_train_leaves_and_arrives_in_one_call() {
    let (sent, messages) = send_and_compare(OffloadPolicy::default());
    assert_eq!((sent.calls, sent.uncut), (1, 0));
    assert_eq!(messages.len(), 1, "loopback keeps the train together");
}

#[test]
fn a_small_packet_between_trains_does_not_make_the_next_burst_long() {
    let (mut sender, mut receiver, remote) = pair(OffloadPolicy::default());
    let arena = arena();
    let mut send = |len| {
        let train = Train {
            start: 0,
            len,
            stride: 1000,
            remote,
            traffic_class: 0,
        };
        sender.send(&mut TxScratch::default(), &arena, &[train])
    };
    let mut batch = RxBatch::new();
    // Sending on loopback is receiving.
    for len in [arena.len(), 100] {
        assert_eq!(send(len).calls, 1);
        assert_eq!(receiver.receive(&mut batch).unwrap(), 1);
    }
    let mut take = |waiting| {
        for _packet in 0..waiting {
            assert_eq!(send(100).packets, 1);
        }
        receiver.receive(&mut batch).unwrap()
    };
    assert_eq!(take(40), 11, "as many as there may be trains in a burst");
    // When the trains have ended, small packets have long bursts again.
    let bursts: Vec<usize> = (0..20).map(|_| take(RX_MESSAGES)).collect();
    assert!(bursts.is_sorted(), "{bursts:?}");
    assert_eq!(bursts.last(), Some(&RX_MESSAGES));
}

/// With what the kernel accepts it would not: loopback cuts what is longer as other devices do.
#[test]
fn the_longest_train_arrives_whole() {
    let (mut sender, mut receiver, remote) = pair(OffloadPolicy::default());
    let stride = MAX_TRAIN_BYTES / 2;
    let arena = vec![7; MAX_TRAIN_BYTES];
    let train = Train {
        start: 0,
        len: 2 * stride,
        stride,
        remote,
        traffic_class: 0,
    };
    sender.send(&mut TxScratch::default(), &arena, &[train]);
    let (packets, messages) = receive_all(&mut receiver, 2);
    assert_eq!((packets.len(), messages.len()), (2, 1));
}

#[test]
fn without_offload_the_same_packets_arrive_one_by_one() {
    let (_, messages) = send_and_compare(OffloadPolicy {
        udp_segment: false,
        udp_gro: false,
        esp_relay: EspRelay::Off,
    });
    assert_eq!(messages.len(), 21);
}

#[test]
fn a_train_the_kernel_does_not_cut_is_sent_packet_by_packet() {
    let (mut sender, mut receiver, remote) = pair(OffloadPolicy::default());
    let mut arena = arena();
    arena.resize(66_000 * 2, 7);
    // 66,000 bytes exceed every IP packet: the first train is refused, packet by packet it goes.
    let train = |start, stride| Train {
        start,
        len: 66_000,
        stride,
        remote,
        traffic_class: 0,
    };
    let sent = sender.send(&mut TxScratch::default(), &arena, &[train(0, 6_600)]);
    assert_eq!((sent.packets, sent.uncut), (10, 1));
    assert_eq!(receive_all(&mut receiver, 10).0.len(), 10);
    // A packet that no socket takes is counted by its reason, and the rest still goes.
    let trains = [train(0, 66_000), train(66_000, 6_600)];
    let sent = sender.send(&mut TxScratch::default(), &arena, &trains);
    assert_eq!((sent.packets, sent.too_big), (10, 1));
}

/// More packets than the kernel cuts at once (128 since Linux 6.9, 64 before): they go one by
/// one, and what follows them waits.
#[test]
fn a_refused_train_is_not_overtaken() {
    let (mut sender, mut receiver, remote) = pair(OffloadPolicy::default());
    let arena: Vec<u8> = (0..131_u8).flat_map(|number| [number; 100]).collect();
    let train = |start, len| Train {
        start,
        len,
        stride: 100,
        remote,
        traffic_class: 0,
    };
    let trains = [train(0, 13_000), train(13_000, 100)];
    let sent = sender.send(&mut TxScratch::default(), &arena, &trains);
    assert_eq!((sent.packets, sent.uncut), (131, 1));
    let (packets, _) = receive_all(&mut receiver, 131);
    assert!(packets.iter().flatten().eq(&arena), "in order");
}
