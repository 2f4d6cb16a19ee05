//! Processor time by the nanosecond, memory, and medians.

use std::fs;
use std::time::Duration;

use netns_tests::LabError;

/// Time on a processor of all threads that a process has now (`/proc/PID/stat` counts in
/// steps of 10 ms, too coarse for one handshake).
pub(crate) fn cpu(pid: u32) -> Result<Duration, LabError> {
    let tasks = format!("/proc/{pid}/task");
    let mut nanoseconds = 0;
    for task in fs::read_dir(&tasks).map_err(LabError::at(format!("read {tasks}")))? {
        let path = task.map_err(LabError::at("list threads"))?.path();
        // A thread that has just ended has no file any more.
        let text = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        let first = text.split_whitespace().next();
        nanoseconds += first.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Resident memory in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<u64, LabError> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(LabError::at(format!("read {path}")))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| LabError::unreadable("/proc/PID/status", "no VmRSS"))
}

/// The middle of some values, in milliseconds.
pub(crate) fn median_ms(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    let middle = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    middle.as_secs_f64() * 1000.0
}
