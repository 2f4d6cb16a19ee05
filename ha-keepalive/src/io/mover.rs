//! The `exec` mover: for networks where ARP means nothing, a program of the user's moves the
//! address, by re-associating a public IP or rewriting a route table.
//!
//! The program is started directly, without a shell, with a clean environment:
//!
//! | variable | value |
//! | --- | --- |
//! | `VIPSEC_EVENT` | `active` or `standby`: what this node has just become |
//! | `VIPSEC_NODE` | this node's configured name |
//! | `VIPSEC_EPOCH` | number of the activation; the higher one is the newer |
//! | `VIPSEC_ADDRESSES` | the virtual addresses, separated by spaces |
//! | `VIPSEC_REASON` | one sentence |
//! | `VIPSEC_TIMEOUT_MS` | how long it may take before it is killed |
//! | `PATH` | `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin` |
//!
//! It must be idempotent: it may run again for the same event, and `standby` may run without an
//! `active` before it. Exit status 0 is success; everything else, and a timeout, is logged with
//! the last line it wrote to standard error. A new event kills a run of the one before.

use core::time::Duration;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::vocabulary::Epoch;

/// What this node has just become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MoverEvent {
    /// The addresses belong here.
    Active,
    /// They do not.
    Standby,
}

impl MoverEvent {
    const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Standby => "standby",
        }
    }
}

/// The configured program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mover {
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Its arguments, passed as they are.
    pub arguments: Vec<String>,
    /// When it is killed.
    pub timeout: Duration,
}

/// What the program is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Became active or standby.
    pub event: MoverEvent,
    /// This node's name.
    pub node: String,
    /// The claim in force.
    pub epoch: Epoch,
    /// The virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// Why.
    pub reason: String,
}

/// The program did not do it.
#[derive(Debug, thiserror::Error)]
pub enum MoverFailed {
    /// It could not be started.
    #[error("the mover cannot be started: {0}")]
    Start(#[source] io::Error),
    /// It was killed after its time.
    #[error("the mover was killed after {0:?}")]
    Timeout(Duration),
    /// It said no.
    #[error("the mover failed ({status}): {message}")]
    Failed {
        /// Exit status, or the signal.
        status: String,
        /// Last line on standard error.
        message: String,
    },
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What is kept of standard error, in bytes.
const MAX_MESSAGE: usize = 4096;

impl Mover {
    /// Runs the program to its end. Dropping the future kills it.
    ///
    /// # Errors
    /// [`MoverFailed`], for the log.
    pub async fn run(&self, what: &Move) -> Result<(), MoverFailed> {
        let addresses: Vec<String> = what.addresses.iter().map(IpAddr::to_string).collect();
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("VIPSEC_EVENT", what.event.name())
            .env("VIPSEC_NODE", &what.node)
            .env("VIPSEC_EPOCH", what.epoch.to_string())
            .env("VIPSEC_ADDRESSES", addresses.join(" "))
            .env("VIPSEC_REASON", &what.reason)
            .env("VIPSEC_TIMEOUT_MS", self.timeout.as_millis().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(MoverFailed::Start)?;
        let stderr = child.stderr.take();
        let ended = async {
            let text = match stderr {
                Some(stderr) => tail_of(stderr).await,
                None => Vec::new(),
            };
            (child.wait().await, text)
        };
        let Ok((status, text)) = tokio::time::timeout(self.timeout, ended).await else {
            return Err(MoverFailed::Timeout(self.timeout));
        };
        let status = status.map_err(MoverFailed::Start)?;
        if status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&text);
        Err(MoverFailed::Failed {
            status: status.to_string(),
            message: text.lines().last().unwrap_or_default().to_owned(),
        })
    }
}

/// The end of what a program writes; all of it is read, so that it never writes into a closed
/// pipe.
async fn tail_of(mut stream: impl AsyncReadExt + Unpin) -> Vec<u8> {
    let mut tail = Vec::new();
    let mut chunk = [0; 1024];
    // A program that hides its reason has still failed or not.
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        tail.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let excess = tail.len().saturating_sub(MAX_MESSAGE);
        tail.drain(..excess);
    }
    tail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, timeout_ms: u64) -> Result<(), MoverFailed> {
        let mover = Mover {
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            timeout: Duration::from_millis(timeout_ms),
        };
        let what = Move {
            event: MoverEvent::Active,
            node: "gw-a".to_owned(),
            epoch: Epoch(7),
            addresses: vec!["192.0.2.1".parse().unwrap(), "10.0.0.1".parse().unwrap()],
            reason: "a test; $(reboot)".to_owned(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(mover.run(&what))
    }

    #[test]
    fn the_environment_is_as_documented() {
        let script = r#"
            [ "$VIPSEC_EVENT" = active ] && [ "$VIPSEC_NODE" = gw-a ] &&
            [ "$VIPSEC_EPOCH" = 7 ] && [ "$VIPSEC_ADDRESSES" = "192.0.2.1 10.0.0.1" ] &&
            [ "$VIPSEC_REASON" = 'a test; $(reboot)' ] && [ "$VIPSEC_TIMEOUT_MS" = 5000 ] &&
            [ -z "$HOME" ]"#;
        run(script, 5000).unwrap();
    }

    #[test]
    fn a_failure_tells_the_last_line() {
        let failed = run("echo one >&2; echo no such route >&2; exit 3", 5000).unwrap_err();
        let text = failed.to_string();
        assert!(
            text.contains('3') && text.ends_with("no such route"),
            "{text}"
        );
    }

    #[test]
    fn a_program_may_write_as_much_as_it_likes() {
        let failed = run("seq 1 20000 >&2; echo the end >&2; exit 1", 5000).unwrap_err();
        assert!(failed.to_string().ends_with("the end"), "{failed}");
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let failed = run("exec sleep 60", 50).unwrap_err();
        assert!(matches!(failed, MoverFailed::Timeout(_)));
    }
}
