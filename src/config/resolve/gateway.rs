//! `[gateway]`: the daemon itself.

use std::path::PathBuf;
use std::time::Duration;

use esp_dataplane::worker::{DataPlaneConfig, EspRelay};

use super::Context;
use super::draft::{duration, number, one_of};
use crate::config::DEFAULT_CONTROL_SOCKET;
use crate::config::document::Field;
use crate::config::fault::Fault;
use crate::config::problem::Findings;
use crate::config::raw::RawGateway;
use crate::config::resolved::Gateway;
use crate::config::value::refuse_name;
use crate::logging;

/// More threads than any machine has cores for.
const MAX_WORKERS: i64 = 256;

const ESP_RELAY: [(&str, EspRelay); 3] = [
    ("auto", EspRelay::Auto),
    ("on", EspRelay::On),
    ("off", EspRelay::Off),
];

/// A Unix socket address has room for 107 bytes and a NUL.
const MAX_SOCKET_PATH: usize = 107;

pub(super) fn resolve(raw: &RawGateway, context: &mut Context<'_>) -> Option<Gateway> {
    let files = context.files;
    let findings = &mut *context.findings;
    let name = raw
        .name
        .understand(findings, |name| match refuse_name(name) {
            None => Ok(name.clone()),
            Some(reason) => Err(Fault::BadName {
                key: "name",
                found: name.clone(),
                reason,
            }),
        });
    let workers = number(&raw.workers, "workers", 1..=MAX_WORKERS, findings);
    let most = Duration::from_millis(10);
    let busy_poll = duration(&raw.busy_poll, "busy_poll", Duration::ZERO..=most, findings);
    let mark = number(
        &raw.firewall_mark,
        "firewall_mark",
        1..=i64::from(u32::MAX),
        findings,
    );
    let esp_relay = esp_relay(raw, findings);
    let socket = raw.control_socket.understand(findings, |path| {
        if path.starts_with('/') && path.len() <= MAX_SOCKET_PATH {
            return Ok(PathBuf::from(path));
        }
        Err(Fault::Malformed {
            key: "control_socket".to_owned(),
            found: path.clone(),
            expected: "an absolute path of at most 107 bytes",
            help: None,
        })
    });
    let log = raw.log.understand(findings, |directives| {
        logging::check_directives(directives).map_err(|_| Fault::Malformed {
            key: "log".to_owned(),
            found: directives.clone(),
            expected: "error, warn, info, debug or trace, also by room: \"info,ikev1=debug\"",
            help: None,
        })?;
        Ok(directives.clone())
    });
    Some(Gateway {
        name: value(name, || files.host_name())?,
        workers: value(workers, || 1)?,
        pin_workers: value(raw.pin_workers.clone(), || true)?,
        busy_poll: value(busy_poll, || DataPlaneConfig::BUSY_POLL)?,
        real_time: value(raw.real_time.clone(), || true)?,
        firewall_mark: value(mark.some(), || None)?,
        esp_relay: value(esp_relay, EspRelay::default)?,
        control_socket: value(socket, || PathBuf::from(DEFAULT_CONTROL_SOCKET))?,
        log: value(log, || "info".to_owned())?,
    })
}

fn esp_relay(raw: &RawGateway, findings: &mut Findings) -> Field<EspRelay> {
    let relay = one_of(&raw.esp_relay, "esp_relay", &ESP_RELAY, findings);
    let (Field::Given(given), Field::Given(_)) = (&relay, &raw.firewall_mark) else {
        return relay;
    };
    if *given.get_ref() != EspRelay::On {
        return relay;
    }
    raw.esp_relay.understand(findings, |found| {
        Err(Fault::Malformed {
            key: "esp_relay".to_owned(),
            found: found.clone(),
            expected: "\"auto\" or \"off\" beside firewall_mark, which the relay cannot set",
            help: None,
        })
    })
}

fn value<T>(field: Field<T>, fallback: impl FnOnce() -> T) -> Option<T> {
    match field {
        Field::Given(given) => Some(given.into_inner()),
        Field::Missing => Some(fallback()),
        Field::Invalid => None,
    }
}
