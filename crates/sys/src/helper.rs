// SPDX-License-Identifier: Apache-2.0
//! Starting a program from a descriptor, in a cgroup, with chosen descriptors.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use crate::heap::Heap;
use libc::{c_char, c_int, c_long};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

/// `CLONE_INTO_CGROUP`, Linux 5.7; beyond the 32 bits of clone(2).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

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

/// Starts the program in `executable` with `fds` as its descriptors 0, 1, 2, …, no arguments but
/// its name, no environment and every signal blocked; its pid. With `cgroup`, a directory of cgroup v2, it is born
/// there. If it cannot be executed, the child writes the errno as a native `i32` to its descriptor
/// 3 and exits with 127.
///
/// With `heap`, that is not copied for the child; no other thread may fork meanwhile.
///
/// JUSTIFICATION: [`std::process::Command`] can neither execute a descriptor nor start in a
/// cgroup. No `CLONE_VM`: the kernel's OOM killer ends every process that shares the memory of
/// one it kills (`__oom_kill_process` of `mm/oom_kill.c`), and with `memory.oom.group` it kills
/// all of a cgroup: a kill in the container would be the shim's.
///
/// # Errors
/// What clone3(2) answered: `EAGAIN` at a limit of processes, `EBUSY`, `EOPNOTSUPP`, `EACCES` or
/// `ENODEV` for a cgroup that takes no process, `ENOSYS` before Linux 5.3.
pub fn spawn_helper(
    executable: BorrowedFd<'_>,
    fds: &[BorrowedFd<'_>; 6],
    cgroup: Option<BorrowedFd<'_>>,
    heap: Option<Heap>,
) -> io::Result<u32> {
    let mut args =
        CloneArgs { exit_signal: libc::SIGCHLD.unsigned_abs().into(), ..Default::default() };
    if let Some(cgroup) = cgroup {
        args.flags = CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd().unsigned_abs().into();
    }
    let executable = executable.as_raw_fd();
    let fds = fds.map(|fd| fd.as_raw_fd());
    let mut before = SigSet::empty();
    // Handlers are inherited until execve, and ours write to a pipe that parent and child share.
    // The program has to unblock its signals.
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    let fork = || {
        // SAFETY: without CLONE_VM and with no stack given this is fork(2): the child runs on its
        // own copy of this stack. As the parent may have other threads, of which the child has
        // none, the child may take no lock: it only makes system calls and never returns from
        // `execute`, which is given all it needs by value, not in the heap. The kernel reads one
        // structure of the size given.
        let pid =
            unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
        if pid == 0 {
            execute(executable, fds);
        }
        pid
    };
    let pid = match heap {
        Some(heap) => heap.without(fork),
        None => fork(),
    };
    let failed = io::Error::last_os_error();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    u32::try_from(pid).map_err(|_| failed)
}

/// All of the child's life here.
fn execute(executable: RawFd, fds: [RawFd; 6]) -> ! {
    const FAILED: c_int = 127;
    const COUNT: RawFd = 6;
    let name = c"wedge-setns";
    let arguments = [name.as_ptr(), ptr::null::<c_char>()];
    let environment = [ptr::null::<c_char>()];
    let mut fds = fds;
    let mut executable = executable;
    // Out of the way of the numbers they become.
    for fd in fds.iter_mut().chain([&mut executable]) {
        if *fd < COUNT {
            // SAFETY: takes three numbers; only this child's table changes.
            *fd = unsafe { libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, COUNT) };
        }
    }
    for (number, fd) in (0..).zip(fds) {
        // SAFETY: takes three numbers; only this child's table changes.
        unsafe { libc::syscall(libc::SYS_dup3, fd, number, 0) };
    }
    let empty = c"".as_ptr();
    // SAFETY: the path and the name end, both arrays end with a null, and all live until the call
    // does not return.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            executable,
            empty,
            arguments.as_ptr(),
            environment.as_ptr(),
            c_long::from(libc::AT_EMPTY_PATH),
        );
    }
    let error = io::Error::last_os_error().raw_os_error().unwrap_or(0);
    // SAFETY: the four bytes of a local integer are read.
    unsafe { libc::write(3, (&raw const error).cast(), size_of::<c_int>()) };
    // SAFETY: _exit runs no handler and frees nothing, as is right for a forked child.
    unsafe { libc::_exit(FAILED) }
}

/// Sets a resource limit of another process, prlimit(2).
///
/// # Errors
/// `EINVAL` when `soft` is above `hard` or `resource` is unknown, `EPERM` to raise a hard limit
/// without CAP_SYS_RESOURCE, `ESRCH`.
pub fn set_limit_of(pid: u32, resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    let none: *mut libc::rlimit64 = ptr::null_mut();
    // SAFETY: the kernel reads one `struct rlimit64`, and writes none back.
    let result =
        unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const limit, none) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek};
    use std::os::fd::AsFd;

    /// Runs `path` with descriptor 1 and 3 in files; what it wrote to them.
    fn run(path: &str) -> (u32, String, Vec<u8>) {
        let executable = File::open(path).unwrap();
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        let mut output = tempfile::tempfile().unwrap();
        let mut control = tempfile::tempfile().unwrap();
        let (out, ctl, nul) = (output.as_fd(), control.as_fd(), null.as_fd());
        let pid =
            spawn_helper(executable.as_fd(), &[nul, out, nul, ctl, nul, nul], None, None).unwrap();
        let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid.cast_signed()), None);
        status.unwrap();
        let (mut text, mut errno) = (String::new(), Vec::new());
        output.rewind().unwrap();
        output.read_to_string(&mut text).unwrap();
        control.rewind().unwrap();
        control.read_to_end(&mut errno).unwrap();
        (pid, text, errno)
    }

    #[test]
    fn a_program_runs_from_its_descriptor_with_no_environment() {
        let (_, text, errno) = run("/usr/bin/env");
        assert_eq!((text.as_str(), errno.as_slice()), ("", &b""[..]));
    }

    #[test]
    fn what_cannot_be_executed_says_why() {
        let (_, _, errno) = run("/etc/passwd");
        assert_eq!(errno, libc::EACCES.to_ne_bytes());
    }

    #[test]
    fn a_limit_is_set() {
        let pid = std::process::id();
        set_limit_of(pid, libc::RLIMIT_CORE, 1, 2).unwrap();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core")).unwrap();
        assert!(core.split_whitespace().eq("Max core file size 1 2 bytes".split(' ')), "{core}");
        let error = set_limit_of(pid, libc::RLIMIT_CORE, 3, 2).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
