//! Colour for terminals, and nothing at all for everything else.

use std::io::IsTerminal;

/// Whether text is dressed with ANSI colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Palette {
    /// Plain text: pipes, files, journals, tests and `NO_COLOR`.
    #[default]
    Plain,
    /// ANSI escapes.
    Colour,
}

/// What a piece of text means; the colour follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Works as configured.
    Good,
    /// A human should look soon.
    Warn,
    /// Does not work.
    Bad,
    /// Headings and names.
    Strong,
    /// Labels and decoration that the eye may skip.
    Dim,
}

impl Palette {
    /// Colours for standard output, when it is a terminal and the user did not object
    /// (<https://no-color.org>: a non-empty `NO_COLOR`).
    #[must_use]
    pub fn for_stdout() -> Self {
        Self::choose(std::io::stdout().is_terminal())
    }

    /// The same for standard error.
    #[must_use]
    pub fn for_stderr() -> Self {
        Self::choose(std::io::stderr().is_terminal())
    }

    fn choose(terminal: bool) -> Self {
        let objected = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        if terminal && !objected && !dumb {
            Self::Colour
        } else {
            Self::Plain
        }
    }

    /// `text`, dressed for its meaning.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if self == Self::Plain || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31;1",
            Tone::Strong => "1",
            Tone::Dim => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_carries_no_escape() {
        assert_eq!(Palette::Plain.paint(Tone::Bad, "down"), "down");
    }

    #[test]
    fn colour_is_closed_again() {
        assert_eq!(
            Palette::Colour.paint(Tone::Good, "up"),
            "\u{1b}[32mup\u{1b}[0m"
        );
        assert_eq!(Palette::Colour.paint(Tone::Good, ""), "");
    }
}
