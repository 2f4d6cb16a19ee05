//! `vipsec watch`: the status, again and again.

use std::io::IsTerminal;
use std::time::Duration;

use super::ask::Daemon;
use super::output::{Failure, print};
use crate::palette::{Palette, Tone};
use crate::status;

/// Draws the status every `seconds` until somebody stops it. A daemon that goes away is
/// waited for.
pub(super) fn watch(
    daemon: &Daemon,
    connection: Option<&str>,
    seconds: u64,
) -> Result<(), Failure> {
    let terminal = std::io::stdout().is_terminal();
    let palette = Palette::for_stdout();
    let mut seen = false;
    loop {
        let text = match daemon.status(connection) {
            Ok(status) => {
                seen = true;
                status::render(&status, palette)
            }
            Err(Failure::Client(error)) if seen => {
                format!(
                    "{}\n{}\n",
                    palette.paint(Tone::Bad, &error.to_string()),
                    error.hint()
                )
            }
            Err(failure) => return Err(failure),
        };
        let hint = format!("every {seconds} s, Ctrl-C ends\n");
        if terminal {
            print(&redraw(&format!(
                "{text}\n{}",
                palette.paint(Tone::Dim, &hint)
            )))?;
        } else {
            print(&format!("{text}\n"))?;
        }
        std::thread::sleep(Duration::from_secs(seconds));
    }
}

/// Over what was drawn before, without a flicker: each line is cleared to its end, and the
/// screen below the last.
fn redraw(text: &str) -> String {
    format!("\u{1b}[H{}\u{1b}[J", text.replace('\n', "\u{1b}[K\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_text_leaves_nothing_of_a_longer_one() {
        assert_eq!(redraw("a\nb\n"), "\u{1b}[Ha\u{1b}[K\nb\u{1b}[K\n\u{1b}[J");
    }
}
