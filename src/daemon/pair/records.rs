//! What is replicated, as records: typed keys and versioned, compact bytes.
//!
//! | kind | name | value |
//! | --- | --- | --- |
//! | `IkeSa` | connection | the negotiator's export: IKE SAs, quick modes, lifetimes |
//! | `EspSa` | connection/SPI | [`EspRecord`]: both directions with keys, birth epoch, traffic |
//! | `SequenceCeiling` | connection/SPI | written by the node (invariant I2) |
//! | `ReplayEdge` | connection/SPI | the window below its edge (invariant I3) |
//! | `Connection` | connection | [`ConnectionRecord`]: what is wanted of it |
//!
//! The SPI in a name is our inbound one, which names the pair of SAs.

use esp_dataplane::replay::ReplayState;
use esp_dataplane::sa::{InboundState, OutboundState};
use ha_keepalive::replication::{Key, Kind, Record, Supported};
use ikev1::ExportedTunnel;
use ipsec_types::{SecretBytes, Spi};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Version of every encoding below; another one is refused by the standby, by name.
const VERSION: u16 = 1;

/// The record versions that this daemon reads.
pub(super) fn supported() -> Supported {
    Supported::new(|_| VERSION)
}

/// A pair of ESP SAs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(super) struct EspRecord {
    /// The claim under which it was negotiated: IV epochs count from there (invariant I1).
    pub birth: u64,
    pub connection: String,
    pub inbound: InboundState,
    pub outbound: OutboundState,
    /// Place of its selectors in the policy.
    pub order: u32,
    /// Higher is newer among those that ever carried traffic.
    pub switched: Option<u64>,
}

/// What is wanted of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
pub(super) struct ConnectionRecord {
    /// The operator took it down.
    pub taken_down: bool,
    /// It has been up: a cold takeover starts it again, whoever began before.
    pub was_up: bool,
}

/// Why a value is no record.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// It does not fit.
    #[error(transparent)]
    TooLarge(#[from] ha_keepalive::replication::TooLarge),
    /// It cannot be written or read in this version.
    #[error("{kind:?} record \"{name}\": {source}")]
    Encoding {
        kind: Kind,
        name: String,
        source: postcard::Error,
    },
}

/// The name of a pair of ESP SAs.
pub(super) fn sa_name(connection: &str, inbound: Spi) -> Vec<u8> {
    format!("{connection}/{:08x}", inbound.get()).into_bytes()
}

/// A value under its key.
pub(super) fn encode<T: Serialize>(
    kind: Kind,
    name: &[u8],
    value: &T,
) -> Result<Record, RecordError> {
    let body = postcard::to_stdvec(value).map_err(|source| RecordError::Encoding {
        kind,
        name: String::from_utf8_lossy(name).into_owned(),
        source,
    })?;
    let key = Key::new(kind, name)?;
    Ok(Record::new(key, VERSION, SecretBytes::new(body))?)
}

/// The value of a record.
pub(super) fn decode<T: DeserializeOwned>(record: &Record) -> Result<T, RecordError> {
    postcard::from_bytes(record.body.expose()).map_err(|source| RecordError::Encoding {
        kind: record.key.kind(),
        name: String::from_utf8_lossy(record.key.name()).into_owned(),
        source,
    })
}

/// The bytes of a replay window, for its edge record.
pub(super) fn encode_window(window: &ReplayState) -> Vec<u8> {
    // A list of numbers: its encoding has no way to fail. An empty one is refused when read.
    postcard::to_stdvec(window).unwrap_or_default()
}

/// A replay window from its edge record.
pub(super) fn decode_window(bytes: &[u8]) -> Option<ReplayState> {
    postcard::from_bytes(bytes).ok()
}

/// True when this daemon could take the record over: what is acknowledged must be usable.
pub(super) fn check(record: &Record, knows: impl Fn(&str) -> bool) -> Result<(), String> {
    let connection = match record.key.kind() {
        Kind::IkeSa => decode::<ExportedTunnel>(record)
            .map(|exported| exported.connection().to_owned())
            .map_err(|error| error.to_string())?,
        Kind::EspSa => decode::<EspRecord>(record)
            .map(|sa| sa.connection)
            .map_err(|error| error.to_string())?,
        Kind::Connection => {
            decode::<ConnectionRecord>(record).map_err(|error| error.to_string())?;
            return Ok(());
        }
        Kind::Config | Kind::SequenceCeiling | Kind::ReplayEdge | Kind::Clock => return Ok(()),
    };
    if knows(&connection) {
        return Ok(());
    }
    Err(format!(
        "no connection is called \"{connection}\" here; give both nodes the same connections and run `vipsec reload`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable_and_sort_by_connection() {
        let spi = Spi::new(0xc0ff_ee01).unwrap();
        assert_eq!(sa_name("azure", spi), b"azure/c0ffee01");
    }

    #[test]
    fn a_record_of_an_unknown_connection_is_refused_with_advice() {
        let value = ConnectionRecord {
            taken_down: true,
            was_up: true,
        };
        let record = encode(Kind::Connection, b"x", &value).unwrap();
        assert_eq!(decode::<ConnectionRecord>(&record).unwrap(), value);
        let broken = Record::new(
            Key::new(Kind::EspSa, *b"x/1").unwrap(),
            1,
            SecretBytes::from(&b"nonsense"[..]),
        )
        .unwrap();
        assert!(check(&broken, |_| true).unwrap_err().contains("EspSa"));
    }
}
