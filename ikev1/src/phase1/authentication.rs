//! What main and aggressive mode share: keys, identities and the hashes over them.

use std::net::IpAddr;
use std::sync::Arc;

use ipsec_types::SecretBytes;

use super::{Agreed, Established, Exchange};
use crate::api::Role;
use crate::config::Connection;
use crate::crypto::{CipherKey, HashOutput, Iv, Phase1Keys, Phase1Transcript, Skeyid, phase1_iv};
use crate::error::{LocalFailure, Mismatch, PeerMisbehaved, Refused};
use crate::identity::Identity;
use crate::natt::NatState;
use crate::wire::{
    CookiePair, HashData, IdName, Identification, Identity as WireIdentity, Message, Nonce,
    Notification, NotifyType, OpaqueIdentity, Payload, PayloadType,
};

/// Keys exist; identities are still to be proved.
pub(crate) struct Keyed {
    agreed: Agreed,
    skeyid: Skeyid,
    keys: Phase1Keys,
    g_xi: Vec<u8>,
    g_xr: Vec<u8>,
    /// IV of the next encrypted message.
    iv: Iv,
    pub(crate) nat: NatState,
}

/// Both public values and both nonces, as they were on the wire.
pub(crate) struct Exchanged<'a> {
    pub(crate) g_xi: &'a [u8],
    pub(crate) g_xr: &'a [u8],
    pub(crate) ni: &'a Nonce,
    pub(crate) nr: &'a Nonce,
}

impl Keyed {
    pub(crate) fn derive(
        exchange: &Exchange,
        cookies: CookiePair,
        agreed: Agreed,
        exchanged: &Exchanged<'_>,
        g_xy: &SecretBytes,
        nat: NatState,
    ) -> Self {
        let hash = agreed.suite.hash;
        let psk = &exchange.connection.psk;
        let (ni, nr) = (exchanged.ni.as_slice(), exchanged.nr.as_slice());
        let skeyid = Skeyid::from_psk(hash, psk, ni, nr);
        let keys = skeyid.derive(
            agreed.suite.cipher,
            g_xy,
            cookies.initiator.0,
            cookies.responder.0,
        );
        Self {
            iv: phase1_iv(hash, exchanged.g_xi, exchanged.g_xr),
            g_xi: exchanged.g_xi.to_vec(),
            g_xr: exchanged.g_xr.to_vec(),
            agreed,
            skeyid,
            keys,
            nat,
        }
    }

    pub(crate) fn opener(&self) -> (&CipherKey, &Iv) {
        (self.keys.cipher_key(), &self.iv)
    }

    /// HASH_I or HASH_R over an identity as it is on the wire.
    pub(crate) fn hash_of(&self, cookies: CookiePair, sender: Role, id_body: &[u8]) -> HashOutput {
        let transcript = Phase1Transcript {
            g_xi: &self.g_xi,
            g_xr: &self.g_xr,
            cookie_i: cookies.initiator.0,
            cookie_r: cookies.responder.0,
            sa_i_body: &self.agreed.sa_i_body,
        };
        match sender {
            Role::Initiator => self.skeyid.hash_i(&transcript, id_body),
            Role::Responder => self.skeyid.hash_r(&transcript, id_body),
        }
    }

    /// Checks the peer's hash over the peer's identity, both out of `message`.
    pub(crate) fn verify(
        &self,
        cookies: CookiePair,
        sender: Role,
        id_body: &[u8],
        message: &Message,
        name: &'static str,
    ) -> Result<(), Refused> {
        let received = message
            .chain
            .body_of(PayloadType::HASH)
            .ok_or(PeerMisbehaved::MissingPayload(PayloadType::HASH, name))?;
        if self.hash_of(cookies, sender, id_body).matches(received) {
            Ok(())
        } else {
            Err(Mismatch::Unauthenticated(name).into())
        }
    }

    /// Our identity and hash, as messages 5 and 6 carry them, with INITIAL-CONTACT where due.
    pub(crate) fn proof(
        &self,
        exchange: &Exchange,
        sender: Role,
        id: &Identification,
    ) -> Vec<Payload> {
        let hash = self.hash_of(exchange.cookies, sender, &id.body());
        let mut payloads: Vec<Payload> = vec![id.clone().into(), HashData::from(&hash).into()];
        if exchange.initial_contact {
            payloads.push(Notification::initial_contact(exchange.cookies).into());
        }
        payloads
    }

    /// Encrypts a message of ours; the IV moves on.
    pub(crate) fn seal(&mut self, message: &Message) -> Vec<u8> {
        let (datagram, next) = message.seal(self.keys.cipher_key(), &self.iv);
        self.iv = next;
        datagram
    }

    /// The peer's encrypted message was authentic: the IV moves on.
    pub(crate) fn received(&mut self, next_iv: Option<Iv>) {
        if let Some(next) = next_iv {
            self.iv = next;
        }
    }

    pub(crate) fn finish(self, last_out: Option<Vec<u8>>) -> Box<Established> {
        Box::new(Established {
            suite: self.agreed.suite,
            lifetime: self.agreed.lifetime,
            keys: self.keys,
            last_block: self.iv,
            nat: self.nat,
            last_out,
        })
    }
}

/// True when the peer says INITIAL-CONTACT in an authenticated message.
pub(crate) fn says_initial_contact(message: &Message) -> bool {
    message.chain.payloads().iter().any(|payload| {
        matches!(payload, Payload::Notification(n) if n.kind() == NotifyType::INITIAL_CONTACT)
    })
}

/// Our identity on the wire: protocol and port 0, which every peer takes (RFC 2407 §4.6.2).
pub(crate) fn our_identification(connection: &Connection) -> Result<Identification, LocalFailure> {
    let inexpressible = || LocalFailure::Inexpressible("local_id");
    let identity = match &connection.local_id {
        Identity::Address(address) => WireIdentity::Address(*address),
        Identity::Fqdn(name) => WireIdentity::Fqdn(IdName::new(name).map_err(|_| inexpressible())?),
        Identity::UserFqdn(name) => {
            WireIdentity::UserFqdn(IdName::new(name).map_err(|_| inexpressible())?)
        }
        Identity::KeyId(bytes) => WireIdentity::Opaque(
            OpaqueIdentity::key_id(bytes.clone()).map_err(|_| inexpressible())?,
        ),
        Identity::Any => WireIdentity::Address(connection.local),
    };
    Ok(Identification::any_port(identity))
}

/// True when a peer may call itself `claimed` under this configuration.
pub(crate) fn identity_fits(expected: &Identity, claimed: &Identification) -> bool {
    if !port_fits(claimed) {
        return false;
    }
    match (expected, &claimed.identity) {
        (Identity::Any, _) => true,
        (Identity::Address(address), WireIdentity::Address(theirs)) => same(*address, *theirs),
        (Identity::Fqdn(name), WireIdentity::Fqdn(theirs)) => {
            // Names compare without regard to case (RFC 4343).
            name.eq_ignore_ascii_case(theirs.as_str())
        }
        (Identity::UserFqdn(name), WireIdentity::UserFqdn(theirs)) => {
            name.eq_ignore_ascii_case(theirs.as_str())
        }
        (Identity::KeyId(bytes), WireIdentity::Opaque(theirs)) => {
            OpaqueIdentity::key_id(bytes.clone()).is_ok_and(|ours| ours == *theirs)
        }
        (
            Identity::Address(_) | Identity::Fqdn(_) | Identity::UserFqdn(_) | Identity::KeyId(_),
            _,
        ) => false,
    }
}

fn same(ours: IpAddr, theirs: IpAddr) -> bool {
    ours.to_canonical() == theirs.to_canonical()
}

/// RFC 2407 §4.6.2: 0/0 or UDP/500; 17/0 and 17/4500 are seen in the field.
fn port_fits(claimed: &Identification) -> bool {
    matches!(
        (claimed.protocol, claimed.port),
        (0 | 17, 0) | (17, 500 | 4500)
    )
}

/// Which of the possible connections the claimed identity belongs to.
pub(crate) fn connection_for(
    exchange: &Exchange,
    claimed: &Identification,
) -> Result<Arc<Connection>, Mismatch> {
    core::iter::once(&exchange.connection)
        .chain(&exchange.alternatives)
        .find(|connection| identity_fits(&connection.remote_id, claimed))
        .cloned()
        .ok_or_else(|| Mismatch::Identity {
            claimed: claimed.to_string(),
            expected: exchange.connection.remote_id.to_string(),
        })
}
