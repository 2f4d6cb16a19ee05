//! Which packets become a train, and what a sequence ceiling leaves of it.

use std::time::Duration;

use ipsec_types::{
    ConnectionId, Direction, EspSaPair, EspSaParams, EspSuite, Flow, SaLifetime, SecretBytes,
    SelectorPair, Spi, TrafficSelector,
};

use super::*;
use crate::counters::DropReason;
use crate::table::{InstallOptions, Sad, SadConfig};

const CONNECTION: ConnectionId = ConnectionId(0);

fn pair(suite: EspSuite) -> EspSaPair {
    let any = TrafficSelector::net("0.0.0.0/0".parse().unwrap());
    let params = |direction, spi| EspSaParams {
        spi: Spi::new(spi).unwrap(),
        direction,
        suite,
        encryption_key: SecretBytes::new(vec![1; suite.encryption_key_len()]),
        integrity_key: SecretBytes::new(vec![2; suite.integrity_key_len()]),
        esn: false,
        selectors: SelectorPair {
            local: any,
            remote: any,
        },
        encapsulation: Encapsulation::Udp,
        local: "192.0.2.1:4500".parse().unwrap(),
        remote: "192.0.2.2:4500".parse().unwrap(),
    };
    EspSaPair {
        connection: CONNECTION,
        inbound: params(Direction::Inbound, 0x1001),
        outbound: params(Direction::Outbound, 0x1002),
        lifetime: SaLifetime {
            time: Duration::from_secs(60),
            kilobytes: None,
        },
    }
}

fn outbox(ceiling: Option<u64>) -> (Outbox, Pipeline, Arc<Sad>) {
    let (sad, _events) = Sad::new(SadConfig::default());
    let pair = pair("aes128gcm16".parse().unwrap());
    let options = InstallOptions {
        ceiling,
        ..InstallOptions::default()
    };
    sad.install_pair(&pair, options).unwrap();
    sad.switch_outbound(CONNECTION, pair.outbound.spi).unwrap();
    let mut pipeline = sad.pipeline(0);
    let flow = Flow {
        source: "10.0.0.1".parse().unwrap(),
        destination: "10.0.0.2".parse().unwrap(),
        protocol: 17,
        source_port: Some(1),
        destination_port: Some(2),
    };
    let sa = pipeline.outbound(CONNECTION, &flow, 1).unwrap();
    let mut outbox = Outbox::new();
    outbox.use_sa(sa, &mut pipeline);
    (outbox, pipeline, sad)
}

/// Lays out IPv4 packets of these lengths and ToS.
fn fill(outbox: &mut Outbox, packets: &[(usize, u8)]) {
    for (len, class) in packets {
        let slot = outbox.reserve(*len, *class).unwrap();
        slot.fill(0);
        slot[0] = 0x45;
    }
}

fn trains(outbox: &Outbox) -> Vec<(usize, usize)> {
    let (ready, _) = outbox.ready();
    ready
        .iter()
        .map(|ready| (ready.train.packets(), ready.train.stride))
        .collect()
}

#[test]
fn equal_packets_and_one_shorter_last_make_a_train() {
    let (mut outbox, mut pipeline, _sad) = outbox(None);
    // ESP adds 34 bytes to packets of 2 modulo 4.
    let lens = [1402, 1402, 1402, 702, 1402, 102, 1402];
    let packets: Vec<_> = lens.iter().map(|len| (*len, 0)).collect();
    fill(&mut outbox, &packets);
    outbox.seal(&mut pipeline);
    assert_eq!(trains(&outbox), [(4, 1436), (2, 1436), (1, 1436)]);
    let (ready, arena) = outbox.ready();
    let first = &arena[ready[0].train.start..];
    assert_eq!(
        first[..8],
        [0, 0, 0x10, 0x02, 0, 0, 0, 1],
        "SPI and sequence number"
    );
    assert_eq!(first[3 * 1436 + 7], 4, "the fourth packet of the train");
}

#[test]
fn a_longer_packet_or_another_tos_begins_a_train() {
    let (mut outbox, mut pipeline, _sad) = outbox(None);
    fill(&mut outbox, &[(102, 0), (502, 0), (502, 3), (502, 3)]);
    outbox.seal(&mut pipeline);
    assert_eq!(trains(&outbox), [(1, 136), (1, 536), (2, 536)]);
}

#[test]
fn a_train_obeys_the_limits_of_the_kernel() {
    let (mut outbox, mut pipeline, _sad) = outbox(None);
    fill(&mut outbox, &[(1402, 0); 50]);
    fill(&mut outbox, &[(62, 0); 70]);
    outbox.seal(&mut pipeline);
    let (ready, _) = outbox.ready();
    assert!(ready.iter().all(|r| r.train.len <= MAX_TRAIN_BYTES));
    assert!(ready.iter().all(|r| r.train.packets() <= MAX_TRAIN_PACKETS));
    let packets: usize = ready.iter().map(|r| r.train.packets()).sum();
    assert_eq!(packets, 120);
}

#[test]
fn a_ceiling_cuts_the_train_and_the_rest_is_counted() {
    let (mut outbox, mut pipeline, sad) = outbox(Some(5));
    fill(&mut outbox, &[(1002, 0); 8]);
    outbox.seal(&mut pipeline);
    assert_eq!(trains(&outbox), [(5, 1036)]);
    outbox.clear();
    fill(&mut outbox, &[(1002, 0); 2]);
    outbox.seal(&mut pipeline);
    assert_eq!(trains(&outbox), []);
    assert_eq!(sad.counters().get(DropReason::SequenceCeiling), 5);
}

#[test]
fn a_full_arena_says_so_and_a_returned_slot_is_not_sent() {
    let (mut outbox, mut pipeline, _sad) = outbox(None);
    let mut laid = 0;
    while outbox.has_room(1402) {
        fill(&mut outbox, &[(1402, 0)]);
        laid += 1;
    }
    assert!(outbox.reserve(1402, 0).is_none());
    assert!(laid > 2 * 45, "two super-packets fit");
    outbox.take_back();
    outbox.seal(&mut pipeline);
    let packets: usize = trains(&outbox).iter().map(|(packets, _)| packets).sum();
    assert_eq!(packets, laid - 1);
}
