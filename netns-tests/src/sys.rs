//! The calls that have no safe form: what a thread or a child belongs to, when a packet came,
//! who runs first. The only `unsafe` of the lab.
#![expect(
    unsafe_code,
    reason = "unshare, pre_exec, control messages and scheduling classes have no safe form"
)]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::lab::now;
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{
    CpuSet, LinkNameSpaceType, UnshareFlags, move_into_link_name_space, sched_setaffinity,
    unshare_unsafe,
};

/// Gives the calling thread a network and a mount namespace of its own.
///
/// # Errors
/// What `unshare(2)` says; mostly `EPERM`.
pub(crate) fn leave_network_and_mounts() -> io::Result<()> {
    let flags = UnshareFlags::NEWNET | UnshareFlags::NEWNS;
    // SAFETY: neither flag touches the table of file descriptors, which is the one thing that
    // other threads rely on to be shared; NEWNS also unshares this thread's working
    // directory, and the lab uses absolute paths only.
    unsafe { unshare_unsafe(flags) }?;
    Ok(())
}

/// Moves the calling thread into a network namespace.
///
/// # Errors
/// What `setns(2)` says.
pub(crate) fn enter_network(net: BorrowedFd<'_>) -> io::Result<()> {
    move_into_link_name_space(net, Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// Makes the command start inside the two namespaces, on these CPUs if some are named, and die
/// with the thread that started it.
pub(crate) fn start_inside(
    command: &mut Command,
    net: Arc<OwnedFd>,
    mnt: Arc<OwnedFd>,
    cpus: Option<CpuSet>,
) {
    let enter = move || {
        if let Some(cpus) = &cpus {
            sched_setaffinity(None, cpus)?;
        }
        move_into_link_name_space(net.as_fd(), Some(LinkNameSpaceType::Network))?;
        move_into_link_name_space(mnt.as_fd(), Some(LinkNameSpaceType::Mount))?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure only makes three system calls on what it owns;
    // it neither allocates nor takes a lock.
    unsafe { command.pre_exec(enter) };
}

/// Makes the kernel kill the command as soon as the calling thread is gone.
pub(crate) fn die_with_parent(command: &mut Command) {
    let arm = || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(())
    };
    // SAFETY: the closure makes one system call and nothing else.
    unsafe { command.pre_exec(arm) };
}

/// Makes the kernel note when each packet of a socket came in.
///
/// # Errors
/// What `setsockopt(2)` says.
pub(crate) fn stamp_arrivals(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the value is an integer that lives through the call, and its length is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Room for one control message with a time.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Receives one packet, and tells since the Unix epoch when the kernel got it. The socket
/// needs [`stamp_arrivals`]; without a stamp, the time is that of the call's return.
///
/// # Errors
/// What `recvmsg(2)` says; `WouldBlock` after the socket's time-out.
pub(crate) fn receive_stamped(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, Duration)> {
    let mut control = Control([0; 64]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: all fields of a msghdr may be zero.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len();
    // SAFETY: the header names `buffer` and `control` with their true lengths, and both live
    // through the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, 0) };
    let length = usize::try_from(length).map_err(|_negative| io::Error::last_os_error())?;
    let mut at = now();
    // SAFETY: the kernel has filled in `control` and set msg_controllen to what it wrote; the
    // macros stay within it, and a SCM_TIMESTAMPNS message holds one timespec, which is read
    // unaligned.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&raw const header);
        while let Some(one) = message.as_ref() {
            if one.cmsg_level == libc::SOL_SOCKET && one.cmsg_type == libc::SCM_TIMESTAMPNS {
                let time = libc::CMSG_DATA(message)
                    .cast::<libc::timespec>()
                    .read_unaligned();
                at = Duration::new(
                    u64::try_from(time.tv_sec).unwrap_or(0),
                    u32::try_from(time.tv_nsec).unwrap_or(0),
                );
            }
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
    }
    Ok((length, at))
}

/// Lets the calling thread run before all ordinary ones: an instrument that is kept waiting
/// measures the machine. False where the system does not permit it.
pub(crate) fn run_first() -> bool {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the structure lives through the call, and 0 names the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) == 0 }
}
