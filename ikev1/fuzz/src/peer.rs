//! A peer that knows the pre-shared key and runs a proper main mode, and then sends whatever
//! the script says, properly authenticated and encrypted. Bob must stay whole.

use std::time::Duration;

use ikev1::config::StartMode;
use ikev1::crypto::{
    DiffieHellman, Iv, Phase1Keys, Phase1Suite, Phase1Transcript, Skeyid, phase1_iv,
};
use ikev1::wire::{
    Chain, Cookie, CookiePair, EncapsulationMode, ExchangeType, HashData, Header, Identification,
    Identity, Incoming, KeyExchange, Lifetime, Message, MessageId, Nonce, Payload, PayloadType,
    Phase1Transform, Phase2Transform, Proposal, ProtocolId, SecurityAssociation, SpiBytes, parse,
};
use ipsec_types::{SecretBytes, TrafficSelector};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::lab::{ADDRESSES, Flight, Lab, PSK, Script, endpoint};

const BOB: usize = 1;
/// A script longer than this repeats itself.
const MAX_STEPS: usize = 100;

/// Runs a script of protected messages against a responder.
pub fn hostile_peer(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut lab = Lab::new(StartMode::Respond);
    let mut peer = Peer::authenticated(&mut lab);
    for _ in 0..MAX_STEPS {
        let Some(step) = script.next() else {
            return;
        };
        peer.act(&mut lab, step, &mut script);
    }
}

struct Peer {
    cookies: CookiePair,
    keys: Phase1Keys,
    last_block: Iv,
    /// The exchange that is going on: its id, the IV of its next message, our nonce.
    message_id: u32,
    iv: Iv,
    ni: Vec<u8>,
    nr: Vec<u8>,
}

/// Sends to Bob; the answer, if there is exactly one.
fn ask(lab: &mut Lab, payload: Vec<u8>) -> Option<Vec<u8>> {
    lab.queue.clear();
    lab.deliver(&Flight {
        to: BOB,
        source: endpoint(0),
        target: endpoint(BOB),
        payload,
    });
    lab.queue.pop_front().map(|answer| answer.payload)
}

fn clear(datagram: Option<Vec<u8>>) -> Message {
    match datagram.as_deref().map(parse) {
        Some(Ok(Incoming::Clear(message))) => message,
        other => panic!("Bob does not answer an honest main mode: {other:?}"),
    }
}

fn main_mode(cookies: CookiePair) -> Header {
    Header::new(cookies, ExchangeType::IdentityProtection, MessageId::PHASE1)
}

/// Messages 5 and 6; the last ciphertext block of phase 1.
fn prove_identity(
    lab: &mut Lab,
    cookies: CookiePair,
    skeyid: &Skeyid,
    transcript: &Phase1Transcript<'_>,
    keys: &Phase1Keys,
    iv: &Iv,
) -> Iv {
    let us = ADDRESSES[0].parse().expect("a literal address");
    let id = Identification::any_port(Identity::Address(us));
    let hash = HashData::from(&skeyid.hash_i(transcript, &id.body()));
    let fifth = Message::new(main_mode(cookies), vec![id.into(), hash.into()]);
    let (fifth, iv) = fifth.seal(keys.cipher_key(), iv);
    let Some(Ok(Incoming::Protected(sixth))) = ask(lab, fifth).as_deref().map(parse) else {
        panic!("Bob does not finish an honest main mode");
    };
    let opened = sixth.open(keys.cipher_key(), &iv);
    opened.expect("the keys are right").1
}

impl Peer {
    /// Main mode with Bob, as the initiator.
    fn authenticated(lab: &mut Lab) -> Self {
        let suite: Phase1Suite = "aes128-sha256-curve25519".parse().expect("a literal suite");
        let mut cookies = CookiePair {
            initiator: Cookie(*b"fuzzfuzz"),
            responder: Cookie::ZERO,
        };
        let first = Message::new(main_mode(cookies), vec![phase1_offer(suite)]);
        let second = clear(ask(lab, first.encode()));
        cookies.responder = second.header.cookies.responder;

        let mut rng = ChaCha20Rng::seed_from_u64(99);
        let dh = DiffieHellman::generate(suite.group, &mut rng);
        let ni = Nonce::from([0x4e; 32]);
        let third = vec![KeyExchange::from(&dh).into(), ni.clone().into()];
        let fourth = clear(ask(lab, Message::new(main_mode(cookies), third).encode())).chain;
        let body = |chain: &Chain, kind| chain.body_of(kind).expect("it belongs there").to_vec();
        let g_xr = body(&fourth, PayloadType::KEY_EXCHANGE);
        let nr = body(&fourth, PayloadType::NONCE);

        let psk = SecretBytes::from(PSK);
        let skeyid = Skeyid::from_psk(suite.hash, &psk, ni.as_slice(), &nr);
        let transcript = Phase1Transcript {
            g_xi: dh.public_value(),
            g_xr: &g_xr,
            cookie_i: cookies.initiator.0,
            cookie_r: cookies.responder.0,
            sa_i_body: &body(&first.chain, PayloadType::SA),
        };
        let g_xy = dh.agree(&g_xr).expect("Bob's public value is good");
        let keys = skeyid.derive(
            suite.cipher,
            &g_xy,
            transcript.cookie_i,
            transcript.cookie_r,
        );
        let iv = phase1_iv(suite.hash, transcript.g_xi, transcript.g_xr);
        let last_block = prove_identity(lab, cookies, &skeyid, &transcript, &keys, &iv);
        Self {
            cookies,
            keys,
            last_block,
            message_id: 1,
            iv: last_block,
            ni: ni.as_slice().to_vec(),
            nr,
        }
    }

    fn act(&mut self, lab: &mut Lab, step: u8, script: &mut Script<'_>) {
        let exchange = if step & 0x80 == 0 {
            ExchangeType::Quick
        } else {
            ExchangeType::Informational
        };
        match step % 8 {
            0 | 1 => {
                self.begin(script.next().unwrap_or(0));
                self.send_script(lab, exchange, step, script);
            }
            2 => self.send_script(lab, exchange, step, script),
            3 | 4 => {
                self.begin(script.next().unwrap_or(0));
                self.quick_mode_1(lab);
            }
            5 => {
                let hash = self.keys.hash_3(self.message_id, &self.ni, &self.nr);
                let hash = HashData::from(&hash);
                self.send(
                    lab,
                    ExchangeType::Quick,
                    Chain::build(vec![hash.into()]).bytes(),
                    8,
                );
            }
            6 => {
                let seconds = u64::from(script.next().unwrap_or(0));
                lab.advance_to(lab.now + Duration::from_secs(seconds * 30));
            }
            _ => _ = ask(lab, script.field().to_vec()),
        }
    }

    /// A new exchange; small numbers, so that scripts find old ids again.
    fn begin(&mut self, message_id: u8) {
        self.message_id = u32::from(message_id);
        self.iv = self.keys.phase2_iv(&self.last_block, self.message_id);
    }

    /// Whatever the script says, behind the right hash, or behind one for another message.
    fn send_script(
        &mut self,
        lab: &mut Lab,
        exchange: ExchangeType,
        step: u8,
        script: &mut Script<'_>,
    ) {
        let first = script.next().unwrap_or(0);
        let rest = script.field();
        let hash = match step >> 4 & 3 {
            0 | 1 => self.keys.hash_1(self.message_id, rest),
            2 => self.keys.hash_2(self.message_id, &self.ni, rest),
            _ => self.keys.hash_3(self.message_id, &self.ni, &self.nr),
        };
        // The generic header of a HASH payload whose successor the script names.
        let mut plaintext = vec![first, 0, 0, 4 + hash.as_slice().len() as u8];
        plaintext.extend_from_slice(hash.as_slice());
        plaintext.extend_from_slice(rest);
        self.send(lab, exchange, &plaintext, 8);
    }

    fn quick_mode_1(&mut self, lab: &mut Lab) {
        let everything = TrafficSelector::net("0.0.0.0/0".parse().expect("a literal prefix"));
        let id = Payload::from(Identification::from_selector(&everything));
        let ni = Nonce::from([self.message_id as u8; 32]);
        self.ni = ni.as_slice().to_vec();
        let rest = Chain::build(vec![phase2_offer(), ni.into(), id.clone(), id]);
        let hash = HashData::from(&self.keys.hash_1(self.message_id, rest.bytes()));
        let chain = rest.behind_hash(hash);
        let answer = self.send(lab, ExchangeType::Quick, chain.bytes(), 8);
        let Some(Ok(Incoming::Protected(answer))) = answer.as_deref().map(parse) else {
            return;
        };
        if let Ok((message, iv)) = answer.open(self.keys.cipher_key(), &self.iv) {
            self.iv = iv;
            self.nr = message
                .chain
                .body_of(PayloadType::NONCE)
                .unwrap_or_default()
                .to_vec();
        }
    }

    /// Encrypts and sends; the IV moves on as if Bob had accepted.
    fn send(
        &mut self,
        lab: &mut Lab,
        exchange: ExchangeType,
        plaintext: &[u8],
        first: u8,
    ) -> Option<Vec<u8>> {
        let mut body = plaintext.to_vec();
        self.iv = self.keys.cipher_key().encrypt(&self.iv, &mut body);
        let mut datagram = Vec::new();
        datagram.extend_from_slice(&self.cookies.to_bytes());
        datagram.extend_from_slice(&[first, 0x10, exchange.number(), 1]);
        datagram.extend_from_slice(&self.message_id.to_be_bytes());
        datagram.extend_from_slice(&((28 + body.len()) as u32).to_be_bytes());
        datagram.extend_from_slice(&body);
        ask(lab, datagram)
    }
}

fn phase1_offer(suite: Phase1Suite) -> Payload {
    let lifetime = Lifetime::from_time(Duration::from_secs(8 * 3600));
    let transform = Phase1Transform { suite, lifetime }.to_transform(1);
    let proposal = Proposal::new(1, ProtocolId::ISAKMP, SpiBytes::EMPTY, vec![transform]);
    SecurityAssociation::new(vec![proposal.expect("one transform")])
        .expect("one proposal")
        .into()
}

fn phase2_offer() -> Payload {
    let transform = Phase2Transform {
        suite: "aes128gcm16".parse().expect("a literal suite"),
        mode: EncapsulationMode::Tunnel,
        group: None,
        esn: false,
        lifetime: Lifetime::from_time(Duration::from_secs(3600)),
    };
    let transforms = vec![transform.to_transform(1)];
    let proposal = Proposal::new(1, ProtocolId::ESP, SpiBytes::from([9; 4]), transforms);
    SecurityAssociation::new(vec![proposal.expect("one transform")])
        .expect("one proposal")
        .into()
}
