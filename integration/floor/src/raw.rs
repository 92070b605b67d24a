// SPDX-License-Identifier: Apache-2.0
//! System calls that neither `std` nor `nix` has in a safe form: each block does one.
#![expect(unsafe_code, reason = "clone3(2), pidfd_open(2) and capset(2) have no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::unistd::Pid;

/// `CLONE_INTO_CGROUP`, Linux 5.7; beyond the 32 bits of clone(2).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `_LINUX_CAPABILITY_VERSION_3`, capset(2).
const VERSION: u32 = 0x2008_0522;

/// `struct clone_args`, clone3(2).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// fork(2) with more: `flags` of clone(2) that share no memory and no stack, and a cgroup of v2 to
/// be born in. `None` in the child.
pub(crate) fn fork(flags: u32, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Option<Pid>> {
    let parent = libc::CLONE_PARENT.unsigned_abs();
    let shared = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_VFORK;
    if flags & shared.unsigned_abs() != 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut args = CloneArgs { flags: flags.into(), ..CloneArgs::default() };
    // The child of one's parent ends with the signal one ends with oneself.
    if flags & parent == 0 {
        args.exit_signal = libc::SIGCHLD.unsigned_abs().into();
    }
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd().unsigned_abs().into();
    }
    // SAFETY: no flag lets the child share memory, and no stack is given: as after fork(2) it goes
    // on with a copy of everything. This program has one thread, so that no lock is held in it.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match i32::try_from(pid) {
        Ok(0) => Ok(None),
        Ok(pid) if pid > 0 => Ok(Some(Pid::from_raw(pid))),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}

/// pidfd_open(2).
#[expect(clippy::disallowed_methods, reason = "there is no other way to own a new descriptor")]
pub(crate) fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes a capability out of the bounding set, prctl(2).
pub(crate) fn drop_bounding(capability: u32) -> io::Result<()> {
    // SAFETY: this prctl takes numbers only.
    let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Leaves these capabilities, permitted and effective, capset(2).
pub(crate) fn set_capabilities(bits: u32) -> io::Result<()> {
    let mut header = [VERSION, 0];
    // Effective, permitted and inheritable, the lower 32 bits and then the upper ones.
    let data = [bits, bits, 0, 0, 0, 0];
    // SAFETY: the kernel reads the header of two numbers (and corrects a version it does not know) and, for this version, six more.
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), data.as_ptr()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Ends a forked child: no destructor of its parent's runs twice.
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(code) }
}
