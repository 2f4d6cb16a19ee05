//! Tables on standard output, which may have been closed: `vipsec bench | head` is no failure.

use core::fmt::Display;
use std::io::{self, Write};

use super::BenchError;
use super::args::Output;

/// Writes a table.
///
/// # Errors
/// [`BenchError::Unread`] when nobody reads it any more, unless the figures also go to a file.
pub(super) fn show(table: &impl Display, output: &Output) -> Result<(), BenchError> {
    match print(&format!("{table}\n")) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            if output.json.is_some() || output.svg.is_some() {
                return Ok(());
            }
            Err(BenchError::Unread)
        }
        Err(error) => Err(BenchError::Io("cannot write the figures".to_owned(), error)),
        Ok(()) => Ok(()),
    }
}

/// Writes to standard output at once.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
