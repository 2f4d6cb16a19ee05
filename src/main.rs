//! The `vipsec` daemon and its command line.

fn main() -> std::process::ExitCode {
    vipsec::cli::run(vipsec::daemon::run)
}
