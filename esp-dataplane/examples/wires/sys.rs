//! Memory shared with the kernel, and socket options: what the rings of all variants need.
#![expect(
    unsafe_code,
    reason = "this file owns the memory that the kernel and we share"
)]

use core::ffi::{c_int, c_void};
use core::mem::size_of;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, AtomicU32};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A piece of memory that the kernel may write at any time. It is reached by offsets, which are
/// checked.
pub(crate) struct Mapping {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to nobody else, and no part of it is bound to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Fresh pages, there at once.
    pub(crate) fn anonymous(len: usize) -> io::Result<Self> {
        Self::new(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    /// What `fd` offers at `offset`.
    pub(crate) fn of(fd: BorrowedFd<'_>, len: usize, offset: i64) -> io::Result<Self> {
        Self::new(len, libc::MAP_SHARED, fd.as_raw_fd(), offset)
    }

    fn new(len: usize, flags: c_int, fd: c_int, offset: i64) -> io::Result<Self> {
        // SAFETY: a fresh mapping, placed by the kernel; `Drop` unmaps it.
        let at = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags | libc::MAP_POPULATE,
                fd,
                offset,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { at, len })
    }

    fn place<T>(&self, offset: usize, len: usize) -> io::Result<NonNull<T>> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        if !inside || !offset.is_multiple_of(align_of::<T>()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: `offset` has just been checked to lie in the mapping.
        Ok(unsafe { self.at.add(offset) }.cast())
    }

    /// Where `offset` is, for the kernel.
    pub(crate) fn address(&self, offset: usize) -> u64 {
        self.at.as_ptr() as u64 + offset as u64
    }

    /// A word that both sides write.
    pub(crate) fn word(&self, offset: usize) -> io::Result<&AtomicU32> {
        let place = self.place(offset, size_of::<u32>())?;
        // SAFETY: four aligned bytes of a mapping that lives as long as the result, reached by us
        // through atomics.
        Ok(unsafe { place.as_ref() })
    }

    /// Half a word that both sides write.
    pub(crate) fn half(&self, offset: usize) -> io::Result<&AtomicU16> {
        let place = self.place(offset, size_of::<u16>())?;
        // SAFETY: as for `word`.
        Ok(unsafe { place.as_ref() })
    }

    /// Bytes that are ours at the moment, as the ring's protocol says.
    pub(crate) fn read<const N: usize>(&self, offset: usize) -> io::Result<[u8; N]> {
        let place = self.place::<[u8; N]>(offset, N)?;
        // SAFETY: N bytes inside the mapping; any bytes are a valid array.
        Ok(unsafe { place.read_volatile() })
    }

    /// Writes bytes that are ours at the moment.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let place = self.place::<u8>(offset, bytes.len())?;
        // SAFETY: so many bytes are inside the mapping, and `bytes` is elsewhere because it may be
        // read while `self` is borrowed mutably.
        unsafe { place.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made in `new` with this length, and nobody borrows it any more.
        let _cannot_fail = unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}

/// Values that the kernel may read as plain bytes.
///
/// # Safety
/// No pointers in it, or only such as outlive their use by the kernel.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: numbers.
unsafe impl Plain for c_int {}
// SAFETY: numbers.
unsafe impl Plain for crate::tap::RingRequest {}
// SAFETY: numbers; the address in it is that of memory which the socket's owner keeps as long
// as the socket.
unsafe impl Plain for libc::xdp_umem_reg {}
// SAFETY: numbers.
unsafe impl Plain for libc::xdp_mmap_offsets {}

/// Sets a socket option.
pub(crate) fn set<T: Plain>(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: T,
) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `value`, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast::<c_void>(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    check(result)
}

/// Reads a socket option into `value`.
pub(crate) fn get<T: Plain>(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    mut value: T,
) -> io::Result<T> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value`, which consists of numbers.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast::<c_void>(),
            &raw mut len,
        )
    };
    check(result).map(|()| value)
}

/// Lets only protocol 50 in: for a socket that sees packets from their Ethernet header on.
pub(crate) fn keep_protocol_50(fd: BorrowedFd<'_>) -> io::Result<()> {
    let op = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let mut program = [
        op(0x28, 0, 12),
        op(0x15, 3, 0x0800),
        op(0x30, 0, 23),
        op(0x15, 1, 50),
        op(0x06, 0, u32::MAX),
        op(0x06, 0, 0),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `filter` points to `program` with its right length; the kernel copies both.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast::<c_void>(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    check(result)
}

/// A socket address that libc has and socket2 has not.
///
/// # Safety
/// Numbers only, beginning with the address family.
pub(crate) unsafe trait Address {}

// SAFETY: numbers, the family first.
unsafe impl Address for libc::sockaddr_ll {}
// SAFETY: numbers, the family first.
unsafe impl Address for libc::sockaddr_xdp {}

/// bind(2).
pub(crate) fn bind<T: Address>(fd: BorrowedFd<'_>, address: &T) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `address`.
    let result = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            core::ptr::from_ref(address).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    check(result)
}

/// Tells the kernel to look at a ring; false when it wants to be told again.
pub(crate) fn kick(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: nothing is pointed to.
    let result = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            core::ptr::null(),
            0,
            libc::MSG_DONTWAIT,
            core::ptr::null(),
            0,
        )
    };
    if result >= 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS) => Ok(false),
        _ => Err(error),
    }
}

/// What a call that returns -1 for an error says.
pub(crate) fn check(result: c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// How long a receiver waits for a packet before it looks whether it is over.
pub(crate) const PATIENCE: Duration = Duration::from_millis(10);

/// Waits until there is something to read; false when there was nothing for [`PATIENCE`].
pub(crate) fn wait(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let limit = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    Ok(poll(&mut fds, Some(&limit))? > 0)
}
