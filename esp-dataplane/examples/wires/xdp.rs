//! The program that hands protocol 50 to an AF_XDP socket, and its map.
#![expect(unsafe_code, reason = "this file owns the bpf system call for XDP")]

use core::ffi::{c_int, c_long};
use core::mem::size_of;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

// linux/bpf.h
const MAP_CREATE: c_int = 0;
const MAP_UPDATE: c_int = 2;
const PROG_LOAD: c_int = 5;
const LINK_CREATE: c_int = 28;
const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const XDP_PASS: i32 = 2;
const REDIRECT_MAP: i32 = 51;

/// Where the program runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// On socket buffers, for any device (`XDP_FLAGS_SKB_MODE`).
    Generic = 2,
    /// In the device's driver (`XDP_FLAGS_DRV_MODE`).
    Driver = 4,
}

/// Parts of `union bpf_attr`, in words of four or eight bytes.
#[repr(C)]
struct Attributes<T>(T);

/// # Safety
/// `attributes` is the part of `union bpf_attr` that belongs to `command`, and what it points
/// to lives through the call.
unsafe fn bpf<T>(command: c_int, attributes: &Attributes<T>) -> io::Result<c_int> {
    // SAFETY: the kernel reads so many bytes of `attributes`; the rest is the caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            c_long::from(command),
            core::ptr::from_ref(attributes),
            size_of::<T>() as c_long,
        )
    };
    match c_int::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// # Safety
/// As for [`bpf`]; `command` returns a new descriptor.
unsafe fn open<T>(command: c_int, attributes: &Attributes<T>) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attributes) }?;
    // SAFETY: fresh, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Redirects protocol 50 from queue 0 of a device to `socket`, for as long as the result is
/// kept.
pub(crate) fn redirect(
    socket: BorrowedFd<'_>,
    device: u32,
    mode: Mode,
) -> io::Result<[OwnedFd; 2]> {
    let map = Attributes([MAP_TYPE_XSKMAP, 4, 4, 1, 0]);
    // SAFETY: type, key size, value size, entries, flags; nothing is pointed to.
    let map = unsafe { open(MAP_CREATE, &map) }?;
    let (key, value) = (0_u32, socket.as_raw_fd());
    let entry = Attributes([
        u64::from(map.as_raw_fd().unsigned_abs()),
        (&raw const key) as u64,
        (&raw const value) as u64,
        0,
    ]);
    // SAFETY: map, key, value, flags; both pointers are to four bytes that live through the call.
    unsafe { bpf(MAP_UPDATE, &entry) }?;
    let code = program(map.as_raw_fd());
    let head = u64::from(PROG_TYPE_XDP) | (code.len() as u64) << 32;
    let load = [head, code.as_ptr() as u64, c"GPL".as_ptr() as u64];
    // SAFETY: type and length, instructions, licence; both pointers are to what lives through the
    // call.
    let program = unsafe { open(PROG_LOAD, &Attributes(load)) }?;
    let program_fd = program.as_raw_fd().unsigned_abs();
    let link = Attributes([program_fd, device, ATTACH_XDP, mode as u32]);
    // SAFETY: program, device, hook, flags; nothing is pointed to.
    let link = unsafe { open(LINK_CREATE, &link) }?;
    Ok([link, map])
}

/// One instruction: registers are numbers here (RFC 9669 §3).
const fn op(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    (code as u64)
        | ((to | from << 4) as u64) << 8
        | (offset.cast_unsigned() as u64) << 16
        | (value.cast_unsigned() as u64) << 32
}

/// IPv4 with protocol 50 goes to the socket of its queue, everything else up the stack.
fn program(map: c_int) -> [u64; 17] {
    const LOAD_4: u8 = 0x61;
    const LOAD_2: u8 = 0x69;
    const LOAD_1: u8 = 0x71;
    const COPY: u8 = 0xbf;
    const ADD: u8 = 0x07;
    const SET: u8 = 0xb7;
    const IF_GREATER: u8 = 0x2d;
    const UNLESS: u8 = 0x55;
    [
        op(LOAD_4, 2, 1, 0, 0), // data
        op(LOAD_4, 3, 1, 4, 0), // data_end
        op(COPY, 4, 2, 0, 0),
        op(ADD, 4, 0, 0, 34),
        op(IF_GREATER, 4, 3, 10, 0),
        op(LOAD_2, 4, 2, 12, 0),
        op(UNLESS, 4, 0, 8, (0x0800_u16.to_be()) as i32),
        op(LOAD_1, 4, 2, 23, 0),
        op(UNLESS, 4, 0, 6, 50),
        op(LOAD_4, 2, 1, 16, 0), // the queue
        op(0x18, 1, 1, 0, map),  // the map, by its descriptor, in two halves
        op(0, 0, 0, 0, 0),
        op(SET, 3, 0, 0, XDP_PASS),
        op(0x85, 0, 0, 0, REDIRECT_MAP),
        op(0x95, 0, 0, 0, 0),
        op(SET, 0, 0, 0, XDP_PASS),
        op(0x95, 0, 0, 0, 0),
    ]
}
