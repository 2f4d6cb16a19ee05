//! The `bpf` system call, as far as the relay needs it, and the counters that the programs
//! share with us.
#![expect(unsafe_code, reason = "this file owns the bpf system call")]

use core::ffi::{c_int, c_long};
use core::mem::size_of;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const MAP_CREATE: c_int = 0;
const PROG_LOAD: c_int = 5;
const LINK_CREATE: c_int = 28;

const MAP_TYPE_ARRAY: u32 = 2;
const MMAPABLE: u32 = 1 << 10;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const TCX_INGRESS: u32 = 46;

/// `BPF_MAP_CREATE`'s part of `union bpf_attr`, up to the flags.
#[repr(C)]
struct MapAttributes {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

/// `BPF_PROG_LOAD`'s part of `union bpf_attr`, up to the log.
#[repr(C)]
struct ProgramAttributes {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// `BPF_LINK_CREATE`'s part of `union bpf_attr`, with room for the tcx options.
#[repr(C)]
struct LinkAttributes {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    options: [u64; 4],
}

/// # Safety
/// `attributes` is the part of `union bpf_attr` that belongs to `command`, and what it points
/// to lives and may be read, or for a log written, through the call.
unsafe fn bpf<T>(command: c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `attributes`; the rest is the caller's
    // promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            c_long::from(command),
            core::ptr::from_mut(attributes),
            size_of::<T>() as c_long,
        )
    };
    let fd = c_int::try_from(result).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all three commands return a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives a program for a tc hook to the verifier.
///
/// # Errors
/// What the kernel says: `EPERM` without CAP_BPF and CAP_NET_ADMIN, `EACCES` or `EINVAL` when
/// the verifier refuses, with its last words in the message.
pub(super) fn load(code: &[u64]) -> io::Result<OwnedFd> {
    match load_with_log(code, &mut []) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EINVAL)) => {
            let mut log = vec![0; 1 << 16];
            let _refused_again = load_with_log(code, &mut log);
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(0);
            let log = String::from_utf8_lossy(log.get(..end).unwrap_or_default()).into_owned();
            let words = log.lines().rev().nth(1).unwrap_or_default();
            Err(io::Error::new(error.kind(), format!("{error}: {words}")))
        }
        other => other,
    }
}

fn load_with_log(code: &[u64], log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut attributes = ProgramAttributes {
        kind: PROG_TYPE_SCHED_CLS,
        instruction_count: u32::try_from(code.len()).unwrap_or(u32::MAX),
        instructions: code.as_ptr() as u64,
        // The route lookup is for programs under this licence only; it is one of ours.
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: u32::try_from(log.len()).unwrap_or(0),
        log: if log.is_empty() {
            0
        } else {
            log.as_mut_ptr() as u64
        },
    };
    // SAFETY: the instructions and the licence are read, the log is written, all with their
    // right lengths, and all outlive the call.
    unsafe { bpf(PROG_LOAD, &mut attributes) }
}

/// Runs a program on whatever a device receives, for as long as the result is kept.
///
/// # Errors
/// What the kernel says: `EINVAL` before Linux 6.6.
pub(super) fn attach(program: &OwnedFd, device: u32) -> io::Result<OwnedFd> {
    let mut attributes = LinkAttributes {
        program: u32::try_from(program.as_raw_fd()).unwrap_or(u32::MAX),
        target: device,
        attach_type: TCX_INGRESS,
        flags: 0,
        options: [0; 4],
    };
    // SAFETY: these attributes point to nothing.
    unsafe { bpf(LINK_CREATE, &mut attributes) }
}

/// A few numbers that programs count up and we read.
#[derive(Debug)]
pub(super) struct Counters<const N: usize> {
    map: OwnedFd,
    values: NonNull<AtomicU64>,
    mapped: usize,
}

// SAFETY: the mapping is read-only for us and only reached through atomics.
unsafe impl<const N: usize> Send for Counters<N> {}
// SAFETY: as above.
unsafe impl<const N: usize> Sync for Counters<N> {}

impl<const N: usize> Counters<N> {
    /// All zero.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn new() -> io::Result<Self> {
        let mapped = 4096;
        let mut attributes = MapAttributes {
            kind: MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: u32::try_from(N * 8).unwrap_or(u32::MAX),
            max_entries: 1,
            flags: MMAPABLE,
        };
        // SAFETY: these attributes point to nothing.
        let map = unsafe { bpf(MAP_CREATE, &mut attributes) }?;
        // SAFETY: a fresh mapping of the array, placed by the kernel; `Drop` unmaps it.
        let at = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                mapped,
                libc::PROT_READ,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(values) = NonNull::new(at.cast()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        Ok(Self {
            map,
            values,
            mapped,
        })
    }

    /// The map's descriptor, for the programs.
    pub(super) fn descriptor(&self) -> i32 {
        self.map.as_raw_fd()
    }

    /// All values.
    pub(super) fn read(&self) -> [u64; N] {
        core::array::from_fn(|index| {
            // SAFETY: the map's value is N words of 8 bytes at the front of the mapping, which
            // lives as long as `self`; index < N.
            let value = unsafe { self.values.add(index).as_ref() };
            value.load(Ordering::Relaxed)
        })
    }
}

impl<const N: usize> Drop for Counters<N> {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` with this length, and nobody else knows it.
        let _cannot_fail = unsafe { libc::munmap(self.values.as_ptr().cast(), self.mapped) };
    }
}
