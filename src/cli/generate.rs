//! What packagers need: completions and man pages, made from the definition itself.

use std::path::Path;

use clap::CommandFactory;

use super::args::Cli;
use super::output::{Failure, print};

/// Prints the completion script for `shell`.
pub(super) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "vipsec", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Writes `vipsec.1` and a page for each command into `directory`.
pub(super) fn man_pages(directory: &Path) -> Result<(), Failure> {
    clap_mangen::generate_to(Cli::command(), directory).map_err(|error| {
        Failure::wrong(format!(
            "cannot write man pages to {}: {error}",
            directory.display()
        ))
    })?;
    print(&format!("man pages are in {}\n", directory.display()))
}
