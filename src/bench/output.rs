//! Tables on standard output: `vipsec bench | head` is no failure.

use core::fmt::Display;
use std::io;

use super::BenchError;
use super::args::Output;
use crate::stdout;

/// Writes a table.
///
/// # Errors
/// [`BenchError::Unread`] when nobody reads it any more, unless the figures also go to a file.
pub(super) fn show(table: &impl Display, output: &Output) -> Result<(), BenchError> {
    match stdout::write(&format!("{table}\n")) {
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
