//! Typed reading of a parsed file that does not stop at the first fault.
//!
//! Why not plain `derive(Deserialize)`: it gives up at the first wrong key or type, and a
//! user who mends one fault at a time is a user who swears. The parser is `toml`'s, with
//! its spans; what is here is only the walk over its tree.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{EXPECTED_DURATION, Fault, SecretKind};
use super::problem::Findings;

/// What stands at a key.
#[derive(Debug, Clone, Default)]
pub(super) enum Field<T> {
    /// Nothing: the default applies.
    #[default]
    Missing,
    /// Something that has already been reported as wrong; no default may replace it.
    Invalid,
    /// A value of the right type.
    Given(Spanned<T>),
}

impl<T> Field<T> {
    /// The value with its place, if there is one.
    pub(super) fn given(&self) -> Option<&Spanned<T>> {
        match self {
            Self::Given(value) => Some(value),
            Self::Missing | Self::Invalid => None,
        }
    }

    /// The same as an option, for settings that may be absent.
    pub(super) fn some(self) -> Field<Option<T>> {
        match self {
            Self::Missing => Field::Missing,
            Self::Invalid => Field::Invalid,
            Self::Given(given) => {
                let span = given.span();
                Field::Given(Spanned::new(span, Some(given.into_inner())))
            }
        }
    }

    /// True when nobody wrote anything there.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    /// The place of the value, or `section` when there is none.
    pub(super) fn span_or(&self, section: &Range<usize>) -> Range<usize> {
        self.given().map_or_else(|| section.clone(), Spanned::span)
    }
}

/// A type that a TOML value can become.
pub(super) trait FromToml: Sized {
    /// What a user should write there.
    const EXPECTED: &'static str;

    /// Reads `value`, which stands at `key`; reports what is wrong with it.
    fn from_toml(
        key: &str,
        value: &DeValue<'_>,
        span: &Range<usize>,
        findings: &mut Findings,
    ) -> Option<Self>;
}

/// A key of a section: enough to check a file, to suggest a correction and to document it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// As the file writes it.
    pub(super) name: &'static str,
    /// What a user should write there.
    pub(super) expected: &'static str,
}

/// A section of the file as a struct of [`Field`]s.
pub(super) trait Section: Sized {
    /// The section's header as a user writes it; empty for the file's top.
    const HEADER: &'static str;
    /// Its keys and its sections.
    const KEYS: &'static [Key];

    /// The place of its header.
    fn span(&self) -> &Range<usize>;

    /// Reads every key of `table`; reports unknown keys and wrong types.
    fn read(table: &DeTable<'_>, span: &Range<usize>, findings: &mut Findings) -> Self;
}

/// Reads one key. A missing key is no fault here: what is required, the resolver knows.
pub(super) fn field<T: FromToml>(
    table: &DeTable<'_>,
    key: &'static str,
    findings: &mut Findings,
) -> Field<T> {
    let Some(value) = table.get(key) else {
        return Field::Missing;
    };
    let span = value.span();
    match T::from_toml(key, value.get_ref(), &span, findings) {
        Some(read) => Field::Given(Spanned::new(span, read)),
        None => Field::Invalid,
    }
}

/// Reports every key of `table` that is not among `known`.
pub(super) fn refuse_unknown<S: Section>(table: &DeTable<'_>, findings: &mut Findings) {
    for key in table.keys() {
        let name: &str = key.get_ref();
        if S::KEYS.iter().any(|known| known.name == name) {
            continue;
        }
        let looks_secret = matches!(
            name,
            "psk" | "secret" | "key" | "password" | "pre_shared_key"
        );
        let secret = match S::HEADER {
            "[[connection]]" => Some(SecretKind::PreSharedKey),
            "[pair]" => Some(SecretKind::PairSecret),
            _ => None,
        };
        let fault = match secret {
            Some(kind) if looks_secret => Fault::PskInline { kind },
            _ => Fault::UnknownKey {
                section: S::HEADER,
                key: name.to_owned(),
                known: S::KEYS.iter().map(|known| known.name).collect(),
            },
        };
        findings.add(&key.span(), fault);
    }
}

/// Declares a section: the struct of its fields, and the list of its keys, from one place.
macro_rules! section {
    ($(#[$outer:meta])* $name:ident, $header:literal {
        $( $(#[$inner:meta])* $field:ident: $kind:ty, )*
    }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Default)]
        pub(super) struct $name {
            span: std::ops::Range<usize>,
            $( $(#[$inner])* pub(super) $field: $crate::config::document::Field<$kind>, )*
        }

        impl $crate::config::document::Section for $name {
            const HEADER: &'static str = $header;
            const KEYS: &'static [$crate::config::document::Key] = &[
                $( $crate::config::document::Key {
                    name: stringify!($field),
                    expected: <$kind as $crate::config::document::FromToml>::EXPECTED,
                }, )*
            ];

            fn span(&self) -> &std::ops::Range<usize> {
                &self.span
            }

            fn read(
                table: &toml::de::DeTable<'_>,
                span: &std::ops::Range<usize>,
                findings: &mut $crate::config::problem::Findings,
            ) -> Self {
                $crate::config::document::refuse_unknown::<Self>(table, findings);
                Self {
                    span: span.clone(),
                    $( $field: $crate::config::document::field(table, stringify!($field), findings), )*
                }
            }
        }
    };
}
pub(super) use section;

fn wrong_type(
    key: &str,
    value: &DeValue<'_>,
    expected: &'static str,
    span: &Range<usize>,
    findings: &mut Findings,
) {
    findings.add(
        span,
        Fault::WrongType {
            key: key.to_owned(),
            found: type_name(value),
            expected,
        },
    );
}

/// The type of a value in a user's words.
fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

impl FromToml for String {
    const EXPECTED: &'static str = "a string in double quotes";

    fn from_toml(
        key: &str,
        value: &DeValue<'_>,
        span: &Range<usize>,
        findings: &mut Findings,
    ) -> Option<Self> {
        let Some(text) = value.as_str() else {
            wrong_type(key, value, Self::EXPECTED, span, findings);
            return None;
        };
        Some(text.to_owned())
    }
}

impl FromToml for bool {
    const EXPECTED: &'static str = "true or false, without quotes";

    fn from_toml(
        key: &str,
        value: &DeValue<'_>,
        span: &Range<usize>,
        findings: &mut Findings,
    ) -> Option<Self> {
        let truth = value.as_bool();
        if truth.is_none() {
            wrong_type(key, value, Self::EXPECTED, span, findings);
        }
        truth
    }
}

impl FromToml for i64 {
    const EXPECTED: &'static str = "a whole number, without quotes";

    fn from_toml(
        key: &str,
        value: &DeValue<'_>,
        span: &Range<usize>,
        findings: &mut Findings,
    ) -> Option<Self> {
        let number = integer(value);
        if let (None, Some(literal)) = (number, value.as_integer()) {
            findings.add(
                span,
                Fault::OutOfRange {
                    key: key.to_owned(),
                    found: literal.to_string(),
                    expected: "a number of at most 63 bits".to_owned(),
                },
            );
        } else if number.is_none() {
            wrong_type(key, value, Self::EXPECTED, span, findings);
        }
        number
    }
}

/// The text of a duration, still to be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DurationText(pub(super) String);

impl FromToml for DurationText {
    const EXPECTED: &'static str = EXPECTED_DURATION;

    fn from_toml(
        key: &str,
        value: &DeValue<'_>,
        span: &Range<usize>,
        findings: &mut Findings,
    ) -> Option<Self> {
        if let Some(text) = value.as_str() {
            return Some(Self(text.to_owned()));
        }
        match integer(value) {
            Some(number) => findings.add(
                span,
                Fault::DurationWithoutUnit {
                    key: key.to_owned(),
                    number,
                },
            ),
            None => wrong_type(key, value, Self::EXPECTED, span, findings),
        }
        None
    }
}

/// A word or a number, as `mss` and `protocol` take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WordOrNumber {
    /// In quotes.
    Word(String),
    /// Without quotes.
    Number(i64),
}

impl FromToml for WordOrNumber {
    const EXPECTED: &'static str = "a word in double quotes or a whole number";

    fn from_toml(
        key: &str,
        value: &DeValue<'_>,
        span: &Range<usize>,
        findings: &mut Findings,
    ) -> Option<Self> {
        if let Some(word) = value.as_str() {
            return Some(Self::Word(word.to_owned()));
        }
        if let Some(number) = integer(value) {
            return Some(Self::Number(number));
        }
        wrong_type(key, value, Self::EXPECTED, span, findings);
        None
    }
}

impl FromToml for Vec<Spanned<String>> {
    const EXPECTED: &'static str = "a list of strings, as in [\"...\", \"...\"]";

    fn from_toml(
        key: &str,
        value: &DeValue<'_>,
        span: &Range<usize>,
        findings: &mut Findings,
    ) -> Option<Self> {
        let Some(array) = value.as_array() else {
            wrong_type(key, value, Self::EXPECTED, span, findings);
            return None;
        };
        let mut list = Self::with_capacity(array.len());
        let mut complete = true;
        for item in array.iter() {
            match String::from_toml(key, item.get_ref(), &item.span(), findings) {
                Some(text) => list.push(Spanned::new(item.span(), text)),
                None => complete = false,
            }
        }
        complete.then_some(list)
    }
}

/// A section within a section: `[connection.phase1]`.
#[derive(Debug, Clone)]
pub(super) struct Table<S>(pub(super) S);

impl<S: Section> FromToml for Table<S> {
    const EXPECTED: &'static str = "a section of its own in single brackets";

    fn from_toml(
        key: &str,
        value: &DeValue<'_>,
        span: &Range<usize>,
        findings: &mut Findings,
    ) -> Option<Self> {
        let Some(table) = value.as_table() else {
            wrong_type(key, value, Self::EXPECTED, span, findings);
            return None;
        };
        Some(Self(S::read(table, span, findings)))
    }
}

/// A section that may stand several times: `[[connection]]`.
#[derive(Debug, Clone)]
pub(super) struct Tables<S>(pub(super) Vec<S>);

impl<S: Section> FromToml for Tables<S> {
    const EXPECTED: &'static str = "an array of tables, each with its header in double brackets";

    fn from_toml(
        key: &str,
        value: &DeValue<'_>,
        span: &Range<usize>,
        findings: &mut Findings,
    ) -> Option<Self> {
        let Some(array) = value.as_array() else {
            let key = S::HEADER.trim_matches(['[', ']']);
            wrong_type(key, value, Self::EXPECTED, span, findings);
            return None;
        };
        let mut list = Vec::with_capacity(array.len());
        let mut complete = true;
        for item in array.iter() {
            let Some(table) = item.get_ref().as_table() else {
                wrong_type(key, item.get_ref(), Self::EXPECTED, &item.span(), findings);
                complete = false;
                continue;
            };
            list.push(S::read(table, &item.span(), findings));
        }
        complete.then_some(Self(list))
    }
}
