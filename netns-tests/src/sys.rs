//! The calls that change what a thread or a child belongs to. The only `unsafe` of the lab.
#![expect(unsafe_code, reason = "unshare and pre_exec have no safe form")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

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

/// Makes the command start inside the two namespaces, and die with the thread that started it.
pub(crate) fn start_inside(command: &mut Command, net: Arc<OwnedFd>, mnt: Arc<OwnedFd>) {
    let enter = move || {
        move_into_link_name_space(net.as_fd(), Some(LinkNameSpaceType::Network))?;
        move_into_link_name_space(mnt.as_fd(), Some(LinkNameSpaceType::Mount))?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure only makes two system calls on descriptors
    // that it owns; it neither allocates nor takes a lock.
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
