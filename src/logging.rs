//! The log: one line per decision, for people and for journald.
//!
//! Levels, everywhere in the house:
//!
//! | level | what it is for |
//! | --- | --- |
//! | `error` | cannot go on |
//! | `warn` | a human should look soon |
//! | `info` | an SA, a tunnel or a role has changed |
//! | `debug` | a decision off the happy path |
//! | `trace` | a single packet |
//!
//! Secrets are not logged at any level: their types redact themselves.
//!
//! Which lines appear is decided by `VIPSEC_LOG`, else `RUST_LOG`, else `log` in
//! `[gateway]`; all three take directives such as `info` or `info,ikev1=debug`.

use std::fmt;
use std::io::IsTerminal;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Directives that mean nothing.
    #[error(
        "{source_name}: \"{directives}\" is not a log filter; examples: info, debug, info,ikev1=debug"
    )]
    BadDirectives {
        /// The variable or key that they come from.
        source_name: &'static str,
        /// As they were found.
        directives: String,
    },
    /// A log was set up before.
    #[error("the log is set up already")]
    Twice,
}

/// Starts the log on standard error. `configured` is the `log` key of the configuration.
///
/// # Errors
/// [`LogError`] when the directives mean nothing, or at the second call.
pub fn init(configured: &str) -> Result<(), LogError> {
    let (source_name, directives) = choose(|name| std::env::var(name).ok(), configured);
    let filter = check_directives(&directives).map_err(|_| LogError::BadDirectives {
        source_name,
        directives,
    })?;
    let style = Style::choose(
        std::env::var_os("JOURNAL_STREAM").is_some(),
        crate::palette::Palette::for_stderr() == crate::palette::Palette::Colour,
    );
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Complaining about standard error on standard error panics: a log on a full disk
        // would end the daemon.
        .log_internal_errors(false)
        .with_ansi(style == Style::Terminal && std::io::stderr().is_terminal())
        .event_format(Line { style })
        .try_init()
        .map_err(|_| LogError::Twice)
}

/// Directives that do not parse, or that name a level which does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadDirectives;

/// Understands filter directives strictly: `EnvFilter` by itself takes a misspelt level for
/// the name of a module, and then nothing is logged.
pub(crate) fn check_directives(directives: &str) -> Result<EnvFilter, BadDirectives> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in directives.split(',') {
        let level = match directive.split_once('=') {
            Some((target, _)) if target.trim().is_empty() => return Err(BadDirectives),
            Some((_, level)) => level,
            None => directive,
        };
        if !LEVELS.contains(&level.trim().to_ascii_lowercase().as_str()) {
            return Err(BadDirectives);
        }
    }
    EnvFilter::try_new(directives).map_err(|_| BadDirectives)
}

/// The first source that says anything.
fn choose(
    variable: impl Fn(&'static str) -> Option<String>,
    configured: &str,
) -> (&'static str, String) {
    for name in ["VIPSEC_LOG", "RUST_LOG"] {
        if let Some(directives) = variable(name).filter(|value| !value.is_empty()) {
            return (name, directives);
        }
    }
    ("log", configured.to_owned())
}

/// Who reads the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// journald: it has its own clock, and takes the priority from a prefix (sd-daemon(3)).
    Journal,
    /// A terminal with colours.
    Terminal,
    /// A file or a pipe.
    Plain,
}

impl Style {
    fn choose(journal: bool, colour: bool) -> Self {
        match (journal, colour) {
            (true, _) => Self::Journal,
            (false, true) => Self::Terminal,
            (false, false) => Self::Plain,
        }
    }
}

/// The layout of a line: `2026-11-22T13:45:44Z INFO ikev1: IKE SA established connection=...`,
/// or `<6>ikev1: IKE SA established connection=...` for journald.
struct Line {
    style: Style,
}

/// Syslog priority of a level (RFC 5424 §6.2.1).
const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

const fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31;1m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        Level::DEBUG => "\u{1b}[34m",
        Level::TRACE => "\u{1b}[2m",
    }
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        match self.style {
            Style::Journal => write!(writer, "<{}>", priority(level))?,
            Style::Plain => {
                SystemTime.format_time(&mut writer)?;
                write!(writer, " {level:>5} ")?;
            }
            Style::Terminal => {
                write!(writer, "\u{1b}[2m")?;
                SystemTime.format_time(&mut writer)?;
                write!(writer, "\u{1b}[0m {}{level:>5}\u{1b}[0m ", colour(level))?;
            }
        }
        write!(writer, "{}: ", event.metadata().target())?;
        if let Some(scope) = context.event_scope() {
            for span in scope.from_root() {
                write!(writer, "{}", span.name())?;
                if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                    && !fields.is_empty()
                {
                    write!(writer, "{{{fields}}}")?;
                }
                write!(writer, ": ")?;
            }
        }
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn the_environment_wins_over_the_file() {
        let none = |_: &'static str| None;
        assert_eq!(choose(none, "warn"), ("log", "warn".to_owned()));
        let rust = |name: &'static str| (name == "RUST_LOG").then(|| "debug".to_owned());
        assert_eq!(choose(rust, "warn"), ("RUST_LOG", "debug".to_owned()));
        let both = |name: &'static str| Some(name.to_owned());
        assert_eq!(choose(both, "warn").0, "VIPSEC_LOG");
        let empty = |_: &'static str| Some(String::new());
        assert_eq!(choose(empty, "warn").0, "log");
    }

    #[test]
    fn a_misspelt_level_is_refused() {
        for good in [
            "info",
            "INFO",
            "off",
            "info,ikev1=debug",
            "ikev1::wire=trace, warn",
        ] {
            assert!(check_directives(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "inof",
            "loud",
            "info,",
            "ikev1",
            "ikev1=loud",
            "=info",
            "info;debug",
        ] {
            assert!(check_directives(bad).is_err(), "{bad}");
        }
    }

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(style: Style) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .event_format(Line { style })
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "ikev1", connection = "azure", "no common proposal");
        });
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_journal_gets_a_priority_and_no_clock() {
        assert_eq!(
            logged(Style::Journal),
            "<4>ikev1: no common proposal connection=\"azure\"\n"
        );
    }

    #[test]
    fn a_file_gets_a_clock_and_no_priority() {
        let line = logged(Style::Plain);
        let (clock, rest) = line.split_once(' ').unwrap();
        assert!(clock.ends_with('Z') && clock.contains('T'), "{clock}");
        assert_eq!(
            rest,
            " WARN ikev1: no common proposal connection=\"azure\"\n"
        );
    }
}
