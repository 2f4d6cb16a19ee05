//! The text of a configuration file, and where in it a byte stands.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// Longest part of a line that an excerpt shows, in characters.
const EXCERPT_WIDTH: usize = 100;

/// A configuration file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    path: PathBuf,
    text: String,
}

/// Which of the files something stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum InFile {
    /// The one that was asked for.
    #[default]
    Main,
    /// The file of connections that `[pair]` names.
    Connections,
}

/// The texts that make one configuration.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    pub(super) main: Source,
    /// The file of connections, if there is one and it could be read.
    pub(super) connections: Option<Source>,
}

impl Sources {
    /// The text of `file`.
    pub(super) fn get(&self, file: InFile) -> &Source {
        match file {
            InFile::Main => &self.main,
            InFile::Connections => self.connections.as_ref().unwrap_or(&self.main),
        }
    }
}

/// A place in the file as editors count it: lines and characters from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// Line, from 1.
    pub(super) line: usize,
    /// Character within the line, from 1.
    pub(super) column: usize,
}

/// One line of the file with the part to point at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    /// The line, control characters made visible.
    pub(super) text: String,
    /// Blanks (and tabs, where the line has them) up to the marked part.
    pub(super) indent: String,
    /// Characters to mark, at least 1.
    pub(super) width: usize,
}

impl Excerpt {
    /// True for a line that sets a key in the place of naming a file with one.
    pub(super) fn may_show_a_secret(&self) -> bool {
        let key = self.text.split('=').next().unwrap_or("").trim();
        let key = key.trim_matches(['"', '\'']);
        matches!(
            key,
            "psk" | "secret" | "key" | "password" | "pre_shared_key"
        )
    }

    /// The same line without its value; the mark goes to its key.
    pub(super) fn without_value(self) -> Self {
        let key = self.text.split('=').next().unwrap_or("").trim();
        Self {
            text: format!("{key} = (hidden)"),
            indent: String::new(),
            width: key.chars().count().max(1),
        }
    }
}

impl Source {
    pub(super) fn new(path: &Path, text: String) -> Self {
        Self {
            path: path.to_owned(),
            text,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Where byte `offset` stands; an offset past the end is the end.
    pub(super) fn position(&self, offset: usize) -> Position {
        let before = self.text.get(..self.floor(offset)).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or("").chars().count() + 1,
        }
    }

    /// The line in which `span` begins, with the part of `span` that lies in that line.
    pub(super) fn excerpt(&self, span: &Range<usize>) -> Excerpt {
        let start = self.floor(span.start);
        let before = self.text.get(..start).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.text.get(line_start..).unwrap_or("");
        let line = line.lines().next().unwrap_or("");
        let from = start - line_start;
        let to = self.floor(span.end).saturating_sub(line_start).max(from);

        let marked = line
            .get(from.min(line.len())..to.min(line.len()))
            .unwrap_or("");
        let lead = line.get(..from.min(line.len())).unwrap_or("");
        // Of a long line only a window is shown, and the marked part begins inside it.
        let skipped = if line.chars().count() > EXCERPT_WIDTH {
            lead.chars().count().saturating_sub(EXCERPT_WIDTH / 2)
        } else {
            0
        };
        let text: String = line.chars().skip(skipped).take(EXCERPT_WIDTH).collect();
        let shown = text.chars().count();
        let indent: String = lead
            .chars()
            .skip(skipped)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let room = shown.saturating_sub(indent.chars().count()).max(1);
        Excerpt {
            text: text.chars().map(visible).collect(),
            width: marked.chars().count().clamp(1, room),
            indent,
        }
    }

    /// The nearest character boundary at or below `offset`.
    fn floor(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

/// Control characters must not reach a terminal; a tab may.
fn visible(c: char) -> char {
    if c.is_control() && c != '\t' {
        '\u{fffd}'
    } else {
        c
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new(Path::new("a.toml"), text.to_owned())
    }

    #[test]
    fn positions_count_characters_from_one() {
        let source = source("a = 1\nö = 2\n");
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        assert_eq!(source.position(6), Position { line: 2, column: 1 });
        // "ö" is two bytes, one column.
        assert_eq!(source.position(8), Position { line: 2, column: 2 });
        assert_eq!(source.position(7), Position { line: 2, column: 1 });
        assert_eq!(source.position(999), Position { line: 3, column: 1 });
    }

    #[test]
    fn an_excerpt_marks_the_span_within_its_first_line() {
        let excerpt = source("x\n\tkey = 12\ny").excerpt(&(9..11));
        assert_eq!(excerpt.text, "\tkey = 12");
        assert_eq!(excerpt.indent, "\t      ");
        assert_eq!(excerpt.width, 2);
    }

    #[test]
    fn an_empty_or_reversed_span_still_has_a_mark() {
        assert_eq!(source("").excerpt(&(0..0)).width, 1);
        let reversed = Range { start: 3, end: 1 };
        assert_eq!(source("abcdef").excerpt(&reversed).width, 1);
    }

    #[test]
    fn a_long_line_shows_a_window_around_the_mark() {
        let text = format!("{}key{}", " ".repeat(400), "x".repeat(400));
        let excerpt = source(&text).excerpt(&(400..403));
        assert_eq!(excerpt.text.chars().count(), EXCERPT_WIDTH);
        assert_eq!(excerpt.indent.len(), EXCERPT_WIDTH / 2);
        assert!(excerpt.text.trim_start().starts_with("keyx"));
    }

    #[test]
    fn the_value_of_a_secret_can_be_hidden() {
        let excerpt = source(" psk = \"hunter2\"").excerpt(&(15..16));
        assert!(excerpt.may_show_a_secret());
        let hidden = excerpt.without_value();
        assert_eq!((hidden.text.as_str(), hidden.width), ("psk = (hidden)", 3));
        assert!(
            !source("psk_file = \"a\"")
                .excerpt(&(0..1))
                .may_show_a_secret()
        );
    }

    #[test]
    fn control_characters_are_made_harmless() {
        assert_eq!(source("a\u{1b}[31m").excerpt(&(0..1)).text, "a\u{fffd}[31m");
    }
}
