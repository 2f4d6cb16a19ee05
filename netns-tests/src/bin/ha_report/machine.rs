//! The machine that the figures belong to.

use std::fmt;
use std::fs;
use std::process::Command;

use netns_tests::need;
use serde::Serialize;

/// What must stand beside a figure for it to mean something.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    /// Load average of the last minute when the report began.
    load: String,
    /// How far the programs under test stood back behind others.
    nice: String,
    strongswan: String,
    keepalived: String,
    /// Seconds since the Unix epoch.
    at: u64,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let processor = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown", |(_, value)| value.trim());
        let load = read("/proc/loadavg");
        // Field 19 of stat(5); the second field may hold blanks, but not ours.
        let stat = read("/proc/self/stat");
        Self {
            processor: processor.to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
            nice: stat.split(' ').nth(18).unwrap_or_default().to_owned(),
            strongswan: version(need::CHARON, "--version"),
            keepalived: version("keepalived", "--version"),
            at: netns_tests::lab::now().as_secs(),
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first line that a program says about itself, on whichever stream.
fn version(program: &str, option: &str) -> String {
    let path = need::find_program(program).unwrap_or_else(|| program.into());
    let Ok(output) = Command::new(path).arg(option).output() else {
        return "unknown".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().next().unwrap_or("unknown").to_owned()
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processor,
            cores,
            kernel,
            load,
            nice,
            strongswan,
            keepalived,
            at: _,
        } = self;
        write!(
            f,
            "{processor}, {cores} cores, Linux {kernel}; load {load} at the start, niceness {nice}; \
             {strongswan}; {keepalived}"
        )
    }
}
