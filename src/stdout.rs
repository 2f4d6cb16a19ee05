//! Standard output, which may have been closed: unlike with `println!`, that is an error.

use std::io::{self, Write};

/// Writes at once.
///
/// # Errors
/// [`io::ErrorKind::BrokenPipe`] when nobody reads any more, as in `vipsec status | head`.
pub(crate) fn write(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}
