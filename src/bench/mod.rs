//! `vipsec bench`: how fast this machine's tunnels are, and how near to the ceiling.
//!
//! Three benches, each closer to what a user gets:
//!
//! ```text
//!   crypto   seal_train / open_train                        beside the bare cipher call
//!   core     super-packet -> split -> seal -> open -> coalesce    beside no cipher at all
//!   path     host - gateway - gateway - host in namespaces  beside other tunnels, in one run
//! ```
//!
//! Absolute figures of a shared machine drift by tens of percent within minutes. So whatever is
//! compared is measured by turns, and a ratio is the median of the ratios of neighbouring turns.
//! Nothing here is on the packet path, and nothing is left behind: the networks of `path` are
//! private namespaces that die with the process.

mod args;
mod bars;
mod core;
mod crypto;
mod loopback;
mod machine;
mod output;
mod path;
mod progress;
mod report;
mod sample;
mod soak;
mod svg;
mod table;
mod ticks;
pub mod work;

use std::process::ExitCode;

pub use args::BenchCommand;
pub use report::Report;

use args::What;
use output::show;

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// An SA could not be installed.
    #[error("cannot install the benchmark's SA: {0}")]
    Sad(#[from] esp_dataplane::SadError),
    /// A cipher refused its key or its input.
    #[error("{0} does not accept what it should")]
    Cipher(String),
    /// What came out is not what went in: a figure would be worthless.
    #[error("{0}: packets were lost or damaged in the benchmark itself")]
    Wrong(String),
    /// A figure could not be written or read.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    /// Whoever read the tables has gone.
    #[error("nobody reads the figures")]
    Unread,
    /// Not one tunnel could be measured.
    #[error("no tunnel could be measured: {0}")]
    Path(String),
}

/// Runs what the command line asks for; tables go to standard output, progress to standard
/// error.
#[must_use]
pub fn run(command: BenchCommand) -> ExitCode {
    let BenchCommand { what, output } = command;
    let result = match what {
        Some(What::Soak(args)) => return soak::run(&args),
        Some(What::World(args)) => return path::run_world(&args),
        Some(What::Gateway(args)) => path::run_gateway(&args),
        Some(What::Crypto(args)) => measure(&output, Some(&args), false, None),
        Some(What::Core) => measure(&output, None, true, None),
        Some(What::Path(args)) => measure(&output, None, false, Some(&args)),
        None => measure(
            &output,
            Some(&args::CryptoArgs::default()),
            true,
            Some(&path::PathArgs::default()),
        ),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if matches!(error.downcast_ref(), Some(BenchError::Unread)) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vipsec bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(
    output: &args::Output,
    crypto: Option<&args::CryptoArgs>,
    core: bool,
    path: Option<&path::PathArgs>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut report = Report::new();
    show(&format!("{}\n", report.machine), output)?;
    if !report.machine.is_at_rest() {
        eprintln!(
            "vipsec bench: other programs keep this machine busy: ratios and processor time \
             mean something, rates do not"
        );
    }
    if let Some(wanted) = crypto {
        let figures = crypto::measure(wanted, output.effort())?;
        show(&figures, output)?;
        report.bars.extend(bars::crypto(&figures));
        report.crypto = Some(figures);
    }
    if core {
        let figures = core::measure(output.effort())?;
        show(&figures, output)?;
        report.bars.extend(bars::core(&figures));
        report.core = Some(figures);
    }
    if let Some(wanted) = path {
        match path::measure(wanted, output.effort()) {
            Ok(figures) => {
                show(&figures, output)?;
                report.bars.extend(bars::path(&figures));
                report.path = Some(figures);
            }
            // What was measured before is still worth showing.
            Err(error) if crypto.is_some() => eprintln!("vipsec bench: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
    report.show_bars(output)?;
    report.save(output)?;
    Ok(())
}
