//! Turns a closure into a test that runs in a private world, or says why it cannot.

use std::any::type_name;
use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use crate::error::Outcome;
use crate::isolation;
use crate::need::{Need, first_missing};

/// No scenario may take longer, unless it says so; a hanging one is ended with its logs shown.
const PATIENCE: Duration = Duration::from_secs(240);

/// Lines of each log that a failed scenario shows.
const LOG_TAIL: usize = 60;

/// Runs `body` in a private world in which it may build a [`crate::Lab`].
///
/// Call it as the only statement of a `#[test]` function and pass a closure written right
/// there: the closure's type names the test, and by this name the isolated program finds it.
///
/// When something in `needs` is missing, the test passes with a line `SKIPPED name: reason`
/// on standard error, unless `CI=true`, where that is a failure.
///
/// # Panics
/// When the body returns an error or panics: that is how a test fails.
#[expect(clippy::panic, reason = "a failing test panics")]
pub fn scenario<F: FnOnce() -> Outcome>(needs: &[Need], body: F) {
    let name = test_name::<F>();
    if isolation::inside() {
        if let Err(error) = run_inside(&name, PATIENCE, body) {
            panic!("{name}: {error}");
        }
        return;
    }
    if let Some(reason) = first_missing(needs) {
        skip(&name, &reason);
        return;
    }
    let arguments = [name.as_str(), "--exact", "--nocapture", "--test-threads=1"];
    let output = match isolation::command_inside(&arguments).and_then(|mut command| {
        command
            .stdin(Stdio::null())
            .output()
            .map_err(crate::LabError::at("start unshare"))
    }) {
        Ok(output) => output,
        Err(error) => panic!("{name}: {error}"),
    };
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    print!("{stdout}{stderr}");
    // A name that selects no test would "pass" without having run anything.
    assert!(
        stdout.contains("1 passed") || !output.status.success(),
        "{name}: the isolated program did not run the test"
    );
    assert!(output.status.success(), "{name}: {}", output.status);
}

/// For programs: runs `body` in a private world, with the terminal connected.
/// The exit code is 0 on success, 1 on an error, 2 when this machine cannot run it.
pub fn isolated(needs: &[Need], body: impl FnOnce() -> Outcome) -> ExitCode {
    isolated_for(PATIENCE, needs, body)
}

/// Like [`isolated`], for a program that may take up to `patience`.
pub fn isolated_for(
    patience: Duration,
    needs: &[Need],
    body: impl FnOnce() -> Outcome,
) -> ExitCode {
    if isolation::inside() {
        return match run_inside("program", patience, body) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        };
    }
    if let Some(reason) = first_missing(needs) {
        eprintln!("cannot run here: {reason}");
        return ExitCode::from(2);
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let status = isolation::command_inside(&arguments).and_then(|mut command| {
        command
            .status()
            .map_err(crate::LabError::at("start unshare"))
    });
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_failure) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_inside(name: &str, patience: Duration, body: impl FnOnce() -> Outcome) -> Outcome {
    isolation::furnish()?;
    watch(name, patience);
    let shown = ShowLogsUnlessDisarmed(true);
    let result = body();
    if result.is_ok() {
        shown.disarm();
    }
    result
}

/// Shows the logs when the scenario ends by an error or unwinds from a failed assertion.
struct ShowLogsUnlessDisarmed(bool);

impl ShowLogsUnlessDisarmed {
    fn disarm(mut self) {
        self.0 = false;
    }
}

impl Drop for ShowLogsUnlessDisarmed {
    fn drop(&mut self) {
        if self.0 {
            show_logs();
        }
    }
}

fn watch(name: &str, patience: Duration) {
    let name = name.to_owned();
    thread::spawn(move || {
        thread::sleep(patience);
        eprintln!("{name}: no end after {patience:?}");
        show_logs();
        std::process::exit(1);
    });
}

fn show_logs() {
    for path in logs(Path::new(isolation::LAB_ROOT)) {
        let text = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("---- the end of {} ----", path.display());
        for line in lines.iter().skip(lines.len().saturating_sub(LOG_TAIL)) {
            eprintln!("{line}");
        }
    }
}

/// Every file `*.log` below a directory.
pub(crate) fn logs(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else {
        return found;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(logs(&path)),
            Ok(_other) if path.extension().is_some_and(|e| e == "log") => found.push(path),
            Ok(_) | Err(_) => {}
        }
    }
    found.sort();
    found
}

/// `tunnel::we_initiate::{{closure}}` is the test `we_initiate` of the test program `tunnel`.
fn test_name<F>() -> String {
    let path = type_name::<F>();
    let path = path.strip_suffix("::{{closure}}").unwrap_or(path);
    path.split_once("::")
        .map_or(path, |(_program, test)| test)
        .to_owned()
}

/// Past the test harness, which would swallow what a passing test prints.
#[expect(clippy::panic, reason = "in CI a skipped test is a failed test")]
fn skip(name: &str, reason: &str) {
    let line = format!("SKIPPED {name}: {reason}\n");
    // If standard error is closed there is nobody to tell.
    let _unheard = std::io::stderr().write_all(line.as_bytes());
    if env::var("CI").is_ok_and(|value| value == "true") {
        panic!("{line}");
    }
}
