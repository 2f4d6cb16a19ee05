//! io_uring with bare hands: a ring for one thread, of which completions run when it asks.
#![expect(unsafe_code, reason = "this file owns the io_uring system calls")]

use core::ffi::{c_int, c_long, c_uint};
use core::mem::size_of;
use core::sync::atomic::Ordering;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::sys::{Mapping, PATIENCE};

// linux/io_uring.h
const SETUP_CQSIZE: u32 = 1 << 3;
const SETUP_SINGLE_ISSUER: u32 = 1 << 12;
const SETUP_DEFER_TASKRUN: u32 = 1 << 13;
const SETUP_NO_SQARRAY: u32 = 1 << 16;
const ENTER_GETEVENTS: c_uint = 1;
const ENTER_EXT_ARG: c_uint = 1 << 3;
const REGISTER_FILES: c_uint = 2;
const REGISTER_PBUF_RING: c_uint = 22;
const OFF_SQES: i64 = 0x1000_0000;
const SQE: usize = 64;
const CQE: usize = 16;
const FIXED_FILE: u8 = 1;
const BUFFER_SELECT: u8 = 1 << 5;

/// `struct io_uring_params`.
#[derive(Default)]
#[repr(C)]
struct Parameters {
    submissions: u32,
    completions: u32,
    flags: u32,
    thread: [u32; 2],
    features: u32,
    reserved: [u32; 4],
    /// head, tail, mask, entries, flags, dropped, array, reserved.
    submission_offsets: [u32; 8],
    submission_address: u64,
    /// head, tail, mask, entries, overflow, entries' place, flags, reserved.
    completion_offsets: [u32; 8],
    completion_address: u64,
}

/// `struct io_uring_buf_reg`.
#[derive(Default)]
#[repr(C)]
struct BufferRing {
    address: u64,
    entries: u32,
    group: u16,
    flags: u16,
    reserved: [u64; 3],
}

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct Wait {
    signals: u64,
    signals_size: u32,
    least: u32,
    limit: u64,
}

/// What the kernel is asked for, about the one registered file.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    /// `IORING_OP_…`.
    pub operation: u8,
    /// `ioprio`: flags of sends and receives.
    pub how: u16,
    /// A message header, or a buffer.
    pub address: u64,
    /// The buffer's length.
    pub len: u32,
    /// `MSG_…`.
    pub flags: u32,
    /// Take a buffer from the ring of buffers.
    pub picks_buffer: bool,
    /// Comes back with the completion.
    pub tag: u64,
}

/// What came of a request.
#[derive(Clone, Copy)]
pub(crate) struct Completion {
    /// The request's tag.
    pub tag: u64,
    /// Bytes, or a negative errno.
    pub result: i32,
    /// `IORING_CQE_F_…`, and the buffer's number above.
    pub flags: u32,
}

/// A ring.
pub(crate) struct Ring {
    fd: OwnedFd,
    rings: Mapping,
    entries: Mapping,
    parameters: Parameters,
    /// Written, not yet handed over.
    pending: u32,
}

impl Ring {
    /// A ring that knows one file.
    pub(crate) fn new(file: BorrowedFd<'_>) -> io::Result<Self> {
        let mut parameters = Parameters {
            completions: 1024,
            flags: SETUP_CQSIZE | SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN | SETUP_NO_SQARRAY,
            ..Parameters::default()
        };
        // SAFETY: the kernel reads and writes `parameters`, which has its layout.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 64, &raw mut parameters) };
        let fd = to_int(fd)?;
        // SAFETY: a fresh descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let [.., completions, _, _] = parameters.completion_offsets;
        let len = completions as usize + parameters.completions as usize * CQE;
        let rings = Mapping::of(fd.as_fd(), len, 0)?;
        let len = parameters.submissions as usize * SQE;
        let entries = Mapping::of(fd.as_fd(), len, OFF_SQES)?;
        let files = [file.as_raw_fd()];
        // SAFETY: the kernel reads one descriptor and keeps the file.
        unsafe { register(&fd, REGISTER_FILES, files.as_ptr() as u64, 1) }?;
        Ok(Self {
            fd,
            rings,
            entries,
            parameters,
            pending: 0,
        })
    }

    /// Writes a request down; [`Ring::enter`] hands it over.
    ///
    /// # Safety
    /// What `request` points to outlives its completion, and is not touched before.
    pub(crate) unsafe fn push(&mut self, request: &Request) -> io::Result<()> {
        let [_, tail, mask, ..] = self.parameters.submission_offsets;
        let mask = self.rings.word(mask as usize)?.load(Ordering::Relaxed);
        let tail = self.rings.word(tail as usize)?;
        let at = tail.load(Ordering::Relaxed);
        let mut entry = [0_u8; SQE];
        let flags = FIXED_FILE
            | if request.picks_buffer {
                BUFFER_SELECT
            } else {
                0
            };
        let parts: [(usize, &[u8]); 6] = [
            (0, &[request.operation, flags]),
            (2, &request.how.to_ne_bytes()),
            (16, &request.address.to_ne_bytes()),
            (24, &request.len.to_ne_bytes()),
            (28, &request.flags.to_ne_bytes()),
            (32, &request.tag.to_ne_bytes()),
        ];
        for (offset, bytes) in parts {
            let places = entry.iter_mut().skip(offset);
            places.zip(bytes).for_each(|(place, byte)| *place = *byte);
        }
        self.entries.write((at & mask) as usize * SQE, &entry)?;
        tail.store(at.wrapping_add(1), Ordering::Release);
        self.pending += 1;
        Ok(())
    }

    /// Hands all requests over and waits a while for `wanted` completions; after `least`
    /// microseconds, if that is not 0, for any.
    pub(crate) fn enter(&mut self, wanted: u32, least: u32) -> io::Result<()> {
        let limit: [i64; 2] = [0, PATIENCE.as_nanos() as i64];
        let wait = Wait {
            signals: 0,
            signals_size: 8,
            least,
            limit: limit.as_ptr() as u64,
        };
        // SAFETY: `wait` and what it points to live through the call; what the requests point to
        // is the promise of whoever pushed them.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.fd.as_raw_fd(),
                self.pending,
                wanted,
                ENTER_GETEVENTS | ENTER_EXT_ARG,
                &raw const wait,
                size_of::<Wait>(),
            )
        };
        match to_int(result) {
            Ok(taken) => self.pending -= taken as u32,
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => self.pending = 0,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The oldest completion that has not been taken.
    pub(crate) fn next(&mut self) -> io::Result<Option<Completion>> {
        let [head, tail, mask, _, _, entries, ..] = self.parameters.completion_offsets;
        let head = self.rings.word(head as usize)?;
        let at = head.load(Ordering::Relaxed);
        if at == self.rings.word(tail as usize)?.load(Ordering::Acquire) {
            return Ok(None);
        }
        let mask = self.rings.word(mask as usize)?.load(Ordering::Relaxed);
        let entry = entries as usize + (at & mask) as usize * CQE;
        let completion = Completion {
            tag: u64::from_ne_bytes(self.rings.read(entry)?),
            result: i32::from_ne_bytes(self.rings.read(entry + 8)?),
            flags: u32::from_ne_bytes(self.rings.read(entry + 12)?),
        };
        head.store(at.wrapping_add(1), Ordering::Release);
        Ok(Some(completion))
    }

    /// Gives the kernel a ring of buffers: group 0.
    ///
    /// # Safety
    /// The mapping, and the buffers that it names, outlive this ring.
    pub(crate) unsafe fn provide(&self, buffers: &Mapping, entries: u32) -> io::Result<()> {
        let ring = BufferRing {
            address: buffers.address(0),
            entries,
            ..BufferRing::default()
        };
        // SAFETY: the kernel reads `ring`; the rest is the caller's promise.
        unsafe { register(&self.fd, REGISTER_PBUF_RING, (&raw const ring) as u64, 1) }
    }
}

/// # Safety
/// `address` points to what belongs to `what`.
unsafe fn register(fd: &OwnedFd, what: c_uint, address: u64, count: c_uint) -> io::Result<()> {
    // SAFETY: the caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            fd.as_raw_fd(),
            what,
            address,
            count,
        )
    };
    to_int(result).map(drop)
}

fn to_int(result: c_long) -> io::Result<c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    c_int::try_from(result).map_err(io::Error::other)
}
