//! How the demo tells what happens: one line a step, with the time, in colour on a terminal.

use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// The teller; its clock starts with it.
pub(crate) struct Story {
    start: Instant,
    colour: bool,
}

#[derive(Clone, Copy)]
enum Ink {
    Bold,
    Dim,
    Green,
}

impl Story {
    pub(crate) fn begin(title: &str) -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let story = Self {
            start: Instant::now(),
            colour,
        };
        println!("\n{}\n", story.paint(Ink::Bold, title));
        story
    }

    /// A new chapter.
    pub(crate) fn chapter(&self, title: &str) {
        println!("\n{}\n", self.paint(Ink::Bold, title));
    }

    /// A drawing, set apart.
    pub(crate) fn picture(&self, lines: &[String]) {
        for line in lines {
            println!("    {}", self.paint(Ink::Dim, line));
        }
        println!();
    }

    /// Something happened now.
    pub(crate) fn step(&self, what: impl Display) {
        let now = format!("{:7.2} s", self.start.elapsed().as_secs_f64());
        println!("{}  {what}", self.paint(Ink::Dim, &now));
    }

    /// A detail of the last step.
    pub(crate) fn detail(&self, name: &str, value: impl Display) {
        println!(
            "           {}  {value}",
            self.paint(Ink::Dim, &format!("{name:<10}"))
        );
    }

    pub(crate) fn end(&self, words: &str) {
        println!("\n{}\n", self.paint(Ink::Green, words));
    }

    fn paint(&self, ink: Ink, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Green => "32",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Milliseconds with one decimal.
pub(crate) fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
