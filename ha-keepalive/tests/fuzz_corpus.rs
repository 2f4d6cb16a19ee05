//! Replays the committed seed corpus of every fuzz target.
//!
//! The seeds are generated: `cargo test -p ha-keepalive --test fuzz_corpus -- --ignored` writes
//! them anew. What a fuzzer finds is put beside them under a name of its own.
#![expect(clippy::unwrap_used, reason = "a test stops loudly")]

use core::time::Duration;
use std::fs;
use std::path::PathBuf;

use ha_keepalive::advert::{ADVERT_LEN, Advert, Heard, Role, Sealer, SyncReport};
use ha_keepalive::channel::{Channel, Rotation};
use ha_keepalive::election::Word;
use ha_keepalive::io::arp::{self, Mac};
use ha_keepalive::replication::{Ceiling, Change, Edge, Hello, Key, Kind, Message, Record};
use ha_keepalive::{
    AdvertInterval, Epoch, Member, PairSecret, PathId, Priority, Revision, SessionId, fuzz,
};
use ipsec_types::SecretBytes;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// HMAC-SHA-256 at the end of an advert.
const MAC_LEN: usize = 32;

type Seeds = Vec<(String, Vec<u8>)>;

fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target)
}

fn replay(target: &str, body: fn(&[u8]), seeds: &Seeds) {
    let mut replayed = 0;
    for entry in fs::read_dir(folder(target)).unwrap() {
        body(&fs::read(entry.unwrap().path()).unwrap());
        replayed += 1;
    }
    assert!(
        replayed >= seeds.len(),
        "the corpus of {target} is incomplete"
    );
    for (name, bytes) in seeds {
        let known = fs::read(folder(target).join(name)).unwrap();
        assert!(
            &known == bytes,
            "{target}/{name} is not what the codec builds any more"
        );
    }
}

#[test]
fn adverts() {
    replay("advert", fuzz::advert, &adverts_seeds());
}

#[test]
fn messages() {
    replay("message", fuzz::message, &message_seeds());
}

#[test]
fn channels() {
    replay("channel", fuzz::channel, &channel_seeds());
}

#[test]
fn frames() {
    replay("frame", fuzz::frame, &frame_seeds());
}

#[test]
fn nodes() {
    replay("node", fuzz::node, &node_seeds());
}

#[test]
#[ignore = "writes the seeds"]
fn write_seeds() {
    let targets = [
        ("advert", adverts_seeds()),
        ("message", message_seeds()),
        ("channel", channel_seeds()),
        ("frame", frame_seeds()),
        ("node", node_seeds()),
    ];
    for (target, seeds) in targets {
        fs::create_dir_all(folder(target)).unwrap();
        for (name, bytes) in seeds {
            fs::write(folder(target).join(name), bytes).unwrap();
        }
    }
}

fn secret() -> PairSecret {
    PairSecret::new(SecretBytes::new(vec![3; 32])).unwrap()
}

fn advert(role: Role, counter: u64, heard: u64) -> Advert {
    // The first session that the counting generator of the target draws is 1.
    let session = SessionId::from_wire(1).unwrap();
    Advert {
        member: Member::B,
        path: PathId::First,
        role,
        resigned: false,
        wants_answer: role == Role::Asking,
        fit: true,
        serving: role == Role::Active,
        priority: Priority::DEFAULT,
        interval: AdvertInterval::new(Duration::from_millis(100)).unwrap(),
        session: SessionId::from_wire(0x5e55).unwrap(),
        counter,
        epoch: Epoch(2),
        floor: Epoch(18),
        revision: Revision(0),
        echo: None,
        greeting: Some(Heard {
            session,
            counter: heard,
        }),
        sync: SyncReport {
            in_sync: true,
            stream: Epoch(2),
            position: 1,
            ..SyncReport::default()
        },
    }
}

fn adverts_seeds() -> Seeds {
    let sealer = Sealer::new(&secret());
    let roles = [Role::Init, Role::Standby, Role::Active, Role::Asking];
    let mut seeds: Seeds = roles
        .into_iter()
        .map(|role| {
            (
                format!("{role:?}").to_lowercase(),
                sealer.seal(&advert(role, 1, 1)),
            )
        })
        .collect();
    let resigned = Advert {
        resigned: true,
        ..advert(Role::Standby, 9, 3)
    };
    seeds.push(("resigned".to_owned(), sealer.seal(&resigned)));
    seeds
}

fn all_messages() -> Vec<(&'static str, Message)> {
    let mut all = records();
    all.extend(words());
    all
}

fn words() -> [(&'static str, Message); 6] {
    [
        ("request", Word::Request),
        ("offer", Word::Offer { token: 1 }),
        ("accept", Word::Accept { token: 1 }),
        ("release", Word::Release { token: 1 }),
        ("decline", Word::Decline { token: 1 }),
        ("call-off", Word::CallOff { token: 1 }),
    ]
    .map(|(name, word)| (name, Message::Word(word)))
}

fn hello() -> Hello {
    Hello {
        member: Member::B,
        session: SessionId::from_wire(0x5e55).unwrap(),
        floor: Epoch(18),
        revision: Revision(0),
        stream: Epoch::NONE,
        position: 0,
    }
}

fn records() -> Vec<(&'static str, Message)> {
    let key = Key::new(Kind::IkeSa, *b"cookies").unwrap();
    let record = Record::new(key.clone(), 1, SecretBytes::from(&b"keys"[..])).unwrap();
    let ceiling = Ceiling {
        ceiling: 1000,
        used: 10,
        last: u64::from(u32::MAX),
    };
    let edge = Edge {
        right: 77,
        window: vec![0xff; 16],
    };
    let put = |index, record| Message::Delta {
        index,
        position: index,
        change: Change::Put {
            record,
            age: Duration::from_millis(3),
        },
    };
    vec![
        ("hello", Message::Hello(hello())),
        ("begin", Message::SnapshotBegin { stream: Epoch(2) }),
        ("put", put(1, record.clone())),
        ("ceiling", put(2, ceiling.record(b"sa").unwrap())),
        ("edge", put(3, edge.record(b"sa").unwrap())),
        (
            "delete",
            Message::Delta {
                index: 4,
                position: 4,
                change: Change::Delete(key.clone()),
            },
        ),
        (
            "end",
            Message::SnapshotEnd {
                index: 4,
                position: 3,
            },
        ),
        ("resume", Message::Resume { stream: Epoch(2) }),
        (
            "ack",
            Message::Ack {
                stream: Epoch(1),
                position: 1,
            },
        ),
        ("resync", Message::Resync),
        (
            "refuse",
            Message::Refuse {
                key,
                reason: "no".to_owned(),
            },
        ),
        ("propose", Message::Propose(record)),
    ]
}

fn message_seeds() -> Seeds {
    all_messages()
        .into_iter()
        .map(|(name, message)| (name.to_owned(), message.encode().expose().to_vec()))
        .collect()
}

fn channel_seeds() -> Seeds {
    let end = |member, seed| {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        Channel::new(
            &secret(),
            member,
            Rotation::default(),
            &mut rng,
            Duration::ZERO,
        )
    };
    let mut a = end(Member::A, 1);
    let mut b = end(Member::B, 2);
    let first = b.outgoing().to_vec();
    a.receive(&first).unwrap();
    let second = a.outgoing().to_vec();
    b.receive(&second).unwrap();
    b.written(first.len());
    b.send(Duration::ZERO, b"hello").unwrap();
    let third = b.outgoing().to_vec();
    vec![
        ("first".to_owned(), first),
        ("second".to_owned(), second),
        ("data".to_owned(), third),
        ("too-long".to_owned(), vec![0xff; 2]),
    ]
}

fn frame_seeds() -> Seeds {
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let mut seeds = Seeds::new();
    for (family, address, other) in [
        ("v4", "192.0.2.1", "192.0.2.9"),
        ("v6", "2001:db8::1", "2001:db8::9"),
    ] {
        let (address, other) = (address.parse().unwrap(), other.parse().unwrap());
        for (index, frame) in arp::announcement(mac, address).into_iter().enumerate() {
            seeds.push((format!("{family}-announcement-{index}"), frame));
        }
        seeds.push((format!("{family}-probe"), arp::probe(mac, address)));
        let answer = arp::answer(mac, address, other, Mac([2, 0, 0, 0, 0, 2])).unwrap();
        seeds.push((format!("{family}-answer"), answer));
    }
    seeds
}

/// Scripts for the node target: an opcode with a pause in its upper half, a length, the data.
struct Script(Vec<u8>);

impl Script {
    fn then(mut self, pause: u8, what: u8, data: &[u8]) -> Self {
        self.0.extend([pause << 4 | what, data.len() as u8]);
        self.0.extend_from_slice(data);
        self
    }

    fn advert(self, role: Role, counter: u64, heard: u64) -> Self {
        let sealed = Sealer::new(&secret()).seal(&advert(role, counter, heard));
        self.then(1, 3, sealed.get(..ADVERT_LEN - MAC_LEN).unwrap())
    }

    fn message(self, name: &str) -> Self {
        let all = all_messages();
        let (_, message) = all.iter().find(|(known, _)| *known == name).unwrap();
        self.then(0, 7, message.encode().expose())
    }
}

fn node_seeds() -> Seeds {
    let start = || Script(Vec::new()).then(0, 0, &[]);
    let alone = (0..6).fold(start(), |script, _| script.then(5, 0, &[]));
    let follows = || {
        start()
            .advert(Role::Active, 1, 0)
            .then(4, 0, &[])
            .advert(Role::Active, 2, 3)
            .advert(Role::Active, 3, 3)
            .then(0, 5, &[])
            .message("hello")
            .message("begin")
            .message("put")
            .message("ceiling")
            .message("edge")
            .message("end")
            .advert(Role::Active, 4, 4)
    };
    let handed = follows()
        .message("offer")
        .message("release")
        .then(1, 0, &[]);
    let left = follows()
        .advert(Role::Standby, 5, 5)
        .then(5, 0, &[])
        .then(15, 0, &[]);
    let lost = (0..8).fold(follows(), |script, _| script.then(4, 0, &[]));
    let served = Script(alone.0.clone())
        .then(0, 5, &[])
        .message("hello")
        .then(0, 12, b"sa")
        .then(0, 15, b"sa")
        .message("ack")
        .then(1, 11, &[])
        .then(15, 0, &[])
        .then(1, 10, &[1]);
    [
        ("alone", alone.0),
        ("follows", follows().0),
        ("handed", handed.0),
        ("left", left.0),
        ("lost", lost.0),
        ("served", served.0),
    ]
    .map(|(name, script)| (name.to_owned(), script))
    .into()
}
