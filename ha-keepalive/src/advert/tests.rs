use ipsec_types::SecretBytes;
use proptest::prelude::*;

use super::*;
use crate::secret::PairSecret;

fn sealer(byte: u8) -> Sealer {
    Sealer::new(&PairSecret::new(SecretBytes::new(vec![byte; 32])).unwrap())
}

fn session(value: u64) -> SessionId {
    SessionId::from_wire(value).unwrap()
}

const fn heard(session: SessionId, counter: u64) -> Heard {
    Heard { session, counter }
}

/// An advert of member B in session 20.
fn advert(counter: u64) -> Advert {
    Advert {
        member: Member::B,
        path: PathId::First,
        role: Role::Active,
        resigned: false,
        wants_answer: false,
        fit: true,
        serving: false,
        priority: Priority::DEFAULT,
        interval: AdvertInterval::new(Duration::from_millis(50)).unwrap(),
        session: session(20),
        counter,
        epoch: Epoch(3),
        floor: Epoch(4),
        revision: Revision(9),
        echo: None,
        greeting: None,
        sync: SyncReport::default(),
    }
}

/// Member A in session 10.
fn inbox() -> Inbox {
    Inbox::new(Member::A, Paths::Two, session(10), sealer(1))
}

fn feed(inbox: &mut Inbox, advert: &Advert, sent: u64) -> Result<Accepted, Refusal> {
    let datagram = sealer(1).seal(advert);
    inbox.accept(advert.path, &datagram, sent)
}

/// Lets session 20 answer the challenge; the next counter is 3.
fn believed() -> Inbox {
    let mut inbox = inbox();
    assert_eq!(feed(&mut inbox, &advert(1), 5), Err(Refusal::Unproven));
    assert_eq!(inbox.greeting(), Some(heard(session(20), 1)));
    let answer = Advert {
        echo: Some(heard(session(10), 6)),
        ..advert(2)
    };
    assert!(feed(&mut inbox, &answer, 6).unwrap().newest);
    assert_eq!(inbox.echo(), Some(heard(session(20), 2)));
    assert_eq!(inbox.greeting(), None);
    inbox
}

#[test]
fn a_session_is_believed_after_it_answered_our_challenge() {
    let mut inbox = believed();
    let next = feed(&mut inbox, &advert(3), 7).unwrap();
    assert!(next.newest && !next.restarted);
}

#[test]
fn an_answer_to_an_older_advert_of_ours_is_no_answer() {
    let mut inbox = inbox();
    let early = Advert {
        echo: Some(heard(session(10), 5)),
        ..advert(1)
    };
    assert_eq!(feed(&mut inbox, &early, 5), Err(Refusal::Unproven));
    let still = Advert {
        echo: Some(heard(session(10), 5)),
        ..advert(2)
    };
    assert_eq!(feed(&mut inbox, &still, 6), Err(Refusal::Unproven));
    let future = Advert {
        echo: Some(heard(session(10), 7)),
        ..advert(3)
    };
    assert_eq!(feed(&mut inbox, &future, 6), Err(Refusal::Unproven));
}

#[test]
fn a_restarted_receiver_does_not_believe_a_recording() {
    let recording: Vec<_> = (1..50)
        .map(|counter| Advert {
            echo: Some(heard(session(10), counter + 5)),
            ..advert(counter)
        })
        .collect();
    let mut before = inbox();
    let accepted = recording
        .iter()
        .filter(|advert| feed(&mut before, advert, advert.counter + 5).is_ok())
        .count();
    assert_eq!(accepted, 48, "all but the first were live");

    let mut after = Inbox::new(Member::A, Paths::Two, session(11), sealer(1));
    for advert in &recording {
        assert_eq!(
            feed(&mut after, advert, advert.counter + 5),
            Err(Refusal::Unproven)
        );
    }
    assert_eq!(after.counters().accepted, 0);
    assert_eq!(after.counters().unproven, 49);
}

#[test]
fn a_recording_of_the_session_before_is_not_believed() {
    let mut inbox = believed();
    // The partner restarts as session 21 and answers.
    let restarted = |counter, echoed| Advert {
        session: session(21),
        echo: Some(heard(session(10), echoed)),
        ..advert(counter)
    };
    assert_eq!(
        feed(&mut inbox, &restarted(1, 6), 8),
        Err(Refusal::Unproven)
    );
    assert!(feed(&mut inbox, &restarted(2, 9), 9).unwrap().restarted);
    // A suppressed advert of session 20 with a higher echo than we ever accepted from it.
    let held_back = Advert {
        echo: Some(heard(session(10), 9)),
        ..advert(99)
    };
    assert_eq!(feed(&mut inbox, &held_back, 10), Err(Refusal::Unproven));
    assert_eq!(feed(&mut inbox, &held_back, 11), Err(Refusal::Unproven));
    assert_eq!(inbox.echo(), Some(heard(session(21), 2)));
}

#[test]
fn the_copy_on_the_second_path_is_no_replay_but_a_true_copy_is() {
    let mut inbox = believed();
    let first = advert(3);
    let second = Advert {
        path: PathId::Second,
        ..first
    };
    assert!(feed(&mut inbox, &first, 7).unwrap().newest);
    assert!(!feed(&mut inbox, &second, 7).unwrap().newest);
    assert_eq!(feed(&mut inbox, &first, 7), Err(Refusal::Replayed));
    assert_eq!(feed(&mut inbox, &second, 7), Err(Refusal::Replayed));
    let moved = sealer(1).seal(&advert(4));
    assert_eq!(
        inbox.accept(PathId::Second, &moved, 7),
        Err(Refusal::WrongPath)
    );
}

#[test]
fn many_recordings_do_not_grow_the_table_or_displace_the_believed_session() {
    let mut inbox = believed();
    for stranger in 100..1100 {
        let replay = Advert {
            session: session(stranger),
            ..advert(1)
        };
        assert_eq!(feed(&mut inbox, &replay, 8), Err(Refusal::Unproven));
    }
    assert!(feed(&mut inbox, &advert(3), 8).is_ok());
}

#[test]
fn every_refusal_is_counted_under_its_name() {
    let mut inbox = believed();
    let good = sealer(1).seal(&advert(3));
    let mut version = good.clone();
    version[4] = 9;
    let mut magic = good.clone();
    magic[0] = b'X';
    let mut forged = good.clone();
    forged[60] ^= 1;
    let own = sealer(1).seal(&Advert {
        member: Member::A,
        ..advert(3)
    });
    let cases = [
        (good[..good.len() - 1].to_vec(), Refusal::Length),
        (Vec::new(), Refusal::Length),
        (magic, Refusal::Foreign),
        (version, Refusal::Version),
        (forged, Refusal::Mac),
        (sealer(2).seal(&advert(3)), Refusal::Mac),
        (own, Refusal::Reflected),
    ];
    for (datagram, refusal) in cases {
        let before = inbox.counters().of(refusal);
        assert_eq!(inbox.accept(PathId::First, &datagram, 7), Err(refusal));
        assert_eq!(inbox.counters().of(refusal), before + 1);
    }
    assert!(inbox.accept(PathId::First, &good, 7).is_ok());
}

#[test]
fn one_configured_path_hears_nothing_on_the_other() {
    let mut inbox = Inbox::new(Member::A, Paths::One, session(10), sealer(1));
    let second = Advert {
        path: PathId::Second,
        ..advert(1)
    };
    assert_eq!(feed(&mut inbox, &second, 1), Err(Refusal::WrongPath));
}

#[test]
fn timing_follows_rfc_9568() {
    let interval = AdvertInterval::new(Duration::from_millis(100)).unwrap();
    let priority = Priority::new(200).unwrap();
    assert_eq!(skew(priority, interval), Duration::from_micros(21_875));
    assert_eq!(patience(priority, interval), Duration::from_micros(321_875));
}

#[test]
fn the_lease_is_shorter_than_every_patience() {
    for ms in [10, 50, 1000, 10_000] {
        let interval = AdvertInterval::new(Duration::from_millis(ms)).unwrap();
        let impatient = Priority::new(254).unwrap();
        assert!(lease_length(interval) < patience(impatient, interval));
    }
}

fn any_advert() -> impl Strategy<Value = Advert> {
    let who = (any::<bool>(), any::<bool>(), 0..4u8, any::<[bool; 5]>());
    let how = (
        1..=254u8,
        10_000..=10_000_000u64,
        1..=u64::MAX,
        any::<[u64; 4]>(),
    );
    let seen = (any::<[u64; 4]>(), any::<[u64; 3]>(), any::<[u32; 2]>());
    (who, how, seen).prop_map(|(who, how, seen)| {
        let (second, path, role, [resigned, wants_answer, fit, serving, in_sync]) = who;
        let (priority, interval, session, [counter, epoch, floor, revision]) = how;
        let ([s1, c1, s2, c2], [stream, position, lag_bytes], [lag_records, lag_ms]) = seen;
        let heard = |session, counter| {
            SessionId::from_wire(session).map(|session| Heard { session, counter })
        };
        Advert {
            member: if second { Member::B } else { Member::A },
            path: if path { PathId::Second } else { PathId::First },
            role: [Role::Init, Role::Standby, Role::Active, Role::Asking][usize::from(role)],
            resigned,
            wants_answer,
            fit,
            serving,
            priority: match resigned {
                true => Priority::DEFAULT,
                false => Priority::new(priority).unwrap(),
            },
            interval: AdvertInterval::new(Duration::from_micros(interval)).unwrap(),
            session: SessionId::from_wire(session).unwrap(),
            counter,
            epoch: Epoch(epoch),
            floor: Epoch(floor),
            revision: Revision(revision),
            echo: heard(s1, c1),
            greeting: heard(s2, c2),
            sync: SyncReport {
                in_sync,
                stream: Epoch(stream),
                position,
                lag_records,
                lag_bytes,
                lag_ms,
            },
        }
    })
}

proptest! {
    #[test]
    fn seal_then_open_is_the_identity(advert in any_advert()) {
        let datagram = sealer(1).seal(&advert);
        prop_assert_eq!(datagram.len(), ADVERT_LEN);
        prop_assert_eq!(sealer(1).open(&datagram), Ok(advert));
    }

    #[test]
    fn any_flipped_bit_is_refused(advert in any_advert(), byte in 0..ADVERT_LEN, bit in 0..8u8) {
        let mut datagram = sealer(1).seal(&advert);
        datagram[byte] ^= 1 << bit;
        prop_assert!(sealer(1).open(&datagram).is_err());
    }

    #[test]
    fn noise_is_refused(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(sealer(1).open(&noise).is_err());
    }
}
