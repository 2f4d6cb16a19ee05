//! Processors, and a process's time on them.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity};

use crate::LabError;

/// User and system time that a process has used since it started.
///
/// # Errors
/// When the process is gone.
pub fn used(pid: u32) -> Result<Duration, LabError> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(LabError::at(format!("read {path}")))?;
    let ticks = parse(&text).ok_or_else(|| LabError::unreadable("/proc/PID/stat", &text))?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// The CPUs that this process may use, shared out to two; with an odd number one stays idle.
///
/// # Errors
/// When there is only one.
pub(crate) fn halves() -> Result<[CpuSet; 2], LabError> {
    let step = "share out the CPUs";
    let allowed = sched_getaffinity(None).map_err(LabError::at(step))?;
    halves_of(&allowed)
        .ok_or_else(|| LabError::at::<io::Error>(step)(io::Error::other("two sites need two CPUs")))
}

fn halves_of(allowed: &CpuSet) -> Option<[CpuSet; 2]> {
    let each = usize::try_from(allowed.count() / 2).ok()?;
    let mut halves = [CpuSet::new(); 2];
    let cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    for (place, cpu) in cpus.take(2 * each).enumerate() {
        let [first, second] = &mut halves;
        let half = if place < each { first } else { second };
        half.set(cpu);
    }
    (each > 0).then_some(halves)
}

/// `pid (name with blanks) state …`: utime and stime are fields 14 and 15.
fn parse(text: &str) -> Option<u64> {
    let (_name, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_brackets_does_not_shift_the_fields() {
        let text = "7 (a) b (c) S 1 7 7 0 -1 4194560 10 0 0 0 250 150 0 0 20 0 1 0 5 6 7\n";
        assert_eq!(parse(text), Some(400));
    }

    #[test]
    fn two_sites_have_as_many_cpus_each_and_none_in_common() {
        let set = |cpus: &[usize]| {
            let mut set = CpuSet::new();
            cpus.iter().for_each(|cpu| set.set(*cpu));
            set
        };
        let halves = halves_of(&set(&[1, 2, 5, 7, 9]));
        assert_eq!(halves, Some([set(&[1, 2]), set(&[5, 7])]));
        assert_eq!(halves_of(&set(&[3])), None);
    }

    #[test]
    fn our_own_time_grows() {
        let before = used(std::process::id()).unwrap();
        let mut x = 0_u64;
        while used(std::process::id()).unwrap() == before {
            x = std::hint::black_box(x + 1);
        }
    }
}
