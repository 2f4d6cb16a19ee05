//! What goes to standard output and standard error, and the exit codes.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::config::ConfigErrors;
use crate::control::{ClientError, Refusal, RefusalKind};
use crate::palette::{Palette, Tone};
use crate::stdout;

/// Why a command did not do what it should.
#[derive(Debug)]
pub(super) enum Failure {
    /// It did not work.
    Wrong {
        /// What.
        message: String,
        /// What to do next.
        hint: Option<String>,
    },
    /// The configuration cannot be used.
    Config(ConfigErrors),
    /// The daemon cannot be asked.
    Client(ClientError),
    /// The daemon refused.
    Refused(Refusal),
    /// It was started and was not done in time.
    NotInTime {
        /// What.
        message: String,
        /// What to do next.
        hint: String,
    },
    /// Nobody reads our output any more: nothing to complain about.
    OutputClosed,
}

impl Failure {
    /// It did not work, and there is no advice.
    pub(super) fn wrong(message: impl Into<String>) -> Self {
        Self::Wrong {
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::OutputClosed => 0,
            Self::Refused(refusal) if refusal.kind == RefusalKind::Config => 3,
            Self::Wrong { .. } | Self::Refused(_) => 1,
            Self::Config(_) => 3,
            Self::Client(_) => 4,
            Self::NotInTime { .. } => 5,
        })
    }

    fn message(&self) -> String {
        match self {
            Self::Wrong { message, .. } | Self::NotInTime { message, .. } => message.clone(),
            Self::Config(errors) => {
                let count = errors.error_count();
                let noun = if count == 1 { "error" } else { "errors" };
                format!("the configuration has {count} {noun}")
            }
            Self::Client(error) => error.to_string(),
            Self::Refused(refusal) if refusal.kind == RefusalKind::Config => {
                "the daemon refused the configuration".to_owned()
            }
            Self::Refused(refusal) => refusal.to_string(),
            Self::OutputClosed => String::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Wrong { hint, .. } => hint.clone(),
            Self::NotInTime { hint, .. } => Some(hint.clone()),
            Self::Client(error) => Some(error.hint().to_owned()),
            Self::Refused(refusal) => refusal.hint.clone(),
            Self::Config(_) | Self::OutputClosed => None,
        }
    }

    /// The complaint as it goes to standard error; empty for none.
    fn render(&self, palette: Palette) -> String {
        if matches!(self, Self::OutputClosed) {
            return String::new();
        }
        let mut text = match self {
            Self::Config(errors) => format!("{}\n\n", errors.render(palette)),
            Self::Refused(refusal) if refusal.kind == RefusalKind::Config => {
                format!("{refusal}\n\n")
            }
            _ => String::new(),
        };
        text += &format!(
            "{}: {}\n",
            palette.paint(Tone::Bad, "vipsec"),
            self.message()
        );
        if let Some(hint) = self.hint() {
            text += &format!("{}\n", palette.paint(Tone::Dim, &format!("        {hint}")));
        }
        text
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::Config(errors)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

/// Tells the user what went wrong.
pub(super) fn complain(failure: &Failure) {
    note(&failure.render(Palette::for_stderr()));
}

/// Writes to standard error. A closed one is nobody's business.
pub(super) fn note(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Writes a result to standard output.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    stdout::write(text).map_err(|error| match error.kind() {
        // `vipsec status | head` is no failure.
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::wrong(format!("cannot write the result: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_says_what_to_do() {
        let failure = Failure::Client(ClientError::NotRunning("/run/vipsec/vipsec.sock".into()));
        assert_eq!(
            failure.render(Palette::Plain),
            "vipsec: no daemon answers at /run/vipsec/vipsec.sock\n        \
             is it running? systemctl status vipsec, or sudo vipsec run; another socket: --socket PATH\n"
        );
        let failure = Failure::Client(ClientError::Forbidden("/run/vipsec/vipsec.sock".into()));
        assert_eq!(
            failure.render(Palette::Plain),
            "vipsec: we may not open /run/vipsec/vipsec.sock\n        \
             the control socket belongs to root: try sudo\n"
        );
        let failure = Failure::Refused(Refusal::unknown_connection("azzure", ["azure"]));
        assert_eq!(
            failure.render(Palette::Plain),
            "vipsec: there is no connection \"azzure\"\n        configured: azure\n"
        );
    }

    #[test]
    fn every_kind_of_failure_has_its_exit_code() {
        let code = |failure: Failure| format!("{:?}", failure.code());
        let is = |number: u8| format!("{:?}", ExitCode::from(number));
        assert_eq!(code(Failure::OutputClosed), is(0));
        assert_eq!(code(Failure::wrong("x")), is(1));
        assert_eq!(
            code(Failure::Refused(Refusal::new(RefusalKind::Busy, "x"))),
            is(1)
        );
        assert_eq!(code(Failure::Client(ClientError::Timeout)), is(4));
        let late = Failure::NotInTime {
            message: String::new(),
            hint: String::new(),
        };
        assert_eq!(code(late), is(5));
        let errors = crate::config::load(std::path::Path::new("/nonexistent.toml")).unwrap_err();
        assert_eq!(code(Failure::Config(errors)), is(3));
    }

    #[test]
    fn nobody_hears_about_a_closed_pipe() {
        assert_eq!(Failure::OutputClosed.render(Palette::Plain), "");
    }
}
