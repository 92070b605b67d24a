// SPDX-License-Identifier: Apache-2.0
//! What the kernel has been told to filter, for tests.

use std::io;

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// `PTRACE_SECCOMP_GET_FILTER` of linux/ptrace.h.
const GET_FILTER: libc::c_uint = 0x420c;
/// The size of `struct sock_filter` of linux/filter.h.
const INSN: usize = 8;

/// The instructions of the seccomp filter that process `pid` installed last, as an array of
/// `struct sock_filter` of this machine; ptrace(2). The process is stopped for a moment. It must
/// not be a child that something else waits for.
///
/// # Errors
/// There is no such process or filter, it is being traced, or the caller lacks `CAP_SYS_ADMIN` in
/// the initial user namespace or is filtered itself.
pub fn seccomp_filter_of(pid: i32) -> io::Result<Vec<u8>> {
    // SAFETY: attaching touches no memory of this process.
    checked(unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid, 0, 0) })?;
    let filter = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::__WALL))
        .map_err(io::Error::from)
        .and_then(|_| get_filter(pid));
    // SAFETY: detaching touches no memory of this process.
    checked(unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0) })?;
    filter
}

fn get_filter(pid: i32) -> io::Result<Vec<u8>> {
    let none: *mut u8 = std::ptr::null_mut();
    // SAFETY: without a buffer the kernel only counts the instructions.
    let insns = checked(unsafe { libc::ptrace(GET_FILTER, pid, 0, none) })?;
    let mut filter = vec![0; insns * INSN];
    // SAFETY: the kernel writes as many instructions as it just counted, for which the buffer has
    // room: filters cannot be changed, and the process is stopped, so it adds none.
    checked(unsafe { libc::ptrace(GET_FILTER, pid, 0, filter.as_mut_ptr()) })?;
    Ok(filter)
}

fn checked(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
