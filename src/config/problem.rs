//! What can be wrong with a configuration, and how it is told.
//!
//! A [`Problem`] is a [`Fault`] at a place. All problems of a file are collected before any
//! is shown, so that one run of `vipsec check` is enough to mend a file.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use super::fault::Fault;
use super::source::{InFile, Source, Sources};
use crate::palette::{Palette, Tone};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used; a human should look soon.
    Warning,
}

/// Something wrong, and where in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    file: InFile,
    pub(super) fault: Fault,
    /// Bytes of the file to point at; `None` when the fault is not in its text.
    pub(super) span: Option<Range<usize>>,
    /// A second place that has to do with it, such as the first use of a name.
    pub(super) related: Option<(Range<usize>, &'static str)>,
}

/// Collects findings while a file is read.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    /// Where the places of what is noted next are.
    file: InFile,
}

impl Findings {
    /// What is noted from here on stands in `file`.
    pub(super) fn enter(&mut self, file: InFile) {
        self.file = file;
    }

    /// Notes `fault` at `span`.
    pub(super) fn add(&mut self, span: &Range<usize>, fault: Fault) {
        self.list.push(Finding {
            file: self.file,
            fault,
            span: Some(span.clone()),
            related: None,
        });
    }

    /// Notes `fault` at `span`, and where else to look.
    pub(super) fn add_related(
        &mut self,
        span: &Range<usize>,
        fault: Fault,
        related: (Range<usize>, &'static str),
    ) {
        self.list.push(Finding {
            file: self.file,
            fault,
            span: Some(span.clone()),
            related: Some(related),
        });
    }

    /// Notes a fault that is not in the file's text.
    pub(super) fn add_without_place(&mut self, fault: Fault) {
        self.list.push(Finding {
            file: self.file,
            fault,
            span: None,
            related: None,
        });
    }

    /// True when something forbids the use of the file.
    pub(super) fn has_errors(&self) -> bool {
        self.list
            .iter()
            .any(|finding| finding.fault.severity() == Severity::Error)
    }

    /// Every fault, in the order in which they were found.
    #[cfg(test)]
    pub(super) fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.list.iter().map(|finding| &finding.fault)
    }

    /// The findings as their readers see them, in the order of the files.
    pub(super) fn into_problems(mut self, sources: &Sources) -> Vec<Problem> {
        self.list.sort_by_key(|finding| {
            let start = finding.span.as_ref().map_or(0, |span| span.start);
            (finding.file, start)
        });
        self.list
            .iter()
            .map(|finding| Problem::new(finding, sources.get(finding.file)))
            .collect()
    }
}

/// A line of a file and the part of it that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    line: usize,
    column: usize,
    text: String,
    indent: String,
    width: usize,
}

/// Something wrong with a configuration, ready to be shown.
///
/// `Display` renders it without colour, in several lines, without a newline at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    severity: Severity,
    headline: String,
    place: Option<Place>,
    file: PathBuf,
    expected: Option<String>,
    help: Option<String>,
    /// Line of a second place, and what is there.
    related: Option<(usize, &'static str)>,
}

impl Problem {
    fn new(finding: &Finding, source: &Source) -> Self {
        let place = finding.span.as_ref().map(|span| {
            let position = source.position(span.start);
            let mut excerpt = source.excerpt(span);
            if matches!(finding.fault, Fault::PskInline { .. }) || excerpt.may_show_a_secret() {
                excerpt = excerpt.without_value();
            }
            Place {
                path: source.path().to_owned(),
                line: position.line,
                column: position.column,
                text: excerpt.text,
                indent: excerpt.indent,
                width: excerpt.width,
            }
        });
        Self {
            severity: finding.fault.severity(),
            headline: finding.fault.to_string(),
            place,
            file: source.path().to_owned(),
            expected: finding.fault.expected(),
            help: finding.fault.help(),
            related: finding
                .related
                .as_ref()
                .map(|(span, what)| (source.position(span.start).line, *what)),
        }
    }

    /// Error or warning.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong, in one line, without the place.
    #[must_use]
    pub fn headline(&self) -> &str {
        &self.headline
    }

    /// Place and headline in one line, for a log: `vipsec.toml:3:9: start cannot be "x"`.
    #[must_use]
    pub fn one_line(&self) -> String {
        match &self.place {
            Some(Place {
                path, line, column, ..
            }) => {
                format!("{}:{line}:{column}: {}", path.display(), self.headline)
            }
            None => format!("{}: {}", self.file.display(), self.headline),
        }
    }

    /// The whole story: headline, place, the line with a mark under it, what was expected
    /// and what to do.
    #[must_use]
    pub fn render(&self, palette: Palette) -> String {
        let (word, tone) = match self.severity {
            Severity::Error => ("error", Tone::Bad),
            Severity::Warning => ("warning", Tone::Warn),
        };
        let mut lines = vec![format!(
            "{}{}",
            palette.paint(tone, word),
            palette.paint(Tone::Strong, &format!(": {}", self.headline))
        )];
        let gutter = self
            .place
            .as_ref()
            .map_or(0, |place| place.line.to_string().len());
        let blank = " ".repeat(gutter);
        if let Some(place) = &self.place {
            let bar = palette.paint(Tone::Dim, "|");
            lines.push(format!(
                "{blank}--> {}:{}:{}",
                place.path.display(),
                place.line,
                place.column
            ));
            lines.push(format!("{blank} {bar}"));
            lines.push(
                format!("{} {bar} {}", place.line, place.text)
                    .trim_end()
                    .to_owned(),
            );
            let mark = palette.paint(tone, &"^".repeat(place.width));
            lines.push(format!("{blank} {bar} {}{mark}", place.indent));
        } else {
            lines.push(format!("--> {}", self.file.display()));
        }
        let mut note = |label: &str, text: &str| {
            let label = palette.paint(Tone::Strong, label);
            lines.push(format!("{blank} = {label}: {text}"));
        };
        if let Some(expected) = &self.expected {
            note("expected", expected);
        }
        if let Some((line, what)) = &self.related {
            note("note", &format!("{what} in line {line}"));
        }
        if let Some(help) = &self.help {
            note("help", help);
        }
        lines.join("\n")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Palette::Plain))
    }
}

/// Why a configuration file cannot be used: every problem of it, at least one of them an
/// error, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    problems: Vec<Problem>,
}

impl ConfigErrors {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// Errors and warnings, in the order of the file.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many of the problems forbid the use of the file.
    #[must_use]
    pub fn error_count(&self) -> usize {
        self.problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
            .count()
    }

    /// All problems, an empty line between them.
    #[must_use]
    pub fn render(&self, palette: Palette) -> String {
        let parts: Vec<String> = self
            .problems
            .iter()
            .map(|problem| problem.render(palette))
            .collect();
        parts.join("\n\n")
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Palette::Plain))
    }
}

impl std::error::Error for ConfigErrors {}
