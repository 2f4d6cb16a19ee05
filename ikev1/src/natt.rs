//! NAT traversal (RFC 3947, and the drafts that peers still announce) and the other
//! extensions that vendor ids announce.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::api::NATT_PORT;
use crate::config::EncapsulationPolicy;
use crate::crypto::HashAlgorithm;
use crate::wire::{CookiePair, KnownVendor, Message, NatDialect, NatDiscovery, Payload, VendorId};

/// Our end and the peer's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Path {
    /// Our address and port.
    pub(crate) local: SocketAddr,
    /// The peer's address and port.
    pub(crate) remote: SocketAddr,
}

impl Path {
    /// Both ends on the NAT-T port (RFC 3947 §4); a peer that already speaks from a port of
    /// its NAT keeps it.
    pub(crate) fn floated(mut self) -> Self {
        if self.local.port() != NATT_PORT {
            self.local.set_port(NATT_PORT);
            self.remote.set_port(NATT_PORT);
        }
        self
    }
}

/// What the peer's vendor ids announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct PeerFeatures {
    /// Best NAT-T version in common.
    natt: Option<NatT>,
    /// Dead peer detection (RFC 3706).
    pub(crate) dpd: bool,
    /// IKE fragmentation.
    pub(crate) fragmentation: bool,
}

/// NAT-T versions, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum NatT {
    Draft02,
    Draft02Lf,
    Draft03,
    Rfc,
}

impl NatT {
    const BEST_FIRST: [Self; 4] = [Self::Rfc, Self::Draft03, Self::Draft02Lf, Self::Draft02];

    const fn vendor(self) -> KnownVendor {
        match self {
            Self::Rfc => KnownVendor::NatT,
            Self::Draft03 => KnownVendor::NatTDraft03,
            Self::Draft02Lf => KnownVendor::NatTDraft02Lf,
            Self::Draft02 => KnownVendor::NatTDraft02,
        }
    }
}

impl PeerFeatures {
    /// Takes in every vendor id of a message.
    pub(crate) fn learn(&mut self, message: &Message, policy: EncapsulationPolicy) {
        for payload in message.chain.payloads() {
            if let Payload::VendorId(vendor) = payload {
                self.learn_one(vendor, policy);
            }
        }
    }

    fn learn_one(&mut self, vendor: &VendorId, policy: EncapsulationPolicy) {
        let natt = match vendor.known() {
            Some(KnownVendor::DeadPeerDetection) => {
                self.dpd = true;
                return;
            }
            Some(KnownVendor::Fragmentation) => {
                self.fragmentation = true;
                return;
            }
            Some(KnownVendor::NatT) => NatT::Rfc,
            Some(KnownVendor::NatTDraft03) => NatT::Draft03,
            Some(KnownVendor::NatTDraft02Lf) => NatT::Draft02Lf,
            Some(KnownVendor::NatTDraft02) => NatT::Draft02,
            Some(KnownVendor::NlbsPresent) | None => return,
        };
        if policy != EncapsulationPolicy::Esp {
            self.natt = self.natt.max(Some(natt));
        }
    }

    /// How NAT-T payloads are numbered; `None` without NAT-T in common.
    pub(crate) fn nat_dialect(&self) -> Option<NatDialect> {
        Some(match self.natt? {
            NatT::Rfc => NatDialect::Rfc3947,
            NatT::Draft03 | NatT::Draft02Lf | NatT::Draft02 => NatDialect::Draft,
        })
    }

    /// What an initiator announces.
    pub(crate) fn offered(
        policy: EncapsulationPolicy,
        fragmentation: bool,
    ) -> impl Iterator<Item = KnownVendor> {
        let natt = (policy != EncapsulationPolicy::Esp)
            .then_some(NatT::BEST_FIRST)
            .into_iter()
            .flatten();
        core::iter::once(KnownVendor::DeadPeerDetection)
            .chain(natt.map(NatT::vendor))
            .chain(fragmentation.then_some(KnownVendor::Fragmentation))
    }

    /// What a responder answers: the one NAT-T version it will use, and the rest. In order of
    /// importance, because the answer must not be longer than the question.
    pub(crate) fn answered(&self, fragmentation: bool) -> impl Iterator<Item = KnownVendor> {
        let natt = self.natt.map(NatT::vendor);
        let fragmentation =
            (fragmentation && self.fragmentation).then_some(KnownVendor::Fragmentation);
        natt.into_iter()
            .chain(core::iter::once(KnownVendor::DeadPeerDetection))
            .chain(fragmentation)
    }
}

/// Who is behind a NAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct NatState {
    /// We are (or the config makes us say so).
    pub(crate) local: bool,
    /// The peer is.
    pub(crate) remote: bool,
}

impl NatState {
    pub(crate) fn any(self) -> bool {
        self.local || self.remote
    }

    /// Compares the peer's NAT-D payloads with what we see (RFC 3947 §3.2): the first one is
    /// about our end, the others about the peer's. Fewer than two say nothing.
    pub(crate) fn discover(
        message: &Message,
        dialect: NatDialect,
        hash: HashAlgorithm,
        cookies: CookiePair,
        path: Path,
    ) -> Self {
        let mut seen = message
            .chain
            .payloads()
            .iter()
            .filter_map(|payload| match payload {
                Payload::NatD(nat_d) if nat_d.dialect == dialect => Some(nat_d),
                _ => None,
            });
        let Some(about_us) = seen.next() else {
            return Self::default();
        };
        let mut about_peer = seen.peekable();
        if about_peer.peek().is_none() {
            return Self::default();
        }
        let ours = NatDiscovery::of(dialect, hash, cookies, path.local);
        let theirs = NatDiscovery::of(dialect, hash, cookies, path.remote);
        Self {
            local: *about_us != ours,
            remote: !about_peer.any(|nat_d| *nat_d == theirs),
        }
    }
}

/// Our NAT-D payloads: the peer's end first, then ours. To force UDP encapsulation the hash
/// of our end is one of no address, as is usual practice: the peer then finds us behind a NAT.
pub(crate) fn discovery_payloads(
    dialect: NatDialect,
    hash: HashAlgorithm,
    cookies: CookiePair,
    path: Path,
    policy: EncapsulationPolicy,
) -> [Payload; 2] {
    let local = match policy {
        EncapsulationPolicy::Auto | EncapsulationPolicy::Esp => path.local,
        EncapsulationPolicy::Udp => SocketAddr::from(([0, 0, 0, 0], 0)),
    };
    [
        NatDiscovery::of(dialect, hash, cookies, path.remote).into(),
        NatDiscovery::of(dialect, hash, cookies, local).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Cookie, ExchangeType, Header, MessageId};

    const COOKIES: CookiePair = CookiePair {
        initiator: Cookie([1; 8]),
        responder: Cookie([2; 8]),
    };
    const HASH: HashAlgorithm = HashAlgorithm::Sha256;

    fn path(local: &str, remote: &str) -> Path {
        Path {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
        }
    }

    fn message(sender: Path, policy: EncapsulationPolicy) -> Message {
        let header = Header::new(COOKIES, ExchangeType::IdentityProtection, MessageId::PHASE1);
        let payloads =
            discovery_payloads(NatDialect::Rfc3947, HASH, COOKIES, sender, policy).to_vec();
        Message::new(header, payloads)
    }

    fn discover(sender: Path, receiver: Path, policy: EncapsulationPolicy) -> NatState {
        let message = message(sender, policy);
        NatState::discover(&message, NatDialect::Rfc3947, HASH, COOKIES, receiver)
    }

    #[test]
    fn no_nat_on_a_plain_path() {
        let sender = path("192.0.2.1:500", "198.51.100.2:500");
        let receiver = path("198.51.100.2:500", "192.0.2.1:500");
        let nat = discover(sender, receiver, EncapsulationPolicy::Auto);
        assert_eq!(nat, NatState::default());
    }

    #[test]
    fn each_side_of_the_nat_is_told_apart() {
        let sender = path("10.0.0.1:500", "198.51.100.2:500");
        let receiver = path("198.51.100.2:500", "192.0.2.1:7777");
        let nat = discover(sender, receiver, EncapsulationPolicy::Auto);
        assert!(nat.remote && !nat.local);
        let sender = path("192.0.2.1:500", "198.51.100.2:500");
        let receiver = path("10.0.0.2:500", "192.0.2.1:500");
        let nat = discover(sender, receiver, EncapsulationPolicy::Auto);
        assert!(nat.local && !nat.remote);
    }

    #[test]
    fn forcing_udp_looks_like_a_nat() {
        let sender = path("192.0.2.1:500", "198.51.100.2:500");
        let receiver = path("198.51.100.2:500", "192.0.2.1:500");
        assert!(discover(sender, receiver, EncapsulationPolicy::Udp).remote);
    }

    #[test]
    fn the_best_common_version_wins() {
        let mut features = PeerFeatures::default();
        for vendor in [KnownVendor::NatTDraft02Lf, KnownVendor::NatT] {
            features.learn_one(&vendor.into(), EncapsulationPolicy::Auto);
        }
        assert_eq!(features.nat_dialect(), Some(NatDialect::Rfc3947));
        let mut features = PeerFeatures::default();
        features.learn_one(&KnownVendor::NatT.into(), EncapsulationPolicy::Esp);
        assert_eq!(features.nat_dialect(), None);
    }
}
