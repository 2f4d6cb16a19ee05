//! Settling one setting after the other, and remembering where each value came from.

use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::Context;
use super::outline::Outline;
use crate::config::document::{DurationText, Field};
use crate::config::explain::{Explanation, Origin, Setting};
use crate::config::fault::{EXPECTED_DURATION, Fault};
use crate::config::files::Files;
use crate::config::problem::Findings;
use crate::config::profile::{Profile, Values};
use crate::config::source::Source;
use crate::config::value::{format_duration, parse_duration};

impl<T> Field<T> {
    /// Understands a value; what cannot be understood is noted and becomes
    /// [`Field::Invalid`].
    pub(super) fn understand<U>(
        &self,
        findings: &mut Findings,
        understand: impl FnOnce(&T) -> Result<U, Fault>,
    ) -> Field<U> {
        let given = match self {
            Self::Missing => return Field::Missing,
            Self::Invalid => return Field::Invalid,
            Self::Given(given) => given,
        };
        match understand(given.get_ref()) {
            Ok(value) => Field::Given(Spanned::new(given.span(), value)),
            Err(fault) => {
                findings.add(&given.span(), fault);
                Field::Invalid
            }
        }
    }
}

/// One of a few words.
pub(super) fn one_of<T: Copy>(
    field: &Field<String>,
    key: &str,
    words: &[(&'static str, T)],
    findings: &mut Findings,
) -> Field<T> {
    field.understand(findings, |found| {
        words
            .iter()
            .find(|(word, _)| word == found)
            .map(|(_, value)| *value)
            .ok_or_else(|| Fault::NotOneOf {
                key: key.to_owned(),
                found: found.clone(),
                allowed: words.iter().map(|(word, _)| *word).collect(),
            })
    })
}

/// A duration within bounds.
pub(super) fn duration(
    field: &Field<DurationText>,
    key: &str,
    bounds: RangeInclusive<Duration>,
    findings: &mut Findings,
) -> Field<Duration> {
    field.understand(findings, |DurationText(found)| {
        let Some(duration) = parse_duration(found) else {
            let help = found
                .parse::<u64>()
                .ok()
                .map(|number| format!("if seconds are meant: \"{number}s\""));
            return Err(Fault::Malformed {
                key: key.to_owned(),
                found: found.clone(),
                expected: EXPECTED_DURATION,
                help,
            });
        };
        if bounds.contains(&duration) {
            return Ok(duration);
        }
        let (least, most) = (
            format_duration(*bounds.start()),
            format_duration(*bounds.end()),
        );
        Err(Fault::OutOfRange {
            key: key.to_owned(),
            found: format!("\"{found}\""),
            expected: format!("\"{least}\" to \"{most}\""),
        })
    })
}

/// A whole number within bounds, which must lie within those of `T`.
pub(super) fn number<T: TryFrom<i64>>(
    field: &Field<i64>,
    key: &str,
    bounds: RangeInclusive<i64>,
    findings: &mut Findings,
) -> Field<T> {
    field.understand(findings, |&found| {
        let fits = bounds.contains(&found).then(|| T::try_from(found).ok());
        fits.flatten().ok_or_else(|| Fault::OutOfRange {
            key: key.to_owned(),
            found: found.to_string(),
            expected: format!("{} to {}", bounds.start(), bounds.end()),
        })
    })
}

/// Notes that `key` must be in the section with this header and place, when it is not.
pub(super) fn missing<T>(
    field: &Field<T>,
    (section, place): (&'static str, &Range<usize>),
    key: &'static str,
    expected: &'static str,
    findings: &mut Findings,
) {
    if field.is_missing() {
        let fault = Fault::MissingKey {
            section,
            key,
            expected,
        };
        findings.add(place, fault);
    }
}

/// A connection, or the pair, as its settings are settled, one after the other.
pub(super) struct Draft<'a> {
    pub(super) source: &'a Source,
    pub(super) files: &'a dyn Files,
    pub(super) findings: &'a mut Findings,
    /// What the other connections must agree with.
    pub(super) outline: Outline,
    /// The profile that gives what the file leaves out.
    pub(super) profile: Profile,
    /// False when the file names a profile that there is not: then the profile's own
    /// demands are not held against the rest of the connection.
    pub(super) profile_known: bool,
    /// The header of the section that is drafted.
    header: &'static str,
    explanation: Explanation,
}

impl<'a> Draft<'a> {
    pub(super) fn new(context: &'a mut Context<'_>, header: &'static str) -> Self {
        Self {
            source: context.source,
            files: context.files,
            findings: context.findings,
            outline: Outline::default(),
            profile: Profile::default(),
            profile_known: true,
            header,
            explanation: Explanation::default(),
        }
    }

    /// What it came to, apart from its value.
    pub(super) fn finish(self) -> (Outline, Explanation) {
        (self.outline, self.explanation)
    }

    /// `path` as the file means it: relative to the folder that the file is in.
    pub(super) fn beside_the_file(&self, path: &str) -> PathBuf {
        let folder = self.source.path().parent().unwrap_or(Path::new(""));
        folder.join(path)
    }

    /// The profile's value as a fallback. It is called a default where the generic profile
    /// has the same.
    pub(super) fn profile_value<T: PartialEq>(&self, value: impl Fn(&Values) -> T) -> (T, Origin) {
        let own = value(self.profile.values());
        let origin = if own == value(Profile::Generic.values()) {
            Origin::Default
        } else {
            Origin::Profile(self.profile)
        };
        (own, origin)
    }

    /// Notes that a key must be in the drafted section, when it is not.
    pub(super) fn require<T>(
        &mut self,
        field: &Field<T>,
        place: &Range<usize>,
        key: &'static str,
        expected: &'static str,
    ) {
        missing(field, (self.header, place), key, expected, self.findings);
    }

    /// The value of a setting that has no default. That it is missing has been noted.
    pub(super) fn settle_required<T>(
        &mut self,
        key: &'static str,
        field: Field<T>,
        show: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let Field::Given(given) = field else {
            return None;
        };
        let line = self.source.position(given.span().start).line;
        let value = given.into_inner();
        self.note(key, show(&value), Origin::Line(line));
        Some(value)
    }

    /// Remembers a setting for `check --explain`.
    pub(super) fn note(&mut self, key: &'static str, value: String, origin: Origin) {
        self.explanation
            .settings
            .push(Setting { key, value, origin });
    }

    /// The value of a setting: the file's, else the fallback; `None` when the file's is wrong.
    pub(super) fn settle<T>(
        &mut self,
        key: &'static str,
        field: Field<T>,
        fallback: (T, Origin),
        show: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let (value, origin) = match field {
            Field::Invalid => return None,
            Field::Missing => fallback,
            Field::Given(given) => {
                let line = self.source.position(given.span().start).line;
                (given.into_inner(), Origin::Line(line))
            }
        };
        self.note(key, show(&value), origin);
        Some(value)
    }

    /// [`Draft::settle`] for a duration.
    pub(super) fn settle_duration(
        &mut self,
        key: &'static str,
        field: Field<Duration>,
        fallback: (Duration, Origin),
    ) -> Option<Duration> {
        self.settle(key, field, fallback, |value| {
            quoted(&format_duration(*value))
        })
    }
}

/// A string as a file has it.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// A list of strings as a file has it.
pub(super) fn quoted_list<T: ToString>(values: &[T]) -> String {
    let quoted: Vec<String> = values
        .iter()
        .map(|value| quoted(&value.to_string()))
        .collect();
    format!("[{}]", quoted.join(", "))
}

/// The word for a value, in quotes.
pub(super) fn word_for<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> String {
    let word = words.iter().find(|(_, known)| known == value);
    quoted(word.map_or("", |(word, _)| word))
}
