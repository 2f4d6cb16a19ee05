//! The whole state of a connection as a value that another process can take over. It carries
//! durations, never instants: the other machine's clock has another origin.

use core::time::Duration;

use ipsec_types::{Encapsulation, SaLifetime, SelectorPair, Spi};
use serde::{Deserialize, Serialize};

use super::child::Stage;
use super::ike::UsedMessageIds;
use crate::api::Role;
use crate::crypto::{Iv, Phase1Keys, Phase1Suite};
use crate::natt::{NatState, Path, PeerFeatures};
use crate::phase1::Fingerprint;
use crate::suite::Phase2Proposal;
use crate::wire::{CookiePair, Nonce};

/// Layout of the exported state; another number is refused.
pub(crate) const VERSION: u16 = 3;

/// One connection's IKE SAs and what it knows of its ESP SAs; secret (it holds keys), so it
/// travels only inside the pair channel (invariant I4). Opaque outside this crate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedTunnel {
    pub(crate) version: u16,
    pub(crate) connection: String,
    /// Starts by itself, but somebody (a user, or DPD as configured) has taken it down.
    pub(crate) taken_down: bool,
    pub(crate) wanted: Vec<SelectorPair>,
    pub(crate) last_path: Option<Path>,
    /// The newest first.
    pub(crate) ike_sas: Vec<ExportedIkeSa>,
    /// Those in use first.
    pub(crate) children: Vec<ExportedChild>,
}

/// One IKE SA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExportedIkeSa {
    pub(crate) id: CookiePair,
    pub(crate) role: Role,
    pub(crate) suite: Phase1Suite,
    pub(crate) keys: Phase1Keys,
    pub(crate) last_block: Iv,
    pub(crate) path: Path,
    pub(crate) nat: NatState,
    pub(crate) peer: PeerFeatures,
    /// See [`UsedMessageIds::export`].
    pub(crate) used_message_ids: Option<Vec<u32>>,
    /// Our next DPD sequence number and the peer's last.
    pub(crate) dpd: (u32, Option<u32>),
    pub(crate) age: Duration,
    pub(crate) expires_in: Duration,
    pub(crate) rekey_in: Option<Duration>,
    pub(crate) retiring: bool,
    pub(crate) confirmed: bool,
    pub(crate) fruitful: bool,
    pub(crate) last_received: Option<Fingerprint>,
    pub(crate) last_sent: Option<Vec<u8>>,
    /// The newest first.
    pub(crate) quick_modes: Vec<ExportedQuick>,
}

/// A quick mode in which the peer may still need to hear our last message again. One of ours
/// that awaits message 2 is not exported: it is simply run again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExportedQuick {
    pub(crate) message_id: u32,
    pub(crate) selectors: SelectorPair,
    pub(crate) state: ExportedQuickState,
    pub(crate) last_in: Option<Fingerprint>,
    pub(crate) last_out: Vec<u8>,
}

/// What such a quick mode awaits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ExportedQuickState {
    /// As responder.
    AwaitQuick3 {
        inbound: Spi,
        iv: Iv,
        ni: Nonce,
        nr: Nonce,
    },
    /// As initiator, after a commit bit.
    AwaitConnected {
        inbound: Spi,
        iv: Iv,
        forget_in: Duration,
    },
    /// As initiator: message 3 may have been lost.
    Finished { forget_in: Duration },
}

/// What the negotiator knows of an ESP SA pair. Keys, counters and windows are exported by
/// the data plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExportedChild {
    pub(crate) inbound: Spi,
    pub(crate) outbound: Spi,
    pub(crate) selectors: SelectorPair,
    pub(crate) proposal: Phase2Proposal,
    pub(crate) encapsulation: Encapsulation,
    pub(crate) role: Role,
    pub(crate) lifetime: SaLifetime,
    pub(crate) age: Duration,
    pub(crate) expires_in: Duration,
    pub(crate) upcoming: Option<Upcoming>,
    pub(crate) stage: Stage,
    pub(crate) rekey_due: bool,
}

/// What awaits an ESP SA pair before its end: traffic moves to it first, and then it is rekeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Upcoming {
    Switch(Duration),
    Rekey(Duration),
}

/// Upper bounds of what a value takes in postcard, in bytes. A test compares them with the
/// longest values there are.
mod cost {
    /// Version, lengths of the lists, the path.
    pub(super) const TUNNEL: usize = 80;
    /// Two IPv6 prefixes with protocol and port.
    pub(super) const SELECTORS: usize = 48;
    /// Without its variable parts: ids, last message, quick modes.
    pub(super) const IKE_SA: usize = 480;
    /// Without last message and nonces.
    pub(super) const QUICK_MODE: usize = SELECTORS + 96;
    pub(super) const CHILD: usize = SELECTORS + 110;
}

impl ExportedTunnel {
    /// The most bytes that one connection's state takes in postcard, so that it fits into one
    /// message of the pair channel.
    pub const MAX_ENCODED: usize = 60_000;

    /// The configured name of the connection it belongs to.
    #[must_use]
    pub fn connection(&self) -> &str {
        &self.connection
    }

    /// How many ESP SA pairs it knows of.
    #[must_use]
    pub fn esp_sas(&self) -> usize {
        self.children.len()
    }

    /// Leaves out what does not fit into [`ExportedTunnel::MAX_ENCODED`], the dearest last:
    /// IKE SAs and ESP SAs stay (some 300 ESP SAs fit), then the message ids that are used up,
    /// then the last messages of quick modes. How many ESP SAs had to go is returned.
    pub(crate) fn fit(&mut self) -> usize {
        let mut room = Room(Self::MAX_ENCODED);
        room.take(cost::TUNNEL + self.connection.len());
        keep_first(&mut self.ike_sas, |sa| room.take(sa.core_cost()));
        let before = self.children.len();
        keep_first(&mut self.children, |_| room.take(cost::CHILD));
        keep_first(&mut self.wanted, |_| room.take(cost::SELECTORS));
        for sa in &mut self.ike_sas {
            sa.used_message_ids = sa
                .used_message_ids
                .take()
                .filter(|ids| room.take(UsedMessageIds::exported_len(ids)));
        }
        for sa in &mut self.ike_sas {
            keep_first(&mut sa.quick_modes, |quick| room.take(quick.cost()));
        }
        before - self.children.len()
    }
}

/// Bytes that are left.
struct Room(usize);

impl Room {
    /// False, and nothing taken, when there are not that many.
    fn take(&mut self, bytes: usize) -> bool {
        match self.0.checked_sub(bytes) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}

/// Keeps the items up to the first that does not fit.
fn keep_first<T>(items: &mut Vec<T>, fits: impl FnMut(&T) -> bool) {
    let kept = items.iter().map(fits).take_while(|fits| *fits).count();
    items.truncate(kept);
}

impl ExportedIkeSa {
    fn core_cost(&self) -> usize {
        cost::IKE_SA + self.last_sent.as_ref().map_or(0, Vec::len)
    }
}

impl ExportedQuick {
    fn cost(&self) -> usize {
        let nonces = match &self.state {
            ExportedQuickState::AwaitQuick3 { ni, nr, .. } => {
                ni.as_slice().len() + nr.as_slice().len()
            }
            ExportedQuickState::AwaitConnected { .. } | ExportedQuickState::Finished { .. } => 0,
        };
        cost::QUICK_MODE + nonces + self.last_out.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use ipsec_types::{SecretBytes, TrafficSelector};

    use super::*;
    use crate::crypto::{HashAlgorithm, Phase1Cipher, Skeyid};
    use crate::wire::{Cookie, MessageId};

    const LONG: Duration = Duration::new(u32::MAX as u64, 999_999_999);

    fn path() -> Path {
        let address: SocketAddr = "[ffff:ffff::ffff]:65535".parse().unwrap();
        Path {
            local: address,
            remote: address,
        }
    }

    fn selectors(n: u128) -> SelectorPair {
        let address = std::net::Ipv6Addr::from(u128::MAX - n);
        let side = TrafficSelector::new(std::net::IpAddr::from(address).into(), 255, 65535);
        SelectorPair {
            local: side,
            remote: side,
        }
    }

    fn spi() -> Spi {
        Spi::new(u32::MAX).unwrap()
    }

    /// As large as one can be.
    fn ike_sa(distances: Option<Vec<u32>>) -> ExportedIkeSa {
        let hash = HashAlgorithm::Sha512;
        let psk = SecretBytes::from(&b"psk"[..]);
        let keys = Skeyid::from_psk(hash, &psk, &[1; 32], &[2; 32]).derive(
            Phase1Cipher::AesCbc(ipsec_types::AesKeyBits::Aes256),
            &psk,
            [0xff; 8],
            [0xff; 8],
        );
        ExportedIkeSa {
            id: CookiePair {
                initiator: Cookie([0xff; 8]),
                responder: Cookie([0xff; 8]),
            },
            role: Role::Responder,
            suite: "aes256-sha512-modp4096".parse().unwrap(),
            keys,
            last_block: Iv::from_prefix(&[0xff; 16]),
            path: path(),
            nat: NatState::default(),
            peer: PeerFeatures::default(),
            used_message_ids: distances,
            dpd: (u32::MAX, Some(u32::MAX)),
            age: LONG,
            expires_in: LONG,
            rekey_in: Some(LONG),
            retiring: true,
            confirmed: true,
            fruitful: true,
            last_received: Some(vec![0xff; 32]),
            last_sent: Some(vec![0xff; 600]),
            quick_modes: vec![],
        }
    }

    fn quick_mode() -> ExportedQuick {
        let nonce = Nonce::new(vec![0xff; 256]).unwrap();
        ExportedQuick {
            message_id: u32::MAX,
            selectors: selectors(0),
            state: ExportedQuickState::AwaitQuick3 {
                inbound: spi(),
                iv: Iv::from_prefix(&[0xff; 16]),
                ni: nonce.clone(),
                nr: nonce,
            },
            last_in: Some(vec![0xff; 32]),
            last_out: vec![0xff; 1200],
        }
    }

    fn child() -> ExportedChild {
        ExportedChild {
            inbound: spi(),
            outbound: spi(),
            selectors: selectors(0),
            proposal: "aes256-sha512-modp4096-esn".parse().unwrap(),
            encapsulation: Encapsulation::Udp,
            role: Role::Responder,
            lifetime: SaLifetime {
                time: LONG,
                kilobytes: Some(u64::MAX),
            },
            age: LONG,
            expires_in: LONG,
            upcoming: Some(Upcoming::Rekey(LONG)),
            stage: Stage::Retiring,
            rekey_due: true,
        }
    }

    fn tunnel(ike_sas: Vec<ExportedIkeSa>, children: usize, wanted: u128) -> ExportedTunnel {
        ExportedTunnel {
            version: VERSION,
            connection: "x".repeat(64),
            taken_down: true,
            wanted: (0..wanted).map(selectors).collect(),
            last_path: Some(path()),
            ike_sas,
            children: vec![child(); children],
        }
    }

    fn len(value: &impl Serialize) -> usize {
        postcard::to_stdvec(value).unwrap().len()
    }

    fn full_memory() -> Vec<u32> {
        let mut used = UsedMessageIds::default();
        let mut id = 1_u32;
        // Odd multipliers run through all numbers: as random as ids are.
        while used.commit(MessageId(id)) {
            id = id.wrapping_mul(0x9e37_79b1).wrapping_add(12_345);
        }
        used.export().unwrap()
    }

    #[test]
    fn nothing_is_longer_than_computed() {
        let (sa, quick, child) = (ike_sa(Some(vec![])), quick_mode(), child());
        assert!(len(&sa) <= sa.core_cost(), "{}", len(&sa));
        assert!(len(&quick) <= quick.cost(), "{}", len(&quick));
        assert!(len(&child) <= cost::CHILD, "{}", len(&child));
        assert!(len(&selectors(0)) <= cost::SELECTORS);
        let empty = tunnel(vec![], 0, 0);
        assert!(len(&empty) <= cost::TUNNEL + 64, "{}", len(&empty));
        let ids = full_memory();
        assert!(ids.len() > 10_000);
        assert!(len(&ids) <= UsedMessageIds::exported_len(&ids));
    }

    #[test]
    fn an_export_fits_into_one_record_whatever_it_holds() {
        let mut sa = ike_sa(Some(full_memory()));
        sa.quick_modes = vec![quick_mode(); 64];
        let mut everything = tunnel(vec![sa; 8], 1000, 500);
        assert!(everything.fit() > 0);
        let length = len(&everything);
        assert!(length <= ExportedTunnel::MAX_ENCODED, "{length}");
        assert!(everything.children.len() >= 300, "ESP SAs come first");
        assert_eq!(everything.ike_sas.len(), 8);
    }

    #[test]
    fn an_ordinary_connection_is_exported_whole() {
        let mut sa = ike_sa(Some(full_memory()));
        sa.quick_modes = vec![quick_mode(); 2];
        let mut ordinary = tunnel(vec![sa, ike_sa(Some(vec![7; 500]))], 40, 20);
        let before = ordinary.clone();
        assert_eq!(ordinary.fit(), 0);
        assert!(ordinary == before, "something was left out");
    }
}
