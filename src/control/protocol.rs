//! Commands and replies, and their form on the wire.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::status::{Counters, Status};

/// Version of the protocol. Another one is refused, not guessed at.
pub const PROTOCOL_VERSION: u32 = 1;

/// Longest request in bytes, newline included.
pub(super) const MAX_REQUEST: usize = 4096;

/// Longest reply in bytes, newline included; thousands of connections fit.
pub(super) const MAX_REPLY: usize = 64 << 20;

/// What a user asks of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Everything, or one connection.
    Status {
        /// Its name; all of them without one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection: Option<String>,
    },
    /// Start a connection. The answer comes at once; its progress is in the status.
    Up {
        /// Its name.
        connection: String,
    },
    /// Delete the SAs of a connection and leave it down.
    Down {
        /// Its name.
        connection: String,
    },
    /// Read the configuration again.
    Reload,
    /// Hand the role over to the partner, or take it from there. The answer comes at once;
    /// the progress is in the status.
    Switchover {
        /// Even if packets would be lost.
        #[serde(default)]
        force: bool,
        /// Only say whether it could be done.
        #[serde(default)]
        dry_run: bool,
    },
    /// Only the counters.
    Counters,
    /// Write session keys into a folder, for Wireshark.
    KeylogOn {
        /// The folder; it must exist.
        directory: PathBuf,
    },
    /// Stop writing session keys.
    KeylogOff,
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", content = "data", rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Command::Status`].
    Status(Box<Status>),
    /// To [`Command::Counters`].
    Counters(Counters),
    /// It is done, or on its way: one line for the user.
    Done(String),
    /// It is not done.
    Refused(Refusal),
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs.
    pub kind: RefusalKind,
    /// For people; several lines when a configuration is refused.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal without advice.
    #[must_use]
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
        }
    }

    /// The same with advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// There is no connection `name`; `known` are those there are.
    #[must_use]
    pub fn unknown_connection<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let hint = if known.is_empty() {
            "no connection is configured".to_owned()
        } else {
            format!("configured: {}", known.join(", "))
        };
        let message = format!("there is no connection \"{name}\"");
        Self::new(RefusalKind::UnknownConnection, message).with_hint(hint)
    }

    /// A switchover without a partner.
    #[must_use]
    pub fn no_partner() -> Self {
        Self::new(RefusalKind::NoPartner, "this gateway has no partner")
            .with_hint("a pair is configured with [pair]: see docs/pair.md")
    }

    /// A switchover that would lose packets, and everything that stands against it.
    #[must_use]
    pub fn not_ready(reasons: impl IntoIterator<Item = impl fmt::Display>) -> Self {
        let reasons: Vec<String> = reasons.into_iter().map(|r| r.to_string()).collect();
        let message = format!(
            "a switchover now would lose packets: {}",
            reasons.join("; ")
        );
        Self::new(RefusalKind::NotReady, message).with_hint(
            "wait until vipsec status says that it is ready, or accept the loss: vipsec switchover --force",
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// No connection of that name.
    UnknownConnection,
    /// The request is not understood.
    BadRequest,
    /// The client speaks another version.
    Version,
    /// The configuration is wrong; the running one stays.
    Config,
    /// There is no partner to hand over to.
    NoPartner,
    /// A switchover would lose packets now.
    NotReady,
    /// It was tried and did not work.
    Failed,
    /// The daemon has no time now.
    Busy,
}

/// Understands one line of a client, newline stripped or not.
///
/// # Errors
/// The [`Refusal`] to answer with.
pub(super) fn decode_command(line: &[u8]) -> Result<Command, Refusal> {
    let mut value = object(line).map_err(|why| Refusal::new(RefusalKind::BadRequest, why))?;
    let version = value.remove("v");
    if version.as_ref().and_then(Value::as_u64) != Some(u64::from(PROTOCOL_VERSION)) {
        let found = version.map_or_else(|| "none".to_owned(), |version| version.to_string());
        let message = format!("the daemon speaks version {PROTOCOL_VERSION}, not {found}");
        return Err(Refusal::new(RefusalKind::Version, message)
            .with_hint("use the vipsec command that belongs to the daemon"));
    }
    serde_json::from_value(Value::Object(value))
        .map_err(|error| Refusal::new(RefusalKind::BadRequest, format!("not a command: {error}")))
}

/// A command as one line.
pub(super) fn encode_command(command: &Command) -> Vec<u8> {
    encode(command)
}

/// A reply as one line.
pub(super) fn encode_reply(reply: &Reply) -> Vec<u8> {
    encode(reply)
}

/// Understands the daemon's line.
pub(super) fn decode_reply(line: &[u8]) -> Result<Reply, String> {
    let mut value = object(line)?;
    let version = value.remove("v").as_ref().and_then(Value::as_u64);
    if version != Some(u64::from(PROTOCOL_VERSION)) {
        return Err("the daemon speaks another version of the protocol".to_owned());
    }
    serde_json::from_value(Value::Object(value)).map_err(|error| error.to_string())
}

fn object(line: &[u8]) -> Result<serde_json::Map<String, Value>, String> {
    match serde_json::from_slice(line) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("not a JSON object".to_owned()),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

fn encode(message: &impl Serialize) -> Vec<u8> {
    // Maps with string keys, numbers and strings: their serialisation has no way to fail.
    let mut value = serde_json::to_value(message).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("v".to_owned(), PROTOCOL_VERSION.into());
    }
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}
