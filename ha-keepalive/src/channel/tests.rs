use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;

fn secret(byte: u8) -> PairSecret {
    PairSecret::new(SecretBytes::new(vec![byte; 32])).unwrap()
}

fn channel(member: Member, secret_byte: u8, seed: u64, rotation: Rotation) -> Channel {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    Channel::new(
        &secret(secret_byte),
        member,
        rotation,
        &mut rng,
        Duration::ZERO,
    )
}

/// A cable between the two ends.
struct Wire {
    a: Channel,
    b: Channel,
    captured: Vec<u8>,
}

impl Wire {
    fn new(rotation: Rotation) -> Self {
        Self {
            a: channel(Member::A, 1, 10, rotation),
            b: channel(Member::B, 1, 20, rotation),
            captured: Vec::new(),
        }
    }

    /// Carries bytes in pieces of `piece` until nothing moves.
    fn run(&mut self, piece: usize) -> Result<(), ChannelError> {
        loop {
            let forth = carry(&mut self.b, &mut self.a, piece, &mut self.captured)?;
            let back = carry(&mut self.a, &mut self.b, piece, &mut self.captured)?;
            if !forth && !back {
                return Ok(());
            }
        }
    }
}

fn carry(
    from: &mut Channel,
    to: &mut Channel,
    piece: usize,
    captured: &mut Vec<u8>,
) -> Result<bool, ChannelError> {
    let bytes: Vec<u8> = from.outgoing().iter().copied().take(piece).collect();
    from.written(bytes.len());
    captured.extend_from_slice(&bytes);
    to.receive(&bytes)?;
    Ok(!bytes.is_empty())
}

#[test]
fn messages_arrive_in_order_in_both_directions() {
    let mut wire = Wire::new(Rotation::default());
    wire.run(7).unwrap();
    assert!(wire.b.is_open());
    assert!(!wire.a.is_open(), "the dialler has not used the keys yet");
    assert_eq!(wire.a.send(Duration::ZERO, b"x"), Err(SendError::NotOpen));
    for index in 0..50u8 {
        wire.b.send(Duration::ZERO, &[index]).unwrap();
    }
    wire.run(11).unwrap();
    assert!(wire.a.is_open());
    let big = vec![7; MAX_MESSAGE];
    wire.a.send(Duration::ZERO, &big).unwrap();
    wire.run(1000).unwrap();
    for index in 0..50u8 {
        assert_eq!(wire.a.poll_message().unwrap().expose(), [index]);
    }
    assert_eq!(wire.b.poll_message().unwrap().expose(), big);
    let too_long = vec![7; MAX_MESSAGE + 1];
    assert_eq!(
        wire.a.send(Duration::ZERO, &too_long),
        Err(SendError::TooLong)
    );
}

#[test]
fn keys_rotate_by_count_and_by_age() {
    let rotation = Rotation {
        messages: 3,
        age: Duration::from_secs(60),
    };
    let mut wire = Wire::new(rotation);
    wire.run(100).unwrap();
    for index in 0..10u8 {
        wire.b.send(Duration::ZERO, &[index]).unwrap();
    }
    assert_eq!(wire.b.rotations(), 3);
    wire.b.send(Duration::from_secs(61), &[10]).unwrap();
    assert_eq!(wire.b.rotations(), 4);
    wire.run(100).unwrap();
    for index in 0..=10u8 {
        assert_eq!(wire.a.poll_message().unwrap().expose(), [index]);
    }
}

#[test]
fn another_secret_fails_at_the_first_message() {
    let mut a = channel(Member::A, 1, 10, Rotation::default());
    let mut b = channel(Member::B, 2, 20, Rotation::default());
    let refused = carry(&mut b, &mut a, 1000, &mut Vec::new());
    assert_eq!(refused, Err(ChannelError::Handshake));
    assert!(a.outgoing().is_empty(), "a stranger gets no answer");
    assert!(!a.is_open());
}

#[test]
fn a_replayed_first_message_opens_nothing() {
    let b = channel(Member::B, 1, 20, Rotation::default());
    let recording = b.outgoing().to_vec();
    let mut a = channel(Member::A, 1, 11, Rotation::default());
    a.receive(&recording).unwrap();
    assert!(!a.is_open());
    let mut again = a.outgoing().to_vec();
    again.extend_from_slice(&recording);
    assert!(a.receive(&again).is_err());
    assert!(!a.is_open());
}

#[test]
fn a_stranger_cannot_make_us_buffer() {
    let mut a = channel(Member::A, 1, 10, Rotation::default());
    assert_eq!(a.receive(&[0xff, 0xff]), Err(ChannelError::Handshake));
    assert_eq!(a.receive(&[0; 10]), Err(ChannelError::Handshake));
}

#[test]
fn i4_nothing_secret_travels_in_the_clear() {
    let mut wire = Wire::new(Rotation::default());
    wire.run(100).unwrap();
    let key_material = b"SKEYID_d and all its children";
    wire.b.send(Duration::ZERO, key_material).unwrap();
    wire.run(100).unwrap();
    assert_eq!(wire.a.poll_message().unwrap().expose(), key_material);
    let leaked = |needle: &[u8]| wire.captured.windows(needle.len()).any(|w| w == needle);
    assert!(!leaked(&key_material[..8]));
    assert!(!leaked(&[1; 16]), "nor the pair secret");
    assert!(!format!("{:?}", wire.a).contains("SKEYID"));
}

#[test]
fn every_connection_has_its_own_keys() {
    let frame = |seed| {
        let mut wire = Wire {
            a: channel(Member::A, 1, seed, Rotation::default()),
            b: channel(Member::B, 1, seed + 1, Rotation::default()),
            captured: Vec::new(),
        };
        wire.run(100).unwrap();
        wire.b.send(Duration::ZERO, b"same").unwrap();
        wire.b.outgoing().to_vec()
    };
    assert_ne!(frame(100), frame(200));
}

proptest! {
    #[test]
    fn a_flipped_bit_closes_the_connection(
        message in proptest::collection::vec(any::<u8>(), 0..200),
        place in any::<proptest::sample::Index>(),
        bit in 0..8u8,
    ) {
        let mut wire = Wire::new(Rotation::default());
        wire.run(1000).unwrap();
        wire.b.send(Duration::ZERO, &message).unwrap();
        let mut bytes = wire.b.outgoing().to_vec();
        let index = 2 + place.index(bytes.len() - 2);
        bytes[index] ^= 1 << bit;
        prop_assert_eq!(wire.a.receive(&bytes), Err(ChannelError::Frame));
        prop_assert!(wire.a.poll_message().is_none());
        prop_assert_eq!(wire.a.receive(b"more"), Err(ChannelError::Frame));
    }

    #[test]
    fn noise_never_opens_a_channel(noise in proptest::collection::vec(any::<u8>(), 0..500)) {
        let mut a = channel(Member::A, 1, 10, Rotation::default());
        let _ = a.receive(&noise);
        prop_assert!(!a.is_open() && a.poll_message().is_none());
    }
}
