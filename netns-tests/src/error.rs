//! Everything that can go wrong in the lab, in words that name the step.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A step of the lab that did not work. Scenario bodies pass it on with `?`.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The operating system refused a step of the lab itself.
    #[error("{step}: {source}")]
    System {
        /// What was being done.
        step: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A command ran and said no.
    #[error("`{command}` on {host} ended with {status}:\n{output}")]
    Command {
        /// Where it ran.
        host: String,
        /// Its words, separated by blanks.
        command: String,
        /// Exit code or signal.
        status: String,
        /// Standard error, then standard output.
        output: String,
    },
    /// A condition that was awaited did not come true.
    #[error("waited {waited:?} in vain for {what}")]
    Timeout {
        /// The condition.
        what: String,
        /// How long it was awaited.
        waited: Duration,
    },
    /// A program printed something that the lab cannot read.
    #[error("cannot read {what}: {text}")]
    Unreadable {
        /// What was to be read.
        what: &'static str,
        /// The offending text, or the start of it.
        text: String,
    },
    /// A background process ended while it was still needed.
    #[error("{name} ended early ({status}); its log is {log}")]
    Ended {
        /// Name of the process.
        name: String,
        /// Exit code or signal.
        status: String,
        /// Where its output went.
        log: PathBuf,
    },
    /// What arrived is not what was sent.
    #[error("data was damaged on the way: {0}")]
    Damaged(String),
}

impl LabError {
    /// For `map_err`: names the step that an [`io::Error`] belongs to.
    pub fn at<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> Self {
        let step = step.into();
        move |source| Self::System {
            step,
            source: source.into(),
        }
    }

    /// A program's output that makes no sense; keeps the first 400 characters.
    #[must_use]
    pub fn unreadable(what: &'static str, text: &str) -> Self {
        Self::Unreadable {
            what,
            text: text.chars().take(400).collect(),
        }
    }
}

/// What a scenario body returns: any error ends the scenario with its text.
pub type Outcome = Result<(), Box<dyn std::error::Error>>;
