//! A peer made by hand out of the codec and the crypto: it knows the protocol and breaks it
//! where a test wants. It shares no state machine with the negotiator, so a tunnel with it is
//! also a check of RFC 2409 by a second reading.

use std::net::SocketAddr;

use ikev1::Command;
use ikev1::config::Connection;
use ikev1::crypto::{
    DhGroup, DiffieHellman, HashAlgorithm, Iv, Phase1Keys, Phase1Transcript, Skeyid, phase1_iv,
};
use ikev1::wire::{
    Chain, Cookie, CookiePair, EncapsulationMode, ExchangeType, HashData, Header, Identification,
    Identity, Incoming, KeyExchange, Lifetime, Message, MessageId, Nonce, Payload, PayloadType,
    Phase1Transform, Phase2Transform, Proposal, ProtocolId, SecurityAssociation, SpiBytes, parse,
};
use ipsec_types::{ConnectionId, SecretBytes, Spi, TrafficSelector};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::config::{ALICE, address, both};
use super::pair::{Pair, Side, at};

const HASH: HashAlgorithm = HashAlgorithm::Sha256;

/// Sits at Alice's address and talks to Bob.
pub struct Manual {
    pub pair: Pair,
    rng: ChaCha20Rng,
    pub cookies: CookiePair,
    sa_i_body: Vec<u8>,
    dh: Option<DiffieHellman>,
    ni: Nonce,
    skeyid: Option<Skeyid>,
    g_xr: Vec<u8>,
    pub keys: Option<Phase1Keys>,
    pub iv: Iv,
    /// Turned in the first byte of each phase-2 HASH that is sent.
    pub flip: u8,
}

impl Manual {
    /// Bob is up and knows Alice, who is us.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same with another Bob.
    pub fn with(change: impl FnOnce(&mut Connection)) -> Self {
        let (mut alice, mut bob) = both();
        alice.start = ikev1::config::StartMode::Respond;
        change(&mut bob);
        let mut pair = Pair::new(alice, bob);
        pair.take(Side::Alice);
        Self {
            pair,
            rng: ChaCha20Rng::seed_from_u64(7),
            cookies: CookiePair {
                initiator: Cookie([0x11; 8]),
                responder: Cookie::ZERO,
            },
            sa_i_body: Vec::new(),
            dh: None,
            ni: Nonce::from([0x22; 32]),
            skeyid: None,
            g_xr: Vec::new(),
            keys: None,
            iv: Iv::from_prefix(&[0; 16]),
            flip: 0,
        }
    }

    /// Sends to Bob, and gives what Bob sent at once.
    pub fn say(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        self.say_from(at(Side::Alice, 500), datagram)
    }

    pub fn say_from(&mut self, source: SocketAddr, datagram: &[u8]) -> Vec<Vec<u8>> {
        let before = self.pair.sent.len();
        let target = at(Side::Bob, 500);
        self.pair.inject(Side::Bob, source, target, datagram);
        let answers = self.pair.sent[before..].iter();
        answers.map(|flight| flight.payload.clone()).collect()
    }

    pub fn header(&self, exchange: ExchangeType, id: u32) -> Header {
        Header::new(self.cookies, exchange, MessageId(id))
    }

    pub fn main_mode(&self, payloads: Vec<Payload>) -> Message {
        Message::new(self.header(ExchangeType::IdentityProtection, 0), payloads)
    }

    pub fn offer() -> SecurityAssociation {
        let transform = Phase1Transform {
            suite: "aes128-sha256-curve25519".parse().unwrap(),
            lifetime: Lifetime::default(),
        };
        let transforms = vec![transform.to_transform(1)];
        let proposal = Proposal::new(1, ProtocolId::ISAKMP, SpiBytes::EMPTY, transforms).unwrap();
        SecurityAssociation::new(vec![proposal]).unwrap()
    }

    /// Messages 1 and 2.
    pub fn hello(&mut self) {
        let message = self.main_mode(vec![Self::offer().into()]);
        self.sa_i_body = message.chain.body(0).to_vec();
        let answers = self.say(&message.encode());
        let Incoming::Clear(answer) = parse(&answers[0]).unwrap() else {
            panic!("message 2 is in the clear");
        };
        self.cookies = answer.header.cookies;
    }

    pub fn fresh_dh(&mut self) -> KeyExchange {
        let dh = DiffieHellman::generate(DhGroup::Curve25519, &mut self.rng);
        let ke = KeyExchange::from(&dh);
        self.dh = Some(dh);
        ke
    }

    /// Messages 3 and 4.
    pub fn exchange_keys(&mut self, psk: &[u8]) {
        let ke = self.fresh_dh();
        let message = self.main_mode(vec![ke.into(), self.ni.clone().into()]);
        let answers = self.say(&message.encode());
        let Incoming::Clear(answer) = parse(&answers[0]).unwrap() else {
            panic!("message 4 is in the clear");
        };
        let nr = answer.chain.body_of(PayloadType::NONCE).unwrap();
        self.g_xr = answer
            .chain
            .body_of(PayloadType::KEY_EXCHANGE)
            .unwrap()
            .to_vec();
        let dh = self.dh.as_ref().unwrap();
        let g_xy = dh.agree(&self.g_xr).unwrap();
        let skeyid = Skeyid::from_psk(HASH, &SecretBytes::from(psk), self.ni.as_slice(), nr);
        let suite: ikev1::Phase1Suite = "aes128-sha256-curve25519".parse().unwrap();
        let (i, r) = (self.cookies.initiator.0, self.cookies.responder.0);
        self.keys = Some(skeyid.derive(suite.cipher, &g_xy, i, r));
        self.skeyid = Some(skeyid);
        self.iv = phase1_iv(HASH, dh.public_value(), &self.g_xr);
    }

    fn transcript(&self) -> Phase1Transcript<'_> {
        Phase1Transcript {
            g_xi: self.dh.as_ref().unwrap().public_value(),
            g_xr: &self.g_xr,
            cookie_i: self.cookies.initiator.0,
            cookie_r: self.cookies.responder.0,
            sa_i_body: &self.sa_i_body,
        }
    }

    /// ID and HASH_I of message 5, for any identity.
    pub fn proof(&self, id: &Identification) -> Vec<Payload> {
        let skeyid = self.skeyid.as_ref().unwrap();
        let hash = skeyid.hash_i(&self.transcript(), &id.body());
        vec![id.clone().into(), HashData::from(&hash).into()]
    }

    pub fn alice_id() -> Identification {
        Identification::any_port(Identity::Address(address(ALICE)))
    }

    /// Encrypts with the IV of phase 1.
    pub fn seal_phase1(&self, payloads: Vec<Payload>) -> (Vec<u8>, Iv) {
        let keys = self.keys.as_ref().unwrap();
        self.main_mode(payloads).seal(keys.cipher_key(), &self.iv)
    }

    /// Messages 5 and 6.
    pub fn authenticate(&mut self) {
        let (datagram, iv) = self.seal_phase1(self.proof(&Self::alice_id()));
        let answers = self.say(&datagram);
        let Incoming::Protected(answer) = parse(&answers[0]).unwrap() else {
            panic!("message 6 is encrypted");
        };
        let keys = self.keys.as_ref().unwrap();
        let (answer, iv) = answer.open(keys.cipher_key(), &iv).unwrap();
        let id = answer.chain.body_of(PayloadType::ID).unwrap();
        let hash = answer.chain.body_of(PayloadType::HASH).unwrap();
        let skeyid = self.skeyid.as_ref().unwrap();
        assert!(skeyid.hash_r(&self.transcript(), id).matches(hash));
        self.iv = iv;
    }

    /// All of main mode.
    pub fn established() -> Self {
        Self::new().through_main_mode()
    }

    /// The same with another Bob.
    pub fn established_with(change: impl FnOnce(&mut Connection)) -> Self {
        Self::with(change).through_main_mode()
    }

    fn through_main_mode(self) -> Self {
        let mut manual = self;
        manual.hello();
        manual.exchange_keys(b"correct horse battery staple");
        manual.authenticate();
        manual
    }

    /// A message of quick mode or informational with a right HASH(1).
    pub fn protected(&self, exchange: ExchangeType, id: u32, payloads: Vec<Payload>) -> Vec<u8> {
        let keys = self.keys.as_ref().unwrap();
        let rest = Chain::build(payloads);
        let hash = self.flipped(keys.hash_1(id, rest.bytes()).as_slice());
        self.raw_protected(exchange, id, &rest.behind_hash(hash))
    }

    fn flipped(&self, hash: &[u8]) -> HashData {
        let mut bytes = hash.to_vec();
        bytes[0] ^= self.flip;
        HashData::new(bytes).unwrap()
    }

    /// Any bytes behind a right HASH(1); the first of them is a payload of type `first`.
    pub fn protected_bytes(&self, id: u32, first: u8, rest: &[u8]) -> Vec<u8> {
        let keys = self.keys.as_ref().unwrap();
        let hash = keys.hash_1(id, rest);
        let mut plaintext = vec![first, 0, 0, 4 + hash.as_slice().len() as u8];
        plaintext.extend_from_slice(hash.as_slice());
        plaintext.extend_from_slice(rest);
        let iv = keys.phase2_iv(&self.iv, id);
        _ = keys.cipher_key().encrypt(&iv, &mut plaintext);
        let empty = Message::new(self.header(ExchangeType::Quick, id), Vec::new());
        let mut datagram = empty.encode();
        datagram.truncate(28);
        datagram[16] = 8;
        datagram[19] = 1;
        let length = u32::try_from(28 + plaintext.len()).unwrap();
        datagram[24..28].copy_from_slice(&length.to_be_bytes());
        datagram.extend(plaintext);
        datagram
    }

    /// The same with any chain.
    pub fn raw_protected(&self, exchange: ExchangeType, id: u32, chain: &Chain) -> Vec<u8> {
        let keys = self.keys.as_ref().unwrap();
        let message = Message {
            header: self.header(exchange, id),
            chain: chain.clone(),
        };
        let iv = keys.phase2_iv(&self.iv, id);
        message.seal(keys.cipher_key(), &iv).0
    }

    pub fn esp_offer(suite: &str, group: Option<DhGroup>, spi: Spi) -> SecurityAssociation {
        let transform = Phase2Transform {
            suite: suite.parse().unwrap(),
            mode: EncapsulationMode::Tunnel,
            group,
            esn: false,
            lifetime: Lifetime::default(),
        };
        let transforms = vec![transform.to_transform(1)];
        let proposal = Proposal::new(1, ProtocolId::ESP, spi.into(), transforms).unwrap();
        SecurityAssociation::new(vec![proposal]).unwrap()
    }

    /// The payloads of a good quick-mode message 1, without its HASH.
    pub fn quick_payloads() -> Vec<Payload> {
        let everything = TrafficSelector::net("0.0.0.0/0".parse().unwrap());
        let id = Identification::from_selector(&everything);
        vec![
            Self::esp_offer("aes128gcm16", None, Spi::new(0x1234).unwrap()).into(),
            Nonce::from([0x33; 32]).into(),
            id.clone().into(),
            id.into(),
        ]
    }

    /// Bob is told to begin.
    pub fn bob_initiates(&mut self) {
        let wanted = Command::Initiate {
            connection: ConnectionId(0),
            selectors: None,
        };
        self.pair.command(Side::Bob, wanted);
    }

    /// Waits for the quick mode that Bob begins, and answers it: with `payloads` behind SA,
    /// nonce and identities, and the header as `commit` says. Gives its message id, the SPI
    /// that Bob chose, and Bob's message 3.
    pub fn answer_quick(
        &mut self,
        spi: Spi,
        commit: bool,
        change: impl FnOnce(&mut Vec<Payload>),
    ) -> (u32, Spi, Vec<Vec<u8>>) {
        let before = self.pair.sent.len();
        self.pair.run_for(core::time::Duration::from_secs(2));
        let first = self.pair.sent[before..]
            .iter()
            .find(|flight| flight.from == Side::Bob && flight.payload[18] == 32)
            .unwrap();
        let Incoming::Protected(protected) = parse(&first.payload).unwrap() else {
            panic!("quick mode is encrypted");
        };
        let keys = self.keys.as_ref().unwrap();
        let id = protected.header.message_id.0;
        let iv = keys.phase2_iv(&self.iv, id);
        let (message, iv) = protected.open(keys.cipher_key(), &iv).unwrap();
        let ni = message.chain.body_of(PayloadType::NONCE).unwrap();
        let mut theirs = Spi::MIN;
        let mut payloads = Vec::new();
        for payload in message.chain.payloads() {
            match payload {
                Payload::Sa(sa) => {
                    let offered = &sa.proposals()[0];
                    theirs = offered.esp_spi().unwrap();
                    let transforms = vec![offered.transforms()[0].clone()];
                    let chosen = Proposal::new(1, ProtocolId::ESP, spi.into(), transforms);
                    payloads.push(
                        SecurityAssociation::new(vec![chosen.unwrap()])
                            .unwrap()
                            .into(),
                    );
                    payloads.push(Nonce::from([0x44; 32]).into());
                }
                Payload::Id(id) => payloads.push(id.clone().into()),
                _ => {}
            }
        }
        change(&mut payloads);
        let rest = Chain::build(payloads);
        let hash = self.flipped(keys.hash_2(id, ni, rest.bytes()).as_slice());
        let mut header = self.header(ExchangeType::Quick, id);
        header.flags.commit = commit;
        let answer = Message {
            header,
            chain: rest.behind_hash(hash),
        };
        let (datagram, _) = answer.seal(keys.cipher_key(), &iv);
        (id, theirs, self.say(&datagram))
    }

    /// Opens an informational message of Bob's.
    pub fn read_informational(&self, datagram: &[u8]) -> Option<Message> {
        let Incoming::Protected(protected) = parse(datagram).ok()? else {
            return None;
        };
        let keys = self.keys.as_ref()?;
        let id = protected.header.message_id.0;
        let iv = keys.phase2_iv(&self.iv, id);
        let (message, _) = protected.open(keys.cipher_key(), &iv).ok()?;
        let (hash, rest) = message.chain.split_hash()?;
        assert!(keys.hash_1(id, rest).matches(hash.as_slice()));
        Some(message)
    }
}
